"""A table of predictions: what a model said of each instrument at each instant, for replay.

Columns of R rows, sorted by instant and then symbol. `prediction` is what the timeframes say
together: the alpha in units of residual volatility over six hours. The mean and variance of a
timeframe stand in the row of the instant at which its newest bar closed and are NaN in every other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.domain.forecast import Reading
from daemon.domain.units import Timeframe, iso

Longs = npt.NDArray[np.int64]
Disagreements = tuple[tuple[int, Floats], ...]  # from an instant on: the errors' correlation (K, K)
Readings = tuple[tuple[int, Reading], ...]  # from an instant on: how forecasts are combined


@dataclass(frozen=True, slots=True)
class PredictionTable:
    """Hold rows of predictions.

    as_of_ms: (R,). place: (R,), of the row's symbol in `symbols`, which rise. prediction: (R,),
    never NaN. mean, variance: (K, R), NaN where the timeframe gave no forecast at that instant.
    disagreement, readings: rising instants, and from each on the correlation of the timeframes'
    errors, and how the forecasts are combined.
    """

    symbols: tuple[str, ...]
    timeframes: tuple[Timeframe, ...]
    as_of_ms: Longs
    place: Longs
    prediction: Floats
    mean: Floats
    variance: Floats
    disagreement: Disagreements = ()
    readings: Readings = ()

    def __len__(self) -> int:
        return len(self.as_of_ms)

    @property
    def problem(self) -> str | None:
        """Say in words the first rule that the rows break and where, or None."""
        if len(self) > 1:
            step, turn = np.diff(self.as_of_ms), np.diff(self.place)
            wrong = np.flatnonzero((step < 0) | ((step == 0) & (turn <= 0)))
            if len(wrong):
                return self._order_problem(int(wrong[0]))
        known = np.isfinite(self.prediction)
        if not known.all():
            at = int(np.argmin(known))
            return f"{self.row(at)}: prediction is {self.prediction[at]}"
        for timeframe, mean, variance in zip(
            self.timeframes, self.mean, self.variance, strict=True
        ):
            if unread := self._unread_problem(timeframe, mean, variance):
                return unread
        for name, values in (("mean", self.mean), ("variance", self.variance)):
            for timeframe, column in zip(self.timeframes, values, strict=True):
                wrong = np.flatnonzero(np.isinf(column) | ((name == "variance") & (column < 0)))
                if len(wrong):
                    at = int(wrong[0])
                    return f"{self.row(at)}: {name}_{timeframe.minutes} is {column[at]}"
        return None

    def _unread_problem(self, timeframe: Timeframe, mean: Floats, variance: Floats) -> str | None:
        """Say which mean nobody would ever read, or None."""
        name = f"mean_{timeframe.minutes}"
        wrong = np.flatnonzero(np.isfinite(mean) & (self.as_of_ms % timeframe.ms != 0))
        if len(wrong):
            at = int(wrong[0])
            return (
                f"{self.row(at)}: {name} is {mean[at]}, but no {timeframe.label} bar closes at"
                f" {self.as_of_ms[at]}: as_of is the close of its newest bar, in ms of UTC"
            )
        wrong = np.flatnonzero(np.isfinite(mean) & np.isnan(variance))
        if len(wrong):
            at = int(wrong[0])
            return f"{self.row(at)}: {name} is {mean[at]} and its variance is nan"
        return None

    def row(self, at: int) -> str:
        """Name a row for people."""
        return f"row {at} ({iso(int(self.as_of_ms[at]))} {self.symbols[self.place[at]]})"

    def _order_problem(self, before: int) -> str:
        at = before + 1
        same = self.as_of_ms[at] == self.as_of_ms[before] and self.place[at] == self.place[before]
        what = "is there twice" if same else f"comes after {self.row(before)}"
        return f"{self.row(at)} {what}: rows rise by as_of, then symbol, each once"


def rows_of(
    symbols: Sequence[str],
    timeframes: Sequence[Timeframe],
    as_of_ms: Longs,
    prediction: Floats,
    mean: Floats,
    variance: Floats,
    disagreement: Disagreements = (),
    readings: Readings = (),
) -> PredictionTable:
    """Lay out predictions (T, N), means and variances (K, T, N) as rows; NaN predictions go.

    symbols: (N,) in any order, each once; as_of_ms: (T,) rising.
    """
    order = sorted(range(len(symbols)), key=lambda n: symbols[n])
    sorted_, means, variances = prediction[:, order], mean[:, :, order], variance[:, :, order]
    at, place = np.nonzero(np.isfinite(sorted_))
    return PredictionTable(
        symbols=tuple(symbols[n] for n in order),
        timeframes=tuple(timeframes),
        as_of_ms=as_of_ms[at],
        place=place.astype(np.int64),
        prediction=sorted_[at, place],
        mean=means[:, at, place],
        variance=variances[:, at, place],
        disagreement=disagreement,
        readings=readings,
    )
