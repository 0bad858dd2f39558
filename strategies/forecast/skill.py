"""Score forecasts as cross-sections: RankIC, score IC and the Newey-West t of their means.

RankIC is Spearman's correlation per instant. Score IC is Pearson's correlation of the normal scores
of the forecasts with the label: what a linear book earns. NumPy and the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from daemon.domain.bar import Floats

_INSTRUMENTS_MIN: Final = 4


@dataclass(frozen=True, slots=True)
class Skill:
    """Hold mean ICs over instants with their Newey-West t values; NaN without instants."""

    instants: int
    rank_ic: float
    rank_ic_t: float
    score_ic: float
    score_ic_t: float


def skill(forecasts: Floats, outcomes: Floats, *, lags: int) -> Skill:
    """Score forecasts (M, N) against outcomes (M, N); pairs with a NaN are left out.

    lags: at least the number of later instants that share a label's horizon.
    """
    both = np.isfinite(forecasts) & np.isfinite(outcomes)
    rank, score = [], []
    for f, y, ok in zip(forecasts, outcomes, both, strict=True):
        if ok.sum() < _INSTRUMENTS_MIN or np.ptp(f[ok]) == 0 or np.ptp(y[ok]) == 0:
            continue
        ranks = mean_ranks(f[ok])
        rank.append(correlation(ranks, mean_ranks(y[ok])))
        score.append(correlation(normal_scores(ranks), y[ok]))
    a, b = np.array(rank), np.array(score)
    if not len(a):
        return Skill(0, float("nan"), float("nan"), float("nan"), float("nan"))
    return Skill(
        len(a), float(a.mean()), newey_west_t(a, lags), float(b.mean()), newey_west_t(b, lags)
    )


def mean_ranks(x: Floats) -> Floats:
    """Rank one row from 1 to n; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[inverse], dtype=np.float64)


def normal_scores(ranks: Floats) -> Floats:
    """Map ranks 1..n to the normal quantiles of rank / (n + 1)."""
    normal = NormalDist()
    return np.array([normal.inv_cdf(float(r) / (len(ranks) + 1)) for r in ranks])


def correlation(a: Floats, b: Floats) -> float:
    """Give Pearson's correlation of two rows; 0 when one of them does not vary."""
    x, y = a - a.mean(), b - b.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0 else 0.0


def newey_west_t(x: Floats, lags: int) -> float:
    """Give the t value of the mean of a serially dependent row (Bartlett weights)."""
    T = len(x)
    d = x - x.mean()
    variance = float(d @ d) / T
    for j in range(1, min(lags, T - 1) + 1):
        variance += 2 * (1 - j / (lags + 1)) * float(d[j:] @ d[:-j]) / T
    return float(x.mean() / np.sqrt(variance / T)) if variance > 0 else float("nan")
