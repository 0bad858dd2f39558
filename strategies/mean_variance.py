"""The book by a predicted covariance: the ideal one, and the way to it, each one convex problem.

The ideal book is the programme without costs (`strategies.programme`), its aversion found so that
the gross is reached where caps and exposures let it. The way to it follows that book with the
no-trade bands of the policy, costs, boxes, exposures and the gross limit in one problem.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.covariance import Covariance
from daemon.domain.portfolio import Solved
from daemon.domain.units import HOUR_MS
from daemon.domain.view import View
from strategies import policies, rebalance
from strategies.factor_form import FactorForm, factor_form
from strategies.policies import Moved, Policy, Wish
from strategies.programme import Near, Outcome, Problem, solve, tracking
from strategies.rebalance import Band
from strategies.roots import falling_root
from strategies.weighting import Book

COVARIANCE_HOURS_MAX: Final = 3  # older than that it is not used
GROSS_NEAR: Final = 0.99  # of the wanted gross: near enough
AVERSION_STEPS: Final = 4
AVERSION_CUT_MAX: Final = 8.0  # a step lowers the aversion at most by this factor
LIFT_STEP: Final = 0.5  # the first that is tried
LIFT_GROWS: Final = 2.0  # the next one beside it


class Basis(NamedTuple):
    """Hold what both problems need: S in factor form, and exposures (N, M), dollars first."""

    risk: FactorForm
    exposures: Floats


def basis_of(view: View, factors: Floats) -> Basis | str:
    """Give the basis of a decision, or say in words why there is none; factors: (N, M - 1)."""
    covariance = view.covariance
    if covariance is None:
        return "no covariance is known"
    if view.as_of_ms - covariance.as_of_ms > COVARIANCE_HOURS_MAX * HOUR_MS:
        return f"the covariance is {(view.as_of_ms - covariance.as_of_ms) / HOUR_MS:.0f} h old"
    if problem := _shape_problem(covariance, len(view.weights)):
        return problem
    return Basis(factor_form(covariance), np.column_stack([np.ones(len(view.weights)), factors]))


def _shape_problem(covariance: Covariance, instruments_n: int) -> str:
    has = covariance.correlation.shape
    if has != (instruments_n, instruments_n):
        return f"the covariance is of {has[0]} instruments"
    factors = covariance.factors
    if factors is not None and len(factors.specific) != instruments_n:
        return f"the covariance's factors are of {len(factors.specific)} instruments"
    return ""


def ideal_book(
    basis: Basis,
    alpha: Floats,
    *,
    tradable: Flags,
    kept: Floats,
    cap: float | Floats,
    gross: float,
    aversion: float,
) -> tuple[Book, Solved | None]:
    """Build the frictionless book; arguments as those of `weighting.long_short`.

    aversion: to begin with, that of the closed form; lowered until the gross is near.
    """
    if not np.isfinite(aversion):
        return Book(
            kept.copy(), float(np.abs(kept).sum()), np.inf, "the signals do not differ"
        ), None
    free = tradable & np.isfinite(basis.risk.specific)
    problem = Problem(
        risk=basis.risk,
        aversion=aversion,
        alpha=np.where(free, alpha, 0.0),
        cost=np.zeros(len(alpha)),
        held=kept,
        low=np.where(free, -1.0 * cap, kept),
        high=np.where(free, 1.0 * cap, kept),
        exposures=basis.exposures,
        totals=np.zeros(basis.exposures.shape[1]),
        gross_max=gross,
    )
    outcome = solve(problem)
    for _ in range(AVERSION_STEPS):
        total = float(np.abs(outcome.weights).sum())
        if total >= GROSS_NEAR * gross or total == 0.0:
            break
        cut = min(gross / total, AVERSION_CUT_MAX)
        lower = replace(problem, aversion=problem.aversion / cut)
        tried = solve(lower, near=_scaled(outcome.near, cut))
        if float(np.abs(tried.weights).sum()) <= total:
            break  # caps and exposures allow no more
        problem, outcome = lower, tried
    total = float(np.abs(outcome.weights).sum())
    short = "" if total >= GROSS_NEAR * gross else f"limits allow a gross of {total:.3f} only"
    why = outcome.solved.fallback
    instead = f"ideal by the closed form, because {why}" if why else ""
    note = "; ".join(filter(None, (outcome.note, short, instead)))
    return Book(outcome.weights, total, problem.aversion, note), outcome.solved


def _scaled(near: Near | None, factor: float) -> Near | None:
    """Give what is near when risk counts less by a factor: the same charges, larger weights."""
    return None if near is None else replace(near, weights=factor * near.weights)


def moved(
    basis: Basis, policy: Policy, wish: Wish, view: View, widening: Floats
) -> tuple[Floats, Moved, Solved | None]:
    """Give where to trade to, by one programme with bands and costs; else as `policies.moved`."""
    if policy.band is Band.CALENDAR:  # in full or not at all: there is no band to follow
        return *policies.moved(policy, wish, view, widening), None
    widening, band = policies.bands(policy, wish, view, widening)
    return widening, *_to_the_bands(basis, wish, view, band)


def _to_the_bands(
    basis: Basis, wish: Wish, view: View, band: Floats
) -> tuple[Moved, Solved | None]:
    held = view.weights
    boxes = policies.boxes_of(wish, view)
    stays = wish.silent | ~np.isfinite(basis.risk.specific)
    kept = np.minimum(np.maximum(held, boxes.low), boxes.high)
    inside = rebalance.nearest_edge(held, wish.ideal, band)
    within = float(np.abs(held).sum()) <= policies.GROSS_SHARE_MAX * wish.gross
    filled = float(np.abs(held).sum()) >= policies.GROSS_SHARE_MIN * wish.gross
    rests = bool(((inside == held) | stays).all() and (kept == held).all())
    if rests and within and filled and not policies.drifted(wish, held, held):
        return Moved(held, band, 1.0, 1.0, waits=False), None
    gross_max = max(policies.GROSS_SHARE_MAX * wish.gross, float(np.abs(kept[stays]).sum()))
    problem = tracking(
        basis.risk,
        wish.aversion,
        ideal=wish.ideal,
        band=band,
        cost=view.cost,
        held=held,
        low=np.where(stays, kept, boxes.low),
        high=np.where(stays, kept, boxes.high),
        exposures=basis.exposures,
        totals=np.zeros(basis.exposures.shape[1]),
        gross_max=gross_max,
    )
    tolerance = rebalance.GROSS_TOLERANCE * wish.gross
    found, lift = _filled(problem, policies.GROSS_SHARE_MIN * wish.gross, tolerance)
    return Moved(found.weights, band, lift, 1.0, waits=False), found.solved


def _filled(problem: Problem, wanted: float, tolerance: float) -> tuple[Outcome, float]:
    """Solve, with the ideal book lifted until the gross is `wanted` or up to twice tolerance more.

    What the problem pulls to is in proportion to the ideal book. Gives the lift too: 1 where none
    is needed, LIFT_MAX at most.
    """
    tried: dict[float, Outcome] = {}

    def missing(lift: float) -> float:
        if lift not in tried:
            near = next(reversed(tried.values())).near if tried else None
            tried[lift] = solve(replace(problem, alpha=lift * problem.alpha), near=near)
        return wanted + tolerance - float(np.abs(tried[lift].weights).sum())

    if missing(1.0) <= tolerance:
        return tried[1.0], 1.0
    low, step = 1.0, LIFT_STEP
    high = low + step
    while missing(high) > tolerance and high < rebalance.LIFT_MAX:
        low, step = high, LIFT_GROWS * step
        high = min(low + step, rebalance.LIFT_MAX)
    lift = falling_root(missing, low, high, tolerance=tolerance)
    missing(lift)  # where steps ran out it may be a new one
    return tried[lift], lift
