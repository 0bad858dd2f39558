"""The page's own answers: its files, the event stream, what the journal remembers, and commands.

Files are read once at the start and served from memory by exact name; no request names a path on
the disk. What the journal and the spool are asked is handed in, see `Sources`.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from adapters.web.guards import BODY_BYTES_MAX, Doorkeeper, Guard, refusal
from adapters.web.hub import Hub
from daemon.domain.failures import EquipoiseError
from daemon.domain.messages import OperatorAction

STATIC: Final = Path(__file__).parent / "static"
KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
READS_AT_ONCE: Final = 2
COMMANDS_AT_ONCE: Final = 4
BODY_S_MAX: Final = 5.0
NOT_KEPT: Final = {"cache-control": "no-store"}
WORD_NEEDED: Final = (OperatorAction.FLATTEN, OperatorAction.KILL)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SYMBOL: Final = re.compile(r"[A-Za-z0-9/:._-]{1,64}")

Values = Mapping[str, object]
Answering = Callable[[Request], Awaitable[Response]]


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold a command as the page sends it. word: what was typed to confirm it."""

    action: OperatorAction
    request_id: str
    word: str = ""
    clear_latch: bool = False


@dataclass(frozen=True, slots=True)
class Sources:
    """Say where answers come from; all may take their time and are called in a thread.

    decision: of an instant, None where none was taken. candles: of a symbol. command: leaves a
    request for the daemon and gives its answer. exposition: of all topics as metrics, with the
    reader's Accept header; None where there is none.
    """

    decision: Callable[[int], Values | None]
    candles: Callable[[str], Values]
    command: Callable[[Wanted], Values]
    exposition: Callable[[Mapping[str, Values], str], tuple[bytes, str]] | None = None


def page(
    hub: Hub, sources: Sources, doorkeeper: Doorkeeper, names: Callable[[], frozenset[str]]
) -> Guard:
    """Make the page."""
    answers = _Answers(hub, sources, doorkeeper)
    reading = ["GET"]  # starlette adds HEAD
    routes = [
        Route("/", answers.index, methods=reading),
        Route("/static/{name}", answers.static, methods=reading),
        Route("/api/events", answers.to_readers(answers.events), methods=reading),
        Route("/api/trail", answers.to_readers(answers.trail), methods=reading),
        Route("/api/decision/{at_ms:int}", answers.to_readers(answers.decision), methods=reading),
        Route("/api/candles", answers.to_readers(answers.candles), methods=reading),
        Route("/api/token", answers.token, methods=["POST"]),
        Route("/api/command", answers.command, methods=["POST"]),
        Route("/healthz", answers.healthz, methods=reading),
        Route("/metrics", answers.to_readers(answers.metrics), methods=reading),
    ]
    handlers = {404: _unknown, 405: _unknown}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), names)


async def _unknown(request: Request, failure: Exception) -> Response:
    status = getattr(failure, "status_code", 404)
    return refusal(status, "nothing is there, or not in this way")


class _Answers:
    def __init__(self, hub: Hub, sources: Sources, doorkeeper: Doorkeeper) -> None:
        self._hub = hub
        self._sources = sources
        self._doorkeeper = doorkeeper
        self._files = {p.name: p.read_bytes() for p in STATIC.iterdir() if p.suffix in KINDS}
        self._tags = {n: f'"{hashlib.sha256(b).hexdigest()[:16]}"' for n, b in self._files.items()}
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._commanding = asyncio.Semaphore(COMMANDS_AT_ONCE)

    def to_readers(self, answer: Answering) -> Answering:
        """Let an answer be read by whoever may read."""

        async def guarded(request: Request) -> Response:
            refused = self._doorkeeper.why_not_read(request.scope)
            return await answer(request) if refused is None else refused

        return guarded

    async def index(self, request: Request) -> Response:
        return self._file(request, "index.html")

    async def static(self, request: Request) -> Response:
        return self._file(request, request.path_params["name"])

    def _file(self, request: Request, name: str) -> Response:
        content, kind = self._files.get(name), KINDS.get(Path(name).suffix)
        if content is None or kind is None:
            return refusal(404, "there is no such file")
        tag = self._tags[name]
        headers = {"cache-control": "no-cache", "etag": tag, "content-type": kind}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    async def events(self, request: Request) -> Response:
        if self._hub.is_full:
            return refusal(503, "too many pages are open: close one", **{"retry-after": "10"})
        headers = {**NOT_KEPT, "x-accel-buffering": "no"}
        return StreamingResponse(
            self._streamed(request), headers=headers, media_type="text/event-stream"
        )

    async def _streamed(self, request: Request) -> AsyncIterator[bytes]:
        with self._hub.joined() as client:
            if client is None:
                return
            async for message in self._hub.messages(client):
                yield message
                if await request.is_disconnected():  # writing to who has gone raises nothing
                    return

    async def trail(self, request: Request) -> Response:
        return _json(self._hub.trail.columns())

    async def decision(self, request: Request) -> Response:
        at_ms: int = request.path_params["at_ms"]
        if at_ms > 2**53:
            return refusal(404, "there is no such instant")
        try:
            async with self._reading:
                found = await asyncio.to_thread(self._sources.decision, at_ms)
        except EquipoiseError as e:
            return refusal(503, f"the journal cannot be read: {e}")
        return refusal(404, "no decision was taken then") if found is None else _json(found)

    async def candles(self, request: Request) -> Response:
        symbol = request.query_params.get("symbol", "")
        if _SYMBOL.fullmatch(symbol) is None:
            return refusal(400, "name a symbol")
        try:
            async with self._reading:
                return _json(await asyncio.to_thread(self._sources.candles, symbol))
        except EquipoiseError as e:
            return refusal(503, f"the journal cannot be read: {e}")

    async def token(self, request: Request) -> Response:
        refused = self._doorkeeper.why_not(request.scope)
        return Response(status_code=204, headers=NOT_KEPT) if refused is None else refused

    async def command(self, request: Request) -> Response:
        refused = self._doorkeeper.why_not(request.scope)
        if refused is not None:
            return refused
        try:
            wanted = msgspec.json.decode(await _body(request), type=Wanted)
        except (msgspec.DecodeError, TimeoutError) as e:
            return refusal(400, f"this is no command: {e}")
        if _REQUEST_ID.fullmatch(wanted.request_id) is None:
            return refusal(400, "a request id has up to 64 letters, digits, - and _")
        careful = wanted.action in WORD_NEEDED or wanted.clear_latch
        if careful and wanted.word != wanted.action.replace("_", "-"):
            return refusal(400, f"to confirm, type {wanted.action.replace('_', '-')}")
        if self._commanding.locked():
            return refusal(503, "other commands are still waiting for their answers")
        try:
            async with self._commanding:
                return _json(await asyncio.to_thread(self._sources.command, wanted))
        except (EquipoiseError, OSError) as e:
            return refusal(409, str(e))

    async def healthz(self, request: Request) -> Response:
        silent_s = self._hub.silent_s
        told = {"fresh": self._hub.is_fresh, "silent_s": silent_s, "stopped": self._hub.stopped}
        return _json(told, 200 if self._hub.is_fresh else 503)

    async def metrics(self, request: Request) -> Response:
        if self._sources.exposition is None:
            return refusal(404, "this build writes no metrics")
        accept = request.headers.get("accept", "")
        content, kind = self._sources.exposition(dict(self._hub.topics), accept)
        return Response(content, headers={"content-type": kind, **NOT_KEPT})


async def _body(request: Request) -> bytes:
    """Read a command's body, which the guard has measured by what it says of itself."""
    content = b""
    async with asyncio.timeout(BODY_S_MAX):
        async for part in request.stream():
            content += part
            if len(content) > BODY_BYTES_MAX:
                raise msgspec.DecodeError("it is too long")
    return content


def _json(values: object, status: int = 200) -> Response:
    headers = {"content-type": "application/json", **NOT_KEPT}
    return Response(msgspec.json.encode(values), status, headers)
