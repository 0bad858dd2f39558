"""Measure serial dependence: autocovariances and long-run variances.

    g_j = (1/T) * sum over t of (x_t - mean)(x_{t-j} - mean)
    LRV = g_0 + 2 * sum over j of w_j g_j

with w_j = 1 - j/(L+1) (Bartlett; Newey and West 1987), the quadratic-spectral kernel with the
bandwidth of an AR(1) plug-in (Andrews 1991), or the kernel that the stationary bootstrap of mean
block b implies (Politis and Romano 1994). The autocovariances come from one Fourier transform.
Or from the slowest v cosine waves, whose mean squared weight has, divided by the LRV, a chi-square
law with v degrees of freedom, so that the t value of a mean follows Student's t(v) (Mueller 2007;
the rule v = 0.4 T^(2/3) from Lazarus, Lewis, Stock and Watson 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daemon.domain.units import require
from daemon.statistics.checks import Floats

_AR_MAX = (
    0.97  # Andrews and Monahan's bound on the plug-in coefficient, so that no bandwidth runs off
)


def autocovariances(values: Floats, lags: int) -> Floats:
    """Give g_0 .. g_lags of (T,) or (T, N) values as (lags + 1,) or (lags + 1, N)."""
    T = len(values)
    require(0 <= lags < T, f"{lags} lags with {T} observations: accepted are 0 to {T - 1}")
    d = values - values.mean(axis=0)
    size = 1 << int(2 * T - 1).bit_length()  # zero-padded, so that the ends do not meet
    spectrum = np.fft.rfft(d, size, axis=0)
    power = spectrum.real**2 + spectrum.imag**2
    return np.asarray(np.fft.irfft(power, size, axis=0)[: lags + 1] / T, dtype=np.float64)


def bartlett_variance(values: Floats, lags: int) -> float:
    """Give the long-run variance of (T,) values with Bartlett weights; never negative."""
    g = autocovariances(values, lags)
    weights = 1.0 - np.arange(1, lags + 1) / (lags + 1)
    return max(float(g[0] + 2.0 * weights @ g[1:]), 0.0)


def quadratic_spectral_variance(values: Floats, bandwidth: float | None = None) -> float:
    """Give the long-run variance of (T,) values with the quadratic-spectral kernel.

    Without a `bandwidth` (in lags) Andrews' plug-in is used. Never negative; T at least 2.
    """
    T = len(values)
    require(T >= 2, f"{T} observations: at least 2 are needed")
    g = autocovariances(values, T - 1)
    width = bandwidth if bandwidth is not None else _plug_in_bandwidth(g)
    if width == 0.0:
        return float(g[0])
    z = 6.0 * np.pi * np.arange(1, T) / width / 5.0
    weights = 3.0 / z**2 * (np.sin(z) / z - np.cos(z))
    return max(float(g[0] + 2.0 * weights @ g[1:]), 0.0)


def _plug_in_bandwidth(g: Floats) -> float:
    """Give 1.3221 (a T)^(1/5), a = 4 r^2 / (1 - r)^4, from all T autocovariances of a series."""
    if g[0] <= 0.0:
        return 0.0
    r = float(np.clip(g[1] / g[0], -_AR_MAX, _AR_MAX))
    return float(1.3221 * (4.0 * r**2 / (1.0 - r) ** 4 * len(g)) ** 0.2)


@dataclass(frozen=True, slots=True)
class CosineVariance:
    """Hold a long-run variance and the degrees of freedom of Student's t that goes with it."""

    variance: float
    degrees: int


def cosine_variance(values: Floats, horizon: int = 1) -> CosineVariance:
    """Give the long-run variance of (T,) values from their slowest cosine waves; T at least 2.

    horizon: over how many values each one overlaps the next; waves shorter than four of these are
    left out, because overlap has already smoothed them away.
    """
    T = len(values)
    require(T >= 2, f"{T} observations: at least 2 are needed")
    require(horizon >= 1, f"horizon {horizon}: at least 1 is accepted")
    degrees = max(min(int(0.4 * T ** (2.0 / 3.0)), T // (2 * horizon)), 1)
    j, t = np.arange(1, degrees + 1), np.arange(T) + 0.5
    d = values - values.mean()
    weights = np.array([np.cos(np.pi * k / T * t) @ d for k in j])
    return CosineVariance(float(2.0 / T * (weights @ weights) / degrees), degrees)


def stationary_bootstrap_variance(values: Floats, block_mean: float) -> Floats:
    """Give, for each column of (T, N), the variance of sqrt(T) * mean under that bootstrap.

    Weight of lag j: (1 - j/T)(1 - p)^j + (j/T)(1 - p)^(T - j), p = 1/block_mean.
    """
    T = len(values)
    g = autocovariances(values, T - 1)
    j = np.arange(1, T)
    keep = 1.0 - 1.0 / block_mean
    weights = (1.0 - j / T) * keep**j + j / T * keep ** (T - j)
    return np.asarray(np.maximum(g[0] + 2.0 * weights @ g[1:], 0.0), dtype=np.float64)
