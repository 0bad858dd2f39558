"""Solve the programme of the book by Newton steps on its dual.

With y for F'w, b for the prices of exposures and lambda for that of the gross, each leg is alone:

    min over z of  D z^2 / 2 - (pull - X b - F y) z + c |z - w0| + lambda |z|,  low <= z <= high

which has a closed form. What is left is to find the few prices (b, y, lambda) at which X'w = t,
y = F'w and sum |w| = gross (or less, and lambda = 0): the top of a concave function, quadratic in
pieces. Newton's step is exact inside a piece; its slope tells how far to go along it. At the top
the weights are the optimum: legs that rest, are flat or capped are so to the bit. The top is found
from any start; a near one saves steps. There is no limit on turnover here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from strategies.crossover import Found, Tied
from strategies.roots import falling_root

SOLVER: Final = "dual_newton"
VERSION: Final = "1"
STEPS_MAX: Final = 30
TRIES_MAX: Final = 12  # along one step
ENOUGH: Final = 0.1  # of the slope at its beginning: where a step may end
TOLERANCE: Final = 1e-14  # of what boxes allow: of exposures, of y, and of the gross
EXACT: Final = 1e-12  # the same, where rounding allows no more
NEAR: Final = 1e-6  # the same, where it does not allow even that: `crossover` finishes these
STALLED: Final = 0.5  # a step that leaves more of the error than this, near the top, is the last
RIDGE: Final = 1e-9  # of the curvature with all legs free
GROSS_NEAR: Final = 0.1  # how nearly the gross is met by the price that is guessed for it
EDGE: Final = 0.05  # of an interval: no nearer to its ends is tried
TINY: Final = float(np.finfo(float).tiny)


@dataclass(frozen=True, slots=True)
class Prices:
    """Hold multipliers: v (M + K,) of the exposures and then of y, and of the gross."""

    v: Floats
    gross: float


@dataclass(frozen=True, slots=True)
class Climbed:
    """Hold how many steps were made and what they led to, if anything.

    exact: the error is within EXACT; else it is within NEAR.
    """

    steps: int
    found: Found | None = None
    prices: Prices | None = None
    exact: bool = False


class _Dual:
    """Hold what all steps share; q (N,) is (pull - X b - F y) / D, what a leg would do freely."""

    def __init__(self, tied: Tied) -> None:
        legs, M = tied.legs, tied.X.shape[1]
        self.legs, self.gross_max = legs, tied.gross_max
        self.A = np.concatenate([tied.X, tied.risk.loadings], axis=1)  #         (N, M + K)
        self.D, self.inverse = tied.risk.specific, 1.0 / tied.risk.specific
        P = self.A.shape[1]
        self.scaled = self.A * self.inverse[:, None]
        self.soft, self.totals = np.zeros(P), np.zeros(P)
        self.soft[M:] = 1.0  # a miss of y = F'w costs half its square: it is the common risk
        self.totals[:M] = tied.totals
        self.free = legs.pull * self.inverse
        self.toll = legs.cost * self.inverse
        self.below, self.above = np.minimum(legs.held, 0.0), np.maximum(legs.held, 0.0)
        self.side = np.sign(legs.held)
        self.rest = np.where(legs.cost > 0, legs.held, np.inf)
        size = np.maximum(np.abs(legs.low), np.abs(legs.high))
        self.reach = np.abs(self.A).T @ size + TINY
        self.ridge = RIDGE * np.einsum("ij,ij->j", self.A, self.scaled) + self.soft
        self.columns = np.empty((len(size), P + 1))
        self.columns[:, :P] = self.A

    def weights(self, q: Floats, price: float) -> Floats:
        """Give each leg's best weight; at a kink or an end of its box it is that to the bit."""
        by_gross = price * self.inverse
        toll = self.toll + by_gross
        between = q + self.side * (self.toll - by_gross)
        best = np.minimum(q + toll, self.below)
        best = np.maximum(best, np.minimum(between, self.above))
        best = np.maximum(best, q - toll)
        return np.minimum(np.maximum(best, self.legs.low), self.legs.high)

    def guess(self, near: Floats) -> Prices:
        """Guess prices from weights (N,): y as theirs, b by projection, and lambda to fit."""
        M = int((self.soft == 0).sum())
        v = np.empty(len(self.soft))
        v[M:] = self.A[:, M:].T @ near
        v[:M] = self.A[:, :M].T @ (self.legs.pull - self.A[:, M:] @ v[M:])
        if not np.isfinite(self.gross_max):
            return Prices(v, 0.0)
        q = self.free - self.scaled @ v
        dearest = float((np.abs(q) * self.D).max())
        price = falling_root(
            lambda x: self.excess(self.weights(q, x)),
            0.0,
            dearest,
            tolerance=GROSS_NEAR * self.gross_max,
        )
        return Prices(v, price)

    def excess(self, w: Floats) -> float:
        """Give what the gross is beyond its limit."""
        return float(np.abs(w).sum()) - self.gross_max

    def error(self, gap: Floats, excess: float, price: float) -> float:
        """Give how far it is from the top, in what boxes allow."""
        over = abs(excess) if price > 0 else max(excess, 0.0)
        missed = float((np.abs(gap) / self.reach).max(initial=0.0))
        return max(missed, over / self.gross_max)

    def step(self, w: Floats, gap: Floats, excess: float, price: float) -> tuple[Floats, float]:
        """Give Newton's step of v and lambda."""
        legs, P = self.legs, len(gap)
        is_open = (w > legs.low) & (w < legs.high) & (w != self.rest)
        if price > 0 or excess > 0:
            np.sign(w, out=self.columns[:, P])
            curved = (self.columns.T * ((is_open & (w != 0)) * self.inverse)) @ self.columns
            curved.flat[:: P + 2] += np.append(self.ridge, RIDGE * float(self.inverse.sum()))
            both = np.linalg.solve(curved, np.append(gap, excess))
            if price > 0 or both[P] > 0:
                return both[:P], float(both[P])
        curved = (self.A.T * (is_open * self.inverse)) @ self.A
        curved.flat[:: P + 1] += self.ridge
        return np.asarray(np.linalg.solve(curved, gap), dtype=np.float64), 0.0


def dual_newton(tied: Tied, start: Prices | Floats, *, steps_max: int = STEPS_MAX) -> Climbed:
    """Climb from prices, or from weights (N,) near the answer; tied.turnover_max must be infinite.

    Never raises for what the numbers are.
    """
    dual = _Dual(tied)
    at = start if isinstance(start, Prices) else dual.guess(start)
    M, before = tied.X.shape[1], np.inf
    for steps in range(steps_max + 1):
        q = dual.free - dual.scaled @ at.v
        w = dual.weights(q, at.gross)
        gap = dual.A.T @ w - dual.totals - dual.soft * at.v
        excess = dual.excess(w)
        error = dual.error(gap, excess, at.gross)
        is_stalled = error <= NEAR and error > STALLED * before
        if error <= TOLERANCE or is_stalled:
            return Climbed(steps, Found(w, at.v[:M], at.gross, 0.0), at, error <= EXACT)
        if not np.isfinite(error) or steps == steps_max:
            break
        try:
            at = _along(dual, at, q, *dual.step(w, gap, excess, at.gross), gap, excess)
        except np.linalg.LinAlgError:
            break
        before = error
    return Climbed(steps)


def _along(
    dual: _Dual,
    at: Prices,
    q: Floats,
    step: Floats,
    gross_step: float,
    gap: Floats,
    excess: float,
) -> Prices:
    """Go along a step to where the dual hardly rises any more; lambda stays at or above zero."""
    moves = dual.scaled @ step
    rises = dual.D * moves
    charged = dual.soft * step
    level, slope = float(dual.totals @ step + charged @ at.v), float(charged @ step)

    def rising(size: float) -> float:
        w = dual.weights(q - size * moves, at.gross + size * gross_step)
        along = float(rises @ w) - level - slope * size
        return along + gross_step * dual.excess(w) if gross_step else along

    whole = 1.0 if at.gross + gross_step >= 0 else -at.gross / gross_step
    first = float(gap @ step) + (gross_step * excess if gross_step else 0.0)
    size = _where_flat(rising, first, whole)
    gross = at.gross + size * gross_step
    return Prices(at.v + size * step, 0.0 if size == whole < 1.0 else max(gross, 0.0))


def _where_flat(rising: Callable[[float], float], first: float, whole: float) -> float:
    """Give a size in (0, whole] at which a falling slope is within ENOUGH of zero, or `whole`.

    first: the slope at 0. False position with the Illinois correction.
    """
    last = rising(whole)
    if last >= -ENOUGH * first:
        return whole
    low, high, at_low, at_high, kept = 0.0, whole, first, last, 0
    size = whole
    for _ in range(TRIES_MAX):
        share = at_low / (at_low - at_high)
        size = low + (high - low) * min(max(share, EDGE), 1.0 - EDGE)
        value = rising(size)
        if abs(value) <= ENOUGH * first:
            break
        if value > 0:
            low, at_low = size, value
            at_high = at_high * 0.5 if kept == 1 else at_high
            kept = 1
        else:
            high, at_high = size, value
            at_low = at_low * 0.5 if kept == -1 else at_low
            kept = -1
    return size
