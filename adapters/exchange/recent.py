"""The newest bars that one feed told: those of before a start are audited like all others.

What history left out at its end (a copy of the venue that lags, a row that nothing proved closed)
is owed: the feed that follows asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.finality import BarValues
from daemon.domain.messages import BarsClosed, MarketEvent, Revised

OWED_BARS_MAX: Final = 3  # who shows none of so many newest bars stands still, and owes nothing


class RecentBars:
    """Keep the bars of the newest `instants_n` instants as they were told last."""

    def __init__(self, instants_n: int) -> None:
        self._instants_n = instants_n
        self._values: dict[int, Floats] = {}  # by close, (N, 5), NaN where nothing was told

    def see(self, event: MarketEvent) -> None:
        """Take an event that goes out."""
        if isinstance(event, Revised):
            known = self._values.get(event.close_ms)
            if known is not None:
                known[event.index] = event.after
        if not isinstance(event, BarsClosed):
            return
        known = self._values.get(event.close_ms)
        if known is None:
            self._values[event.close_ms] = event.values.copy()
        else:
            there = event.proof > 0
            known[there] = event.values[there]
        while len(self._values) > self._instants_n:
            del self._values[min(self._values)]

    def told(self) -> Iterator[tuple[int, int, BarValues]]:
        """Give instrument, close and values of each bar."""
        for close_ms, values in sorted(self._values.items()):
            for index in np.flatnonzero(~np.isnan(values[:, 0])).tolist():
                opened, high, low, close, volume = values[index].tolist()
                yield index, close_ms, (opened, high, low, close, volume)

    def owed(self, after_ms: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Give instruments whose newest bars up to `after_ms` were not told, and their closes."""
        newest = [close_ms for close_ms in sorted(self._values) if close_ms <= after_ms]
        newest = newest[-OWED_BARS_MAX - 1 :]
        if not newest:
            return
        there = ~np.isnan(np.array([self._values[close_ms][:, 0] for close_ms in newest]))  # (T, N)
        for index in np.flatnonzero(~there[-1] & there.any(axis=0)).tolist():
            last = int(np.flatnonzero(there[:, index])[-1])
            yield index, tuple(newest[last + 1 :])
