"""Say how far a Sharpe ratio can be believed, alone, against another, and as the best of many.

With v = 1 - g3 SR + (g4 - 1)/4 SR^2 (per-period ratio, skewness g3, kurtosis g4, normal: 3):

    PSR(SR*) = Phi((SR - SR*) sqrt(T - 1) / sqrt(v))                   Bailey, Lopez de Prado 2012
    E[max of N] = (1 - e) Z(1 - 1/N) + e Z(1 - 1/(N exp 1)),  e = 0.57721...            2014
    DSR = PSR(SR0),  SR0 = sqrt(variance of the trials' ratios) E[max of N]             2014
    MinTRL = 1 + v (Z(1 - a) / (SR - SR*))^2                                            2012
    MinBTL = (E[max of N] / S)^2 years                                                  2014

All take independent returns: aggregate hourly profit to days first. N is the number of *different*
trials; `daemon.statistics.trials` counts it. Two ratios on paired returns are compared by the
studentised circular block bootstrap of Ledoit and Wolf (2008), which allows for dependence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from daemon.domain.units import require
from daemon.statistics.bootstrap import block_length, circular_indices
from daemon.statistics.checks import Floats, count, same_length, series, share
from daemon.statistics.dependence import quadratic_spectral_variance
from daemon.statistics.sharpe import sharpe_standard_error

REPETITIONS = 2_000


def probabilistic_sharpe(
    ratio: float,
    observations: int,
    *,
    benchmark: float = 0.0,
    skewness: float = 0.0,
    kurtosis: float = 3.0,
) -> float:
    """Give PSR, the confidence in [0, 1] that the true per-period ratio exceeds `benchmark`.

    NaN in gives NaN out; raises for fewer than two observations and for impossible moments.
    """
    if math.isnan(ratio) or math.isnan(benchmark):
        return math.nan
    error = sharpe_standard_error(ratio, observations, skewness=skewness, kurtosis=kurtosis)
    require(error > 0, f"skewness {skewness} and kurtosis {kurtosis} leave no error at {ratio}")
    return float(ndtr((ratio - benchmark) / error))


def expected_maximum(trials: float) -> float:
    """Give the expected largest of N independent standard normal draws; 0 for one trial.

    N may be fractional (an effective number); the formula is asymptotic, so its value at one to two
    trials, where it would fall below zero, is raised to 0.
    """
    require(math.isfinite(trials) and trials >= 1, f"trials {trials}: at least 1 is accepted")
    if trials == 1:
        return 0.0
    euler = float(np.euler_gamma)
    first, second = ndtri(1.0 - 1.0 / trials), ndtri(1.0 - 1.0 / (trials * math.e))
    return max(float((1.0 - euler) * first + euler * second), 0.0)


def luck_hurdle(trials: float, ratio_variance: float) -> float:
    """Give SR0, the per-period ratio that the best of N trials without skill is expected to show.

    ratio_variance: variance of the per-period ratios across trials.
    """
    require(ratio_variance >= 0, f"ratio_variance {ratio_variance}: at least 0 is accepted")
    return math.sqrt(ratio_variance) * expected_maximum(trials)


def deflated_sharpe(
    ratio: float,
    observations: int,
    *,
    trials: float,
    ratio_variance: float,
    skewness: float = 0.0,
    kurtosis: float = 3.0,
) -> float:
    """Give DSR, the confidence in [0, 1] that the best of N trials beats what luck explains."""
    return probabilistic_sharpe(
        ratio,
        observations,
        benchmark=luck_hurdle(trials, ratio_variance),
        skewness=skewness,
        kurtosis=kurtosis,
    )


def track_record_min(
    ratio: float,
    *,
    benchmark: float = 0.0,
    confidence: float = 0.95,
    skewness: float = 0.0,
    kurtosis: float = 3.0,
) -> float:
    """Give MinTRL in observations: how many it takes until PSR(benchmark) reaches `confidence`.

    Infinite where the ratio does not exceed the benchmark; raises for a ratio that is not known.
    """
    require(0.5 < confidence < 1.0, f"confidence {confidence}: accepted is above 0.5, below 1")
    require(math.isfinite(ratio), f"ratio {ratio}: a finite number is accepted")
    require(math.isfinite(benchmark), f"benchmark {benchmark}: a finite number is accepted")
    if ratio <= benchmark:
        return math.inf
    v = sharpe_standard_error(ratio, 2, skewness=skewness, kurtosis=kurtosis) ** 2
    return 1.0 + v * (float(ndtri(confidence)) / (ratio - benchmark)) ** 2


def backtest_years_min(trials: float, annual_ratio: float) -> float:
    """Give MinBTL in years: below it the best of N skill-less trials is expected to reach S."""
    require(annual_ratio > 0, f"annual_ratio {annual_ratio}: above 0 is accepted")
    return (expected_maximum(trials) / annual_ratio) ** 2


@dataclass(frozen=True, slots=True)
class SharpeDifference:
    """Hold a difference of two per-period Sharpe ratios (first minus second) and its inference.

    p_value is two-sided; low and high bound the symmetric interval. NaN where a side never varies.
    """

    difference: float
    standard_error: float
    low: float
    high: float
    p_value: float
    block: int  # observations


def sharpe_difference(
    first: Floats,
    second: Floats,
    *,
    seed: int,
    level: float = 0.95,
    block: int | None = None,
    repetitions: int = REPETITIONS,
) -> SharpeDifference:
    """Compare the Sharpe ratios of paired (T,) returns (Ledoit and Wolf 2008, section 3.2).

    The observed difference is studentised by a quadratic-spectral long-run variance, a resampled
    one by the variance of its own block sums. Without `block` the longer automatic circular length
    of the two series is used (the paper calibrates it by a double bootstrap, at many times the
    cost). p = (1 + resamples at least as extreme) / (1 + repetitions). At least 20 rows.
    """
    a, b = series(first, "first", at_least=20), series(second, "second", at_least=20)
    same_length(a, b, "first, second")
    share(level, "level")
    count(repetitions, "repetitions")
    pair = np.column_stack((a, b))
    length = block if block is not None else _automatic_block(pair)
    if not _varies(pair):
        return SharpeDifference(math.nan, math.nan, math.nan, math.nan, math.nan, length)
    difference, influence = _difference(pair)
    T = len(pair)
    error = math.sqrt(quadratic_spectral_variance(influence) / T)
    if error == 0.0:  # the same series twice, or one a multiple of the other
        return SharpeDifference(difference, 0.0, difference, difference, 1.0, length)
    rng = np.random.default_rng(seed)
    draws = circular_indices(rng, T, block=length, repetitions=repetitions)
    extreme = np.array([_studentised(pair[index], difference, length) for index in draws])
    half = float(np.quantile(extreme, level)) * error
    beyond = int((extreme >= abs(difference) / error).sum())
    p_value = (1.0 + beyond) / (1.0 + repetitions)
    return SharpeDifference(
        difference, error, difference - half, difference + half, p_value, length
    )


def _automatic_block(pair: Floats) -> int:
    # ten blocks are the fewest whose sums still give a variance worth dividing by
    longest = max(block_length(column).circular for column in pair.T)
    return max(min(round(longest), len(pair) // 10), 1)


def _varies(pair: Floats) -> bool:
    return bool((pair.max(axis=0) > pair.min(axis=0)).all())


def _difference(pair: Floats) -> tuple[float, Floats]:
    """Give SR_1 - SR_2 and each row's (T,) first-order influence on it (the delta method).

    With mean m, second moment q and s^2 = q - m^2: dSR/dm = q / s^3, dSR/dq = -m / (2 s^3).
    """
    m, q = pair.mean(axis=0), (pair**2).mean(axis=0)
    s = pair.std(axis=0)
    influence = (q * (pair - m) - 0.5 * m * (pair**2 - q)) / s**3  # (T, 2)
    return float(m[0] / s[0] - m[1] / s[1]), influence[:, 0] - influence[:, 1]


def _studentised(pair: Floats, centre: float, block: int) -> float:
    """Give |resampled difference - observed one| / its error from the sums of its blocks."""
    if not _varies(pair):
        return math.inf
    difference, influence = _difference(pair)
    whole = len(pair) // block
    sums = influence[: whole * block].reshape(whole, block).sum(axis=1)
    error = math.sqrt(float((sums**2).mean()) / block / len(pair))
    return abs(difference - centre) / error if error > 0.0 else math.inf
