"""Measure the feed under load: the real feed and ccxt against a loopback exchange in a process.

    python -m benchmarks.feed [--coins 200] [--rate 5000] [--seconds 60]

Prints, for the quiet exchange (one-minute bars as they are) and for the flood: frames a second, the
share of one core that our process used, lag of the event loop, time from a frame's arrival until
what it says was judged, memory; and beside each figure with a bound whether it is kept. A frame
arrives when its last byte is read from the socket, before anything is decoded: its wait behind
other frames, decoding and judging are all in the figure. What the kernel holds while the loop is
busy is not; the lag of the loop tells it. Shared machines are noisy: the lag of an idle loop is
printed too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
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
CORE_SHARE_MAX: Final = 0.35
HANDLED_P99_MS_MAX: Final = 10.0
RATE_SHARE_MIN: Final = 0.99  # of the rate that was asked for


class Meter:
    """Collect lags of the loop and the handling times of frames."""

    def __init__(self) -> None:
        self.lags_s: list[float] = []
        self.handled_s: list[float] = []
        self.frames = 0
        self._read: deque[float] = deque()  # frames off the socket that the client did not take yet
        self._waiting: list[float] = []

    def read(self, count: int, at_s: float) -> None:
        """Note that so many frames were read from the socket."""
        self._read.extend([at_s] * count)

    def frame(self) -> None:
        """Note that the client takes the next frame, in the order of their arrival."""
        self.frames += 1
        self._waiting.append(self._read.popleft() if self._read else time.perf_counter())

    def begin(self) -> None:
        """Forget what was measured up to now."""
        self.frames, self.lags_s, self.handled_s = 0, [], []

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
        meter.begin()
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
    for socket in stream._client.api.clients.values():
        _stamp(socket, meter)

    def taken() -> Any:
        found = take()
        meter.judged()
        return found

    hooks.on_arrival = meter.frame
    stream.take = taken  # type: ignore[method-assign]


def _stamp(socket: Any, meter: Meter) -> None:
    """Note each read of a socket, and how many frames it completed."""
    protocol = socket.connection._conn.protocol
    received = protocol.data_received

    def stamped(data: bytes) -> None:
        at_s, before = time.perf_counter(), len(socket.buffer)
        received(data)
        meter.read(len(socket.buffer) - before, at_s)

    protocol.data_received = stamped


def kept(found: Mapping[str, float | None], rate: int) -> dict[str, bool]:
    """Say of each figure that has a bound whether it is kept; a figure that is missing is not."""

    def below(name: str, most: float) -> bool:
        value = found.get(name)
        return value is not None and value <= most  # NaN is not

    frames_per_s = found.get("frames_per_s") or 0.0
    return {
        "frames_per_s": frames_per_s >= RATE_SHARE_MIN * rate,
        "core_share": below("core_share", CORE_SHARE_MAX),
        "handled_p99_ms": below("handled_p99_ms", HANDLED_P99_MS_MAX),
        "lag_p99_ms": below("lag_p99_ms", HANDLED_P99_MS_MAX),
    }


def table(found: Mapping[str, float | None], rate: int) -> list[str]:
    """Write the figures, one a line, with the bound and the verdict where there is one."""
    bounds = {
        "frames_per_s": f"at least {RATE_SHARE_MIN * rate:g}",
        "core_share": f"at most {CORE_SHARE_MAX:g}",
        "handled_p99_ms": f"at most {HANDLED_P99_MS_MAX:g}",
        "lag_p99_ms": f"at most {HANDLED_P99_MS_MAX:g}, as for handling",
    }
    verdicts = kept(found, rate)
    lines = []
    for key, value in found.items():
        shown = f"  {key:<16}" + (f"{value:>12,.3f}" if value is not None else f"{'-':>12}")
        if key in bounds:
            shown += f"   {'kept' if verdicts[key] else 'NOT KEPT'} ({bounds[key]})"
        lines.append(shown)
    return lines


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
        print("\n".join(table(found, rate)))


if __name__ == "__main__":
    main()
