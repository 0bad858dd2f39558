"""Measure whether forecasts mean what they say: slopes, stated probabilities, monotone repair.

    Mincer-Zarnowitz (1969):   outcome = a + b * forecast + error;  calibrated where a = 0, b = 1
    ECE = sum over bins of (n_b / n) |mean confidence_b - share true_b|

The errors of a and b are Newey and West's, because labels overlap. The ECE of a *perfect*
forecaster is above zero in a finite sample, about 0.8 sqrt(bins p(1 - p) / n): compare it, never
read it alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

from daemon.domain.units import require
from daemon.statistics.checks import Floats, count, same_length, series

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MincerZarnowitz:
    """Hold the regression of outcomes on forecasts; p_calibrated tests a = 0 and b = 1 jointly."""

    intercept: float
    slope: float
    intercept_error: float
    slope_error: float
    p_calibrated: float


def mincer_zarnowitz(forecast: Floats, outcome: Floats, *, lags: int = 0) -> MincerZarnowitz:
    """Regress (T,) outcomes on (T,) forecasts, T >= 4, with Bartlett weights over `lags`.

    A slope below 1 says that forecasts are too bold. All NaN where the forecasts do not vary.
    Without any residual the errors are 0 and p_calibrated is NaN.
    """
    f, y = series(forecast, "forecast", at_least=4), series(outcome, "outcome", at_least=4)
    same_length(f, y, "forecast, outcome")
    T = len(f)
    require(0 <= lags < T, f"lags {lags}: accepted are 0 to {T - 1}")
    if np.ptp(f) == 0.0:
        return MincerZarnowitz(*(math.nan,) * 5)
    X = np.column_stack((np.ones(T), f))  # (T, 2)
    bread = np.linalg.inv(X.T @ X)
    coefficients = bread @ (X.T @ y)
    scores = X * (y - X @ coefficients)[:, None]  # (T, 2)
    meat = scores.T @ scores
    for j in range(1, lags + 1):
        cross = scores[j:].T @ scores[:-j]
        meat += (1.0 - j / (lags + 1)) * (cross + cross.T)
    covariance = bread @ meat @ bread
    gap = coefficients - (0.0, 1.0)
    singular = np.linalg.det(covariance) <= 0.0
    wald = math.nan if singular else float(gap @ np.linalg.solve(covariance, gap))
    a_error, b_error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    a, b = coefficients
    return MincerZarnowitz(
        float(a), float(b), float(a_error), float(b_error), float(chdtrc(2, wald))
    )


@dataclass(frozen=True, slots=True)
class Reliability:
    """Hold a reliability curve: what was said and what came true, bin by bin, rising."""

    confidence: Floats  # (B,) mean stated probability
    frequency: Floats  # (B,) share that came true
    sizes: Ints  # (B,) forecasts in the bin

    @property
    def ece(self) -> float:
        """Give the expected calibration error, in [0, 1]."""
        weights = self.sizes / self.sizes.sum()
        return float(weights @ np.abs(self.confidence - self.frequency))


def reliability(probability: Floats, came_true: Floats, *, bins: int = 10) -> Reliability:
    """Sort (n,) probabilities in [0, 1] into bins of equal mass against (n,) outcomes 0 or 1.

    Equal probabilities share a bin, so there may be fewer bins than asked for. n >= bins.
    """
    count(bins, "bins")
    p = series(probability, "probability", at_least=bins)
    y = series(came_true, "came_true", at_least=bins)
    same_length(p, y, "probability, came_true")
    require(bool(((p >= 0) & (p <= 1)).all()), "a probability lies outside 0 to 1")
    require(bool(np.isin(y, (0.0, 1.0)).all()), "came_true holds other numbers than 0 and 1")
    order = np.argsort(p, kind="stable")
    p, y = p[order], y[order]
    cuts = np.array([part[0] for part in np.array_split(np.arange(len(p)), bins)])
    # a cut inside a run of equal probabilities moves to the run's beginning
    cuts = np.unique(np.searchsorted(p, p[cuts], side="left"))
    sizes = np.diff(np.append(cuts, len(p)))
    return Reliability(np.add.reduceat(p, cuts) / sizes, np.add.reduceat(y, cuts) / sizes, sizes)


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Hold a rising step map from scores to outcomes, straight between its knots."""

    scores: Floats  # (m,) strictly rising
    values: Floats  # (m,) never falling

    def apply(self, scores: Floats) -> Floats:
        """Map scores of any shape; beyond the ends the end values hold, NaN stays NaN."""
        return np.asarray(np.interp(scores, self.scores, self.values))


def isotonic(scores: Floats, outcomes: Floats) -> Isotonic:
    """Fit the closest never-falling map of (n,) outcomes on (n,) scores in least squares (PAVA).

    Outcomes at equal scores are averaged first.
    """
    from scipy.optimize import isotonic_regression  # heavy, and most commands do without

    x, y = series(scores, "scores"), series(outcomes, "outcomes")
    same_length(x, y, "scores, outcomes")
    knots, where, sizes = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(where, weights=y) / sizes
    fitted = isotonic_regression(means, weights=sizes.astype(np.float64)).x
    return Isotonic(knots, np.asarray(fitted, dtype=np.float64))
