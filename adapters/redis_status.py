"""Show status in Redis or Valkey, and read it back for `equipoise status`.

The key scheme is documented in docs/redis.md and versioned in the `meta` hash. Losing the server
changes nothing but the view: `publish` only lays values into a bounded outbox, a background task
delivers them. Every command has a short time limit and none is retried inside the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from daemon.domain.failures import ConfigurationError
from daemon.domain.messages import Alert
from daemon.status.codec import SCHEMA_VERSION, STATE_TOPICS, from_fields, to_fields
from daemon.status.contract import STREAM_OF
from daemon.status.outbox import Batch, Courier, Outbox
from daemon.status.values import alert_values

COMMAND_S_MAX: Final = 2.0
BEAT_S: Final = 2.0
BEAT_LIFETIME_S: Final = 10.0
STREAMS: Final = STREAM_OF


@dataclass(frozen=True, slots=True)
class Keys:
    """Name the keys of one run."""

    namespace: str
    run: str

    def of(self, name: str) -> str:
        """Give the full name of a key or channel."""
        return f"{self.namespace}:{self.run}:{name}"


def connect(
    url: str,
    *,
    username: str = "",
    password: str | None = None,
    as_text: bool = True,
    blocks_s: float = 0.0,
) -> Redis:
    """Make a client that fails within COMMAND_S_MAX; a bad address is a ConfigurationError.

    as_text: read answers as UTF-8; what others wrote may be none. blocks_s: how long a command may
    wait at the server on top.
    """
    try:
        return Redis.from_url(
            url,
            username=username or None,
            password=password,
            decode_responses=as_text,
            socket_timeout=COMMAND_S_MAX + blocks_s,
            socket_connect_timeout=COMMAND_S_MAX,
            retry=Retry(NoBackoff(), 0),  # the client's own retries stretch 0.5 s to 10 s
            max_connections=4,
        )
    except ValueError as e:
        raise ConfigurationError(
            f"redis.url {url!r}: {e}; accepted: redis://, rediss:// or unix://"
        ) from e


class RedisStatus:
    """Be a StatusSink and an AlertSink for one run at one server.

    meta: facts that stay the same during the run (strategy, exchange, code version...).
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str,
        run: str,
        username: str = "",
        password: str | None = None,
        stream_length_max: int = 1000,
        meta: Mapping[str, object] | None = None,
        beat_s: float = BEAT_S,
    ) -> None:
        self._url = url
        self._login: dict[str, Any] = {"username": username, "password": password}
        self._keys = Keys(namespace, run)
        self._stream_length_max = stream_length_max
        self._meta = to_fields(meta or {})
        self._beat_s = beat_s
        connect(url)  # a bad address is told now, not as an outage
        self.outbox = Outbox()
        self.courier = Courier(self.outbox, self._linked, server=url, beat_s=beat_s)

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
    async def _linked(self) -> AsyncIterator[_RedisLink]:
        client = connect(self._url, **self._login)
        try:
            link = _RedisLink(client, self._keys, self._stream_length_max, self._beat_s)
            await link.greet(self._meta)
            yield link
        finally:
            await client.aclose()


class _RedisLink:
    """Speak to one connected server; each method is one round trip."""

    def __init__(self, client: Redis, keys: Keys, stream_length_max: int, beat_s: float) -> None:
        self._client = client
        self._keys = keys
        self._stream_length_max = stream_length_max
        self._lifetime_ms = round(1000 * max(BEAT_LIFETIME_S, 3 * beat_s))
        self._beats = 0

    async def greet(self, meta: Mapping[str, str]) -> None:
        """Say which scheme is spoken here and that a daemon is at it."""
        fields: dict[Any, Any] = {
            **meta,
            "schema_version": str(SCHEMA_VERSION),
            "run": self._keys.run,
            "daemon": "running",
            "heartbeat_lifetime_ms": str(self._lifetime_ms),
        }
        await self._client.hset(self._keys.of("meta"), mapping=fields)

    async def send(self, batch: Batch) -> None:
        """Replace state hashes, append events and tell the channel, in one transaction."""
        keys, pipe = self._keys, self._client.pipeline(transaction=True)
        for topic, values in batch.states.items():
            pipe.delete(keys.of(topic))
            fields: dict[Any, Any] = dict(to_fields(values))
            if fields:
                pipe.hset(keys.of(topic), mapping=fields)
        for topic, values in batch.events:
            stream = keys.of(STREAMS[topic])
            entry: dict[Any, Any] = to_fields(values) or {"empty": "true"}
            pipe.xadd(stream, entry, maxlen=self._stream_length_max, approximate=True)
        pipe.hincrby(keys.of("meta"), "version", 1)
        changed = sorted({*batch.states, *(topic for topic, _ in batch.events)})
        pipe.publish(keys.of("changes"), " ".join(changed))
        await pipe.execute()

    async def beat(self) -> None:
        """Renew the key that vanishes by itself when we do."""
        self._beats += 1
        await self._client.set(self._keys.of("heartbeat"), self._beats, px=self._lifetime_ms)

    async def farewell(self) -> None:
        """Say that the daemon stopped on purpose."""
        pipe = self._client.pipeline(transaction=True)
        pipe.hset(self._keys.of("meta"), mapping={"daemon": "stopped"})
        pipe.delete(self._keys.of("heartbeat"))
        pipe.publish(self._keys.of("changes"), "stopped")
        await pipe.execute()


class Health(StrEnum):
    """Say what a reader found out about the daemon."""

    RUNNING = "running"
    STOPPED = "stopped"  # it said goodbye
    LOST = "lost"  # it said nothing for longer than the heartbeat lives
    ABSENT = "absent"  # the server knows no such run
    UNREACHABLE = "unreachable"  # the server does not answer


async def read_status(
    url: str,
    namespace: str,
    run: str,
    *,
    username: str = "",
    password: str | None = None,
    events_n: int = 10,
) -> dict[str, Any]:
    """Read everything that is shown of one run, as of one moment.

    `daemon` is a Health; `why` and `runs` (known run names) help where there is nothing to show.
    Events come newest first. Numbers are exact texts. A server that fails is an answer, not an
    exception; only a malformed address raises ConfigurationError.
    """
    client = connect(url, username=username, password=password)
    try:
        return await _read(client, Keys(namespace, run), events_n)
    except (RedisError, OSError) as e:
        return {"daemon": Health.UNREACHABLE, "run": run, "why": f"{type(e).__name__}: {e}"}
    finally:
        await client.aclose()


async def _read(client: Redis, keys: Keys, events_n: int) -> dict[str, Any]:
    pipe = client.pipeline(transaction=True)
    for name in ("meta", *STATE_TOPICS):
        pipe.hgetall(keys.of(name))
    for name in STREAMS.values():
        pipe.xrevrange(keys.of(name), count=events_n)
    pipe.pttl(keys.of("heartbeat"))
    answers = await pipe.execute()
    meta, *states = answers[: 1 + len(STATE_TOPICS)]
    streams, left_ms = answers[1 + len(STATE_TOPICS) : -1], answers[-1]
    if not meta:
        runs = await _known_runs(client, keys.namespace)
        why = f"no run {keys.run!r} in namespace {keys.namespace!r}"
        return {"daemon": Health.ABSENT, "run": keys.run, "why": why, "runs": runs}
    found: dict[str, Any] = {"daemon": _health(meta, left_ms), "run": keys.run}
    found["heartbeat_age_s"] = _age_s(meta, left_ms)
    found["meta"] = from_fields(meta)
    for name, fields in zip(STATE_TOPICS, states, strict=True):
        found[name] = from_fields(fields)
    for name, entries in zip(STREAMS.values(), streams, strict=True):
        found[name] = [from_fields(fields) for _, fields in entries]
    return found


def _health(meta: Mapping[str, str], left_ms: int) -> Health:
    if left_ms >= 0:
        return Health.RUNNING
    return Health.STOPPED if meta.get("daemon") == "stopped" else Health.LOST


def _age_s(meta: Mapping[str, str], left_ms: int) -> float | None:
    lifetime = meta.get("heartbeat_lifetime_ms", "")
    if left_ms < 0 or not lifetime.isdigit():
        return None
    return max(0, int(lifetime) - left_ms) / 1000


async def _known_runs(client: Redis, namespace: str) -> list[str]:
    head, tail = f"{namespace}:", ":meta"
    found = [key async for key in client.scan_iter(match=f"{head}*{tail}", count=500)]
    return sorted(key.removeprefix(head).removesuffix(tail) for key in found)


async def watch_status(
    url: str,
    namespace: str,
    run: str,
    *,
    username: str = "",
    password: str | None = None,
    events_n: int = 10,
    patience_s: float = 2.0,
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the status now, after each change, and at the latest every `patience_s` seconds.

    Goes on through outages of the server, each time with an `unreachable` status.
    """
    login: dict[str, Any] = {"username": username, "password": password}
    while True:
        client = connect(url, **login)
        try:
            async with client.pubsub(ignore_subscribe_messages=True) as channel:
                await channel.subscribe(Keys(namespace, run).of("changes"))
                while True:
                    status = await read_status(url, namespace, run, events_n=events_n, **login)
                    yield status
                    if status["daemon"] is Health.UNREACHABLE:
                        break
                    await _changed(channel, patience_s)
        except (RedisError, OSError) as e:
            why = f"{type(e).__name__}: {e}"
            yield {"daemon": Health.UNREACHABLE, "run": run, "why": why}
        finally:
            await client.aclose()
        await asyncio.sleep(patience_s)


async def _changed(channel: Any, patience_s: float) -> None:
    """Return after the first change, having swallowed the others that wait, or after patience."""
    if await channel.get_message(timeout=patience_s) is None:
        return
    while await channel.get_message(timeout=0.0) is not None:
        pass
