"""Write what a running daemon saw into the store: bars with proofs, funding, what was revised.

The store's file holds the newest value of a bar; `<root>/revisions/<venue>/<SYMBOL>-<tf>.jsonl`
holds every change, one JSON object a line. Rates and series lie where a download puts them, in the
same bytes. Called off the event loop: it reads and writes files.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from adapters.history.covariates import (
    EMPTY,
    merged_series,
    read_series,
    series_facts,
    series_path,
    write_series,
)
from adapters.history.locks import only_writer
from adapters.history.parquet_file import (
    GENERATED,
    NO_BARS,
    NO_RATES,
    ORIGIN,
    Bars,
    Instants,
    Provenance,
    Rates,
    bars_problem,
    is_generated,
    last_time,
    merged_bars,
    merged_rates,
    put_aside_if_damaged,
    rates_problem,
    read_bars,
    read_rates,
    set_aside,
    write_bars,
    write_rates,
)
from adapters.history.store import bars_path, disk_symbol, funding_path
from daemon.domain.bar import Floats
from daemon.domain.covariates import series_of
from daemon.domain.failures import CorruptFile, DataError
from daemon.domain.units import Timeframe, iso

REVISIONS_FOLDER: Final = "revisions"


@dataclass(frozen=True, slots=True)
class SeenRevision:
    """Hold a change of a bar that was final: seen_ms is market time then, 0 unknown."""

    close_ms: int
    before: tuple[float, ...]
    after: tuple[float, ...]
    seen_ms: int
    shown_by: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold what is new of one symbol: bars (T,), (T, 5) in any order, revisions as they came.

    proof: (T,) uint8 of `Proof`. proven_ms: (T,) market time of the proof, 0 unknown.
    """

    symbol: str
    close_ms: Instants
    values: Floats
    proof: npt.NDArray[np.uint8]
    proven_ms: Instants
    revisions: Sequence[SeenRevision]


@dataclass(frozen=True, slots=True)
class Recorder:
    """Know where the bars of one venue go."""

    root: Path
    venue: str
    timeframe: Timeframe
    is_generated: bool

    def write(self, batch: Batch) -> Path | None:
        """Unite a batch with what is stored; give the name of a corrupt file moved aside, if any.

        A stored bar stays; a revised one takes its new value. Raises DataError when the disk
        refuses, or when real and generated bars would be mixed.
        """
        with only_writer(bars_path(self.root, self.venue, batch.symbol, self.timeframe)):
            return self._write(batch)

    def _write(self, batch: Batch) -> Path | None:
        path = bars_path(self.root, self.venue, batch.symbol, self.timeframe)
        stored, aside = NO_BARS, None
        if path.exists():
            try:
                stored = read_bars(path, self.timeframe)
                self._refuse_mixture(path)
            except CorruptFile:
                aside = set_aside(path)
        together, _ = merged_bars(stored, self._bars(batch))
        together = self._revised(together, batch.revisions)
        if len(together):
            facts = {"venue": self.venue, "symbol": disk_symbol(batch.symbol)}
            if self.is_generated:
                facts[ORIGIN] = GENERATED
            write_bars(path, together, self.timeframe, facts)
        if batch.revisions:
            self._append(batch)
        return aside

    def write_funding(self, symbol: str, told: Rates) -> Path | None:
        """Unite settled rates with what is stored, as a download would; else as `write`."""
        path, aside = funding_path(self.root, self.venue, symbol), None
        problem = rates_problem(told)
        if problem:
            raise DataError(f"{self.venue} {symbol}: funding cannot be stored: {problem}")
        bars = bars_path(self.root, self.venue, symbol, self.timeframe)
        if bars.exists():
            with contextlib.suppress(CorruptFile):  # which is found when bars are written
                self._refuse_mixture(bars)
        with only_writer(path):
            stored = NO_RATES
            if path.exists():
                try:
                    stored = read_rates(path)
                except CorruptFile:
                    aside = set_aside(path)
            together = merged_rates(stored, told)
            if len(together) > len(stored):
                facts = {"venue": self.venue, "symbol": disk_symbol(symbol), "timeframe": "funding"}
                write_rates(path, together, facts)
        return aside

    def damaged(self, symbol: str) -> list[str]:
        """Move files of a symbol that cannot be believed aside; say of each what was wrong."""
        bars = bars_path(self.root, self.venue, symbol, self.timeframe)
        rates = funding_path(self.root, self.venue, symbol)
        found: list[str] = []
        for path, read in ((bars, self._read_bars), (rates, read_rates)):
            try:
                text = put_aside_if_damaged(path, read) if path.exists() else None
            except DataError as trouble:
                text = str(trouble)
            found += [] if text is None else [text]
        return found

    def _read_bars(self, path: Path) -> Bars:
        return read_bars(path, self.timeframe)

    def stored_until_ms(self, symbol: str) -> int | None:
        """Give the close of the last stored bar; None without one that can be read."""
        path = bars_path(self.root, self.venue, symbol, self.timeframe)
        try:
            last_ms = last_time(path) if path.exists() else None
        except DataError:
            return None
        return None if last_ms is None else last_ms + self.timeframe.ms

    def _refuse_mixture(self, path: Path) -> None:
        if is_generated(path) != self.is_generated:
            ours = "generated" if self.is_generated else "real"
            raise DataError(
                f"{path}: holds bars of another kind of market; {ours} ones are not written into "
                "it; name another folder in data.folder"
            )

    def _bars(self, batch: Batch) -> Bars:
        closes, rows = np.unique(batch.close_ms, return_index=True)  # the first seen stays
        never = np.zeros(len(rows), dtype=np.int64)
        noted = Provenance(batch.proof[rows], batch.proven_ms[rows], never)
        bars = Bars(closes - self.timeframe.ms, batch.values[rows], noted)
        problem = bars_problem(bars, self.timeframe)
        if problem:
            raise DataError(f"{self.venue} {batch.symbol}: cannot be stored: {problem}")
        return bars

    def _revised(self, bars: Bars, revisions: Sequence[SeenRevision]) -> Bars:
        if not revisions or not len(bars):
            return bars
        noted = bars.provenance or Provenance.stored(len(bars))
        values, revised_ms = bars.values.copy(), noted.revised_ms.copy()
        for one in revisions:
            open_ms = one.close_ms - self.timeframe.ms
            at = int(np.searchsorted(bars.open_ms, open_ms))
            if at < len(bars) and bars.open_ms[at] == open_ms:
                values[at] = one.after
                revised_ms[at] = one.seen_ms or one.close_ms
        return Bars(bars.open_ms, values, Provenance(noted.proof, noted.proven_ms, revised_ms))

    def _append(self, batch: Batch) -> None:
        folder = self.root / REVISIONS_FOLDER / self.venue
        path = folder / f"{disk_symbol(batch.symbol)}-{self.timeframe.label}.jsonl"
        lines = "".join(
            json.dumps(
                {
                    "bar_closed": iso(one.close_ms),
                    "close_ms": one.close_ms,
                    "before": one.before,
                    "after": one.after,
                    "seen_ms": one.seen_ms,
                    "shown_by": one.shown_by,
                }
            )
            + "\n"
            for one in batch.revisions
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _append_whole(path, lines)
        except OSError as e:
            raise DataError(f"{path}: cannot be written: {e}") from e


def _append_whole(path: Path, lines: str) -> None:
    """Append to a file, or leave it as it was: half a line would be no line."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            written = file.write(lines.encode())
            if written != len(lines.encode()):
                raise OSError(f"only {written} of {len(lines.encode())} bytes were taken")
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)
            raise


# ---- series beside the bars ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Observation:
    """Hold one value of a series of an instrument: what it is about, and from when it was known."""

    venue: str
    symbol: str
    name: str
    ts_ms: int
    known_ms: int
    value: float


def write_observations(root: Path, rows: Sequence[Observation]) -> Path | None:
    """Unite observations of one series of one instrument with what is stored.

    What is stored already, or known from the same instant, stays. Gives the name of a corrupt file
    moved aside, if any; raises DataError when the disk refuses.
    """
    one = rows[0]
    path = series_path(root, one.venue, one.symbol, one.name)
    with only_writer(path):
        return _write_observations(path, rows)


def _write_observations(path: Path, rows: Sequence[Observation]) -> Path | None:
    one = rows[0]
    kept, aside = EMPTY, None
    if path.exists():
        try:
            kept = read_series(path)
        except CorruptFile:
            aside = set_aside(path)
    values = set(zip(kept.ts.tolist(), kept.values.tolist(), strict=True))
    moments = set(zip(kept.ts.tolist(), kept.known_ms.tolist(), strict=True))
    new: list[Observation] = []
    for row in rows:
        if (row.ts_ms, row.value) in values or (row.ts_ms, row.known_ms) in moments:
            continue
        values.add((row.ts_ms, row.value))
        moments.add((row.ts_ms, row.known_ms))
        new.append(row)
    if new:
        fresh = series_of(
            np.array([row.ts_ms for row in new], dtype=np.int64),
            np.array([row.known_ms for row in new], dtype=np.int64),
            np.array([row.value for row in new], dtype=np.float64),
            kept.stale_ms,
        )
        together = merged_series(kept, fresh, str(path))
        write_series(path, together, series_facts(path, one.symbol, one.name))
    return aside
