"""Read the instants of a series with the zone they are written in, and the day they belong to.

A value that is known a minute too early spoils a training, so nothing is guessed: a time of day
without a zone needs `--zone`; a column of plain days means days of that zone, or UTC days.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from adapters.history.foreign_cells import (
    Column,
    TimeUnit,
    TypedInstant,
    accepted_instant,
    is_whole_instant,
    moment_ms,
)
from adapters.history.parquet_file import Instants
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.units import DAY_MS

MIDNIGHT: Final = time()


@dataclass(frozen=True, slots=True)
class Moments:
    """Hold a column of instants, each (S,) in ms.

    at_ms: the instant, of a plain day its beginning. day_end_ms: the end of the day that it lies
    in, on the calendar of its zone. known_ms: from when something with this date was known: the
    instant, of a plain day the first UTC midnight at or after its end.
    """

    at_ms: Instants
    day_end_ms: Instants
    known_ms: Instants


def zone_of(name: str) -> tzinfo | None:
    """Read a zone by name; None for none. Raises ConfigurationError for one that is unknown."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(
            f"--zone {name!r}: accepted is a name as UTC, America/New_York or Asia/Tokyo"
        ) from None


def read_moments(
    path: Path, column: Column, name: str, unit: TimeUnit, zone: tzinfo | None
) -> Moments:
    """Read a column; raise DataError naming file, row, column and value.

    zone: of cells that name none themselves. Times of a clock that is set back count as the later
    of the two instants they can mean.
    """
    read = [_wall_or_instant(cell, unit) for cell in column]
    walls = [one for one in read if isinstance(one, datetime) and one.tzinfo is None]
    are_days = all(one.time() == MIDNIGHT for one in walls)
    rows = np.zeros((len(read), 3), dtype=np.int64)
    found: tuple[float, float, float] | None
    for row, (cell, one) in enumerate(zip(column, read, strict=True)):
        where = f"{path}: row {row}, column {name!r}: {cell!r}"
        if isinstance(one, datetime) and one.tzinfo is None:
            is_day = are_days or _is_plain_day(cell)
            if zone is None and not is_day:
                raise DataError(
                    f"{where} is a time of day without a zone; name the zone it is of with --zone, "
                    "as UTC or America/New_York"
                )
            found = _of_wall(one, zone or UTC, is_day=is_day)
        elif one is None:
            raise DataError(f"{where}; accepted: {accepted_instant(unit)}")
        else:
            found = _of_instant(one, zone or UTC)
        if found is None or not all(map(is_whole_instant, found)):
            raise DataError(f"{where}; accepted: {accepted_instant(unit)}")
        rows[row] = found
    return Moments(rows[:, 0], rows[:, 1], rows[:, 2])


def after_day(day_end_ms: Instants) -> Instants:
    """Give the first UTC midnight at or after the end of each day, (S,)."""
    return -(-day_end_ms // DAY_MS) * DAY_MS


def _wall_or_instant(cell: Any, unit: TimeUnit) -> datetime | float | None:
    """Read a cell as a time with a zone, a naive time of a clock on the wall, or ms of UTC."""
    if isinstance(cell, TypedInstant):
        moment = datetime.fromtimestamp(float(cell) / 1000, cell.zone or UTC)
        return moment if cell.zone else moment.replace(tzinfo=None)
    if isinstance(cell, datetime):
        return cell
    if isinstance(cell, date):
        return datetime.combine(cell, MIDNIGHT)
    if isinstance(cell, str) and unit in (TimeUnit.AUTO, TimeUnit.ISO) and not _is_number(cell):
        try:
            return datetime.fromisoformat(cell.strip())
        except ValueError:
            return None
    return moment_ms(cell, unit)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_plain_day(cell: Any) -> bool:
    is_date = isinstance(cell, date) and not isinstance(cell, datetime)
    return is_date or (isinstance(cell, str) and len(cell.strip()) <= len("2024-02-13"))


def _of_instant(one: datetime | float, zone: tzinfo) -> tuple[float, float, float] | None:
    if isinstance(one, datetime):
        at_ms, moment = _ms(one), one
    elif is_whole_instant(one):
        at_ms, moment = one, datetime.fromtimestamp(one / 1000, UTC).astimezone(zone)
    else:
        return None
    return at_ms, _day_end_ms(moment), at_ms


def _of_wall(one: datetime, zone: tzinfo, *, is_day: bool) -> tuple[float, float, float]:
    moment = _placed(one, zone)
    day_end_ms = _day_end_ms(moment)
    known_ms = float(-(-day_end_ms // DAY_MS) * DAY_MS) if is_day else _ms(moment)
    return _ms(moment), day_end_ms, known_ms


def _placed(wall: datetime, zone: tzinfo) -> datetime:
    """Give the instant of a clock on the wall, the later one of two."""
    return max((wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1)), key=_ms)


def _day_end_ms(moment: datetime) -> float:
    tomorrow = datetime.combine(moment.date() + timedelta(days=1), MIDNIGHT)
    return _ms(_placed(tomorrow, moment.tzinfo or UTC))


def _ms(moment: datetime) -> float:
    return round(moment.timestamp() * 1000, 3)
