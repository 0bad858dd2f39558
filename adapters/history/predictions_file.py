"""Write and read a table of predictions as one Parquet file; believe nothing in it unchecked.

Columns: `as_of` (int64, ms of UTC), `symbol` (string, as in file names), `prediction` (float64),
and of each timeframe of k minutes `mean_<k>` and `variance_<k>` (float64, NaN = no forecast then).
Rows rise by as_of, then symbol. Metadata: `disagreement`, the correlation of the timeframes' errors
from instants on; `readings`, how forecasts are combined from instants on; facts of whoever wrote
it; and the SHA-256 of the content, which is the table's id. A file from elsewhere needs only the
columns.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from adapters.history.parquet_file import CHECKSUM
from daemon.domain.failures import CorruptFile, DataError
from daemon.domain.forecast import is_disagreement
from daemon.domain.predictions import Disagreements, PredictionTable, Readings
from daemon.domain.units import Timeframe, require

AS_OF: Final = "as_of"
SYMBOL: Final = "symbol"
PREDICTION: Final = "prediction"
_DISAGREEMENT: Final = b"disagreement"
_READINGS: Final = b"readings"
_FACTS: Final = b"facts"
_MEAN: Final = re.compile(r"^mean_([1-9][0-9]{0,4})$")
ID_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Stored:
    """Hold a table as read: its id, which is a hash of its content, and what its writer noted."""

    table: PredictionTable
    table_id: str
    facts: Mapping[str, str]


class _Content:
    """Hash the content column by column, so that it does not matter in how many parts it came."""

    def __init__(self, timeframes: Sequence[Timeframe]) -> None:
        self._names = column_names(timeframes)
        self._digests = {name: hashlib.sha256() for name in self._names}
        self._last_ms = -(2**63)

    def add(self, table: PredictionTable) -> None:
        if not len(table):
            return
        rises = self._last_ms < int(table.as_of_ms[0])
        require(rises, f"predictions of {table.as_of_ms[0]} come after those of {self._last_ms}")
        self._last_ms = int(table.as_of_ms[-1])
        for name, column in _columns(table).items():
            self._digests[name].update(np.ascontiguousarray(column).data)
        words = [table.symbols[n] for n in table.place.tolist()]
        self._digests[SYMBOL].update("".join(f"{word}\n" for word in words).encode())

    def digest(self, table: PredictionTable | None) -> str:
        """Hash all that was added, and how its forecasts are combined, as a table has it."""
        known = () if table is None else table.disagreement
        whole = hashlib.sha256(_disagreement_text(known))
        if table is not None and table.readings:
            whole.update(_readings_text(table.readings))
        for name in self._names:
            whole.update(name.encode() + self._digests[name].digest())
        return whole.hexdigest()


def column_names(timeframes: Sequence[Timeframe]) -> list[str]:
    """Name the columns of a table of these timeframes, in order."""
    pairs = ((f"mean_{t.minutes}", f"variance_{t.minutes}") for t in timeframes)
    return [AS_OF, SYMBOL, PREDICTION, *(name for pair in pairs for name in pair)]


def _columns(table: PredictionTable) -> dict[str, npt.NDArray[Any]]:
    """Give the columns but the symbols."""
    found: dict[str, npt.NDArray[Any]] = {AS_OF: table.as_of_ms, PREDICTION: table.prediction}
    for k, timeframe in enumerate(table.timeframes):
        found[f"mean_{timeframe.minutes}"] = table.mean[k]
        found[f"variance_{timeframe.minutes}"] = table.variance[k]
    return found


# ---- writing -------------------------------------------------------------------------------------


def write_predictions(
    path: Path,
    parts: Iterable[PredictionTable],
    timeframes: Sequence[Timeframe],
    facts: Mapping[str, str],
) -> str:
    """Replace the file by the rows of the parts, one after the other, and give the table's id.

    The parts rise in time and are held one at a time; disagreement and readings are those of the
    last one.
    Raises DataError when the disk refuses, and what the making of a part raises.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    content, last = _Content(timeframes), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(draft, _schema(timeframes), **_OPTIONS) as writer:
            for part in parts:
                require(part.problem is None, f"{path}: not to be stored: {part.problem}")
                content.add(part)
                writer.write_table(_arrow_table(part))
                last = part
            checksum = content.digest(last)
            about = json.dumps(dict(facts), sort_keys=True).encode()
            held, read = ((), ()) if last is None else (last.disagreement, last.readings)
            writer.add_key_value_metadata(
                {
                    _DISAGREEMENT: _disagreement_text(held),
                    _READINGS: _readings_text(read),
                    _FACTS: about,
                    CHECKSUM: checksum.encode(),
                }
            )
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, pa.ArrowException) as e:
        raise DataError(f"{path}: cannot be written: {e}") from e
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return checksum[:ID_DIGITS]


_OPTIONS: Final[Mapping[str, Any]] = {
    "compression": "zstd",
    "compression_level": 6,
    "use_dictionary": [SYMBOL],
    "write_page_checksum": True,
}


def _schema(timeframes: Sequence[Timeframe]) -> Any:
    kinds = {AS_OF: pa.int64(), SYMBOL: pa.string()}
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in column_names(timeframes)])


def _arrow_table(table: PredictionTable) -> Any:
    columns = _columns(table)
    words = pa.DictionaryArray.from_arrays(
        _arrow(table.place.astype(np.int32)), pa.array(list(table.symbols), pa.string())
    )
    made = {name: _arrow(column) for name, column in columns.items()}
    made[SYMBOL] = words.cast(pa.string())
    return pa.table(made).select(column_names(table.timeframes))


def _arrow(column: npt.NDArray[Any]) -> Any:
    whole = np.ascontiguousarray(column)
    return pa.Array.from_buffers(
        pa.from_numpy_dtype(whole.dtype), len(whole), [None, pa.py_buffer(whole)]
    )


def _disagreement_text(known: Disagreements) -> bytes:
    return json.dumps([[from_ms, matrix.tolist()] for from_ms, matrix in known]).encode()


def _readings_text(known: Readings) -> bytes:
    return msgspec.json.encode(known)


# ---- reading -------------------------------------------------------------------------------------


def read_predictions(path: Path) -> Stored:
    """Read a whole table; raise CorruptFile or DataError naming the file, the row and the value."""
    try:
        raw = path.read_bytes()  # what is judged and what is read must be the same bytes
        with pq.ParquetFile(pa.BufferReader(raw), page_checksum_verification=True) as file:
            schema, metadata = file.schema_arrow, file.schema_arrow.metadata or {}
            timeframes = _timeframes_of(path, schema)
            table = file.read(columns=column_names(timeframes), use_threads=False)
            metadata = {**(file.metadata.metadata or {}), **metadata}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, ValueError) as e:
        raise CorruptFile(f"{path}: is no readable Parquet file: {e}") from e
    for name in table.column_names:
        if table.column(name).null_count:
            nulls = table.column(name).null_count
            raise CorruptFile(f"{path}: column {name!r} holds {nulls} nulls; unknown means NaN")
    found = _table(path, table, timeframes, metadata)
    if found.problem:
        raise CorruptFile(f"{path}: {found.problem}")
    content = _Content(timeframes)
    content.add(found)
    checksum = content.digest(found)
    if metadata.get(CHECKSUM, checksum.encode()) != checksum.encode():
        raise CorruptFile(f"{path}: its content is not what was written into it")
    return Stored(found, checksum[:ID_DIGITS], _facts(path, metadata.get(_FACTS, b"{}")))


def _timeframes_of(path: Path, schema: Any) -> tuple[Timeframe, ...]:
    minutes = [int(hit[1]) for name in schema.names if (hit := _MEAN.match(name))]
    timeframes = tuple(Timeframe(m) for m in minutes)
    wanted = column_names(timeframes)
    for name in wanted:
        if name not in schema.names:
            there = ", ".join(schema.names) or "none"
            raise CorruptFile(f"{path}: column {name!r} is missing; there are {there}")
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise CorruptFile(f"{path}: column {name!r} is there more than once")
        if name not in wanted:
            raise CorruptFile(
                f"{path}: column {name!r} is none of a table of predictions; accepted are "
                f"{AS_OF}, {SYMBOL}, {PREDICTION} and pairs mean_<minutes>, variance_<minutes>"
            )
    for field in _schema(timeframes):
        kind = schema.field(field.name).type
        if kind != field.type:
            raise CorruptFile(f"{path}: column {field.name!r} is {kind}; it must be {field.type}")
    return timeframes


def _table(
    path: Path, table: Any, timeframes: Sequence[Timeframe], metadata: Mapping[bytes, bytes]
) -> PredictionTable:
    arrays = {name: _numbers(table.column(name)) for name in table.column_names if name != SYMBOL}
    coded = table.column(SYMBOL).combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    words = coded.dictionary.to_pylist()
    symbols = sorted(words)
    rank = np.array([symbols.index(word) for word in words], dtype=np.int64)
    codes = np.from_dlpack(coded.indices)
    shape = (len(timeframes), len(table))
    means, variances = (
        np.array([arrays[f"{name}_{t.minutes}"] for t in timeframes]).reshape(shape)
        for name in ("mean", "variance")
    )
    return PredictionTable(
        symbols=tuple(symbols),
        timeframes=tuple(timeframes),
        as_of_ms=arrays[AS_OF],
        place=rank[codes] if len(codes) else np.empty(0, dtype=np.int64),
        prediction=arrays[PREDICTION],
        mean=means,
        variance=variances,
        disagreement=tuple(
            _disagreements(path, metadata.get(_DISAGREEMENT, b"[]"), len(timeframes))
        ),
        readings=_readings(path, metadata.get(_READINGS, b"[]"), len(timeframes)),
    )


def _numbers(column: Any) -> npt.NDArray[Any]:
    chunks = [np.from_dlpack(chunk) for chunk in column.chunks]
    return np.concatenate(chunks) if chunks else np.empty(0, column.type.to_pandas_dtype())


def _disagreements(path: Path, text: bytes, K: int) -> Iterator[tuple[int, Any]]:
    before = None
    try:
        for from_ms, rows in json.loads(text):
            matrix = np.array(rows, dtype=np.float64)
            rises = before is None or int(from_ms) > before
            if not (rises and is_disagreement(matrix, K)):
                raise ValueError(f"the one from {from_ms} on does not fit")
            before = int(from_ms)
            yield before, matrix
    except (ValueError, TypeError) as e:
        raise CorruptFile(f"{path}: its disagreement cannot be read: {e}") from e


def _readings(path: Path, text: bytes, K: int) -> Readings:
    try:
        found = msgspec.json.decode(text, type=Readings)
    except msgspec.DecodeError as e:
        raise CorruptFile(f"{path}: how it is combined cannot be read: {e}") from e
    before = -1
    for from_ms, reading in found:
        problem = reading.problem(K)
        if problem or from_ms <= before:
            why = problem or f"the one from {from_ms} on does not rise"
            raise CorruptFile(f"{path}: how it is combined cannot be read: {why}")
        before = from_ms
    return found


def _facts(path: Path, text: bytes) -> dict[str, str]:
    try:
        return {str(name): str(value) for name, value in json.loads(text).items()}
    except (ValueError, AttributeError) as e:
        raise CorruptFile(f"{path}: its facts cannot be read: {e}") from e
