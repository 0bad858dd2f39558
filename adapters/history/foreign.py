"""Read bars that other tools wrote: CSV, Feather, Parquet or JSON, with whatever columns they have.

Understood without being told: our own layout, candles with a `date` column (Feather, Parquet or
JSON rows), rows of [time, open, high, low, close, volume, ..] with or without a header, and common
names of columns; a column such as `close_time` names the end of a bar. Instants may be seconds,
milli-, micro- or nanoseconds since the epoch, or ISO 8601, where no offset means UTC. A file is
read whole or refused with the row, the column, the value and what is accepted, unless bad rows may
be left out; nothing is guessed about a bad cell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from adapters.history.foreign_cells import (
    END_NAMES,
    FIELD_NAMES,
    SKIP_HINT,
    TIME_NAMES,
    BadRows,
    Column,
    TimeUnit,
    column_of,
    read_cells,
    read_instants,
    read_numbers,
    stem_of,
)
from adapters.history.parquet_file import Bars, Instants, bars_problem
from adapters.history.store import QUOTES
from daemon.domain.bar import Floats
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.units import DAY_MS, Timeframe, iso

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "open": ("open", "o", "open_price"),
    "high": ("high", "h", "max", "high_price"),
    "low": ("low", "l", "min", "low_price"),
    "close": ("close", "c", "last", "close_price"),
    "volume": ("volume", "v", "vol", "base_volume", "volume_base", "basevolume"),
}
_DATED = re.compile(r"[-_]\d{4}(?:-\d{2}){0,2}$")
_NAME = re.compile(r"^(?P<symbol>.+?)[-_](?P<label>\d+[mh]|1d)(?:[-_](?:futures|spot))?$")


class Label(StrEnum):
    """Say which end of a bar its instant names."""

    OPEN = "open"
    CLOSE = "close"


class Kind(StrEnum):
    """Say what a file holds: bars, settled funding rates, candles of mark or index price."""

    BARS = "bars"
    FUNDING = "funding"
    MARK = "mark"
    INDEX = "index"


@dataclass(frozen=True, slots=True)
class ForeignLayout:
    """Say how a file is to be read where it does not follow from the file itself.

    label: None lets the name of the column say it. columns: ours (time, open, high, low, close,
    volume, rate) to the name in the file. kind: what it holds; None lets the name say it.
    skip_bad: leave out bad rows and list them, instead of refusing the file.
    """

    label: Label | None = None
    unit: TimeUnit = TimeUnit.AUTO
    columns: Mapping[str, str] = field(default_factory=dict)
    symbol: str = ""
    timeframe: Timeframe | None = None
    kind: Kind | None = None
    skip_bad: bool = False


@dataclass(frozen=True, slots=True)
class ForeignBars:
    """Hold what one file says; twice_n rows were there more than once, with the same values.

    bad: the rows that were left out, each with what is wrong with it.
    """

    path: Path
    symbol: str
    timeframe: Timeframe
    bars: Bars
    twice_n: int
    bad: tuple[str, ...] = ()


def read_foreign(path: Path, layout: ForeignLayout) -> ForeignBars:
    """Read one file of bars, oldest first; raise DataError naming file, row, column and value."""
    symbol, timeframe = _named(path, layout)
    bad = BadRows(path, skip=layout.skip_bad, hint=SKIP_HINT)
    table = read_cells(path, bad)
    columns, label = _columns(path, table, layout)
    times = read_instants(
        path, table[columns["time"]], columns["time"], layout.unit, bad,
        is_end=label is Label.CLOSE,
    )  # fmt: skip
    values = np.stack(
        [read_numbers(path, table[columns[one]], columns[one], bad) for one in FIELD_NAMES], axis=1
    )
    if not len(times):
        raise DataError(f"{path}: holds no row")
    length = timeframe or length_of(path, times[bad.kept(len(times))])
    open_ms = times - length.ms if label is Label.CLOSE else times

    def problem_of(at_ms: Instants, rows: Floats) -> str | None:
        problem = bars_problem(Bars(at_ms, rows), length)
        return problem and problem + _hint(problem, label)

    open_ms, values, twice_n = in_order(open_ms, values, bad, problem_of)
    return ForeignBars(path, symbol, length, Bars(open_ms, values), twice_n, bad.told)


def _hint(problem: str, label: Label) -> str:
    if "grid" not in problem:
        return ""
    return f"; instants were read as the {label} of a bar, say otherwise with --label"


def _named(path: Path, layout: ForeignLayout) -> tuple[str, Timeframe | None]:
    found = _NAME.match(undated(path))
    label = found["label"] if found else ""
    symbol = layout.symbol or symbol_in(found["symbol"] if found else undated(path))
    if not symbol:
        raise ConfigurationError(
            f"{path}: its name does not say which symbol it holds; name it with --symbol, as "
            "BTC/USDT:USDT or BTCUSDT"
        )
    known = layout.timeframe
    if known is None and label:
        known = Timeframe.parse("24h" if label == "1d" else label)
    return symbol, known


def undated(path: Path) -> str:
    """Give the name of a file without its ending and without the month or day it is of."""
    return _DATED.sub("", stem_of(path))


def is_named(path: Path) -> bool:
    """Tell whether the name of a file of bars says which symbol it holds."""
    found = _NAME.match(undated(path))
    return bool(symbol_in(found["symbol"] if found else undated(path)))


def symbol_in(name: str) -> str:
    """Read BTCUSDT, BTC_USDT, BTC_USDT_USDT or BTC-USDT-SWAP out of a file name; empty if none."""
    parts = [p for p in re.split(r"[-_ ]", name.upper()) if p not in ("SWAP", "PERP", "FUTURES")]
    if len(parts) == 3 and parts[1] == parts[2]:
        parts = parts[:2]
    plain = "".join(parts)
    known = any(plain.endswith(quote) and plain != quote for quote in QUOTES)
    return plain if len(parts) <= 2 and plain.isalnum() and known else ""


# ---- columns -------------------------------------------------------------------------------------


def _columns(
    path: Path, table: Mapping[str, Column], layout: ForeignLayout
) -> tuple[dict[str, str], Label]:
    time, label = time_column(path, table, layout, TIME_NAMES)
    found = {"time": time}
    for ours in FIELD_NAMES:
        wanted = layout.columns.get(ours)
        match = wanted if wanted in table else None
        if wanted is None:
            match = column_of(table, ALIASES[ours])
        elif match is None:
            raise ConfigurationError(
                f"{path}: column {wanted!r} for {ours} is not there; there are: {', '.join(table)}"
            )
        if match is None:
            raise _missing(path, ours, table)
        found[ours] = match
    return found, label


def time_column(
    path: Path, table: Mapping[str, Column], layout: ForeignLayout, names: Sequence[str]
) -> tuple[str, Label]:
    """Find the column of instants and which end of a bar they name, by its name if not told."""
    wanted = layout.columns.get("time")
    if wanted is not None and wanted not in table:
        raise ConfigurationError(
            f"{path}: column {wanted!r} for time is not there; there are: {', '.join(table)}"
        )
    begins = column_of(table, names)
    ends = column_of(table, END_NAMES)
    usual = ends or begins if layout.label is Label.CLOSE else begins or ends
    found = wanted or usual
    if found is None:
        raise _missing(path, "time", table)
    by_name = Label.CLOSE if found.lower() in END_NAMES else Label.OPEN
    return found, layout.label or by_name


def _missing(path: Path, ours: str, table: Mapping[str, Column]) -> DataError:
    return DataError(
        f"{path}: no column for {ours}; there are: {', '.join(table)}; name it with "
        f"--column {ours}=NAME"
    )


# ---- rows ----------------------------------------------------------------------------------------


def length_of(path: Path, times: Instants) -> Timeframe:
    """Find the length of bars by their instants; raise ConfigurationError if they do not say."""
    steps = np.diff(np.unique(times))
    if not len(steps) or int(steps.min()) % 60_000 or DAY_MS % int(steps.min()):
        raise ConfigurationError(
            f"{path}: neither its name nor its rows say how long its bars are; say it with "
            "--timeframe, as 30m or 1h"
        )
    return Timeframe(int(steps.min()) // 60_000)


ProblemOf = Callable[[Instants, Floats], str | None]


def in_order(
    at_ms: Instants, values: Floats, bad: BadRows, problem_of: ProblemOf
) -> tuple[Instants, Floats, int]:
    """Sort rows by time and leave the bad ones out; also give how many were there twice.

    values: (S, ..). Rows that are there twice must say the same, else both are bad. problem_of says
    what is wrong with rows in time order. Raises DataError for bad rows that are not left out.
    """
    sound = np.flatnonzero(bad.kept(len(at_ms)))
    order = sound[np.argsort(at_ms[sound], kind="stable")]
    order = order[~_contradicted(at_ms[order], values[order], order, bad)]
    first = np.diff(at_ms[order], prepend=np.int64(-1)) != 0
    twice_n = len(order) - int(np.count_nonzero(first))
    order = order[first]
    problem = problem_of(at_ms[order], values[order])
    if problem and not bad.skip:
        raise bad.refuse(f"in time order, {problem}")
    if problem:
        _peel(at_ms, values, order, bad, problem_of)
    order = order[bad.kept(len(at_ms))[order]]
    if not len(order):
        raise DataError(f"{bad.path}: holds no row")
    return at_ms[order], np.ascontiguousarray(values[order], dtype=np.float64), twice_n


def _contradicted(
    times: Instants, rows: Floats, order: Instants, bad: BadRows
) -> npt.NDArray[np.bool_]:
    """Tell which rows, in time order, name an instant that another one names with other values."""
    differs: list[int] = []
    for at in np.flatnonzero(np.diff(times) == 0).tolist():
        if np.array_equal(rows[at], rows[at + 1], equal_nan=True):
            continue
        first, second = sorted((int(order[at]), int(order[at + 1])))
        said = f"both hold {iso(int(times[at]))}, with different values"
        if not bad.skip:
            raise bad.refuse(f"rows {first} and {second} {said}")
        differs.append(int(times[at]))
    found = np.isin(times, differs)
    for at in np.flatnonzero(found).tolist():
        bad.add(int(order[at]), f" is one of several of {iso(int(times[at]))}, with other values")
    return found


def _peel(
    at_ms: Instants, values: Floats, order: Instants, bad: BadRows, problem_of: ProblemOf
) -> None:
    """Find the rows that break a rule by halving, so that sound stretches cost one look."""
    stretches = [order]
    while stretches:
        rows = stretches.pop()
        problem = problem_of(at_ms[rows], values[rows])
        if problem is None:
            continue
        if len(rows) > 1:
            stretches += [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        else:
            bad.add(int(rows[0]), problem.removeprefix("row 0"))
