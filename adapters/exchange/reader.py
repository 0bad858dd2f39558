"""Read bars and funding by REST: whole ranges for the warm-up, a few rows to prove a bar.

An answer is believed only if it is one: rows, or an envelope that holds none. The market time is
read before each request, so that a row counts as closed only if it was closed when we asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.exchange.client import Answers, VenueClient
from adapters.exchange.failures import SymbolGone, shortened
from adapters.exchange.mapping import (
    FUNDING_END,
    FUNDING_OF_ALL_AT_ONCE,
    Settled,
    funding_interval_ms,
    holds_a_list,
    next_funding_ms,
    readings_of,
    settled_of,
    volume_unit,
)
from adapters.exchange.paging import ONWARD, PAGE_BARS, Window, whole_span, window_of
from daemon.domain.failures import BadPayload
from daemon.domain.finality import Reading
from daemon.domain.units import HOUR_MS, MINUTE_MS, Timeframe
from daemon.ports import Clock

PAGE_FUNDING: Final = 100
FUNDING_APART_MS_MAX: Final = 8 * HOUR_MS  # no venue settles less often
NO_PARAMS: Final[Mapping[str, int]] = {}
FUNDING_CALLS_SINGLE_MAX: Final = 3
"""From this many symbols on, venues that allow it are asked for the funding of all at once."""


@dataclass(frozen=True, slots=True)
class Page:
    """Hold an answer about bars and the market time at which it was asked for."""

    readings: tuple[Reading, ...]
    read_ms: int


class VenueReader:
    """Read one venue's bars of one timeframe, a bounded number of requests at a time."""

    def __init__(
        self, client: VenueClient, clock: Clock, timeframe: Timeframe, *, parallel: int
    ) -> None:
        self._client = client
        self._clock = clock
        self._timeframe = timeframe
        self._slots = asyncio.Semaphore(parallel)
        self._window = window_of(client.api, client.exchange)

    @property
    def rows_max(self) -> int:
        """Give how many bars the venue answers at once, as far as that is known."""
        return self._window.rows_max

    async def reread(self, symbol: str, first_close_ms: int, last_close_ms: int) -> Page:
        """Read the bars closing in [first, last] and their successors, asking once.

        A symbol that the venue does not know gives an empty page: that is its word. A long gap
        comes back in part; what is missing then is asked for again.
        """
        length_ms = self._timeframe.ms
        wanted = (last_close_ms - first_close_ms) // length_ms + 2
        read_ms = self._clock.now()
        try:
            async with self._slots:
                rows = await self._rows(symbol, first_close_ms - length_ms, wanted, patient=False)
        except SymbolGone:
            rows = []
        return Page(tuple(rows), read_ms)

    async def bars(self, symbol: str, first_open_ms: int, last_open_ms: int) -> Page:
        """Read all bars opening in [first, last], page by page, patiently.

        A bar that is missing in the answer was missing in two readings, or between two bars of one.
        `read_ms` is that of the last request, a range in the past is closed by then anyway.
        """
        read_ms = self._clock.now()

        async def ask(start_ms: int, end_ms: int, rows_n: int) -> list[tuple[int, Reading]]:
            nonlocal read_ms
            read_ms = self._clock.now()
            async with self._slots:
                rows = await self._rows(symbol, start_ms, rows_n, patient=True)
            return [(reading.open_ms, reading) for reading in rows]

        step_ms = self._timeframe.ms
        end_ms = last_open_ms + step_ms
        found = await whole_span(ask, first_open_ms, end_ms, step_ms, self._window)
        return Page(tuple(found.values()), read_ms)

    async def _rows(
        self, symbol: str, since_ms: int, limit: int, *, patient: bool
    ) -> list[Reading]:
        call = self._client.ask_patiently if patient else self._client.ask
        rows, answers = await call(
            "fetch_ohlcv", symbol, self._timeframe.label, since_ms, min(limit, self.rows_max)
        )
        source = f"{self._client.exchange}, bars of {symbol}"
        require_an_answer(rows, answers, source)
        unit = volume_unit(self._client.market(symbol), self._client.exchange)
        readings = readings_of(rows, self._timeframe, source, unit)
        return sorted(readings, key=lambda r: r.open_ms)

    # ---- funding ---------------------------------------------------------------------------------

    async def next_settlements(self, symbols: Sequence[str]) -> dict[str, int]:
        """Ask when each symbol settles funding next; symbols without an answer are left out."""
        entries: Mapping[str, Any]
        if self._client.has("fetchFundingRates"):
            entries, answers = await self._client.ask("fetch_funding_rates", list(symbols))
            require_an_answer(entries, answers, f"{self._client.exchange}, funding rates")
        elif self._client.has("fetchFundingRate"):
            entries = {}
            for symbol in symbols:
                async with self._slots:
                    entries[symbol], _ = await self._client.ask("fetch_funding_rate", symbol)
        else:
            return {}
        due = {s: next_funding_ms(entries[s]) for s in symbols if s in entries}
        return {symbol: at_ms for symbol, at_ms in due.items() if at_ms is not None}

    async def settled(self, symbols: Sequence[str], settle_ms: int) -> list[Settled]:
        """Read what was paid at one instant; symbols not settled yet are left out."""
        since_ms = settle_ms - MINUTE_MS // 2
        at_once = self._client.exchange in FUNDING_OF_ALL_AT_ONCE
        if at_once and len(symbols) > FUNDING_CALLS_SINGLE_MAX:
            asked: list[str | None] = [None]
        else:
            asked = list(symbols)
        pages = await asyncio.gather(*(self._funding(s, since_ms, PAGE_BARS) for s in asked))
        wanted = set(symbols)
        return [
            entry
            for page in pages
            for entry in page
            if entry.settle_ms == settle_ms and entry.symbol in wanted
        ]

    async def funding_between(self, symbol: str, after_ms: int, until_ms: int) -> list[Settled]:
        """Read the payments with after < settle <= until, oldest first, page by page."""

        async def ask(start_ms: int, end_ms: int, rows_n: int) -> list[tuple[int, Settled]]:
            del rows_n  # reckoned by an interval that may have been another one then
            end = FUNDING_END.get(self._client.exchange)
            # ahead of the minute, for stamps lie some milliseconds beside the instant
            params = {} if end is None else {end: end_ms - MINUTE_MS // 2}
            page = await self._funding(
                symbol, start_ms - MINUTE_MS // 2, PAGE_FUNDING, patient=True, params=params
            )
            return [(entry.settle_ms, entry) for entry in page]

        step_ms = funding_interval_ms(self._client.market(symbol)) or FUNDING_APART_MS_MAX
        found = await whole_span(
            ask,
            after_ms + MINUTE_MS,
            until_ms + MINUTE_MS,
            step_ms,
            Window(PAGE_FUNDING, self._client.exchange in ONWARD),
            apart_ms=FUNDING_APART_MS_MAX + MINUTE_MS,
            nearest_ms=MINUTE_MS,
        )
        return [entry for at, entry in found.items() if after_ms < at <= until_ms]

    async def _funding(
        self,
        symbol: str | None,
        since_ms: int,
        limit: int,
        *,
        patient: bool = False,
        params: Mapping[str, int] = NO_PARAMS,
    ) -> list[Settled]:
        call = self._client.ask_patiently if patient else self._client.ask
        async with self._slots:
            entries, answers = await call(
                "fetch_funding_rate_history", symbol, since_ms, limit, dict(params)
            )
        source = f"{self._client.exchange}, funding of {symbol or 'all'}"
        require_an_answer(entries, answers, source)
        return [settled_of(entry, source) for entry in entries]


def require_an_answer(parsed: object, answers: Answers, source: str) -> None:
    """Refuse an empty result whose raw answer holds no list: it did not say 'none'."""
    if parsed:
        return
    for raw in answers.raw:
        if not holds_a_list(raw):
            raise BadPayload(f"{source}: the answer holds no list: {shortened(repr(raw))}")
    if not answers.raw:
        raise BadPayload(f"{source}: there was no answer at all")
