"""What the models learn: the common label, the residual return over the next six hours.

    y_i = (r_i - beta_i * r_mkt) / (sigma_i * sqrt(H)),  clipped to +-5, demeaned over instruments

r runs from the entry price after the decision lag to the price H later. Prices are opens of source
bars, the first prices at which one can trade. beta and sigma are moving averages of what was known
at the decision. All timeframes share this label, which is what makes their forecasts comparable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Field, Floats
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe, require

HORIZON_MS: Final = 6 * HOUR_MS
LABEL_CLIP: Final = 5.0
BETA_HALF_LIFE_MS: Final = 30 * DAY_MS
BETA_TRUST: Final = 0.7  # the rest of the weight goes to a beta of 1
SIGMA_HALF_LIFE_MS: Final = 3 * DAY_MS
WARM_UP_MS: Final = 2 * DAY_MS  # before this much history a volatility is not believed
INSTRUMENTS_MIN: Final = 3

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Labels:
    """Hold labels of every source close: y (T, N), NaN where none; close_ms (T,) the decisions."""

    close_ms: Longs
    y: Floats

    def at(self, instants_ms: Longs) -> Floats:
        """Give the labels (M, N) of decisions at these instants, NaN rows where unknown."""
        place = np.searchsorted(self.close_ms, instants_ms)
        inside = np.minimum(place, len(self.close_ms) - 1)
        found = self.close_ms[inside] == instants_ms
        return np.where(found[:, None], self.y[inside], np.nan)


def label(
    close_ms: Longs,
    values: Floats,
    *,
    source: Timeframe,
    lag_ms: int | None = None,
    horizon_ms: int = HORIZON_MS,
) -> Labels:
    """Compute the label of a decision at every close of the source bars.

    close_ms: (T,), values: (T, N, 5) on an unbroken source grid. lag_ms: from the decision to the
    entry, one source bar when not given; both times are whole source bars. The entry price of a
    decision at the close of row t with lag 0 is the open of row t + 1.
    """
    lag_ms = source.ms if lag_ms is None else lag_ms
    require(lag_ms % source.ms == 0 and lag_ms >= 0, f"lag of {lag_ms} ms: whole source bars")
    require(horizon_ms % source.ms == 0 and horizon_ms > 0, f"horizon of {horizon_ms} ms")
    opens = np.log(np.where(values[:, :, Field.OPEN] > 0, values[:, :, Field.OPEN], np.nan))
    enter = 1 + lag_ms // source.ms
    leave = enter + horizon_ms // source.ms
    ahead = _ahead(opens, leave) - _ahead(opens, enter)  # (T, N)
    beta, sigma = risk(values, source=source)
    residual = ahead - beta * _row_mean(ahead)
    horizon_bars = horizon_ms // source.ms
    y = np.clip(residual / (sigma * np.sqrt(horizon_bars)), -LABEL_CLIP, LABEL_CLIP)
    enough = np.isfinite(y).sum(axis=1, keepdims=True) >= INSTRUMENTS_MIN
    return Labels(close_ms, np.where(enough, y - _row_mean(y), np.nan))


def risk(values: Floats, *, source: Timeframe) -> tuple[Floats, Floats]:
    """Estimate beta to the equal-weight market and residual volatility per source bar, causally.

    Both (T, N), from closes up to and including row t; NaN before two days of history. Beta is an
    EWMA regression slope (30 days) drawn to 1; sigma an EWMA (3 days) of residual returns.
    """
    closes = np.log(np.where(values[:, :, Field.CLOSE] > 0, values[:, :, Field.CLOSE], np.nan))
    moves = np.vstack([np.full((1, closes.shape[1]), np.nan), np.diff(closes, axis=0)])
    market = _row_mean(moves)
    decay = 0.5 ** (source.ms / BETA_HALF_LIFE_MS)
    joint, seen = _ewma(moves * market, decay)
    power, _ = _ewma(np.where(np.isfinite(moves), market * market, np.nan), decay)
    slope = joint / np.where(power > 0, power, np.nan)
    beta = np.where(np.isfinite(slope), BETA_TRUST * slope + (1 - BETA_TRUST), 1.0)
    variance, _ = _ewma((moves - beta * market) ** 2, 0.5 ** (source.ms / SIGMA_HALF_LIFE_MS))
    believed = (seen >= WARM_UP_MS // source.ms) & (variance > 0)
    return beta, np.sqrt(np.where(believed, variance, np.nan))


def _ewma(x: Floats, decay: float) -> tuple[Floats, Longs]:
    """Average with exponential weights, skipping NaN; also count the values seen, both (T, N)."""
    total, weight = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    out, seen = np.full_like(x, np.nan), np.cumsum(np.isfinite(x), axis=0)
    for t, row in enumerate(x):
        known = np.isfinite(row)
        total = np.where(known, decay * total + np.where(known, row, 0.0), total)
        weight = np.where(known, decay * weight + 1.0, weight)
        out[t] = total / np.where(weight > 0, weight, np.nan)
    return out, seen


def _ahead(x: Floats, bars: int) -> Floats:
    out = np.full_like(x, np.nan)
    if bars < len(x):
        out[: len(x) - bars] = x[bars:]
    return out


def _row_mean(x: Floats) -> Floats:
    """Average the finite values of each row, (T, N) -> (T, 1), NaN when there is none."""
    finite = np.isfinite(x)
    count = finite.sum(axis=1, keepdims=True)
    total = np.where(finite, x, 0.0).sum(axis=1, keepdims=True)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
