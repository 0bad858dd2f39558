"""A live venue as a session opens it, at a rehearsal exchange of either dialect, and its book."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from adapters.ccxt_venue.keys import Credentials, Hidden
from adapters.ccxt_venue.news import NewsRules
from adapters.ccxt_venue.opening import Opening, opened
from adapters.ccxt_venue.preparing import Wishes, account_name
from adapters.ccxt_venue.venue import CcxtVenue, VenueRules
from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.binance.payloads import account_alias
from adapters.rehearsal.bybit.ccxt_options import bybit_options
from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.faults import Fault
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import DialectKind, RehearsalSettings
from daemon.domain.instrument import CashKey, Instrument, InstrumentKey, TradingRules
from daemon.domain.messages import FundingPaid, OrderFilled, Snapshotted, Transferred, VenueEvent
from daemon.domain.order import Order, OrderId, OrderKind
from daemon.domain.portfolio import AccountSnapshot, Ledger
from daemon.domain.units import MINUTE_MS
from daemon.engine.reconcile import differences, rounding_in

KEY, SECRET = "key-of-both-dialects", "secret-of-both-dialects"
VENUES: Final = ("binanceusdm", "bybit")
ACCOUNTS: Final = {
    "binanceusdm": account_name("binanceusdm", account_alias(KEY)),
    "bybit": account_name("bybit", "24600000"),
}
NAMES: Final = ("BTC", "ETH", "SOL")
RULES: Final = VenueRules(receive_window_ms=400)
NEWS: Final = NewsRules(follow_up_s=0.3, reconcile_s=1.0, stream_silence_s=60, listen_key_s=600)
LOOK_S: Final = 0.01


@dataclass
class Both:
    """Hold an exchange, a live venue that was opened there, and a book of what it told."""

    running: RunningExchange
    venue: CcxtVenue
    ledger: Ledger = field(default_factory=Ledger)
    events: list[VenueEvent] = field(default_factory=list)
    told_s: list[float] = field(default_factory=list)  # when each event came, by the loop
    _booked: set[str] = field(default_factory=set)

    @property
    def bank(self) -> Bank:
        return self.running.exchange.accounts.bank

    @property
    def cash_key(self) -> CashKey:
        return CashKey(self.venue.venue, "USDT")

    def key(self, name: str) -> InstrumentKey:
        return InstrumentKey(self.venue.venue, f"{name}/USDT:USDT")

    def order(
        self, number: int, quantity: str, name: str = "BTC", *, price: str | None = None
    ) -> Order:
        index = NAMES.index(name)
        return Order(
            OrderId(f"eq65bbf840-{index}-{number}"),
            self.key(name),
            index,
            Decimal(quantity),
            OrderKind.MARKET if price is None else OrderKind.LIMIT,
            0,
            1.0,
            None if price is None else Decimal(price),
        )

    def price(self, share: str, name: str = "BTC") -> str:
        last = self.bank.last_price(f"{name}USDT")
        assert last is not None
        return str((last * Decimal(share)).quantize(Decimal("0.1")))

    def book(self, events: Iterable[VenueEvent]) -> None:
        """Book what was told, each fill and cash flow once, as the engine does."""
        for event in events:
            self.events.append(event)
            self.told_s.append(asyncio.get_running_loop().time())
            match event:
                case OrderFilled(fill=fill) if fill.trade_id not in self._booked:
                    self._booked.add(fill.trade_id)
                    self.ledger.apply_fill(fill, self.cash_key)
                case FundingPaid() if event.cashflow_id not in self._booked:
                    self._booked.add(event.cashflow_id)
                    self.ledger.apply_funding(event.cash_key, event.amount)
                case Transferred() if event.cashflow_id not in self._booked:
                    self._booked.add(event.cashflow_id)
                    self.ledger.apply_transfer(event.cash_key, event.amount)

    async def submit(self, *orders: Order) -> Sequence[VenueEvent]:
        told = await self.venue.submit(orders)
        self.book(told)
        return told

    async def begin(self) -> None:
        """Begin the book at what is held now."""
        told = await self.venue.snapshot(0, self.venue.venue)
        (first,) = [e.snapshot for e in told if isinstance(e, Snapshotted)]
        self.ledger = Ledger()
        for key, amount in first.cash.items():
            self.ledger.apply_transfer(key, amount)
        await self.advance(30)

    async def advance(self, minutes: int) -> None:
        exchange = self.running.exchange
        until_ms = exchange.now_ms + minutes * MINUTE_MS
        while exchange.now_ms < until_ms:
            at_ms = exchange.next_instant_ms()
            assert at_ms is not None
            await exchange.move_to(min(at_ms, until_ms))

    async def fault(self, kind: Fault, count: int = 1, **more: Any) -> None:
        self.running.exchange.faults.set(kind.value, count, **more)
        await self.running.private.settle()

    def struck_n(self, kind: Fault) -> int:
        return self.running.exchange.faults.struck_n[kind]

    def positions(self) -> dict[str, Decimal]:
        """Give what the venue holds for us, by its own names."""
        views = self.bank.positions(KEY)
        return {v.symbol: v.position.quantity for v in views if v.position.quantity}

    def booked(self) -> dict[str, Decimal]:
        """Give what the book holds, by the venue's names."""
        held = {k.symbol.split("/")[0] + "USDT": p for k, p in self.ledger.positions.items()}
        return {name: one.quantity for name, one in held.items() if one.quantity}

    def orders_at_venue(self) -> list[str]:
        """List the client ids of all orders that came in through the API."""
        return [str(o.client_id) for o in self.bank.orders(KEY) if str(o.client_id)[:2] == "eq"]

    async def told_account(self, cursor: int) -> AccountSnapshot:
        """Read the account with what happened since a cursor, and book that."""
        told = await self.venue.snapshot(cursor, self.venue.venue)
        self.book(told)
        (last,) = [e.snapshot for e in told if isinstance(e, Snapshotted)]
        return last

    async def unexplained(self) -> list[str]:
        """Read the account; give what differs from our book by more than the venue's rounding."""
        end = await self.told_account(self.running.exchange.now_ms)
        found = differences(self.ledger, end)
        rounded = rounding_in(found, end)
        return [str(one) for one in found if one not in rounded]


async def until(seen: Callable[[], object], seconds: float = 8.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not seen():  # noqa: ASYNC110 - many things are waited for, few of them tell
            await asyncio.sleep(LOOK_S)


def opening_at(running: RunningExchange, **changes: Any) -> Opening:
    """Describe how a session opens the live venue there."""
    venue = running.exchange.settings.dialect.value
    options = bybit_options if venue == "bybit" else ccxt_options
    rules = TradingRules(Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(5))
    chosen: dict[str, Any] = {
        "venue": venue,
        "options": {**options(running.rest_url, running.ws_url), "timeout": 400},
        "credentials": Credentials(venue, Hidden(KEY), Hidden(SECRET)),
        "instruments": tuple(
            Instrument(InstrumentKey(venue, f"{n}/USDT:USDT"), n, "USDT", "USDT", rules)
            for n in NAMES
        ),
        "wishes": Wishes(ACCOUNTS[venue], 3, "refuse", frozenset()),
        "rules": RULES,
        "now_ms": running.exchange.clock_ms,
        "begun_ms": None,
        "on_begun": lambda at_ms: None,
    }
    return Opening(**{**chosen, **changes})


@asynccontextmanager
async def exchange_of(venue: str, **changes: Any) -> AsyncIterator[RunningExchange]:
    """Serve three coins to one account in the words of a venue; time stands still."""
    accounts = (KeySettings(KEY, SECRET),)
    usual = {"coins": 3, "history_days": 3, "accounts": accounts, "dialect": DialectKind(venue)}
    async with await serve(RehearsalSettings(**{**usual, **changes})) as running:
        yield running


@asynccontextmanager
async def both(venue: str, **changes: Any) -> AsyncIterator[Both]:
    """Open the live venue at a rehearsal of a dialect, through every check of a start."""
    async with exchange_of(venue, **changes) as running, opened(opening_at(running)) as live:
        x = Both(running, live)
        await x.begin()
        yield x


@asynccontextmanager
async def bringing(x: Both, rules: NewsRules = NEWS) -> AsyncIterator[None]:
    """Bring the news of the account into the book, the private stream included."""

    async def put(event: VenueEvent) -> None:
        x.book([event])

    task = asyncio.create_task(x.venue.news(put, rules))
    try:
        await until(lambda: x.venue.brought is not None and x.venue.brought.stream.opened_n)
        await until(lambda: x.venue.brought is not None and x.venue.brought.reconciled_n)
        yield
    finally:
        assert not task.done() or task.exception() is None, task.exception()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
