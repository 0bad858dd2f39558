"""Legs tied by exposures and gross alone: what each does by itself, and all together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.bar import Floats
from strategies.separable import (
    Legs,
    NoMultipliersError,
    independent,
    with_exposures,
    within_gross,
)

small = st.floats(-2.0, 2.0)


def leg(pull: float, *, held: float = 0.0, cost: float = 0.0, reach: float = 10.0) -> Legs:
    one = np.ones(1)
    return Legs(2.0 * one, pull * one, cost * one, held * one, -reach * one, reach * one)


@given(small, small, st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.1, 2.0))
def test_a_leg_by_itself_is_at_its_best(
    pull: float, held: float, cost: float, gross_price: float, reach: float
) -> None:
    own = leg(pull, held=held, cost=cost, reach=reach)
    best = float(own.at(own.pull, gross_price)[0])

    def loss(w: Floats | float) -> Floats:
        return np.asarray(w * w - pull * w + cost * np.abs(w - held) + gross_price * np.abs(w))

    others = np.linspace(-reach, reach, 401)
    assert -reach <= best <= reach
    assert float(loss(best)) <= float(loss(others).min()) + 1e-12


def test_kinks_and_ends_are_met_to_the_bit() -> None:
    own = leg(0.3, held=0.1, cost=0.5)
    assert own.at(own.pull)[0] == 0.1
    assert own.at(own.pull, 2.0)[0] == 0.0
    assert leg(99.0, reach=0.3).at(np.array([99.0]))[0] == 0.3


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(3, 30), st.integers(1, 3))
def test_exposures_are_met_inside_the_boxes(seed: int, n: int, exposures_n: int) -> None:
    rng = np.random.default_rng(seed)
    X, totals = independent(rng.standard_normal((n, exposures_n)), np.zeros(exposures_n))
    reach = rng.uniform(0.1, 1.0, n)
    own = Legs(
        rng.uniform(0.1, 3.0, n),
        rng.standard_normal(n),
        rng.uniform(0.0, 0.3, n),
        rng.uniform(-1, 1, n) * reach,
        -reach,
        reach,
    )
    w = with_exposures(own, X, totals)
    assert np.abs(X.T @ w - totals).max() <= 1e-11
    assert (np.abs(w) <= reach).all()
    smaller = within_gross(own, X, totals, 0.5 * float(np.abs(w).sum()))
    assert np.abs(X.T @ smaller - totals).max() <= 1e-11
    assert np.abs(smaller).sum() <= 0.5 * np.abs(w).sum() * (1 + 1e-9)


def test_what_the_boxes_forbid_is_said_and_come_near_to_if_asked() -> None:
    n = 3
    one, none = np.ones(n), np.zeros(n)
    own = Legs(one, none, none, none, -0.1 * one, 0.1 * one)
    X = one[:, None] / np.sqrt(n)
    with pytest.raises(NoMultipliersError):
        with_exposures(own, X, np.array([1.0]))
    near = with_exposures(own, X, np.array([1.0]), softness=1e-4)
    assert near == pytest.approx([0.1, 0.1, 0.1], abs=1e-12)
    with pytest.raises(NoMultipliersError):
        within_gross(own, X, np.array([0.3 / np.sqrt(n)]), 0.1)


def test_columns_that_say_nothing_new_are_left_out_the_first_ones_stay() -> None:
    X = np.column_stack([np.ones(4), np.arange(4.0), 1.0 + np.arange(4.0), np.zeros(4)])
    basis, totals = independent(X, np.array([2.0, 5.0, 9.0, 1.0]))
    assert basis.shape == (4, 2)
    assert basis.T @ basis == pytest.approx(np.eye(2), abs=1e-15)
    w = basis @ totals
    assert X[:, :2].T @ w == pytest.approx([2.0, 5.0], abs=1e-12)
