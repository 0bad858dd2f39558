"""Time one reading of an account with many contracts: one question after another, and side by side.

    python -m benchmarks.reconciliation [--coins 200] [--trip-ms 50] [--runs 3]

At Binance fills are listed contract by contract. The live venue reads a rehearsal exchange in a
process of its own, over a line whose round trip takes `--trip-ms`; the client keeps its pace.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

from adapters.ccxt_venue import listings
from adapters.ccxt_venue.keys import Credentials, Hidden
from adapters.ccxt_venue.opening import Opening, opened
from adapters.ccxt_venue.pacing import pace
from adapters.ccxt_venue.preparing import Wishes, account_name
from adapters.ccxt_venue.venue import CcxtVenue, VenueRules
from adapters.clocks import SystemClock, TransportClock
from adapters.exchange.feed import CcxtFeed, FeedSettings
from adapters.rehearsal.ccxt_options import ccxt_options
from benchmarks.latency import KEY, ROOT, SECRET
from benchmarks.measured import ChildFailed
from daemon.domain.instrument import Instrument
from daemon.domain.units import HOUR_MS

VENUE: Final = "binanceusdm"
WINDOW_MS: Final = 10_000


@asynccontextmanager
async def slow_line(url: str, trip_s: float) -> AsyncIterator[str]:
    """Give the address of a line to `url` on which each way takes half of `trip_s`."""
    parts, loop = urlsplit(url), asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(1 << 20):
                loop.call_later(trip_s / 2, sink.write, data)
        loop.call_later(trip_s / 2, sink.close)

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection(parts.hostname, parts.port)
        for source, sink in ((reader, here), (there, writer)):
            task = asyncio.create_task(carry(source, sink))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def readings(venue: CcxtVenue, runs: int, parallel_n: int) -> list[float]:
    """Give the seconds that each of some readings of the account took."""
    took = []
    for _ in range(runs):
        listings.PARALLEL_N = parallel_n  # type: ignore[misc]
        _paced(venue)  # with a budget that nobody has used yet
        began = time.perf_counter()
        await venue.snapshot(TransportClock().wall_ms() - HOUR_MS, VENUE)
        took.append(time.perf_counter() - began)
    return took


def _paced(venue: CcxtVenue) -> None:
    api: Any = venue._caller.api
    api.enableRateLimit, api.throttle = True, None
    pace(VENUE, api)


async def measure(told: dict[str, Any], trip_s: float, runs: int) -> dict[int, list[float]]:
    """Measure with one question at a time, and with as many as the venue is asked at once."""
    rest_url = told["options"]["urls"]["api"]["fapiPublic"].removesuffix("/fapi/v1")
    sockets_url = told["options"]["urls"]["api"]["ws"]["linear"].removesuffix("/ws")
    async with slow_line(rest_url, trip_s) as slow_url:
        options = ccxt_options(slow_url, sockets_url)
        instruments = await _instruments(options)
        opening = Opening(
            VENUE,
            options,
            Credentials(VENUE, Hidden(KEY), Hidden(SECRET)),
            instruments,
            Wishes(account_name(VENUE, told["account_id"]), 5, "refuse", frozenset()),
            VenueRules(receive_window_ms=WINDOW_MS),
            TransportClock().wall_ms,
            None,
            lambda at_ms: None,
        )
        async with opened(opening) as venue:
            await venue.snapshot(0, VENUE)
            usual_n = listings.PARALLEL_N
            return {n: await readings(venue, runs, n) for n in (1, usual_n)}


async def _instruments(options: dict[str, Any]) -> list[Instrument]:
    clock = TransportClock()
    feed = CcxtFeed(FeedSettings(VENUE, ("top:200",), options=options), SystemClock(clock), clock)
    try:
        return list(await feed.instruments())
    finally:
        await feed.close()


def main() -> None:
    """Measure and print both."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reconciliation")
    parser.add_argument("--coins", type=int, default=200)
    parser.add_argument("--trip-ms", type=float, default=50.0)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    command = [sys.executable, "-m", "benchmarks.trading_exchange", str(asked.coins), "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, KEY, SECRET], cwd=ROOT, stdin=pipe, stdout=pipe) as child:
        stdin, stdout = child.stdin, child.stdout
        if stdin is None or stdout is None:
            raise ChildFailed("the exchange has no pipes")
        try:
            told = json.loads(stdout.readline())
            found = asyncio.run(measure(told, asked.trip_ms / 1000, asked.runs))
        finally:
            stdin.close()
    print(f"{asked.coins} contracts, a round trip of {asked.trip_ms:g} ms")
    for parallel_n, took in found.items():
        shown = ", ".join(f"{one:.2f}" for one in took)
        print(f"  {parallel_n} at once: {min(took):.2f} s at best ({shown})")


if __name__ == "__main__":
    main()
