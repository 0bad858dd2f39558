"""What faults do to Bybit's payloads: the same faults as elsewhere, on other shapes."""

from __future__ import annotations

import json
from typing import Any, Final

from aiohttp import web

from adapters.rehearsal.bybit.answers import BybitError
from adapters.rehearsal.fault_answers import refused
from adapters.rehearsal.fault_frames import FRAME_FAULTS, NOBODYS_SYMBOL, OFF_GRID_MS
from adapters.rehearsal.faults import Fault, FaultSwitch

GARBAGE: Final = '{"topic":"kline.30.BTCUSDT","data":[{"start":17'
_OWN_WORDS: Final = (Fault.HTTP_429, Fault.HTTP_418, Fault.MAINTENANCE)
_KLINES: Final = (Fault.EMPTY_LIST_200, Fault.LAGGING_200, Fault.DIFFERING_ROW_200)
_ROWS_LACKED: Final = 2
_VOLUME: Final = 5


def replaced(faults: FaultSwitch, symbol: str, now_ms: int) -> web.Response | None:
    """Give the faulty answer that replaces the next one, if one is due."""
    strike = faults.take(*_OWN_WORDS, symbol=symbol)
    if strike is None:
        return refused(faults, symbol)
    match strike.fault:
        case Fault.HTTP_429:
            error = BybitError(10006, "Too many visits. Exceeded the API Rate Limit.")
            reset_ms = now_ms + round(strike.seconds * 1000)
            headers = {
                "X-Bapi-Limit": "0",
                "X-Bapi-Limit-Status": "0",
                "X-Bapi-Limit-Reset-Timestamp": str(reset_ms),
            }
            text = error.body(now_ms)
            return web.Response(text=text, content_type="application/json", headers=headers)
        case Fault.MAINTENANCE:
            text = BybitError(10016, "System error. Service is restarting.").body(now_ms)
            return web.Response(status=503, text=text, content_type="application/json")
        case _:
            return web.Response(status=403, text="access too frequent, please try again later")


def spoiled_frame(faults: FaultSwitch, symbol: str, text: str) -> str:
    """Give a frame as it goes out: true unless a fault strikes it."""
    strike = faults.take(*FRAME_FAULTS, symbol=symbol)
    if strike is None:
        return text
    if strike.fault is Fault.GARBAGE_FRAME:
        return GARBAGE
    message = json.loads(text)
    if str(message.get("topic", "")).startswith("kline."):
        _spoil(strike.fault, message, message["data"][0])
    return json.dumps(message)


def _spoil(fault: Fault, message: dict[str, Any], kline: dict[str, Any]) -> None:
    match fault:
        case Fault.KLINE_NAN:
            kline["close"] = "NaN"
        case Fault.KLINE_NULL:
            kline["open"] = kline["volume"] = None
        case Fault.KLINE_TYPES:
            kline["high"], kline["low"], kline["close"] = [1], {"l": 1}, True
        case Fault.KLINE_NEGATIVE_VOLUME:
            kline["volume"] = f"-{kline['volume']}"
        case Fault.KLINE_HIGH_BELOW_LOW:
            kline["high"], kline["low"] = kline["low"], kline["high"]
            kline["close"] = f"{float(kline['close']) * 2:.4f}"
        case Fault.KLINE_OFF_GRID:
            kline["start"] += OFF_GRID_MS
        case _:
            start = message["topic"].rpartition(".")[0]
            message["topic"] = f"{start}.{NOBODYS_SYMBOL}"


def spoiled_answer(faults: FaultSwitch, path: str, symbol: str, text: str) -> str:
    """Give a body as it goes out: true unless a fault changes what it says."""
    if path == "/v5/market/kline":
        strike = faults.take(*_KLINES, symbol=symbol)
        if strike is not None:
            text = _with_rows(text, strike.fault)
    elif path == "/v5/market/instruments-info" and faults.takes(Fault.EMPTY_EXCHANGE_INFO):
        body = json.loads(text)
        body["result"]["list"] = []
        text = json.dumps(body)
    elif path == "/v5/market/time":
        strike = faults.take(Fault.CLOCK_JUMP)
        if strike is not None:
            text = _jumped(text, round(strike.seconds * 1000))
    return text[: len(text) // 2] if faults.takes(Fault.CUT_JSON_200, symbol=symbol) else text


def _with_rows(text: str, fault: Fault) -> str:
    """Change the rows of an answer, the running one first, as a bad copy of them would."""
    body = json.loads(text)
    rows = body["result"]["list"]
    if fault is Fault.EMPTY_LIST_200:
        rows = []
    elif fault is Fault.LAGGING_200:
        rows = rows[_ROWS_LACKED:]
    elif len(rows) > 1:
        rows[1][_VOLUME] = f"{float(rows[1][_VOLUME]) + 1.0:.3f}"
    body["result"]["list"] = rows
    return json.dumps(body)


def _jumped(text: str, by_ms: int) -> str:
    body = json.loads(text)
    now_ms = body["time"] + by_ms
    body["time"] = now_ms
    body["result"] = {"timeSecond": str(now_ms // 1000), "timeNano": str(now_ms * 10**6)}
    return json.dumps(body)
