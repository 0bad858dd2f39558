"""Bad bars in files: absent for backtest and training, told, and harmless where there are none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adapters.history.parquet_file import Bars, read_bars, write_bars
from adapters.history.store import Panel, bars_path, data_root, load_panel
from daemon.domain.bar import Field, Floats
from daemon.domain.units import HOUR_MS, Timeframe, iso
from daemon.wiring.backtest import BacktestResult, run_backtest
from daemon.wiring.cleansing import cleansed_panel
from daemon.wiring.training import bars_from_files
from tests.wiring.small_market import FIRST_MS, SYMBOLS, VENUE, small_settings, write_market

H1 = Timeframe(60)
OUTAGE = range(600, 606)
OFF = (
    "data.remove_impossible=false",
    "data.remove_frozen_venue=false",
    "data.remove_zero_volume=false",
    "data.remove_rescaled=false",
    "data.remove_repeated=false",
    "data.flag_extremes=false",
)


def changed(folder: Path, symbol: str, change: Callable[[Floats], None]) -> None:
    path = bars_path(folder, VENUE, symbol, H1)
    bars = read_bars(path, H1)
    values = bars.values.copy()
    change(values)
    write_bars(path, Bars(bars.open_ms, values), H1, {"venue": VENUE, "symbol": symbol})


def outage(values: Floats) -> None:
    for row in OUTAGE:
        values[row, : Field.VOLUME] = values[OUTAGE[0] - 1, Field.CLOSE]
        values[row, Field.VOLUME] = 0.0


def without_times(result: BacktestResult) -> tuple[object, ...]:
    facts = result.run.facts
    return facts.caveats, facts.fingerprint, result.metrics, len(result.run.decisions)


def test_on_a_clean_market_nothing_changes_by_a_bit(tmp_path: Path) -> None:
    folder = write_market(tmp_path)
    cleansed = run_backtest(small_settings(folder))
    raw = run_backtest(small_settings(folder, *OFF))
    assert without_times(cleansed) == without_times(raw)
    ours, theirs = cleansed.run.record, raw.run.record
    assert np.array_equal(ours.column("equity"), theirs.column("equity"))
    assert ours.column("equity")[-1] != ours.column("equity")[0]


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    """Write a market whose venue stands still for six hours."""
    folder = write_market(tmp_path)
    for symbol in SYMBOLS:
        changed(folder, symbol, outage)
    return folder


def test_nothing_is_filled_in_a_frozen_market_and_the_report_says_which_bars(frozen: Path) -> None:
    result = run_backtest(small_settings(frozen))
    (told,) = [one for one in result.run.facts.caveats if "cleansing" in one]
    assert told.startswith("36 bars were removed by the cleansing rules (36 frozen_venue)")
    dark = [(FIRST_MS + row * HOUR_MS, FIRST_MS + (row + 1) * HOUR_MS) for row in OUTAGE]
    fills = [one.at_ms for one in result.run.executions if hasattr(one, "at_ms")]
    assert fills
    assert not [at for at in fills for first, end in dark if first <= at < end]
    raw = run_backtest(small_settings(frozen, *OFF))
    assert not [one for one in raw.run.facts.caveats if "cleansing" in one]
    assert raw.run.facts.fingerprint != result.run.facts.fingerprint


def test_training_does_not_learn_from_an_outage_or_another_unit(frozen: Path) -> None:
    def redenominated(values: Floats) -> None:
        values[800:, : Field.VOLUME] *= 1000.0
        values[800:, Field.VOLUME] /= 1000.0

    changed(frozen, "ADAUSDT", redenominated)
    ada = SYMBOLS.index("ADAUSDT")
    bars = bars_from_files(small_settings(frozen, "training.days=40"))
    rows = [row - (40 * 24 - len(bars.values)) for row in OUTAGE]
    at = bars.symbols.index("ADAUSDT")
    assert np.isnan(bars.values[rows]).all()
    assert np.isnan(bars.values[800 - 960 : 847 - 960, at]).all()  # two days, then believed
    assert np.isfinite(bars.values[847 - 960 :, at]).all()
    others = [n for n in range(len(SYMBOLS)) if n != at]
    assert np.isfinite(bars.values[800 - 960 :][:, others]).all()
    at_ms = iso(int(bars.close_ms[799 - 960]))
    entry = f'[{{"symbol": "ADAUSDT", "at": "{at_ms}", "factor": "1/1000"}}]'
    told = bars_from_files(small_settings(frozen, "training.days=40", f"data.rescaled={entry}"))
    assert np.isfinite(told.values[np.isfinite(bars.values[:, others[0], 0])]).all()
    moves = np.diff(np.log(told.values[800 - 965 : 800 - 955, at, Field.CLOSE]))
    assert np.abs(moves).max() < 0.1, "two scales"
    raw = bars_from_files(small_settings(frozen, "training.days=40", *OFF))
    assert np.isfinite(raw.values).all()
    assert ada == 2


def test_no_bar_and_no_fill_price_depends_on_a_later_bar(frozen: Path) -> None:
    settings = small_settings(frozen)
    root, source = data_root(frozen), Timeframe.parse(settings.backtest.source)
    whole = load_panel(root, settings.backtest.venue, SYMBOLS, source)
    kept, removed = cleansed_panel(settings, whole, source)
    assert removed
    for rows in (OUTAGE[0], OUTAGE[0] + 1, OUTAGE[2], OUTAGE[-1] + 1, OUTAGE[-1] + 2):
        part = Panel(whole.close_ms[:rows], whole.values[:rows], whole.opens[:rows])
        seen, _ = cleansed_panel(settings, part, source)
        np.testing.assert_array_equal(seen.values, kept.values[:rows])
        np.testing.assert_array_equal(seen.opens, kept.opens[:rows])
    assert np.isnan(kept.opens[list(OUTAGE)]).all(), "somebody could trade in the outage"
    assert not np.isnan(kept.opens[OUTAGE[0] - 1]).any(), "then nobody knew that it began"
