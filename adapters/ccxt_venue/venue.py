"""The live venue: the ports OrderEntry and AccountView over a real exchange, through ccxt.

    desk        sends, cancels and asks; never sends anything twice
    account     fills, cash flows and what is held, read by REST: the truth
    follow-up   every admitted order is asked about until its end was told

In lock-step (a rehearsal) market time stands still until we are quiet, so orders are followed up in
place: after each send, and at each bar before the engine sees it. Otherwise that is the business of
`hints`, beside the private stream. Whatever tells fills does so under one lock, so that no account
is told with fills missing that were told late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog

from adapters.ccxt_venue.account import Account
from adapters.ccxt_venue.calls import Caller
from adapters.ccxt_venue.desk import Desk, DeskRules
from adapters.ccxt_venue.listings import Listings
from adapters.ccxt_venue.names import Names
from adapters.ccxt_venue.news import News, NewsRules, Put, Questions
from adapters.ccxt_venue.quirks import Quirks
from adapters.ccxt_venue.timing import SigningClock
from daemon.domain.failures import VenueError
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import (
    BarsClosed,
    InstrumentChanged,
    MarketEvent,
    OrderAccepted,
    OrderUncertain,
    VenueEvent,
)
from daemon.domain.order import Order, OrderId
from daemon.domain.units import require

ACCOUNT_EVERY_MS: Final = 60_000  # of market time, in lock-step
CLOCK_PAUSE_S: Final = 1.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class VenueRules:
    """Bound the live venue.

    receive_window_ms: of signed requests. parallel_n: sends under way at once. in_place: follow up
    at once and at each bar, as lock-step needs.
    """

    receive_window_ms: int
    parallel_n: int = 4
    in_place: bool = False


class CcxtVenue:
    """Trade one account at one venue."""

    def __init__(
        self,
        quirks: Quirks,
        caller: Caller,
        names: Names,
        listings: Listings,
        rules: VenueRules,
        now_ms: Callable[[], int],
        *,
        clock: SigningClock | None = None,
        begun_ms: int | None = None,
        on_begun: Callable[[int], None] = lambda at_ms: None,
    ) -> None:
        self.venue = quirks.venue
        self.rules = rules
        self.brought: News | None = None
        self.on_listed: Callable[[InstrumentKey], Awaitable[None]] = self._unprepared
        self._caller = caller
        self.account_name = ""
        self._clock = clock or SigningClock(caller, error_ms_max=rules.receive_window_ms / 2)
        self._names = names
        self._now_ms = now_ms
        desk_rules = DeskRules(rules.receive_window_ms / 1000, rules.parallel_n)
        self.desk = Desk(caller, quirks, names, listings, desk_rules, now_ms)
        self.account = Account(
            quirks, names, listings, self.desk, now_ms, begun_ms=begun_ms, on_begun=on_begun
        )
        self._telling = asyncio.Lock()
        self._cursor = 0
        self._since_ms = 0

    async def _unprepared(self, key: InstrumentKey) -> None:
        raise VenueError(f"{key}: nobody prepares contracts that are listed later")

    # ---- OrderEntry ------------------------------------------------------------------------------

    async def submit(self, orders: Sequence[Order]) -> Sequence[VenueEvent]:
        """Send orders once, in this order; failures come back as events, never as a resend."""
        events = await self.desk.submit(orders)
        if not self.rules.in_place:
            return events
        async with self._telling:
            for order in orders:
                if order.order_id in self.desk.open:
                    events += await self.desk.query(order.order_id, order.key)
        return events

    async def cancel(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        """Stop one order; an order that already ended answers with how it ended."""
        async with self._telling:
            return await self.desk.cancel(order_id, key)

    async def query(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        """Ask what became of an order: its fills and state, or OrderAbsent."""
        async with self._telling:
            return await self.desk.query(order_id, key)

    async def news(self, put: Put, rules: NewsRules) -> None:
        """Bring what happens between the engine's questions, until cancelled.

        In lock-step nothing is brought: all of it is told in place.
        """
        if self.rules.in_place:
            return
        questions = Questions(self.desk.query, self._compared, lambda: dict(self.desk.open))
        self.brought = News(self._caller, self._names, questions, self._telling, rules)
        await self.brought.bring(put)

    async def _compared(self) -> list[VenueEvent]:
        """Give what happened since the last time, and what is held; nothing before the first."""
        if not self._cursor:
            return []
        now_ms = self._now_ms()
        events = await self.account.snapshot(self._cursor)
        self._cursor = now_ms
        return events

    async def keep_time(self, every_s: float) -> NoReturn:
        """Measure the venue's clock so often, and at once when it refused a request for its time.

        A measurement that fails leaves the last one in force.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await self.desk.clock_refused.wait()
            self.desk.clock_refused.clear()
            try:
                await self._clock.measure()
            except VenueError as e:
                _log.warning("venue_clock_unmeasured", venue=self.venue, why=str(e))
                await asyncio.sleep(CLOCK_PAUSE_S)

    # ---- AccountView -----------------------------------------------------------------------------

    async def snapshot(self, executions_cursor: int, venue: str) -> Sequence[VenueEvent]:
        """Give fills and cash flows after the cursor, then one Snapshotted of that venue.

        Raises VenueError where the venue gives no readable account.
        """
        require(venue == self.venue, f"the account is at {self.venue}, asked was {venue}")
        async with self._telling:
            now_ms = self._now_ms()
            events = await self.account.snapshot(executions_cursor)
            if executions_cursor >= 0:
                self._cursor = self._since_ms = now_ms
            return events

    async def observe(self, event: MarketEvent) -> Sequence[VenueEvent]:
        """See a market event before the engine does; in lock-step, look what it did to us."""
        if isinstance(event, InstrumentChanged):
            self._names.take(event.index, event.instrument)
            await self._listed(event.instrument.key)
        if not (self.rules.in_place and isinstance(event, BarsClosed)):
            return ()
        async with self._telling:
            return await self._looked()

    async def _listed(self, key: InstrumentKey) -> None:
        """Learn a contract that was listed later; until then its orders are refused unsent."""
        if key.venue != self.venue or key.symbol in self._caller.api.markets:
            return
        try:
            await self.on_listed(key)
        except VenueError as e:
            _log.warning("contract_not_prepared", contract=str(key), why=str(e))

    async def _looked(self) -> list[VenueEvent]:
        """Ask about every order that rests, and for what else happened since the last time."""
        events: list[VenueEvent] = []
        for order_id, key in list(self.desk.open.items()):
            told = await self.desk.query(order_id, key)
            # That it rests is known, and that nobody answered now says nothing new.
            events += [e for e in told if not isinstance(e, OrderAccepted | OrderUncertain)]
        now_ms = self._now_ms()
        if self._since_ms and now_ms - self._since_ms >= ACCOUNT_EVERY_MS:
            events += await self.account.since(self._since_ms, now_ms)
            self._since_ms = now_ms
        return events
