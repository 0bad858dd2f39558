"""Weight each of the last hours alike and forget what is older: the historical estimate.

    s^2 = mean of r^2 over the bars of the last W hours,   R = sample correlation of the last W z

`WindowedCorrelation` also carries every other estimator that is a function of the last W rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from daemon.domain.units import require
from strategies.covariance.interface import WARM_UP, Floats


class RollingVolatility:
    """Foresee variances as plain means of squared returns over the last hours."""

    def __init__(self, window_hours: int) -> None:
        """Take the length of the window, which covers WARM_UP at least."""
        require(window_hours >= WARM_UP, f"a window of {window_hours} hours, at least {WARM_UP}")
        self._window_hours = window_hours
        self._squares, self._position = np.zeros((0, 0)), 0

    def begin(self, returns: Floats) -> Floats:
        """Start anew and step over the rows; there is nothing to fit."""
        self._squares = np.full((self._window_hours, returns.shape[1]), np.nan)
        self._position = 0
        return np.array([self.step(row) for row in returns]).reshape(returns.shape)

    def step(self, row: Floats) -> Floats:
        """Take in one row and give what was foreseen for it."""
        foreseen = self.variance()
        self._squares[self._position] = row**2
        self._position = (self._position + 1) % self._window_hours
        return foreseen

    def variance(self) -> Floats:
        """Give the mean of the squares in the window; NaN where it holds fewer than WARM_UP."""
        seen = np.isfinite(self._squares)
        seen_n = seen.sum(axis=0)
        total = np.where(seen, self._squares, 0.0).sum(axis=0)
        return np.where(seen_n >= WARM_UP, total / np.maximum(seen_n, 1), np.nan)


class WindowedCorrelation:
    """Foresee the correlation as a function of the last rows of z and of the instant."""

    def __init__(self, window_hours: int, estimate: Callable[[Floats, int], Floats]) -> None:
        """Take the length of the window and what makes a correlation of (z, as_of_ms)."""
        require(window_hours >= WARM_UP, f"a window of {window_hours} hours, at least {WARM_UP}")
        self._window_hours, self._estimate = window_hours, estimate
        self._z = np.zeros((0, 0))

    def begin(self, z: Floats) -> None:
        """Keep the newest rows."""
        self._z = z[-self._window_hours :]

    def step(self, row: Floats) -> None:
        """Take in one row of z for the oldest."""
        self._z = np.vstack([self._z, row])[-self._window_hours :]

    def correlation(self, as_of_ms: int) -> Floats:
        """Estimate from the rows in the window."""
        return self._estimate(self._z, as_of_ms)
