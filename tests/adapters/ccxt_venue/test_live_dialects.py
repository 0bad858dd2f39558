"""The desk at Bybit and OKX, through real ccxt: what goes over the wire, and what absence takes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from adapters.ccxt_venue.calls import Caller
from adapters.ccxt_venue.client_ids import client_id
from adapters.ccxt_venue.desk import Desk, DeskRules
from adapters.ccxt_venue.listings_bybit import BybitListings
from adapters.ccxt_venue.listings_okx import OkxListings
from adapters.ccxt_venue.names import Names
from adapters.ccxt_venue.quirks import QUIRKS
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules
from daemon.domain.order import Order, OrderKind
from tests.adapters.ccxt_venue.live_rig import filled, kinds
from tests.adapters.ccxt_venue.loopback import OURS, SYMBOL
from tests.adapters.ccxt_venue.payloads import (
    BYBIT_ORDER,
    BYBIT_TRADE,
    OKX_ORDER,
    OKX_TRADE,
    bybit,
    okx,
)
from tests.adapters.ccxt_venue.test_live_listings import Answer, answering

EMPTY = bybit([])


def desk_at(caller: Caller) -> Desk:
    venue, size = caller.venue, Decimal("0.01") if caller.venue == "okx" else Decimal(1)
    rules = TradingRules(Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(5), size)
    instrument = Instrument(InstrumentKey(venue, SYMBOL), "BTC", "USDT", "USDT", rules)
    names = Names(venue, (instrument,))
    listings = OkxListings(caller, names.size) if venue == "okx" else BybitListings(caller)
    return Desk(caller, QUIRKS[venue], names, listings, DeskRules(0.01), lambda: 0)


def order_at(venue: str, quantity: str, *, reduce_only: bool = False) -> Order:
    key = InstrumentKey(venue, SYMBOL)
    kind, amount = OrderKind.MARKET, Decimal(quantity)
    return Order(OURS, key, 0, amount, kind, 0, 1.0, reduce_only=reduce_only)


async def test_okx_is_told_contracts_and_an_id_without_hyphens() -> None:
    """Trap 13: 0.03 BTC are 3 contracts of 0.01 there."""
    name = client_id("okx", OURS)
    taken = {"clOrdId": name, "ordId": "9", "sCode": "0", "sMsg": ""}
    answers: dict[str, Answer] = {
        "/api/v5/trade/order": lambda query: okx([taken]),
        "/api/v5/trade/batch-orders": lambda query: okx([taken]),
    }
    async with answering("okx", answers) as (caller, asked):
        told = await desk_at(caller).submit([order_at("okx", "-0.03")])
        assert kinds(told) == ["OrderAccepted"]
        body = asked[0][1]
        row: Any = body[0] if isinstance(body, list) else body
        assert (row["sz"], row["side"], row["clOrdId"]) == ("3", "sell", name)
        assert row["tdMode"] == "cross"


async def test_okx_fills_come_back_in_base_units() -> None:
    name = client_id("okx", OURS)
    done = {**OKX_ORDER, "clOrdId": name, "side": "buy", "sz": "4", "accFillSz": "4"}
    trade = {**OKX_TRADE, "ordId": OKX_ORDER["ordId"], "side": "buy", "fillSz": "4"}
    answers: dict[str, Answer] = {
        "/api/v5/trade/order": lambda query: okx([{**done, "state": "filled"}]),
        "/api/v5/trade/fills-history": lambda query: okx([trade]),
    }
    async with answering("okx", answers) as (caller, _):
        order = order_at("okx", "0.04")
        told = await desk_at(caller).query(order.order_id, order.key)
        assert kinds(told) == ["OrderFilled", "OrderEnded"]
        assert filled(told) == Decimal("0.04")


async def test_bybit_is_told_our_id_where_it_reads_it() -> None:
    """Its `clientOrderId` is sent as it stands, and ignored by the venue."""
    ids = {**EMPTY, "result": {"orderId": "7", "orderLinkId": str(OURS)}}
    ended = {**BYBIT_ORDER, "orderLinkId": str(OURS), "orderId": "7"}
    ended |= {"orderStatus": "Cancelled", "cumExecQty": "0"}
    answers: dict[str, Answer] = {
        "/v5/order/create": lambda query: ids,
        "/v5/order/cancel": lambda query: ids,
        "/v5/order/realtime": lambda query: bybit([ended]),
    }
    async with answering("bybit", answers) as (caller, asked):
        desk, order = desk_at(caller), order_at("bybit", "0.01", reduce_only=True)
        assert kinds(await desk.submit([order])) == ["OrderAccepted"]
        assert kinds(await desk.cancel(order.order_id, order.key)) == ["OrderEnded"]
        sent = [query for path, query in asked if path != "/v5/order/realtime"]
        assert [query["orderLinkId"] for query in sent] == [OURS, OURS]
        assert bool(sent[0]["reduceOnly"])
        assert sent[0]["qty"] == "0.01"
        assert "orderId" not in sent[1]


@pytest.mark.parametrize(
    ("realtime", "history", "event"),
    [
        (EMPTY, EMPTY, "OrderAbsent"),
        (EMPTY, "<html>", "OrderUncertain"),
        ("<html>", EMPTY, "OrderUncertain"),
        (EMPTY, {"retCode": 10016, "retMsg": "busy"}, "OrderUncertain"),
        ({"retCode": 0, "result": {}}, EMPTY, "OrderUncertain"),
    ],
)
async def test_at_bybit_absence_takes_both_lists_and_each_in_good_form(
    realtime: object, history: object, event: str
) -> None:
    answers: dict[str, Answer] = {
        "/v5/order/realtime": lambda query: realtime,
        "/v5/order/history": lambda query: history,
    }
    async with answering("bybit", answers) as (caller, _):
        order = order_at("bybit", "0.01")
        desk = desk_at(caller)
        assert kinds(await desk.query(order.order_id, order.key)) == [event]


async def test_at_bybit_an_order_that_only_the_history_has_is_found_with_its_fills() -> None:
    ended = {**BYBIT_ORDER, "orderLinkId": str(OURS), "side": "Buy", "cumExecQty": "0.01"}
    ended |= {"orderStatus": "Filled"}
    trade = {**BYBIT_TRADE, "orderId": BYBIT_ORDER["orderId"], "orderLinkId": str(OURS)}
    answers: dict[str, Answer] = {
        "/v5/order/realtime": lambda query: EMPTY,
        "/v5/order/history": lambda query: bybit([ended]),
        "/v5/execution/list": lambda query: bybit([trade]),
    }
    async with answering("bybit", answers) as (caller, _):
        order = order_at("bybit", "0.01")
        told = await desk_at(caller).query(order.order_id, order.key)
        assert kinds(told) == ["OrderFilled", "OrderEnded"]
        assert filled(told) == Decimal("0.01")
