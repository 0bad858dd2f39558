"""Bybit's public REST half: parameters in, results or the venue's own errors out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from adapters.rehearsal.bank.terms import RefusalReason
from adapters.rehearsal.bybit import public_payloads as payloads
from adapters.rehearsal.bybit.answers import (
    BybitError,
    Query,
    integer,
    limit_of,
    linear_only,
    wrong_parameter,
)
from adapters.rehearsal.bybit.asking import OTHER_CATEGORIES
from adapters.rehearsal.bybit.words import ticker_row
from adapters.rehearsal.dialect import INTERVALS_MS
from adapters.rehearsal.exchange import Exchange
from adapters.rehearsal.interest import interest_at
from adapters.rehearsal.market import Coin
from adapters.rehearsal.publication import Klines
from daemon.domain.units import MINUTE_MS

_KLINES_MAX: Final = 1000
_FUNDING_MAX: Final = 200
_TRADES_MAX: Final = 1000
_INSTRUMENTS_MAX: Final = 1000
_INTEREST_MAX: Final = 200
_INTEREST_TIMES_MS: Final = {
    "5min": 5 * MINUTE_MS,
    "15min": 15 * MINUTE_MS,
    "30min": 30 * MINUTE_MS,
    "1h": 60 * MINUTE_MS,
    "4h": 240 * MINUTE_MS,
    "1d": 1440 * MINUTE_MS,
}


def server_time(exchange: Exchange, query: Query) -> Any:
    """Answer with the market's time, which is the time the venue would have."""
    del query
    now_ms = exchange.clock_ms()
    return {"timeSecond": str(now_ms // 1000), "timeNano": str(now_ms * 10**6)}


def system_status(exchange: Exchange, query: Query) -> Any:
    """Answer that no maintenance is under way or planned."""
    del exchange, query
    return {"list": []}


def instruments(exchange: Exchange, query: Query) -> Any:
    """Answer with the contracts that trade; an ended one is no longer in the list."""
    if query.get("category") in OTHER_CATEGORIES:
        return {"category": query["category"], "list": [], "nextPageCursor": ""}
    linear_only(query)
    now_ms, status = exchange.clock_ms(), query.get("status", "Trading")
    coins = [] if status != "Trading" else _listed(exchange)
    if "symbol" in query:
        coins = [_coin(exchange, query)]
    limit = limit_of(query, 500, _INSTRUMENTS_MAX)
    first = integer(query, "cursor") or 0
    page = coins[first : first + limit]
    more = str(first + limit) if first + limit < len(coins) else ""
    highest = exchange.settings.bank.leverage_max
    rows = [payloads.instrument(coin, now_ms, highest) for coin in page]
    return {"category": "linear", "list": rows, "nextPageCursor": more}


def klines(exchange: Exchange, query: Query) -> Any:
    """Answer with klines, the running one first."""
    coin, found = _klines(exchange, query)
    return _listing(coin, payloads.kline_rows(coin, found))


def mark_klines(exchange: Exchange, query: Query) -> Any:
    """Answer with mark price candles, the running one first."""
    coin, found = _klines(exchange, query)
    return _listing(coin, payloads.kline_rows(coin, found, volumes=False))


def index_klines(exchange: Exchange, query: Query) -> Any:
    """Answer with index price candles, the running one first."""
    coin, found = _klines(exchange, query)
    away = np.array(
        [1.0 + exchange.market.funding_estimate(coin.symbol, at) for at in found.open_ms.tolist()]
    )
    prices = {name: getattr(found, name) / away for name in ("open", "high", "low", "close")}
    rows = payloads.kline_rows(coin, replace(found, **prices), volumes=False)
    return _listing(coin, rows)


def tickers(exchange: Exchange, query: Query) -> Any:
    """Answer with the summary of one contract or of all that trade."""
    linear_only(query)
    now_ms = exchange.clock_ms()
    coins = [_coin(exchange, query)] if "symbol" in query else _listed(exchange)
    marked = [(coin, exchange.mark(coin.symbol, now_ms)) for coin in coins]
    rows = [
        ticker_row(exchange.publication, coin, mark, now_ms)
        for coin, mark in marked
        if mark is not None
    ]
    return {"category": "linear", "list": rows}


def funding_history(exchange: Exchange, query: Query) -> Any:
    """Answer with past funding rates, newest first; a start alone is refused, as at the venue."""
    coin = _coin(exchange, query)
    start_ms, end_ms = integer(query, "startTime"), integer(query, "endTime")
    if start_ms is not None and end_ms is None:
        raise BybitError(10001, "params error: endTime is required with startTime")
    limit = limit_of(query, _FUNDING_MAX, _FUNDING_MAX)
    now_ms, first_ms = exchange.clock_ms(), exchange.market.span_ms[0]
    until_ms = now_ms if end_ms is None else min(now_ms, end_ms)
    from_ms = until_ms - (limit + 1) * coin.funding_interval_ms
    from_ms = max(first_ms, from_ms, start_ms or 0)
    found = exchange.market.settlements(coin.symbol, from_ms, until_ms + 1)[-limit:]
    rows = [payloads.funding_row(one) for one in reversed(found)]
    return {"category": "linear", "list": rows}


def open_interest(exchange: Exchange, query: Query) -> Any:
    """Answer with the open interest at the end of each period that is over, newest first."""
    coin = _coin(exchange, query)
    every_ms = _INTEREST_TIMES_MS.get(query.get("intervalTime", ""))
    if every_ms is None:
        raise wrong_parameter("intervalTime")
    limit = limit_of(query, 50, _INTEREST_MAX)
    now_ms, start_ms = exchange.clock_ms(), integer(query, "startTime")
    until_ms = min(now_ms, integer(query, "cursor") or integer(query, "endTime") or now_ms)
    last_ms = until_ms // every_ms * every_ms
    first_ms = max(exchange.market.span_ms[0], start_ms or 0, last_ms - (limit - 1) * every_ms)
    times = list(range(-(-first_ms // every_ms) * every_ms, last_ms + 1, every_ms))
    found = interest_at(exchange.publication, coin.symbol, times, now_ms)
    rows = [
        {"openInterest": f"{amount:.8f}", "timestamp": str(at)}
        for at, amount in zip(times, found, strict=True)
    ]
    floor_ms = max(exchange.market.span_ms[0], start_ms or 0)
    more = str(times[0] - every_ms) if times and times[0] - every_ms >= floor_ms else ""
    return {
        "symbol": coin.symbol,
        "category": "linear",
        "list": rows[::-1],
        "nextPageCursor": more,
    }


def recent_trades(exchange: Exchange, query: Query) -> Any:
    """Answer with the newest public trades, newest first."""
    coin = _coin(exchange, query)
    limit = limit_of(query, 500, _TRADES_MAX)
    now_ms, first_ms = exchange.clock_ms(), exchange.market.span_ms[0]
    after_ms = max(now_ms - (limit // 4 + 2) * exchange.market.step_ms, first_ms - 1)
    found = exchange.publication.prints(coin.symbol, after_ms, now_ms)[-limit:]
    rows = [payloads.trade_row(coin, one) for one in reversed(found)]
    return {"category": "linear", "list": rows}


ROUTES: Final[Mapping[str, Callable[[Exchange, Query], Any]]] = {
    "/v5/market/time": server_time,
    "/v5/system/status": system_status,
    "/v5/market/instruments-info": instruments,
    "/v5/market/kline": klines,
    "/v5/market/mark-price-kline": mark_klines,
    "/v5/market/index-price-kline": index_klines,
    "/v5/market/tickers": tickers,
    "/v5/market/funding/history": funding_history,
    "/v5/market/open-interest": open_interest,
    "/v5/market/recent-trade": recent_trades,
}


def _listing(coin: Coin, rows: list[list[str]]) -> Any:
    return {"symbol": coin.symbol, "category": "linear", "list": rows}


def _coin(exchange: Exchange, query: Query) -> Coin:
    linear_only(query)
    coin = exchange.listed(query.get("symbol", ""))
    if coin is None:
        raise BybitError(10001, "params error: symbol invalid")
    return coin


def _listed(exchange: Exchange) -> list[Coin]:
    now_ms, bank = exchange.clock_ms(), exchange.accounts.bank
    living = [coin for coin in exchange.market.coins.values() if coin.lives_at(now_ms)]
    refusals = [bank.symbol_refusal(coin.symbol) for coin in living]
    ended = RefusalReason.DELISTED
    return [c for c, no in zip(living, refusals, strict=True) if no is None or no.reason != ended]


def _klines(exchange: Exchange, query: Query) -> tuple[Coin, Klines]:
    coin = _coin(exchange, query)
    label = payloads.INTERVALS.get(query.get("interval", ""))
    if label is None or INTERVALS_MS[label] % exchange.market.step_ms:
        raise BybitError(10001, "Invalid period!")
    found = exchange.publication.klines(
        coin.symbol,
        INTERVALS_MS[label],
        exchange.clock_ms(),
        start_ms=integer(query, "start"),
        end_ms=integer(query, "end"),
        limit=limit_of(query, 200, _KLINES_MAX),
    )
    return coin, found
