"""What the venues document about listings and windows, held against the requests that go out.

A page larger than the venue's own would be cut there, and read here as the last one: fills lost.
"""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from adapters.ccxt_venue.calls import Caller
from adapters.ccxt_venue.keys import Credentials, Hidden
from adapters.ccxt_venue.listings import Listings
from adapters.ccxt_venue.listings_binance import BinanceListings
from adapters.ccxt_venue.listings_bybit import BybitListings
from adapters.ccxt_venue.listings_okx import OkxListings
from adapters.ccxt_venue.opening import connected
from daemon.domain.units import DAY_MS
from tests.adapters.ccxt_venue.loopback import API_KEY, PASSPHRASE, SECRET
from tests.adapters.ccxt_venue.payloads import SIZES, bybit, okx
from tests.adapters.ccxt_venue.test_live_listings import NOW_MS, Answer, answering

WEEK_MS = 7 * DAY_MS
# By path: the most rows of a page, and the longest span of a request where there is a longest.
DOCUMENTED: dict[str, dict[str, tuple[int, int | None]]] = {
    "binanceusdm": {
        "/fapi/v1/userTrades": (1000, WEEK_MS),
        "/fapi/v1/income": (1000, None),
    },
    "bybit": {
        "/v5/execution/list": (100, WEEK_MS),
        "/v5/account/transaction-log": (50, WEEK_MS),
    },
    "okx": {
        "/api/v5/trade/fills-history": (100, None),
        "/api/v5/account/bills": (100, None),
        "/api/v5/account/bills-archive": (100, None),
    },
}
EMPTY: dict[str, Answer] = {
    "binanceusdm": lambda query: [],
    "bybit": lambda query: bybit([]),
    "okx": lambda query: okx([]),
}


def listings_of(caller: Caller) -> Listings:
    if caller.venue == "okx":
        return OkxListings(caller, SIZES.__getitem__)
    return BybitListings(caller) if caller.venue == "bybit" else BinanceListings(caller)


@pytest.mark.parametrize("venue", tuple(DOCUMENTED))
async def test_no_listing_asks_for_more_rows_or_a_longer_span_than_the_venue_gives(
    venue: str,
) -> None:
    answers = dict.fromkeys(DOCUMENTED[venue], EMPTY[venue])
    async with answering(venue, answers) as (caller, asked):
        now_ms = caller.venue_ms
        for days in (2, 20):  # some lists reach back a week only, and another one further
            told = await listings_of(caller).told(now_ms - days * DAY_MS, now_ms, ("BTCUSDT",))
            assert told == []
    assert {path for path, _ in asked} == set(DOCUMENTED[venue])
    for path, query in asked:
        rows_max, span_ms = DOCUMENTED[venue][path]
        assert 1 <= int(query["limit"]) <= rows_max
        begin, end = _span(query)
        assert now_ms - 20 * DAY_MS <= begin <= end <= now_ms
        assert span_ms is None or end - begin <= span_ms


def _span(query: dict[str, Any]) -> tuple[int, int]:
    names = ("startTime", "endTime") if "startTime" in query else ("begin", "end")
    return int(query[names[0]]), int(query[names[1]])


async def test_okx_decides_itself_how_late_a_request_may_come_and_we_wait_so_long() -> None:
    """It takes no window of ours; a shorter one would call an order absent that still arrives."""

    async def answer(request: web.Request) -> web.Response:
        is_time = request.path.endswith("/time")
        return web.json_response(okx([{"ts": str(NOW_MS)}] if is_time else []))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    keys = Credentials("okx", Hidden(API_KEY), Hidden(SECRET), Hidden(PASSPHRASE))
    options = {"urls": {"api": {"rest": base}}, "enableRateLimit": False}
    try:
        async with connected("okx", options, keys, (), 400) as link:
            assert link.receive_window_ms == 30_000
    finally:
        await runner.cleanup()
