"""A live venue at a rehearsal exchange with an account, through real ccxt, and words for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from adapters.ccxt_venue.calls import Caller
from adapters.ccxt_venue.client import keyed_client
from adapters.ccxt_venue.desk import Desk
from adapters.ccxt_venue.keys import Credentials, Hidden
from adapters.ccxt_venue.listings_binance import BinanceListings
from adapters.ccxt_venue.names import Names
from adapters.ccxt_venue.quirks import QUIRKS
from adapters.ccxt_venue.venue import CcxtVenue, VenueRules
from adapters.rehearsal.ccxt_options import ccxt_options
from daemon.domain.instrument import CashKey, Instrument, InstrumentKey, TradingRules
from daemon.domain.messages import OrderFilled, VenueEvent
from daemon.domain.order import Order, OrderId, OrderKind
from tests.adapters.rehearsal.binance.binance_rig import KEY, SECRET, Rig, rig

VENUE = "binanceusdm"
SYMBOLS = ("BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT")
USDT = CashKey(VENUE, "USDT")
RULES = VenueRules(receive_window_ms=400)


def key_of(symbol: str) -> InstrumentKey:
    return InstrumentKey(VENUE, f"{symbol}/USDT:USDT")


def instruments() -> tuple[Instrument, ...]:
    step = TradingRules(Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(5))
    return tuple(
        Instrument(InstrumentKey(VENUE, s), s.split("/")[0], "USDT", "USDT", step) for s in SYMBOLS
    )


def order(
    number: int,
    quantity: str,
    symbol: str = "BTC",
    *,
    price: str | None = None,
    reduce_only: bool = False,
    post_only: bool = False,
) -> Order:
    """Describe an order: a market order, or a limit order where a price is given."""
    index = [s.split("/")[0] for s in SYMBOLS].index(symbol)
    return Order(
        OrderId(f"eq65bbf840-{index}-{number}"),
        key_of(symbol),
        index,
        Decimal(quantity),
        OrderKind.MARKET if price is None else OrderKind.LIMIT,
        0,
        1.0,
        None if price is None else Decimal(price),
        reduce_only=reduce_only,
        post_only=post_only,
    )


@dataclass(frozen=True)
class LiveRig:
    """Hold a rehearsal exchange, and a live venue over a ccxt client of its own."""

    r: Rig
    venue: CcxtVenue
    caller: Caller

    @property
    def api(self) -> Any:
        return self.caller.api

    @property
    def bank(self) -> Any:
        return self.r.running.exchange.accounts.bank

    def orders_at_venue(self) -> list[str]:
        """List the client ids of all orders that the account ever had, in the order of entry."""
        return [one.client_id for one in self.bank.orders(KEY)]

    def held(self, symbol: str = "BTC") -> Decimal:
        view = self.bank.position(KEY, f"{symbol}USDT")
        quantity: Decimal = view.position.quantity
        return quantity

    def cash(self) -> Decimal:
        """Give the bank's cash in cash-flow form: without the cost of what is held."""
        cost = sum((v.position.cost for v in self.bank.positions(KEY)), Decimal(0))
        cash: Decimal = self.bank.balance(KEY, "USDT").cash
        return cash - cost


def credentials(key: str = KEY, secret: str = SECRET) -> Credentials:
    return Credentials(VENUE, Hidden(key), Hidden(secret))


@asynccontextmanager
async def live(rules: VenueRules = RULES, **changes: Any) -> AsyncIterator[LiveRig]:
    """Start an exchange and a live venue that has loaded its markets."""
    async with rig(**changes) as r:
        keys = credentials()
        options = ccxt_options(r.running.rest_url, r.running.ws_url)
        api = keyed_client(VENUE, options, keys, receive_window_ms=5_000)
        try:
            names = Names(VENUE, instruments())
            await api.load_markets()
            await api.load_time_difference()
            names.learn(api.markets)
            caller = Caller(VENUE, api, keys.redactor())
            listings = BinanceListings(caller)
            venue = CcxtVenue(
                QUIRKS[VENUE], caller, names, listings, rules, r.running.exchange.clock_ms
            )
            yield LiveRig(r, venue, caller)
        finally:
            await api.close()


def forget(desk: Desk) -> None:
    """Let a desk know as little of earlier orders as that of another process."""
    desk._sent_s.clear()
    desk._taken.clear()


def kinds(events: Sequence[VenueEvent]) -> list[str]:
    """Name the events."""
    return [type(one).__name__ for one in events]


def filled(events: Sequence[VenueEvent]) -> Decimal:
    """Sum up what was filled."""
    quantities = [one.fill.quantity for one in events if isinstance(one, OrderFilled)]
    return sum(quantities, Decimal(0))
