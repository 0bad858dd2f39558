"""Which socket carries which instruments, and which of them a refused subscription was about.

ccxt sends the request of a `watch` call and keeps no link from the venue's answer back to it. The
two methods through which every such call goes are wrapped on the instance, and what was asked is
kept with its socket. A refusal then ends the wait of those it is about, and nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

from adapters.exchange.failures import SubscriptionRefused, shortened

WATCHED: Final[ContextVar[tuple[str, ...]]] = ContextVar("ccxt_watched", default=())
"""The unified symbols of the `watch` call under way."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Hold one request to subscribe: its message, and ccxt's names of what it waits for."""

    message: Mapping[str, Any]
    waits: tuple[str, ...]
    subscriptions: tuple[str, ...]
    symbols: tuple[str, ...]


def note_requests(api: Any) -> None:
    """Wrap the methods of a ccxt object that subscribe, so that each socket keeps its requests."""
    many, one = api.watch_multiple, api.watch

    def noted_many(
        url: str,
        message_hashes: Sequence[str],
        message: Any = None,
        subscribe_hashes: Sequence[str] | None = None,
        *rest: Any,
    ) -> Any:
        _note(api, url, message_hashes, message, subscribe_hashes or ())
        return many(url, message_hashes, message, subscribe_hashes, *rest)

    def noted_one(
        url: str, message_hash: str, message: Any = None, subscribe_hash: Any = None, *rest: Any
    ) -> Any:
        _note(api, url, [message_hash], message, [subscribe_hash])
        return one(url, message_hash, message, subscribe_hash, *rest)

    api.watch_multiple, api.watch = noted_many, noted_one


def _note(
    api: Any, url: str, waits: Sequence[str], message: Any, subscriptions: Sequence[str]
) -> None:
    symbols, socket = WATCHED.get(), api.client(url)
    known = all(name in socket.subscriptions for name in subscriptions)
    if symbols and not known and isinstance(message, Mapping):
        request = Asked(message, tuple(waits), tuple(subscriptions), symbols)
        _asked_on(socket).append(request)


def carried_by(socket: Any) -> frozenset[str] | None:
    """Give the symbols that a socket was asked for; None where nobody knows."""
    asked = _asked_on(socket)
    return frozenset(symbol for one in asked for symbol in one.symbols) if asked else None


def refuse(socket: Any, message: Mapping[str, Any], market_id: Callable[[str], str]) -> bool:
    """End the wait of those whom a refusal is about; False where that cannot be told.

    They are found by the number of the request, or by the venue's own id in the words of the
    refusal; what is unsubscribed so is asked for again by the next `watch` call.
    """
    asked, words = _asked_on(socket), str(message)
    number = message.get("id", message.get("req_id"))
    for one in asked:
        named = [s for s in one.symbols if number is None and market_id(s) in _words_of(message)]
        if named or (number is not None and str(_number_of(one)) == str(number)):
            _end(socket, one, named or one.symbols, words)
            return True
    return False


def _end(socket: Any, asked: Asked, symbols: Collection[str], words: str) -> None:
    trouble = SubscriptionRefused(f"a subscription was refused: {shortened(words)}", symbols)
    paired = len(asked.symbols) == len(asked.waits) == len(asked.subscriptions)
    refused = [not paired or symbol in symbols for symbol in asked.symbols]
    kept = [one for one, gone in zip(asked.symbols, refused, strict=True) if not gone]
    _asked_on(socket).remove(asked)
    if kept:
        _asked_on(socket).append(replace(asked, symbols=tuple(kept)))
    for place, name in enumerate(asked.subscriptions):
        if not paired or refused[place]:
            socket.subscriptions.pop(name, None)
    first = next(place for place, gone in enumerate(refused) if gone) if paired else 0
    socket.reject(trouble, asked.waits[first])


def _words_of(message: Mapping[str, Any]) -> list[str]:
    """Split the words of a refusal where a name of a contract may begin or end."""
    told = str(message.get("msg", ""))
    for mark in ":,;\"'{}()[]":
        told = told.replace(mark, " ")
    return told.split()


def _number_of(asked: Asked) -> object:
    return asked.message.get("id", asked.message.get("req_id"))


def _asked_on(socket: Any) -> list[Asked]:
    found: list[Asked] | None = getattr(socket, "asked", None)
    if found is None:
        found = socket.asked = []
    return found
