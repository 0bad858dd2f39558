"""A feed through the real ccxt client, on a real rehearsal exchange in lock-step, and its truth."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np

from adapters.clocks import LockStepClock, TransportClock
from adapters.exchange.feed import CcxtFeed, FeedSettings
from adapters.exchange.health import FeedHealth
from adapters.exchange.watch import WatchRules
from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import RehearsalSettings
from daemon.domain.bar import FIELDS, Floats
from daemon.domain.messages import (
    BarsClosed,
    FeedNotice,
    FeedTrouble,
    FundingRates,
    MarketEvent,
    Revised,
)
from daemon.domain.units import MINUTE_MS

HALF_HOUR_MS = 30 * MINUTE_MS
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def unified(symbol: str) -> str:
    """Write a rehearsal symbol as ccxt does."""
    return f"{symbol.removesuffix('USDT')}/USDT:USDT"


async def until(true: Callable[[], bool], what: str) -> None:
    """Wait until something is true, at most a minute: pauses between attempts reach half of it."""
    for _ in range(6000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(what)


def settings_for(
    options: dict[str, Any], symbols: tuple[str, ...] = SYMBOLS, **changes: Any
) -> FeedSettings:
    """Write the settings of a feed for lock-step: a market that stands still needs no grace."""
    quick: dict[str, Any] = {
        "stream_patience_s": 3.0,
        "reread_grace_ms": 0,
        "recheck_s": 0.0,
        "settle_timeout_s": 20.0,
        "watch": WatchRules(offset_max_ms=0),
    }
    return FeedSettings("binanceusdm", symbols, options=options, **(quick | changes))


@dataclass
class Rig:
    """Hold everything, and collect what the feed tells."""

    exchange: RunningExchange
    feed: CcxtFeed
    clock: LockStepClock
    symbols: tuple[str, ...]
    start_ms: int
    told: list[MarketEvent] = field(default_factory=list)
    busy: asyncio.Event = field(default_factory=asyncio.Event)
    consumer: asyncio.Task[None] | None = None

    @property
    def health(self) -> FeedHealth:
        """Give what the feed counted."""
        assert self.feed.health is not None
        return self.feed.health

    @property
    def notices(self) -> list[tuple[FeedTrouble, bool]]:
        """List the troubles told: which, and whether it began or ended."""
        return [(e.trouble, e.active) for e in self.told if isinstance(e, FeedNotice)]

    async def listen(self, after_ms: int | None = None) -> None:
        """Consume events, and wait until the feed has begun to deliver."""

        async def consume() -> None:
            async for event in self.feed.events(self.start_ms if after_ms is None else after_ms):
                self.told.append(event)

        self.consumer = asyncio.create_task(consume(), name="consumer")
        if self.feed._settings.stream:
            await self.subscribed()

    async def subscribed(self) -> None:
        """Wait until every symbol has its stream."""
        for _ in range(1000):
            if len(self.exchange.exchange.hub.streams) == len(self.symbols):
                return
            await asyncio.sleep(0.01)
        raise TimeoutError("the feed did not subscribe")

    async def advance(self, instants: int) -> None:
        """Let the market run through instants, each only after the feed has told the last."""
        for _ in range(instants):
            await self.clock.sleep_until(self.clock.now() + 10 * HALF_HOUR_MS)
        await self.feed.settled(self.clock.now())

    async def fault(self, kind: str, count: int) -> None:
        """Switch a fault on, as a user would."""
        url = f"{self.exchange.rest_url}/rehearsal/fault"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"kind": kind, "count": count}) as answer,
        ):
            assert answer.status == 200, await answer.text()

    @property
    def bars(self) -> list[BarsClosed]:
        """List the cross-sections told."""
        return [event for event in self.told if isinstance(event, BarsClosed)]

    @property
    def funding(self) -> list[FundingRates]:
        """List the funding told."""
        return [event for event in self.told if isinstance(event, FundingRates)]

    @property
    def revised(self) -> list[Revised]:
        """List the revisions told."""
        return [event for event in self.told if isinstance(event, Revised)]

    def truth(self, close_ms: int) -> Floats:
        """Give the market's own bars that close at an instant, nothing withheld: (N, 5)."""
        market = self.exchange.exchange.market
        values = np.full((len(self.symbols), FIELDS), np.nan)
        for index, symbol in enumerate(self.symbols):
            steps = market.steps(symbol, close_ms - HALF_HOUR_MS, close_ms)
            if not np.isnan(steps.close).any():
                lots = 10.0 ** (market.coins[symbol].quantity_decimals or 0)
                values[index] = (
                    steps.open[0],
                    steps.high.max(),
                    steps.low.min(),
                    steps.close[-1],
                    np.rint(steps.volume.sum() * lots) / lots,
                )
        return values

    def opens(self, at_ms: int) -> Floats:
        """Give the market's first prices of the bars that start at an instant: (N,)."""
        return self.truth(at_ms + HALF_HOUR_MS)[:, 0]


@dataclass
class BehindClock:
    """Tell what another clock tells, less a lag: ours beside a venue's that is ahead."""

    clock: LockStepClock
    lag_ms: int

    def now(self) -> int:
        """Give the time in ms."""
        return self.clock.now() - self.lag_ms

    async def sleep_until(self, at_ms: int) -> int:
        """Let the market run to an instant."""
        return await self.clock.sleep_until(at_ms) - self.lag_ms


@contextlib.asynccontextmanager
async def rig(
    exchange_settings: RehearsalSettings | None = None,
    symbols: tuple[str, ...] = SYMBOLS,
    transport: TransportClock | None = None,
    lag_ms: int = 0,
    **changes: Any,
) -> AsyncIterator[Rig]:
    """Start exchange and feed, whose clock may lag; everything is closed at the end."""
    wanted = exchange_settings or RehearsalSettings(coins=len(symbols), history_days=5)
    async with await serve(wanted) as exchange:
        options = ccxt_options(exchange.rest_url, exchange.ws_url)

        async def at_rest() -> None:
            await made.feed.settled(clock.now())

        clock = LockStepClock(exchange.rest_url, at_rest)
        start_ms = await clock.start()
        settings = settings_for(options, symbols, **changes)
        feed = CcxtFeed(settings, BehindClock(clock, lag_ms), transport or TransportClock())
        made = Rig(exchange, feed, clock, symbols, start_ms)
        try:
            yield made
        finally:
            await feed.close()
            if made.consumer is not None:
                async with asyncio.timeout(5):
                    await asyncio.gather(made.consumer, return_exceptions=True)
            await clock.close()
