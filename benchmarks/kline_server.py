"""A loopback exchange that says running klines as often as it is told: the load of `feed.py`.

Run as `python -m benchmarks.kline_server COINS RATE`; prints one JSON line with its addresses, then
keeps real time with one-minute bars and says RATE klines a second besides, until its stdin closes.
"""

from __future__ import annotations

import asyncio
import json
import sys

from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import PaceKind, RehearsalSettings
from adapters.rehearsal.words import StreamKind

BURSTS_A_SECOND = 50


async def main(coins: int, rate: int) -> None:
    """Serve until nobody listens on stdin any more."""
    settings = RehearsalSettings(
        coins=coins,
        step_minutes=1,
        source_minutes=1,
        history_days=1,
        pace=PaceKind.FACTOR,
        factor=1.0,
    )
    async with await serve(settings) as running:
        options = ccxt_options(running.rest_url, running.ws_url)
        print(json.dumps({"options": options, "symbols": list(running.exchange.market.coins)}))
        sys.stdout.flush()
        said = asyncio.create_task(flood(running, rate))
        await asyncio.to_thread(sys.stdin.read)
        said.cancel()


async def flood(running: RunningExchange, rate: int) -> None:
    """Say running klines round and round, in bursts, at the wanted rate."""
    exchange, loop = running.exchange, asyncio.get_running_loop()
    began_s, said = loop.time(), 0
    while True:
        streams = [s for s in exchange.hub.streams if s.kind is StreamKind.KLINE]
        if not streams or not rate:
            await asyncio.sleep(0.1)
            began_s, said = loop.time(), 0
            continue
        texts = exchange.current(streams)
        due = int((loop.time() - began_s) * rate) - said
        for step in range(max(0, due)):
            stream, text = texts[(said + step) % len(texts)]
            await exchange.hub.say(stream, text)
        said += max(0, due)
        await asyncio.sleep(1 / BURSTS_A_SECOND)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
