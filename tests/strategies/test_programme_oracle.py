"""Compare the programme with cvxpy and another solver on random problems."""

import numpy as np
import pytest

from strategies.programme import solve
from tests.strategies.books import by_cvxpy, objective, random_problem

WEIGHTS_TOLERANCE = 1e-6
OBJECTIVE_TOLERANCE = 1e-9  # of returns; 1e-6 of what the book can earn


@pytest.mark.parametrize("n", [1, 2, 3, 8, 20, 50])
@pytest.mark.parametrize("is_limited", [False, True], ids=["free", "turnover_limited"])
def test_weights_and_objective_are_those_of_the_library(n: int, is_limited: bool) -> None:
    compared = 0
    for seed in range(12):
        limit = 0.2 + 0.1 * seed if is_limited else np.inf
        problem = random_problem(seed, n, exposures_n=seed % 4, turnover_max=limit)
        theirs = by_cvxpy(problem)
        if theirs is None:
            continue
        ours = solve(problem)
        assert (ours.note, ours.solved.fallback) == ("", ""), f"seed {seed}"
        assert ours.weights == pytest.approx(theirs, abs=WEIGHTS_TOLERANCE), f"seed {seed}"
        excess = objective(problem, ours.weights) - objective(problem, theirs)
        assert excess <= OBJECTIVE_TOLERANCE, f"seed {seed}"
        compared += 1
    assert compared >= 4


def test_a_large_universe_with_many_exposures_is_that_of_the_library() -> None:
    problem = random_problem(5, 200, exposures_n=8)
    theirs = by_cvxpy(problem)
    assert theirs is not None
    ours = solve(problem)
    assert ours.solved.solver == "dual_newton"
    assert ours.weights == pytest.approx(theirs, abs=WEIGHTS_TOLERANCE)
    assert objective(problem, ours.weights) <= objective(problem, theirs) + OBJECTIVE_TOLERANCE


def test_limits_that_the_library_finds_impossible_give_way_and_are_named() -> None:
    impossible = 0
    for seed in range(60):
        limit = 0.02 if seed % 2 else np.inf
        problem = random_problem(seed, 3 + seed % 3, exposures_n=3, turnover_max=limit)
        if by_cvxpy(problem) is not None:
            continue
        impossible += 1
        ours = solve(problem)
        assert ("turnover" in ours.note) or ("exposure" in ours.note), f"seed {seed}"
        assert (ours.weights >= problem.low).all()
        assert (ours.weights <= problem.high).all()
    assert impossible >= 5
