"""Solve a book whose legs are tied by nothing but a few exposures and the gross.

    min over w of  sum of d_i w_i^2 / 2 - a_i w_i + c_i |w_i - w0_i|
    subject to  X'w = t,  low <= w <= high,  sum |w_i| <= gross

For given multipliers of the exposures (b) and of the gross (lambda) every leg is solved by itself,
in closed form. b is found by Newton steps on the dual, lambda by a falling root. It is the
programme of the book without correlations: what takes over when that cannot be solved, and what
brings an almost neutral book to exact neutrality.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from strategies.roots import falling_root

NEWTON_STEPS_MAX: Final = 60
TOLERANCE: Final = 1e-13  # of the largest exposure that the boxes allow
SOFT_TOLERANCE: Final = 1e-9  # where multipliers are large, and with them their rounding
GROSS_TOLERANCE: Final = 1e-11
CURVATURE_FLOOR: Final = 1e-9  # share of the unclipped curvature, where every leg is clipped
DOUBLINGS_MAX: Final = 40
DEPENDENT: Final = 1e-9  # of a column's length: what the columns before it do not explain


class NoMultipliersError(Exception):
    """No book inside the boxes has the wanted exposures, or the steps ran out."""


@dataclass(frozen=True, slots=True)
class Legs:
    """Hold what each leg is by itself, all (N,): curvature d > 0, pull a, cost c >= 0, held w0.

    low <= high are its box; held may lie outside.
    """

    curvature: Floats
    pull: Floats
    cost: Floats
    held: Floats
    low: Floats
    high: Floats

    def at(self, pull: Floats, gross_price: float = 0.0, trade_price: float = 0.0) -> Floats:
        """Give each leg's best weight for a pull, a price per unit of |w| and one per unit traded.

        Weights at a kink (held, zero) or at an end of the box are these numbers to the last bit.
        """
        toll = self.cost + trade_price
        below, above = np.minimum(self.held, 0.0), np.maximum(self.held, 0.0)
        low = (pull + toll + gross_price) / self.curvature
        high = (pull - toll - gross_price) / self.curvature
        between = (pull + np.sign(self.held) * (toll - gross_price)) / self.curvature
        inner = np.minimum(np.maximum(between, below), above)
        best = np.where(low < below, low, np.where(high > above, high, inner))
        return np.asarray(np.minimum(np.maximum(best, self.low), self.high), dtype=np.float64)


def independent(X: Floats, totals: Floats) -> tuple[Floats, Floats]:
    """Give orthonormal columns and totals that say the same as X'w = totals, in the same order.

    Columns that those before them explain are left out: the first ones count.
    """
    columns: list[Floats] = []
    wanted: list[float] = []
    for j in range(X.shape[1]):
        length = float(np.linalg.norm(X[:, j]))
        left, total = X[:, j], float(totals[j])
        for _ in range(2):  # twice is enough for orthogonality to rounding
            for q, t in zip(columns, wanted, strict=True):
                share = float(q @ left)
                left, total = left - share * q, total - share * t
        rest = float(np.linalg.norm(left))
        if rest > DEPENDENT * length:
            columns.append(left / rest)
            wanted.append(total / rest)
    basis = np.column_stack(columns) if columns else np.empty((len(X), 0))
    return basis, np.array(wanted)


def with_exposures(
    legs: Legs, X: Floats, totals: Floats, *, gross_price: float = 0.0, softness: float = 0.0
) -> Floats:
    """Give the weights (N,) with X'w = totals; X (N, M) of full column rank.

    softness > 0 asks for nearness instead: the misses are charged |X'w - totals|^2 / (2 softness),
    which always has an answer. Raises NoMultipliersError where there is none.
    """
    return multiplied(legs, X, totals, np.zeros(X.shape[1]), gross_price, softness)[0]


def multiplied(
    legs: Legs,
    X: Floats,
    totals: Floats,
    b: Floats,
    gross_price: float = 0.0,
    softness: float = 0.0,
) -> tuple[Floats, Floats]:
    """Do as `with_exposures`, beginning with multipliers b (M,); give them too."""
    M = X.shape[1]
    full = (X.T / legs.curvature) @ X + softness * np.eye(M)
    floor = CURVATURE_FLOOR * full
    size = np.maximum(np.abs(legs.low), np.abs(legs.high))
    reach = float((np.abs(X).T @ size).max(initial=0.0)) + float(np.abs(totals).max(initial=0.0))
    enough = (SOFT_TOLERANCE if softness else TOLERANCE) * reach
    w = legs.at(legs.pull - X @ b, gross_price)
    for _ in range(NEWTON_STEPS_MAX):
        gap = X.T @ w - totals - softness * b
        if float(np.abs(gap).max(initial=0.0)) <= enough:
            return w, b
        is_open = (w > legs.low) & (w < legs.high) & ((w != legs.held) | (legs.cost == 0))
        if gross_price > 0:
            is_open &= w != 0
        curvature = (X.T * (is_open / legs.curvature)) @ X + softness * np.eye(M) + floor
        step = np.linalg.solve(curvature, gap).astype(np.float64)
        b = _searched(legs, X, totals, b, step, gross_price, softness)
        w = legs.at(legs.pull - X @ b, gross_price)
    raise NoMultipliersError


def _searched(
    legs: Legs,
    X: Floats,
    totals: Floats,
    b: Floats,
    step: Floats,
    gross_price: float,
    softness: float,
) -> Floats:
    """Go along `step` to where the dual stops rising."""
    along, start = X @ step, legs.pull - X @ b
    level, slope = float(totals @ step + softness * (b @ step)), softness * float(step @ step)

    def rising(size: float) -> float:
        at = legs.at(start - size * along, gross_price)
        return float(along @ at) - level - slope * size

    first = rising(0.0)
    size = 1.0
    if rising(1.0) < 0:
        size = falling_root(rising, 0.0, 1.0, tolerance=TOLERANCE * abs(first))
    return b + size * step


def within_gross(
    legs: Legs, X: Floats, totals: Floats, gross_max: float, *, softness: float = 0.0
) -> Floats:
    """Give the weights (N,) with X'w = totals and sum |w| <= gross_max.

    Arguments and failures as for `with_exposures`.
    """

    b = np.zeros(X.shape[1])

    def weights(price: float) -> Floats:
        nonlocal b  # near the last one
        w, b = multiplied(legs, X, totals, b, price, softness)
        return w

    def excess(price: float) -> float:
        return float(np.abs(weights(price)).sum()) - gross_max * (1.0 - GROSS_TOLERANCE)

    found = weights(0.0)
    if float(np.abs(found).sum()) <= gross_max:
        return found
    high = float((np.abs(legs.pull) + legs.cost).max(initial=0.0)) or 1.0
    for _ in range(DOUBLINGS_MAX):
        if excess(high) <= 0:
            break
        high *= 2.0
    else:
        raise NoMultipliersError
    price = falling_root(excess, 0.0, high, tolerance=GROSS_TOLERANCE * gross_max)
    found = weights(price)
    if float(np.abs(found).sum()) > gross_max:
        found = weights(price * (1.0 + GROSS_TOLERANCE))
    return found
