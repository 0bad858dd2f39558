"""Bybit's private sockets: log-in, topics, what happened to an account, and who is still there.

Frames are written when the bank says so and sent in that order by a task of each socket; `flush`
waits until all are out. An account that asked for it gets its orders cancelled once its last socket
with a `dcp` topic has been gone for a while. A client that freezes keeps its socket open: the venue
cuts one off on which nothing came for `max_active_time`, as the client wrote into its address.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import WSMsgType, web

from adapters.rehearsal.accounts import Accounts, KeySettings
from adapters.rehearsal.bank.records import (
    AccountUpdated,
    BankEvent,
    FundingBooked,
    OrderFilled,
    OrderUpdated,
)
from adapters.rehearsal.bybit.payloads import execution_row
from adapters.rehearsal.bybit.record import Record, execution_of
from adapters.rehearsal.bybit.signing import Gate
from adapters.rehearsal.bybit.spoiling import GARBAGE
from adapters.rehearsal.bybit.words import CONNECTION
from adapters.rehearsal.faults import Fault, FaultSwitch
from adapters.rehearsal.streams import SEND_SECONDS_MAX, Hub

OUTBOX_FRAMES_MAX: Final = 10_000  # who reads nothing for so long is cut off
TOPICS: Final = frozenset({"order", "execution", "position", "wallet", "dcp"})
SILENCE_S_MAX: Final = 600.0  # on a socket that asks for no other
SILENCE_S_MIN: Final = 30.0
_SUFFIXES: Final = frozenset({"", "linear", "future"})
_LENGTH: Final = re.compile(r"(\d{1,4})([sm])")


@dataclass(eq=False, slots=True)
class _Socket:
    ws: web.WebSocketResponse
    request: web.Request
    who: KeySettings | None = None
    topics: dict[str, str] = field(default_factory=dict)  # topic -> as the client named it
    outbox: deque[str] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    is_mute: bool = False


@dataclass(frozen=True, slots=True)
class _Piece:
    """Hold one thing that is said about an event: its topic and its row."""

    event: BankEvent
    topic: str
    symbol: str
    row: dict[str, Any]


class PrivateSockets:
    """Hold the private sockets of all accounts."""

    def __init__(
        self,
        accounts: Accounts,
        record: Record,
        gate: Gate,
        hub: Hub,
        faults: FaultSwitch,
        windows_s: dict[str, int],
    ) -> None:
        self._accounts = accounts
        self._record = record
        self._gate = gate
        self._hub = hub
        self._faults = faults
        self._windows_s = windows_s
        self.hurry = 1.0  # how much sooner than asked for silence ends a socket; tests cannot wait
        self._sockets: dict[_Socket, None] = {}
        self._mixed: list[tuple[_Socket, str]] = []
        self._late: list[tuple[_Socket, str]] = []
        self._late_before: list[tuple[_Socket, str]] = []
        hub.guests.append(self)
        accounts.listen(self._hear)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Hold one socket open until its client leaves."""
        patience_s = silence_s(request.query.get("max_active_time", "")) / self.hurry
        ws = web.WebSocketResponse(
            autoping=False, compress=False, max_msg_size=2**20, receive_timeout=patience_s
        )
        await ws.prepare(request)
        socket = _Socket(ws, request)
        socket.sent.set()
        self._sockets[socket] = None
        writer = asyncio.create_task(self._write(socket), name="private-socket")
        try:
            async for message in ws:
                if message.type is WSMsgType.PING and not socket.is_mute:
                    await ws.pong(message.data)
                if message.type is WSMsgType.TEXT and not socket.is_mute:
                    self._answer(socket, message.data)
        except ConnectionResetError:
            pass  # the client left while we were answering
        except TimeoutError:
            self._cut(socket)
        finally:
            writer.cancel()
            self._forget(socket)
        return ws

    # ---- what the hub asks of its guests ---------------------------------------------------------

    def cut(self) -> None:
        """Cut every connection at once, without a closing handshake."""
        for socket in list(self._sockets):
            self._cut(socket)

    def mute(self) -> None:
        """Leave the open sockets deaf and dumb."""
        for socket in self._sockets:
            socket.is_mute = True

    async def flush(self) -> None:
        """Say what was held back, and wait until all is out.

        Mixed frames come at once, late ones after those of the next publication.
        """
        mixed, self._mixed = self._mixed, []
        random.Random(len(mixed)).shuffle(mixed)
        late, self._late_before, self._late = self._late_before, self._late, []
        for socket, text in (*mixed, *late):
            self._put(socket, text)
        for socket in list(self._sockets):
            await socket.sent.wait()

    async def close(self) -> None:
        """Say goodbye on every socket."""
        for socket in list(self._sockets):
            await socket.ws.close(code=1001, message=b"the rehearsal ends")

    @property
    def open_n(self) -> int:
        """Count the open sockets."""
        return len(self._sockets)

    # ---- requests --------------------------------------------------------------------------------

    def _answer(self, socket: _Socket, text: str) -> None:
        try:
            asked = json.loads(text)
            op, arguments = str(asked["op"]), list(asked.get("args") or [])
        except (json.JSONDecodeError, AttributeError, KeyError, TypeError):
            self._say(socket, {"success": False, "ret_msg": "error:invalid op", "op": ""})
            return
        number = {"req_id": asked["req_id"]} if "req_id" in asked else {}
        if op == "ping":
            now_ms = str(self._accounts.bank.now_ms)
            self._say(socket, number | {"op": "pong", "args": [now_ms]})
            return
        why = self._refusal(socket, op, arguments)
        answer = {"success": not why, "ret_msg": why, "op": op} | number
        self._say(socket, answer)

    def _refusal(self, socket: _Socket, op: str, arguments: Sequence[Any]) -> str:
        """Do what is asked; give why it is refused, empty where it is not."""
        if op == "auth":
            socket.who = self._gate.log_in(arguments)
            return "" if socket.who is not None else "Params Error"
        if op not in {"subscribe", "unsubscribe"}:
            return "error:invalid op"
        if socket.who is None:
            return "Request not authorized"
        if self._faults.takes(Fault.SUBSCRIBE_REFUSED):
            return "error:too many topics, try again later"
        for name in arguments:
            topic, _, suffix = str(name).partition(".")
            if topic not in TOPICS or suffix not in _SUFFIXES:
                return f"error:handler not found,topic:{name}"
            if op == "unsubscribe":
                socket.topics.pop(topic, None)
            elif topic in socket.topics:
                return f"error:already subscribed,topic:{name}"
            else:
                socket.topics[topic] = str(name)
        if any(str(name).startswith("dcp") for name in arguments):
            self._watch_presence(socket.who.key)
        return ""

    # ---- what happened ---------------------------------------------------------------------------

    def _hear(self, events: Sequence[BankEvent]) -> None:
        if not self._sockets:
            return
        pieces = list(self._pieces(events))
        struck = [p.symbol for p in pieces if isinstance(p.event, OrderFilled)]
        if struck and self._faults.takes(Fault.FILLS_SHUFFLED, symbol=struck[0]):
            pieces.reverse()
        for piece in pieces:
            self._tell(piece)
            execution = piece.topic == "execution" and isinstance(piece.event, OrderFilled)
            if execution and self._faults.takes(Fault.FILL_DUPLICATED, symbol=piece.symbol):
                self._tell(piece)

    def _pieces(self, events: Sequence[BankEvent]) -> Iterator[_Piece]:
        """Give what the venue says about events, in its order."""
        wallets: dict[str, None] = {}
        for event in events:
            if isinstance(event, OrderUpdated | OrderFilled):
                row = self._record.order_row(event.order)
                yield _Piece(event, "order", event.order.symbol, row)
            kept = execution_of(event)
            if kept is not None and isinstance(event, OrderFilled | FundingBooked):
                symbol = event.trade.symbol if isinstance(event, OrderFilled) else event.symbol
                yield _Piece(event, "execution", symbol, execution_row(kept))
            if isinstance(event, AccountUpdated):
                wallets[event.account] = None
                if event.symbol:
                    row = self._record.position_row(event.account, event.symbol, event.position)
                    yield _Piece(event, "position", event.symbol, row)
        for key in wallets:
            last = [event for event in events if event.account == key][-1]
            yield _Piece(last, "wallet", "", self._record.wallet_row(key))

    def _tell(self, piece: _Piece) -> None:
        """Put a frame into the outbox of each socket of the account that wants the topic."""
        event, symbol = piece.event, piece.symbol
        wanted = [
            (socket, socket.topics[piece.topic])
            for socket in self._sockets
            if socket.who is not None
            and socket.who.key == event.account
            and piece.topic in socket.topics
            and not self._hub.strikes(Fault.STALL, symbol)
        ]
        if not wanted or self._faults.takes(Fault.USER_STREAM_STALLED, symbol=symbol):
            return
        broken = self._faults.takes(Fault.GARBAGE_FRAME, Fault.USER_FRAME_GARBAGE, symbol=symbol)
        for socket, named in wanted:
            frame = {"id": f"{event.number:032x}", "topic": named, "creationTime": event.at_ms}
            text = GARBAGE if broken else json.dumps(frame | {"data": [piece.row]})
            if self._hub.strikes(Fault.LATE_FRAMES, symbol):
                self._late.append((socket, text))
            elif self._hub.strikes(Fault.SHUFFLED_FRAMES, symbol):
                self._mixed.append((socket, text))
            else:
                self._put(socket, text)
                if self._hub.strikes(Fault.DUPLICATE_FRAMES, symbol):
                    self._put(socket, text)

    def _say(self, socket: _Socket, answer: dict[str, Any]) -> None:
        self._put(socket, json.dumps(answer | {"conn_id": CONNECTION}))

    def _put(self, socket: _Socket, text: str) -> None:
        if len(socket.outbox) >= OUTBOX_FRAMES_MAX:
            self._cut(socket)
            return
        socket.outbox.append(text)
        socket.sent.clear()
        socket.wake.set()

    async def _write(self, socket: _Socket) -> None:
        try:
            while True:
                await socket.wake.wait()
                socket.wake.clear()
                while socket.outbox:
                    text = socket.outbox.popleft()
                    if not socket.is_mute:
                        async with asyncio.timeout(SEND_SECONDS_MAX):
                            await socket.ws.send_str(text)
                socket.sent.set()
        except (TimeoutError, ConnectionError):
            self._cut(socket)
        finally:
            socket.sent.set()

    # ---- presence --------------------------------------------------------------------------------

    def _watch_presence(self, key: str) -> None:
        """Start the count-down of an account whose last watched socket is gone; else stop it."""
        window_s = self._windows_s.get(key)
        if window_s is None:
            return
        is_there = any(
            socket.who is not None and socket.who.key == key and "dcp" in socket.topics
            for socket in self._sockets
        )
        self._accounts.settled().set_timer(key, 0 if is_there else window_s * 1000)

    def _cut(self, socket: _Socket) -> None:
        self._forget(socket)
        if socket.request.transport is not None:
            socket.request.transport.abort()

    def _forget(self, socket: _Socket) -> None:
        was_there = self._sockets.pop(socket, socket) is None
        if was_there and socket.who is not None and "dcp" in socket.topics:
            self._watch_presence(socket.who.key)
        socket.sent.set()


def silence_s(asked: str) -> float:
    """Read after how many seconds without a frame a client wants its socket ended, as 30s or 2m.

    What cannot be read, or is out of bounds, counts as not asked for.
    """
    found = _LENGTH.fullmatch(asked)
    seconds = 0.0 if found is None else float(found[1]) * (60.0 if found[2] == "m" else 1.0)
    return seconds if SILENCE_S_MIN <= seconds <= SILENCE_S_MAX else SILENCE_S_MAX
