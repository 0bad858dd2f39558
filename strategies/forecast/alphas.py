"""Say in one number what the timeframes say together, instant by instant, as the strategy does.

The combination is that of the default strategy with its default settings and without memory of
alphas: age the newest forecasts, weigh them by precision, shrink by the cross-sectional variance of
the true alpha. A forecast counts, ageing, until it is older than one bar of its own length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.units import HOUR_MS, Timeframe, require
from strategies import strength
from strategies.neutral import (
    DISAGREEMENT_PRIOR,
    MOMENTS_HALF_LIFE_HOURS,
    TAU2_PRIOR,
    NeutralSettings,
)

Fresh = Mapping[Timeframe, tuple[Floats, Floats]]  # mean and variance (N,) by timeframe
_HALF: Final = 0.5


class Alphas:
    """Carry the newest forecasts and the moments from one instant to the next."""

    def __init__(self, timeframes: Sequence[Timeframe], instruments_n: int) -> None:
        self._timeframes = tuple(timeframes)
        shape = (len(self._timeframes), instruments_n)
        self._mean, self._variance = np.full(shape, np.nan), np.full(shape, np.nan)
        self._made_ms = [0] * len(self._timeframes)
        self._tau2 = TAU2_PRIOR
        self._phi = NeutralSettings().phi
        self._before_ms = 0

    def step(self, as_of_ms: int, fresh: Fresh, disagreement: Floats | None) -> Floats:
        """Take the forecasts of an instant and give the alphas (N,), NaN where nobody says any.

        fresh: of the timeframes that closed then. Instants rise.
        """
        require(as_of_ms > self._before_ms, f"instant {as_of_ms} after {self._before_ms}")
        for timeframe, (mean, variance) in fresh.items():
            k = self._timeframes.index(timeframe)
            self._mean[k], self._variance[k], self._made_ms[k] = mean, variance, as_of_ms
        combined = self._combined(as_of_ms, disagreement)
        hours = (as_of_ms - self._before_ms) / HOUR_MS if self._before_ms else 1.0
        keep = float(_HALF ** (hours / MOMENTS_HALF_LIFE_HOURS))
        self._tau2 = strength.updated_tau2(self._tau2, combined, keep=keep)
        self._before_ms = as_of_ms
        return strength.signals(as_of_ms, combined, self._tau2).alpha

    def _combined(self, as_of_ms: int, disagreement: Floats | None) -> strength.Combined:
        mean, variance = np.full_like(self._mean, np.nan), np.full_like(self._mean, np.nan)
        for k, timeframe in enumerate(self._timeframes):
            age_ms = as_of_ms - self._made_ms[k]
            if age_ms > timeframe.ms:
                continue
            mean[k], variance[k] = strength.decayed(
                self._mean[k],
                self._variance[k],
                age_hours=age_ms / HOUR_MS,
                phi=self._phi,
                tau2=self._tau2,
            )
        K = len(self._timeframes)
        correlation = np.full((K, K), DISAGREEMENT_PRIOR)
        np.fill_diagonal(correlation, 1.0)
        if disagreement is not None:
            correlation = strength.shrunk_disagreement(disagreement)
        return strength.combine(mean, variance, correlation)
