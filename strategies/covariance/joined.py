"""Join a volatility model and a correlation model into one estimator of the covariance.

    z_t = r_t / s_t,   s_t^2 the variance foreseen for row t,   |z_t| <= Z_MAX
    S = D R D,  D from the volatility model, R the correlation of z, repaired

**Days.** Rows are taken from the first one that closed at 00:00 UTC: up to 23 of the oldest rows of
the window are left out. At the first question of a day both models are begun on the rows up to
00:00 UTC, where parameters are fitted; the rows since then are steps. So every later hour costs one
step, and an object that starts at any hour gives the numbers of one that ran through, after a
restart too, given the same window. That holds for a window that grows and for one of whole days
that moves on; of another length it loses its first day within the day, and both begin anew, as they
do where bars were revised.

**Newborns.** A correlation counts in full from ROWS_TRUSTED standardised returns of both. Before
that its share is their number over ROWS_TRUSTED, and the rest is that of a usual member of the
market: with m the mean of all z that count in full and b their mean correlation with m, it is
b corr(m, z_j) with an old instrument and b^2 with another newborn. Many coins born together would
else seem to hedge each other without risk.

**Holes.** Correlations that were measured on different rows may not fit together (an eigenvalue
below zero). The nearest correlation matrix has directions without risk, which a minimum-variance
book would seek out; so MISFIT_SHARE of it is replaced by the identity.

Windows shorter than ANCHORED_ROWS_MIN keep all their rows: they step on while they grow, and begin
anew at each question where they move.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from daemon.domain.covariance import Covariance
from daemon.domain.units import DAY_MS, HOUR_MS, require
from strategies.covariance.interface import (
    RETURNS_MIN,
    VARIANCE_MIN,
    WARM_UP,
    CorrelationModel,
    Floats,
    VolatilityModel,
)
from strategies.covariance.repair import EIGENVALUE_FLOOR, is_definite, nearest_correlation

Z_MAX: Final = 10.0  # deviations: one wick must not set a correlation
ANCHORED_ROWS_MIN: Final = 144  # so that at least four days are left to fit on
VOLATILITY_FLOOR_SHARE: Final = 0.1  # of the median: a stalled price is not a riskless one
ROWS_TRUSTED: Final = 20 * 24  # or the whole of a shorter window
MISFIT_SHARE: Final = 0.05
HOURS_A_DAY: Final = DAY_MS // HOUR_MS


class JoinedEstimator:
    """Estimate a covariance as the module says; bound to the instruments of its window."""

    def __init__(
        self, name: str, volatility: VolatilityModel, correlation: CorrelationModel
    ) -> None:
        """Take the two models; they must belong to this estimator alone."""
        self._name, self._volatility, self._correlation = name, volatility, correlation
        self._taken: Floats | None = None  # the rows that the models have seen
        self._first_ms = self._begun_ms = 0

    @property
    def name(self) -> str:
        """Give the name that stands in what it predicts."""
        return self._name

    def forecast(self, returns: Floats, covariates: Floats | None, as_of_ms: int) -> Covariance:
        """Predict the covariance of the hour after `as_of_ms`; see `interface`."""
        require(returns.ndim == 2, f"returns of shape {returns.shape}, want (T, N)")
        hour = as_of_ms % DAY_MS // HOUR_MS
        is_anchored = len(returns) >= ANCHORED_ROWS_MIN
        oldest = as_of_ms // HOUR_MS - (len(returns) - 1)  # in hours
        rows = returns[-oldest % HOURS_A_DAY if is_anchored else 0 :]
        rows = np.where(np.isfinite(rows), rows, np.nan)
        first_ms = as_of_ms - (len(rows) - 1) * HOUR_MS
        begin_ms = as_of_ms - hour * HOUR_MS
        taken_n = self._continued(rows, first_ms, begin_ms)
        if not taken_n:
            taken_n = len(rows) - hour if is_anchored else len(rows)
            variances = self._volatility.begin(rows[:taken_n])
            self._correlation.begin(_standardised(rows[:taken_n], variances))
        for row in rows[taken_n:]:
            self._correlation.step(_standardised(row, self._volatility.step(row)))
        self._taken, self._first_ms, self._begun_ms = rows, first_ms, begin_ms
        seen_n = np.isfinite(rows).sum(axis=0)
        deviation = _deviations(self._volatility.variance(), seen_n)
        R = _trusted(self._correlation.correlation(as_of_ms), seen_n, len(rows))
        return Covariance(as_of_ms, self._name, deviation, _known(R, np.isfinite(deviation)))

    def _continued(self, rows: Floats, first_ms: int, begin_ms: int) -> int:
        """Give how many of the rows the models have seen already, 0 to begin anew."""
        taken = self._taken
        if taken is None or rows.shape[1] != taken.shape[1]:
            return 0
        if (first_ms, begin_ms) != (self._first_ms, self._begun_ms):
            return 0
        before_n = len(taken)
        same = np.array_equal(taken.view(np.int64), rows[:before_n].view(np.int64))
        return before_n if same else 0


def _standardised(rows: Floats, variances: Floats) -> Floats:
    moved = np.where(variances > VARIANCE_MIN, variances, np.nan)
    return np.clip(rows / np.sqrt(moved), -Z_MAX, Z_MAX)


def _deviations(variance: Floats, seen_n: Floats) -> Floats:
    """Give volatilities (N,): NaN where too few returns were seen, never far below the others."""
    deviation = np.sqrt(np.where(seen_n >= RETURNS_MIN, variance, np.nan))
    known = np.isfinite(deviation)
    if not known.any():
        return deviation
    floor = VOLATILITY_FLOOR_SHARE * float(np.median(deviation[known]))
    # A market without any movement has no risk to size by: NaN, not zero.
    return np.maximum(deviation, floor if floor**2 > VARIANCE_MIN else np.nan)


def _trusted(R: Floats, seen_n: Floats, rows_n: int) -> Floats:
    """Draw correlations of instruments with a short history to those of a usual member."""
    full_n = max(min(ROWS_TRUSTED, rows_n - WARM_UP), 1)
    share = np.clip((seen_n - WARM_UP) / full_n, 0.0, 1.0)
    old = share == 1.0
    if old.all() or int(old.sum()) < 2:
        return R
    block = R[np.ix_(old, old)]
    to_market = block.sum(axis=1) / np.sqrt(max(float(block.sum()), 1.0))
    usual = min(max(float(to_market.mean()), 0.0), 1.0)
    link = np.where(old, 0.0, usual)
    link[old] = to_market
    target = usual * np.where(old, link, link[:, None])  #    of an old one where there is one
    target[np.ix_(old, old)] = block
    drawn = target + np.minimum.outer(share, share) * (R - target)
    np.fill_diagonal(drawn, 1.0)
    return drawn


def _known(R: Floats, known: np.ndarray) -> Floats:
    """Give the correlation with identity rows where nothing is known, repaired where it must be."""
    full = np.eye(len(known))
    index = np.ix_(known, known)
    block = R[index]
    full[index] = nearest_correlation(block)
    if not is_definite(block) and float(np.linalg.eigvalsh(block)[0]) < -EIGENVALUE_FLOOR:
        full = (1.0 - MISFIT_SHARE) * full + MISFIT_SHARE * np.eye(len(full))
    return full
