"""What faults do to Bybit's private requests: orders never seen, answers lost, clocks called off.

What is the same at every venue (resets, hangs, cut bodies, gateway pages) is in the other dialect's
`order_faults`; here are the venue's own words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from adapters.rehearsal.binance.order_faults import PAGE, lost_answer
from adapters.rehearsal.bybit.answers import BybitError
from adapters.rehearsal.fault_answers import broken_off
from adapters.rehearsal.faults import Fault, FaultSwitch

PLACING: Final = frozenset({"/v5/order/create", "/v5/order/create-batch"})
_POSITIONS: Final = "/v5/position/list"
_LISTS: Final[Mapping[str, Fault]] = {
    "/v5/order/realtime": Fault.ORDER_UNLISTED,
    "/v5/order/history": Fault.ORDER_UNLISTED,
    "/v5/execution/list": Fault.FILLS_UNLISTED,
}
_JSON: Final = "application/json"
_REFUSALS: Final = (Fault.ORDER_REFUSED_503, Fault.ORDER_REFUSED_429, Fault.ORDER_REFUSED_418)
_MARGIN: Final = "ab not enough for new order"


def never_seen(faults: FaultSwitch, path: str, symbol: str, now_ms: int) -> web.Response | None:
    """Give the answer to an order that the venue never sees, if a fault is due."""
    strike = faults.take(*_REFUSALS, symbol=symbol) if path in PLACING else None
    if strike is None:
        return None
    match strike.fault:
        case Fault.ORDER_REFUSED_503:
            return web.Response(status=503, text="Service Unavailable.", content_type="text/html")
        case Fault.ORDER_REFUSED_429:
            error = BybitError(10006, "Too many visits. Exceeded the API Rate Limit.")
            reset_ms = now_ms + round(strike.seconds * 1000)
            headers = {"X-Bapi-Limit-Reset-Timestamp": str(reset_ms)}
            text = error.body(now_ms)
            return web.Response(text=text, content_type=_JSON, headers=headers)
        case _:
            return web.Response(status=403, text="access too frequent, please try again later")


def check_faults(faults: FaultSwitch, path: str, symbol: str, now_ms: int) -> None:
    """Raise what the venue says to a request that a fault refuses, if one is due."""
    if faults.takes(Fault.CLOCK_SKEW):
        off = f"req_timestamp[{now_ms - 60_000}],server_timestamp[{now_ms}],recv_window[5000]"
        raise BybitError(10002, f"invalid request, please check your server timestamp. {off}")
    if path in PLACING and faults.takes(Fault.INSUFFICIENT_MARGIN, symbol=symbol):
        raise BybitError(110007, _MARGIN)


async def lost(
    faults: FaultSwitch, symbol: str, request: web.Request, text: str, now_ms: int
) -> web.StreamResponse | None:
    """Give what comes instead of the answer `text` of an admitted order, if a fault is due."""
    if faults.takes(Fault.ORDER_LOST_503, symbol=symbol):
        unknown = BybitError(10016, "Internal System Error.").body(now_ms)
        return web.Response(status=503, text=unknown, content_type=_JSON)
    return await lost_answer(faults, symbol, request, text, _said)


async def spoiled_private(
    faults: FaultSwitch, path: str, symbol: str, request: web.Request, text: str
) -> web.StreamResponse | None:
    """Give what comes instead of a good private answer, if a fault is due."""
    if path == _POSITIONS and faults.takes(Fault.POSITIONS_BROKEN):
        return web.Response(text=PAGE, content_type="text/html")
    if faults.takes(Fault.RESET_BODY, symbol=symbol):
        return await broken_off(request, text)
    return None


def unlisted(
    faults: FaultSwitch, path: str, query: Mapping[str, str], symbol: str, text: str
) -> str:
    """Give the answer of a copy that does not know yet, if a fault is due; else `text`."""
    fault = _LISTS.get(path)
    of_one = "orderId" in query or "orderLinkId" in query
    if fault is None or (fault is Fault.ORDER_UNLISTED and not of_one):
        return text
    answer = json.loads(text)
    if not answer["result"]["list"] or not faults.takes(fault, symbol=symbol):
        return text
    answer["result"]["list"] = []
    return json.dumps(answer)


async def _said() -> None:
    """Have nothing to say: frames are on their way as soon as the bank announced them."""
