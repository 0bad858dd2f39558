"""The public socket in Bybit's words by hand, and faults in the venue's own words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import ccxt
import pytest

from adapters.rehearsal.bybit.words import ARGS_CHARACTERS_MAX
from adapters.rehearsal.launch import launch
from adapters.rehearsal.server import RunningExchange
from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT, DialectKind, RehearsalSettings
from daemon.domain.units import DAY_MS, MINUTE_MS
from tests.adapters.rehearsal.bybit.conftest import ConnectBybit, StartBybit
from tests.adapters.rehearsal.conftest import Post

FOREVER_MS = 10**15
START_MS = ORIGIN_MS_DEFAULT + 3 * DAY_MS
BTC = "BTC/USDT:USDT"
KLINE = "kline.30.BTCUSDT"


class Heard:
    """Hold a raw public socket and read it frame by frame."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and give its answer."""
        await self.ws.send_str(json.dumps(request))
        return await self.next()

    async def next(self) -> dict[str, Any]:
        """Give the next frame."""
        frame: dict[str, Any] = json.loads((await self.ws.receive(5)).data)
        return frame


@asynccontextmanager
async def listening(running: RunningExchange) -> AsyncIterator[Heard]:
    """Open a raw public socket."""
    url = f"{running.ws_url}/v5/public/linear"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        yield Heard(ws)


async def test_a_kline_is_told_while_it_runs_and_confirmed_when_it_is_over(
    bybit: StartBybit, post: Post
) -> None:
    running = await bybit()
    async with listening(running) as heard:
        answer = await heard.ask(op="subscribe", args=[KLINE], req_id="3")
        assert {k: answer[k] for k in ("success", "op", "req_id", "ret_msg")} == {
            "success": True,
            "op": "subscribe",
            "req_id": "3",
            "ret_msg": "",
        }
        first = await heard.next()
        assert first["topic"] == KLINE
        assert (first["data"][0]["start"], first["data"][0]["confirm"]) == (START_MS, False)
        await post(running, "advance", until_ms=FOREVER_MS)
        over, begun = await heard.next(), await heard.next()
    assert (over["data"][0]["start"], over["data"][0]["confirm"]) == (START_MS, True)
    assert over["data"][0]["end"] == START_MS + 30 * MINUTE_MS - 1
    assert over["ts"] == START_MS + 30 * MINUTE_MS
    assert begun["data"][0]["confirm"] is False


@pytest.mark.parametrize(
    "args",
    [["nothing"], ["kline.7.BTCUSDT"], ["kline.30."], ["kline.30.NOPEUSDT"], [KLINE, "nothing"]],
)
async def test_a_request_with_one_wrong_topic_is_refused_as_a_whole(
    bybit: StartBybit, args: list[str]
) -> None:
    running = await bybit()
    async with listening(running) as heard:
        answer = await heard.ask(op="subscribe", args=args)
        assert not answer["success"]
        assert f"topic:{args[-1]}" in answer["ret_msg"]
        assert running.exchange.hub.streams == []


async def test_pings_doubles_and_nonsense(bybit: StartBybit) -> None:
    running = await bybit()
    async with listening(running) as heard:
        pong = await heard.ask(op="ping", req_id="9")
        assert (pong["ret_msg"], pong["op"], pong["req_id"]) == ("pong", "ping", "9")
        assert (await heard.ask(op="subscribe", args=["publicTrade.BTCUSDT"]))["success"]
        await heard.next()
        twice = await heard.ask(op="subscribe", args=["publicTrade.BTCUSDT"])
        assert "already subscribed" in twice["ret_msg"]
        assert (await heard.ask(op="unsubscribe", args=["publicTrade.BTCUSDT"]))["success"]
        assert running.exchange.hub.streams == []
        assert "invalid op" in (await heard.ask(op="dance"))["ret_msg"]
        await heard.ws.send_str("[]")
        assert not (await heard.next())["success"]


async def test_the_topics_of_a_socket_have_a_bound(bybit: StartBybit) -> None:
    running = await bybit()
    many = [KLINE] * (ARGS_CHARACTERS_MAX // len(KLINE) + 1)
    async with listening(running) as heard:
        assert "characters" in (await heard.ask(op="subscribe", args=many))["ret_msg"]


async def test_a_full_venue_refuses_a_subscription(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    await post(running, "fault", kind="subscribe_refused")
    with pytest.raises(ccxt.ExchangeError, match="too many topics"):
        await client.watch_ohlcv(BTC, "30m")
    assert await client.watch_ohlcv(BTC, "30m")


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("http_429", ccxt.RateLimitExceeded, "10006"),
        ("http_418", ccxt.RateLimitExceeded, "403"),
        ("http_403", ccxt.RateLimitExceeded, "403"),
        ("http_503", ccxt.ExchangeNotAvailable, "503"),
        ("maintenance", ccxt.ExchangeError, "10016"),
        ("reset_body", ccxt.ExchangeError, "kline"),
    ],
)
async def test_refusals_in_the_venues_words(
    bybit: StartBybit,
    client_of: ConnectBybit,
    post: Post,
    kind: str,
    error: type[Exception],
    said: str,
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    await post(running, "fault", kind=kind)
    with pytest.raises(error, match=said):
        await client.fetch_ohlcv(BTC, "30m")
    assert await client.fetch_ohlcv(BTC, "30m")


@pytest.mark.parametrize("kind", ["not_json_200", "cut_json_200", "empty_list_200"])
async def test_answers_that_hold_nothing_although_there_is_something(
    bybit: StartBybit, client_of: ConnectBybit, post: Post, kind: str
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    await post(running, "fault", kind=kind)
    assert await client.fetch_ohlcv(BTC, "30m") == []  # to the client it is an empty history
    assert len(await client.fetch_ohlcv(BTC, "30m")) > 100


async def test_a_gateway_page_looks_like_a_flat_account_to_the_client(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.create_order(BTC, "market", "buy", 0.01)
    await post(running, "fault", kind="not_json_200")
    assert await client.fetch_positions() == []
    assert len(await client.fetch_positions()) == 1


async def test_who_asks_too_early_hears_of_no_order_and_no_fill(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    order = await client.create_order(BTC, "market", "buy", 0.01)
    asked = {"category": "linear", "symbol": "BTCUSDT", "orderId": order["id"]}
    for path in ("privateGetV5OrderRealtime", "privateGetV5OrderHistory"):
        await post(running, "fault", kind="order_unlisted")
        assert (await getattr(client, path)(asked))["result"]["list"] == []
        assert len((await getattr(client, path)(asked))["result"]["list"]) == 1
    await post(running, "fault", kind="fills_unlisted")
    assert await client.fetch_my_trades(BTC) == []
    assert len(await client.fetch_my_trades(BTC)) == 1


async def test_rows_come_newest_first(bybit: StartBybit, client_of: ConnectBybit) -> None:
    client = client_of(await bybit())
    query = {"category": "linear", "symbol": "BTCUSDT"}
    asked: list[tuple[Any, dict[str, Any], Any]] = [
        (client.publicGetV5MarketKline, {"interval": "30", "limit": 5}, 0),
        (client.publicGetV5MarketMarkPriceKline, {"interval": "30", "limit": 5}, 0),
        (client.publicGetV5MarketIndexPriceKline, {"interval": "30", "limit": 5}, 0),
        (client.publicGetV5MarketFundingHistory, {"limit": 5}, "fundingRateTimestamp"),
        (client.publicGetV5MarketOpenInterest, {"intervalTime": "1h"}, "timestamp"),
        (client.publicGetV5MarketRecentTrade, {"limit": 5}, "time"),
    ]
    for ask, more, at in asked:
        rows = (await ask(query | more))["result"]["list"]
        times = [int(row[at]) for row in rows]
        assert len(times) >= 5
        assert times == sorted(times, reverse=True)


async def test_history_that_differs_lags_or_is_told_at_the_wrong_time(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    true = await client.fetch_ohlcv(BTC, "30m", limit=5)
    await post(running, "fault", kind="lagging_200")
    assert await client.fetch_ohlcv(BTC, "30m", limit=5) == true[:-2]
    await post(running, "fault", kind="differing_row_200")
    other = await client.fetch_ohlcv(BTC, "30m", limit=5)
    assert [row for row in other if row not in true] == [[*true[-2][:5], true[-2][5] + 1]]
    await post(running, "fault", kind="clock_jump", seconds=-7)
    assert await client.fetch_time() == START_MS - 7000
    await post(running, "fault", kind="empty_exchange_info")
    assert await client.fetch_markets() == []


@pytest.mark.parametrize(
    "kind",
    [
        "kline_nan",
        "kline_null",
        "kline_types",
        "kline_negative_volume",
        "kline_high_below_low",
        "kline_off_grid",
        "kline_other_symbol",
    ],
)
async def test_a_spoiled_frame_is_no_longer_the_true_one(
    bybit: StartBybit, post: Post, kind: str
) -> None:
    running = await bybit()
    async with listening(running) as heard:
        assert (await heard.ask(op="subscribe", args=[KLINE]))["success"]
        await heard.next()
        await post(running, "fault", kind=kind)
        await post(running, "advance", until_ms=FOREVER_MS)
        spoiled = await heard.next()
    coin = running.exchange.market.coins["BTCUSDT"]
    interval_ms, now_ms = 30 * MINUTE_MS, running.exchange.now_ms
    kline = running.exchange.publication.kline("BTCUSDT", interval_ms, START_MS, now_ms)
    assert kline is not None
    true = running.exchange.words.kline(coin, kline, interval="30m", event_ms=now_ms, closed=True)
    assert spoiled != json.loads(true)


def test_a_launched_exchange_gives_options_of_its_dialect() -> None:
    settings = RehearsalSettings(coins=2, history_days=2, dialect=DialectKind.BYBIT)
    with launch(settings) as launched:
        api = launched.ccxt_options()["urls"]["api"]
    assert api["ws"]["private"]["contract"].endswith("/v5/private")
