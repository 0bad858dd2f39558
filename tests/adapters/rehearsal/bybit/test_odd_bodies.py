"""Whatever a request holds, the venue answers in its envelope and nothing breaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import aiohttp
from yarl import URL

from adapters.rehearsal.bybit import acting, asking, public
from adapters.rehearsal.bybit.signing import signature
from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT
from daemon.domain.units import DAY_MS
from tests.adapters.rehearsal.bybit.conftest import KEY, SECRET, StartBybit

START_MS = ORIGIN_MS_DEFAULT + 3 * DAY_MS
ORDER: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "side": "Buy",
    "orderType": "Limit",
    "qty": "0.01",
    "price": "40000",
    "timeInForce": "GTC",
    "orderLinkId": "x",
    "reduceOnly": False,
    "positionIdx": 0,
}
BODIES: dict[str, dict[str, Any]] = {
    "/v5/order/create": ORDER,
    "/v5/order/cancel": {"symbol": "BTCUSDT", "orderId": "x", "orderLinkId": "x"},
    "/v5/order/cancel-all": {"symbol": "BTCUSDT", "settleCoin": "USDT"},
    "/v5/position/set-leverage": {"symbol": "BTCUSDT", "buyLeverage": "3", "sellLeverage": "3"},
    "/v5/position/switch-mode": {"symbol": "BTCUSDT", "mode": 0},
    "/v5/account/set-margin-mode": {"setMarginMode": "REGULAR_MARGIN"},
    "/v5/order/disconnected-cancel-all": {"timeWindow": 5, "product": "DERIVATIVES"},
    "/v5/order/create-batch": {"request": [ORDER]},
    "/v5/order/cancel-batch": {"request": [{"symbol": "BTCUSDT", "orderId": "x"}]},
}
ODD: tuple[Any, ...] = (
    None,
    True,
    [],
    {},
    [[]],
    "",
    "\u00b2",
    -1,
    0,
    1e300,
    "1e999",
    "NaN",
    "x" * 99,
)


def signed(text: str) -> dict[str, str]:
    """Give the headers of a request with this query or body."""
    return {
        "X-BAPI-API-KEY": KEY,
        "X-BAPI-TIMESTAMP": str(START_MS),
        "X-BAPI-RECV-WINDOW": "5000",
        "X-BAPI-SIGN": signature(SECRET, f"{START_MS}{KEY}5000{text}"),
    }


def texts() -> Iterator[tuple[str, str]]:
    """Give paths with bodies, each with one odd field, one field too few, or no JSON at all."""
    for path, body in BODIES.items():
        whole = {"category": "linear", **body}
        yield path, "no JSON"
        yield path, "[]"
        for name in whole:
            yield path, json.dumps({k: v for k, v in whole.items() if k != name})
            for value in ODD:
                yield path, json.dumps({**whole, name: value})


def queries() -> Iterator[tuple[str, dict[str, str]]]:
    """Give paths with queries, each with one odd field or one field too few."""
    whole = {
        "category": "linear",
        "symbol": "BTCUSDT",
        "accountType": "UNIFIED",
        "interval": "30",
        "intervalTime": "1h",
    }
    numbers = ("limit", "cursor", "start", "end", "startTime", "endTime")
    for path in (*public.ROUTES, *asking.ROUTES):
        yield path, whole
        for name in (*whole, *numbers, "orderId", "settleCoin"):
            yield path, {k: v for k, v in whole.items() if k != name}
            for value in ("x", "0", "9" * 30, "\u00b2"):
                yield path, {**whole, name: value}


async def test_odd_queries_are_answered(bybit: StartBybit) -> None:
    running = await bybit()
    refused_n = 0
    async with aiohttp.ClientSession() as session:
        for path, query in queries():
            url = URL(running.rest_url + path).with_query(query)
            headers = signed(url.raw_query_string)
            async with session.get(url, headers=headers) as reply:
                answer = await reply.json()
                assert (reply.status, type(answer["retCode"])) == (200, int), (path, query)
                refused_n += answer["retCode"] != 0
    assert refused_n > 200


async def test_odd_bodies_are_answered(bybit: StartBybit) -> None:
    running = await bybit()
    assert set(BODIES) == {*acting.ROUTES, *acting.BATCHES}
    refused_n = 0
    async with aiohttp.ClientSession() as session:
        for path, text in texts():
            headers = signed(text)
            async with session.post(running.rest_url + path, data=text, headers=headers) as reply:
                answer = await reply.json()
                assert (reply.status, type(answer["retCode"])) == (200, int), (path, text)
                refused_n += answer["retCode"] != 0
    assert refused_n > 200
