"""Measure how late the event loop comes round: the wait of everything that is ready to run.

A timer is set for a known moment and notes how much later it was served. What blocks the loop for
`d` seconds is seen as a lag of up to `d`; what is shorter than the period may fall between looks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

PERIOD_S: Final = 0.1
KEPT: Final = 600  # a minute of looks


class LoopLag:
    """Keep the lags of the last minute, in seconds."""

    def __init__(self, *, period_s: float = PERIOD_S, kept: int = KEPT) -> None:
        self._period_s = period_s
        self._lags: deque[float] = deque(maxlen=kept)

    async def watch(self) -> None:
        """Look again and again until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + self._period_s
            await asyncio.sleep(self._period_s)
            self._lags.append(max(0.0, loop.time() - due_s))

    def quantiles(self) -> tuple[float, float, float] | None:
        """Give median, 99th percentile and maximum in seconds; None before the first look."""
        ordered = sorted(self._lags)
        if not ordered:
            return None
        last = len(ordered) - 1
        return ordered[last // 2], ordered[min(int(0.99 * len(ordered)), last)], ordered[-1]
