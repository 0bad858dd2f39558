"""The warm-up: past bars of all symbols merged into one cross-section per instant, with funding.

Read in chunks of time, all symbols of a chunk side by side, so that memory stays bounded and time
order holds. A bar that is missing in a chunk is absent; history asks once, patiently. The newest
row counts as closed when its successor is there, or a later bar of another instrument.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import numpy as np

from adapters.exchange.paging import PAGE_BARS
from adapters.exchange.reader import Page, VenueReader
from daemon.domain.bar import FIELDS, Field, Floats, Proof
from daemon.domain.instrument import is_spare_symbol
from daemon.domain.messages import BarsClosed, FundingRates, MarketEvent
from daemon.domain.units import Timeframe
from daemon.ports import Clock, Warmup

GRACE_POLL_S: Final = 0.1
GRACE_POLLS_MAX: Final = 300
SUCCESSOR_POLL_S: Final = 1.0
SUCCESSOR_POLLS_MAX: Final = 10


async def read_history(
    reader: VenueReader,
    clock: Clock,
    symbols: Sequence[str],
    timeframe: Timeframe,
    since_ms: int,
    until_ms: int,
    *,
    grace_ms: int,
    funding: bool,
    on_warmup: Callable[[Warmup], None],
) -> AsyncIterator[MarketEvent]:
    """Yield closed bars with since < close <= until and the funding of that span, in time order."""
    last_close_ms = timeframe.last_close(min(until_ms, clock.now()))
    await _past_grace(clock, last_close_ms + grace_ms)
    first_close_ms = timeframe.next_close(since_ms)
    if first_close_ms > last_close_ms:
        return
    paid = await _funding(reader, symbols, since_ms, until_ms) if funding else []
    wanted = (last_close_ms - first_close_ms) // timeframe.ms + 1
    bars = [0] * len(symbols)
    chunk_ms = (PAGE_BARS - 1) * timeframe.ms
    for start_ms in range(first_close_ms, last_close_ms + 1, chunk_ms):
        end_ms = min(start_ms + chunk_ms - timeframe.ms, last_close_ms)

        async def page(index: int, start_ms: int = start_ms, end_ms: int = end_ms) -> Page:
            if is_spare_symbol(symbols[index]):
                return Page((), end_ms)
            # one bar more than the chunk has: its open is the price at the chunk's last close
            found = await reader.bars(symbols[index], start_ms - timeframe.ms, end_ms)
            bars[index] += sum(reading.open_ms < end_ms for reading in found.readings)
            on_warmup(Warmup(symbols[index], bars[index], wanted))
            return found

        pages: Sequence[Page] = await asyncio.gather(*(page(i) for i in range(len(symbols))))
        if grace_ms and end_ms == last_close_ms:
            pages = await _all_closed(reader, symbols, pages, timeframe, end_ms, grace_ms)
        for event in _cross_sections(pages, timeframe, start_ms, end_ms):
            while paid and paid[0].settle_ms <= event.close_ms:
                yield paid.pop(0)
            yield event


async def _past_grace(clock: Clock, at_ms: int) -> None:
    """Wait, bounded, until the newest bar is old enough to be believed without a successor."""
    for _ in range(GRACE_POLLS_MAX):
        if clock.now() >= at_ms:
            return
        await asyncio.sleep(GRACE_POLL_S)


async def _all_closed(
    reader: VenueReader,
    symbols: Sequence[str],
    pages: Sequence[Page],
    timeframe: Timeframe,
    end_ms: int,
    grace_ms: int,
) -> Sequence[Page]:
    """Leave out the newest rows that nothing proves closed: our clock may be wrong.

    Proof is a successor, or a later bar of another instrument; what that proves is read again
    after the grace, for venues answer from copies that lag.
    """
    begun_ms = max((page.readings[-1].open_ms for page in pages if page.readings), default=0)
    ask = (
        _closed(reader, symbol, page, timeframe, end_ms, begun_ms, grace_ms)
        for symbol, page in zip(symbols, pages, strict=True)
    )
    return await asyncio.gather(*ask)


async def _closed(
    reader: VenueReader,
    symbol: str,
    found: Page,
    timeframe: Timeframe,
    end_ms: int,
    begun_ms: int,
    grace_ms: int,
) -> Page:
    """Do that for one symbol; a row older than the bar before `begun_ms` is no copy that lags."""
    asked_ms = found.read_ms
    for poll in range(SUCCESSOR_POLLS_MAX + 1):
        last_ms = found.readings[-1].open_ms if found.readings else end_ms
        close_ms = last_ms + timeframe.ms
        read_later = begun_ms >= close_ms and found.read_ms >= asked_ms + grace_ms
        if last_ms >= end_ms or begun_ms > close_ms or read_later:
            return found
        if poll < SUCCESSOR_POLLS_MAX:
            await asyncio.sleep(SUCCESSOR_POLL_S)
            again = await reader.bars(symbol, last_ms, end_ms)
            rows = {row.open_ms: row for row in (*found.readings, *again.readings)}
            found = Page(tuple(rows[at] for at in sorted(rows)), again.read_ms)
    return Page(found.readings[:-1], found.read_ms)


def _cross_sections(
    pages: Sequence[Page], timeframe: Timeframe, start_ms: int, end_ms: int
) -> list[BarsClosed]:
    """Merge the symbols' rows into one message per close in [start, end]."""
    closes = range(start_ms, end_ms + 1, timeframe.ms)
    values: Floats = np.full((len(closes) + 1, len(pages), FIELDS), np.nan)  # (T + 1, N, 5)
    for index, page in enumerate(pages):
        for reading in page.readings:
            values[(reading.open_ms + timeframe.ms - start_ms) // timeframe.ms, index] = (
                reading.values
            )
    told = []
    for row, close_ms in enumerate(closes):
        present = ~np.isnan(values[row, :, Field.CLOSE])
        proof = np.where(present, Proof.REREAD, Proof.ABSENT).astype(np.uint8)
        opens = values[row + 1, :, Field.OPEN].copy()
        told.append(BarsClosed(close_ms, values[row].copy(), proof, opens))
    return told


async def _funding(
    reader: VenueReader, symbols: Sequence[str], after_ms: int, until_ms: int
) -> list[FundingRates]:
    """Read the payments of all symbols and merge them by instant, oldest first."""
    pages = await asyncio.gather(
        *(
            reader.funding_between(symbol, after_ms, until_ms)
            for symbol in symbols
            if not is_spare_symbol(symbol)
        )
    )
    columns = [index for index, symbol in enumerate(symbols) if not is_spare_symbol(symbol)]
    count = len(symbols)
    told: dict[int, FundingRates] = {}
    for index, page in zip(columns, pages, strict=True):
        for entry in page:
            message = told.setdefault(
                entry.settle_ms,
                FundingRates(entry.settle_ms, np.full(count, math.nan), np.full(count, math.nan)),
            )
            message.rates[index], message.marks[index] = entry.rate, entry.mark
    return [told[at] for at in sorted(told)]
