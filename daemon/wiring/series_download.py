"""Fetch the series that a venue publishes beside its bars: open interest, mark and index price.

A candle of mark or index is about its open and known from its close, an open interest is known a
period after the instant it names, since venues publish it late. What is stored already, as by a
running daemon that knew it earlier, stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from adapters.exchange.client import VenueClient
from adapters.exchange.failures import Unanswered
from adapters.exchange.paging import whole_span, window_of, window_of_interest
from adapters.history.absence import common, note_empty, read_absence, without
from adapters.history.covariates import (
    EMPTY,
    merged_series,
    read_series,
    series_facts,
    series_path,
    write_series,
)
from adapters.history.download import refuse_loss
from adapters.history.locks import only_writer
from adapters.history.parquet_file import set_aside
from adapters.history.store import data_root, unified_symbol
from adapters.history.written import forget, lost, span_of
from daemon.domain.covariates import Instants, Series, series_of
from daemon.domain.failures import (
    BadPayload,
    ConfigurationError,
    CorruptFile,
    DataError,
    VenueError,
)
from daemon.domain.units import DAY_MS, Timeframe
from daemon.settings import Settings
from daemon.wiring.data import OpenVenue, open_venue

FEATURES: Final[Mapping[str, str]] = {
    "open_interest": "fetchOpenInterestHistory",
    "mark": "fetchMarkOHLCV",
    "index": "fetchIndexOHLCV",
}
HOLE_PERIODS: Final = 2  # what lies further apart leaves room for an observation between


@dataclass(frozen=True, slots=True)
class FetchedSeries:
    """Tell what was fetched of one series of one symbol; `problem` says why it was not.

    repaired: what was wrong with the file that lay there, and where it is now.
    """

    symbol: str
    name: str
    new_n: int
    problem: str = ""
    repaired: str = ""


def checked_names(text: str) -> tuple[str, ...]:
    """Read `open_interest,mark,index`; raise ConfigurationError for another name."""
    names = tuple(dict.fromkeys(one.strip() for one in text.split(",") if one.strip()))
    wrong = [one for one in names if one not in FEATURES]
    if wrong:
        raise ConfigurationError(f"--series {wrong[0]!r}: accepted: {', '.join(FEATURES)}")
    return names


async def fetch_series(
    settings: Settings, names: Sequence[str], days: float, root: Path, *, again: bool = False
) -> tuple[FetchedSeries, ...]:
    """Bring the last `days` of some series of the universe into the store, beside what is stored.

    again: ask for what is settled as absent too. Raises VenueError where the venue has none of a
    kind; a failing symbol stands in the answer.
    """
    source, found = Timeframe.parse(settings.market.source), list[FetchedSeries]()
    async with open_venue(settings) as there:
        for name in names:
            if not there.client.has(FEATURES[name]):
                raise VenueError(f"{settings.exchange.id} gives no history of {name}")
        since_ms = source.last_close(there.clock.now() - round(days * DAY_MS))
        for instrument in await there.feed.instruments():
            for name in names:
                symbol = instrument.key.symbol
                path = series_path(data_root(root), settings.exchange.id, symbol, name)
                asked = (there, source, path, symbol, name, since_ms)
                found.append(await fetch_one(*asked, again=again))
    return tuple(found)


async def fetch_one(
    there: OpenVenue,
    source: Timeframe,
    path: Path,
    symbol: str,
    name: str,
    since_ms: int,
    *,
    again: bool = False,
) -> FetchedSeries:
    """Bring one series up to date; its failure stands in the answer.

    Asked for is what lies before, after and in the holes of what is stored, and all that a damaged
    file had held.
    """
    repaired, problem, new_n = "", "", 0
    try:
        kept, repaired = await asyncio.to_thread(_kept, path)
        gone = lost(path)
        span = span_of([written for _, written in gone])
        since_ms = since_ms if span is None else min(since_ms, span[0])
        # the newest first: far back a venue may refuse to answer
        now_ms = there.clock.now()
        asked = _unknown(kept.ts, since_ms, now_ms, source)
        if not gone and not again:
            asked = list(without(asked, read_absence(path).settled))
        for first_ms, end_ms in reversed(asked):
            try:
                rows = await _pages(there.client, symbol, name, source, first_ms, end_ms)
            except (VenueError, BadPayload, Unanswered) as e:
                problem = problem or str(e)
            else:
                new_n += _stored(path, symbol, name, rows, source)
        if not problem:
            await asyncio.to_thread(_note_absence, path, asked, since_ms, now_ms, source)
        if gone and not problem:
            forget(aside for aside, _ in gone)
            back, _ = _kept(path)
            refuse_loss(path, [w for _, w in gone], np.unique(back.ts))
    except DataError as e:
        problem = problem or str(e)
    return FetchedSeries(symbol, name, new_n, problem, repaired)


def _kept(path: Path) -> tuple[Series, str]:
    """Read what is stored; a corrupt file is moved aside, and what is said of it comes second."""
    if not path.is_file():
        return EMPTY, ""
    try:
        return read_series(path), ""
    except CorruptFile as e:
        return EMPTY, f"{e}; it was moved to {set_aside(path).name} and fetched anew"


def _unknown(
    stored: Instants, since_ms: int, now_ms: int, source: Timeframe
) -> list[tuple[int, int]]:
    """Give the ranges of instants [first, end) about which nothing is stored."""
    last_ms = now_ms - source.ms + 1
    if not len(stored):
        return [(since_ms, last_ms)]
    ts = np.unique(stored)
    from_ms = int(ts[-1]) + 1
    for at in np.flatnonzero(np.diff(ts) >= HOLE_PERIODS * source.ms).tolist():
        if ts[at + 1] > since_ms:  # from the first hole on: a page is longer than most holes
            from_ms = int(ts[at]) + 1
            break
    ranges = [(since_ms, int(ts[0])), (max(since_ms, from_ms), last_ms)]
    return [(first, end) for first, end in ranges if first < end]


async def _pages(
    client: VenueClient, symbol: str, name: str, source: Timeframe, first_ms: int, end_ms: int
) -> dict[int, float]:
    async def ask(start_ms: int, end_ms: int, rows_n: int) -> list[tuple[int, float]]:
        del end_ms
        return await _page(client, symbol, name, source, start_ms, rows_n)

    if name == "open_interest":
        window = window_of_interest(client.api, client.exchange)
    else:
        window = window_of(client.api, client.exchange, name)
    return await whole_span(ask, first_ms, end_ms, source.ms, window, nearest_ms=1)


def _note_absence(
    path: Path, asked: Sequence[tuple[int, int]], since_ms: int, now_ms: int, source: Timeframe
) -> None:
    """Remember what was asked for in vain before the last observation."""
    kept, _ = _kept(path)
    if len(kept):
        still = _unknown(kept.ts, since_ms, now_ms, source)
        empty = common(common(still, asked), [(since_ms, int(kept.ts.max()))])
        note_empty(path, empty, now_ms)


def _stored(
    path: Path, symbol: str, name: str, rows: Mapping[int, float], source: Timeframe
) -> int:
    """Write what is new beside what is stored; what a daemon knew of an instant earlier stays."""
    with only_writer(path):
        return _united(path, symbol, name, rows, source)


def _united(
    path: Path, symbol: str, name: str, rows: Mapping[int, float], source: Timeframe
) -> int:
    kept, _ = _kept(path)
    known = set(kept.ts.tolist())
    ts = np.array(sorted(at for at in rows if at not in known), dtype=np.int64)
    if not len(ts):
        return 0
    fresh = series_of(ts, ts + source.ms, np.array([rows[at] for at in ts.tolist()]), kept.stale_ms)
    together: Series = merged_series(kept, fresh, str(path))
    write_series(path, together, series_facts(path, symbol, name))
    return len(together) - len(kept)


async def _page(
    client: VenueClient, symbol: str, name: str, source: Timeframe, since_ms: int, rows_n: int
) -> list[tuple[int, float]]:
    asked: tuple[Any, ...] = (unified_symbol(symbol), source.label, since_ms, rows_n)
    if name == "open_interest":
        entries, _ = await client.ask_patiently("fetch_open_interest_history", *asked)
        pairs = [(one["timestamp"], one["openInterestAmount"]) for one in entries]
    else:
        entries, _ = await client.ask_patiently("fetch_ohlcv", *asked, {"price": name})
        pairs = [(row[0], row[4]) for row in entries]
    bad = [pair for pair in pairs if any(not isinstance(x, int | float) for x in pair)]
    if bad:
        raise DataError(f"{client.exchange}, {name} of {symbol}: {bad[0]!r} is no observation")
    return [(int(ts), float(value)) for ts, value in pairs]
