"""What is called the exact solution is it, wherever the search for it began."""

import numpy as np
import pytest

from strategies.crossover import Found, Tied, crossed_over
from strategies.factor_form import FactorForm
from strategies.interior_point import interior_point
from strategies.separable import Legs, independent


def tied(seed: int, n: int) -> Tied:
    rng = np.random.default_rng(seed)
    risk = FactorForm(0.5 * rng.standard_normal((n, 3)), rng.uniform(0.3, 1.0, n))
    X, totals = independent(np.column_stack([np.ones(n), rng.uniform(0.5, 1.5, n)]), np.zeros(2))
    legs = Legs(
        curvature=risk.variance,
        pull=3.0 * rng.standard_normal(n),
        cost=rng.uniform(0.0, 1.0, n),
        held=rng.standard_normal(n) * (rng.random(n) < 0.5),
        low=np.full(n, -4.0),
        high=np.full(n, 4.0),
    )
    return Tied(legs, risk, X, totals, float(rng.uniform(0.3, 1.5) * n), np.inf)


@pytest.mark.parametrize("n", [6, 25])
def test_from_any_start_the_solution_or_nothing_is_found(n: int) -> None:
    found = 0
    for seed in range(60):
        problem = tied(seed, n)
        answer = interior_point(problem).found
        assert answer is not None
        right = crossed_over(problem, answer)
        assert right is not None, f"seed {seed}"
        assert right.weights == pytest.approx(answer.weights, abs=1e-3)
        flat = Found(problem.legs.held, np.zeros(2), 1e-300, 0.0)
        other = crossed_over(problem, flat)
        if other is not None:
            found += 1
            assert other.weights == pytest.approx(right.weights, abs=1e-8), f"seed {seed}"
    assert found >= 1
