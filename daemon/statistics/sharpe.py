"""Sharpe ratios with their standard error.

    SR = mean / sd per period,   se(SR) = sqrt((1 - g3 SR + (g4 - 1)/4 SR^2) / (T - 1))

g3 is the skewness and g4 the kurtosis (normal: 3) of the returns (Mertens 2002). Serial dependence
is not in this error: aggregate hourly profit to days first. What dependence does to annualising:

    SR(q) = eta(q) SR,   eta(q) = q / sqrt(q + 2 * sum over k < q of (q - k) rho_k)     (Lo 2002)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from daemon.domain.units import require

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sharpe:
    """Hold a Sharpe ratio, its standard error (both per the same period) and how many returns."""

    ratio: float
    standard_error: float
    observations: int

    def annualised(self, periods_per_year: float) -> Sharpe:
        """Scale ratio and error by the square root of the periods in a year."""
        root = periods_per_year**0.5
        return Sharpe(self.ratio * root, self.standard_error * root, self.observations)


def sharpe_standard_error(
    ratio: float, observations: int, *, skewness: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Give se(SR) per period for T observations; raises for fewer than two or an impossible g4."""
    require(observations >= 2, f"{observations} observations: at least 2 are needed")
    numerator = 1.0 - skewness * ratio + (kurtosis - 1.0) / 4.0 * ratio**2
    require(numerator >= 0, f"skewness {skewness} and kurtosis {kurtosis} cannot occur together")
    return float((numerator / (observations - 1)) ** 0.5)


def sharpe(returns: Floats) -> Sharpe:
    """Measure the Sharpe ratio of (T,) returns; NaN where fewer than two or none vary."""
    return sharpe_moments(returns).sharpe


@dataclass(frozen=True, slots=True)
class SharpeMoments:
    """Hold a Sharpe ratio with the skewness and kurtosis (normal: 3) that went into its error."""

    sharpe: Sharpe
    skewness: float
    kurtosis: float


def sharpe_moments(returns: Floats) -> SharpeMoments:
    """Measure the Sharpe ratio of (T,) returns and its moments; NaN as in `sharpe`."""
    T = len(returns)
    require(bool(np.isfinite(returns).all()), "a return is not finite")
    # compared by value, because rounding leaves equal returns a tiny deviation
    if T < 2 or returns.max() == returns.min():
        unknown = float("nan")
        return SharpeMoments(Sharpe(unknown, unknown, T), unknown, unknown)
    z = (returns - returns.mean()) / float(returns.std())
    skewness, kurtosis = float((z**3).mean()), float((z**4).mean())
    ratio = float(returns.mean()) / float(returns.std(ddof=1))
    error = sharpe_standard_error(ratio, T, skewness=skewness, kurtosis=kurtosis)
    return SharpeMoments(Sharpe(ratio, error, T), skewness, kurtosis)


def annualisation_factor(periods: int, autocorrelations: Floats) -> float:
    """Give eta(q), which scales a per-period ratio to q periods under serial dependence.

    autocorrelations: (L,) rho_1 .. rho_L; lags beyond L count as zero, beyond q - 1 they are not
    used. Raises where they leave no variance over q periods, which no true series can.
    """
    require(periods >= 1, f"periods {periods}: at least 1 is accepted")
    rho = np.asarray(autocorrelations, dtype=np.float64)[: periods - 1]
    require(bool((np.abs(rho) <= 1.0).all()), "an autocorrelation lies outside -1 to 1 or is NaN")
    k = np.arange(1, len(rho) + 1)
    variance = periods + 2.0 * float((periods - k) @ rho)
    require(variance > 0, f"these autocorrelations leave no variance over {periods} periods")
    return float(periods / variance**0.5)
