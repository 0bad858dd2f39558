"""Read the cells of files that other tools wrote: tables, numbers and instants, and bad rows.

CSV (also as .csv.gz, or alone in a .zip), Feather, Parquet, and JSON rows. A bad cell is named with
file, row, column, value and what is accepted; nothing is guessed about it. Who asks for it gets bad
rows left out and listed instead, unless they are most of the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from adapters.history.parquet_file import Instants
from daemon.domain.bar import Floats
from daemon.domain.failures import DataError
from daemon.domain.units import DAY_MS

FIELD_NAMES: Final = ("open", "high", "low", "close", "volume")
TIME_NAMES: Final = (
    "ts", "time", "timestamp", "date", "datetime", "open_time", "opentime", "open time", "unix",
    "start", "time_open", "period_start",
)  # fmt: skip
END_NAMES: Final = (
    "close_time", "closetime", "close time", "time_close", "end_time", "end", "period_end",
)  # fmt: skip
SUFFIXES: Final = (".csv", ".csv.gz", ".zip", ".feather", ".parquet", ".json")
SKIP_HINT: Final = "; --skip-bad leaves such rows out and lists them"
COMPACT_DAYS: Final = (19_000_101, 21_001_231)  # days written as 20240213, no seconds of 1970
_UNIT_MS: Final = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_DECIMAL_COMMA: Final = re.compile(r"^[-+]?\d+,\d+$")

Column = Sequence[Any] | Floats


class TimeUnit(StrEnum):
    """Say how instants are written; auto tells numbers apart by their size."""

    AUTO = "auto"
    S = "s"
    MS = "ms"
    US = "us"
    NS = "ns"
    ISO = "iso"


class BadRows:
    """Refuse the first bad row of a file, or collect all of them where they may be left out.

    hint: what a refusal adds about leaving rows out. Rows count from 0 in the order of the file.
    """

    def __init__(self, path: Path, *, skip: bool = False, hint: str = "") -> None:
        self.path = path
        self.skip = skip
        self._hint = hint
        self._whys: dict[int, str] = {}

    def add(self, row: int, why: str) -> None:
        """Note a row; raises DataError where bad rows are not left out."""
        if not self.skip:
            raise DataError(f"{self.path}: row {row}{why}{self._hint}")
        self._whys.setdefault(row, why)

    def refuse(self, what: str) -> DataError:
        """Give the error for what is wrong with rows, in words."""
        return DataError(f"{self.path}: {what}{self._hint}")

    def kept(self, rows_n: int) -> npt.NDArray[np.bool_]:
        """Tell which rows stay, (rows_n,); raises DataError where most would not."""
        if self._whys and 2 * len(self._whys) > rows_n:
            raise DataError(
                f"{self.path}: {len(self._whys):,} of its {rows_n:,} rows are wrong, which is more "
                f"than --skip-bad leaves out; the first: {self.told[0]}"
            )
        keep = np.ones(rows_n, dtype=bool)
        keep[list(self._whys)] = False
        return keep

    @property
    def told(self) -> tuple[str, ...]:
        """Name each row and what is wrong with it."""
        return tuple(f"row {row}{why}" for row, why in sorted(self._whys.items()))


def suffix_of(path: Path) -> str:
    """Give the ending that says how a file is written, in small letters: .csv.gz is one."""
    lower = path.name.lower()
    return ".csv.gz" if lower.endswith(".csv.gz") else path.suffix.lower()


def stem_of(path: Path) -> str:
    """Give the name of a file without its ending."""
    return path.name[: len(path.name) - len(suffix_of(path))]


# ---- tables --------------------------------------------------------------------------------------


def read_cells(path: Path, bad: BadRows | None = None) -> dict[str, Column]:
    """Read all columns of a file as they are; raise DataError for one that is no table."""
    bad = bad or BadRows(path)
    suffix = suffix_of(path)
    try:
        match suffix:
            case ".csv":
                return _from_csv(path.read_bytes(), bad)
            case ".csv.gz":
                return _from_csv(gzip.decompress(path.read_bytes()), bad)
            case ".zip":
                return _from_csv(_only_member(path), bad)
            case ".json":
                return _from_json(path, bad)
            case ".feather":
                return _from_arrow(feather.read_table(path, memory_map=False, use_threads=False))
            case ".parquet":
                alone = {"use_threads": False, "pre_buffer": False, "partitioning": None}
                return _from_arrow(pq.read_table(path, memory_map=False, **alone))
            case _:
                raise DataError(f"{path}: accepted are files of {', '.join(SUFFIXES)}")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (
        pa.ArrowException, OSError, EOFError, ValueError, csv.Error, zlib.error,
        zipfile.BadZipFile, NotImplementedError,
    ) as e:  # fmt: skip
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise DataError(f"{path}: is no readable {suffix[1:]} file: {reason}") from e


def _only_member(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
        if len(names) != 1:
            raise DataError(f"{path}: holds {len(names)} files of .csv; accepted is exactly one")
        return archive.read(names[0])


def _from_csv(content: bytes, bad: BadRows) -> dict[str, Column]:
    text = content.decode("utf-8-sig")
    delimiter = max(",;\t|", key=text.partition("\n")[0].count)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    if not rows:
        raise DataError(f"{bad.path}: is empty")
    first, body = rows[0], rows[1:]
    if _is_number(first[0]) and all(_is_number(cell) for cell in first[1:6]):
        first, body = _unnamed(bad.path, len(first)), rows
    width = len(first)
    for number, row in enumerate(body):
        if len(row) != width:
            bad.add(number, _wrong_width(row, width, delimiter))
            body[number] = [""] * width
    return {name.strip(): [row[at] for row in body] for at, name in enumerate(first)}


def _wrong_width(row: Sequence[str], width: int, delimiter: str) -> str:
    said = f" has {len(row)} cells, the first line has {width}"
    if delimiter == "," and len(row) > width and all(map(_is_number, row[-4:])):
        said += (
            "; if its numbers have a decimal comma (1,5), write them with a decimal point, since "
            "the comma parts its columns"
        )
    return said


def _from_json(path: Path, bad: BadRows) -> dict[str, Column]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise DataError(
            f"{path}: accepted is a list of rows [time, open, high, low, close, volume]"
        )
    width = len(rows[0]) if rows else 6
    names = _unnamed(path, width)
    for number, row in enumerate(rows):
        if len(row) != width:
            bad.add(number, f" has {len(row)} cells, row 0 has {width}")
            rows[number] = [None] * width
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
            zone = None if column.type.tz is None else _arrow_zone(column.type.tz)
            whole = column.cast(pa.int64()).to_pylist()
            found[name] = [None if t is None else TypedInstant(t * per_ms, zone) for t in whole]
        elif pa.types.is_floating(column.type) and not column.null_count:
            found[name] = np.concatenate([np.empty(0), *(np.asarray(c) for c in column.chunks)])
        else:
            found[name] = column.to_pylist()
    return found


def _arrow_zone(name: str) -> tzinfo:
    if name[:1] in "+-":
        offset = datetime.fromisoformat(f"2024-01-01T00:00:00{name}").tzinfo
        return UTC if offset is None else offset
    return ZoneInfo(name)


class TypedInstant(float):
    """Hold milliseconds that a file's own type says are an instant; zone None where it names none.

    Without a zone the milliseconds are those of a clock on the wall, not of UTC.
    """

    zone: tzinfo | None

    def __new__(cls, at_ms: float, zone: tzinfo | None) -> TypedInstant:
        """Keep the zone beside the number."""
        made = super().__new__(cls, at_ms)
        made.zone = zone
        return made


# ---- cells ---------------------------------------------------------------------------------------


def column_of(table: Mapping[str, Column], names: Sequence[str]) -> str | None:
    """Find a column by its usual names, the first of them first, whatever the case."""
    by_lower = {name.lower(): name for name in reversed(list(table))}
    return next((by_lower[name] for name in names if name in by_lower), None)


def read_numbers(path: Path, column: Column, name: str, bad: BadRows | None = None) -> Floats:
    """Read a column of numbers; raise DataError naming file, row, column and value.

    A bad cell of a row that is left out is NaN.
    """
    if isinstance(column, np.ndarray):
        return column
    bad = bad or BadRows(path)
    found = np.full(len(column), np.nan)
    for row, cell in enumerate(column):
        try:
            found[row] = float(cell)
        except (TypeError, ValueError):
            accepted = "a number with a decimal point"
            if isinstance(cell, str) and _DECIMAL_COMMA.match(cell.strip()):
                accepted += ", not with a decimal comma"
            bad.add(row, _bad_cell(name, cell, accepted))
    return found


def read_instants(
    path: Path,
    column: Column,
    name: str,
    unit: TimeUnit,
    bad: BadRows | None = None,
    *,
    is_end: bool = False,
) -> Instants:
    """Read a column of instants in ms; raise DataError naming file, row, column and value.

    Text without an offset means UTC. is_end: a last instant of a bar, as 13:59:59.999 or 13:59:59,
    is taken for the end that follows it. A bad cell of a row that is left out is 0.
    """
    bad = bad or BadRows(path)
    found = np.zeros(len(column), dtype=np.int64)
    for row, cell in enumerate(column):
        moment = moment_ms(cell, unit)
        if is_end and moment is not None and np.isfinite(moment):
            moment = _end_ms(moment)
        if moment is None or not is_whole_instant(moment):
            bad.add(row, _bad_cell(name, cell, accepted_instant(unit)))
            continue
        found[row] = int(moment)
    return found


def _end_ms(moment: float) -> float:
    for last_ms, whole_ms in ((0.999, 1), (999, 1000), (59_000, 60_000)):
        if moment % whole_ms >= last_ms and moment % whole_ms - last_ms < 1:
            moment = float(np.ceil(moment / whole_ms) * whole_ms)
    return moment


def is_whole_instant(moment: float) -> bool:
    """Tell whether ms since 1970 are whole and within what a calendar holds."""
    return bool(0 < moment < 100_000 * DAY_MS) and moment == int(moment)


def accepted_instant(unit: TimeUnit) -> str:
    """Say in words which cells are instants."""
    if unit is not TimeUnit.AUTO:
        return f"an instant in {unit} (--unit)"
    return (
        "an instant of whole milliseconds after 1970: seconds, ms, us or ns since the epoch, or "
        "ISO 8601 (a day as 2024-02-13)"
    )


def moment_ms(cell: Any, unit: TimeUnit) -> float | None:
    """Read a cell as ms since 1970, maybe a fraction; None for none. No offset means UTC."""
    if isinstance(cell, TypedInstant):
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
        if COMPACT_DAYS[0] <= size <= COMPACT_DAYS[1]:
            return None
        unit = TimeUnit.NS if size > 1e17 else TimeUnit.US if size > 1e14 else TimeUnit.MS
        unit = TimeUnit.S if size < 1e11 else unit
    return round(number * _UNIT_MS[unit], 3)


def _iso_ms(cell: Any) -> float | None:
    try:
        moment = datetime.fromisoformat(str(cell).strip())
    except ValueError:
        return None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000, 3)


def _bad_cell(name: str, cell: object, accepted: str) -> str:
    return f", column {name!r}: {cell!r}; accepted: {accepted}"
