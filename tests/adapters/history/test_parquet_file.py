"""One file of bars: what was written comes back, and nothing that is broken gets in."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.history.locks import lock_path
from adapters.history.parquet_file import (
    NO_BARS,
    Bars,
    Rates,
    merged_bars,
    merged_rates,
    read_bars,
    read_rates,
    write_bars,
    write_rates,
)
from adapters.history.written import record_path
from daemon.domain.failures import CorruptFile, DataError, InvariantViolated
from daemon.domain.units import DAY_MS, Timeframe
from tests.adapters.history.samples import FACTS, MIDNIGHT, bars_of

M30 = Timeframe(30)


def table_of(bars: Bars, **changes: Any) -> pa.Table:
    """Put bars into a table as other programs write them, with some columns replaced."""
    columns: dict[str, Any] = {"ts": bars.open_ms}
    columns |= dict(zip(("open", "high", "low", "close", "volume"), bars.values.T, strict=True))
    return pa.table({n: c for n, c in (columns | changes).items() if c is not None})


def same(left: Bars, right: Bars) -> bool:
    """Compare to the bit."""
    times = left.open_ms.tolist() == right.open_ms.tolist()
    return times and left.values.tobytes() == right.values.tobytes()


@pytest.mark.parametrize("rows", [0, 1, 500])
def test_what_was_written_comes_back_to_the_bit(tmp_path: Path, rows: int) -> None:
    path, bars = tmp_path / "deep" / "BTCUSDT-30m.parquet", bars_of(rows)
    write_bars(path, bars, M30, FACTS)
    assert same(read_bars(path, M30), bars)
    there = sorted(p.name for p in path.parent.iterdir())
    assert there == sorted([record_path(path).name, lock_path(path).name, path.name])


def test_a_file_from_elsewhere_needs_no_checksum(tmp_path: Path) -> None:
    path, bars = tmp_path / "a.parquet", bars_of(20)
    pq.write_table(table_of(bars), path)
    assert same(read_bars(path, M30), bars)


def test_the_bytes_of_a_file_depend_on_its_content_alone(tmp_path: Path) -> None:
    bars = bars_of(300)
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    write_bars(one, bars, M30, FACTS)
    for upto in (1, 100, 300):
        write_bars(other, Bars(bars.open_ms[:upto], bars.values[:upto]), M30, FACTS)
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("row", "column", "value", "reason"),
    [
        (3, 1, 1.0, "row 3 .*2022-01-08T01:30:00Z.* has its high below"),
        (4, 2, 1e6, "row 4 .* has its (high below|low above)"),
        (5, 0, np.nan, "row 5 .* holds NaN"),
        (6, 3, np.inf, "row 6 .* holds NaN or infinity"),
        (7, 2, -1.0, "row 7 .* has a price that is not positive"),
        (8, 4, -1.0, "row 8 .* has a negative volume"),
    ],
)
def test_a_bar_that_cannot_be_is_named_with_file_row_and_reason(
    tmp_path: Path, row: int, column: int, value: float, reason: str
) -> None:
    path, bars = tmp_path / "a.parquet", bars_of(10)
    bars.values[row, column] = value
    pq.write_table(table_of(bars), path)
    with pytest.raises(CorruptFile, match=f"a.parquet: {reason}"):
        read_bars(path, M30)
    with pytest.raises(InvariantViolated, match=reason):
        write_bars(tmp_path / "b.parquet", bars, M30, FACTS)
    assert not (tmp_path / "b.parquet").exists()


@pytest.mark.parametrize(
    ("row", "shift", "reason"),
    [
        (4, -M30.ms, "row 4 .* is there twice"),
        (4, -2 * M30.ms, "row 4 .* comes after a later one"),
        (9, 60_000, "row 9 .* is off the 30m grid"),
        (9, 2**61, "row 9 .*ts = .* is off the 30m grid"),
    ],
)
def test_times_that_do_not_ascend_on_the_grid_are_named(
    tmp_path: Path, row: int, shift: int, reason: str
) -> None:
    path, bars = tmp_path / "a.parquet", bars_of(10)
    bars.open_ms[row] += shift
    pq.write_table(table_of(bars), path)
    with pytest.raises(CorruptFile, match=reason):
        read_bars(path, M30)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"volume": None}, "column 'volume' is missing; there are ts, open, high, low, close"),
        ({"ts": None}, "column 'ts' is missing"),
        ({"close": ["x"] * 10}, "column 'close' is of type string; it must be double"),
        ({"ts": np.arange(10.0)}, "column 'ts' is of type double; it must be int64"),
        ({"open": pa.array([1.0, None] * 5)}, "column 'open' holds 5 nulls"),
    ],
)
def test_columns_that_are_missing_or_of_another_type_are_named(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table_of(bars_of(10), **changes), path)
    with pytest.raises(CorruptFile, match=f"a.parquet: {reason}"):
        read_bars(path, M30)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.parquet: no such file"):
        read_bars(tmp_path / "a.parquet", M30)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all" * 50, b"PAR1" * 40])
def test_garbage_is_no_readable_parquet_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=r"a\.parquet: is no readable Parquet file: ."):
        read_bars(path, M30)


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_bars(path, bars_of(200), M30, FACTS)
    whole = path.read_bytes()
    for size in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptFile):
            read_bars(path, M30)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_harmless(tmp_path: Path, place: float, flip: int) -> None:
    path, bars = tmp_path / "a.parquet", bars_of(200)
    write_bars(path, bars, M30, FACTS)
    raw = bytearray(path.read_bytes())
    raw[int(place * len(raw))] ^= flip
    path.write_bytes(bytes(raw))
    with contextlib.suppress(CorruptFile):
        assert same(read_bars(path, M30), bars)


def test_content_that_is_not_what_the_checksum_says_is_refused(tmp_path: Path) -> None:
    path, bars = tmp_path / "a.parquet", bars_of(10)
    write_bars(path, bars, M30, FACTS)
    metadata = pq.read_schema(path).metadata
    bars.values[0, 4] += 1.0
    pq.write_table(table_of(bars).replace_schema_metadata(metadata), path)
    with pytest.raises(CorruptFile, match="SHA-256"):
        read_bars(path, M30)


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    write_bars(path, bars_of(10), M30, FACTS)
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"a\.parquet: cannot be written: .*No space left"):
        write_bars(path, bars_of(20), M30, FACTS)
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == sorted([path, record_path(path), lock_path(path)])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be written"):
        write_bars(tmp_path / "file" / "a.parquet", bars_of(1), M30, FACTS)


def test_merging_keeps_the_stored_bar_and_counts_what_differs() -> None:
    bars = bars_of(6)
    kept = Bars(bars.open_ms[1:4], bars.values[1:4])
    changed = bars.values.copy()
    changed[2] *= 2.0
    together, revised = merged_bars(kept, Bars(bars.open_ms, changed))
    assert revised == 1
    assert same(together, bars)
    assert same(merged_bars(NO_BARS, bars)[0], bars)
    assert same(merged_bars(bars, NO_BARS)[0], bars)


def test_funding_rates_come_back_merged_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-funding.parquet"
    times = MIDNIGHT + DAY_MS // 3 * np.arange(4, dtype=np.int64)
    first = Rates(times[:3], np.array([1e-4, -2e-4, 3e-4]))
    merged = merged_rates(first, Rates(times[2:], np.array([9.0e-4, 4e-4])))
    write_rates(path, merged, FACTS)
    back = read_rates(path)
    assert back.settle_ms.tolist() == times.tolist()
    assert back.rates.tolist() == [1e-4, -2e-4, 3e-4, 4e-4]


@pytest.mark.parametrize("rate", [np.nan, 0.5, -0.5, np.inf])
def test_a_funding_rate_that_cannot_be_is_refused(tmp_path: Path, rate: float) -> None:
    path = tmp_path / "a.parquet"
    table = {"ts": np.array([MIDNIGHT], dtype=np.int64), "rate": np.array([rate])}
    pq.write_table(pa.table(table), path)
    with pytest.raises(CorruptFile, match=r"row 0 .* has no rate between"):
        read_rates(path)
