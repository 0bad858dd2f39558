"""The seam between what an exchange says on its sockets and the venue's words for it.

`exchange.py` and `Hub` decide what is said, when and to whom; a `Words` writes it as one venue
does, reads the venue's names of streams, and answers its requests to subscribe.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from adapters.rehearsal.faults import FaultSwitch
from adapters.rehearsal.market import Coin
from adapters.rehearsal.publication import Kline, Print


class StreamKind(StrEnum):
    """Name what a stream carries."""

    KLINE = "kline"
    TRADE = "trade"
    AGGREGATE_TRADE = "aggTrade"
    MARK = "markPrice"
    ALL_MARKS = "!markPrice@arr"
    BOOK = "bookTicker"


@dataclass(frozen=True, slots=True)
class Stream:
    """Hold one parsed stream name; `symbol` and `interval` are empty where they do not apply.

    name: as the venue writes it. interval: one of `dialect.INTERVALS_MS`, whatever the venue.
    """

    name: str
    kind: StreamKind
    symbol: str = ""
    interval: str = ""


class Want(StrEnum):
    """Name what a client asks of its socket."""

    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    LIST = "list"
    PING = "ping"
    NONSENSE = "nonsense"


@dataclass(frozen=True, slots=True)
class SocketRequest:
    """Hold one request on a socket; `number` is whatever the client told its answers apart by."""

    want: Want
    names: tuple[str, ...] = ()
    number: Any = None


class Verdict(StrEnum):
    """Say what became of a request."""

    DONE = "done"
    REFUSED = "refused"  # a fault: the venue has no room for it now
    WRONG = "wrong"  # the venue has no such thing


class KlineWriter(Protocol):
    """Write a kline as a stream message."""

    def __call__(
        self, coin: Coin, kline: Kline, *, interval: str, event_ms: int, closed: bool
    ) -> str:
        """Write it; `closed` says whether it is over."""
        ...


class TradeWriter(Protocol):
    """Write a public trade as a stream message."""

    def __call__(self, coin: Coin, trade: Print, *, event_ms: int, aggregate: bool) -> str:
        """Write it, as the aggregated kind where the venue has one."""
        ...


@dataclass(frozen=True, slots=True)
class Words:
    """Hold how one venue speaks on its public sockets.

    parse: a stream's name, None for what the venue does not know. mark: price, funding rate, when
    it is due, event. book: last price, event. wrong: why a request that can be read is refused all
    the same, beside the names that the socket has; empty where it is not. reply: the answer to a
    request, with the socket's names and why it failed. spoil: what the faults that strike a frame
    of a symbol leave of it.
    """

    parse: Callable[[str], Stream | None]
    kline: KlineWriter
    trade: TradeWriter
    mark: Callable[[Coin, float, float, int, int], str]
    book: Callable[[Coin, float, int], str]
    read: Callable[[str], SocketRequest]
    wrong: Callable[[SocketRequest, Collection[str]], str]
    reply: Callable[[SocketRequest, Verdict, Collection[str], str], str]
    spoil: Callable[[FaultSwitch, str, str], str]
