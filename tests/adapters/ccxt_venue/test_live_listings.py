"""Bybit's and OKX's listings and modes through real ccxt, against answers of recorded shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from adapters.ccxt_venue.calls import Caller
from adapters.ccxt_venue.keys import Credentials, Hidden
from adapters.ccxt_venue.listings_bybit import BybitListings
from adapters.ccxt_venue.listings_okx import OkxListings
from adapters.ccxt_venue.modes_bybit import BybitModes
from adapters.ccxt_venue.modes_okx import OkxModes
from adapters.ccxt_venue.rows import CashFlow, CashKind, Execution
from adapters.ccxt_venue.together import PARALLEL_N, side_by_side
from adapters.ccxt_venue.wire import watch
from daemon.domain.failures import VenueError
from tests.adapters.ccxt_venue.loopback import API_KEY, SECRET, ccxt_of, shut
from tests.adapters.ccxt_venue.payloads import (
    BYBIT_FUNDING,
    BYBIT_ORDER,
    BYBIT_POSITION,
    BYBIT_TRADE,
    BYBIT_TRANSFER,
    OKX_BILL,
    OKX_POSITION,
    OKX_TRADE,
    SIZES,
    bybit,
    okx,
)

Answer = Callable[[dict[str, str]], object]
NOW_MS = 1_700_000_000_000


@asynccontextmanager
async def answering(
    venue: str, answers: dict[str, Answer]
) -> AsyncIterator[tuple[Caller, list[tuple[str, Any]]]]:
    """Serve answers by path to a real client; tells what was asked."""
    asked: list[tuple[str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        query = dict(request.query) or (await request.json() if request.can_read_body else {})
        asked.append((request.path, query))
        found = answers[request.path](query)
        if isinstance(found, str):
            return web.Response(text=found, content_type="text/html")
        return web.json_response(found)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    client = ccxt_of(venue, f"http://127.0.0.1:{port}")
    watch(client)
    keys = Credentials(venue, Hidden(API_KEY), Hidden(SECRET))
    try:
        yield Caller(venue, client, keys.redactor()), asked
    finally:
        await shut(client)
        await runner.cleanup()


def pages(rows: list[dict[str, Any]], size: int) -> Answer:
    """Answer as Bybit does: a page, and where the next begins."""

    def page(query: dict[str, str]) -> object:
        start = int(query.get("cursor", "0"))
        whole = bybit(rows[start : start + size])
        more = start + size < len(rows)
        whole["result"]["nextPageCursor"] = str(start + size) if more else ""
        return whole

    return page


async def test_bybit_turns_every_page_and_never_takes_funding_for_a_fill() -> None:
    fills = [{**BYBIT_TRADE, "execId": str(n), "execTime": str(NOW_MS + n)} for n in range(5)]
    paid = {**BYBIT_FUNDING, "execTime": str(NOW_MS + 9)}
    log = [
        {**BYBIT_TRANSFER, "transactionTime": str(NOW_MS + 10)},
        {**BYBIT_TRANSFER, "id": "x", "type": "SETTLEMENT", "transactionTime": str(NOW_MS + 9)},
    ]
    answers = {
        "/v5/execution/list": pages([*fills, paid], 2),
        "/v5/account/transaction-log": pages(log, 1),
    }
    async with answering("bybit", answers) as (caller, asked):
        told = await BybitListings(caller).told(NOW_MS, NOW_MS + 60_000, ("BTCUSDT",))
        assert [type(one) for one in told] == [Execution] * 5 + [CashFlow] * 2
        flows = [one for one in told if isinstance(one, CashFlow)]
        assert [f.kind for f in flows] == [CashKind.FUNDING, CashKind.TRANSFER]
        assert flows[0].amount == Decimal("-0.10232512"), "positive is paid there"
        assert len(asked) == 5


def settled_in(coin: str, answer: Answer) -> Answer:
    """Answer as Bybit does: a list without a contract's name is of one currency."""

    def asked(query: dict[str, str]) -> object:
        return answer(query) if query["settleCoin"] == coin else bybit([])

    return asked


@pytest.mark.parametrize("coin", ["USDT", "USDC"])
async def test_bybit_lists_what_is_held_and_rests_whatever_it_settles_in(coin: str) -> None:
    """Left out, the owner's own contract would take margin and lean the account unseen."""
    flat = {**BYBIT_POSITION, "symbol": "ETHUSDT", "side": "", "size": "0"}
    resting = {**BYBIT_ORDER, "orderStatus": "New"}
    answers = {
        "/v5/position/list": settled_in(coin, pages([flat, BYBIT_POSITION], 1)),
        "/v5/order/realtime": settled_in(coin, pages([BYBIT_ORDER, resting], 1)),
    }
    async with answering("bybit", answers) as (caller, _):
        (held,) = await BybitListings(caller).holdings()
        assert held.quantity == Decimal("-0.85")
        (order,) = await BybitListings(caller).open_orders()
        assert order.done is None


@pytest.mark.parametrize("page", ["<html>", {"retCode": 0, "result": {}}, {"retCode": 10016}])
async def test_nonsense_is_no_empty_account_at_bybit(
    page: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.ccxt_venue.calls.PAUSE_S", 0.001)
    async with answering("bybit", {"/v5/position/list": lambda query: page}) as (caller, asked):
        with pytest.raises(VenueError, match="no readable answer"):
            await BybitListings(caller).holdings()
        assert len(asked) == 5


@pytest.mark.parametrize("page", ["<html>", {"code": "0"}, {"code": "50004", "data": []}])
async def test_nonsense_is_no_empty_account_at_okx(
    page: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.ccxt_venue.calls.PAUSE_S", 0.001)
    async with answering("okx", {"/api/v5/account/positions": lambda query: page}) as (caller, _):
        with pytest.raises(VenueError, match="no readable answer"):
            await OkxListings(caller, SIZES.__getitem__).holdings()


async def test_okx_counts_contracts_in_base_units_and_reads_older_pages() -> None:
    """Trap 13: contracts are not coins there."""
    fills = [{**OKX_TRADE, "billId": str(n), "tradeId": str(n)} for n in range(130, 0, -1)]

    def older(query: dict[str, str]) -> object:
        after = int(query.get("after", "1000"))
        return okx([row for row in fills if int(row["billId"]) < after][:100])

    answers = {
        "/api/v5/trade/fills-history": older,
        "/api/v5/account/bills-archive": lambda query: okx([OKX_BILL]),
        "/api/v5/account/positions": lambda query: okx([OKX_POSITION]),
    }
    async with answering("okx", answers) as (caller, _):
        listings = OkxListings(caller, SIZES.__getitem__)
        told = [t for t in await listings.told(0, NOW_MS, ()) if isinstance(t, Execution)]
        assert len({t.trade_id for t in told}) == 130
        contracts = Decimal(OKX_TRADE["fillSz"]) * SIZES["BTC-USDT-SWAP"]
        assert {abs(t.quantity) for t in told} == {contracts}
        (held,) = await listings.holdings()
        assert abs(held.quantity) == abs(Decimal(OKX_POSITION["pos"])) * SIZES["BTC-USDT-SWAP"]


async def test_bybit_reads_back_what_it_sets() -> None:
    state = {"leverage": "10", "margin": "ISOLATED_MARGIN", "obeys": "yes"}

    def shown(query: dict[str, str]) -> object:
        return bybit([{**BYBIT_POSITION, "leverage": state["leverage"]}])

    def info(query: dict[str, str]) -> object:
        return {**bybit([]), "result": {"marginMode": state["margin"]}}

    def margin(query: dict[str, str]) -> object:
        state["margin"] = query["setMarginMode"]
        return bybit([])

    def leverage(query: dict[str, str]) -> object:
        if state["obeys"]:
            state["leverage"] = query["buyLeverage"]
        return bybit([])

    answers: dict[str, Answer] = {
        "/v5/position/list": shown,
        "/v5/account/info": info,
        "/v5/account/set-margin-mode": margin,
        "/v5/position/switch-mode": lambda query: {"retCode": 110025, "retMsg": "not modified"},
        "/v5/position/set-leverage": leverage,
    }
    async with answering("bybit", answers) as (caller, _):
        await BybitModes(caller).set_modes(["BTCUSDT"], 4)
        assert (state["leverage"], state["margin"]) == ("4", "REGULAR_MARGIN")
        state["obeys"] = ""
        with pytest.raises(VenueError, match="leverage 4, not one-way and 7"):
            await BybitModes(caller).set_modes(["BTCUSDT"], 7)


async def test_okx_reads_back_what_it_sets() -> None:
    state = {"lever": "3", "posMode": "long_short_mode"}

    def mode(query: dict[str, str]) -> object:
        state["posMode"] = query["posMode"]
        return okx([{}])

    answers: dict[str, Answer] = {
        "/api/v5/account/config": lambda query: okx([{"posMode": state["posMode"], "uid": "77"}]),
        "/api/v5/account/set-position-mode": mode,
        "/api/v5/account/leverage-info": lambda query: okx([{"lever": state["lever"]}]),
        "/api/v5/account/set-leverage": lambda query: okx([{}]),
    }
    async with answering("okx", answers) as (caller, _):
        assert await OkxModes(caller).account_id() == "77"
        with pytest.raises(VenueError, match="leverage 3, not 5"):
            await OkxModes(caller).set_modes(["BTC-USDT-SWAP"], 5)
        assert state["posMode"] == "net_mode"
        await OkxModes(caller).set_modes(["BTC-USDT-SWAP"], 3)


async def test_many_are_asked_a_few_at_once_and_answered_in_their_order() -> None:
    under_way, most = 0, 0

    async def ask(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001 * (number % 3))
        under_way -= 1
        return number

    assert await side_by_side(ask, range(50)) == list(range(50))
    assert most == PARALLEL_N


async def test_the_first_failure_of_many_is_raised_as_it_is_and_ends_the_others() -> None:
    ended = []

    async def ask(number: int) -> None:
        if number == 1:
            raise VenueError("no readable answer")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(number)

    with pytest.raises(VenueError, match="no readable answer"):
        await side_by_side(ask, range(4))
    assert sorted(ended) == [0, 2, 3]
