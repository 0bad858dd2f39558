"""Two venues as one feed, through real ccxt: merged to the bit, and each alone in its troubles."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from adapters.clocks import LockStepClock, SystemClock, TransportClock, VenueClock
from adapters.exchange.feed import CcxtFeed, FeedSettings
from adapters.exchange.several import SeveralFeeds
from adapters.exchange.watch import WatchRules
from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import PaceKind, RehearsalSettings
from daemon.domain.bar import FIELDS, Floats
from daemon.domain.messages import BarsClosed, FeedNotice, FundingRates, MarketEvent
from daemon.domain.units import HOUR_MS
from tests.adapters.exchange.feed_rig import HALF_HOUR_MS, Rig, settings_for

HERE, THERE = ("BTCUSDT", "ETHUSDT"), ("SOLUSDT", "BTCUSDT")
COLUMNS = (*HERE, *THERE)


class Line:
    """Forward TCP connections to an exchange, until the line is cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self.is_cut = False
        self.flows = asyncio.Event()  # while it is not set, nothing passes: whoever asks waits
        self.flows.set()
        self.server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self.server is not None
        return int(self.server.sockets[0].getsockname()[1])

    async def open(self) -> None:
        self.server = await asyncio.start_server(self._joined, "127.0.0.1", 0)

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        self.is_cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    async def close(self) -> None:
        self.flows.set()
        self.cut()
        if self.server is not None:
            self.server.close()
            await self.server.wait_closed()

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        there_reader, there = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, there}
        await asyncio.gather(self._copy(reader, there), self._copy(there_reader, writer))
        self._writers -= {writer, there}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self.flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@dataclass
class Two:
    """Hold an exchange that two venues speak for, the second over a line that can be cut."""

    exchange: RunningExchange
    line: Line
    feed: SeveralFeeds
    clock: LockStepClock
    start_ms: int
    told: list[MarketEvent] = field(default_factory=list)
    consumer: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        async def consume() -> None:
            async for event in self.feed.events(self.start_ms):
                self.told.append(event)

        self.consumer = asyncio.create_task(consume(), name="consumer")
        await self.subscribed()

    async def subscribed(self) -> None:
        hub = self.exchange.exchange.hub
        for _ in range(1000):
            if sum(len(hub._listeners[s.name]) for s in hub.streams) == len(COLUMNS):
                return
            await asyncio.sleep(0.01)
        raise TimeoutError("the feeds did not subscribe")

    async def advance(self, instants: int) -> None:
        for _ in range(instants):
            await self.clock.sleep_until(self.clock.now() + 10 * HALF_HOUR_MS)
        await self.feed.settled(self.clock.now())

    def truth(self, close_ms: int) -> Floats:
        """Give the market's own bars in the columns of the book, (N, 5)."""
        return Rig(self.exchange, None, self.clock, COLUMNS, 0).truth(close_ms)  # type: ignore[arg-type]

    def collected(self) -> dict[int, Floats]:
        """Put together what was told of each instant, each bar at most once."""
        found: dict[int, Floats] = {}
        for event in self.told:
            if isinstance(event, BarsClosed):
                rows = found.setdefault(event.close_ms, np.full((len(COLUMNS), FIELDS), np.nan))
                there = event.proof > 0
                assert np.isnan(rows[there]).all(), "a bar was told twice"
                rows[there] = event.values[there]
        return found


def settings_at(venue: str, symbols: tuple[str, ...], rest: str, ws: str) -> FeedSettings:
    options = ccxt_options(rest, ws)
    options["options"]["defaultType"] = "swap"
    like = settings_for(options, symbols, settle_timeout_s=2.0)
    watch = WatchRules(offset_max_ms=0, venue_down_s=0.5)
    return FeedSettings(
        **{name: getattr(like, name) for name in like.__slots__}
        | {"exchange": venue, "watch": watch, "stream_patience_s": 0.3}
    )


@contextlib.asynccontextmanager
async def two_venues() -> AsyncIterator[Two]:
    async with await serve(RehearsalSettings(coins=3, history_days=5)) as exchange:
        line = Line(exchange.port)
        await line.open()
        there_rest, there_ws = (f"{kind}://127.0.0.1:{line.port}" for kind in ("http", "ws"))

        async def at_rest() -> None:
            await made.feed.settled(clock.now())

        clock = LockStepClock(exchange.rest_url, at_rest)
        start_ms = await clock.start()
        feeds = [
            CcxtFeed(one, clock, TransportClock())
            for one in (
                settings_at("binanceusdm", HERE, exchange.rest_url, exchange.ws_url),
                settings_at("binance", THERE, there_rest, there_ws),
            )
        ]
        made = Two(exchange, line, SeveralFeeds(feeds), clock, start_ms)
        try:
            yield made
        finally:
            if made.consumer is not None:
                made.consumer.cancel()
                await asyncio.gather(made.consumer, return_exceptions=True)
            await made.feed.close()
            await line.close()
            await clock.close()


async def test_two_venues_give_the_columns_of_both_to_the_bit() -> None:
    async with two_venues() as made:
        instruments = await made.feed.instruments()
        assert [(i.key.venue, i.key.symbol[:3]) for i in instruments] == [
            ("binanceusdm", "BTC"),
            ("binanceusdm", "ETH"),
            ("binance", "SOL"),
            ("binance", "BTC"),
        ]
        await made.listen()
        await made.advance(20)
        collected = made.collected()
        assert len(collected) == 20
        for close_ms, rows in collected.items():
            np.testing.assert_array_equal(rows, made.truth(close_ms))
        finals = [e.close_ms for e in made.told if isinstance(e, BarsClosed) and e.final]
        assert sorted(finals) == sorted(collected), "each instant is called complete once"
        rates = [e for e in made.told if isinstance(e, FundingRates)]
        told = {(e.settle_ms, i) for e in rates for i in np.flatnonzero(~np.isnan(e.rates))}
        settled = {at_ms for at_ms, _ in told}
        assert settled
        assert told >= {(at_ms, i) for at_ms in settled for i in (0, 3)}, "BTC settles at both"
        assert set(made.feed.shown()) == {"binanceusdm", "binance"}


async def test_the_warm_up_of_two_venues_is_one_history() -> None:
    async with two_venues() as made:
        events = [e async for e in made.feed.history(made.start_ms - 24 * HOUR_MS, made.start_ms)]
        bars = [e for e in events if isinstance(e, BarsClosed)]
        assert [b.close_ms for b in bars] == [
            made.start_ms - 24 * HOUR_MS + (n + 1) * HALF_HOUR_MS for n in range(48)
        ]
        for one in bars:
            np.testing.assert_array_equal(one.values, made.truth(one.close_ms))
        times = [
            e.close_ms if isinstance(e, BarsClosed) else e.settle_ms
            for e in events
            if isinstance(e, BarsClosed | FundingRates)
        ]
        assert times == sorted(times)


@pytest.mark.timeout(60)
async def test_a_venue_that_is_cut_off_leaves_the_other_alone_and_comes_back_whole() -> None:
    async with two_venues() as made:
        await made.listen()
        await made.advance(4)
        made.line.cut()
        before = len(made.told)
        await made.advance(2)  # bounded by the patience of the feed, the first venue goes on
        alone = [e for e in made.told[before:] if isinstance(e, BarsClosed) and e.proof.any()]
        assert {e.close_ms for e in alone} == {made.start_ms + n * HALF_HOUR_MS for n in (5, 6)}
        for event in alone:
            assert list(event.proof > 0) == [True, True, False, False]
            assert not event.final
        notices = [e for e in made.told if isinstance(e, FeedNotice)]
        assert [(n.venue, n.active) for n in notices] == [("binance", True)]
        made.line.is_cut = False
        for _ in range(100):
            if any(isinstance(e, FeedNotice) and not e.active for e in made.told):
                break
            await asyncio.sleep(0.1)
        await made.subscribed()
        await made.advance(2)
        collected = made.collected()
        assert len(collected) == 8
        for close_ms, rows in collected.items():
            np.testing.assert_array_equal(rows, made.truth(close_ms))


async def test_a_first_venue_that_hangs_is_waited_for_once_and_wakes_nobody_late() -> None:
    market = RehearsalSettings(coins=3, history_days=5, pace=PaceKind.FACTOR, factor=1.0)
    async with await serve(market) as exchange, contextlib.AsyncExitStack() as stack:
        line = Line(exchange.port)
        await line.open()
        stack.push_async_callback(line.close)
        there_rest, there_ws = (f"{kind}://127.0.0.1:{line.port}" for kind in ("http", "ws"))
        transport = TransportClock()
        there, here = (
            CcxtFeed(one, SystemClock(transport), transport)
            for one in (
                settings_at("binance", THERE, there_rest, there_ws),
                settings_at("binanceusdm", HERE, exchange.rest_url, exchange.ws_url),
            )
        )
        there.client.api.timeout = 400  # ms
        feed = SeveralFeeds([there, here])
        stack.push_async_callback(feed.close)
        clock = VenueClock(feed.server_time, transport, remeasure_every_s=0.05)
        stack.push_async_callback(clock.close)
        await clock.measure()
        assert (there.usage.requests_n, here.usage.requests_n) == (3, 0)
        line.flows.clear()
        await asyncio.sleep(0.06)
        newest_ms = clock.now()
        for _ in range(12):  # longer than a question takes until it is given up
            wanted_ms = newest_ms + 60
            newest_ms = await clock.sleep_until(wanted_ms)
            assert wanted_ms <= newest_ms < wanted_ms + 300
        assert there.usage.requests_n == 4, "it is asked once more, and no more"
        assert here.usage.requests_n >= 3
        line.flows.set()
        before_n = here.usage.requests_n
        await feed.server_time()
        assert here.usage.requests_n > before_n, "the one that answered last is asked"
        assert there.usage.requests_n == 4
