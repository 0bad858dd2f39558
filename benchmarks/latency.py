"""Measure a live session's latency: from the last bar's bytes to the first order's, by parts.

    python -m benchmarks.latency [--sizes 20 200] [--decisions 100] [--estimator momentum]
        [--spread-ms 250] [--slowest 0]

The whole live session (feed, engine, estimate worker, journal with its flushes, ccxt, signatures)
against the rehearsal exchange in a process of its own, in Binance's words. `arrived` is when the
bytes of the last closed bar of the instant were read from the socket; `first order` is the write of
its first byte. The last column is CPU time of the loop's thread, which other work on the machine
does not lengthen. Bound: all but the forecast and the durable write within 10 ms. In the same run,
for comparison: a bare create_order of the same client library (to its first byte), and a bare write
of a record's size with fsync.

Binance says what a kline stream has to say each 250 ms; so do the streams here, evenly. With
`--spread-ms 0` all frames of an instant lie in the socket at once: what is read first then waits
for what is read with it. At instants at which funding settles, bars wait for the venue's rates:
such decisions are told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from adapters.ccxt_venue.preparing import account_name
from adapters.exchange.feed import CcxtFeed
from benchmarks.feed import quantile
from benchmarks.latency_stamps import MODEL, PARTS, Decision, Moment, Stamps
from benchmarks.measured import ChildFailed
from daemon.commands.running import settled_start
from daemon.domain.messages import Command, Decided, Event
from daemon.domain.units import HOUR_MS, Timeframe, iso
from daemon.engine.engine import Engine
from daemon.settings import Settings, load_settings
from daemon.wiring.live_session import live_session
from daemon.wiring.session import SessionHooks

ROOT: Final = Path(__file__).resolve().parent.parent
OUT: Final = ROOT / "benchmarks" / "out"
KEY, SECRET = "key-of-the-benchmark", "secret-of-the-benchmark"
FACTORS: Final = {20: 1800.0, 200: 450.0}  # 30 minutes in 1 and 4 s
SPREAD_MS: Final = 250.0
MARKETS_EVERY_MIN: Final = 15.0  # of the wall, as in real time
DAY_MIN: Final = 1440.0
SETTLEMENT_MS: Final = 4 * HOUR_MS  # of some contracts; the others settle at every other one
BARE_N: Final = 100
RECORD_BYTES: Final = 16_384
OURS_MS_MAX: Final = 10.0
SETTLE_DECISIONS: Final = 3
START_S_MAX: Final = 120.0
DECISION_S_MAX: Final = 20.0


def settings_at(
    told: Mapping[str, Any], coins: int, estimator: str, state: Path, factor: float
) -> Settings:
    """Give settings of a session that trades at each decision, against the exchange told."""
    parameters = json.dumps({"band": "fixed", "band_weight": 0.0})
    settings = load_settings(
        [ROOT / "config" / "rehearsal.toml"],
        overrides=[
            f"run.state_folder={state}",
            f"universe.symbols=top:{coins}",
            "strategy.name=neutral",
            f"strategy.parameters={parameters}",
            f"estimator.kind={estimator}",
            f"live.account={account_name('binanceusdm', told['account_id'])}",
            "market.window_bars=80",
            "live.dead_man_s=0",  # 120 s of an accelerated market are milliseconds
            "market.decision_deadline_s=600",
            "risk.uncertain_queries_max=100",
            "redis.enabled=false",
            "web.enabled=false",
            f"exchange.markets_every_min={min(MARKETS_EVERY_MIN * factor, DAY_MIN)}",
        ],
        environment={},
    )
    led = {"options": {**told["options"]}, "market_time": "venue", "lockstep_url": ""}
    exchange = settings.exchange.model_copy(update=led)
    return settings.model_copy(update={"exchange": exchange})


def measure(
    coins: int, decisions: int, estimator: str, seconds: float, spread_ms: float
) -> dict[str, Any]:
    """Run a session against an exchange of so many coins until it has decided so often.

    seconds: after which it ends in any case; 0 for what so many decisions may take. spread_ms:
    within which the streams say what an instant brings.
    """
    seconds = seconds or START_S_MAX + DECISION_S_MAX * decisions
    factor = FACTORS.get(coins, 1200.0)
    asked = [sys.executable, "-m", "benchmarks.trading_exchange", str(coins), str(factor)]
    pipe = subprocess.PIPE
    asked += [KEY, SECRET, str(spread_ms)]
    with subprocess.Popen(asked, cwd=ROOT, stdin=pipe, stdout=pipe) as child:
        stdin, stdout = child.stdin, child.stdout
        if stdin is None or stdout is None:
            raise ChildFailed("the exchange has no pipes")
        try:
            told = json.loads(stdout.readline())
            OUT.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=OUT) as folder:
                state = Path(folder) / "state"
                settings = settings_at(told, coins, estimator, state, factor)
                return asyncio.run(followed(settings, factor, decisions, told["options"], seconds))
        finally:
            stdin.close()


async def followed(
    settings: Settings,
    factor: float,
    decisions: int,
    options: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """Follow a session until it has decided so often, then measure the bare parts."""
    stamps, stop = Stamps(Timeframe.parse(settings.market.source)), asyncio.Event()
    decided_n, wanted_n = 0, decisions + SETTLE_DECISIONS

    def observe(event: Event, commands: Sequence[Command], engine: Engine) -> None:
        nonlocal decided_n
        decided_n += sum(isinstance(c, Decided) for c in commands)
        if decided_n == 1 and not feeds:
            feeds.extend(_feeds(shell._parts.feed))
            for feed in feeds:
                stamps.follow_feed(feed)
        if len(stamps.decisions) >= wanted_n:
            stop.set()

    feeds: list[CcxtFeed] = []
    hooks = SessionHooks(observers=(observe, settled_start), speed=factor, is_rehearsal=True)
    around = {
        "EQUIPOISE_BINANCEUSDM_API_KEY": KEY,
        "EQUIPOISE_BINANCEUSDM_SECRET": SECRET,
        "XDG_STATE_HOME": str(settings.run.state_folder.parent / "latches"),
    }
    async with live_session(settings, hooks, environment=around) as shell:
        stamps.follow(shell)
        with stamps.on_the_wire():
            asyncio.get_running_loop().call_later(seconds, stop.set)
            await shell.run(stop)
    found = [one for one in stamps.decisions[SETTLE_DECISIONS:] if one.is_whole]
    size = (settings.run.state_folder / "journal.sqlite").stat().st_size
    bare_ms = await bare_orders(settings, options)
    write_ms = bare_writes(settings.run.state_folder)
    return {"decisions": found, "seen_n": len(stamps.decisions) - SETTLE_DECISIONS,
            "bare_ms": bare_ms, "write_ms": write_ms, "journal_bytes": size}  # fmt: skip


def _feeds(feed: Any) -> list[CcxtFeed]:
    """Find the feeds of the venues under what was laid over them."""
    while not hasattr(feed, "_feeds"):
        feed = feed._inner
    return list(feed._feeds)


async def bare_orders(settings: Settings, options: Mapping[str, Any]) -> list[float]:
    """Send orders with the client library alone; give the ms from the call to the first byte."""
    import ccxt.pro

    api = ccxt.pro.binanceusdm({**options, "apiKey": KEY, "secret": SECRET})
    wire: list[Moment] = []
    took: list[float] = []
    try:
        await api.load_markets()
        server_ms = int(await api.fetch_time())
        api.options["timeDifference"] = api.milliseconds() - server_ms
        symbol = next(iter(api.markets))
        ticker = await api.fetch_ticker(symbol)
        amount = api.amount_to_precision(symbol, 200.0 / float(ticker["last"]))
        with Stamps(Timeframe.parse(settings.market.source)).on_the_wire(wire.append):
            for _ in range(BARE_N):
                api.options["timeDifference"] = api.milliseconds() - int(await api.fetch_time())
                began, n = time.perf_counter(), len(wire)
                try:
                    await api.create_order(symbol, "market", "buy", float(amount))
                except ccxt.BaseError as refused:
                    if len(wire) == n:
                        raise ChildFailed(f"a bare order never left: {refused}") from refused
                took.append(1e3 * (wire[n].wall_s - began))
    finally:
        await api.close()
    return took


def bare_writes(folder: Path) -> list[float]:
    """Append a record's size to a file and flush it to the disk; give the ms of each."""
    block, took = os.urandom(RECORD_BYTES), []
    with (folder / "bare").open("ab", buffering=0) as file:
        for _ in range(BARE_N):
            began = time.perf_counter()
            file.write(block)
            os.fsync(file.fileno())
            took.append(1e3 * (time.perf_counter() - began))
    return took


def line(name: str, values: Sequence[float], cpu: Sequence[float] = ()) -> str:
    """Write p50, p99 and the largest of some figures, and p50 of what they cost the processor."""
    shown = [quantile(list(values), 0.5), quantile(list(values), 0.99), max(values, default=0.0)]
    shown += [quantile(list(cpu), 0.5)] if cpu else []
    return f"  {name:<34}" + "".join(f"{value:>10.2f}" for value in shown)


def table(told: Sequence[Decision], bare_ms: list[float], write_ms: list[float]) -> list[str]:
    """Write what was measured, in ms: the whole, its parts, what has a bound, the references."""
    found = [one for one in told if one.close_ms % SETTLEMENT_MS]
    settling = [one for one in told if not one.close_ms % SETTLEMENT_MS]
    wall, cpu = [[one.parts_ms(cpu=c) for one in found] for c in (False, True)]
    lines = [f"  {'ms':<34}{'p50':>10}{'p99':>10}{'max':>10}{'CPU p50':>10}"]
    lines += [line(f"  {n}", [p[n] for p in wall], [p[n] for p in cpu]) for n in PARTS]
    lines.append(line("last bar -> first order", [one.total_ms for one in found]))
    lines.append(line("last bar -> last of first slice", [one.last_ms for one in found]))
    ours = [one.ours_ms() for one in found]
    shown = line(f"all but {MODEL} and write", ours, [one.ours_ms(cpu=True) for one in found])
    verdict = {q: "kept" if quantile(ours, q) <= OURS_MS_MAX else "NOT KEPT" for q in (0.5, 0.99)}
    lines.append(f"{shown}   p50 {verdict[0.5]}, p99 {verdict[0.99]} (at most {OURS_MS_MAX:g})")
    lines.append(line(f"the same at {len(settling)} settlements", [x.ours_ms() for x in settling]))
    writes = [1e3 * s for one in found for s in one.writing_s]
    lines.append(line("a durable write of the journal", writes))
    lines.append(line("reference: bare create_order", bare_ms))
    lines.append(line(f"reference: {RECORD_BYTES // 1024} KiB and fsync", write_ms))
    return lines


def slowest(found: Sequence[Decision], count: int) -> list[str]:
    """Write the parts of the slowest decisions, in ms, wall and CPU: what made them slow."""
    ranked = sorted(found, key=lambda one: one.ours_ms(), reverse=True)[:count]
    lines = [f"  the slowest {len(ranked)}, wall/CPU ms"] if ranked else []
    for one in ranked:
        wall, cpu = one.parts_ms(), one.parts_ms(cpu=True)
        parts = "  ".join(f"{name} {wall[name]:.1f}/{cpu[name]:.1f}" for name in PARTS)
        lines.append(f"    {iso(one.close_ms)}  {parts}")
    return lines


def main() -> None:
    """Measure each size that was asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency")
    parser.add_argument("--sizes", type=int, nargs="+", default=(20, 200))
    parser.add_argument("--decisions", type=int, default=100)
    parser.add_argument("--estimator", default="momentum", choices=("momentum", "last_return"))
    parser.add_argument("--seconds", type=float, default=0.0, help="end after so many at most")
    parser.add_argument("--spread-ms", type=float, default=SPREAD_MS, help="0: all at once")
    parser.add_argument("--slowest", type=int, default=0, help="show the parts of so many")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    for coins in asked.sizes:
        found = measure(coins, asked.decisions, asked.estimator, asked.seconds, asked.spread_ms)
        told: list[Decision] = found["decisions"]
        slice_n = quantile([float(one.slice_n) for one in told], 0.5)
        load = os.getloadavg()[0]
        print(
            f"\n{coins} instruments, {len(told)} of {found['seen_n']} decisions measured, first "
            f"slice {slice_n:g} orders, load {load:.1f}"
        )
        shown = table(told, found["bare_ms"], found["write_ms"]) + slowest(told, asked.slowest)
        print("\n".join(shown), flush=True)


if __name__ == "__main__":
    main()
