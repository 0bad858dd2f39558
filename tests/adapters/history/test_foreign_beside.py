"""Funding and mark prices that other tools kept: by the instants of rows, not by their name."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather
from pyarrow import parquet as pq

from adapters.history.covariates import read_series, series_path
from adapters.history.foreign import ForeignLayout, Kind
from adapters.history.foreign_beside import kind_of, read_foreign_closes, read_foreign_rates
from adapters.history.parquet_file import read_bars, read_rates
from adapters.history.store import bars_path, funding_path
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.wiring.importing import ImportedFile, import_files, imported
from tests.adapters.history.samples import MIDNIGHT

# a contract that went from 8 to 4 hours, and for a while to one
HOURS = (8, 16, 24, 28, 32, 36, 37, 38, 39, 40, 44)
SETTLED = [MIDNIGHT + hour * HOUR_MS for hour in HOURS]
RATES = [1e-4 * (n - 4) for n in range(len(HOURS))]
LATE = MIDNIGHT * 2


def candles(path: Path, at_ms: list[int], opens: list[float], closes: list[float]) -> Path:
    """Write candles as such tools do: a column of dates, the funding in the open."""
    nothing = [0.0] * len(at_ms)
    date = pa.array(np.array(at_ms, dtype="datetime64[ms]"), pa.timestamp("ms", tz="UTC"))
    table = pa.table(
        {"date": date, "open": opens, "high": nothing, "low": nothing, "close": closes,
         "volume": nothing}
    )  # fmt: skip
    (feather.write_feather if path.suffix == ".feather" else pq.write_table)(table, path)
    return path


def bring(path: Path, root: Path, *, now_ms: int = LATE, replace: bool = False) -> ImportedFile:
    found = import_files([path], root, "v", ForeignLayout(), now_ms=now_ms, replace=replace)
    (one,) = found.files
    return one


@pytest.mark.parametrize("suffix", [".feather", ".parquet"])
def test_candles_of_funding_keep_the_true_settlements(tmp_path: Path, suffix: str) -> None:
    stamped = [at + 3 for at in SETTLED]  # as a venue does
    nothing = [0.0] * len(SETTLED)
    path = candles(tmp_path / f"BTC_USDT_USDT-8h-funding_rate{suffix}", stamped, RATES, nothing)
    one = bring(path, tmp_path / "data")
    assert (one.rows, one.new_n, one.target) == (
        len(HOURS), len(HOURS), funding_path(tmp_path / "data", "v", "BTCUSDT"),
    )  # fmt: skip
    found = read_rates(one.target)
    assert found.settle_ms.tolist() == SETTLED
    assert found.rates.tolist() == RATES
    assert bring(path, tmp_path / "data").new_n == 0


def test_a_plain_csv_of_funding_with_named_columns(tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    lines = [f"{at // 1000};{rate!r};x" for at, rate in zip(SETTLED, RATES, strict=True)]
    path.write_text("\n".join(["Paid at;Share;Note", *reversed(lines), lines[0]]))
    asked = {"venue": "v", "timeframe": "", "label": "open", "unit": "s", "replace": False}
    columns = {"time": "Paid at", "rate": "Share"}
    (one,) = imported(
        [path], tmp_path, symbol="BTC/USDT:USDT", columns=columns, kind="funding", **asked,  # type: ignore[arg-type]
    ).files  # fmt: skip
    assert one.twice_n == 1
    assert read_rates(one.target).settle_ms.tolist() == SETTLED
    with pytest.raises(ConfigurationError, match=r"column 'Wrong' for rate.*--column rate=NAME"):
        imported([path], tmp_path, symbol="BTCUSDT", columns={**columns, "rate": "Wrong"},
                 kind="funding", **asked)  # type: ignore[arg-type]  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"--kind 'moon': accepted: bars, funding"):
        imported([path], tmp_path, symbol="BTCUSDT", columns=columns, kind="moon", **asked)  # type: ignore[arg-type]


def test_the_monthly_files_of_a_venue_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-fundingRate-2024-01.csv"
    rows = [f"{at},8,{rate!r}" for at, rate in zip(SETTLED, RATES, strict=True)]
    path.write_text("\n".join(["calc_time,funding_interval_hours,last_funding_rate", *rows]))
    assert read_rates(bring(path, tmp_path / "data").target).settle_ms.tolist() == SETTLED


def test_a_folder_of_bars_funding_and_mark_comes_in_each_where_it_belongs(tmp_path: Path) -> None:
    folder, root = tmp_path / "futures", tmp_path / "data"
    folder.mkdir()
    hours = [MIDNIGHT + n * HOUR_MS for n in range(10)]
    prices = [100.0 + n for n in range(10)]
    candles(folder / "BTC_USDT_USDT-8h-funding_rate.feather", SETTLED, RATES, [0.0] * len(HOURS))
    mark = candles(folder / "BTC_USDT_USDT-1h-mark.feather", hours, prices, prices)
    bars = tmp_path / "futures" / "BTC_USDT_USDT-1h-futures.csv"
    rows = [f"{at},{p},{p + 1},{p - 1},{p},5" for at, p in zip(hours, prices, strict=True)]
    bars.write_text("\n".join(["date,open,high,low,close,volume", *rows]))
    found = import_files([folder], root, "v", ForeignLayout(), now_ms=hours[-1] + 1)
    assert len(found.files) == 3
    assert len(read_bars(bars_path(root, "v", "BTCUSDT", Timeframe(60)), Timeframe(60))) == 9
    series = read_series(series_path(root, "v", "BTCUSDT", "mark"))
    assert series.ts.tolist() == hours[:-1]
    assert (series.known_ms - series.ts == HOUR_MS).all(), "a close is known from the close on"
    assert series.values.tolist() == prices[:-1]
    with pytest.raises(DataError, match="none of its candles closed by"):
        bring(mark, root, now_ms=hours[0] + 1)


def test_other_rates_of_the_same_instant_stay_unless_replaced(tmp_path: Path) -> None:
    first = tmp_path / "BTCUSDT-funding.csv"
    first.write_text(f"ts,rate\n{SETTLED[0]},0.0001\n{SETTLED[1]},0.0002\n")
    bring(first, tmp_path)
    first.write_text(f"ts,rate\n{SETTLED[0]},0.0003\n{SETTLED[2]},0.0002\n")
    kept = bring(first, tmp_path)
    assert (kept.new_n, kept.differ_n, kept.is_replaced) == (1, 1, False)
    assert read_rates(kept.target).rates.tolist() == [0.0001, 0.0002, 0.0002]
    assert bring(first, tmp_path, replace=True).is_replaced
    assert read_rates(kept.target).rates.tolist() == [0.0003, 0.0002, 0.0002]
    future = bring(first, tmp_path, now_ms=SETTLED[0])
    assert (future.rows, future.unclosed_n) == (1, 1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "ts,rate\n1641600000000,0.9\n",
            r"in time order, row 0 .* has no rate .*\(column 'rate'\); --skip-bad",
        ),
        ("ts,rate\n1641600000000,nan\n", "has no rate between"),
        ("ts,rate\n1641600000000,x\n", "row 0, column 'rate': 'x'; accepted: a number"),
        ("ts,rate\nsoon,0.0001\n", "row 0, column 'ts': 'soon'; accepted: an instant"),
        ("ts,rate\n1641600000000,1e-4\n1641600000002,2e-4\n", "rows 0 and 1 both hold"),
        ("ts,rate\n", "holds no row"),
        ("when,rate\n1641600000000,1e-4\n", "no column for time; there are: when, rate"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "BTCUSDT-funding.csv"
    path.write_text(text)
    with pytest.raises((DataError, ConfigurationError), match=why) as failure:
        read_foreign_rates(path, ForeignLayout())
    assert str(path) in str(failure.value)


def test_names_say_what_a_file_holds() -> None:
    said = {
        "BTC_USDT_USDT-8h-funding_rate.feather": Kind.FUNDING,
        "ETHUSDT-fundingRate-2024-01.csv": Kind.FUNDING,
        "BTC_USDT_USDT-1h-mark.feather": Kind.MARK,
        "BTC_USDT_USDT-1h-index.parquet": Kind.INDEX,
        "BTC_USDT_USDT-1h-futures.feather": Kind.BARS,
        "BTCUSDT-30m.csv": Kind.BARS,
        "btc.csv": Kind.BARS,
    }
    assert {name: kind_of(Path(name)) for name in said} == said
    with pytest.raises(ConfigurationError, match="premium index"):
        kind_of(Path("BTC_USDT_USDT-1h-premiumIndex.feather"))


def test_a_price_that_is_none_is_named(tmp_path: Path) -> None:
    path = candles(tmp_path / "BTC_USDT-1h-mark.parquet", [MIDNIGHT], [1.0], [float("nan")])
    with pytest.raises(DataError, match="row 0, column 'close': nan; accepted: a price"):
        read_foreign_closes(path, ForeignLayout())
