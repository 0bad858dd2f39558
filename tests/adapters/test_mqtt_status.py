"""Status over a real mosquitto: topics, last will, login, TLS, and every kind of outage."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import psutil
import pytest
from structlog.testing import capture_logs

from adapters import mqtt_status as module
from adapters.mqtt_status import Broker, MqttStatus, broker_of
from daemon.domain.failures import ConfigurationError
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import Alert, AlertKind
from daemon.status import outbox as outbox_module
from daemon.status.codec import SCHEMA_VERSION, STATE_TOPICS
from daemon.status.outbox import EVENTS_WAITING_MAX

PREFIX = "equipoise/paper"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits, so that outages pass in tenths of a second."""
    monkeypatch.setattr(module, "CALL_S_MAX", 0.4)
    monkeypatch.setattr(outbox_module, "PAUSE_S_MIN", 0.02)
    monkeypatch.setattr(outbox_module, "PAUSE_S_MAX", 0.1)


@dataclass(slots=True)
class Mosquitto:
    """Start and stop a real broker on a port of its own."""

    program: Path
    folder: Path
    port: int
    lines: tuple[str, ...] = ()
    process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        file = self.folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", *self.lines]
        if not any(line.startswith("password_file") for line in lines):
            lines.append("allow_anonymous true")
        if os.getuid() == 0:
            lines.append("user root")
        file.write_text("\n".join(lines) + "\n")
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                self.program, "-c", str(file), stdout=log, stderr=log
            )
        async with asyncio.timeout(10):
            while not self._listens():
                assert self.process.returncode is None, (self.folder / "mosquitto.log").read_text()
                await next_look()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@pytest.fixture
async def broker(tmp_path: Path, mosquitto_binary: Path) -> AsyncIterator[Mosquitto]:
    server = Mosquitto(mosquitto_binary, tmp_path, free_port())
    await server.start()
    yield server
    await server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sink_of(broker: Mosquitto, **options: Any) -> MqttStatus:
    target = broker_of(f"mqtt://127.0.0.1:{broker.port}", **options)
    return MqttStatus(target, namespace="equipoise", run="paper", beat_s=0.05)


@asynccontextmanager
async def listening(broker: Mosquitto, **options: Any) -> AsyncIterator[Callable[[str], Any]]:
    """Collect what a subscriber hears; gives a coroutine function that waits for one topic."""
    heard: asyncio.Queue[aiomqtt.Message] = asyncio.Queue()
    async with aiomqtt.Client("127.0.0.1", broker.port, **options) as client:
        await client.subscribe(f"{PREFIX}/#", qos=1)

        async def collect() -> None:
            async for message in client.messages:
                heard.put_nowait(message)

        async def next_on(topic: str) -> str:
            async with asyncio.timeout(10):
                while True:
                    message = await heard.get()
                    if message.topic.matches(f"{PREFIX}/{topic}"):
                        assert isinstance(message.payload, bytes)
                        return message.payload.decode()

        task = asyncio.create_task(collect())
        try:
            yield next_on
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def next_look() -> None:
    await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await next_look()


async def delivered(sink: MqttStatus) -> None:
    await until(lambda: not len(sink.outbox) and not sink.courier.is_away)


async def retained(broker: Mosquitto, topic: str) -> str:
    async with listening(broker) as next_on:
        return str(await next_on(topic))


# ---- topics --------------------------------------------------------------------------------------


async def test_states_events_alerts_and_heartbeats_have_their_topics(broker: Mosquitto) -> None:
    sink = sink_of(broker)
    async with listening(broker) as next_on, sink.running():
        assert await next_on("availability") == "online"
        sink.publish("status", {"equity": 10000.5, "gap": float("nan")})
        assert json.loads(await next_on("status")) == {"equity": 10000.5, "gap": None}
        sink.publish("fill", {"trade_id": "1"})
        sink.publish("decision", {"kind": "traded"})
        assert json.loads(await next_on("events")) == {"topic": "fill", "trade_id": "1"}
        assert json.loads(await next_on("events")) == {"topic": "decision", "kind": "traded"}
        sink.alert(Alert(AlertKind.HALTED, 0, "order x"))
        assert json.loads(await next_on("notify"))["text"] == "order x"
        first, second = json.loads(await next_on("hb")), json.loads(await next_on("hb"))
        assert second == {"beat": first["beat"] + 1, "schema_version": SCHEMA_VERSION}


async def test_who_comes_later_finds_the_newest_state_and_the_end(broker: Mosquitto) -> None:
    sink = sink_of(broker)
    async with sink.running():
        for n in range(5):
            sink.publish("status", {"n": n})
            sink.publish("targets", {"A": {"weight": n}})
        await delivered(sink)
        assert await retained(broker, "availability") == "online"
        assert json.loads(await retained(broker, "status")) == {"n": 4}
        assert json.loads(await retained(broker, "targets")) == {"A": {"weight": 4}}
    assert await retained(broker, "availability") == "offline"
    assert json.loads(await retained(broker, "status")) == {"n": 4, "daemon": "stopped"}


async def test_many_events_arrive_in_order(broker: Mosquitto) -> None:
    sink = sink_of(broker)
    async with listening(broker) as next_on, sink.running():
        for n in range(250):
            sink.publish("fill", {"n": n})
        heard = [json.loads(await next_on("events"))["n"] for _ in range(250)]
    assert heard == list(range(250))


async def test_the_last_will_tells_a_daemon_that_was_cut_off(broker: Mosquitto) -> None:
    async with listening(broker) as next_on:
        sink = sink_of(broker)
        listeners = lines_to(broker)
        async with sink.running():
            assert await next_on("availability") == "online"
            (line,) = lines_to(broker) - listeners
            cut(line)
            assert await next_on("availability") == "offline"
            assert await next_on("availability") == "online"  # and it came back by itself


def lines_to(broker: Mosquitto) -> set[int]:
    """Give the descriptors of our connections to the broker."""
    lines = psutil.Process().net_connections(kind="tcp")
    return {line.fd for line in lines if getattr(line.raddr, "port", None) == broker.port}


def cut(descriptor: int) -> None:
    """Break a connection without a goodbye, as a network does."""
    with socket.socket(fileno=os.dup(descriptor)) as line:
        line.shutdown(socket.SHUT_RDWR)


# ---- outages -------------------------------------------------------------------------------------


async def publish_a_lot(sink: MqttStatus, first: int, count: int) -> None:
    for n in range(first, first + count):
        sink.publish("status", {"n": n})
        sink.publish("fill", {"n": n})
        if n % 20 == 0:
            await asyncio.sleep(0)
    assert len(sink.outbox) <= EVENTS_WAITING_MAX + len(STATE_TOPICS)


async def test_a_frozen_broker_delays_nothing_and_gets_the_newest_when_it_thaws(
    broker: Mosquitto,
) -> None:
    sink = sink_of(broker)
    loop = asyncio.get_running_loop()
    with capture_logs() as logs:
        async with sink.running():
            await delivered(sink)
            os.kill(broker.pid, signal.SIGSTOP)
            began = loop.time()
            await publish_a_lot(sink, 0, 3000)
            assert loop.time() - began < 5.0
            await until(lambda: sink.courier.is_away)
            await until(lambda: sink.courier.attempts >= 2)
            os.kill(broker.pid, signal.SIGCONT)
            await delivered(sink)
            assert json.loads(await retained(broker, "status")) == {"n": 2999}
    told = [e["event"] for e in logs if e["event"].startswith("status_server")]
    # dials that it left unanswered may, once it thaws, take our new connection's place
    assert told[:2] == [LogEvent.STATUS_SERVER_LOST, LogEvent.STATUS_SERVER_RETURNED]


async def test_a_broker_that_stops_and_returns_empty_hears_the_newest_state_again(
    broker: Mosquitto,
) -> None:
    sink = sink_of(broker)
    async with sink.running():
        sink.publish("status", {"n": 7})
        await delivered(sink)
        await broker.stop()
        await until(lambda: sink.courier.is_away)
        await publish_a_lot(sink, 8, 600)
        await broker.start()
        await delivered(sink)
        assert json.loads(await retained(broker, "status")) == {"n": 607}


async def test_a_flapping_broker_leaves_no_sockets_behind(broker: Mosquitto) -> None:
    sink = sink_of(broker)
    process = psutil.Process()
    async with sink.running():
        await delivered(sink)
        before = process.num_fds()
        for n in range(5):
            os.kill(broker.pid, signal.SIGSTOP)
            await publish_a_lot(sink, 100 * n, 100)
            # several attempts against a broker that accepts and never answers
            await until(lambda: sink.courier.attempts >= 2)
            os.kill(broker.pid, signal.SIGCONT)
            await delivered(sink)
        assert process.num_fds() <= before + 2
        assert json.loads(await retained(broker, "status")) == {"n": 499}


async def test_an_absent_broker_costs_nothing_and_the_end_is_quick(
    tmp_path: Path, mosquitto_binary: Path
) -> None:
    sink = sink_of(Mosquitto(mosquitto_binary, tmp_path, free_port()))
    loop = asyncio.get_running_loop()
    with capture_logs() as logs:
        async with sink.running():
            await publish_a_lot(sink, 0, 2000)
            await until(lambda: sink.courier.attempts >= 3)
            began = loop.time()
    assert loop.time() - began < 1.0
    assert [e["event"] for e in logs] == [LogEvent.STATUS_SERVER_LOST]


async def test_a_frozen_broker_does_not_hold_up_the_end(broker: Mosquitto) -> None:
    sink = sink_of(broker)
    loop = asyncio.get_running_loop()
    async with sink.running():
        await delivered(sink)
        os.kill(broker.pid, signal.SIGSTOP)
        sink.publish("status", {"n": 1})
        began = loop.time()
    assert loop.time() - began < outbox_module.FAREWELL_S_MAX + module.CALL_S_MAX + 1.0
    os.kill(broker.pid, signal.SIGCONT)


# ---- login and address ---------------------------------------------------------------------------


async def test_a_login_is_used_and_a_wrong_one_is_an_outage_without_the_password(
    tmp_path: Path, mosquitto_binary: Path
) -> None:
    file = tmp_path / "passwords"
    file.touch(mode=0o600)
    tool = mosquitto_binary.with_name("mosquitto_passwd")
    run = await asyncio.create_subprocess_exec(tool, "-b", str(file), "me", "hunter2")
    assert await run.wait() == 0
    server = Mosquitto(mosquitto_binary, tmp_path, free_port(), (f"password_file {file}",))
    await server.start()
    try:
        with capture_logs() as logs:
            right = sink_of(server, username="me", password="hunter2")
            async with right.running():
                right.publish("status", {"n": 1})
                await delivered(right)
            wrong = sink_of(server, username="me", password="hunter3")
            async with wrong.running():
                await until(lambda: wrong.courier.is_away)
        (lost,) = [e for e in logs if e["event"] == LogEvent.STATUS_SERVER_LOST]
        assert "uthori" in lost["why"]
        assert "hunter" not in str(logs)
    finally:
        await server.stop()


# paho 2.2 leaves the socket of a failed TLS handshake to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_tls_trusts_the_named_certificates_only(
    tmp_path: Path, mosquitto_binary: Path
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += " -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    words = [*command.split(), "-keyout", str(key), "-out", str(certificate)]
    run = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
    assert await run.wait() == 0
    lines = (f"certfile {certificate}", f"keyfile {key}")
    server = Mosquitto(mosquitto_binary, tmp_path, free_port(), lines)
    await server.start()
    url = f"mqtts://127.0.0.1:{server.port}"
    try:
        trusting = broker_of(url, tls_ca_file=str(certificate))
        sink = MqttStatus(trusting, namespace="equipoise", run="paper", beat_s=1)
        async with sink.running():
            sink.publish("status", {"n": 1})
            await delivered(sink)
        with capture_logs() as logs:
            strict = MqttStatus(broker_of(url), namespace="equipoise", run="paper", beat_s=1)
            async with strict.running():
                await until(lambda: strict.courier.is_away)
        assert "certificate verify failed" in logs[0]["why"].lower()
    finally:
        await server.stop()


@pytest.mark.parametrize(
    "url", ["tcp://host", "mqtt://", "mqtt://me:hunter2@host", "mqtt://host:notaport", "host"]
)
def test_a_bad_address_is_told_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"mqtt\.url = .*accepted: mqtt://host:1883"):
        broker_of(url)


def test_ports_and_tls_follow_from_the_scheme() -> None:
    assert broker_of("mqtt://h") == Broker("h", 1883)
    secure = broker_of("mqtts://h")
    assert secure.port == 8883
    assert isinstance(secure.tls, ssl.SSLContext)
    assert (secure.address, broker_of("mqtt://h:1").address) == ("mqtts://h:8883", "mqtt://h:1")


def test_unusable_tls_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"mqtt TLS files .*absent\.pem: .*No such file"):
        broker_of("mqtts://h", tls_ca_file=str(tmp_path / "absent.pem"))
