"""Run the command line as a user does, and read what it says.

Every program runs in a process of its own, in a folder of its own and without our environment
variables, so that nothing of the machine a test runs on has a say.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final

import psutil

from daemon.settings import Settings, load_settings
from tests.e2e.forking import PARENT, Fork, fits

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

Values = dict[str, Any]


def settings_of(state: Path, *overrides: str, base: Path = REHEARSAL) -> Settings:
    """Read settings as a command with these `--set` options would."""
    chosen = [f"run.state_folder={state}", "web.enabled=false", *overrides]
    return load_settings([base], overrides=chosen, environment={})


def sets(overrides: Iterable[str]) -> list[str]:
    """Write overrides as options of a command."""
    return [word for one in overrides for word in ("--set", one)]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give our environment without anything that could change settings; the page is off."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("EQUIPOISE")}
    return {**kept, "COLUMNS": "200", "EQUIPOISE__WEB__ENABLED": "false", **(extra or {})}


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
    around = environment(extra)
    if before is None and fits(around):
        return _forked(tuple(map(str, arguments)), cwd, seconds, around)
    done = subprocess.run(
        program(*arguments),
        cwd=cwd,
        env=around,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        preexec_fn=before,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def _forked(
    words: tuple[str, ...], cwd: Path, seconds: float, around: Mapping[str, str]
) -> Finished:
    with TemporaryFile("w+", encoding="utf-8") as out, TemporaryFile("w+", encoding="utf-8") as err:
        code = PARENT.fork(words, cwd, around, out, err).wait_here(seconds)
        out.seek(0)
        err.seek(0)
        return Finished(code, out.read(), err.read())


def unread(*arguments: str | Path, cwd: Path, lines: int = 0, seconds: float = 60.0) -> Finished:
    """Run a command whose reader goes away after so many lines, as `head` does."""
    process = subprocess.Popen(
        program(*arguments),
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    out = "".join(process.stdout.readline() for _ in range(lines))
    process.stdout.close()
    with process.stderr as complaints:
        said = complaints.read()
    return Finished(process.wait(seconds), out, said)


# ---- a daemon that runs until it is told to stop -------------------------------------------------


@dataclass
class Daemon:
    """Hold a running command that prints one JSON object a line."""

    process: asyncio.subprocess.Process | Fork
    log: Path
    lines: list[Values] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)  # of the lines, by type
    ended: bool = False  # its output has
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
        await self.until(lambda d: d.count["decision"] >= count, seconds)

    async def printed(self, lines: int, seconds: float = START_S_MAX) -> None:
        """Wait for so many lines of any type since the start."""
        await self.until(lambda d: len(d.lines) >= lines, seconds)

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
        with suppress(ProcessLookupError):
            self.process.kill()  # it lives still when its output could not be read
        await self.process.wait()
        if self._reader is not None:
            await self._reader
        if isinstance(self.process, Fork):
            self.process.close()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        try:
            while raw := await self.process.stdout.readline():
                async with self._news:
                    if raw.endswith(b"\n"):  # a kill may cut the last line
                        self.lines.append(json.loads(raw))
                        self.count[self.lines[-1].get("type", "")] += 1
                    self._news.notify_all()
        finally:
            async with self._news:
                self.ended = True
                self._news.notify_all()


@asynccontextmanager
async def daemon(
    *arguments: str | Path,
    cwd: Path,
    extra: Mapping[str, str] | None = None,
    is_cold: bool = False,
) -> AsyncIterator[Daemon]:
    """Start a command with --json and yield it; whatever happens, nothing of it is left.

    is_cold: import everything as a user's command does.
    """
    log, around = cwd / "stderr.log", environment(extra)
    with log.open("ab") as complaints:
        start = _fork_daemon if fits(around) and not is_cold else _cold_daemon
        process = await start((*map(str, arguments), "--json"), cwd, around, complaints)
    running = Daemon(process, log)
    running.read()
    try:
        yield running
    finally:
        await running.close()


async def _cold_daemon(
    words: tuple[str, ...], cwd: Path, around: Mapping[str, str], complaints: IO[bytes]
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *program(*words),
        cwd=cwd,
        env=around,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=complaints,
        limit=LINE_BYTES_MAX,
        start_new_session=True,
    )


async def _fork_daemon(
    words: tuple[str, ...], cwd: Path, around: Mapping[str, str], complaints: IO[bytes]
) -> Fork:
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "wb") as out:
        forked = await asyncio.to_thread(PARENT.fork, words, cwd, around, out, complaints)
    forked.stdout = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    reading = asyncio.StreamReaderProtocol(forked.stdout)
    loop = asyncio.get_running_loop()
    forked.pipe, _ = await loop.connect_read_pipe(lambda: reading, os.fdopen(ours, "rb"))
    return forked


def rehearse(state: Path, *overrides: str) -> list[str]:
    """Give the arguments of a rehearsal in this state folder."""
    return ["rehearse", *sets([f"run.state_folder={state}", *overrides])]


async def gone(processes: Iterable[psutil.Process], seconds: float = 10.0) -> None:
    """Wait until none of these processes lives; fails and names those that do."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, list(processes), seconds)
    assert not alive, f"left behind: {[p.cmdline() for p in alive]}"
