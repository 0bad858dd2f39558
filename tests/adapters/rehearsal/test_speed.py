"""The speeds that users are promised, with room for a busy machine; the figures are printed."""

from __future__ import annotations

import asyncio

from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT
from daemon.domain.units import DAY_MS, MINUTE_MS
from tests.adapters.rehearsal.conftest import Connect, Post, Start

FOREVER_MS = 10**15
HALF_HOUR_MS = 30 * MINUTE_MS
FASTER_THAN_REAL_MIN = 3600.0


async def test_lock_step_with_twelve_coins_is_3600_times_real_time(
    start: Start, connect: Connect, post: Post
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    running = await start(coins=12, history_days=150)
    print(f"start with 150 days of history: {loop.time() - began:.2f} s")
    client = connect(running)
    symbols = list(await client.load_markets())
    await client.watch_ohlcv_for_symbols([[symbol, "30m"] for symbol in symbols])
    instants = 100
    began = loop.time()
    for _ in range(instants):
        answer = await post(running, "advance", until_ms=FOREVER_MS)
        assert answer["published"] == 12
    seconds = (loop.time() - began) / instants
    faster = HALF_HOUR_MS / 1000 / seconds
    print(f"one instant with ccxt listening: {1000 * seconds:.2f} ms = {faster:,.0f} x real time")
    assert faster > FASTER_THAN_REAL_MIN
    began = loop.time()
    for _ in range(200):
        at_ms = running.exchange.next_instant_ms()
        assert at_ms is not None
        await running.exchange.move_to(at_ms)
    print(f"the server's share: {1000 * (loop.time() - began) / 200:.2f} ms")


async def test_a_year_of_half_hours_is_served_whole(start: Start, connect: Connect) -> None:
    loop = asyncio.get_running_loop()
    running = await start(coins=12, history_days=365)
    client = connect(running)
    symbols = list(await client.load_markets())
    began = loop.time()
    rows = 0
    for symbol in symbols:
        since = ORIGIN_MS_DEFAULT
        while page := await client.fetch_ohlcv(symbol, "30m", since=since, limit=1000):
            rows += len(page)
            since = page[-1][0] + 1
    print(f"{rows} klines through ccxt in {loop.time() - began:.2f} s")
    assert rows == 12 * (365 * DAY_MS // HALF_HOUR_MS + 1)
