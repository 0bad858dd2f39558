"""What one feed keeps when its events are begun again: nothing of it may be forgotten by a failure.

Bars already told are known from `recent`. A clock that was off stays off until it is measured
right; what has settled and was not paid is asked for again; the past of a contract that joined is
read on from where it was told.
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
    """Hold up to when each symbol's settlements are known, its next, and who awaits rates."""

    next_ms: dict[str, int] = field(default_factory=dict)
    known_ms: dict[str, int] = field(default_factory=dict)
    pending: dict[int, set[str]] = field(default_factory=dict)  # symbols by instant


@dataclass(slots=True)
class UnreadPast:
    """Name the bars with since < close <= until of a contract that joined, not told in full.

    told_ms: the newest of them that was told, 0 before the first.
    """

    symbol: str
    since_ms: int
    until_ms: int
    told_ms: int = 0


@dataclass(slots=True)
class Carried:
    """Hold all of it; unread_pasts: by column."""

    recent: RecentBars
    compared: Compared = field(default_factory=Compared)
    settlements: Settlements = field(default_factory=Settlements)
    unread_pasts: dict[int, UnreadPast] = field(default_factory=dict)

    def begin(self, after_ms: int) -> None:
        """Leave bars that close after `after_ms` to the feed that begins there."""
        for past in self.unread_pasts.values():
            past.until_ms = min(past.until_ms, after_ms)
