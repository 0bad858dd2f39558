"""The guarded ccxt object: options pass through, answers are checked, sockets are owned."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.exchange.client import (
    BACKOFF_MAX_S,
    CROWD_MAX_S,
    Crowd,
    VenueClient,
    backoff_s,
    known_exchanges,
)
from adapters.exchange.failures import SymbolGone, Unanswered
from adapters.exchange.frames import RawBar
from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import RehearsalSettings
from daemon.domain.failures import VenueError
from tests.adapters.exchange.feed_rig import until

BITCOIN = "BTC/USDT:USDT"


@pytest.fixture
async def exchange() -> AsyncIterator[RunningExchange]:
    async with await serve(RehearsalSettings(coins=2, history_days=2)) as running:
        yield running


@pytest.fixture
async def client(exchange: RunningExchange) -> AsyncIterator[VenueClient]:
    made = VenueClient("binanceusdm", ccxt_options(exchange.rest_url, exchange.ws_url))
    yield made
    await made.close()


async def watch_for_ever(client: VenueClient) -> None:
    """Watch until that raises."""
    while True:
        await client.ask("watch_ohlcv", BITCOIN, "30m")


async def test_nested_options_reach_the_client_and_the_given_ones_stay_untouched() -> None:
    options: dict[str, Any] = {
        "urls": {"api": {"fapiPublic": "http://127.0.0.1:1/fapi/v1"}},
        "options": {"fetchCurrencies": False},
        "httpsProxy": "http://127.0.0.1:2",
        "timeout": 1234,
    }
    before = repr(options)
    made = VenueClient("binanceusdm", options)
    try:
        assert made.api.urls["api"]["fapiPublic"] == "http://127.0.0.1:1/fapi/v1"
        assert made.api.urls["api"]["fapiPrivate"].startswith("https://"), "deep, not replaced"
        assert made.api.options["fetchCurrencies"] is False
        assert made.api.httpsProxy == "http://127.0.0.1:2"
        assert made.api.timeout == 1234
        assert made.api.enableRateLimit is True
        made.api.options["fetchCurrencies"] = True
        assert repr(options) == before
    finally:
        await made.close()


async def test_a_closed_port_is_unanswered_and_not_lasting() -> None:
    made = VenueClient("binanceusdm", ccxt_options("http://127.0.0.1:9", "ws://127.0.0.1:9"))
    try:
        with pytest.raises(Unanswered, match="fetch time"):
            await made.server_time()
    finally:
        await made.close()


async def test_a_refused_symbol_is_the_venues_word(
    exchange: RunningExchange, client: VenueClient
) -> None:
    await client.ask("load_markets")
    client.api.markets[BITCOIN]["id"] = "GONEUSDT"
    with pytest.raises(SymbolGone):
        await client.ask("fetch_ohlcv", BITCOIN, "30m")


async def test_answers_keep_the_raw_body_and_retry_after(
    exchange: RunningExchange, client: VenueClient
) -> None:
    told, answers = await client.ask("fetch_time")
    assert answers.raw == [{"serverTime": told}]
    assert answers.status == 200
    exchange.exchange.faults.set("http_429", 1)
    with pytest.raises(Unanswered) as refused:
        await client.ask("fetch_time")
    assert refused.value.retry_after_s == 1.0


async def test_patience_outlasts_a_short_outage(
    exchange: RunningExchange, client: VenueClient
) -> None:
    exchange.exchange.faults.set("http_503", 1)
    told, _ = await client.ask_patiently("fetch_time")
    assert told == exchange.exchange.now_ms


async def test_a_venue_without_a_clock_says_what_to_set(
    exchange: RunningExchange, client: VenueClient
) -> None:
    client.api.has["fetchTime"] = False
    with pytest.raises(VenueError, match="'system'"):
        await client.server_time()


async def test_the_venues_bars_with_their_closed_flag_and_the_end_of_a_socket_are_told(
    exchange: RunningExchange, client: VenueClient
) -> None:
    bars: list[RawBar] = []
    ends: list[str] = []
    client.hooks.on_bars = bars.extend
    client.hooks.on_broken = lambda why, symbols: ends.append(why)
    watching = asyncio.create_task(watch_for_ever(client))
    await until(lambda: bool(bars), "the greeting did not come")
    start_ms = exchange.exchange.now_ms
    await exchange.exchange.move_to(start_ms + 1_800_000)
    await until(lambda: any(bar.closed for bar in bars), "no bar was called closed")
    closed = [(bar.market_id, bar.interval, bar.open_ms) for bar in bars if bar.closed]
    assert closed == [("BTCUSDT", "30m", start_ms)]
    exchange.exchange.hub.cut_all()
    with pytest.raises(Unanswered):
        await watching
    assert ends, "the end of the socket was not told"


async def test_a_frame_that_cannot_be_read_ends_the_socket_instead_of_making_it_deaf(
    exchange: RunningExchange, client: VenueClient
) -> None:
    await client.ask("watch_ohlcv", BITCOIN, "30m")
    exchange.exchange.faults.set("garbage_frame", 1)
    await exchange.exchange.move_to(exchange.exchange.now_ms + 1_800_000)
    with pytest.raises(Unanswered, match="could not be read"):
        await watch_for_ever(client)
    assert (await client.ask("watch_ohlcv", BITCOIN, "30m"))[0], "the next call dials anew"


async def test_dropped_sockets_raise_and_the_next_watch_subscribes_anew(
    exchange: RunningExchange, client: VenueClient
) -> None:
    await client.ask("watch_ohlcv", BITCOIN, "30m")
    client.drop_sockets("deaf")
    assert client.api.clients == {}
    rows, _ = await client.ask("watch_ohlcv", BITCOIN, "30m")
    assert rows[-1][0] == exchange.exchange.now_ms


async def test_a_venue_that_was_asked_too_often_is_left_alone_for_as_long_as_it_says(
    exchange: RunningExchange, client: VenueClient
) -> None:
    await client.ask("load_markets")
    exchange.exchange.faults.set("http_429", 100)
    with pytest.raises(Unanswered, match="too often"):
        await client.server_time()
    for _ in range(5):
        with pytest.raises(Unanswered, match="left alone for 1 s more") as told:
            await client.server_time()
        assert 0 < (told.value.retry_after_s or 0) <= 1.0
    assert exchange.exchange.faults.left == 99, "it was asked although it had said not to"
    assert (await client.ask("watch_ohlcv", BITCOIN, "30m"))[0], "sockets have their own budget"
    await asyncio.sleep(1.05)
    exchange.exchange.faults.set("none", 1)
    assert await client.server_time() == exchange.exchange.now_ms
    assert client.usage.refused_n == 1
    assert client.usage.weight_1m, "the venue says how much of the budget is used"


def test_without_a_word_from_the_venue_the_pause_doubles_and_a_ban_is_longer() -> None:
    async def pauses(status: int) -> list[float | None]:
        crowd = Crowd()
        return [crowd.noted(status, None) for _ in range(12)]

    assert asyncio.run(pauses(429))[:3] == [5.0, 10.0, 20.0]
    assert asyncio.run(pauses(418))[:3] == [120.0, 240.0, 480.0]
    assert max(p or 0.0 for p in asyncio.run(pauses(418))) == CROWD_MAX_S


def test_pauses_double_and_are_capped() -> None:
    for failures in range(40):
        longest_s = min(BACKOFF_MAX_S, 0.25 * 2.0 ** min(failures, 10))
        assert longest_s / 2 <= backoff_s(failures) <= longest_s


def test_every_exchange_of_ccxt_is_known_by_id() -> None:
    known = known_exchanges()
    assert {"binanceusdm", "bybit", "okx", "krakenfutures", "hyperliquid"} <= set(known)
    assert len(known) == len(set(known))


@pytest.mark.parametrize("trouble", [zlib.error("bad data"), AssertionError("odd"), RuntimeError()])
async def test_whatever_goes_wrong_in_a_frame_its_socket_ends_instead_of_going_deaf(
    exchange: RunningExchange, client: VenueClient, trouble: Exception
) -> None:
    ends: list[str] = []

    def broken(bars: list[RawBar]) -> None:
        raise trouble

    client.hooks.on_bars = broken
    client.hooks.on_broken = lambda why, symbols: ends.append(why)
    with pytest.raises(Unanswered, match=f"read: {type(trouble).__name__}"):
        async with asyncio.timeout(5):
            await client.ask("watch_ohlcv", BITCOIN, "30m")
    assert len(ends) == 1
    client.hooks.on_bars = None
    assert (await client.ask("watch_ohlcv", BITCOIN, "30m"))[0], "the next call dials anew"
