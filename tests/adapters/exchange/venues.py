"""Venues on the loopback that answer history by their own rules of paging, for the real ccxt."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Final

import ccxt.pro
from aiohttp import web

from adapters.clocks import SystemClock, TransportClock
from adapters.exchange.client import VenueClient
from adapters.exchange.reader import VenueReader
from daemon.domain.units import HOUR_MS, Timeframe

M30: Final = Timeframe(30)
SYMBOL: Final = "BTC/USDT:USDT"
_IDS: Final = {"okx": "BTC-USDT-SWAP", "bitget": "BTCUSDT", "bybit": "BTCUSDT", "gate": "BTC_USDT"}
_INFO: Final[Mapping[str, dict[str, str]]] = {
    "bitget": {"symbolType": "perpetual"},
    "bybit": {"fundingInterval": "480"},
    "okx": {"instFamily": "BTC-USDT"},
}


def market_of(exchange: str) -> dict[str, Any]:
    """Give the unified market of one perpetual; a contract of Gate is a ten-thousandth."""
    coins = {"base": "BTC", "quote": "USDT", "settle": "USDT"}
    kinds = {"spot": False, "swap": True, "future": False, "option": False}
    return {
        "id": _IDS[exchange],
        "symbol": SYMBOL,
        **coins,
        **{f"{name}Id": coin for name, coin in coins.items()},
        "type": "swap",
        **kinds,
        "contract": True,
        "linear": True,
        "inverse": False,
        "active": True,
        "contractSize": 0.0001 if exchange == "gate" else 1.0,
        "precision": {"amount": 0.001, "price": 0.1},
        "limits": {},
        "info": _INFO.get(exchange, {}),
    }


@dataclass
class Venue:
    """Answer bars and funding of one coin as a venue does: its window, its largest page.

    holes: opens without a bar. extra: settlements beside the usual ones. lies_n: so many answers
    that hold nothing, though there is something.
    """

    exchange: str
    listed_ms: int
    now_ms: int
    holes: frozenset[int] = frozenset()
    interval_ms: int = 8 * HOUR_MS
    extra: tuple[int, ...] = ()
    lies_n: int = 0
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @cached_property
    def opens(self) -> list[int]:
        """List what exists."""
        return [t for t in range(self.listed_ms, self.now_ms, M30.ms) if t not in self.holes]

    def settlements(self) -> list[int]:
        """List when funding was paid."""
        first = -(-self.listed_ms // self.interval_ms) * self.interval_ms
        return sorted({*range(first, self.now_ms, self.interval_ms), *self.extra})

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        query = dict(request.query)
        self.asked.append((request.path, query))
        body = getattr(self, f"_{self.exchange}")(request.path, query)
        return web.Response(text=json.dumps(body), content_type="application/json")

    def _within(self, times: list[int], low: int, high: int) -> list[int]:
        found = [t for t in times if low <= t < high]
        if found and self.lies_n:
            self.lies_n -= 1
            return []
        return found

    def _okx(self, path: str, query: Mapping[str, str]) -> object:
        most = 100 if "mark" in path or "index" in path else 300
        low, high = int(query.get("before", 0)) + 1, int(query.get("after", self.now_ms + 1))
        times = self.settlements() if "funding" in path else self.opens
        page = self._within(times, low, high)[::-1][: min(int(query.get("limit", 100)), most)]
        if "funding" in path:
            rows: list[Any] = [
                {"instId": "BTC-USDT-SWAP", "realizedRate": "0.0001", "fundingTime": str(t)}
                for t in page
            ]
        else:
            rows = [_row(t, 9) for t in page]
        return {"code": "0", "msg": "", "data": rows}

    def _bitget(self, path: str, query: Mapping[str, str]) -> object:
        most = 200 if "history" in path else 1000
        low, high = int(query["startTime"]), int(query["endTime"])
        page = self._within(self.opens, low, high)[-min(int(query["limit"]), most) :]
        return {"code": "00000", "data": [_row(t, 7) for t in page]}

    def _bybit(self, path: str, query: Mapping[str, str]) -> object:
        if "funding" not in path:
            page = self._within(self.opens, int(query["start"]), self.now_ms)
            rows: list[Any] = [_row(t, 7) for t in page[: int(query["limit"])][::-1]]
            return {"retCode": 0, "result": {"category": "linear", "list": rows}}
        low, high = int(query["startTime"]), int(query["endTime"])
        paid = self._within(self.settlements(), low, high + 1)[::-1][: int(query["limit"])]
        rows = [
            {"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateTimestamp": str(t)}
            for t in paid
        ]
        return {"retCode": 0, "result": {"category": "linear", "list": rows}}

    def _gate(self, path: str, query: Mapping[str, str]) -> object:
        low, high = int(query["from"]) * 1000, int(query["to"]) * 1000
        return [
            {"t": t // 1000, "o": "50000", "h": "50100", "l": "49900", "c": "50000", "v": 12345}
            for t in self._within(self.opens, low, high + 1)
        ]


def _row(at_ms: int, fields: int) -> list[str]:
    price = 100 + at_ms // M30.ms % 7
    row = [at_ms, price, price + 1, price - 1, price, 7, 7, 7, 1]
    return [str(x) for x in row[:fields]]


def _redirected(urls: object, here: str) -> Any:
    if isinstance(urls, dict):
        return {key: _redirected(value, here) for key, value in urls.items()}
    if isinstance(urls, str) and urls.startswith("https://"):
        rest = urls.removeprefix("https://")
        return here + (rest[rest.index("/") :] if "/" in rest else "")
    return urls


@cache
def _urls(exchange: str) -> object:
    return getattr(ccxt.pro, exchange)().urls["api"]


@asynccontextmanager
async def reading(venue: Venue) -> AsyncIterator[tuple[VenueReader, VenueClient]]:
    """Serve a venue on the loopback and read it through the real client of that exchange."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", venue.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    urls = _redirected(_urls(venue.exchange), f"http://127.0.0.1:{port}")
    options = {"enableRateLimit": False, "urls": {"api": urls}}
    client = VenueClient(venue.exchange, options)
    client.api.set_markets([market_of(venue.exchange)])
    client.api.milliseconds = lambda: venue.now_ms  # which end of the history is near
    try:
        yield VenueReader(client, SystemClock(TransportClock()), M30, parallel=4), client
    finally:
        await client.close()
        await runner.cleanup()
