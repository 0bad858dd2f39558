"""Binance USDM futures' public dialect: values to payloads, pure functions.

Field names and shapes follow the venue's REST and WebSocket documents as far as the public half
goes. Texts of numbers are written here, and only here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import numpy as np

from adapters.rehearsal.market import (
    LOTS_MAX,
    MARKET_LOTS_MAX,
    Coin,
    FloatArray,
    Settlement,
)
from adapters.rehearsal.publication import PRINTS_PER_STEP, Kline, Klines, Print
from daemon.domain.units import DAY_MS, HOUR_MS, MINUTE_MS

INTERVALS_MS: Final[Mapping[str, int]] = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": 24 * HOUR_MS,
}
PERPETUAL_DELIVERY_MS: Final = 4_133_404_800_000
DELISTING_NOTICE_MS: Final = 2 * DAY_MS  # an end is told so long before it comes
_INTEREST_RATE: Final = "0.00010000"


class DialectError(Exception):
    """Carry an error as the venue words it: HTTP status, code and message."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def body(self) -> str:
        """Write the error's JSON body."""
        return json.dumps({"code": self.code, "msg": self.message})


def invalid_symbol() -> DialectError:
    """Give the answer to a symbol that does not exist."""
    return DialectError(400, -1121, "Invalid symbol.")


def missing(parameter: str) -> DialectError:
    """Give the answer to a mandatory parameter that was not sent or cannot be read."""
    text = f"Mandatory parameter '{parameter}' was not sent, was empty/null, or malformed."
    return DialectError(400, -1102, text)


def invalid_interval() -> DialectError:
    """Give the answer to an interval that the venue does not have."""
    return DialectError(400, -1120, "Invalid interval.")


def invalid_value(parameter: str) -> DialectError:
    """Give the answer to a parameter out of its range."""
    return DialectError(400, -1130, f"Data sent for parameter '{parameter}' is not valid.")


def too_many_requests(limit: int) -> DialectError:
    """Give the answer to a client that has spent its request weight."""
    text = f"Too many requests; current limit is {limit} request weight per 1 MINUTE."
    return DialectError(429, -1003, text)


def price_text(coin: Coin, price: float) -> str:
    """Write a price so that reading it back gives the same float."""
    return _text(price, coin.price_decimals)


def quantity_text(coin: Coin, quantity: float) -> str:
    """Write a quantity so that reading it back gives the same float."""
    return _text(quantity, coin.quantity_decimals)


def kline_rows(coin: Coin, klines: Klines) -> str:
    """Write klines as the REST answer: a JSON list of rows of twelve."""
    return "[" + ",".join(_rows(coin, klines)) + "]"


def _rows(coin: Coin, klines: Klines) -> Iterable[str]:
    price, lot = _pattern(coin.price_decimals), _pattern(coin.quantity_decimals)
    row = f'[%d,"{price}","{price}","{price}","{price}","{lot}",%d,"%.5f",%d,"{lot}","%.5f","0"]'
    quote, taker, taker_quote = _derived(klines)
    columns = (klines.open, klines.high, klines.low, klines.close, klines.volume)
    prices = [column.tolist() for column in columns]
    opens = klines.open_ms.tolist()
    takers = taker.tolist()
    count = trades_of(klines.interval_ms)
    return (
        row % (at, o, h, lo, c, v, at + klines.interval_ms - 1, q, count, t, tq)
        for at, o, h, lo, c, v, q, t, tq in zip(
            opens, *prices, quote.tolist(), takers, taker_quote.tolist(), strict=True
        )
    )


def kline_event(coin: Coin, kline: Kline, *, interval: str, event_ms: int, closed: bool) -> str:
    """Write a kline as a stream message; `closed` is the flag x."""
    price, lot = _pattern(coin.price_decimals), _pattern(coin.quantity_decimals)
    quote = kline.volume * (kline.open + kline.high + kline.low + kline.close) / 4
    spread = kline.high - kline.low
    share = _taker_share((kline.close - kline.low) / spread if spread > 0 else 0.5)
    open_ms, count = kline.open_ms, trades_of(kline.interval_ms)
    first = open_ms // MINUTE_MS * PRINTS_PER_STEP
    prices = f'"o":"{price}","c":"{price}","h":"{price}","l":"{price}"' % (
        kline.open,
        kline.close,
        kline.high,
        kline.low,
    )
    volume, taker = lot % kline.volume, lot % (kline.volume * share)
    return (
        f'{{"e":"kline","E":{event_ms},"s":"{coin.symbol}","k":{{"t":{open_ms},'
        f'"T":{open_ms + kline.interval_ms - 1},"s":"{coin.symbol}","i":"{interval}",'
        f'"f":{first},"L":{first + count - 1},{prices},"v":"{volume}","n":{count},'
        f'"x":{"true" if closed else "false"},"q":"{quote:.5f}","V":"{taker}",'
        f'"Q":"{quote * share:.5f}","B":"0"}}}}'
    )


def trades_of(interval_ms: int) -> int:
    """Give the number of trades that a kline reports."""
    return PRINTS_PER_STEP * max(1, interval_ms // (5 * MINUTE_MS))


def trade_event(coin: Coin, trade: Print, *, event_ms: int, aggregate: bool) -> str:
    """Write a trade as a stream message, as `trade` or as `aggTrade`."""
    common = {
        "E": event_ms,
        "s": coin.symbol,
        "p": price_text(coin, trade.price),
        "q": quantity_text(coin, trade.quantity),
        "T": trade.time_ms,
        "m": trade.buyer_is_maker,
    }
    number = trade.trade_id
    if aggregate:
        return json.dumps({"e": "aggTrade", "a": number, "f": number, "l": number, **common})
    return json.dumps({"e": "trade", "t": number, "X": "MARKET", **common})


def trade_row(coin: Coin, trade: Print) -> dict[str, Any]:
    """Write a trade as the REST answer has it."""
    return {
        "id": trade.trade_id,
        "price": price_text(coin, trade.price),
        "qty": quantity_text(coin, trade.quantity),
        "quoteQty": f"{trade.price * trade.quantity:.5f}",
        "time": trade.time_ms,
        "isBuyerMaker": trade.buyer_is_maker,
    }


def aggregate_row(coin: Coin, trade: Print) -> dict[str, Any]:
    """Write an aggregated trade as the REST answer has it; each holds one trade here."""
    return {
        "a": trade.trade_id,
        "p": price_text(coin, trade.price),
        "q": quantity_text(coin, trade.quantity),
        "f": trade.trade_id,
        "l": trade.trade_id,
        "T": trade.time_ms,
        "m": trade.buyer_is_maker,
    }


def mark_event(coin: Coin, price: float, rate: float, next_ms: int, event_ms: int) -> str:
    """Write a mark price message with the funding rate that is due next."""
    return json.dumps(
        {
            "e": "markPriceUpdate",
            "E": event_ms,
            "s": coin.symbol,
            "p": f"{price:.8f}",
            "i": f"{price:.8f}",
            "P": f"{price:.8f}",
            "r": f"{rate:.8f}",
            "T": next_ms,
        }
    )


def premium_row(coin: Coin, price: float, rate: float, next_ms: int, now_ms: int) -> dict[str, Any]:
    """Write a premiumIndex answer; the index lies away from the mark by the rate foreseen."""
    return {
        "symbol": coin.symbol,
        "markPrice": f"{price:.8f}",
        "indexPrice": f"{price / (1.0 + rate):.8f}",
        "estimatedSettlePrice": f"{price:.8f}",
        "lastFundingRate": f"{rate:.8f}",
        "interestRate": _INTEREST_RATE,
        "nextFundingTime": next_ms,
        "time": now_ms,
    }


def funding_row(settlement: Settlement, price: float) -> dict[str, Any]:
    """Write one row of the funding history."""
    return {
        "symbol": settlement.symbol,
        "fundingTime": settlement.time_ms,
        "fundingRate": f"{settlement.rate:.8f}",
        "markPrice": f"{price:.8f}",
    }


def book_row(coin: Coin, price: float, now_ms: int) -> dict[str, Any]:
    """Write best bid and ask, one step around the last price."""
    step = float(coin.price_step)
    return {
        "symbol": coin.symbol,
        "bidPrice": price_text(coin, max(step, price - step)),
        "bidQty": quantity_text(coin, 10 * float(coin.quantity_step)),
        "askPrice": price_text(coin, price + step),
        "askQty": quantity_text(coin, 10 * float(coin.quantity_step)),
        "time": now_ms,
        "lastUpdateId": now_ms,
    }


def book_event(coin: Coin, price: float, event_ms: int) -> str:
    """Write best bid and ask as a stream message."""
    row = book_row(coin, price, event_ms)
    return json.dumps(
        {
            "e": "bookTicker",
            "u": event_ms,
            "E": event_ms,
            "T": event_ms,
            "s": coin.symbol,
            "b": row["bidPrice"],
            "B": row["bidQty"],
            "a": row["askPrice"],
            "A": row["askQty"],
        }
    )


def day_ticker(coin: Coin, day: Klines, now_ms: int) -> dict[str, Any]:
    """Write the rolling day's summary from the day's klines, oldest first."""
    opened, last = float(day.open[0]), float(day.close[-1])
    quote, _, _ = _derived(day)
    volume = float(day.volume.sum())
    average = float(quote.sum()) / volume if volume else last
    count = PRINTS_PER_STEP * len(day)
    return {
        "symbol": coin.symbol,
        "priceChange": price_text(coin, last - opened),
        "priceChangePercent": f"{100 * (last / opened - 1):.3f}",
        "weightedAvgPrice": price_text(coin, average),
        "lastPrice": price_text(coin, last),
        "lastQty": quantity_text(coin, float(day.volume[-1]) / PRINTS_PER_STEP),
        "openPrice": price_text(coin, opened),
        "highPrice": price_text(coin, float(day.high.max())),
        "lowPrice": price_text(coin, float(day.low.min())),
        "volume": quantity_text(coin, volume),
        "quoteVolume": f"{float(quote.sum()):.5f}",
        "openTime": int(day.open_ms[0]),
        "closeTime": now_ms,
        "firstId": int(day.open_ms[0]) // MINUTE_MS,
        "lastId": int(day.open_ms[0]) // MINUTE_MS + count - 1,
        "count": count,
    }


def exchange_info(
    coins: Iterable[Coin], now_ms: int, weight_limit: int, price_band: Decimal
) -> dict[str, Any]:
    """Write the contract list as seen at `now_ms`: coins not yet listed are not in it.

    price_band: how far a limit may lie on the taking side, as a fraction of the price.
    """
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [
            {
                "rateLimitType": "REQUEST_WEIGHT",
                "interval": "MINUTE",
                "intervalNum": 1,
                "limit": weight_limit or 2400,
            },
            {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
        ],
        "exchangeFilters": [],
        "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
        "symbols": [
            _contract(coin, now_ms, price_band) for coin in coins if coin.listed_ms <= now_ms
        ],
    }


def _contract(coin: Coin, now_ms: int, price_band: Decimal) -> dict[str, Any]:
    delivery_ms = PERPETUAL_DELIVERY_MS
    if coin.delisted_ms is not None and now_ms >= coin.delisted_ms - DELISTING_NOTICE_MS:
        delivery_ms = coin.delisted_ms
    quote = coin.symbol.removeprefix(coin.base)
    return {
        "symbol": coin.symbol,
        "pair": coin.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": delivery_ms,
        "onboardDate": coin.listed_ms,
        "status": "TRADING" if coin.lives_at(now_ms) else "SETTLING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": coin.base,
        "quoteAsset": quote,
        "marginAsset": quote,
        # As at the venue, these two are not the step sizes and must not be used as such.
        "pricePrecision": min(8, (coin.price_decimals or 0) + 1),
        "quantityPrecision": coin.quantity_decimals or 0,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": _filters(coin, price_band),
        "orderTypes": [
            "LIMIT",
            "MARKET",
            "STOP",
            "STOP_MARKET",
            "TAKE_PROFIT",
            "TAKE_PROFIT_MARKET",
            "TRAILING_STOP_MARKET",
        ],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
    }


def _filters(coin: Coin, price_band: Decimal) -> list[dict[str, Any]]:
    lots_max = f"{float(coin.quantity_step) * LOTS_MAX:g}"
    market_max = f"{float(coin.quantity_step) * MARKET_LOTS_MAX:g}"
    lot = {"stepSize": coin.quantity_step, "minQty": coin.quantity_step}
    return [
        {
            "filterType": "PRICE_FILTER",
            "tickSize": coin.price_step,
            "minPrice": coin.price_step,
            "maxPrice": f"{float(coin.price_step) * LOTS_MAX:g}",
        },
        {"filterType": "LOT_SIZE", "maxQty": _plain(lots_max), **lot},
        {"filterType": "MARKET_LOT_SIZE", "maxQty": _plain(market_max), **lot},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": 10},
        {"filterType": "MIN_NOTIONAL", "notional": coin.notional_min_usdt},
        {
            "filterType": "PERCENT_PRICE",
            "multiplierUp": f"{1 + price_band:.4f}",
            "multiplierDown": f"{1 - price_band:.4f}",
            "multiplierDecimal": "4",
        },
    ]


def _plain(number: str) -> str:
    """Write a number without an exponent."""
    return f"{float(number):.0f}"


def _text(number: float, decimals: int | None) -> str:
    return repr(number) if decimals is None else f"{number:.{decimals}f}"


def _pattern(decimals: int | None) -> str:
    return "%r" if decimals is None else f"%.{decimals}f"


def _taker_share(place: float) -> float:
    """Give the takers' share of buying: 35 % if the bar closed at its low, 65 % at its high."""
    return 0.35 + 0.3 * place


def _derived(klines: Klines) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Estimate turnover and the takers' buying from the bars: (quote, taker, taker quote)."""
    typical = (klines.open + klines.high + klines.low + klines.close) / 4
    spread = klines.high - klines.low
    place = np.divide(
        klines.close - klines.low, spread, out=np.full(len(klines), 0.5), where=spread > 0
    )
    quote = klines.volume * typical
    share = 0.35 + 0.3 * place
    return quote, klines.volume * share, quote * share
