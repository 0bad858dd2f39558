"""Turn a training job into tables of inputs and labels, and cut them into folds of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.failures import ModelError
from daemon.domain.units import DAY_MS, Timeframe, iso
from strategies.forecast.calibration import centred
from strategies.forecast.inputs.covariates import CovariateTable, with_covariates
from strategies.forecast.inputs.features import FEATURE_MEMORY_BARS, features
from strategies.forecast.inputs.labels import HORIZON_MS, Labels, label
from strategies.forecast.inputs.windows import (
    SEQUENCE_BARS,
    Singles,
    channels,
    forecastable,
    on_grid,
)
from strategies.forecast.training.job import Bars, Job, Longs
from strategies.forecast.training.splits import Fold, Span, walk_forward

INSTANTS_MIN: Final = 24  # the shortest part of a fold, in bars of the longest timeframe


@dataclass(frozen=True, slots=True)
class Table:
    """Hold one timeframe's samples, one row per bar close.

    rows: (T, N, F) features, inputs: (T, N, F + 1) what the network reads, y: (T, N) labels, NaN
    where there is no label or no sequence. place: the timeframe's index in the model.
    """

    timeframe: Timeframe
    place: int
    close_ms: Longs
    rows: Floats
    inputs: Singles
    y: Floats

    @property
    def usable(self) -> Longs:
        """Give the rows with at least one label."""
        return np.nonzero(np.isfinite(self.y).any(axis=1))[0]

    def within(self, span: Span) -> Longs:
        """Give the usable rows whose decisions lie in `span`."""
        rows = self.usable
        closes = self.close_ms[rows]
        return rows[(closes >= span.start_ms) & (closes < span.end_ms)]

    @property
    def horizon_bars(self) -> int:
        """Give the number of closes within one label's horizon."""
        return max(1, HORIZON_MS // self.timeframe.ms)


def build_tables(job: Job) -> tuple[Table, ...]:
    """Compute features and labels of all timeframes on their grids."""
    close_ms, values = on_grid(*job.bars[job.source], job.source)
    lag_ms = job.settings.lag_bars * job.source.ms
    labels = label(close_ms, values, source=job.source, lag_ms=lag_ms)
    beside = CovariateTable(job.covariates, job.series, len(job.symbols))
    return tuple(
        _table(job.bars, labels, beside, t, place) for place, t in enumerate(job.timeframes)
    )


def _table(
    bars: Bars, labels: Labels, beside: CovariateTable, timeframe: Timeframe, place: int
) -> Table:
    close_ms, values = on_grid(*bars[timeframe], timeframe)
    rows = features(values, newest_close_ms=int(close_ms[-1]), timeframe=timeframe)
    rows = with_covariates(rows, beside, close_ms)
    inputs = channels(rows)
    allowed = np.zeros(inputs.shape[:2], dtype=bool)
    # Earlier rows were computed from less than their memory: live windows would differ.
    for t in range(FEATURE_MEMORY_BARS + SEQUENCE_BARS - 2, len(inputs)):
        allowed[t] = forecastable(inputs[t - SEQUENCE_BARS + 1 : t + 1])
    y = centred(np.where(allowed, labels.at(close_ms), np.nan))
    return Table(timeframe, place, close_ms, rows, inputs, y)


def cut_folds(job: Job, tables: Sequence[Table]) -> tuple[Fold, ...]:
    """Cut the stretch that all timeframes can use; raise ModelError for data too short for it.

    The gap between parts is the label's reach (lag and horizon) plus one input sequence of the
    longest timeframe.
    """
    settings = job.settings
    usable = [t.close_ms[t.usable] for t in tables]
    if any(len(u) == 0 for u in usable):
        days = max(int(t.close_ms[-1]) - int(t.close_ms[0]) for t in tables) / DAY_MS
        rows = FEATURE_MEMORY_BARS + SEQUENCE_BARS - 1
        before = rows * max(t.timeframe.ms for t in tables) / DAY_MS
        raise ModelError(
            f"too few bars: {days:.1f} days, and a first decision needs {before:.1f} days of bars "
            f"before it and {HORIZON_MS / DAY_MS:.2f} after it, a training several times that: "
            "raise training.days"
        )
    start, end = max(int(u[0]) for u in usable), min(int(u[-1]) for u in usable) + 1
    longest_ms = max(t.timeframe.ms for t in tables)
    gap_ms = HORIZON_MS + settings.lag_bars * job.source.ms + SEQUENCE_BARS * longest_ms
    needed_ms = gap_ms + INSTANTS_MIN * longest_ms
    share = min(
        settings.stop_share,
        settings.test_share / settings.folds,
        1 - settings.stop_share - settings.test_share,
    )
    if (end - start) * share < needed_ms:
        raise ModelError(
            f"too few bars: {(end - start) / DAY_MS:.1f} usable days from {iso(start)} to"
            f" {iso(end)}; {settings.folds} folds need {needed_ms / share / DAY_MS:.0f}"
        )
    return walk_forward(
        start,
        end,
        folds=settings.folds,
        gap_ms=gap_ms,
        stop_share=settings.stop_share,
        test_share=settings.test_share,
    )
