"""The unmodified ccxt.pro client `bybit` against the public half of the rehearsal."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import ccxt
import pytest

from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT
from daemon.domain.units import DAY_MS, HOUR_MS, MINUTE_MS
from tests.adapters.rehearsal.bybit.conftest import ConnectBybit, StartBybit
from tests.adapters.rehearsal.conftest import Post

FOREVER_MS = 10**15
HALF_HOUR_MS = 30 * MINUTE_MS
START_MS = ORIGIN_MS_DEFAULT + 3 * DAY_MS
BTC, ETH, SOL = "BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT"
ALL = [BTC, ETH, SOL]


async def until_cached(client: Any, symbol: str, open_ms: int) -> list[list[float]]:
    """Wait until the client's cache of 30m klines reaches `open_ms`."""
    async with asyncio.timeout(5):
        while True:
            rows = [list(row) for row in client.ohlcvs.get(symbol, {}).get("30m", [])]
            if rows and rows[-1][0] >= open_ms:
                return rows
            await asyncio.sleep(0)


async def test_markets_carry_the_rules(bybit: StartBybit, client_of: ConnectBybit) -> None:
    client = client_of(await bybit())
    markets = await client.load_markets()
    assert list(markets) == ALL
    bitcoin = markets[BTC]
    assert bitcoin["swap"]
    assert bitcoin["linear"]
    assert bitcoin["active"]
    assert bitcoin["contractSize"] == 1
    assert bitcoin["precision"]["price"] == 0.1
    assert bitcoin["precision"]["amount"] == 0.001
    assert bitcoin["limits"]["cost"]["min"] == 100
    assert bitcoin["limits"]["leverage"]["max"] == 50
    assert bitcoin["created"] == ORIGIN_MS_DEFAULT
    assert bitcoin["info"]["fundingInterval"] == 480


async def test_many_contracts_come_in_pages(bybit: StartBybit) -> None:
    running = await bybit(coins=7)
    seen: list[str] = []
    cursor = ""
    async with aiohttp.ClientSession() as session:
        while True:
            query = {"category": "linear", "limit": "3", "cursor": cursor}
            url = f"{running.rest_url}/v5/market/instruments-info"
            async with session.get(url, params=query) as reply:
                result = (await reply.json())["result"]
            seen += [row["symbol"] for row in result["list"]]
            cursor = result["nextPageCursor"]
            if not cursor:
                break
    assert seen == list(running.exchange.market.coins)


async def test_time_and_status(bybit: StartBybit, client_of: ConnectBybit, post: Post) -> None:
    running = await bybit()
    client = client_of(running)
    assert await client.fetch_time() == START_MS
    await post(running, "advance", until_ms=START_MS + 5000)
    assert await client.fetch_time() == START_MS + 5000
    assert (await client.fetch_status())["status"] == "ok"


async def test_history_ends_with_the_running_bar(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    await post(running, "advance", until_ms=START_MS + 11 * MINUTE_MS)
    rows = await client.fetch_ohlcv(BTC, "30m", limit=4)
    assert [row[0] for row in rows] == [START_MS + i * HALF_HOUR_MS for i in (-3, -2, -1, 0)]
    whole = running.exchange.market.steps("BTCUSDT", START_MS, START_MS + HALF_HOUR_MS)
    assert rows[-1][1] == whole.open[0]
    assert rows[-1][4] == whole.open[2]
    assert whole.volume[:2].sum() < rows[-1][5] < whole.volume[:3].sum()


async def test_since_and_limit_page_through_all_history(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    client = client_of(await bybit())
    seen: list[int] = []
    since = ORIGIN_MS_DEFAULT
    while rows := await client.fetch_ohlcv(ETH, "15m", since=since, limit=100):
        seen += [row[0] for row in rows]
        since = rows[-1][0] + 1
    assert seen == [ORIGIN_MS_DEFAULT + i * 15 * MINUTE_MS for i in range(3 * 96 + 1)]


@pytest.mark.parametrize("label", ["5m", "15m", "30m", "1h", "2h", "4h", "1d"])
async def test_every_interval_is_served_on_midnights_grid(
    bybit: StartBybit, client_of: ConnectBybit, label: str
) -> None:
    client = client_of(await bybit())
    length_ms = client.parse_timeframe(label) * 1000
    rows = await client.fetch_ohlcv(SOL, label, limit=3)
    assert [row[0] % length_ms for row in rows] == [0, 0, 0]


async def test_mark_and_index_candles_follow_the_traded_price(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    running = await bybit()
    client = client_of(running)
    traded = await client.fetch_ohlcv(BTC, "30m", limit=5)
    marks = await client.fetch_ohlcv(BTC, "30m", limit=5, params={"price": "mark"})
    index = await client.fetch_ohlcv(BTC, "30m", limit=5, params={"price": "index"})
    assert [row[:5] for row in marks] == [row[:5] for row in traded]
    for mark, away in zip(marks, index, strict=True):
        rate = running.exchange.market.funding_estimate("BTCUSDT", mark[0])
        assert away[4] == pytest.approx(mark[4] / (1 + rate), abs=0.05)


async def test_funding_now_and_then(bybit: StartBybit, client_of: ConnectBybit) -> None:
    running = await bybit(coins=6)
    client = client_of(running)
    rates = await client.fetch_funding_rates()
    assert len(rates) == 6
    assert rates[BTC]["fundingTimestamp"] == START_MS + 8 * HOUR_MS
    assert rates["DOGE/USDT:USDT"]["fundingTimestamp"] == START_MS + 4 * HOUR_MS
    assert rates["DOGE/USDT:USDT"]["interval"] == "4h"
    history = await client.fetch_funding_rate_history(BTC, since=ORIGIN_MS_DEFAULT, limit=4)
    settled = running.exchange.market.settlements("BTCUSDT", ORIGIN_MS_DEFAULT, START_MS)
    # the client's span holds five, and the venue gives the newest of a span that holds too many
    assert [row["timestamp"] for row in history] == [item.time_ms for item in settled[1:5]]
    assert [row["fundingRate"] for row in history] == [item.rate for item in settled[1:5]]
    newest = await client.fetch_funding_rate_history(BTC, limit=2)
    assert newest[-1]["timestamp"] == START_MS


async def test_a_start_without_an_end_is_no_span_of_funding(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    client = client_of(await bybit())
    with pytest.raises(ccxt.BadRequest, match="10001"):
        await client.publicGetV5MarketFundingHistory(
            {"category": "linear", "symbol": "BTCUSDT", "startTime": ORIGIN_MS_DEFAULT}
        )


async def test_tickers_trades_and_interest_agree_with_the_klines(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    client = client_of(await bybit())
    last = (await client.fetch_ohlcv(SOL, "5m", limit=1))[0][4]
    ticker = await client.fetch_ticker(SOL)
    assert ticker["last"] == last
    assert ticker["bid"] < last < ticker["ask"]
    assert set(await client.fetch_tickers()) == set(ALL)
    trades = await client.fetch_trades(SOL, limit=40)
    assert len(trades) == 40
    times = [trade["timestamp"] for trade in trades]
    assert times == sorted(times)
    assert trades[-1]["price"] == last
    day = await client.fetch_ohlcv(SOL, "5m", limit=289)
    assert ticker["high"] == max(row[2] for row in day)
    halves = await client.fetch_ohlcv(SOL, "30m", limit=2)
    interest = await client.fetch_open_interest(SOL)
    assert interest["openInterestAmount"] == pytest.approx(100 * halves[0][5])
    history = await client.fetch_open_interest_history(SOL, "30m", limit=3)
    assert [row["timestamp"] for row in history][-1] == START_MS


async def test_watched_klines_equal_the_history(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    first = await client.watch_ohlcv_for_symbols([[symbol, "30m"] for symbol in ALL])
    assert next(iter(first.values()))["30m"][0][0] == START_MS  # the running bar, at once
    for i in range(1, 25):
        answer = await post(running, "advance", until_ms=FOREVER_MS)
        assert answer["now_ms"] == START_MS + i * HALF_HOUR_MS
        assert answer["published"] == 3
    for symbol in ALL:
        watched = await until_cached(client, symbol, START_MS + 24 * HALF_HOUR_MS)
        fetched = await client.fetch_ohlcv(symbol, "30m", since=START_MS, limit=100)
        assert watched == fetched
        assert len(watched) == 25


async def test_watched_trades_and_tickers(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    first = await client.watch_trades(SOL)
    assert first[-1]["timestamp"] == START_MS
    ticker = await client.watch_ticker(BTC)
    assert ticker["last"] == running.exchange.publication.last_price("BTCUSDT", START_MS)
    await post(running, "advance", until_ms=FOREVER_MS)
    later = await client.watch_trades(SOL)
    assert START_MS < later[-1]["timestamp"] <= START_MS + HALF_HOUR_MS


async def test_unwatched_klines_fall_silent(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.watch_ohlcv(BTC, "30m")
    assert (await post(running, "advance", until_ms=FOREVER_MS))["published"] == 1
    await client.un_watch_ohlcv(BTC, "30m")
    assert (await post(running, "advance", until_ms=FOREVER_MS))["published"] == 0


async def test_an_ended_contract_leaves_the_list(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit(delistings={"ETHUSDT": START_MS + HOUR_MS})
    client = client_of(running)
    before = await client.load_markets()
    assert int(before[ETH]["info"]["deliveryTime"]) == START_MS + HOUR_MS  # told ahead
    for _ in range(2):
        await post(running, "advance", until_ms=FOREVER_MS)
    assert list(await client.load_markets(True)) == [BTC, SOL]


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ({"symbol": "NOPEUSDT", "interval": "60", "category": "linear"}, "symbol"),
        ({"symbol": "BTCUSDT", "interval": "60"}, "category"),
        ({"symbol": "BTCUSDT", "interval": "90", "category": "linear"}, "period"),
        ({"symbol": "BTCUSDT", "interval": "1", "category": "linear"}, "period"),
        ({"symbol": "BTCUSDT", "interval": "60", "category": "linear", "start": "x"}, "start"),
        ({"symbol": "BTCUSDT", "interval": "60", "category": "linear", "limit": "0"}, "limit"),
    ],
)
async def test_bad_parameters_get_the_venues_own_code(
    bybit: StartBybit, query: dict[str, str], what: str
) -> None:
    running = await bybit()
    url = f"{running.rest_url}/v5/market/kline"
    async with aiohttp.ClientSession() as session, session.get(url, params=query) as reply:
        assert reply.status == 200
        body = await reply.json()
        assert body["retCode"] == 10001
        assert what in body["retMsg"]
        assert int(reply.headers["X-Bapi-Limit-Status"]) < int(reply.headers["X-Bapi-Limit"])


async def test_too_many_visits_are_refused_when_a_limit_is_set(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    client = client_of(await bybit(weight_limit_minute=3))
    await client.load_markets()
    await client.fetch_ohlcv(BTC, "30m")
    with pytest.raises(ccxt.RateLimitExceeded, match="10006"):
        await client.fetch_ohlcv(BTC, "30m")
    assert "X-Bapi-Limit-Reset-Timestamp" in client.last_response_headers


async def test_an_unknown_path_is_not_found(bybit: StartBybit) -> None:
    running = await bybit()
    url = f"{running.rest_url}/v5/market/nothing"
    async with aiohttp.ClientSession() as session, session.get(url) as reply:
        assert reply.status == 404
        assert (await reply.json())["retCode"] == 10017
