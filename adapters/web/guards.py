"""What every request must pass before the page looks at it, and what every answer carries.

A browser can be made to ask anything of an address on its own machine, by pages of strangers and
under foreign names. So the name asked for must be ours, a command must come from our own page with
the token, and nothing but what is listed is served.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MAX: Final = 4096
QUERY_BYTES_MAX: Final = 512
WRONG_MAX: Final = 5
WRONG_WINDOW_S: Final = 60.0
ADDRESSES_MAX: Final = 1000
READING: Final = ("GET", "HEAD")
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_PATH: Final = re.compile(rb"(/[A-Za-z0-9][A-Za-z0-9._-]*)*/?")


def names_of(host: str, port: int, others: Collection[str]) -> frozenset[str]:
    """Give the values of the Host header that are ours."""
    own = {"127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host}
    plain = own if port in (80, 443) else set()
    return frozenset(name.lower() for name in {*(f"{n}:{port}" for n in own), *plain, *others})


def refusal(status: int, why: str, **headers: str) -> JSONResponse:
    """Refuse in words."""
    return JSONResponse({"why": why}, status_code=status, headers=headers)


class Guard:
    """Stand around the page: what it does not let pass, the page never sees."""

    def __init__(self, app: ASGIApp, names: Callable[[], frozenset[str]]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                raw = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *raw]}
            await send(message)

        why = self._why_not(scope)
        if why is not None:
            await why(scope, receive, sending)
            return
        await self._app(scope, receive, sending)

    def _why_not(self, scope: Scope) -> JSONResponse | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts = [v.decode("latin-1").lower() for k, v in headers if k == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._names():
            return refusal(421, "this name is not the page's: see web.names")
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        if _PATH.fullmatch(raw) is None:
            return refusal(400, "there is no such path")
        if len(scope["query_string"]) > QUERY_BYTES_MAX:
            return refusal(414, "the question is too long")
        if scope["method"] not in (*READING, "POST"):
            return refusal(405, "read with GET, command with POST", allow="GET, HEAD, POST")
        if scope["method"] == "POST":
            return self._why_not_post(headers, hosts[0])
        return None

    @staticmethod
    def _why_not_post(headers: list[tuple[bytes, bytes]], host: str) -> JSONResponse | None:
        found = {k: v.decode("latin-1") for k, v in headers}
        origin = found.get(b"origin", "").lower()
        if origin not in (f"http://{host}", f"https://{host}"):
            return refusal(403, "commands are taken from the page itself only")
        if found.get(b"sec-fetch-site", "same-origin") != "same-origin":
            return refusal(403, "commands are taken from the page itself only")
        kind = found.get(b"content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return refusal(415, "commands are JSON")
        length = found.get(b"content-length", "")
        if not length.isdigit():
            return refusal(411, "say how long the command is")
        if int(length) > BODY_BYTES_MAX:
            return refusal(413, f"a command has at most {BODY_BYTES_MAX} bytes")
        return None


class Doorkeeper:
    """Know the token, and how often who was wrong; now_s: monotonic seconds.

    private: reading needs the token too.
    """

    def __init__(self, token: str, now_s: Callable[[], float], *, private: bool = False) -> None:
        self._private = private
        self._digest = _digest(token) if token else None
        self._now_s = now_s
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    @property
    def takes_commands(self) -> bool:
        """Tell whether there is a token at all."""
        return self._digest is not None

    def why_not_read(self, scope: Mapping[str, Any]) -> JSONResponse | None:
        """Refuse a reader without the token where the page is private; None lets pass."""
        return self.why_not(scope) if self._private else None

    def why_not(self, scope: Mapping[str, Any]) -> JSONResponse | None:
        """Refuse whoever does not bring the token; None lets pass.

        After WRONG_MAX wrong ones within WRONG_WINDOW_S an address is not listened to for a while,
        whatever it brings.
        """
        if self._digest is None:
            return refusal(403, "no token is set: commands are off (web.token_file)")
        client = scope.get("client")
        address = str(client[0]) if client else ""
        wait_s = self._wait_s(address)
        if wait_s > 0:
            seconds = str(int(wait_s) + 1)
            return refusal(
                429, f"too many wrong tokens: wait {seconds} s", **{"retry-after": seconds}
            )
        given = [v.decode("latin-1") for k, v in scope["headers"] if k == b"authorization"]
        if not given:  # nobody guessed
            return refusal(401, "the token is needed", **{"www-authenticate": "Bearer"})
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        right = hmac.compare_digest(_digest(token.strip()), self._digest)
        if scheme.lower() == "bearer" and right:
            return None
        self._note_wrong(address)
        return refusal(401, "this is not the token", **{"www-authenticate": "Bearer"})

    def _wait_s(self, address: str) -> float:
        wrong = self._wrong.get(address)
        if wrong is None or len(wrong) < WRONG_MAX:
            return 0.0
        return wrong[0] + WRONG_WINDOW_S - self._now_s()

    def _note_wrong(self, address: str) -> None:
        wrong = self._wrong.setdefault(address, deque(maxlen=WRONG_MAX))
        wrong.append(self._now_s())
        self._wrong.move_to_end(address)
        while len(self._wrong) > ADDRESSES_MAX:
            self._wrong.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
