"""Run a rehearsal exchange as a process of its own.

    python -m adapters.rehearsal --settings-json FILE     settings from a file
    python -m adapters.rehearsal --settings-json -        settings from the first line of stdin

It writes one line of JSON, {"port": .., "pid": ..}, when it is ready, and ends on SIGINT, SIGTERM,
the end of stdin (with `-`), or the death of the process named by --parent-pid.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Final

from adapters.rehearsal.server import serve
from adapters.rehearsal.settings import RehearsalSettings
from daemon.domain.failures import ConfigurationError, EquipoiseError

_PR_SET_PDEATHSIG: Final = 1


def main() -> int:
    """Serve until told to stop; give the exit code of what went wrong otherwise."""
    parser = argparse.ArgumentParser(prog="python -m adapters.rehearsal")
    parser.add_argument("--settings-json", metavar="FILE", default=None)
    parser.add_argument("--parent-pid", type=int, default=0)
    arguments = parser.parse_args()
    try:
        if arguments.parent_pid:
            _die_with_parent(arguments.parent_pid)
        settings = _settings(arguments.settings_json)
        asyncio.run(_serve(settings, watch_stdin=arguments.settings_json == "-"))
    except EquipoiseError as failure:
        sys.stderr.write(f"rehearsal: {failure}\n")
        return failure.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _settings(source: str | None) -> RehearsalSettings:
    if source is None:
        return RehearsalSettings()
    if source == "-":
        return RehearsalSettings.from_json(sys.stdin.readline(), source="stdin")
    try:
        text = Path(source).read_text(encoding="utf-8")
    except OSError as failure:
        raise ConfigurationError(f"--settings-json {source}: {failure.strerror}") from None
    return RehearsalSettings.from_json(text, source=source)


async def _serve(settings: RehearsalSettings, *, watch_stdin: bool) -> None:
    """Serve until a signal comes or stdin ends."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    async with await serve(settings) as running:
        sys.stdout.write(json.dumps({"port": running.port, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        if watch_stdin:
            loop.add_reader(sys.stdin.fileno(), _drain, stop)
        await stop.wait()
        if watch_stdin:
            loop.remove_reader(sys.stdin.fileno())


def _drain(stop: asyncio.Event) -> None:
    """Read what came on stdin; its end means that the parent is gone."""
    if not os.read(sys.stdin.fileno(), 4096):
        stop.set()


def _die_with_parent(parent_pid: int) -> None:
    """Ask Linux for SIGTERM when the parent dies; elsewhere the end of stdin does the same."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:  # it died before we could ask
        raise EquipoiseError(f"parent process {parent_pid} is gone")


if __name__ == "__main__":
    sys.exit(main())
