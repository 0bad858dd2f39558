"""Which decisions used a bar that its venue changed afterwards.

An emitted bar never changes: what was decided on it stays decided, windows and book keep the value
that was used. A revision flags those decisions, and every later one for as long as the bar stays in
a window. A decision at d sees, of a timeframe of length m with n bars kept, what closed in

    (c(d) - n m, c(d)]        c(d) = the last close of that timeframe at or before d
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from daemon.domain.messages import Alert, AlertKind, Command, DecisionsFlagged, Revised
from daemon.domain.units import Timeframe, iso
from daemon.engine.state import EngineState

DECISIONS_KEPT: Final = 1024
"""Decisions that a revision can still flag, at least: six weeks of hours."""


class Revisions:
    """Remember the newest decisions, and revisions for as long as any window reaches back."""

    def __init__(
        self, state: EngineState, bars_n: Mapping[Timeframe, int], out: list[Command]
    ) -> None:
        self._state = state
        self._bars_n = bars_n
        self._out = out
        self._reach_ms = max(timeframe.ms * (n + 1) for timeframe, n in bars_n.items())

    def came(self, event: Revised) -> None:
        """Flag the decisions that used the old value, and say so."""
        state = self._state
        state.revised.append((event.index, event.close_ms))
        flagged = tuple(d for d in state.decided if self._sees(d, event.close_ms))
        key = state.book.universe.instruments[event.index].key
        text = f"{key} bar closing {iso(event.close_ms)} was revised after it was used"
        if flagged:
            self._out.append(DecisionsFlagged(event.index, event.close_ms, flagged))
            text += f" by {len(flagged)} decisions, {iso(flagged[0])} to {iso(flagged[-1])}"
        self._out.append(Alert(AlertKind.BAR_REVISED, event.close_ms, text))

    def decided(self) -> tuple[int, ...]:
        """Note a decision at the present instant; name the instruments with revised bars in view.

        Sorted indices of instruments of whose windows some bar was revised after it was emitted.
        """
        state, now_ms = self._state, self._state.instant_ms
        state.decided.append(now_ms)
        if len(state.decided) >= 2 * DECISIONS_KEPT:
            del state.decided[:-DECISIONS_KEPT]
        if not state.revised:
            return ()
        state.revised = [r for r in state.revised if r[1] > now_ms - self._reach_ms]
        return tuple(sorted({i for i, close_ms in state.revised if self._sees(now_ms, close_ms)}))

    def _sees(self, decided_ms: int, close_ms: int) -> bool:
        """Tell whether a bar closing at close_ms is in any window of a decision."""
        for timeframe, n in self._bars_n.items():
            newest_ms = timeframe.last_close(decided_ms)
            if newest_ms - n * timeframe.ms < close_ms <= newest_ms:
                return True
        return False
