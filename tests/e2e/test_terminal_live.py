"""The terminal beside a daemon that really trades: tables out of Redis, the live view, the log."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from daemon.commands.status import NOT_RUNNING_EXIT
from tests.e2e.line import SMALL, Finished, command, daemon, environment, rehearse

SEEN_S_MAX = 60.0


async def say(*words: str, cwd: Path) -> Finished:
    return await asyncio.to_thread(command, *words, cwd=cwd)


async def test_tables_lines_and_log_of_a_daemon_that_runs_and_after_it_stopped(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    here = ("--state", str(state))
    async with daemon(*rehearse(state, *SMALL), cwd=tmp_path) as running:
        await running.until(lambda d: bool(d.of("fill")) and d.count["decision"] > 3)
        for topic in ("positions", "targets", "orders", "fills"):
            async with asyncio.timeout(SEEN_S_MAX):
                done = await say(topic, *here, "--json", cwd=tmp_path)
                while not done.values[topic]:  # the daemon tells Redis when it has time to
                    done = await say(topic, *here, "--json", cwd=tmp_path)
            assert done.values["source"] == "redis", topic
        journal = await say("orders", *here, "--json", "--from", "journal", cwd=tmp_path)
        assert journal.values["source"] == "journal"
        states = {row["state"] for row in journal.values["orders"]}
        assert "filled" in states
        assert states <= {"filled", "partly filled", "accepted", "sent"}  # some are on their way
        shown = await say("fills", *here, "-n", "2", cwd=tmp_path)
        assert "2 fills shown by the daemon" in shown.out
        await _watched_in_a_pipe(state, tmp_path)
        await asyncio.to_thread(_watched_on_a_screen, state, tmp_path)
        assert await running.end(signal.SIGTERM) == 0, running.said
    for topic in ("positions", "targets", "orders", "fills"):
        done = await say(topic, *here, "--json", cwd=tmp_path)
        assert done.values["source"] == "journal", topic
        assert done.values[topic], topic
    nobody = await say("positions", *here, "--from", "redis", cwd=tmp_path)
    assert "no daemon runs" in nobody.out
    gone = await say("status", *here, cwd=tmp_path)
    assert gone.code == NOT_RUNNING_EXIT
    logged = await say("logs", *here, "-n", "0", "--json", cwd=tmp_path)
    events = [json.loads(line)["event"] for line in logged.out.splitlines()]
    assert events[-1] == "embedded_redis_ended" or "trading_stopped" in events
    assert events.count("trading_started") == 1
    worse = await say("logs", *here, "--level", "error", cwd=tmp_path)
    assert worse.out == ""


async def _watched_in_a_pipe(state: Path, cwd: Path) -> None:
    """See plain lines in a pipe, which Ctrl-C ends with 0 and without a traceback."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "daemon", "status", "--watch", "--state", str(state),
        cwd=cwd,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(SEEN_S_MAX):
        lines = [(await process.stdout.readline()).decode() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, complaint = await process.communicate()
    assert process.returncode == 0
    assert complaint == b""
    for line in lines:
        assert "\x1b" not in line
        assert " rehearsal running " in line
        assert " equity " in line


def _watched_on_a_screen(state: Path, cwd: Path) -> None:
    """See a screen of its own that does not flicker and is given back at Ctrl-C."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon", "status", "--watch", "--state", str(state)],
        cwd=cwd,
        env={**environment(), "COLUMNS": "80", "LINES": "40", "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = _read_until(ours, lambda raw: raw.count(b"equity") >= 3)
    process.send_signal(signal.SIGINT)
    seen += _read_until(ours, lambda raw: False)
    assert process.wait(20) == 0
    os.close(ours)
    assert seen.count(b"\x1b[?1049h") == seen.count(b"\x1b[?1049l") == 1
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l")  # the cursor is back
    assert b"\x1b[2J" not in seen  # nothing is ever wiped before it is drawn
    assert b"Traceback" not in seen


def _read_until(descriptor: int, enough: Callable[[bytes], bool]) -> bytes:
    """Read a terminal until it showed enough or is closed."""
    found = b""
    while not enough(found):
        try:
            read = os.read(descriptor, 1 << 16)
        except OSError:  # how Linux says that nobody writes there any more
            break
        if not read:
            break
        found += read
    return found


async def test_who_waits_for_a_daemon_is_told_and_a_log_that_is_not_there_is_named(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    done = await say("logs", "--state", str(state), cwd=tmp_path)
    assert done.code == 65
    assert "there is no log" in done.complaint
    done = await say("orders", "--state", str(state), cwd=tmp_path)
    assert done.code == 65
    assert "there is no journal" in done.complaint
    done = await say("why", "eq00000001-1-1", "--state", str(state), cwd=tmp_path)
    assert done.code == 65
