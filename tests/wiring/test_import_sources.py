"""Folders of other tools as they are on disk, files in parts, and rows that are bad."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather

from adapters.history.covariates import read_series, series_path
from adapters.history.foreign import ForeignLayout, Label
from adapters.history.parquet_file import Bars, read_bars, read_rates
from adapters.history.store import bars_path, funding_path
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.units import HOUR_MS, Timeframe, utc
from daemon.wiring.importing import Imported, import_files, imported
from tests.adapters.history.samples import MIDNIGHT, bars_of

H1 = Timeframe(60)
LATE = MIDNIGHT * 2
HEAD = "open_time,open,high,low,close,volume,close_time"


def candles(path: Path, bars: Bars) -> Path:
    """Write candles as freqtrade keeps them."""
    date = pa.array(bars.open_ms, pa.timestamp("ms", tz="UTC"))
    names = ("open", "high", "low", "close", "volume")
    columns = {name: bars.values[:, at] for at, name in enumerate(names)}
    feather.write_feather(pa.table({"date": date, **columns}), path, compression="lz4")
    return path


def funding_candles(path: Path, settle_ms: list[int]) -> Path:
    rows = np.zeros((len(settle_ms), 5))
    rows[:, 0] = 1e-4
    return candles(path, Bars(np.array(settle_ms, dtype=np.int64), rows))


def lines(bars: Bars) -> list[str]:
    """Give rows as an archive of a venue keeps them, with both ends of each bar."""
    return [
        ",".join(map(repr, [at, *row, at + HOUR_MS - 1]))
        for at, row in zip(bars.open_ms.tolist(), bars.values.tolist(), strict=True)
    ]


def part(bars: Bars, first: int, end: int) -> Bars:
    return Bars(bars.open_ms[first:end], bars.values[first:end])


def equal(left: Bars, right: Bars) -> bool:
    same_times = left.open_ms.tolist() == right.open_ms.tolist()
    return same_times and left.values.tobytes() == right.values.tobytes()


def bring(paths: list[Path], root: Path, layout: ForeignLayout | None = None) -> Imported:
    return import_files(paths, root, "v", layout or ForeignLayout(), now_ms=LATE)


# ---- folders -------------------------------------------------------------------------------------


def test_a_folder_of_freqtrade_comes_in_as_it_is_and_what_is_left_out_is_named(
    tmp_path: Path,
) -> None:
    folder, root = tmp_path / "binance" / "futures", tmp_path / "data"
    (folder / "old").mkdir(parents=True)
    bars, coarse = bars_of(48, source=H1), bars_of(6, source=Timeframe(480))
    for coin in ("BTC", "ETH"):
        candles(folder / f"{coin}_USDT_USDT-1h-futures.feather", bars)
        candles(folder / f"{coin}_USDT_USDT-1h-mark.feather", bars)
        candles(folder / f"{coin}_USDT_USDT-8h-mark.feather", coarse)
        settled = [MIDNIGHT + n * 8 * HOUR_MS for n in range(6)]
        funding_candles(folder / f"{coin}_USDT_USDT-1h-funding_rate.feather", settled)
        funding_candles(folder / f"{coin}_USDT_USDT-8h-funding_rate.feather", settled)
    candles(folder / "BTC_USDT_USDT-1w-futures.feather", bars)
    candles(folder / "BTC_USDT_USDT-trades.feather", bars)
    candles(folder / "BTC_USDT_USDT-1h-premiumIndex.feather", bars)
    (folder / "leverage_tiers_USDT.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    found = bring([folder], root)
    assert len(found.files) == 6
    for coin in ("BTCUSDT", "ETHUSDT"):
        assert equal(read_bars(bars_path(root, "v", coin, H1), H1), bars)
        assert read_rates(funding_path(root, "v", coin)).settle_ms.tolist() == settled
        mark = read_series(series_path(root, "v", coin, "mark"))
        assert mark.ts.tolist() == bars.open_ms.tolist()
        assert mark.values.tolist() == bars.values[:, 3].tolist()
    told = {line.partition(": left out: ")[0]: line for line in found.left_out}
    assert {Path(name).name for name in told} == {
        "BTC_USDT_USDT-1w-futures.feather", "BTC_USDT_USDT-trades.feather", "old", "notes.txt",
        "BTC_USDT_USDT-1h-premiumIndex.feather", "leverage_tiers_USDT.json",
        "BTC_USDT_USDT-8h-mark.feather", "ETH_USDT_USDT-8h-mark.feather",
    }  # fmt: skip
    said = {
        "1w": "longer than a day", "premium": "premium index", "trades": "holds trades",
        "leverage": "does not say which symbol", "notes": "accepted are files of",
        "8h-mark": "mark candles of 1h",
    }  # fmt: skip
    for name, why in said.items():
        assert any(name in line and why in line for line in found.left_out), name


def test_mark_alone_never_becomes_bars(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    candles(tmp_path / "f" / "BTC_USDT_USDT-1h-mark.feather", bars_of(5, source=H1))
    bring([tmp_path / "f"], tmp_path / "data")
    assert not (tmp_path / "data" / "ohlcv").exists()
    archive = tmp_path / "markPriceKlines" / "BTCUSDT" / "1h"
    archive.mkdir(parents=True)
    (archive / "BTCUSDT-1h-2022-01.csv").write_text(
        "\n".join([HEAD, *lines(bars_of(5, source=H1))])
    )
    bring([archive], tmp_path / "more")
    assert not (tmp_path / "more" / "ohlcv").exists()
    assert len(read_series(series_path(tmp_path / "more", "v", "BTCUSDT", "mark"))) == 5


def test_a_folder_of_nothing_to_keep_says_what_it_held(tmp_path: Path) -> None:
    (tmp_path / "leverage_tiers_USDT.json").write_text("{}")
    with pytest.raises(DataError, match=r"no file to import.*leverage_tiers_USDT\.json: left out"):
        bring([tmp_path], tmp_path / "data")


def test_spot_and_perpetual_of_one_coin_are_never_mixed(tmp_path: Path) -> None:
    bars = bars_of(20, source=H1)
    spot = candles(tmp_path / "BTC_USDT-1h.feather", part(bars, 0, 10))
    swap = candles(tmp_path / "BTC_USDT_USDT-1h-futures.feather", part(bars, 10, 20))
    with pytest.raises(DataError, match="may be different markets, as spot and perpetual"):
        bring([spot, swap], tmp_path / "data")
    assert not (tmp_path / "data").exists()


# ---- parts ---------------------------------------------------------------------------------------


def test_monthly_and_daily_files_of_an_archive_become_one_history(tmp_path: Path) -> None:
    bars = bars_of(100, source=H1)
    texts = {
        "BTCUSDT-1h-2022-02-01.csv": "\n".join([HEAD, *lines(part(bars, 80, 100))]),
        "BTCUSDT-1h-2022-01.csv": "\n".join(lines(part(bars, 0, 50))),  # older ones have no header
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "BTCUSDT-1h-2022-03.csv.gz").write_bytes(
        gzip.compress("\n".join(lines(part(bars, 45, 60))).encode())
    )
    with zipfile.ZipFile(tmp_path / "BTCUSDT-1h-2022-04.zip", "w") as archive:
        archive.writestr("BTCUSDT-1h-2022-04.csv", "\n".join([HEAD, *lines(part(bars, 60, 80))]))
    (one,) = bring([tmp_path], tmp_path / "data").files
    assert equal(read_bars(one.target, H1), bars)
    assert one.target.name == "BTCUSDT-1h.parquet"
    assert (one.rows, one.new_n, one.twice_n, len(one.sources)) == (100, 100, 5, 4)


def test_parts_that_contradict_each_other_are_refused_whole(tmp_path: Path) -> None:
    bars = bars_of(20, source=H1)
    other = Bars(bars.open_ms, bars.values.copy())
    other.values[10, 4] += 1
    (tmp_path / "BTCUSDT-1h-2022-01.csv").write_text("\n".join(lines(part(bars, 0, 12))))
    (tmp_path / "BTCUSDT-1h-2022-02.csv").write_text("\n".join(lines(part(other, 10, 20))))
    with pytest.raises(DataError, match=r"2022-01\.csv and .*2022-02\.csv both hold 2022-01-08T10"):
        bring([tmp_path], tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_symbol_that_is_told_holds_for_several_files(tmp_path: Path) -> None:
    bars = bars_of(20, source=H1)
    paths = [tmp_path / "first.csv", tmp_path / "second.csv"]
    paths[0].write_text("\n".join(lines(part(bars, 0, 10))))
    paths[1].write_text("\n".join(lines(part(bars, 10, 20))))
    asked = {"venue": "v", "symbol": "BTC/USDT:USDT", "timeframe": "", "label": "", "unit": "auto"}
    found = imported(paths, tmp_path / "data", columns={}, replace=False, **asked)  # type: ignore[arg-type]
    assert equal(read_bars(found.files[0].target, H1), bars)
    with pytest.raises(ConfigurationError, match="names what single files hold; give files"):
        imported([tmp_path], tmp_path / "data", columns={}, replace=False, **asked)  # type: ignore[arg-type]


# ---- bad rows ------------------------------------------------------------------------------------


def broken(path: Path) -> Path:
    """Write fifty bars of which six rows are bad, each in its own way."""
    rows = lines(bars_of(50, source=H1))
    cells = rows[7].split(",")
    rows[7] = ",".join([cells[0], cells[1], "0.001", *cells[3:]])
    rows[11] = rows[11].replace(rows[11].split(",")[4], "n/a")
    rows[20] = rows[20].rpartition(",")[0]
    rows[30] = "soon," + rows[30].partition(",")[2]
    rows[41] = rows[40].rpartition(",")[0].rpartition(",")[0] + ",5.0,1"  # one more of row 40
    path.write_text("\n".join([HEAD, *rows]))
    return path


def test_bad_rows_are_left_out_and_each_is_listed(tmp_path: Path) -> None:
    path = broken(tmp_path / "BTCUSDT-1h.csv")
    (one,) = bring([path], tmp_path / "data", ForeignLayout(skip_bad=True)).files
    assert [line.split(",")[0].split(" ")[1] for line in one.bad] == [
        "7", "11", "20", "30", "40", "41",
    ]  # fmt: skip
    wanted = ("high below open", "'n/a'; accepted: a number", "has 6 cells", "'soon'; accepted",
              "one of several", "one of several")  # fmt: skip
    for line, why in zip(one.bad, wanted, strict=True):
        assert why in line
    whole, keep = bars_of(50, source=H1), np.setdiff1d(np.arange(50), [7, 11, 20, 30, 40, 41])
    assert equal(read_bars(one.target, H1), Bars(whole.open_ms[keep], whole.values[keep]))


def test_without_being_told_a_bad_row_refuses_the_file_and_says_how_to_leave_it_out(
    tmp_path: Path,
) -> None:
    path = broken(tmp_path / "BTCUSDT-1h.csv")
    with pytest.raises(DataError, match=r"row 20 has 6 cells.*; --skip-bad leaves such rows out"):
        bring([path], tmp_path / "data")
    rows = lines(bars_of(50, source=H1))
    cells = rows[7].split(",")
    rows[7] = ",".join([cells[0], cells[1], "0.001", *cells[3:]])
    path.write_text("\n".join([HEAD, *rows]))
    with pytest.raises(DataError, match=r"row 7 .* high below open.*; --skip-bad leaves"):
        bring([path], tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_file_that_is_mostly_bad_is_refused_all_the_same(tmp_path: Path) -> None:
    rows = [row.replace(",", ",x", 1) for row in lines(bars_of(10, source=H1))]
    path = tmp_path / "BTCUSDT-1h.csv"
    path.write_text("\n".join([HEAD, *rows]))
    with pytest.raises(DataError, match=r"10 of its 10 rows are wrong.*the first: row 0, column"):
        bring([path], tmp_path / "data", ForeignLayout(skip_bad=True))


def test_bad_rates_and_marks_are_left_out_as_well(tmp_path: Path) -> None:
    rates = tmp_path / "BTCUSDT-funding.csv"
    settled = [MIDNIGHT + n * 8 * HOUR_MS for n in range(4)]
    rates.write_text(
        "ts,rate\n" + "\n".join(f"{t},{r}" for t, r in zip(settled, (1e-4, 5, "x", 2e-4),
                                                          strict=True))
    )  # fmt: skip
    (one,) = bring([rates], tmp_path / "data", ForeignLayout(skip_bad=True)).files
    assert read_rates(one.target).settle_ms.tolist() == [settled[0], settled[3]]
    assert len(one.bad) == 2
    marks = tmp_path / "BTCUSDT-1h-mark.csv"
    marks.write_text("ts,close\n" + "\n".join(f"{MIDNIGHT + n * HOUR_MS},{n}" for n in range(4)))
    (one,) = bring([marks], tmp_path / "data", ForeignLayout(skip_bad=True)).files
    assert read_series(one.target).values.tolist() == [1.0, 2.0, 3.0]
    assert "row 0, column 'close': 0.0; accepted: a price" in one.bad[0]


# ---- ends of bars, decimal commas ----------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda t: str(t),
        lambda t: str(t - 1),
        lambda t: f"{utc(t - 1):%Y-%m-%d %H:%M:%S.%f}"[:-3],
        lambda t: f"{t - 1}999",  # microseconds
        lambda t: f"{utc(t - 1000):%Y-%m-%d %H:%M:%S}",
    ],
)
def test_a_column_of_closes_names_the_end_of_a_bar_however_it_is_rounded(
    tmp_path: Path, write: object
) -> None:
    assert callable(write)
    bars = bars_of(30, source=H1)
    rows = [
        ",".join([write(at + HOUR_MS), *map(repr, row)])
        for at, row in zip(bars.open_ms.tolist(), bars.values.tolist(), strict=True)
    ]
    path = tmp_path / "BTCUSDT-1h.csv"
    path.write_text("\n".join(["close_time,open,high,low,close,volume", *rows]))
    (one,) = bring([path], tmp_path / "data").files
    assert equal(read_bars(one.target, H1), bars)
    path.write_text("\n".join(["time,open,high,low,close,volume", *rows]))
    (told,) = bring([path], tmp_path / "more", ForeignLayout(label=Label.CLOSE)).files
    assert equal(read_bars(told.target, H1), bars)


def test_decimal_commas_and_days_without_dashes_are_named_for_what_they_are(
    tmp_path: Path,
) -> None:
    path = tmp_path / "BTCUSDT-1h.csv"
    path.write_text("time,open,high,low,close,volume\n1641600000000,1,5,1,5,1,5,1,5,2,5\n")
    with pytest.raises(DataError, match=r"has 11 cells.*decimal comma.*write them with a decimal"):
        bring([path], tmp_path / "data")
    path.write_text("time;open;high;low;close;volume\n1641600000000;1,5;1,5;1,5;1,5;2,5\n")
    with pytest.raises(DataError, match=r"'1,5'; accepted: .*not with a decimal comma"):
        bring([path], tmp_path / "data")
    path.write_text("time,open,high,low,close,volume\n20220108,1,1,1,1,1\n")
    with pytest.raises(DataError, match=r"'20220108'; accepted: .*a day as 2024-02-13"):
        bring([path], tmp_path / "data")


@pytest.mark.parametrize("name", ["BTCUSDT-1h.csv.gz", "BTCUSDT-1h.zip"])
def test_a_cut_archive_is_refused_by_name(tmp_path: Path, name: str) -> None:
    whole = gzip.compress("\n".join(lines(bars_of(50, source=H1))).encode())
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"{name}: is no readable"):
        bring([tmp_path / name], tmp_path / "data")
