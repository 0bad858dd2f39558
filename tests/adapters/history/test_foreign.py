"""Bars of other tools: every layout gives the same bars, and a bad cell is named."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from adapters.history.foreign import ForeignLayout, Label, read_foreign
from adapters.history.foreign_cells import TimeUnit
from adapters.history.parquet_file import Bars
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.units import Timeframe, iso, utc
from tests.adapters.history.samples import M30, bars_of

HEAD = ("time", "open", "high", "low", "close", "volume")
BARS = bars_of(40)


def columns(bars: Bars, times: list[Any]) -> dict[str, list[Any]]:
    return {"time": times} | {name: bars.values[:, at].tolist() for at, name in enumerate(HEAD[1:])}


def csv_text(
    bars: Bars, times: list[Any], head: tuple[str, ...] | None = HEAD, by: str = ","
) -> str:
    rows = [
        by.join(map(str, (at, *map(repr, row))))
        for at, row in zip(times, bars.values.tolist(), strict=True)
    ]
    return "\n".join([*([by.join(head)] if head else []), *rows]) + "\n"


def whole(bars: Bars) -> list[Any]:
    return list(bars.open_ms.tolist())


def same(found: Bars, wanted: Bars = BARS) -> bool:
    same_times = found.open_ms.tolist() == wanted.open_ms.tolist()
    return same_times and found.values.tobytes() == wanted.values.tobytes()


# ---- what is understood --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("ms", lambda t: t),
        ("s", lambda t: t // 1000),
        ("us", lambda t: t * 1000),
        ("ns", lambda t: t * 1_000_000),
        ("iso_z", iso),
        ("iso_offset", lambda t: utc(t).isoformat()),
        ("iso_plain", lambda t: utc(t).strftime("%Y-%m-%d %H:%M:%S")),
        ("float_s", lambda t: f"{t / 1000:.1f}"),
    ],
)
def test_a_csv_of_any_unit_of_time_gives_the_same_bars(
    tmp_path: Path, name: str, write: Callable[[int], object]
) -> None:
    path = tmp_path / "BTCUSDT-30m.csv"
    path.write_text(csv_text(BARS, [write(t) for t in whole(BARS)]))
    found = read_foreign(path, ForeignLayout())
    assert same(found.bars), name
    assert (found.symbol, found.timeframe, found.twice_n) == ("BTCUSDT", M30, 0)


@pytest.mark.parametrize("by", [",", ";", "\t"])
@pytest.mark.parametrize("head", [HEAD, None, ("Date", "Open", "High", "Low", "Close", "Volume")])
def test_a_csv_of_any_delimiter_with_or_without_header(
    tmp_path: Path, by: str, head: tuple[str, ...] | None
) -> None:
    path = tmp_path / "BTC_USDT-30m.csv"
    path.write_text(csv_text(BARS, whole(BARS), head, by), encoding="utf-8-sig")
    assert same(read_foreign(path, ForeignLayout()).bars)


def test_other_names_newest_first_and_more_columns(tmp_path: Path) -> None:
    path = tmp_path / "dump.csv"
    lines = csv_text(BARS, whole(BARS), ("when", "first", "max", "min", "last", "qty")).splitlines()
    path.write_text("\n".join([f"{lines[0]},trades", *(f"{li},7" for li in lines[:0:-1])]))
    layout = ForeignLayout(
        columns={"time": "when", "open": "first", "volume": "qty"}, symbol="ETH/USDT:USDT"
    )
    found = read_foreign(path, layout)
    assert same(found.bars)
    assert found.timeframe == M30, "told by the rows"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_candles_with_a_date_column_in_feather_and_parquet(tmp_path: Path, unit: str) -> None:
    made: dict[str, Any] = columns(BARS, whole(BARS))
    times = pa.array(made.pop("time"), pa.timestamp("ms", tz="UTC")).cast(
        pa.timestamp(unit, tz="UTC")
    )
    table = pa.table({"date": times, **made})
    for name in ("BTC_USDT_USDT-30m-futures.feather", "BTC_USDT-30m.parquet"):
        path = tmp_path / name
        if path.suffix == ".feather":
            feather.write_feather(table, path, compression="lz4")
        else:
            pq.write_table(table, path)
        found = read_foreign(path, ForeignLayout())
        assert same(found.bars), name
        assert (found.symbol, found.timeframe) == ("BTCUSDT", M30)


def test_rows_of_an_exchange_as_json(tmp_path: Path) -> None:
    path = tmp_path / "ETH_USDT-30m.json"
    rows = [[t, *row] for t, row in zip(whole(BARS), BARS.values.tolist(), strict=True)]
    path.write_text(json.dumps(rows))
    assert same(read_foreign(path, ForeignLayout()).bars)


def test_bars_labelled_by_their_close(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-30m.csv"
    path.write_text(csv_text(BARS, [t + M30.ms for t in whole(BARS)]))
    assert same(read_foreign(path, ForeignLayout(label=Label.CLOSE)).bars)


def test_closes_a_millisecond_early_are_refused_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-30m.csv"
    path.write_text(csv_text(BARS, [t + M30.ms - 1 for t in whole(BARS)]))
    with pytest.raises(DataError, match=r"row 0 .* off the 30m grid; .*--label"):
        read_foreign(path, ForeignLayout())


def test_a_row_that_is_there_twice_counts_once_if_it_says_the_same(tmp_path: Path) -> None:
    lines = csv_text(BARS, whole(BARS)).splitlines()
    path = tmp_path / "BTCUSDT-30m.csv"
    path.write_text("\n".join([*lines, lines[5]]))
    found = read_foreign(path, ForeignLayout())
    assert same(found.bars)
    assert found.twice_n == 1
    path.write_text("\n".join([*lines, lines[5].rpartition(",")[0] + ",123.0"]))
    with pytest.raises(DataError, match=r"rows 4 and 40 both hold 2022-01-08T02:00:00Z"):
        read_foreign(path, ForeignLayout())


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (7, "close", "n/a"),
        (0, "open", ""),
        (39, "volume", "1,5"),
        (3, "time", "yesterday"),
        (3, "time", ""),
        (3, "time", "nan"),
        (3, "time", "-5"),
        (3, "time", "1641600000000.5"),
    ],
)
def test_a_bad_cell_is_named_with_row_column_and_value(
    tmp_path: Path, row: int, column: str, value: str
) -> None:
    lines = csv_text(BARS, whole(BARS), by=";").splitlines()
    cells = lines[row + 1].split(";")
    cells[HEAD.index(column)] = value
    lines[row + 1] = ";".join(cells)
    path = tmp_path / "BTCUSDT-30m.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError) as failure:
        read_foreign(path, ForeignLayout())
    said = str(failure.value)
    assert f"{path}: row {row}, column {column!r}: {value!r}; accepted: " in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("time,open,high,low,close,volume\n", "holds no row"),
        ("time,open,high,low,close\n1641600000000,1,1,1,1\n", "no column for volume"),
        ("1641600000000,1,1,1,1\n", "5 columns without names"),
        ("time,open,high,low,close,volume\n1641600000000,1,1,1,1\n", "row 0 has 5 cells"),
        ("time,open,high,low,close,volume\n1641600000000,2,1,1,1,1\n", "high below open"),
        ("time,open,high,low,close,volume\n1641600000000,nan,1,1,1,1\n", "NaN or infinity"),
        ("time,open,high,low,close,volume\n1641600000000,0,0,0,0,1\n", "not positive"),
        ("time,open,high,low,close,volume\n1641600000000,1,1,1,1,-1\n", "negative volume"),
    ],
)
def test_a_file_that_holds_no_bars_says_why(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "BTCUSDT-30m.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_foreign(path, ForeignLayout())


@pytest.mark.parametrize("suffix", ["csv", "json", "feather", "parquet", "txt"])
def test_garbage_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"BTCUSDT-30m.{suffix}"
    path.write_bytes(b"\xff\x00\x12garbage")
    with pytest.raises(DataError, match=str(path)):
        read_foreign(path, ForeignLayout())
    with pytest.raises(DataError, match="no such file"):
        read_foreign(path.with_name(f"ETHUSDT-30m.{suffix if suffix != 'txt' else 'csv'}"),
                     ForeignLayout())  # fmt: skip


def test_a_name_that_tells_nothing_wants_to_be_told(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text(csv_text(BARS, whole(BARS)))
    with pytest.raises(ConfigurationError, match="--symbol"):
        read_foreign(path, ForeignLayout())
    one = Bars(BARS.open_ms[:1], BARS.values[:1])
    path.write_text(csv_text(one, whole(one)))
    with pytest.raises(ConfigurationError, match="--timeframe"):
        read_foreign(path, ForeignLayout(symbol="BTCUSDT"))
    found = read_foreign(path, ForeignLayout(symbol="BTCUSDT", timeframe=Timeframe(30)))
    assert same(found.bars, one)
    with pytest.raises(ConfigurationError, match="column 'when' for time is not there"):
        read_foreign(path, ForeignLayout(symbol="X", columns={"time": "when"}))


def test_numbers_are_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h.csv"
    path.write_text(
        "date,open,high,low,close,volume\n2022-01-08,0.1,0.30000000000000004,0.1,0.2,1e-9"
    )
    found = read_foreign(path, ForeignLayout(unit=TimeUnit.ISO))
    assert found.bars.values[0].tolist() == [0.1, 0.30000000000000004, 0.1, 0.2, 1e-9]
    assert int(found.bars.open_ms[0]) == datetime(2022, 1, 8, tzinfo=UTC).timestamp() * 1000
    assert np.isfinite(found.bars.values).all()
