"""Open the live venue: client, clock, names, checks; everything that must hold before an order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from adapters.ccxt_venue.calls import Caller
from adapters.ccxt_venue.client import keyed_client
from adapters.ccxt_venue.keys import Credentials
from adapters.ccxt_venue.listings import Listings
from adapters.ccxt_venue.listings_binance import BinanceListings
from adapters.ccxt_venue.listings_bybit import BybitListings
from adapters.ccxt_venue.listings_okx import OkxListings
from adapters.ccxt_venue.modes_binance import BinanceModes
from adapters.ccxt_venue.modes_bybit import BybitModes
from adapters.ccxt_venue.modes_okx import OkxModes
from adapters.ccxt_venue.names import Names
from adapters.ccxt_venue.preparing import (
    AccountModes,
    Wishes,
    checked_account,
    settle_open_orders,
)
from adapters.ccxt_venue.quirks import quirks_of
from adapters.ccxt_venue.timing import ERROR_MS_MAX, SigningClock
from adapters.ccxt_venue.venue import CcxtVenue, VenueRules
from daemon.domain.failures import BadPayload
from daemon.domain.instrument import Instrument, InstrumentKey

# These take no window from us: their own decides how late a request may come.
_WINDOW_FIXED = frozenset({"okx"})
Dialect = Callable[[Caller, Names], tuple[Listings, AccountModes]]
_DIALECTS: Mapping[str, Dialect] = {
    "binanceusdm": lambda caller, names: (BinanceListings(caller), BinanceModes(caller)),
    "bybit": lambda caller, names: (BybitListings(caller), BybitModes(caller)),
    "okx": lambda caller, names: (OkxListings(caller, names.size), OkxModes(caller)),
}


@dataclass(frozen=True, slots=True)
class Opening:
    """Hold what a live venue is opened with. begun_ms: when its book was begun, None for none.

    options: of the ccxt constructor. now_ms: market time. on_begun: told when a book begins.
    """

    venue: str
    options: Mapping[str, object]
    credentials: Credentials
    instruments: Sequence[Instrument]
    wishes: Wishes
    rules: VenueRules
    now_ms: Callable[[], int]
    begun_ms: int | None
    on_begun: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Connection:
    """Hold what speaks to one account; nothing of it was verified or changed yet."""

    caller: Caller
    clock: SigningClock
    names: Names
    listings: Listings
    modes: AccountModes
    receive_window_ms: int


@asynccontextmanager
async def connected(
    venue: str,
    options: Mapping[str, object],
    credentials: Credentials,
    instruments: Sequence[Instrument],
    receive_window_ms: int,
) -> AsyncIterator[Connection]:
    """Connect with a measured clock and learnt contracts; closes its connections at the end.

    Raises ConfigurationError for a foreign key, VenueError for a venue that tells neither.
    """
    if venue in _WINDOW_FIXED:
        receive_window_ms = quirks_of(venue).receive_window_ms
    api = keyed_client(venue, options, credentials, receive_window_ms=receive_window_ms)
    try:
        caller = Caller(venue, api, credentials.redactor())
        clock = SigningClock(caller, error_ms_max=min(ERROR_MS_MAX, receive_window_ms / 2))
        await clock.measure()
        names = Names(venue, instruments)
        await caller.patiently(lambda: _learn(caller, names), "markets")
        listings, modes = _DIALECTS[venue](caller, names)
        yield Connection(caller, clock, names, listings, modes, receive_window_ms)
    finally:
        await api.close()


@asynccontextmanager
async def opened(opening: Opening) -> AsyncIterator[CcxtVenue]:
    """Connect, verify and give the venue; closes its connections at the end.

    Raises ConfigurationError for a key, an account or resting orders that must not be traded with,
    VenueError for a venue that cannot be prepared.
    """
    quirks = quirks_of(opening.venue)
    asked = (opening.venue, opening.options, opening.credentials, opening.instruments)
    async with connected(*asked, opening.rules.receive_window_ms) as link:
        caller, names, modes = link.caller, link.names, link.modes
        venue = CcxtVenue(
            quirks,
            caller,
            names,
            link.listings,
            replace(opening.rules, receive_window_ms=link.receive_window_ms),
            opening.now_ms,
            clock=link.clock,
            begun_ms=opening.begun_ms,
            on_begun=opening.on_begun,
        )
        wishes = opening.wishes
        venue.account_name = await checked_account(caller, modes, wishes.account)
        await settle_open_orders(names, link.listings, modes, venue.desk, wishes)
        listed = [names.symbol_id(key) for key in names.ours if key.symbol in caller.api.markets]
        await modes.set_modes(listed, wishes.leverage)

        async def prepare(key: InstrumentKey) -> None:
            await caller.patiently(lambda: _relearn(caller, names, key), "markets")
            await modes.set_modes([names.symbol_id(key)], wishes.leverage)

        venue.on_listed, venue.cancel_foreign = prepare, modes.cancel_foreign
        yield venue


async def _learn(caller: Caller, names: Names) -> None:
    done = await caller.once("load_markets")
    if done.trouble is not None:
        raise BadPayload(caller.words(done.trouble))
    names.learn(caller.api.markets)
    missing = [key.symbol for key in names.ours if key.symbol not in caller.api.markets]
    if names.ours and len(missing) == len(names.ours):
        raise BadPayload("none of our contracts is in the list of markets")


async def _relearn(caller: Caller, names: Names, key: InstrumentKey) -> None:
    """Read the list of markets anew; what has left it stays known."""
    api = caller.api
    before = dict(api.markets)
    done = await caller.once("load_markets", True)
    if done.trouble is not None:
        raise BadPayload(caller.words(done.trouble))
    api.set_markets({**before, **api.markets})
    names.learn(api.markets)
    if key.symbol not in api.markets:
        raise BadPayload(f"{key.symbol} is not in the list of markets")
