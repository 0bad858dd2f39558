"""What is due at an instant, when a forecast is too old, when to stop waiting for bars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from daemon.domain.forecast import Prediction, is_usable
from daemon.domain.units import HOUR_MS, Timeframe

HOUR: Final = Timeframe(60)


@dataclass(frozen=True, slots=True)
class CadenceRules:
    """Hold the rhythm: source bars, timeframes, decisions, how long bars are waited for."""

    source: Timeframe
    timeframes: tuple[Timeframe, ...]
    decision: Timeframe = HOUR
    deadline_ms: int = 20_000
    stale_decisions_max: int = 2
    alive_ms: int = 24 * HOUR_MS  # an instrument silent for longer is no longer waited for
    covariance: bool = False  # a covariance is asked for at every close of an hour

    def decides_at(self, close_ms: int) -> bool:
        """Tell whether a decision falls on this close."""
        return self.decision.closes_at(close_ms)

    def due(self, close_ms: int) -> tuple[Timeframe, ...]:
        """List the timeframes that close at this instant."""
        return tuple([t for t in self.timeframes if t.closes_at(close_ms)])


def usable_predictions(
    newest: Mapping[Timeframe, Prediction], order: Iterable[Timeframe], as_of_ms: int
) -> tuple[Prediction, ...]:
    """List the forecasts that may be used at `as_of_ms`, in timeframe order."""
    if not newest:
        return ()
    found = (newest[t] for t in order if t in newest)
    return tuple(p for p in found if is_usable(p.timeframe, p.as_of_ms, as_of_ms))
