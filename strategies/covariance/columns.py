"""Columns that a recurrent network reads beside returns, the same in a race and in a run.

`btc_volatility` is made of the returns themselves. Everything else is the middle of the instruments
that have a value: what was known at each close, whatever of it came later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from daemon.domain.covariates import Series, newest

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

BTC_VOLATILITY: Final = "btc_volatility"
_DAY_H: Final = 24
_KNOWN_MIN: Final = 12  # hourly returns of a day, below which its volatility is unknown


class Columns(Protocol):
    """Give what a network reads beside returns."""

    def at(self, hour_ms: Longs, returns: Floats) -> Floats:
        """Give columns (T, C) as known at closes of hours (T,) with returns (T, N); NaN unknown."""
        ...


def leader_of(symbols: Sequence[str]) -> int:
    """Give the place of BTC among the symbols, else 0."""
    return next((n for n, name in enumerate(symbols) if name.upper().startswith("BTC")), 0)


def day_volatility(returns: Floats) -> Floats:
    """Give the log volatility of an hour (T,) over the last 24 hourly log returns (T,).

    Over those that are known; NaN where fewer than 12 are, or where the price stood still.
    """
    padded = np.concatenate([np.full(_DAY_H - 1, np.nan), returns])
    days = sliding_window_view(padded, _DAY_H)
    known = np.isfinite(days)
    n, day = known.sum(axis=1), np.where(known, days, 0.0)
    day = (day**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 0.5 * np.log(day / n)
    return np.where(np.isfinite(found) & (n >= _KNOWN_MIN), found, np.nan)


def middle_known(series: Sequence[Series | None], hour_ms: Longs) -> Floats:
    """Give the median (T,) over distinct series of the newest value known at each hour."""
    distinct = list({id(one): one for one in series if one is not None}.values())
    if not distinct:
        return np.full(len(hour_ms), np.nan)
    table = np.stack([newest(one).at(hour_ms) for one in distinct], axis=1)
    found = np.full(len(hour_ms), np.nan)
    known = np.isfinite(table).any(axis=1)
    found[known] = np.nanmedian(table[known], axis=1)
    return found
