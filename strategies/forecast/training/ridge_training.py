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
from strategies.forecast.inputs.dataset import Table, build_tables, cut_folds
from strategies.forecast.ridge import (
    COEFFICIENTS,
    PRODUCT_BARS,
    columns_n,
    design,
    fit,
    penalty_of,
)
from strategies.forecast.training.evaluation import Forecaster, OutOfSample, describe
from strategies.forecast.training.fitting import Fitted, Told
from strategies.forecast.training.job import Job, Longs
from strategies.forecast.training.process import Progress, Report, run_process
from strategies.forecast.training.splits import Fold

LIBRARIES: Final = ("numpy", "safetensors")
SEEDED: Final = False


def train_ridge(job: Job, *, progress: Report | None = None) -> Path:
    """Fit, score, calibrate and save a ridge into `job.out`; give its folder (named by its id).

    Learns from the training and stopping parts of each fold; the last fold's model is kept. Raises
    ModelError when the data are too few for the folds. The settings that only networks have are
    not read. The same job gives the same model. A step of progress is one timeframe of one fold.
    """
    report = progress or (lambda _: None)
    tables = build_tables(job)
    folds = cut_folds(job, tables)
    outcome = OutOfSample(tables)
    columns = columns_n(job.covariates)
    coefficients = np.empty((len(tables), columns))
    for number, fold in enumerate(folds):
        stage = f"fold {number + 1}/{len(folds)}"
        coefficients = np.empty_like(coefficients)
        for table in tables:
            coefficients[table.place] = _fitted(table, fold, job.covariates)
            done = number * len(tables) + table.place + 1
            report(Progress(done, len(folds) * len(tables), stage, float("nan")))
        forecaster = _forecaster(coefficients, job.covariates)
        outcome.add(number, fold, forecaster, learned_until_ms=fold.learned.end_ms)
    shape = checkpoint.Shape(columns, len(tables), 0, 0, job.settings.sequence_bars, 1)
    manifest = describe(
        job, outcome, kind=checkpoint.RIDGE, shape=shape, steps=0, libraries=LIBRARIES
    )
    return checkpoint.save(manifest, {COEFFICIENTS: coefficients}, job.out)


class FittedRidge:
    """Forecast with coefficients (K, P); the stated variance is that of labels, 1."""

    def __init__(self, coefficients: Floats, covariates: Sequence[str]) -> None:
        self._coefficients, self._covariates = coefficients, covariates

    def forecast(self, table: Table, rows: Longs) -> tuple[Floats, Floats]:
        """Give raw means and unit variances, (M, N) each; see `fitting.Fitted`."""
        x = _regressors(table, rows, self._covariates)
        raw = x @ self._coefficients[table.place]  # (M, N, P) -> (M, N)
        allowed = table.allowed[rows]
        return np.where(allowed, raw, np.nan), np.where(allowed, 1.0, np.nan)


def fit_fold(job: Job, tables: Sequence[Table], fold: Fold, *, seed: int, told: Told) -> Fitted:
    """Fit all timeframes on a fold; a seed changes nothing. See `fitting.FitFold`."""
    found = []
    for table in tables:
        found.append(_fitted(table, fold, job.covariates))
        told(len(found) / len(tables))
    return FittedRidge(np.array(found), job.covariates)


def _fitted(table: Table, fold: Fold, covariates: Sequence[str]) -> Floats:
    rows = table.within(fold.learned)
    x = _regressors(table, rows, covariates)
    return fit(x, table.y[rows], penalty_of(table.horizon_bars, x.shape[-1]))


def _regressors(table: Table, rows: Longs, covariates: Sequence[str]) -> Floats:
    """Give the regressors (M, N, P) of rows (M,) that rise, made of no more rows than they need."""
    if not len(rows):
        return np.empty((0, table.y.shape[1], columns_n(covariates)))
    first, last = int(rows[0]), int(rows[-1]) + 1
    needed = table.rows[max(0, first - PRODUCT_BARS + 1) : last]
    return design(needed, last - first, covariates)[rows - first]


def _forecaster(coefficients: Floats, covariates: Sequence[str]) -> Forecaster:
    def forecast(table: Table, rows: Longs) -> Floats:
        x = _regressors(table, rows, covariates)
        raw = x @ coefficients[table.place]  # (M, N, P) -> (M, N)
        return np.where(np.isfinite(table.y[rows]), raw, np.nan)[None]

    return forecast


if __name__ == "__main__":
    sys.exit(run_process(train_ridge, sys.argv[1:]))
