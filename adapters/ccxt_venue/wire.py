"""What really went over the wire during one call of a ccxt client.

ccxt raises the same classes for a mistake it found before sending anything and for a venue's
refusal, and its classes depend on the URL. Whether a request left, and the answer as it came, are
the only evidence about an order, so two methods of the client are wrapped on the instance: `fetch`
(a request begins) and `on_rest_response` (its answer is complete). The first is also the last place
where a request can be held back: `unless` does that. Must not know ccxt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

RETRY_AFTER: Final = "retry-after"


@dataclass(slots=True, repr=False)
class Exchange:
    """Hold one request and its answer; status, body: None while no complete answer came.

    path carries no query, because the query may carry a signature. host: without the port.
    """

    method: str
    path: str
    host: str
    status: int | None = None
    body: str | None = None
    retry_after_s: float | None = None

    def __repr__(self) -> str:
        return f"Exchange({self.method} {self.path}, status={self.status})"


_HEARD: ContextVar[list[Exchange] | None] = ContextVar("ccxt_wire", default=None)


class HeldBack(Exception):
    """Say why a request never began."""


_FORBIDS: ContextVar[tuple[tuple[Callable[[], str], type[HeldBack]], ...]] = ContextVar(
    "ccxt_wire_forbids", default=()
)


@contextmanager
def listening() -> Iterator[list[Exchange]]:
    """Collect the requests that watched clients make within this context, in order."""
    heard: list[Exchange] = []
    token = _HEARD.set(heard)
    try:
        yield heard
    finally:
        _HEARD.reset(token)


@contextmanager
def unless(forbids: Callable[[], str], says: type[HeldBack] = HeldBack) -> Iterator[None]:
    """Hold back every request within this context for which `forbids` gives a reason.

    It is asked immediately before the request begins, after the client's own throttle, and so is
    that of every context around this one; a request that is held back raises `says` and is not
    heard.
    """
    token = _FORBIDS.set((*_FORBIDS.get(), (forbids, says)))
    try:
        yield
    finally:
        _FORBIDS.reset(token)


def watch(client: Any) -> None:
    """Wrap a ccxt client so that `listening` hears it; a second time changes nothing."""
    if getattr(client, "equipoise_watched", False):
        return
    fetch, answered = client.fetch, client.on_rest_response

    async def noting_fetch(
        url: str, method: str = "GET", headers: object = None, body: object = None
    ) -> object:
        for forbids, says in _FORBIDS.get():
            if why := forbids():
                raise says(why)
        heard = _HEARD.get()
        if heard is not None:
            parts = urlsplit(url)
            heard.append(Exchange(method, parts.path, parts.hostname or ""))
        return await fetch(url, method, headers, body)

    def noting_answer(
        status: int,
        reason: str,
        url: str,
        method: str,
        headers: Mapping[str, str],
        body: str,
        *sent: object,
    ) -> object:
        _note_answer(method, urlsplit(url).path, status, headers, body)
        return answered(status, reason, url, method, headers, body, *sent)

    client.fetch, client.on_rest_response = noting_fetch, noting_answer
    client.equipoise_watched = True


def _note_answer(
    method: str, path: str, status: int, headers: Mapping[str, str], body: str
) -> None:
    for one in reversed(_HEARD.get() or ()):
        if one.status is None and (one.method, one.path) == (method, path):
            one.status, one.body = status, body
            one.retry_after_s = _retry_after_s(headers)
            return


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    for name, said in headers.items():
        if name.lower() == RETRY_AFTER and said.strip().isdecimal():
            return float(said)
    return None
