"""Cut bars into hours and blocks: what was known at a block's start, and what came in it.

A forecast is made at the close of an hour from the hourly log returns up to it. It is scored on the
block of hours that follows, by the returns of the finest bars at hand. Blocks of one length do not
overlap and begin at whole multiples of it since 00:00 UTC.

Who takes part is decided at a block's start, by what is known then: instruments with (nearly) all
returns of the window, the newest among them. Who has no complete record of the block is left out
when it is scored, for all estimators alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.domain.failures import ModelError
from daemon.domain.units import DAY_MS, HOUR_MS, iso
from strategies.covariance.columns import BTC_VOLATILITY, day_volatility, leader_of

Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
WINDOW_SHARE: Final = 0.98  # of a window's returns that an instrument must have
INSTRUMENTS_MIN: Final = 4  # with fewer there is no block
HORIZONS_H: Final = (6, 24)
STEP_H: Final = HORIZONS_H[0]  # between two forecasts
_DAY_H: Final = 24


@dataclass(frozen=True)
class Market:
    """Hold hours of a market.

    hour_ms: (T,) closes of hours. hourly: (T, N) log returns of the hour that closed then. fine:
    (T, k, N) those of the k bars in it. Both NaN where a bar is missing. beside: (T, C) columns
    known at each close, NaN unknown; columns: (C,) their names.
    """

    symbols: tuple[str, ...]
    hour_ms: Longs
    hourly: Floats
    fine: Floats
    beside: Floats
    columns: tuple[str, ...]

    def row_of(self, at_ms: int) -> int:
        """Give the first hour that closes at or after an instant."""
        return int(np.searchsorted(self.hour_ms, at_ms))

    def taking_part(self, row: int, window_h: int) -> Longs:
        """Give the instruments that have a full window at the close of an hour."""
        seen = np.isfinite(self.hourly[row - window_h + 1 : row + 1])
        full = (seen.mean(axis=0) >= WINDOW_SHARE) & seen[-1]
        return np.flatnonzero(full)

    def outcome(self, row: int, hours: int, chosen: Longs) -> Floats:
        """Give the fine returns (hours * k, M) of the block after the close of an hour."""
        block = self.fine[row + 1 : row + 1 + hours, :, :]
        return np.asarray(block[:, :, chosen].reshape(-1, len(chosen)))


def market_of(
    symbols: Sequence[str],
    close_ms: Longs,
    closes: Floats,
    bar_ms: int,
    beside: Floats | None = None,
    columns: Sequence[str] = (),
) -> Market:
    """Cut closes (S, N) of an unbroken grid of bars into whole hours.

    beside: (T, C) at the hours that `hours_of` gives. Raises ModelError for bars that do not divide
    an hour and for less than two hours.
    """
    per_hour = HOUR_MS // bar_ms if bar_ms and HOUR_MS % bar_ms == 0 else 0
    if not per_hour:
        raise ModelError(f"bars of {bar_ms / 60_000:g} minutes: accepted are those that divide 1 h")
    hour_ms = hours_of(close_ms, bar_ms)
    if len(hour_ms) < 1:
        raise ModelError("less than two whole hours of bars: nothing can be compared")
    first = int(np.searchsorted(close_ms, hour_ms[0] - HOUR_MS))
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(closes[first : first + len(hour_ms) * per_hour + 1])
    fine = np.diff(logs, axis=0).reshape(len(hour_ms), per_hour, -1)
    hourly = np.diff(logs[::per_hour], axis=0)
    names, own = list(symbols), day_volatility(hourly[:, leader_of(symbols)])
    more = np.empty((len(hour_ms), 0)) if beside is None else beside
    return Market(
        tuple(names),
        hour_ms,
        hourly,
        fine,
        np.column_stack([own, more]),
        (BTC_VOLATILITY, *columns),
    )


def hours_of(close_ms: Longs, bar_ms: int) -> Longs:
    """Give the closes of the hours of which all bars, and the close before, are on the grid."""
    whole = close_ms[close_ms % HOUR_MS == 0]
    return np.asarray(whole[whole - HOUR_MS >= close_ms[0]]) if bar_ms <= HOUR_MS else whole[:0]


@dataclass(frozen=True, slots=True)
class Fold:
    """Hold the hours [start, end) at whose closes forecasts are tested; fits end at `start`."""

    start: int
    end: int


def folds_of(
    market: Market, *, window_h: int, first_ms: int | None, every_ms: int
) -> tuple[Fold, ...]:
    """Cut the hours from the first test on into stretches of `every_ms`, each with its own fits.

    Without a first instant half of what has a window behind it is left to fits. Tests begin at a
    midnight. Raises ModelError where no window fits before, or no block after it.
    """
    hours = market.hour_ms
    longest = max(HORIZONS_H)
    earliest = window_h - 1
    last = len(hours) - 1 - longest  # the last close with a whole block after it
    if earliest >= last:
        raise ModelError(
            f"{len(hours):,} hours of bars: a window of {window_h:,} hours and a block of {longest}"
            " need more, or a shorter --window-days"
        )
    chosen = int(hours[(earliest + last) // 2]) if first_ms is None else first_ms
    chosen = -(-chosen // DAY_MS) * DAY_MS
    start = market.row_of(chosen)
    if not earliest <= start <= last:
        raise ModelError(
            f"walkforward.first_test = {iso(chosen)}: accepted is {iso(int(hours[earliest]))} to"
            f" {iso(int(hours[last]))} with these bars and this window"
        )
    step = max(1, every_ms // DAY_MS) * _DAY_H
    cuts = range(start, last + 1, step)
    return tuple(Fold(at, min(at + step, last + 1)) for at in cuts)


def rows_within(market: Market, fold: Fold) -> Longs:
    """Give the hours of a fold at whose close a block of the shortest length begins."""
    rows = np.arange(fold.start, fold.end)
    return np.asarray(rows[market.hour_ms[rows] % (STEP_H * HOUR_MS) == 0])


def begins(at_ms: int, hours: int) -> bool:
    """Tell whether a block of so many hours begins at an instant."""
    return at_ms % (hours * HOUR_MS) == 0


def columns_of(market: Market, outside: bool) -> tuple[str, ...]:
    """Name the covariates that a network reads: BTC's volatility alone, or the others as well."""
    return market.columns if outside else market.columns[:1]
