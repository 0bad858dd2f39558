"""Fill the bar store from an exchange, page by page, resumable at any moment.

Knows no exchange: the pages come from a function that wiring hands in, which also owns retries and
rate limits. Only bars that closed by `until_ms` are stored, so the running bar never is. A file is
replaced whole, in one step; a process killed half-way leaves the last complete state, and
the next run goes on behind the last stored bar to the same bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from adapters.history.parquet_file import (
    GENERATED,
    NO_BARS,
    NO_RATES,
    ORIGIN,
    Bars,
    Rates,
    bars_problem,
    merged_bars,
    merged_rates,
    rates_problem,
    read_bars,
    read_rates,
    set_aside,
    write_bars,
    write_rates,
)
from adapters.history.store import (
    Gap,
    bars_path,
    disk_symbol,
    funding_path,
    gaps_of,
    unified_symbol,
)
from daemon.domain.failures import BadPayload, CorruptFile, EquipoiseError
from daemon.domain.units import MINUTE_MS, Timeframe, iso, require

PAGE_BARS: Final = 1000
PAGES_PER_SAVE: Final = 25
PARALLEL_MAX: Final = 4

FetchBars = Callable[[str, int, int], Awaitable[Sequence[Sequence[float]]]]
FetchRates = Callable[[str, int, int], Awaitable[Sequence[tuple[int, float]]]]


@dataclass(frozen=True, slots=True)
class Progress:
    """Tell how far one symbol has come: done up to `reached_ms` on the way to `until_ms`."""

    symbol: str
    since_ms: int
    reached_ms: int
    until_ms: int
    rows_new: int


@dataclass(frozen=True, slots=True)
class SymbolReport:
    """Tell what became of one symbol; `problem` is None when all of the range was answered.

    rows_revised counts stored bars that the exchange now shows with other values; ours stayed.
    repaired: what was wrong with the file that lay there, and under which name it was moved aside.
    """

    symbol: str
    path: Path
    rows: int
    rows_new: int
    rows_revised: int
    first_open_ms: int | None
    last_open_ms: int | None
    gaps: tuple[Gap, ...]
    problem: str | None
    repaired: str | None = None


@dataclass(frozen=True, slots=True)
class DownloadReport:
    """Tell what became of a download, in the order of the symbols asked for."""

    symbols: tuple[SymbolReport, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """List what went wrong, one line a symbol."""
        return tuple(f"{one.symbol}: {one.problem}" for one in self.symbols if one.problem)


def _ignore(progress: Progress) -> None:
    del progress


@dataclass(slots=True)
class _Task:
    """Hold the state of one symbol's download."""

    symbol: str
    venue: str
    path: Path
    timeframe: Timeframe
    since_ms: int
    until_ms: int
    fetch: FetchBars
    page_bars: int
    on_progress: Callable[[Progress], None]
    generated: bool = False
    stored: Bars = NO_BARS
    rows_new: int = 0
    rows_revised: int = 0
    repaired: str | None = None
    pending: list[Bars] = field(default_factory=list)

    def unknown_ranges(self) -> list[tuple[int, int]]:
        """Give the ranges of opens [first, end) that are not between the first and last bar."""
        first_ms = -(-self.since_ms // self.timeframe.ms) * self.timeframe.ms
        end_ms = self.timeframe.last_close(self.until_ms)
        if not len(self.stored):
            return [(first_ms, end_ms)] if first_ms < end_ms else []
        stored_first = int(self.stored.open_ms[0])
        stored_end = int(self.stored.open_ms[-1]) + self.timeframe.ms
        ranges = ((first_ms, min(stored_first, end_ms)), (max(stored_end, first_ms), end_ms))
        return [(start, end) for start, end in ranges if start < end]

    async def run(self) -> None:
        """Fetch every unknown range; what was fetched before a failure or a stop is kept."""
        if self.path.exists():
            await asyncio.to_thread(self._read_stored)
        try:
            for start_ms, end_ms in self.unknown_ranges():
                await self._fetch_range(start_ms, end_ms)
        finally:
            self.save()

    def _read_stored(self) -> None:
        """Read what is there; a corrupt file is moved aside, and its bars are fetched anew."""
        try:
            self.stored = read_bars(self.path, self.timeframe)
        except CorruptFile as e:
            self.repaired = f"{e}; it was moved to {set_aside(self.path).name} and fetched anew"

    async def _fetch_range(self, start_ms: int, end_ms: int) -> None:
        cursor_ms = start_ms
        while cursor_ms < end_ms:
            wanted = min((end_ms - cursor_ms) // self.timeframe.ms, self.page_bars)
            rows = await self.fetch(unified_symbol(self.symbol), cursor_ms, wanted)
            page = _page(rows, self.symbol, self.timeframe, cursor_ms, end_ms)
            if len(page):
                self.pending.append(page)
                self.rows_new += len(page)
                cursor_ms = int(page.open_ms[-1]) + self.timeframe.ms
            else:  # some exchanges answer a window: a hole or the time before a listing is empty
                cursor_ms += wanted * self.timeframe.ms
            if len(self.pending) >= PAGES_PER_SAVE:
                self.save()  # not in a thread: a stop would leave it writing beside the last save
            reached_ms = min(cursor_ms, end_ms)
            self.on_progress(
                Progress(self.symbol, self.since_ms, reached_ms, self.until_ms, self.rows_new)
            )

    def save(self) -> None:
        """Write what was fetched, united with what is stored; do nothing when there is no news."""
        if not self.pending:
            return
        together = self.stored
        for page in self.pending:
            together, revised = merged_bars(together, page)
            self.rows_revised += revised
        facts = {"venue": self.venue, "symbol": disk_symbol(self.symbol)}
        if self.generated:
            facts[ORIGIN] = GENERATED
        write_bars(self.path, together, self.timeframe, facts)
        self.stored, self.pending = together, []

    def report(self, problem: str | None) -> SymbolReport:
        """Sum up."""
        times = self.stored.open_ms
        first, last = (int(times[0]), int(times[-1])) if len(times) else (None, None)
        gaps = gaps_of(times, self.timeframe)
        new, revised = self.rows_new, self.rows_revised
        rows = len(times)
        path, mended = self.path, self.repaired
        return SymbolReport(
            self.symbol, path, rows, new, revised, first, last, gaps, problem, mended
        )


async def download(
    fetch: FetchBars,
    symbols: Sequence[str],
    timeframe: Timeframe,
    since_ms: int,
    until_ms: int,
    root: Path,
    progress: Callable[[Progress], None] = _ignore,
    *,
    venue: str,
    generated: bool = False,
    page_bars: int = PAGE_BARS,
    parallel_max: int = PARALLEL_MAX,
) -> DownloadReport:
    """Store all bars with since <= open and close <= until; `venue` names the folder.

    generated: the market is not a real one; the files say so for ever (`is_generated`).

    `fetch(unified symbol, since_ms, limit)` answers rows [open_ms, o, h, l, c, volume], oldest
    first, from `since_ms` on; `page_bars` is the largest limit that the venue really answers, for
    an empty page is taken to cover that many bars. `until_ms` must not lie in the future of the
    venue. An exchange's refusal or bad answer, or a bad file, stops its symbol and stands in
    the report; other exceptions stop everything, with all files valid.
    """
    require(parallel_max >= 1, f"parallel_max {parallel_max}: at least 1")
    require(page_bars >= 1, f"page_bars {page_bars}: at least 1")
    slots = asyncio.Semaphore(parallel_max)

    async def one(symbol: str) -> SymbolReport:
        path = bars_path(root, venue, symbol, timeframe)
        task = _Task(
            symbol,
            venue,
            path,
            timeframe,
            since_ms,
            until_ms,
            fetch,
            page_bars,
            progress,
            generated,
        )
        async with slots:
            try:
                await task.run()
            except EquipoiseError as e:
                return task.report(str(e))
        return task.report(None)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(s), name=f"download {s}") for s in dict.fromkeys(symbols)]
    return DownloadReport(tuple(task.result() for task in tasks))


async def download_funding(
    fetch: FetchRates,
    symbols: Sequence[str],
    since_ms: int,
    until_ms: int,
    root: Path,
    *,
    venue: str,
    parallel_max: int = PARALLEL_MAX,
) -> dict[str, str]:
    """Store funding rates with since < settlement <= until; give the problems by symbol.

    `fetch(unified symbol, after_ms, until_ms)` answers all (settle_ms, rate) of the range. Venues
    stamp settlements some milliseconds late: they are stored on the full minute.
    """
    slots = asyncio.Semaphore(parallel_max)
    problems: dict[str, str] = {}

    async def one(symbol: str) -> None:
        path = funding_path(root, venue, symbol)
        async with slots:
            try:
                stored = await asyncio.to_thread(_rates_or_nothing, path)
                after_ms = max(since_ms, int(stored.settle_ms[-1]) if len(stored) else since_ms)
                rows = await fetch(unified_symbol(symbol), after_ms, until_ms)
                new = _rates(rows, symbol, after_ms, until_ms)
                if len(new):
                    facts = {"venue": venue, "symbol": disk_symbol(symbol), "timeframe": "funding"}
                    write_rates(path, merged_rates(stored, new), facts)
            except EquipoiseError as e:
                problems[symbol] = str(e)

    async with asyncio.TaskGroup() as group:
        for symbol in dict.fromkeys(symbols):
            group.create_task(one(symbol), name=f"download funding {symbol}")
    return problems


def _rates_or_nothing(path: Path) -> Rates:
    """Read the rates that are there; a corrupt file is moved aside like one of bars."""
    if not path.exists():
        return NO_RATES
    try:
        return read_rates(path)
    except CorruptFile:
        set_aside(path)
        return NO_RATES


def _page(
    rows: Sequence[Sequence[float]], symbol: str, timeframe: Timeframe, start_ms: int, end_ms: int
) -> Bars:
    try:
        bars = Bars.from_rows([row for row in rows if start_ms <= row[0] < end_ms])
    except (ValueError, TypeError, IndexError) as e:
        raise BadPayload(f"bars of {symbol} from {iso(start_ms)}: no rows of numbers: {e}") from e
    problem = bars_problem(bars, timeframe)
    if problem:
        raise BadPayload(f"bars of {symbol} from {iso(start_ms)}: {problem}")
    return bars


def _rates(rows: Sequence[tuple[int, float]], symbol: str, after_ms: int, until_ms: int) -> Rates:
    on_minute = {round(at_ms / MINUTE_MS) * MINUTE_MS: rate for at_ms, rate in sorted(rows)}
    inside = {at: rate for at, rate in on_minute.items() if after_ms < at <= until_ms}
    rates = Rates.from_pairs(list(inside.items()))
    problem = rates_problem(rates)
    if problem:
        raise BadPayload(f"funding of {symbol} from {iso(after_ms)}: {problem}")
    return rates
