"""The files of other worlds: read below every loader, written so that a backtest can take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters.history.parquet_file import NO_BARS, Bars, read_bars, read_rates, write_bars
from adapters.history.store import bars_path, funding_path, stored_symbols
from daemon.domain.bar import Field
from daemon.domain.failures import DataError
from daemon.domain.units import DAY_MS
from daemon.research.worlds import removed
from daemon.wiring import lookahead
from daemon.wiring.backtest import instruments_of, load_history
from daemon.wiring.data_findings import data_of
from daemon.wiring.world_files import StoredWorld, in_folder, stored_world, write_world
from tests.simulation.paper_line import ORIGIN_MS, generated_market
from tests.wiring.test_lookahead import M30, RULE, settings

VENUE = "binanceusdm"
LISTED_MS = ORIGIN_MS + 9 * DAY_MS  # DOGE has no bar before it
NAMED = 'backtest.symbols=["BTCUSDT", "DOGEUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]'


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate a market of six coins; one begins late with holes, one has no funding."""
    folder = tmp_path_factory.mktemp("market")
    generated_market(folder, days=12)
    path = bars_path(folder, VENUE, "DOGEUSDT", M30)
    bars = read_bars(path, M30)
    keep = (bars.open_ms >= LISTED_MS) & (np.arange(len(bars)) % 11 > 2)
    write_bars(path, Bars(bars.open_ms[keep], bars.values[keep]), M30, {})
    funding_path(folder, VENUE, "ETHUSDT").unlink()
    return folder


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.array_equal(left, right, equal_nan=True))


def test_the_rows_of_the_files_are_those_that_a_backtest_loads(market: Path) -> None:
    chosen = settings(market, *RULE)
    world = stored_world(chosen)
    loaded = data_of(load_history(chosen, instruments_of(chosen), 0))
    order = [loaded.symbols.index(symbol) for symbol in world.data.symbols]
    assert len(order) == 6
    assert same(world.data.close_ms, loaded.close_ms)
    assert same(world.data.values, loaded.values[:, order])
    assert same(world.data.opens, loaded.opens[:, order])
    assert same(world.data.settle_ms, loaded.settle_ms)
    assert same(world.data.rates, loaded.rates[:, order])
    assert np.isfinite(world.data.rates).any()
    assert world.funded == set(world.data.symbols) - {"ETHUSDT"}
    with pytest.raises(ValueError, match="read-only"):
        world.data.values[0, 0, 0] = 1.0


def test_a_world_that_was_written_reads_as_it_was(market: Path, tmp_path: Path) -> None:
    chosen = settings(market, *RULE)
    world = stored_world(chosen)
    write_world(world, tmp_path, chosen)
    again = stored_world(in_folder(chosen, tmp_path))
    assert again.funded == world.funded
    assert again.data.symbols == world.data.symbols
    for name in ("close_ms", "values", "opens", "settle_ms", "rates"):
        assert same(getattr(again.data, name), getattr(world.data, name)), name


def test_who_has_no_bar_before_a_cut_keeps_a_file_without_one(market: Path, tmp_path: Path) -> None:
    chosen = settings(market, *RULE)
    world = stored_world(chosen)
    write_world(
        StoredWorld(removed(world.data, LISTED_MS - DAY_MS), world.funded), tmp_path, chosen
    )
    assert stored_symbols(tmp_path, VENUE, M30) == list(world.data.symbols)
    assert len(read_bars(bars_path(tmp_path, VENUE, "DOGEUSDT", M30), M30)) == 0
    rates = read_rates(funding_path(tmp_path, VENUE, "BTCUSDT"))
    assert 0 < int(rates.settle_ms[-1]) <= LISTED_MS - DAY_MS
    assert not funding_path(tmp_path, VENUE, "ETHUSDT").exists()
    assert np.isnan(world.data.values[0, world.data.symbols.index("DOGEUSDT"), Field.CLOSE])


def test_only_named_symbols_are_read_and_late_ones_do_not_stop_the_check(market: Path) -> None:
    chosen = settings(market, *RULE, NAMED)
    assert len(stored_world(chosen).data.symbols) == 5
    until = "backtest.until=2024-01-09T00:00:00Z"  # before the last of them begins
    world = stored_world(chosen)
    assert world.data.close_ms[-1] > LISTED_MS, "files are cut, whatever period is asked for"
    found = lookahead.check_lookahead(
        settings(market, *RULE, NAMED, until), cuts_n=4, seed=1, days=1
    ).lookahead
    assert found.verdict is lookahead.Verdict.CLEAN
    assert max(one.cut.at_ms for one in found.results) < LISTED_MS


def test_rates_that_are_missing_in_another_world_do_not_stop_the_check(tmp_path: Path) -> None:
    generated_market(tmp_path, days=12)
    strict = ("backtest.funding_missing=error", "backtest.until=2024-01-12T20:00:00Z")
    chosen = settings(tmp_path, *RULE, *strict)
    found = lookahead.check_lookahead(chosen, cuts_n=2, seed=1, days=1).lookahead
    assert found.verdict is lookahead.Verdict.CLEAN


def test_files_without_a_bar_are_refused(tmp_path: Path) -> None:
    path = bars_path(tmp_path, VENUE, "BTCUSDT", M30)
    path.parent.mkdir(parents=True)
    write_bars(path, NO_BARS, M30, {})
    with pytest.raises(DataError, match="hold no bar"):
        stored_world(settings(tmp_path, *RULE))
