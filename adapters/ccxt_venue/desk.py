"""Orders at a venue: sent once, cancelled, asked about. Nothing is ever sent a second time.

A send is judged by what the wire saw (`outcomes`). What it leaves open is asked about by our own
id; an order counts as absent only when the venue says so after no late request of ours can arrive
any more: its receive window has passed since it was signed. Of an order that the previous process
sent, the time is not known: then the window counts from our own start.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Final, TypeVar

import structlog

from adapters.ccxt_venue.calls import Called, Caller, now_s
from adapters.ccxt_venue.client_ids import PREFIX, client_id
from adapters.ccxt_venue.listings import Listings
from adapters.ccxt_venue.names import Names
from adapters.ccxt_venue.outcomes import (
    Absent,
    Answered,
    Ask,
    NotSent,
    Outcome,
    Rejected,
    Uncertain,
    absent_after,
    judge,
)
from adapters.ccxt_venue.pacing import Kind, meant_as
from adapters.ccxt_venue.quirks import Lookup, Quirks, sizes_for
from adapters.ccxt_venue.rows import Acknowledgement, Execution, OrderRecord
from adapters.ccxt_venue.wire import unless
from daemon.domain.failures import VenueError
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import (
    OrderAbsent,
    OrderAccepted,
    OrderEnded,
    OrderFilled,
    OrderRejected,
    OrderUncertain,
    VenueEvent,
)
from daemon.domain.order import DoneReason, Fill, Order, OrderId, OrderKind

REMEMBERED: Final = 8_192
LOOKS_MAX: Final = 4  # at an order whose fills or end the venue has not listed yet
LOOK_PAUSE_S: Final = 0.1
ARRIVAL_MARGIN_S: Final = 1.0  # venues take what is signed so far ahead of their clock, and no more
SEND_S_MAX: Final = 180.0  # after the engine handed it over, an order leaves by then or never
TURNS_AHEAD: Final = 4  # of the loop, so that one is on the wire before the next is signed

Key = TypeVar("Key")
Value = TypeVar("Value")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DeskRules:
    """Bound the desk.

    receive_window_s: of signed requests. parallel_n: sends under way at once. prefix: begins the
    names of its orders. forbids: asked before each single send, gives why it must not leave, "" for
    nothing.
    """

    receive_window_s: float
    parallel_n: int = 4
    prefix: str = PREFIX
    forbids: Callable[[Order], str] = lambda order: ""


class Desk:
    """Send, cancel and ask; remember which of the venue's orders are ours."""

    def __init__(
        self,
        caller: Caller,
        quirks: Quirks,
        names: Names,
        listings: Listings,
        rules: DeskRules,
        now_ms: Callable[[], int],
    ) -> None:
        self._caller = caller
        self._quirks = quirks
        self._names = names
        self._listings = listings
        self._rules = rules
        self._now_ms = now_ms
        self._sizes = sizes_for(quirks, names.size)
        self._born_s = now_s()
        self._sent_s: OrderedDict[OrderId, float] = OrderedDict()
        self._taken: OrderedDict[OrderId, None] = OrderedDict()  # the venue admitted these
        self._ended: OrderedDict[OrderId, None] = OrderedDict()
        # by contract and the venue's order id: some venues count within each contract
        self.ours: OrderedDict[tuple[str, str], OrderId] = OrderedDict()
        self.open: dict[OrderId, InstrumentKey] = {}
        self.doubtful: dict[OrderId, InstrumentKey] = {}  # these may rest, for all we know
        self.clock_refused = caller.clock_refused

    # ---- sending -----------------------------------------------------------------------------

    async def submit(self, orders: Sequence[Order]) -> list[VenueEvent]:
        """Send orders once each, beginning in this order, a few at a time; answer in this order.

        What was held up for long (a frozen process, a machine that slept, a client's throttle) is
        not sent any more: the market that it was meant for is gone.
        """
        begun = self._machine_s()
        room = asyncio.Semaphore(self._rules.parallel_n)
        sending: list[asyncio.Task[list[VenueEvent]]] = []
        async with asyncio.TaskGroup() as group:
            for order in orders:
                sending.append(group.create_task(self._in_turn(room, order, begun)))
                for _ in range(TURNS_AHEAD if len(sending) < self._rules.parallel_n else 0):
                    await asyncio.sleep(0)
        return [event for one in sending for event in one.result()]

    async def _in_turn(
        self, room: asyncio.Semaphore, order: Order, begun: tuple[float, float]
    ) -> list[VenueEvent]:
        async with room:
            return [await self._send(order, begun)]

    def _machine_s(self) -> tuple[float, float]:
        """Read this machine's two clocks: one stands still while it sleeps, one may be set."""
        return now_s(), self._caller.api.milliseconds() / 1000

    def _held_back(self, order: Order, begun: tuple[float, float]) -> str:
        """Say why an order must not leave now, "" where it may."""
        late_s = max(now - then for now, then in zip(self._machine_s(), begun, strict=True))
        return f"held up for {late_s:.0f} s" if late_s > SEND_S_MAX else self._rules.forbids(order)

    async def _send(self, order: Order, begun: tuple[float, float]) -> VenueEvent:
        name = self._named(order.order_id)
        if order.order_id in self._sent_s or order.order_id in self._taken:
            # Some venues fill the id of a finished order a second time.
            why = "this id was sent before: it is asked about, and never sent again"
            return OrderUncertain(order.order_id, self._now_ms(), why)
        if why := self._held_back(order, begun):  # here already: the line may be long
            return OrderRejected(order.order_id, self._now_ms(), self._said(f"not sent: {why}"))
        _remember(self._sent_s, order.order_id, now_s())
        if order.kind is OrderKind.LIMIT:
            self.doubtful[order.order_id] = order.key
        try:
            with unless(partial(self._held_back, order, begun)), meant_as(Kind.ORDER):
                done = await self._called_to_send(order, name)
        finally:
            # The signature is no younger than this; a cancelled send counts from here too.
            self._sent_s[order.order_id] = now_s()
        outcome = judge(
            self._quirks.venue,
            Ask.SEND,
            done.heard,
            done.trouble,
            lambda payload: self._quirks.readers.acknowledgement(payload, name),
        )
        return self._after_send(order, outcome)

    async def _called_to_send(self, order: Order, name: str) -> Called:
        size = self._sizes(self._names.symbol_id(order.key))
        params = self._quirks.create_params(order, name, post_only=order.post_only)
        return await self._caller.once(
            "create_order",
            order.key.symbol,
            order.kind.value,
            "buy" if order.quantity > 0 else "sell",
            _plain(abs(order.quantity) / size),
            None if order.limit_price is None else _plain(order.limit_price),
            params,
        )

    def _after_send(self, order: Order, outcome: Outcome[Acknowledgement]) -> VenueEvent:
        order_id, at_ms = order.order_id, self._now_ms()
        if isinstance(outcome, Answered | Rejected | NotSent):
            self.doubtful.pop(order_id, None)
        match outcome:
            case Answered(value=taken):
                self._take(order_id, order.key, taken.order_id)
                if order_id not in self._ended:  # a frame may have told its end before
                    self.open[order_id] = order.key
                return OrderAccepted(order_id, at_ms)
            case Rejected(code=code, reason=reason, text=text):
                return OrderRejected(order_id, at_ms, self._said(f"{reason} ({code}): {text}"))
            case NotSent(why=why):
                return OrderRejected(order_id, at_ms, self._said(f"not sent: {why}"))
            case Uncertain(why=why):
                return OrderUncertain(order_id, at_ms, self._said(why))
            case Absent(text=text):
                return OrderUncertain(order_id, at_ms, self._said(text))

    # ---- cancelling --------------------------------------------------------------------------

    async def cancel(self, order_id: OrderId, key: InstrumentKey) -> list[VenueEvent]:
        """Ask for an order's end, once, and then what became of the order."""
        return await self.query(order_id, key, ended=await self.stop(order_id, key))

    async def stop(self, order_id: OrderId, key: InstrumentKey) -> bool:
        """Ask for an order's end, once; True where the venue says that it came."""
        name = self._named(order_id)
        with meant_as(Kind.ORDER):
            done = await self._caller.once(
                "cancel_order", None, key.symbol, self._quirks.cancel_params(name)
            )
        outcome = judge(
            self._quirks.venue,
            Ask.CANCEL,
            done.heard,
            done.trouble,
            lambda payload: self._quirks.readers.acknowledgement(payload, name),
        )
        confirmed = isinstance(outcome, Answered)
        if not confirmed:
            _log.info("cancel_unconfirmed", order=order_id, why=self._said(str(outcome)))
        return confirmed

    # ---- asking ------------------------------------------------------------------------------

    async def query(
        self, order_id: OrderId, key: InstrumentKey, *, ended: bool = False
    ) -> list[VenueEvent]:
        """Ask what became of an order: its fills exactly, then whether it rests or how it ended.

        ended: the venue said that it is over; an answer that it rests is then asked again.
        """
        events: list[VenueEvent] = []
        for look in range(LOOKS_MAX):
            if look:
                await asyncio.sleep(LOOK_PAUSE_S * 2**look)
            outcome = await self._asked(order_id, key)
            if not isinstance(outcome, Answered) or outcome.value is None:
                return await self._without_record(order_id, key, outcome)
            record = outcome.value
            self._take(order_id, key, record.order_id)
            events, complete = await self._fills_of(order_id, key, record)
            if complete and not (ended and record.done is None):
                return [*events, self._state_of(order_id, key, record)]
        why = "the venue has not listed all its fills, or its end, yet"
        return [*events, OrderUncertain(order_id, self._now_ms(), why)]

    async def _without_record(
        self, order_id: OrderId, key: InstrumentKey, outcome: Outcome[OrderRecord | None]
    ) -> list[VenueEvent]:
        if isinstance(outcome, Absent):
            if order_id in self._taken:
                why = "the venue admitted the order, and now says that it does not know it"
                return [OrderUncertain(order_id, self._now_ms(), why)]
            wait_s = self._arrival_s(order_id)
            if wait_s <= 0:
                self.open.pop(order_id, None)
                self.doubtful.pop(order_id, None)
                return [OrderAbsent(order_id, self._now_ms())]
            await asyncio.sleep(wait_s)
            return await self.query(order_id, key)
        if order_id not in self._ended:
            self.doubtful[order_id] = key
        why = "the venue's answer names no order" if isinstance(outcome, Answered) else ""
        return [OrderUncertain(order_id, self._now_ms(), why or self._said(str(outcome)))]

    def _arrival_s(self, order_id: OrderId) -> float:
        """Give for how long a request about this order that is still under way could arrive."""
        since_s = self._sent_s.get(order_id, self._born_s)
        return since_s + self._rules.receive_window_s + ARRIVAL_MARGIN_S - now_s()

    async def _asked(self, order_id: OrderId, key: InstrumentKey) -> Outcome[OrderRecord | None]:
        name = self._named(order_id)
        found: list[Outcome[OrderRecord | None]] = []
        for lookup in self._quirks.lookups:
            one = await self._looked(lookup, name, key)
            found.append(one)
            if not (isinstance(one, Answered) and one.value is None):
                break
        return absent_after(found)

    async def _looked(
        self, lookup: Lookup, name: str, key: InstrumentKey
    ) -> Outcome[OrderRecord | None]:
        params = lookup.params(name)
        if lookup.takes_id:
            done = await self._caller.once(lookup.method, None, key.symbol, params)
        else:
            done = await self._caller.once(lookup.method, key.symbol, None, None, params)
        return judge(
            self._quirks.venue,
            Ask.QUERY,
            done.heard,
            done.trouble,
            lambda payload: self._quirks.readers.asked_order(payload, name, self._sizes),
        )

    async def _fills_of(
        self, order_id: OrderId, key: InstrumentKey, record: OrderRecord
    ) -> tuple[list[VenueEvent], bool]:
        """List an order's fills; False when they do not sum up to what the order says."""
        if not record.filled:
            return [], True
        try:
            told = await self._listings.of_order(record.symbol_id, record.order_id, record.at_ms)
        except VenueError as e:
            _log.info("fills_unread", order=order_id, why=self._said(str(e)))
            return [], False
        total = sum((one.quantity for one in told), Decimal(0))
        fills: list[VenueEvent] = [
            OrderFilled(fill_of(one, order_id, self._names))
            for one in sorted(told, key=lambda one: one.at_ms)
        ]
        return fills, total == record.filled

    def _state_of(self, order_id: OrderId, key: InstrumentKey, record: OrderRecord) -> VenueEvent:
        at_ms, why = self._now_ms(), record.done
        self.doubtful.pop(order_id, None)
        if why is None:
            self.open[order_id] = key
            return OrderAccepted(order_id, at_ms)
        self.open.pop(order_id, None)
        _remember(self._ended, order_id, None)
        if why is DoneReason.REJECTED and not record.filled:
            return OrderRejected(order_id, at_ms, "the venue took the order and refused it later")
        return OrderEnded(order_id, at_ms, str(why))

    def note_ours(self, symbol_id: str, venue_id: str, order_id: OrderId) -> None:
        """Remember which order of ours the venue means by its own id in a contract."""
        _remember(self.ours, (symbol_id, venue_id), order_id)

    def _take(self, order_id: OrderId, key: InstrumentKey, venue_id: str) -> None:
        _remember(self._taken, order_id, None)
        self.note_ours(self._names.symbol_id(key), venue_id, order_id)

    def _named(self, order_id: OrderId) -> str:
        return client_id(self._quirks.venue, order_id, prefix=self._rules.prefix)

    def _said(self, text: str) -> str:
        return self._caller.clean(text)


def fill_of(told: Execution, order_id: OrderId, names: Names) -> Fill:
    """Make a fill of ours; a fee in another currency is told beside, and exactly.

    Raises BadPayload for a contract that nobody named.
    """
    key = names.key(told.symbol_id)
    own = told.fee_currency == names.cash_key(key).currency
    other = bool(told.fee) and not own
    return Fill(
        trade_id=f"{names.venue}:{told.trade_id}",
        order_id=order_id,
        key=key,
        index=names.index(key),
        quantity=told.quantity,
        price=told.price,
        fee=told.fee if own else Decimal(0),
        at_ms=told.at_ms,
        other_fee=told.fee if other else Decimal(0),
        other_currency=told.fee_currency if other else "",
    )


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _remember(memory: OrderedDict[Key, Value], name: Key, value: Value) -> None:
    memory[name] = value
    memory.move_to_end(name)
    while len(memory) > REMEMBERED:
        memory.popitem(last=False)
