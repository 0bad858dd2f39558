"""Notice that no decision came at a close, by a clock that needs no event.

The engine tells of decisions that it could not make; an engine that hears nothing (a stuck feed, a
journal that cannot write, a start that never ends) tells nothing. Here the instants that must have
been decided on by now follow from the clock alone.
"""

from __future__ import annotations

from daemon.domain.units import Timeframe, require


class DecisionWatch:
    """Know the newest decision and which instants passed without one. Times are market ms."""

    def __init__(self, decision: Timeframe, patience_ms: int, begun_ms: int) -> None:
        require(patience_ms > 0, f"patience {patience_ms} ms must be positive")
        self._decision = decision
        self._patience_ms = patience_ms
        self._known_ms = begun_ms  # nothing is missed up to here
        self.decided_ms: int | None = None
        self.missed_n = 0

    def decided(self, as_of_ms: int) -> None:
        """Note a decision, of whatever kind."""
        self._known_ms = max(self._known_ms, as_of_ms)
        self.decided_ms = as_of_ms

    def missed(self, now_ms: int) -> int | None:
        """Give the newest instant whose decision is overdue and was not told yet; None if none is.

        A clock that goes back tells nothing twice.
        """
        due_ms = self._decision.last_close(now_ms - self._patience_ms)
        if due_ms <= self._known_ms:
            return None
        self.missed_n += (due_ms - self._known_ms - 1) // self._decision.ms + 1
        self._known_ms = due_ms
        return due_ms
