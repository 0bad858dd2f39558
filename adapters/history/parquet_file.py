"""Read and write one Parquet file of bars or funding rates, and believe nothing in it unchecked.

A file we wrote carries the SHA-256 of its content in its metadata and checksums of its pages; a
file from elsewhere needs only the layout. Either way a reader gets rows that satisfy every rule of
`bars_problem` and `rates_problem`, or `CorruptFile` with the path and the first bad row. The
bytes of a file depend on its content alone, so that a resumed download equals one in a single go.
Bars that a running daemon saw carry where they came from in three more columns; files without them
are as valid. What was written is noted beside a file as well (see `written`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from adapters.history.locks import only_writer, part_of
from adapters.history.written import (
    ASIDE,
    Written,
    move_record,
    read_record,
    spoiled_bytes,
    write_record,
)
from daemon.domain.bar import FIELDS, Field, Floats, Proof
from daemon.domain.failures import CorruptFile, DataError
from daemon.domain.units import Timeframe, iso, require

Instants = npt.NDArray[np.int64]

TIME: Final = "ts"
BAR_COLUMNS: Final = ("open", "high", "low", "close", "volume")
PROVENANCE_COLUMNS: Final = ("proof", "proven_ms", "revised_ms")
RATE: Final = "rate"
CHECKSUM: Final = b"content_sha256"
RATE_MAX: Final = 0.25  # venues cap a settlement near 0.03; beyond this it is no rate


@dataclass(frozen=True, slots=True)
class Provenance:
    """Say where bars came from: proof (T,) uint8 of `Proof`, proven_ms (T,), revised_ms (T,).

    Instants are market time in ms: when the proof came, and when another value was first shown;
    0 means not known, and never.
    """

    proof: npt.NDArray[np.uint8]
    proven_ms: Instants
    revised_ms: Instants

    @classmethod
    def stored(cls, rows: int) -> Provenance:
        """Say of bars that they come from history, which is all that is known of them."""
        nothing = np.zeros(rows, dtype=np.int64)
        return cls(np.full(rows, Proof.HISTORY, dtype=np.uint8), nothing, nothing)

    def at(self, rows: npt.NDArray[Any]) -> Provenance:
        """Take some rows."""
        return Provenance(self.proof[rows], self.proven_ms[rows], self.revised_ms[rows])


@dataclass(frozen=True, slots=True)
class Bars:
    """Hold the bars of one instrument: open_ms (T,) strictly ascending, values (T, 5).

    provenance: None where nobody noted where the bars came from.
    """

    open_ms: Instants
    values: Floats
    provenance: Provenance | None = None

    def __len__(self) -> int:
        return len(self.open_ms)

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[float]]) -> Bars:
        """Take rows of [open_ms, open, high, low, close, volume] as exchanges answer them."""
        table = np.array(rows, dtype=np.float64).reshape(-1, 1 + FIELDS)
        return cls(table[:, 0].astype(np.int64), np.ascontiguousarray(table[:, 1:]))


@dataclass(frozen=True, slots=True)
class Rates:
    """Hold the funding of one instrument: settle_ms (S,) strictly ascending, rates (S,)."""

    settle_ms: Instants
    rates: Floats

    def __len__(self) -> int:
        return len(self.settle_ms)

    @classmethod
    def from_pairs(cls, pairs: Sequence[tuple[int, float]]) -> Rates:
        """Take pairs of (settle_ms, rate)."""
        times = np.array([at_ms for at_ms, _ in pairs], dtype=np.int64)
        return cls(times, np.array([rate for _, rate in pairs], dtype=np.float64))


NO_BARS: Final = Bars(np.empty(0, dtype=np.int64), np.empty((0, FIELDS)))
NO_RATES: Final = Rates(np.empty(0, dtype=np.int64), np.empty(0))


def read_bars(path: Path, timeframe: Timeframe) -> Bars:
    """Read and check a file of bars; raise CorruptFile naming the file, the row and the reason."""
    table, checksum = read_columns(path, BAR_COLUMNS, PROVENANCE_COLUMNS)
    values = np.column_stack([table[name] for name in BAR_COLUMNS])
    noted = None
    if PROVENANCE_COLUMNS[0] in table:
        noted = Provenance(*(table[name] for name in PROVENANCE_COLUMNS))
    bars = Bars(table[TIME], np.ascontiguousarray(values, dtype=np.float64), noted)
    _refuse(path, bars_problem(bars, timeframe))
    compare(path, checksum, _sha256(bars.open_ms, bars.values, noted))
    return bars


def read_rates(path: Path) -> Rates:
    """Read and check a file of funding rates; raise CorruptFile like `read_bars`."""
    table, checksum = read_columns(path, (RATE,))
    rates = Rates(table[TIME], table[RATE])
    _refuse(path, rates_problem(rates))
    compare(path, checksum, _sha256(rates.settle_ms, rates.rates))
    return rates


ORIGIN: Final = "origin"
GENERATED: Final = "generated"


def is_generated(path: Path) -> bool:
    """Tell whether a file of bars says that its market was generated; raises CorruptFile."""
    return _metadata(path).get(ORIGIN.encode()) == GENERATED.encode()


def _metadata(path: Path) -> Mapping[bytes, bytes]:
    try:
        return pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError, ValueError) as e:
        raise CorruptFile(f"{path}: is no readable Parquet file: {e}") from e


def write_bars(path: Path, bars: Bars, timeframe: Timeframe, facts: Mapping[str, str]) -> None:
    """Replace the file by these bars in one step; raise DataError when the disk refuses.

    `facts` (venue, symbol) go into the metadata; they must not depend on when or how one writes.
    """
    problem = bars_problem(bars, timeframe)
    require(problem is None, f"{path}: these bars must not be stored: {problem}")
    columns: dict[str, npt.NDArray[Any]] = dict(zip(BAR_COLUMNS, bars.values.T, strict=True))
    noted = bars.provenance
    if noted is not None:
        columns |= dict(zip(PROVENANCE_COLUMNS, _plain(noted), strict=True))
    checksum = _sha256(bars.open_ms, bars.values, noted)
    write_columns(
        path, {TIME: bars.open_ms, **columns}, checksum, {**facts, "timeframe": timeframe.label}
    )


def write_rates(path: Path, rates: Rates, facts: Mapping[str, str]) -> None:
    """Replace the file by these funding rates in one step, like `write_bars`."""
    problem = rates_problem(rates)
    require(problem is None, f"{path}: these rates must not be stored: {problem}")
    checksum = _sha256(rates.settle_ms, rates.rates)
    write_columns(path, {TIME: rates.settle_ms, RATE: rates.rates}, checksum, facts)


def merged_bars(kept: Bars, new: Bars) -> tuple[Bars, int]:
    """Unite two series in time order; where both have a bar the kept one stays.

    Gives the union and how many new bars differed from the kept ones of the same open.
    """
    open_ms, first = np.unique(np.concatenate([kept.open_ms, new.open_ms]), return_index=True)
    values = np.concatenate([kept.values, new.values])[first]
    at = np.searchsorted(open_ms, new.open_ms)
    is_kept = first[at] < len(kept)
    revised = (values[at] != new.values).any(axis=1) & is_kept
    noted = _merged_provenance(kept, new, first)
    return Bars(open_ms, values, noted), int(np.count_nonzero(revised))


def _merged_provenance(kept: Bars, new: Bars, rows: npt.NDArray[np.intp]) -> Provenance | None:
    if kept.provenance is None and new.provenance is None:
        return None
    one, other = (b.provenance or Provenance.stored(len(b)) for b in (kept, new))
    return Provenance(
        np.concatenate([one.proof, other.proof]),
        np.concatenate([one.proven_ms, other.proven_ms]),
        np.concatenate([one.revised_ms, other.revised_ms]),
    ).at(rows)


def _plain(noted: Provenance) -> tuple[npt.NDArray[np.uint8], Instants, Instants]:
    return noted.proof, noted.proven_ms, noted.revised_ms


def merged_rates(kept: Rates, new: Rates) -> Rates:
    """Unite two series in time order; where both have a rate the kept one stays."""
    settle_ms, first = np.unique(np.concatenate([kept.settle_ms, new.settle_ms]), return_index=True)
    return Rates(settle_ms, np.concatenate([kept.rates, new.rates])[first])


# ---- what must hold ------------------------------------------------------------------------------


def bars_problem(bars: Bars, timeframe: Timeframe) -> str | None:
    """Say in words the first rule that the bars break and where, or None."""
    times, values = bars.open_ms, bars.values
    problem = _order_problem(times)
    if problem:
        return problem
    open_, high, low, close, volume = (values[:, field] for field in Field)
    noted = bars.provenance
    if noted is not None and any(len(one) != len(times) for one in _plain(noted)):
        return "its provenance has another number of rows"
    checks = (
        (f"is off the {timeframe.label} grid", times % timeframe.ms != 0),
        ("holds NaN or infinity", ~np.isfinite(values).all(axis=1)),
        ("has a price that is not positive", low <= 0),
        ("has its high below open, low or close", high < np.maximum(np.maximum(open_, close), low)),
        ("has its low above open or close", low > np.minimum(open_, close)),
        ("has a negative volume", volume < 0),
    )
    return _first_problem(times, checks)


def rates_problem(rates: Rates) -> str | None:
    """Say in words the first rule that the funding rates break and where, or None."""
    problem = _order_problem(rates.settle_ms)
    # a comparison with NaN is false, so this refuses NaN as well
    too_large = ~(np.abs(rates.rates) <= RATE_MAX)
    what = f"has no rate between -{RATE_MAX} and {RATE_MAX}"
    return problem or _first_problem(rates.settle_ms, ((what, too_large),))


def _order_problem(times: Instants) -> str | None:
    steps = np.diff(times)
    wrong = np.flatnonzero(steps <= 0)
    if not len(wrong):
        return None
    row = int(wrong[0]) + 1
    what = "is there twice" if steps[row - 1] == 0 else "comes after a later one"
    return f"row {row} ({_when(times[row])}) {what}"


def _first_problem(times: Instants, checks: Sequence[tuple[str, Any]]) -> str | None:
    for what, broken in checks:
        if broken.any():
            row = int(np.argmax(broken))
            return f"row {row} ({_when(times[row])}) {what}"
    return None


def _when(at_ms: int) -> str:
    try:
        return iso(int(at_ms))
    except (ValueError, OverflowError, OSError):  # beyond the calendar: show the number itself
        return f"{TIME} = {at_ms}"


def _refuse(path: Path, problem: str | None) -> None:
    if problem:
        raise CorruptFile(f"{path}: {problem}")


def compare(path: Path, stored: str | None, actual: str) -> None:
    """Raise CorruptFile where a file names another checksum than its content has."""
    if stored not in (None, actual):
        raise CorruptFile(
            f"{path}: its content has SHA-256 {actual[:12]}.., written was {stored[:12]}..;"
            " check-data --repair fetches it again"
        )


def _sha256(times: Instants, values: Floats, noted: Provenance | None = None) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(times, dtype="<i8").data)
    digest.update(np.ascontiguousarray(values, dtype="<f8").data)
    for one in () if noted is None else _plain(noted):
        digest.update(np.ascontiguousarray(one, dtype=one.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


# ---- Parquet -------------------------------------------------------------------------------------


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be read so that it stays for a person to look at; give the name.

    The name holds the first 8 digits of the SHA-256 of its bytes, so that a second bad file of the
    same name does not replace the first. What it had held is noted beside it. Raises DataError when
    the disk refuses.
    """
    try:
        span = _span_left(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        aside = path.with_name(f"{path.name}{ASIDE}{digest}")
        path.replace(aside)
        move_record(path, aside, span)
    except OSError as e:
        raise DataError(f"{path}: is corrupt and cannot be moved aside: {e}") from e
    return aside


def put_aside_if_damaged(path: Path, read: Callable[[Path], object]) -> str | None:
    """Set a file aside that `read` finds corrupt; give what was wrong and its new name, or None.

    It is read without its lock, so that nobody waits for a sound one. A damaged one is read once
    more as its only writer: meanwhile another may have moved it and written it anew. Raises
    DataError when the disk refuses.
    """
    try:
        read(path)
    except CorruptFile:
        with only_writer(path):
            if not path.exists():
                return None
            try:
                read(path)
            except CorruptFile as e:
                return f"{e}; it is kept as {set_aside(path).name}"
    except DataError:
        if path.exists():  # else another has just moved it
            raise
    return None


def _span_left(path: Path) -> tuple[int, int] | None:
    """Give the first and last time of a damaged file, where those can still be read."""
    try:
        times = read_times(path)
    except DataError:
        return None
    return (int(times[0]), int(times[-1])) if len(times) else None


def read_times(path: Path) -> Instants:
    """Read the time column alone, checked for order only; raise CorruptFile when it is not."""
    table, _ = read_columns(path, ())
    _refuse(path, _order_problem(table[TIME]))
    return table[TIME]


def last_time(path: Path) -> int | None:
    """Give the last `ts` of a file, None for one without rows; raises CorruptFile.

    The record of what was written answers where it is of the content that the file names: a start
    asks this of every instrument, and the time column of years is long.
    """
    written = read_record(path)
    if written is not None and written.rows and written.content == _named_checksum(path):
        return written.last_ms
    times = read_times(path)
    return int(times[-1]) if len(times) else None


def _named_checksum(path: Path) -> str | None:
    found = _metadata(path).get(CHECKSUM)
    return None if found is None else found.decode("ascii", "replace")


def read_columns(
    path: Path, value_columns: Sequence[str], optional: Sequence[str] = ()
) -> tuple[dict[str, npt.NDArray[Any]], str | None]:
    """Read `ts` and columns of floats as they are, and the checksum that the file names, if any.

    optional: columns of integers that are read where the file has them. Raises CorruptFile.
    """
    wanted = {TIME: pa.int64()} | dict.fromkeys(value_columns, pa.float64())
    whole = b""
    try:
        origin: Any = path
        if value_columns:  # what is judged as bytes and what is read must be the same file
            whole = path.read_bytes()
            origin = pa.BufferReader(whole)
        with pq.ParquetFile(origin, page_checksum_verification=True, memory_map=False) as file:
            schema, metadata = file.schema_arrow, file.schema_arrow.metadata or {}
            if any(name in schema.names for name in optional):  # all of them, or the file is bad
                wanted |= {n: pa.uint8() if n == "proof" else pa.int64() for n in optional}
            _check_schema(path, schema, wanted)
            # with threads, a column that cannot be read may end the process while others are read
            table = file.read(columns=list(wanted), use_threads=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, ValueError) as e:
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise CorruptFile(f"{path}: is no readable Parquet file: {reason}") from e
    for name in wanted:
        if table.column(name).null_count:
            raise CorruptFile(
                f"{path}: column {name!r} holds {table.column(name).null_count} nulls"
            )
    arrays = {name: _array(table.column(name), kind) for name, kind in wanted.items()}
    found = metadata.get(CHECKSUM)
    checksum = None if found is None else found.decode("ascii", "replace")
    problem = spoiled_bytes(path, checksum, whole) if value_columns else None
    if problem:
        raise CorruptFile(f"{path}: {problem}; check-data --repair fetches it again")
    return arrays, checksum


def _array(column: Any, kind: Any) -> npt.NDArray[Any]:
    # `to_numpy` would import pandas: 60 MB and a third of a second for nothing
    chunks = [np.from_dlpack(chunk) for chunk in column.chunks]
    if len(chunks) == 1:
        return chunks[0]
    return np.concatenate([np.empty(0, dtype=kind.to_pandas_dtype()), *chunks])


def _arrow(column: npt.NDArray[Any]) -> Any:
    """Give a column to Arrow as it lies in memory; `pa.array` would import pandas to look at it."""
    whole = np.ascontiguousarray(column)
    kind = pa.from_numpy_dtype(whole.dtype)
    return pa.Array.from_buffers(kind, len(whole), [None, pa.py_buffer(whole)])


def _check_schema(path: Path, schema: Any, wanted: Mapping[str, Any]) -> None:
    for name, kind in wanted.items():
        if name not in schema.names:
            raise CorruptFile(
                f"{path}: column {name!r} is missing; there are {', '.join(schema.names) or 'none'}"
            )
        if schema.field(name).type != kind:
            raise CorruptFile(
                f"{path}: column {name!r} is of type {schema.field(name).type}; it must be {kind}"
            )


_ENCODINGS: Final = {"i": "DELTA_BINARY_PACKED", "f": "BYTE_STREAM_SPLIT"}


def write_columns(
    path: Path, columns: Mapping[str, npt.NDArray[Any]], checksum: str, facts: Mapping[str, str]
) -> None:
    """Replace a file by these columns in one step; raise DataError when the disk refuses.

    Nobody else writes it meanwhile. Who merges into what is stored holds `only_writer` as well from
    before reading it, or the other's rows are lost.
    """
    with only_writer(path):
        _write_columns(path, columns, checksum, facts)


def _write_columns(
    path: Path, columns: Mapping[str, npt.NDArray[Any]], checksum: str, facts: Mapping[str, str]
) -> None:
    metadata = {name.encode(): value.encode() for name, value in sorted(facts.items())}
    table = pa.table({name: _arrow(column) for name, column in columns.items()})
    table = table.replace_schema_metadata({**metadata, CHECKSUM: checksum.encode()})
    temporary = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            compression_level=6,
            use_dictionary=False,
            column_encoding={
                name: _ENCODINGS.get(column.dtype.kind, "PLAIN") for name, column in columns.items()
            },
            write_page_checksum=True,
        )
        _make_durable(temporary)
        whole = hashlib.sha256(temporary.read_bytes()).hexdigest()
        temporary.replace(path)
        _make_durable(path.parent)
        times = columns[TIME]
        span = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        write_record(path, Written(*span, len(times), checksum, whole))
    except (OSError, pa.ArrowException) as e:
        with contextlib.suppress(OSError):  # the first failure is the one to tell
            temporary.unlink()
        raise DataError(f"{path}: cannot be written: {e}") from e


def _make_durable(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
