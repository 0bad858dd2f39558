"""Redis and MQTT absent, killed, frozen or flapping: the same decisions, and nobody waits."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt
import psutil
import pytest

from adapters.redis_status import Health, read_status
from daemon.domain.messages import Command, Decided, Event
from daemon.engine.engine import Engine
from daemon.wiring import sinks
from daemon.wiring.rehearsal import rehearsal_exchange
from daemon.wiring.session import SessionHooks, paper_session
from tests.e2e.line import SMALL, STOP_S_MAX, settings_of

DECISIONS = 30
PUBLISH_S_MAX = 0.25  # a call that waited for a server would take the call's time-out of seconds
Fates = Mapping[int, Callable[[], None]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """Start, kill, freeze and thaw a real server on a port of its own."""

    command: Sequence[str | Path]
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(list(self.command), stdout=log, stderr=log)

    async def ready(self) -> None:
        async with asyncio.timeout(10):
            while not self._listens():  # noqa: ASYNC110 - a port tells nobody that it opens
                await asyncio.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def send(self, number: int) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def flap(self) -> None:
        if self.process is None:
            self.start()
        else:
            self.kill()


@dataclass
class Servers:
    redis: Server
    mqtt: Server

    @property
    def overrides(self) -> tuple[str, ...]:
        return (
            f"redis.url=redis://127.0.0.1:{self.redis.port}",
            f"mqtt.url=mqtt://127.0.0.1:{self.mqtt.port}",
        )


@pytest.fixture
def servers(tmp_path: Path, valkey_binary: Path, mosquitto_binary: Path) -> Iterator[Servers]:
    redis_port, mqtt_port = free_port(), free_port()
    words = ["--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    file = tmp_path / "mosquitto.conf"
    lines = [f"listener {mqtt_port} 127.0.0.1", "allow_anonymous true"]
    file.write_text("\n".join(lines + ["user root"] * (os.getuid() == 0)) + "\n")
    both = Servers(
        Server([valkey_binary, *words], redis_port, tmp_path / "redis.log"),
        Server([mosquitto_binary, "-c", file], mqtt_port, tmp_path / "mosquitto.log"),
    )
    yield both
    for server in (both.redis, both.mqtt):
        server.thaw()
        server.kill()


@dataclass
class Watched:
    """Collect the digests of a run and let its fates strike after given decisions."""

    fates: Fates
    digests: list[tuple[int, str]] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    slowest_s: float = 0.0
    stopped_at_s: float = 0.0
    closing_s: float = 0.0

    def __call__(self, event: Event, commands: Sequence[Command], engine: Engine) -> None:
        for command in commands:
            if isinstance(command, Decided):
                self.digests.append((command.decision.as_of_ms, command.decision.digest))
                self.fates.get(len(self.digests), lambda: None)()
        if len(self.digests) >= DECISIONS and not self.stop.is_set():
            self.stopped_at_s = time.perf_counter()
            self.stop.set()


async def trade(
    state: Path, monkeypatch: pytest.MonkeyPatch, fates: Fates, *overrides: str
) -> Watched:
    """Trade a day and a bit on the seeded market, and time every publication."""
    watched = Watched(fates)
    plain = sinks.Publisher.__call__

    def timed(
        self: sinks.Publisher, event: Event, commands: Sequence[Command], engine: Engine
    ) -> None:
        before_s = time.perf_counter()
        plain(self, event, commands, engine)
        watched.slowest_s = max(watched.slowest_s, time.perf_counter() - before_s)

    with monkeypatch.context() as patch:
        patch.setattr(sinks.Publisher, "__call__", timed)
        with rehearsal_exchange(settings_of(state, *SMALL, *overrides)) as rehearsal:
            hooks = SessionHooks(observers=(watched,))
            async with paper_session(rehearsal.settings, hooks) as shell:
                await shell.run(watched.stop)
            watched.closing_s = time.perf_counter() - watched.stopped_at_s
    watched.digests = watched.digests[:DECISIONS]
    return watched


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str]]:
    """Give the digests of the run that shows its status nowhere."""
    state = tmp_path_factory.mktemp("reference") / "state"
    with pytest.MonkeyPatch.context() as patch:
        done = asyncio.run(trade(state, patch, {}, "redis.enabled=false"))
    assert len(done.digests) == DECISIONS
    return done.digests


def check(watched: Watched, reference: list[tuple[int, str]]) -> None:
    assert watched.digests == reference
    assert watched.slowest_s < PUBLISH_S_MAX
    assert watched.closing_s < STOP_S_MAX


async def test_with_both_servers_well_everything_is_shown_and_the_decisions_are_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    servers: Servers,
    reference: list[tuple[int, str]],
) -> None:
    servers.redis.start()
    servers.mqtt.start()
    await servers.redis.ready()
    await servers.mqtt.ready()
    check(await trade(tmp_path / "state", monkeypatch, {}, *servers.overrides), reference)
    url = f"redis://127.0.0.1:{servers.redis.port}"
    shown = await read_status(url, "equipoise", "rehearsal")
    assert shown["daemon"] is Health.STOPPED
    assert len(shown["decisions"]) == 10
    async with aiomqtt.Client("127.0.0.1", servers.mqtt.port) as client:
        await client.subscribe("equipoise/rehearsal/#")
        async with asyncio.timeout(10):
            message = await anext(aiter(client.messages))
    assert message.retain


async def test_with_no_server_at_all_the_decisions_are_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    servers: Servers,
    reference: list[tuple[int, str]],
) -> None:
    check(await trade(tmp_path / "state", monkeypatch, {}, *servers.overrides), reference)


@pytest.mark.parametrize("fate", ["killed", "frozen", "thawed", "flapping"])
async def test_with_servers_that_fail_midway_the_decisions_are_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    servers: Servers,
    reference: list[tuple[int, str]],
    fate: str,
) -> None:
    redis, mqtt = servers.redis, servers.mqtt
    for server in (redis, mqtt):
        server.start()
        await server.ready()

    def both(act: Callable[[Server], None]) -> Callable[[], None]:
        def strike() -> None:
            act(redis)
            act(mqtt)

        return strike

    fates: dict[str, Fates] = {
        "killed": {8: both(Server.kill)},
        "frozen": {8: both(Server.freeze)},
        "thawed": {8: both(Server.freeze), 22: both(Server.thaw)},
        "flapping": {n: both(Server.flap) for n in range(3, DECISIONS, 3)},
    }
    watched = await trade(tmp_path / "state", monkeypatch, fates[fate], *servers.overrides)
    check(watched, reference)


async def test_a_page_that_freezes_and_is_killed_changes_no_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: list[tuple[int, str]]
) -> None:
    def strike(number: int) -> Callable[[], None]:
        def at_the_page() -> None:
            for child in psutil.Process().children(recursive=True):
                if "daemon.wiring.web_process" in child.cmdline():
                    child.send_signal(number)

        return at_the_page

    fates = {5: strike(signal.SIGSTOP), 15: strike(signal.SIGKILL), 25: strike(signal.SIGSTOP)}
    chosen = ("redis.enabled=false", "web.enabled=true", "web.port=0")
    check(await trade(tmp_path / "state", monkeypatch, fates, *chosen), reference)
