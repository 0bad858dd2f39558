"""Plain forecasters that every model must beat, and that trade without one: no torch here.

`zero` expects nothing, `last_return` expects the last bar's residual move to go on, `momentum`
the last 24 bars' residual move. Each is a feature, centred over instruments and scaled to the size
that such forecasts have. Their error is stated as half that size: enough belief to trade on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import numpy as np

from daemon.domain.bar import Floats, Window
from daemon.domain.forecast import Estimates, Prediction
from strategies.forecast.calibration import centred
from strategies.forecast.inputs.features import FEATURE_NAMES, features, usable
from strategies.forecast.inputs.windows import WINDOW_BARS

FORECAST_SIZE: Final = 0.02  # standard deviation of a forecast, in units of the label
_RESIDUAL_LAST: Final = FEATURE_NAMES.index("residual_1")
_RESIDUAL_DAY: Final = FEATURE_NAMES.index("residual_24")


class Baseline(StrEnum):
    """Name the plain forecasters."""

    ZERO = "zero"
    LAST_RETURN = "last_return"
    MOMENTUM = "momentum"


def raw_forecast(baseline: Baseline, rows: Floats) -> Floats:
    """Take the baseline's forecast out of feature rows (.., N, F): (.., N), NaN where unusable."""
    alive = np.where(usable(rows), 0.0, np.nan)
    match baseline:
        case Baseline.ZERO:
            return alive
        case Baseline.LAST_RETURN:
            return centred(rows[..., _RESIDUAL_LAST] + alive)
        case Baseline.MOMENTUM:
            return centred(rows[..., _RESIDUAL_DAY] + alive)


class BaselineEstimator:
    """Answer with one baseline's forecasts, in the form that the network's answer has."""

    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline

    @property
    def model_id(self) -> str:
        """Give the name that predictions carry."""
        return self._baseline.value

    def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Estimates:
        """Forecast every window's instruments; see `daemon.domain.forecast` for the units."""
        return Estimates(as_of_ms, tuple(self._predict(window) for window in windows))

    def _predict(self, window: Window) -> Prediction:
        newest = features(
            window.values[-WINDOW_BARS:],
            newest_close_ms=window.newest_ms,
            timeframe=window.timeframe,
            newest=1,
        )[-1]  # (N, F)
        mean = FORECAST_SIZE * raw_forecast(self._baseline, newest)
        variance = np.where(np.isfinite(mean), (FORECAST_SIZE / 2) ** 2, np.nan)
        return Prediction(window.timeframe, window.newest_ms, mean, variance, self.model_id)
