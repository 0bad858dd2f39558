"""What models say and what we make of it: Predictions, Estimates, Signals.

Predictions and signals are in units of residual volatility over the common horizon (6 h). NaN
means 'no forecast' and must never be read as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from daemon.domain.covariance import Covariance
from daemon.domain.units import Timeframe

Floats = npt.NDArray[np.float64]
EIGENVALUE_MIN: Final = 1e-6  # of a disagreement, which is inverted at every decision
BRIDGED_BARS: Final = 2  # a forecast lives for one bar of its length, a missing successor's as well


def is_usable(timeframe: Timeframe, made_ms: int, as_of_ms: int) -> bool:
    """Tell whether a forecast of that timeframe, made then, may still be used at an instant.

    A forecast is replaced after one bar of its own length; a missing successor is bridged for at
    most one more.
    """
    return as_of_ms - made_ms < BRIDGED_BARS * timeframe.ms


class Prediction(Struct, frozen=True):
    """Hold one model's forecasts at one timeframe for all instruments.

    as_of_ms is the close of the newest bar it saw. mean, variance: (N,), NaN = missing; variance is
    that of the MEAN (epistemic and calibration error), not of the outcome.
    """

    timeframe: Timeframe
    as_of_ms: int
    mean: Floats
    variance: Floats
    model_id: str


@dataclass(frozen=True, slots=True)
class Reading:
    """Say how a model's forecasts are combined and what comes of it; learned out of sample.

    rule: the name of a rule of `strategies.combination`. slopes: (K,) by timeframe, in the order of
    the disagreement: of outcomes on forecasts of unit size, which is an information coefficient.
    scale: slope of outcomes on the rule's alphas. outcome_variance: of outcomes about the scaled
    alpha. edges, up: a step function of z = alpha / sqrt(outcome_variance): up[i] is the
    probability of an outcome above 0 for z from edges[i - 1] on and below edges[i], never falling;
    both empty stand for the normal law. half_width: of the interval around the alpha that holds the
    share `coverage` of outcomes, in sqrt(outcome_variance).
    """

    rule: str
    slopes: tuple[float, ...]
    scale: float = 1.0
    outcome_variance: float = 1.0
    edges: tuple[float, ...] = ()
    up: tuple[float, ...] = ()
    half_width: float = 1.6448536269514722  # of the normal law
    coverage: float = 0.9

    def problem(self, timeframes_n: int) -> str | None:
        """Say in words what is wrong with it for a model of so many timeframes, or None."""
        if len(self.slopes) != timeframes_n:
            return f"{len(self.slopes)} slopes for {timeframes_n} timeframes"
        sizes = (self.scale, self.outcome_variance, self.half_width)
        numbers = (*sizes, *self.slopes, *self.edges)
        if not np.isfinite(numbers).all() or min(sizes) <= 0.0:
            return f"a figure that is not finite, or none above 0, among {numbers}"
        if not 0.0 < self.coverage < 1.0:
            return f"an interval that holds a share of {self.coverage}"
        if len(self.edges) != max(len(self.up) - 1, 0):
            return f"{len(self.edges)} edges for {len(self.up)} steps"
        falls = np.any(np.diff(self.edges) <= 0.0) or np.any(np.diff(self.up) < 0.0)
        if falls or not all(0.0 <= p <= 1.0 for p in self.up):
            return "a probability of the sign that falls, or is none"
        return None


class Estimates(Struct, frozen=True):
    """Answer an Estimate command: parts may be missing.

    disagreement: (K, K) out-of-sample correlation of the timeframes' errors, shrunk already, in the
    order of the configured timeframes, or None (then the strategy's prior holds). covariance:
    of the next hour's log returns or None. gross_multiplier scales the target's gross, or None.
    silent: which of the series that the model reads bring nothing new, by name, in words. reading:
    how the model wants its forecasts combined, or None.
    """

    as_of_ms: int
    predictions: tuple[Prediction, ...]
    disagreement: Floats | None = None
    covariance: Covariance | None = None
    gross_multiplier: float | None = None
    silent: dict[str, str] = {}
    reading: Reading | None = None


class Signals(Struct, frozen=True):
    """Hold the strength of every instrument at one decision, all arrays (N,), NaN = no signal.

    Names follow the strength formula: magnitude m, consistency C, confidence kappa, alpha a,
    variance u, probability p that the sign is right, strength S. Of a model that has learned it: up
    is the probability that the outcome will be above 0, half_width that of the interval around the
    alpha which holds the outcome with the coverage of its Reading; None where nobody knows.
    """

    as_of_ms: int
    magnitude: Floats
    consistency: Floats
    confidence: Floats
    alpha: Floats
    variance: Floats
    probability: Floats
    strength: Floats
    up: Floats | None = None
    half_width: Floats | None = None

    @property
    def chance(self) -> Floats:
        """Give the probability that the sign is right, (N,): of the outcome where that is known.

        Otherwise it is p, the probability that the sign of the true alpha is right.
        """
        if self.up is None:
            return self.probability
        return np.where(self.alpha < 0.0, 1.0 - self.up, self.up)


def is_disagreement(matrix: Floats, count: int) -> bool:
    """Tell whether a matrix can be the correlation of the errors of so many timeframes.

    It is symmetric with ones on its diagonal, and positive definite.
    """
    if matrix.shape != (count, count) or not np.isfinite(matrix).all():
        return False
    is_correlation = np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1.0)
    return bool(is_correlation and np.linalg.eigvalsh(matrix)[0] >= EIGENVALUE_MIN)
