"""The pattern that is planted by default: what can be known about six hours, and how much.

Per coin let u_k be hour k's own shock in standard deviations (independent, mean 0, variance 1) and
s_k = (u_{k-1} + .. + u_{k-24}) / sqrt(24) the move of the day before it. The pattern of hour k is

    p_k = tanh(2 u_k) * tanh(1.5 s_k)

and the drift of hour k+1, in standard deviations of that hour, is c (p_k + p_{k-1} + .. + p_{k-5}).
An hour that goes the way of its day is followed by a rise, one that goes against it by a fall.

Because u_k is independent of s_k and both factors are odd, E[p_k | past] = 0 and p_k is not
correlated with any linear function of past returns: a regression on lagged returns sees nothing.
Summing the drift of the next six hours, what is known after hour k is

    alpha_k = c (6 p_k + 5 p_{k-1} + .. + 1 p_{k-5}) / sqrt(6)      (units of the 6 h deviation)

with variance c^2 v 91/6, v = var p; the six-hour label has variance (6 + 146 c^2 v) / 6, where 146
= 91 + 55 adds the part of the drift that is decided later. Hence IC^2 = 91 x / (6 + 146 x) with
x = c^2 v, which `drift_scale` solves for c.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from adapters.rehearsal.market import FloatArray, IntArray
from daemon.domain.failures import ConfigurationError

HORIZON_HOURS: Final = 6
DAY_HOURS: Final = 24
SHOCKS_KEPT: Final = DAY_HOURS
PATTERNS_KEPT: Final = HORIZON_HOURS
PLANTED_IC_MAX: Final = 0.5

JUMP_CHANCE_HOUR: Final = 0.004  # an own jump about every ten days
JUMP_SIZE: Final = 5.0  # in standard deviations of an hour
SHOCK_SCALE: Final = 1.0 / math.sqrt(1.0 + JUMP_CHANCE_HOUR * JUMP_SIZE**2)

_FAST_GAIN: Final = 2.0
_SLOW_GAIN: Final = 1.5
_WEIGHTS: Final = (6.0, 5.0, 4.0, 3.0, 2.0, 1.0)  # of p_k, p_{k-1}, .. p_{k-5}


class PatternKind(StrEnum):
    """Name what is planted: a move in the context of its day, or the order of moves."""

    CONTEXT = "context"  # this module
    SEQUENCE = "sequence"  # planted_sequence


@dataclass(frozen=True, slots=True)
class PlantedTruth:
    """Hold what the generator knows, close by close; NaN where a coin does not trade.

    `close_ms` (T,) are the closes; `alpha` (T, N) the expected six-hour residual return known at
    that close, `label` (T, N) the one that came, both in standard deviations. The six hours begin
    `lag_ms` after the close.
    """

    close_ms: IntArray
    symbols: tuple[str, ...]
    alpha: FloatArray
    label: FloatArray
    lag_ms: int = 0


def drift_scale(planted_ic: float) -> float:
    """Give c for a wanted information coefficient; 0 gives exactly 0."""
    if not 0.0 <= planted_ic <= PLANTED_IC_MAX:
        raise ConfigurationError(
            f"planted_ic {planted_ic}: the information coefficient must lie in 0..{PLANTED_IC_MAX}"
        )
    known, total = 91.0, 146.0
    x = HORIZON_HOURS * planted_ic**2 / (known - total * planted_ic**2)
    return math.sqrt(x / pattern_variance())


def pattern_variance() -> float:
    """Integrate var p_k = E[tanh(2u)^2] E[tanh(1.5 s)^2] by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(96)
    weights = weights / weights.sum()

    def mean_square(gain: float, deviation: float) -> float:
        return float(weights @ np.tanh(gain * deviation * nodes) ** 2)

    calm = mean_square(_FAST_GAIN, SHOCK_SCALE)
    jumpy = mean_square(_FAST_GAIN, SHOCK_SCALE * math.sqrt(1.0 + JUMP_SIZE**2))
    fast = (1.0 - JUMP_CHANCE_HOUR) * calm + JUMP_CHANCE_HOUR * jumpy
    return fast * mean_square(_SLOW_GAIN, 1.0)


def patterns(shocks: FloatArray) -> FloatArray:
    """Compute p for all hours but the first 24 of `shocks`, (N, 24 + H) -> (N, H)."""
    sums = np.cumsum(np.pad(shocks, ((0, 0), (1, 0))), axis=1)  # (N, 24 + H + 1)
    day = (sums[:, DAY_HOURS:-1] - sums[:, : -DAY_HOURS - 1]) / math.sqrt(DAY_HOURS)
    return np.tanh(_FAST_GAIN * shocks[:, DAY_HOURS:]) * np.tanh(_SLOW_GAIN * day)


def drift_and_alpha(pattern: FloatArray, scale: float) -> tuple[FloatArray, FloatArray]:
    """Compute drift and alpha of H hours from 6 earlier and these hours' patterns.

    (N, 6 + H) -> two arrays (N, H); `scale` is c of `drift_scale`. Drift is that *of* hour k, made
    of the six patterns before it; alpha is known *after* hour k.
    """
    sums = np.cumsum(np.pad(pattern, ((0, 0), (1, 0))), axis=1)  # (N, 6 + H + 1)
    drift = scale * (sums[:, HORIZON_HOURS:-1] - sums[:, : -HORIZON_HOURS - 1])
    hours = pattern.shape[1] - HORIZON_HOURS
    alpha = np.zeros((len(pattern), hours))
    for lag, weight in enumerate(_WEIGHTS):
        alpha += weight * pattern[:, HORIZON_HOURS - lag : HORIZON_HOURS - lag + hours]
    return drift, scale / math.sqrt(HORIZON_HOURS) * alpha


def information_coefficient(truth: PlantedTruth) -> float:
    """Correlate alpha with the label over all hours and coins, each hour's mean removed."""
    usable = ~np.isnan(truth.alpha) & ~np.isnan(truth.label)
    kept = usable.sum(axis=1) >= 2
    usable = usable[kept]
    alpha = _demeaned(truth.alpha[kept], usable)
    label = _demeaned(truth.label[kept], usable)
    scale = math.sqrt(float((alpha**2).sum()) * float((label**2).sum()))
    return float((alpha * label).sum()) / scale if scale > 0.0 else 0.0


def _demeaned(values: FloatArray, usable: np.typing.NDArray[np.bool_]) -> FloatArray:
    """Remove each row's mean over the usable entries and set the others to zero."""
    filled = np.where(usable, values, 0.0)
    means = filled.sum(axis=1, keepdims=True) / usable.sum(axis=1, keepdims=True)
    return np.where(usable, filled - means, 0.0)
