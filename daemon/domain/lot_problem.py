"""One problem of rounding: what every leg wants in lots, and what a venue and its flags allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Quantities arrive as floats of exact decimals: this near to a whole lot means a whole lot.
LOT_TOLERANCE: Final = 1e-9
REDISTRIBUTIONS_MAX: Final = 16
GROWTH_MAX: Final = 2.0  # a surviving leg may at most double to make up for dropped ones
count = np.count_nonzero  # a tenth of the price of any() on short arrays


@dataclass(frozen=True, slots=True)
class LotProblem:
    """Hold one problem in lots: wanted changes, holdings, and the value of a lot, (N,) each."""

    wanted: Floats
    held: Floats
    value: Floats
    notional_min: Floats
    lots_min: Floats
    is_lot_enough: bool
    untradable: Flags | None
    reduce_only: Flags | None

    def part(self, index: npt.NDArray[np.intp]) -> LotProblem:
        """Give the same problem for some of the legs, in this order."""
        untradable, reduce_only = self.untradable, self.reduce_only
        return LotProblem(
            self.wanted[index],
            self.held[index],
            self.value[index],
            self.notional_min[index],
            self.lots_min[index],
            self.is_lot_enough,
            None if untradable is None else untradable[index],
            None if reduce_only is None else reduce_only[index],
        )

    def allowed(self) -> Floats:
        """Give the wanted changes without what untradable and reduce-only legs may not do."""
        exact = self.wanted
        if self.reduce_only is not None and count(self.reduce_only):
            low, high = np.minimum(-self.held, 0.0), np.maximum(-self.held, 0.0)
            exact = np.where(self.reduce_only, np.minimum(np.maximum(exact, low), high), exact)
        if self.untradable is not None:
            exact = np.where(self.untradable, 0.0, exact)
        return exact

    def growth(self, allowed: Floats) -> Floats:
        """Give the sizes in lots to which legs may grow from what is allowed, (N,).

        At most GROWTH_MAX times as much, and a leg that shrinks a position never over zero.
        """
        size, held = np.abs(allowed), np.abs(self.held)
        most = GROWTH_MAX * size
        reduces = (allowed * self.held < 0) & (size <= held)
        return np.where(reduces, np.minimum(most, held), most)

    def closes(self, lots: Floats) -> Flags:
        """Tell where trading `lots` leaves less than one lot of a position, shape (N,)."""
        closing: Flags = (lots != 0) & (np.abs(lots + self.held) < 1.0 - LOT_TOLERANCE)
        return closing

    def dust(self, lots: Floats) -> Sequence[int]:
        """List the legs that should shrink or go but hold less than any trade may be."""
        least = self.lots_min - LOT_TOLERANCE
        found: Flags = (self.wanted * self.held < 0) & (lots == 0) & (np.abs(self.held) < least)
        if self.untradable is not None:
            found &= ~self.untradable
        return found.nonzero()[0].tolist() if count(found) else ()

    def too_small(self, lots: Floats) -> Flags:
        """Tell which trades the venue would refuse for their size, shape (N,)."""
        size = np.abs(lots)
        small: Flags = (size * self.value < self.notional_min) & (size > 0)
        if count(small):
            small &= ~self.closes(lots)
        if self.is_lot_enough:
            return small
        below: Flags = (size < self.lots_min) & (size > 0)
        return small | below


def whole(exact: Floats) -> Floats:
    """Round towards zero, but to the whole lot that a float only just misses."""
    return np.trunc(exact + np.copysign(LOT_TOLERANCE, exact))


def may_flip(plan: LotProblem, exact: Floats, lots: Floats) -> Flags:
    """Tell which legs may have one lot more than `lots`, outwards, shape (N,)."""
    outwards = lots + np.sign(exact)
    can = (np.abs(exact - lots) > LOT_TOLERANCE) & ~plan.too_small(outwards)
    target = plan.held + exact
    can &= (target * (plan.held + outwards) >= 0) & (np.abs(target) > LOT_TOLERANCE)
    if plan.reduce_only is not None:
        can &= ~plan.reduce_only | (np.abs(outwards) <= np.abs(plan.held) + LOT_TOLERANCE)
    return can
