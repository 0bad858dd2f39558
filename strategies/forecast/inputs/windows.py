"""Put bars on an unbroken grid and feature rows into the shape that networks read.

A network sees the newest L rows (`training.sequence_bars`, said by its manifest); each needs
`FEATURE_MEMORY_BARS` bars. A gap is a row of zeros with its flag down, never an invented bar.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Flags, Floats
from daemon.domain.failures import ModelError
from daemon.domain.units import Timeframe
from strategies.forecast.inputs.features import FEATURE_MEMORY_BARS, FEATURES_N, usable

SEQUENCE_BARS: Final = 12  # unless told otherwise; each row carries up to 131 bars before it
SEQUENCE_BARS_MIN: Final = 6  # what a ridge multiplies
SEQUENCE_BARS_MAX: Final = 512
CHANNELS_N: Final = FEATURES_N + 1  # without covariates; the last: is it usable
USABLE_SHARE_MIN: Final = 0.5  # of a sequence's bars

Longs = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]


def window_bars(sequence_bars: int) -> int:
    """Give the bars that a live window needs for so many rows."""
    return FEATURE_MEMORY_BARS - 1 + sequence_bars


WINDOW_BARS: Final = window_bars(SEQUENCE_BARS)  # for what reads no longer sequence


def on_grid(close_ms: Longs, values: Floats, timeframe: Timeframe) -> tuple[Longs, Floats]:
    """Spread bars (T, N, 5) over every close from the first to the last, NaN where there is none.

    Raises ModelError for closes off the grid, out of order, or twice.
    """
    if len(close_ms) == 0:
        raise ModelError(f"no {timeframe.label} bars to train on")
    if len(close_ms) != len(values):
        raise ModelError(f"{timeframe.label}: {len(close_ms)} closes for {len(values)} rows")
    if np.any(close_ms % timeframe.ms) or np.any(np.diff(close_ms) <= 0):
        raise ModelError(f"{timeframe.label}: closes must rise on the grid of the timeframe")
    first, last = int(close_ms[0]), int(close_ms[-1])
    full = np.arange(first, last + timeframe.ms, timeframe.ms, dtype=np.int64)
    spread = np.full((len(full), *values.shape[1:]), np.nan)
    spread[(close_ms - first) // timeframe.ms] = values
    return full, spread


def padded(values: Floats, bars: int) -> Floats:
    """Cut or extend (T, N, 5) to `bars` rows; rows in front are missing bars."""
    values = np.ascontiguousarray(values, dtype=np.float64)
    if len(values) >= bars:
        return values[-bars:]
    missing = np.full((bars - len(values), *values.shape[1:]), np.nan)
    return np.concatenate([missing, values])


def channels(rows: Floats) -> Singles:
    """Turn feature rows (.., F) into (.., F + 1) singles: NaN becomes 0, the flag is added."""
    alive = usable(rows)
    out = np.zeros((*rows.shape[:-1], rows.shape[-1] + 1), dtype=np.float32)
    out[..., :-1] = np.where(alive[..., None] & np.isfinite(rows), rows, 0.0)
    out[..., -1] = alive
    return out


def forecastable(sequence: Singles) -> Flags:
    """Tell for which instruments (L, N, F + 1) allows a forecast: newest row and half of all."""
    return _enough(sequence[..., -1] > 0)


def all_forecastable(table: Singles, bars: int) -> Flags:
    """Tell it for the sequences of `bars` rows that end at each row of (T, N, F + 1), as (T, N)."""
    flags = table[..., -1] > 0
    found = np.zeros_like(flags)
    if len(flags) >= bars:
        each = np.lib.stride_tricks.sliding_window_view(flags, bars, axis=0)  # (M, N, bars)
        found[bars - 1 :] = _enough(np.moveaxis(each, 2, 0))
    return found


def _enough(flags: Flags) -> Flags:
    return np.asarray(flags[-1] & (flags.mean(axis=0) >= USABLE_SHARE_MIN))


def sequences(table: Singles, places: Longs, bars: int = SEQUENCE_BARS) -> Singles:
    """Gather the sequences of `bars` rows that end at rows `places` of (T, N, C): (M, L, N, C)."""
    index = places[:, None] + np.arange(1 - bars, 1, dtype=np.int64)[None, :]
    gathered: Singles = table[index]
    return gathered
