"""Start commands as processes of their own that need not import everything anew.

A command spends most of a short life importing (one second, two with ccxt). Here one process a test
run imports what commands import, and each command is a fork of it: a process with its own pid,
session, folder, environment, files and end, and its own Python that ends as it ends anywhere.
What a cold start loads, and in what time, is for those who start `program` themselves.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
_NUMBER: Final = struct.Struct("!i")
_START_S_MAX: Final = 60.0
_FILES_N: Final = 3  # stdout, stderr, and where pid and exit code are told
# What these change is read when a process starts, which a fork does not do again.
_READ_AT_START: Final = ("PYTHON", "LC_", "LANG", "TZ", "OMP_", "OPENBLAS_", "MKL_", "LD_")


def fits(around: Mapping[str, str]) -> bool:
    """Tell whether a fork with this environment is what a new process would be."""
    odd = [n for n in {*around, *os.environ} if n.startswith(_READ_AT_START)]
    same = all(around.get(name) == os.environ.get(name) for name in odd)
    return sys.platform == "linux" and same


@dataclass
class Fork:
    """Hold a running fork, as asyncio's and subprocess' processes are held."""

    pid: int
    stdout: asyncio.StreamReader | None
    _told: socket.socket
    returncode: int | None = None
    pipe: asyncio.ReadTransport | None = None  # that fills stdout

    def close(self) -> None:
        """Give back what is open on our side."""
        if self.pipe is not None:
            self.pipe.close()
        self._told.close()

    def send_signal(self, number: int) -> None:
        """Send a signal, to nobody once it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to stop."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once; raises ProcessLookupError once it has ended, as asyncio does."""
        if self.returncode is not None:
            raise ProcessLookupError
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end and give the exit code, negative for a signal."""
        while self.returncode is None:
            loop = asyncio.get_running_loop()
            self._ended(await loop.sock_recv(self._told, _NUMBER.size))
        return self.returncode

    def wait_here(self, seconds: float) -> int:
        """Wait so in a thread; raises TimeoutError and ends it when it takes longer."""
        self._told.settimeout(seconds)
        try:
            self._ended(self._told.recv(_NUMBER.size))
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            raise
        assert self.returncode is not None
        return self.returncode

    def _ended(self, told: bytes) -> None:
        if self.returncode is None:
            assert len(told) == _NUMBER.size, "the process that forks is gone"
            (self.returncode,) = _NUMBER.unpack(told)
            self._told.close()


class Parent:
    """Hold the process that forks, started when first needed, and gone with us."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End the process, and with it every fork that still runs."""
        if self._line is not None and self._process is not None:
            self._line.close()
            self._process.wait()

    def fork(
        self, words: Sequence[str], cwd: Path, around: Mapping[str, str], out: IO[Any], err: IO[Any]
    ) -> Fork:
        """Start `python -m daemon` with these words."""
        ours, theirs = socket.socketpair()
        ours.settimeout(_START_S_MAX)
        asked = json.dumps([list(words), str(cwd), dict(around)]).encode()
        with theirs, self._lock:
            line = self._line or self._started()
            files = [out.fileno(), err.fileno(), theirs.fileno()]
            socket.send_fds(line, [_NUMBER.pack(len(asked))], files)
            line.sendall(asked)
        told = ours.recv(_NUMBER.size)
        assert len(told) == _NUMBER.size, "the process that forks is gone"
        ours.setblocking(False)
        return Fork(_NUMBER.unpack(told)[0], None, ours)

    def _started(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._line = ours
        return ours


PARENT: Final = Parent()
atexit.register(PARENT.close)


# ---- the process that forks ----------------------------------------------------------------------


class _Forking:
    """Fork on demand and tell how forks end; what comes out of `serve` is to be run, in a fork."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._told: dict[int, socket.socket] = {}
        self._woken, wake = socket.socketpair()
        wake.setblocking(False)
        self._wake = wake

    def serve(self) -> list[str] | None:
        """Serve until the other side is gone; gives the words of the command in each fork."""
        signal.set_wakeup_fd(self._wake.fileno())
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        with selectors.DefaultSelector() as selector:
            selector.register(self._line, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._woken:
                        self._woken.recv(4096)
                        self._reap()
                        continue
                    got, files, *_ = socket.recv_fds(self._line, _NUMBER.size, _FILES_N)
                    if not got:
                        self._end()
                        return None
                    words = self._asked(got, files)
                    if words is not None:
                        return words

    def _asked(self, got: bytes, files: Sequence[int]) -> list[str] | None:
        text, size = b"", _NUMBER.unpack(got)[0]
        while len(text) < size:
            text += self._line.recv(size - len(text))
        words, cwd, around = json.loads(text)
        out, err, told = files
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            self._become(cwd, around, files)
            return list(words)
        os.close(out)
        os.close(err)
        self._told[pid] = socket.socket(fileno=told)
        self._told[pid].sendall(_NUMBER.pack(pid))
        return None

    def _become(self, cwd: str, around: Mapping[str, str], files: Sequence[int]) -> None:
        """Make this fork what a new process would be."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, file in enumerate(files[:2], 1):
            os.dup2(file, number)
        for file in files:
            os.close(file)
        for one in (self._line, self._woken, self._wake, *self._told.values()):
            one.close()
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(around)
        sys.path[0] = cwd

    def _reap(self) -> None:
        while self._told:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            # who is gone does not want to know any more
            with self._told.pop(pid) as told, suppress(BrokenPipeError):
                told.sendall(_NUMBER.pack(os.waitstatus_to_exitcode(status)))

    def _end(self) -> None:
        for pid in self._told:
            os.kill(pid, signal.SIGKILL)
        deadline_s = time.monotonic() + 5.0
        while self._told and time.monotonic() < deadline_s:
            self._reap()
            time.sleep(0.01)


def _import_all() -> None:
    """Import what commands import, save what only a few need for long."""
    from daemon.cli import COMMANDS

    for name in ("ccxt.async_support", "ccxt.pro"):
        importlib.import_module(name)
    for target in dict.fromkeys(COMMANDS.values()):
        module = target.partition(":")[0]
        if ".evaluate." not in module:
            importlib.import_module(module)
    assert "torch" not in sys.modules, "a trading process must not have it"
    assert threading.active_count() == 1, "a fork would lose all threads but one"


def _main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as line:
        _import_all()
        gc.collect()
        gc.freeze()
        words = _Forking(line).serve()
    if words is not None:
        sys.argv[1:] = words
        runpy.run_module("daemon", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
