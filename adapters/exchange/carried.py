"""What one feed keeps when its events are begun again: nothing of it may be forgotten by a failure.

Bars already told are known from `recent`. A clock that was off stays off until it is measured
right; what has settled and was not paid is asked for again; the past of a contract that joined is
read again from its beginning.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from adapters.exchange.recent import RecentBars


@dataclass(slots=True)
class Compared:
    """Hold what is known of our clock beside the venue's.

    at_s: transport time of the last comparison, or of a moment at which none could be missed; None
    before the first. is_off: it is told as off, or as unknown for too long.
    """

    at_s: float | None = None
    is_off: bool = False


@dataclass(slots=True)
class Settlements:
    """Hold up to when each symbol's settlements are known, and whose rates are still to come."""

    known_ms: dict[str, int] = field(default_factory=dict)
    pending: dict[int, set[str]] = field(default_factory=dict)  # symbols by instant


@dataclass(frozen=True, slots=True)
class UnreadPast:
    """Name the bars with since < close <= until of a contract that joined, not told in full."""

    symbol: str
    since_ms: int
    until_ms: int


@dataclass(slots=True)
class Carried:
    """Hold all of it; unread_pasts: by column."""

    recent: RecentBars
    compared: Compared = field(default_factory=Compared)
    settlements: Settlements = field(default_factory=Settlements)
    unread_pasts: dict[int, UnreadPast] = field(default_factory=dict)
