"""Draw returns for the tests of covariance estimators."""

from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.units import DAY_MS, HOUR_MS

MIDNIGHT_MS: Final = 20_000 * DAY_MS
COINS: Final = (
    "BTC",
    "ETH",
    "SOL",
    "XRP",
    "DOGE",
    "ADA",
    "LINK",
    "NEAR",
    "ARB",
    "OP",
    "ZZZ",
    "LTC",
)


def drawn(T: int, N: int, seed: int = 1) -> Floats:
    """Draw hourly returns of one market mode, with volatilities that move and fat tails."""
    rng = np.random.default_rng(seed)
    level = np.exp(0.3 * np.cumsum(rng.standard_normal(T)) / np.sqrt(48))
    market = 0.005 * level * rng.standard_t(6, T)
    own = 0.006 * level[:, None] * rng.standard_t(6, (T, N)) * rng.uniform(0.5, 2.0, N)
    return np.asarray(market[:, None] * rng.uniform(0.5, 1.5, N) + own)


def with_holes(returns: Floats, seed: int = 2) -> Floats:
    """Give the returns with missing bars, a newborn, a stalled price and a gap of all."""
    rng = np.random.default_rng(seed)
    holed = returns.copy()
    T, N = holed.shape
    holed[rng.random((T, N)) < 0.02] = np.nan
    holed[T // 2 : T // 2 + 3] = np.nan
    if N > 3:
        holed[: -min(T, 60), 1] = np.nan
        holed[:, 2] = 0.0
        holed[-20:, 3] = np.nan
    return holed


def at_hour(hour: int) -> int:
    """Give an instant so many hours after a midnight in UTC."""
    return MIDNIGHT_MS + hour * HOUR_MS
