"""Answer with the predictions of a table: forecasts made before, replayed without their model.

Of each window the row of its newest close counts. Where the table has no row, or its timeframe gave
none then, the answer is NaN: no forecast, never zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from daemon.domain.bar import Floats, Window
from daemon.domain.failures import ModelError
from daemon.domain.forecast import Estimates, Prediction, Reading
from daemon.domain.predictions import PredictionTable
from daemon.domain.units import Timeframe, iso, require
from strategies.rules import reading_problem


class TableEstimator:
    """Replay a table for instruments in the order of the windows."""

    def __init__(
        self,
        table: PredictionTable,
        model_id: str,
        *,
        name: str,
        symbols: Sequence[str],
        timeframes: Sequence[Timeframe],
    ) -> None:
        """Take a table; name: of its file, for what is said of it.

        symbols: (N,) of the windows. Raises ModelError for symbols of the table that are not among
        them, and for timeframes that the table lacks.
        """
        strange = [symbol for symbol in table.symbols if symbol not in symbols]
        if strange:
            raise ModelError(
                f"{name}: it holds predictions of {', '.join(strange)}, which this run does not "
                "know: choose the instruments that the table was made for"
            )
        lacking = [t.label for t in timeframes if t not in table.timeframes]
        if lacking:
            known = ", ".join(t.label for t in table.timeframes) or "none"
            raise ModelError(f"{name}: no {', '.join(lacking)} forecasts; the table knows {known}")
        for from_ms, reading in table.readings:
            problem = reading_problem(reading, len(table.timeframes))
            if problem:
                raise ModelError(f"{name}: how it is combined from {iso(from_ms)} on: {problem}")
        self._id = model_id
        self._table = table
        self._timeframes = tuple(timeframes)
        self._symbols_n = len(symbols)
        self._column = np.array([symbols.index(s) for s in table.symbols], dtype=np.int64)

    @property
    def model_id(self) -> str:
        """Give the id of the table."""
        return self._id

    def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Estimates:
        """Give what the table has for the newest close of every window."""
        predictions = tuple(self._predict(window) for window in windows)
        return Estimates(
            as_of_ms,
            predictions,
            disagreement=self._disagreement(as_of_ms),
            reading=self._reading(as_of_ms),
        )

    def _predict(self, window: Window) -> Prediction:
        table, timeframe = self._table, window.timeframe
        N = window.values.shape[1]
        require(self._symbols_n == N, f"windows of {N} instruments, not {self._symbols_n}")
        mean, variance = np.full(N, np.nan), np.full(N, np.nan)
        if timeframe in table.timeframes:
            first, last = np.searchsorted(
                table.as_of_ms, [window.newest_ms, window.newest_ms + 1]
            ).tolist()
            k, at = table.timeframes.index(timeframe), self._column[table.place[first:last]]
            mean[at], variance[at] = table.mean[k, first:last], table.variance[k, first:last]
        return Prediction(timeframe, window.newest_ms, mean, variance, self._id)

    def _disagreement(self, as_of_ms: int) -> Floats | None:
        """Give the correlation that held then, for the run's timeframes in their order."""
        held = [matrix for from_ms, matrix in self._table.disagreement if from_ms <= as_of_ms]
        if not held:
            return None
        chosen = self._places()
        return np.asarray(held[-1][np.ix_(chosen, chosen)])

    def _reading(self, as_of_ms: int) -> Reading | None:
        """Give how forecasts were combined then."""
        held = [reading for from_ms, reading in self._table.readings if from_ms <= as_of_ms]
        if not held:
            return None
        slopes = tuple(held[-1].slopes[place] for place in self._places())
        return replace(held[-1], slopes=slopes)

    def _places(self) -> list[int]:
        """Give the places of the run's timeframes among those of the table."""
        return [self._table.timeframes.index(t) for t in self._timeframes]
