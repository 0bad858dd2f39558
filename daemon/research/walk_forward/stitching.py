"""Stitch the out-of-sample forecasts of many fits into one table, calibrated by what was known.

The raw forecasts of a fold are brought to unit size by those of its own stop part, since every fit
has a scale of its own. What a forecast of that size is worth is learned from the tests of all folds
before, as far as their labels were known when the fold began; the first fold has the prior alone.
The same holds for the correlation of the timeframes' errors. So each row of the table could have
been made at its instant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.domain.predictions import PredictionTable, rows_of
from daemon.domain.units import Timeframe, require
from strategies.forecast.alphas import Alphas
from strategies.forecast.calibration import Calibration, calibrate, centred, disagreement

Longs = npt.NDArray[np.int64]
Outcomes = Callable[[Longs], Floats]  # labels (M, N) of decisions at instants (M,)
_SIZE_FLOOR: Final = 1e-6


@dataclass(frozen=True, slots=True)
class RawPart:
    """Hold raw forecasts of one timeframe: close_ms (M,), members (S, M, N), noise (M, N)."""

    close_ms: Longs
    members: Floats
    noise: Floats


@dataclass(frozen=True, slots=True)
class RawFold:
    """Hold what the fits of one fold said of its test and of its stop part, by timeframe."""

    test_ms: int
    test: Mapping[Timeframe, RawPart]
    stop: Mapping[Timeframe, RawPart]


@dataclass(frozen=True, slots=True)
class Stitched:
    """Hold the table, and the calibrations of each fold in the order of the timeframes."""

    table: PredictionTable
    calibrations: tuple[tuple[Calibration, ...], ...]


def stitch(
    folds: Sequence[RawFold],
    symbols: Sequence[str],
    timeframes: Sequence[Timeframe],
    outcomes: Outcomes,
    *,
    reach_ms: int,
    horizon_ms: int,
) -> Stitched:
    """Calibrate fold after fold and lay the forecasts out as a table.

    folds in the order of time. outcomes: labels, NaN where there are none. reach_ms: from a
    decision to where its label is known; horizon_ms: how long a label lasts.
    """
    require(len(folds) > 0, "no fold to stitch")
    known = _Known(timeframes, outcomes, reach_ms, horizon_ms)
    alphas = Alphas(timeframes, len(symbols))
    said: list[_Said] = []
    found, held = [], []
    for fold in folds:
        scaled = {t: _scaled(fold.test[t], fold.stop[t]) for t in timeframes}
        calibrations, correlation = known.calibrated(fold)
        said.append(_calibrated(scaled, timeframes, calibrations, correlation, alphas))
        known.add(scaled)
        found.append(calibrations)
        held.append((fold.test_ms, correlation))
    table = rows_of(
        symbols,
        timeframes,
        np.concatenate([one.as_of_ms for one in said]),
        np.concatenate([one.prediction for one in said]),
        np.concatenate([one.mean for one in said], axis=1),
        np.concatenate([one.variance for one in said], axis=1),
        tuple(held),
    )
    return Stitched(table, tuple(found))


@dataclass(frozen=True, slots=True)
class _Said:
    """Hold one fold's share of the table: (T,), (T, N), and (K, T, N) twice."""

    as_of_ms: Longs
    prediction: Floats
    mean: Floats
    variance: Floats


class _Known:
    """Gather the tests of folds, and say what was known of them when another fold began."""

    def __init__(
        self, timeframes: Sequence[Timeframe], outcomes: Outcomes, reach_ms: int, horizon_ms: int
    ) -> None:
        self._timeframes, self._outcomes = tuple(timeframes), outcomes
        self._reach_ms, self._horizon_ms = reach_ms, horizon_ms
        self._parts: dict[Timeframe, list[RawPart]] = {t: [] for t in timeframes}

    def add(self, scaled: Mapping[Timeframe, RawPart]) -> None:
        for timeframe, part in scaled.items():
            self._parts[timeframe].append(part)

    def calibrated(self, fold: RawFold) -> tuple[tuple[Calibration, ...], Floats]:
        """Fit what a fold needs from what was known at its first test."""
        pasts = [self._past(t, fold) for t in self._timeframes]
        labels = [self._labels(part, fold.test_ms) for part in pasts]
        lags = [max(1, self._horizon_ms // t.ms) for t in self._timeframes]
        calibrations = calibrate([part.members for part in pasts], labels, lags=lags)
        return calibrations, _disagreement(pasts)

    def _past(self, timeframe: Timeframe, fold: RawFold) -> RawPart:
        """Give the scaled tests before; for the first fold its own stop part, without outcomes."""
        parts = self._parts[timeframe] or [_scaled(fold.stop[timeframe], fold.stop[timeframe])]
        return RawPart(
            np.concatenate([part.close_ms for part in parts]),
            np.concatenate([part.members for part in parts], axis=1),
            np.concatenate([part.noise for part in parts]),
        )

    def _labels(self, part: RawPart, test_ms: int) -> Floats:
        y = self._outcomes(part.close_ms)
        settled = part.close_ms + self._reach_ms <= test_ms
        known = settled[:, None] & np.isfinite(part.members.mean(axis=0))
        if not any(self._parts.values()):  # models have seen the labels of their stop part
            known = np.zeros_like(known)
        return centred(np.where(known, y, np.nan))


def _scaled(part: RawPart, by: RawPart) -> RawPart:
    """Bring forecasts to the unit size of those of another part of the same fit."""
    mean = centred(by.members.mean(axis=0))
    known = np.isfinite(mean)
    size = float(np.sqrt(np.mean(mean[known] ** 2))) if known.any() else 0.0
    return RawPart(part.close_ms, part.members / max(size, _SIZE_FLOOR), part.noise)


def _disagreement(parts: Sequence[RawPart]) -> Floats:
    shared = parts[0].close_ms
    for part in parts[1:]:
        shared = np.intersect1d(shared, part.close_ms)
    aligned = [
        centred(part.members.mean(axis=0))[np.searchsorted(part.close_ms, shared)] for part in parts
    ]
    return disagreement(aligned)


def _calibrated(
    scaled: Mapping[Timeframe, RawPart],
    timeframes: Sequence[Timeframe],
    calibrations: Sequence[Calibration],
    correlation: Floats,
    alphas: Alphas,
) -> _Said:
    at_ms = np.unique(np.concatenate([part.close_ms for part in scaled.values()]))
    N = scaled[timeframes[0]].noise.shape[1]
    mean, variance = (np.full((len(timeframes), len(at_ms), N), np.nan) for _ in range(2))
    prediction = np.full((len(at_ms), N), np.nan)
    for k, timeframe in enumerate(timeframes):
        part = scaled[timeframe]
        for m, row in enumerate(np.searchsorted(at_ms, part.close_ms).tolist()):
            mean[k, row], variance[k, row] = calibrations[k].apply(
                part.members[:, m], part.noise[m]
            )
    for row, as_of_ms in enumerate(at_ms.tolist()):
        fresh = {
            t: (mean[k, row], variance[k, row])
            for k, t in enumerate(timeframes)
            if as_of_ms % t.ms == 0
        }
        prediction[row] = alphas.step(as_of_ms, fresh, correlation)
    return _Said(at_ms, prediction, mean, variance)
