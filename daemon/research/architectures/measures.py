"""Measure one arm at every decision: skill as it is and beyond the simple signals, likelihood, gap.

All arms are asked at the same decisions about the same instruments, whatever their timeframes. The
likelihood is Gaussian, of the outcome over 6 hours: its mean is the arm's forecast, its variance
what the arm's models say of the outcome's, times one factor learned from the tests before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Flags, Floats
from daemon.domain.predictions import PredictionTable
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.research.architectures.book_steps import StepIc
from daemon.research.architectures.quality import HORIZON_H, Quality, quality_of, step_of
from daemon.research.architectures.simple_signals import beyond, measurable
from daemon.research.walk_forward.scores import COMBINED, Score, laid_out, score_signal
from daemon.research.walk_forward.stitching import RawFold, RawPart
from daemon.statistics.cross_sections import rank_ics, score_ics
from daemon.statistics.densities import gaussian_nll
from daemon.statistics.skill import MeanIc, mean_ic
from strategies.forecast.calibration import centred

Longs = npt.NDArray[np.int64]
BEYOND: Final = "beyond reversal, momentum and low volatility"
FACTOR_RANGE: Final = (1e-6, 1e6)


@dataclass(frozen=True)
class Known:
    """Hold what came, at every decision of the tests: all (M, N) in the order of a table's symbols.

    outcomes: by horizon in hours. signals: the simple ones. sigma: residual volatility an hour.
    """

    at_ms: Longs
    decision: Timeframe
    outcomes: Mapping[int, Floats]
    signals: Mapping[str, Floats]
    sigma: Floats
    cost: float
    reach_ms: int


@dataclass(frozen=True)
class Losses:
    """Hold an arm's losses at each decision, (M,) each, NaN where it said nothing of use."""

    rank: Floats
    score: Floats
    likelihood: Floats


@dataclass(frozen=True)
class Gap:
    """Hold the RankIC of the first timeframe's forecasts where it learned (P,) and tested (M,)."""

    learned: Floats
    tested: Floats

    @property
    def size(self) -> float:
        """Give the mean RankIC of training less that of the tests, NaN where one is not known."""
        return _mean(self.learned) - _mean(self.tested)


@dataclass(frozen=True)
class Measured:
    """Hold everything that is measured of an arm without trading.

    scores: of the arm and of each timeframe, at 6 and 12 hours, by period. beyond: at 6 hours after
    the simple signals. The arm's own count 0 where it does not tell instruments apart, unless it
    never does: arms that are silent at bad times are no better for it. likelihood: mean loss by
    instants.
    steps: empty where nothing can be traded.
    """

    scores: tuple[Score, ...]
    beyond: tuple[Score, ...]
    likelihood: MeanIc
    quality: Quality
    losses: Losses
    gap: Gap | None
    steps: tuple[StepIc, ...] = ()


def measured(
    table: PredictionTable, folds: Sequence[RawFold], known: Known, gap: Gap | None
) -> Measured:
    """Measure a table and what its models said of the outcomes' variances."""
    forecasts = at_decisions(table, table.prediction, known)
    step_h = step_of(known.decision.ms)
    scores: list[Score] = []
    for hours in (HORIZON_H, 2 * HORIZON_H):
        came = known.outcomes[hours]
        mute = _silent(forecasts, came)
        scores += score_signal(
            COMBINED, known.at_ms, forecasts, came, hours * HOUR_MS, known.decision, mute
        )
    y, span = known.outcomes[HORIZON_H], HORIZON_H * HOUR_MS
    for k, timeframe in enumerate(table.timeframes):
        instants, mean = laid_out(table, table.mean[k], timeframe)
        rows = np.searchsorted(known.at_ms, instants)
        there = known.at_ms[np.minimum(rows, len(known.at_ms) - 1)] == instants
        if there.any() and np.isfinite(mean).any():
            at, said, came = instants[there], mean[there], y[rows[there]]
            spacing = Timeframe(math.lcm(timeframe.minutes, known.decision.minutes))
            scores += score_signal(timeframe.label, at, said, came, span, spacing)
    left, there = beyond(forecasts, known.signals), measurable(forecasts, known.signals)
    mute = _silent(np.where(there, forecasts, np.nan), np.where(there, y, np.nan))
    likelihood = _likelihood(forecasts, outcome_variance(folds, known.at_ms), y, folds, known)
    lags = max(1, HORIZON_H // step_h)
    return Measured(
        tuple(scores),
        tuple(score_signal(BEYOND, known.at_ms, left, y, span, known.decision, mute)),
        mean_ic(likelihood, horizon_bars=lags),
        quality_of(forecasts, known.outcomes, known.sigma, cost=known.cost, step_h=step_h),
        Losses(-_skill(rank_ics, forecasts, y), -_skill(score_ics, forecasts, y), likelihood),
        gap,
    )


def at_decisions(table: PredictionTable, values: Floats, known: Known) -> Floats:
    """Lay out a column (R,) of a table at the decisions, (M, N), NaN where it has no row."""
    instants, laid = laid_out(table, values, known.decision)
    found = np.full((len(known.at_ms), laid.shape[1]), np.nan)
    rows = np.minimum(np.searchsorted(instants, known.at_ms), len(instants) - 1)
    there = instants[rows] == known.at_ms
    found[there] = laid[rows[there]]
    return found


def _skill(measure: Callable[[Floats, Floats], Floats], forecasts: Floats, y: Floats) -> Floats:
    """Give the IC of each decision (M,), 0 where a forecast does not tell instruments apart."""
    return np.where(_mute(forecasts, y), 0.0, measure(forecasts, y))


def _mute(forecasts: Floats, y: Floats) -> Flags:
    """Tell where there are outcomes and forecasts that do not tell instruments apart, (M,)."""
    judged = np.isfinite(rank_ics(y, y))
    told_apart = np.isfinite(rank_ics(forecasts, y))
    return np.asarray(judged & ~told_apart & np.isfinite(forecasts).any(axis=1))


def _silent(forecasts: Floats, y: Floats) -> Flags | None:
    """Give the same; None for who is silent throughout, whose skill is not 0 but unknown."""
    mute = _mute(forecasts, y)
    return mute if np.isfinite(rank_ics(forecasts, y)).any() else None


def outcome_variance(folds: Sequence[RawFold], at_ms: Longs) -> Floats:
    """Give the newest variances that the models gave outcomes, their mean over timeframes, (M, N).

    A timeframe's counts while it is younger than one bar of its own length.
    """
    return _mean_of_newest(folds, at_ms, lambda part: part.noise)


def plain_mean(folds: Sequence[RawFold], at_ms: Longs) -> Floats:
    """Give the mean over timeframes of the newest forecasts, each at unit size, (M, N).

    folds: whose members have unit size. A timeframe's counts while it is younger than one bar of
    its own length; NaN where there is none.
    """
    return _mean_of_newest(folds, at_ms, lambda part: np.asarray(part.members.mean(axis=0)))


def _mean_of_newest(
    folds: Sequence[RawFold], at_ms: Longs, value: Callable[[RawPart], Floats]
) -> Floats:
    names = next(iter(folds[0].test.values())).noise.shape[1]
    total, count = (np.zeros((len(at_ms), names)) for _ in range(2))
    for timeframe in folds[0].test:
        close_ms = np.concatenate([fold.test[timeframe].close_ms for fold in folds])
        values = np.concatenate([value(fold.test[timeframe]) for fold in folds])
        rows = np.searchsorted(close_ms, at_ms, side="right") - 1
        fresh = (rows >= 0) & (at_ms - close_ms[np.maximum(rows, 0)] <= timeframe.ms)
        newest = np.where(fresh[:, None], values[np.maximum(rows, 0)], np.nan)
        seen = np.isfinite(newest)
        total += np.where(seen, newest, 0.0)
        count += seen
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)


def _likelihood(
    forecasts: Floats, variance: Floats, y: Floats, folds: Sequence[RawFold], known: Known
) -> Floats:
    """Give the mean loss of each decision (M,), NaN where nothing can be judged."""
    sure = np.where(variance > 0, variance, np.nan)
    pairs = np.isfinite(forecasts) & np.isfinite(sure) & np.isfinite(y)
    ends = [*[fold.test_ms for fold in folds[1:]], int(known.at_ms[-1]) + 1]
    loss = np.full(len(known.at_ms), np.nan)
    for fold, end_ms in zip(folds, ends, strict=True):
        rows = (known.at_ms >= fold.test_ms) & (known.at_ms < end_ms)
        past = pairs & (known.at_ms + known.reach_ms <= fold.test_ms)[:, None]
        if past.any():
            factor = float(np.mean((y[past] - forecasts[past]) ** 2 / sure[past]))
        else:  # models have seen the outcomes of their stop part: only the size of what they say
            factor = 1.0 / max(_stop_variance(fold), FACTOR_RANGE[0])
        factor = float(np.clip(factor, *FACTOR_RANGE))
        each = gaussian_nll(forecasts[rows], np.sqrt(factor * sure[rows]), y[rows])
        counted = np.isfinite(each).sum(axis=1)
        summed = np.where(np.isfinite(each), each, 0.0).sum(axis=1)
        loss[rows] = np.where(counted > 0, summed / np.maximum(counted, 1), np.nan)
    return loss


def _stop_variance(fold: RawFold) -> float:
    found = np.concatenate([part.noise.ravel() for part in fold.stop.values()])
    found = found[np.isfinite(found)]
    return float(found.mean()) if len(found) else 1.0


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def gap_of(learned: RawPart, tested: RawPart, y_learned: Floats, y_tested: Floats) -> Gap:
    """Measure raw forecasts of one timeframe where they learned and where they were tested."""
    return Gap(
        *(
            rank_ics(centred(part.members.mean(axis=0)), y)
            for part, y in ((learned, y_learned), (tested, y_tested))
        )
    )
