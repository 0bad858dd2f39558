"""Status in a real server: the documented keys, readers' answers, and every kind of outage."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from adapters import redis_status as module
from adapters.embedded_redis import embedded_redis
from adapters.redis_status import STREAMS, Health, RedisStatus, read_status, watch_status
from daemon.domain.failures import ConfigurationError
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import Alert, AlertKind
from daemon.status import outbox as outbox_module
from daemon.status.codec import EVENT_TOPICS, SCHEMA_VERSION, STATE_TOPICS
from daemon.status.outbox import EVENTS_WAITING_MAX, Batch

NS, RUN = "equipoise", "paper"


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with embedded_redis(tmp_path) as address:
        yield address


@pytest.fixture
async def client(url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(url, decode_responses=True)
    yield client
    await client.aclose()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits, so that outages pass in tenths of a second."""
    monkeypatch.setattr(module, "COMMAND_S_MAX", 0.3)
    monkeypatch.setattr(outbox_module, "PAUSE_S_MIN", 0.02)
    monkeypatch.setattr(outbox_module, "PAUSE_S_MAX", 0.1)


def sink_of(url: str, **options: Any) -> RedisStatus:
    return RedisStatus(url, namespace=NS, run=RUN, **{"beat_s": 0.05, **options})


async def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await next_look()


async def next_look() -> None:
    await asyncio.sleep(0.01)


async def delivered(sink: RedisStatus) -> None:
    await until(lambda: not len(sink.outbox) and not sink.courier.is_away)


async def entries(client: Redis, stream: str) -> list[tuple[str, dict[str, str]]]:
    found: Any = await client.xrange(f"{NS}:{RUN}:{stream}")
    return list(found)


def pid_of(state: Path) -> int:
    return int(json.loads((state / "redis" / "server.json").read_text())["pid"])


# ---- the key scheme ------------------------------------------------------------------------------


async def test_states_replace_hashes_and_events_append_to_streams(url: str, client: Redis) -> None:
    sink = sink_of(url, meta={"strategy": "neutral"})
    async with sink.running():
        sink.publish("positions", {"BTC/USDT:USDT": {"weight": 0.1}, "ETH/USDT:USDT": {}})
        sink.publish("status", {"equity": 10000.5, "gap": float("nan")})
        sink.publish("fill", {"trade_id": "1"})
        sink.publish("fill", {"trade_id": "2"})
        sink.publish("decision", {"sequence": 1})
        sink.alert(Alert(AlertKind.HALTED, 0, "order x"))
        await delivered(sink)
        sink.publish("positions", {"SOL/USDT:USDT": {"weight": -0.1}})
        await delivered(sink)
        assert await client.hgetall(f"{NS}:{RUN}:positions") == {"SOL/USDT:USDT": '{"weight":-0.1}'}
        assert await client.hgetall(f"{NS}:{RUN}:status") == {"equity": "10000.5", "gap": ""}
        fills = await entries(client, "fills")
        assert [fields for _, fields in fills] == [{"trade_id": "1"}, {"trade_id": "2"}]
        assert await client.xlen(f"{NS}:{RUN}:decisions") == 1
        ((_, alert),) = await entries(client, "alerts")
        assert (alert["kind"], alert["at"]) == ("halted", "1970-01-01T00:00:00Z")
        meta = await client.hgetall(f"{NS}:{RUN}:meta")
        assert meta["schema_version"] == str(SCHEMA_VERSION)
        assert (meta["strategy"], meta["daemon"], meta["version"]) == ("neutral", "running", "2")
        assert 0 < await client.pttl(f"{NS}:{RUN}:heartbeat") <= 10_000
    assert await client.hget(f"{NS}:{RUN}:meta", "daemon") == "stopped"
    assert not await client.exists(f"{NS}:{RUN}:heartbeat")


async def test_an_empty_state_removes_the_hash(url: str, client: Redis) -> None:
    sink = sink_of(url)
    async with sink.running():
        sink.publish("positions", {"A": {}})
        await delivered(sink)
        sink.publish("positions", {})
        await delivered(sink)
        assert not await client.exists(f"{NS}:{RUN}:positions")


async def test_streams_are_bounded(url: str, client: Redis) -> None:
    sink = sink_of(url, stream_length_max=100)
    async with sink.running():
        for n in range(900):
            sink.publish("fill", {"n": n})
            if n % 300 == 299:
                await delivered(sink)
        length = await client.xlen(f"{NS}:{RUN}:fills")
        # trimming is approximate: the server keeps whole nodes of about a hundred entries
        assert 100 <= length <= 300
        _, newest = (await entries(client, "fills"))[-1]
        assert newest == {"n": "899"}


async def test_each_change_is_told_to_the_channel_with_its_topics(url: str, client: Redis) -> None:
    sink = sink_of(url)
    async with sink.running(), client.pubsub(ignore_subscribe_messages=True) as channel:
        await channel.subscribe(f"{NS}:{RUN}:changes")
        await channel.get_message(timeout=0.1)
        sink.publish("fill", {"n": 1})
        sink.publish("status", {"n": 1})
        message = None
        async with asyncio.timeout(5):
            while message is None:
                message = await channel.get_message(timeout=1)
        assert message["data"] == "fill status"


async def test_the_page_names_every_key(repository_root: Path) -> None:
    page = (repository_root / "docs" / "redis.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\{namespace\}:\{run\}:(\w+)", page))
    wanted = {"meta", "heartbeat", "changes", *STATE_TOPICS, *(STREAMS[t] for t in EVENT_TOPICS)}
    wanted |= {"commands", "answers"}
    assert named == wanted
    assert f"schema version {SCHEMA_VERSION}" in page


def test_a_bad_address_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"redis\.url 'http://x'.*rediss://"):
        sink_of("http://x")


# ---- readers -------------------------------------------------------------------------------------


async def test_a_reader_sees_everything_of_a_running_daemon(url: str) -> None:
    sink = sink_of(url)
    async with sink.running():
        sink.publish("status", {"equity": "10000.50", "trading_state": "trading"})
        sink.publish("targets", {"A": {"weight": 0.5}})
        for n in range(20):
            sink.publish("fill", {"trade_id": n})
        await delivered(sink)
        status = await read_status(url, NS, RUN, events_n=3)
    assert status["daemon"] is Health.RUNNING
    assert status["heartbeat_age_s"] < 5
    assert status["status"] == {"equity": "10000.50", "trading_state": "trading"}
    assert status["targets"] == {"A": {"weight": 0.5}}
    assert [fill["trade_id"] for fill in status["fills"]] == ["19", "18", "17"]
    assert status["decisions"] == []


async def test_a_reader_tells_stopped_lost_absent_and_unreachable_apart(
    url: str, client: Redis, tmp_path: Path
) -> None:
    absent = await read_status(url, NS, RUN)
    assert absent["daemon"] is Health.ABSENT
    assert absent["runs"] == []
    sink = sink_of(url)
    async with sink.running():
        sink.publish("status", {"equity": 1})
        await delivered(sink)
    stopped = await read_status(url, NS, RUN)
    assert (stopped["daemon"], stopped["status"]["equity"]) == (Health.STOPPED, "1")
    assert (await read_status(url, NS, "other"))["runs"] == [RUN]
    await client.hset(f"{NS}:{RUN}:meta", mapping={"daemon": "running"})
    lost = await read_status(url, NS, RUN)  # it never said goodbye, and its heartbeat is gone
    assert lost["daemon"] is Health.LOST
    assert lost["heartbeat_age_s"] is None
    nowhere = await read_status(f"unix://{tmp_path}/no.sock", NS, RUN)
    assert nowhere["daemon"] is Health.UNREACHABLE
    assert "no.sock" in nowhere["why"]


async def test_a_heartbeat_vanishes_by_itself_when_nobody_renews_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_LIFETIME_S", 0.1)
    sink = sink_of(url, beat_s=0.03)
    async with sink.running():
        await delivered(sink)
        async with asyncio.timeout(5):
            while (await read_status(url, NS, RUN))["daemon"] is not Health.RUNNING:
                await next_look()
        monkeypatch.setattr(sink.courier, "_beat_s", 60.0)
        async with asyncio.timeout(5):
            while (await read_status(url, NS, RUN))["daemon"] is not Health.LOST:
                await next_look()


async def test_a_watcher_sees_each_change_and_goes_on_through_an_outage(tmp_path: Path) -> None:
    sink: RedisStatus | None = None
    seen: list[Any] = []
    async with embedded_redis(tmp_path) as url:
        sink = sink_of(url)
        watch = watch_status(url, NS, RUN, patience_s=0.2)
        async with sink.running():
            await delivered(sink)
            for equity in ("1", "2"):
                sink.publish("status", {"equity": equity})
                async with asyncio.timeout(10):
                    async for status in watch:
                        if status.get("status", {}).get("equity") == equity:
                            seen.append(status["daemon"])
                            break
            os.kill(pid_of(tmp_path), signal.SIGSTOP)
            async with asyncio.timeout(10):
                async for status in watch:
                    if status["daemon"] is Health.UNREACHABLE:
                        break
            os.kill(pid_of(tmp_path), signal.SIGCONT)
            async with asyncio.timeout(10):
                async for status in watch:
                    if status["daemon"] is Health.RUNNING:
                        break
        await watch.aclose()
    assert seen == [Health.RUNNING, Health.RUNNING]


# ---- outages -------------------------------------------------------------------------------------


@asynccontextmanager
async def longest_gap() -> AsyncIterator[list[float]]:
    """Measure the longest time for which the loop did not come round, while the body runs."""
    loop, gaps, last = asyncio.get_running_loop(), [0.0], [0.0]
    last[0] = loop.time()

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.005)
            now = loop.time()
            gaps[0] = max(gaps[0], now - last[0])
            last[0] = now

    task = asyncio.create_task(tick())
    try:
        yield gaps
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def publish_a_lot(sink: RedisStatus, first: int, count: int) -> None:
    for n in range(first, first + count):
        sink.publish("status", {"n": n})
        sink.publish("fill", {"n": n})
        if n % 20 == 0:
            await asyncio.sleep(0)
    assert len(sink.outbox) <= EVENTS_WAITING_MAX + len(STATE_TOPICS)


async def test_a_frozen_server_delays_nothing_and_gets_the_newest_when_it_thaws(
    tmp_path: Path,
) -> None:
    async with embedded_redis(tmp_path) as url:
        sink = sink_of(url)
        with capture_logs() as logs:
            async with sink.running():
                await delivered(sink)
                os.kill(pid_of(tmp_path), signal.SIGSTOP)
                async with longest_gap() as gaps:
                    await publish_a_lot(sink, 0, 3000)
                    await until(lambda: sink.courier.is_away)
                    await publish_a_lot(sink, 3000, 10)
                os.kill(pid_of(tmp_path), signal.SIGCONT)
                await delivered(sink)
                status = await read_status(url, NS, RUN, events_n=1)
    assert gaps[0] < 1.0, f"the loop stood still for {gaps[0]:.3f} s"
    assert status["status"] == {"n": "3009"}
    assert status["fills"] == [{"n": "3009"}]
    told = [e["event"] for e in logs if e["event"].startswith("status_server")]
    assert told == [LogEvent.STATUS_SERVER_LOST, LogEvent.STATUS_SERVER_RETURNED]


async def test_a_killed_server_that_comes_back_empty_shows_the_newest_state_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.embedded_redis.RESTART_PAUSE_S", 0.05)
    async with embedded_redis(tmp_path) as url:
        sink = sink_of(url)
        async with sink.running():
            sink.publish("status", {"equity": 7})
            await delivered(sink)
            first = pid_of(tmp_path)
            for file in (tmp_path / "redis" / "data").rglob("*.aof"):
                file.unlink()
            os.kill(first, signal.SIGKILL)
            async with asyncio.timeout(15):
                # nothing is published meanwhile: the sink itself remembers what it showed
                while (await read_status(url, NS, RUN)).get("status") != {"equity": "7"}:
                    await next_look()
            assert pid_of(tmp_path) != first


async def test_a_flapping_server_costs_a_bounded_number_of_connections(tmp_path: Path) -> None:
    process = psutil.Process()
    async with embedded_redis(tmp_path) as url:
        sink = sink_of(url)
        async with sink.running():
            await delivered(sink)
            open_before = process.num_fds()
            for n in range(8):
                os.kill(pid_of(tmp_path), signal.SIGSTOP)
                await publish_a_lot(sink, 100 * n, 100)
                await until(lambda: sink.courier.is_away)
                os.kill(pid_of(tmp_path), signal.SIGCONT)
                await delivered(sink)
            assert process.num_fds() <= open_before + 2
            status = await read_status(url, NS, RUN, events_n=1)
            assert status["status"] == {"n": "799"}


async def test_an_absent_server_costs_nothing_and_the_end_is_quick(tmp_path: Path) -> None:
    sink = sink_of(f"unix://{tmp_path}/nobody.sock")
    loop = asyncio.get_running_loop()
    with capture_logs() as logs:
        async with sink.running():
            await publish_a_lot(sink, 0, 2000)
            await until(lambda: sink.courier.attempts >= 3)
            began = loop.time()
    assert loop.time() - began < 1.0
    told = [e["event"] for e in logs]
    assert told == [LogEvent.STATUS_SERVER_LOST]


async def test_a_frozen_server_does_not_hold_up_the_end(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with embedded_redis(tmp_path) as url:
        sink = sink_of(url)
        async with sink.running():
            await delivered(sink)
            os.kill(pid_of(tmp_path), signal.SIGSTOP)
            sink.publish("status", {"n": 1})
            began = loop.time()
        assert loop.time() - began < outbox_module.FAREWELL_S_MAX + 1.0
        os.kill(pid_of(tmp_path), signal.SIGCONT)


async def test_a_server_out_of_memory_is_an_outage_and_not_an_error_of_ours(
    url: str, client: Redis
) -> None:
    sink = sink_of(url)
    with capture_logs() as logs:
        async with sink.running():
            await delivered(sink)
            await client.config_set("maxmemory", "1")
            sink.publish("status", {"n": 1})
            await until(lambda: sink.courier.is_away)
            await client.config_set("maxmemory", "0")
            await delivered(sink)
    lost = next(e for e in logs if e["event"] == LogEvent.STATUS_SERVER_LOST)
    assert "OutOfMemory" in lost["why"] or "OOM" in lost["why"]
    assert await client.hget(f"{NS}:{RUN}:status", "n") == "1"


async def test_a_password_is_used_and_never_logged(url: str, client: Redis) -> None:
    await client.config_set("requirepass", "hunter2")
    sink = sink_of(url, password="hunter2")
    with capture_logs() as logs:
        async with sink.running():
            sink.publish("status", {"n": 1})
            await delivered(sink)
        wrong = sink_of(url, password="wrong")
        async with wrong.running():
            await until(lambda: wrong.courier.is_away)
    status = await read_status(url, NS, RUN, password="hunter2")
    assert status["status"] == {"n": "1"}
    assert "hunter2" not in str(logs)
    assert (await read_status(url, NS, RUN))["daemon"] is Health.UNREACHABLE


# ---- how much it holds ---------------------------------------------------------------------------

EVENTS = 100_000
BATCH_N = 500
BYTES_MAX = {"fills": 600_000, "logs": 4_000_000, "decisions": 4_000_000}


async def test_a_hundred_thousand_events_leave_bounded_memory(url: str, client: Redis) -> None:
    """Send through the sink's own link, whose queue would drop what it cannot deliver in time."""
    of_kind: dict[str, dict[str, object]] = {
        "fill": {name: f"{name} of some twenty" for name in ("at", "trade_id", "order_id", "x")},
        "log": {"event": "e" * 100, "text": "t" * 2000},
        "decision": {"orders": [{"order_id": "o" * 20, "symbol": "s"} for _ in range(40)]},
    }
    shares = {"fill": EVENTS - 8_000, "log": 4_000, "decision": 4_000}
    assert sum(shares.values()) == EVENTS
    link = module._RedisLink(client, module.Keys(NS, RUN), 1000, 1.0)
    for topic, count in shares.items():
        batch = Batch(events=((topic, of_kind[topic]),) * BATCH_N)
        for _ in range(count // BATCH_N):
            await link.send(batch)
    for stream, bytes_max in BYTES_MAX.items():
        length = await client.xlen(f"{NS}:{RUN}:{stream}")
        assert 1000 <= length <= 1100, (stream, length)
        used: Any = await client.memory_usage(f"{NS}:{RUN}:{stream}", samples=0)
        assert 0 < used < bytes_max, (stream, used)
