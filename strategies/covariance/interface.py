"""Say what predicts a covariance, and what its two halves are: volatilities and a correlation.

An estimator sees a window of hourly log returns and gives the covariance of the next hour. It is a
function of its arguments alone, up to rounding: asked for one window, a fresh object answers what
one answers that has been asked every hour before. What it keeps between questions only saves work.

    returns      (T, N)  hourly log returns, oldest first, NaN where an instrument has no bar; the
                         last row is the hour that closed at `as_of_ms`
    covariates   (T, C)  columns as they were known at each row, or None; most estimators read none
    as_of_ms             close of the last row

Both halves are begun on the rows up to the last 00:00 UTC, where parameters are fitted, and then
step on row by row (`joined`).
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from daemon.domain.covariance import Covariance

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

HISTORY_HOURS: Final = 90 * 24  # what an estimator should be given: three half-lives of 30 days
RETURNS_MIN: Final = 48  # an instrument with fewer in the window has no known volatility
WARM_UP: Final = 24  # returns before the first one that is standardised
COMMON_MIN: Final = 24  # standardised returns that two instruments must share to be correlated
VARIANCE_MIN: Final = 1e-24  # below it a price has not moved


class CovarianceEstimator(Protocol):
    """Predict the covariance of the next hour from a window of returns; see the module."""

    @property
    def name(self) -> str:
        """Give the name that stands in what it predicts, such as `ewma+dcc`."""
        ...

    def forecast(self, returns: Floats, covariates: Floats | None, as_of_ms: int) -> Covariance:
        """Predict; an instrument with fewer than RETURNS_MIN returns has a volatility of NaN."""
        ...


class VolatilityModel(Protocol):
    """Foresee each instrument's variance, row by row; a missing bar (NaN) is no movement at all."""

    def begin(self, returns: Floats) -> Floats:
        """Fit on returns (T, N), forget everything before, and give the variances (T, N).

        Row t is what was foreseen for it with the rows before it; NaN in an instrument's first
        WARM_UP returns. Parameters are those of the whole: the variances serve to standardise the
        rows, never to judge the model on them.
        """
        ...

    def step(self, row: Floats) -> Floats:
        """Take in one more row (N,) and give the variances (N,) that were foreseen for it."""
        ...

    def variance(self) -> Floats:
        """Give the variances (N,) foreseen for the next row; NaN before WARM_UP returns."""
        ...


class CorrelationModel(Protocol):
    """Foresee the correlation of returns divided by their foreseen deviation (z)."""

    def begin(self, z: Floats) -> None:
        """Fit on z (T, N), NaN where there is none, and forget everything before."""
        ...

    def step(self, row: Floats) -> None:
        """Take in one more row of z (N,)."""
        ...

    def correlation(self, as_of_ms: int) -> Floats:
        """Give the correlation (N, N) of the next row: symmetric, ones on its diagonal.

        It may still have eigenvalues below zero, where pairs were measured on different rows;
        `repair.nearest_correlation` follows. Pairs of which nothing is known have zero.
        """
        ...
