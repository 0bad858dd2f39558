"""The private half in Binance USDM futures' words: routes, answers, and what faults do to them.

Every request first lets happen what is due. Its answer is on the wire before the user stream says
what it caused, but for the fault that turns this round. Of two faults of one order, the refusal
comes first: an order that was refused has no answer to lose.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from aiohttp import web

from adapters.rehearsal.bank.records import AccountUpdated, BankEvent
from adapters.rehearsal.bank.terms import ZERO
from adapters.rehearsal.binance.events import Frame, account_frame, config_text, order_frame
from adapters.rehearsal.binance.holdings import Holdings
from adapters.rehearsal.binance.limits import OrderCounts, weight_of
from adapters.rehearsal.binance.order_faults import (
    PAGE,
    cut,
    lost_answer,
    refuse_order,
    unlisted,
)
from adapters.rehearsal.binance.orders import Orders, batch_of
from adapters.rehearsal.binance.signing import Caller, Gate
from adapters.rehearsal.binance.user_stream import UserStreams
from adapters.rehearsal.dialect import DialectError, too_many_requests
from adapters.rehearsal.exchange import Exchange
from adapters.rehearsal.fault_answers import broken_off, delayed, refused, spoiled
from adapters.rehearsal.faults import Fault
from adapters.rehearsal.private_faults import Deeds
from adapters.rehearsal.settings import PaceKind

Answer = Callable[[str, Mapping[str, str]], Any]
_JSON: Final = "application/json"
_PLACING: Final = frozenset({"POST /fapi/v1/order", "POST /fapi/v1/batchOrders"})
_POSITIONS: Final = frozenset({"/fapi/v2/positionRisk", "/fapi/v3/positionRisk"})
_TOO_MANY: Final = 429
_ORDERS: Final = -1015  # too many orders, where it is not the weight of all requests
_LISTEN_KEY: Final = "/fapi/v1/listenKey"
_WEIGHT_HEADER: Final = "x-mbx-used-weight-1m"
_LOOK_S: Final = 0.25  # with the wall, due timers and fills are looked for so often


class BinanceHalf:
    """Answer signed requests and speak on user streams."""

    def __init__(self, exchange: Exchange, charge: Callable[[int], int]) -> None:
        loop = asyncio.get_running_loop()
        self._exchange = exchange
        self._accounts = exchange.accounts
        self._charge = charge
        settings = exchange.settings
        strict = settings.pace is PaceKind.FACTOR and settings.factor == 1.0
        self.gate = Gate(self._accounts, exchange.clock_ms, loop.time, strict=strict)
        self.streams = UserStreams(exchange.faults)
        self.counts = OrderCounts(loop.time)
        self._deeds = Deeds(self._accounts.bank, self._accounts.keys, exchange.faults)
        self._orders = Orders(self._accounts.bank, exchange.market.coins)
        self._holdings = Holdings(self._accounts)
        self._requests_n = 0
        bank = self._accounts.bank
        self._cash: dict[tuple[str, str], Decimal] = {
            (key, name): bank.balance(key, name).cash
            for key in self._accounts.keys
            for name in bank.currencies(key)
        }
        self._answers = self._routed()
        self._accounts.say()  # nobody listens yet: the first deposits are no news
        self._accounts.listen(self._hear)
        self._looking: asyncio.Task[None] | None = None
        if settings.pace is PaceKind.FACTOR and settings.accounts:
            self._looking = loop.create_task(self._look(), name="rehearsal-accounts")

    # ---- the seam to the server ------------------------------------------------------------------

    def routes(self) -> list[tuple[str, str, Callable[[web.Request], Awaitable[Any]]]]:
        """List method, path and handler of everything that is private."""
        named = [name.partition(" ") for name in self._answers]
        signed = [(method, path, self._signed) for method, _, path in named]
        keys = [(method, _LISTEN_KEY, self._listen_key) for method in ("POST", "PUT", "DELETE")]
        sockets = [("GET", path, self._socket) for path in ("/private/ws", "/private/ws/{name}")]
        return [*signed, *keys, *sockets]

    def told(self) -> None:
        """Hear that somebody was told the time."""
        self.gate.told()

    async def settle(self) -> None:
        """Let everything due happen, faults' deeds too, and say it before returning."""
        if not self._accounts.keys:
            return
        self._accounts.settled()
        faults = self._exchange.faults
        if self._deeds.do():
            self._accounts.say()
        await self._flush()
        if faults.takes(Fault.LISTEN_KEY_EXPIRED):
            await self.streams.expire()
        if faults.takes(Fault.USER_STREAM_DROPPED):
            self.streams.cut_all()

    def state(self) -> dict[str, Any]:
        """Give counts for `/rehearsal/state`."""
        return {
            "accounts": len(self._accounts.keys),
            "private_requests": self._requests_n,
            "user_sockets": self.streams.sockets,
            "listen_keys": self.streams.keys,
            "user_frames": dict(self.streams.frames),
        }

    async def stop(self) -> None:
        """Close sockets and forget keys."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        await self.streams.stop()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.settle()

    # ---- signed requests -------------------------------------------------------------------------

    def _routed(self) -> dict[str, Answer]:
        orders, holdings = self._orders, self._holdings
        return {
            "POST /fapi/v1/order": orders.place,
            "GET /fapi/v1/order": orders.one,
            "DELETE /fapi/v1/order": orders.cancel,
            "POST /fapi/v1/batchOrders": orders.place_batch,
            "DELETE /fapi/v1/batchOrders": orders.cancel_batch,
            "DELETE /fapi/v1/allOpenOrders": orders.cancel_all,
            "POST /fapi/v1/countdownCancelAll": orders.countdown,
            "GET /fapi/v1/openOrders": orders.all_open,
            "GET /fapi/v1/openOrder": orders.one_open,
            "GET /fapi/v1/allOrders": orders.all,
            "GET /fapi/v1/forceOrders": orders.forced,
            "GET /fapi/v1/userTrades": holdings.trades,
            "GET /fapi/v1/income": holdings.income,
            "GET /fapi/v3/positionRisk": holdings.positions,
            "GET /fapi/v2/positionRisk": holdings.positions_v2,
            "GET /fapi/v3/account": holdings.account,
            "GET /fapi/v2/account": holdings.account_v2,
            "GET /fapi/v3/balance": holdings.balances,
            "GET /fapi/v2/balance": holdings.balances,
            "POST /fapi/v1/leverage": self._leverage,
            "GET /fapi/v1/leverageBracket": holdings.brackets,
            "POST /fapi/v1/marginType": holdings.margin_type,
            "GET /fapi/v1/positionSide/dual": holdings.position_side,
            "POST /fapi/v1/positionSide/dual": holdings.set_position_side,
            "GET /fapi/v1/multiAssetsMargin": holdings.multi_assets,
            "POST /fapi/v1/multiAssetsMargin": holdings.set_multi_assets,
            "GET /fapi/v1/symbolConfig": holdings.symbol_config,
            "GET /fapi/v1/accountConfig": holdings.account_config,
            "GET /fapi/v1/commissionRate": holdings.commission,
            "GET /sapi/v1/account/apiRestrictions": holdings.restrictions,
            "GET /sapi/v1/capital/config/getall": holdings.currencies,
            "GET /sapi/v1/margin/allPairs": holdings.no_pairs,
            "GET /sapi/v1/margin/isolated/allPairs": holdings.no_pairs,
        }

    async def _signed(self, request: web.Request) -> web.StreamResponse:
        """Answer one signed request; what it caused is said after the answer is sent."""
        name, faults = f"{request.method} {request.path}", self._exchange.faults
        raw_query, raw_body = _raw(request), await request.text()
        symbol = request.query.get("symbol", "")
        await delayed(faults, symbol)
        faulty = refused(faults, symbol)
        if faulty is not None:
            return faulty
        self._requests_n += 1
        headers = {}
        try:
            headers[_WEIGHT_HEADER] = str(self._weigh(request, symbol))
            skewed = faults.takes(Fault.CLOCK_SKEW)
            key = request.headers.get("X-MBX-APIKEY")
            caller = self.gate.admit(key, raw_query, raw_body, skewed=skewed)
            if name in _PLACING:
                return await self._placed(request, caller, headers)
            status, text = 200, unlisted(faults, name, symbol, self._answered(name, caller))
        except DialectError as refusal:
            status, text = refusal.status, refusal.body()
            if status == _TOO_MANY:
                headers["Retry-After"] = self.counts.wait_s(minute=refusal.code != _ORDERS)
        if status == 200 and request.path in _POSITIONS and faults.takes(Fault.POSITIONS_BROKEN):
            response = web.Response(text=PAGE, content_type="text/html")
        else:
            text = spoiled(faults, request.path, symbol, text)
            if faults.takes(Fault.RESET_BODY, symbol=symbol):
                await self._flush()
                return await broken_off(request, text)
            response = _response(status, text, headers)
        return await self._sent(request, response)

    def _answered(self, name: str, caller: Caller) -> str:
        """Give the text of an answer, after letting happen what is due."""
        self._accounts.settled()
        self._deeds.do()
        try:
            return json.dumps(self._answers[name](caller.key, caller.query))
        finally:
            self._accounts.say()

    async def _placed(
        self, request: web.Request, caller: Caller, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Place an order or a batch, unless a fault refuses it, and answer, unless it is lost."""
        faults, query = self._exchange.faults, caller.query
        batch = request.path.endswith("batchOrders")
        items = batch_of(query) if batch else [query]
        symbol = items[0].get("symbol", "")
        never_seen = refuse_order(faults, symbol)
        if never_seen is not None:
            return never_seen
        limited = bool(self._exchange.settings.weight_limit_minute)
        headers |= self.counts.count(caller.key, len(items), refuse=limited)
        if faults.takes(Fault.INSUFFICIENT_MARGIN, symbol=symbol):
            body = {"code": -2019, "msg": "Margin is insufficient."}
            text = json.dumps([body] * len(items) if batch else body)
            return await self._sent(request, _response(200 if batch else 400, text, headers))
        status = 200
        try:
            text = self._answered(f"{request.method} {request.path}", caller)
        except DialectError as refusal:
            status, text = refusal.status, refusal.body()
        if status == 200:
            lost = await lost_answer(faults, symbol, request, text, self._flush)
            if lost is not None:
                return lost
            early = faults.take(Fault.FILL_BEFORE_ACK, symbol=symbol)
            if early is not None:
                await self._flush()
                await asyncio.sleep(max(0.0, early.seconds))
        return await self._sent(request, _response(status, text, headers))

    def _weigh(self, request: web.Request, symbol: str) -> int:
        weight = weight_of(request.method, request.path, of_symbol=bool(symbol))
        used, limit = self._charge(weight), self._exchange.settings.weight_limit_minute
        if limit and used > limit:
            raise too_many_requests(limit)
        return used

    async def _sent(self, request: web.Request, response: web.Response) -> web.StreamResponse:
        """Send an answer, and only then let the user stream speak."""
        try:
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            cut(request)
        await self._flush()
        return response

    def _leverage(self, key: str, query: Mapping[str, str]) -> dict[str, Any]:
        answer = self._holdings.leverage(key, query)
        symbol, now_ms = answer["symbol"], self._accounts.bank.now_ms
        text = config_text(symbol, answer["leverage"], now_ms)
        self.streams.queue(Frame(key, symbol, text))
        return answer

    # ---- the user stream -------------------------------------------------------------------------

    async def _listen_key(self, request: web.Request) -> web.StreamResponse:
        faults = self._exchange.faults
        await delayed(faults, "")
        faulty = refused(faults, "")
        if faulty is not None:
            return faulty
        headers = {}
        try:
            headers[_WEIGHT_HEADER] = str(self._weigh(request, ""))
            key = self.gate.known(request.headers.get("X-MBX-APIKEY")).key
            status, text = 200, json.dumps(self._listened(request.method, key))
        except DialectError as refusal:
            status, text = refusal.status, refusal.body()
        return _response(status, text, headers)

    def _listened(self, method: str, key: str) -> dict[str, str]:
        if method == "DELETE":
            self.streams.close(key)
            return {}
        text = self.streams.open(key) if method == "POST" else self.streams.keep(key)
        return {"listenKey": text}

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self._exchange.faults.takes(Fault.DIAL_REFUSED):
            return web.Response(status=503, text="Service Unavailable.")
        named = request.match_info.get("name", "")
        return await self.streams.serve(request, request.query.get("listenKey", named))

    def _hear(self, events: Sequence[BankEvent]) -> None:
        for event in events:
            if isinstance(event, AccountUpdated):
                frame: Frame | None = self._account_frame(event)
            else:
                frame = order_frame(event)
            if frame is not None:
                self.streams.queue(frame)

    def _account_frame(self, event: AccountUpdated) -> Frame:
        place = (event.account, event.currency)
        previous, self._cash[place] = self._cash.get(place, ZERO), event.cash
        mode = self._accounts.bank.margin_mode(event.account, event.symbol)
        return account_frame(event, mode, previous)

    async def _flush(self) -> None:
        await self.streams.flush(self._accounts.bank.now_ms)


def _response(status: int, text: str, headers: Mapping[str, str]) -> web.Response:
    return web.Response(status=status, text=text, content_type=_JSON, headers=headers)


def _raw(request: web.Request) -> str:
    """Give the query string exactly as it came: a signature is made of it."""
    return request.raw_path.partition("?")[2]
