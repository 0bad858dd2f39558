"""The unmodified ccxt.pro client `binanceusdm` against the rehearsal exchange."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import ccxt
import pytest

from adapters.rehearsal.server import RunningExchange
from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT, AbsentBar, LateBar
from daemon.domain.units import DAY_MS, HOUR_MS, MINUTE_MS
from tests.adapters.rehearsal.conftest import Connect, Post, Start

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


async def test_markets_carry_the_rules(start: Start, connect: Connect) -> None:
    client = connect(await start())
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
    assert bitcoin["limits"]["market"]["max"] > 100
    assert bitcoin["created"] == ORIGIN_MS_DEFAULT


async def test_time_is_the_markets_time(start: Start, connect: Connect, post: Post) -> None:
    running = await start()
    client = connect(running)
    assert await client.fetch_time() == START_MS
    await post(running, "advance", until_ms=START_MS + 5000)
    assert await client.fetch_time() == START_MS + 5000


async def test_history_ends_with_the_running_bar(
    start: Start, connect: Connect, post: Post
) -> None:
    running = await start()
    client = connect(running)
    await post(running, "advance", until_ms=START_MS + 11 * MINUTE_MS)
    rows = await client.fetch_ohlcv(BTC, "30m", limit=4)
    assert [row[0] for row in rows] == [START_MS + i * HALF_HOUR_MS for i in (-3, -2, -1, 0)]
    whole = running.exchange.market.steps("BTCUSDT", START_MS, START_MS + HALF_HOUR_MS)
    running_bar = rows[-1]
    assert running_bar[1] == whole.open[0]
    assert running_bar[2] >= whole.high[:2].max()
    # Two steps are over and the third has shown its first print only.
    assert running_bar[4] == whole.open[2]
    assert whole.volume[:2].sum() < running_bar[5] < whole.volume[:3].sum()


async def test_since_and_limit_page_through_all_history(start: Start, connect: Connect) -> None:
    client = connect(await start())
    seen: list[int] = []
    since = ORIGIN_MS_DEFAULT
    while rows := await client.fetch_ohlcv(ETH, "15m", since=since, limit=100):
        seen += [row[0] for row in rows]
        since = rows[-1][0] + 1
    count = 3 * 96 + 1
    assert seen == [ORIGIN_MS_DEFAULT + i * 15 * MINUTE_MS for i in range(count)]
    until = await client.fetch_ohlcv(ETH, "1h", params={"until": START_MS - 1}, limit=2)
    assert [row[0] for row in until] == [START_MS - 2 * HOUR_MS, START_MS - HOUR_MS]


@pytest.mark.parametrize("label", ["5m", "15m", "30m", "1h", "2h", "4h", "1d"])
async def test_every_interval_is_served_on_midnights_grid(
    start: Start, connect: Connect, label: str
) -> None:
    client = connect(await start())
    length_ms = client.parse_timeframe(label) * 1000
    rows = await client.fetch_ohlcv(SOL, label, limit=3)
    assert [row[0] % length_ms for row in rows] == [0, 0, 0]


async def test_funding_now_and_then(start: Start, connect: Connect) -> None:
    running = await start(coins=6)
    client = connect(running)
    rates = await client.fetch_funding_rates()
    assert len(rates) == 6
    assert rates[BTC]["fundingTimestamp"] == START_MS + 8 * HOUR_MS
    assert rates["DOGE/USDT:USDT"]["fundingTimestamp"] == START_MS + 4 * HOUR_MS
    one = await client.fetch_funding_rate(BTC)
    assert one["fundingRate"] == rates[BTC]["fundingRate"]
    assert one["timestamp"] == START_MS
    history = await client.fetch_funding_rate_history(BTC, since=ORIGIN_MS_DEFAULT, limit=4)
    assert [row["timestamp"] for row in history] == [
        ORIGIN_MS_DEFAULT + i * 8 * HOUR_MS for i in range(4)
    ]
    settled = running.exchange.market.settlements("BTCUSDT", ORIGIN_MS_DEFAULT, START_MS)
    assert [row["fundingRate"] for row in history] == [item.rate for item in settled[:4]]
    newest = await client.fetch_funding_rate_history(BTC, limit=2)
    assert newest[-1]["timestamp"] == START_MS
    intervals = await client.fetch_funding_intervals()
    assert intervals["DOGE/USDT:USDT"]["interval"] == "4h"


async def test_tickers_and_trades_agree_with_the_klines(start: Start, connect: Connect) -> None:
    client = connect(await start())
    last = (await client.fetch_ohlcv(SOL, "5m", limit=1))[0][4]
    assert (await client.fetch_ticker(SOL))["last"] == last
    assert set(await client.fetch_tickers()) == set(ALL)
    books = await client.fetch_bids_asks()
    assert books[SOL]["bid"] < last < books[SOL]["ask"]
    trades = await client.fetch_trades(SOL, limit=40)
    assert len(trades) == 40
    assert trades[-1]["price"] == last
    times = [trade["timestamp"] for trade in trades]
    assert times == sorted(times)
    bar_ms = START_MS - 5 * MINUTE_MS
    inside = [t for t in trades if bar_ms <= t["timestamp"] < START_MS]
    bar = (await client.fetch_ohlcv(SOL, "5m", since=bar_ms, limit=1))[0]
    assert [inside[0]["price"], inside[-1]["price"]] == [bar[1], bar[4]]
    assert max(t["price"] for t in inside) == bar[2]
    assert min(t["price"] for t in inside) == bar[3]
    assert sum(t["amount"] for t in inside) == pytest.approx(bar[5])
    assert (await client.fetch_status())["status"] == "ok"


async def test_watched_klines_equal_the_history(start: Start, connect: Connect, post: Post) -> None:
    running = await start()
    client = connect(running)
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


async def test_a_wider_interval_closes_when_it_should(
    start: Start, connect: Connect, post: Post
) -> None:
    running = await start()
    client = connect(running)
    await client.watch_ohlcv(BTC, "1h")
    closed = [(await post(running, "advance", until_ms=FOREVER_MS))["published"] for _ in range(4)]
    assert closed == [0, 1, 0, 1]


async def test_watched_trades_are_new_and_inside_the_bar(
    start: Start, connect: Connect, post: Post
) -> None:
    running = await start()
    client = connect(running)
    first = await client.watch_trades(SOL)
    assert first[-1]["timestamp"] == START_MS
    await post(running, "advance", until_ms=FOREVER_MS)
    later = await client.watch_trades(SOL)
    assert all(trade["timestamp"] > START_MS for trade in later)
    assert later[-1]["timestamp"] <= START_MS + HALF_HOUR_MS


async def test_mark_prices_and_best_prices_are_streamed(start: Start, connect: Connect) -> None:
    client = connect(await start())
    mark = await client.watch_mark_price(BTC)
    assert mark["markPrice"] > 0
    best = await client.watch_bids_asks([ETH])
    assert best[ETH]["bid"] < best[ETH]["ask"]


async def test_unwatched_klines_fall_silent(start: Start, connect: Connect, post: Post) -> None:
    running = await start()
    client = connect(running)
    await client.watch_ohlcv(BTC, "30m")
    assert (await post(running, "advance", until_ms=FOREVER_MS))["published"] == 1
    await client.un_watch_ohlcv(BTC, "30m")
    assert (await post(running, "advance", until_ms=FOREVER_MS))["published"] == 0


async def test_an_absent_bar_is_nowhere(start: Start, connect: Connect, post: Post) -> None:
    absent_ms = START_MS + HALF_HOUR_MS
    running = await start(absent_bars=(AbsentBar("BTCUSDT", absent_ms),))
    client = connect(running)
    await client.watch_ohlcv_for_symbols([[symbol, "30m"] for symbol in ALL])
    closed = [(await post(running, "advance", until_ms=FOREVER_MS))["published"] for _ in range(4)]
    assert closed == [3, 2, 3, 3]
    watched = await until_cached(client, BTC, START_MS + 4 * HALF_HOUR_MS)
    assert [row[0] for row in watched] == [START_MS + i * HALF_HOUR_MS for i in (0, 2, 3, 4)]
    fetched = await client.fetch_ohlcv(BTC, "30m", since=START_MS, limit=9)
    assert [row[0] for row in fetched] == [START_MS + i * HALF_HOUR_MS for i in (0, 2, 3, 4)]
    hour = (await client.fetch_ohlcv(BTC, "1h", since=START_MS, limit=1))[0]
    assert hour[1:] == fetched[0][1:]  # only its first half traded
    others = await client.fetch_ohlcv(ETH, "30m", since=START_MS, limit=9)
    assert len(others) == 5


async def test_a_late_bar_comes_when_its_delay_is_over(
    start: Start, connect: Connect, post: Post
) -> None:
    late = LateBar("ETHUSDT", START_MS, 7 * MINUTE_MS)
    running = await start(late_bars=(late,))
    client = connect(running)
    await client.watch_ohlcv_for_symbols([[symbol, "30m"] for symbol in [BTC, SOL]])
    ether = asyncio.create_task(client.watch_ohlcv(ETH, "30m"))
    close_ms = START_MS + HALF_HOUR_MS
    steps = []
    for _ in range(3):
        answer = await post(running, "advance", until_ms=FOREVER_MS)
        rows = await client.fetch_ohlcv(ETH, "30m", since=START_MS, limit=9)
        steps.append((answer["now_ms"] - close_ms, [row[0] - START_MS for row in rows]))
    assert steps == [
        (0, []),  # its running successor is held back as well
        (7 * MINUTE_MS, [0, HALF_HOUR_MS]),
        (HALF_HOUR_MS, [0, HALF_HOUR_MS, 2 * HALF_HOUR_MS]),
    ]
    await ether
    watched = await until_cached(client, ETH, START_MS + 2 * HALF_HOUR_MS)
    assert START_MS in [row[0] for row in watched]


async def test_a_delisted_coin_settles_and_a_new_one_appears(
    start: Start, connect: Connect, post: Post
) -> None:
    running = await start(
        delistings={"ETHUSDT": START_MS + HOUR_MS}, listings={"SOLUSDT": START_MS + HOUR_MS}
    )
    client = connect(running)
    assert list(await client.load_markets()) == [BTC, ETH]
    with pytest.raises(ccxt.BadSymbol):
        await client.fapiPublicGetKlines({"symbol": "SOLUSDT", "interval": "1h"})
    await client.watch_ohlcv_for_symbols([[BTC, "30m"], [ETH, "30m"]])
    closed = [(await post(running, "advance", until_ms=FOREVER_MS))["published"] for _ in range(4)]
    assert closed == [2, 2, 1, 1]
    markets = await client.load_markets(True)
    assert not markets[ETH]["active"]
    assert markets[SOL]["active"]
    rows = await client.fetch_ohlcv(ETH, "30m", since=START_MS, limit=9)
    assert len(rows) == 2
    rows = await client.fetch_ohlcv(SOL, "30m", since=ORIGIN_MS_DEFAULT, limit=9)
    assert rows[0][0] == START_MS + HOUR_MS


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"symbol": "NOPEUSDT", "interval": "1h"}, 400, -1121),
        ({"interval": "1h"}, 400, -1102),
        ({"symbol": "BTCUSDT"}, 400, -1102),
        ({"symbol": "BTCUSDT", "interval": "90m"}, 400, -1120),
        ({"symbol": "BTCUSDT", "interval": "1m"}, 400, -1120),  # finer than the base step
        ({"symbol": "BTCUSDT", "interval": "1h", "limit": "1501"}, 400, -1130),
        ({"symbol": "BTCUSDT", "interval": "1h", "startTime": "x"}, 400, -1102),
    ],
)
async def test_bad_parameters_get_the_venues_own_codes(
    start: Start, query: dict[str, str], status: int, code: int
) -> None:
    running = await start()
    url = f"{running.rest_url}/fapi/v1/klines"
    async with aiohttp.ClientSession() as session, session.get(url, params=query) as reply:
        assert reply.status == status
        assert (await reply.json())["code"] == code
        assert int(reply.headers["x-mbx-used-weight-1m"]) > 0


async def test_spent_weight_is_refused_when_a_limit_is_set(start: Start, connect: Connect) -> None:
    client = connect(await start(weight_limit_minute=7))
    await client.load_markets()
    await client.fetch_ohlcv(BTC, "30m", limit=1000)
    with pytest.raises(ccxt.DDoSProtection, match="-1003"):
        await client.fetch_ohlcv(BTC, "30m", limit=1000)
    assert "Retry-After" in client.last_response_headers


async def test_subscriptions_are_listed_and_nonsense_is_refused(start: Start) -> None:
    running = await start()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{running.ws_url}/market/ws/btcusdt@kline_1h") as socket,
    ):
        opening = await socket.receive_json(timeout=5)
        assert opening["k"]["i"] == "1h"
        assert opening["k"]["x"] is False
        assert opening["E"] == START_MS
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 3})
        assert await socket.receive_json(timeout=5) == {
            "result": ["btcusdt@kline_1h"],
            "id": 3,
        }
        await socket.send_json({"method": "SHOUT", "id": 4})
        assert (await socket.receive_json(timeout=5))["error"]["code"] == 2
        await socket.ping()
        await socket.send_str("{")
        assert "error" in await socket.receive_json(timeout=5)


async def test_final_klines_come_before_the_new_ones_and_are_marked(
    start: Start, post: Post
) -> None:
    running = await start()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{running.ws_url}/ws") as socket,
    ):
        names = [f"{coin}usdt@kline_30m" for coin in ("btc", "eth", "sol")]
        await socket.send_json({"method": "SUBSCRIBE", "params": names, "id": 1})
        assert await socket.receive_json(timeout=5) == {"result": None, "id": 1}
        for _ in names:
            await socket.receive_json(timeout=5)  # the greeting
        await post(running, "advance", until_ms=FOREVER_MS)
        seen = [await socket.receive_json(timeout=5) for _ in range(6)]
    close_ms = START_MS + HALF_HOUR_MS
    assert [m["k"]["x"] for m in seen] == [True] * 3 + [False] * 3
    assert {m["E"] for m in seen} == {close_ms}
    assert {m["k"]["T"] for m in seen[:3]} == {close_ms - 1}
    for opening in seen[3:]:
        k = opening["k"]
        assert k["t"] == close_ms
        assert k["o"] == k["h"] == k["l"] == k["c"]


async def test_a_client_sees_the_same_market_after_a_restart(
    start: Start, connect: Connect, post: Post
) -> None:
    one = await start()
    for _ in range(5):
        answer = await post(one, "advance", until_ms=FOREVER_MS)
    seen = await connect(one).fetch_ohlcv(BTC, "30m", limit=200)
    other: RunningExchange = await start(resume_at_ms=answer["now_ms"])
    assert await connect(other).fetch_ohlcv(BTC, "30m", limit=200) == seen
