"""Train a ridge from a job and keep it in the registry like a network.

Same folds, calibration, scores and manifest, data origin included; no torch is loaded.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

from daemon.domain.bar import Floats
from strategies.forecast import checkpoint
from strategies.forecast.dataset import Table, build_tables, cut_folds
from strategies.forecast.evaluation import Forecaster, OutOfSample
from strategies.forecast.features import feature_hash
from strategies.forecast.job import Job, Longs, fingerprint
from strategies.forecast.labels import HORIZON_MS
from strategies.forecast.ridge import COEFFICIENTS, COLUMNS_N, design, fit, penalty_of
from strategies.forecast.splits import Fold, Span
from strategies.forecast.windows import SEQUENCE_BARS


def train_ridge(job: Job) -> Path:
    """Fit, score, calibrate and save a ridge into `job.out`; give its folder (named by its id).

    Learns from the training and stopping parts of each fold; the last fold's model is kept. Raises
    ModelError when the data are too few for the folds. The settings that only networks have are
    not read. The same job gives the same model.
    """
    tables = build_tables(job)
    outcome = OutOfSample(tables)
    coefficients = np.empty((0, 0))
    for number, fold in enumerate(cut_folds(job, tables)):
        coefficients = np.array([_fitted(table, fold) for table in tables])  # (K, P)
        outcome.add(number, fold, _forecaster(coefficients))
    return checkpoint.save(_describe(job, outcome), {COEFFICIENTS: coefficients}, job.out)


def _fitted(table: Table, fold: Fold) -> Floats:
    rows = table.within(Span(fold.train.start_ms, fold.stop.end_ms))
    x = design(table.rows, len(table.rows))[rows]
    return fit(x, table.y[rows], penalty_of(table.horizon_bars))


def _forecaster(coefficients: Floats) -> Forecaster:
    def forecast(table: Table, rows: Longs) -> Floats:
        x = design(table.rows, len(table.rows))[rows]
        raw = x @ coefficients[table.place]  # (M, N, P) -> (M, N)
        return np.where(np.isfinite(table.y[rows]), raw, np.nan)[None]

    return forecast


def _describe(job: Job, outcome: OutOfSample) -> checkpoint.Manifest:
    settings, source = job.settings, job.source
    close_ms, _ = job.bars[source]
    return checkpoint.Manifest(
        schema=checkpoint.SCHEMA,
        kind=checkpoint.RIDGE,
        shape=checkpoint.Shape(COLUMNS_N, len(job.timeframes), 0, 0, SEQUENCE_BARS, 1),
        feature_hash=feature_hash(),
        timeframes_minutes=tuple(t.minutes for t in job.timeframes),
        symbols=job.symbols,
        origin=job.origin,
        data=checkpoint.Data(
            fingerprint=fingerprint(job),
            from_ms=int(close_ms[0]),
            to_ms=int(close_ms[-1]),
            source_minutes=source.minutes,
            lag_ms=settings.lag_bars * source.ms,
            horizon_ms=HORIZON_MS,
        ),
        settings=settings,
        steps=0,
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "safetensors")},
        },
        scores=tuple(outcome.scores),
        calibration=outcome.calibration(),
        disagreement=tuple(tuple(map(float, row)) for row in outcome.disagreement()),
        weights_sha256="",
    )
