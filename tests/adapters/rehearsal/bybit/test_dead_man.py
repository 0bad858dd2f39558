"""The dead man's switch in Bybit's words: the venue watches a socket, and counts from its end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from adapters.ccxt_venue.dead_man import DeadManSwitch
from adapters.ccxt_venue.keys import Credentials, Hidden
from adapters.ccxt_venue.opening import connected
from adapters.ccxt_venue.quirks import QUIRKS
from adapters.rehearsal.bybit.ccxt_options import bybit_options
from adapters.rehearsal.bybit.private_socket import PrivateSockets
from daemon.domain.messages import FeedNotice
from daemon.domain.units import MINUTE_MS
from tests.adapters.rehearsal.bybit.conftest import KEY, SECRET, StartBybit
from tests.adapters.rehearsal.bybit.test_private_socket import BTC, START_MS, until
from tests.adapters.rehearsal.conftest import Post

TIMER_S = 60.0


async def test_what_rests_is_cancelled_once_our_socket_was_gone_for_the_timer(
    bybit: StartBybit, post: Post
) -> None:
    running = await bybit()
    keys = Credentials("bybit", Hidden(KEY), Hidden(SECRET))
    options = bybit_options(running.rest_url, running.ws_url)
    words = QUIRKS["bybit"].dead_man
    assert words is not None
    async with connected("bybit", options, keys, (), 5_000) as link:
        api: Any = link.caller.api
        bank = running.exchange.accounts.bank
        switch = DeadManSwitch(link.caller, words, link.names, set, TIMER_S, lambda: 0)
        price = (await api.fetch_ticker(BTC))["last"] * 0.95
        await api.create_order(BTC, "limit", "buy", 0.01, price)
        told: list[FeedNotice] = []

        async def put(notice: FeedNotice) -> None:
            told.append(notice)

        keeping = asyncio.create_task(switch.keep(put))
        (guest,) = running.exchange.hub.guests
        assert isinstance(guest, PrivateSockets)
        await until(lambda: any("dcp" in one.topics for one in guest._sockets))
        await post(running, "advance", until_ms=START_MS + 2 * MINUTE_MS)
        assert len(bank.open_orders(KEY)) == 1, "while we are there nothing is counted"
        assert told == []
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        for client in list(api.clients.values()):
            await client.close()
        await until(lambda: bool(bank._desk.account(KEY).timers))
        await post(running, "advance", until_ms=START_MS + 3 * MINUTE_MS)
        assert running.exchange.accounts.settled().open_orders(KEY) == []
