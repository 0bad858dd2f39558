"""From when a value was known: zones, plain days, lags on top, and revisions that come later."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters.clocks import SystemClock, TransportClock
from adapters.history.covariates import merged_series, revised_series
from daemon import cli
from daemon.domain.covariates import Series, newest, series_of
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.units import DAY_MS, MINUTE_MS, iso
from tests.commands.test_series import ROWS, bring, stored

NAMES = {ConfigurationError.exit_code, DataError.exit_code}


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def known(tmp_path: Path) -> list[str]:
    return [iso(one) for one in stored(tmp_path).known_ms.tolist()]


def one_row(ts: str, released: str = "") -> str:
    return f"ts,released,value\n{ts},{released},1.0\n"


# ---- zones and plain days ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words", "from_then"),
    [
        # a plain day of release: from the next UTC day on
        (one_row("2024-01-01", "2024-02-13"), ("--known", "released"), "2024-02-14T00:00:00Z"),
        (
            one_row("2024-01-01", "2024-02-13"),
            ("--known", "released", "--zone", "America/New_York"),
            "2024-02-15T00:00:00Z",  # that day ended at 05:00 of the fourteenth
        ),
        (
            one_row("2024-01-01", "2024-02-13"),
            ("--known", "released", "--zone", "Asia/Tokyo"),
            "2024-02-14T00:00:00Z",
        ),
        # a lag on top of what the column says
        (
            one_row("2024-01-01", "2024-02-13T08:30Z"),
            ("--known", "released", "--known-after", "6h"),
            "2024-02-13T14:30:00Z",
        ),
        (
            one_row("2024-01-01", "2024-02-13"),
            ("--known", "released", "--known-after", "6h"),
            "2024-02-14T06:00:00Z",
        ),
        (
            one_row("2024-01-01", "2024-02-13T08:30-05:00"),
            ("--known", "released", "--known-after", "next-utc-day"),
            "2024-02-15T00:00:00Z",
        ),
        # a time of day is one of its zone
        (
            one_row("2024-01-01", "2024-02-13 08:30"),
            ("--known", "released", "--zone", "America/New_York"),
            "2024-02-13T13:30:00Z",
        ),
        (
            one_row("2024-01-01", "2024-07-13 08:30"),
            ("--known", "released", "--zone", "America/New_York"),
            "2024-07-13T12:30:00Z",
        ),
        # 01:30 comes twice that night: the later one
        (
            one_row("2024-01-01", "2024-11-03 01:30"),
            ("--known", "released", "--zone", "America/New_York"),
            "2024-11-03T06:30:00Z",
        ),
        # the next UTC day after the file's own day
        (
            one_row("2024-01-05T00:00:00+09:00"),
            ("--known-after", "next-utc-day"),
            "2024-01-06T00:00:00Z",
        ),
        (one_row("2024-01-05"), ("--known-after", "next-utc-day"), "2024-01-06T00:00:00Z"),
        (
            one_row("2024-01-05"),
            ("--known-after", "next-utc-day", "--zone", "Asia/Tokyo"),
            "2024-01-06T00:00:00Z",
        ),
        (
            one_row("2024-01-05T22:00:00-05:00"),
            ("--known-after", "next-utc-day"),
            "2024-01-07T00:00:00Z",
        ),
        (one_row("1704412800"), ("--known-after", "next-utc-day"), "2024-01-06T00:00:00Z"),
    ],
)
def test_a_value_is_known_no_earlier_than_its_file_says(
    tmp_path: Path, text: str, words: tuple[str, ...], from_then: str
) -> None:
    assert bring(tmp_path, text, "--value", "value", *words) == 0
    assert known(tmp_path) == [from_then]


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (
            one_row("2024-01-01", "2024-02-13 08:30"),
            ("--known", "released"),
            "column 'released': '2024-02-13 08:30' is a time of day without a zone; name",
        ),
        (
            one_row("2024-01-01 07:00"),
            ("--known-after", "1d"),
            "'ts': '2024-01-01 07:00' is a",
        ),
        (one_row("20240105"), ("--known-after", "1d"), "'20240105'; accepted: an instant"),
        (ROWS, ("--known-after", "1d", "--zone", "Mars"), "--zone 'Mars': accepted is a name as"),
        (ROWS, ("--known-after", "1d", "--revised-at", "soon"), "--revised-at 'soon': accepted"),
        (ROWS, ("--known-after", "1d", "--revised-at", "2024-02-13T08:30"), "with its zone"),
        (ROWS, ("--known-after", "1d", "--revised-at", "2924-02-13T08:30Z"), "of the past"),
        (ROWS, ("--known-after", "1d", "--revised-at", "now", "--replace"), "keeps what is stored"),
    ],
)
def test_what_could_mean_two_things_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    words: tuple[str, ...],
    said: str,
) -> None:
    value = () if text is ROWS else ("--value", "value")
    assert bring(tmp_path, text, *value, *words) in NAMES
    assert said in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("tz", "words", "from_then"),
    [
        ("Asia/Tokyo", (), "2024-01-06T00:00:00Z"),
        ("-05:00", (), "2024-01-06T00:00:00Z"),
        ("UTC", (), "2024-01-05T00:00:00Z"),
        (None, ("--zone", "Asia/Tokyo"), "2024-01-05T00:00:00Z"),
    ],
)
def test_the_zone_of_a_typed_column_counts(
    tmp_path: Path, tz: str | None, words: tuple[str, ...], from_then: str
) -> None:
    moment = at("2024-01-04T16:00:00Z")  # in Tokyo it is the fifth
    table = pa.table({"ts": pa.array([moment], pa.timestamp("ms", tz=tz)), "value": [1.0]})
    file = tmp_path / "in.parquet"
    pq.write_table(table, file)
    base = ["import-series", str(file), "--source", "cboe", "--name", "vix"]
    base += ["--known-after", "next-utc-day", "--folder", str(tmp_path / "store")]
    if tz is None:
        assert cli.run(base) in NAMES
    assert cli.run([*base, *words]) == 0
    assert known(tmp_path) == [from_then]


# ---- revisions -----------------------------------------------------------------------------------


def test_a_revised_file_keeps_both_values_each_from_when_it_was_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lag = ("--known-after", "1d")
    assert bring(tmp_path, ROWS, *lag) == 0
    changed = ROWS.replace("14.0", "15.0") + "2024-01-06,16.0\n"
    assert bring(tmp_path, changed, *lag) == DataError.exit_code
    assert "--revised-at now, or the instant of the revision, keeps both" in capsys.readouterr().err
    assert bring(tmp_path, changed, *lag, "--revised-at", "2024-03-01T12:00Z") == 0
    found, revised_ms = stored(tmp_path), at("2024-03-01T12:00:00+00:00")
    assert len(found) == 5
    about = at("2024-01-03T00:00:00+00:00")
    rows = found.ts == about
    assert found.values[rows].tolist() == [14.0, 15.0]
    assert found.known_ms[rows].tolist() == [about + DAY_MS, revised_ms]
    assert found.known_ms[found.ts == about + 3 * DAY_MS].tolist() == [about + 4 * DAY_MS]
    assert newest(found.known_at(revised_ms - 1)).values.tolist()[1] == 14.0
    assert bring(tmp_path, changed, *lag, "--revised-at", "now") == 0
    assert len(stored(tmp_path)) == 5, "nothing changed since"
    early = ROWS.replace("14.0", "17.0")
    assert bring(tmp_path, early, *lag, "--revised-at", "2024-02-01T00:00Z") == DataError.exit_code
    assert "accepted is an instant after 2024-03-01T12:00:00Z" in capsys.readouterr().err
    before_ms = SystemClock(TransportClock()).now()
    assert bring(tmp_path, ROWS, *lag, "--revised-at", "now") == 0  # and back to the first value
    back = stored(tmp_path)
    assert back.values[back.ts == about].tolist() == [14.0, 15.0, 14.0]
    assert int(back.known_ms[-1]) >= before_ms


def test_a_value_that_came_back_is_imported_again_as_nothing_new(tmp_path: Path) -> None:
    versions = ["2024-01-03T00:00Z,1.0", "2024-01-06T00:00Z,1.5", "2024-01-09T00:00Z,1.0"]
    words = ("--known", "known")

    def text(rows: int) -> str:
        return "ts,known,value\n" + "".join(f"2024-01-02,{one}\n" for one in versions[:rows])

    for rows in (1, 3, 3, 2):
        assert bring(tmp_path, text(rows), *words) == 0, rows
    found = stored(tmp_path)
    assert found.values.tolist() == [1.0, 1.5, 1.0]
    assert [iso(one)[8:10] for one in found.known_ms.tolist()] == ["03", "06", "09"]


def made(*rows: tuple[int, int, float]) -> Series:
    ts, known_ms, values = (np.array(column) for column in zip(*rows, strict=True))
    return series_of(ts.astype(np.int64), known_ms.astype(np.int64), values.astype(np.float64))


def test_the_same_value_is_never_known_from_two_instants_in_a_row() -> None:
    kept = made((1, 5, 1.0), (1, 9, 2.0))
    for known_ms, value in ((4, 1.0), (6, 1.0), (8, 2.0), (10, 2.0)):
        with pytest.raises(DataError, match="is stored as known from"):
            merged_series(kept, made((1, known_ms, value)), "here")
    with pytest.raises(DataError, match=r"stored is 2\.0 known from the same instant"):
        merged_series(kept, made((1, 9, 3.0)), "here")
    assert len(merged_series(kept, made((1, 10, 1.0)), "here")) == 3
    with pytest.raises(DataError, match="holds several versions of one ts"):
        revised_series(kept, made((1, 5, 1.0), (1, 9, 3.0)), 50, "here")


# ---- the cut at an instant -----------------------------------------------------------------------


def test_what_is_known_at_an_instant_is_cut_to_the_millisecond() -> None:
    """A minute too many would show what a minute later tells; one too few would hide a value."""
    rows = [(hour, hour + lag, 1.0) for hour, lag in ((0, 7), (10, 1), (20, MINUTE_MS), (30, 0))]
    series = made(*((ts * MINUTE_MS, at_ms * MINUTE_MS, value) for ts, at_ms, value in rows))
    for known_ms in series.known_ms.tolist():
        for instant, is_known in ((known_ms - 1, False), (known_ms, True), (known_ms + 1, True)):
            cut = series.known_at(instant)
            assert (known_ms in cut.known_ms.tolist()) is is_known
            assert len(cut) == sum(one <= instant for one in series.known_ms.tolist())
