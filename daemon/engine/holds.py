"""Troubles of the feed: each is told to people, and some forbid to open risk while they last.

So are series beside the bars that fall silent; what a model reads then is the model's affair.
"""

from __future__ import annotations

from typing import Final

from daemon.domain.messages import Alert, AlertKind, Command, FeedNotice, FeedTrouble
from daemon.engine.risk import TradingState
from daemon.engine.state import EngineState

HOLDING: Final = frozenset({FeedTrouble.CLOCK_OFFSET})


class Holds:
    """Hold back new risk while any reason to lasts; reducing stays allowed."""

    def __init__(self, state: EngineState, stale_decisions_max: int, out: list[Command]) -> None:
        self._state = state
        self._stale_max = stale_decisions_max
        self._out = out

    def told(self, event: FeedNotice) -> None:
        """Note that a trouble began or ended."""
        state = self._state
        self._out.append(Alert(AlertKind.FEED, event.at_ms, f"{event.venue}: {event.text}"))
        if event.trouble not in HOLDING:
            return
        name = f"{event.venue} {event.trouble}"
        if event.active:
            state.holds[name] = event.text
            if state.trading is TradingState.TRADING:
                state.trading = TradingState.REDUCE_ONLY
            return
        state.holds.pop(name, None)
        fresh = state.stale_decisions <= self._stale_max
        if state.trading is TradingState.REDUCE_ONLY and state.may_open and fresh:
            state.trading = TradingState.TRADING

    def heard(self, at_ms: int, silent: dict[str, str]) -> None:
        """Tell which series of the model fell silent since the last estimates, or speak again."""
        before, self._state.silent = self._state.silent, dict(silent)
        for name in sorted(before.keys() | silent.keys()):
            if before.get(name) != silent.get(name):
                text = silent.get(name, "known again as usual")
                self._out.append(Alert(AlertKind.SERIES, at_ms, f"{name}: {text}"))
