"""User streams: listen keys with a life in the machine's seconds, their sockets, and delivery.

Frames wait in one queue and leave it in the order in which the bank announced what they say, all of
them before anyone is told of the next thing. Several sockets of a key hear the same. A socket whose
key expired, or never was, stays open and hears nothing, as at the venue.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import WSMsgType, web

from adapters.rehearsal.binance.events import Frame, expired_text
from adapters.rehearsal.binance.refusals import error
from adapters.rehearsal.dialect import DialectError
from adapters.rehearsal.faults import Fault, FaultSwitch

LIFE_S: Final = 3_600.0
SEND_SECONDS_MAX: Final = 10.0
GARBAGE: Final = '{"e":"ORDER_TRADE_UPDATE","E":1,"o":{"s":"BTCUSDT","i":'


@dataclass(eq=False, slots=True)
class _Socket:
    ws: web.WebSocketResponse
    request: web.Request


@dataclass(slots=True)
class _ListenKey:
    """Hold what opens a stream; it lives until `ends_s` of the loop's time."""

    text: str
    api_key: str
    ends_s: float
    timer: asyncio.TimerHandle | None = None
    sockets: dict[_Socket, None] = field(default_factory=dict)


class UserStreams:
    """Keep the listen keys and sockets of all accounts; `life_s` is how long a key lives."""

    def __init__(self, faults: FaultSwitch) -> None:
        self.life_s = LIFE_S
        self.frames: Counter[str] = Counter()  # sent, swallowed, expired keys: by name
        self._faults = faults
        self._loop = asyncio.get_running_loop()
        self._keys: dict[str, _ListenKey] = {}  # by API key
        self._all: dict[_Socket, None] = {}
        self._waiting: deque[Frame] = deque()
        self._sending = asyncio.Lock()  # one batch of frames goes out at a time
        self._made = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._now_ms = 0

    @property
    def sockets(self) -> int:
        """Give the number of open sockets."""
        return len(self._all)

    @property
    def keys(self) -> int:
        """Give the number of listen keys that live."""
        return len(self._keys)

    # ---- listen keys -----------------------------------------------------------------------------

    def open(self, api_key: str) -> str:
        """Give the listen key of an account, a new one if none lives, and let it live on."""
        found = self._keys.get(api_key)
        if found is None:
            self._made += 1
            text = hashlib.sha256(f"{api_key}|{self._made}".encode()).hexdigest()
            found = self._keys[api_key] = _ListenKey(text, api_key, 0.0)
        self._prolong(found)
        return found.text

    def keep(self, api_key: str) -> str:
        """Let a listen key live on; raise what the venue says if there is none."""
        found = self._keys.get(api_key)
        if found is None:
            raise no_listen_key()
        self._prolong(found)
        return found.text

    def close(self, api_key: str) -> None:
        """End a listen key at its owner's wish."""
        found = self._keys.pop(api_key, None)
        if found is not None and found.timer is not None:
            found.timer.cancel()

    async def expire(self) -> int:
        """End every listen key now, and say so on its sockets; give how many there were."""
        keys, self._keys = list(self._keys.values()), {}
        for one in keys:
            await self._end(one)
        return len(keys)

    def _prolong(self, one: _ListenKey) -> None:
        if one.timer is not None:
            one.timer.cancel()
        one.ends_s = self._loop.time() + self.life_s
        one.timer = self._loop.call_later(self.life_s, self._expired, one)

    def _expired(self, one: _ListenKey) -> None:
        if self._keys.get(one.api_key) is one:
            del self._keys[one.api_key]
            self._task(self._end(one), "listen-key-expired")

    async def _end(self, one: _ListenKey) -> None:
        if one.timer is not None:
            one.timer.cancel()
        self.frames["keys_expired"] += 1
        async with self._sending:
            for socket in list(one.sockets):
                await self._send(socket, expired_text(one.text, self._now_ms))

    # ---- sockets ---------------------------------------------------------------------------------

    async def serve(self, request: web.Request, listen_key: str) -> web.WebSocketResponse:
        """Keep a socket open until its client leaves."""
        ws = web.WebSocketResponse(heartbeat=None)
        await ws.prepare(request)
        socket = _Socket(ws, request)
        self._all[socket] = None
        found = next((k for k in self._keys.values() if k.text == listen_key), None)
        if found is not None:
            found.sockets[socket] = None
        try:
            async for message in ws:
                if message.type is WSMsgType.ERROR:
                    break
        finally:
            self._forget(socket)
        return ws

    def cut_all(self) -> None:
        """Cut every socket without a goodbye."""
        for socket in list(self._all):
            self._forget(socket)
            if socket.request.transport is not None:
                socket.request.transport.abort()

    async def stop(self) -> None:
        """Forget all keys and say goodbye on every socket."""
        for api_key in list(self._keys):
            self.close(api_key)
        for socket in list(self._all):
            await socket.ws.close(code=1001, message=b"the rehearsal ends")

    def _forget(self, socket: _Socket) -> None:
        self._all.pop(socket, None)
        for one in self._keys.values():
            one.sockets.pop(socket, None)

    # ---- delivery --------------------------------------------------------------------------------

    def queue(self, frame: Frame) -> None:
        """Let a frame wait for the next `flush`."""
        self._waiting.append(frame)

    @contextlib.asynccontextmanager
    async def silence(self) -> AsyncIterator[None]:
        """Let nobody speak for a while; what is to be said waits."""
        async with self._sending:
            yield

    async def flush(self, now_ms: int) -> None:
        """Send everything that waits, in its order but for faults.

        Whoever asked for it may leave in the middle: what was begun is said all the same.
        """
        self._now_ms = now_ms
        if self._waiting or self._sending.locked():
            await asyncio.shield(self._task(self._say_waiting(), "user-frames"))

    async def _say_waiting(self) -> None:
        async with self._sending:
            frames = list(self._waiting)
            self._waiting.clear()
            for frame in self._spoiled(frames):
                await self._deliver(frame)

    def _task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _spoiled(self, frames: list[Frame]) -> list[Frame]:
        """Give the frames as they go out: some twice, or in another order."""
        found: list[Frame] = []
        for frame in frames:
            found.append(frame)
            if frame.is_fill and self._faults.takes(Fault.FILL_DUPLICATED, symbol=frame.symbol):
                found.append(frame)
        filled = [frame.symbol for frame in found if frame.is_fill]
        if filled and self._faults.takes(Fault.FILLS_SHUFFLED, symbol=filled[0]):
            found.reverse()
        return found

    async def _deliver(self, frame: Frame) -> None:
        owner = self._keys.get(frame.key)
        if owner is None or not owner.sockets:
            self.frames["unheard"] += 1
            return
        if self._faults.takes(Fault.USER_STREAM_STALLED, symbol=frame.symbol):
            self.frames["swallowed"] += 1
            return
        garbage = self._faults.takes(Fault.USER_FRAME_GARBAGE, symbol=frame.symbol)
        for socket in list(owner.sockets):
            await self._send(socket, GARBAGE if garbage else frame.text)

    async def _send(self, socket: _Socket, text: str) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS_MAX):
                await socket.ws.send_str(text)
                self.frames["sent"] += 1
        except (TimeoutError, ConnectionError):
            self._forget(socket)
            if socket.request.transport is not None:
                socket.request.transport.abort()


def no_listen_key() -> DialectError:
    """Give the answer to a listen key that is not there."""
    return error(-1125, "This listenKey does not exist.")
