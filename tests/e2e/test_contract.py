"""A real daemon over real servers: it shows what the contract says, and obeys who is signed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from redis.asyncio import Redis

from adapters.control import LATCH_NAME
from adapters.journal import JournalReader
from daemon.commands.operating import REFUSED_EXIT, UNANSWERED_EXIT
from daemon.domain.messages import Operator
from daemon.domain.units import DAY_MS
from daemon.status.codec import EVENT_TOPICS, from_fields, plain
from daemon.status.contract import KEYS, TOPICS
from daemon.status.contract_pages import SCHEMA, event_schema, redis_schema, topic_schema
from daemon.wiring.summary import day_summary
from tests.docs.pages import blocks
from tests.e2e.line import NEUTRAL, ROOT, Finished, command, daemon, rehearse, sets
from tests.e2e.servers import Server, Servers, free_port
from tests.status.schema_check import adapter_of

PREFIX = "equipoise:rehearsal:"
TOPIC_PREFIX = "equipoise/rehearsal/"
DAY, DAY_MS_FIRST = "2024-01-28", 1706400000000  # the first day of this rehearsal
SECRET = "a-secret-of-this-very-test-01"
SECRET_ENV = {"OPERATOR_SECRET": SECRET}
CONTROL = ("control.secret_env=OPERATOR_SECRET",)


@pytest.fixture
async def servers(
    tmp_path: Path, valkey_binary: Path, mosquitto_binary: Path
) -> AsyncIterator[Servers]:
    redis_port, mqtt_port = free_port(), free_port()
    words = ["--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    file = tmp_path / "mosquitto.conf"
    lines = [f"listener {mqtt_port} 127.0.0.1", "allow_anonymous true"]
    file.write_text("\n".join(lines + ["user root"] * (os.getuid() == 0)) + "\n")
    both = Servers(
        Server([valkey_binary, *words], redis_port, tmp_path / "redis.log"),
        Server([mosquitto_binary, "-c", file], mqtt_port, tmp_path / "mosquitto.log"),
    )
    for server in (both.redis, both.mqtt):
        server.start()
        await server.ready()
    yield both
    for server in (both.redis, both.mqtt):
        server.kill()


@asynccontextmanager
async def heard(port: int) -> AsyncIterator[list[tuple[str, bytes, bool]]]:
    """Collect everything that is said on a broker."""
    messages: list[tuple[str, bytes, bool]] = []
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("#", qos=1)

        async def collect() -> None:
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                messages.append((str(message.topic), message.payload, bool(message.retain)))

        task = asyncio.create_task(collect())
        try:
            yield messages
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def dumped(client: Redis) -> dict[str, Any]:
    """Read every key of a server; fails on one that the contract does not know, or lives longer."""
    described = {PREFIX + key.name: key for key in KEYS}
    shown: dict[str, Any] = {}
    async for name in client.scan_iter():
        assert name in described, f"{name} is in no contract"
        key = described[name]
        assert await client.type(name) == key.type
        assert (await client.pttl(name) > 0) == bool(key.lifetime), name
        match key.type:
            case "hash":
                fields: Any = await client.hgetall(name)
                shown[key.name] = from_fields(fields)
            case "stream":
                entries: Any = await client.xrange(name)
                shown[key.name] = [from_fields(entry) for _, entry in entries]
            case _:
                shown[key.name] = await client.get(name)
    return shown


async def say(
    verb: str, via: str, servers: Servers, cwd: Path, *words: str, secret: str = SECRET
) -> Finished:
    chosen = sets([*servers.overrides, *CONTROL, "run.run_name=rehearsal"])
    said = [verb, "--via", via, "--json", *words, *chosen]
    return await asyncio.to_thread(command, *said, cwd=cwd, extra={"OPERATOR_SECRET": secret})


async def test_a_daemon_shows_what_the_contract_says_and_obeys_who_is_signed(
    tmp_path: Path, servers: Servers
) -> None:
    state, url = tmp_path / "state", f"redis://127.0.0.1:{servers.redis.port}"
    client = Redis.from_url(url, decode_responses=True)
    started = rehearse(state, *NEUTRAL, *servers.overrides, *CONTROL)
    async with heard(servers.mqtt.port) as messages:
        async with daemon(*started, cwd=tmp_path, extra=SECRET_ENV) as running:
            await running.decided(25)
            alive = await dumped(client)
            await running.decided(30)
            await check_steering(servers, tmp_path, state)
            assert await running.end(signal.SIGTERM) == 0, running.said
        stopped = await dumped(client)
    schema = json.loads((ROOT / SCHEMA).read_text(encoding="utf-8"))
    assert schema == redis_schema()
    for shown in (alive, stopped):
        adapter_of(schema).validate_python(shown)
    assert "heartbeat" in alive
    assert (alive["meta"]["daemon"], stopped["meta"]["daemon"]) == ("running", "stopped")
    # no request waits, and without a model there is no registry to show
    assert {key.name for key in KEYS} <= alive.keys() | stopped.keys() | {"commands", "models"}
    assert all(SECRET not in str(shown) for shown in (alive, stopped, messages, running.said))
    assert "signature: not of control.secret" in running.said
    check_wishes(state)
    check_messages(messages)
    check_the_day(stopped, state)
    check_the_client(url, tmp_path)
    await client.aclose()


def check_messages(messages: list[tuple[str, bytes, bool]]) -> None:
    """Fail on a message that the contract does not describe."""
    described = {topic.name: topic for topic in TOPICS}
    events = {topic: adapter_of(event_schema(topic)) for topic in EVENT_TOPICS}
    known = {name: adapter_of(topic_schema(name)) for name, topic in described.items() if topic.key}
    counted = Counter[str]()
    for topic, payload, _ in messages:
        assert topic.startswith(TOPIC_PREFIX)
        name = topic.removeprefix(TOPIC_PREFIX)
        name = "cmd/answer" if name.startswith("cmd/answer/") else name
        assert name in described, f"{topic} is in no contract"
        counted[name] += 1
        if name in known:
            known[name].validate_python(json.loads(payload))
        elif name == "events":
            told = json.loads(payload)
            counted[told["topic"]] += 1
            events[told["topic"]].validate_python(told)
    assert {"status", "positions", "targets", "predictions", "feed"} <= counted.keys()
    assert {"fill", "decision", "daily", "notify", "hb", "availability"} <= counted.keys()
    last = json.loads([payload for topic, payload, _ in messages if topic.endswith("/status")][-1])
    assert last["daemon"] == "stopped"


def check_the_day(stopped: dict[str, Any], state: Path) -> None:
    """Fail where the published summary is not the one that the journal gives."""
    first, *_ = stopped["days"]
    assert (first["day"], first["is_whole"], first["decisions_n"]) == (DAY, "true", "23")
    for number, day in enumerate(stopped["days"]):
        computed = plain(day_summary(state / "journal.sqlite", DAY_MS_FIRST + number * DAY_MS))
        assert {name: typed(text, computed[name]) for name, text in day.items()} == computed
    shown = command("summary", "--json", "--day", DAY, "--state", state, cwd=state.parent)
    assert shown.values["pnl"] == float(first["pnl"])
    assert shown.values["day"] == DAY
    alert, *_ = [one for one in stopped["alerts"] if one["kind"] == "daily"]
    assert alert["text"].startswith(f"{DAY}: P&L ")
    assert int(alert["at_ms"]) == DAY_MS_FIRST + DAY_MS


def typed(text: str, like: object) -> object:
    """Read a field back as what it was."""
    match like:
        case None:
            return text or None
        case bool():
            return text == "true"
        case int() | float():
            return type(like)(text)
        case _:
            return text


def check_the_client(url: str, folder: Path) -> None:
    """Run the client of the page as it stands there."""
    (block,) = [b for b in blocks(ROOT / "docs" / "redis.md") if b.file == "read_equipoise.py"]
    (folder / "read_equipoise.py").write_text(block.text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "read_equipoise.py", url, "equipoise", "rehearsal"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    shown = json.loads(done.stdout)
    assert shown["is_alive"] is False
    adapter_of(redis_schema()).validate_python({k: v for k, v in shown.items() if k != "is_alive"})


async def check_steering(servers: Servers, folder: Path, state: Path) -> None:
    """Steer the running daemon over both transports, and try it with a wrong secret."""
    paused = await say("pause", "redis", servers, folder)
    assert paused.code == 0, paused.complaint + paused.out
    assert paused.values["answer"]["paused"]
    again = await say(
        "pause", "redis", servers, folder, "--request-id", paused.values["request_id"]
    )
    assert again.values["answer"] == paused.values["answer"]
    resumed = await say("resume", "mqtt", servers, folder)
    assert resumed.code == 0, resumed.complaint + resumed.out
    assert not resumed.values["answer"]["paused"]
    for via in ("redis", "mqtt"):
        wrong = await say(
            "flatten", via, servers, folder, "--wait", "1", secret="another-secret-of-16"
        )
        assert wrong.code == UNANSWERED_EXIT
    killed = await say("kill", "mqtt", servers, folder, "--reason", "a test")
    assert killed.code == 0, killed.complaint + killed.out
    assert killed.values["answer"]["trading"] == "halted"
    assert (state / LATCH_NAME).exists()
    refused = await say("resume", "redis", servers, folder)
    assert refused.code == REFUSED_EXIT
    assert "--clear-latch" in refused.values["answer"]["why"]


def check_wishes(state: Path) -> None:
    """Fail where the journal has other wishes than those of `check_steering`."""
    events = [entry.event for entry in JournalReader(state / "journal.sqlite").read_from(1)]
    wishes = {(str(e.action), e.reason) for e in events if isinstance(e, Operator)}
    assert wishes == {
        ("pause", ""),
        ("resume", ""),
        ("kill", "killed by the operator over mqtt: a test"),
    }
