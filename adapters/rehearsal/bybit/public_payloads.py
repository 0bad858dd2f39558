"""Bybit's public payloads: values to texts, pure functions.

Times are milliseconds, as texts in REST answers and as numbers on sockets, like the venue has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from adapters.rehearsal.dialect import (
    DELISTING_NOTICE_MS,
    INTERVALS_MS,
    price_text,
    quantity_text,
)
from adapters.rehearsal.market import LOTS_MAX, MARKET_LOTS_MAX, Coin, Settlement
from adapters.rehearsal.publication import Kline, Klines, Print
from daemon.domain.units import MINUTE_MS

CATEGORY: Final = "linear"
INTERVALS: Final[Mapping[str, str]] = {
    # the venue's name of an interval -> ours
    **{str(INTERVALS_MS[one] // MINUTE_MS): one for one in INTERVALS_MS if one != "1d"},
    "D": "1d",
}
VENUE_INTERVALS: Final[Mapping[str, str]] = {ours: theirs for theirs, ours in INTERVALS.items()}


def instrument(coin: Coin, now_ms: int, leverage_max: int) -> dict[str, Any]:
    """Write a contract and its trading rules; an end is told `DELISTING_NOTICE_MS` before."""
    end_ms = coin.delisted_ms
    told = end_ms is not None and now_ms >= end_ms - DELISTING_NOTICE_MS
    quote = coin.symbol.removeprefix(coin.base)
    return {
        "symbol": coin.symbol,
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": coin.base,
        "quoteCoin": quote,
        "launchTime": str(coin.listed_ms),
        "deliveryTime": str(end_ms if told else 0),
        "deliveryFeeRate": "",
        "priceScale": str(coin.price_decimals or 0),
        "leverageFilter": {
            "minLeverage": "1",
            "maxLeverage": f"{leverage_max}.00",
            "leverageStep": "0.01",
        },
        "priceFilter": {
            "minPrice": coin.price_step,
            "maxPrice": _plain(float(coin.price_step) * LOTS_MAX),
            "tickSize": coin.price_step,
        },
        "lotSizeFilter": {
            "maxOrderQty": _plain(float(coin.quantity_step) * LOTS_MAX),
            "minOrderQty": coin.quantity_step,
            "qtyStep": coin.quantity_step,
            "postOnlyMaxOrderQty": _plain(float(coin.quantity_step) * LOTS_MAX),
            "maxMktOrderQty": _plain(float(coin.quantity_step) * MARKET_LOTS_MAX),
            "minNotionalValue": coin.notional_min_usdt,
        },
        "unifiedMarginTrade": True,
        "fundingInterval": coin.funding_interval_ms // MINUTE_MS,
        "settleCoin": quote,
        "copyTrading": "none",
        "upperFundingRate": "0.003",
        "lowerFundingRate": "-0.003",
        "isPreListing": False,
        "preListingInfo": None,
    }


def kline_rows(coin: Coin, klines: Klines, *, volumes: bool = True) -> list[list[str]]:
    """Write klines as rows of seven texts, or five without volumes, newest first."""
    columns = (klines.open, klines.high, klines.low, klines.close)
    prices = zip(*(column.tolist() for column in columns), strict=True)
    turnover = (klines.volume * sum(columns) / len(columns)).tolist()
    rows = []
    for at, four, volume, quote in zip(
        klines.open_ms.tolist(), prices, klines.volume.tolist(), turnover, strict=True
    ):
        row = [str(at), *(price_text(coin, price) for price in four)]
        rows.append([*row, quantity_text(coin, volume), f"{quote:.8f}"] if volumes else row)
    return rows[::-1]


def kline_event(coin: Coin, kline: Kline, *, interval: str, event_ms: int, closed: bool) -> str:
    """Write a kline as a stream message; `confirm` says whether it is over."""
    name = VENUE_INTERVALS[interval]
    average = (kline.open + kline.high + kline.low + kline.close) / 4
    prices = (
        f'"open":"{price_text(coin, kline.open)}","close":"{price_text(coin, kline.close)}",'
        f'"high":"{price_text(coin, kline.high)}","low":"{price_text(coin, kline.low)}"'
    )
    return (
        f'{{"topic":"kline.{name}.{coin.symbol}","data":[{{"start":{kline.open_ms},'
        f'"end":{kline.open_ms + kline.interval_ms - 1},"interval":"{name}",{prices},'
        f'"volume":"{quantity_text(coin, kline.volume)}",'
        f'"turnover":"{kline.volume * average:.8f}",'
        f'"confirm":{"true" if closed else "false"},"timestamp":{event_ms}}}],'
        f'"ts":{event_ms},"type":"snapshot"}}'
    )


def public_trade_id(trade: Print) -> str:
    """Give a public trade the shape of the venue's ids."""
    return f"7a4d0000-0000-5000-8000-{trade.trade_id % 16**12:012x}"


def trade_event(coin: Coin, trade: Print, event_ms: int) -> dict[str, Any]:
    """Write a public trade as a stream message."""
    data = {
        "T": trade.time_ms,
        "s": coin.symbol,
        "S": taker_side(trade),
        "v": quantity_text(coin, trade.quantity),
        "p": price_text(coin, trade.price),
        "L": "MinusTick" if trade.buyer_is_maker else "PlusTick",
        "i": public_trade_id(trade),
        "BT": False,
        "RPI": False,
        "seq": trade.trade_id,
    }
    topic = f"publicTrade.{coin.symbol}"
    return {"topic": topic, "type": "snapshot", "ts": event_ms, "data": [data]}


def trade_row(coin: Coin, trade: Print) -> dict[str, Any]:
    """Write a public trade as the REST answer has it."""
    return {
        "execId": public_trade_id(trade),
        "symbol": coin.symbol,
        "price": price_text(coin, trade.price),
        "size": quantity_text(coin, trade.quantity),
        "side": taker_side(trade),
        "time": str(trade.time_ms),
        "isBlockTrade": False,
        "isRPITrade": False,
        "seq": str(trade.trade_id),
    }


def taker_side(trade: Print) -> str:
    """Give the side of who took."""
    return "Sell" if trade.buyer_is_maker else "Buy"


def ticker(
    coin: Coin, price: float, rate: float, next_ms: int, day: Klines, interest: float
) -> dict[str, Any]:
    """Write a contract's summary; the index lies away from the mark by the rate foreseen.

    day: the base klines of the last 24 hours, oldest first, not empty. interest: in base units.
    """
    step, opened = float(coin.price_step), float(day.open[0])
    turnover = float(np.sum(day.volume * (day.open + day.high + day.low + day.close) / 4))
    lots = quantity_text(coin, 10 * float(coin.quantity_step))
    return {
        "symbol": coin.symbol,
        "tickDirection": "PlusTick" if price >= opened else "MinusTick",
        "lastPrice": price_text(coin, price),
        "indexPrice": f"{price / (1.0 + rate):.8f}",
        "markPrice": f"{price:.8f}",
        "prevPrice24h": price_text(coin, opened),
        "price24hPcnt": f"{price / opened - 1:.6f}",
        "highPrice24h": price_text(coin, float(day.high.max())),
        "lowPrice24h": price_text(coin, float(day.low.min())),
        "openInterest": f"{interest:.8f}",
        "openInterestValue": f"{interest * price:.8f}",
        "turnover24h": f"{turnover:.4f}",
        "volume24h": quantity_text(coin, float(day.volume.sum())),
        "fundingRate": f"{rate:.8f}",
        "nextFundingTime": str(next_ms),
        "fundingIntervalHour": str(coin.funding_interval_ms // (60 * MINUTE_MS)),
        "bid1Price": price_text(coin, max(step, price - step)),
        "bid1Size": lots,
        "ask1Price": price_text(coin, price + step),
        "ask1Size": lots,
    }


def funding_row(settlement: Settlement) -> dict[str, str]:
    """Write one row of the funding history."""
    return {
        "symbol": settlement.symbol,
        "fundingRate": f"{settlement.rate:.8f}",
        "fundingRateTimestamp": str(settlement.time_ms),
    }


def _plain(number: float) -> str:
    """Write a number without an exponent."""
    return f"{number:.0f}"
