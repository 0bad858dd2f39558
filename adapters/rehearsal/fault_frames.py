"""What faults do to the frames of a stream: each spoils one kline message, as text."""

from __future__ import annotations

import json
from typing import Any, Final

from adapters.rehearsal.faults import GARBAGE, Fault, FaultSwitch

FRAME_FAULTS: Final = (
    Fault.GARBAGE_FRAME,
    Fault.KLINE_NAN,
    Fault.KLINE_NULL,
    Fault.KLINE_TYPES,
    Fault.KLINE_NEGATIVE_VOLUME,
    Fault.KLINE_HIGH_BELOW_LOW,
    Fault.KLINE_OFF_GRID,
    Fault.KLINE_OTHER_SYMBOL,
)
NOBODYS_SYMBOL: Final = "NOBODYUSDT"
OFF_GRID_MS: Final = 1_234


def spoiled_frame(faults: FaultSwitch, symbol: str, text: str) -> str:
    """Give a frame as it goes out: true unless a fault strikes it."""
    strike = faults.take(*FRAME_FAULTS, symbol=symbol)
    if strike is None:
        return text
    if strike.fault is Fault.GARBAGE_FRAME:
        return GARBAGE
    message = json.loads(text)
    if isinstance(message, dict) and isinstance(message.get("k"), dict):
        _spoil(strike.fault, message, message["k"])
    return json.dumps(message)


def _spoil(fault: Fault, message: dict[str, Any], kline: dict[str, Any]) -> None:
    match fault:
        case Fault.KLINE_NAN:
            kline["c"] = "NaN"
        case Fault.KLINE_NULL:
            kline["o"] = kline["v"] = None
        case Fault.KLINE_TYPES:
            kline["h"], kline["l"], kline["c"] = [1], {"l": 1}, True
        case Fault.KLINE_NEGATIVE_VOLUME:
            kline["v"] = f"-{kline['v']}"
        case Fault.KLINE_HIGH_BELOW_LOW:
            kline["h"], kline["l"] = kline["l"], kline["h"]
            kline["c"] = f"{float(kline['c']) * 2:.4f}"
        case Fault.KLINE_OFF_GRID:
            kline["t"] += OFF_GRID_MS
        case _:
            message["s"] = kline["s"] = NOBODYS_SYMBOL
