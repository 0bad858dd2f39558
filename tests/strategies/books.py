"""Make random problems of the book, and solve them with cvxpy to compare with."""

import cvxpy as cp
import numpy as np

from daemon.domain.bar import Floats
from strategies.factor_form import FactorForm
from strategies.programme import Problem


def random_problem(
    seed: int, n: int, *, exposures_n: int = 2, turnover_max: float = np.inf
) -> Problem:
    """Draw a market-like problem with kept, closing and reduce-only legs."""
    rng = np.random.default_rng(seed)
    K = int(rng.integers(0, 6))
    beta = rng.uniform(0.5, 1.6, n)
    loadings = rng.standard_normal((n, K)) * 0.003
    if K:
        loadings[:, 0] = beta * 0.006
    specific = (rng.uniform(0.3, 2.0, n) * 0.006) ** 2
    held = rng.standard_normal(n) * (rng.random(n) < 0.7) / n
    cap = rng.uniform(1.5, 6.0) / n
    low, high = np.minimum(-cap, held), np.maximum(cap, held)
    kind = rng.random(n)
    closing, kept = kind < 0.05, (kind >= 0.05) & (kind < 0.12)
    reduce_only = (kind >= 0.12) & (kind < 0.2)
    low = np.where(reduce_only, np.minimum(held, 0.0), low)
    high = np.where(reduce_only, np.maximum(held, 0.0), high)
    low, high = np.where(kept, held, low), np.where(kept, held, high)
    low, high = np.where(closing, 0.0, low), np.where(closing, 0.0, high)
    X = np.column_stack([np.ones(n), beta, rng.standard_normal((n, 8))])[:, :exposures_n]
    return Problem(
        risk=FactorForm(loadings, specific),
        aversion=float(10 ** rng.uniform(0.0, 1.5)),
        alpha=rng.standard_normal(n) * 10 ** rng.uniform(-4.5, -2.5),
        cost=rng.uniform(0.0, 1.0, n) * 10 ** rng.uniform(-5, -3),
        held=held,
        low=low,
        high=high,
        exposures=X,
        totals=np.zeros(exposures_n),
        gross_max=float(rng.uniform(0.5, 1.5)),
        turnover_max=turnover_max,
    )


def objective(problem: Problem, weights: Floats) -> float:
    """Give what the problem minimises."""
    risk = problem.aversion / 2 * float(weights @ problem.risk.times(weights))
    paid = float(problem.cost @ np.abs(weights - problem.held))
    return risk - float(problem.alpha @ weights) + paid


def by_cvxpy(problem: Problem) -> Floats | None:
    """Give the library's weights, None where it finds the limits cannot hold together."""
    N, risk = len(problem.held), problem.risk
    w = cp.Variable(N)
    scale = problem.aversion / 2
    quadratic = scale * cp.sum_squares(cp.multiply(np.sqrt(risk.specific), w))
    if risk.loadings.shape[1]:
        quadratic += scale * cp.sum_squares(risk.loadings.T @ w)
    paid = problem.cost @ cp.abs(w - problem.held)
    limits = [w >= problem.low, w <= problem.high, cp.norm1(w) <= problem.gross_max]
    if len(problem.totals):
        limits.append(problem.exposures.T @ w == problem.totals)
    if np.isfinite(problem.turnover_max):
        limits.append(cp.norm1(w - problem.held) <= problem.turnover_max)
    unit = 1e4  # the solver's tolerances are absolute
    whole = cp.Problem(cp.Minimize(unit * (quadratic - problem.alpha @ w + paid)), limits)
    whole.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return None if w.value is None else np.asarray(w.value)
