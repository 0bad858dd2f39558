"""Wall time for people: how often a screen is redrawn, how long a command took."""

from __future__ import annotations

from adapters.clocks import TransportClock

_CLOCK = TransportClock()


def wall_seconds() -> float:
    """Give monotonic seconds; only differences mean anything."""
    return _CLOCK.monotonic()
