"""`import-series` and `list-series` as users meet them, with what they refuse and why."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv as pa_csv
from pyarrow import feather

from adapters.history import series_import
from adapters.history.covariates import StoredSeries, read_series, series_path, write_series
from daemon import cli
from daemon.domain.covariates import Series, hourly_funding, newest
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.units import DAY_MS, HOUR_MS, iso

ROWS = "date,close\n2024-01-02,13.5\n2024-01-03,14.0\n2024-01-05,13.2\n"
DAY = 1_704_153_600_000  # 2024-01-02


def bring(tmp_path: Path, text: str, *words: str, name: str = "vix") -> int:
    file = tmp_path / "in.csv"
    file.write_text(text, encoding="utf-8")
    base = ["import-series", str(file), "--source", "cboe", "--name", name]
    return cli.run([*base, "--folder", str(tmp_path / "store"), *words])


def stored(tmp_path: Path) -> Series:
    return read_series(series_path(tmp_path / "store", "cboe", "ALL", "vix"))


def test_a_file_is_stored_with_the_instant_from_which_each_value_was_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bring(tmp_path, ROWS, "--known-after", "next-utc-day", "--stale-after", "3d") == 0
    found = stored(tmp_path)
    assert found.ts.tolist() == [DAY, DAY + DAY_MS, DAY + 3 * DAY_MS]
    assert (found.known_ms - found.ts).tolist() == [DAY_MS] * 3
    assert (found.values.tolist(), found.stale_ms) == ([13.5, 14.0, 13.2], 3 * DAY_MS)
    before = series_path(tmp_path / "store", "cboe", "ALL", "vix").read_bytes()
    assert bring(tmp_path, ROWS, "--known-after", "1d", "--stale-after", "3d") == 0
    assert series_path(tmp_path / "store", "cboe", "ALL", "vix").read_bytes() == before
    capsys.readouterr()
    assert cli.run(["list-series", "--folder", str(tmp_path / "store"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["series"]
    assert (row["source"], row["name"], row["symbol"], row["rows"]) == ("cboe", "vix", "ALL", 3)
    assert row["known_until"] == iso(DAY + 4 * DAY_MS)


@pytest.mark.parametrize("ending", ["csv", "parquet", "feather"])
def test_each_kind_of_file_gives_the_same_series(tmp_path: Path, ending: str) -> None:
    table = pa.table({"ts": [DAY, DAY + DAY_MS], "value": [13.5, 14.0]})
    file = tmp_path / f"in.{ending}"
    match ending:
        case "csv":
            pa_csv.write_csv(table, file)
        case "parquet":
            pq.write_table(table, file)
        case "feather":
            feather.write_feather(table, file)
    words = ["--source", "cboe", "--name", "vix", "--known-after", "6h"]
    assert cli.run(["import-series", str(file), *words, "--folder", str(tmp_path / "store")]) == 0
    found = stored(tmp_path)
    assert found.known_ms.tolist() == [DAY + 6 * HOUR_MS, DAY + DAY_MS + 6 * HOUR_MS]
    assert found.values.tolist() == [13.5, 14.0]


def test_a_later_version_is_kept_beside_the_first_and_counts_from_when_it_was_known(
    tmp_path: Path,
) -> None:
    text = "ts,known,value\n2024-01-02,2024-01-03,1.0\n2024-01-02,2024-01-06,1.5\n"
    assert bring(tmp_path, text, "--known", "known") == 0
    steps = newest(stored(tmp_path))
    at = np.array([DAY, DAY + DAY_MS - 1, DAY + DAY_MS, DAY + 4 * DAY_MS], dtype=np.int64)
    np.testing.assert_array_equal(steps.at(at + DAY_MS), [np.nan, np.nan, 1.0, 1.5])


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (ROWS, (), "say from when its values were known"),
        (ROWS, ("--known-after", "soon"), "--known-after 'soon': accepted is next-utc-day"),
        (ROWS, ("--known", "seen"), "column 'seen' is not there; there are: date, close"),
        (ROWS, ("--known-after", "1d", "--value", "vix"), "there are: date, close"),
        (ROWS, ("--known-after", "1d", "--stale-after", "0s"), "--stale-after 0s: accepted"),
        (
            ROWS.replace("14.0", "n/a"),
            ("--known-after", "1d"),
            "row 1, column 'close': 'n/a'; accepted: a number",
        ),
        (
            ROWS.replace("14.0", "nan"),
            ("--known-after", "1d"),
            "row 1, column 'close': nan; accepted: a finite number",
        ),
        (
            "ts,known,value\n2024-01-02,2023-12-31,1.0\n",
            ("--known", "known"),
            "column 'known': known from 2024-01-01T00:00:00Z; accepted: an instant that is not bef",
        ),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_stored(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    words: tuple[str, ...],
    said: str,
) -> None:
    code = bring(tmp_path, text, *words)
    assert code in (ConfigurationError.exit_code, DataError.exit_code)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_a_value_is_never_said_to_have_been_known_earlier_than_it_was_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bring(tmp_path, ROWS, "--known-after", "1d") == 0
    assert bring(tmp_path, ROWS, "--known-after", "0s") == DataError.exit_code
    assert "13.5 is stored as known from 2024-01-03T00:00:00Z" in capsys.readouterr().err
    assert bring(tmp_path, ROWS, "--known-after", "2d", "--replace") == 0
    assert stored(tmp_path).known_ms[0] == DAY + 2 * DAY_MS


def rows_of_a_user(newest_ms: int) -> Iterable[tuple[int, int, float]]:
    for number in range(1, 4):
        if number * HOUR_MS > newest_ms:
            yield number * HOUR_MS, (number + 1) * HOUR_MS, float(number)


def bad_rows(newest_ms: int) -> Iterable[object]:
    yield (HOUR_MS, "tomorrow", 1.0)


def test_a_plug_in_of_a_user_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [
        EntryPoint("mine", "tests.commands.test_series:rows_of_a_user", series_import.GROUP),
        EntryPoint("bad", "tests.commands.test_series:bad_rows", series_import.GROUP),
        EntryPoint("gone", "tests.commands.test_series:nothing", series_import.GROUP),
    ]
    monkeypatch.setattr(series_import, "entry_points", lambda group: points)
    base = [
        "import-series",
        "--source",
        "cboe",
        "--name",
        "vix",
        "--folder",
        str(tmp_path / "store"),
    ]
    assert cli.run([*base, "--plugin", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 3
    assert cli.run([*base, "--plugin", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 0, "it is asked for what is new"
    for name, said in (
        ("bad", "row 0: (3600000, 'tomorrow', 1.0); accepted: (ts, known_ms, value)"),
        ("gone", "cannot be loaded"),
        ("moon", "unknown; known: bad, gone, mine"),
    ):
        assert cli.run([*base, "--plugin", name]) != 0
        assert said in capsys.readouterr().err


def test_a_changed_file_is_read_again_and_a_broken_one_leaves_what_was_read(
    tmp_path: Path,
) -> None:
    path = series_path(tmp_path, "cboe", "ALL", "vix")
    ts = np.arange(1, 4, dtype=np.int64)
    write_series(path, Series(ts, ts, np.ones(3)), {})
    found = StoredSeries(tmp_path, ["series:vix"], ["BTCUSDT"])
    first = found.known()["series:vix"][0]
    assert not found.refresh()
    assert found.known()["series:vix"][0] is first
    write_series(path, Series(ts, ts, np.full(3, 2.0)), {})
    assert found.refresh()
    second = found.known()["series:vix"][0]
    assert second is not None
    assert second.values.tolist() == [2.0] * 3
    path.write_bytes(b"nothing")
    assert not found.refresh()
    assert list(found.problems) == [path]
    assert found.known()["series:vix"][0] is second


def test_two_sources_of_one_name_must_be_told_apart(tmp_path: Path) -> None:
    ts = np.arange(1, 4, dtype=np.int64)
    for source in ("cboe", "other"):
        write_series(series_path(tmp_path, source, "ALL", "vix"), Series(ts, ts, np.ones(3)), {})
    with pytest.raises(ConfigurationError, match="several sources hold it: cboe, other"):
        StoredSeries(tmp_path, ["series:vix"], ["BTCUSDT"])
    assert StoredSeries(tmp_path, ["series:other/vix"], ["BTCUSDT"]).known()


# ---- real data -----------------------------------------------------------------------------------


@pytest.mark.real_data
def test_the_real_vix_and_marks_are_imported(recorded_data: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    vix = ["import-series", str(recorded_data / "macro/cboe/VIX-1d.parquet"), "--source", "cboe"]
    vix += ["--name", "vix", "--known-after", "next-utc-day", "--folder", store]
    assert cli.run(vix) == 0
    found = stored(tmp_path)
    assert len(found) == 1407
    # 2025-07-03, a day before a holiday: known from midnight on, stale a week later
    last = int(found.ts[-1])
    at = np.array([last + DAY_MS - 1, last + DAY_MS, last + 8 * DAY_MS], dtype=np.int64)
    values = newest(found).at(at)
    assert values.tolist()[:2] == found.values[-2:].tolist()
    assert np.isnan(values[2])
    for file in sorted((recorded_data / "mark" / "okx_perp").glob("*-1h.parquet")):
        symbol = file.name.partition("-")[0]
        words = ["import-series", str(file), "--source", "okx_perp", "--name", "mark"]
        words += ["--symbol", symbol, "--known-after", "1h", "--folder", store]
        assert cli.run(words) == 0
    marks = sorted((tmp_path / "store/covariates/okx_perp").glob("*-mark.parquet"))
    assert [len(read_series(path)) for path in marks] == [21_936] * 5


@pytest.mark.real_data
def test_the_funding_of_a_contract_that_changed_its_interval_stays_comparable(
    recorded_data: Path,
) -> None:
    table = pq.read_table(recorded_data / "funding/binance_perp/LAYERUSDT-funding.parquet")
    settle_ms, rates = (table.column(c).to_numpy() for c in ("ts", "rate"))
    found = hourly_funding(settle_ms, rates)
    change = int(np.searchsorted(found.ts, 1_746_518_400_000))  # 2025-05-06 08:00
    at = settle_ms.searchsorted(found.ts)
    hours = rates[at] / found.values
    known = found.values != 0
    assert set(np.round(hours[: change + 1][known[: change + 1]]).tolist()) == {4.0}
    assert set(np.round(hours[change + 1 :][known[change + 1 :]]).tolist()) == {1.0}
