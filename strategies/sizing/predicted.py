"""Predict the variance of a book for the next hour: w'S w.

S is the predicted covariance of hourly log returns. An instrument that it does not know has its
residual variance and no correlation with others; without any covariance all have, so that S is
their diagonal. That leaves out what the legs share, most of all the market, which a dollar-neutral
book with unequal betas keeps. A leg of which neither is known counts as the most volatile known leg
of the book, since what is unknown must not make a book larger.
"""

from __future__ import annotations

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance


def book_variance(
    weights: Floats, covariance: Covariance | None, residual_variance: Floats
) -> float:
    """Give the variance of an hour's return, fraction of equity squared.

    weights (N,): fractions of equity. residual_variance (N,): hourly, NaN unknown. NaN where there
    are legs and nothing is known of any of them.
    """
    legs = np.flatnonzero(weights)
    if not legs.size:
        return 0.0
    w, variance = weights[legs], residual_variance[legs]
    shared = 0.0
    if covariance is not None:
        volatility = covariance.volatility[legs]
        known = np.isfinite(volatility)
        pull = np.where(known, w * np.where(known, volatility, 0.0), 0.0)
        # What R has beside its diagonal; the diagonal is in the variances below.
        shared = float(pull @ covariance.correlation[np.ix_(legs, legs)] @ pull - pull @ pull)
        variance = np.where(known, np.square(volatility), variance)
    seen = np.isfinite(variance)
    if not seen.any():
        return float("nan")
    variance = np.where(seen, variance, variance[seen].max())
    return max(float(variance @ np.square(w)) + shared, 0.0)
