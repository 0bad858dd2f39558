"""Collect out-of-sample forecasts over folds: scores beside the baselines, calibration, errors.

What every kind of model has in common ends here too: `describe` writes the manifest.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np

from daemon.domain.bar import Floats
from strategies.forecast.baselines import Baseline, raw_forecast
from strategies.forecast.calibration import Calibration, calibrate, centred, disagreement
from strategies.forecast.checkpoint import SCHEMA, Data, Manifest, Score, Shape, Skill
from strategies.forecast.inputs.covariates import column_names
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.inputs.features import feature_hash
from strategies.forecast.inputs.labels import HORIZON_MS
from strategies.forecast.skill import skill
from strategies.forecast.training.job import Job, Longs, fingerprint
from strategies.forecast.training.splits import Fold

Forecaster = Callable[[Table, Longs], Floats]  # (table, rows) -> raw forecasts (M, T, N)


class OutOfSample:
    """Hold the raw forecasts of all test parts, in the order of time."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self._tables = tables
        self._rows: list[list[Longs]] = [[] for _ in tables]
        self._raw: list[list[Floats]] = [[] for _ in tables]
        self.scores: list[Score] = []
        self.learned_until_ms = 0

    def add(self, number: int, fold: Fold, forecast: Forecaster, *, learned_until_ms: int) -> None:
        """Forecast a fold's test part and score it beside the baselines.

        learned_until_ms: the end of what the weights were fitted to.
        """
        self.learned_until_ms = learned_until_ms
        for k, table in enumerate(self._tables):
            rows = table.within(fold.test)
            raw = forecast(table, rows)  # (M, T, N)
            self._rows[k].append(rows)
            self._raw[k].append(raw)
            self.scores.append(
                Score(
                    fold=number,
                    timeframe_minutes=table.timeframe.minutes,
                    model=score(table, rows, raw.mean(axis=0)),
                    last_return=_score_baseline(table, rows, Baseline.LAST_RETURN),
                    momentum=_score_baseline(table, rows, Baseline.MOMENTUM),
                )
            )

    def calibration(self) -> tuple[Calibration, ...]:
        """Fit slope, size and spread of each timeframe over all folds."""
        raw = [np.concatenate(parts, axis=1) for parts in self._raw]
        outcomes = [t.y[np.concatenate(r)] for t, r in zip(self._tables, self._rows, strict=True)]
        return calibrate(raw, outcomes, lags=[t.horizon_bars for t in self._tables])

    def disagreement(self) -> Floats:
        """Correlate the timeframes' forecasts at the instants that they share, (K, K)."""
        closes = [
            t.close_ms[np.concatenate(r)] for t, r in zip(self._tables, self._rows, strict=True)
        ]
        shared = closes[0]
        for other in closes[1:]:
            shared = np.intersect1d(shared, other)
        aligned = []
        for raw, at in zip(self._raw, closes, strict=True):
            mean = centred(np.concatenate(raw, axis=1).mean(axis=0))  # (T, N)
            aligned.append(mean[np.searchsorted(at, shared)])
        return disagreement(aligned)


def score(table: Table, rows: Longs, forecasts: Floats) -> Skill:
    """Score raw forecasts (M, N) of rows (M,) against their labels."""
    return skill(centred(forecasts), table.y[rows], horizon_bars=table.horizon_bars)


def _score_baseline(table: Table, rows: Longs, baseline: Baseline) -> Skill:
    return score(table, rows, raw_forecast(baseline, table.rows[rows]))


def describe(
    job: Job,
    outcome: OutOfSample,
    *,
    kind: str,
    shape: Shape,
    steps: int,
    libraries: Sequence[str],
) -> Manifest:
    """Write the manifest of a trained model; `checkpoint.save` adds the hash of the weights.

    libraries: the packages whose versions are named, beside Python's own.
    """
    settings, source = job.settings, job.source
    close_ms, _ = job.bars[source]
    return Manifest(
        schema=SCHEMA,
        kind=kind,
        shape=shape,
        feature_hash=feature_hash(column_names(job.covariates)),
        timeframes_minutes=tuple(t.minutes for t in job.timeframes),
        symbols=job.symbols,
        origin=job.origin,
        data=Data(
            fingerprint=fingerprint(job),
            from_ms=int(close_ms[0]),
            to_ms=int(close_ms[-1]),
            source_minutes=source.minutes,
            lag_ms=settings.lag_bars * source.ms,
            horizon_ms=HORIZON_MS,
            learned_until_ms=outcome.learned_until_ms,
        ),
        settings=settings,
        steps=steps,
        versions={"python": platform.python_version()} | {n: version(n) for n in libraries},
        scores=tuple(outcome.scores),
        calibration=outcome.calibration(),
        disagreement=tuple(tuple(map(float, row)) for row in outcome.disagreement()),
        weights_sha256="",
        covariates=job.covariates,
        parent="" if job.parent is None else job.parent.name,
    )
