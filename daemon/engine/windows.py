"""The last closed bars of every timeframe for all instruments, as sliding arrays.

Rows are appended behind one another; when the buffer is full its newest part moves to the front, so
a window is always one contiguous view. A late bar fills the NaN row that was kept for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import cast

import numpy as np

from daemon.domain.bar import FIELDS, CrossSection, Floats, Window
from daemon.domain.units import Timeframe, require

SLACK_BARS = 512


class WindowStore:
    """Keep `bars_n` rows of one timeframe."""

    def __init__(self, timeframe: Timeframe, instruments_n: int, bars_n: int) -> None:
        self.timeframe = timeframe
        self.bars_n = bars_n
        self.newest_ms = 0
        self.rows_n = 0  # rows ever held, at most bars_n count
        self._buffer = np.full((bars_n + SLACK_BARS, instruments_n, FIELDS), np.nan)
        self._end = 0
        self._ms = timeframe.ms

    def take(self, bars: CrossSection) -> None:
        """Enter a cross-section; older ones fill gaps, never change what is there."""
        if self.rows_n == 0 or bars.close_ms > self.newest_ms:
            self.advance(bars.close_ms)
            self._buffer[self._end - 1] = bars.values
            return
        back = (self.newest_ms - bars.close_ms) // self._ms
        if back < self.filled:
            row = self._buffer[self._end - 1 - back]
            fresh = bars.present & np.isnan(row[:, 0])
            row[fresh] = bars.values[fresh]

    def advance(self, close_ms: int) -> None:
        """Append empty rows so that the newest row is the bar closing at `close_ms`."""
        steps = 1 if self.rows_n == 0 else (close_ms - self.newest_ms) // self._ms
        if steps <= 0:
            return
        for _ in range(min(steps, self.bars_n)):
            if self._end == len(self._buffer):
                kept = self._buffer[self._end - self.bars_n + 1 :].copy()
                self._buffer[: len(kept)] = kept
                self._end = len(kept)
            self._buffer[self._end] = np.nan
            self._end += 1
        self.rows_n += steps
        self.newest_ms = close_ms

    @property
    def filled(self) -> int:
        """Tell how many rows the window holds, at most bars_n."""
        return min(self.rows_n, self.bars_n, self._end)

    def view(self) -> Window:
        """Give the window without copying: for a strategy that reads and returns."""
        rows = self._buffer[self._end - self.filled : self._end]
        return Window(self.timeframe, self.newest_ms, rows)

    def frozen(self) -> Window:
        """Give a window that will never change: for a message that outlives this call."""
        rows = self.view().values.copy()
        rows.setflags(write=False)
        return Window(self.timeframe, self.newest_ms, rows)

    def newest(self) -> Floats:
        """Give the newest row, (N, 5)."""
        row: Floats = self._buffer[self._end - 1]
        return row

    def to_plain(self) -> dict[str, object]:
        """Give a form that the snapshot codec can write."""
        return {
            "newest_ms": self.newest_ms,
            "rows_n": self.rows_n,
            "values": self.view().values.copy(),
        }

    def restore(self, plain: Mapping[str, object]) -> None:
        """Rebuild the rows from `to_plain`."""
        values = cast(Floats, plain["values"])[-self.bars_n :]
        ours, theirs = self._buffer.shape[1], values.shape[1]
        require(ours == theirs, f"saved window is of {theirs} instruments, this one is of {ours}")
        self._end = len(values)
        self._buffer[: self._end] = values
        self.newest_ms = cast(int, plain["newest_ms"])
        self.rows_n = cast(int, plain["rows_n"])


def bars_digest(stores: Mapping[Timeframe, WindowStore]) -> str:
    """Give the hex sha256 over the newest bars of every timeframe that has any."""
    state = hashlib.sha256()
    for timeframe, store in stores.items():
        if store.rows_n:
            state.update(f"{timeframe.minutes},{store.newest_ms},".encode())
            state.update(store.newest().tobytes())
    return state.hexdigest()
