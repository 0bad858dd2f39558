"""Import bars and funding of other tools, and stores of our own layout, into the store.

Every file is read and judged before the first one is written, so a bad one leaves the store as it
was. A bar that is there already with other values stays unless `replace` says that the new one is
right, and either way it is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_fields
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from adapters.clocks import SystemClock, TransportClock
from adapters.history.covariates import (
    EMPTY,
    read_series,
    series_facts,
    write_series,
)
from adapters.history.foreign import ForeignLayout, Kind, Label
from adapters.history.foreign_cells import SUFFIXES, TimeUnit
from adapters.history.locks import only_writer
from adapters.history.parquet_file import (
    GENERATED,
    NO_BARS,
    NO_RATES,
    ORIGIN,
    Bars,
    Rates,
    is_generated,
    merged_bars,
    merged_rates,
    read_bars,
    read_rates,
    write_bars,
    write_rates,
)
from adapters.history.store import (
    BARS_FOLDER,
    FUNDING_FOLDER,
    bars_path,
    data_root,
    disk_symbol,
    funding_path,
)
from daemon.domain.covariates import Series, series_of
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.units import MINUTE_MS, Timeframe, iso
from daemon.wiring.import_sources import Source, read_sources

_FUNDING_LABEL: Final = "funding"
Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """Report one file: what it held, and how it met the store.

    differ_n: stored rows with other values; replaced says which of the two stayed. twice_n: rows
    that the file held more than once. unclosed_n: bars left out because they had not closed. bad:
    the rows left out because something is wrong with them. sources: all files where `source` is
    the first of several parts.
    """

    source: Path
    target: Path
    rows: int
    new_n: int
    differ_n: int
    is_replaced: bool
    twice_n: int = 0
    unclosed_n: int = 0
    bad: tuple[str, ...] = ()
    sources: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """Report an import: what came in, and what a folder held that was left out, with why."""

    files: tuple[ImportedFile, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    report: ImportedFile
    write: Callable[[], None]


def import_files(
    paths: Sequence[Path],
    folder: Path,
    venue: str,
    layout: ForeignLayout,
    *,
    now_ms: int,
    replace: bool = False,
) -> Imported:
    """Bring files, or all files of folders, into the store at `folder`.

    A folder of our own layout keeps its venues unless `venue` is given; other files need one. Bars
    that close after `now_ms` are left out. Files of one name but for their month or day, and all
    files where the layout names a symbol, are parts of one history. Raises DataError or
    ConfigurationError naming file, row, column and value; then nothing was written.
    """
    root = data_root(folder)
    own = [path for path in paths if _is_store(path)]
    found = read_sources([path for path in paths if path not in own], root, venue, layout)
    planned = [
        plan for path in own for plan in _own_plans(path, root, venue, now_ms, replace=replace)
    ]
    planned += [_foreign(one, root, venue, now_ms, replace=replace) for one in found.read]
    plans: dict[Path, _Plan] = {}
    for plan in planned:
        target = plan.report.target
        if target in plans:
            raise DataError(
                f"{plan.report.source} and {plans[target].report.source} both go into "
                f"{target}; import one after the other"
            )
        plans[target] = plan
    if not plans:
        named = "; ".join(found.left_out)
        raise DataError(
            f"{', '.join(map(str, paths))}: no file to import; accepted are {', '.join(SUFFIXES)}"
            + (f"; {named}" if named else "")
        )
    for plan in plans.values():
        plan.write()
    return Imported(tuple(plan.report for plan in plans.values()), found.left_out)


def _is_store(path: Path) -> bool:
    own = data_root(path)
    return (own / BARS_FOLDER).is_dir() or (own / FUNDING_FOLDER).is_dir()


def _own_plans(path: Path, root: Path, venue: str, now_ms: int, *, replace: bool) -> list[_Plan]:
    own = data_root(path)
    found = []
    for one in sorted(own.glob(f"{BARS_FOLDER}/*/*.parquet")):
        found.append(_own_bars(one, root, venue, now_ms, replace=replace))
    for one in sorted(own.glob(f"{FUNDING_FOLDER}/*/*-{_FUNDING_LABEL}.parquet")):
        found.append(_own_rates(one, root, venue, replace=replace))
    return found


def _own_bars(path: Path, root: Path, venue: str, now_ms: int, *, replace: bool) -> _Plan:
    symbol, _, label = path.name.removesuffix(".parquet").rpartition("-")
    timeframe = Timeframe.parse(label)
    bars = read_bars(path, timeframe)
    where = venue or path.parent.name
    return _bars_plan(path, root, where, symbol, timeframe, bars, 0, now_ms, replace=replace)


def _foreign(found: Source, root: Path, venue: str, now_ms: int, *, replace: bool) -> _Plan:
    """Plan what one target gets, from one file or from several parts."""
    source = found.paths[0]
    match found.rows:
        case Bars() as bars:
            timeframe = Timeframe(found.length_ms // MINUTE_MS)
            plan = _bars_plan(
                source, root, venue, found.symbol, timeframe, bars, found.twice_n, now_ms,
                replace=replace,
            )  # fmt: skip
        case Rates() as told:
            settled = told.settle_ms <= now_ms
            rates = Rates(told.settle_ms[settled], told.rates[settled])
            counts = (found.twice_n, int(np.count_nonzero(~settled)))
            plan = _rates_plan(source, root, venue, found.symbol, rates, *counts, replace=replace)
        case Series() as series:
            plan = _series_plan(found, series, now_ms, replace=replace)
    report = with_fields(plan.report, bad=found.bad, sources=found.paths)
    return _Plan(report, plan.write)


def _bars_plan(
    source: Path,
    root: Path,
    venue: str,
    symbol: str,
    timeframe: Timeframe,
    bars: Bars,
    twice_n: int,
    now_ms: int,
    *,
    replace: bool,
) -> _Plan:
    closed = bars.open_ms + timeframe.ms <= now_ms
    unclosed_n = int(np.count_nonzero(~closed))
    if unclosed_n:
        noted = bars.provenance
        bars = Bars(bars.open_ms[closed], bars.values[closed], noted and noted.at(closed))
    if not len(bars):
        raise DataError(f"{source}: none of its bars closed by {iso(now_ms)}")
    target = bars_path(root, venue, symbol, timeframe)

    def united() -> tuple[Bars, Bars, int]:
        stored = read_bars(target, timeframe) if target.exists() else NO_BARS
        return stored, *(merged_bars(bars, stored) if replace else merged_bars(stored, bars))

    stored, together, differ_n = united()
    new_n = len(together) - len(stored)
    facts = {"venue": venue, "symbol": disk_symbol(symbol)}
    if _is_made(source) or _is_made(target):
        facts[ORIGIN] = GENERATED

    def write() -> None:
        if new_n or (differ_n and replace):
            with only_writer(target):  # a running daemon may have recorded since we looked
                write_bars(target, united()[1], timeframe, facts)

    report = ImportedFile(
        source, target, len(bars), new_n, differ_n, replace and differ_n > 0, twice_n, unclosed_n
    )
    return _Plan(report, write)


def _is_made(path: Path) -> bool:
    return path.suffix == ".parquet" and path.is_file() and is_generated(path)


def _own_rates(path: Path, root: Path, venue: str, *, replace: bool) -> _Plan:
    symbol = path.name.removesuffix(f"-{_FUNDING_LABEL}.parquet")
    where = venue or path.parent.name
    return _rates_plan(path, root, where, symbol, read_rates(path), 0, 0, replace=replace)


def _rates_plan(
    path: Path,
    root: Path,
    where: str,
    symbol: str,
    rates: Rates,
    twice_n: int,
    unsettled_n: int,
    *,
    replace: bool,
) -> _Plan:
    if not len(rates):
        raise DataError(f"{path}: none of its rates has settled yet")
    target = funding_path(root, where, symbol)

    def united() -> tuple[Rates, Rates]:
        stored = read_rates(target) if target.exists() else NO_RATES
        return stored, merged_rates(rates, stored) if replace else merged_rates(stored, rates)

    stored, together = united()
    differ_n = _differing(stored, rates)
    new_n = len(together) - len(stored)
    facts = {"venue": where, "symbol": disk_symbol(symbol), "timeframe": _FUNDING_LABEL}

    def write() -> None:
        if new_n or (differ_n and replace):
            with only_writer(target):
                write_rates(target, united()[1], facts)

    is_replaced = replace and differ_n > 0
    report = ImportedFile(
        path, target, len(rates), new_n, differ_n, is_replaced, twice_n, unsettled_n
    )
    return _Plan(report, write)


def _series_plan(found: Source, series: Series, now_ms: int, *, replace: bool) -> _Plan:
    """Plan to keep closes of mark or index beside what was known earlier or is there already."""
    path, target = found.paths[0], found.target
    left_n = len(series)
    series = series.known_at(now_ms)
    left_n -= len(series)
    if not len(series):
        raise DataError(f"{path}: none of its candles closed by {iso(now_ms)}")
    stored, _ = _united_series(target, series, replace=replace)
    values = dict(zip(stored.ts.tolist(), stored.values.tolist(), strict=True))
    theirs = list(zip(series.ts.tolist(), series.values.tolist(), strict=True))
    differ_n = sum(values.get(ts, value) != value for ts, value in theirs)
    new_n = int(np.count_nonzero(~np.isin(series.ts, stored.ts)))
    is_replaced = replace and differ_n > 0

    def write() -> None:
        if new_n or is_replaced:
            with only_writer(target):  # a running daemon may have collected since we looked
                together = _united_series(target, series, replace=replace)[1]
                write_series(target, together, series_facts(target, found.symbol, found.kind))

    report = ImportedFile(
        path, target, len(series), new_n, differ_n, is_replaced, found.twice_n, left_n
    )
    return _Plan(report, write)


def _united_series(target: Path, series: Series, *, replace: bool) -> tuple[Series, Series]:
    """Give what is stored, and it with the imported observations of instants that it lacks."""
    stored = read_series(target) if target.is_file() else EMPTY
    mine, new = (series, stored) if replace else (stored, series)
    fresh = ~np.isin(new.ts, mine.ts)
    return stored, series_of(
        np.concatenate([mine.ts, new.ts[fresh]]),
        np.concatenate([mine.known_ms, new.known_ms[fresh]]),
        np.concatenate([mine.values, new.values[fresh]]),
        stored.stale_ms,
    )


def _differing(one: Rates, other: Rates) -> int:
    _, at_one, at_other = np.intersect1d(one.settle_ms, other.settle_ms, return_indices=True)
    return int(np.count_nonzero(one.rates[at_one] != other.rates[at_other]))


def imported(
    paths: Sequence[Path],
    folder: Path,
    *,
    venue: str,
    symbol: str,
    timeframe: str,
    label: str,
    unit: str,
    columns: Mapping[str, str],
    replace: bool,
    kind: str = "",
    skip_bad: bool = False,
) -> Imported:
    """Import as a command line says it; raises ConfigurationError for words it does not know.

    Empty words leave it to the files.
    """
    folders = [path for path in paths if path.is_dir()]
    if symbol and folders:
        raise ConfigurationError(
            f"--symbol {symbol}: names what single files hold; give files instead of {folders[0]}"
        )
    layout = ForeignLayout(
        label=_one_of(Label, "--label", label) if label else None,
        unit=_one_of(TimeUnit, "--unit", unit),
        columns=columns,
        symbol=symbol,
        timeframe=Timeframe.parse(timeframe) if timeframe else None,
        kind=_one_of(Kind, "--kind", kind) if kind else None,
        skip_bad=skip_bad,
    )
    now_ms = SystemClock(TransportClock()).now()
    return import_files(paths, folder, venue, layout, now_ms=now_ms, replace=replace)


def _one_of(kind: type[Word], flag: str, value: str) -> Word:
    try:
        return kind(value)
    except ValueError:
        accepted = ", ".join(one.value for one in kind)
        raise ConfigurationError(f"{flag} {value!r}: accepted: {accepted}") from None
