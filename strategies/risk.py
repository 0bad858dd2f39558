"""Measure each instrument's residual volatility and beta from the last hourly bars.

    r_i = log close_i(t) - log close_i(t-1),  r_m = mean of r_i over the instruments that have one
    beta_i = 0.7 * (exponentially weighted slope of r_i on r_m) + 0.3
    sigma_i^2 = exponentially weighted mean of (r_i - beta_i r_m)^2

Only closed bars of the window enter, so the figures at an instant never depend on what follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.units import require

BETA_SHRINKAGE: Final = 0.7  # weight of the measured slope; the rest is a beta of one
RETURNS_MIN: Final = 24
VOLATILITY_FLOOR_SHARE: Final = 0.1  # of the median: a stalled price is not a riskless one


@dataclass(frozen=True, slots=True)
class ResidualRisk:
    """Hold hourly residual volatility and market beta, (N,) each; NaN = too few returns."""

    volatility: Floats
    beta: Floats


def residual_risk(closes: Floats, *, half_life_bars: float) -> ResidualRisk:
    """Measure residual risk from closes (T, N), oldest first, NaN where a bar is missing."""
    require(half_life_bars > 0, f"half-life of {half_life_bars} bars must be positive")
    levels = np.log(closes)
    returns = levels[1:] - levels[:-1]  #                                     (T-1, N)
    seen = np.isfinite(returns)
    filled = np.where(seen, returns, 0.0)
    market = filled.sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    age = np.arange(len(returns) - 1, -1, -1)
    decay = np.power(0.5, age / half_life_bars)  #                            (T-1,)
    weight = decay @ seen  #                                                  (N,)
    power = (decay * market**2) @ seen
    slope = (decay * market) @ filled / np.where(power > 0, power, np.inf)
    beta = BETA_SHRINKAGE * slope + (1.0 - BETA_SHRINKAGE)
    residual = np.where(seen, filled - beta * market[:, None], 0.0)
    enough = seen.sum(axis=0) >= RETURNS_MIN
    variance = decay @ residual**2 / np.where(enough, weight, np.nan)
    volatility = np.sqrt(variance)
    if enough.any():
        floor = VOLATILITY_FLOOR_SHARE * float(np.median(volatility[enough]))
        # A market without any movement has no risk to size by: NaN, not zero.
        volatility = np.maximum(volatility, floor if floor > 0 else np.nan)
    return ResidualRisk(volatility, np.where(enough, beta, np.nan))
