"""What is asked for at an instant: forecasts of every timeframe with a bar they lack.

Where a covariance is wanted, the bars of one hour are shown whenever they are newer than it.
"""

from __future__ import annotations

from daemon.domain.messages import Estimate
from daemon.domain.units import Timeframe
from daemon.engine.cadence import HOUR
from daemon.engine.state import EngineState
from daemon.ports import Strategy


def question(
    state: EngineState, strategy: Strategy, *, covariance: bool = False
) -> Estimate | None:
    """Give the question of this instant, None where none is needed, or no window is full."""
    needed = strategy.windows_needed
    forecasts = strategy.needs_estimates
    if not (forecasts or covariance):
        return None
    windows = [
        store.frozen()
        for timeframe, store in state.windows.items()
        if store.filled >= needed.get(timeframe, 1)
        and (
            (forecasts and not _is_answered(state, timeframe))
            or (covariance and timeframe == HOUR and not _is_predicted(state))
        )
    ]
    return Estimate(state.instant_ms, tuple(windows)) if windows else None


def _is_answered(state: EngineState, timeframe: Timeframe) -> bool:
    newest = state.newest.get(timeframe)
    return newest is not None and newest.as_of_ms >= state.windows[timeframe].newest_ms


def _is_predicted(state: EngineState) -> bool:
    newest = state.covariance
    return newest is not None and newest.as_of_ms >= state.windows[HOUR].newest_ms
