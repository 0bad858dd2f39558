"""The rules of sizing: from what a book is predicted to do to the share of its gross to hold.

All give a multiplier in [0, 1] and never raise it when more risk is predicted. Figures are of the
book at its full configured gross, for the next hour: v its variance, m its expected return, e its
variance of the error in m. The law of a year or a day is that of hours without serial correlation.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from daemon.domain.bar import Floats

HOURS_A_YEAR: Final = 8760.0
HOURS_A_DAY: Final = 24.0
# Mean of the worst 2.5 % of a Student law with 4 degrees of freedom and variance 1; the normal
# law's is 2.338. Returns of coins have tails like that.
SHORTFALL_PER_VOLATILITY: Final = 2.823871


def annual_volatility(variance: float) -> float:
    """Give a year's volatility of an hourly variance."""
    return float((variance * HOURS_A_YEAR) ** 0.5)


def smoothed(before: float, now: float, *, hours: float, half_life_hours: float) -> float:
    """Move a mean of variances that forgets half in so many hours; NaN before: begin with now."""
    if not np.isfinite(before) or half_life_hours == 0.0:
        return now
    keep = float(0.5 ** (hours / half_life_hours))
    return keep * before + (1.0 - keep) * now


def volatility_target(variance: float, *, target: float, least: float = 0.0) -> float:
    """Give target / predicted volatility, between `least` and 1.

    variance: hourly; target: a year's volatility, fraction of equity.
    """
    volatility = annual_volatility(variance)
    return 1.0 if volatility <= target else max(target / volatility, least)


def kelly(
    weights: Floats, alpha: Floats, alpha_variance: Floats, variance: float, *, fraction: float
) -> float:
    """Give the fraction of the multiple of this book that would grow fastest, shrunk, up to 1.

        m = alpha'w,  e = sum of w_i^2 u_i,  k = fraction * m^2 / (m^2 + e) * m / v

    m / v is the multiple of a book at which the logarithm of wealth grows fastest (Kelly 1956,
    Thorp 1969): for w = S^-1 alpha / gamma it is gamma, which makes the book S^-1 alpha, and its
    growth is alpha'S^-1 alpha / 2 an hour. m^2 / (m^2 + e) is how far an estimate of that size is
    worth betting on (Kan and Zhou 2007, theta^2 / (theta^2 + error); Baker and McHale 2013). With
    alpha and the root of u both times a, k is times a. Errors of alphas count as independent.

    weights, alpha, alpha_variance u: (N,), returns of the next hour; a leg without an alpha earns
    nothing. Costs are not counted. 0 where m is not above 0.
    """
    known = (weights != 0) & np.isfinite(alpha) & np.isfinite(alpha_variance)
    w = weights[known]
    m = float(alpha[known] @ w)
    if not m > 0.0:
        return 0.0
    e = float(np.maximum(alpha_variance[known], 0.0) @ np.square(w))
    wanted = fraction * m * (m * m / (m * m + e))
    return 1.0 if wanted >= variance else wanted / variance


def risk_leverage(variance: float, *, volatility_max: float, shortfall_max: float) -> float:
    """Give the largest share at which predicted risk is inside both bounds; 0 is no bound.

    volatility_max: of a year. shortfall_max: mean loss of the worst 2.5 % of days, with the tails
    of a Student law of 4 degrees of freedom about zero. Both fractions of equity.
    """
    share, volatility = 1.0, annual_volatility(variance)
    if volatility_max and volatility > volatility_max:
        share = volatility_max / volatility
    shortfall = SHORTFALL_PER_VOLATILITY * float((variance * HOURS_A_DAY) ** 0.5)
    if shortfall_max and shortfall > shortfall_max:
        share = min(share, shortfall_max / shortfall)
    return share
