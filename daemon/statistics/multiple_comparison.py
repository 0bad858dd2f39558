"""Compare many models at once without rewarding the luckiest: Reality Check, SPA, MCS.

With d_k = loss of the benchmark - loss of model k over T instants, m_k its mean, m*_k a bootstrap
mean, r = sqrt(T):

    Reality Check: max_k r m_k against max_k r (m*_k - m_k)                         White 2000
    SPA: max(0, max_k r m_k / w_k) against max(0, max_k r (m*_k - g_k) / w_k)      Hansen 2005
         upper: g_k = m_k;  consistent: g_k = m_k where r m_k / w_k >= -sqrt(2 ln ln T), else 0;
         lower: g_k = max(m_k, 0);  w_k^2: the variance that the bootstrap implies
    MCS: drop the worst model while equal ability is rejected; the p-value of a model is the
         largest p-value up to its elimination                       Hansen, Lunde, Nason 2011

All use the stationary bootstrap; p-values are shares of resamples, so 0 means below 1/repetitions.
Losses: smaller is better. The null of SPA: no model is better than the benchmark.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import assert_never

import numpy as np

from daemon.domain.units import require
from daemon.statistics.bootstrap import block_length, stationary_indices
from daemon.statistics.checks import Floats, same_length, series, share, table
from daemon.statistics.dependence import stationary_bootstrap_variance

REPETITIONS = 2_000
_ROWS_MIN = 8


@dataclass(frozen=True, slots=True)
class SuperiorAbility:
    """Hold the outcome of the SPA test; the verdict is p_consistent, the others bracket it."""

    statistic: float  # studentised, at least 0
    p_lower: float
    p_consistent: float
    p_upper: float
    best: int  # column of the model with the largest studentised advantage
    block_mean: float  # observations


def superior_predictive_ability(
    benchmark_losses: Floats,
    model_losses: Floats,
    *,
    seed: int,
    block_mean: float | None = None,
    repetitions: int = REPETITIONS,
) -> SuperiorAbility:
    """Test whether any of (T, K) models loses less than the (T,) benchmark, K being searched.

    Without `block_mean` the longest automatic length of the differences is used. Raises for fewer
    than 8 instants and for a model whose losses differ from the benchmark's by a constant.
    """
    d = _advantages(benchmark_losses, model_losses)
    b = _block(d, block_mean)
    w = np.sqrt(stationary_bootstrap_variance(d, b))
    flat = np.flatnonzero(w <= 1e-12 * np.abs(d).max(initial=0.0))
    require(len(flat) == 0, f"models {flat.tolist()} differ from the benchmark by a constant only")
    root, mean = math.sqrt(len(d)), d.mean(axis=0)
    t = root * mean / w
    relevant = t >= -math.sqrt(2.0 * math.log(math.log(len(d))))
    centres = np.stack((np.maximum(mean, 0.0), np.where(relevant, mean, 0.0), mean))  # (3, K)
    resampled = _resampled_means(d, b, repetitions, seed)  # (B, K)
    statistic = max(float(t.max()), 0.0)
    lower, consistent, upper = (
        _share_at_least(root * (resampled - c) / w, statistic, floor=0.0) for c in centres
    )
    return SuperiorAbility(statistic, lower, consistent, upper, int(t.argmax()), b)


@dataclass(frozen=True, slots=True)
class RealityCheck:
    """Hold the outcome of White's test; its statistic has the units of the losses."""

    statistic: float
    p_value: float
    best: int  # column of the model with the largest mean advantage
    block_mean: float  # observations


def reality_check(
    benchmark_losses: Floats,
    model_losses: Floats,
    *,
    seed: int,
    block_mean: float | None = None,
    repetitions: int = REPETITIONS,
) -> RealityCheck:
    """Run White's test on (T,) and (T, K) losses; weak where poor models are among the K."""
    d = _advantages(benchmark_losses, model_losses)
    b = _block(d, block_mean)
    mean = d.mean(axis=0)
    root = math.sqrt(len(d))
    statistic = root * float(mean.max())
    resampled = _resampled_means(d, b, repetitions, seed)
    p = _share_at_least(root * (resampled - mean), statistic, floor=-math.inf)
    return RealityCheck(statistic, p, int(mean.argmax()), b)


@unique
class McsStatistic(StrEnum):
    """Name the statistics of equal predictive ability."""

    MAX = "max"  # the worst model against the average of those left
    RANGE = "range"  # the largest pairwise difference


@dataclass(frozen=True, slots=True)
class ConfidenceSet:
    """Hold the MCS p-value of each model; those above alpha may be the best at that level."""

    p_values: tuple[float, ...]
    eliminated: tuple[int, ...]  # columns, worst first; the last one is the survivor
    block_mean: float  # observations

    def members(self, alpha: float = 0.10) -> tuple[int, ...]:
        """Give the columns that stay in the set, which holds the best with confidence 1 - alpha."""
        share(alpha, "alpha")
        return tuple(k for k, p in enumerate(self.p_values) if p > alpha)


def model_confidence_set(
    losses: Floats,
    *,
    seed: int,
    statistic: McsStatistic = McsStatistic.MAX,
    block_mean: float | None = None,
    repetitions: int = REPETITIONS,
) -> ConfidenceSet:
    """Find which of (T, K) models cannot be told from the best; K >= 2, T >= 8.

    Models with equal losses are never separated; those whose losses differ by a constant always
    are. Memory: repetitions x K^2 numbers for RANGE.
    """
    x = table(losses, "losses", rows_at_least=_ROWS_MIN, columns_at_least=2)
    b = _block(x - x.mean(axis=1, keepdims=True), block_mean)
    mean = x.mean(axis=0)
    noise = _resampled_means(x - mean, b, repetitions, seed)  # (B, K), centred
    left, order, p_values, highest = list(range(x.shape[1])), [], np.ones(x.shape[1]), 0.0
    while len(left) > 1:
        worst, p = _least_able(mean[left], noise[:, left], statistic)
        highest = max(highest, p)
        p_values[left[worst]] = highest
        order.append(left.pop(worst))
    return ConfidenceSet(tuple(float(p) for p in p_values), (*order, left[0]), b)


def _least_able(mean: Floats, noise: Floats, statistic: McsStatistic) -> tuple[int, float]:
    """Give the position of the worst model and the p-value of equal ability among (K,) models."""
    match statistic:
        case McsStatistic.MAX:
            gaps = mean - mean.mean()  # (K,)
            draws = noise - noise.mean(axis=1, keepdims=True)  # (B, K)
        case McsStatistic.RANGE:
            gaps = (mean[:, None] - mean).ravel()  # (K*K,), row model minus column model
            draws = (noise[:, :, None] - noise[:, None, :]).reshape(len(noise), -1)
        case _:
            assert_never(statistic)
    sd = np.sqrt((draws**2).mean(axis=0))
    # a gap that never varies is rounding around none (nothing can be told), or it is certain
    size = float(np.abs(mean).max())
    apart = sd > max(1e-12 * float(sd.max()), 1e-13 * size, np.finfo(np.float64).tiny)
    scale = np.where(apart, sd, 1.0)
    sure = np.where(np.abs(gaps) > 1e-13 * size, np.copysign(np.inf, gaps), 0.0)
    t = np.where(apart, gaps / scale, sure)
    highest = np.where(apart, draws / scale, 0.0).max(axis=1)
    at = int(t.argmax())
    worst = at if statistic is McsStatistic.MAX else at // len(mean)
    return worst, float((highest >= t[at]).mean())


def _advantages(benchmark_losses: Floats, model_losses: Floats) -> Floats:
    benchmark = series(benchmark_losses, "benchmark_losses", at_least=_ROWS_MIN)
    models = table(model_losses, "model_losses", rows_at_least=_ROWS_MIN)
    same_length(benchmark, models, "benchmark_losses, model_losses")
    return benchmark[:, None] - models


def _block(d: Floats, block_mean: float | None) -> float:
    if block_mean is not None:
        return block_mean
    return max(block_length(column).stationary for column in d.T)


def _resampled_means(d: Floats, block_mean: float, repetitions: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    draws = stationary_indices(rng, len(d), block_mean=block_mean, repetitions=repetitions)
    # counting how often each row is drawn turns the mean into one product, whatever K is
    counts = (np.bincount(index, minlength=len(d)) for index in draws)
    return np.stack([row @ d for row in counts]) / len(d)


def _share_at_least(draws: Floats, statistic: float, *, floor: float) -> float:
    return float((np.maximum(draws.max(axis=1), floor) >= statistic).mean())
