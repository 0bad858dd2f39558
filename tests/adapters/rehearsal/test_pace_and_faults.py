"""What moves time, and what goes wrong on request."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import ccxt
import pytest

from adapters.rehearsal.faults import GARBAGE
from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT, PaceKind
from daemon.domain.units import DAY_MS, HOUR_MS, MINUTE_MS
from tests.adapters.rehearsal.conftest import Connect, Post, Start

FOREVER_MS = 10**15
HALF_HOUR_MS = 30 * MINUTE_MS
START_MS = ORIGIN_MS_DEFAULT + 3 * DAY_MS
BTC = "BTC/USDT:USDT"


async def test_lock_step_stands_still_until_it_is_asked(start: Start, post: Post) -> None:
    running = await start()
    assert running.exchange.next_instant_ms() == START_MS + HALF_HOUR_MS
    await asyncio.sleep(0.05)
    assert running.exchange.clock_ms() == START_MS
    answer = await post(running, "advance", until_ms=START_MS + 60_000)
    assert (answer["now_ms"], answer["published"]) == (START_MS + 60_000, 0)
    answer = await post(running, "advance", until_ms=START_MS)  # already past
    assert answer["now_ms"] == START_MS + 60_000
    answer = await post(running, "advance", until_ms=START_MS + HOUR_MS)
    assert answer["now_ms"] == START_MS + HALF_HOUR_MS  # the next instant comes first


async def test_funding_settlements_are_instants_of_their_own(start: Start, post: Post) -> None:
    running = await start(source_minutes=1440)
    answer = await post(running, "advance", until_ms=FOREVER_MS)
    assert answer["now_ms"] == START_MS + 4 * HOUR_MS


async def test_the_slowest_client_sets_the_time(start: Start, post: Post) -> None:
    running = await start(clients_min=2)
    fast = asyncio.create_task(post(running, "advance", client="fast", until_ms=FOREVER_MS))
    await asyncio.sleep(0.05)
    assert not fast.done()
    assert running.exchange.clock_ms() == START_MS
    slow = await post(running, "advance", client="slow", until_ms=START_MS + 1000)
    assert slow["now_ms"] == START_MS + 1000
    assert (await fast)["now_ms"] == START_MS + 1000


async def test_a_client_that_leaves_or_vanishes_is_not_waited_for(start: Start, post: Post) -> None:
    running = await start()
    await post(running, "advance", client="a", until_ms=START_MS + 1)
    waiting = asyncio.create_task(post(running, "advance", client="b", until_ms=START_MS + 2))
    await asyncio.sleep(0.05)
    assert not waiting.done()  # a is known and has not said that it is idle again
    await post(running, "advance", client="a", leave=True)
    assert (await waiting)["now_ms"] == START_MS + 2
    vanishing = asyncio.create_task(post(running, "advance", client="c", until_ms=FOREVER_MS))
    await asyncio.sleep(0.05)
    vanishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await vanishing
    async with asyncio.timeout(5):
        assert (await post(running, "advance", client="b", until_ms=START_MS + 3))["status"] == 200


async def test_a_newer_request_replaces_the_same_clients_older_one(
    start: Start, post: Post
) -> None:
    running = await start(clients_min=2)
    older = asyncio.create_task(post(running, "advance", client="a", until_ms=START_MS + 1))
    await asyncio.sleep(0.05)
    newer = asyncio.create_task(post(running, "advance", client="a", until_ms=START_MS + 9))
    assert (await older)["status"] == 409
    await post(running, "advance", client="b", until_ms=START_MS + 5)
    assert (await newer)["now_ms"] == START_MS + 5


async def test_the_market_says_when_it_is_over(start: Start, post: Post) -> None:
    running = await start(end_ms=START_MS + HOUR_MS)
    answers = [await post(running, "advance", until_ms=FOREVER_MS) for _ in range(3)]
    assert [a["finished"] for a in answers] == [False, True, True]
    assert answers[-1]["now_ms"] == START_MS + HOUR_MS


@pytest.mark.parametrize(
    ("what", "body", "complaint"),
    [
        ("advance", {"until_ms": "soon"}, "until_ms 'soon'"),
        ("fault", {"kind": "earthquake"}, "kind 'earthquake': accepted is none, not_json_200"),
        ("fault", {"kind": "stall", "count": 0}, "count 0"),
    ],
)
async def test_wrong_controls_are_refused_by_name(
    start: Start, post: Post, what: str, body: dict[str, Any], complaint: str
) -> None:
    answer = await post(await start(), what, **body)
    assert answer["status"] == 400
    assert complaint in answer["error"]


async def test_a_fixed_factor_publishes_every_bar_in_order(
    start: Start, connect: Connect, post: Post
) -> None:
    running = await start(pace=PaceKind.FACTOR, factor=36_000.0)  # an hour each 100 ms
    client = connect(running)
    await client.load_markets()
    reads = [await client.fetch_time()]
    async with asyncio.timeout(20):
        await client.watch_ohlcv(BTC, "30m")
        while len(client.ohlcvs[BTC]["30m"]) < 8:
            await client.watch_ohlcv(BTC, "30m")
            reads.append(await client.fetch_time())
    opens = [row[0] for row in client.ohlcvs[BTC]["30m"]]
    end_ms = int(opens[0]) + len(opens) * HALF_HOUR_MS  # a busy machine may see more than eight
    assert opens == list(range(int(opens[0]), end_ms, HALF_HOUR_MS))
    assert reads == sorted(reads)
    rows = await client.fetch_ohlcv(BTC, "30m", since=opens[0], limit=7)
    assert [list(row) for row in client.ohlcvs[BTC]["30m"]][:7] == rows
    assert (await post(running, "advance", until_ms=FOREVER_MS))["status"] == 400


async def test_real_time_moves_with_the_wall(start: Start) -> None:
    running = await start(pace=PaceKind.FACTOR, factor=1.0)
    exchange = running.exchange
    loop = asyncio.get_running_loop()
    began, read_ms = loop.time(), exchange.clock_ms()
    await asyncio.sleep(0.25)
    wall_ms = (loop.time() - began) * 1000
    assert abs(exchange.clock_ms() - read_ms - wall_ms) < 60


# ---- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("http_451", ccxt.ExchangeNotAvailable),
        ("http_403", ccxt.ExchangeNotAvailable),
        ("http_503", ccxt.ExchangeNotAvailable),
        ("http_429", ccxt.DDoSProtection),
    ],
)
async def test_refusals_reach_the_client_as_its_own_errors(
    start: Start, connect: Connect, post: Post, kind: str, failure: type[Exception]
) -> None:
    running = await start()
    client = connect(running)
    await client.load_markets()
    assert (await post(running, "fault", kind=kind, count=2))["left"] == 2
    for _ in range(2):
        with pytest.raises(failure):
            await client.fetch_time()
    assert await client.fetch_time() == START_MS


async def test_a_page_instead_of_json_reads_as_nothing(
    start: Start, connect: Connect, post: Post
) -> None:
    running = await start()
    client = connect(running)
    await client.load_markets()
    await post(running, "fault", kind="not_json_200")
    assert await client.fetch_time() is None
    assert await client.fetch_time() == START_MS


async def test_cut_sockets_end_the_watch_and_a_new_one_resumes(
    start: Start, connect: Connect, post: Post
) -> None:
    running = await start()
    client = connect(running)
    await client.watch_ohlcv(BTC, "30m")
    watch = asyncio.create_task(client.watch_ohlcv(BTC, "30m"))
    await asyncio.sleep(0)
    await post(running, "fault", kind="drop_sockets")
    with pytest.raises(ccxt.NetworkError):
        async with asyncio.timeout(5):
            await watch
    async with asyncio.timeout(5):
        rows = await client.watch_ohlcv(BTC, "30m")
    assert rows[-1][0] == START_MS


async def test_a_stalled_stream_says_nothing_while_rest_goes_on(
    start: Start, connect: Connect, post: Post
) -> None:
    running = await start()
    client = connect(running)
    await client.watch_ohlcv(BTC, "30m")
    await post(running, "fault", kind="stall", count=2)
    said = [(await post(running, "advance", until_ms=FOREVER_MS))["published"] for _ in range(3)]
    assert said == [0, 0, 1]
    rows = await client.fetch_ohlcv(BTC, "30m", since=START_MS, limit=9)
    assert len(rows) == 4


async def test_a_garbage_frame_is_sent_as_it_is(start: Start, connect: Connect, post: Post) -> None:
    running = await start()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{running.ws_url}/ws/btcusdt@kline_30m") as socket,
    ):
        await socket.receive_json(timeout=5)
        await post(running, "fault", kind="garbage_frame")
        await post(running, "advance", until_ms=FOREVER_MS)
        assert (await socket.receive(timeout=5)).data == GARBAGE
        assert (await socket.receive_json(timeout=5))["k"]["x"] is False
