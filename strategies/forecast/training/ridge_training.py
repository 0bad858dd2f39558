"""Train a ridge from a job and keep it in the registry like a network.

    python -m strategies.forecast.training.ridge_training --job job.json

Same folds, calibration, scores and manifest, data origin included; no torch is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from strategies.forecast import checkpoint
from strategies.forecast.checkpoint import Shape, Stacked, Weights
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.ridge import COEFFICIENTS, columns_n, fit, penalty_of
from strategies.forecast.training.fitting import Told
from strategies.forecast.training.job import Job, Longs
from strategies.forecast.training.members import train_members
from strategies.forecast.training.process import Report, run_process
from strategies.forecast.training.selection import Reduction
from strategies.forecast.training.splits import Fold
from strategies.forecast.training.tabular import chosen_names, reduced, regressors

LIBRARIES: Final = ("numpy", "safetensors")
SEEDED: Final = False


def train_ridge(job: Job, *, progress: Report | None = None) -> Path:
    """Fit, score, calibrate and save a ridge into `job.out`; see `members.train_members`.

    Learns from the training and stopping parts of each fold. The settings that only networks have
    are not read.
    """
    return train_members(
        job,
        kind=checkpoint.RIDGE,
        fit_fold=fit_fold,
        libraries=LIBRARIES,
        progress=progress,
        is_seeded=SEEDED,
    )


class FittedRidge:
    """Forecast with coefficients (K, P); the stated variance is that of labels, 1."""

    def __init__(self, job: Job, coefficients: Floats, found: Sequence[Reduction]) -> None:
        self._coefficients, self._covariates = coefficients, job.covariates
        self._bars = job.settings.sequence_bars
        self.chosen = chosen_names(job, found)
        self.stacked: tuple[Stacked, ...] = ()
        self.parameters_n = sum(len(one.columns) for one in found)

    def forecast(self, table: Table, rows: Longs) -> tuple[Floats, Floats]:
        """Give raw means and unit variances, (M, N) each; see `fitting.Fitted`."""
        x = regressors(table, rows, self._covariates)
        raw = x @ self._coefficients[table.place]  # (M, N, P) -> (M, N)
        allowed = table.allowed[rows]
        return np.where(allowed, raw, np.nan), np.where(allowed, 1.0, np.nan)

    def weights(self) -> Weights:
        """Give the coefficients of all columns, 0 for those that were not chosen."""
        return {COEFFICIENTS: self._coefficients}

    def shape(self) -> Shape:
        """Give the shape of a ridge."""
        return Shape(columns_n(self._covariates), len(self._coefficients), 0, 0, self._bars, 1)


def fit_fold(
    job: Job, tables: Sequence[Table], fold: Fold, *, seed: int, told: Told
) -> FittedRidge:
    """Fit all timeframes on a fold; a seed changes nothing. See `fitting.FitFold`."""
    coefficients, found = [], []
    for table in tables:
        rows = table.within(fold.learned)
        x, y = regressors(table, rows, job.covariates), table.y[rows]
        kept = reduced(job, table, x, y)
        z = kept.apply(x)  # (T, N, P) -> (T, N, Q)
        weights = fit(z, y, penalty_of(table.horizon_bars, z.shape[-1]))
        coefficients.append(kept.expanded(weights, x.shape[-1]))
        found.append(kept)
        told(len(found) / len(tables))
    return FittedRidge(job, np.array(coefficients), found)


if __name__ == "__main__":
    sys.exit(run_process(train_ridge, sys.argv[1:]))
