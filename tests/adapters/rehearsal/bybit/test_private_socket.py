"""The private socket of the rehearsal in Bybit's words, through ccxt.pro and by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import ccxt
import pytest

from adapters.rehearsal.bybit.private_socket import PrivateSockets, silence_s
from adapters.rehearsal.bybit.signing import signature
from adapters.rehearsal.server import RunningExchange
from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT
from daemon.domain.units import DAY_MS, HOUR_MS, MINUTE_MS
from tests.adapters.rehearsal.bybit.conftest import KEY, SECRET, ConnectBybit, StartBybit
from tests.adapters.rehearsal.conftest import Post

FOREVER_MS = 10**15
START_MS = ORIGIN_MS_DEFAULT + 3 * DAY_MS
BTC = "BTC/USDT:USDT"


class Heard:
    """Hold a raw private socket and read it frame by frame."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and give its answer."""
        await self.ws.send_str(json.dumps(request))
        return await self.next()

    async def next(self) -> dict[str, Any]:
        """Give the next frame."""
        async with asyncio.timeout(5):
            frame: dict[str, Any] = json.loads((await self.ws.receive()).data)
            return frame

    async def log_in(self, *topics: str) -> None:
        """Log in and subscribe."""
        expires = str(START_MS + DAY_MS)
        sign = signature(SECRET, f"GET/realtime{expires}")
        answer = await self.ask(op="auth", args=[KEY, expires, sign])
        assert answer["success"], answer
        assert (await self.ask(op="subscribe", args=list(topics), req_id="1"))["success"]


@asynccontextmanager
async def listening(running: RunningExchange) -> AsyncIterator[Heard]:
    """Open a raw private socket."""
    url = f"{running.ws_url}/v5/private"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        yield Heard(ws)


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is true, at most five seconds."""
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def test_ccxt_hears_orders_trades_positions_and_balance(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    assert await client.watch_positions() == []  # the client's own snapshot comes first
    waits = [
        asyncio.create_task(client.watch_orders()),
        asyncio.create_task(client.watch_my_trades()),
        asyncio.create_task(client.watch_positions()),
        asyncio.create_task(client.watch_balance()),
    ]
    (guest,) = running.exchange.hub.guests
    assert isinstance(guest, PrivateSockets)
    wanted = {"order", "execution", "position", "wallet"}
    await until(lambda: any(set(one.topics) == wanted for one in guest._sockets))
    made = await client.create_order(BTC, "market", "buy", 0.01, None, {"clientOrderId": "ws-1"})
    async with asyncio.timeout(5):
        orders, trades, _, balance = await asyncio.gather(*waits)
    await until(lambda: client.orders[-1]["status"] == "closed")
    assert orders[-1]["id"] == made["id"]
    assert client.orders[-1]["filled"] == 0.01
    assert trades[-1]["order"] == made["id"]
    assert trades[-1]["info"]["execType"] == "Trade"
    await until(lambda: any(row["contracts"] == 0.01 for row in client.positions))
    assert balance["USDT"]["total"] == pytest.approx(100_000, rel=1e-4)


async def test_a_wrong_log_in_is_refused(bybit: StartBybit, client_of: ConnectBybit) -> None:
    running = await bybit()
    client = client_of(running, secret="another")
    await client.load_markets()
    client.options |= {"enableUnifiedMargin": False, "enableUnifiedAccount": True}
    with pytest.raises(ccxt.ExchangeError, match="Params Error"):
        await asyncio.wait_for(client.watch_orders(), 5)
    async with listening(running) as heard:
        answer = await heard.ask(op="subscribe", args=["order"])
        assert (answer["success"], answer["ret_msg"]) == (False, "Request not authorized")
        late = str(START_MS - 1)
        answer = await heard.ask(
            op="auth", args=[KEY, late, signature(SECRET, f"GET/realtime{late}")]
        )
        assert not answer["success"]


async def test_requests_are_answered_in_the_venues_shapes(bybit: StartBybit) -> None:
    running = await bybit()
    async with listening(running) as heard:
        pong = await heard.ask(op="ping", req_id="7")
        assert (pong["op"], pong["req_id"], pong["args"]) == ("pong", "7", [str(START_MS)])
        await heard.log_in("order", "wallet")
        for args in (["order"], ["nothing"], ["order.nothing"]):
            assert not (await heard.ask(op="subscribe", args=args))["success"]
        assert (await heard.ask(op="unsubscribe", args=["order"]))["success"]
        assert (await heard.ask(op="subscribe", args=["order.linear"]))["success"]
        assert not (await heard.ask(op="dance", args=[]))["success"]
        await heard.ws.send_str("nonsense")
        assert not (await heard.next())["success"]


async def test_strange_letters_and_ops_are_refused_and_the_socket_lives_on(
    bybit: StartBybit,
) -> None:
    running = await bybit()
    async with listening(running) as heard:
        expires = running.exchange.clock_ms() + 10_000
        assert (await heard.ask(op="auth", args=[KEY, expires, "é" * 64]))["success"] is False
        assert (await heard.ask(op=["auth"]))["success"] is False
        assert (await heard.ask(op="ping"))["op"] == "pong"


async def test_frames_come_in_the_order_of_events(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    async with listening(running) as heard:
        await heard.log_in("order", "execution", "position", "wallet")
        await client.create_order(BTC, "market", "buy", 0.01)
        frames = [await heard.next() for _ in range(5)]
    topics = [frame["topic"] for frame in frames]
    assert topics == ["order", "order", "execution", "position", "wallet"]
    assert [frames[i]["data"][0]["orderStatus"] for i in (0, 1)] == ["New", "Filled"]
    assert frames[2]["data"][0]["execQty"] == "0.01"
    assert (frames[3]["data"][0]["side"], frames[3]["data"][0]["size"]) == ("Buy", "0.01")
    cash = frames[4]["data"][0]["coin"][0]["walletBalance"]
    assert cash == str(running.exchange.accounts.bank.balance(KEY, "USDT").cash.normalize())


async def test_what_time_brings_is_said_before_time_is_told(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    await client.create_order(BTC, "market", "buy", 0.01)
    async with listening(running) as heard:
        await heard.log_in("execution")
        while running.exchange.now_ms < START_MS + 8 * HOUR_MS:
            await post(running, "advance", until_ms=FOREVER_MS)
        frame = await heard.next()
        assert frame["data"][0]["execType"] == "Funding"
        assert frame["creationTime"] == START_MS + 8 * HOUR_MS


@pytest.mark.parametrize("topics", [("dcp.future",), ("order", "dcp")])
async def test_who_leaves_has_his_orders_cancelled_after_the_window(
    bybit: StartBybit, client_of: ConnectBybit, post: Post, topics: tuple[str, ...]
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    await client.cancel_all_orders_after(60_000)
    price = (await client.fetch_ticker(BTC))["last"] * 0.95
    await client.create_order(BTC, "limit", "buy", 0.01, price)
    async with listening(running) as heard:
        await heard.log_in(*topics)
        await post(running, "advance", until_ms=START_MS + 2 * MINUTE_MS)
        assert len(await client.fetch_open_orders()) == 1
    await until(lambda: bool(running.exchange.accounts.bank._desk.account(KEY).timers))
    await post(running, "advance", until_ms=START_MS + 3 * MINUTE_MS - 1)
    assert len(await client.fetch_open_orders()) == 1
    await post(running, "advance", until_ms=START_MS + 3 * MINUTE_MS)
    assert await client.fetch_open_orders() == []


async def test_without_the_topic_nobody_notices_that_a_socket_is_gone(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    await client.cancel_all_orders_after(3_000)
    price = (await client.fetch_ticker(BTC))["last"] * 0.95
    await client.create_order(BTC, "limit", "buy", 0.01, price)
    async with listening(running) as heard:
        await heard.log_in("order")
    await post(running, "advance", until_ms=START_MS + 20 * MINUTE_MS)
    assert len(await client.fetch_open_orders()) == 1


async def test_a_return_within_the_window_stops_the_count_down(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    await client.cancel_all_orders_after(60_000)
    price = (await client.fetch_ticker(BTC))["last"] * 0.95
    await client.create_order(BTC, "limit", "buy", 0.01, price)
    async with listening(running) as heard:
        await heard.log_in("dcp")
    await until(lambda: bool(running.exchange.accounts.bank._desk.account(KEY).timers))
    async with listening(running) as heard:
        await heard.log_in("dcp")
        await post(running, "advance", until_ms=START_MS + 20 * MINUTE_MS)
        assert len(await client.fetch_open_orders()) == 1


@pytest.mark.parametrize("window", [2_000, 301_000])
async def test_the_window_has_bounds(
    bybit: StartBybit, client_of: ConnectBybit, window: int
) -> None:
    client = client_of(await bybit())
    with pytest.raises(ccxt.BadRequest, match="timeWindow"):
        await client.cancel_all_orders_after(window)


# ---- faults --------------------------------------------------------------------------------------


async def test_dropped_sockets_are_the_private_ones_too(bybit: StartBybit, post: Post) -> None:
    running = await bybit()
    async with listening(running) as heard:
        await heard.log_in("order")
        await post(running, "fault", kind="drop_sockets")
        async with asyncio.timeout(5):
            message = await heard.ws.receive()
        assert message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}


async def test_a_half_open_socket_says_nothing(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    async with listening(running) as heard:
        await heard.log_in("order")
        await post(running, "fault", kind="half_open")
        await post(running, "advance", until_ms=FOREVER_MS)
        await client.create_order(BTC, "market", "buy", 0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await heard.ws.receive()


@pytest.mark.parametrize(("kind", "frames_n"), [("stall", 0), ("duplicate_frames", 2)])
async def test_what_strikes_a_publication_strikes_its_fills(
    bybit: StartBybit, client_of: ConnectBybit, post: Post, kind: str, frames_n: int
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    await client.create_order(BTC, "market", "buy", 0.01)
    while running.exchange.now_ms < START_MS + 8 * HOUR_MS - 30 * MINUTE_MS:
        await post(running, "advance", until_ms=FOREVER_MS)
    async with listening(running) as heard:
        await heard.log_in("execution")
        await post(running, "fault", kind=kind)
        await post(running, "advance", until_ms=FOREVER_MS)  # funding
        assert (await heard.ask(op="ping")).get("topic", "") == ("execution" if frames_n else "")
        if frames_n:
            assert (await heard.next())["topic"] == "execution"
            assert (await heard.next())["op"] == "pong"


@pytest.mark.parametrize("kind", ["late_frames", "shuffled_frames"])
async def test_late_and_mixed_frames_are_all_said_in_the_end(
    bybit: StartBybit, client_of: ConnectBybit, post: Post, kind: str
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    for symbol, amount in ((BTC, 0.1), ("ETH/USDT:USDT", 1), ("SOL/USDT:USDT", 10)):
        await client.create_order(symbol, "market", "buy", amount)
    while running.exchange.now_ms < START_MS + 8 * HOUR_MS - 30 * MINUTE_MS:
        await post(running, "advance", until_ms=FOREVER_MS)
    async with listening(running) as heard:
        await heard.log_in("execution", "position", "wallet")
        await post(running, "fault", kind=kind)
        await post(running, "advance", until_ms=FOREVER_MS)  # funding of three
        if kind == "late_frames":
            assert (await heard.ask(op="ping"))["op"] == "pong"
            await post(running, "advance", until_ms=FOREVER_MS)
        ids = [(await heard.next())["id"] for _ in range(7)]
    assert len(set(ids)) == 6  # the wallet is said with the last event's number
    assert (ids == sorted(ids)) == (kind == "late_frames")


async def test_a_garbage_frame_takes_the_place_of_a_true_one(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    async with listening(running) as heard:
        await heard.log_in("execution")
        await post(running, "fault", kind="garbage_frame")
        await client.create_order(BTC, "market", "buy", 0.01)
        with pytest.raises(json.JSONDecodeError):
            await heard.next()


async def test_an_answer_lost_after_the_order_was_accepted(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    await client.fetch_balance()
    await post(running, "fault", kind="reset_body")
    with pytest.raises(ccxt.ExchangeError):  # a torn body is no network error to the client
        await client.create_order(BTC, "market", "buy", 0.01, None, {"clientOrderId": "lost"})
    (order,) = await client.fetch_open_orders(BTC, params={"orderLinkId": "lost"})
    assert order["status"] == "closed"


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [("", 600.0), ("30s", 30.0), ("2m", 120.0), ("10m", 600.0), ("29s", 600.0), ("soon", 600.0)],
)
def test_a_client_may_ask_for_how_long_it_may_be_silent(asked: str, seconds: float) -> None:
    assert silence_s(asked) == seconds
