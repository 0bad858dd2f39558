"""A loopback exchange with one account, at a fixed pace: the venue of `latency.py`.

Run as `python -m benchmarks.trading_exchange COINS FACTOR KEY SECRET SPREAD_MS`; prints one JSON
line with the client's options, then moves FACTOR times as fast as the wall until its stdin closes.
What streams say of an instant comes within SPREAD_MS of the wall, evenly, one stream after the
other: first the closed klines of all, then the first rows of their successors. 0 says all at once.
"""

from __future__ import annotations

import asyncio
import json
import sys
from decimal import Decimal

from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.bank.terms import BankSettings
from adapters.rehearsal.binance.payloads import account_alias
from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.server import serve
from adapters.rehearsal.settings import PaceKind, RehearsalSettings
from adapters.rehearsal.streams import Hub
from adapters.rehearsal.words import Stream, StreamKind

CASH = "1000000"
DEPTH = Decimal(5_000_000)  # a level takes any order of ours whole: what is measured is speed
TICK_S = 0.001  # what is due sooner than this is said at once


class Spread:
    """Say klines one after the other, evenly within some milliseconds, closed ones first."""

    def __init__(self, hub: Hub, spread_ms: float) -> None:
        self._hub, self._spread_s = hub, spread_ms / 1000
        self._say, self._loop = hub.say, asyncio.get_running_loop()
        self._due_s = 0.0
        hub.say = self.say  # type: ignore[method-assign]

    async def say(self, stream: Stream, text: str) -> bool:
        """Say a text when it is its turn."""
        if stream.kind is StreamKind.KLINE:
            apart_s = self._spread_s / (2 * max(1, len(self._hub.streams)))
            self._due_s = max(self._due_s, self._loop.time()) + apart_s
            if (wait_s := self._due_s - self._loop.time()) > TICK_S:
                await asyncio.sleep(wait_s)
        return await self._say(stream, text)


async def main(coins: int, factor: float, key: str, secret: str, spread_ms: float) -> None:
    """Serve until nobody listens on stdin any more."""
    settings = RehearsalSettings(
        coins=coins,
        step_minutes=30,
        history_days=9,
        pace=PaceKind.FACTOR,
        factor=factor,
        accounts=(KeySettings(key, secret, CASH),),
        bank=BankSettings(depth_notional=DEPTH),
    )
    async with await serve(settings) as running:
        told = {
            "options": ccxt_options(running.rest_url, running.ws_url),
            "account_id": account_alias(key),
        }
        Spread(running.exchange.hub, spread_ms)
        print(json.dumps(told), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    coins, factor, key, secret, spread_ms = sys.argv[1:]
    asyncio.run(main(int(coins), float(factor), key, secret, float(spread_ms)))
