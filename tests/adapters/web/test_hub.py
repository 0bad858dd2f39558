"""What open pages are told: everything first, then what is newest; slow ones lose the oldest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from adapters.web.hub import EVENTS_WAITING_MAX, SILENT_S, Hub
from adapters.web.trail import Trail
from tests.adapters.web.served import STATUS, served


class Stream:
    """Read an event stream, message by message."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> tuple[str, Any]:
        kind = ""
        async with asyncio.timeout(10):
            while True:
                line = (await self.answer.content.readline()).decode()
                assert line, "the stream ended"
                if line.startswith("event: "):
                    kind = line[7:].strip()
                if line.startswith("data: "):
                    return kind, json.loads(line[6:])

    async def of(self, wanted: str) -> Any:
        while True:
            kind, found = await self.next()
            if kind == wanted:
                return found


class Browsers:
    """Open event streams, and close all of them at the end."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.streams: list[Stream] = []

    async def open(self, address: str, **headers: str) -> Stream:
        answer = await self.session.get(address + "api/events", headers=headers)
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        self.streams.append(Stream(answer))
        return self.streams[-1]

    async def status(self, address: str) -> int:
        async with self.session.get(address) as answer:
            return answer.status


@asynccontextmanager
async def browsers() -> AsyncIterator[Browsers]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as session:
        found = Browsers(session)
        try:
            yield found
        finally:
            for stream in found.streams:
                stream.answer.close()


async def test_a_page_gets_everything_first_and_then_what_changes() -> None:
    async with served() as page, browsers() as seen:
        await page.tell(states={"status": STATUS}, events=[["fill", {"trade_id": "1"}]])
        stream = await seen.open(page.address)
        whole = await stream.of("whole")
        assert whole["facts"] == {"run": "test", "takes_commands": True}
        assert whole["states"]["status"]["equity"] == 10_000.0
        assert whole["events"]["fill"] == [{"trade_id": "1"}]
        await page.tell(states={"risk": {"limits": {}}}, events=[["alert", {"text": "x"}]])
        news = await stream.of("news")
        assert news["states"] == {"risk": {"limits": {}}}
        assert news["events"] == [["alert", {"text": "x"}]]


async def test_a_last_event_id_changes_nothing() -> None:
    async with served() as page, browsers() as seen:
        await page.tell(states={"status": STATUS})
        for odd in ("9999999", "-1", "x" * 300):
            stream = await seen.open(page.address, **{"Last-Event-ID": odd})
            assert (await stream.of("whole"))["states"]["status"] == STATUS


async def test_one_page_too_many_is_told_so_and_a_closed_one_makes_room() -> None:
    async with served(clients_max=3) as page, browsers() as seen:
        streams = [await seen.open(page.address) for _ in range(3)]
        for stream in streams:
            await stream.of("whole")
        async with seen.session.get(page.address + "api/events") as refused:
            assert refused.status == 503
            assert "too many pages" in (await refused.json())["why"]
        streams[0].answer.close()
        async with asyncio.timeout(10):
            while page.hub.clients_n == 3:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.02)
        again = await seen.open(page.address)
        assert await again.of("whole")


async def test_fifty_pages_hear_the_same() -> None:
    async with served() as page, browsers() as seen:
        streams = [await seen.open(page.address) for _ in range(50)]
        for n in range(5):
            await page.tell(states={"status": {**STATUS, "equity": float(n)}})
        for stream in streams:
            found = await stream.of("whole")
            while found["states"].get("status", {}).get("equity") != 4.0:
                found = await stream.of("news")


async def test_a_page_that_does_not_read_keeps_nobody_waiting_and_costs_bounded_memory() -> None:
    async with served() as page, browsers() as seen:
        stuck = await seen.open(page.address)
        await stuck.of("whole")
        heavy = "x" * 2_000
        for n in range(2000):
            await page.tell(states={"status": STATUS}, events=[["fill", {"n": n, "text": heavy}]])
        waiting = next(iter(page.hub._clients))
        assert len(waiting.events) <= EVENTS_WAITING_MAX
        assert len(waiting.states) <= 1
        fresh = await seen.open(page.address)
        fills = (await fresh.of("whole"))["events"]["fill"]
        assert fills[-1]["n"] == 1999
        assert len(fills) == 200


async def test_beats_come_without_news_and_end_with_the_daemon() -> None:
    async with served() as page, browsers() as seen:
        await page.tell()
        stream = await seen.open(page.address)
        assert (await stream.of("beat"))["silent_s"] >= 0
        await page.tell(farewell=True)
        assert (await stream.of("news"))["beat"]["stopped"] is True
        page.writer.close()
        async with asyncio.timeout(5):
            assert not (
                await stream.answer.content.read()
            ).strip()  # it ends, and keeps nobody waiting


async def test_health_is_told_only_while_the_daemon_speaks() -> None:
    async with served() as page, browsers() as seen:
        assert await seen.status(page.address + "healthz") == 503
        await page.tell()
        assert await seen.status(page.address + "healthz") == 200
        await page.tell(farewell=True)
        assert await seen.status(page.address + "healthz") == 503


def hub_at(now: list[float]) -> Hub:
    return Hub({}, lambda: now[0], lambda: 0, clients_max=2)


def test_a_silent_daemon_is_not_fresh() -> None:
    now = [100.0]
    hub = hub_at(now)
    fresh = [hub.is_fresh]
    hub.take({"number": 1})
    for passed_s in (SILENT_S - 0.1, 0.2):
        now[0] += passed_s
        fresh.append(hub.is_fresh)
    assert fresh == [False, True, False]


async def test_what_was_before_comes_in_front_and_once() -> None:
    hub = hub_at([0.0])
    hub.take({"events": [["fill", {"id": 3}], ["fill", {"id": 4}]]})
    with hub.joined() as page:
        assert page is not None
        messages = hub.messages(page)
        await anext(messages)
        hub.remember("fill", [{"id": 1}, {"id": 2}, {"id": 3}])
        again = await _whole(messages)
    assert [one["id"] for one in again["events"]["fill"]] == [1, 2, 3, 4]


async def _whole(messages: AsyncIterator[bytes]) -> Any:
    text = (await anext(messages)).decode()
    assert "event: whole" in text
    return json.loads(text.partition("data: ")[2])


def point(ms: int, equity: float = 1.0) -> dict[str, dict[str, object]]:
    told: dict[str, object] = {
        "market_time_ms": ms,
        "equity": equity,
        "gross_weight": 0.1,
        "net_weight": 0.0,
    }
    limits: dict[str, object] = {"beta_weight_max": {"now": 0.02}}
    return {"status": told, "risk": {"limits": limits}}


def test_a_trail_is_in_order_bounded_and_keeps_the_newest_as_they_were() -> None:
    trail = Trail(points_max=100)
    for ms in range(1, 1001):
        trail.take(point(ms))
    trail.take(point(1000, equity=2.0))
    trail.take(point(500, equity=9.0))
    columns = trail.columns()
    assert len(columns["at_ms"]) <= 100
    assert columns["at_ms"] == sorted(set(columns["at_ms"]))
    assert columns["at_ms"][-40:] == list(range(961, 1001))
    assert columns["equity"][-1] == 2.0
    assert columns["beta"][-1] == 0.02


def test_a_trail_takes_what_was_before_in_front() -> None:
    trail = Trail()
    trail.take(point(10))
    trail.remember([(8, 1.0, 0.1, 0.0, None), (9, 1.0, 0.1, 0.0, None), (10, 5.0, 0.1, 0.0, None)])
    assert trail.columns()["at_ms"] == [8, 9, 10]
    assert trail.columns()["equity"] == [1.0, 1.0, 1.0]
    assert Trail().columns()["at_ms"] == []
