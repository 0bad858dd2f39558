"""What models say and what we make of it: Predictions, Estimates, Signals.

Predictions and signals are in units of residual volatility over the common horizon (6 h). NaN
means 'no forecast' and must never be read as zero.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from daemon.domain.units import Timeframe

Floats = npt.NDArray[np.float64]
EIGENVALUE_MIN: Final = 1e-6  # of a disagreement, which is inverted at every decision


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


class Estimates(Struct, frozen=True):
    """Answer an Estimate command: parts may be missing.

    disagreement: (K, K) out-of-sample correlation of the timeframes' errors, in the order of the
    configured timeframes, or None (then the strategy's prior holds). covariance: (N, N) of hourly
    log returns or None. gross_multiplier scales the target's gross, or None. silent: which of the
    series that the model reads bring nothing new, by name, in words.
    """

    as_of_ms: int
    predictions: tuple[Prediction, ...]
    disagreement: Floats | None = None
    covariance: Floats | None = None
    gross_multiplier: float | None = None
    silent: dict[str, str] = {}


class Signals(Struct, frozen=True):
    """Hold the strength of every instrument at one decision, all arrays (N,), NaN = no signal.

    Names follow the strength formula: magnitude m, consistency C, confidence kappa, alpha a,
    variance u, probability p that the sign is right, strength S.
    """

    as_of_ms: int
    magnitude: Floats
    consistency: Floats
    confidence: Floats
    alpha: Floats
    variance: Floats
    probability: Floats
    strength: Floats


def is_disagreement(matrix: Floats, count: int) -> bool:
    """Tell whether a matrix can be the correlation of the errors of so many timeframes.

    It is symmetric with ones on its diagonal, and positive definite.
    """
    if matrix.shape != (count, count) or not np.isfinite(matrix).all():
        return False
    is_correlation = np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1.0)
    return bool(is_correlation and np.linalg.eigvalsh(matrix)[0] >= EIGENVALUE_MIN)
