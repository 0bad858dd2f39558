"""Fetch again what a store has lost: damaged files whole, files moved aside, and holes.

Works on the venue of the settings alone; damaged files of others are named. What came from
elsewhere (an import, a plug-in) no venue gives back: such a file is named and left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.exchange.reader import VenueReader
from adapters.history.covariates import FOLDER, list_series, series_path
from adapters.history.download import download, download_funding
from adapters.history.parquet_file import read_rates
from adapters.history.store import (
    BARS_FOLDER,
    FUNDING_FOLDER,
    data_root,
    list_bars,
)
from adapters.history.written import lost_files
from daemon.domain.failures import DataError
from daemon.domain.units import Timeframe
from daemon.settings import Settings
from daemon.wiring.data import PARALLEL_REQUESTS, OpenVenue, bars_from, open_venue, rates_from
from daemon.wiring.series_download import FEATURES, fetch_one

_SUFFIX: Final = ".parquet"
_FUNDING: Final = f"-funding{_SUFFIX}"


@dataclass(frozen=True, slots=True)
class Repair:
    """Tell what a repair brought back: texts for people, rows by file, and what it could not."""

    repaired: tuple[str, ...]
    rows_new: dict[str, int]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Damage:
    """Hold what is damaged or lost of one venue, by symbol as in file names."""

    bars: dict[Timeframe, list[str]]
    funding: list[str]
    series: list[tuple[str, str]]  # symbol and name

    def __bool__(self) -> bool:
        return bool(self.bars or self.funding or self.series)


async def repair_store(
    settings: Settings,
    folder: Path,
    progress: Callable[[str], None] = lambda what: None,
) -> Repair:
    """Fetch what is damaged, lost or missing in a store from the venue of the settings.

    Nothing is asked where nothing is wrong. A file that fails stands among the problems.
    """
    root, venue = data_root(folder), settings.exchange.id
    damage, foreign = _damage(root, venue)
    repaired: list[str] = []
    rows_new: dict[str, int] = {}
    problems = list(foreign)
    if not damage:
        return Repair((), {}, tuple(problems))
    async with open_venue(settings) as there:
        for timeframe, symbols in sorted(damage.bars.items()):
            progress(f"bars of {timeframe.label}")
            found = await download(
                bars_from(_reader(there, timeframe), timeframe),
                symbols,
                timeframe,
                there.clock.now(),
                0,  # no more than what is lost and the holes
                root,
                venue=venue,
                generated=settings.exchange.generated,
                page_bars=there.page_bars,
                holes=True,
                now_ms=there.clock.now(),
            )
            repaired += [one.repaired for one in found.symbols if one.repaired]
            rows_new |= {str(one.path): one.rows_new for one in found.symbols if one.rows_new}
            problems += found.problems
        progress("funding")
        rates = rates_from(there.reader)
        never = (there.clock.now(), 0)
        failed = await download_funding(
            rates, damage.funding, *never, root, venue=venue, on_repaired=repaired.append
        )
        problems += [f"{symbol}, funding: {why}" for symbol, why in failed.items()]
        source = Timeframe.parse(settings.market.source)
        for symbol, name in damage.series:
            progress(f"{name} of {symbol}")
            path = series_path(root, venue, symbol, name)
            one = await fetch_one(there, source, path, symbol, name, there.clock.now())
            repaired += [one.repaired] if one.repaired else []
            rows_new |= {str(path): one.new_n} if one.new_n else {}
            problems += [f"{symbol}, {name}: {one.problem}"] if one.problem else []
    return Repair(tuple(repaired), rows_new, tuple(problems))


def _reader(there: OpenVenue, timeframe: Timeframe) -> VenueReader:
    return VenueReader(there.client, there.clock, timeframe, parallel=PARALLEL_REQUESTS)


def _damage(root: Path, venue: str) -> tuple[_Damage, list[str]]:
    """Find what is damaged or lost of a venue; second, what is wrong but not ours to repair."""
    foreign: list[str] = []
    bars: dict[Timeframe, set[str]] = {}
    for one in list_bars(root, deep=True):
        if one.problem and one.venue != venue:
            foreign.append(_elsewhere(one.venue, one.problem))
        elif one.venue == venue and (one.problem or one.gaps):
            bars.setdefault(one.timeframe, set()).add(one.symbol)
    for path in lost_files(root / BARS_FOLDER / venue, _SUFFIX):
        symbol, _, label = path.name.removesuffix(_SUFFIX).rpartition("-")
        bars.setdefault(Timeframe.parse(label), set()).add(symbol)
    funding = {p.name.removesuffix(_FUNDING) for p in lost_files(root / FUNDING_FOLDER / venue, "")}
    for path in sorted((root / FUNDING_FOLDER).glob(f"*/*{_FUNDING}")):
        try:
            read_rates(path)
        except DataError as e:
            if path.parent.name == venue:
                funding.add(path.name.removesuffix(_FUNDING))
            else:
                foreign.append(_elsewhere(path.parent.name, str(e)))
    series = {_named(p) for p in lost_files(root / FOLDER / venue, "")}
    for found in list_series(root):
        if not found.problem:
            continue
        if found.source == venue and found.name in FEATURES:
            series.add((found.symbol, found.name))
        else:
            foreign.append(f"{found.problem}; bring it in again with import-series --replace")
    ordered = {timeframe: sorted(symbols) for timeframe, symbols in bars.items()}
    return _Damage(ordered, sorted(funding), sorted(series)), foreign


def _named(path: Path) -> tuple[str, str]:
    symbol, _, name = path.name.removesuffix(_SUFFIX).partition("-")
    return symbol, name


def _elsewhere(venue: str, problem: str) -> str:
    return f"{problem}; to fetch it again say --set exchange.id={venue}"
