"""Tables of predictions on disk: the same content, the same bytes; nothing believed unchecked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters.history.predictions_file import read_predictions, write_predictions
from daemon.domain.failures import CorruptFile, InvariantViolated
from daemon.domain.predictions import PredictionTable, rows_of
from daemon.domain.units import HOUR_MS, Timeframe

START_MS = 1_704_067_200_000
FRAMES = (Timeframe(60), Timeframe(120))
SYMBOLS = ("ETHUSDT", "BTCUSDT", "ADAUSDT")


def table_of(T: int = 6) -> PredictionTable:
    """Make a table of three symbols; ADA has no prediction at first, 2h speaks every other hour."""
    draw = np.random.default_rng(3)
    prediction = draw.standard_normal((T, 3))
    mean, variance = draw.standard_normal((2, T, 3)), draw.random((2, T, 3))
    prediction[:2, 2] = mean[:, :2, 2] = np.nan
    mean[1, 1::2] = variance[1, 1::2] = np.nan
    as_of_ms = START_MS + HOUR_MS * np.arange(T, dtype=np.int64)
    held = ((START_MS, np.array([[1.0, 0.4], [0.4, 1.0]])), (START_MS + HOUR_MS, np.eye(2)))
    return rows_of(SYMBOLS, FRAMES, as_of_ms, prediction, mean, variance, held)


def cut(table: PredictionTable, rows: slice) -> PredictionTable:
    return replace(
        table,
        as_of_ms=table.as_of_ms[rows],
        place=table.place[rows],
        prediction=table.prediction[rows],
        mean=table.mean[:, rows],
        variance=table.variance[:, rows],
    )


def test_rows_rise_by_instant_and_symbol_and_leave_out_what_is_not_known() -> None:
    table = table_of()
    assert table.symbols == ("ADAUSDT", "BTCUSDT", "ETHUSDT")
    assert table.place[:7].tolist() == [1, 2, 1, 2, 0, 1, 2]
    assert len(table) == 3 * 6 - 2
    assert table.problem is None


def test_a_table_comes_back_as_it_was_with_what_was_noted(tmp_path: Path) -> None:
    table, path = table_of(), tmp_path / "t.parquet"
    table_id = write_predictions(path, [table], FRAMES, {"model": "abc", "kind": "ridge"})
    stored = read_predictions(path)
    assert (stored.table_id, dict(stored.facts)) == (table_id, {"model": "abc", "kind": "ridge"})
    found = stored.table
    assert (found.symbols, found.timeframes) == (table.symbols, FRAMES)
    for name in ("as_of_ms", "place", "prediction", "mean", "variance"):
        assert np.array_equal(getattr(found, name), getattr(table, name), equal_nan=True), name
    assert [at for at, _ in found.disagreement] == [START_MS, START_MS + HOUR_MS]
    assert np.array_equal(found.disagreement[0][1], table.disagreement[0][1])


def test_the_same_content_is_the_same_bytes_and_in_parts_the_same_id(tmp_path: Path) -> None:
    table = table_of()
    one, two, parts = (tmp_path / name for name in ("1.parquet", "2.parquet", "3.parquet"))
    first = write_predictions(one, [table], FRAMES, {"b": "2", "a": "1"})
    write_predictions(two, [table], FRAMES, {"a": "1", "b": "2"})
    assert one.read_bytes() == two.read_bytes()
    pieces = [cut(table, slice(0, 4)), cut(table, slice(4, None))]
    assert write_predictions(parts, pieces, FRAMES, {}) == first
    assert read_predictions(parts).table_id == first
    other = replace(table, prediction=table.prediction + 1e-9)
    assert write_predictions(two, [other], FRAMES, {}) != first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.parquet", "2.parquet", "3.parquet"]


def test_an_empty_table_comes_back(tmp_path: Path) -> None:
    write_predictions(tmp_path / "t.parquet", [cut(table_of(), slice(0, 0))], FRAMES, {})
    assert len(read_predictions(tmp_path / "t.parquet").table) == 0


def foreign(path: Path, **columns: Any) -> Path:
    """Write a file as somebody else would, with one column more, less or other."""
    made: dict[str, Any] = {
        "as_of": pa.array([START_MS, START_MS], pa.int64()),
        "symbol": pa.array(["ADAUSDT", "BTCUSDT"]),
        "prediction": pa.array([0.1, 0.2]),
        "mean_60": pa.array([0.1, float("nan")]),
        "variance_60": pa.array([0.1, 0.2]),
    } | columns
    pq.write_table(pa.table({k: v for k, v in made.items() if v is not None}), path)
    return path


def test_a_foreign_file_needs_the_columns_only(tmp_path: Path) -> None:
    stored = read_predictions(foreign(tmp_path / "t.parquet"))
    assert stored.table.symbols == ("ADAUSDT", "BTCUSDT")
    assert (stored.table.disagreement, dict(stored.facts)) == ((), {})


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"prediction": None}, "column 'prediction' is missing"),
        ({"variance_60": None}, "column 'variance_60' is missing"),
        ({"extra": pa.array([1, 2])}, "column 'extra' is none of a table"),
        ({"as_of": pa.array([1, 2], pa.int32())}, "column 'as_of' is int32; it must be int64"),
        ({"prediction": pa.array([0.1, None])}, "column 'prediction' holds 1 nulls"),
        (
            {"symbol": pa.array(["BTCUSDT", "ADAUSDT"])},
            r"row 1 \(2024-01-01T00:00:00Z ADAUSDT\) comes after row 0",
        ),
        (
            {"symbol": pa.array(["BTCUSDT", "BTCUSDT"])},
            r"row 1 \(2024-01-01T00:00:00Z BTCUSDT\) is there twice",
        ),
        (
            {"as_of": pa.array([START_MS, START_MS - HOUR_MS], pa.int64())},
            "row 1 .* comes after row 0",
        ),
        ({"prediction": pa.array([0.1, float("nan")])}, "row 1 .*: prediction is nan"),
        ({"variance_60": pa.array([0.1, -0.5])}, "row 1 .*: variance_60 is -0.5"),
        ({"mean_60": pa.array([float("inf"), 0.0])}, "row 0 .*: mean_60 is inf"),
        (
            {"as_of": pa.array([START_MS // 1000] * 2, pa.int64())},
            "row 0 .*: mean_60 is 0.1, but no 1h bar closes at 1704067200: as_of is",
        ),
        (
            {"variance_60": pa.array([float("nan"), 0.2])},
            "row 0 .*: mean_60 is 0.1 and its variance is nan",
        ),
    ],
)
def test_what_is_wrong_is_said_with_file_row_and_value(
    tmp_path: Path, columns: dict[str, Any], words: str
) -> None:
    with pytest.raises(CorruptFile, match=rf"t\.parquet: .*{words}"):
        read_predictions(foreign(tmp_path / "t.parquet", **columns))


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("disagreement", "[[5, [[1.0]]], [4, [[1.0]]]]", "the one from 4 on does not fit"),
        ("disagreement", "[[5, [[1.0, 0.0]]]]", "its disagreement cannot be read"),
        ("disagreement", "[", "its disagreement cannot be read"),
        ("facts", "[]", "its facts cannot be read"),
        ("content_sha256", "0" * 64, "its content is not what was written"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(
    tmp_path: Path, key: str, text: str, words: str
) -> None:
    path = foreign(tmp_path / "t.parquet")
    pq.write_table(pq.read_table(path).replace_schema_metadata({key: text}), path)
    with pytest.raises(CorruptFile, match=words):
        read_predictions(path)


def test_a_correlation_that_cannot_be_inverted_and_a_column_twice_are_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.parquet"
    held = ((START_MS, np.ones((2, 2))),)
    write_predictions(path, [replace(table_of(), disagreement=held)], FRAMES, {})
    with pytest.raises(CorruptFile, match="the one from 1704067200000 on does"):
        read_predictions(path)
    table = pq.read_table(foreign(path))
    table = table.append_column("mean_60", table.column("mean_60"))
    pq.write_table(table.append_column("variance_60", table.column("variance_60")), path)
    with pytest.raises(CorruptFile, match="column 'mean_60' is there more than once"):
        read_predictions(path)


def test_what_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("as_of,symbol")
    with pytest.raises(CorruptFile, match="is no readable Parquet file"):
        read_predictions(tmp_path / "t.parquet")


def test_rows_out_of_order_are_not_written_and_leave_nothing_behind(tmp_path: Path) -> None:
    table = table_of()
    twice = cut(table, slice(0, 2))
    twice = replace(twice, place=twice.place * 0)
    with pytest.raises(InvariantViolated, match="is there twice"):
        write_predictions(tmp_path / "t.parquet", [twice], FRAMES, {})
    late = cut(table, slice(4, 6))
    with pytest.raises(InvariantViolated, match="come after"):
        write_predictions(tmp_path / "t.parquet", [late, cut(table, slice(0, 2))], FRAMES, {})
    assert list(tmp_path.iterdir()) == []
