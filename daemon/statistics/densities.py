"""Score forecasts that come with a variance: likelihood, CRPS, PIT and interval coverage.

With z = (y - mu) / s for a Gaussian forecast:

    NLL  = ln s + z^2 / 2 + ln(2 pi) / 2
    CRPS = s (z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi))            Gneiting and Raftery 2007
    PIT  = Phi(z), uniform where the forecasts are right            Dawid 1984

Both scores are losses in which honesty is best; CRPS has the unit of y and is the absolute error
where s goes to 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, ndtr

from daemon.domain.units import require
from daemon.statistics.checks import Floats, same_length, series, share

_LOG_ROOT_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def gaussian_nll(mean: Floats, sd: Floats, outcome: Floats, *, constant: bool = True) -> Floats:
    """Give the negative log-likelihood of each outcome; without `constant`, ln(2 pi)/2 less.

    The arguments broadcast; sd is above zero everywhere. NaN in any of them stays NaN.
    """
    z, s = _standardised(mean, sd, outcome)
    return np.asarray(np.log(s) + 0.5 * z**2 + (_LOG_ROOT_TWO_PI if constant else 0.0))


def gaussian_crps(mean: Floats, sd: Floats, outcome: Floats) -> Floats:
    """Give the continuous ranked probability score of each outcome; arguments as in the NLL."""
    z, s = _standardised(mean, sd, outcome)
    density = np.exp(-0.5 * z**2 - _LOG_ROOT_TWO_PI)
    return np.asarray(s * (z * (2.0 * ndtr(z) - 1.0) + 2.0 * density - 1.0 / math.sqrt(math.pi)))


def gaussian_pit(mean: Floats, sd: Floats, outcome: Floats) -> Floats:
    """Give the probability that the forecast gave to smaller outcomes; arguments as in the NLL."""
    z, _ = _standardised(mean, sd, outcome)
    return np.asarray(ndtr(z))


@dataclass(frozen=True, slots=True)
class Uniformity:
    """Hold the Kolmogorov-Smirnov distance from the uniform and its p-value."""

    distance: float
    p_value: float


def pit_uniformity(pit: Floats) -> Uniformity:
    """Test whether (n,) PIT values in [0, 1] are uniform.

    The p-value takes them as independent: thin overlapping labels first, or it is far too small.
    """
    from scipy.stats import kstest  # heavy, and most commands do without

    x = series(pit, "pit")
    require(bool(((x >= 0) & (x <= 1)).all()), "a PIT value lies outside 0 to 1")
    found = kstest(x, "uniform")
    return Uniformity(float(found.statistic), float(found.pvalue))


@dataclass(frozen=True, slots=True)
class Coverage:
    """Hold the share of outcomes inside their intervals, with an exact interval of that share."""

    share: float
    low: float
    high: float
    outcomes: int


def interval_coverage(
    lower: Floats, upper: Floats, outcome: Floats, *, level: float = 0.95
) -> Coverage:
    """Count (n,) outcomes within [lower, upper], ends included; infinite ends are accepted.

    `level` is that of the interval around the share (Clopper and Pearson 1934), which takes the
    outcomes as independent.
    """
    share(level, "level")
    y = series(outcome, "outcome")
    a, b = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    same_length(a, y, "lower, outcome")
    same_length(b, y, "upper, outcome")
    require(bool((a <= b).all()), "an interval has its lower end above the upper one, or is NaN")
    n, inside = len(y), int(((a <= y) & (y <= b)).sum())
    tail = (1.0 - level) / 2.0
    low = float(betaincinv(inside, n - inside + 1, tail)) if inside else 0.0
    high = float(betaincinv(inside + 1, n - inside, 1.0 - tail)) if inside < n else 1.0
    return Coverage(inside / n, low, high, n)


def _standardised(
    mean: npt.ArrayLike, sd: npt.ArrayLike, outcome: npt.ArrayLike
) -> tuple[Floats, Floats]:
    m, s, y = (np.asarray(x, dtype=np.float64) for x in (mean, sd, outcome))
    require(not bool((s <= 0).any()), "an sd is not above 0")
    return np.asarray((y - m) / s), s
