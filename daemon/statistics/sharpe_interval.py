"""Draw an interval around a Sharpe ratio that holds on short and on dependent returns.

A return moves the ratio, to first order, by its influence (the delta method)

    f_t = z_t - SR / 2 (z_t^2 - 1),   z = (return - mean) / sd

so that SR's error is that of the mean of f. Its long-run variance is read off the slowest cosine
waves of f, and the ratio follows Student's t with as many degrees of freedom as there are waves.
No return is resampled: percentile intervals of a bootstrap cover too little below 100 returns.
"""

from __future__ import annotations

import math

from scipy.special import stdtrit

from daemon.statistics.bootstrap import Interval
from daemon.statistics.checks import Floats, series, share
from daemon.statistics.dependence import cosine_variance


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
    half = float(stdtrit(slow.degrees, (1.0 + level) / 2.0)) * error
    return Interval(ratio, ratio - half, ratio + half, error, 1.0)
