"""REST half of the dialect: parameters in, payloads or the venue's own errors out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from adapters.rehearsal import dialect, series
from adapters.rehearsal.bank.terms import BPS, RefusalReason
from adapters.rehearsal.dialect import INTERVALS_MS
from adapters.rehearsal.exchange import Exchange
from adapters.rehearsal.market import Coin, Settlement
from daemon.domain.units import DAY_MS

Query = Mapping[str, str]
_CLOSED: Final = frozenset({RefusalReason.HALTED, RefusalReason.DELISTED})
_KLINES_MAX: Final = 1500
_FUNDING_MAX: Final = 1000
_TRADES_MAX: Final = 1000
_KLINE_WEIGHTS: Final = ((99, 1), (499, 2), (1000, 5))


def ping(exchange: Exchange, query: Query) -> Any:
    """Answer that we are here."""
    del exchange, query
    return {}


def server_time(exchange: Exchange, query: Query) -> Any:
    """Answer with the market's time, which is the time the venue would have."""
    del query
    return {"serverTime": exchange.clock_ms()}


def exchange_info(exchange: Exchange, query: Query) -> Any:
    """Answer with all contracts listed so far."""
    del query
    limit = exchange.settings.weight_limit_minute
    bank, coins = exchange.accounts.bank, exchange.market.coins.values()
    band = bank.settings.price_band_bps / BPS
    info = dialect.exchange_info(coins, exchange.clock_ms(), limit, band)
    refusals = {symbol: bank.symbol_refusal(symbol) for symbol in exchange.market.coins}
    closed = {s for s, refusal in refusals.items() if refusal and refusal.reason in _CLOSED}
    for row in info["symbols"] if closed else ():
        if row["symbol"] in closed:
            row["status"] = "SETTLING"
    return info


def klines(exchange: Exchange, query: Query) -> str:
    """Answer with klines, the running one last, as JSON text."""
    coin = _coin(exchange, query)
    if "interval" not in query:
        raise dialect.missing("interval")
    interval_ms = INTERVALS_MS.get(query["interval"])
    if interval_ms is None or interval_ms % exchange.market.step_ms:
        raise dialect.invalid_interval()
    found = exchange.publication.klines(
        coin.symbol,
        interval_ms,
        exchange.clock_ms(),
        start_ms=_integer(query, "startTime"),
        end_ms=_integer(query, "endTime"),
        limit=_limit(query, 500, _KLINES_MAX),
    )
    return dialect.kline_rows(coin, found)


def premium_index(exchange: Exchange, query: Query) -> Any:
    """Answer with mark price and next funding, of one contract or of all that trade."""
    now_ms = exchange.clock_ms()

    def row(coin: Coin) -> dict[str, Any] | None:
        found = exchange.mark(coin.symbol, now_ms)
        return None if found is None else dialect.premium_row(coin, *found, now_ms)

    return _one_or_all(exchange, query, row)


def funding_rate(exchange: Exchange, query: Query) -> Any:
    """Answer with past funding payments, oldest first."""
    now_ms = exchange.clock_ms()
    coins = [_coin(exchange, query)] if "symbol" in query else _listed(exchange)
    start_ms, end_ms = _integer(query, "startTime"), _integer(query, "endTime")
    limit = _limit(query, 100, _FUNDING_MAX)
    until_ms = now_ms if end_ms is None else min(now_ms, end_ms)
    found: list[Settlement] = []
    for coin in coins:
        # Enough for the limit even if the oldest are wanted from the beginning.
        from_ms = until_ms - (limit + 1) * coin.funding_interval_ms
        from_ms = exchange.market.span_ms[0] if start_ms is not None else from_ms
        settled = exchange.market.settlements(
            coin.symbol, max(from_ms, start_ms or 0, exchange.market.span_ms[0]), until_ms + 1
        )
        found += settled[:limit] if start_ms is not None else settled[-limit:]
    found.sort(key=lambda item: item.time_ms)
    chosen = found[:limit] if start_ms is not None else found[-limit:]
    return [_funding_row(exchange, item) for item in chosen]


def funding_info(exchange: Exchange, query: Query) -> Any:
    """Answer with the contracts' funding intervals."""
    del query
    return [
        {
            "symbol": coin.symbol,
            "adjustedFundingRateCap": "0.00300000",
            "adjustedFundingRateFloor": "-0.00300000",
            "fundingIntervalHours": coin.funding_interval_ms // 3_600_000,
            "disclaimer": False,
        }
        for coin in _listed(exchange)
    ]


def day_ticker(exchange: Exchange, query: Query) -> Any:
    """Answer with the rolling day's summary."""
    now_ms, step_ms = exchange.clock_ms(), exchange.market.step_ms

    def row(coin: Coin) -> dict[str, Any] | None:
        start_ms = now_ms - DAY_MS
        day = exchange.publication.klines(
            coin.symbol, step_ms, now_ms, start_ms=start_ms, limit=DAY_MS // step_ms + 1
        )
        return dialect.day_ticker(coin, day, now_ms) if len(day) else None

    return _one_or_all(exchange, query, row)


def price_ticker(exchange: Exchange, query: Query) -> Any:
    """Answer with the last traded price."""
    now_ms = exchange.clock_ms()

    def row(coin: Coin) -> dict[str, Any] | None:
        price = exchange.publication.last_price(coin.symbol, now_ms)
        if price is None:
            return None
        text = dialect.price_text(coin, price)
        return {"symbol": coin.symbol, "price": text, "time": now_ms}

    return _one_or_all(exchange, query, row)


def book_ticker(exchange: Exchange, query: Query) -> Any:
    """Answer with best bid and ask."""
    now_ms = exchange.clock_ms()

    def row(coin: Coin) -> dict[str, Any] | None:
        price = exchange.publication.last_price(coin.symbol, now_ms)
        return None if price is None else dialect.book_row(coin, price, now_ms)

    return _one_or_all(exchange, query, row)


def trades(exchange: Exchange, query: Query) -> Any:
    """Answer with the newest public trades, oldest first."""
    coin = _coin(exchange, query)
    limit = _limit(query, 500, _TRADES_MAX)
    now_ms = exchange.clock_ms()
    after_ms = now_ms - (limit // 4 + 2) * exchange.market.step_ms
    after_ms = max(after_ms, exchange.market.span_ms[0] - 1)
    found = exchange.publication.prints(coin.symbol, after_ms, now_ms)[-limit:]
    return [dialect.trade_row(coin, item) for item in found]


def aggregate_trades(exchange: Exchange, query: Query) -> Any:
    """Answer with aggregated trades: the newest, or the oldest from `startTime` on."""
    coin = _coin(exchange, query)
    limit = _limit(query, 500, _TRADES_MAX)
    market, now_ms = exchange.market, exchange.clock_ms()
    start_ms, end_ms = _integer(query, "startTime"), _integer(query, "endTime")
    until_ms = now_ms if end_ms is None else min(now_ms, end_ms)
    window_ms = (limit // 4 + 2) * market.step_ms
    after_ms = until_ms - window_ms if start_ms is None else start_ms - 1
    after_ms = max(after_ms, market.span_ms[0] - 1)
    until_ms = until_ms if start_ms is None else min(until_ms, after_ms + window_ms)
    found = exchange.publication.prints(coin.symbol, after_ms, until_ms)
    chosen = found[-limit:] if start_ms is None else found[:limit]
    return [dialect.aggregate_row(coin, item) for item in chosen]


def system_status(exchange: Exchange, query: Query) -> Any:
    """Answer that the system works (a spot path that ccxt asks for futures too)."""
    del exchange, query
    return {"status": 0, "msg": "normal"}


ROUTES: Final[Mapping[str, Callable[[Exchange, Query], Any]]] = {
    "/fapi/v1/ping": ping,
    "/fapi/v1/time": server_time,
    "/fapi/v1/exchangeInfo": exchange_info,
    "/fapi/v1/klines": klines,
    **series.ROUTES,
    "/fapi/v1/premiumIndex": premium_index,
    "/fapi/v1/fundingRate": funding_rate,
    "/fapi/v1/fundingInfo": funding_info,
    "/fapi/v1/ticker/24hr": day_ticker,
    "/fapi/v1/ticker/price": price_ticker,
    "/fapi/v2/ticker/price": price_ticker,
    "/fapi/v1/ticker/bookTicker": book_ticker,
    "/fapi/v1/trades": trades,
    "/fapi/v1/aggTrades": aggregate_trades,
    "/sapi/v1/system/status": system_status,
}


def answer(exchange: Exchange, path: str, query: Query) -> str:
    """Answer one request as JSON text; raise DialectError as the venue would refuse it."""
    payload = ROUTES[path](exchange, query)
    return payload if isinstance(payload, str) else json.dumps(payload)


def weight_of(path: str, query: Query) -> int:
    """Give the request weight that the venue charges for an answer."""
    if path == "/fapi/v1/klines":
        limit = int(query["limit"]) if query.get("limit", "").isdigit() else 500
        return next((weight for most, weight in _KLINE_WEIGHTS if limit <= most), 10)
    if path == "/fapi/v1/ticker/24hr" and "symbol" not in query:
        return 40
    if path == "/fapi/v1/premiumIndex" and "symbol" not in query:
        return 10
    return {"/fapi/v1/trades": 5, "/fapi/v1/aggTrades": 20}.get(path, 1)


def _coin(exchange: Exchange, query: Query) -> Coin:
    symbol = query.get("symbol", "")
    if not symbol:
        raise dialect.missing("symbol")
    coin = exchange.listed(symbol)
    if coin is None:
        raise dialect.invalid_symbol()
    return coin


def _listed(exchange: Exchange) -> list[Coin]:
    now_ms = exchange.clock_ms()
    return [coin for coin in exchange.market.coins.values() if coin.lives_at(now_ms)]


def _one_or_all(
    exchange: Exchange, query: Query, row: Callable[[Coin], dict[str, Any] | None]
) -> Any:
    if "symbol" in query:
        found = row(_coin(exchange, query))
        return {} if found is None else found
    rows = [row(coin) for coin in _listed(exchange)]
    return [item for item in rows if item is not None]


def _funding_row(exchange: Exchange, settlement: Settlement) -> dict[str, Any]:
    price = exchange.publication.last_price(settlement.symbol, settlement.time_ms)
    return dialect.funding_row(settlement, price or 0.0)


def _integer(query: Query, name: str) -> int | None:
    if name not in query:
        return None
    try:
        return int(query[name])
    except ValueError:
        raise dialect.missing(name) from None


def _limit(query: Query, default: int, most: int) -> int:
    limit = _integer(query, "limit")
    if limit is None:
        return default
    if not 1 <= limit <= most:
        raise dialect.invalid_value("limit")
    return limit
