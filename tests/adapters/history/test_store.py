"""Panels of many instruments: every bar in its place, holes as holes, opens one row ahead."""

from pathlib import Path

import numpy as np
import pytest

from adapters.history.parquet_file import Rates, write_rates
from adapters.history.store import (
    bars_path,
    data_root,
    disk_symbol,
    fingerprint,
    funding_missing_share,
    funding_path,
    gaps_of,
    list_bars,
    load_funding,
    load_panel,
    unified_symbol,
)
from daemon.domain.failures import ConfigurationError, CorruptFile, DataError, InvariantViolated
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe
from tests.adapters.history.samples import FACTS, M30, MIDNIGHT, bars_of, store, without

VENUE = "somewhere"


@pytest.mark.parametrize(
    ("unified", "disk"),
    [
        ("BTC/USDT:USDT", "BTCUSDT"),
        ("1000PEPE/USDT:USDT", "1000PEPEUSDT"),
        ("ETH/USDC:USDC", "ETHUSDC"),
        ("SOL/FDUSD:FDUSD", "SOLFDUSD"),
    ],
)
def test_symbols_have_one_name_on_disk_and_come_back(unified: str, disk: str) -> None:
    assert disk_symbol(unified) == disk
    assert disk_symbol(disk) == disk
    assert unified_symbol(disk) == unified
    assert unified_symbol(unified) == unified


@pytest.mark.parametrize("symbol", ["USDT", "BTCEUR", ""])
def test_a_name_without_a_known_quote_is_a_configuration_error(symbol: str) -> None:
    with pytest.raises(ConfigurationError, match="must end in one of USDT"):
        unified_symbol(symbol)


@pytest.mark.parametrize("symbol", ["../BTCUSDT", "BTC USDT", "", "BTC*"])
def test_a_symbol_cannot_lead_out_of_its_folder(symbol: str) -> None:
    with pytest.raises(ConfigurationError, match="file name"):
        disk_symbol(symbol)


def test_the_ohlcv_folder_may_be_named_instead_of_the_root(tmp_path: Path) -> None:
    assert data_root(tmp_path / "ohlcv") == tmp_path
    assert data_root(tmp_path) == tmp_path


def test_gaps_say_what_is_missing_and_where() -> None:
    bars = without(bars_of(10), [3, 4, 8])
    assert [
        (g.last_before_ms, g.resumes_ms, g.bars_missing) for g in gaps_of(bars.open_ms, M30)
    ] == [
        (MIDNIGHT + 2 * M30.ms, MIDNIGHT + 5 * M30.ms, 2),
        (MIDNIGHT + 7 * M30.ms, MIDNIGHT + 9 * M30.ms, 1),
    ]
    assert str(gaps_of(bars.open_ms, M30)[0]) == (
        "2 bars missing after 2022-01-08T01:00:00Z, until 2022-01-08T02:30:00Z"
    )


def test_the_list_names_what_is_there_with_its_holes_and_faults(tmp_path: Path) -> None:
    store(tmp_path, VENUE, "ETHUSDT", without(bars_of(9), [4]))
    store(tmp_path, VENUE, "BTCUSDT", bars_of(5, source=Timeframe(1)), Timeframe(1))
    store(tmp_path, "other", "BTCUSDT", bars_of(3))
    bars_path(tmp_path, "other", "XRPUSDT", M30).write_bytes(b"garbage")
    (tmp_path / "ohlcv" / "other" / "SOLUSDT-7x.parquet").write_bytes(b"")
    found = list_bars(tmp_path)
    assert [(o.venue, o.symbol, o.timeframe.label, o.rows, len(o.gaps)) for o in found] == [
        ("other", "BTCUSDT", "30m", 3, 0),
        ("other", "SOLUSDT", "1m", 0, 0),
        ("other", "XRPUSDT", "30m", 0, 0),
        (VENUE, "BTCUSDT", "1m", 5, 0),
        (VENUE, "ETHUSDT", "30m", 8, 1),
    ]
    problems = {o.symbol: o.problem for o in found if o.problem}
    assert set(problems) == {"SOLUSDT", "XRPUSDT"}
    assert "7x" in str(problems["SOLUSDT"])
    assert "no readable Parquet" in str(problems["XRPUSDT"])
    assert found[4].first_open_ms == MIDNIGHT
    assert found[4].last_open_ms == MIDNIGHT + 8 * M30.ms
    assert list_bars(tmp_path, VENUE, deep=True) == found[3:]
    assert list_bars(tmp_path / "nothing") == []


def test_a_panel_puts_every_bar_at_its_close_and_leaves_holes_empty(tmp_path: Path) -> None:
    btc, eth = bars_of(8, seed=1), without(bars_of(9, seed=2, start_ms=MIDNIGHT + M30.ms), [3])
    store(tmp_path, VENUE, "BTCUSDT", btc)
    store(tmp_path, VENUE, "ETHUSDT", eth)
    panel = load_panel(tmp_path, VENUE, ["ETH/USDT:USDT", "BTCUSDT"], M30)
    assert ((panel.close_ms - MIDNIGHT) // M30.ms).tolist() == list(range(1, 11))
    for column, bars in enumerate((eth, btc)):
        there = dict(zip((bars.open_ms + M30.ms).tolist(), bars.values, strict=True))
        for close_ms, row in zip(panel.close_ms.tolist(), panel.values[:, column], strict=True):
            if close_ms in there:
                assert row.tobytes() == there[close_ms].tobytes()
            else:
                assert np.isnan(row).all()
        starts = dict(zip(bars.open_ms.tolist(), bars.values[:, 0].tolist(), strict=True))
        for close_ms, price in zip(panel.close_ms.tolist(), panel.opens[:, column], strict=True):
            assert price == starts[close_ms] if close_ms in starts else np.isnan(price)


def test_since_and_until_bound_the_closes_and_the_last_opens_come_from_beyond(
    tmp_path: Path,
) -> None:
    bars = bars_of(10)
    store(tmp_path, VENUE, "BTCUSDT", bars)
    store(tmp_path, VENUE, "ETHUSDT", without(bars_of(10, seed=3), [6]))
    since, until = MIDNIGHT + 2 * M30.ms, MIDNIGHT + 6 * M30.ms
    panel = load_panel(tmp_path, VENUE, ["BTCUSDT", "ETHUSDT"], M30, since, until)
    assert ((panel.close_ms - MIDNIGHT) // M30.ms).tolist() == [3, 4, 5, 6]
    assert panel.opens[:, 0].tolist() == bars.values[3:7, 0].tolist()
    assert np.isnan(panel.opens[3, 1])  # its bar that starts at `until` is a hole
    whole = load_panel(tmp_path, VENUE, ["BTCUSDT"], M30)
    assert np.isnan(whole.opens[-1, 0])  # the file ends there


def test_a_panel_is_read_only_and_its_opens_are_no_copy(tmp_path: Path) -> None:
    store(tmp_path, VENUE, "BTCUSDT", bars_of(5))
    panel = load_panel(tmp_path, VENUE, ["BTCUSDT"], M30)
    assert np.shares_memory(panel.opens, panel.values)
    for array in (panel.close_ms, panel.values, panel.opens):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_missing_files_are_named_together_with_what_there_is(tmp_path: Path) -> None:
    store(tmp_path, VENUE, "BTCUSDT", bars_of(5))
    with pytest.raises(DataError, match=r"no 30m bars of ETHUSDT, XRPUSDT in .*BTCUSDT-30m"):
        load_panel(tmp_path, VENUE, ["BTCUSDT", "ETHUSDT", "XRPUSDT"], M30)
    with pytest.raises(DataError, match="there are: none"):
        load_panel(tmp_path, "nowhere", ["BTCUSDT"], M30)
    with pytest.raises(InvariantViolated, match="at least one symbol"):
        load_panel(tmp_path, VENUE, [], M30)


def test_a_range_without_bars_says_where_bars_are(tmp_path: Path) -> None:
    store(tmp_path, VENUE, "BTCUSDT", bars_of(4))
    with pytest.raises(
        DataError, match=r"after 2022-01-09T00:00:00Z.*from 2022-01-08T00:30:00Z to .*02:00:00Z"
    ):
        load_panel(tmp_path, VENUE, ["BTCUSDT"], M30, since_ms=MIDNIGHT + DAY_MS)
    store(tmp_path, VENUE, "ETHUSDT", bars_of(0))
    with pytest.raises(DataError, match="hold no rows"):
        load_panel(tmp_path, VENUE, ["ETHUSDT"], M30)


def test_one_corrupt_file_stops_the_panel_and_is_named(tmp_path: Path) -> None:
    store(tmp_path, VENUE, "BTCUSDT", bars_of(4))
    path = store(tmp_path, VENUE, "ETHUSDT", bars_of(4))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptFile, match=r"ETHUSDT-30m\.parquet"):
        load_panel(tmp_path, VENUE, ["BTCUSDT", "ETHUSDT"], M30)


def test_the_fingerprint_changes_with_any_value_symbol_or_range(tmp_path: Path) -> None:
    bars = bars_of(6)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        store(tmp_path, VENUE, symbol, bars)
    until = MIDNIGHT + 5 * M30.ms

    def of(symbols: list[str], until_ms: int | None = None) -> str:
        panel = load_panel(tmp_path, VENUE, symbols, M30, None, until_ms)
        return fingerprint(panel, symbols, M30)

    first = of(["BTCUSDT"])
    assert first == of(["BTC/USDT:USDT"])
    others = {of(["ETHUSDT"]), of(["BTCUSDT", "ETHUSDT"]), of(["BTCUSDT"], until)}
    bars.values[3, 4] = np.nextafter(bars.values[3, 4], np.inf)
    store(tmp_path, VENUE, "BTCUSDT", bars)
    assert len({first, of(["BTCUSDT"]), *others}) == 5


def write_funding(root: Path, symbol: str, settlements: list[int], first_rate: float) -> None:
    times = MIDNIGHT + 8 * HOUR_MS * np.array(settlements, dtype=np.int64)
    rates = first_rate * np.arange(1.0, 1.0 + len(times))
    write_rates(funding_path(root, VENUE, symbol), Rates(times, rates), FACTS)


def test_funding_is_aligned_on_all_settlements_and_absent_files_are_named(tmp_path: Path) -> None:
    write_funding(tmp_path, "BTCUSDT", [0, 1, 2], 1e-4)
    write_funding(tmp_path, "ETHUSDT", [1, 2, 3], 1e-3)
    funding = load_funding(tmp_path, VENUE, ["BTCUSDT", "XRPUSDT", "ETHUSDT"], MIDNIGHT)
    assert ((funding.settle_ms - MIDNIGHT) // (8 * HOUR_MS)).tolist() == [1, 2, 3]
    np.testing.assert_allclose(funding.rates[:, 0], [2e-4, 3e-4, np.nan])
    np.testing.assert_allclose(funding.rates[:, 2], [1e-3, 2e-3, 3e-3])
    assert np.isnan(funding.rates[:, 1]).all()
    assert funding.absent == ("XRPUSDT",)
    until = MIDNIGHT + 8 * HOUR_MS
    assert load_funding(tmp_path, VENUE, ["BTCUSDT"], None, until).settle_ms.tolist() == [
        MIDNIGHT,
        until,
    ]


def test_the_share_of_missing_funding_counts_settlements_where_a_bar_closed(tmp_path: Path) -> None:
    store(tmp_path, VENUE, "BTCUSDT", bars_of(96))  # two days: 6 settlements
    store(tmp_path, VENUE, "ETHUSDT", without(bars_of(96), [15]))  # no bar closes at 08:00: 5
    write_funding(tmp_path, "BTCUSDT", [1, 2, 3], 1e-4)
    write_funding(tmp_path, "ETHUSDT", [1, 6], 1e-4)
    symbols = ["BTCUSDT", "ETHUSDT"]
    panel = load_panel(tmp_path, VENUE, symbols, M30)
    share = funding_missing_share(panel, load_funding(tmp_path, VENUE, symbols))
    assert share == pytest.approx(7 / 11)  # known: three of BTC, one of ETH
    none = load_funding(tmp_path, "nowhere", symbols)
    assert funding_missing_share(panel, none) == 1.0
    short = load_panel(tmp_path, VENUE, symbols, M30, None, MIDNIGHT + HOUR_MS)
    assert funding_missing_share(short, none) == 0.0
