"""Turn a training job into tables of inputs and labels, and cut them into folds of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.failures import ModelError
from daemon.domain.units import DAY_MS, Timeframe, iso
from daemon.statistics.outcomes import INSTRUMENTS_MIN
from strategies.forecast.calibration import centred
from strategies.forecast.inputs.covariates import CovariateTable, with_covariates
from strategies.forecast.inputs.features import features
from strategies.forecast.inputs.labels import HORIZON_MS, SECONDARY_MS, Labels, label
from strategies.forecast.inputs.windows import (
    Singles,
    all_forecastable,
    channels,
    on_grid,
    window_bars,
)
from strategies.forecast.training.job import Job, Longs
from strategies.forecast.training.splits import Fold, Span, Spans, walk_forward

INSTANTS_MIN: Final = 24  # the shortest part of a fold, in bars of the longest timeframe


@dataclass(frozen=True, slots=True)
class Table:
    """Hold one timeframe's samples, one row per bar close.

    rows: (T, N, F) features, inputs: (T, N, F + 1) what the network reads, y: (T, N) labels, NaN
    where there is no label or no sequence, y_secondary: the same over the longer horizon. place:
    the timeframe's index in the model. allowed: (T, N), where a forecast can be made, whatever
    becomes of it.
    """

    timeframe: Timeframe
    place: int
    close_ms: Longs
    rows: Floats
    inputs: Singles
    y: Floats
    y_secondary: Floats
    allowed: Flags

    @property
    def usable(self) -> Longs:
        """Give the rows with at least one label."""
        return np.nonzero(np.isfinite(self.y).any(axis=1))[0]

    def within(self, span: Span | Spans) -> Longs:
        """Give the usable rows whose decisions lie in `span`."""
        rows = self.usable
        return rows[span.holds(self.close_ms[rows])]

    def decided(self, span: Span | Spans) -> Longs:
        """Give the rows of `span` at which anything can be forecast, with a label or without."""
        return np.flatnonzero(self.allowed.any(axis=1) & span.holds(self.close_ms))

    @property
    def horizon_bars(self) -> int:
        """Give the number of closes within one label's horizon."""
        return max(1, HORIZON_MS // self.timeframe.ms)


def build_tables(job: Job) -> tuple[Table, ...]:
    """Compute features and labels of all timeframes on their grids."""
    close_ms, values = on_grid(*job.bars[job.source], job.source)
    lag_ms = job.settings.lag_bars * job.source.ms
    labels = [
        label(close_ms, values, source=job.source, lag_ms=lag_ms, horizon_ms=horizon_ms)
        for horizon_ms in (HORIZON_MS, SECONDARY_MS)
    ]
    beside = CovariateTable(job.covariates, job.series, job.symbols)
    tables = tuple(_table(job, labels, beside, place) for place in range(len(job.timeframes)))
    return (
        tuple(_shuffled(t, job.settings.seed) for t in tables) if job.settings.shuffled else tables
    )


def _shuffled(table: Table, seed: int) -> Table:
    y, y_secondary = (
        shuffled(labels, (seed, table.place, number))
        for number, labels in enumerate((table.y, table.y_secondary))
    )
    return replace(table, y=y, y_secondary=y_secondary)


def shuffled(y: Floats, seed: Sequence[int]) -> Floats:
    """Let the labels (T, N) of each instant change places; who has none keeps none."""
    known = np.isfinite(y)
    drawn = np.where(known, np.random.default_rng(seed).random(y.shape), np.inf)
    taken = np.argsort(drawn, axis=1)  # the places with a label, in a random order, first
    given = np.argsort(~known, axis=1, kind="stable")  # the same places in their own order
    out = np.full_like(y, np.nan)
    np.put_along_axis(out, given, np.take_along_axis(y, taken, axis=1), axis=1)
    return out


def _table(job: Job, labels: Sequence[Labels], beside: CovariateTable, place: int) -> Table:
    timeframe, L = job.timeframes[place], job.settings.sequence_bars
    close_ms, values = on_grid(*job.bars[timeframe], timeframe)
    rows = features(values, newest_close_ms=int(close_ms[-1]), timeframe=timeframe)
    rows = with_covariates(rows, beside, close_ms, values)
    inputs = channels(rows)
    allowed = all_forecastable(inputs, L)
    # Earlier rows were computed from less than their memory: live windows would differ.
    allowed[: window_bars(L) - 1] = False
    y, y_secondary = (centred(np.where(allowed, one.at(close_ms), np.nan)) for one in labels)
    return Table(timeframe, place, close_ms, rows, inputs, y, y_secondary, allowed)


def cut_folds(job: Job, tables: Sequence[Table]) -> tuple[Fold, ...]:
    """Cut the stretch that all timeframes can use; raise ModelError for data too short for it,
    and for fewer instruments than a label needs.

    The gap between parts is the longer label's reach (lag and horizon) plus one input sequence of
    the longest timeframe.
    """
    settings, names_n = job.settings, len(job.symbols)
    if names_n < INSTRUMENTS_MIN:
        raise ModelError(
            f"too few instruments: {names_n}; a label is what one does beside the others, of"
            f" {INSTRUMENTS_MIN} at least"
        )
    usable = [t.close_ms[t.usable] for t in tables]
    if any(len(u) == 0 for u in usable):
        days = max(int(t.close_ms[-1]) - int(t.close_ms[0]) for t in tables) / DAY_MS
        before = window_bars(settings.sequence_bars) * max(t.timeframe.ms for t in tables) / DAY_MS
        raise ModelError(
            f"too few bars: {days:.1f} days, and a first decision needs {before:.1f} days of bars "
            f"before it and {HORIZON_MS / DAY_MS:.2f} after it, a training several times that: "
            "raise training.days"
        )
    start, end = max(int(u[0]) for u in usable), min(int(u[-1]) for u in usable) + 1
    longest_ms = max(t.timeframe.ms for t in tables)
    gap_ms = SECONDARY_MS + settings.lag_bars * job.source.ms + settings.sequence_bars * longest_ms
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
