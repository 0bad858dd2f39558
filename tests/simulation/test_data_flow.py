"""Fault-free hours and long runs: the stream does the work, nothing grows, REST delays nobody.

The market runs at a pace here, so transport seconds mean what they mean at a venue: measured is how
long after a bar's close the consumer has it.
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import psutil
import pytest
import structlog

from adapters.clocks import LockStepClock, TransportClock, VenueClock
from adapters.exchange.feed import CcxtFeed
from adapters.exchange.instants import EARLY_S
from adapters.exchange.watch import WatchRules
from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.faults import Fault, Strike
from adapters.rehearsal.launch import launch
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import PaceKind, RehearsalSettings
from adapters.rehearsal.universe import NAMES
from daemon.domain.bar import Proof
from daemon.domain.finality import FINAL_BARS_KEPT
from daemon.domain.messages import BarsClosed
from daemon.domain.units import HOUR_MS, MINUTE_MS, Timeframe
from daemon.settings import ExchangeSettings, MarketSettings
from tests.adapters.exchange.feed_rig import SYMBOLS, rig, settings_for

STREAM_SHARE_MIN: Final = 0.95
FINALITY_P99_S_MAX: Final = 3.0
COINS: Final = 12
BARS_REMEMBERED: Final = 300
OBJECTS_MAX: Final = 60.0
"""A reconnect in the short run, which does not fill the bound up to which bars are kept."""
RULES: Final = WatchRules(offset_max_ms=0, breaks_per_hour_max=100_000, standstill_s=1e9)


@dataclass
class Flow:
    """Collect what one paced run gave: seconds from close to consumer, a number a bar."""

    waits_s: list[float] = field(default_factory=list)
    wrong_n: int = 0
    bars_n: int = 0
    by_stream_n: int = 0


async def flow_of(bars_n: int, factor: float) -> tuple[Flow, str]:
    """Run minute bars of 12 coins `factor` times as fast as the wall; give what came, and a table.

    Frames come whenever prices print, closes as at a venue; patience is what a user has by default.
    """
    market = RehearsalSettings(
        coins=COINS, history_days=3, step_minutes=1, source_minutes=1,
        pace=PaceKind.FACTOR, factor=factor,
    )  # fmt: skip
    loop, flow = asyncio.get_running_loop(), Flow()
    async with await serve(market) as exchange:
        feed, clock = paced_feed(exchange, factor)
        await clock.measure()
        start_ms = clock.now()
        read_s, read_ms = loop.time(), exchange.exchange.clock_ms()
        publication = exchange.exchange.publication
        primed = 0
        async for event in feed.events(start_ms):
            if not isinstance(event, BarsClosed):
                continue
            primed += 1
            if primed <= 2:  # the first frames after a subscription only prime
                continue
            closed_s = read_s + (event.close_ms - read_ms) / 1000 / factor
            for index in np.flatnonzero(event.proof):
                flow.waits_s.append(loop.time() - closed_s)
                flow.bars_n += 1
                flow.by_stream_n += event.proof[index] == Proof.SUCCESSOR
                true = publication.kline(
                    NAMES[index], MINUTE_MS, event.close_ms - MINUTE_MS, exchange.exchange.now_ms
                )
                got = tuple(event.values[index].tolist())
                flow.wrong_n += true is None or got != (
                    true.open, true.high, true.low, true.close, true.volume,
                )  # fmt: skip
            if flow.bars_n >= bars_n * COINS:
                break
        text = told(flow, feed, factor, exchange, read_ms)
        await feed.close()
    return flow, text


def paced_feed(
    exchange: RunningExchange, factor: float, **changes: Any
) -> tuple[CcxtFeed, VenueClock]:
    """Make a feed of minute bars with the venue's own clock; grace is two seconds of the wall."""
    options = ccxt_options(exchange.rest_url, exchange.ws_url)
    settings = settings_for(
        options, NAMES[:COINS], timeframe=Timeframe(1), reread_grace_ms=int(2000 * factor),
        recheck_s=30.0, watch=RULES, **changes,
    )  # fmt: skip
    transport = TransportClock()
    clock = VenueClock(lambda: feed.server_time(), transport, speed=factor)
    feed = CcxtFeed(settings, clock, transport)
    return feed, clock


def told(flow: Flow, feed: CcxtFeed, factor: float, exchange: RunningExchange, read_ms: int) -> str:
    """Write a table of what was measured."""
    usage, waits = feed.usage, np.array(flow.waits_s)
    hours = (exchange.exchange.clock_ms() - read_ms) / HOUR_MS
    weight = exchange.exchange.weight_charged
    p50, p99 = np.quantile(waits, [0.5, 0.99])
    rows = (
        ("pace", f"{factor:g} x real time"),
        ("bars", f"{flow.bars_n} of {COINS} coins, {hours:.2f} market hours"),
        ("proven by the stream", f"{flow.by_stream_n / flow.bars_n:.2%}"),
        ("close to consumer, s", f"p50 {p50:.3f}, p99 {p99:.3f}, max {waits.max():.3f}"),
        ("request weight", f"{weight}, {weight / hours:.1f} a market hour, start-up included"),
        ("weight in a wall minute", f"at most {usage.weight_1m_max} of the venue's 2400"),
    )
    return "\n".join(f"{name:28}{value}" for name, value in rows)


async def expect_flow(bars_n: int, factor: float) -> None:
    """Hold the bounds of a fault-free run."""
    with structlog.testing.capture_logs():
        flow, text = await flow_of(bars_n, factor)
    print("\n" + text)
    assert flow.wrong_n == 0
    assert flow.by_stream_n / flow.bars_n >= STREAM_SHARE_MIN
    assert np.quantile(flow.waits_s, 0.99) <= FINALITY_P99_S_MAX


async def test_in_fault_free_hours_the_stream_proves_the_bars_in_time() -> None:
    await expect_flow(bars_n=10, factor=120.0)  # a bar each half second of the wall


@pytest.mark.soak(minutes=4)
@pytest.mark.timeout(900)
async def test_fault_free_at_a_bar_each_six_seconds() -> None:
    await expect_flow(bars_n=30, factor=10.0)


# ---- one silent symbol, with the patience that a user has by default -----------------------------


async def test_by_default_one_silent_symbol_delays_nobody_beyond_a_second() -> None:
    """Its own bar comes when REST has it; all of it well before the deadline of a decision."""
    factor, silent = 40.0, "ETHUSDT"  # a bar each one and a half seconds of the wall
    chosen = ExchangeSettings()
    market = RehearsalSettings(
        coins=COINS, history_days=3, step_minutes=1, source_minutes=1,
        pace=PaceKind.FACTOR, factor=factor,
    )  # fmt: skip
    own = NAMES.index(silent)
    waits_s: dict[tuple[int, int], float] = {}
    async with await serve(market) as exchange:
        feed, clock = paced_feed(
            exchange, factor, stream_patience_s=chosen.stream_patience_s,
            reread_patience_s=chosen.reread_patience_s, stream_deadline_bars=50,
        )  # fmt: skip
        await clock.measure()
        start_ms = clock.now()
        exchange.exchange.faults.put(Strike(Fault.STALL, 10_000, silent))
        async for event in feed.events(start_ms):
            if isinstance(event, BarsClosed):
                came_s = (exchange.exchange.clock_ms() - event.close_ms) / 1000 / factor
                waits_s |= {(event.close_ms, int(i)): came_s for i in np.flatnonzero(event.proof)}
                has_all = own in {index for _, index in waits_s}
                if has_all and event.close_ms >= start_ms + 4 * MINUTE_MS:
                    break
        await feed.close()
    first_ms = min(close_ms for close_ms, _ in waits_s) + 2 * MINUTE_MS  # frames prime before
    others_s = [wait_s for (at, i), wait_s in waits_s.items() if i != own and at >= first_ms]
    own_s = [wait_s for (_, i), wait_s in waits_s.items() if i == own]
    assert len(others_s) >= 2 * (COINS - 1)
    assert max(others_s) <= EARLY_S + 0.5
    assert own_s
    limit_s = chosen.stream_patience_s + chosen.reread_patience_s
    assert max(own_s) <= limit_s < MarketSettings().decision_deadline_s


# ---- REST in the background ----------------------------------------------------------------------


async def test_a_rest_answer_that_never_comes_delays_no_bar_of_the_stream() -> None:
    """One symbol has no stream and REST hangs about it; the others come at once all the same."""
    async with rig(
        stream_patience_s=0.05, reread_patience_s=0.3, settle_timeout_s=0.4, stream_deadline_bars=50
    ) as made:
        made.feed._opened().api.timeout = 60_000
        await made.listen()
        await made.advance(3)
        faults = made.exchange.exchange.faults
        faults.put(Strike(Fault.STALL, 4, "ETHUSDT"))
        faults.put(Strike(Fault.HANG, 1, "ETHUSDT"))
        arrived: list[tuple[int, list[int]]] = []
        for _ in range(3):
            at_ms = await made.clock.sleep_until(made.clock.now() + HOUR_MS)
            for _ in range(200):
                if any(proven_by_stream(made.told, at_ms)):
                    break
                await asyncio.sleep(0.005)
            arrived.append((at_ms, proven_by_stream(made.told, at_ms)))
        assert faults.struck_n[Fault.HANG] == 1
        assert [proofs for _, proofs in arrived] == [[1, 0, 1]] * 3


def proven_by_stream(told: list[Any], close_ms: int) -> list[int]:
    """Tell which bars of an instant the stream has proven by now."""
    proven = [0] * len(SYMBOLS)
    for event in told:
        if isinstance(event, BarsClosed) and event.close_ms == close_ms:
            for index in np.flatnonzero(event.proof == Proof.SUCCESSOR):
                proven[index] = 1
    return proven


# ---- memory and sockets --------------------------------------------------------------------------


@dataclass
class Slope:
    """Hold how a figure changes a reconnect: the slope and its 95 % interval."""

    name: str
    first: float
    last: float
    a_reconnect: float
    half_width: float

    def __str__(self) -> str:
        """Write a line."""
        bounds = f"{self.a_reconnect:+.4f} +- {self.half_width:.4f} a reconnect"
        return f"{self.name:16}{self.first:>10.1f}{self.last:>10.1f}   {bounds}"


def slope_of(name: str, reconnects: list[int], figures: list[float]) -> Slope:
    """Fit a line by least squares; samples one after the other count as independent."""
    x, y = np.array(reconnects, dtype=float), np.array(figures)
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    rest = y - y.mean() - slope * centred
    error = float(np.sqrt(rest @ rest / max(1, len(x) - 2) / (centred @ centred)))
    return Slope(name, figures[0], figures[-1], slope, 1.96 * error)


async def reconnect_often(times: int, every: int, fill: int = 0) -> list[Slope]:
    """Break every socket again and again; the exchange is another process, so figures are ours.

    fill: instants before the first break, so that what is kept up to a bound is full.
    """
    process, samples = psutil.Process(), []
    with launch(RehearsalSettings(coins=3, history_days=5)) as exchange:
        clock = LockStepClock(exchange.rest_url, lambda: feed.settled(clock.now()))
        start_ms = await clock.start()
        settings = settings_for(exchange.ccxt_options(), watch=RULES, stream_patience_s=0.2)
        feed = CcxtFeed(settings, clock, TransportClock())
        bars: dict[tuple[int, int], None] = {}
        twice: list[tuple[int, int]] = []

        async def consume() -> None:
            async for event in feed.events(start_ms):
                if isinstance(event, BarsClosed):
                    for index in np.flatnonzero(event.proof):
                        key = (event.close_ms, int(index))
                        twice.extend([key] if key in bars else [])
                        bars[key] = None
                    while len(bars) > BARS_REMEMBERED:
                        del bars[next(iter(bars))]

        consumer = asyncio.create_task(consume(), name="consumer")
        await clock.sleep_until(start_ms + HOUR_MS)
        for _ in range(fill):
            await clock.sleep_until(clock.now() + HOUR_MS)
        for count in range(times):
            await until_streaming(feed)
            cut_sockets(feed)
            await clock.sleep_until(clock.now() + HOUR_MS)
            if count % every == every - 1:
                await until_streaming(feed)
                gc.collect()
                tasks = len(asyncio.all_tasks())
                fds = process.num_fds() if hasattr(process, "num_fds") else 0
                sockets = len(process.net_connections())
                memory = process.memory_info().rss / 1024
                samples.append((count, memory, len(gc.get_objects()), fds, sockets, tasks))
        assert feed.health is not None
        assert feed.health.broken_n + feed.health.replaced_n >= times
        await feed.close()
        await asyncio.gather(consumer)
        await clock.close()
    assert bars
    assert twice == []
    settled_in = samples[len(samples) // 4 :]
    counts = [int(row[0]) for row in settled_in]
    names = ("memory KiB", "objects", "descriptors", "sockets", "tasks")
    return [
        slope_of(name, counts, [float(row[at]) for row in settled_in])
        for at, name in enumerate(names, 1)
    ]


def cut_sockets(feed: CcxtFeed) -> None:
    """Break our own sockets below the client, as a network does."""
    for client in list(feed._opened().api.clients.values()):
        transport = (
            client.connection._response.connection
            and client.connection._response.connection.transport
        )
        if transport is not None:
            transport.abort()


async def until_streaming(feed: CcxtFeed) -> None:
    """Wait until the stream is back."""
    for _ in range(4000):
        stream = feed._pump and feed._pump._stream
        if stream and not stream._lost and stream.frames:
            return
        await asyncio.sleep(0.005)
    raise TimeoutError("the stream did not come back")


def expect_flat(slopes: list[Slope], memory_kib_max: float, counts_max: float = 0.05) -> None:
    """Hold that nothing grows with the number of reconnects; of few, a task more says little."""
    print("\n" + "\n".join(str(slope) for slope in slopes))
    memory, objects, *counts = slopes
    assert memory.a_reconnect - memory.half_width <= memory_kib_max
    assert objects.a_reconnect - objects.half_width <= OBJECTS_MAX
    for slope in counts:
        assert abs(slope.a_reconnect) <= counts_max + slope.half_width, str(slope)


async def test_reconnects_leave_nothing_behind() -> None:
    with structlog.testing.capture_logs():
        slopes = await reconnect_often(20, every=1)
    expect_flat(slopes, memory_kib_max=64.0, counts_max=0.25)


@pytest.mark.soak(minutes=2)
@pytest.mark.timeout(900)
async def test_hundreds_of_reconnects_leave_nothing_behind() -> None:
    with structlog.testing.capture_logs():
        slopes = await reconnect_often(400, every=5, fill=FINAL_BARS_KEPT + 20)
    expect_flat(slopes, memory_kib_max=2.0)
