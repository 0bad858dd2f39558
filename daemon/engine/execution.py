"""From wanted lot changes to child orders whose worst-case net and beta stay inside their bounds.

A Plan holds what is still to be traded. `next_child` gives the next order that fits:
exposure-reducing legs first, then the side that brings the worst case back towards zero, in slices
that fit the room left. When nothing fits while orders are open, it waits for their fills.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal
from itertools import product
from typing import Final

from msgspec import Struct

from daemon.domain.instrument import TradingRules
from daemon.domain.units import quantise
from daemon.engine.betas import RELIEF_SHARE, USED_SHARE, BetaRoom

# Leaves room for what a slice costs, which lowers the equity that the bound is a share of.
ROOM_USED: Final = 0.99
RELIEF_PARTS: Final = (1.0, 0.5, 0.25, 0.1)  # of the largest slice that may leave a corner


class Leg(Struct, gc=False):
    """Hold what is left to trade in one instrument: signed base units.

    size: the same as a float. value: of what is left, quote currency, >= 0. reference: the mark
    that the decision saw, 0 where that is `mark`. crosses: it had its chance to wait.
    """

    index: int
    left: Decimal
    size: float
    mark: float
    rules: TradingRules
    reduces: bool
    value: float
    reference: float = 0.0
    crosses: bool = False
    least: Decimal | None = None  # `smallest` at this mark, once it was asked for

    @property
    def smallest(self) -> Decimal:
        """Give the size, in base units, below which a slice would be refused by the venue."""
        if self.least is not None:
            return self.least
        rules = self.rules
        smallest = max(rules.quantity_min, rules.quantity_step)
        if rules.notional_min and self.mark > 0:
            by_notional = float(rules.notional_min) / self.mark
            smallest = max(smallest, quantise(by_notional, rules.quantity_step, ROUND_UP))
        self.least = smallest
        return smallest

    def take(self, quantity: Decimal) -> None:
        """Count `quantity` (signed) as sent."""
        self.left -= quantity
        self.size = float(self.left)
        self.value = abs(self.size) * self.mark

    def part(self, quantity: Decimal) -> Leg:
        """Give a leg of the same kind with another quantity (signed)."""
        size = float(quantity)
        value = abs(size) * self.mark
        names = (self.mark, self.rules, self.reduces, value, self.reference, self.crosses)
        return Leg(self.index, quantity, size, *names)

    def reprice(self, mark: float) -> None:
        """Value what is left at a newer mark; the reference stays what the decision saw."""
        self.reference = self.reference or self.mark
        self.mark, self.value, self.least = mark, abs(self.size) * mark, None


@dataclass(slots=True)
class Plan:
    """Order the legs of one decision: buys and sells, reducing first, larger before smaller."""

    as_of_ms: int
    buys: deque[Leg] = field(default_factory=deque)
    sells: deque[Leg] = field(default_factory=deque)
    children_n: int = 0
    stem: str = ""  # the orders' names begin with it
    waves: deque[tuple[int, list[Leg]]] = field(default_factory=deque)  # with when they are due
    urgent: bool = False  # crosses at once, whatever the style
    net_goal: float = 0.0  # quote currency: what net the book has once all of it is traded
    no_room: tuple[float, ...] = ()  # exposures of the book at which nothing of it fits

    @classmethod
    def of(cls, as_of_ms: int, legs: list[Leg], stem: str = "") -> Plan:
        """Sort legs into a plan; the order is a pure function of the legs."""
        ranked = sorted(legs, key=lambda g: (not g.reduces, -g.value, g.index))
        plan = cls(as_of_ms, stem=stem)
        for leg in ranked:
            (plan.buys if leg.left > 0 else plan.sells).append(leg)
        return plan

    def set(self, legs: Iterable[Leg]) -> None:
        """Replace what is left to send now; what comes in later waves stays."""
        self.no_room = ()
        self.buys.clear()
        self.sells.clear()
        for leg in sorted(legs, key=lambda g: (not g.reduces, -g.value, g.index)):
            (self.buys if leg.left > 0 else self.sells).append(leg)

    @property
    def legs(self) -> list[Leg]:
        """List what is left to send, later waves included."""
        return [*self.buys, *self.sells, *(leg for _, wave in self.waves for leg in wave)]

    def add(self, legs: Iterable[Leg]) -> None:
        """Take up further legs."""
        self.set([*self.buys, *self.sells, *legs])

    def release(self, now_ms: int) -> None:
        """Take up the waves that are due."""
        while self.waves and self.waves[0][0] <= now_ms:
            self.add(self.waves.popleft()[1])

    def reprice(self, prices: Sequence[float]) -> None:
        """Value every leg at newer prices, by index; an unknown one changes nothing."""
        self.no_room = ()
        for leg in self.legs:
            if leg.mark != prices[leg.index] > 0:
                leg.reprice(prices[leg.index])

    def prune(self) -> None:
        """Forget legs of which nothing is left."""
        self.set([leg for leg in (*self.buys, *self.sells) if leg.left])
        kept = [(due_ms, [g for g in wave if g.left]) for due_ms, wave in self.waves]
        self.waves = deque(kept)

    @property
    def done(self) -> bool:
        """Tell whether nothing is left to send, now or later."""
        return not self.buys and not self.sells and not self.waves

    def next_child(
        self,
        high: float,
        low: float,
        bound: float,
        order_max: float,
        least: float = 0.0,
        beta: BetaRoom | None = None,
    ) -> tuple[Leg, Decimal, float] | None:
        """Give the next leg and signed quantity that keep high and low within +-bound, or None.

        The quantity comes twice, exact and as a float.
        high and low: the worst-case net notionals now; bound and order_max in quote currency. A leg
        is not cut into slices below `least`: more room is worth waiting for. beta: what is left of
        the bound on beta exposure, where there is one. The caller must account the order before it
        asks again.
        """
        if beta is not None:
            return self._within_both(high, low, bound, order_max, least, beta)
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

    def _within_both(
        self, high: float, low: float, bound: float, order_max: float, least: float, beta: BetaRoom
    ) -> tuple[Leg, Decimal, float] | None:
        """Give the next child inside both bounds: where the first leg of a side does not fit, the
        next one may, since its beta is another. A rest of both is left: see `relief`.
        """
        bound, beta_bound = bound * USED_SHARE, beta.bound * USED_SHARE
        sides = (self.sells, self.buys) if high + low > 0 else (self.buys, self.sells)
        first, second = sides
        if first and second and second[0].reduces and not first[0].reduces:
            sides = (second, first)
        for side in sides:
            if not side:
                continue
            buys = side is self.buys
            room = (bound - high if buys else bound + low) * ROOM_USED
            cap = room if room < order_max else order_max  # noqa: FURB136 - min() is slow
            if cap < 0.0 or (cap < least and all(leg.value > cap for leg in side)):
                continue
            up, down = beta_bound - beta.high, beta_bound + beta.low
            rises, falls = (up, down) if buys else (down, up)  # with a beta above and below zero
            for place, leg in _leaning_back(side, beta, buys=buys):
                # In place, because this runs for every leg whenever something makes room.
                slope, most = beta.betas[leg.index], cap
                if slope:
                    left = rises if slope > 0.0 else falls
                    share = left / abs(slope) * ROOM_USED if left > 0.0 else 0.0
                    most = share if share < most else most  # noqa: FURB136
                whole = leg.value <= most
                if not whole and most < least:
                    continue
                quantity = leg.left if whole else _slice(leg, most)
                if not quantity:
                    continue
                size = leg.size if whole else float(quantity)
                if not whole:
                    leg.take(quantity)
                if whole or not leg.left:
                    del side[place]
                self.children_n += 1
                return leg, quantity, size
        return None

    def relief(self, net: float, bound: float, beta: BetaRoom) -> tuple[Leg, Decimal, float] | None:
        """Give a closing slice that best brings back what is past its bound, or None.

        For where nothing is open and `next_child` has nothing; see `BetaRoom.relieves`.
        """
        best, most = None, -math.inf
        closing = [(side, leg) for side in (self.buys, self.sells) for leg in side if leg.reduces]
        for (side, leg), share in product(closing, RELIEF_PARTS):
            slope = abs(beta.betas[leg.index])
            widest = min(bound, beta.bound / slope if slope else bound)
            notional_max = share * RELIEF_SHARE * ROOM_USED * widest
            part = leg.left if leg.value <= notional_max else _slice(leg, notional_max)
            value = float(part) * leg.mark
            gain = beta.relieves(leg.index, value, net, bound) if part else None
            if gain is not None and gain / abs(value) > most:
                best, most = (side, leg, part), gain / abs(value)
        if best is None:
            return None
        side, leg, quantity = best
        leg.take(quantity)
        if not leg.left:
            side.remove(leg)
        self.children_n += 1
        return leg, quantity, float(quantity)

    def drop_next(self) -> Leg:
        """Give up the largest leg that cannot be placed at all; something must be left."""
        self.no_room = ()
        sides = [s for s in (self.buys, self.sells) if s]
        side = max(sides, key=lambda s: s[0].value)
        return side.popleft()


def _leaning_back(side: deque[Leg], beta: BetaRoom, *, buys: bool) -> Iterable[tuple[int, Leg]]:
    """Give the legs of a side with their places: in order, but while beta uses more than half of
    its bound those that bring it back come first.
    """
    middle = (beta.high + beta.low) / 2
    if abs(middle) <= beta.bound / 2:
        return list(enumerate(side))

    betas, raising = beta.betas, buys == (middle > 0.0)  # the sign of a beta that takes it further

    def away(found: tuple[int, Leg]) -> int:
        leg = found[1]
        further = (betas[leg.index] > 0.0) == raising
        return further if leg.reduces else 2 + further

    return sorted(enumerate(side), key=away)  # what is alike stays in order


def _slice(leg: Leg, notional_max: float) -> Decimal:
    """Cut what fits into `notional_max`; never leave a rest that could not be sent on its own."""
    if notional_max <= 0:
        return Decimal(0)
    whole, step, smallest = abs(leg.left), leg.rules.quantity_step, leg.smallest
    fits = quantise(notional_max / leg.mark, step)
    if whole - fits < smallest:
        fits = quantise(whole - smallest, step) if whole > smallest else Decimal(0)
    if fits < smallest:
        return Decimal(0)
    return fits if leg.left > 0 else -fits
