"""Draw an interval around a Sharpe ratio that holds on short and on dependent returns.

A return moves the ratio, to first order, by its influence (the delta method)

    f_t = z_t - SR / 2 (z_t^2 - 1),   z = (return - mean) / sd

so that SR's error is that of the mean of f. Its long-run variance is read off the slowest cosine
waves of f, and the ratio follows Student's t with as many degrees of freedom as there are waves.
No return is resampled: percentile intervals of a bootstrap cover too little below 100 returns.

Student's t is inverted here, because every backtest prints this interval and SciPy takes longer to
load than a small one to run. With theta = atan(t / sqrt(v)), c = cos(theta), s = sin(theta):

    P(|T| < t) = s (1 + 1/2 c^2 + ... + (1 3 ... (v-3)) / (2 4 ... (v-2)) c^(v-2))       v even
    P(|T| < t) = 2/pi (theta + s (c + 2/3 c^3 + ... + (2 4 ... (v-3)) / (3 5 ... (v-2)) c^(v-2)))

the latter for v odd, and 2 theta / pi for v = 1 (Abramowitz and Stegun 26.7.3 and 26.7.4).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from daemon.statistics.bootstrap import Interval
from daemon.statistics.checks import Floats, series, share
from daemon.statistics.dependence import cosine_variance

HALVINGS: Final = 60  # of a quarter turn: to the last bit


def sharpe_interval(returns: Floats, *, level: float = 0.95) -> Interval:
    """Give the per-period Sharpe ratio of (T,) returns with a two-sided interval; T at least 8.

    All but the block length, which is 1, is NaN where the returns do not vary.
    """
    x = series(returns, "returns", at_least=8)
    share(level, "level")
    # compared by value, because rounding leaves equal returns a tiny deviation
    if x.max() == x.min():
        return Interval(math.nan, math.nan, math.nan, math.nan, 1.0)
    ratio = float(x.mean() / x.std(ddof=1))
    z = (x - x.mean()) / x.std()
    slow = cosine_variance(z - ratio / 2.0 * (z**2 - 1.0))
    error = math.sqrt(slow.variance / len(x))
    half = student_width(level, slow.degrees) * error
    return Interval(ratio, ratio - half, ratio + half, error, 1.0)


@lru_cache(maxsize=256)
def student_width(level: float, degrees: int) -> float:
    """Give t with P(|T| < t) = level for Student's t with whole degrees of freedom, at least 1."""
    low, high = 0.0, math.pi / 2.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _inside(middle, degrees) < level else (low, middle)
    return math.tan(high) * math.sqrt(degrees)


def _inside(theta: float, degrees: int) -> float:
    """Give P(|T| < sqrt(degrees) tan(theta))."""
    c, s = math.cos(theta), math.sin(theta)
    is_odd = degrees % 2
    term, total = (c, c) if is_odd else (1.0, 1.0)
    for k in range(2 + is_odd, degrees, 2):
        term *= (k - 1) / k * c * c
        total += term
    if not is_odd:
        return s * total
    return 2.0 / math.pi * (theta + (s * total if degrees > 1 else 0.0))
