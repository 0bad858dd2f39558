"""Show the same status over MQTT: what Redis keeps as hashes and streams, a broker tells as topics.

    {namespace}/{run}/status, /positions, /targets, /predictions, /feed,
        /orders, /risk, /models, /correlation, /runtime     newest state, retained
    {namespace}/{run}/events         decisions, fills and days, {"topic": "fill", ...}
    {namespace}/{run}/notify         alerts
    {namespace}/{run}/log            what is logged, a few lines a second at most
    {namespace}/{run}/hb             a counter every few seconds
    {namespace}/{run}/availability   online or offline, retained; offline is also the last will

Every message asks for the broker's receipt (QoS 1) and the next batch waits for it, so that a
frozen broker is noticed and the client's own queue stays empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from daemon.domain.failures import ConfigurationError
from daemon.domain.messages import Alert
from daemon.status.codec import SCHEMA_VERSION, to_json
from daemon.status.outbox import Batch, Courier, Outbox, Values
from daemon.status.signing import PAYLOAD_BYTES_MAX
from daemon.status.values import alert_values

CALL_S_MAX: Final = 2.0
KEEPALIVE_S: Final = 10
BEAT_S: Final = 10.0
IN_FLIGHT_MAX: Final = 20
COMMANDS_WAITING_MAX: Final = 100
BESIDE: Final = {"alert": "notify", "log": "log"}  # events with a topic of their own
ACCEPTED: Final = "mqtt://host:1883 or mqtts://host:8883, without a login"


@dataclass(frozen=True, slots=True)
class Broker:
    """Say where a broker is and how to log in."""

    host: str
    port: int
    username: str = ""
    password: str | None = None
    tls: ssl.SSLContext | None = None

    @property
    def address(self) -> str:
        """Name the broker for the log."""
        return f"mqtt{'s' if self.tls else ''}://{self.host}:{self.port}"


def broker_of(
    url: str,
    *,
    username: str = "",
    password: str | None = None,
    tls_ca_file: str = "",
    tls_certificate_file: str = "",
    tls_key_file: str = "",
) -> Broker:
    """Read a broker's address; raises ConfigurationError for a bad one or for unusable files."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as e:
        raise ConfigurationError(f"mqtt.url = {url!r}: {e}; accepted: {ACCEPTED}") from e
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.username:
        raise ConfigurationError(f"mqtt.url = {url!r}; accepted: {ACCEPTED}")
    if parts.scheme == "mqtt":
        return Broker(parts.hostname, port or 1883, username, password)
    try:
        tls = ssl.create_default_context(cafile=tls_ca_file or None)
        if tls_certificate_file:
            tls.load_cert_chain(tls_certificate_file, tls_key_file or None)
    except (OSError, ssl.SSLError) as e:
        named = [f for f in (tls_ca_file, tls_certificate_file, tls_key_file) if f]
        raise ConfigurationError(f"mqtt TLS files {', '.join(named)}: {e}") from e
    return Broker(parts.hostname, port or 8883, username, password, tls)


class MqttStatus:
    """Be a StatusSink and an AlertSink for one run at one broker."""

    def __init__(self, broker: Broker, *, namespace: str, run: str, beat_s: float = BEAT_S) -> None:
        self._broker = broker
        self._prefix = f"{namespace}/{run}"
        self.outbox = Outbox()
        self.courier = Courier(self.outbox, self._linked, server=broker.address, beat_s=beat_s)

    def publish(self, topic: str, values: Mapping[str, object]) -> None:
        """Take the newest values of a topic; never blocks, newest wins."""
        self.outbox.put(topic, values)

    def alert(self, alert: Alert) -> None:
        """Take an alert; never blocks."""
        self.outbox.put("alert", alert_values(alert))

    def running(self) -> AbstractAsyncContextManager[None]:
        """Deliver in the background for as long as the context lasts."""
        return self.courier.running()

    @asynccontextmanager
    async def _linked(self) -> AsyncIterator[_MqttLink]:
        will = aiomqtt.Will(f"{self._prefix}/availability", "offline", qos=1, retain=True)
        client = _client(self._broker, will=will)
        async with _connected(client):
            link = _MqttLink(client, self._prefix)
            await link.greet()
            yield link


def _client(broker: Broker, **options: Any) -> aiomqtt.Client:
    """Make a client whose every call, the TCP connect included, ends within CALL_S_MAX."""
    client = aiomqtt.Client(
        broker.host,
        broker.port,
        username=broker.username or None,
        password=broker.password,
        tls_context=broker.tls,
        timeout=CALL_S_MAX,
        keepalive=KEEPALIVE_S,
        max_inflight_messages=IN_FLIGHT_MAX,
        max_queued_outgoing_messages=2 * IN_FLIGHT_MAX,
        **options,
    )
    # paho's own name for the limit on the TCP connect, which runs in a thread we cannot cancel
    client._client.connect_timeout = CALL_S_MAX
    client.pending_calls_threshold = 2 * IN_FLIGHT_MAX
    return client


@asynccontextmanager
async def command_client(broker: Broker) -> AsyncIterator[aiomqtt.Client]:
    """Connect by MQTT 5 for requests and answers; the broker brings nothing longer than those."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = 4 * PAYLOAD_BYTES_MAX
    client = _client(
        broker,
        protocol=aiomqtt.ProtocolVersion.V5,
        properties=properties,
        max_queued_incoming_messages=COMMANDS_WAITING_MAX,
    )
    async with _connected(client):
        yield client


@asynccontextmanager
async def _connected(client: aiomqtt.Client) -> AsyncIterator[None]:
    """Connect, and leave no socket behind when that fails.

    aiomqtt 2.5 keeps socket and housekeeping task of an attempt that the broker never answered.
    """
    try:
        await client.__aenter__()
    except BaseException:
        client._client.disconnect()
        raise
    try:
        yield
    finally:
        # a lost connection says so here as well; who brought us here has said it already
        with contextlib.suppress(aiomqtt.MqttError):
            await client.__aexit__(None, None, None)


class _MqttLink:
    """Speak to one connected broker."""

    def __init__(self, client: aiomqtt.Client, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._beats = 0
        self._status: Values | None = None  # the last one told

    async def greet(self) -> None:
        """Say that a daemon is here."""
        await self._tell("availability", "online", retain=True)

    async def send(self, batch: Batch) -> None:
        """Tell all of a batch and return when the broker has confirmed it."""
        messages = [(topic, to_json(values), True) for topic, values in batch.states.items()]
        self._status = batch.states.get("status", self._status)
        for topic, values in batch.events:
            if topic in BESIDE:
                messages.append((BESIDE[topic], to_json(values), False))
            else:
                messages.append(("events", to_json({"topic": topic, **values}), False))
        for start in range(0, len(messages), IN_FLIGHT_MAX):
            chunk = messages[start : start + IN_FLIGHT_MAX]
            try:
                async with asyncio.TaskGroup() as group:
                    for topic, payload, retain in chunk:
                        group.create_task(self._tell(topic, payload, retain=retain))
            except BaseExceptionGroup as failures:
                raise failures.exceptions[0] from None  # one outage, told once

    async def beat(self) -> None:
        """Tell a counter; the broker's receipt proves that it lives."""
        self._beats += 1
        await self._tell("hb", to_json({"beat": self._beats, "schema_version": SCHEMA_VERSION}))

    async def farewell(self) -> None:
        """Say that the daemon stopped on purpose: the retained status says so, and is the last."""
        if self._status is not None:
            stopped = to_json({**self._status, "daemon": "stopped"})
            await self._tell("status", stopped, retain=True)
        await self._tell("availability", "offline", retain=True)

    async def _tell(self, topic: str, payload: str, *, retain: bool = False) -> None:
        await self._client.publish(f"{self._prefix}/{topic}", payload, qos=1, retain=retain)


async def unreachable(broker: Broker) -> str:
    """Say why a broker does not take us, '' where it does; nothing is told there, no will is left.

    For `doctor`: a wrong login, a wrong certificate and a broker that hangs are answers too.
    """
    client = aiomqtt.Client(
        broker.host,
        broker.port,
        username=broker.username or None,
        password=broker.password,
        tls_context=broker.tls,
        timeout=CALL_S_MAX,
    )
    client._client.connect_timeout = CALL_S_MAX
    try:
        async with _connected(client):
            return ""
    except (aiomqtt.MqttError, OSError) as e:
        return str(e) or type(e).__name__
