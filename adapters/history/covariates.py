"""Keep series beside the bars, a Parquet file each, with the instant a value was known from.

Layout: `<root>/covariates/<source>/<SYMBOL or ALL>-<name>.parquet` with `ts`, `known_ms` (int64 ms
of UTC) and `value` (float64); ALL stands for the whole market. Rows keep the order in which they
became known; another value of the same `ts` that became known later is a version of it. A file
carries the SHA-256 of its content and is checked like a file of bars.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from adapters.history.parquet_file import TIME, compare, read_columns, write_columns
from adapters.history.store import disk_symbol
from daemon.domain.covariates import Series, series_of, series_problem
from daemon.domain.failures import ConfigurationError, CorruptFile, DataError
from daemon.domain.units import DAY_MS, iso, require

FOLDER: Final = "covariates"
ALL: Final = "ALL"
KNOWN: Final = "known_ms"
VALUE: Final = "value"
STALE: Final = "stale_ms"
STALE_MS_MAX: Final = 3650 * DAY_MS
_SUFFIX: Final = ".parquet"
_OUTSIDE: Final = "series:"
_WAYS_OUT: Final = (
    "--revised-at now, or the instant of the revision, keeps both, each from when it was known; "
    "--replace drops what is stored"
)


@dataclass(frozen=True, slots=True)
class SeriesListing:
    """Describe one stored series; `problem` says why it cannot be used, else None."""

    source: str
    symbol: str
    name: str
    rows: int
    versions_n: int  # rows that replace the value of a ts
    first_ms: int | None
    last_ms: int | None
    known_until_ms: int | None
    stale_ms: int
    problem: str | None = None


# ---- names ---------------------------------------------------------------------------------------


def series_path(root: Path, source: str, symbol: str, name: str) -> Path:
    """Name the file of a series; raises ConfigurationError for what cannot be part of a name."""
    for what, text in (("source", source), ("name", name)):
        if not text or not text.isascii() or not text.replace("_", "").isalnum() or text.isupper():
            raise ConfigurationError(
                f"{what} {text!r} of a series: accepted are small letters, digits and _"
            )
    owner = ALL if symbol == ALL else disk_symbol(symbol)
    return root / FOLDER / source / f"{owner}-{name}{_SUFFIX}"


def series_facts(path: Path, symbol: str, name: str) -> dict[str, str]:
    """Give what the metadata of a series of a venue say, whoever writes it."""
    return {"source": path.parent.name, "symbol": disk_symbol(symbol), "name": name}


def found_series(
    root: Path, covariate: str, symbols: Sequence[str], prefer: str = ""
) -> tuple[Path | None, ...]:
    """Give the file of each symbol for a covariate as settings name it, None where there is none.

    `series:vix` or `open_interest` is looked for in every source, first in `prefer`;
    `series:cboe/vix` in that one. A symbol's own file goes before that of the whole market.
    Raises ConfigurationError where no source has it, or several have.
    """
    source, slash, name = covariate.removeprefix(_OUTSIDE).rpartition("/")
    folder = root / FOLDER
    there = {p.parent.name for p in folder.glob(f"*/*-{name}{_SUFFIX}") if p.name[:1] != "."}
    fitting = {source} & there if slash else ({prefer} & there or there)
    if len(fitting) != 1:
        why = (
            f"several sources hold it: {', '.join(sorted(fitting))}; write series:SOURCE/{name}"
            if fitting
            else f"there is none in {folder}; import-series brings one into it"
        )
        raise ConfigurationError(f"covariate {covariate!r}: {why}")
    (chosen,) = fitting
    shared = series_path(root, chosen, ALL, name)
    own = (series_path(root, chosen, symbol, name) for symbol in symbols)
    return tuple(p if p.is_file() else shared if shared.is_file() else None for p in own)


# ---- files ---------------------------------------------------------------------------------------


def read_series(path: Path) -> Series:
    """Read and check a series; raise CorruptFile naming the file, the row and the reason."""
    table, checksum = read_columns(path, (VALUE,), (KNOWN,))
    if KNOWN not in table:
        raise CorruptFile(
            f"{path}: column {KNOWN!r} is missing; a series says from when each value was known"
        )
    series = Series(table[TIME], table[KNOWN], table[VALUE], _stale_ms(path))
    problem = series_problem(series)
    if problem:
        raise CorruptFile(f"{path}: {problem}")
    compare(path, checksum, _sha256(series))
    return series


def write_series(path: Path, series: Series, facts: Mapping[str, str]) -> None:
    """Replace the file by this series in one step; raise DataError when the disk refuses."""
    problem = series_problem(series)
    require(problem is None, f"{path}: this series must not be stored: {problem}")
    columns = {TIME: series.ts, KNOWN: series.known_ms, VALUE: series.values}
    write_columns(path, columns, _sha256(series), {**facts, STALE: str(series.stale_ms)})


def _stale_ms(path: Path) -> int:
    metadata = pq.read_schema(path).metadata or {}
    text = metadata.get(STALE.encode(), b"").decode("ascii", "replace")
    if not text.isdigit() or not 0 < int(text) <= STALE_MS_MAX:
        raise CorruptFile(
            f"{path}: {STALE} is {text!r}; accepted is a number of ms up to {STALE_MS_MAX}"
        )
    return int(text)


def _sha256(series: Series) -> str:
    digest = hashlib.sha256(f"series/1 {series.stale_ms}\n".encode())
    for column in (series.ts, series.known_ms):
        digest.update(np.ascontiguousarray(column, dtype="<i8").data)
    digest.update(np.ascontiguousarray(series.values, dtype="<f8").data)
    return digest.hexdigest()


def merged_series(kept: Series, new: Series, where: str) -> Series:
    """Unite stored rows with new ones; what is stored is never said to have been known otherwise.

    A row is a version of its `ts`, known from its `known_ms`; a value may come back in a later
    version. Another value known from the same instant raises DataError, and so does a version that
    repeats the stored one before or after it: one of the two is wrong about what was known when.
    """
    stored = _versions(kept)
    fresh = np.ones(len(new), dtype=bool)
    united = {ts: dict(known) for ts, known in stored.items()}
    for row in range(len(new)):
        ts, known, value = int(new.ts[row]), int(new.known_ms[row]), float(new.values[row])
        before = stored.get(ts, {}).get(known)
        fresh[row] = before is None
        if before is not None and before != value:
            raise DataError(
                f"{where}: row {row}, ts {iso(ts)}: {value}, stored is {before} known from the "
                f"same instant {iso(known)}; {_WAYS_OUT}"
            )
        united.setdefault(ts, {})[known] = value
    for row in np.flatnonzero(fresh).tolist():
        ts, known, value = int(new.ts[row]), int(new.known_ms[row]), float(new.values[row])
        for other in _beside(list(united[ts]), known) if ts in stored else ():
            if stored[ts].get(other) == value:
                raise DataError(
                    f"{where}: row {row}, ts {iso(ts)}: {value} is stored as known from "
                    f"{iso(other)}, here from {iso(known)}; --replace drops what is stored"
                )
    return _with_rows(kept, new, fresh)


def revised_series(kept: Series, new: Series, revised_ms: int, where: str) -> Series:
    """Unite stored rows with what a source shows now: changed values are known from revised_ms on.

    An observation that is not stored comes in as `new` says. Raises DataError for a `new` that
    holds versions itself, and for a revision before what it revises.
    """
    if len(np.unique(new.ts)) != len(new):
        raise DataError(
            f"{where}: it holds several versions of one ts, so it says itself from when each was "
            "known; leave out --revised-at"
        )
    stored = _versions(kept)
    known_ms = new.known_ms.copy()
    fresh = np.ones(len(new), dtype=bool)
    for row, (ts, value) in enumerate(zip(new.ts.tolist(), new.values.tolist(), strict=True)):
        if ts not in stored:
            continue
        newest_ms = max(stored[ts])
        fresh[row] = stored[ts][newest_ms] != value
        known_ms[row] = revised_ms
        if fresh[row] and revised_ms <= newest_ms:
            raise DataError(
                f"{where}: ts {iso(ts)}: --revised-at {iso(revised_ms)}: accepted is an instant "
                f"after {iso(newest_ms)}, from which the stored {stored[ts][newest_ms]} was known"
            )
    return _with_rows(kept, Series(new.ts, known_ms, new.values, new.stale_ms), fresh)


def _versions(series: Series) -> dict[int, dict[int, float]]:
    """Give the values of each ts by the instant from which they were known."""
    found: dict[int, dict[int, float]] = {}
    for ts, known, value in zip(
        series.ts.tolist(), series.known_ms.tolist(), series.values.tolist(), strict=True
    ):
        found.setdefault(ts, {})[known] = value
    return found


def _beside(known: Sequence[int], at_ms: int) -> tuple[int, ...]:
    """Name the instants right before and right after one of them."""
    earlier = [one for one in known if one < at_ms]
    later = [one for one in known if one > at_ms]
    return (*([max(earlier)] if earlier else ()), *([min(later)] if later else ()))


def _with_rows(kept: Series, new: Series, fresh: npt.NDArray[np.bool_]) -> Series:
    return series_of(
        np.concatenate([kept.ts, new.ts[fresh]]),
        np.concatenate([kept.known_ms, new.known_ms[fresh]]),
        np.concatenate([kept.values, new.values[fresh]]),
        new.stale_ms,
    )


def list_series(root: Path) -> list[SeriesListing]:
    """List all stored series by source, name and symbol; a broken file is listed with its fault."""
    paths = [p for p in (root / FOLDER).glob(f"*/*-*{_SUFFIX}") if not p.name.startswith(".")]
    found = [_listing(path) for path in paths]
    return sorted(found, key=lambda one: (one.source, one.name, one.symbol))


def _listing(path: Path) -> SeriesListing:
    symbol, _, name = path.name.removesuffix(_SUFFIX).partition("-")
    try:
        series = read_series(path)
    except DataError as e:
        return SeriesListing(path.parent.name, symbol, name, 0, 0, None, None, None, 0, str(e))
    first, last, known = (
        (int(series.ts.min()), int(series.ts.max()), int(series.known_ms[-1]))
        if len(series)
        else (None, None, None)
    )
    versions = len(series) - len(np.unique(series.ts))
    return SeriesListing(
        path.parent.name, symbol, name, len(series), versions, first, last, known, series.stale_ms
    )


# ---- reading again -------------------------------------------------------------------------------

Stamp = tuple[int, int, int]


class StoredSeries:
    """Hold the series of some covariates for some symbols, and read a file again when it changes.

    The first reading raises DataError or ConfigurationError. Later a file that cannot be read
    leaves what was read before, which gets stale by its own bound, and is named in `problems`.
    """

    def __init__(
        self, root: Path, covariates: Sequence[str], symbols: Sequence[str], prefer: str = ""
    ) -> None:
        self._paths = {one: found_series(root, one, symbols, prefer) for one in covariates}
        self._read: dict[Path, tuple[Stamp, Series]] = {}
        self.problems: dict[Path, str] = {}
        for path in self._distinct():
            self._read[path] = (_stamp(path), read_series(path))

    def known(self) -> dict[str, tuple[Series | None, ...]]:
        """Give the series by covariate, one of each symbol; the same objects while unchanged."""
        return {
            one: tuple(None if path is None else self._read[path][1] for path in paths)
            for one, paths in self._paths.items()
        }

    def refresh(self) -> bool:
        """Read what has changed since; tell whether anything did."""
        changed = False
        for path in self._distinct():
            try:
                stamp = _stamp(path)
                if self._read[path][0] == stamp:
                    continue
                self._read[path] = (stamp, read_series(path))
            except DataError as e:
                self.problems[path] = str(e)
                continue
            self.problems.pop(path, None)
            changed = True
        return changed

    def _distinct(self) -> list[Path]:
        paths = (p for ones in self._paths.values() for p in ones if p is not None)
        return list(dict.fromkeys(paths))


def _stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except OSError as e:
        raise DataError(f"{path}: {e.strerror}") from e
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


EMPTY: Final = Series(
    np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64)
)
