"""Fetch the series that a venue publishes beside its bars: open interest, mark and index price.

A candle of mark or index is about its open and known from its close, an open interest is known a
period after the instant it names, since venues publish it late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from adapters.exchange.client import VenueClient
from adapters.exchange.failures import Unanswered
from adapters.history.covariates import (
    EMPTY,
    merged_series,
    read_series,
    series_path,
    write_series,
)
from adapters.history.store import data_root
from daemon.domain.covariates import Series, series_of
from daemon.domain.failures import ConfigurationError, DataError, VenueError
from daemon.domain.units import DAY_MS, Timeframe
from daemon.settings import Settings
from daemon.wiring.data import open_venue

FEATURES: Final[Mapping[str, str]] = {
    "open_interest": "fetchOpenInterestHistory",
    "mark": "fetchMarkOHLCV",
    "index": "fetchIndexOHLCV",
}
PAGE_ROWS: Final = 500
PAGES_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class FetchedSeries:
    """Tell what was fetched of one series of one symbol; `problem` says why it was not."""

    symbol: str
    name: str
    new_n: int
    problem: str = ""


def checked_names(text: str) -> tuple[str, ...]:
    """Read `open_interest,mark,index`; raise ConfigurationError for another name."""
    names = tuple(dict.fromkeys(one.strip() for one in text.split(",") if one.strip()))
    wrong = [one for one in names if one not in FEATURES]
    if wrong:
        raise ConfigurationError(f"--series {wrong[0]!r}: accepted: {', '.join(FEATURES)}")
    return names


async def fetch_series(
    settings: Settings, names: Sequence[str], days: float, root: Path
) -> tuple[FetchedSeries, ...]:
    """Bring the last `days` of some series of the universe into the store, after what is stored.

    Raises VenueError where the venue has none of a kind; a failing symbol stands in the answer.
    """
    source, found = Timeframe.parse(settings.market.source), list[FetchedSeries]()
    async with open_venue(settings) as there:
        for name in names:
            if not there.client.has(FEATURES[name]):
                raise VenueError(f"{settings.exchange.id} gives no history of {name}")
        now_ms = there.clock.now()
        since_ms = source.last_close(now_ms - round(days * DAY_MS))
        for instrument in await there.feed.instruments():
            symbol = instrument.key.symbol
            for name in names:
                path = series_path(data_root(root), settings.exchange.id, symbol, name)
                try:
                    new_n = await _fetch(there.client, symbol, name, source, since_ms, now_ms, path)
                except (DataError, Unanswered) as e:
                    found.append(FetchedSeries(symbol, name, 0, str(e)))
                else:
                    found.append(FetchedSeries(symbol, name, new_n))
    return tuple(found)


async def _fetch(
    client: VenueClient,
    symbol: str,
    name: str,
    source: Timeframe,
    since_ms: int,
    now_ms: int,
    path: Path,
) -> int:
    kept = _kept(path)
    cursor_ms = max(since_ms, int(kept.ts.max()) + 1) if len(kept) else since_ms
    rows: dict[int, float] = {}
    for _ in range(PAGES_MAX):
        page = await _page(client, symbol, name, source, cursor_ms)
        new = {ts: value for ts, value in page if cursor_ms <= ts and ts + source.ms <= now_ms}
        if not new:
            break
        rows |= new
        cursor_ms = max(new) + 1
    if not rows:
        return 0
    ts = np.array(sorted(rows), dtype=np.int64)
    values = np.array([rows[at] for at in ts.tolist()])
    fresh = series_of(ts, ts + source.ms, values)
    together: Series = merged_series(kept, fresh, str(path))
    write_series(path, together, {"source": path.parent.name, "symbol": symbol, "name": name})
    return len(together) - len(kept)


def _kept(path: Path) -> Series:
    return read_series(path) if path.is_file() else EMPTY


async def _page(
    client: VenueClient, symbol: str, name: str, source: Timeframe, since_ms: int
) -> list[tuple[int, float]]:
    asked: tuple[Any, ...] = (symbol, source.label, since_ms, PAGE_ROWS)
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
