"""The live venue: the ports OrderEntry and AccountView over a real exchange, through ccxt.

    desk        sends, cancels and asks; never sends anything twice
    account     fills, cash flows and what is held, read by REST: the truth
    follow-up   every admitted order is asked about until its end was told

In lock-step (a rehearsal) market time stands still until we are quiet, so orders are followed up in
place: after each send, and at each bar before the engine sees it. Otherwise that is the business of
`news`, beside the private stream. Orders are asked about together, but never while the account is
read, so that no account is told with fills missing that were told late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, NoReturn
from weakref import WeakValueDictionary

import structlog

from adapters.ccxt_venue.account import Account
from adapters.ccxt_venue.calls import Caller, now_s
from adapters.ccxt_venue.dead_man import DeadManSwitch, fit_timer
from adapters.ccxt_venue.desk import Desk, DeskRules
from adapters.ccxt_venue.listings import Listings
from adapters.ccxt_venue.names import Names
from adapters.ccxt_venue.news import News, NewsRules, Put, Questions
from adapters.ccxt_venue.quirks import Quirks
from adapters.ccxt_venue.timing import SigningClock
from adapters.ccxt_venue.together import PARALLEL_N, Company
from daemon.domain.failures import BadPayload, VenueError
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import (
    AccountUnread,
    BarsClosed,
    InstrumentChanged,
    MarketEvent,
    OrderAccepted,
    OrderUncertain,
    Snapshotted,
    VenueEvent,
)
from daemon.domain.order import FOREIGN_PREFIX, Order, OrderId
from daemon.domain.units import require

GIVE_WAY_S_MAX: Final = 3.0
ACCOUNT_EVERY_MS: Final = 60_000  # of market time, in lock-step
CLOCK_PAUSE_S: Final = 1.0
CANCELS_AFTER_S: Final = (0.0, 0.5, 1.0)  # one after the other, while nobody confirms
DISAGREED_PAUSE_S: Final = 2.0  # a venue's list of fills may lag so far behind its positions

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class VenueRules:
    """Bound the live venue.

    receive_window_ms: of signed requests. parallel_n: sends under way at once. in_place: follow up
    at once and at each bar, as lock-step needs. forbids: asked before each single send, gives why
    that order may not leave, "" for nothing.
    """

    receive_window_ms: int
    parallel_n: int = 4
    in_place: bool = False
    forbids: Callable[[Order], str] = lambda order: ""


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
        self.cancel_foreign: Callable[[str, str], Awaitable[None]] = self._unstopped
        self._caller = caller
        self._quirks = quirks
        self.account_name = ""
        self._clock = clock or SigningClock(caller, error_ms_max=rules.receive_window_ms / 2)
        self._names = names
        self._now_ms = now_ms
        window_s = rules.receive_window_ms / 1000
        desk_rules = DeskRules(window_s, rules.parallel_n, forbids=rules.forbids)
        self.desk = Desk(caller, quirks, names, listings, desk_rules, now_ms)
        self.account = Account(
            quirks, names, listings, self.desk, now_ms, begun_ms=begun_ms, on_begun=on_begun
        )
        self._telling = Company()
        self._few = asyncio.Semaphore(PARALLEL_N)  # questions of the engine under way at once
        self._by_order: WeakValueDictionary[OrderId, asyncio.Lock] = WeakValueDictionary()
        self._asked_n = 0  # questions of the engine that wait or are being answered
        self._asked = asyncio.Event()
        self._gave_way_s: float | None = None  # since when readings have given way
        self._cursor = 0
        self._told_ms = 0  # the cursor that the newest account we told goes with
        self._since_ms = 0

    async def _unprepared(self, key: InstrumentKey) -> None:
        raise VenueError(f"{key}: nobody prepares contracts that are listed later")

    async def _unstopped(self, symbol_id: str, venue_id: str) -> None:
        raise VenueError(f"{symbol_id}: nobody cancels order {venue_id}, which is not ours")

    # ---- OrderEntry ------------------------------------------------------------------------------

    async def submit(self, orders: Sequence[Order]) -> Sequence[VenueEvent]:
        """Send orders once, in this order; failures come back as events, never as a resend."""
        events = await self.desk.submit(orders)
        in_doubt = any(isinstance(event, OrderUncertain) for event in events)
        if self.brought is not None and (in_doubt or self.desk.clock_refused.is_set()):
            self.brought.ask_account()  # who cannot be asked now is noticed at once
        if not self.rules.in_place:
            return events
        async with self._telling.alone():
            for order in orders:
                if order.order_id in self.desk.open:
                    events += await self.desk.query(order.order_id, order.key)
        return events

    async def cancel(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        """Stop one order; an order that already ended answers with how it ended.

        The request leaves at once: only what became of the order waits for what is being asked. It
        is made again where nobody confirmed it and the order is told to rest, a few times: nobody
        else would for long. One that is not ours is stopped by the venue's id, and answered with
        the account.
        """
        if not order_id.startswith(FOREIGN_PREFIX):
            told: Sequence[VenueEvent] = ()
            for pause_s in CANCELS_AFTER_S:
                await asyncio.sleep(pause_s)
                confirmed = await self.desk.stop(order_id, key)
                async with self._order(order_id), self._first():
                    told = await self.desk.query(order_id, key, ended=confirmed)
                if confirmed or not isinstance(told[-1], OrderAccepted):
                    break
            return told
        await self.cancel_foreign(self._names.symbol_id(key), order_id.rpartition(":")[2])
        async with self._telling.alone():  # this reading gives way to what is asked meanwhile
            with suppress(VenueError):  # the next reading tells it
                return await self._compared()
        return ()

    async def query(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        """Ask what became of an order: its fills and state, or OrderAbsent."""
        async with self._order(order_id), self._first():
            return await self.desk.query(order_id, key)

    def _order(self, order_id: OrderId) -> asyncio.Lock:
        """Give the lock of one order: different orders are asked about together, one is not."""
        return self._by_order.setdefault(order_id, asyncio.Lock())

    @asynccontextmanager
    async def _held(self, order_id: OrderId) -> AsyncIterator[None]:
        async with self._order(order_id), self._telling.together():
            yield

    @asynccontextmanager
    async def _first(self) -> AsyncIterator[None]:
        """Be inside for the engine, a few at once: a routine reading of the account gives way."""
        self._asked_n += 1
        self._asked.set()
        try:
            async with self._few, self._telling.together():
                yield
        finally:
            self._asked_n -= 1
            if not self._asked_n:
                self._asked.clear()

    async def news(self, put: Put, rules: NewsRules) -> None:
        """Bring what happens between the engine's questions, until cancelled.

        In lock-step nothing is brought: all of it is told in place.
        """
        if self.rules.in_place:
            return
        questions = Questions(
            self.desk.query,
            self._compared,
            lambda: dict(self.desk.open),
            self._now_ms,
            self._held,
        )
        self.brought = News(self._caller, self._names, questions, self._telling, rules)
        await self.brought.bring(put)

    async def _compared(self) -> list[VenueEvent]:
        """Give what happened since the last time, and what is held; nothing before the first.

        A reading of many contracts takes long, and a cancel must not wait for it: it is given up
        then, for a few seconds at most, and tells nothing: an account that was not read for
        reasons of our own is none that cannot be read. Raises VenueError as the account does.
        """
        if not self._cursor:
            return []
        now_ms = self._now_ms()
        told = await self._unless_asked(self.account.snapshot(self._cursor))
        if told is None:
            return []
        self._cursor, self._gave_way_s = now_ms, None
        return self._noted(told)

    async def _unless_asked(
        self, reading: Coroutine[None, None, list[VenueEvent]]
    ) -> list[VenueEvent] | None:
        """Give what a reading told, None where a question of the engine's came first."""
        if self._gave_way_s is not None and now_s() - self._gave_way_s >= GIVE_WAY_S_MAX:
            return await reading
        begun_s = now_s()
        asked = asyncio.create_task(self._asked.wait(), name="a question of the engine's")
        task = asyncio.create_task(reading, name="a reading of the account")
        try:
            await asyncio.wait({asked, task}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return await task
            self._gave_way_s = begun_s if self._gave_way_s is None else self._gave_way_s
            _log.debug("account_reading_gave_way", venue=self.venue)
            return None
        finally:
            for one in (asked, task):
                one.cancel()
            await asyncio.gather(asked, task, return_exceptions=True)

    def dead_man(self, timer_s: float) -> DeadManSwitch | None:
        """Give the timers at the venue; None where they are off, do not exist, or time is ours.

        Raises ConfigurationError for a timer that the venue does not take.
        """
        if not timer_s or self.rules.in_place:
            return None
        words = self._quirks.dead_man
        missing = fit_timer(self.venue, words, timer_s)
        if missing or words is None:
            _log.warning("dead_man_off", venue=self.venue, why=missing)
            return None
        if words.needs:
            _log.info("dead_man_needs", venue=self.venue, what=words.needs)
        rests, may_rest = self.desk.open, self.desk.doubtful

        def resting() -> set[InstrumentKey]:
            return {*rests.values(), *may_rest.values()}

        return DeadManSwitch(self._caller, words, self._names, resting, timer_s, self._now_ms)

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

        An older cursor than that of the account we told last means that it was not believed: a
        fill may not be listed yet, so the account is then read only after a pause. Where the
        account does not stand still, there is no Snapshotted. Raises VenueError where the venue
        gives no readable account.
        """
        require(venue == self.venue, f"the account is at {self.venue}, asked was {venue}")
        if 0 < executions_cursor < self._told_ms and not self.rules.in_place:
            if self.brought is not None:  # its readings would count as further ones at once
                self.brought.leave_account(DISAGREED_PAUSE_S)
            await asyncio.sleep(DISAGREED_PAUSE_S)
        async with self._telling.alone():
            now_ms = self._now_ms()
            events = self._noted(await self.account.snapshot(executions_cursor))
            if executions_cursor >= 0:
                self._cursor = self._since_ms = now_ms
            return events

    def _noted(self, events: list[VenueEvent]) -> list[VenueEvent]:
        for event in events:
            if isinstance(event, Snapshotted):
                self._told_ms = event.snapshot.executions_cursor
        return events

    async def observe(self, event: MarketEvent) -> Sequence[VenueEvent]:
        """See a market event before the engine does; in lock-step, look what it did to us."""
        if isinstance(event, InstrumentChanged):
            self._names.take(event.index, event.instrument)
            await self._listed(event.instrument.key)
        if not (self.rules.in_place and isinstance(event, BarsClosed)):
            return ()
        async with self._telling.alone():
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
            try:
                events += await self.account.since(self._since_ms, now_ms)
            except (VenueError, BadPayload) as e:  # what the orders told is kept
                return [*events, AccountUnread(self.venue, now_ms, str(e))]
            self._since_ms = now_ms
        return events
