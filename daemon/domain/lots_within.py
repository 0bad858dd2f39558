"""Whole lots of a book whose net and beta both have bounds, feasible by construction.

Legs that cannot trade as they should, and targets past a bound, are made up for by the other legs
in exact lots first, with the least change that does it:

    min sum of |notional_i| s_i^2   subject to   net at its aim,  |beta| at most its bound,

where leg i trades (1 + s_i) of what it wants. Then the roundings are chosen (`roundings`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.lot_problem import (
    REDISTRIBUTIONS_MAX,
    LotProblem,
    count,
    may_flip,
    whole,
)
from daemon.domain.roundings import NOTHING, Bounds, Goal, best

Floats = npt.NDArray[np.float64]

SHARING_STEPS_MAX: Final = 12
RIDGE: Final = 1e-12  # where all legs have one beta


def lots_within(plan: LotProblem, bounds: Bounds) -> tuple[Floats, Floats, float]:
    """Find whole lots that keep net and beta inside their bounds; give exact, lots, and shrunk."""
    # Sorted by what they are, so that sums do not hang on the order in which legs are listed.
    order = np.lexsort((plan.held, plan.wanted, bounds.betas, plan.value))
    order = order[plan.wanted[order] != 0]
    legs = plan.part(order)
    goal = Goal.of(bounds, bounds.betas[order], legs.value, legs.wanted)
    exact, lots = np.zeros(len(plan.wanted)), np.zeros(len(plan.wanted))
    exact[order], lots[order], shrunk = _best_within(legs, goal)
    return exact, lots, shrunk


def _best_within(plan: LotProblem, goal: Goal) -> tuple[Floats, Floats, float]:
    """Find the lots of legs that all want to trade; give exact, lots, and shrunk.

    Two books are rounded, and the better one is taken: every leg by itself; and, where a leg was
    dropped or the targets are past a bound, the one whose other legs make up for it. They shrink
    first, and grow, at most by GROWTH_MAX, where that is not enough. A book whose single roundings
    are inside the bounds is therefore never left for one that is not, and both errors together, in
    squares of shares of their bounds, are never above those of rounding each leg by itself.
    """
    allowed = plan.allowed()
    small = plan.too_small(whole(allowed))
    exact, lots = _rounded(plan, goal, allowed)
    past = float(np.abs(goal.start + goal.effects @ plan.wanted).max()) > 1.0 + NOTHING
    if not (past or count(small) or count(allowed != plan.wanted)):
        return exact, lots, 0.0
    shared = _shared_out(plan, goal, np.where(small, 0.0, allowed), allowed)
    other, others = _rounded(plan, goal, shared)
    if goal.rank(others) < goal.rank(lots):
        exact, lots = other, others
    if not past:
        return exact, lots, 0.0
    less = np.maximum(np.abs(allowed) - np.abs(exact), 0.0)
    return exact, lots, float(plan.value @ less)


def _rounded(plan: LotProblem, goal: Goal, exact: Floats) -> tuple[Floats, Floats]:
    """Choose between both whole numbers next to `exact`; give it without what is too small."""
    lots = whole(exact)
    small = plan.too_small(lots)
    low = np.where(small, 0.0, lots)
    high = np.where(may_flip(plan, exact, lots), lots + np.sign(exact), low)
    chosen = best(goal, low, high)
    return np.where(small & (chosen == 0), 0.0, exact), chosen


def _shared_out(plan: LotProblem, goal: Goal, exact: Floats, allowed: Floats) -> Floats:
    """Let legs shrink, then grow, until net is where it should be and beta is inside its bound.

    What becomes too small on the way is dropped, and the rest shares that out as well.
    """
    for _ in range(REDISTRIBUTIONS_MAX):
        for grows in (False, True):
            exact = _evened(plan, goal, exact, allowed if grows else None)
            net, beta = goal.after(exact)
            if abs(net - goal.aim[0]) <= NOTHING and abs(beta) <= 1.0 + NOTHING:
                break
        small = plan.too_small(whole(exact))
        if not count(small):
            break
        exact = np.where(small, 0.0, exact)
    return exact


def _evened(plan: LotProblem, goal: Goal, exact: Floats, allowed: Floats | None) -> Floats:
    """Bring net back to its aim, and where beta is then past its bound, beta to that as well.

    Legs that close a position are left alone: they have to go. allowed: (N,) what legs may grow
    from, by GROWTH_MAX in all and never over zero, or None where they only shrink.
    """
    free = (exact != 0) & ~plan.closes(whole(exact))
    index = free.nonzero()[0]
    if not index.size:
        return exact
    part = exact[index]
    rows = goal.effects[:, index] * part  #                                  (2, n)
    pull = rows / (plan.value[index] * np.abs(part))
    high = np.zeros(index.size)
    if allowed is not None:
        high = plan.growth(allowed)[index] / np.abs(part) - 1.0
        high = np.maximum(high, 0.0)
    off = goal.after(exact) - goal.aim
    share = _least_change(rows[:1], pull[:1], off[:1], high)
    beta = goal.after(exact)[1] + float(rows[1] @ share)
    if abs(beta) > 1.0 + NOTHING:
        off[1] = goal.after(exact)[1] - np.copysign(1.0, beta)
        share = _least_change(rows, pull, off, high)
    changed = exact.copy()
    changed[index] = part * (1.0 + share)
    return changed


def _least_change(rows: Floats, pull: Floats, off: Floats, high: Floats) -> Floats:
    """Give the least s (n,) in [-1, high] with rows @ s = -off, or what comes nearest to it.

    Least is the sum of notional times s^2, so that s = clip(pull' b, -1, high), and b is found by
    Newton steps. rows, pull: (K, n); off: (K,).
    """
    b, nearest, least = np.zeros(len(off)), np.zeros(rows.shape[1]), np.inf
    for _ in range(SHARING_STEPS_MAX):
        raw = b @ pull
        s = np.minimum(np.maximum(raw, -1.0), high)
        left = rows @ s + off
        error = float(np.abs(left).max())
        if error < least:
            nearest, least = s, error
        inside = (raw >= -1.0) & (raw <= high)
        if error <= NOTHING or not count(inside):
            break
        slope = (rows * inside) @ pull.T
        slope += RIDGE * np.trace(slope) * np.eye(len(off))
        b = b - np.linalg.solve(slope, left)
    return nearest
