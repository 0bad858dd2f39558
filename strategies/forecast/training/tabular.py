"""What all tabular kinds share: their rows, trees of each timeframe, and the way they are fitted.

A ridge, boosted trees and a forest read the same regressors, `ridge.design`: the newest row of
features and the products of residual ranks over the last bars. With `training.selection` and
`training.components` they read some of them or mixtures; what is read is decided anew in every
fold, from its training part alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.failures import ModelError
from strategies.forecast.checkpoint import Shape, Stacked, Weights
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.inputs.labels import HORIZON_MS
from strategies.forecast.ridge import PRODUCT_BARS, column_names_of, columns_n, design
from strategies.forecast.training.fitting import Told
from strategies.forecast.training.job import Job, Longs, Selection, TrainSettings
from strategies.forecast.training.selection import Reduction, reduction
from strategies.forecast.training.splits import Fold
from strategies.forecast.trees.arrays import Trees
from strategies.forecast.trees.model import TimeframeTrees


def regressors(table: Table, rows: Longs, covariates: Sequence[str]) -> Floats:
    """Give the regressors (M, N, P) of rows (M,) that rise, made of no more rows than they need."""
    if not len(rows):
        return np.empty((0, table.y.shape[1], columns_n(covariates)))
    first, last = int(rows[0]), int(rows[-1]) + 1
    needed = table.rows[max(0, first - PRODUCT_BARS + 1) : last]
    return design(needed, last - first, covariates)[rows - first]


def reduced(job: Job, table: Table, x: Floats, y: Floats) -> Reduction:
    """Decide what is read of regressors x (T, N, P) with labels y (T, N) of a training part."""
    settings = job.settings
    if settings.selection is Selection.NONE and not settings.components:
        return Reduction(np.arange(x.shape[-1]))
    reach_ms = HORIZON_MS + settings.lag_bars * job.source.ms
    gap = -(-reach_ms // table.timeframe.ms)
    return reduction(
        x,
        y,
        settings.selection,
        settings.components,
        horizon_bars=table.horizon_bars,
        gap=gap,
    )


def chosen_names(job: Job, found: Sequence[Reduction]) -> tuple[tuple[str, ...], ...]:
    """Name what each timeframe's `Reduction` reads; nothing where nothing was to be chosen."""
    if job.settings.selection is Selection.NONE:
        return ()
    names = column_names_of(job.covariates)
    return tuple(tuple(names[p] for p in one.columns.tolist()) for one in found)


@dataclass(frozen=True, slots=True)
class Sample:
    """Hold what trees of one timeframe grow on.

    x: (S, C) rows, y: (S,) their labels. horizon_bars: instants that share a label.
    """

    x: Floats
    y: Floats
    horizon_bars: int
    settings: TrainSettings
    seed: int

    def leaf_rows(self, drawn_share: float) -> int:
        """Give the fewest rows of a leaf, where a tree sees such a share of all."""
        return max(1, round(self.settings.leaf_share * drawn_share * len(self.y)))


class Grow(Protocol):
    """Grow the trees of one timeframe."""

    def __call__(self, sample: Sample, told: Told) -> Trees:
        """Give trees on columns 0 .. C - 1 of the sample."""
        ...


class FittedTrees:
    """Forecast with the trees of all timeframes; the stated variance is that of labels, 1."""

    def __init__(
        self, job: Job, trees: Sequence[TimeframeTrees], found: Sequence[Reduction]
    ) -> None:
        self._covariates, self._trees = job.covariates, trees
        self._bars = job.settings.sequence_bars
        self.chosen = chosen_names(job, found)
        self.stacked: tuple[Stacked, ...] = ()
        self.parameters_n = sum(one.trees.nodes_n for one in trees)

    def forecast(self, table: Table, rows: Longs) -> tuple[Floats, Floats]:
        """Give raw means and unit variances, (M, N) each; see `fitting.Fitted`."""
        x = regressors(table, rows, self._covariates)
        raw = self._trees[table.place].predict(x)  # (M, N, P) -> (M, N)
        allowed = table.allowed[rows]
        return np.where(allowed, raw, np.nan), np.where(allowed, 1.0, np.nan)

    def weights(self) -> Weights:
        """Give the arrays to store, named by the timeframe's place."""
        found = [trees.named(f"{place}.") for place, trees in enumerate(self._trees)]
        return {name: array for mine in found for name, array in mine.items()}

    def shape(self) -> Shape:
        """Give the shape of one member."""
        return Shape(columns_n(self._covariates), len(self._trees), 0, 0, self._bars, 1)


def fit_trees(
    job: Job,
    tables: Sequence[Table],
    fold: Fold,
    *,
    seed: int,
    told: Told,
    grow: Grow,
) -> FittedTrees:
    """Grow the trees of every timeframe on the learned parts of a fold; ModelError without a label.

    Nothing stops early, so that what the fold has to stop by is learned from as well.
    """
    made, found = [], []
    for number, table in enumerate(tables):
        rows = table.within(fold.learned)
        x, y = regressors(table, rows, job.covariates), table.y[rows]
        if not np.isfinite(y).any():
            raise ModelError(f"too few bars: no label to grow {table.timeframe.label} trees on")
        kept = reduced(job, table, x, y)
        sample = Sample(
            x=kept.apply(x[np.isfinite(y)]),
            y=y[np.isfinite(y)],
            horizon_bars=table.horizon_bars,
            settings=job.settings,
            seed=seed,
        )

        def part(share: float, *, number: int = number) -> None:
            told((number + share) / len(tables))

        trees = grow(sample, part)
        made.append(_placed(trees, kept))
        found.append(kept)
        part(1.0)
    return FittedTrees(job, made, found)


def _placed(trees: Trees, kept: Reduction) -> TimeframeTrees:
    """Let trees on reduced columns read all of them."""
    if kept.projection is not None:
        return TimeframeTrees(trees, kept.projection, kept.offset)
    return TimeframeTrees(replace(trees, feature=kept.columns[trees.feature].astype(np.int32)))
