"""Measure how well forecasts order outcomes, and how sure that figure is.

IC is Pearson's correlation of forecast and outcome over the instruments of one instant, RankIC is
Spearman's. Over time the mean IC is judged by a t value that allows for overlapping labels:

    t = mean / sqrt(LRV / T),   LRV = g0 + 2 * sum over j = 1..L of (1 - j/(L+1)) g_j

with autocovariances g_j divided by T (Newey and West 1987).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from daemon.domain.units import require

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
    return _correlation(np.asarray(rankdata(f), float), np.asarray(rankdata(y), float))


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
    T = len(values)
    require(T >= 2, f"{T} observations: at least 2 are needed")
    require(0 <= lags < T, f"{lags} lags with {T} observations: accepted are 0 to {T - 1}")
    require(bool(np.isfinite(values).all()), "a value is not finite; leave it out first")
    mean = float(values.mean())
    d = values - mean
    variance = float(d @ d) / T
    for j in range(1, lags + 1):
        variance += 2.0 * (1.0 - j / (lags + 1)) * float(d[j:] @ d[:-j]) / T
    return mean / float(np.sqrt(variance / T)) if variance > 0 else float("nan")


def _pairs(forecast: Floats, outcome: Floats) -> tuple[Floats, Floats]:
    require(forecast.shape == outcome.shape, "forecast and outcome differ in shape")
    both = np.isfinite(forecast) & np.isfinite(outcome)
    return forecast[both], outcome[both]


def _correlation(x: Floats, y: Floats) -> float:
    if len(x) < PAIRS_MIN:
        return float("nan")
    dx, dy = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((dx @ dx) * (dy @ dy)))
    return float(dx @ dy) / scale if scale > 0 else float("nan")
