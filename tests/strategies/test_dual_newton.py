"""Newton steps on the dual end at the exact book, from wherever they begin, or say nothing."""

from dataclasses import replace

import numpy as np
import pytest

from strategies.crossover import crossed_over
from strategies.dual_newton import STEPS_MAX, Prices, dual_newton
from strategies.factor_form import FactorForm
from strategies.interior_point import interior_point
from tests.strategies.test_crossover import tied


@pytest.mark.parametrize("n", [2, 6, 25, 80])
def test_it_is_the_exact_answer_of_the_interior_point_solver(n: int) -> None:
    for seed in range(20):
        problem = tied(seed, n)
        answer = interior_point(problem).found
        assert answer is not None
        right = crossed_over(problem, answer)
        climbed = dual_newton(problem, problem.legs.held)
        assert climbed.found is not None, f"seed {seed}"
        assert climbed.exact, f"seed {seed}"
        if right is not None:
            assert climbed.found.weights == pytest.approx(right.weights, abs=1e-9), f"seed {seed}"
            assert climbed.found.gross_price == pytest.approx(right.gross_price, abs=1e-9)
        gap = problem.X.T @ climbed.found.weights - problem.totals
        assert np.abs(gap).max() <= 1e-12
        assert np.abs(climbed.found.weights).sum() <= problem.gross_max * (1 + 1e-12)


def test_where_it_begins_changes_the_steps_and_not_the_answer() -> None:
    rng = np.random.default_rng(0)
    for seed in range(10):
        problem = tied(seed, 25)
        first = dual_newton(problem, problem.legs.held)
        assert first.found is not None
        assert first.prices is not None
        anywhere = Prices(3.0 * rng.standard_normal(len(first.prices.v)), float(rng.uniform(0, 5)))
        other = dual_newton(problem, anywhere)
        assert other.found is not None
        assert other.found.weights == pytest.approx(first.found.weights, abs=1e-10)
        near = dual_newton(problem, first.prices)
        assert near.steps <= 1 < first.steps
        assert near.found is not None
        assert near.found.weights == pytest.approx(first.found.weights, abs=1e-12)


def test_a_leg_that_rests_is_flat_or_capped_is_so_to_the_bit() -> None:
    kinds = np.zeros(3, dtype=int)
    for seed in range(10):
        problem = tied(seed, 25)
        legs = replace(problem.legs, cost=np.full(25, 1.0), low=np.full(25, -1.5))
        found = dual_newton(replace(problem, legs=legs), legs.held).found
        assert found is not None
        w = found.weights
        special = [(w == legs.held) & (w != 0), w == 0, w == -1.5]
        near = np.abs(np.stack([w - legs.held, w, w + 1.5])).min(axis=0) < 1e-9
        assert (near == np.logical_or.reduce([w == legs.held, w == 0, w == -1.5])).all()
        kinds += [int(kind.sum()) for kind in special]
    assert (kinds > 0).all()


def test_limits_that_cannot_hold_together_end_with_the_steps() -> None:
    problem = tied(1, 6)
    low = np.full(6, 1.0)  # all long, and dollar-neutral
    legs = replace(problem.legs, low=low, held=np.maximum(problem.legs.held, low))
    climbed = dual_newton(replace(problem, legs=legs), legs.held)
    assert climbed.found is None
    assert climbed.steps <= STEPS_MAX
    assert dual_newton(problem, problem.legs.held, steps_max=0).found is None


def test_no_number_and_no_risk_give_no_answer_instead_of_raising() -> None:
    problem = tied(2, 6)
    pull = problem.legs.pull.copy()
    pull[3] = np.nan
    spoiled = replace(problem, legs=replace(problem.legs, pull=pull))
    riskless = replace(problem, risk=FactorForm(problem.risk.loadings, np.zeros(6)))
    with np.errstate(all="ignore"):
        for one in (spoiled, riskless):
            assert dual_newton(one, problem.legs.held).found is None
