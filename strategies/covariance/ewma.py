"""Weight each hour by its age: half as much every half-life. The baseline that others must beat.

    s_t^2 = sum_k lam^k r_(t-k)^2 / sum_k lam^k                    volatility; k over bars seen
    Q = lam Q + (1 - lam) z z',   rho_ij = q_ij / sqrt(q_ii q_jj)  correlation (RiskMetrics 1996)

lam = 2^(-1 / half-life). Weights are renormalised over the hours where there is a bar: a missing
bar changes nothing but the age of the others. For a pair, q_ii and q_jj run over the hours which
both have (`pairwise`); without holes they are the diagonal of Q.
"""

from __future__ import annotations

import numpy as np

from daemon.domain.units import require
from strategies.covariance.interface import WARM_UP, Floats
from strategies.covariance.pairwise import normalised


def decay_of(half_life_hours: float) -> float:
    """Give the weight of an hour relative to the next one."""
    require(half_life_hours > 0, f"half-life of {half_life_hours} hours must be positive")
    return float(0.5 ** (1.0 / half_life_hours))


def blended(state: Floats, news: Floats, decay: float) -> Floats:
    """Give decay * state + (1 - decay) * news."""
    return decay * state + (1.0 - decay) * news


class EwmaVolatility:
    """Foresee variances as weighted means of squared returns."""

    def __init__(self, half_life_hours: float) -> None:
        """Take the half-life of a squared return."""
        self._decay = decay_of(half_life_hours)
        self._power = self._weight = self._seen_n = np.zeros(0)

    def begin(self, returns: Floats) -> Floats:
        """Start anew and step over the rows; there is nothing to fit."""
        self._power = self._weight = self._seen_n = np.zeros(returns.shape[1])
        return np.array([self.step(row) for row in returns]).reshape(returns.shape)

    def step(self, row: Floats) -> Floats:
        """Take in one row and give what was foreseen for it."""
        foreseen = self.variance()
        seen = np.isfinite(row)
        squares = np.where(seen, row, 0.0) ** 2
        self._power = blended(self._power, squares, self._decay)
        self._weight = blended(self._weight, seen.astype(np.float64), self._decay)
        self._seen_n = self._seen_n + seen
        return foreseen

    def variance(self) -> Floats:
        """Give the weighted mean of the squares seen so far; NaN before WARM_UP of them."""
        enough = self._seen_n >= WARM_UP
        return np.where(enough, self._power / np.where(enough, self._weight, 1.0), np.nan)


class EwmaCorrelation:
    """Foresee the correlation as that of weighted sums."""

    def __init__(self, half_life_hours: float) -> None:
        """Take the half-life of a product of two standardised returns."""
        self._decay = decay_of(half_life_hours)
        self._products = self._powers = self._common_n = np.zeros((0, 0))

    def begin(self, z: Floats) -> None:
        """Start anew with what steps over the rows would add up to; there is nothing to fit."""
        seen = np.isfinite(z).astype(np.float64)
        filled = np.where(seen > 0, z, 0.0)
        ages = np.arange(len(z) - 1, -1, -1.0)[:, None]
        weighted = (1.0 - self._decay) * self._decay**ages * filled  #                       (T, N)
        self._products = weighted.T @ filled
        self._powers = (weighted * filled).T @ seen
        self._common_n = seen.T @ seen

    def step(self, row: Floats) -> None:
        """Take in one row of z."""
        seen = np.isfinite(row).astype(np.float64)
        filled = np.where(seen > 0, row, 0.0)
        self._products = blended(self._products, np.outer(filled, filled), self._decay)
        self._powers = blended(self._powers, np.outer(filled**2, seen), self._decay)
        self._common_n = self._common_n + np.outer(seen, seen)

    def correlation(self, as_of_ms: int) -> Floats:
        """Give the correlation of the weighted sums."""
        return normalised(self._products, self._powers, self._common_n)
