"""Funding as signed cash flows at settlement instants, on what was held then.

    amount = -quantity * mark * rate

with the quantity before any trade at the settlement, the mark = the last source close at or before
it, and the rate positive when longs pay. A rate that comes late is booked with the quantity and the
mark of its own settlement, which are remembered for a day; it is never recomputed from trades.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from msgspec import Struct

from daemon.domain.messages import FundingRates
from daemon.domain.units import DAY_MS, money

REMEMBERED_MS: Final = DAY_MS


class Remembered(Struct, gc=False):
    """Hold what was held (nonzero, by index) just before trading at an instant, and the closes."""

    close_ms: int
    held: dict[int, Decimal]
    closes: list[float]


@dataclass(frozen=True, slots=True)
class Due:
    """Hold one cash flow to book."""

    index: int
    settle_ms: int
    rate: float
    amount: Decimal


@dataclass(slots=True)
class FundingBook:
    """Match rates with holdings.

    rates: by settlement, in universe order, NaN = none. settled: indices done by settlement.
    too_late_n: settlements with a rate that came after what was held then had been forgotten.
    """

    rates: dict[int, list[float]] = field(default_factory=dict)
    settled: dict[int, set[int]] = field(default_factory=dict)
    past: list[Remembered] = field(default_factory=list)
    first_ms: int = 0
    too_late_n: int = 0

    def remember(self, close_ms: int, held: dict[int, Decimal], closes: list[float]) -> None:
        """Note what is held when an instant begins; forgets what is older than a day."""
        past = self.past
        self.first_ms = self.first_ms or close_ms
        past.append(Remembered(close_ms, held.copy(), closes))
        oldest = close_ms - REMEMBERED_MS
        # One entry at or before the oldest settlement stays, for its closes.
        while len(past) > 2 and past[1].close_ms <= oldest:
            del past[0]
        if self.settled:
            for settle_ms in [s for s in self.settled if s < oldest]:
                del self.settled[settle_ms]

    def update_closes(self, closes: list[float]) -> None:
        """Let bars that came late for the newest instant count for its marks."""
        if self.past:
            self.past[-1].closes = closes

    def add(self, event: FundingRates) -> None:
        """Take rates in; a later word about a settlement not yet booked replaces the earlier."""
        settle_ms = event.settle_ms
        if self.past and settle_ms < self.past[-1].close_ms - REMEMBERED_MS:
            # Before the first instant nothing was held, so that nothing is lost.
            self.too_late_n += settle_ms >= self.first_ms
            return
        known = self.rates.get(settle_ms)
        fresh: list[float] = event.rates.tolist()
        if known is not None:
            fresh = [b if b == b else a for a, b in zip(known, fresh, strict=True)]
        self.rates[settle_ms] = fresh

    def due(self, instant_settled: set[int] | None) -> Iterator[Due]:
        """Yield what can be booked now, oldest settlement first; each is yielded once.

        instant_settled: the indices whose bar at the newest instant is known or known to be absent;
        None means all of them.
        """
        for settle_ms in sorted(self.rates):
            place = self._first_at_or_after(settle_ms)
            if place is None:
                return
            is_newest = place == len(self.past) - 1
            needs_bar = is_newest and self.past[place].close_ms == settle_ms
            ready = instant_settled if needs_bar else None
            yield from self._due_at(settle_ms, place, ready)
            if ready is None:
                del self.rates[settle_ms]

    def aligned(self, old: tuple[str, ...], new: tuple[str, ...]) -> FundingBook:
        """Give the same book for another universe; what is no longer in it is dropped."""
        if old == new:
            return self
        nan = float("nan")
        at = {symbol: i for i, symbol in enumerate(new)}
        moved = {i: at[symbol] for i, symbol in enumerate(old) if symbol in at}
        before = {place: i for i, place in moved.items()}

        def spread(values: list[float]) -> list[float]:
            return [values[before[i]] if i in before else nan for i in range(len(new))]

        return FundingBook(
            {s: spread(rates) for s, rates in self.rates.items()},
            {s: {moved[i] for i in done if i in moved} for s, done in self.settled.items()},
            [
                Remembered(
                    r.close_ms,
                    {moved[i]: q for i, q in r.held.items() if i in moved},
                    spread(r.closes),
                )
                for r in self.past
            ],
            self.first_ms,
            self.too_late_n,
        )

    def _first_at_or_after(self, settle_ms: int) -> int | None:
        """Find the first remembered instant whose trades came after the settlement."""
        found = None
        for place in range(len(self.past) - 1, -1, -1):
            if self.past[place].close_ms < settle_ms:
                break
            found = place
        return found

    def _due_at(self, settle_ms: int, place: int, ready: set[int] | None) -> Iterator[Due]:
        here = self.past[place]
        # Between two instants the newest close at the settlement is that of the earlier one.
        is_between = here.close_ms > settle_ms and place > 0
        closes = self.past[place - 1].closes if is_between else here.closes
        rates = self.rates[settle_ms]
        done = self.settled.setdefault(settle_ms, set())
        for index, quantity in here.held.items():
            rate, mark = rates[index], closes[index]
            can_book = rate == rate and mark == mark and index not in done
            if not can_book or (ready is not None and index not in ready):
                continue
            done.add(index)
            exact = -quantity * Decimal(repr(mark)) * Decimal(repr(rate))
            amount = money(exact)
            if amount:
                yield Due(index, settle_ms, rate, amount)
