"""Read bars that other tools wrote: CSV, Feather, Parquet or JSON, with whatever columns they have.

Understood without being told: our own layout, candles with a `date` column (Feather, Parquet or
JSON rows), rows of [time, open, high, low, close, volume, ..] with or without a header, and common
names of columns. Instants may be seconds, milli-, micro- or nanoseconds since the epoch, or
ISO 8601, where no offset means UTC. A file is read whole or refused with the row, the column, the
value and what is accepted; nothing is guessed about a bad cell.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from adapters.history.parquet_file import Bars, Instants, bars_problem
from adapters.history.store import QUOTES
from daemon.domain.bar import Floats
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.units import DAY_MS, Timeframe, iso

FIELD_NAMES: Final = ("open", "high", "low", "close", "volume")
TIME_NAMES: Final = (
    "ts", "time", "timestamp", "date", "datetime", "open_time", "opentime", "open time", "unix",
    "start", "time_open", "period_start",
)  # fmt: skip
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "open": ("open", "o", "open_price"),
    "high": ("high", "h", "max", "high_price"),
    "low": ("low", "l", "min", "low_price"),
    "close": ("close", "c", "last", "close_price"),
    "volume": ("volume", "v", "vol", "base_volume", "volume_base", "basevolume"),
}
SUFFIXES: Final = (".csv", ".feather", ".parquet", ".json")
_UNIT_MS: Final = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_NAME = re.compile(r"^(?P<symbol>.+?)[-_](?P<label>\d+[mh]|1d)(?:[-_](?:futures|spot|mark))?$")


class Label(StrEnum):
    """Say which end of a bar its instant names."""

    OPEN = "open"
    CLOSE = "close"


class TimeUnit(StrEnum):
    """Say how instants are written; auto tells numbers apart by their size."""

    AUTO = "auto"
    S = "s"
    MS = "ms"
    US = "us"
    NS = "ns"
    ISO = "iso"


@dataclass(frozen=True, slots=True)
class ForeignLayout:
    """Say how a file is to be read where it does not follow from the file itself.

    columns: ours (time, open, high, low, close, volume) to the name in the file.
    """

    label: Label = Label.OPEN
    unit: TimeUnit = TimeUnit.AUTO
    columns: Mapping[str, str] = field(default_factory=dict)
    symbol: str = ""
    timeframe: Timeframe | None = None


@dataclass(frozen=True, slots=True)
class ForeignBars:
    """Hold what one file says; twice_n rows were there more than once, with the same values."""

    path: Path
    symbol: str
    timeframe: Timeframe
    bars: Bars
    twice_n: int


Column = Sequence[Any] | Floats


def read_foreign(path: Path, layout: ForeignLayout) -> ForeignBars:
    """Read one file of bars, oldest first; raise DataError naming file, row, column and value."""
    symbol, timeframe = _named(path, layout)
    table = read_cells(path)
    columns = _columns(path, table, layout)
    times = read_instants(path, table[columns["time"]], columns["time"], layout.unit)
    values = np.stack(
        [read_numbers(path, table[columns[one]], columns[one]) for one in FIELD_NAMES], axis=1
    )
    if not len(times):
        raise DataError(f"{path}: holds no row")
    length = timeframe or _length_of(path, times)
    open_ms = times - length.ms if layout.label is Label.CLOSE else times
    bars, twice_n = _in_order(path, open_ms, values)
    problem = bars_problem(bars, length)
    if problem:
        raise DataError(f"{path}: in time order, {problem}{_hint(problem, layout)}")
    return ForeignBars(path, symbol, length, bars, twice_n)


def _hint(problem: str, layout: ForeignLayout) -> str:
    if "grid" not in problem:
        return ""
    return f"; instants were read as the {layout.label} of a bar, say otherwise with --label"


def _named(path: Path, layout: ForeignLayout) -> tuple[str, Timeframe | None]:
    found = _NAME.match(path.name.removesuffix(path.suffix))
    label = found["label"] if found else ""
    symbol = layout.symbol or _symbol_in(found["symbol"] if found else path.stem)
    if not symbol:
        raise ConfigurationError(
            f"{path}: its name does not say which symbol it holds; name it with --symbol, as "
            "BTC/USDT:USDT or BTCUSDT"
        )
    known = layout.timeframe
    if known is None and label:
        known = Timeframe.parse("24h" if label == "1d" else label)
    return symbol, known


def _symbol_in(name: str) -> str:
    """Read BTCUSDT, BTC_USDT, BTC_USDT_USDT or BTC-USDT-SWAP out of a file name; empty if none."""
    parts = [p for p in re.split(r"[-_ ]", name.upper()) if p not in ("SWAP", "PERP", "FUTURES")]
    if len(parts) == 3 and parts[1] == parts[2]:
        parts = parts[:2]
    plain = "".join(parts)
    known = any(plain.endswith(quote) and plain != quote for quote in QUOTES)
    return plain if plain.isalnum() and known else ""


# ---- tables --------------------------------------------------------------------------------------


def read_cells(path: Path) -> dict[str, Column]:
    """Read all columns of a file as they are; raise DataError for one that is no table."""
    try:
        match path.suffix.lower():
            case ".csv":
                return _from_csv(path)
            case ".json":
                return _from_json(path)
            case ".feather":
                return _from_arrow(feather.read_table(path, memory_map=False))
            case ".parquet":
                return _from_arrow(pq.read_table(path, memory_map=False, partitioning=None))
            case _:
                raise DataError(f"{path}: accepted are files of {', '.join(SUFFIXES)}")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, ValueError, csv.Error) as e:
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise DataError(f"{path}: is no readable {path.suffix[1:]} file: {reason}") from e


def _from_csv(path: Path) -> dict[str, Column]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.read(4096)
        file.seek(0)
        delimiter = max(",;\t|", key=head.partition("\n")[0].count)
        rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
    if not rows:
        raise DataError(f"{path}: is empty")
    first, body = rows[0], rows[1:]
    if _is_number(first[0]) and all(_is_number(cell) for cell in first[1:6]):
        first, body = _unnamed(path, len(first)), rows
    for number, row in enumerate(body):
        if len(row) != len(first):
            raise DataError(
                f"{path}: row {number} has {len(row)} cells, the first line has {len(first)}"
            )
    return {name.strip(): [row[at] for row in body] for at, name in enumerate(first)}


def _from_json(path: Path) -> dict[str, Column]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise DataError(
            f"{path}: accepted is a list of rows [time, open, high, low, close, volume]"
        )
    width = len(rows[0]) if rows else 6
    names = _unnamed(path, width)
    for number, row in enumerate(rows):
        if len(row) != width:
            raise DataError(f"{path}: row {number} has {len(row)} cells, row 0 has {width}")
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}


def _unnamed(path: Path, width: int) -> list[str]:
    if width < 6:
        raise DataError(
            f"{path}: has {width} columns without names; accepted are at least 6: time, open, "
            "high, low, close, volume"
        )
    return ["time", *FIELD_NAMES, *(f"column {n}" for n in range(6, width))]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _from_arrow(table: Any) -> dict[str, Column]:
    found: dict[str, Column] = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_timestamp(column.type):
            per_ms = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}[column.type.unit]
            whole = column.cast(pa.int64()).to_pylist()
            found[name] = [None if t is None else _Instant(t * per_ms) for t in whole]
        elif pa.types.is_floating(column.type) and not column.null_count:
            found[name] = np.concatenate([np.empty(0), *(np.asarray(c) for c in column.chunks)])
        else:
            found[name] = column.to_pylist()
    return found


class _Instant(float):
    """Hold milliseconds that a file's own type says are an instant."""


# ---- cells ---------------------------------------------------------------------------------------


def _columns(path: Path, table: Mapping[str, Column], layout: ForeignLayout) -> dict[str, str]:
    by_lower = {name.lower(): name for name in reversed(list(table))}
    found: dict[str, str] = {}
    for ours in ("time", *FIELD_NAMES):
        wanted = layout.columns.get(ours)
        if wanted is not None:
            if wanted not in table:
                raise ConfigurationError(
                    f"{path}: column {wanted!r} for {ours} is not there; there are: "
                    f"{', '.join(table)}"
                )
            found[ours] = wanted
            continue
        names = TIME_NAMES if ours == "time" else ALIASES[ours]
        match = next((by_lower[name] for name in names if name in by_lower), None)
        if match is None:
            raise DataError(
                f"{path}: no column for {ours}; there are: {', '.join(table)}; name it with "
                f"--column {ours}=NAME"
            )
        found[ours] = match
    return found


def read_numbers(path: Path, column: Column, name: str) -> Floats:
    """Read a column of numbers; raise DataError naming file, row, column and value."""
    if isinstance(column, np.ndarray):
        return column
    found = np.empty(len(column))
    for row, cell in enumerate(column):
        try:
            found[row] = float(cell)
        except (TypeError, ValueError):
            raise _bad_cell(path, row, name, cell, "a number with a decimal point") from None
    return found


def read_instants(path: Path, column: Column, name: str, unit: TimeUnit) -> Instants:
    """Read a column of instants in ms; raise DataError naming file, row, column and value."""
    found = np.empty(len(column), dtype=np.int64)
    for row, cell in enumerate(column):
        moment = _moment_ms(cell, unit)
        if moment is None or moment != int(moment) or not 0 < moment < 100_000 * DAY_MS:
            accepted = (
                "an instant of whole milliseconds after 1970: seconds, ms, us or ns since the "
                "epoch, or ISO 8601"
                if unit is TimeUnit.AUTO
                else f"an instant in {unit} (--unit)"
            )
            raise _bad_cell(path, row, name, cell, accepted)
        found[row] = int(moment)
    return found


def _moment_ms(cell: Any, unit: TimeUnit) -> float | None:
    if isinstance(cell, _Instant):
        return float(cell)
    if isinstance(cell, datetime):
        return (cell if cell.tzinfo else cell.replace(tzinfo=UTC)).timestamp() * 1000
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return _iso_ms(cell) if unit in (TimeUnit.AUTO, TimeUnit.ISO) else None
    if unit is TimeUnit.ISO or not np.isfinite(number):
        return None
    if unit is TimeUnit.AUTO:
        size = abs(number)
        unit = TimeUnit.NS if size > 1e17 else TimeUnit.US if size > 1e14 else TimeUnit.MS
        unit = TimeUnit.S if size < 1e11 else unit
    return round(number * _UNIT_MS[unit], 3)


def _iso_ms(cell: Any) -> float | None:
    try:
        moment = datetime.fromisoformat(str(cell).strip())
    except ValueError:
        return None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000, 3)


def _bad_cell(path: Path, row: int, name: str, cell: object, accepted: str) -> DataError:
    return DataError(f"{path}: row {row}, column {name!r}: {cell!r}; accepted: {accepted}")


# ---- rows ----------------------------------------------------------------------------------------


def _length_of(path: Path, times: Instants) -> Timeframe:
    steps = np.diff(np.unique(times))
    if not len(steps) or int(steps.min()) % 60_000 or DAY_MS % int(steps.min()):
        raise ConfigurationError(
            f"{path}: neither its name nor its rows say how long its bars are; say it with "
            "--timeframe, as 30m or 1h"
        )
    return Timeframe(int(steps.min()) // 60_000)


def _in_order(path: Path, open_ms: Instants, values: Floats) -> tuple[Bars, int]:
    """Sort by time; rows that are there twice must say the same."""
    order = np.argsort(open_ms, kind="stable")
    times, rows = open_ms[order], values[order]
    again = np.flatnonzero(np.diff(times) == 0)
    for at in again.tolist():
        if not np.array_equal(rows[at], rows[at + 1], equal_nan=True):
            first, second = int(order[at]), int(order[at + 1])
            raise DataError(
                f"{path}: rows {first} and {second} both hold the bar of {iso(int(times[at]))}, "
                "with different values"
            )
    keep = np.concatenate([[True], np.diff(times) != 0])
    return Bars(times[keep], np.ascontiguousarray(rows[keep])), len(again)
