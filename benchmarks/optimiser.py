"""Time covariance and programme of the book, beside parametrised cvxpy, in the same run.

    python -m benchmarks.optimiser [--sizes 20 50 200] [--decisions 100]

A stream of decisions: each brings new alphas and starts from the book that the last one left. The
problem is dollar- and beta-neutral, capped, of a gross of 1, with costs of 5 bps written off over
ten hours. cvxpy compiles its problem once before the clock runs; `few parameters` lets only alphas
and held weights change, `all parameters` lets the covariance and the limits change too, as ours
does. The two take turns at each decision. CPU milliseconds of the process; wall beside them.
Violation is the largest over all decisions: of an exposure, a cap or the gross. The loss is how far
the objective is above the better one, in returns. Below stand the covariance's own hour, by `ewma`
over a window of 90 days, and its factor form.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import cvxpy as cp
import numpy as np

from benchmarks.covariance import HOURS_A_DAY, drawn_returns, named, timed
from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance
from strategies.covariance.interface import HISTORY_HOURS
from strategies.factor_form import factor_form, factors_of
from strategies.programme import Problem, solve

Given = TypeVar("Given")
Made = TypeVar("Made")
SIZES: Final = (20, 50, 200)
WARM_UP: Final = 5
UNIT: Final = 1e4  # cvxpy's solvers stop at absolute tolerances; objectives near 1 are fair to them


@dataclass(slots=True)
class Figures:
    """Hold what one contender took and how well it did, by decision."""

    name: str
    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)
    violations: list[float] = field(default_factory=list)
    objectives: list[float] = field(default_factory=list)


def main() -> None:
    """Run and print the table."""
    asked = _arguments()
    head = f"{'instruments':>12}{'contender':>26}{'cpu ms p50':>12}{'p99':>8}{'wall p50':>10}"
    print(f"{head}{'p99':>8}{'violation':>11}{'loss':>10}{'ours x':>8}", flush=True)
    for size in asked.sizes:
        market = covariance(size)
        rows = race(problem_of(market), asked.decisions)
        best = np.min([row.objectives for row in rows], axis=0)
        for row in rows:
            loss = float((np.array(row.objectives) - best).max())
            _print(size, row, loss, float(np.median(row.cpu_ms)) / float(np.median(rows[0].cpu_ms)))
        days_n = -(-asked.decisions // (HOURS_A_DAY - 1))
        returns = drawn_returns(HISTORY_HOURS + days_n * HOURS_A_DAY, size)
        hours_ms = list(timed(named("ewma", size), returns, days_n).hours_ms)
        print(f"{size:>12}{'covariance, an hour more':>26}{_quantiles(hours_ms)}", flush=True)
        form_ms = [_timed(factors_of, market)[1] for _ in range(asked.decisions)]
        K = factors_of(market).loadings.shape[1]
        print(f"{size:>12}{f'its {K} factors':>26}{_quantiles(form_ms)}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimiser")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--decisions", type=int, default=100)
    return parser.parse_args()


def covariance(size: int) -> Covariance:
    """Draw a market of eight common factors."""
    rng = np.random.default_rng(size)
    loadings = 0.3 * rng.standard_normal((size, 8))
    loadings[:, 0] = rng.uniform(0.5, 1.1, size)
    whole = loadings @ loadings.T + np.diag(rng.uniform(0.3, 1.0, size))
    scale = 1.0 / np.sqrt(np.diag(whole))
    correlation = whole * scale[:, None] * scale
    np.fill_diagonal(correlation, 1.0)
    return Covariance(0, "made", rng.uniform(0.004, 0.012, size), correlation)


def problem_of(market: Covariance) -> Problem:
    """Give the problem of a flat book without opinions."""
    size = len(market.volatility)
    beta = np.random.default_rng(size + 1).uniform(0.6, 1.4, size)
    cap = max(0.05, 3.0 / size)
    return Problem(
        risk=factor_form(market),
        aversion=5.0,
        alpha=np.zeros(size),
        cost=np.full(size, 5e-5),
        held=np.zeros(size),
        low=np.full(size, -cap),
        high=np.full(size, cap),
        exposures=np.column_stack([np.ones(size), beta]),
        totals=np.zeros(2),
        gross_max=1.0,
    )


def race(problem: Problem, decisions: int) -> list[Figures]:
    """Let all contenders solve the same decisions, ours first; its book is carried on."""
    solvers: list[tuple[Figures, Callable[[Problem], Floats]]] = [
        (Figures("Equipoise"), lambda p: solve(p).weights),
        (Figures("cvxpy, few parameters"), by_cvxpy(problem, all_parameters=False)),
        (Figures("cvxpy, all parameters"), by_cvxpy(problem, all_parameters=True)),
    ]
    rng = np.random.default_rng(0)
    for decision in range(-WARM_UP, decisions):
        alpha = 3e-4 * rng.standard_normal(len(problem.held))
        problem = replace(problem, alpha=alpha)
        answers = [_timed(solver, problem) for _, solver in solvers]
        for (figures, _), (weights, cpu_ms, wall_ms) in zip(solvers, answers, strict=True):
            if decision >= 0:
                figures.cpu_ms.append(cpu_ms)
                figures.wall_ms.append(wall_ms)
                figures.violations.append(violation(problem, weights))
                figures.objectives.append(objective(problem, weights))
        drift = rng.uniform(0.99, 1.01, len(alpha))
        problem = replace(problem, held=answers[0][0] * drift)
    return [figures for figures, _ in solvers]


def by_cvxpy(like: Problem, *, all_parameters: bool) -> Callable[[Problem], Floats]:
    """Compile the problem once; give the function that sets its parameters and solves it."""
    size = len(like.held)
    w = cp.Variable(size)
    alpha = cp.Parameter(size)
    values: dict[str, Floats] = _numbers(like)
    parts = (
        {name: cp.Parameter(value.shape) for name, value in values.items()}
        if all_parameters
        else values
    )
    risk = cp.sum_squares(cp.multiply(parts["specific"], w)) + cp.sum_squares(parts["loadings"] @ w)
    # a product of two parameters would have to be compiled anew at every decision
    held_cost = cp.Parameter(size)
    paid = cp.norm1(cp.multiply(parts["cost"], w) - held_cost)
    whole = cp.Problem(
        cp.Minimize(risk - alpha @ w + paid),
        [
            parts["exposures"] @ w == 0,
            w >= parts["low"],
            w <= parts["high"],
            cp.norm1(w) <= like.gross_max,
        ],
    )

    def solved(problem: Problem) -> Floats:
        alpha.value, held_cost.value = UNIT * problem.alpha, UNIT * problem.cost * problem.held
        if all_parameters:
            for name, value in _numbers(problem).items():
                parts[name].value = value  # type: ignore[union-attr]
        whole.solve(solver=cp.CLARABEL)
        return np.asarray(w.value, dtype=np.float64)

    return solved


def _numbers(problem: Problem) -> dict[str, Floats]:
    half = (UNIT * problem.aversion / 2) ** 0.5
    return {
        "specific": half * np.sqrt(problem.risk.specific),
        "loadings": half * problem.risk.loadings.T,
        "cost": UNIT * problem.cost,
        "exposures": problem.exposures.T,
        "low": problem.low,
        "high": problem.high,
    }


def violation(problem: Problem, weights: Floats) -> float:
    """Give by how much the worst limit is broken, in units of weight."""
    exposed = float(np.abs(problem.exposures.T @ weights - problem.totals).max())
    boxed = float(np.maximum(weights - problem.high, problem.low - weights).max())
    return max(exposed, boxed, float(np.abs(weights).sum()) - problem.gross_max, 0.0)


def objective(problem: Problem, weights: Floats) -> float:
    """Give what is minimised, in returns."""
    risk = problem.aversion / 2 * float(weights @ problem.risk.times(weights))
    paid = float(problem.cost @ np.abs(weights - problem.held))
    return risk - float(problem.alpha @ weights) + paid


def _timed(action: Callable[[Given], Made], given: Given) -> tuple[Made, float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    found = action(given)
    return found, 1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - wall)


def _quantiles(values: list[float]) -> str:
    return f"{np.median(values):12.2f}{np.quantile(values, 0.99):8.2f}"


def _print(size: int, row: Figures, loss: float, ratio: float) -> None:
    wall = f"{np.median(row.wall_ms):10.2f}{np.quantile(row.wall_ms, 0.99):8.2f}"
    ends = f"{max(row.violations):11.0e}{loss:10.0e}{ratio:8.1f}"
    print(f"{size:>12}{row.name:>26}{_quantiles(row.cpu_ms)}{wall}{ends}", flush=True)


if __name__ == "__main__":
    main()
