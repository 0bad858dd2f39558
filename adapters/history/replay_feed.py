"""Play stored bars and funding rates as market events, in time order.

The replay shell iterates `replay` in place; the live shell reads the same events through the
asynchronous port at whatever pace its clock has. Events hold views of the panel: nothing is copied.
At a settlement the funding comes before the bars that closed at the same instant, so that it is
paid on the position held until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from adapters.history.store import Funding, Panel
from daemon.domain.bar import Field, Floats, Proof
from daemon.domain.instrument import Instrument
from daemon.domain.messages import (
    BarsClosed,
    FundingRates,
    MarketEvent,
    event_ms,
)
from daemon.domain.units import Timeframe, require
from daemon.ports import Clock


class ReplayFeed:
    """Implement the MarketFeed port over files; `replay` is its synchronous form."""

    def __init__(
        self,
        panel: Panel,
        source: Timeframe,
        instruments: Sequence[Instrument],
        funding: Funding | None = None,
        clock: Clock | None = None,
    ) -> None:
        T, N = panel.opens.shape
        require(len(instruments) == N, f"{len(instruments)} instruments for {N} columns of bars")
        require(T > 0, "a panel without instants cannot be replayed")
        steps = np.diff(panel.close_ms)
        require(bool((steps == source.ms).all()), f"the panel is no {source.label} grid")
        if funding is not None:
            wanted = (len(funding.settle_ms), N)
            require(funding.rates.shape == wanted, f"funding {funding.rates.shape}: want {wanted}")
        self._panel = panel
        self._source = source
        self._instruments = tuple(instruments)
        self._funding = funding
        self._clock = clock
        is_there = ~np.isnan(panel.values[:, :, Field.CLOSE])
        absent, known = np.uint8(Proof.ABSENT), np.uint8(Proof.HISTORY)
        self._proof: npt.NDArray[np.uint8] = np.where(is_there, known, absent)
        self._proof.flags.writeable = False
        self._no_marks: Floats = np.full(N, np.nan)
        self._no_marks.flags.writeable = False
        self._next_ms = self.first_ms  # the first close that `events` has not yielded yet
        self._moved = asyncio.Condition()

    @property
    def first_ms(self) -> int:
        """Give the first close there is."""
        return int(self._panel.close_ms[0])

    @property
    def last_ms(self) -> int:
        """Give the last close there is."""
        return int(self._panel.close_ms[-1])

    def __len__(self) -> int:
        """Count the instants."""
        return len(self._panel.close_ms)

    def replay(self, since_ms: int, until_ms: int) -> Iterator[MarketEvent]:
        """Yield what happened after `since_ms` up to `until_ms`: per instant funding, then bars.

        Every instant of the grid yields one BarsClosed, also when no instrument has a bar.
        """
        close_ms = self._panel.close_ms
        start, end = np.searchsorted(close_ms, (since_ms, until_ms), side="right").tolist()
        settlements = self._settlements(since_ms, until_ms)
        settlement = next(settlements, None)
        part = slice(start, end)
        rows = zip(
            self._panel.values[part], self._proof[part], self._panel.opens[part], strict=True
        )
        for instant_ms, (values, proof, opens) in zip(close_ms[part].tolist(), rows, strict=True):
            while settlement is not None and settlement.settle_ms <= instant_ms:
                yield settlement
                settlement = next(settlements, None)
            yield BarsClosed(instant_ms, values, proof, opens)

    def _settlements(self, since_ms: int, until_ms: int) -> Iterator[FundingRates]:
        if self._funding is None:
            return
        settle_ms, rates, _ = self._funding
        start, end = np.searchsorted(settle_ms, (since_ms, until_ms), side="right").tolist()
        for at, instant_ms in enumerate(settle_ms[start:end].tolist(), start):
            yield FundingRates(instant_ms, rates[at], self._no_marks)

    # ---- the asynchronous port -------------------------------------------------------------------

    async def instruments(self) -> Sequence[Instrument]:
        """Give the instruments in the order of the panel's columns."""
        return self._instruments

    async def history(self, since_ms: int, until_ms: int) -> AsyncIterator[MarketEvent]:
        """Yield the events with since < instant <= until, then stop."""
        for event in self.replay(since_ms, until_ms):
            yield event

    async def events(self, after_ms: int) -> AsyncIterator[MarketEvent]:
        """Yield what happens after `after_ms` as the clock reaches it; end with the files."""
        await self._move_to(max(self._source.next_close(after_ms), self.first_ms))
        for event in self.replay(after_ms, self.last_ms):
            at_ms = event_ms(event)
            if self._clock is not None:
                while await self._clock.sleep_until(at_ms) < at_ms:
                    pass
            yield event
            if isinstance(event, BarsClosed):
                await self._move_to(at_ms + self._source.ms)

    async def settled(self, now_ms: int) -> None:
        """Return when `events` has yielded every instant up to `now_ms` and was asked for more."""
        last_wanted_ms = min(now_ms, self.last_ms)
        async with self._moved:
            await self._moved.wait_for(lambda: self._next_ms > last_wanted_ms)

    async def _move_to(self, next_ms: int) -> None:
        async with self._moved:
            self._next_ms = next_ms
            self._moved.notify_all()

    async def close(self) -> None:
        """Have nothing to close."""
