"""Sharpe ratios with their standard error.

    SR = mean / sd per period,   se(SR) = sqrt((1 - g3 SR + (g4 - 1)/4 SR^2) / (T - 1))

g3 is the skewness and g4 the kurtosis (normal: 3) of the returns (Mertens 2002). Serial dependence
is not in this error: aggregate hourly profit to days first.
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
    T = len(returns)
    require(bool(np.isfinite(returns).all()), "a return is not finite")
    sd = float(returns.std(ddof=1)) if T >= 2 else 0.0
    if sd == 0.0:
        return Sharpe(float("nan"), float("nan"), T)
    z = (returns - returns.mean()) / float(returns.std())
    ratio = float(returns.mean()) / sd
    error = sharpe_standard_error(
        ratio, T, skewness=float((z**3).mean()), kurtosis=float((z**4).mean())
    )
    return Sharpe(ratio, error, T)
