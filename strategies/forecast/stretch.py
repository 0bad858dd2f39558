"""Forecast every close of a stretch of bars with a stored model, as it would have done live.

Features are made for the whole stretch at once, which gives the same bits as a window of its own
for each close; every forecast is then one call of the shape that the live worker makes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.domain.units import Timeframe, require
from strategies.forecast.inference import ModelEstimator
from strategies.forecast.inputs.covariates import CovariateTable, with_covariates
from strategies.forecast.inputs.features import features
from strategies.forecast.inputs.windows import window_bars

Longs = npt.NDArray[np.int64]


def forecast_stretch(
    model: ModelEstimator,
    values: Floats,
    *,
    newest_close_ms: int,
    timeframe: Timeframe,
    after_ms: int = 0,
    beside: CovariateTable | None = None,
) -> tuple[Longs, Floats, Floats]:
    """Forecast the closes after an instant of bars (T, N, 5) that have a whole window behind them.

    values: on an unbroken grid of `timeframe`, NaN = no bar. Gives closes (M,), means and variances
    (M, N), NaN where there is no forecast; M is at most T + 1 less the bars of a window.
    """
    L = model.sequence_bars
    T, N = values.shape[:2]
    M = max(0, min(T - window_bars(L) + 1, -((after_ms - newest_close_ms) // timeframe.ms)))
    close_ms = newest_close_ms - timeframe.ms * np.arange(M - 1, -1, -1, dtype=np.int64)
    means, variances = np.full((M, N), np.nan), np.full((M, N), np.nan)
    if not M:
        return close_ms, means, variances
    rows_n = M + L - 1
    rows = features(values, newest_close_ms=newest_close_ms, timeframe=timeframe, newest=rows_n)
    if beside is not None:
        steps = np.arange(1 - rows_n, 1, dtype=np.int64)
        rows = with_covariates(rows, beside, newest_close_ms + timeframe.ms * steps, values)
    require(len(rows) == rows_n, f"{len(rows)} rows of features, not {rows_n}")
    for at in range(M):
        means[at], variances[at] = model.forecast(rows[at : at + L], timeframe)
    return close_ms, means, variances
