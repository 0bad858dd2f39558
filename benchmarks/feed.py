"""Measure the feed under load: the real feed and ccxt against a loopback exchange in a process.

    python -m benchmarks.feed [--coins 200] [--rate 5000] [--seconds 60]

Prints, for the quiet exchange (one-minute bars as they are) and for the flood: frames a second, the
share of one core that our process used, lag of the event loop, time from a frame's arrival until
what it says was judged, memory. Shared machines are noisy: the lag of an idle loop is printed too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import psutil
import structlog

from adapters.clocks import TransportClock, VenueClock
from adapters.exchange.feed import CcxtFeed, FeedSettings
from adapters.exchange.watch import WatchRules
from benchmarks.measured import ChildFailed
from daemon.domain.messages import BarsClosed
from daemon.domain.units import Timeframe

ROOT: Final = Path(__file__).resolve().parent.parent
LAG_STEP_S: Final = 0.01
SETTLE_S: Final = 3.0


class Meter:
    """Collect lags of the loop and the handling times of frames."""

    def __init__(self) -> None:
        self.lags_s: list[float] = []
        self.handled_s: list[float] = []
        self.frames = 0
        self._waiting: list[float] = []

    def frame(self) -> None:
        """Note that a frame came."""
        self.frames += 1
        self._waiting.append(time.perf_counter())

    def judged(self) -> None:
        """Note that everything that had come was judged."""
        now_s = time.perf_counter()
        self.handled_s += [now_s - at_s for at_s in self._waiting]
        self._waiting.clear()

    async def lag(self) -> None:
        """Measure how late the loop wakes us, again and again."""
        while True:
            due_s = time.perf_counter() + LAG_STEP_S
            await asyncio.sleep(LAG_STEP_S)
            self.lags_s.append(time.perf_counter() - due_s)


def quantile(values: list[float], share: float) -> float:
    """Give a quantile, NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def measure(coins: int, rate: int, seconds: float) -> dict[str, Any]:
    """Let the feed follow the exchange for so long, and measure it."""
    command = [sys.executable, "-m", "benchmarks.kline_server", str(coins), str(rate)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) as child:
        stdin, stdout = child.stdin, child.stdout
        if stdin is None or stdout is None:
            raise ChildFailed("the exchange has no pipes")
        try:
            return asyncio.run(followed(json.loads(stdout.readline()), seconds))
        finally:
            stdin.close()


async def followed(told: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Follow the exchange that was told."""
    transport, meter, bars = TransportClock(), Meter(), 0
    settings = FeedSettings(
        "binanceusdm",
        tuple(told["symbols"]),
        timeframe=Timeframe(1),
        options=told["options"],
        funding=False,
        watch=WatchRules(offset_max_ms=0),
    )
    clock = VenueClock(lambda: feed.server_time(), transport)
    feed = CcxtFeed(settings, clock, transport)
    await clock.measure()

    async def consume() -> None:
        nonlocal bars
        async for event in feed.events(clock.now()):
            if isinstance(event, BarsClosed):
                bars += int((event.proof > 0).sum())

    tasks = [asyncio.create_task(consume()), asyncio.create_task(meter.lag())]
    try:
        await asyncio.sleep(SETTLE_S)
        _listen(feed, meter)
        process = psutil.Process()
        meter.frames, meter.lags_s, meter.handled_s = 0, [], []
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds)
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        health = feed.health
        return {
            "frames_per_s": meter.frames / wall_s,
            "core_share": cpu_s / wall_s,
            "us_per_frame": 1e6 * cpu_s / max(meter.frames, 1),
            "lag_p99_ms": 1e3 * quantile(meter.lags_s, 0.99),
            "lag_max_ms": 1e3 * max(meter.lags_s, default=float("nan")),
            "handled_p50_ms": 1e3 * quantile(meter.handled_s, 0.5),
            "handled_p99_ms": 1e3 * quantile(meter.handled_s, 0.99),
            "memory_mb": process.memory_info().rss / 1e6,
            "bars": bars,
            "stream_share": health.stream_share if health else None,
            "final_p99_s": health.finality_s(0.99) if health else None,
        }
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await feed.close()


def _listen(feed: CcxtFeed, meter: Meter) -> None:
    pump = feed._pump
    stream = None if pump is None else pump._stream
    if stream is None:
        raise ChildFailed("the feed does not stream")
    hooks, take = stream._client.hooks, stream.take
    on_frame = hooks.on_frame

    def framed() -> None:
        meter.frame()
        on_frame()

    def taken() -> Any:
        found = take()
        meter.judged()
        return found

    hooks.on_frame = framed
    stream.take = taken  # type: ignore[method-assign]


async def idle(seconds: float) -> float:
    """Give the p99 lag of a loop that does nothing, in ms: what the machine itself adds."""
    meter = Meter()
    task = asyncio.create_task(meter.lag())
    await asyncio.sleep(seconds)
    task.cancel()
    return 1e3 * quantile(meter.lags_s, 0.99)


def main() -> None:
    """Measure the quiet exchange and the flood, and print both."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feed")
    parser.add_argument("--coins", type=int, default=200)
    parser.add_argument("--rate", type=int, default=5000, help="running klines a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    print(f"an idle loop lags by {asyncio.run(idle(5.0)):.1f} ms (p99)")
    for name, rate in (("as it is", 0), (f"{asked.rate} a second", asked.rate)):
        found = measure(asked.coins, rate, asked.seconds)
        print(f"\n{asked.coins} instruments, one-minute bars, {name}, {asked.seconds:g} s")
        for key, value in found.items():
            print(f"  {key:<16}{value:>12,.3f}" if value is not None else f"  {key:<16}{'-':>12}")


if __name__ == "__main__":
    main()
