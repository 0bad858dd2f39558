"""Redis and MQTT absent, killed, frozen or flapping: the same decisions, and nobody waits."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import aiomqtt
import psutil
import pytest

from adapters.redis_status import Health, read_status
from tests.e2e.servers import Server, Servers, servers_in
from tests.e2e.telemetry import DECISIONS, Digests, Fates, check, trade, undisturbed


@pytest.fixture
def servers(tmp_path: Path, valkey_binary: Path, mosquitto_binary: Path) -> Iterator[Servers]:
    both = servers_in(tmp_path, valkey_binary, mosquitto_binary)
    yield both
    both.end()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Digests:
    return undisturbed(tmp_path_factory.mktemp("reference"))


async def test_with_both_servers_well_everything_is_shown_and_the_decisions_are_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    servers: Servers,
    reference: Digests,
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
    reference: Digests,
) -> None:
    check(await trade(tmp_path / "state", monkeypatch, {}, *servers.overrides), reference)


@pytest.mark.parametrize("fate", ["killed", "frozen", "thawed", "flapping"])
async def test_with_servers_that_fail_midway_the_decisions_are_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    servers: Servers,
    reference: Digests,
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
