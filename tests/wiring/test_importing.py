"""Importing into the store: whole or not at all, and never over other values in silence."""

from pathlib import Path

import pytest

from adapters.history.foreign import ForeignLayout
from adapters.history.parquet_file import (
    GENERATED,
    ORIGIN,
    Bars,
    Rates,
    is_generated,
    read_bars,
    read_rates,
    write_bars,
    write_rates,
)
from adapters.history.store import bars_path, funding_path
from daemon.domain.failures import ConfigurationError, CorruptFile, DataError
from daemon.wiring.importing import ImportedFile, import_files, imported
from tests.adapters.history.samples import M30, MIDNIGHT, bars_of, store

LATE = MIDNIGHT * 2


def write_csv(path: Path, bars: Bars) -> Path:
    rows = [
        ",".join(map(repr, [at, *row]))
        for at, row in zip(bars.open_ms.tolist(), bars.values.tolist(), strict=True)
    ]
    path.write_text("\n".join(rows))
    return path


def bring(
    paths: list[Path], root: Path, venue: str = "v", *, now_ms: int = LATE, replace: bool = False
) -> tuple[ImportedFile, ...]:
    found = import_files(paths, root, venue, ForeignLayout(), now_ms=now_ms, replace=replace)
    return found.files


def equal(left: Bars, right: Bars) -> bool:
    same_times = left.open_ms.tolist() == right.open_ms.tolist()
    return same_times and left.values.tobytes() == right.values.tobytes()


def test_a_file_comes_in_to_the_bit_and_a_second_time_nothing_is_new(tmp_path: Path) -> None:
    bars, root = bars_of(50), tmp_path / "data"
    source = write_csv(tmp_path / "BTCUSDT-30m.csv", bars)
    (first,) = bring([source], root)
    assert (first.rows, first.new_n, first.differ_n) == (50, 50, 0)
    assert equal(read_bars(first.target, M30), bars)
    before = first.target.stat().st_mtime_ns
    (again,) = bring([source], root)
    assert (again.new_n, again.differ_n) == (0, 0)
    assert first.target.stat().st_mtime_ns == before, "nothing new, nothing written"


def test_other_values_are_counted_and_stay_unless_replaced(tmp_path: Path) -> None:
    bars, root = bars_of(50), tmp_path / "data"
    target = store(root, "v", "BTCUSDT", Bars(bars.open_ms[:40], bars.values[:40]))
    changed = bars.values.copy()
    changed[5:8, 4] += 1.0
    source = write_csv(tmp_path / "BTCUSDT-30m.csv", Bars(bars.open_ms, changed))
    (kept,) = bring([source], root)
    assert (kept.new_n, kept.differ_n, kept.is_replaced) == (10, 3, False)
    assert equal(read_bars(target, M30), bars)
    (new,) = bring([source], root, replace=True)
    assert (new.new_n, new.differ_n, new.is_replaced) == (0, 3, True)
    assert equal(read_bars(target, M30), Bars(bars.open_ms, changed))


def test_one_bad_file_of_many_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    folder, root = tmp_path / "dump", tmp_path / "data"
    folder.mkdir()
    for symbol in ("AAAUSDT", "BTCUSDT", "ZZZUSDT"):
        write_csv(folder / f"{symbol}-30m.csv", bars_of(20))
    bad = folder / "ETHUSDT-30m.csv"
    bad.write_text("time,open,high,low,close,volume\n1641600000000,1,x,1,1,1\n")
    with pytest.raises(DataError, match=r"ETHUSDT-30m\.csv: row 0, column 'high': 'x'"):
        bring([folder], root)
    assert not root.exists()
    bad.unlink()
    assert [one.new_n for one in bring([folder], root)] == [20, 20, 20]


def test_a_bar_that_has_not_closed_is_left_out_and_said(tmp_path: Path) -> None:
    bars = bars_of(50)
    source = write_csv(tmp_path / "BTCUSDT-30m.csv", bars)
    (one,) = bring([source], tmp_path / "data", now_ms=int(bars.open_ms[-1]) + M30.ms - 1)
    assert (one.rows, one.unclosed_n) == (49, 1)
    with pytest.raises(DataError, match="none of its bars closed by"):
        bring([source], tmp_path / "other", now_ms=MIDNIGHT)


def test_a_store_of_our_own_comes_in_with_venues_funding_and_origin(tmp_path: Path) -> None:
    theirs, root = tmp_path / "theirs", tmp_path / "data"
    bars = bars_of(30)
    store(theirs, "one", "BTCUSDT", bars)
    made = bars_path(theirs, "two", "ETHUSDT", M30)
    write_bars(made, bars, M30, {"venue": "two", "symbol": "ETHUSDT", ORIGIN: GENERATED})
    rates = Rates.from_pairs([(MIDNIGHT, 1e-4), (MIDNIGHT + 8 * 3_600_000, 2e-4)])
    write_rates(funding_path(theirs, "one", "BTCUSDT"), rates, {"venue": "one"})
    assert len(bring([theirs], root, "")) == 3
    assert bars_path(root, "one", "BTCUSDT", M30).read_bytes() == bars_path(
        theirs, "one", "BTCUSDT", M30
    ).read_bytes()  # fmt: skip
    assert is_generated(bars_path(root, "two", "ETHUSDT", M30))
    found = read_rates(funding_path(root, "one", "BTCUSDT"))
    assert found.settle_ms.tolist() == rates.settle_ms.tolist()


def test_a_corrupt_store_of_our_own_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    store(theirs, "one", "AAAUSDT", bars_of(30))
    path = store(theirs, "one", "BTCUSDT", bars_of(30))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptFile, match="BTCUSDT-30m"):
        bring([theirs], tmp_path / "data", "")
    assert not (tmp_path / "data").exists()


def test_what_is_missing_or_unclear_is_said(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "BTCUSDT-30m.csv", bars_of(5))
    with pytest.raises(ConfigurationError, match="--venue"):
        bring([source], tmp_path / "data", "")
    with pytest.raises(DataError, match="no such file or folder"):
        bring([tmp_path / "nothing"], tmp_path / "data")
    twin = tmp_path / "twin"
    twin.mkdir()
    write_csv(twin / "BTC_USDT-30m.csv", bars_of(5))
    with pytest.raises(DataError, match="both go into"):
        bring([source, twin], tmp_path / "data")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file to import"):
        bring([tmp_path / "empty"], tmp_path / "data")
    plain = {"venue": "v", "symbol": "", "timeframe": "", "columns": {}, "replace": False}
    for wrong in ({"label": "middle", "unit": "auto"}, {"label": "open", "unit": "days"}):
        with pytest.raises(ConfigurationError, match="accepted: "):
            imported([source], tmp_path / "data", **(plain | wrong))  # type: ignore[arg-type]
    assert not (tmp_path / "data").exists()
