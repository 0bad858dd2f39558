"""Raw frames of the venues whose words we know: each field in its place, others left alone."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.exchange.failures import PAYLOAD_ERRORS
from adapters.exchange.frames import FRAME_READERS, RawBar

T0 = 1_700_000_000_000
PRICES = (10.0, 12.0, 9.0, 11.0, 345.5)
BINANCE: dict[str, Any] = {
    "e": "kline",
    "s": "BTCUSDT",
    "k": {
        "t": T0,
        "T": T0 + 1_799_999,
        "s": "BTCUSDT",
        "i": "30m",
        "o": "10.0",
        "h": "12.0",
        "l": "9.0",
        "c": "11.0",
        "v": "345.5",
        "q": "3800.0",
        "x": True,
    },
}
BYBIT_ROW: dict[str, Any] = {
    "start": T0,
    "open": "10",
    "high": "12",
    "low": "9",
    "close": "11",
    "volume": "345.5",
    "turnover": "3800",
    "confirm": True,
}
OKX_ROW = [str(T0), "10", "12", "9", "11", "34550", "345.5", "3800", "1"]


def test_binance() -> None:
    read = FRAME_READERS["binanceusdm"]
    assert read(BINANCE) == [RawBar("BTCUSDT", "30m", T0, PRICES, True)]
    running = {**BINANCE, "k": {**BINANCE["k"], "x": False}}
    assert read(running) == [RawBar("BTCUSDT", "30m", T0, PRICES, False)]
    assert FRAME_READERS["binance"] is read


def test_bybit_gives_each_row() -> None:
    second = {**BYBIT_ROW, "start": T0 + 1_800_000, "confirm": False}
    frame = {"topic": "kline.30.BTCUSDT", "data": [BYBIT_ROW, second]}
    assert FRAME_READERS["bybit"](frame) == [
        RawBar("BTCUSDT", "30", T0, PRICES, True),
        RawBar("BTCUSDT", "30", T0 + 1_800_000, PRICES, False),
    ]


def test_a_frame_tells_when_it_was_said_where_the_venue_does() -> None:
    (said,) = FRAME_READERS["binanceusdm"]({**BINANCE, "E": T0 + 5}) or []
    assert said.told_ms == T0 + 5
    frame = {"topic": "kline.30.BTCUSDT", "data": [BYBIT_ROW], "ts": T0 + 6}
    (said,) = FRAME_READERS["bybit"](frame) or []
    assert said.told_ms == T0 + 6


def test_okx_counts_base_units_and_not_contracts() -> None:
    frame = {"arg": {"channel": "candle30m", "instId": "BTC-USDT-SWAP"}, "data": [OKX_ROW]}
    assert FRAME_READERS["okx"](frame) == [RawBar("BTC-USDT-SWAP", "30m", T0, PRICES, True)]


@pytest.mark.parametrize("venue", FRAME_READERS)
@pytest.mark.parametrize(
    "other",
    [
        {"result": None, "id": 1},
        {"e": "aggTrade", "s": "BTCUSDT"},
        {"topic": "publicTrade.BTCUSDT", "data": []},
        {"op": "subscribe", "success": True},
        {"event": "subscribe", "arg": {"channel": "candle30m", "instId": "BTC-USDT-SWAP"}},
        {"arg": {"channel": "trades", "instId": "BTC-USDT-SWAP"}, "data": []},
        [],
        "pong",
        None,
    ],
)
def test_frames_about_other_things_are_left_to_the_client(venue: str, other: object) -> None:
    assert FRAME_READERS[venue](other) is None


@pytest.mark.parametrize(
    ("venue", "broken"),
    [
        ("binanceusdm", {"e": "kline", "k": {**BINANCE["k"], "o": "ten"}}),
        ("binanceusdm", {"e": "kline"}),
        ("binanceusdm", {"e": "kline", "k": None}),
        ("bybit", {"topic": "kline.30.BTCUSDT", "data": [{**BYBIT_ROW, "low": None}]}),
        ("bybit", {"topic": "kline.BTCUSDT", "data": []}),
        ("okx", {"arg": {"channel": "candle30m", "instId": "X"}, "data": [OKX_ROW[:5]]}),
    ],
)
def test_what_looks_like_bars_and_is_none_raises_what_the_client_counts(
    venue: str, broken: object
) -> None:
    with pytest.raises(PAYLOAD_ERRORS):
        FRAME_READERS[venue](broken)
