"""From wanted lot changes to child orders whose worst-case net exposure stays inside the bound.

A Plan holds what is still to be traded. `next_child` gives the next order that fits:
exposure-reducing legs first, then the side that brings the worst case back towards zero, in slices
that fit the room left. When nothing fits while orders are open, it waits for their fills.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal
from typing import Final

from msgspec import Struct

from daemon.domain.instrument import TradingRules
from daemon.domain.units import quantise

# Leaves room for what a slice costs, which lowers the equity that the bound is a share of.
ROOM_USED: Final = 0.99


class Leg(Struct, gc=False):
    """Hold what is left to trade in one instrument: signed base units.

    size: the same as a float. value: of what is left, quote currency, >= 0.
    """

    index: int
    left: Decimal
    size: float
    mark: float
    rules: TradingRules
    reduces: bool
    value: float

    @property
    def smallest(self) -> Decimal:
        """Give the size, in base units, below which a slice would be refused by the venue."""
        rules = self.rules
        smallest = max(rules.quantity_min, rules.quantity_step)
        if rules.notional_min and self.mark > 0:
            by_notional = float(rules.notional_min) / self.mark
            smallest = max(smallest, quantise(by_notional, rules.quantity_step, ROUND_UP))
        return smallest

    def take(self, quantity: Decimal) -> None:
        """Count `quantity` (signed) as sent."""
        self.left -= quantity
        self.size = float(self.left)
        self.value = abs(self.size) * self.mark


@dataclass(slots=True)
class Plan:
    """Order the legs of one decision: buys and sells, reducing first, larger before smaller."""

    as_of_ms: int
    buys: deque[Leg] = field(default_factory=deque)
    sells: deque[Leg] = field(default_factory=deque)
    children_n: int = 0
    stem: str = ""  # the orders' names begin with it

    @classmethod
    def of(cls, as_of_ms: int, legs: list[Leg], stem: str = "") -> Plan:
        """Sort legs into a plan; the order is a pure function of the legs."""
        ranked = sorted(legs, key=lambda g: (not g.reduces, -g.value, g.index))
        plan = cls(as_of_ms, stem=stem)
        for leg in ranked:
            (plan.buys if leg.left > 0 else plan.sells).append(leg)
        return plan

    @property
    def done(self) -> bool:
        """Tell whether nothing is left to send."""
        return not self.buys and not self.sells

    def next_child(
        self, high: float, low: float, bound: float, order_max: float, least: float = 0.0
    ) -> tuple[Leg, Decimal, float] | None:
        """Give the next leg and signed quantity that keep high and low within +-bound, or None.

        The quantity comes twice, exact and as a float.
        high and low: the worst-case net notionals now; bound and order_max in quote currency. A leg
        is not cut into slices below `least`: more room is worth waiting for. The caller must
        account the order before it asks again.
        """
        buys = self.buys
        # The side that leans against the present exposure goes first,
        first, second = (self.sells, buys) if high + low > 0 else (buys, self.sells)
        # but a reducing leg before any leg that opens exposure, whichever side it is on.
        if first and second and second[0].reduces and not first[0].reduces:
            first, second = second, first
        for side in (first, second):
            if side:
                leg = side[0]
                room = ((bound - high) if side is buys else (bound + low)) * ROOM_USED
                most = order_max if order_max < room else room  # noqa: FURB136 - min() is slow
                if leg.value <= most:
                    quantity, size = leg.left, leg.size
                    side.popleft()
                else:
                    quantity = _slice(leg, most if most >= least else 0.0)
                    if not quantity:
                        continue
                    size = float(quantity)
                    leg.take(quantity)
                    if not leg.left:
                        side.popleft()
                self.children_n += 1
                return leg, quantity, size
        return None

    def drop_next(self) -> Leg:
        """Give up the largest leg that cannot be placed at all; something must be left."""
        sides = [s for s in (self.buys, self.sells) if s]
        side = max(sides, key=lambda s: s[0].value)
        return side.popleft()


def _slice(leg: Leg, notional_max: float) -> Decimal:
    """Cut what fits into `notional_max`; never leave a rest that could not be sent on its own."""
    if notional_max <= 0:
        return Decimal(0)
    whole, step, smallest = abs(leg.left), leg.rules.quantity_step, leg.smallest
    fits = quantise(notional_max / leg.mark, step)
    if whole - fits < smallest:
        fits = whole - smallest
    fits = quantise(fits, step) if fits > 0 else Decimal(0)
    if fits < smallest:
        return Decimal(0)
    return fits if leg.left > 0 else -fits
