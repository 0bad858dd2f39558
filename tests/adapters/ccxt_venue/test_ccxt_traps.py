"""Traps of the pinned ccxt: each is shown with the bare client, and then what we do about it.

The numbers are those of the list in docs/lessons.md; traps that other files hold are named there.
Where the first half of a test goes red, a new ccxt has changed and its remedy may be needless.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import json
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import ccxt.async_support as ccxt
import pytest
from aiohttp import web

from adapters.ccxt_venue.client import keyed_client
from adapters.ccxt_venue.client_ids import client_id
from adapters.ccxt_venue.keys import Credentials, Hidden
from adapters.ccxt_venue.opening import opened
from adapters.ccxt_venue.quirks import QUIRKS
from adapters.ccxt_venue.wire import listening, watch
from adapters.rehearsal.bybit.ccxt_options import bybit_options
from adapters.rehearsal.ccxt_options import ccxt_options
from daemon.domain.instrument import Standing
from daemon.domain.messages import InstrumentChanged
from daemon.domain.units import DAY_MS, MINUTE_MS
from tests.adapters.ccxt_venue.both_rig import (
    VENUES,
    Both,
    both,
    bringing,
    exchange_of,
    opening_at,
)
from tests.adapters.ccxt_venue.live_rig import (
    VENUE,
    filled,
    key_of,
    kinds,
    live,
    order,
)
from tests.adapters.ccxt_venue.loopback import OURS, SYMBOL, Script, ccxt_of, serving, shut
from tests.adapters.ccxt_venue.payloads import BINANCE_ORDER, GOOD, named
from tests.adapters.ccxt_venue.test_live_account import snapshot_in

# ---- A: an empty list -------------------------------------------------------------------------


async def test_an_empty_list_of_positions_in_good_form_is_read_a_second_time() -> None:
    """Not even JSON in perfect form is 'flat' while the next reading says something else."""
    async with live() as x:
        cursor = snapshot_in(await x.venue.snapshot(0, VENUE)).executions_cursor
        await x.r.advance(1)
        await x.venue.submit([order(1, "0.1")])
        listings, readings = x.venue.account._listings, [0]
        holdings = listings.holdings

        async def empty_once() -> Any:
            readings[0] += 1
            return () if readings[0] == 2 else await holdings()

        listings.holdings = empty_once  # type: ignore[method-assign]
        told = snapshot_in(await x.venue.snapshot(cursor, VENUE))
        assert told.quantities == {key_of("BTC"): Decimal("0.1")}
        assert readings[0] >= 4


# ---- 7: a filled id ---------------------------------------------------------------------------


async def test_a_filled_id_fills_again_at_the_venue_and_is_sent_once_by_us() -> None:
    async with live() as x:
        params = {"newClientOrderId": "by-hand-1"}
        for _ in range(2):
            await x.api.create_order(SYMBOL, "market", "buy", 0.01, None, params)
        assert x.held() == Decimal("0.02"), "the trap: one id, two fills"
        one = order(1, "0.01")
        assert kinds(await x.venue.submit([one])) == ["OrderAccepted"]
        assert kinds(await x.venue.submit([one])) == ["OrderUncertain"]
        assert kinds(await x.venue.query(one.order_id, one.key)) == ["OrderFilled", "OrderEnded"]
        assert kinds(await x.venue.submit([one])) == ["OrderUncertain"]
        assert x.held() == Decimal("0.03")
        assert x.orders_at_venue().count(one.order_id) == 1


async def test_an_id_that_a_question_found_is_not_sent_by_the_process_that_asked() -> None:
    async with live() as x:
        one = order(1, "0.01")
        await x.venue.submit([one])
        x.venue.desk._sent_s.clear()  # a process before us sent it
        assert filled(await x.venue.query(one.order_id, one.key)) == Decimal("0.01")
        assert kinds(await x.venue.submit([one])) == ["OrderUncertain"]
        assert x.held() == Decimal("0.01")


# ---- 8: batches -------------------------------------------------------------------------------


async def test_a_batch_is_answered_out_of_order_and_is_never_sent_by_us() -> None:
    rows = [
        {
            **BINANCE_ORDER,
            "clientOrderId": "first",
            "orderId": 1,
            "updateTime": 2_000,
            "time": 2_000,
        },
        {"code": -2019, "msg": "Margin is insufficient."},
        {
            **BINANCE_ORDER,
            "clientOrderId": "third",
            "orderId": 3,
            "updateTime": 1_000,
            "time": 1_000,
        },
    ]
    async with serving(Script(json.dumps(rows))) as served:
        bare = ccxt_of(VENUE, f"http://127.0.0.1:{served.port}")
        try:
            asked = [_row("first"), _row("second"), _row("third")]
            told = await bare.create_orders(asked)
        finally:
            await shut(bare)
    assert [one["clientOrderId"] for one in told] != ["first", None, "third"], "the trap"
    async with live() as x:
        x.api.create_orders = x.api.create_orders_request = _never
        wanted = [order(1, "0.01"), order(2, "0.1", "ETH"), order(3, "1", "SOL")]
        events = await x.venue.submit(wanted)
        assert [getattr(e, "order_id", "") for e in events] == [o.order_id for o in wanted]
        assert kinds(events) == ["OrderAccepted"] * 3


def _row(name: str) -> dict[str, Any]:
    params = {"newClientOrderId": name}
    return {
        "symbol": SYMBOL,
        "type": "limit",
        "side": "sell",
        "amount": 0.01,
        "price": 50_000.0,
        "params": params,
    }


async def _never(*args: object, **kwargs: object) -> None:
    raise AssertionError("a batch was sent")


# ---- 15: requests that nobody asked for --------------------------------------------------------


@pytest.mark.parametrize("venue", VENUES)
async def test_loading_the_markets_asks_for_contracts_and_for_nothing_else(venue: str) -> None:
    paths: list[str] = []
    bare_paths: list[str] = []
    async with exchange_of(venue) as running:
        options = bybit_options if venue == "bybit" else ccxt_options
        given = {"urls": options(running.rest_url, running.ws_url)["urls"]}
        ours = keyed_client(venue, given, _credentials(venue), receive_window_ms=5_000)
        bare = _bare(venue, given)
        for client, seen in ((ours, paths), (bare, bare_paths)):
            _note_paths(client, seen)
            try:
                with suppress(Exception):  # the bare one may fail on what it asks besides
                    await client.load_markets()
            finally:
                await client.close()
    bybit_only = "/v5/market/instruments-info category=linear"
    assert set(paths) == {{"binanceusdm": "/fapi/v1/exchangeInfo", "bybit": bybit_only}[venue]}
    assert set(bare_paths) - set(paths), "the trap: with keys it asks for more"


def _credentials(venue: str) -> Credentials:
    return Credentials(venue, Hidden("key-of-both-dialects"), Hidden("secret-of-both-dialects"))


def _bare(venue: str, options: dict[str, Any]) -> Any:
    keys = {"apiKey": "key-of-both-dialects", "secret": "secret-of-both-dialects"}
    return getattr(ccxt, venue)({**options, **keys})


def _note_paths(client: Any, seen: list[str]) -> None:
    fetch = client.fetch

    async def noting(url: str, *rest: Any, **more: Any) -> Any:
        parts = urlsplit(url)
        kind = [word for word in parts.query.split("&") if word.startswith("category=")]
        seen.append(" ".join([parts.path, *kind]))
        return await fetch(url, *rest, **more)

    client.fetch = noting


# ---- 19: a contract that left the list ---------------------------------------------------------


async def test_a_contract_that_left_bybits_list_is_forgotten_by_a_reload_and_kept_by_us() -> None:
    end_ms = 1_704_067_200_000 + 3 * DAY_MS + 30 * MINUTE_MS  # half an hour after the market begins
    async with (
        exchange_of("bybit", delistings={"SOLUSDT": end_ms}) as running,
        opened(opening_at(running)) as venue,
    ):
        x = Both(running, venue)
        api = venue._caller.api
        await x.advance(60)
        listed = next(one for one in opening_at(running).instruments if one.base == "ETH")
        del api.markets["ETH/USDT:USDT"]  # as one that was listed since
        await venue.observe(InstrumentChanged(0, 1, listed, Standing.TRADING, "listed"))
        assert "ETH/USDT:USDT" in api.markets
        assert api.market("SOL/USDT:USDT")["id"] == "SOLUSDT"
        await api.load_markets(True)
        with pytest.raises(ccxt.BadSymbol):
            api.market("SOL/USDT:USDT")


# ---- 16: arguments that the client changes ----------------------------------------------------


@pytest.mark.parametrize("venue", tuple(QUIRKS))
async def test_a_table_is_the_same_after_every_call_that_is_made_with_it(venue: str) -> None:
    quirks, name = QUIRKS[venue], client_id(venue, OURS)
    before = _plainly(quirks)
    async with serving(Script(named(GOOD[venue, "query"], name))) as served:
        client = ccxt_of(venue, f"http://127.0.0.1:{served.port}")
        try:
            for lookup in quirks.lookups:
                method = getattr(client, lookup.method)
                asked = (None, SYMBOL) if lookup.takes_id else (SYMBOL, None, None)
                with suppress(Exception):
                    await method(*asked, lookup.params(name))
            with suppress(Exception):
                await client.cancel_order(None, SYMBOL, quirks.cancel_params(name))
        finally:
            await shut(client)
    assert _plainly(quirks) == before


def _plainly(quirks: Any) -> object:
    tables = (quirks.post_only, quirks.reduce_only, quirks.executions_fixed)
    return copy.deepcopy(
        ([dict(one) for one in tables], [(one.method, dict(one.fixed)) for one in quirks.lookups])
    )


# ---- 17: closing ------------------------------------------------------------------------------


@pytest.mark.parametrize("venue", VENUES)
async def test_closing_while_a_stream_is_watched_leaves_no_task_and_no_complaint(
    venue: str,
) -> None:
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: complaints.append(context))
    before = asyncio.all_tasks()
    async with both(venue) as x:
        async with bringing(x):
            await x.submit(x.order(1, "0.01"))
        api = x.venue._caller.api
    gc.collect()
    await asyncio.sleep(0.05)
    assert complaints == []
    left = [task for task in asyncio.all_tasks() - before if not task.done()]
    assert [task.get_name() for task in left] == []
    assert api.session is None
    assert api.clients == {}


# ---- 5: pauses that only a header tells --------------------------------------------------------


async def test_a_pause_is_read_off_the_answer_of_its_own_call() -> None:
    """The client keeps only the headers of its last answer, whosever call that was."""
    app, asked = web.Application(), list[str]()
    app.router.add_route("*", "/{path:.*}", _pausing(asked))
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    client = ccxt_of(VENUE, f"http://127.0.0.1:{runner.addresses[0][1]}")
    watch(client)

    async def pause_told(method: Callable[[dict[str, str]], Any]) -> float | None:
        with listening() as heard:
            with suppress(Exception):
                await method({"symbol": "BTCUSDT"})
            return heard[0].retry_after_s

    try:
        told = await asyncio.gather(
            pause_told(client.fapiPrivateGetOrder), pause_told(client.fapiPrivateGetUserTrades)
        )
    finally:
        await shut(client)
        await runner.cleanup()
    assert client.last_response_headers.get("Retry-After") is None, "the trap: overwritten"
    assert list(told) == [7.0, None]


def _pausing(asked: list[str]) -> Any:
    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path.endswith("/order"):
            return web.Response(status=429, headers={"Retry-After": "7"}, text="{}")
        await asyncio.sleep(0.1)
        return web.json_response([])

    return answer
