"""What a data folder knows of its instruments over time: read for a run, noted by a download."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from adapters.exchange.mapping import end_ms_of
from adapters.history.instruments_file import (
    FILE,
    Record,
    Seen,
    instruments_path,
    noted,
    read_instruments_file,
    write_instruments_file,
)
from adapters.history.rules import FileInstruments
from adapters.history.store import BARS_FOLDER, data_root, disk_symbol
from daemon.domain.failures import DataError
from daemon.domain.instrument import Instrument
from daemon.domain.units import iso
from daemon.settings import Settings

SHOWN_MAX: Final = 6
ALREADY: Final = 0  # what a venue tells of a contract that ended at an instant it does not name


def records_of(settings: Settings, symbols: Sequence[str]) -> tuple[Record | None, ...]:
    """Give what the data folder of a backtest knows of symbols, (N,), None where nothing is."""
    root, venue = data_root(Path(settings.backtest.data_folder)), settings.backtest.venue
    file = read_instruments_file(instruments_path(root, venue), venue)
    return tuple(file.record_of(symbol) for symbol in symbols)


def with_listings(made: FileInstruments, records: Sequence[Record | None]) -> FileInstruments:
    """Give instruments the listing of their first life, and rules where the table has none.

    A symbol that the table lacks trades by the oldest rules that are known of it.
    """
    instruments, defaulted = [], set(made.defaulted)
    for instrument, record in zip(made.instruments, records, strict=True):
        changed, name = instrument, disk_symbol(instrument.key.symbol)
        if record is not None and record.lives and instrument.listed_ms is None:
            changed = replace(changed, listed_ms=record.lives[0].listed_ms)
        unlisted = {one for one in defaulted if disk_symbol(one) == name}
        if record is not None and record.rules and unlisted:
            changed = replace(changed, rules=record.rules[0].rules)
            defaulted -= unlisted
        instruments.append(changed)
    return FileInstruments(tuple(instruments), tuple(s for s in made.defaulted if s in defaulted))


def with_records(fingerprint: str, records: Sequence[Record | None]) -> str:
    """Let a fingerprint of bars cover what is known of the instruments; without any it stays."""
    if not any(records):
        return fingerprint
    return hashlib.sha256(f"{fingerprint} {records!r}".encode()).hexdigest()


def copy_records(settings: Settings, folder: Path) -> None:
    """Copy the file of the settings' data folder into another data folder, if there is one."""
    root, venue = data_root(Path(settings.backtest.data_folder)), settings.backtest.venue
    file = read_instruments_file(instruments_path(root, venue), venue)
    if file.records:
        write_instruments_file(instruments_path(folder, venue), file)


def note_instruments(
    root: Path,
    venue: str,
    instruments: Sequence[Instrument],
    markets: Mapping[str, Mapping[str, Any]],
    now_ms: int,
) -> str:
    """Note in the store what a venue tells of its instruments now; give what went wrong, or ''."""
    seen = {
        i.key.symbol: Seen(i.listed_ms, _end_ms(markets.get(i.key.symbol)), i.rules)
        for i in instruments
        if not i.is_spare
    }
    path = instruments_path(data_root(root), venue)
    try:
        before = read_instruments_file(path, venue)
        after = noted(before, seen, now_ms)
        if after != before:
            write_instruments_file(path, after)
    except DataError as e:
        return str(e)
    except OSError as e:
        return f"{path}: cannot be written: {e.strerror}"
    return ""


def _end_ms(market: Mapping[str, Any] | None) -> int | None:
    end_ms = None if market is None else end_ms_of(market)
    return None if end_ms == ALREADY else end_ms


@dataclass(frozen=True, slots=True)
class StoredLives:
    """Count what the file of a venue holds; `problem` says why it cannot be used, else None."""

    venue: str
    instruments_n: int = 0
    listed_n: int = 0
    announced_n: int = 0
    ended_n: int = 0
    rules_n: int = 0
    ended: tuple[str, ...] = ()
    problem: str | None = None

    def __str__(self) -> str:
        if self.problem:
            return self.problem
        shown = f": {', '.join(self.ended[:SHOWN_MAX])}" if self.ended else ""
        more = f" and {len(self.ended) - SHOWN_MAX} more" if len(self.ended) > SHOWN_MAX else ""
        return (
            f"{self.venue}: {self.instruments_n} instruments with {self.listed_n} listings, "
            f"{self.announced_n} ends announced, {self.rules_n} spans of trading rules, "
            f"{self.ended_n} ends{shown}{more}"
        )


def stored_lives(folder: Path, venue: str | None) -> list[StoredLives]:
    """Say what the files of all venues hold, or that of one."""
    there = (data_root(folder) / BARS_FOLDER).glob(f"{venue or '*'}/{FILE}")
    return [_stored(path) for path in sorted(there)]


def _stored(path: Path) -> StoredLives:
    venue = path.parent.name
    try:
        records = read_instruments_file(path, venue).records
    except DataError as e:
        return StoredLives(venue, problem=str(e))
    lives = [(symbol, life) for symbol, record in records.items() for life in record.lives]
    ended = [f"{symbol} {iso(one.ended_ms)}" for symbol, one in lives if one.ended_ms is not None]
    return StoredLives(
        venue,
        len(records),
        sum(one.listed_ms is not None for _, one in lives),
        sum(one.announced_ms is not None for _, one in lives),
        len(ended),
        sum(len(record.rules) for record in records.values()),
        tuple(ended),
    )
