"""Run the command line as a user does, and read what it says and leaves behind.

Every program runs in a process of its own, in a folder of its own and without our environment
variables, so that nothing of the machine a test runs on has a say.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import psutil

from adapters.journal import JournalReader
from adapters.paper import SqliteStore
from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.messages import FundingPaid, OrderFilled, Snapshotted, Submit
from daemon.domain.order import Fill, OrderId
from daemon.domain.portfolio import Ledger
from daemon.domain.units import Timeframe
from daemon.engine.reconcile import differences
from daemon.runtime.recovery import replay_entry
from daemon.settings import Settings, load_settings
from daemon.wiring.core import engine_of, universe_of
from daemon.wiring.instruments import read_instruments

ROOT: Final = Path(__file__).resolve().parents[2]
REHEARSAL: Final = ROOT / "config" / "rehearsal.toml"
# A rule without forecasts over short windows: the whole line, and the first decision at once.
SMALL: Final = (
    "strategy.name=relative_strength",
    "strategy.parameters={}",  # those of the settings file belong to its own strategy
    "estimator.kind=none",
    "market.window_bars=30",
    "training.days=10",
)
# The default strategy with forecasts of a baseline, which come from the worker process.
NEUTRAL: Final = (
    "strategy.name=neutral",
    "estimator.kind=momentum",
    "market.window_bars=80",
    "training.days=10",
)
START_S_MAX: Final = 90.0
STOP_S_MAX: Final = 5.0  # the promise of the command line
LOOK_S: Final = 0.02  # between two looks at a file that cannot tell us of changes
LINE_BYTES_MAX: Final = 1 << 20
ORDERS_MAX: Final = 1_000_000

Values = dict[str, Any]


def settings_of(state: Path, *overrides: str, base: Path = REHEARSAL) -> Settings:
    """Read settings as a command with these `--set` options would."""
    chosen = [f"run.state_folder={state}", *overrides]
    return load_settings([base], overrides=chosen, environment={})


def sets(overrides: Iterable[str]) -> list[str]:
    """Write overrides as options of a command."""
    return [word for one in overrides for word in ("--set", one)]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give our environment without anything that could change settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("EQUIPOISE")}
    return {**kept, "COLUMNS": "200", **(extra or {})}


def program(*arguments: str | Path) -> list[str]:
    """Give the command that runs the command line in this interpreter."""
    return [sys.executable, "-m", "daemon", *map(str, arguments)]


# ---- commands that end by themselves -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finished:
    """Hold how a command ended."""

    code: int
    out: str
    complaint: str  # what it wrote to stderr

    @property
    def values(self) -> Values:
        """Read stdout as one JSON object."""
        found: Values = json.loads(self.out)
        return found


def command(
    *arguments: str | Path,
    cwd: Path,
    seconds: float = 60.0,
    extra: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> Finished:
    """Run a command to its end; `before` runs in the child first (limits of its resources)."""
    done = subprocess.run(
        program(*arguments),
        cwd=cwd,
        env=environment(extra),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        preexec_fn=before,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


# ---- a daemon that runs until it is told to stop -------------------------------------------------


@dataclass
class Daemon:
    """Hold a running command that prints one JSON object a line."""

    process: asyncio.subprocess.Process
    log: Path
    lines: list[Values] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _reader: asyncio.Task[None] | None = None

    def read(self) -> None:
        """Read along in the background, so that the daemon never waits for us."""
        self._reader = asyncio.create_task(self._read(), name="reader of a daemon")

    async def until(self, wanted: Callable[[Daemon], bool], seconds: float = START_S_MAX) -> None:
        """Wait until what it printed satisfies `wanted`; fail with its log when it ends before."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: wanted(self) or self.ended)
        assert wanted(self), f"ended with {self.process.returncode}:\n{self.said}"

    async def decided(self, count: int, seconds: float = START_S_MAX) -> None:
        """Wait for so many decisions since the start."""
        await self.until(lambda d: len(d.of("decision")) >= count, seconds)

    async def beginning(self, file: Path, seconds: float = START_S_MAX) -> None:
        """Wait until it has made a file."""
        async with asyncio.timeout(seconds):
            while not file.exists() and not self.ended:  # noqa: ASYNC110, ASYNC240 - no event
                await asyncio.sleep(LOOK_S)
        assert not self.ended, self.said

    def of(self, kind: str) -> list[Values]:
        """Give the printed objects of one type."""
        return [line for line in self.lines if line.get("type") == kind]

    @property
    def ended(self) -> bool:
        """Tell whether its output has ended."""
        return self._reader is not None and self._reader.done()

    @property
    def said(self) -> str:
        """Give what it wrote to stderr."""
        return self.log.read_text(encoding="utf-8")

    def family(self) -> list[psutil.Process]:
        """List the processes that it has started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    async def end(self, number: int, seconds: float = STOP_S_MAX) -> int:
        """Send a signal and give the exit code; fails when it takes longer than `seconds`.

        SIGINT goes to the whole foreground group, as when someone presses Ctrl-C at a terminal.
        """
        if self.process.returncode is None and number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        elif self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def kill(self) -> None:
        """End it as a power cut would, and wait until all that it started is gone too."""
        assert not self.ended, f"it had ended by itself:\n{self.said}"
        family = self.family()
        await self.end(signal.SIGKILL)
        await gone(family)

    async def close(self) -> None:
        """Make sure that nothing of it is left."""
        if self.process.returncode is None and not self.ended:
            await self.kill()
        await self.process.wait()
        if self._reader is not None:
            await self._reader

    async def _read(self) -> None:
        assert self.process.stdout is not None
        try:
            while raw := await self.process.stdout.readline():
                async with self._news:
                    if raw.endswith(b"\n"):  # a kill may cut the last line
                        self.lines.append(json.loads(raw))
                    self._news.notify_all()
        finally:
            # the waiters look at `ended`, which is true only after this task's last step
            asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        self._waking = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


@asynccontextmanager
async def daemon(
    *arguments: str | Path, cwd: Path, extra: Mapping[str, str] | None = None
) -> AsyncIterator[Daemon]:
    """Start a command with --json and yield it; whatever happens, nothing of it is left."""
    log = cwd / "stderr.log"
    with log.open("ab") as complaints:
        process = await asyncio.create_subprocess_exec(
            *program(*arguments, "--json"),
            cwd=cwd,
            env=environment(extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            limit=LINE_BYTES_MAX,
            start_new_session=True,
        )
    running = Daemon(process, log)
    running.read()
    try:
        yield running
    finally:
        await running.close()


def rehearse(state: Path, *overrides: str) -> list[str]:
    """Give the arguments of a rehearsal in this state folder."""
    return ["rehearse", *sets([f"run.state_folder={state}", *overrides])]


async def gone(processes: Iterable[psutil.Process], seconds: float = 10.0) -> None:
    """Wait until none of these processes lives; fails and names those that do."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, list(processes), seconds)
    assert not alive, f"left behind: {[p.cmdline() for p in alive]}"


# ---- what a run leaves behind --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Account:
    """Hold the paper account's own file: what is owned, every order, every execution in order."""

    quantities: Mapping[InstrumentKey, Decimal]
    cash: Mapping[CashKey, Decimal]
    fills: tuple[Fill, ...]
    funding: tuple[FundingPaid, ...]
    order_ids: frozenset[OrderId]


def copied(state: Path, to: Path) -> Path:
    """Copy the durable files as a kill left them: reading them must not mend the original."""
    to.mkdir(parents=True)
    for name in ("journal.sqlite", "paper.sqlite"):
        for suffix in ("", "-wal"):
            if (state / f"{name}{suffix}").exists():
                shutil.copy(state / f"{name}{suffix}", to)
    shutil.copy(state / "instruments.json", to)
    return to


def read_account(state: Path) -> Account | None:
    """Read the paper ledger, which checks that it adds up; None before the account was opened."""
    store = SqliteStore(state / "paper.sqlite")
    try:
        loaded = store.load(ORDERS_MAX)
        if loaded is None:
            return None
        account = loaded.state.account
        executions = tuple(store.executions_after(0, account.executions_n))
    finally:
        store.close()
    ledger = account.ledger
    return Account(
        quantities=held(ledger),
        cash=dict(ledger.cash),
        fills=tuple(e.fill for e in executions if isinstance(e, OrderFilled)),
        funding=tuple(e for e in executions if isinstance(e, FundingPaid)),
        order_ids=frozenset(record.order.order_id for record in loaded.orders),
    )


def held(ledger: Ledger) -> dict[InstrumentKey, Decimal]:
    """Give the positions that are not flat."""
    return {k: p.quantity for k, p in ledger.positions.items() if p.quantity}


@dataclass(frozen=True, slots=True)
class Book:
    """Hold the engine's book after its journal was played again from the first entry."""

    ledger: Ledger
    trade_ids: frozenset[str]
    submitted: frozenset[OrderId]
    net_weight_worst: float
    entries: int
    reconciliations: int


def replay_book(settings: Settings) -> Book:
    """Play a journal again; every command must be the recorded one, every account ours.

    One engine goes through all of it, where the daemon began anew from a snapshot at each start. At
    each account that the venue gave, ours must be the same, once the engine has settled on it.
    """
    universe = universe_of(read_instruments(settings.run.state_folder))
    engine = engine_of(settings, universe, Timeframe.parse(settings.market.source))
    trade_ids, submitted = set[str](), set[OrderId]()
    count = reconciliations = 0
    for entry in JournalReader(settings.run.state_folder / "journal.sqlite").read_from(1):
        virgin = not engine.state.book.ledger.cash
        divergence = replay_entry(engine, entry)
        assert divergence is None, str(divergence)
        count += 1
        for one in entry.commands:
            if isinstance(one, Submit):
                assert one.approved.order.order_id not in submitted, "an order id was used again"
                submitted.add(one.approved.order.order_id)
        if isinstance(entry.event, OrderFilled):
            trade_ids.add(entry.event.fill.trade_id)
        if isinstance(entry.event, Snapshotted) and not virgin and not engine.state.mismatches:
            reconciliations += 1
            assert differences(engine.state.book.ledger, entry.event.snapshot) == ()
    book = engine.state.book
    assert not engine.state.halted_why, engine.state.halted_why
    return Book(
        ledger=book.ledger,
        trade_ids=frozenset(trade_ids),
        submitted=frozenset(submitted),
        net_weight_worst=book.net_weight_worst,
        entries=count,
        reconciliations=reconciliations,
    )


def check_what_is_left(settings: Settings) -> None:
    """Check a killed daemon's files: each whole, and neither ahead where it must not be.

    The journal has every order before the venue has it, the venue every fill before the journal.
    """
    state = settings.run.state_folder
    account = read_account(state)
    if account is None:
        return
    JournalReader(state / "journal.sqlite").verify()
    book = replay_book(settings)
    known = [fill.trade_id for fill in account.fills]
    assert len(known) == len(set(known))
    assert book.trade_ids <= set(known), "the journal has a fill that the venue never committed"
    assert account.order_ids <= book.submitted, "the venue has an order that was not journalled"


def check_books_agree(settings: Settings) -> Book:
    """Check the engine's book against the paper ledger's file: nothing lost, nothing doubled."""
    book, account = replay_book(settings), read_account(settings.run.state_folder)
    assert account is not None
    told = [fill.trade_id for fill in account.fills]
    assert len(told) == len(set(told)), "the venue has a trade id twice"
    assert book.trade_ids == set(told)
    assert book.ledger.fills == len(told), "a fill was counted twice or not at all"
    assert held(book.ledger) == account.quantities
    assert book.ledger.cash == account.cash
    assert book.ledger.funding == sum((f.amount for f in account.funding), Decimal(0))
    assert len({f.cashflow_id for f in account.funding}) == len(account.funding)
    return book
