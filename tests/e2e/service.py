"""Let a daemon serve for many simulated days with everything on, and weigh what it uses.

The market runs in lock-step with faults at the exchange. The servers that show the daemon to people
are frozen, killed and started at random meanwhile. What the daemon's processes hold is read once a
simulated day; what grows with time shows as a slope.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import psutil

from tests.e2e.line import NEUTRAL, Daemon, daemon, rehearse
from tests.e2e.servers import Server, Servers

DECISIONS_A_DAY: Final = 24
DAY_S_MAX: Final = 60.0  # of wall time, on a machine with other work
FAULT_SEED: Final = 3
MIB: Final = 1 << 20
HEAD: Final = " day  daemon MiB  worker MiB  files  sockets  threads  state MiB"
WORKER: Final = "adapters.estimate_worker"


@dataclass(frozen=True, slots=True)
class Use:
    """Hold what the daemon holds at the end of a simulated day."""

    day: int
    daemon_mib: float  # resident memory of the process that trades
    worker_mib: float  # of the one that forecasts
    files_n: int  # open file descriptors of the process that trades
    sockets_n: int
    threads_n: int
    disk_mib: float  # the state folder


@dataclass
class Service:
    """Hold what became of a service: one `Use` a day, and the last line of the run."""

    uses: list[Use] = field(default_factory=list)
    struck: dict[str, int] = field(default_factory=dict)
    decisions_n: int = 0
    absent: dict[str, list[str]] = field(default_factory=dict)  # bars a decision did without
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
            f"{u.day:4d}  {u.daemon_mib:10.1f}  {u.worker_mib:10.1f}  {u.files_n:5d}  "
            f"{u.sockets_n:7d}  {u.threads_n:7d}  {u.disk_mib:9.2f}"
            for u in self.uses
        ]
        lacking = "; ".join(f"{', '.join(who)} at {when}" for when, who in self.absent.items())
        told = ", ".join(f"{n} x {kind}" for kind, n in sorted(self.alerts.items()))
        lines = [
            *("", HEAD, *rows),
            f"{self.decisions_n} decisions; bars absent: {lacking or 'none'}",
            f"servers: {struck}; alerts: {told or 'none'}",
        ]
        return "\n".join(lines)


async def serve(folder: Path, servers: Servers, days: int, *, seed: int) -> Service:
    """Serve so many days; the servers suffer at random, the same for the same seed."""
    state, dice, served = folder / "state", Random(seed), Service()
    words = rehearse(state, *NEUTRAL, *servers.overrides)
    for server in servers.all:
        server.start()
        await server.ready()
    options = ("--days", str(days), "--faults", str(FAULT_SEED))
    async with daemon(*words, *options, cwd=folder, is_cold=True) as running:
        for day in range(1, days + 1):
            for part in range(1, 4):
                whole = (day - 1) * DECISIONS_A_DAY + part * DECISIONS_A_DAY // 3
                await running.until(_decided(whole), DAY_S_MAX)
                strike(servers.all, dice, served)
            if not running.ended:
                served.uses.append(_use(day, running, state))
        await running.until(lambda d: d.ended, DAY_S_MAX)
        served.code = await running.process.wait()
        (stopped,) = running.of("stopped")
        served.decisions_n = stopped["decisions"]
        lacking = [line for line in running.of("decision") if line["absent"]]
        served.absent = {line["as_of"]: line["absent"] for line in lacking}
        served.alerts = Counter(line["kind"] for line in running.of("alert"))
        assert stopped["bars_absent"] == sum(map(len, served.absent.values()))
    return served


def _decided(count: int) -> Callable[[Daemon], bool]:
    return lambda d: d.count["decision"] >= count or d.count["stopped"] > 0


def strike(servers: Sequence[Server], dice: Random, served: Service) -> None:
    """Do something to one server: freeze it, thaw it, kill it, or start it again."""
    server = dice.choice(list(servers))
    what = server.suffer(dice)
    served.struck[what] = served.struck.get(what, 0) + 1


def _use(day: int, running: Daemon, state: Path) -> Use:
    main = psutil.Process(running.process.pid)
    workers = [p for p in main.children(recursive=True) if WORKER in " ".join(p.cmdline())]
    return Use(
        day,
        main.memory_info().rss / MIB,
        sum(p.memory_info().rss for p in workers) / MIB,
        main.num_fds(),
        len(main.net_connections(kind="all")),
        main.num_threads(),
        sum(file.stat().st_size for file in state.rglob("*") if file.is_file()) / MIB,
    )
