"""Order instruments by signed alpha; ties, eligibility and breadth.

Whoever may not be traded is left out before the ranks are made, so that an untradable instrument
never takes a place in the book from a tradable one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Flags, Floats
from daemon.domain.units import require

Indices = npt.NDArray[np.intp]


def ranked(alpha: Floats, eligible: Flags) -> Indices:
    """Give the indices of the eligible instruments with a finite alpha, strongest long first.

    Equal alphas keep the order of the universe, so that the same inputs give the same book.
    """
    index = np.flatnonzero(eligible & np.isfinite(alpha))
    return index[np.argsort(-alpha[index], kind="stable")]


def extremes(order: Indices, legs_max: int, held: Floats) -> Indices:
    """Keep the strongest longs and the strongest shorts, at most `legs_max` in all, in rank order.

    Half of the places (rounded down) belong to each end. A leg that is held keeps its place while
    it is among the first 1.5 times as many, so that noise about the last place costs no trades.
    held: (N,) current weights, whose sign tells which end a leg is on.
    """
    require(legs_max >= 2, f"legs_max {legs_max} must be at least 2")
    if len(order) <= legs_max:
        return order
    places = legs_max // 2
    longs = _places(order, places, held > 0)
    shorts = _places(order[::-1], places, (held < 0) & ~np.isin(np.arange(len(held)), longs))
    taken = np.isin(order, np.concatenate([longs, shorts]))
    return order[taken]


def _places(order: Indices, places: int, held: Flags) -> Indices:
    """Fill places from the front: first who is held and near enough, then by rank."""
    near = order[: min(places + places // 2, len(order) - places)]
    staying = near[held[near]][:places]
    others = near[~np.isin(near, staying)]
    return np.concatenate([staying, others[: places - len(staying)]])


def is_broad(order: Indices, breadth_min: int) -> bool:
    """Tell whether enough instruments have a rank for a book whose risks can offset each other."""
    return len(order) >= breadth_min
