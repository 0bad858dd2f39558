"""Bars straight from the raw frames of venues whose words we know, before the client reads them.

The client's own way costs ten times as much a frame, drops the venue's "this bar is closed", and
keeps one row a bar, so that a burst is seen only in its last state. Other venues are read from the
client's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from daemon.domain.finality import BarValues


class RawBar(NamedTuple):
    """Hold what one frame says of one bar; names as the venue writes them.

    values: open, high, low, close, volume in base units, as they came. closed: the venue's word.
    told_ms: when it said so, 0 where its frames do not tell.
    """

    market_id: str
    interval: str
    open_ms: int
    values: BarValues
    closed: bool
    told_ms: int = 0


def _told_ms(message: Mapping[str, Any], field: str) -> int:
    """Give when the venue sent a frame; without that, rows cannot be ordered, and REST tells."""
    return int(message.get(field) or 0)


def _binance(message: Any) -> list[RawBar] | None:
    if not isinstance(message, dict) or message.get("e") != "kline":
        return None
    k = message["k"]
    prices = (float(k["o"]), float(k["h"]), float(k["l"]), float(k["c"]), float(k["v"]))
    return [RawBar(k["s"], k["i"], int(k["t"]), prices, k["x"] is True, _told_ms(message, "E"))]


def _bybit(message: Any) -> list[RawBar] | None:
    topic = message.get("topic") if isinstance(message, dict) else None
    if not isinstance(topic, str) or not topic.startswith("kline."):
        return None
    _, interval, market_id = topic.split(".")
    return [
        RawBar(
            market_id,
            interval,
            int(row["start"]),
            (
                float(row["open"]),
                float(row["high"]),
                float(row["low"]),
                float(row["close"]),
                float(row["volume"]),
            ),
            row["confirm"] is True,
            _told_ms(message, "ts"),
        )
        for row in message["data"]
    ]


def _okx(message: Any) -> list[RawBar] | None:
    argument = message.get("arg") if isinstance(message, dict) else None
    if not isinstance(argument, dict) or "data" not in message:
        return None
    channel = argument.get("channel")
    if not isinstance(channel, str) or not channel.startswith("candle"):
        return None
    interval, market_id = channel.removeprefix("candle"), argument["instId"]
    # the sixth field counts contracts, the seventh base units
    return [
        RawBar(
            market_id,
            interval,
            int(row[0]),
            (float(row[1]), float(row[2]), float(row[3]), float(row[4]), float(row[6])),
            row[8] == "1",
        )
        for row in message["data"]
    ]


FrameReader = Callable[[Any], list[RawBar] | None]

FRAME_READERS: Final[Mapping[str, FrameReader]] = {
    "binance": _binance,
    "binanceusdm": _binance,
    "bybit": _bybit,
    "okx": _okx,
}
"""Exchange id -> reader: the bars of a frame, None for one that is about something else.

What looks like bars and is not raises one of PAYLOAD_ERRORS.
"""
