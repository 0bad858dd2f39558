"""Play stored bars, funding rates and lives of instruments as market events, in time order.

The replay shell iterates `replay` in place; the live shell reads the same events through the
asynchronous port at whatever pace its clock has. Events hold views of the panel: nothing is copied.
At a settlement the funding comes before the bars that closed at the same instant, so that it is
paid on the position held until then. What is said of an instrument comes after them: nobody knew it
when the bars closed, and a contract that ends is settled at the last of them.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from adapters.history.instruments_file import Record
from adapters.history.lives import changes_of
from adapters.history.store import Funding, Panel
from daemon.domain.bar import Field, Flags, Floats, Proof
from daemon.domain.instrument import Instrument, Standing
from daemon.domain.messages import (
    BarsClosed,
    FundingRates,
    InstrumentChanged,
    MarketEvent,
    PriceDoubted,
    Rescaled,
    event_ms,
)
from daemon.domain.units import Timeframe, require
from daemon.ports import Clock

_BEFORE: Final = 0  # the bars of the same instant
_AFTER: Final = 1


class ReplayFeed:
    """Implement the MarketFeed port over files; `replay` is its synchronous form."""

    def __init__(
        self,
        panel: Panel,
        source: Timeframe,
        instruments: Sequence[Instrument],
        funding: Funding | None = None,
        clock: Clock | None = None,
        records: Sequence[Record | None] | None = None,
        said: Sequence[Rescaled | PriceDoubted] = (),
        stored: Flags | None = None,
    ) -> None:
        """Take what is to be played.

        records: what is known of each instrument over time, (N,); None tells nothing of lives, not
        even of contracts whose bars end. said: what is told beside the bars, before those of the
        same instant, in time order. stored: (T, N), which bars the files have, where the panel
        lacks some of them; None for the panel's own.
        """
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
        self._said = tuple(said)
        self._clock = clock
        require(records is None or len(records) == N, f"records do not fit {N} columns of bars")
        told: tuple[InstrumentChanged, ...] = ()
        if records is not None:
            told = changes_of(panel, source, instruments, records, stored)
        self._changes = told
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

    def standing(self, at_ms: int) -> Iterator[InstrumentChanged]:
        """Yield what was known of instruments by `at_ms` and differs from how they were handed in.

        Whoever begins in the middle takes this first, as a live run takes the first reading of the
        venue's list.
        """
        newest = {one.index: one for one in self._changes if one.at_ms <= at_ms}
        for index, change in sorted(newest.items()):
            if (change.instrument, change.standing) != (self._instruments[index], Standing.TRADING):
                yield replace(change, at_ms=at_ms)

    def replay(self, since_ms: int, until_ms: int) -> Iterator[MarketEvent]:
        """Yield what happened after `since_ms` up to `until_ms`, as it came.

        That is, at one instant, funding, bars, and what is said of instruments. Every instant of
        the grid yields one BarsClosed, also when no instrument has a bar.
        """
        close_ms = self._panel.close_ms
        start, end = np.searchsorted(close_ms, (since_ms, until_ms), side="right").tolist()
        told = [one for one in self._changes if since_ms < one.at_ms <= until_ms]
        beside: Iterator[tuple[int, int, MarketEvent]] = heapq.merge(
            ((one.settle_ms, _BEFORE, one) for one in self._settlements(since_ms, until_ms)),
            ((one.at_ms, _AFTER, one) for one in told),
            ((one.at_ms, _BEFORE, one) for one in self._said if since_ms < one.at_ms <= until_ms),
            key=lambda one: one[:2],
        )
        waiting = next(beside, None)
        part = slice(start, end)
        rows = zip(
            self._panel.values[part], self._proof[part], self._panel.opens[part], strict=True
        )
        for instant_ms, (values, proof, opens) in zip(close_ms[part].tolist(), rows, strict=True):
            while waiting is not None and waiting[:2] < (instant_ms, _AFTER):
                yield waiting[2]
                waiting = next(beside, None)
            yield BarsClosed(instant_ms, values, proof, opens)
        while waiting is not None:
            yield waiting[2]
            waiting = next(beside, None)

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
        done_ms = max(self._source.next_close(after_ms), self.first_ms) - self._source.ms
        await self._move_to(done_ms + self._source.ms)
        for event in self.replay(after_ms, self.last_ms):
            at_ms = event_ms(event)
            if at_ms > done_ms:  # what is said at an instant after its bars is part of it
                await self._move_to(done_ms + self._source.ms)
            if self._clock is not None:
                while await self._clock.sleep_until(at_ms) < at_ms:
                    pass
            yield event
            if isinstance(event, BarsClosed):
                done_ms = at_ms
        await self._move_to(done_ms + self._source.ms)

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
