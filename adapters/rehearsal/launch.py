"""Start a rehearsal exchange as a child process that cannot outlive its parent."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from adapters.rehearsal.bybit.ccxt_options import bybit_options
from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.settings import DialectKind, RehearsalSettings
from daemon.domain.child_environment import without_keys
from daemon.domain.failures import EquipoiseError

READY_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 5.0
_ROOT: Final = Path(__file__).resolve().parents[2]


class RehearsalFailed(EquipoiseError):
    """Signal that the child did not come up; the message is the child's own."""

    exit_code = 69


def options_of(dialect: DialectKind) -> Callable[[str, str], dict[str, Any]]:
    """Give what makes client options of a rehearsal's REST and WebSocket addresses."""
    return bybit_options if dialect is DialectKind.BYBIT else ccxt_options


@dataclass(slots=True)
class LaunchedExchange:
    """Hold a rehearsal exchange in a child process."""

    pid: int
    port: int
    _process: subprocess.Popen[str]
    dialect: DialectKind = DialectKind.BINANCEUSDM

    @property
    def rest_url(self) -> str:
        """Give the base of all REST paths."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """Give the base of all WebSocket paths."""
        return f"ws://127.0.0.1:{self.port}"

    def ccxt_options(self) -> dict[str, Any]:
        """Give the client options that lead here."""
        return options_of(self.dialect)(self.rest_url, self.ws_url)

    @property
    def running(self) -> bool:
        """Tell whether the child still lives."""
        return self._process.poll() is None

    def stop(self) -> int:
        """Stop the child and wait for it; give its exit code. May be called again."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()  # the end of its stdin tells it to go
        try:
            code = self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait(STOP_SECONDS_MAX)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def __enter__(self) -> LaunchedExchange:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def launch(
    settings: RehearsalSettings, *, ready_seconds: float = READY_SECONDS_MAX
) -> LaunchedExchange:
    """Start the child and wait until it serves; raise RehearsalFailed with what it said.

    The child gets its own session, so that Ctrl-C reaches only the parent, which stops the child
    last. It ends when its stdin ends; on Linux also by a signal when its parent dies. That signal
    belongs to the thread that starts it, so it is asked for in the main thread only.
    """
    command = [sys.executable, "-m", "adapters.rehearsal", "--settings-json", "-"]
    if threading.current_thread() is threading.main_thread():
        command += ["--parent-pid", str(os.getpid())]
    # A file, not a pipe: nobody reads it later, and a full pipe would stop the child.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as complaints:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            cwd=_ROOT,
            env=without_keys(os.environ),
            start_new_session=True,
        )
        line = _first_line(process, settings, ready_seconds)
        launched = LaunchedExchange(process.pid, 0, process, settings.dialect)
        if not line:
            code = launched.stop()
            complaints.seek(0)
            said = complaints.read().strip() or f"not ready within {ready_seconds:g} s"
            failure = RehearsalFailed(f"rehearsal exchange did not start (code {code}): {said}")
            failure.exit_code = code if code > 0 else RehearsalFailed.exit_code
            raise failure
    launched.port = int(json.loads(line)["port"])
    return launched


def _first_line(
    process: subprocess.Popen[str], settings: RehearsalSettings, ready_seconds: float
) -> str:
    """Hand the settings over and read what the child says when it serves; empty if it does not."""
    if process.stdin is None or process.stdout is None:
        raise RehearsalFailed("the child has no pipes")
    with contextlib.suppress(BrokenPipeError):  # it died at once; its complaint says why
        process.stdin.write(settings.to_json() + "\n")
        process.stdin.flush()
    ready, _, _ = select.select([process.stdout], [], [], ready_seconds)
    return process.stdout.readline() if ready else ""
