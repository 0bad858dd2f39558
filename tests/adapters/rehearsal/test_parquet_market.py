"""Recorded bars as a market: exact prices, honest holes, named complaints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters.rehearsal.export import export_parquet
from adapters.rehearsal.parquet_market import open_parquet_market
from adapters.rehearsal.publication import Publication
from adapters.rehearsal.seeded import SeededMarket
from adapters.rehearsal.settings import MarketKind
from adapters.rehearsal.universe import traits_of
from daemon.domain.failures import ConfigurationError, CorruptFile
from daemon.domain.units import DAY_MS, HOUR_MS, MINUTE_MS
from tests.adapters.rehearsal.conftest import Connect, Post, Start

HALF_HOUR_MS = 30 * MINUTE_MS
FIRST_MS = 1_700_006_400_000
FOREVER_MS = 10**15


def write(
    folder: Path, symbol: str, rows: list[tuple[int, float, float, float, float, float]]
) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{symbol}-30m.parquet"
    names = ["ts", "open", "high", "low", "close", "volume"]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), path)
    return path


def bar(place: int, close: float) -> tuple[int, float, float, float, float, float]:
    return (FIRST_MS + place * HALF_HOUR_MS, close, close + 0.25, close - 0.25, close, 3.125)


def test_a_hole_stays_a_hole_and_costs_no_place_in_the_limit(tmp_path: Path) -> None:
    write(tmp_path, "FOOUSDT", [bar(i, 10.0 + i) for i in (0, 1, 2, 300, 301)])
    publication = Publication(open_parquet_market(tmp_path, timeframe="30m"))
    now_ms = FIRST_MS + 302 * HALF_HOUR_MS
    klines = publication.klines("FOOUSDT", HALF_HOUR_MS, now_ms, start_ms=FIRST_MS, limit=4)
    assert klines.close.tolist() == [10.0, 11.0, 12.0, 310.0]
    newest = publication.klines("FOOUSDT", HALF_HOUR_MS, now_ms, limit=3)
    assert newest.close.tolist() == [12.0, 310.0, 311.0]
    hours = publication.klines("FOOUSDT", HOUR_MS, now_ms, start_ms=FIRST_MS, limit=9)
    assert hours.close.tolist() == [11.0, 12.0, 311.0]
    assert hours.volume.tolist() == [6.25, 3.125, 6.25]


def test_rules_come_from_the_table_else_from_the_prices(tmp_path: Path) -> None:
    write(tmp_path, "FOOUSDT", [bar(0, 10.125)])
    write(tmp_path, "BTCUSDT", [bar(0, 50000.5)])
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"FOOUSDT": {"quantity_step": "0.5"}}))
    market = open_parquet_market(tmp_path, timeframe="30m", rules_file=rules)
    assert list(market.coins) == ["BTCUSDT", "FOOUSDT"]
    assert market.coins["BTCUSDT"].notional_min_usdt == "100"
    foo = market.coins["FOOUSDT"]
    assert (foo.price_step, foo.quantity_step, foo.notional_min_usdt) == ("0.001", "0.5", "5")
    rules.write_text(json.dumps({"FOOUSDT": {"tick": "1"}}))
    with pytest.raises(ConfigurationError, match=r"rules\.json: FOOUSDT: accepted is"):
        open_parquet_market(tmp_path, timeframe="30m", rules_file=rules)


def test_funding_is_read_and_the_estimate_knows_only_the_past(tmp_path: Path) -> None:
    write(tmp_path, "FOOUSDT", [bar(i, 10.0) for i in range(60)])
    funding = tmp_path / "funding"
    funding.mkdir()
    times = [FIRST_MS + i * 4 * HOUR_MS for i in range(4)]
    table = pa.table({"ts": times, "rate": [1e-4, 2e-4, 3e-4, 4e-4]})
    pq.write_table(table, funding / "FOOUSDT-funding.parquet")
    market = open_parquet_market(tmp_path, timeframe="30m", funding_folder=funding)
    assert market.coins["FOOUSDT"].funding_interval_ms == 4 * HOUR_MS
    paid = market.settlements("FOOUSDT", times[1], times[3])
    assert [(item.time_ms, item.rate) for item in paid] == [(times[1], 2e-4), (times[2], 3e-4)]
    assert market.funding_estimate("FOOUSDT", times[1] - 1) == 1e-4
    assert market.funding_estimate("FOOUSDT", times[1]) == 2e-4
    assert market.funding_estimate("FOOUSDT", times[0] - 1) == 0.0


@pytest.mark.parametrize("damage", ["cut", "text", "column", "order", "range", "nan"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path, "FOOUSDT", [bar(i, 10.0 + i) for i in range(50)])
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "text":
        path.write_text("ts,open\n")
    elif damage == "column":
        pq.write_table(pq.read_table(path).drop_columns(["volume"]), path)
    elif damage == "order":
        write(tmp_path, "FOOUSDT", [bar(1, 10.0), bar(0, 10.0)])
    elif damage == "range":
        write(tmp_path, "FOOUSDT", [(FIRST_MS, 10.0, 9.0, 8.0, 9.5, 1.0)])
    else:
        write(tmp_path, "FOOUSDT", [bar(0, float("nan"))])
    with pytest.raises(CorruptFile, match=r"FOOUSDT-30m\.parquet"):
        open_parquet_market(tmp_path, timeframe="30m")


def test_missing_folders_and_symbols_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no file named SYMBOL-30m\.parquet"):
        open_parquet_market(tmp_path, timeframe="30m")
    write(tmp_path, "FOOUSDT", [bar(0, 10.0)])
    with pytest.raises(ConfigurationError, match=r"symbols 'BARUSDT': accepted is FOOUSDT"):
        open_parquet_market(tmp_path, timeframe="30m", symbols=["BARUSDT"])


def test_a_period_without_bars_is_refused_with_the_period_that_the_files_hold(
    tmp_path: Path,
) -> None:
    write(tmp_path, "FOOUSDT", [bar(i, 10.0) for i in range(3)])
    write(tmp_path, "BARUSDT", [bar(i, 10.0) for i in range(2, 5)])
    held = r"its files \*-30m\.parquet hold 2023-11-15T00:00:00Z to 2023-11-15T02:30:00Z"
    late_ms = FIRST_MS + 7 * DAY_MS
    with pytest.raises(ConfigurationError, match=rf"no bars from 2023-11-22T00:00:00Z; {held}"):
        open_parquet_market(tmp_path, timeframe="30m", start_ms=late_ms)
    early_ms = FIRST_MS - DAY_MS
    with pytest.raises(ConfigurationError, match=rf"no bars until 2023-11-14T00:00:00Z; {held}"):
        open_parquet_market(tmp_path, timeframe="30m", end_ms=early_ms)
    with pytest.raises(ConfigurationError, match=str(tmp_path)):
        open_parquet_market(tmp_path, timeframe="30m", end_ms=early_ms)


def test_an_exported_market_reads_back_to_the_bit(tmp_path: Path) -> None:
    origin_ms = 1_704_067_200_000
    names = ["BTCUSDT", "DOGEUSDT", "ATOMUSDT"]
    seeded = SeededMarket(
        [traits_of(name, origin_ms, None) for name in names], seed=3, origin_ms=origin_ms
    )
    end_ms = origin_ms + 5 * DAY_MS
    paths = export_parquet(seeded, tmp_path, "30m", origin_ms, end_ms)
    assert [path.name for path in paths] == [f"{name}-30m.parquet" for name in names]
    recorded = open_parquet_market(
        tmp_path, timeframe="30m", funding_folder=tmp_path.parent / "nowhere"
    )
    live = Publication(seeded)
    for name in names:
        wanted = live.klines(
            name, HALF_HOUR_MS, end_ms, start_ms=origin_ms, end_ms=end_ms - 1, limit=300
        )
        found = recorded.steps(name, origin_ms, end_ms)
        for column in ("open", "high", "low", "close", "volume"):
            assert np.array_equal(getattr(found, column), getattr(wanted, column))


@pytest.mark.real_data
async def test_recorded_perpetuals_stream_to_ccxt_to_the_bit(
    start: Start, connect: Connect, post: Post, recorded_data: Path
) -> None:
    folder = recorded_data / "ohlcv" / "binance_perp"
    market = open_parquet_market(
        folder, timeframe="30m", funding_folder=recorded_data / "funding" / "binance_perp"
    )
    assert len(market.coins) == 12
    running = await start(market, kind=MarketKind.PARQUET, parquet_folder=str(folder))
    client = connect(running)
    symbols = list(await client.load_markets())
    await client.watch_ohlcv_for_symbols([[symbol, "30m"] for symbol in symbols])
    start_ms = running.exchange.now_ms
    for _ in range(96):
        assert (await post(running, "advance", until_ms=FOREVER_MS))["published"] == 12
    for symbol in symbols:
        name = client.market(symbol)["id"]
        table = pq.read_table(folder / f"{name}-30m.parquet").to_pydict()
        first = table["ts"].index(start_ms)
        wanted = [
            [table[column][row] for column in ("ts", "open", "high", "low", "close", "volume")]
            for row in range(first, first + 96)
        ]
        assert await client.fetch_ohlcv(symbol, "30m", since=start_ms, limit=96) == wanted
        watched = [list(row) for row in client.ohlcvs[symbol]["30m"]]
        assert watched[:96] == wanted
    btc = await client.fetch_funding_rate_history("BTC/USDT:USDT", limit=3)
    assert len(btc) == 3


@pytest.mark.real_data
def test_recorded_spot_bars_keep_their_holes(recorded_data: Path) -> None:
    folder = recorded_data / "ohlcv" / "binance_spot"
    market = open_parquet_market(folder, timeframe="15m", symbols=["XRPUSDT", "BTCUSDT"])
    publication = Publication(market)
    hole_ms = 1_725_674_400_000  # 2024-09-07T02:00:00Z; XRP resumes at 2025-04-30
    klines = publication.klines(
        "XRPUSDT", 15 * MINUTE_MS, 1_751_000_000_000, start_ms=hole_ms - DAY_MS, limit=500
    )
    assert len(klines) == 500
    assert np.diff(klines.open_ms).max() > 200 * DAY_MS
    assert len(publication.klines("XRPUSDT", 15 * MINUTE_MS, hole_ms + 90 * DAY_MS, limit=10)) == 10
