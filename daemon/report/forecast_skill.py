"""How good the forecasts of a run were: by timeframe and horizon, and whether they mean it.

What was forecast is judged by what models learn: the residual return in units of residual
volatility (`daemon.statistics.outcomes`), measured between the marks that the run recorded. The
first entry is at the mark of the decision itself, the second one source bar later, which is what a
slow order gets. A forecast that several decisions showed counts once, at the first of them. The
first two days of a run judge nothing: nobody knows a volatility yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from daemon.domain.decision import Decision
from daemon.domain.failures import InvariantViolated
from daemon.domain.units import HOUR_MS, Timeframe, require
from daemon.report.run import Run
from daemon.statistics.calibration import (
    MincerZarnowitz,
    Reliability,
    mincer_zarnowitz,
    reliability,
)
from daemon.statistics.cross_sections import rank_ics, score_ics
from daemon.statistics.densities import Coverage, interval_coverage
from daemon.statistics.outcomes import ahead_of, residual_outcome, residual_risk
from daemon.statistics.skill import MeanIc, mean_ic

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

HORIZONS_HOURS: Final = (1, 6, 12, 24)
FORECAST_HORIZON_HOURS: Final = 6  # that of which predictions and signals speak
LAGS_BARS: Final = (0, 1)  # from the decision's mark to the entry, in source bars
INSTANTS_MIN: Final = 8  # below this a mean has no interval worth showing
BINS: Final = 10
LEVELS: Final = (0.5, 0.9)
COMBINED: Final = "combined"
STRENGTH: Final = "strength"


@dataclass(frozen=True, slots=True)
class SkillAt:
    """Hold the skill over one horizon from one entry; `why` says why the figures are NaN."""

    horizon_hours: int
    lag_bars: int
    rank: MeanIc
    score: MeanIc
    why: str = ""


@dataclass(frozen=True, slots=True)
class LevelCoverage:
    """Hold how many outcomes lay inside the central interval of one stated level."""

    level: float
    found: Coverage


@dataclass(frozen=True, slots=True)
class ForecastCalibration:
    """Hold whether forecasts mean what they say, over their own horizon of six hours.

    slope: of outcomes on forecasts; coverage: of mean +- z sqrt(1 + variance), since the variance
    is that of the mean and an outcome's own is 1 by its scaling. reliability: the stated
    probability that the sign is right against how often it was. None and `why` without enough.
    """

    slope: MincerZarnowitz | None
    coverage: tuple[LevelCoverage, ...]
    reliability: Reliability | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class SignalSkill:
    """Hold one forecaster's skill; name: a timeframe such as 1h, `combined` or `strength`.

    instants: different forecasts; decay: for every horizon and entry, horizons rising.
    """

    name: str
    instants: int
    decay: tuple[SkillAt, ...]
    calibration: ForecastCalibration

    def at(self, horizon_hours: int, lag_bars: int = 0) -> SkillAt:
        """Give the skill over a horizon that was measured."""
        for one in self.decay:
            if (one.horizon_hours, one.lag_bars) == (horizon_hours, lag_bars):
                return one
        measured = sorted({(one.horizon_hours, one.lag_bars) for one in self.decay})
        raise InvariantViolated(
            f"horizon of {horizon_hours} h, entry after {lag_bars} bars: measured are {measured}"
        )


@dataclass(frozen=True, slots=True)
class ForecastSkill:
    """Hold the skill of all forecasters of a run; empty, with `why`, where there was none."""

    signals: tuple[SignalSkill, ...]
    why: str = ""

    def named(self, name: str) -> SignalSkill:
        """Give the skill of one forecaster."""
        for one in self.signals:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.signals)
        raise InvariantViolated(f"forecaster {name!r}: there are {known or 'none'}")


def forecast_skill(run: Run, horizons_hours: Sequence[int] = HORIZONS_HOURS) -> ForecastSkill:
    """Judge every forecast that the run's decisions rest on.

    Raises InvariantViolated for a horizon that is no whole number of the run's source bars.
    """
    gathered = [one for one in forecasts_of(run.decisions) if len(one.at_ms)]
    if not gathered:
        return ForecastSkill((), "no decision of this run rests on a forecast")
    if len(run.record) < 2:
        return ForecastSkill((), "the run recorded fewer than two instants")
    market = RecordedMarket(np.array(run.record.times_ms, dtype=np.int64), run.record.marks)
    horizons = sorted(horizons_hours)
    return ForecastSkill(tuple(_judged(one, market, horizons) for one in gathered))


# ---- what was forecast ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Hold the forecasts (M, N) of one name and the decisions (M,) that showed them first.

    right: (M, N) stated probability that the sign is right; NaN where nothing is forecast.
    """

    name: str
    at_ms: Ints
    mean: Floats
    variance: Floats
    right: Floats

    def reach(self, horizon_ms: int) -> int:
        """Give over how many of the instants an outcome reaches."""
        if len(self.at_ms) < 2:
            return 1
        spacing_ms = float(self.at_ms[-1] - self.at_ms[0]) / (len(self.at_ms) - 1)
        return max(1, math.ceil(horizon_ms / spacing_ms - 1e-9))


def forecasts_of(decisions: Sequence[Decision]) -> list[Forecasts]:
    """Gather what decisions were shown: each timeframe, then the combined signal, if there is."""
    frames: dict[Timeframe, list[tuple[int, Floats, Floats]]] = {}
    newest: dict[Timeframe, int] = {}
    for decision in decisions:
        for p in decision.predictions:
            if p.as_of_ms > newest.get(p.timeframe, -1):  # else it was counted already
                newest[p.timeframe] = p.as_of_ms
                frames.setdefault(p.timeframe, []).append((decision.as_of_ms, p.mean, p.variance))
    found = [_of_timeframe(t.label, frames[t]) for t in sorted(frames)]
    signals = [
        (decision.as_of_ms, decision.target.signals)
        for decision in decisions
        if decision.target is not None and decision.target.signals is not None
    ]
    if signals:
        at_ms = np.array([at for at, _ in signals], dtype=np.int64)
        alpha, variance, right, size = (
            np.array([getattr(s, name) for _, s in signals])
            for name in ("alpha", "variance", "chance", "strength")
        )
        found.append(Forecasts(COMBINED, at_ms, alpha, variance, right))
        found.append(Forecasts(STRENGTH, at_ms, np.sign(alpha) * size, variance, right))
    return found


def _of_timeframe(name: str, rows: Sequence[tuple[int, Floats, Floats]]) -> Forecasts:
    mean, variance = np.array([m for _, m, _ in rows]), np.array([v for _, _, v in rows])
    with np.errstate(all="ignore"):
        right = ndtr(np.abs(mean) / np.sqrt(variance))
    return Forecasts(name, np.array([at for at, _, _ in rows], np.int64), mean, variance, right)


# ---- what came of it -----------------------------------------------------------------------------


class RecordedMarket:
    """Lay the marks of a run on an unbroken grid, with what was known of risk at each row."""

    def __init__(self, times_ms: Ints, marks: Floats) -> None:
        """Take (T,) rising instants, T >= 2, and (T, N) marks, NaN where unknown."""
        self.bar_ms = int(np.diff(times_ms).min())
        rows = (times_ms - times_ms[0]) // self.bar_ms
        self._first_ms = int(times_ms[0])
        self._prices = np.full((int(rows[-1]) + 1, marks.shape[1]), np.nan)
        self._prices[rows] = np.log(np.where(marks > 0, marks, np.nan))
        self._beta, self._sigma = residual_risk(self._prices, bar_ms=self.bar_ms)

    def outcomes(self, at_ms: Ints, horizon_ms: int, lag_bars: int) -> Floats:
        """Give the outcomes (M, N) of forecasts made at these instants; NaN where unknown."""
        whole = horizon_ms % self.bar_ms == 0 and horizon_ms > 0
        require(whole, f"horizon of {horizon_ms} ms: whole bars of {self.bar_ms} ms are accepted")
        bars = horizon_ms // self.bar_ms
        ahead = ahead_of(self._prices, lag_bars + bars) - ahead_of(self._prices, lag_bars)
        y = residual_outcome(ahead, self._beta, self._sigma, horizon_bars=bars)
        return self._at(y, at_ms)

    def volatility(self, at_ms: Ints) -> Floats:
        """Give the residual volatility per bar known at these instants, (M, N)."""
        return self._at(self._sigma, at_ms)

    def _at(self, table: Floats, at_ms: Ints) -> Floats:
        rows = (at_ms - self._first_ms) // self.bar_ms
        exact = (at_ms - self._first_ms) % self.bar_ms == 0
        inside = exact & (rows >= 0) & (rows < len(table))
        return np.where(inside[:, None], table[np.clip(rows, 0, len(table) - 1)], np.nan)


def _judged(forecasts: Forecasts, market: RecordedMarket, horizons: Sequence[int]) -> SignalSkill:
    decay = tuple(
        _skill_at(forecasts, market, hours, lag) for hours in horizons for lag in LAGS_BARS
    )
    y = market.outcomes(forecasts.at_ms, FORECAST_HORIZON_HOURS * HOUR_MS, 0)
    return SignalSkill(forecasts.name, len(forecasts.at_ms), decay, _calibration(forecasts, y))


def _skill_at(forecasts: Forecasts, market: RecordedMarket, hours: int, lag: int) -> SkillAt:
    horizon_ms = hours * HOUR_MS
    y = market.outcomes(forecasts.at_ms, horizon_ms, lag)
    reach = forecasts.reach(horizon_ms)

    def mean_of(measure: Callable[[Floats, Floats], Floats]) -> MeanIc:
        values = measure(forecasts.mean, y)
        if np.isfinite(values).sum() < INSTANTS_MIN:
            values = np.zeros(0)  # too few: nothing is said rather than something wild
        return mean_ic(values, horizon_bars=reach)

    rank, score = mean_of(rank_ics), mean_of(score_ics)
    return SkillAt(hours, lag, rank, score, _why(forecasts.mean, y, rank))


def _why(forecasts: Floats, y: Floats, found: MeanIc) -> str:
    if math.isfinite(found.mean):
        return ""
    if not np.isfinite(forecasts).any():
        return "nothing was forecast"
    if not np.isfinite(y).any():
        return "no outcome is known: the run is shorter than two days and the horizon"
    counted = int(np.isfinite(rank_ics(forecasts, y)).sum())
    return (
        f"{counted} instants had three or more forecasts that differ, with their outcomes: "
        f"{INSTANTS_MIN} are needed"
    )


def _calibration(forecasts: Forecasts, y: Floats) -> ForecastCalibration:
    known = np.isfinite(y) & np.isfinite(forecasts.mean) & np.isfinite(forecasts.variance)
    instants = int(known.any(axis=1).sum())
    if instants < INSTANTS_MIN:
        why = f"{instants} instants with forecasts and outcomes: {INSTANTS_MIN} are needed"
        return ForecastCalibration(None, (), None, why)
    reach = forecasts.reach(FORECAST_HORIZON_HOURS * HOUR_MS)
    m, outcome = forecasts.mean[known], y[known]  # in the order of time
    # the lags span all pairs of instruments within one horizon
    lags = min(reach * int(known.sum(axis=1).max()), len(m) - 1)
    slope = mincer_zarnowitz(m, outcome, lags=lags) if len(m) >= 4 else None
    signed = known & (forecasts.mean != 0) & (y != 0) & np.isfinite(forecasts.right)
    curve = None
    if signed.sum() >= BINS:
        came_true = np.sign(forecasts.mean[signed]) == np.sign(y[signed])
        curve = reliability(forecasts.right[signed], came_true.astype(np.float64), bins=BINS)
    return ForecastCalibration(slope, _coverage(forecasts, y, known, reach), curve)


def _coverage(
    forecasts: Forecasts, y: Floats, known: npt.NDArray[np.bool_], reach: int
) -> tuple[LevelCoverage, ...]:
    """Count outcomes inside the stated intervals, at instants whose outcomes do not overlap."""
    apart = np.zeros_like(known)
    apart[::reach] = known[::reach]
    if not apart.any():
        return ()
    m, outcome = forecasts.mean[apart], y[apart]
    sd = np.sqrt(1.0 + forecasts.variance[apart])
    found = []
    for level in LEVELS:
        half = float(ndtri((1.0 + level) / 2.0)) * sd
        found.append(LevelCoverage(level, interval_coverage(m - half, m + half, outcome)))
    return tuple(found)
