"""What the daemon does about each fault of an account: the table that tests hold it to.

`docs/live.md` says the same in words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from adapters.rehearsal.faults import Fault
from daemon.domain.messages import (
    Alert,
    AlertKind,
    Command,
    Event,
    OrderRejected,
    OrderUncertain,
)
from daemon.engine.risk import TradingState

Sign = Callable[[Event | Command], bool]
_ALERTS: Final = frozenset(
    {
        AlertKind.HALTED,
        AlertKind.STRANGE_FILL,
        AlertKind.FORCED,
        AlertKind.ACCOUNT,
        AlertKind.FEED,
        AlertKind.INSTRUMENT,
        AlertKind.RECONCILED,
    }
)
FOR_LONG: Final = 10**9


def anything(one: Event | Command) -> bool:
    """Tell whether this says that something is not as it should be."""
    if isinstance(one, Alert):
        return one.kind in _ALERTS
    return isinstance(one, OrderUncertain | OrderRejected)


def alert(*kinds: AlertKind) -> Sign:
    """Wait for an alert of these kinds."""
    return lambda one: isinstance(one, Alert) and one.kind in kinds


def rejected(*words: str) -> Sign:
    """Wait for a refusal that says one of these words."""
    return lambda one: isinstance(one, OrderRejected) and any(w in one.reason for w in words)


def uncertain(one: Event | Command) -> bool:
    """Wait for an order in doubt."""
    return isinstance(one, OrderUncertain)


@dataclass(frozen=True, slots=True)
class Reaction:
    """Say how a fault strikes and what follows.

    is_sign: what tells of it. is_seen: it must be told. trading: the state that makes it safe, None
    for a book that is traded on. reopens: a private socket is dialled anew. lasts: it strikes until
    it is switched off, and safe is to open nothing.
    """

    is_sign: Sign = anything
    is_seen: bool = True
    count: int = 1
    of_symbol: bool = False
    trading: TradingState | None = None
    reopens: bool = False
    lasts: bool = False


_UNSEEN: Final = Reaction(is_seen=False)
_DOUBTED: Final = Reaction(uncertain)
_AWAY: Final = Reaction(
    alert(AlertKind.ACCOUNT), count=FOR_LONG, trading=TradingState.REDUCE_ONLY, lasts=True
)
REACTIONS: Final[dict[Fault, Reaction]] = {
    Fault.ORDER_LOST_RESET: _DOUBTED,
    Fault.ORDER_LOST_HANG: _DOUBTED,
    Fault.ORDER_LOST_503: _DOUBTED,
    Fault.ORDER_LOST_CUT: _DOUBTED,
    Fault.ORDER_LOST_NOT_JSON: _DOUBTED,
    Fault.ORDER_REFUSED_503: _DOUBTED,
    Fault.ORDER_REFUSED_429: Reaction(),
    Fault.ORDER_REFUSED_418: Reaction(),
    Fault.INSUFFICIENT_MARGIN: Reaction(rejected("margin_insufficient")),
    Fault.CLOCK_SKEW: Reaction(
        lambda one: rejected("clock_skew")(one) or alert(AlertKind.ACCOUNT)(one),
        count=FOR_LONG,
        trading=TradingState.REDUCE_ONLY,
        lasts=True,
    ),
    Fault.POSITIONS_BROKEN: _AWAY,
    Fault.ORDER_UNLISTED: Reaction(is_seen=False, count=2),
    Fault.FILLS_UNLISTED: Reaction(is_seen=False, count=2),
    Fault.FILL_DUPLICATED: _UNSEEN,
    Fault.FILLS_SHUFFLED: _UNSEEN,
    Fault.FILL_BEFORE_ACK: _UNSEEN,
    Fault.USER_STREAM_STALLED: Reaction(count=60, reopens=True),
    Fault.USER_FRAME_GARBAGE: Reaction(reopens=True),
    Fault.USER_STREAM_DROPPED: Reaction(reopens=True),
    Fault.LISTEN_KEY_EXPIRED: Reaction(reopens=True),
    Fault.SYMBOL_HALTED: Reaction(
        lambda one: alert(AlertKind.INSTRUMENT)(one) or rejected("symbol_not_tradable")(one),
        of_symbol=True,
    ),
    Fault.SYMBOL_DELISTED: Reaction(alert(AlertKind.INSTRUMENT), of_symbol=True),
    Fault.LIQUIDATION: Reaction(
        alert(AlertKind.FORCED), of_symbol=True, trading=TradingState.REDUCE_ONLY
    ),
    Fault.FORCED_REDUCTION: Reaction(alert(AlertKind.FORCED), of_symbol=True),
    Fault.MANUAL_TRADE: Reaction(
        alert(AlertKind.STRANGE_FILL), of_symbol=True, trading=TradingState.HALTED
    ),
    Fault.MAINTENANCE: _AWAY,
    Fault.HTTP_429: Reaction(is_seen=False, count=2),
    Fault.HTTP_418: Reaction(is_seen=False, count=2),
    Fault.HTTP_503: Reaction(is_seen=False, count=2),
    Fault.NOT_JSON_200: Reaction(is_seen=False, count=2),
}


def has_stream(venue: str, fault: Fault) -> bool:
    """Tell whether a venue knows a fault: Bybit logs in on each socket and has no key to expire."""
    return venue != "bybit" or fault is not Fault.LISTEN_KEY_EXPIRED
