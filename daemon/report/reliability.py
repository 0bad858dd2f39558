"""Whether forecasts mean what they say: size, spread, sign and interval against what came of them.

With a the forecast, s the stated deviation of the outcome y, p the stated probability of y > 0:

    slope           sum a y / sum a^2, 1 is right, below 1 too bold
    variance ratio  mean of (y - a)^2 / s^2, 1 is right, above 1 too sure
    PIT             Phi((y - a) / s), even where the law is right
    Brier           mean of (p - [y > 0])^2 = reliability - resolution + base rate's + within bins
    CRPS, NLL       of the normal law (a, s), beside the same law about 0
    coverage        share of outcomes inside an interval: the stated one, and an adaptive conformal
                    one whose level is steered by the misses that were known

Every interval is of the stationary bootstrap over instants, so that overlapping outcomes and what
instruments share count once. The p-value of the PIT is of instants whose outcomes do not overlap,
and still takes the instruments of one as independent: it doubts too easily.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.units import DAY_MS, require, utc
from daemon.statistics.bootstrap import Interval, bootstrap_interval
from daemon.statistics.calibration import Reliability, reliability
from daemon.statistics.conformal import RATE, panel_conformal
from daemon.statistics.densities import (
    Uniformity,
    gaussian_crps,
    gaussian_nll,
    gaussian_pit,
    pit_uniformity,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS: Final = 10
PIT_BINS: Final = 20
INSTANTS_MIN: Final = 48  # below this an interval says nothing
ROLLING_DAYS: Final = 30
ACCEPTED: Final = (0.87, 0.93)  # of a rolling window of a 90 % interval
WINDOW_INSTANTS: Final = 720  # of which an adaptive half-width is made
FIRST_INSTANTS: Final = 240  # before the first adaptive half-width
_UNKNOWN: Final = Interval(*(math.nan,) * 5)


@dataclass(frozen=True, slots=True)
class Stated:
    """Hold what was forecast at instants (T,), all else (T, N); NaN where nothing was.

    reach_ms: from an instant to where its outcome is known; overlap: instants that share one.
    half_width: of the stated interval, in the unit of the outcomes.
    """

    at_ms: Ints
    forecast: Floats
    sd: Floats
    up: Floats
    half_width: Floats
    outcome: Floats
    reach_ms: int
    overlap: int
    coverage: float

    def rows(self, chosen: npt.NDArray[np.intp]) -> Stated:
        """Keep some of the instants."""
        return replace(
            self,
            at_ms=self.at_ms[chosen],
            forecast=self.forecast[chosen],
            sd=self.sd[chosen],
            up=self.up[chosen],
            half_width=self.half_width[chosen],
            outcome=self.outcome[chosen],
        )

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Tell which pairs (T, N) have forecast and outcome."""
        return np.isfinite(self.forecast) & np.isfinite(self.outcome)


@dataclass(frozen=True, slots=True)
class Brier:
    """Hold the score of the sign's probability: score = reliability - resolution + base + within.

    base: of the share of outcomes above 0, said of everyone. within: what the bins hide. skill:
    1 - score / base, above 0 where the probabilities are worth more than the base rate.
    """

    score: float
    base: float
    reliability: float
    resolution: float
    within: float
    skill: Interval


@dataclass(frozen=True, slots=True)
class Coverage:
    """Hold how often outcomes lay inside an interval; worst: the rolling window farthest off."""

    name: str
    nominal: float
    share: Interval
    worst: float
    worst_from_ms: int | None
    accepted: float  # share of the rolling windows within ACCEPTED


@dataclass(frozen=True, slots=True)
class Quarter:
    """Hold the figures of one quarter of UTC; NaN where there is nothing."""

    name: str
    pairs: int
    slope: float
    variance_ratio: float
    brier_skill: float
    stated_coverage: float
    adaptive_coverage: float


@dataclass(frozen=True, slots=True)
class ReliabilityReport:
    """Hold all figures of one forecaster; slopes_alone: of each timeframe by itself, by name."""

    instants: int
    pairs: int
    first_ms: int
    last_ms: int
    slope: Interval
    variance_ratio: Interval
    pit: Floats  # (PIT_BINS,) share of outcomes, 1 / PIT_BINS is right
    pit_test: Uniformity
    crps: float
    crps_base: float
    nll: float
    nll_base: float
    curve: Reliability
    brier: Brier
    coverages: tuple[Coverage, ...]
    quarters: tuple[Quarter, ...]
    slopes_alone: dict[str, Interval]


def judged(
    stated: Stated, alone: dict[str, tuple[Floats, Floats]], *, seed: int
) -> ReliabilityReport:
    """Judge forecasts; alone: forecasts and outcomes of further forecasters, for their slopes.

    Raises InvariantViolated with fewer than INSTANTS_MIN instants that have an outcome.
    """
    there = np.flatnonzero(stated.known.any(axis=1))
    enough = len(there) >= INSTANTS_MIN
    require(enough, f"{len(there)} instants with forecasts and outcomes: {INSTANTS_MIN} are needed")
    one = stated.rows(there)
    known = one.known
    y, a, sd = one.outcome[known], one.forecast[known], one.sd[known]
    apart = one.rows(np.arange(0, len(there), one.overlap))
    adaptive = _adaptive(one)
    return ReliabilityReport(
        instants=len(there),
        pairs=int(known.sum()),
        first_ms=int(one.at_ms[0]),
        last_ms=int(one.at_ms[-1]),
        slope=_slope(one.forecast, one.outcome, seed),
        variance_ratio=_ratio(*_per_instant(_squared_errors(one)), seed=seed),
        pit=np.histogram(gaussian_pit(a, sd, y), bins=PIT_BINS, range=(0.0, 1.0))[0] / len(y),
        pit_test=pit_uniformity(_pit(apart)),
        crps=float(gaussian_crps(a, sd, y).mean()),
        crps_base=float(gaussian_crps(np.zeros_like(a), sd, y).mean()),
        nll=float(gaussian_nll(a, sd, y).mean()),
        nll_base=float(gaussian_nll(np.zeros_like(a), sd, y).mean()),
        curve=_curve(one),
        brier=_brier(one, seed),
        coverages=(
            _coverage("stated", one, one.half_width, seed),
            _coverage("adaptive", one, adaptive, seed),
        ),
        quarters=_quarters(one, adaptive),
        slopes_alone={name: _slope(*pair, seed) for name, pair in alone.items()},
    )


# ---- sizes ---------------------------------------------------------------------------------------


def _per_instant(values: Floats) -> tuple[Floats, Floats]:
    """Sum (T, N) values over their instruments, and count them; (T,) each."""
    finite = np.isfinite(values)
    return np.where(finite, values, 0.0).sum(axis=1), finite.sum(axis=1).astype(np.float64)


def _ratio(above: Floats, below: Floats, *, seed: int) -> Interval:
    """Give sum / sum of (T,) parts with its interval; NaN where there is nothing below."""
    return _resampled(lambda rows: _quotient(rows), np.column_stack((above, below)), seed)


def _quotient(rows: Floats) -> float:
    above, below = rows.sum(axis=0)
    return float(above / below) if below > 0 else math.nan


def _resampled(statistic: Callable[[Floats], float], rows: Floats, seed: int) -> Interval:
    if len(rows) < INSTANTS_MIN:
        return _UNKNOWN
    return bootstrap_interval(statistic, rows, seed=seed)


def _slope(forecast: Floats, outcome: Floats, seed: int) -> Interval:
    known = np.isfinite(forecast) & np.isfinite(outcome)
    joint = np.where(known, forecast * outcome, 0.0).sum(axis=1)
    power = np.where(known, forecast**2, 0.0).sum(axis=1)
    there = known.any(axis=1)
    return _ratio(joint[there], power[there], seed=seed)


def _squared_errors(one: Stated) -> Floats:
    return np.asarray(((one.outcome - one.forecast) / one.sd) ** 2)


def _pit(one: Stated) -> Floats:
    known = one.known
    return gaussian_pit(one.forecast[known], one.sd[known], one.outcome[known])


# ---- the sign ------------------------------------------------------------------------------------


def _signs(one: Stated) -> tuple[Floats, Floats]:
    """Give stated probabilities and 0 or 1 for what came, (T, N), NaN where there is no sign."""
    signed = one.known & np.isfinite(one.up) & (one.outcome != 0.0)
    came = np.where(signed, (one.outcome > 0.0).astype(np.float64), np.nan)
    return np.where(signed, one.up, np.nan), came


def _curve(one: Stated) -> Reliability:
    p, came = _signs(one)
    known = np.isfinite(came)
    return reliability(p[known], came[known], bins=BINS)


def _brier(one: Stated, seed: int) -> Brier:
    p, came = _signs(one)
    errors, n = _per_instant((p - came) ** 2)
    ups, _ = _per_instant(came)
    rows = np.column_stack((errors, ups, n))
    score, base = _brier_parts(rows)
    curve = _curve(one)
    weights = curve.sizes / curve.sizes.sum()
    mean = float(weights @ curve.frequency)
    off = float(weights @ (curve.confidence - curve.frequency) ** 2)
    resolved = float(weights @ (curve.frequency - mean) ** 2)
    within = score - (off - resolved + base)
    return Brier(score, base, off, resolved, within, _resampled(_brier_skill, rows, seed))


def _brier_parts(rows: Floats) -> tuple[float, float]:
    errors, ups, n = rows.sum(axis=0)
    return (float(errors / n), float(ups / n * (1.0 - ups / n))) if n > 0 else (math.nan, math.nan)


def _brier_skill(rows: Floats) -> float:
    score, base = _brier_parts(rows)
    return 1.0 - score / base if base > 0 else math.nan


# ---- intervals -----------------------------------------------------------------------------------


def _adaptive(one: Stated) -> Floats:
    """Give the half-widths (T, N) of adaptive conformal intervals, NaN before the first."""
    scores = np.abs(one.outcome - one.forecast) / one.sd
    known = np.searchsorted(one.at_ms + one.reach_ms, one.at_ms, side="right").astype(np.int64)
    found = panel_conformal(
        scores,
        known,
        target=1.0 - one.coverage,
        window=WINDOW_INSTANTS,
        instants_min=FIRST_INSTANTS,
        rate=RATE,
    )
    return found.half_widths[:, None] * one.sd


def _inside(one: Stated, half_width: Floats) -> Floats:
    """Tell with 1 and 0 what lay inside, (T, N), NaN where there is no interval or outcome."""
    known = one.known & ~np.isnan(half_width)
    inside = np.abs(one.outcome - one.forecast) <= half_width
    return np.where(known, inside.astype(np.float64), np.nan)


def _coverage(name: str, one: Stated, half_width: Floats, seed: int) -> Coverage:
    inside, n = _per_instant(_inside(one, half_width))
    there = n > 0
    shares, from_ms = _rolling(one.at_ms[there], inside[there], n[there])
    if not len(shares):
        found = _ratio(inside[there], n[there], seed=seed)
        return Coverage(name, one.coverage, found, math.nan, None, math.nan)
    worst = int(np.argmax(np.abs(shares - one.coverage)))
    low, high = ACCEPTED
    return Coverage(
        name,
        one.coverage,
        _ratio(inside[there], n[there], seed=seed),
        float(shares[worst]),
        int(from_ms[worst]),
        float(((shares >= low) & (shares <= high)).mean()),
    )


def _rolling(at_ms: Ints, inside: Floats, n: Floats) -> tuple[Floats, Ints]:
    """Give the share inside of every window of ROLLING_DAYS that is full, and where it begins."""
    length_ms = ROLLING_DAYS * DAY_MS
    if not len(at_ms) or at_ms[-1] - at_ms[0] < length_ms:
        return np.empty(0), np.empty(0, dtype=np.int64)
    ends = np.searchsorted(at_ms, at_ms + length_ms, side="left")
    firsts = np.flatnonzero(at_ms + length_ms <= at_ms[-1])
    sums = np.concatenate(([0.0], np.cumsum(inside)))
    counts = np.concatenate(([0.0], np.cumsum(n)))
    covered = sums[ends[firsts]] - sums[firsts]
    return covered / (counts[ends[firsts]] - counts[firsts]), at_ms[firsts]


def _quarters(one: Stated, adaptive: Floats) -> tuple[Quarter, ...]:
    months = one.at_ms.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
    found = []
    for number in np.unique(months // 3).tolist():
        rows = np.flatnonzero(months // 3 == number)
        mine = one.rows(rows)
        known = mine.known
        a, y = mine.forecast[known], mine.outcome[known]
        p, came = _signs(mine)
        first = utc(int(mine.at_ms[0]))
        signs = np.column_stack((*_per_instant((p - came) ** 2)[:1], *_per_instant(came)))
        found.append(
            Quarter(
                name=f"{first.year}-Q{(first.month + 2) // 3}",
                pairs=int(known.sum()),
                slope=float(a @ y / (a @ a)) if (a @ a) > 0 else math.nan,
                variance_ratio=_quotient(np.column_stack(_per_instant(_squared_errors(mine)))),
                brier_skill=_brier_skill(signs),
                stated_coverage=_quotient(_shares(mine, mine.half_width)),
                adaptive_coverage=_quotient(_shares(mine, adaptive[rows])),
            )
        )
    return tuple(found)


def _shares(one: Stated, half_width: Floats) -> Floats:
    return np.column_stack(_per_instant(_inside(one, half_width)))
