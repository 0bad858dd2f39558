"""Collect out-of-sample forecasts over folds: scores beside the baselines, calibration, errors.

What every kind of model has in common ends here too: `describe` writes the manifest.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Final

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.forecast import Reading
from daemon.domain.units import Timeframe, require
from strategies.forecast.alphas import Alphas, Combining, joined
from strategies.forecast.baselines import Baseline, raw_forecast
from strategies.forecast.calibration import Calibration, calibrate, centred, disagreement, mean_of
from strategies.forecast.checkpoint import SCHEMA, Data, Learned, Manifest, Score, Shape, Skill
from strategies.forecast.combined import DEFAULT_RULE, choose, learn
from strategies.forecast.inputs.covariates import column_names
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.inputs.features import feature_hash
from strategies.forecast.inputs.labels import HORIZON_MS
from strategies.forecast.skill import skill
from strategies.forecast.training.job import Job, Longs, fingerprint
from strategies.forecast.training.splits import Fold
from strategies.rules import Contender

PURGED_MS: Final = 2 * HORIZON_MS  # between two halves: longer than a label reaches, lag included
Forecaster = Callable[[Table, Longs], Floats]  # (table, rows) -> raw forecasts (M, T, N)


class OutOfSample:
    """Hold the raw forecasts of all test parts, in the order of time.

    The members of a fold know its test and all later ones only before they come. So a test is
    forecast by the members of its own fold and of those before it: the model as it stood then.
    Forecasts of fewer members are larger, since a mean of many is smaller than one of few; each
    test's are brought to the size of all members' mean, by a share that is measured where all
    speak, on the last test.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        self._tables = tables
        self._rows: list[list[Longs]] = [[] for _ in tables]
        self._raw: list[list[Floats]] = [[] for _ in tables]
        self.scores: list[Score] = []
        self.learned: list[Learned] = []
        self.learned_until_ms = 0
        self.members_n = 0

    def add(self, number: int, fold: Fold, forecast: Forecaster, *, learned_until_ms: int) -> None:
        """Forecast a fold's test part and score it beside the baselines.

        forecast: of all members so far, those of earlier folds first and in the same order.
        learned_until_ms: the end of what the weights of this fold's were fitted to. Raises
        InvariantViolated for a fold whose test begins before any of them had learned.
        """
        self.learned_until_ms = max(self.learned_until_ms, learned_until_ms)
        require(
            self.learned_until_ms <= fold.test.start_ms,
            f"learned until {self.learned_until_ms}, tested from {fold.test.start_ms}",
        )
        before_n = self.members_n
        for k, table in enumerate(self._tables):
            rows = table.within(fold.test)
            raw = forecast(table, rows)  # (M, T, N)
            self.members_n = len(raw)
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
        own_n, stopped_ms = self.members_n - before_n, fold.stop.end_ms
        test = fold.test
        self.learned.append(
            Learned(number, own_n, learned_until_ms, stopped_ms, test.start_ms, test.end_ms)
        )

    def calibration(self) -> tuple[Calibration, ...]:
        """Fit slope, size and spread of each timeframe over all folds."""
        return _calibrations(self._said())

    def disagreement(self) -> Floats:
        """Correlate the timeframes' forecasts at the instants that they share, (K, K)."""
        return _disagreement(self._said())

    def combining(self) -> tuple[Reading, tuple[Contender, ...]]:
        """Choose the rule that combines the timeframes, and learn what comes of it.

        The first half of the time teaches the calibrations, the second, half a day later, compares
        the rules under them: no rule is judged by outcomes that its forecasts were fitted to. The
        reading has the slopes of `calibration`.
        """
        said = self._said()
        slopes = [one.slope for one in _calibrations(said)]
        middle_ms = (said[0].close_ms[0] + said[0].close_ms[-1]) // 2 if said[0].raw.size else 0
        first = [one.rows(one.close_ms < middle_ms - PURGED_MS) for one in said]
        second = [one.rows(one.close_ms >= middle_ms) for one in said]
        if not all(len(one.close_ms) for one in (*first, *second)):
            return Reading(str(DEFAULT_RULE), tuple(slopes)), ()
        how = Combining()
        taught = _calibrations(first)
        found = joined(
            Alphas([one.timeframe for one in second], second[0].y.shape[1], how),
            [one.timeframe for one in second],
            {one.timeframe: one.applied(c) for one, c in zip(second, taught, strict=True)},
            instruments_n=second[0].y.shape[1],
            disagreement=_disagreement(first),
            slopes=[one.slope for one in taught],
        )
        y = np.full(found.alphas[DEFAULT_RULE].shape, np.nan)
        for one in second:  # a label is the same whichever timeframe closed then
            rows = np.searchsorted(found.at_ms, one.close_ms)
            y[rows] = np.where(np.isfinite(one.y), one.y, y[rows])
        decides = found.at_ms % how.decision.ms == 0
        alphas = {rule: values[decides] for rule, values in found.alphas.items()}
        known = np.where(np.isfinite(alphas[DEFAULT_RULE]), y[decides], np.nan)
        lags = max(1, HORIZON_MS // how.decision.ms)
        chosen = choose(alphas, centred(known), lags=lags)
        reading = learn(chosen.rule, slopes, alphas, centred(known), lags=lags)
        return reading, chosen.contenders

    def _said(self) -> list[_Said]:
        found = []
        for table, rows, raw in zip(self._tables, self._rows, self._raw, strict=True):
            at = np.concatenate(rows)
            found.append(
                _Said(
                    table.timeframe,
                    table.horizon_bars,
                    table.close_ms[at],
                    _together(raw),
                    table.y[at],
                )
            )
        return found


@dataclass(frozen=True, slots=True)
class _Said:
    """Hold a timeframe's raw forecasts (M, T, N) of all tests with closes (T,), labels (T, N).

    A member that had not learned yet is NaN.
    """

    timeframe: Timeframe
    horizon_bars: int
    close_ms: Longs
    raw: Floats
    y: Floats

    def rows(self, chosen: Flags) -> _Said:
        """Keep some of the rows."""
        return replace(
            self, close_ms=self.close_ms[chosen], raw=self.raw[:, chosen], y=self.y[chosen]
        )

    def applied(self, calibration: Calibration) -> tuple[Longs, Floats, Floats]:
        """Give closes, calibrated means and variances; the instruments count as equally noisy."""
        noise = np.where(np.isfinite(mean_of(self.raw)), 1.0, np.nan)
        spoke = np.asarray(np.isfinite(self.raw).any(axis=-1))  # (M, T)
        spoke |= ~spoke.any(axis=0)
        made = [calibration.apply(self.raw[spoke[:, t], t], noise[t]) for t in range(len(noise))]
        mean, variance = np.array(made).transpose(1, 0, 2)  # (T, 2, N) -> (2, T, N)
        return self.close_ms, mean, variance


def _together(parts: Sequence[Floats]) -> Floats:
    """Put forecasts (M_k, T_k, N) of growing ensembles one after the other: (M, T, N).

    Those of fewer members have the size that they would have if all had spoken.
    """
    last = parts[-1]
    found = []
    for part in parts:
        M, T, N = part.shape
        if len(last) > M:
            alone, size = _size(last[:M]), _size(last)
            part = part * (size / alone if alone > 0 else 1.0)
        found.append(np.concatenate([part, np.full((len(last) - M, T, N), np.nan)]))
    return np.concatenate(found, axis=1)


def _size(members: Floats) -> float:
    """Give the root mean square of the centred mean of members (M, T, N)."""
    mean = centred(mean_of(members))
    known = np.isfinite(mean)
    return float(np.sqrt(np.mean(mean[known] ** 2))) if known.any() else 0.0


def _calibrations(said: Sequence[_Said]) -> tuple[Calibration, ...]:
    return calibrate(
        [one.raw for one in said], [one.y for one in said], lags=[one.horizon_bars for one in said]
    )


def _disagreement(said: Sequence[_Said]) -> Floats:
    shared = said[0].close_ms
    for other in said[1:]:
        shared = np.intersect1d(shared, other.close_ms)
    aligned = []
    for one in said:
        mean = centred(mean_of(one.raw))  # (T, N)
        aligned.append(mean[np.searchsorted(one.close_ms, shared)])
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
    reading, contenders = outcome.combining()
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
        reading=reading,
        contenders=contenders,
        weights_sha256="",
        covariates=job.covariates,
        parent="" if job.parent is None else job.parent.name,
        learned=tuple(outcome.learned) if len(outcome.learned) > 1 else (),
    )
