"""Read a series that somebody else wrote, and say from when each of its values was known.

From a file (CSV, Feather, Parquet) with a column of instants and one of values, or from a user's
plug-in: an entry point of the group `equipoise.series`, a function that takes the newest stored
`ts` (ms, 0 for none) and gives rows (ts, known_ms, value). When a value was known is never guessed:
a column says so, or a stated lag.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

import numpy as np

from adapters.history.foreign_cells import (
    TIME_NAMES,
    Column,
    TimeUnit,
    read_cells,
    read_numbers,
)
from adapters.history.series_moments import Moments, after_day, read_moments, zone_of
from daemon.domain.covariates import Instants, Series, series_of, series_problem
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.units import DAY_MS, HOUR_MS, MINUTE_MS, iso

GROUP: Final = "equipoise.series"
NEXT_UTC_DAY: Final = "next-utc-day"
VALUE_NAMES: Final = ("value", "close", "rate", "open_interest")
_UNITS: Final = {"s": 1000, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_DURATION: Final = re.compile(r"^(\d{1,6})([smhd])$")

Rows = Callable[[int], Iterable[tuple[int, int, float]]]


@dataclass(frozen=True, slots=True)
class SeriesLayout:
    """Say how a file is to be read; empty names are found by common ones.

    known_after: a lag as 1d, 6h, 30m or 0s, or next-utc-day. known: the column that says it; with
    both, the lag comes on top of what the column says. zone: of times that name none.
    """

    known_after: str = ""
    known: str = ""
    time: str = ""
    value: str = ""
    unit: TimeUnit = TimeUnit.AUTO
    zone: str = ""


def duration_ms(text: str, flag: str) -> int:
    """Read 30m, 6h or 1d; raise ConfigurationError naming the flag."""
    found = _DURATION.match(text)
    if not found:
        raise ConfigurationError(
            f"{flag} {text!r}: accepted is a number with s, m, h or d, as 30m, 6h or 1d"
        )
    return int(found[1]) * _UNITS[found[2]]


def read_series_file(path: Path, layout: SeriesLayout, stale_ms: int) -> Series:
    """Read one file; raise DataError or ConfigurationError naming file, row, column and value."""
    if not layout.known and not layout.known_after:
        raise ConfigurationError(
            f"{path}: say from when its values were known, with --known COLUMN, with "
            f"--known-after LAG (as 1d, 6h, 0s) or {NEXT_UTC_DAY}, or with both"
        )
    zone = zone_of(layout.zone)
    cells = read_cells(path)
    time = _column(path, cells, "--time", layout.time, TIME_NAMES)
    value = _column(path, cells, "--value", layout.value, VALUE_NAMES)
    about = read_moments(path, cells[time], time, layout.unit, zone)
    values = read_numbers(path, cells[value], value)
    if not len(about.at_ms):
        raise DataError(f"{path}: holds no row")
    ts, told = about.at_ms, about
    if layout.known:
        column = _column(path, cells, "--known", layout.known, ())
        told = read_moments(path, cells[column], column, layout.unit, zone)
    known_ms = told.known_ms if layout.known else told.at_ms
    if layout.known_after:
        known_ms = known_from(told, known_ms, layout.known_after)
    _refuse_rows(path, ts, known_ms, values, (time, layout.known or layout.known_after, value))
    return series_of(ts, known_ms, values, stale_ms)


def known_from(told: Moments, from_ms: Instants, known_after: str) -> Instants:
    """Give the instants from which values were known, (S,): a lag after from_ms, or the next day.

    The next UTC day begins with the first UTC midnight at or after the end of the day that `told`
    lies in, on the calendar of its own zone.
    """
    if known_after == NEXT_UTC_DAY:
        return after_day(told.day_end_ms)
    if not _DURATION.match(known_after):
        raise ConfigurationError(
            f"--known-after {known_after!r}: accepted is {NEXT_UTC_DAY}, or a number with s, m, h "
            "or d, as 30m, 6h or 1d"
        )
    return from_ms + duration_ms(known_after, "--known-after")


def _column(
    path: Path, cells: dict[str, Column], flag: str, wanted: str, names: tuple[str, ...]
) -> str:
    by_lower = {name.lower(): name for name in reversed(list(cells))}
    found = wanted if wanted in cells else None
    if not wanted:
        found = next((by_lower[name] for name in names if name in by_lower), None)
    if found is None:
        what = f"column {wanted!r} is not there" if wanted else "no column of a usual name"
        raise ConfigurationError(
            f"{path}: {what}; there are: {', '.join(cells)}; name it with {flag} COLUMN"
        )
    return found


def _refuse_rows(
    where: Path | str, ts: Instants, known_ms: Instants, values: Any, names: tuple[str, str, str]
) -> None:
    """Name the first row that no series may hold, by its place in the file."""
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"{where}: row {row}, column {names[2]!r}: {values[row]}; accepted: a finite number"
        )
    early = np.flatnonzero(known_ms < ts)
    if len(early):
        row = int(early[0])
        raise DataError(
            f"{where}: row {row}, column {names[1]!r}: known from {_when(known_ms[row])}; "
            f"accepted: an instant that is not before {_when(ts[row])}, which the value is about"
        )
    problem = series_problem(series_of(ts, known_ms, values))
    if problem:
        raise DataError(f"{where}: in the order of becoming known, {problem}")


def _when(at_ms: int) -> str:
    return iso(int(at_ms))


# ---- plug-ins ------------------------------------------------------------------------------------


def read_plugin(name: str, newest_ms: int, stale_ms: int) -> Series:
    """Ask the plug-in called `name` for its rows after the newest stored ts.

    Raises ConfigurationError for one that is unknown or cannot be loaded, DataError for rows that
    are none.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        known = ", ".join(sorted(points)) or "none is installed"
        raise ConfigurationError(f"--plugin {name!r}: unknown; known: {known}")
    where = f"plug-in {name} ({points[name].value})"
    rows: list[tuple[int, int, float]] = []
    for number, row in enumerate(_loaded(points[name])(newest_ms)):
        if not _is_row(row):
            raise DataError(f"{where}: row {number}: {row!r}; accepted: (ts, known_ms, value)")
        rows.append(row)
    ts = np.array([row[0] for row in rows], dtype=np.int64)
    known_ms = np.array([row[1] for row in rows], dtype=np.int64)
    values = np.array([row[2] for row in rows], dtype=np.float64)
    if rows:
        _refuse_rows(where, ts, known_ms, values, ("ts", "known_ms", "value"))
    return series_of(ts, known_ms, values, stale_ms)


def _is_row(row: object) -> bool:
    if not isinstance(row, tuple | list) or len(row) != 3:
        return False
    ts, known_ms, value = row
    whole = all(type(one) is int and 0 <= one < 100_000 * DAY_MS for one in (ts, known_ms))
    return whole and isinstance(value, float | int) and math.isfinite(value)


def _loaded(point: EntryPoint) -> Rows:
    try:
        found = point.load()
    except (ImportError, AttributeError) as failure:
        raise ConfigurationError(
            f"plug-in {point.name!r} ({point.value}) cannot be loaded: {failure}"
        ) from failure
    if not callable(found):
        raise ConfigurationError(f"plug-in {point.name!r} ({point.value}) is not a function")
    return found  # type: ignore[no-any-return]
