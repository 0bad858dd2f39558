"""Which forecasts are asked for at an instant: those of every timeframe with a bar they lack."""

from __future__ import annotations

from daemon.domain.messages import Estimate
from daemon.domain.units import Timeframe
from daemon.engine.state import EngineState
from daemon.ports import Strategy


def question(state: EngineState, strategy: Strategy) -> Estimate | None:
    """Give the question of this instant, None where none is needed, or no window is full."""
    needed = strategy.windows_needed
    if not strategy.needs_estimates:
        return None
    windows = [
        store.frozen()
        for timeframe, store in state.windows.items()
        if store.filled >= needed.get(timeframe, 1) and not _is_answered(state, timeframe)
    ]
    return Estimate(state.instant_ms, tuple(windows)) if windows else None


def _is_answered(state: EngineState, timeframe: Timeframe) -> bool:
    newest = state.newest.get(timeframe)
    return newest is not None and newest.as_of_ms >= state.windows[timeframe].newest_ms
