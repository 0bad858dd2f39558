"""Bybit's doors: which path is answered by what, in the venue's envelope, with its headers.

Of two faults of one order, the refusal comes first: what was refused has no answer to lose.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from aiohttp import web

from adapters.rehearsal.bybit import acting, asking, public
from adapters.rehearsal.bybit.answers import BybitError, envelope
from adapters.rehearsal.bybit.asking import Desk
from adapters.rehearsal.bybit.private_socket import PrivateSockets
from adapters.rehearsal.bybit.record import Record
from adapters.rehearsal.bybit.signing import Gate
from adapters.rehearsal.bybit.spoiling import replaced, spoiled_answer
from adapters.rehearsal.bybit.striking import (
    PLACING,
    check_faults,
    lost,
    never_seen,
    spoiled_private,
    unlisted,
)
from adapters.rehearsal.exchange import Exchange
from adapters.rehearsal.fault_answers import broken_off, delayed
from adapters.rehearsal.faults import Fault
from adapters.rehearsal.private_faults import Deeds
from adapters.rehearsal.settings import PaceKind

REQUESTS_DEFAULT: Final = 600  # what the headers tell where no limit is set
_DIAL_HANG_S: Final = 3600.0
_LOOK_S: Final = 0.25  # with the wall, due timers and fills are looked for so often
_TIME_PATH: Final = "/v5/market/time"
_JSON: Final = "application/json"


class BybitDoor:
    """Join an exchange to HTTP in Bybit's words."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        pace, factor = exchange.settings.pace, exchange.settings.factor
        keeps_up = pace is PaceKind.FACTOR and factor <= 1.0  # a client's clock does, with a market
        elapsed = None if keeps_up else self._elapsed_ms
        self._gate = Gate(exchange.accounts, exchange.clock_ms, elapsed)
        record = Record(exchange.accounts, exchange.settings.bank.maintenance_bps)
        self._desk = Desk(exchange, record, {})
        self._private = PrivateSockets(
            exchange.accounts,
            record,
            self._gate,
            exchange.hub,
            exchange.faults,
            self._desk.windows_s,
        )
        exchange.accounts.settled()  # the first deposits are nobody's news
        self._deeds = Deeds(exchange.accounts.bank, exchange.accounts.keys, exchange.faults)
        self._minute = 0
        self._requests_n = 0
        self._private_n = 0
        self._looking: asyncio.Task[None] | None = None
        if pace is PaceKind.FACTOR and exchange.settings.accounts:
            self._looking = self._loop.create_task(self._look(), name="rehearsal-accounts")

    # ---- the seam to the server ------------------------------------------------------------------

    def routes(self) -> list[tuple[str, str, Callable[[web.Request], Awaitable[Any]]]]:
        """List method, path and handler of everything that the venue has."""
        reading, acting_on = (*public.ROUTES, *asking.ROUTES), (*acting.ROUTES, *acting.BATCHES)
        return [
            *(("GET", path, self._rest) for path in reading),
            *(("POST", path, self._rest) for path in acting_on),
            ("GET", "/v5/public/linear", self._public_socket),
            ("GET", "/v5/private", self._private_socket),
            ("*", "/v5/{anything:.*}", self._no_such_path),
        ]

    def told(self) -> None:
        """Hear that somebody was told the time: the door itself tells it."""

    async def settle(self) -> None:
        """Let everything due happen, faults' deeds too."""
        accounts = self._exchange.accounts
        if not accounts.keys:
            return
        accounts.settled()
        if self._deeds.do():
            accounts.say()
        if self._exchange.faults.takes(Fault.USER_STREAM_DROPPED):
            self._private.cut()

    def state(self) -> dict[str, Any]:
        """Give counts for `/rehearsal/state`."""
        return {
            "accounts": len(self._exchange.accounts.keys),
            "private_requests": self._private_n,
            "user_sockets": self._private.open_n,
        }

    async def stop(self) -> None:
        """Look no more; the hub says goodbye on private sockets too."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.settle()

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        faults, path = self._exchange.faults, request.path
        text = await request.text()
        symbol = _symbol(request.query, text)
        await delayed(faults, symbol)
        faulty = replaced(faults, symbol, self._exchange.clock_ms())
        if faulty is not None:
            return faulty
        status, headers = 200, self._charge()
        try:
            if int(headers["X-Bapi-Limit-Status"]) < 0:
                raise BybitError(10006, "Too many visits. Exceeded the API Rate Limit.")
            if path not in public.ROUTES:
                return await self._private_rest(request, text, symbol, headers)
            answer = self._answer(request, text)
        except BybitError as refusal:
            status, answer = refusal.status, refusal.body(self._exchange.clock_ms())
        else:
            if path == _TIME_PATH:
                self._gate.told()
        answer = spoiled_answer(faults, path, symbol, answer)
        if faults.takes(Fault.RESET_BODY, symbol=symbol):
            return await broken_off(request, answer)
        return web.Response(status=status, text=answer, content_type=_JSON, headers=headers)

    async def _private_rest(
        self, request: web.Request, text: str, symbol: str, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """Answer one private request, unless a fault refuses it or loses its answer.

        Raises BybitError as the venue would refuse it.
        """
        faults, path, now_ms = self._exchange.faults, request.path, self._exchange.clock_ms()
        self._private_n += 1
        unseen = never_seen(faults, path, symbol, now_ms)
        if unseen is not None:
            return unseen
        check_faults(faults, path, symbol, now_ms)
        if self._deeds.do():
            self._exchange.accounts.say()
        answer = self._answer(request, text)
        if path in PLACING:
            gone = await lost(faults, symbol, request, answer, now_ms)
            if gone is not None:
                return gone
            early = faults.take(Fault.FILL_BEFORE_ACK, symbol=symbol)
            if early is not None:
                await asyncio.sleep(max(0.0, early.seconds))
        answer = unlisted(faults, path, request.query, symbol, answer)
        answer = spoiled_answer(faults, path, symbol, answer)
        spoiled = await spoiled_private(faults, path, symbol, request, answer)
        if spoiled is not None:
            return spoiled
        return web.Response(text=answer, content_type=_JSON, headers=headers)

    def _answer(self, request: web.Request, text: str) -> str:
        """Answer one request as JSON text; raises BybitError as the venue would refuse it."""
        path, query, extra = request.path, dict(request.query), None
        if path in public.ROUTES:
            result = public.ROUTES[path](self._exchange, query)
        elif path in asking.ROUTES:
            who = self._gate.enter(request.headers, request.rel_url.raw_query_string)
            result = asking.answer(self._desk, who, path, query)
        else:
            who = self._gate.enter(request.headers, text)
            body = _body(text)
            if path in acting.BATCHES:
                result, extra = acting.BATCHES[path](self._desk, who, body)
            else:
                result = acting.ROUTES[path](self._desk, who, body)
        return envelope(result, self._exchange.clock_ms(), extra=extra)

    def _charge(self) -> dict[str, str]:
        """Count a request of this minute of wall time, and say how many are left."""
        now_s = int(self._loop.time())
        if now_s // 60 != self._minute:
            self._minute, self._requests_n = now_s // 60, 0
        self._requests_n += 1
        self._exchange.weight_charged += 1
        set_n = self._exchange.settings.weight_limit_minute
        limit = set_n or REQUESTS_DEFAULT
        left = limit - self._requests_n
        reset_ms = self._exchange.clock_ms() + (60 - now_s % 60) * 1000
        return {
            "X-Bapi-Limit": str(limit),
            "X-Bapi-Limit-Status": str(left if set_n else max(0, left)),
            "X-Bapi-Limit-Reset-Timestamp": str(reset_ms),
        }

    def _elapsed_ms(self) -> int:
        return round(self._loop.time() * 1000)

    async def _public_socket(self, request: web.Request) -> web.StreamResponse:
        refusal = await self._dialled(request)
        if refusal is not None:
            return refusal
        return await self._exchange.hub.serve(request, [], self._exchange.greeting)

    async def _private_socket(self, request: web.Request) -> web.StreamResponse:
        refusal = await self._dialled(request)
        return await self._private.serve(request) if refusal is None else refusal

    async def _dialled(self, request: web.Request) -> web.Response | None:
        """Apply the faults of dials; give the refusal if one strikes."""
        faults = self._exchange.faults
        if faults.takes(Fault.DROP_SOCKETS) and request.transport is not None:
            request.transport.abort()
        if faults.takes(Fault.DIAL_REFUSED):
            return web.Response(status=503, text="Service Unavailable.")
        if faults.takes(Fault.DIAL_HANG):
            await asyncio.sleep(_DIAL_HANG_S)
        return None

    async def _no_such_path(self, request: web.Request) -> web.Response:
        del request
        text = BybitError(10017, "Route not found.").body(self._exchange.clock_ms())
        return web.Response(status=404, text=text, content_type=_JSON)


def _symbol(query: Mapping[str, str], text: str) -> str:
    """Give the symbol that a request is about, for the faults of one instrument."""
    if "symbol" in query or not text:
        return query.get("symbol", "")
    try:
        body = json.loads(text)
    except json.JSONDecodeError:
        return ""
    return str(body.get("symbol", "")) if isinstance(body, dict) else ""


def _body(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text or "{}", parse_float=Decimal)
    except json.JSONDecodeError:
        raise BybitError(10001, "params error: the body is not JSON") from None
    if not isinstance(body, dict):
        raise BybitError(10001, "params error: the body is not an object")
    return body
