"""What became of a send, a cancel or a query: Rejected, NotSent, Uncertain, or the venue's answer.

Judged from what the wire saw (`wire`), never from ccxt's error classes. In short:

    nothing of ours began, or no connection was made     -> NotSent
    the venue's own code, and that code proves a refusal -> Rejected
    an answer that names our order by both ids           -> Answered
    everything else                                      -> Uncertain

Everything else means: timeout, reset, 5xx, an answer that is not JSON or lacks ids, an unknown
code, an exception nobody expected, a cancelled task. Rejected is about this request, not about the
order: a refused query says nothing of the order and is therefore Uncertain, and so is a send whose
id the venue has already, because an order of that name exists there and must be asked about.
Uncertain is never sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from adapters.ccxt_venue.codes import CODES, Reason, Verdict, payload_of, verdict_in
from adapters.ccxt_venue.keys import redacted
from adapters.ccxt_venue.wire import Exchange
from daemon.domain.failures import BadPayload
from daemon.domain.units import require

Answer = TypeVar("Answer")
TEXT_MAX: Final = 200
SERVER_ERROR: Final = 500
STATUSES_UNSAID: Final = frozenset({408})  # the server gave up waiting; it may have acted


class Ask(StrEnum):
    """Name the three things asked about one order."""

    SEND = "send"
    CANCEL = "cancel"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Rejected:
    """Prove that the venue refused this request; code is the venue's, reason is ours."""

    code: str
    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Prove that no byte of the request reached the venue."""

    why: str


@dataclass(frozen=True, slots=True)
class Uncertain:
    """Admit that nobody knows. code: what the venue said, where it said something."""

    why: str
    code: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """Hold the venue's answer to a query that it has no order of this id."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Answered(Generic[Answer]):
    """Hold what the venue answered about our order."""

    value: Answer


Outcome = Rejected | NotSent | Uncertain | Absent | Answered[Answer]

# The requests that count, by the end of their path. Whatever else a ccxt method asks beforehand
# (account mode, list of markets) cannot have moved an order.
_OKX_ORDER: Final = "/api/v5/trade/order"
_PATHS: Final[Mapping[str, Mapping[Ask, tuple[str, tuple[str, ...]]]]] = MappingProxyType(
    {
        "binanceusdm": {
            Ask.SEND: ("POST", ("/fapi/v1/order",)),
            Ask.CANCEL: ("DELETE", ("/fapi/v1/order",)),
            Ask.QUERY: ("GET", ("/fapi/v1/order",)),
        },
        "bybit": {
            Ask.SEND: ("POST", ("/v5/order/create",)),
            Ask.CANCEL: ("POST", ("/v5/order/cancel",)),
            Ask.QUERY: ("GET", ("/v5/order/realtime", "/v5/order/history")),
        },
        "okx": {
            Ask.SEND: ("POST", (_OKX_ORDER, "/api/v5/trade/batch-orders")),
            Ask.CANCEL: ("POST", ("/api/v5/trade/cancel-order",)),
            Ask.QUERY: ("GET", (_OKX_ORDER,)),
        },
    }
)

# aiohttp raises these before it writes the first byte of a request: name resolution, connect, TLS.
_NO_CONNECTION: Final = frozenset(
    {"gaierror", "ClientConnectorError", "ConnectionTimeoutError", "ServerFingerprintMismatch"}
)
_NO_TUNNEL: Final = frozenset({"ClientProxyConnectionError", "ClientHttpProxyError"})


def judge(
    venue: str,
    ask: Ask,
    heard: Sequence[Exchange],
    trouble: BaseException | None,
    read: Callable[[object], Answer],
) -> Outcome[Answer]:
    """Say what became of a request from the wire's record and what the call raised, if anything.

    read: turns the payload of a good answer into the answer and raises BadPayload where the
    payload does not name our order. Raises InvariantViolated for a venue without a table.
    """
    require(venue in _PATHS, f"venue {venue!r} has no table of outcomes; known: {sorted(_PATHS)}")
    if isinstance(trouble, asyncio.CancelledError):
        return Uncertain("our own task was cancelled while the request was under way")
    ours = _requests(venue, ask, heard)
    if not ours:
        return _nothing_began(trouble)
    if len(ours) > 1:
        # The last answer cannot speak for the first request. Several listings are several calls.
        return Uncertain(f"the request went out {len(ours)} times")
    last = ours[-1]
    if last.status is None:
        return _unanswered(last, trouble)
    return _answered(venue, ask, last, read)


def absent_after(
    listings: Sequence[Outcome[Answer | None]],
) -> Outcome[Answer | None]:
    """Judge a query that needs several listings: absent only if every one answered 'nothing'.

    The first listing that is no answer, or that has the order, is the outcome.
    """
    require(listings, "a query needs at least one listing")
    for one in listings:
        if not (isinstance(one, Answered) and one.value is None):
            return one
    return Absent("", f"in none of {len(listings)} listings")


def _requests(venue: str, ask: Ask, heard: Sequence[Exchange]) -> list[Exchange]:
    method, ends = _PATHS[venue][ask]
    return [one for one in heard if one.method == method and one.path.endswith(ends)]


def _nothing_began(trouble: BaseException | None) -> NotSent | Uncertain:
    if trouble is None:
        return Uncertain("the call returned, but its request was not heard on the wire")
    return NotSent(f"refused here, before any request: {_words(trouble)}")


def _unanswered(last: Exchange, trouble: BaseException | None) -> NotSent | Uncertain:
    cause = _no_connection(trouble)
    why = "no answer" if trouble is None else f"no answer: {_words(cause or trouble)}"
    if cause is None:
        return Uncertain(why)
    if last.method != "POST":
        # aiohttp sends these a second time when a kept connection dies: the first may have arrived.
        return Uncertain(f"{why}; an earlier attempt may have arrived")
    host = getattr(cause, "host", None)
    if host is not None and host != last.host and not _names(cause) & _NO_TUNNEL:
        return Uncertain(f"{why}; the request had been redirected to {host}")
    return NotSent(why)


def _no_connection(trouble: BaseException | None) -> BaseException | None:
    """Find the proof in a chain of causes that no connection was made."""
    for one in _chain(trouble):
        if _names(one) & (_NO_CONNECTION | _NO_TUNNEL):
            return one
    return None


def _chain(trouble: BaseException | None) -> Iterator[BaseException]:
    # Only what was raised *from* counts: a context may belong to an earlier, handled failure.
    seen = 0
    while trouble is not None and seen < _CAUSES_MAX:
        yield trouble
        trouble, seen = trouble.__cause__, seen + 1


_CAUSES_MAX: Final = 8


def _names(trouble: BaseException) -> set[str]:
    return {base.__name__ for base in type(trouble).__mro__}


def _answered(
    venue: str, ask: Ask, last: Exchange, read: Callable[[object], Answer]
) -> Outcome[Answer]:
    status = last.status or 0
    payload = payload_of(last.body)
    verdict = None if payload is None else verdict_in(venue, payload)
    code = verdict.code if verdict is not None else None
    if status >= SERVER_ERROR or status in STATUSES_UNSAID:
        return Uncertain(f"HTTP {status}: {_flat(last.body)}", code, last.retry_after_s)
    if payload is None:
        why = f"HTTP {status}, and the answer is not JSON: {_flat(last.body)}"
        return Uncertain(why, None, last.retry_after_s)
    if verdict is not None:
        return _refused(venue, ask, verdict, last)
    if not 200 <= status < 300:
        why = f"HTTP {status} without a code of the venue's: {_flat(last.body)}"
        return Uncertain(why, None, last.retry_after_s)
    try:
        return Answered(read(payload))
    except BadPayload as e:
        return Uncertain(f"HTTP {status}, and the answer does not fit: {_flat(str(e))}")


def _refused(
    venue: str, ask: Ask, verdict: Verdict, last: Exchange
) -> Rejected | Uncertain | Absent:
    text = _flat(verdict.text)
    if ask is Ask.QUERY:
        if verdict.code in CODES[venue].absent:
            return Absent(verdict.code, text)
        why = f"the question was refused, which says nothing of the order: {text}"
        return Uncertain(why, verdict.code, last.retry_after_s)
    if verdict.reason is None:
        return Uncertain(f"a code we cannot read: {text}", verdict.code, last.retry_after_s)
    if ask is Ask.SEND and verdict.reason in _EXISTS:
        return Uncertain(f"the venue knows an order of this id: {text}", verdict.code)
    return Rejected(verdict.code, verdict.reason, text)


# NOT_RESTING to a send makes no sense: whatever it means, it proves nothing.
_EXISTS: Final = frozenset({Reason.DUPLICATE, Reason.NOT_RESTING})


def _words(trouble: BaseException) -> str:
    return f"{type(trouble).__name__}: {_flat(str(trouble))}"


def _flat(text: str | None) -> str:
    # Masked before it is cut, so that no half of a signature is left over.
    flat = " ".join(redacted(text or "").split())
    return flat if len(flat) <= TEXT_MAX else flat[: TEXT_MAX - 3] + "..."
