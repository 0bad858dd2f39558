"""The last closed bars of every timeframe for all instruments, as sliding arrays.

Rows are appended behind one another; when the buffer is full its newest part moves to the front, so
a window is always one contiguous view. A late bar fills the NaN row that was kept for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import cast

import numpy as np

from daemon.domain.bar import FIELDS, CrossSection, Floats, Window
from daemon.domain.scales import rescaled_bars
from daemon.domain.units import Timeframe, require

SLACK_BARS = 512


class WindowStore:
    """Keep `bars_n` rows of one timeframe."""

    def __init__(self, timeframe: Timeframe, instruments_n: int, bars_n: int) -> None:
        self.timeframe = timeframe
        self.bars_n = bars_n
        self.newest_ms = 0
        self.rows_n = 0  # rows ever held
        self.filled = 0  # rows that the window holds, at most bars_n
        self._buffer = np.full((bars_n + SLACK_BARS, instruments_n, FIELDS), np.nan)
        self._end = 0
        self._ms = timeframe.ms

    def take(self, bars: CrossSection) -> None:
        """Enter a cross-section; older ones fill gaps, never change what is there."""
        if self.rows_n == 0 or bars.close_ms > self.newest_ms:
            self.advance(bars.close_ms, bars.values)
            return
        back = (self.newest_ms - bars.close_ms) // self._ms
        if back < self.filled:
            row = self._buffer[self._end - 1 - back]
            fresh = bars.present & np.isnan(row[:, 0])
            row[fresh] = bars.values[fresh]

    def advance(self, close_ms: int, newest: Floats | float = np.nan) -> None:
        """Append empty rows up to the bar closing at `close_ms`, which is `newest`."""
        steps = 1 if self.rows_n == 0 else (close_ms - self.newest_ms) // self._ms
        if steps <= 0:
            return
        for left in range(min(steps, self.bars_n), 0, -1):
            if self._end == len(self._buffer):
                kept = self._buffer[self._end - self.bars_n + 1 :].copy()
                self._buffer[: len(kept)] = kept
                self._end = len(kept)
            self._buffer[self._end] = newest if left == 1 else np.nan
            self._end += 1
        self.rows_n += steps
        self.filled = min(self.rows_n, self.bars_n, self._end)
        self.newest_ms = close_ms

    def rescale(self, index: int, at_ms: int, new_n: int, old_n: int) -> None:
        """Show the bars of one instrument that closed by `at_ms` in new units.

        A bar over the change that was built already mixed two units, and becomes absent.
        """
        rows = self._buffer[self._end - self.filled : self._end, index]
        closes = self.newest_ms - self._ms * np.arange(self.filled - 1, -1, -1, dtype=np.int64)
        before = closes <= at_ms
        rows[before] = rescaled_bars(rows[before], new_n, old_n)
        rows[(closes > at_ms) & (closes - self._ms < at_ms)] = np.nan

    def view(self) -> Window:
        """Give the window without copying: for a strategy that reads and returns."""
        end = self._end
        rows = self._buffer[end - self.filled : end]
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
        self.filled = min(self.rows_n, self.bars_n, self._end)


def bars_digest(stores: Mapping[Timeframe, WindowStore]) -> str:
    """Give the hex sha256 over the newest bars of every timeframe that has any."""
    parts = []
    for timeframe, store in stores.items():
        if store.rows_n:
            parts.append(f"{timeframe.minutes},{store.newest_ms},".encode())
            parts.append(store.newest().tobytes())
    return sha256(b"".join(parts)).hexdigest()
