"""What every trader has: reversal, momentum and low volatility, and a forecast without them.

A forecast's normal scores are regressed, instant by instant, on those of the simple signals and a
constant; the residual is what the forecast knows beyond them. Only past closes enter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Flags, Floats
from daemon.domain.units import HOUR_MS, require
from daemon.statistics.cross_sections import normal_scores

Longs = npt.NDArray[np.int64]
REVERSAL_H: Final = 1
MOMENTUM_H: Final = (24, 72)
SPARE_MIN: Final = 3  # instruments more than regressors, or nothing is left to measure


def simple_signals(
    log_closes: Floats, sigma: Floats, rows: Longs, *, bar_ms: int
) -> dict[str, Floats]:
    """Give the four signals (M, N) at rows (M,), NaN where a close is missing.

    log_closes and sigma, the residual volatility a bar: (T, N) on an unbroken grid of bar_ms.
    """
    found = {f"{REVERSAL_H} h reversal": -_move(log_closes, rows, REVERSAL_H * HOUR_MS // bar_ms)}
    for hours in MOMENTUM_H:
        found[f"{hours} h momentum"] = _move(log_closes, rows, hours * HOUR_MS // bar_ms)
    return found | {"low volatility": -sigma[rows]}


def _move(log_closes: Floats, rows: Longs, bars: int) -> Floats:
    require(bars >= 1, f"a move over {bars} bars: at least 1 is needed")
    before = np.where((rows >= bars)[:, None], log_closes[np.maximum(rows - bars, 0)], np.nan)
    return np.asarray(log_closes[rows] - before)


def measurable(forecasts: Floats, signals: Mapping[str, Floats]) -> Flags:
    """Tell (M, N) where a forecast and all signals are known, and of enough instruments."""
    known = np.isfinite(forecasts)
    for values in signals.values():
        known &= np.isfinite(values)
    regressors = len(signals) + 1
    return np.asarray(known & (known.sum(axis=1, keepdims=True) >= regressors + SPARE_MIN))


def beyond(forecasts: Floats, signals: Mapping[str, Floats]) -> Floats:
    """Give what is left (M, N) of the forecasts' normal scores after the signals'.

    NaN where a forecast or any signal is missing, and at instants with fewer than SPARE_MIN
    instruments more than regressors.
    """
    known = measurable(forecasts, signals)
    y = np.where(known, normal_scores(np.where(known, forecasts, np.nan)), 0.0)
    columns = [known.astype(np.float64)]
    for values in signals.values():
        columns.append(np.where(known, normal_scores(np.where(known, values, np.nan)), 0.0))
    x = np.stack(columns, axis=2)  # (M, N, P)
    power = x.transpose(0, 2, 1) @ x  # (M, P, P)
    # signals that say the same of every instrument leave the answer open: the smallest is taken
    slopes = np.linalg.pinv(power, hermitian=True) @ (x.transpose(0, 2, 1) @ y[:, :, None])
    left = y - (x @ slopes)[:, :, 0]
    return np.where(known & (np.abs(left) > 1e-12).any(axis=1, keepdims=True), left, np.nan)
