"""Read what is to be imported: single files, folders of other tools, and files of one instrument.

In a folder, what its name says we do not keep is left out and named, so that the data folder of
another tool can be given as it is. Files of one name but for the month or day they are of are
parts of one history and are put together; where two parts overlap they must agree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from adapters.history.covariates import series_path
from adapters.history.foreign import ForeignLayout, Kind, is_named, read_foreign, undated
from adapters.history.foreign_beside import (
    kind_of,
    read_foreign_closes,
    read_foreign_rates,
    symbol_beside,
)
from adapters.history.foreign_cells import SUFFIXES, stem_of, suffix_of
from adapters.history.parquet_file import Bars, Rates
from adapters.history.store import bars_path, disk_symbol, funding_path
from daemon.domain.bar import Floats
from daemon.domain.covariates import Instants, Series, series_of
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.units import MINUTE_MS, Timeframe, iso

_LONG: Final = re.compile(r"[-_]\d+[dwM](?:[-_]|$)")  # lengths that are no part of a day
_ONE_DAY: Final = re.compile(r"[-_]1d(?:[-_]|$)")


@dataclass(frozen=True, slots=True)
class Source:
    """Hold what one or several files say about one target.

    series: name and market in the files' own words; parts share it. bad: rows left out, each with
    its file. length_ms: of bars and candles, 0 of rates.
    """

    paths: tuple[Path, ...]
    target: Path
    series: str
    kind: Kind
    symbol: str
    length_ms: int
    rows: Bars | Rates | Series
    twice_n: int
    bad: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """Hold what was read, one for each target, and what a folder held that was left out."""

    read: tuple[Source, ...]
    left_out: tuple[str, ...]


def read_sources(paths: Sequence[Path], root: Path, venue: str, layout: ForeignLayout) -> Sources:
    """Read files, and the files of folders; raises DataError or ConfigurationError naming them."""
    read: list[Source] = []
    left_out: list[str] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if not venue:
            raise ConfigurationError(
                f"{path}: say which venue it is of with --venue, as binanceusdm"
            )
        for one in _of_folder(path) if path.is_dir() else [path]:
            why = unkept(one, layout) if path.is_dir() else ""
            if why:
                left_out.append(f"{one}: left out: {why}")
            else:
                read.append(_read(one, root, venue, layout))
    chosen, coarser = _finest(read)
    return Sources(tuple(_together(chosen, layout)), (*left_out, *coarser))


def _of_folder(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def unkept(path: Path, layout: ForeignLayout) -> str:
    """Say by its name why a file of a folder is none of ours, or nothing."""
    if path.is_dir():
        return "a folder; give it as well to import what it holds"
    if suffix_of(path) not in SUFFIXES:
        return f"accepted are files of {', '.join(SUFFIXES)}"
    stem = stem_of(path)
    if layout.timeframe is None and _LONG.search(stem) and not _ONE_DAY.search(stem):
        return "its bars are longer than a day"
    try:
        kind = layout.kind or kind_of(path)
    except ConfigurationError as e:
        return str(e).removeprefix(f"{path}: ").partition(";")[0]
    if kind is Kind.BARS and not layout.symbol and not is_named(path):
        return "its name does not say which symbol it holds; give it alone, with --symbol"
    return ""


def _read(path: Path, root: Path, venue: str, layout: ForeignLayout) -> Source:
    kind = layout.kind or kind_of(path)
    if kind is Kind.FUNDING:
        told = read_foreign_rates(path, layout)
        target = funding_path(root, venue, told.symbol)
        named = f"{symbol_beside(path)} {kind}"
        return Source(
            (path,), target, named, kind, told.symbol, 0, told.rates, told.twice_n, told.bad
        )
    if kind is not Kind.BARS:
        closes = read_foreign_closes(path, layout)
        target = series_path(root, venue, closes.symbol, kind)
        named = f"{symbol_beside(path)} {kind}"
        return Source(
            (path,), target, named, kind, closes.symbol, closes.length_ms, closes.series,
            closes.twice_n, closes.bad,
        )  # fmt: skip
    found = read_foreign(path, layout)
    target = bars_path(root, venue, found.symbol, found.timeframe)
    return Source(
        (path,), target, undated(path), kind, disk_symbol(found.symbol), found.timeframe.ms,
        found.bars, found.twice_n, found.bad,
    )  # fmt: skip


def _finest(read: Sequence[Source]) -> tuple[list[Source], list[str]]:
    """Keep the shortest candles of mark or index of one instrument; name the others."""
    shortest: dict[Path, int] = {}
    for one in read:
        shortest[one.target] = min(one.length_ms, shortest.get(one.target, one.length_ms))
    chosen = [one for one in read if one.length_ms == shortest[one.target]]
    coarser = [
        f"{one.paths[0]}: left out: there are {one.kind} candles of "
        f"{Timeframe(shortest[one.target] // MINUTE_MS).label} of it"
        for one in read
        if one.length_ms != shortest[one.target]
    ]
    return chosen, coarser


def _together(read: Sequence[Source], layout: ForeignLayout) -> list[Source]:
    by_target: dict[Path, list[Source]] = {}
    for one in read:
        parts = by_target.setdefault(one.target, [])
        if parts and parts[0].series != one.series and not layout.symbol:
            raise DataError(
                f"{one.paths[0]} and {parts[0].paths[0]} both go into {one.target}, and by their "
                "names they may be different markets, as spot and perpetual; import the one that "
                "is meant, or say with --symbol that they are parts of one"
            )
        parts.append(one)
    return [_joined(parts) for parts in by_target.values()]


def _joined(parts: Sequence[Source]) -> Source:
    """Put parts of one history together; raises DataError where they contradict each other."""
    if len(parts) == 1:
        return parts[0]
    times, values, known = (
        np.concatenate(one) for one in zip(*(_columns(one.rows) for one in parts), strict=True)
    )
    part = np.repeat(np.arange(len(parts)), [len(one.rows) for one in parts])
    order = np.argsort(times, kind="stable")
    again = np.flatnonzero(np.diff(times[order]) == 0)
    differ = (values[order[again]] != values[order[again + 1]]).any(axis=1)
    if differ.any():
        first, second = (int(order[again[differ][0] + n]) for n in (0, 1))
        raise DataError(
            f"{parts[part[first]].paths[0]} and {parts[part[second]].paths[0]} both hold "
            f"{iso(int(times[first]))} of {parts[0].target.name}, with different values; "
            "import the one that is right"
        )
    order = order[np.diff(times[order], prepend=np.int64(-1)) != 0]
    return replace(
        parts[0],
        paths=tuple(path for one in parts for path in one.paths),
        rows=_rows_like(parts[0].rows, times[order], values[order], known[order]),
        twice_n=sum(one.twice_n for one in parts) + len(again),
        bad=tuple(f"{one.paths[0].name}: {why}" for one in parts for why in one.bad),
    )


def _columns(rows: Bars | Rates | Series) -> tuple[Instants, Floats, Instants]:
    match rows:
        case Bars():
            return rows.open_ms, rows.values, rows.open_ms
        case Rates():
            return rows.settle_ms, rows.rates[:, None], rows.settle_ms
        case Series():
            return rows.ts, rows.values[:, None], rows.known_ms


def _rows_like(
    one: Bars | Rates | Series, at_ms: Instants, rows: Floats, known_ms: Instants
) -> Bars | Rates | Series:
    match one:
        case Bars():
            return Bars(at_ms, np.ascontiguousarray(rows))
        case Rates():
            return Rates(at_ms, np.ascontiguousarray(rows[:, 0]))
        case Series():
            return series_of(at_ms, known_ms, rows[:, 0], one.stale_ms)
