"""Fill the bar store from an exchange, page by page, resumable at any moment.

Knows no exchange: the pages come from a function that wiring hands in, which also owns retries and
rate limits. Only bars that closed by `until_ms` are stored, so the running bar never is. A file is
replaced whole, in one step; a process killed half-way leaves the last complete state, and
the next run goes on behind the last stored bar to the same bytes. Holes are asked for again until
two downloads, hours apart, found them empty; the newest stored bars are read once more, which shows
revisions. A file that cannot be believed is moved aside, and all that it held is fetched again,
however little was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from adapters.history.absence import absent_spans, common, note_empty, read_absence, without
from adapters.history.locks import only_writer
from adapters.history.parquet_file import (
    GENERATED,
    NO_BARS,
    NO_RATES,
    ORIGIN,
    Bars,
    Instants,
    Rates,
    bars_problem,
    is_generated,
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
from adapters.history.written import Written, forget, lost, span_of
from daemon.domain.failures import BadPayload, CorruptFile, DataError, EquipoiseError
from daemon.domain.units import MINUTE_MS, Timeframe, iso, require

PAGE_BARS: Final = 1000
PAGES_PER_SAVE: Final = 25
PARALLEL_MAX: Final = 4
TAIL_BARS: Final = 100  # stored bars that a later download reads once more
SETTLES_MS_MIN: Final = 60 * MINUTE_MS  # no venue settles more often, nor less often than
SETTLES_MS_MAX: Final = 8 * SETTLES_MS_MIN

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
    now_ms: int
    generated: bool = False
    holes: bool = False
    audit: bool = False
    stored: Bars = NO_BARS
    rows_new: int = 0
    revised: set[int] = field(default_factory=set)
    reads: list[tuple[int, int]] = field(default_factory=list)
    repaired: str | None = None
    pending: list[Bars] = field(default_factory=list)
    stamp: tuple[int, int, int] | None = None

    def unknown_ranges(self) -> list[tuple[int, int]]:
        """Give the ranges of opens [first, end) that are asked for.

        All about which nothing is stored, of the time asked for and of what a file that was moved
        aside had held, but for what is settled as absent; and the newest stored bars again.
        `holes` asks for every hole, `audit` for all of the time.
        """
        first_ms = -(-self.since_ms // self.timeframe.ms) * self.timeframe.ms
        end_ms = self.timeframe.last_close(self.until_ms)
        has_tail = first_ms < end_ms
        span = span_of([written for _, written in lost(self.path)])
        if span is not None:
            first_ms, end_ms = min(first_ms, span[0]), max(end_ms, span[1] + self.timeframe.ms)
        if self.audit or not len(self.stored):
            return [(first_ms, end_ms)] if first_ms < end_ms else []
        stored_first = int(self.stored.open_ms[0])
        stored_end = int(self.stored.open_ms[-1]) + self.timeframe.ms
        gaps = gaps_of(self.stored.open_ms, self.timeframe)
        holes = [(gap.last_before_ms + self.timeframe.ms, gap.resumes_ms) for gap in gaps]
        wanted = [(first_ms, end_ms), *(holes if self.holes else [])]
        unknown = common(wanted, [(min(stored_first, first_ms), stored_first), *holes])
        if not self.holes and span is None:
            unknown = without(unknown, read_absence(self.path).settled)
        tail_n = TAIL_BARS if has_tail and stored_end <= end_ms else 0
        again_ms = max(stored_first, stored_end - tail_n * self.timeframe.ms, first_ms)
        return [*unknown, *([(again_ms, end_ms)] if again_ms < end_ms else [])]

    async def run(self) -> None:
        """Fetch every unknown range; what was fetched before a failure or a stop is kept."""
        if self.path.exists():
            await asyncio.to_thread(self._read_stored)
        try:
            for start_ms, end_ms in self.unknown_ranges():
                await self._fetch_range(start_ms, end_ms)
        finally:
            self.save()
        self._note_absence()
        self._made_good()

    def _note_absence(self) -> None:
        """Remember what of the ranges that were read lies before the last bar and is no bar."""
        if len(self.stored):
            last_ms = int(self.stored.open_ms[-1])
            read = [(start, min(end, last_ms)) for start, end in self.reads]
            empty = absent_spans(read, self.stored.open_ms, self.timeframe)
            note_empty(self.path, empty, self.now_ms)

    def _read_stored(self) -> None:
        """Read what is there; a corrupt file is moved aside, and its bars are fetched anew."""
        try:
            self.stored = read_bars(self.path, self.timeframe)
            if is_generated(self.path) != self.generated:
                ours, there = ("made up", "real") if self.generated else ("real", "made up")
                raise DataError(
                    f"{self.path}: holds bars of a market that is {there}, those of this venue are "
                    f"{ours}; name another folder, or set exchange.generated"
                )
            self.stamp = _stamp(self.path)
        except CorruptFile as e:
            self.stored = NO_BARS
            self.repaired = f"{e}; it was moved to {set_aside(self.path).name} and fetched anew"

    def _made_good(self) -> None:
        """Note that what was lost came back; raise DataError where some of it did not."""
        gone = lost(self.path)
        span = span_of([written for _, written in gone])
        if span is None:
            if self.repaired and not len(self.stored):
                raise DataError(f"{self.repaired}, but nothing says from when to when it had bars")
            return
        if self.repaired is None:
            names = ", ".join(aside.name for aside, _ in gone)
            self.repaired = f"{self.path}: what {names} had held was fetched anew"
        self.repaired += f", from {iso(span[0])} to {iso(span[1])}"
        forget(aside for aside, _ in gone)
        refuse_loss(self.path, [written for _, written in gone], self.stored.open_ms)

    async def _fetch_range(self, start_ms: int, end_ms: int) -> None:
        cursor_ms = start_ms
        while cursor_ms < end_ms:
            wanted = min((end_ms - cursor_ms) // self.timeframe.ms, self.page_bars)
            rows = await self.fetch(unified_symbol(self.symbol), cursor_ms, wanted)
            page = _page(rows, self.symbol, self.timeframe, cursor_ms, end_ms)
            began_ms = cursor_ms
            if len(page):
                self.pending.append(page)
                self._count(page)
                cursor_ms = int(page.open_ms[-1]) + self.timeframe.ms
            else:  # a hole, or the time before a listing
                cursor_ms += wanted * self.timeframe.ms
            self.reads.append((began_ms, cursor_ms))
            if len(self.pending) >= PAGES_PER_SAVE:
                self.save()  # not in a thread: a stop would leave it writing beside the last save
            reached_ms = min(cursor_ms, end_ms)
            self.on_progress(
                Progress(self.symbol, self.since_ms, reached_ms, self.until_ms, self.rows_new)
            )

    def _count(self, page: Bars) -> None:
        """Count what is new, and what is stored with other values."""
        at = np.searchsorted(self.stored.open_ms, page.open_ms)
        inside = at < len(self.stored)
        known = np.zeros(len(page), dtype=np.bool_)
        known[inside] = self.stored.open_ms[at[inside]] == page.open_ms[inside]
        self.rows_new += int(np.count_nonzero(~known))
        changed = (self.stored.values[at[known]] != page.values[known]).any(axis=1)
        self.revised.update(page.open_ms[known][changed].tolist())

    def save(self) -> None:
        """Write what was fetched, united with what is stored; do nothing when there is no news."""
        if not self.pending:
            return
        with only_writer(self.path):
            self._write(self._stored_now())

    def _write(self, together: Bars) -> None:
        before_n = len(together)
        for page in self.pending:
            together, _ = merged_bars(together, page)
        if len(together) == before_n and self.path.exists():
            self.stored, self.pending = together, []
            return
        facts = {"venue": self.venue, "symbol": disk_symbol(self.symbol)}
        if self.generated:
            facts[ORIGIN] = GENERATED
        write_bars(self.path, together, self.timeframe, facts)
        self.stored, self.pending, self.stamp = together, [], _stamp(self.path)

    def _stored_now(self) -> Bars:
        """Give what lies there: a running daemon may have written since we looked."""
        if not self.path.exists() or _stamp(self.path) == self.stamp:
            return self.stored
        return merged_bars(read_bars(self.path, self.timeframe), self.stored)[0]

    def report(self, problem: str | None) -> SymbolReport:
        """Sum up."""
        times = self.stored.open_ms
        first, last = (int(times[0]), int(times[-1])) if len(times) else (None, None)
        gaps = gaps_of(times, self.timeframe)
        new, revised = self.rows_new, len(self.revised)
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
    holes: bool = False,
    audit: bool = False,
    now_ms: int | None = None,
) -> DownloadReport:
    """Store all bars with since <= open and close <= until; `venue` names the folder.

    generated: the market is not a real one; the files say so for ever (`is_generated`). holes: ask
    again for all bars that are missing between stored ones, those settled as absent too. audit:
    read the whole range again, so that every revision is counted. now_ms: the venue's time, by
    which this download is apart from others; `until_ms` when None.

    `fetch(unified symbol, since_ms, limit)` answers rows [open_ms, o, h, l, c, volume], oldest
    first: all that exist of the `limit` opens from `since_ms` on, or the first of those, or of
    later ones. An empty page covers that many opens; at most `page_bars` are asked for at once.
    `until_ms` must not lie in the future of the venue. An exchange's refusal or bad answer, or a
    bad file, stops its symbol and stands in the report; other exceptions stop everything, with all
    files valid.
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
            until_ms if now_ms is None else now_ms,
            generated,
            holes,
            audit,
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
    on_repaired: Callable[[str], None] = lambda text: None,
) -> dict[str, str]:
    """Store funding rates with since < settlement <= until; give the problems by symbol.

    `fetch(unified symbol, after_ms, until_ms)` answers all (settle_ms, rate) of the range. Venues
    stamp settlements some milliseconds late: they are stored on the full minute. Asked for is what
    lies before the first and after the last stored rate, and all that a damaged file had held;
    on_repaired hears of such files.
    """
    slots = asyncio.Semaphore(parallel_max)
    problems: dict[str, str] = {}

    async def one(symbol: str) -> None:
        path = funding_path(root, venue, symbol)
        async with slots:
            try:
                stored = await asyncio.to_thread(_rates_or_nothing, path, on_repaired)
                gone = lost(path)
                new = NO_RATES
                for after_ms, last_ms in _unknown_rates(path, stored, since_ms, until_ms):
                    rows = await fetch(unified_symbol(symbol), after_ms, last_ms)
                    new = merged_rates(new, _rates(rows, symbol, after_ms, last_ms))
                if len(new):
                    facts = {"venue": venue, "symbol": disk_symbol(symbol), "timeframe": "funding"}
                    with only_writer(path):
                        now = _rates_or_nothing(path, on_repaired)
                        write_rates(path, merged_rates(now, new), facts)
                elif not len(stored) and until_ms - since_ms >= SETTLES_MS_MAX:
                    span = f"from {iso(since_ms)} to {iso(until_ms)}"
                    problems[symbol] = f"the venue gives no funding rate {span}"
                forget(aside for aside, _ in gone)
                if gone:
                    there = _rates_or_nothing(path, on_repaired).settle_ms
                    refuse_loss(path, [written for _, written in gone], there)
            except EquipoiseError as e:
                problems[symbol] = str(e)

    async with asyncio.TaskGroup() as group:
        for symbol in dict.fromkeys(symbols):
            group.create_task(one(symbol), name=f"download funding {symbol}")
    return problems


def _unknown_rates(
    path: Path, stored: Rates, since_ms: int, until_ms: int
) -> list[tuple[int, int]]:
    """Give the ranges (after, last] of settlements that are asked for."""
    span = span_of([written for _, written in lost(path)])
    if span is not None:
        since_ms, until_ms = min(since_ms, span[0] - MINUTE_MS), max(until_ms, span[1])
    if not len(stored):
        return [(since_ms, until_ms)]
    first_ms, last_ms = int(stored.settle_ms[0]), int(stored.settle_ms[-1])
    ranges = []
    if span is not None:
        ranges.append((since_ms, last_ms))
    elif first_ms - since_ms > SETTLES_MS_MAX:
        ranges.append((since_ms, first_ms - MINUTE_MS))
    if until_ms - last_ms >= SETTLES_MS_MIN:
        ranges.append((max(last_ms, since_ms), until_ms))
    return [(after, last) for after, last in ranges if after < last]


def refuse_loss(path: Path, gone: Sequence[Written], times: Instants) -> None:
    """Raise DataError where fewer rows came back than a damaged file had held."""
    for one in gone:
        there_n = int(np.count_nonzero((times >= one.first_ms) & (times <= one.last_ms)))
        if there_n < one.rows:
            raise DataError(
                f"{path}: had held {one.rows:,} rows from {iso(one.first_ms)} to "
                f"{iso(one.last_ms)} until it was damaged; the venue gives {there_n:,} of them "
                "now, and the damaged file stays beside it"
            )


def _rates_or_nothing(path: Path, on_repaired: Callable[[str], None]) -> Rates:
    """Read the rates that are there; a corrupt file is moved aside like one of bars."""
    if not path.exists():
        return NO_RATES
    try:
        return read_rates(path)
    except CorruptFile as e:
        aside = set_aside(path)
        on_repaired(f"{e}; it was moved to {aside.name} and fetched anew")
        return NO_RATES


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


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
