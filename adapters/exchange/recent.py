"""The newest bars that one feed told: those of before a start are audited like all others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.finality import BarValues
from daemon.domain.messages import BarsClosed, MarketEvent, Revised


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
