"""Stitch the out-of-sample forecasts of many fits into one table, calibrated by what was known.

The raw forecasts of a fold are brought to unit size by those of its own stop part, since every fit
has a scale of its own. What a forecast of that size is worth is learned from the tests of all folds
before, as far as their labels were known when the fold began; the first fold has the prior alone.
The same holds for the correlation of the timeframes' errors, for the choice of the rule that
combines them, and for what the combination is worth (`strategies.forecast.combined`). So each row
of the table could have been made at its instant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.domain.forecast import Reading
from daemon.domain.predictions import PredictionTable, rows_of
from daemon.domain.units import Timeframe, require
from strategies.forecast.alphas import Alphas, Combining, Joined, joined
from strategies.forecast.calibration import Calibration, calibrate, centred, disagreement
from strategies.forecast.combined import DEFAULT_RULE, choose, learn
from strategies.rules import RULES, Contender, Rule

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
class Learned:
    """Hold what a fold knew of combining: the reading, and how the rules did in the tests before.

    contenders: empty where a rule was set and none was chosen.
    """

    reading: Reading
    contenders: tuple[Contender, ...]


@dataclass(frozen=True, slots=True)
class Stitched:
    """Hold the table, and of each fold the calibrations in the order of the timeframes."""

    table: PredictionTable
    calibrations: tuple[tuple[Calibration, ...], ...]
    learned: tuple[Learned, ...]


def stitch(
    folds: Sequence[RawFold],
    symbols: Sequence[str],
    timeframes: Sequence[Timeframe],
    outcomes: Outcomes,
    *,
    reach_ms: int,
    horizon_ms: int,
    how: Combining | None = None,
) -> Stitched:
    """Calibrate fold after fold and lay the forecasts out as a table.

    folds in the order of time. outcomes: labels, NaN where there are none. reach_ms: from a
    decision to where its label is known; horizon_ms: how long a label lasts. how: the rule that
    combines the timeframes; AUTO is chosen for each fold by the tests before it. The table has rows
    at its decisions too where no timeframe closed, of what was said last.
    """
    how = how or Combining()
    (found,) = stitch_rules(
        folds,
        symbols,
        timeframes,
        outcomes,
        reach_ms=reach_ms,
        horizon_ms=horizon_ms,
        how=how,
        rules=(how.rule,),
    )
    return found


def stitch_rules(
    folds: Sequence[RawFold],
    symbols: Sequence[str],
    timeframes: Sequence[Timeframe],
    outcomes: Outcomes,
    *,
    reach_ms: int,
    horizon_ms: int,
    how: Combining,
    rules: Sequence[Rule],
) -> list[Stitched]:
    """Do the same for several rules at once, whatever the rule of `how` is; one table a rule."""
    require(len(folds) > 0, "no fold to stitch")
    known = _Known(timeframes, outcomes, reach_ms, horizon_ms)
    heard = _Heard(how.decision, outcomes, reach_ms, horizon_ms)
    alphas = Alphas(timeframes, len(symbols), how)
    said: list[Joined] = []
    calibrated: list[tuple[Calibration, ...]] = []
    learned: dict[Rule, list[Learned]] = {rule: [] for rule in rules}
    held: list[tuple[int, Floats]] = []
    for fold, next_ms in zip(folds, [*(later.test_ms for later in folds[1:]), None], strict=True):
        scaled = {t: _scaled(fold.test[t], fold.stop[t]) for t in timeframes}
        calibrations, correlation = known.calibrated(fold)
        slopes = [one.slope for one in calibrations]
        one = joined(
            alphas,
            timeframes,
            {t: _applied(scaled[t], c) for t, c in zip(timeframes, calibrations, strict=True)},
            instruments_n=len(symbols),
            disagreement=correlation,
            slopes=slopes,
            besides=_decisions(fold, next_ms, how.decision),
        )
        for rule in rules:
            learned[rule].append(heard.learned(rule, fold.test_ms, slopes))
        said.append(one)
        known.add(scaled)
        heard.add(one)
        calibrated.append(calibrations)
        held.append((fold.test_ms, correlation))
    return [
        Stitched(
            _table(symbols, timeframes, said, held, learned[rule]),
            tuple(calibrated),
            tuple(learned[rule]),
        )
        for rule in rules
    ]


def _table(
    symbols: Sequence[str],
    timeframes: Sequence[Timeframe],
    said: Sequence[Joined],
    held: Sequence[tuple[int, Floats]],
    learned: Sequence[Learned],
) -> PredictionTable:
    """Lay out what the folds said, read as each of them had learned to."""
    readings = [one.reading for one in learned]
    predictions = [
        reading.scale * one.alphas[Rule(reading.rule)]
        for one, reading in zip(said, readings, strict=True)
    ]
    return rows_of(
        symbols,
        timeframes,
        np.concatenate([one.at_ms for one in said]),
        np.concatenate(predictions),
        np.concatenate([one.mean for one in said], axis=1),
        np.concatenate([one.variance for one in said], axis=1),
        tuple(held),
        tuple((at, reading) for (at, _), reading in zip(held, readings, strict=True)),
    )


class _Heard:
    """Gather what rules said in the tests of folds, and learn from it what was known at another."""

    def __init__(
        self, decision: Timeframe, outcomes: Outcomes, reach_ms: int, horizon_ms: int
    ) -> None:
        self._decision, self._outcomes, self._reach_ms = decision, outcomes, reach_ms
        self._lags = max(1, horizon_ms // decision.ms)
        self._at_ms: list[Longs] = []
        self._alphas: dict[Rule, list[Floats]] = {rule: [] for rule in RULES}

    def add(self, said: Joined) -> None:
        """Keep the alphas of decisions."""
        decides = said.at_ms % self._decision.ms == 0
        self._at_ms.append(said.at_ms[decides])
        for rule, alphas in said.alphas.items():
            self._alphas[rule].append(alphas[decides])

    def learned(self, asked: Rule, test_ms: int, slopes: Sequence[float]) -> Learned:
        """Choose the rule and learn its reading from labels that were known at an instant."""
        rule = DEFAULT_RULE if asked is Rule.AUTO else asked
        if not self._at_ms:
            return Learned(Reading(str(rule), tuple(slopes)), ())
        at_ms = np.concatenate(self._at_ms)
        alphas = {rule: np.concatenate(parts) for rule, parts in self._alphas.items()}
        settled = (at_ms + self._reach_ms <= test_ms)[:, None]
        y = centred(np.where(settled & np.isfinite(alphas[rule]), self._outcomes(at_ms), np.nan))
        contenders: tuple[Contender, ...] = ()
        if asked is Rule.AUTO:
            chosen = choose(alphas, y, lags=self._lags)
            rule, contenders = chosen.rule, chosen.contenders
        return Learned(learn(rule, slopes, alphas, y, lags=self._lags), contenders)


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


def _decisions(fold: RawFold, next_ms: int | None, decision: Timeframe) -> Longs:
    """Give the decisions from the test of a fold on up to that of the next one."""
    if next_ms is None:
        ends = [int(part.close_ms[-1]) for part in fold.test.values() if len(part.close_ms)]
        next_ms = max(ends, default=fold.test_ms) + 1
    first_ms = -(-fold.test_ms // decision.ms) * decision.ms
    return np.arange(first_ms, next_ms, decision.ms, dtype=np.int64)


def _applied(part: RawPart, calibration: Calibration) -> tuple[Longs, Floats, Floats]:
    """Give closes (M,), calibrated means and variances (M, N)."""
    shape = part.noise.shape
    mean, variance = np.full(shape, np.nan), np.full(shape, np.nan)
    for m in range(len(part.close_ms)):
        mean[m], variance[m] = calibration.apply(part.members[:, m], part.noise[m])
    return part.close_ms, mean, variance
