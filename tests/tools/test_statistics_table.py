"""The page of comparisons is what its command computes, and holds every worked figure."""

import numpy as np
import pytest

from tools import statistics_table
from tools.statistics_oracles import COMPARISONS, NO_LIBRARY, Comparison
from tools.statistics_table import PAGE, ROUNDING, difference, page
from tools.statistics_vectors import ELSEWHERE, PENDING, VECTORS, Vector


@pytest.fixture(scope="module")
def computed() -> str:
    return page()


def test_the_committed_page_is_what_the_command_writes(computed: str) -> None:
    committed = PAGE.read_text(encoding="utf-8")
    assert committed.splitlines() == computed.splitlines(), "run: python -m tools.statistics_table"
    assert "**" not in computed, "a figure lies outside of its tolerance"


def test_every_one_of_the_fifty_figures_is_there_once() -> None:
    numbers = sorted([*(one.number for one in VECTORS), *ELSEWHERE, *PENDING])
    assert numbers == list(range(1, 51))


@pytest.mark.parametrize("one", VECTORS, ids=lambda one: str(one.number))
def test_a_worked_figure_is_met_within_its_last_digit(one: Vector) -> None:
    ours = np.asarray(one.ours(), dtype=np.float64)
    assert ours.shape == (len(one.expected),)
    assert np.abs(ours - np.asarray(one.expected)).max() <= one.tolerance


@pytest.mark.parametrize("one", COMPARISONS, ids=lambda one: one.function)
def test_a_library_gives_the_same(one: Comparison) -> None:
    ours, theirs = (np.asarray(side, dtype=np.float64) for side in one.both())
    np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=ROUNDING * np.abs(theirs).max())


def test_each_function_is_named_on_the_page(computed: str) -> None:
    for name in [*(one.function for one in COMPARISONS), *NO_LIBRARY]:
        assert f"`{name}`" in computed


def test_a_difference_is_told_and_one_outside_its_tolerance_stands_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = np.array([1.0, 2.0]), np.array([1.0, 2.03])
    assert difference(one, one) == "0"
    assert difference(one, one * (1 + 1e-13)) == "rounding"
    assert difference(one, other) == "1e-1"
    assert difference(one, one[:1]) == "**2 values against 1**"
    wrong = Vector(1, "wrong", "none", (1.0,), 1e-3, lambda: [1.1])
    monkeypatch.setattr(statistics_table, "VECTORS", (wrong,))
    monkeypatch.setattr(statistics_table, "COMPARISONS", ())
    assert "**exceeds 0.001**" in page()
