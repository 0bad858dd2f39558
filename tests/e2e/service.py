"""Let a daemon serve for many simulated days with everything on, and weigh what it uses.

The market runs in lock-step with faults at the exchange. The servers that show the daemon to people
are frozen, killed and started at random meanwhile, pages are opened and left, metrics are asked for
all the time and a hook takes notices well, slowly or never. What the daemon's processes hold is
read once a simulated day; what grows with time shows as a slope.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import aiohttp
import numpy as np
import psutil
from aiohttp import web

from daemon.wiring.web import ADDRESS_FILE
from tests.e2e.line import NEUTRAL, Daemon, daemon, rehearse
from tests.e2e.servers import Server, Servers

DECISIONS_A_DAY: Final = 24
DAY_S_MAX: Final = 60.0  # of wall time, on a machine with other work
FAULT_SEED: Final = 3
PAGES: Final = 3
PAGE_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)
LAG: Final = re.compile(r'^equipoise_loop_lag_seconds\{quantile="0.99"\} (\S+)', re.MULTILINE)
MISSED: Final = re.compile(r"^equipoise_(?:feed_)?bars_absent_total\S* (\S+)", re.MULTILINE)
MIB: Final = 1 << 20
HEAD: Final = (
    " day  daemon MiB  worker MiB  page MiB  files  sockets  threads  state MiB  lag p99 ms"
)
WORKER: Final = "adapters.estimate_worker"
PAGE: Final = "daemon.wiring.web_process"


@dataclass(frozen=True, slots=True)
class Use:
    """Hold what the daemon holds at the end of a simulated day."""

    day: int
    daemon_mib: float  # resident memory of the process that trades
    worker_mib: float  # of the one that forecasts
    page_mib: float  # of the one that serves the page
    files_n: int  # open file descriptors of the process that trades
    sockets_n: int
    threads_n: int
    disk_mib: float  # the state folder
    lag_p99_ms: float  # how late the event loop came in the last minute of wall time; NaN unknown


@dataclass
class Service:
    """Hold what became of a service: one `Use` a day, and the last line of the run."""

    uses: list[Use] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    decisions_n: int = 0
    late: dict[str, list[str]] = field(default_factory=dict)  # bars a decision did without
    missed_n: float = math.nan  # bars that were due and never came, as the metrics count them
    alerts: Counter[str] = field(default_factory=Counter)  # by kind
    code: int = -1

    def slope(self, what: Callable[[Use], float], *, after_day: int) -> float:
        """Fit a line by least squares through the days after `after_day`; a day's rise."""
        kept = [use for use in self.uses if use.day > after_day]
        return float(np.polyfit([use.day for use in kept], [what(use) for use in kept], 1)[0])

    def greatest(self, what: Callable[[Use], float], *, after_day: int = 0) -> float:
        """Give the greatest value after `after_day`."""
        return max(what(use) for use in self.uses if use.day > after_day)

    def text(self) -> str:
        """Give the table for people."""
        struck = ", ".join(f"{n} x {what}" for what, n in sorted(self.struck.items()))
        rows = [
            f"{u.day:4d}  {u.daemon_mib:10.1f}  {u.worker_mib:10.1f}  {u.page_mib:8.1f}  "
            f"{u.files_n:5d}  {u.sockets_n:7d}  {u.threads_n:7d}  {u.disk_mib:9.2f}  "
            f"{u.lag_p99_ms:10.1f}"
            for u in self.uses
        ]
        lacking = "; ".join(f"{', '.join(who)} at {when}" for when, who in self.late.items())
        told = ", ".join(f"{n} x {kind}" for kind, n in sorted(self.alerts.items()))
        lines = [
            *("", HEAD, *rows),
            f"{self.decisions_n} decisions; bars missed: {self.missed_n:g}",
            f"bars that came after their decision: {lacking or 'none'}",
            f"beside it: {struck}; alerts: {told or 'none'}",
        ]
        return "\n".join(lines)


async def serve(folder: Path, servers: Servers, days: int, *, seed: int) -> Service:
    """Serve so many days; the servers suffer at random, the same for the same seed."""
    state, dice, served = folder / "state", Random(seed), Service()
    for server in servers.all:
        server.start()
        await server.ready()
    async with hook(Random(seed + 1), served) as url, onlookers(state, served) as look:
        shown = ("web.enabled=true", "web.port=0", f"notify.webhook_url={url}")
        words = rehearse(state, *NEUTRAL, *servers.overrides, *shown, "notify.severity_min=info")
        options = ("--days", str(days), "--faults", str(FAULT_SEED))
        async with daemon(*words, *options, cwd=folder, is_cold=True) as running:
            for day in range(1, days + 1):
                for part in range(1, 4):
                    whole = (day - 1) * DECISIONS_A_DAY + part * DECISIONS_A_DAY // 3
                    await running.until(_decided(whole), DAY_S_MAX)
                    strike(servers.all, dice, served)
                if not running.ended:
                    served.uses.append(_use(day, running, state, look))
            await running.until(lambda d: d.ended, DAY_S_MAX)
            served.code = await running.process.wait()
            served.missed_n = look.missed_n
            (stopped,) = running.of("stopped")
    served.decisions_n = stopped["decisions"]
    lacking = [line for line in running.of("decision") if line["absent"]]
    served.late = {line["as_of"]: line["absent"] for line in lacking}
    served.alerts = Counter(line["kind"] for line in running.of("alert"))
    assert stopped["bars_absent"] == sum(map(len, served.late.values()))
    return served


def _decided(count: int) -> Callable[[Daemon], bool]:
    return lambda d: d.count["decision"] >= count or d.count["stopped"] > 0


def strike(servers: Sequence[Server], dice: Random, served: Service) -> None:
    """Do something to one server: freeze it, thaw it, kill it, or start it again."""
    served.struck[dice.choice(list(servers)).suffer(dice)] += 1


# ---- who looks on --------------------------------------------------------------------------------


@asynccontextmanager
async def hook(dice: Random, served: Service) -> AsyncIterator[str]:
    """Give the address of a hook that takes a notice, refuses it, or never answers."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        served.struck["notice"] += 1
        mood = dice.random()
        if mood < 0.2:
            await asyncio.sleep(30)
        return web.Response(status=200 if mood < 0.7 else 500)

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        await runner.cleanup()


@dataclass
class Look:
    """Hold what the metrics said last."""

    lag_p99_s: float = math.nan
    missed_n: float = math.nan


@asynccontextmanager
async def onlookers(state: Path, served: Service) -> AsyncIterator[Look]:
    """Open pages and leave them, and ask for metrics, for as long as the context lasts."""
    look = Look()
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        tasks = [group.create_task(_open_pages(session, state, served)) for _ in range(PAGES)]
        tasks.append(group.create_task(_scrape(session, state, look, served)))
        try:
            yield look
        finally:
            for task in tasks:
                task.cancel()


def _address(state: Path) -> str | None:
    with suppress(OSError):
        return (state / ADDRESS_FILE).read_text(encoding="utf-8").strip().rstrip("/") or None
    return None


async def _open_pages(session: aiohttp.ClientSession, state: Path, served: Service) -> None:
    while True:
        address = _address(state)
        if address is not None:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"{address}/api/events", timeout=PAGE_TIMEOUT) as stream:
                    served.struck["page"] += 1
                    await stream.content.read()
        await asyncio.sleep(0.2)


def _number(metric: re.Pattern[str], text: str) -> float:
    found = metric.search(text)
    return float(found[1]) if found else math.nan


async def _scrape(session: aiohttp.ClientSession, state: Path, look: Look, served: Service) -> None:
    while True:
        address = _address(state)
        if address is not None:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"{address}/metrics", timeout=PAGE_TIMEOUT) as answer:
                    text = await answer.text()
                    look.lag_p99_s = _number(LAG, text)
                    look.missed_n = _number(MISSED, text)
                    served.struck["scrape"] += 1
        await asyncio.sleep(1.0)


def _use(day: int, running: Daemon, state: Path, look: Look) -> Use:
    main = psutil.Process(running.process.pid)
    family = [(" ".join(p.cmdline()), p.memory_info().rss) for p in main.children(recursive=True)]

    def mib(name: str) -> float:
        return sum(rss for words, rss in family if name in words) / MIB

    return Use(
        day,
        main.memory_info().rss / MIB,
        mib(WORKER),
        mib(PAGE),
        main.num_fds(),
        len(main.net_connections(kind="all")),
        main.num_threads(),
        sum(file.stat().st_size for file in state.rglob("*") if file.is_file()) / MIB,
        1000 * look.lag_p99_s,
    )
