"""Wall time and memory for people: how often a screen is redrawn, what a command took."""

from __future__ import annotations

import resource

from adapters.clocks import TransportClock

_CLOCK = TransportClock()


def wall_seconds() -> float:
    """Give monotonic seconds; only differences mean anything."""
    return _CLOCK.monotonic()


def wall_ms() -> int:
    """Give the machine's UTC time in ms since the epoch."""
    return _CLOCK.wall_ms()


def memory_mb() -> tuple[float, float]:
    """Give the peak memory of this process, and that of the largest one it started; 0: none."""
    whose = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    ours, theirs = (resource.getrusage(who).ru_maxrss / 1024 for who in whose)
    return ours, theirs
