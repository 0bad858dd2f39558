"""What the venue publishes beside its klines: mark and index candles, open interest.

The mark is the traded price. The index lies away from it by the funding rate that was foreseen when
a candle opened; open interest is a fixed multiple of the volume of the last half hour that is over.
All three are thus known functions of the market, which a reader can be checked against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from adapters.rehearsal import dialect
from adapters.rehearsal.dialect import INTERVALS_MS
from adapters.rehearsal.exchange import Exchange
from adapters.rehearsal.interest import INTEREST_TIMES as INTEREST_TIMES
from adapters.rehearsal.interest import interest_at
from adapters.rehearsal.market import Coin
from adapters.rehearsal.publication import Klines

Query = Mapping[str, str]
ROWS_MAX: Final = 1500


def mark_klines(exchange: Exchange, query: Query) -> str:
    """Answer with mark price candles, the running one last, as JSON text."""
    coin, found = _klines(exchange, query, "symbol", "interval")
    return dialect.kline_rows(coin, replace(found, volume=np.zeros(len(found))))


def index_klines(exchange: Exchange, query: Query) -> str:
    """Answer with index price candles, the running one last, as JSON text."""
    coin, found = _klines(exchange, query, "pair", "interval")
    away = np.array(
        [1.0 + exchange.market.funding_estimate(coin.symbol, at) for at in found.open_ms.tolist()]
    )
    prices = {name: getattr(found, name) / away for name in ("open", "high", "low", "close")}
    return dialect.kline_rows(coin, replace(found, volume=np.zeros(len(found)), **prices))


def open_interest(exchange: Exchange, query: Query) -> list[dict[str, Any]]:
    """Answer with the open interest at the end of each period that is over, oldest first."""
    coin, found = _klines(exchange, query, "symbol", "period", named_by_end=True)
    ends = (found.open_ms + found.interval_ms).tolist()
    interest = interest_at(exchange.publication, coin.symbol, ends, exchange.clock_ms())
    return [
        {
            "symbol": coin.symbol,
            "sumOpenInterest": f"{amount:.8f}",
            "sumOpenInterestValue": f"{amount * close:.8f}",
            "timestamp": end,
        }
        for amount, close, end in zip(interest, found.close.tolist(), ends, strict=True)
        if end <= exchange.clock_ms()
    ]


def open_interest_now(exchange: Exchange, query: Query) -> dict[str, Any]:
    """Answer with the open interest of this moment."""
    symbol = query.get("symbol", "")
    if not symbol:
        raise dialect.missing("symbol")
    coin = exchange.listed(symbol)
    if coin is None:
        raise dialect.invalid_symbol()
    now_ms = exchange.clock_ms()
    (amount,) = interest_at(exchange.publication, symbol, [now_ms], now_ms)
    return {"symbol": symbol, "openInterest": f"{amount:.8f}", "time": now_ms}


def _klines(
    exchange: Exchange, query: Query, symbol: str, interval: str, *, named_by_end: bool = False
) -> tuple[Coin, Klines]:
    for name in (symbol, interval):
        if not query.get(name):
            raise dialect.missing(name)
    coin, length_ms = exchange.listed(query[symbol]), INTERVALS_MS.get(query[interval])
    if coin is None:
        raise dialect.invalid_symbol()
    if length_ms is None or length_ms % exchange.market.step_ms:
        raise dialect.invalid_interval()
    numbers: dict[str, int] = {}
    for name in ("startTime", "endTime", "limit"):
        text = query.get(name, "")
        if text and not text.isdigit():
            raise dialect.invalid_value(name)
        earlier_ms = length_ms if named_by_end and name != "limit" else 0
        numbers |= {name: int(text) - earlier_ms} if text else {}
    found = exchange.publication.klines(
        coin.symbol,
        length_ms,
        exchange.clock_ms(),
        start_ms=numbers.get("startTime"),
        end_ms=numbers.get("endTime"),
        limit=min(numbers.get("limit", 500), ROWS_MAX),
    )
    return coin, found


ROUTES: Final[Mapping[str, Callable[[Exchange, Query], Any]]] = {
    "/fapi/v1/markPriceKlines": mark_klines,
    "/fapi/v1/indexPriceKlines": index_klines,
    "/fapi/v1/openInterest": open_interest_now,
    "/futures/data/openInterestHist": open_interest,
}
