"""The loopback server: one port for REST and WebSocket, and the rehearsal's own controls.

POST /rehearsal/advance {"until_ms": T, "client": "name"}   lock-step: I am idle until T
POST /rehearsal/advance {"client": "name", "leave": true}   lock-step: do not wait for me
POST /rehearsal/account {"key": ..., "deposit": "1"}        the owner's hand: deposit, withdraw,
                                                            manual_order
POST /rehearsal/fault   {"kind": ..., "count": n}           switch a fault on; "symbol": of one
                                                            instrument; "seconds": its length
GET  /rehearsal/state                                       time, pace, seed, counts
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from adapters.rehearsal import rest
from adapters.rehearsal.build import build_market, start_of
from adapters.rehearsal.dialect import DialectError, too_many_requests
from adapters.rehearsal.exchange import Exchange
from adapters.rehearsal.fault_answers import broken_off, delayed, refused, spoiled
from adapters.rehearsal.faults import Fault
from adapters.rehearsal.market import Market
from adapters.rehearsal.pace import LockStep, Superseded, WallPace
from adapters.rehearsal.private_half import PrivateHalf, control, private_half
from adapters.rehearsal.seeded import SeededMarket
from adapters.rehearsal.settings import DialectKind, PaceKind, RehearsalSettings
from daemon.domain.failures import ConfigurationError, EquipoiseError

HOST: Final = "127.0.0.1"
_BODY_BYTES_MAX: Final = 64 * 1024
_DIAL_HANG_S: Final = 3600.0
_TIME_PATH: Final = "/fapi/v1/time"
_WEIGHT_HEADER: Final = "x-mbx-used-weight-1m"


class PortTaken(EquipoiseError):
    """Signal that the wanted port is in use."""

    exit_code = 71


@dataclass(slots=True)
class RunningExchange:
    """Hold a running rehearsal exchange; `async with serve(...)` starts and stops it."""

    exchange: Exchange
    private: PrivateHalf
    port: int
    _runner: web.AppRunner
    _pace: asyncio.Task[None] | None

    @property
    def rest_url(self) -> str:
        """Give the base of all REST paths."""
        return f"http://{HOST}:{self.port}"

    @property
    def ws_url(self) -> str:
        """Give the base of all WebSocket paths."""
        return f"ws://{HOST}:{self.port}"

    async def stop(self) -> None:
        """Close sockets and port."""
        if self._pace is not None:
            self._pace.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pace
        await self.private.stop()
        await self.exchange.hub.close_all()
        await self._runner.cleanup()

    async def __aenter__(self) -> RunningExchange:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


async def serve(settings: RehearsalSettings, market: Market | None = None) -> RunningExchange:
    """Start an exchange on loopback; `market` overrides the one the settings describe.

    Raises ConfigurationError for settings that do not fit together, PortTaken for a used port.
    """
    market = build_market(settings) if market is None else market
    start_ms = start_of(market, settings)
    if settings.source_ms % market.step_ms:
        minutes = market.step_ms // 60_000
        raise ConfigurationError(
            f"source_minutes {settings.source_minutes}: accepted is a multiple of {minutes}"
        )
    if isinstance(market, SeededMarket):
        market.prepare(start_ms)
    exchange = Exchange(market, settings, start_ms)
    controls = _Controls(exchange)
    runner = web.AppRunner(
        controls.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.5
    )
    await runner.setup()
    site = web.TCPSite(runner, HOST, settings.port)
    try:
        await site.start()
    except OSError as failure:
        await runner.cleanup()
        raise PortTaken(
            f"port {settings.port} on {HOST}: {failure.strerror}; choose another, 0 for any"
        ) from None
    port = int(runner.addresses[0][1])
    return RunningExchange(exchange, controls.private, port, runner, controls.start_pace())


class _Controls:
    """Join the exchange to HTTP."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._lock_step: LockStep | None = None
        self._loop = asyncio.get_running_loop()
        self._weight_minute = 0
        self._weight = 0
        self.private = private_half(exchange, self._charge)
        exchange.after_settling = self.private.settle

    def application(self) -> web.Application:
        """Route every path of the dialect and of the controls."""
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        if self._exchange.settings.dialect is DialectKind.BINANCEUSDM:
            self._add_binance(app)
        for method, path, handler in self.private.routes():
            app.router.add_route(method, path, handler)
        app.router.add_post("/rehearsal/account", _checked(self._account))
        app.router.add_post("/rehearsal/advance", _checked(self._advance))
        app.router.add_post("/rehearsal/fault", _checked(self._fault))
        app.router.add_get("/rehearsal/state", self._state)
        app.router.add_route("*", "/{anything:.*}", _no_such_path)
        return app

    def _add_binance(self, app: web.Application) -> None:
        for path in rest.ROUTES:
            app.router.add_get(path, self._rest)
        for path in (
            "/ws",
            "/ws/{name}",
            "/{half:public|market}/ws",
            "/{half:public|market}/ws/{name}",
        ):
            app.router.add_get(path, self._socket)

    def start_pace(self) -> asyncio.Task[None] | None:
        """Start what moves time; in lock-step nothing does but the clients."""
        settings = self._exchange.settings
        if settings.pace is PaceKind.LOCK_STEP:
            self._lock_step = LockStep(self._exchange, settings.clients_min)
            return None
        pace = WallPace(self._exchange, settings.factor)
        self._exchange.read_clock_from(pace.clock_ms)
        return asyncio.create_task(pace.run(), name="rehearsal-pace")

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        query, faults = dict(request.query), self._exchange.faults
        symbol = query.get("symbol", "")
        await delayed(faults, symbol)
        faulty = refused(faults, symbol)
        if faulty is not None:
            return faulty
        limit = self._exchange.settings.weight_limit_minute
        headers = {_WEIGHT_HEADER: str(self._charge(rest.weight_of(request.path, query)))}
        try:
            if limit and self._weight > limit:
                headers["Retry-After"] = str(60 - int(self._loop.time()) % 60)
                raise too_many_requests(limit)
            status, text = 200, rest.answer(self._exchange, request.path, query)
            if request.path == _TIME_PATH:
                self.private.told()
        except DialectError as refusal:
            status, text = refusal.status, refusal.body()
        else:
            text = spoiled(faults, request.path, symbol, text)
            if faults.takes(Fault.RESET_BODY, symbol=symbol):
                return await broken_off(request, text)
        return web.Response(
            status=status, text=text, content_type="application/json", headers=headers
        )

    def _charge(self, weight: int) -> int:
        """Add to the weight used in this minute of wall time."""
        minute = int(self._loop.time()) // 60
        if minute != self._weight_minute:
            self._weight_minute, self._weight = minute, 0
        self._weight += weight
        self._exchange.weight_charged += weight
        return self._weight

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info.get("name", "")
        # ccxt numbers its sockets in the path; anything else there is a stream to begin with.
        first = [part for part in name.split("/") if part and not part.isdigit()]
        exchange = self._exchange
        if exchange.faults.takes(Fault.DROP_SOCKETS) and request.transport is not None:
            request.transport.abort()
        if exchange.faults.takes(Fault.DIAL_REFUSED):
            return web.Response(status=503, text="Service Unavailable.")
        if exchange.faults.takes(Fault.DIAL_HANG):
            await asyncio.sleep(_DIAL_HANG_S)
        return await exchange.hub.serve(request, first, exchange.greeting)

    async def _advance(self, body: dict[str, Any]) -> dict[str, Any]:
        lock_step = self._lock_step
        if lock_step is None:
            pace = self._exchange.settings.pace
            raise ConfigurationError(f"pace {pace.value!r}: only a lock_step market is advanced")
        client = body.get("client", "client")
        if body.get("leave") is True:
            await lock_step.leave(client)
            return {"now_ms": self._exchange.now_ms, "published": 0, "finished": False}
        until_ms = body.get("until_ms")
        if not isinstance(until_ms, int) or isinstance(until_ms, bool):
            raise ConfigurationError(f"until_ms {until_ms!r}: accepted is milliseconds since 1970")
        done = await lock_step.idle_until(client, until_ms)
        return {"now_ms": done.now_ms, "published": done.published, "finished": done.finished}

    async def _fault(self, body: dict[str, Any]) -> dict[str, Any]:
        count = body.get("count", 1)
        if not isinstance(count, int) or isinstance(count, bool):
            raise ConfigurationError(f"count {count!r}: accepted is a whole number")
        symbol, seconds = str(body.get("symbol", "")), body.get("seconds", 1.0)
        if symbol and symbol not in self._exchange.market.coins:
            known = ", ".join(self._exchange.market.coins)
            raise ConfigurationError(f"symbol {symbol!r}: accepted is one of {known}")
        if not isinstance(seconds, int | float) or isinstance(seconds, bool):
            raise ConfigurationError(f"seconds {seconds!r}: accepted is a number")
        faults = self._exchange.faults
        faults.set(str(body.get("kind")), count, symbol=symbol, seconds=float(seconds))
        if faults.takes(Fault.DROP_SOCKETS):
            self._exchange.hub.cut_all()
        await self.private.settle()
        return {"kind": faults.fault.value, "left": faults.left}

    async def _account(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = control(self._exchange.accounts, body)
        self._exchange.accounts.say()
        await self.private.settle()
        return answer

    async def _state(self, request: web.Request) -> web.Response:
        del request
        exchange = self._exchange
        settings = exchange.settings
        now_ms = exchange.clock_ms()
        state = {
            "now_ms": now_ms,
            "next_instant_ms": exchange.next_instant_ms(),
            "pace": settings.pace.value,
            "factor": settings.factor,
            "kind": settings.kind.value,
            "seed": settings.seed,
            "planted_ic": settings.planted_ic,
            "pattern": settings.pattern,
            "source_minutes": settings.source_minutes,
            "coins_listed": sum(c.lives_at(now_ms) for c in exchange.market.coins.values()),
            "instants": exchange.instants,
            "klines_closed": exchange.klines_closed,
            "sockets": exchange.hub.sockets,
            "streams": len(exchange.hub.streams),
            "frames_sent": exchange.hub.frames_sent,
            "weight_charged": exchange.weight_charged,
            "clients": [] if self._lock_step is None else self._lock_step.clients,
            "fault": exchange.faults.fault.value,
            "faults": [
                {"kind": s.fault.value, "left": s.left, "symbol": s.symbol}
                for s in exchange.faults.active
            ],
            "faults_struck": {k.value: n for k, n in sorted(exchange.faults.struck_n.items())},
            **self.private.state(),
        }
        return web.json_response(state)


def _checked(
    handler: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Read a JSON object, answer with one, and turn complaints into a 400 that names them."""

    async def answer(request: web.Request) -> web.Response:
        try:
            body = json.loads(await request.text())
            if not isinstance(body, dict):
                raise ConfigurationError("body: accepted is a JSON object")
            return web.json_response(await handler(body))
        except (json.JSONDecodeError, ConfigurationError) as refusal:
            return web.json_response({"error": str(refusal)}, status=400)
        except Superseded as refusal:
            return web.json_response({"error": str(refusal)}, status=409)

    return answer


async def _no_such_path(request: web.Request) -> web.Response:
    """Answer an unknown path as the venue does."""
    text = f"Path {request.path}, Method {request.method} is invalid"
    return web.json_response({"code": -5000, "msg": text}, status=404)
