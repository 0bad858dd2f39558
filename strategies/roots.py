"""Find where falling functions cross a level, exactly or with a bounded number of steps.

Neutrality under caps and bands always comes down to one number (a shift or a scale) at which a sum
of clipped lines meets a total. Steps are counted, never timed: the same inputs give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from daemon.domain.bar import Floats

STEPS_MAX: Final = 200
SLOW_STEPS: Final = 30  # from here on every other step bisects, whatever the slope looks like


def ramps_zero(kinks: Floats, slope_changes: Floats, at_first: float) -> float:
    """Give x where a continuous piecewise linear function that never rises is zero.

    The function is flat before its first kink, where its value is at_first; at kinks[j] its slope
    changes by slope_changes[j] (any order). Without a crossing the nearer outer kink is given.
    """
    order = np.argsort(kinks, kind="stable")
    x = kinks[order]
    slopes = slope_changes[order].cumsum()
    heights = np.empty(len(x))
    heights[0] = at_first
    np.cumsum(slopes[:-1] * (x[1:] - x[:-1]), out=heights[1:])
    heights[1:] += at_first
    k = int(np.searchsorted(-heights, 0.0))
    if k == 0 or k == len(x):
        return float(x[min(k, len(x) - 1)])
    share = heights[k - 1] / (heights[k - 1] - heights[k])
    return float(x[k - 1] + (x[k] - x[k - 1]) * share)


def falling_root(
    function: Callable[[float], float], low: float, high: float, *, tolerance: float
) -> float:
    """Give x in [low, high] with |function(x)| <= tolerance, or as near as floats come.

    False position with the Illinois correction, guarded by bisection. `function` must be continuous
    and must not rise. Where it has one sign on the whole interval, the nearer end is given.
    """
    at_low, at_high = function(low), function(high)
    if at_low <= tolerance:
        return low
    if at_high >= -tolerance:
        return high
    kept = 0  # which end stayed in the last step: -1 low, +1 high
    for step in range(STEPS_MAX):
        x = low + (high - low) * at_low / (at_low - at_high)
        if (step >= SLOW_STEPS and step % 2) or not low < x < high:
            x = low + 0.5 * (high - low)
        if not low < x < high:
            break
        value = function(x)
        if abs(value) <= tolerance:
            return x
        if value > 0:
            low, at_low = x, value
            at_high = at_high * 0.5 if kept == 1 else at_high
            kept = 1
        else:
            high, at_high = x, value
            at_low = at_low * 0.5 if kept == -1 else at_low
            kept = -1
    return low if at_low < -at_high else high
