"""Bring series into the store: from files, or from a user's plug-in; list what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from adapters.clocks import SystemClock, TransportClock
from adapters.history.covariates import (
    ALL,
    EMPTY,
    STALE_MS_MAX,
    SeriesListing,
    list_series,
    merged_series,
    read_series,
    revised_series,
    series_path,
    write_series,
)
from adapters.history.foreign_cells import TimeUnit
from adapters.history.locks import only_writer
from adapters.history.series_import import (
    SeriesLayout,
    duration_ms,
    read_plugin,
    read_series_file,
)
from adapters.history.store import data_root
from daemon.domain.covariates import Series
from daemon.domain.failures import ConfigurationError, DataError

StoredSeriesFile = SeriesListing


@dataclass(frozen=True, slots=True)
class ImportedSeries:
    """Tell what became of one file or plug-in; new_n: rows that the store did not have."""

    origin: str
    target: Path
    rows: int
    new_n: int


@dataclass(frozen=True, slots=True)
class SeriesWish:
    """Hold what a command line says: where rows come from, whose they are, when they were known."""

    source: str
    name: str
    symbol: str = ALL
    known_after: str = ""
    known: str = ""
    time: str = ""
    value: str = ""
    unit: str = "auto"
    stale_after: str = "7d"
    replace: bool = False
    zone: str = ""
    revised_at: str = ""


def import_file(path: Path, folder: Path, wish: SeriesWish) -> ImportedSeries:
    """Bring one file into the store; raises ConfigurationError or DataError, nothing written."""
    if wish.unit not in list(TimeUnit):
        raise ConfigurationError(f"--unit {wish.unit!r}: accepted: {', '.join(TimeUnit)}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    layout = SeriesLayout(
        wish.known_after, wish.known, wish.time, wish.value, TimeUnit(wish.unit), wish.zone
    )
    target = _target(folder, wish)
    return _stored(str(path), target, read_series_file(path, layout, _stale_ms(wish)), wish)


def import_plugin(plugin: str, folder: Path, wish: SeriesWish) -> ImportedSeries:
    """Bring what a plug-in gives into the store; it is asked for rows after the newest stored."""
    given = {
        "--known-after": wish.known_after,
        "--known": wish.known,
        "--zone": wish.zone,
        "--revised-at": wish.revised_at,
    }
    if any(given.values()):
        raise ConfigurationError(
            f"--plugin {plugin}: its rows say themselves from when they were known; leave out "
            f"{', '.join(flag for flag, text in given.items() if text)}"
        )
    target = _target(folder, wish)
    kept = EMPTY if wish.replace or not target.is_file() else read_series(target)
    newest_ms = int(kept.ts.max()) if len(kept) else 0
    return _stored(
        f"plug-in {plugin}", target, read_plugin(plugin, newest_ms, _stale_ms(wish)), wish
    )


def stored_series(folder: Path) -> Sequence[SeriesListing]:
    """List what the store holds; broken files with their faults."""
    return list_series(data_root(folder))


def _target(folder: Path, wish: SeriesWish) -> Path:
    return series_path(data_root(folder), wish.source, wish.symbol, wish.name)


def _stale_ms(wish: SeriesWish) -> int:
    found = duration_ms(wish.stale_after, "--stale-after")
    if not 0 < found <= STALE_MS_MAX:
        raise ConfigurationError(f"--stale-after {wish.stale_after}: accepted 1s .. 3650d")
    return found


def _stored(origin: str, target: Path, found: Series, wish: SeriesWish) -> ImportedSeries:
    revised_ms = _revised_ms(wish) if wish.revised_at else None
    with only_writer(target):
        return _united(origin, target, found, wish, revised_ms)


def _united(
    origin: str, target: Path, found: Series, wish: SeriesWish, revised_ms: int | None
) -> ImportedSeries:
    kept = EMPTY if wish.replace or not target.is_file() else read_series(target)
    if revised_ms is not None:
        together = revised_series(kept, found, revised_ms, origin)
    else:
        together = merged_series(kept, found, origin)
    changed = len(together) != len(kept) or together.stale_ms != kept.stale_ms
    if len(together) and (changed or wish.replace):
        facts = {"source": wish.source, "symbol": wish.symbol, "name": wish.name}
        write_series(target, together, facts)
    return ImportedSeries(origin, target, len(found), len(together) - len(kept))


def _revised_ms(wish: SeriesWish) -> int:
    """Read the instant of a revision; raise ConfigurationError naming what is accepted."""
    now_ms = SystemClock(TransportClock()).now()
    if wish.replace:
        raise ConfigurationError("--revised-at keeps what is stored and --replace drops it")
    if wish.revised_at == "now":
        return now_ms
    try:
        moment = datetime.fromisoformat(wish.revised_at)
    except ValueError:
        moment = None
    revised_ms = -1 if moment is None or moment.tzinfo is None else moment.timestamp() * 1000
    if not 0 < revised_ms <= now_ms:
        raise ConfigurationError(
            f"--revised-at {wish.revised_at!r}: accepted is now, or an instant of the past with "
            "its zone, as 2024-02-13T08:30Z"
        )
    return int(revised_ms)
