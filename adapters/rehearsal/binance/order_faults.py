"""What faults do to orders on their way in, and to the answers on their way out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from adapters.rehearsal.binance.refusals import error
from adapters.rehearsal.fault_answers import broken_off
from adapters.rehearsal.faults import Fault, FaultSwitch

_JSON: Final = "application/json"
PAGE: Final = "<html><head><title>One moment</title></head><body>Please wait.</body></html>"
_ORDER: Final = "GET /fapi/v1/order"
_FILLS: Final = "GET /fapi/v1/userTrades"
_HANG_S: Final = 3_600.0
_REFUSALS: Final = (Fault.ORDER_REFUSED_503, Fault.ORDER_REFUSED_429, Fault.ORDER_REFUSED_418)
_LOSSES: Final = (
    Fault.ORDER_LOST_RESET,
    Fault.ORDER_LOST_HANG,
    Fault.ORDER_LOST_503,
    Fault.ORDER_LOST_CUT,
    Fault.ORDER_LOST_NOT_JSON,
)
_OVERLOADED: Final = {"code": -1008, "msg": "Request throttled by system-level protection."}
_BUSY: Final = {"code": -1003, "msg": "Too many requests; please slow down."}
_NOBODY_KNOWS: Final = {
    "code": -1007,
    "msg": "Timeout waiting for response from backend server. Send status unknown; "
    "execution status unknown.",
}


def refuse_order(faults: FaultSwitch, symbol: str) -> web.Response | None:
    """Give the answer to an order that the venue never sees, if a fault is due."""
    strike = faults.take(*_REFUSALS, symbol=symbol)
    if strike is None:
        return None
    if strike.fault is Fault.ORDER_REFUSED_503:
        return _answer(503, _OVERLOADED)
    status = 429 if strike.fault is Fault.ORDER_REFUSED_429 else 418
    return _answer(status, _BUSY, {"Retry-After": f"{strike.seconds:g}"})


async def lost_answer(
    faults: FaultSwitch,
    symbol: str,
    request: web.Request,
    text: str,
    flush: Callable[[], Awaitable[None]],
) -> web.StreamResponse | None:
    """Give what comes instead of an accepted order's answer `text`, if a fault is due.

    The user stream speaks all the same: `flush` lets it.
    """
    strike = faults.take(*_LOSSES, symbol=symbol)
    if strike is None:
        return None
    await flush()
    match strike.fault:
        case Fault.ORDER_LOST_RESET:
            cut(request)
            return web.Response(status=503)
        case Fault.ORDER_LOST_HANG:
            await asyncio.sleep(_HANG_S)
            return web.Response(status=503)
        case Fault.ORDER_LOST_CUT:
            return await broken_off(request, text)
        case Fault.ORDER_LOST_NOT_JSON:
            return web.Response(text=PAGE, content_type="text/html")
        case _:
            return _answer(503, _NOBODY_KNOWS)


def unlisted(faults: FaultSwitch, name: str, symbol: str, text: str) -> str:
    """Give the answer of a copy that does not know yet, if a fault is due; else `text`.

    Raises the venue's refusal for an order that this copy does not have.
    """
    if name == _ORDER and faults.takes(Fault.ORDER_UNLISTED, symbol=symbol):
        raise error(-2013, "Order does not exist.")
    lacks = name == _FILLS and text != "[]" and faults.takes(Fault.FILLS_UNLISTED, symbol=symbol)
    return "[]" if lacks else text


def cut(request: web.Request) -> None:
    """Cut a connection without a word."""
    if request.transport is not None:
        request.transport.abort()


def _answer(
    status: int, body: dict[str, object], headers: dict[str, str] | None = None
) -> web.Response:
    return web.Response(status=status, text=json.dumps(body), content_type=_JSON, headers=headers)
