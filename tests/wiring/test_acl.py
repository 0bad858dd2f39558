"""The examples of who may do what, loaded into real servers and tried from every side."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from adapters.mqtt_commands import MqttCommands, ask_over_mqtt
from adapters.mqtt_status import Broker, MqttStatus, broker_of, command_client
from adapters.redis_commands import BLOCK_MS, RedisCommands, ask_over_redis
from adapters.redis_status import Health, RedisStatus, connect, read_status
from daemon.wiring import control
from tests.e2e.servers import Server, free_port
from tests.wiring.test_remote import NAMES, heard_by, payload_of, rig, understood

ROOT = Path(__file__).resolve().parents[2]
KEYS = "equipoise:paper"
TOPICS = "equipoise/paper"
USERS = ("publisher", "reader", "commander")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "POLL_S", 0.005)


def login(user: str) -> dict[str, Any]:
    return {"username": user, "password": f"change-me-{user}"}


# ---- Redis ---------------------------------------------------------------------------------------


@pytest.fixture
async def url(tmp_path: Path, valkey_binary: Path) -> AsyncIterator[str]:
    acl = tmp_path / "users.acl"
    acl.write_text((ROOT / "deploy" / "redis-users.acl").read_text(encoding="utf-8"))
    port = free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    words += ["--aclfile", str(acl)]
    server = Server([valkey_binary, *words], port, tmp_path / "redis.log")
    server.start()
    await server.ready()
    yield f"redis://127.0.0.1:{port}"
    server.kill()


async def until(wanted: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not wanted():
            await next_look()


async def next_look() -> None:
    await asyncio.sleep(0.01)


async def test_redis_lets_each_user_do_its_part(tmp_path: Path, url: str) -> None:
    async with rig(tmp_path) as one:
        publisher = partial(
            connect, url, **login("publisher"), as_text=False, blocks_s=BLOCK_MS / 1000
        )
        commander = partial(
            connect, url, **login("commander"), as_text=False, blocks_s=BLOCK_MS / 1000
        )
        sink = RedisStatus(url, **NAMES, **login("publisher"), beat_s=0.05)
        heard = RedisCommands(publisher, one.remote, **NAMES, server=url)
        async with sink.running(), heard.running():
            sink.publish("status", {"equity": 1.0})
            sink.publish("fill", {"trade_id": "1"})
            await until(lambda: not len(sink.outbox) and not sink.courier.is_away)
            shown = await read_status(url, "equipoise", "paper", **login("reader"))
            assert shown["daemon"] is Health.RUNNING
            assert shown["status"] == {"equity": "1.0"}
            answer, why = await ask_over_redis(
                commander, payload_of("pause", "p1"), understood("p1"), **NAMES, wait_s=20
            )
            assert answer is not None, why
            assert not heard.listener.is_away


Call = Callable[[Redis], Awaitable[Any]]
REFUSED: dict[str, tuple[str, Call]] = {
    "a reader writes": ("reader", lambda c: c.hset(f"{KEYS}:status", "equity", "9")),
    "a reader adds an event": ("reader", lambda c: c.xadd(f"{KEYS}:fills", {"a": "b"})),
    "a reader commands": ("reader", lambda c: c.xadd(f"{KEYS}:commands", {"payload": "x"})),
    "a reader reads commands": ("reader", lambda c: c.xrange(f"{KEYS}:commands")),
    "a reader reads answers": ("reader", lambda c: c.xrange(f"{KEYS}:answers")),
    "a reader tells a channel": ("reader", lambda c: c.publish(f"{KEYS}:changes", "x")),
    "a reader lists all keys": ("reader", lambda c: c.keys("*")),
    "a commander takes commands away": (
        "commander", lambda c: c.xtrim(f"{KEYS}:commands", maxlen=0)
    ),
    "a commander deletes commands": ("commander", lambda c: c.delete(f"{KEYS}:commands")),
    "a commander reads commands": ("commander", lambda c: c.xrevrange(f"{KEYS}:commands")),
    "a commander forges answers": (
        "commander", lambda c: c.xadd(f"{KEYS}:answers", {"payload": "x"})
    ),
    "a commander reads the book": ("commander", lambda c: c.hgetall(f"{KEYS}:status")),
    "a commander writes the book": ("commander", lambda c: c.xadd(f"{KEYS}:fills", {"a": "b"})),
    "a publisher reads commands of others": (
        "publisher", lambda c: c.xread({"equipoise:other:commands": "0"})
    ),
    "a publisher writes for others": (
        "publisher", lambda c: c.hset("equipoise:other:status", "equity", "9")
    ),
    "a publisher configures": ("publisher", lambda c: c.config_set("maxmemory", "0")),
    "a publisher empties the server": ("publisher", lambda c: c.flushall()),
    "a publisher runs scripts": ("publisher", lambda c: c.eval("return 1", 0)),
}  # fmt: skip


async def test_redis_refuses_everything_else(url: str) -> None:
    for what, (user, call) in REFUSED.items():
        client = connect(url, **login(user))
        try:
            await call(client)
        except NoPermissionError:
            continue
        finally:
            await client.aclose()
        pytest.fail(what)


# ---- MQTT, with TLS, passwords and topics --------------------------------------------------------


@pytest.fixture
async def broker(tmp_path: Path, mosquitto_binary: Path) -> AsyncIterator[Callable[[str], Broker]]:
    certificate, key, passwords = (tmp_path / n for n in ("cert.pem", "key.pem", "passwords"))
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    made += " -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    await ran(*made.split(), "-keyout", str(key), "-out", str(certificate))
    passwords.touch(mode=0o600)
    tool = str(mosquitto_binary.with_name("mosquitto_passwd"))
    for user in USERS:
        await ran(tool, "-b", str(passwords), user, f"change-me-{user}")
    acl, port, file = tmp_path / "topics.acl", free_port(), tmp_path / "mosquitto.conf"
    acl.write_text((ROOT / "deploy" / "mosquitto.acl").read_text(encoding="utf-8"))
    acl.chmod(0o600)
    lines = [f"listener {port} 127.0.0.1", f"certfile {certificate}", f"keyfile {key}"]
    lines += [f"password_file {passwords}", f"acl_file {acl}", "allow_anonymous false"]
    file.write_text("\n".join(lines + ["user root"] * (os.getuid() == 0)) + "\n")
    server = Server([mosquitto_binary, "-c", file], port, tmp_path / "mosquitto.log")
    server.start()
    await server.ready()

    def of(user: str) -> Broker:
        return broker_of(f"mqtts://127.0.0.1:{port}", tls_ca_file=str(certificate), **login(user))

    yield of
    server.kill()


async def ran(*words: str) -> None:
    quiet = asyncio.subprocess.DEVNULL
    run = await asyncio.create_subprocess_exec(*words, stdout=quiet, stderr=quiet)
    assert await run.wait() == 0


@asynccontextmanager
async def hearing(broker: Broker, topic: str) -> AsyncIterator[list[str]]:
    """Collect the topics on which a user hears something."""
    heard: list[str] = []
    async with command_client(broker) as client:
        await client.subscribe(topic, qos=1)

        async def collect() -> None:
            async for message in client.messages:
                heard.append(str(message.topic))

        task = asyncio.create_task(collect())
        try:
            yield heard
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_mosquitto_lets_each_user_do_its_part_over_tls_and_no_more(
    tmp_path: Path, broker: Callable[[str], Broker]
) -> None:
    async with rig(tmp_path) as one, hearing(broker("reader"), "#") as read:
        sink = MqttStatus(broker("publisher"), **NAMES, beat_s=0.05)
        link = partial(command_client, broker("publisher"))
        told = MqttCommands(link, one.remote, **NAMES, server="the broker")
        asking = partial(command_client, broker("commander"))
        async with sink.running(), told.running():
            await heard_by(told.listener)
            sink.publish("status", {"equity": 1.0})
            sink.publish("log", {"event": "x"})
            answer, why = await ask_over_mqtt(
                asking, payload_of("pause", "p1"), understood("p1"), **NAMES,
                request_id="p1", wait_s=20,
            )  # fmt: skip
            assert answer is not None, why
            # neither a reader nor a stranger's topic reaches the daemon
            async with command_client(broker("reader")) as client:
                await client.publish(f"{TOPICS}/cmd", payload_of("flatten", "f1"), qos=1)
                await client.publish(f"{TOPICS}/status", "forged", qos=1)
            async with command_client(broker("commander")) as client:
                await client.publish(f"{TOPICS}/status", "forged", qos=1)
                await client.publish(f"{TOPICS}/cmd/answer/p1", "forged", qos=1)
            ours = {f"{TOPICS}/status", f"{TOPICS}/log", f"{TOPICS}/hb"}
            await until(lambda: ours <= set(read))
            beats = read.count(f"{TOPICS}/hb")
            await until(lambda: read.count(f"{TOPICS}/hb") > beats + 3)  # what was forged is past
        assert one.wished == [("pause", "p1")]
        assert not [topic for topic in read if "/cmd" in topic]
        assert read.count(f"{TOPICS}/status") <= 2  # ours, and the last one of a clean stop


async def test_mosquitto_refuses_who_has_no_password(broker: Callable[[str], Broker]) -> None:
    wrong = Broker(**{**fields_of(broker("reader")), "password": "hunter2"})
    with pytest.raises(aiomqtt.MqttError, match="uthori"):
        async with command_client(wrong):
            pytest.fail("it was let in")


def fields_of(broker: Broker) -> dict[str, Any]:
    return {name: getattr(broker, name) for name in ("host", "port", "username", "password", "tls")}
