"""When the newest bars of an instrument are read again, each instrument by itself.

A venue may have corrected what was told. An instrument that waits for a bar is passed over and
audited later; the others are not kept from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from daemon.domain.units import Timeframe


class Audits:
    """Plan the audits of N instruments: every `every_bars` (0 never), of the newest `bars_n`."""

    def __init__(
        self,
        timeframe: Timeframe,
        after_ms: int,
        instruments_n: int,
        *,
        every_bars: int,
        bars_n: int,
    ) -> None:
        self._timeframe = timeframe
        self._every_ms = every_bars * timeframe.ms
        self._span_ms = (bars_n - 1) * timeframe.ms
        self._audited_ms = [after_ms] * instruments_n
        self._next_ms = after_ms + self._every_ms

    def due(
        self,
        market_ms: int,
        watched: Callable[[], Sequence[int]],
        waits: Callable[[int, int], bool],
    ) -> dict[int, list[int]]:
        """Give the first and the last close to be read again, by instrument, and note that.

        waits(index, close_ms): whether something of an instrument up to an instant is unsettled.
        """
        newest_ms = self._timeframe.last_close(market_ms)
        if not self._every_ms or newest_ms < self._next_ms:
            return {}
        looked = watched()
        due = [
            index
            for index in looked
            if newest_ms >= self._audited_ms[index] + self._every_ms and not waits(index, newest_ms)
        ]
        for index in due:
            self._audited_ms[index] = newest_ms
        known = (self._audited_ms[index] for index in looked)
        self._next_ms = min(known, default=newest_ms) + self._every_ms
        return {index: [newest_ms - self._span_ms, newest_ms] for index in due}
