"""A process with a live venue whose orders rest: to be killed, frozen, or cut off the network."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from multiprocessing.connection import Connection
from typing import Any

from msgspec import structs

from adapters.ccxt_venue.opening import Opening, opened
from adapters.ccxt_venue.preparing import Wishes
from adapters.ccxt_venue.venue import VenueRules
from adapters.clocks import TransportClock
from adapters.rehearsal.bybit.ccxt_options import bybit_options
from adapters.rehearsal.ccxt_options import ccxt_options
from daemon.domain.instrument import Instrument, InstrumentKey
from daemon.domain.messages import FeedNotice, OrderAccepted
from daemon.domain.order import Order
from tests.adapters.ccxt_venue import live_rig
from tests.e2e.live_rig import ACCOUNTS, live_credentials

RESTING = "resting"
SHARE = Decimal("0.97")  # of the last price: far enough to rest, near enough to be taken
NOTIONAL = Decimal(300)
PING_MS = 250  # the exchange of the test is as much sooner tired of silence


def instruments(venue: str) -> tuple[Instrument, ...]:
    return tuple(
        replace(one, key=InstrumentKey(venue, one.key.symbol)) for one in live_rig.instruments()
    )


def order(venue: str, number: int, quantity: str, name: str, price: str) -> Order:
    one = live_rig.order(number, quantity, name, price=price)
    return structs.replace(one, key=InstrumentKey(venue, one.key.symbol))


def opening_of(venue: str, rest_url: str, ws_url: str) -> Opening:
    options = bybit_options if venue == "bybit" else ccxt_options
    more = {"timeout": 1_000, "streaming": {"keepAlive": PING_MS}}
    return Opening(
        venue,
        {**options(rest_url, ws_url), **more},
        live_credentials(venue),
        instruments(venue),
        Wishes(ACCOUNTS[venue], 5, "cancel_ours", frozenset()),
        VenueRules(receive_window_ms=5_000),
        TransportClock().wall_ms,
        None,
        lambda at_ms: None,
    )


async def below_the_market(venue: str, api: Any) -> list[Order]:
    """Make a limit order to buy of each contract, a few per cent below its price."""
    tickers, orders = await api.fetch_tickers(), []
    for number, one in enumerate(instruments(venue), 1):
        symbol = one.key.symbol
        price_step, step = (
            Decimal(str(api.markets[symbol]["precision"][name])) for name in ("price", "amount")
        )
        price = (Decimal(str(tickers[symbol]["last"])) * SHARE // price_step) * price_step
        quantity = (NOTIONAL / price // step + 1) * step
        orders.append(order(venue, number, f"{quantity:f}", one.base, f"{price:f}"))
    return orders


async def unheard(notice: FeedNotice) -> None:
    """Take what the switch tells: here is no engine."""


async def rest(
    parent: Connection[str, str], name: str, rest_url: str, ws_url: str, timer_s: float
) -> None:
    """Let orders rest, say so, and keep the switch until a word comes; then stop cleanly."""
    async with opened(opening_of(name, rest_url, ws_url)) as venue:
        switch = venue.dead_man(timer_s)
        events = await venue.submit(await below_the_market(name, venue.desk._caller.api))
        keeping = None if switch is None else asyncio.create_task(switch.keep(unheard))
        parent.send(str([e for e in events if not isinstance(e, OrderAccepted)] or RESTING))
        await asyncio.get_running_loop().run_in_executor(None, parent.recv)
        if keeping is not None and switch is not None:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            await switch.clear()


def live(parent: Connection[str, str], *told: Any) -> None:
    """Be the process."""
    asyncio.run(rest(parent, *told))
