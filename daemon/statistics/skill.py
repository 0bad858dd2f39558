"""Measure how well forecasts order outcomes, and how sure that figure is.

IC is Pearson's correlation of forecast and outcome over the instruments of one instant, RankIC is
Spearman's. Over time the mean IC is judged by a t value that allows for overlapping labels:

    t = mean / sqrt(LRV / T),   LRV = g0 + 2 * sum over j = 1..L of (1 - j/(L+1)) g_j

with autocovariances g_j divided by T (Newey and West 1987). Trap: this t flatters. Bartlett's
weights shrink the very covariances that overlap makes: with labels over H = 6 instants and
L = H - 1 the LRV comes out a third too small. The interval of a mean therefore rests on the slowest
waves of the series and Student's t (`dependence.cosine_variance`). Neither knows of a search over
models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from daemon.domain.units import require
from daemon.statistics.checks import share
from daemon.statistics.dependence import cosine_variance
from daemon.statistics.ranks import mean_ranks

Floats = npt.NDArray[np.float64]
PAIRS_MIN = 3  # a correlation of two points is always one


def ic(forecast: Floats, outcome: Floats) -> float:
    """Give Pearson's correlation of (N,) forecasts and outcomes; pairs with a NaN are left out.

    NaN with fewer than three pairs or where either side does not vary.
    """
    f, y = _pairs(forecast, outcome)
    return _correlation(f, y)


def rank_ic(forecast: Floats, outcome: Floats) -> float:
    """Give Spearman's rank correlation (ties share their mean rank); NaN as in `ic`."""
    f, y = _pairs(forecast, outcome)
    return _correlation(mean_ranks(f), mean_ranks(y))


def kendall_tau(forecast: Floats, outcome: Floats) -> float:
    """Give Kendall's tau-b, which allows for ties; NaN as in `ic`."""
    from scipy.stats import kendalltau  # heavy, and most commands do without

    f, y = _pairs(forecast, outcome)
    if len(f) < PAIRS_MIN or np.ptp(f) == 0.0 or np.ptp(y) == 0.0:
        return float("nan")
    return float(kendalltau(f, y).statistic)


def power_ic(forecast: Floats, outcome: Floats) -> float:
    """Give the tail-weighted correlation that the Numerai tournament scores by; NaN as in `ic`.

    Forecasts become the normal scores of (rank - 1/2)/N, outcomes are demeaned, and both are raised
    to the power 1.5 with their sign kept before Pearson's correlation is taken.
    """
    f, y = _pairs(forecast, outcome)
    if len(f) < PAIRS_MIN:
        return float("nan")
    scores = ndtri((mean_ranks(f) - 0.5) / len(f))
    return _correlation(_signed_power(scores), _signed_power(y - y.mean()))


def ic_series(
    forecasts: Floats, outcomes: Floats, measure: Callable[[Floats, Floats], float] = rank_ic
) -> Floats:
    """Measure each of the M instants of (M, N) forecasts and outcomes; (M,), NaN as in `ic`."""
    require(forecasts.ndim == 2, f"forecasts has shape {forecasts.shape}: (M, N) is accepted")
    require(forecasts.shape == outcomes.shape, "forecasts and outcomes differ in shape")
    return np.array([measure(f, y) for f, y in zip(forecasts, outcomes, strict=True)])


def newey_west_lags(observations: int, horizon_bars: int) -> int:
    """Give the lags for labels that overlap over `horizon_bars` decisions.

    max(H - 1, floor(4 (T/100)^(2/9))), and never T or more.
    """
    require(observations >= 2, f"{observations} observations: at least 2 are needed")
    require(horizon_bars >= 1, f"horizon of {horizon_bars} bars: must be at least 1")
    automatic = int(4.0 * (observations / 100.0) ** (2.0 / 9.0))
    return min(max(horizon_bars - 1, automatic), observations - 1)


def newey_west_t(values: Floats, lags: int) -> float:
    """Give the t value of the mean of (T,) values with Bartlett weights over `lags`.

    NaN values are refused: leave them out before, and say so. Gives NaN where nothing varies.
    """
    return float(values.mean()) / newey_west_error(values, lags)


def newey_west_error(values: Floats, lags: int) -> float:
    """Give the standard error of the mean of (T,) values, in their unit; otherwise as the t."""
    T = len(values)
    require(T >= 2, f"{T} observations: at least 2 are needed")
    require(0 <= lags < T, f"{lags} lags with {T} observations: accepted are 0 to {T - 1}")
    require(bool(np.isfinite(values).all()), "a value is not finite; leave it out first")
    # compared by value, because rounding leaves equal values a tiny deviation
    if np.ptp(values) == 0.0:
        return float("nan")
    d = values - float(values.mean())
    variance = float(d @ d) / T
    for j in range(1, lags + 1):
        variance += 2.0 * (1.0 - j / (lags + 1)) * float(d[j:] @ d[:-j]) / T
    return float(np.sqrt(variance / T)) if variance > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class MeanIc:
    """Hold the mean of a skill measure over time and how sure it is; all NaN where unknown.

    standard_error and t are Newey and West's, for comparison with what others publish; low and high
    are the interval to rely on, and wider.
    """

    mean: float
    standard_error: float
    t: float
    low: float
    high: float
    instants: int  # that counted
    lags: int


def mean_ic(values: Floats, *, horizon_bars: int, level: float = 0.95) -> MeanIc:
    """Judge the mean of (M,) per-instant measures, with a two-sided interval.

    NaN instants do not count; the others are taken as adjacent. horizon_bars: over how many
    instants a label reaches. All is NaN with fewer than two instants that count.
    """
    share(level, "level")
    x = np.asarray(values, dtype=np.float64)
    require(x.ndim == 1, f"values has shape {x.shape}: (M,) is accepted")
    x = x[~np.isnan(x)]
    if len(x) < 2:
        return MeanIc(*(float("nan"),) * 5, instants=len(x), lags=0)
    lags = newey_west_lags(len(x), horizon_bars)
    mean, error = float(x.mean()), newey_west_error(x, lags)
    slow = cosine_variance(x, horizon_bars)
    quantile = float(stdtrit(slow.degrees, (1.0 + level) / 2.0))
    known = np.isfinite(error)
    half = quantile * float(np.sqrt(slow.variance / len(x))) if known else float("nan")
    return MeanIc(mean, error, mean / error, mean - half, mean + half, len(x), lags)


def ic_decay(
    forecasts: Floats,
    outcomes: Mapping[int, Floats],
    *,
    measure: Callable[[Floats, Floats], float] = rank_ic,
    level: float = 0.95,
) -> dict[int, MeanIc]:
    """Judge (M, N) forecasts against the (M, N) outcomes of several horizons in bars.

    `outcomes` maps a horizon H to the labels over H bars from each instant on, NaN where they are
    not complete; each mean IC allows for the overlap of its own horizon. Rising horizons.
    """
    return {
        horizon: mean_ic(
            ic_series(forecasts, outcomes[horizon], measure), horizon_bars=horizon, level=level
        )
        for horizon in sorted(outcomes)
    }


def _pairs(forecast: Floats, outcome: Floats) -> tuple[Floats, Floats]:
    require(forecast.shape == outcome.shape, "forecast and outcome differ in shape")
    both = np.isfinite(forecast) & np.isfinite(outcome)
    return forecast[both], outcome[both]


def _correlation(x: Floats, y: Floats) -> float:
    if len(x) < PAIRS_MIN or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return float("nan")
    dx, dy = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((dx @ dx) * (dy @ dy)))
    return float(dx @ dy) / scale if scale > 0 else float("nan")


def _signed_power(x: Floats) -> Floats:
    return np.asarray(np.sign(x) * np.abs(x) ** 1.5)
