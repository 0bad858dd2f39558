"""Hold the two root finders to exactness on the functions they are for."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.roots import falling_root, ramps_zero


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.floats(-0.95, 0.95))
def test_a_sum_of_clipped_lines_is_zero_where_ramps_zero_says(
    seed: int, size: int, level: float
) -> None:
    rng = np.random.default_rng(seed)
    centre, slack = rng.standard_normal(size), rng.uniform(0.1, 2.0, size)
    total = level * size

    def height(x: float) -> float:
        return float(np.clip((centre - x) / slack, -1.0, 1.0).sum()) - total

    kinks = np.concatenate([centre - slack, centre + slack])
    x = ramps_zero(kinks, np.concatenate([-1.0 / slack, 1.0 / slack]), size - total)
    assert height(x) == pytest.approx(0.0, abs=1e-9)
    # both may be anywhere on a flat stretch at zero, so heights are compared, not places
    other = falling_root(height, -10.0, 10.0, tolerance=1e-12)
    assert height(other) == pytest.approx(0.0, abs=1e-6)


def test_without_a_crossing_the_nearer_end_is_given() -> None:
    kinks, changes = np.array([0.0, 1.0]), np.array([-1.0, 1.0])
    assert ramps_zero(kinks, changes, -0.5) == 0.0
    assert ramps_zero(kinks, changes, 5.0) == 1.0
    assert falling_root(lambda x: 5.0 - x, 0.0, 1.0, tolerance=0.0) == 1.0
    assert falling_root(lambda x: -5.0 - x, 0.0, 1.0, tolerance=0.0) == 0.0


def test_a_jump_is_found_to_the_last_float() -> None:
    x = falling_root(lambda v: 1.0 if v < math.pi else -1.0, 0.0, 10.0, tolerance=0.0)
    assert x == pytest.approx(math.pi, abs=1e-14)


def test_a_flat_shoulder_does_not_stop_the_search() -> None:
    x = falling_root(lambda v: 1e-3 if v < 9.0 else 9.0 - v, 0.0, 1e6, tolerance=1e-12)
    assert x == pytest.approx(9.0, abs=1e-6)
