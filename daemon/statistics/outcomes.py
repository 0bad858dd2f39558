"""What a forecast is judged by: residual returns in units of residual volatility.

    y_i = (r_i - beta_i * r_mkt) / (sigma_i * sqrt(H)),  clipped to +-5, demeaned over instruments

r is a log return over H bars, r_mkt its equal-weight mean. beta and sigma are moving averages of
what was known before r began. Models learn this outcome and reports measure it, so it stands here
once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.units import DAY_MS, require
from daemon.statistics.checks import Floats

OUTCOME_CLIP: Final = 5.0
BETA_HALF_LIFE_MS: Final = 30 * DAY_MS
BETA_TRUST: Final = 0.7  # the rest of the weight goes to a beta of 1
SIGMA_HALF_LIFE_MS: Final = 3 * DAY_MS
WARM_UP_MS: Final = 2 * DAY_MS  # before this much history a volatility is not believed
INSTRUMENTS_MIN: Final = 3

Longs = npt.NDArray[np.int64]


def residual_outcome(ahead: Floats, beta: Floats, sigma: Floats, *, horizon_bars: int) -> Floats:
    """Turn log returns `ahead` (T, N) over `horizon_bars` into outcomes (T, N).

    beta and sigma (per bar): (T, N) of `residual_risk`. NaN where any of them is, and in rows with
    fewer than three instruments.
    """
    require(horizon_bars >= 1, f"horizon of {horizon_bars} bars: must be at least 1")
    residual = ahead - beta * row_mean(ahead)
    y = np.clip(residual / (sigma * np.sqrt(horizon_bars)), -OUTCOME_CLIP, OUTCOME_CLIP)
    enough = np.isfinite(y).sum(axis=1, keepdims=True) >= INSTRUMENTS_MIN
    return np.where(enough, y - row_mean(y), np.nan)


def residual_risk(closes: Floats, *, bar_ms: int) -> tuple[Floats, Floats]:
    """Estimate beta to the equal-weight market and residual volatility per bar, causally.

    closes: (T, N) log prices on an unbroken grid, NaN where there is none. Both answers are (T, N),
    from closes up to and including row t; NaN before two days of history. Beta is an EWMA
    regression slope (30 days) drawn to 1; sigma an EWMA (3 days) of residual returns.
    """
    moves = np.vstack([np.full((1, closes.shape[1]), np.nan), np.diff(closes, axis=0)])
    market = row_mean(moves)
    decay = 0.5 ** (bar_ms / BETA_HALF_LIFE_MS)
    joint, seen = _ewma(moves * market, decay)
    power, _ = _ewma(np.where(np.isfinite(moves), market * market, np.nan), decay)
    slope = joint / np.where(power > 0, power, np.nan)
    beta = np.where(np.isfinite(slope), BETA_TRUST * slope + (1 - BETA_TRUST), 1.0)
    variance, _ = _ewma((moves - beta * market) ** 2, 0.5 ** (bar_ms / SIGMA_HALF_LIFE_MS))
    believed = (seen >= WARM_UP_MS // bar_ms) & (variance > 0)
    return beta, np.sqrt(np.where(believed, variance, np.nan))


def ahead_of(x: Floats, bars: int) -> Floats:
    """Give (T, N) values of `bars` rows later, NaN where the rows end."""
    out = np.full_like(x, np.nan)
    if bars < len(x):
        out[: len(x) - bars] = x[bars:]
    return out


def row_mean(x: Floats) -> Floats:
    """Average the finite values of each row, (T, N) -> (T, 1), NaN when there is none."""
    finite = np.isfinite(x)
    count = finite.sum(axis=1, keepdims=True)
    total = np.where(finite, x, 0.0).sum(axis=1, keepdims=True)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _ewma(x: Floats, decay: float) -> tuple[Floats, Longs]:
    """Average with exponential weights, skipping NaN; also count the values seen, both (T, N)."""
    known = np.isfinite(x)
    kept = np.tile(np.where(known, decay, 1.0), 2)
    sums = np.hstack([np.where(known, x, 0.0), known])  # (T, 2N): of values, then of weights
    before = np.zeros(2 * x.shape[1])
    for row, share in zip(sums, kept, strict=True):
        row += share * before
        before = row
    total, weight = np.hsplit(sums, 2)
    return total / np.where(weight > 0, weight, np.nan), np.cumsum(known, axis=0)
