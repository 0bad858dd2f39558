"""A predicted covariance of returns: volatilities and a correlation, or parts of a factor model.

    S = D R D,  D = diag(volatility),  R a correlation matrix

Volatilities are of hourly log returns of the hour after `as_of`. NaN in a volatility means that
nothing is known of that instrument; its row and column of R are those of the identity, so that R
is always a correlation matrix: symmetric, ones on its diagonal, no eigenvalue below zero.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Floats = npt.NDArray[np.float64]
EIGENVALUE_MIN: Final = -1e-9  # what rounding may leave below zero
SYMMETRY_TOLERANCE: Final = 1e-9


class Watch(Struct, frozen=True):
    """Hold how predictions did of late; averages over hours, NaN before any was judged.

    said, came: mean correlation. excess: loss above that of the baseline, nats a coin and hour.
    """

    said: float
    came: float
    excess: float
    hours_n: int


class Factors(Struct, frozen=True):
    """Hold a covariance as common factors and the rest: S = F F' + diag(D), as good as it goes.

    loadings: F (N, K). specific: D (N,), above 0. Rows of unknown instruments are NaN.
    """

    loadings: Floats
    specific: Floats


class Covariance(Struct, frozen=True):
    """Hold what an estimator predicts at one instant.

    as_of_ms: close of the newest bar it saw. estimator: its name. volatility: (N,) standard
    deviation of the next hour's log return, NaN unknown. correlation: (N, N), see the module.
    note: why another estimator than the one that was asked for speaks, in words; '' where the asked
    one does. watch: how the asked one did of late, None where nobody watches. factors: the same by
    `strategies.factor_form`, made once for all who need it; None where nobody does.
    """

    as_of_ms: int
    estimator: str
    volatility: Floats
    correlation: Floats
    note: str = ""
    watch: Watch | None = None
    factors: Factors | None = None

    @property
    def matrix(self) -> Floats:
        """Give S (N, N); rows and columns of unknown instruments are NaN."""
        return np.asarray(self.volatility[:, None] * self.correlation * self.volatility)

    def problem(self, instruments_n: int) -> str | None:
        """Say in words what is wrong with it for so many instruments, or None."""
        N = instruments_n
        if self.volatility.shape != (N,) or self.correlation.shape != (N, N):
            return f"shapes {self.volatility.shape}, {self.correlation.shape} for {N} instruments"
        known = np.isfinite(self.volatility)
        if np.any(self.volatility[known] <= 0.0):
            return "a volatility that is not above 0"
        if not np.isfinite(self.correlation).all():
            return "a correlation that is no number"
        if np.any(np.abs(self.correlation - self.correlation.T) > SYMMETRY_TOLERANCE):
            return "a correlation matrix that is not symmetric"
        if np.any(np.abs(np.diagonal(self.correlation) - 1.0) > SYMMETRY_TOLERANCE):
            return "a correlation of an instrument with itself that is not 1"
        if N and float(np.linalg.eigvalsh(self.correlation)[0]) < EIGENVALUE_MIN:
            return "a correlation matrix with an eigenvalue below 0"
        return None
