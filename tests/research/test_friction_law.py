"""The bands that trade keep what the friction law says they keep, and the law can be failed."""

from __future__ import annotations

import json

import pytest

from daemon.cli import run
from daemon.domain.bar import Floats
from daemon.domain.failures import InvariantViolated
from daemon.research.friction_law import (
    HALF_LIVES,
    PUBLISHED,
    cells,
    comparisons,
    full_rebalancing,
)
from strategies import rebalance


@pytest.mark.parametrize("half_life", HALF_LIVES)
def test_the_bands_that_trade_reproduce_the_friction_law(half_life: int) -> None:
    """All of it, 15,000 bars of 200 paths: one and a half seconds of computing."""
    found = cells(half_life)
    assert [cell.friction for cell in found] == [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5]
    wrong = [one for cell in found for one in comparisons(cell) if not one.passed]
    assert wrong == []
    for cell in found:
        assert cell.standard_error < 0.01
        assert cell.best >= cell.rule - 1e-3  # no rule beats the best in hindsight
        assert cell.measured == pytest.approx(cell.rule, abs=0.003)
        assert cell.rule_width == pytest.approx((3 * cell.friction) ** (1 / 3))
        exact = full_rebalancing(cell.friction, half_life)
        assert cell.full == pytest.approx(exact, abs=0.02 * (1.0 - exact))


def test_for_quick_signals_of_small_friction_the_rule_is_wider_than_the_best() -> None:
    (cell,) = cells(3, (0.05,), bars=2_000)
    assert cell.rule_width > 2 * cell.best_width
    assert cell.best > cell.rule + 0.02


def test_a_band_of_another_width_fails_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    right = rebalance.cube_root_band

    def halved(cost: Floats, velocity2: Floats, aversion: float, risk: Floats) -> Floats:
        return 0.5 * right(cost, velocity2, aversion, risk)

    monkeypatch.setattr(rebalance, "cube_root_band", halved)
    (cell,) = cells(12, (0.3,), bars=2_000)
    failed = {one.name for one in comparisons(cell, standard_errors=3.0) if not one.passed}
    assert "cube-root band" in failed
    assert "best constant band" not in failed


def test_senseless_sizes_are_refused() -> None:
    with pytest.raises(InvariantViolated, match="half-life 0"):
        cells(0)
    with pytest.raises(InvariantViolated, match="9 paths"):
        cells(3, paths=9)
    with pytest.raises(InvariantViolated, match="0 bars"):
        cells(3, bars=0)


def test_the_command_shows_the_law_and_fails_where_it_does_not_hold(
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = ("evaluate", "friction", "--paths", "40", "--bars", "60")
    assert run([*short, "--json"]) == 1  # so few bars scatter by more than is allowed
    told = json.loads(capsys.readouterr().out)
    assert not told["passed"]
    assert len(told["cells"]) == len(HALF_LIVES) * len(PUBLISHED)
    first = told["cells"][0]
    assert first["published"]["best"] == [0.87, 0.9]
    assert [one["difference"] for one in first["comparisons"]] == pytest.approx(
        [one["found"] - one["published"] for one in first["comparisons"]]
    )
    assert run([*short]) == 1
    shown = capsys.readouterr().out
    assert "half-life 48 bars" in shown
    assert told["beyond"][0].split(": ")[0] in shown
