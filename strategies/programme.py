"""Choose the whole book in one convex problem: earnings, risk, costs and limits at once.

    min over w of  gamma/2 w'S w - alpha'w + sum of c_i |w_i - w0_i|
    subject to  X'w = t,  low <= w <= high,  sum |w| <= gross,  sum |w - w0| <= turnover

`tracking` gives the same problem for a book that follows given weights w* with no-trade bands h:
its risk is L^(1/2) S L^(1/2) with L_i = c_i / (gamma S_ii h_i), the bars over which a trade is
written off; one instrument without constraints then trades exactly to the nearest edge of w* +- h.

Always a book: what the boxes say holds to the bit. Where not all limits can hold together they give
way in this order: the turnover limit, the exposures after the first, the first exposure (these come
as near as they can), and the gross only where legs that may not trade exceed it. Where the solver
fails or reaches its limit of iterations, the same problem without correlations is solved instead
(`separable`), and what comes out says so. There is no limit of time: the same inputs give the same
bits, on machines whose processors have the same instructions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.portfolio import Solved
from daemon.domain.units import require
from strategies import dual_newton, interior_point, separable
from strategies.crossover import Found, Tied, best_alone, crossed_over
from strategies.dual_newton import Prices
from strategies.factor_form import FactorForm
from strategies.separable import Legs, NoMultipliersError

EXPOSURE_TOLERANCE: Final = 1e-8  # in units of weight: above it an exposure counts as missed
SOFTNESS: Final = 1e-4  # of an exposure that gave way, against the risk of a typical leg
ROOM_MIN: Final = 1e-9  # of the gross: less than this left to free legs is none
LIMIT_TOLERANCE: Final = 1e-9  # relative; of gross and turnover
DUST: Final = 1e-13  # of a typical weight: less than this is rounding and no trade
DEAR: Final = 10.0  # what a trade costs where turnover is beyond its limit, in what it can earn
NOT_EXACT: Final = "NOT_EXACT"
NOT_ASKED: Final = "NOT_ASKED"
NOTHING_TO_SOLVE: Final = "NOTHING_TO_SOLVE"
NUDGE: Final = 1e-6  # price, in typical marginal risks, that keeps a resting leg at rest


@dataclass(frozen=True, slots=True)
class Problem:
    """Hold the programme; all (N,) but exposures (N, M) and totals (M,).

    alpha and cost are returns per unit of weight over the horizon of `risk`; held is w0. low <=
    high: a leg with equal ends is not traded (or closed, where held is elsewhere). Exposure columns
    stand in the order of their importance: dollars (ones) first. aversion > 0.
    """

    risk: FactorForm
    aversion: float
    alpha: Floats
    cost: Floats
    held: Floats
    low: Floats
    high: Floats
    exposures: Floats
    totals: Floats
    gross_max: float
    turnover_max: float = np.inf

    def __post_init__(self) -> None:
        N, M = len(self.held), len(self.totals)
        require(self.exposures.shape == (N, M), f"exposures {self.exposures.shape}, not ({N}, {M})")
        require(self.aversion > 0, f"risk aversion {self.aversion} must be positive")
        require(self.gross_max >= 0, f"gross {self.gross_max} must not be negative")
        require(self.turnover_max >= 0, f"turnover {self.turnover_max} must not be negative")
        require(bool(np.isfinite(self.held).all()), "a held weight is no number")
        require(bool(np.isfinite(self.totals).all()), "a wanted exposure is no number")
        boxed = np.isfinite(self.low) & np.isfinite(self.high) & (self.low <= self.high)
        require(bool(boxed.all()), "a box is empty or has no ends")
        require(not bool((self.cost < 0).any()), "a cost is negative")


@dataclass(frozen=True, slots=True)
class Near:
    """Hold what is thought to be near an answer, to begin from; (N,) in the problem's units.

    charges: what the exposures charge a unit of each weight; gross_price: of the gross.
    """

    weights: Floats
    charges: Floats
    gross_price: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold the weights (N,), how they were found, and what had to give way ('' nothing).

    near: to begin a like problem from, None where there is nothing.
    """

    weights: Floats
    solved: Solved
    note: str = ""
    near: Near | None = None


def amortisation(cost: Floats, band: Floats, aversion: float, variance: Floats) -> Floats:
    """Give L (N,), the bars over which a trade is written off: c / (gamma variance h).

    Legs without cost or band have none of their own; they take the median of the others (1 if all).
    """
    has = (cost > 0) & (band > 0)
    bars = np.divide(cost, aversion * variance * band, out=np.ones_like(cost), where=has)
    return np.where(has, bars, np.median(bars[has]) if has.any() else 1.0)


def tracking(
    risk: FactorForm,
    aversion: float,
    *,
    ideal: Floats,
    band: Floats,
    cost: Floats,
    held: Floats,
    low: Floats,
    high: Floats,
    exposures: Floats,
    totals: Floats,
    gross_max: float,
    turnover_max: float = np.inf,
) -> Problem:
    """Give the problem of following `ideal` (N,) with bands of half-width `band` (N,).

    The price of a trade is gamma S_ii L_i h_i, which is `cost` wherever there is a band and a cost.
    """
    bars = amortisation(cost, band, aversion, risk.variance)
    stretched = risk.stretched(bars)
    known = np.isfinite(stretched.specific) & np.isfinite(stretched.loadings).all(axis=1)
    pull = np.full(len(held), np.nan)
    part = FactorForm(stretched.loadings[known], stretched.specific[known])
    pull[known] = aversion * part.times(ideal[known])
    return Problem(
        risk=stretched,
        aversion=aversion,
        alpha=pull,
        cost=aversion * stretched.variance * band,
        held=held,
        low=low,
        high=high,
        exposures=exposures,
        totals=totals,
        gross_max=gross_max,
        turnover_max=turnover_max,
    )


def solve(
    problem: Problem,
    *,
    near: Near | None = None,
    iterations_max: int = interior_point.ITERATIONS_MAX,
) -> Outcome:
    """Give the book; raises nothing whatever the numbers are (see Problem for what it may hold).

    near: of a like problem. It saves steps, and may change the last digits of the answer.
    """
    with np.errstate(all="ignore"):  # what is no number is found and said below
        return _solve(problem, near, iterations_max)


def _solve(problem: Problem, near: Near | None, iterations_max: int) -> Outcome:
    moves = problem.low < problem.high
    free = moves & _known(problem)
    unknown_n = int((moves & ~free).sum())
    reason = f"{unknown_n} legs have inputs that are no numbers" if unknown_n else ""
    weights = np.minimum(np.maximum(problem.held, problem.low), problem.high)
    least = np.minimum(np.maximum(0.0, problem.low), problem.high)[free]
    room = problem.gross_max - float(np.abs(weights[~free]).sum())
    if not free.any() or room <= float(np.abs(least).sum()) + ROOM_MIN * problem.gross_max:
        weights[free] = least
        said = _said(_Asked(NOTHING_TO_SOLVE, 0), reason)
        return Outcome(weights, said, _note(problem, weights))
    core = _core(problem, free, weights, room)
    tied, alone = core.tied, None
    answer = _Asked(NOT_ASKED, 0)
    if not reason:
        answer = _asked(_strict(tied), _start(core, near), iterations_max, 0)
    if answer.weights is None:
        alone = _alone(tied)
        if alone is None and not reason:  # the limits cannot hold together
            loose = _asked(_loose(tied), _held(tied), iterations_max, answer.iterations)
            answer = replace(loose, found=None)
    found = answer.weights
    if found is None:
        reason = reason or f"{answer.solver} said {answer.status}"
        found = _closed_form(tied, alone)
    start = weights[free]
    moved = np.abs(found - start / core.unit) > DUST
    weights[free] = np.where(moved, found * core.unit, start)
    said = _said(answer, reason)
    return Outcome(weights, said, _note(problem, weights), _near(core, answer, weights))


def _said(answer: _Asked, fallback: str) -> Solved:
    is_ours = answer.solver == dual_newton.SOLVER
    return Solved(
        solver=answer.solver,
        version=dual_newton.VERSION if is_ours else interior_point.VERSION,
        status=answer.status,
        iterations=answer.iterations,
        tolerance=dual_newton.TOLERANCE if is_ours else interior_point.TOLERANCE,
        fallback=fallback,
    )


def _known(problem: Problem) -> Flags:
    risk = problem.risk
    parts = (risk.loadings, problem.exposures)
    known = np.isfinite(problem.alpha) & np.isfinite(problem.cost) & (risk.specific > 0)
    known &= np.isfinite(risk.specific)
    for part in parts:
        known &= np.isfinite(part).all(axis=1)
    return np.asarray(known, dtype=np.bool_)


def _note(problem: Problem, weights: Floats) -> str:
    """Say which limits the book does not keep."""
    X = np.where(np.isfinite(problem.exposures), problem.exposures, 0.0)
    has, wanted = X.T @ weights, problem.totals
    size = np.maximum(np.abs(X).max(axis=0, initial=0.0), 1.0)
    missed = np.flatnonzero(np.abs(has - wanted) > EXPOSURE_TOLERANCE * size)
    words = [f"exposure {j} is {has[j]:+.4f}, wanted {wanted[j]:+.4f}" for j in missed]
    gross, trades = float(np.abs(weights).sum()), float(np.abs(weights - problem.held).sum())
    if gross > problem.gross_max * (1.0 + LIMIT_TOLERANCE):
        words.append(f"gross of {gross:.4f}, at most {problem.gross_max:.4f} wanted")
    if trades > problem.turnover_max * (1.0 + LIMIT_TOLERANCE):
        words.append(f"turnover of {trades:.4f}, at most {problem.turnover_max:.4f} wanted")
    return "; ".join(words)


@dataclass(frozen=True, slots=True)
class _Core:
    """Hold the free legs' programme in units in which typical numbers are near 1.

    unit of weights and price of returns are powers of two, so that numbers come back from them to
    the bit.
    """

    tied: Tied
    free: Flags
    unit: float
    price: float


def _core(problem: Problem, free: Flags, weights: Floats, room: float) -> _Core:
    """Take out the legs that stay, and bring the others to their natural units."""
    risk, gamma = problem.risk, problem.aversion
    low, high, F = problem.low[free], problem.high[free], risk.loadings[free]
    stays = np.flatnonzero(~free & (weights != 0))
    common = np.nan_to_num(risk.loadings[stays]).T @ weights[stays]
    D = gamma * risk.specific[free]
    variance = D + gamma * np.einsum("ij,ij->i", F, F)
    extent = float(np.maximum(-low, high).sum())
    gross = min(room, extent) if extent > 0 else room
    unit = _power_of_two(gross / len(D))
    price = _power_of_two(float(np.median(variance)) * unit)
    X = np.where(np.isfinite(problem.exposures), problem.exposures, 0.0)
    totals = problem.totals - X[~free].T @ weights[~free]
    basis, within = separable.independent(X[free], totals / unit)
    curvature = price / unit
    traded = float(np.abs(weights - problem.held)[~free].sum())
    legs = Legs(
        curvature=variance / curvature,
        pull=(problem.alpha[free] - gamma * (F @ common)) / price,
        cost=problem.cost[free] / price,
        held=problem.held[free] / unit,
        low=low / unit,
        high=high / unit,
    )
    tied = Tied(
        legs=legs,
        risk=FactorForm(F * np.sqrt(gamma / curvature), D / curvature),
        X=basis,
        totals=within,
        gross_max=room / unit if extent > room else np.inf,
        turnover_max=(problem.turnover_max - traded) / unit,
    )
    return _Core(tied, free, unit, price)


def _power_of_two(x: float) -> float:
    return float(2.0 ** np.round(np.log2(x))) if np.isfinite(x) and x > 0 else 1.0


def _start(core: _Core, near: Near | None) -> Prices | Floats:
    """Give where to begin: where a like problem ended, or what is held."""
    tied, free = core.tied, core.free
    if near is None:
        return _held(tied)
    of_exposures = tied.X.T @ (near.charges[free] / core.price)
    of_risk = tied.risk.loadings.T @ (near.weights[free] / core.unit)
    of_gross = near.gross_price / core.price if np.isfinite(tied.gross_max) else 0.0
    return Prices(np.concatenate([of_exposures, of_risk]), of_gross)


def _held(tied: Tied) -> Floats:
    return np.minimum(np.maximum(tied.legs.held, tied.legs.low), tied.legs.high)


def _near(core: _Core, answer: _Asked, weights: Floats) -> Near | None:
    if answer.found is None:
        return None
    charges = np.zeros(len(weights))
    charges[core.free] = core.price * (core.tied.X @ answer.found.b)
    return Near(weights, charges, core.price * answer.found.gross_price)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Hold the last status, all iterations, and the answer in core units if there is one.

    found is the answer to the programme as it is, None where one of its limits gave way.
    """

    status: str
    iterations: int
    weights: Floats | None = None
    solver: str = interior_point.SOLVER
    found: Found | None = None


def _asked(
    stages: list[Tied], start: Prices | Floats, iterations_max: int, iterations: int
) -> _Asked:
    """Give the exact answer of the first stage that can be solved; start: of the first."""
    status = ""
    for stage in stages:
        if np.isinf(stage.turnover_max):
            climbed = _climbed(stage, start, iterations_max)
            iterations += climbed.iterations
            if climbed.weights is not None:
                return replace(climbed, iterations=iterations)
        answer = interior_point.interior_point(stage, iterations_max=iterations_max)
        iterations, status = iterations + answer.iterations, answer.status
        if answer.found is not None:
            weights = _exact(stage, answer.found)
            return _Asked(status if weights is not None else NOT_EXACT, iterations, weights)
        start = _held(stage)
    return _Asked(status, iterations)


def _climbed(tied: Tied, start: Prices | Floats, steps_max: int) -> _Asked:
    """Give the answer of the dual, exact and inside all limits, or none."""
    steps = min(steps_max, dual_newton.STEPS_MAX)
    climbed = dual_newton.dual_newton(tied, start, steps_max=steps)
    found = climbed.found
    if found is not None and not climbed.exact:
        found = crossed_over(tied, found)
    if found is None or not _keeps(tied, found.weights):
        return _Asked(NOT_EXACT, climbed.steps)
    solved = interior_point.SOLVED
    return _Asked(solved, climbed.steps, found.weights, dual_newton.SOLVER, found)


def _strict(tied: Tied) -> list[Tied]:
    """Give the programme, and the one without its turnover limit if there is one."""
    if not np.isfinite(tied.turnover_max):
        return [tied]
    return [tied, replace(tied, turnover_max=np.inf, legs=_hardly_traded(tied.legs))]


def _loose(tied: Tied) -> list[Tied]:
    """Give the programmes in which exposures give way: all but the first, then all."""
    M = tied.X.shape[1]
    freed = replace(tied, turnover_max=np.inf)
    return [_softened(freed, kept) for kept in ((1, 0) if M > 1 else (0,) if M else ())]


def _hardly_traded(legs: Legs) -> Legs:
    """Make trades so dear that only limits are worth one."""
    worth = np.abs(legs.pull) + legs.curvature * np.maximum(np.abs(legs.low), np.abs(legs.high))
    return replace(legs, cost=legs.cost + DEAR * (1.0 + float(worth.max())))


def _softened(tied: Tied, kept: int) -> Tied:
    """Turn the exposures after the first `kept` into charges for missing them."""
    if kept == tied.X.shape[1]:
        return tied
    soft, missing = tied.X[:, kept:], tied.totals[kept:]
    risk = FactorForm(
        np.column_stack([tied.risk.loadings, soft / np.sqrt(SOFTNESS)]), tied.risk.specific
    )
    legs = replace(
        tied.legs,
        curvature=risk.variance,
        pull=tied.legs.pull + soft @ missing / SOFTNESS,
    )
    return replace(tied, legs=legs, risk=risk, X=tied.X[:, :kept], totals=tied.totals[:kept])


def _exact(tied: Tied, found: Found) -> Floats | None:
    """Move the solver's answer to the exact one, or else to the nearest book that keeps limits."""
    exact = crossed_over(tied, found)
    if exact is not None and _keeps(tied, exact.weights):
        return exact.weights
    snapped = best_alone(tied, found)
    held = tied.legs.held
    rests = (snapped == held) | (snapped == tied.legs.low) | (snapped == tied.legs.high)
    near = np.where(rests, snapped, found.weights)
    for stays in (rests, np.zeros_like(rests)):
        legs = Legs(
            curvature=np.ones(len(held)),
            pull=near,
            cost=np.where(rests, NUDGE, 0.0),
            held=np.where(rests, near, held),
            low=np.where(stays, near, tied.legs.low),
            high=np.where(stays, near, tied.legs.high),
        )
        weights = _attempt(legs, tied, softness=0.0)
        if weights is not None and _keeps(tied, weights):
            return weights
    return None


def _keeps(tied: Tied, weights: Floats) -> bool:
    """Tell whether boxes, exposures and limits hold to the tolerance."""
    legs = tied.legs
    inside = bool((weights >= legs.low).all() and (weights <= legs.high).all())
    gap = float(np.abs(tied.X.T @ weights - tied.totals).max(initial=0.0))
    gross = float(np.abs(weights).sum()) - tied.gross_max
    trades = float(np.abs(weights - legs.held).sum()) - tied.turnover_max
    return inside and max(gap, gross, trades) <= interior_point.TOLERANCE


def _alone(tied: Tied) -> Floats | None:
    """Solve without correlations and turnover limit; None where the other limits cannot hold."""
    legs, none = tied.legs, np.empty((len(tied.legs.held), 0))
    apart = replace(tied, risk=FactorForm(none, legs.curvature), turnover_max=np.inf)
    try:
        w, b = separable.multiplied(legs, tied.X, tied.totals, np.zeros(len(tied.totals)))
    except (NoMultipliersError, np.linalg.LinAlgError):
        return None
    if float(np.abs(w).sum()) <= tied.gross_max:
        return w
    exact = crossed_over(apart, Found(w, b, float(np.finfo(float).tiny), 0.0))
    if exact is not None and _keeps(apart, exact.weights):
        return exact.weights
    return _attempt(legs, tied, softness=0.0)


def _closed_form(tied: Tied, alone: Floats | None) -> Floats:
    """Give the book without correlations, `alone` or as near to its exposures as it comes.

    What is then beyond the gross or the turnover is scaled back, the boxes permitting.
    """
    legs = tied.legs
    start, least = (np.minimum(np.maximum(x, legs.low), legs.high) for x in (legs.held, 0.0))
    weights = alone if alone is not None else _attempt(legs, tied, softness=SOFTNESS)
    weights = start if weights is None else weights
    gross, lowest = float(np.abs(weights).sum()), float(np.abs(least).sum())
    if gross > tied.gross_max:
        weights = least + (weights - least) * ((tied.gross_max - lowest) / (gross - lowest))
    forced = float(np.abs(start - legs.held).sum())
    chosen = float(np.abs(weights - start).sum())
    if forced + chosen > tied.turnover_max and _keeps(tied, start):
        weights = start + (weights - start) * ((tied.turnover_max - forced) / chosen)
    return weights


def _attempt(legs: Legs, tied: Tied, *, softness: float) -> Floats | None:
    try:
        return separable.within_gross(legs, tied.X, tied.totals, tied.gross_max, softness=softness)
    except (NoMultipliersError, np.linalg.LinAlgError):
        return None
