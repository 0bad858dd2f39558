"""Import bars of other tools, and stores of our own layout, into the bar store.

Every file is read and judged before the first one is written, so a bad one leaves the store as it
was. A bar that is there already with other values stays unless `replace` says that the new one is
right, and either way it is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from adapters.clocks import SystemClock, TransportClock
from adapters.history.foreign import SUFFIXES, ForeignLayout, Label, TimeUnit, read_foreign
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
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.units import Timeframe, iso

_FUNDING_LABEL: Final = "funding"
Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """Report one file: what it held, and how it met the store.

    differ_n: stored rows with other values; replaced says which of the two stayed. twice_n: rows
    that the file held more than once. unclosed_n: bars left out because they had not closed.
    """

    source: Path
    target: Path
    rows: int
    new_n: int
    differ_n: int
    is_replaced: bool
    twice_n: int = 0
    unclosed_n: int = 0


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
) -> tuple[ImportedFile, ...]:
    """Bring files, or all files below folders, into the store at `folder`.

    A folder of our own layout keeps its venues unless `venue` is given; other files need one. Bars
    that close after `now_ms` are left out. Raises DataError or ConfigurationError naming file, row,
    column and value; then nothing was written.
    """
    root = data_root(folder)
    plans: dict[Path, _Plan] = {}
    for path in paths:
        for plan in _plans(path, root, venue, layout, now_ms, replace=replace):
            target = plan.report.target
            if target in plans:
                raise DataError(
                    f"{plan.report.source} and {plans[target].report.source} both go into "
                    f"{target}; import one after the other"
                )
            plans[target] = plan
    if not plans:
        raise DataError(
            f"{', '.join(map(str, paths))}: no file to import; accepted are {', '.join(SUFFIXES)}"
        )
    for plan in plans.values():
        plan.write()
    return tuple(plan.report for plan in plans.values())


def _plans(
    path: Path, root: Path, venue: str, layout: ForeignLayout, now_ms: int, *, replace: bool
) -> list[_Plan]:
    own = data_root(path)
    if (own / BARS_FOLDER).is_dir() or (own / FUNDING_FOLDER).is_dir():
        found = []
        for one in sorted(own.glob(f"{BARS_FOLDER}/*/*.parquet")):
            found.append(_own_bars(one, root, venue, now_ms, replace=replace))
        for one in sorted(own.glob(f"{FUNDING_FOLDER}/*/*-{_FUNDING_LABEL}.parquet")):
            found.append(_own_rates(one, root, venue, replace=replace))
        return found
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if not venue:
        raise ConfigurationError(f"{path}: say which venue it is of with --venue, as binanceusdm")
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    return [_foreign(one, root, venue, layout, now_ms, replace=replace) for one in files]


def _own_bars(path: Path, root: Path, venue: str, now_ms: int, *, replace: bool) -> _Plan:
    symbol, _, label = path.name.removesuffix(".parquet").rpartition("-")
    timeframe = Timeframe.parse(label)
    bars = read_bars(path, timeframe)
    where = venue or path.parent.name
    return _bars_plan(path, root, where, symbol, timeframe, bars, 0, now_ms, replace=replace)


def _foreign(
    path: Path, root: Path, venue: str, layout: ForeignLayout, now_ms: int, *, replace: bool
) -> _Plan:
    found = read_foreign(path, layout)
    return _bars_plan(
        path, root, venue, found.symbol, found.timeframe, found.bars, found.twice_n, now_ms,
        replace=replace,
    )  # fmt: skip


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
    stored = read_bars(target, timeframe) if target.exists() else NO_BARS
    together, differ_n = merged_bars(bars, stored) if replace else merged_bars(stored, bars)
    new_n = len(together) - len(stored)
    facts = {"venue": venue, "symbol": disk_symbol(symbol)}
    if _is_made(source) or _is_made(target):
        facts[ORIGIN] = GENERATED

    def write() -> None:
        if new_n or (differ_n and replace):
            write_bars(target, together, timeframe, facts)

    report = ImportedFile(
        source, target, len(bars), new_n, differ_n, replace and differ_n > 0, twice_n, unclosed_n
    )
    return _Plan(report, write)


def _is_made(path: Path) -> bool:
    return path.suffix == ".parquet" and path.is_file() and is_generated(path)


def _own_rates(path: Path, root: Path, venue: str, *, replace: bool) -> _Plan:
    symbol = path.name.removesuffix(f"-{_FUNDING_LABEL}.parquet")
    where = venue or path.parent.name
    rates, target = read_rates(path), funding_path(root, where, symbol)
    stored = read_rates(target) if target.exists() else NO_RATES
    together = merged_rates(rates, stored) if replace else merged_rates(stored, rates)
    differ_n = _differing(stored, rates)
    new_n = len(together) - len(stored)
    facts = {"venue": where, "symbol": disk_symbol(symbol), "timeframe": _FUNDING_LABEL}

    def write() -> None:
        if new_n or (differ_n and replace):
            write_rates(target, together, facts)

    report = ImportedFile(path, target, len(rates), new_n, differ_n, replace and differ_n > 0)
    return _Plan(report, write)


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
) -> tuple[ImportedFile, ...]:
    """Import as a command line says it; raises ConfigurationError for words it does not know."""
    if symbol and (len(paths) != 1 or paths[0].is_dir()):
        raise ConfigurationError(f"--symbol {symbol}: names one file's bars, so give one file")
    layout = ForeignLayout(
        label=_one_of(Label, "--label", label),
        unit=_one_of(TimeUnit, "--unit", unit),
        columns=columns,
        symbol=symbol,
        timeframe=Timeframe.parse(timeframe) if timeframe else None,
    )
    now_ms = SystemClock(TransportClock()).now()
    return import_files(paths, folder, venue, layout, now_ms=now_ms, replace=replace)


def _one_of(kind: type[Word], flag: str, value: str) -> Word:
    try:
        return kind(value)
    except ValueError:
        accepted = ", ".join(one.value for one in kind)
        raise ConfigurationError(f"{flag} {value!r}: accepted: {accepted}") from None
