"""The public sockets: their subscriptions, and sending to them.

What is said on a stream is decided in `exchange.py`, in whose words in `words.py`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiohttp import WSMsgType, web

from adapters.rehearsal.faults import Fault, FaultSwitch
from adapters.rehearsal.words import Stream, Verdict, Want, Words

SEND_SECONDS_MAX: Final = 10.0  # a client that reads nothing for so long is cut off
STREAMS_PER_SOCKET_MAX: Final = 1024
_OF_PUBLICATIONS: Final = (
    Fault.STALL,
    Fault.DUPLICATE_FRAMES,
    Fault.SHUFFLED_FRAMES,
    Fault.LATE_FRAMES,
)


_Said = tuple[Stream, str]


@dataclass(eq=False, slots=True)
class _Socket:
    ws: web.WebSocketResponse
    request: web.Request
    names: dict[str, None] = field(default_factory=dict)  # ordered
    is_mute: bool = False  # half-open: it takes nothing and says nothing, pongs included


class Guest(Protocol):
    """Be other sockets beside the hub's: what befalls all sockets befalls them as well."""

    def cut(self) -> None:
        """Cut every connection at once, without a closing handshake."""
        ...

    def mute(self) -> None:
        """Leave the open sockets deaf and dumb."""
        ...

    async def flush(self) -> None:
        """Wait until all that was said is out."""
        ...

    async def close(self) -> None:
        """Say goodbye on every socket."""
        ...


class Hub:
    """Keep the open sockets and say things on their streams."""

    def __init__(self, faults: FaultSwitch, words: Words) -> None:
        self._faults = faults
        self._words = words
        self.guests: list[Guest] = []
        self._sockets: dict[_Socket, None] = {}
        self._listeners: dict[str, dict[_Socket, None]] = {}
        self._parsed: dict[str, Stream] = {}
        self.frames_sent = 0
        self._struck: dict[Fault, set[str]] = {}  # what is wrong with this publication, and whom
        self._shuffled: list[_Said] = []
        self._late: list[_Said] = []
        self._late_before: list[_Said] = []

    @property
    def sockets(self) -> int:
        """Give the number of open sockets."""
        return len(self._sockets)

    @property
    def streams(self) -> list[Stream]:
        """List the streams somebody listens to, in order of first subscription."""
        return list(self._parsed.values())

    async def serve(
        self,
        request: web.Request,
        first: Iterable[str],
        greet: Callable[[list[Stream]], list[tuple[Stream, str]]],
    ) -> web.WebSocketResponse:
        """Hold one socket open until its client leaves.

        `first` are streams named in the path; `greet` gives the messages that follow a fresh
        subscription at once, as a live venue's next update would.
        """
        ws = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=2**20)
        await ws.prepare(request)
        socket = _Socket(ws, request)
        self._sockets[socket] = None
        try:
            await self._greet(socket, self._subscribe(socket, first), greet)
            async for message in ws:
                if message.type is WSMsgType.PING and not socket.is_mute:
                    await ws.pong(message.data)
                if message.type is not WSMsgType.TEXT or socket.is_mute:
                    continue
                fresh = await self._answer(socket, message.data)
                await self._greet(socket, fresh, greet)
        except ConnectionResetError:
            pass  # the client left while we were answering
        finally:
            self._forget(socket)
        return ws

    async def say(self, stream: Stream, text: str) -> bool:
        """Send `text` to everyone on `stream`; tell whether there was anyone."""
        if self._is_struck(Fault.STALL, stream):
            return False
        if not self._listeners.get(stream.name):
            return False
        text = self._words.spoil(self._faults, stream.symbol, text)
        if self._is_struck(Fault.LATE_FRAMES, stream):
            self._late.append((stream, text))
        elif self._is_struck(Fault.SHUFFLED_FRAMES, stream):
            self._shuffled.append((stream, text))
        else:
            await self._tell(stream, text)
        return True

    def begin_publication(self) -> None:
        """Learn which faults strike what is said from now on, until `end_publication`."""
        if self._faults.takes(Fault.HALF_OPEN):
            for socket in self._sockets:
                socket.is_mute = True
            for guest in self.guests:
                guest.mute()
        for strike in self._faults.take_all(*_OF_PUBLICATIONS):
            self._struck.setdefault(strike.fault, set()).add(strike.symbol)

    async def end_publication(self, seed: int) -> None:
        """Say what was held back: mixed frames at once, late ones after the next publication."""
        mixed, self._shuffled = self._shuffled, []
        random.Random(seed).shuffle(mixed)
        late, self._late_before, self._late = self._late_before, self._late, []
        for stream, text in (*mixed, *late):
            await self._tell(stream, text)
        for guest in self.guests:
            await guest.flush()
        self._struck.clear()

    async def _tell(self, stream: Stream, text: str) -> None:
        times = 2 if self._is_struck(Fault.DUPLICATE_FRAMES, stream) else 1
        for socket in list(self._listeners.get(stream.name, ())) * times:
            await self._send(socket, text)

    def _is_struck(self, fault: Fault, stream: Stream) -> bool:
        return self.strikes(fault, stream.symbol)

    def strikes(self, fault: Fault, symbol: str) -> bool:
        """Tell whether a fault strikes what this publication says of a symbol."""
        struck = self._struck.get(fault)
        return struck is not None and ("" in struck or symbol in struck)

    def cut_all(self) -> None:
        """Cut every connection at once, without a closing handshake."""
        for socket in list(self._sockets):
            self._cut(socket)
        for guest in self.guests:
            guest.cut()

    def _cut(self, socket: _Socket) -> None:
        self._forget(socket)
        if socket.request.transport is not None:
            socket.request.transport.abort()

    async def close_all(self) -> None:
        """Say goodbye on every socket."""
        for socket in list(self._sockets):
            await socket.ws.close(code=1001, message=b"the rehearsal ends")
        for guest in self.guests:
            await guest.close()

    async def _send(self, socket: _Socket, text: str) -> None:
        if socket.is_mute:
            return
        try:
            async with asyncio.timeout(SEND_SECONDS_MAX):
                await socket.ws.send_str(text)
                self.frames_sent += 1
        except (TimeoutError, ConnectionError):
            self._cut(socket)

    async def _greet(
        self,
        socket: _Socket,
        fresh: list[Stream],
        greet: Callable[[list[Stream]], list[tuple[Stream, str]]],
    ) -> None:
        heard = [s for s in fresh if not self._faults.is_active(Fault.STALL, s.symbol)]
        if heard:
            for _, text in greet(heard):
                await self._send(socket, text)

    async def _answer(self, socket: _Socket, text: str) -> list[Stream]:
        """Answer one request; give the streams that it newly subscribed."""
        words, request = self._words, self._words.read(text)
        why, verdict, fresh = words.wrong(request, socket.names), Verdict.DONE, []
        if why:
            verdict = Verdict.WRONG
        elif request.want is Want.SUBSCRIBE and self._faults.takes(Fault.SUBSCRIBE_REFUSED):
            verdict = Verdict.REFUSED
        elif request.want is Want.SUBSCRIBE:
            fresh = self._subscribe(socket, request.names)
        elif request.want is Want.UNSUBSCRIBE:
            self._unsubscribe(socket, request.names)
        await self._send(socket, words.reply(request, verdict, socket.names, why))
        return fresh

    def _subscribe(self, socket: _Socket, names: Iterable[str]) -> list[Stream]:
        fresh = []
        for name in names:
            if len(socket.names) >= STREAMS_PER_SOCKET_MAX or name in socket.names:
                continue
            socket.names[name] = None
            stream = self._words.parse(name)
            if stream is not None:
                self._parsed[name] = stream
                self._listeners.setdefault(name, {})[socket] = None
                fresh.append(stream)
        return fresh

    def _unsubscribe(self, socket: _Socket, names: Iterable[str]) -> None:
        for name in list(names):
            socket.names.pop(name, None)
            listeners = self._listeners.get(name, {})
            listeners.pop(socket, None)
            if not listeners:
                self._listeners.pop(name, None)
                self._parsed.pop(name, None)

    def _forget(self, socket: _Socket) -> None:
        self._unsubscribe(socket, list(socket.names))
        self._sockets.pop(socket, None)
