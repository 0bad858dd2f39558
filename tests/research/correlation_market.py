"""Generated markets whose correlation is known at every hour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.research.correlation.market import Market, market_of

Floats = npt.NDArray[np.float64]
START_MS: Final = 1_704_067_200_000  # 2024-01-01
BAR_MS: Final = 900_000
PER_HOUR: Final = 4


def equal(rho: float, N: int) -> Floats:
    """Give the correlation matrix of which all pairs are the same."""
    return np.asarray(np.full((N, N), rho) + (1.0 - rho) * np.eye(N))


def odd_one_out(at: int, N: int) -> Floats:
    """Give the correlation of a factor that moves one instrument against all others."""
    loading = np.where(np.arange(N) == at, -0.9, 0.9)
    found = np.outer(loading, loading)
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)


def blocks_of(sizes: Sequence[int], inside: float, between: float) -> Floats:
    """Give a correlation matrix of blocks."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    found = np.where(labels[:, None] == labels, inside, between)
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)


def walked_market(
    correlations: Sequence[Floats],
    states: npt.NDArray[np.int64],
    *,
    seed: int,
    symbols: Sequence[str] = (),
    beside: Floats | None = None,
    columns: Sequence[str] = (),
) -> Market:
    """Draw a market of 15 minute bars in which hour t has the correlation of state states[t]."""
    rng = np.random.default_rng(seed)
    N, T = len(correlations[0]), len(states)
    roots = np.stack([np.linalg.cholesky(R) for R in correlations])
    shocks = rng.standard_normal((T, PER_HOUR, N))
    returns = np.einsum("tkn,tmn->tkm", shocks, roots[states]) * 0.004
    logs = np.vstack([np.zeros((1, N)), np.cumsum(returns.reshape(-1, N), axis=0)])
    close_ms = START_MS + BAR_MS * np.arange(len(logs), dtype=np.int64)
    names = tuple(symbols) or ("BTCUSDT", *(f"C{n:02d}USDT" for n in range(1, N)))
    return market_of(names, close_ms, 100.0 * np.exp(logs), BAR_MS, beside, columns)


def switching(days: int, mean_days: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw states 0 and 1 (24 * days,) that change at midnight, every so many days on average."""
    rng = np.random.default_rng(seed)
    state = np.cumsum(rng.random(days) < 1.0 / mean_days) % 2
    return np.asarray(np.repeat(state, 24), dtype=np.int64)
