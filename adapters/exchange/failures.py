"""What an exception of ccxt, or an answer that is no answer, means for us.

Three kinds: `Unanswered` (this time; asking again may help), `BadPayload` (the answer is not the
venue's dialect: never read as 'nothing'), and a plain `VenueError` (asking again cannot help; the
message says why and what to do). Classes are recognised by name, so that importing this module does
not load ccxt. Orders are not judged here: a lost answer about an order is *uncertain*, not unsent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from daemon.domain.failures import BadPayload, VenueError

PAYLOAD_ERRORS: Final = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    ArithmeticError,
)
"""What a parser raises when a payload has another shape than it expects."""

_LASTING: Final = {
    "AuthenticationError": "the venue wants a key for this, or refuses the one given",
    "PermissionDenied": "the venue does not permit this to us",
    "AccountSuspended": "the venue has suspended the account",
    "NotSupported": "ccxt cannot do this at this venue",
    "ArgumentsRequired": "ccxt wants an argument that this venue needs",
    "InvalidProxySettings": "the proxy settings contradict each other",
}
_CROWDED: Final = {"RateLimitExceeded", "DDoSProtection"}
_STATUS: Final = re.compile(r"\s(4\d\d|5\d\d)\s")
_TEXT_SHOWN_MAX: Final = 200
_BLOCKED: Final = re.compile(
    r"restricted location|not available in your (?:country|region)", re.IGNORECASE
)


class Unanswered(VenueError):
    """Signal that the venue did not serve this request now; it may serve the next one."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SubscriptionRefused(Unanswered):
    """Signal that the venue will not stream some instruments (unified symbols); others go on."""

    def __init__(self, message: str, symbols: Iterable[str]) -> None:
        super().__init__(message)
        self.symbols = frozenset(symbols)


class SymbolGone(VenueError):
    """Signal that the venue does not know the symbol (any more): its own word, not a failure."""


def judge(
    trouble: Exception,
    *,
    exchange: str,
    doing: str,
    status: int | None = None,
    retry_after_s: float | None = None,
) -> VenueError | BadPayload:
    """Translate what a ccxt call raised; `status` is the HTTP status where one was seen."""
    if isinstance(trouble, VenueError | BadPayload):
        return trouble
    names = {base.__name__ for base in type(trouble).__mro__}
    text = shortened(str(trouble))
    if status is None:
        found = _STATUS.search(text)
        status = int(found[1]) if found else None
    if status in {451, 403} or _BLOCKED.search(str(trouble)):
        return VenueError(geo_block(exchange, doing, status, text))
    if "BaseError" not in names and isinstance(trouble, PAYLOAD_ERRORS):
        return BadPayload(
            f"{exchange}, {doing}: the answer has a shape that cannot be read"
            f" ({type(trouble).__name__}: {text})"
        )
    if names & _CROWDED:
        return Unanswered(f"{exchange}, {doing}: asked too often: {text}", retry_after_s)
    if "BadSymbol" in names:
        return SymbolGone(f"{exchange}, {doing}: the venue does not know the symbol: {text}")
    for name, meaning in _LASTING.items():
        if name in names:
            return VenueError(f"{exchange}, {doing}: {meaning}: {text}")
    if "NetworkError" in names and status is None:
        text = f"could not be reached; is there a network, and is the venue up? {text}"
    return Unanswered(f"{exchange}, {doing}: {type(trouble).__name__}: {text}", retry_after_s)


def geo_block(exchange: str, doing: str, status: int | None, text: str) -> str:
    """Explain a refusal for reasons of place, in plain words."""
    if status == 403:
        cause = (
            "refused the connection itself (HTTP 403): its firewall blocks this address, most often"
            " because of the country or hosting provider it belongs to"
        )
    else:
        cause = (
            f"does not serve the place this machine connects from (HTTP {status or 451}):"
            " a legal restriction, no fault of the program"
        )
    return (
        f"{exchange}, {doing}: the venue {cause}. Choose another exchange id that serves you,"
        " run where you are allowed to use this one, or name a proxy there in the exchange's"
        f" options (httpsProxy and wssProxy). The venue said: {text}"
    )


def not_json(exchange: str, method: str, url: str, body: object) -> BadPayload:
    """Name an answer with a good status that is not JSON: a gateway page, or a cut body."""
    place = url.partition("?")[0]
    return BadPayload(
        f"{exchange}: {method} {place} answered something that is not JSON: {shortened(repr(body))}"
    )


def unknown_exchange(exchange: str, known: Iterable[str]) -> VenueError:
    """Name an exchange id that ccxt does not have, with the nearest ones."""
    names = list(known)
    near = get_close_matches(exchange.lower(), names, n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    return VenueError(
        f"exchange {exchange!r}: no such id among the {len(names)} that ccxt knows{hint}"
    )


def unknown_symbol(exchange: str, wanted: str, known: Iterable[str]) -> VenueError:
    """Name a symbol that the venue does not trade as a linear perpetual, with the nearest ones."""
    names = list(known)
    near = get_close_matches(wanted.upper(), names, n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    return VenueError(
        f"symbol {wanted!r}: {exchange} has no such linear perpetual{hint}"
        " (accepted: BTC/USDT:USDT, the venue's own id BTCUSDT, or top:12); one that is listed"
        " later can join a running book that was begun with universe.spare columns"
    )


def shortened(text: str) -> str:
    """Cut a venue's words to what fits in a message."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _TEXT_SHOWN_MAX else flat[: _TEXT_SHOWN_MAX - 3] + "..."
