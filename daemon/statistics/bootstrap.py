"""Resample dependent series in blocks, and draw confidence intervals from it.

- Stationary bootstrap (Politis and Romano 1994): blocks of geometric length with mean b that wrap
  around the end. Circular block bootstrap (Politis and Romano 1992): blocks of fixed length b.
- Automatic block length (Politis and White 2004, corrected by Patton, Politis and White 2009):

      b = (2 G^2 / D * T)^(1/3),  G = sum lam(k/M) |k| g_k,  s = sum lam(k/M) g_k
      D = 2 s^2 (stationary) or 4/3 s^2 (circular),  lam(x) = min(1, 2 (1 - |x|))

  M is twice the first lag from which K autocorrelations lie within 2 sqrt(log10(T)/T).

Intervals are percentile intervals. Corrected ones (BCa with a block jackknife) covered no better
where it was measured: see docs/decisions/016. Everything is fixed by the seed: equal calls give
equal bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from daemon.domain.units import require
from daemon.statistics.checks import Floats, count, series, share, table
from daemon.statistics.dependence import autocovariances

Ints = npt.NDArray[np.int64]
Statistic = Callable[[Floats], float]

REPETITIONS = 2_000  # the ends of a 95 % interval then move by a twentieth of its half-width


def stationary_indices(
    rng: np.random.Generator, T: int, *, block_mean: float, repetitions: int
) -> Iterator[Ints]:
    """Yield `repetitions` times (T,) indices of the stationary bootstrap."""
    count(T, "T")
    count(repetitions, "repetitions")
    require(block_mean >= 1.0, f"block_mean {block_mean}: at least 1 is accepted")
    return _stationary(rng, T, 1.0 / block_mean, repetitions)


def _stationary(rng: np.random.Generator, T: int, p: float, repetitions: int) -> Iterator[Ints]:
    at = np.arange(T)
    for _ in range(repetitions):
        starts = rng.integers(T, size=T)
        begins = rng.random(T) <= p
        begins[0] = True
        first = np.maximum.accumulate(np.where(begins, at, 0))  # (T,) where its block began
        yield (starts[first] + at - first) % T


def circular_indices(
    rng: np.random.Generator, T: int, *, block: int, repetitions: int
) -> Iterator[Ints]:
    """Yield `repetitions` times (T,) indices of the circular block bootstrap; the last is cut."""
    count(T, "T")
    count(repetitions, "repetitions")
    count(block, "block")
    require(block <= T, f"block {block}: at most the {T} observations are accepted")
    return _circular(rng, T, block, repetitions)


def _circular(rng: np.random.Generator, T: int, block: int, repetitions: int) -> Iterator[Ints]:
    for _ in range(repetitions):
        starts = rng.integers(T, size=-(-T // block))
        yield ((starts[:, None] + np.arange(block)) % T).ravel()[:T]


@dataclass(frozen=True, slots=True)
class BlockLength:
    """Hold the automatic block lengths in observations, each from 1 to min(3 sqrt(T), T/3)."""

    stationary: float  # mean length
    circular: float


def block_length(values: Floats) -> BlockLength:
    """Estimate the best block lengths for the mean of (T,) values; at least 8 are needed.

    Gives 1 for a series that does not vary. The lag rule and its constants are those of Patton's
    published program, which the library arch follows too.
    """
    x = series(values, "values", at_least=8)
    T = len(x)
    run = max(5, int(math.log10(T)))
    lags = min(math.ceil(math.sqrt(T)) + run, T - 1)
    g = autocovariances(x, lags)
    if g[0] <= 0.0:
        return BlockLength(1.0, 1.0)
    M = min(2 * _first_quiet_lag(x, g, run), lags)
    k = np.arange(1, M + 1)
    taper = np.minimum(1.0, 2.0 * (1.0 - k / M))
    G = 2.0 * float((taper * k) @ g[1 : M + 1])
    s = float(g[0] + 2.0 * taper @ g[1 : M + 1])
    longest = max(math.ceil(min(3.0 * math.sqrt(T), T / 3.0)), 1)
    lengths = [
        (2.0 * G**2 / (c * s**2) * T) ** (1.0 / 3.0) if s != 0.0 else math.inf
        for c in (2.0, 4.0 / 3.0)
    ]
    return BlockLength(*(float(min(max(b, 1.0), longest)) for b in lengths))


def _first_quiet_lag(x: Floats, g: Floats, run: int) -> int:
    """Find the first lag of `run` consecutive small autocorrelations; the last lag if none."""
    T, d = len(x), x - x.mean()
    energy = np.concatenate(([0.0], np.cumsum(d**2)))
    lag = np.arange(len(g))
    # the energies of the two parts that overlap at each lag
    scale = np.sqrt((energy[T] - energy[lag]) * energy[T - lag])
    small = np.abs(g * T) < 2.0 * math.sqrt(math.log10(T) / T) * scale
    for first in range(1, len(g) - run):
        if small[first : first + run].all():
            return first
    return len(g) - 1


@dataclass(frozen=True, slots=True)
class Interval:
    """Hold an estimate, its bootstrap standard error and a two-sided interval."""

    estimate: float
    low: float
    high: float
    standard_error: float
    block_mean: float  # observations


def bootstrap_interval(
    statistic: Statistic,
    values: npt.ArrayLike,
    *,
    seed: int,
    level: float = 0.95,
    repetitions: int = REPETITIONS,
    block_mean: float | None = None,
) -> Interval:
    """Give the percentile interval of `statistic` of (T,) or (T, k) rows (stationary bootstrap).

    Rows are drawn together, so paired series stay paired. Without `block_mean` the longest
    automatic length of the columns is used. A statistic that is NaN on some resample makes the ends
    NaN: an interval that leaves cases out would flatter. Raises for fewer than 8 rows.
    """
    x = np.asarray(values, dtype=np.float64)
    columns = table(x[:, None] if x.ndim == 1 else x, "values", rows_at_least=8).T
    share(level, "level")
    b = max(block_length(c).stationary for c in columns) if block_mean is None else block_mean
    rng = np.random.default_rng(seed)
    draws = stationary_indices(rng, len(x), block_mean=b, repetitions=repetitions)
    seen = np.array([statistic(x[index]) for index in draws])
    estimate = float(statistic(x))
    if not np.isfinite(seen).all():
        return Interval(estimate, math.nan, math.nan, math.nan, b)
    low, high = np.quantile(seen, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(estimate, float(low), float(high), float(seen.std(ddof=1)), b)
