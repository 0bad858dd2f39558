"""What faults do to REST answers: refusals, broken bodies, late, missing and differing rows."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from aiohttp import web

from adapters.rehearsal.faults import Fault, FaultSwitch, Strike
from daemon.domain.units import HOUR_MS

_JSON: Final = "application/json"
_PAGE: Final = "<html><head><title>Please wait</title></head><body>One moment.</body></html>"
_UNAVAILABLE: Final = (
    '{"code":0,"msg":"Service unavailable from a restricted location according to the terms."}'
)
_BUSY: Final = (
    '{"code":-1003,"msg":"Too many requests; please use the websocket for live updates."}'
)
_BANNED: Final = '{"code":-1003,"msg":"Way too many requests; this address is banned for a while."}'
_MAINTENANCE: Final = '{"code":-1016,"msg":"This service is no longer available: maintenance."}'

_REPLACED: Final = (
    Fault.NOT_JSON_200,
    Fault.HTTP_451,
    Fault.HTTP_403,
    Fault.HTTP_503,
    Fault.HTTP_429,
    Fault.HTTP_418,
    Fault.MAINTENANCE,
)
_KLINES: Final = (Fault.EMPTY_LIST_200, Fault.LAGGING_200, Fault.DIFFERING_ROW_200)
_ROWS_LACKED: Final = 2
_HANG_S: Final = HOUR_MS / 1000
_VOLUME: Final = 5


def refused(faults: FaultSwitch, symbol: str) -> web.Response | None:
    """Give the faulty answer that replaces the next one, if one is due."""
    strike = faults.take(*_REPLACED, symbol=symbol)
    if strike is None:
        return None
    wait = {"Retry-After": f"{strike.seconds:g}"}
    match strike.fault:
        case Fault.NOT_JSON_200:
            return web.Response(text=_PAGE, content_type="text/html")
        case Fault.HTTP_451:
            return web.Response(status=451, text=_UNAVAILABLE, content_type=_JSON)
        case Fault.HTTP_403:
            return web.Response(status=403, text=_PAGE, content_type="text/html")
        case Fault.HTTP_429:
            return web.Response(status=429, text=_BUSY, content_type=_JSON, headers=wait)
        case Fault.HTTP_418:
            return web.Response(status=418, text=_BANNED, content_type=_JSON, headers=wait)
        case Fault.MAINTENANCE:
            return web.Response(status=503, text=_MAINTENANCE, content_type=_JSON)
        case _:
            return web.Response(status=503, text="Service Unavailable.", content_type="text/html")


async def delayed(faults: FaultSwitch, symbol: str) -> None:
    """Let the caller wait if its answer is to be slow, or until it leaves if there is none."""
    strike = faults.take(Fault.SLOW, Fault.HANG, symbol=symbol)
    if strike is not None:
        await asyncio.sleep(_HANG_S if strike.fault is Fault.HANG else max(0.0, strike.seconds))


def spoiled(faults: FaultSwitch, path: str, symbol: str, text: str) -> str:
    """Give a body as it goes out: true unless a fault changes what it says."""
    name = path.rpartition("/")[2]
    if name == "klines":
        strike = faults.take(*_KLINES, symbol=symbol)
        if strike is not None:
            text = json.dumps(_other_rows(strike.fault, json.loads(text)))
    elif name == "exchangeInfo" and faults.takes(Fault.EMPTY_EXCHANGE_INFO):
        text = json.dumps(json.loads(text) | {"symbols": []})
    elif name == "time":
        strike = faults.take(Fault.CLOCK_JUMP)
        if strike is not None:
            text = json.dumps({"serverTime": _jumped(strike, json.loads(text)["serverTime"])})
    return text[: len(text) // 2] if faults.takes(Fault.CUT_JSON_200, symbol=symbol) else text


async def broken_off(request: web.Request, text: str) -> web.StreamResponse:
    """Announce a whole body, send half of it, and cut the connection."""
    body = text.encode()
    response = web.StreamResponse(headers={"Content-Type": _JSON})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.abort()
    return response


def _other_rows(fault: Fault, rows: list[list[Any]]) -> list[list[Any]]:
    """Change the rows of an answer, the running one last, as a bad copy of them would."""
    if fault is Fault.EMPTY_LIST_200:
        return []
    if fault is Fault.LAGGING_200:
        return rows[:-_ROWS_LACKED]
    if len(rows) > 1:
        rows[-2][_VOLUME] = f"{float(rows[-2][_VOLUME]) + 1.0:.3f}"
    return rows


def _jumped(strike: Strike, now_ms: int) -> int:
    return now_ms + round(strike.seconds * 1000)
