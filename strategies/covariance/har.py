"""Foresee variances from mean squares over hours, a day and a week (heterogeneous autoregression).

    h_(t+1) / v = b_0 + sum_k b_k m_k / v,   m_k = mean of r^2 over the last 1, 6, 24, 168 hours
    v = the instrument's mean square in the fit,   b >= 0

After Corsi (2009, "A simple approximate long-memory model of realized volatility"), with the
squares of hourly returns for realised measures. All instruments share the weights b, each in units
of its own v, as Bollerslev, Hood, Huss and Pedersen (2018, "Risk everywhere") pool them: one
alone says too little. b maximises the likelihood of a normal, sum(-ln h - r^2 / h): least squares
with weights 1 / h^2, ROUNDS times over. Means run over the bars seen in those hours; where
there are none, that of the next longer window stands in, and v for the longest.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.optimize import nnls

from strategies.covariance.interface import VARIANCE_MIN, WARM_UP, Floats

WINDOWS_HOURS: Final = (1, 6, 24, 168)
ROUNDS: Final = 5
FIT_ROWS_MIN: Final = 250  # rows of all instruments together
TYPICAL: Final = (0.1, 0.05, 0.2, 0.35, 0.3)  # without enough rows: slow, and back to the mean
SQUARE_MAX: Final = 100.0  # times v: one wick must not choose the weights
SHARE_MIN: Final = 1e-3  # of v, below which no variance is foreseen


class HarVolatility:
    """Foresee variances with weights that all instruments share."""

    def __init__(self) -> None:
        """Start without any row."""
        self._squares, self._position = np.zeros((max(WINDOWS_HOURS), 0)), 0
        self._level = self._seen_n = np.zeros(0)
        self._weights = np.array(TYPICAL)

    def begin(self, returns: Floats) -> Floats:
        """Fit the weights, start anew and give what they foresee for each row."""
        T, N = returns.shape
        squares = returns**2
        seen_n = np.isfinite(squares).sum(axis=0)
        total = np.where(np.isfinite(squares), squares, 0.0).sum(axis=0)
        self._level = np.where(seen_n > 0, total / np.maximum(seen_n, 1), np.nan)
        scale = np.where(self._level > VARIANCE_MIN, self._level, 1.0)
        self._squares, self._position = np.full((max(WINDOWS_HOURS), N), np.nan), 0
        self._seen_n = np.zeros(N)
        foreseen = np.full((T, len(TYPICAL), N), np.nan)
        enough = np.zeros((T, N), dtype=np.bool_)
        for t, row in enumerate(returns):
            foreseen[t], enough[t] = self._parts(), self._seen_n >= WARM_UP
            self._take(row)
        moved = enough & np.isfinite(squares) & (self._level > VARIANCE_MIN)
        parts = (foreseen / scale).transpose(0, 2, 1)[moved]  #                       (rows, 5)
        self._weights = _fitted(parts, np.minimum((squares / scale)[moved], SQUARE_MAX))
        return np.where(enough, self._combined(foreseen), np.nan)

    def step(self, row: Floats) -> Floats:
        """Take in one row and give what was foreseen for it."""
        foreseen = self.variance()
        self._take(row)
        return foreseen

    def variance(self) -> Floats:
        """Give what is foreseen for the next row; NaN before WARM_UP returns."""
        return np.where(self._seen_n >= WARM_UP, self._combined(self._parts()), np.nan)

    def _take(self, row: Floats) -> None:
        self._squares[self._position] = row**2
        self._position = (self._position + 1) % len(self._squares)
        self._seen_n = self._seen_n + np.isfinite(row)

    def _parts(self) -> Floats:
        """Give v and the means (5, N), longest window first after v, where the weights stand."""
        parts = [self._level]
        seen = np.isfinite(self._squares)
        filled = np.where(seen, self._squares, 0.0)
        for hours in reversed(WINDOWS_HOURS):
            rows = np.arange(self._position - hours, self._position)  # negative ones wrap around
            seen_n = seen[rows].sum(axis=0)
            mean = filled[rows].sum(axis=0) / np.maximum(seen_n, 1)
            parts.append(np.where(seen_n > 0, mean, parts[-1]))
        return np.array(parts)

    def _combined(self, parts: Floats) -> Floats:
        """Weigh parts (..., 5, N) to variances (..., N)."""
        h = np.einsum("k,...kn->...n", self._weights, parts)
        return np.asarray(np.maximum(h, SHARE_MIN * self._level))


def _fitted(parts: Floats, squares: Floats) -> Floats:
    """Fit weights (5,) >= 0 of parts (rows, 5) to squares (rows,), both in units of v."""
    if len(squares) < FIT_ROWS_MIN:
        return np.array(TYPICAL)
    weights = np.array(TYPICAL)
    for _ in range(ROUNDS):
        h = np.maximum(parts @ weights, SHARE_MIN)
        gram = (parts / h[:, None] ** 2).T @ parts
        pull = (parts / h[:, None] ** 2).T @ squares
        # a root of the gram matrix states the same least squares in five rows
        root = np.linalg.cholesky(gram + 1e-10 * np.trace(gram) * np.eye(len(gram))).T
        weights = nnls(root, np.linalg.solve(root.T, pull))[0]
    return np.asarray(weights, dtype=np.float64)
