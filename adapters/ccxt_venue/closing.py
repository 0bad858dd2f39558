"""Flatten an account without a daemon: cancel what rests, close what is held, until it is flat.

Every order is reduce-only, so whatever goes wrong it cannot open anything. Its name begins with a
prefix of its own: to a daemon that goes on later it is an order of the owner. What is uncertain is
asked about, never sent again; a contract whose order stays uncertain is left alone, and named.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from adapters.ccxt_venue.calls import LeftAlone, now_s
from adapters.ccxt_venue.closing_plan import Open, Piece, gross_of, next_step
from adapters.ccxt_venue.codes import Reason
from adapters.ccxt_venue.desk import ARRIVAL_MARGIN_S, Desk, DeskRules
from adapters.ccxt_venue.opening import Connection
from adapters.ccxt_venue.quirks import quirks_of
from adapters.ccxt_venue.rows import Holding, OrderRecord
from daemon.domain.failures import BadPayload, VenueError
from daemon.domain.messages import (
    OrderAbsent,
    OrderEnded,
    OrderFilled,
    OrderRejected,
    VenueEvent,
)
from daemon.domain.order import Order, OrderId, OrderKind

FLAT_PREFIX: Final = "flat"  # not ours: a daemon takes these for orders of the owner
PARTS_N: Final = 10  # a step closes such a part of the gross a side, unless a bound is named
BOUND_MIN: Final = Decimal(200)  # of quote currency: smaller steps fall below smallest orders
QUESTIONS_MAX: Final = 10
QUESTION_PAUSE_S: Final = 0.5
REFUSALS_MAX: Final = 3
FLAT_READINGS_N: Final = 2
READING_PAUSE_S: Final = 0.5
TROUBLES_MAX: Final = 50
# Refusals that say something of the moment and nothing of the contract: it is tried again.
PASSING: Final = (
    f"{Reason.RATE} ",
    f"{Reason.CLOCK} ",
    "not sent: no answer",
    f"not sent: refused here, before any request: {LeftAlone.__name__}:",
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ClosingRules:
    """Bound a flattening. step: quote currency a side and step, None: a tenth of the gross."""

    within_s: float
    step: Decimal | None = None
    parallel_n: int = 4


@dataclass(slots=True)
class Closed:
    """Hold what was done and what is left; left: signed base units by symbol, None: unread."""

    account: str
    cancelled: list[str] = field(default_factory=list)
    orders: list[tuple[str, str, Decimal]] = field(default_factory=list)
    filled: dict[str, Decimal] = field(default_factory=dict)
    left: dict[str, Decimal] | None = None
    orders_left: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    flat: bool = False


class Closer:
    """Flatten one account."""

    def __init__(
        self, link: Connection, rules: ClosingRules, now_ms: Callable[[], int], say: Say
    ) -> None:
        self._link = link
        self._rules = rules
        self._now_ms = now_ms
        self._say = say
        self._stem = f"{FLAT_PREFIX}{secrets.token_hex(4)}"
        self._orders_n = 0
        self._alone: dict[str, str] = {}  # symbols that get no further order, and why
        self._refused: Counter[str] = Counter()
        self._last: dict[str, Decimal] = {}  # prices by symbol
        self._bound = rules.step
        window_s = link.receive_window_ms / 1000
        desk_rules = DeskRules(window_s, rules.parallel_n, prefix=FLAT_PREFIX)
        quirks = quirks_of(link.caller.venue)
        self._desk = Desk(link.caller, quirks, link.names, link.listings, desk_rules, now_ms)
        # Until then an order that a daemon had on its way when it was latched could still arrive.
        self._late_s = min(window_s + ARRIVAL_MARGIN_S, rules.within_s / 2)
        self.done = Closed("")

    async def flatten(self, account: str) -> Closed:
        """Cancel and close until the venue says twice that nothing is left, or time is up.

        Said too early it does not count: what was sent before the latch may arrive for a while.
        """
        self.done.account = account
        late_until_s = now_s() + self._late_s
        until_s, readings_n = now_s() + self._rules.within_s, 0
        while now_s() < until_s and not self.done.flat:
            try:
                await asyncio.sleep(min(self._link.caller.left_alone_s, self._rules.within_s))
                await self._keep_time()
                is_idle = await self._round()
            except (VenueError, BadPayload) as e:
                readings_n, is_idle = 0, False
                self._trouble(str(e))
                await asyncio.sleep(READING_PAUSE_S)
            else:
                readings_n = readings_n + 1 if is_idle else 0
            self.done.flat = readings_n >= FLAT_READINGS_N and now_s() >= late_until_s
            if is_idle and not self.done.flat:
                await asyncio.sleep(READING_PAUSE_S)
            if not is_idle and self._is_stuck():
                break
        return self.done

    async def _keep_time(self) -> None:
        """Measure the venue's clock anew once it refused a request for its time."""
        refused = self._link.caller.clock_refused
        if refused.is_set():
            await self._link.clock.measure()
            refused.clear()

    async def _round(self) -> bool:
        """Cancel what rests and close one step; True where nothing rests and nothing is held."""
        resting = await self._cancel_all()
        held = [one for one in await self._link.listings.holdings() if one.quantity]
        self.done.left = {one.symbol_id: one.quantity for one in held}
        if not held:
            return not resting and await self._has_no_margin()
        positions = [one for one in map(self._open, held, await self._priced(held)) if one]
        if positions:
            self._bound = self._bound or max(gross_of(positions) / PARTS_N, BOUND_MIN)
            await self._close(next_step(positions, self._bound))
        return False

    def _is_stuck(self) -> bool:
        """Tell whether every contract that is held was left alone."""
        left = self.done.left or {}
        return bool(left) and not self.done.orders_left and left.keys() <= self._alone.keys()

    async def _has_no_margin(self) -> bool:
        """Ask another list whether positions need margin: an empty list alone proves nothing."""
        ratio = await self._link.listings.margin_ratio()
        if ratio:
            self._trouble("no position is listed, but the account needs margin for one")
        return not ratio

    # ---- what rests --------------------------------------------------------------------------

    async def _cancel_all(self) -> list[OrderRecord]:
        """Ask for the end of everything that rests; gives what rests afterwards."""
        resting = await self._link.listings.open_orders()
        for one in resting:
            await self._link.modes.cancel_foreign(one.symbol_id, one.order_id)
        left = list(await self._link.listings.open_orders()) if resting else []
        still = {(one.symbol_id, one.order_id) for one in left}
        for one in resting:
            if (one.symbol_id, one.order_id) not in still:
                self.done.cancelled.append(f"{one.symbol_id} {one.client_id or one.order_id}")
                self._say(f"cancelled {self.done.cancelled[-1]}")
        self.done.orders_left = [f"{one.symbol_id} {one.order_id}" for one in left]
        return left

    # ---- what is held ------------------------------------------------------------------------

    async def _priced(self, held: Sequence[Holding]) -> list[Decimal]:
        """Give prices to size steps with: the venue's last ones, else those of the entries.

        The client knows them as floats only; they decide how large a step is, and no more.
        """
        if not self._last:
            await self._link.caller.run(self._ask_prices)
        last = (self._last.get(self._symbol(one)) for one in held)
        return [
            price or one.entry_price or Decimal(1) for one, price in zip(held, last, strict=True)
        ]

    async def _ask_prices(self) -> None:
        told: dict[str, Any] = await self._link.caller.api.fetch_tickers()
        for symbol, one in told.items():
            if one.get("last"):
                self._last[symbol] = Decimal(str(one["last"]))

    def _symbol(self, one: Holding) -> str:
        try:
            return self._link.names.key(one.symbol_id).symbol
        except BadPayload:
            return ""

    def _open(self, one: Holding, price: Decimal) -> Open | None:
        """Make a position that can be closed; None, and named, for one that cannot."""
        symbol = self._symbol(one)
        market = self._link.caller.api.markets.get(symbol)
        if not one.one_way:
            self._leave(one.symbol_id, "it is held in hedge mode: close it by hand")
        elif market is None:
            self._leave(one.symbol_id, "the venue does not list this contract as a perpetual")
        if one.symbol_id in self._alone or market is None:
            return None
        size = self._link.names.size(one.symbol_id) if self._counts_contracts() else Decimal(1)
        limits = market.get("limits") or {}
        amounts = limits.get("amount") or {}
        most = (limits.get("market") or {}).get("max") or amounts.get("max")
        return Open(
            self._link.names.key(one.symbol_id),
            one.quantity,
            price,
            Decimal(str((market.get("precision") or {}).get("amount") or 1)) * size,
            Decimal(str(amounts.get("min") or 0)) * size,
            None if not most else Decimal(str(most)) * size,
        )

    def _counts_contracts(self) -> bool:
        return quirks_of(self._link.caller.venue).contracts

    # ---- closing -----------------------------------------------------------------------------

    async def _close(self, pieces: Iterable[Piece]) -> None:
        orders = [self._order(piece) for piece in pieces]
        events = await self._desk.submit(orders)
        for order, event in zip(orders, events, strict=True):
            await self._follow(order, event)

    def _order(self, piece: Piece) -> Order:
        self._orders_n += 1
        order_id = OrderId(f"{self._stem}-{self._orders_n}-1")
        self.done.orders.append((order_id, piece.key.symbol, piece.quantity))
        self._say(f"{order_id}: {piece.key.symbol} {piece.quantity:+f} reduce-only at market")
        return Order(
            order_id=order_id,
            key=piece.key,
            index=self._link.names.index(piece.key),
            quantity=piece.quantity,
            kind=OrderKind.MARKET,
            as_of_ms=self._now_ms(),
            reference_price=float(piece.price),
            reduce_only=True,
        )

    async def _follow(self, order: Order, event: VenueEvent) -> None:
        """Ask until the end of an order is known; leave its contract alone where it stays open."""
        symbol_id = self._link.names.symbol_id(order.key)
        if isinstance(event, OrderRejected):
            self._note_refusal(symbol_id, order.order_id, event.reason)
            return
        events: list[VenueEvent] = []
        for look in range(QUESTIONS_MAX):
            if look:
                await asyncio.sleep(QUESTION_PAUSE_S)
            events = await self._desk.query(order.order_id, order.key)
            last = events[-1]
            if isinstance(last, OrderRejected):
                self._note_refusal(symbol_id, order.order_id, last.reason)
            if isinstance(last, OrderEnded | OrderAbsent | OrderRejected):
                break
        else:
            self._leave(symbol_id, f"nobody tells what became of {order.order_id}")
        fills = (e.fill.quantity for e in events if isinstance(e, OrderFilled))
        before = self.done.filled.get(symbol_id, Decimal(0))
        self.done.filled[symbol_id] = before + sum(fills, Decimal(0))

    def _note_refusal(self, symbol_id: str, order_id: str, why: str) -> None:
        self._trouble(f"{order_id} {symbol_id}: {why}")
        if why.startswith(PASSING):
            return
        self._refused[symbol_id] += 1
        if self._refused[symbol_id] >= REFUSALS_MAX:
            self._leave(symbol_id, f"refused {REFUSALS_MAX} times, at last: {why}")

    def _leave(self, symbol_id: str, why: str) -> None:
        if symbol_id not in self._alone:
            self._alone[symbol_id] = why
            self._trouble(f"{symbol_id} is left alone: {why}")

    def _trouble(self, text: str) -> None:
        said = self._link.caller.clean(text)
        if len(self.done.troubles) < TROUBLES_MAX:
            self.done.troubles.append(said)
        self._say(said)
