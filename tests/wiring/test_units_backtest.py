"""A stated split in files: a backtest and its report go on as if there were none."""

from pathlib import Path

import numpy as np
import pytest

from adapters.history.parquet_file import Bars, read_bars, write_bars
from adapters.history.store import bars_path
from daemon.domain.bar import Field
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import HOUR_MS, Timeframe, iso
from daemon.report.attribution import attribute
from daemon.wiring.backtest import run_backtest
from tests.wiring.small_market import FIRST_MS, VENUE, small_settings, write_market

H1 = Timeframe(60)
ROW = 601  # not an instant of decision
SPLIT_MS = FIRST_MS + ROW * HOUR_MS


def split_file(folder: Path, symbol: str, factor: float) -> None:
    path = bars_path(folder, VENUE, symbol, H1)
    bars = read_bars(path, H1)
    values = bars.values.copy()
    values[ROW:, : Field.VOLUME] /= factor
    values[ROW:, Field.VOLUME] *= factor
    write_bars(path, Bars(bars.open_ms, values), H1, {"venue": VENUE, "symbol": symbol})


def entry(symbol: str, factor: str) -> str:
    return f'data.rescaled=[{{"symbol": "{symbol}", "at": "{iso(SPLIT_MS)}", "factor": {factor}}}]'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_market(tmp_path)


def test_a_stated_split_changes_neither_equity_nor_its_explanation(folder: Path) -> None:
    plain = run_backtest(small_settings(folder))
    row = plain.run.record.times_ms.index(SPLIT_MS)
    index = int(np.flatnonzero(plain.run.record.quantities[row])[-1])  # its price step is fine
    held = plain.run.record.quantities[row, index]
    symbol = plain.run.facts.symbols[index]
    split_file(folder, symbol, 2.0)
    told = run_backtest(small_settings(folder, entry(symbol, "2")))
    ours, theirs = (one.run.record.column("equity") for one in (told, plain))
    assert np.abs(ours[: row + 1] - theirs[: row + 1]).max() < 1e-6
    assert np.abs(ours / theirs - 1).max() < 5e-3  # lots and price step stayed as they were
    quantities, marks = told.run.record.quantities[:, index], told.run.record.marks[:, index]
    assert abs(quantities[row] - 2 * held) < 1e-6
    assert np.nanmax(np.abs(np.diff(np.log(marks)))) < 0.1, "the record mixes two units"
    explained, before = attribute(told.run), attribute(plain.run)
    for part in ("alpha", "beta_leak", "fees", "funding", "total"):
        gap = getattr(explained, part) - getattr(before, part)
        assert abs(float(gap)) < 0.003 * theirs[0], part
    assert [one for one in told.run.facts.caveats if "new units" in one]
    assert not [one for one in plain.run.facts.caveats if "new units" in one]


def test_an_unstated_split_is_told_in_the_report_and_gives_no_gain(folder: Path) -> None:
    split_file(folder, "XRPUSDT", 2.0)
    found = run_backtest(small_settings(folder))
    assert [one for one in found.run.facts.caveats if "[[data.rescaled]]" in one]
    equity = found.run.record.column("equity")
    until = found.run.record.times_ms.index(SPLIT_MS + 40 * HOUR_MS)
    assert np.abs(np.diff(np.log(equity[:until]))).max() < 0.05


def test_a_doubted_position_is_kept_and_does_not_end(folder: Path) -> None:
    plain = run_backtest(small_settings(folder)).run
    row = plain.record.times_ms.index(SPLIT_MS)
    index = int(np.flatnonzero(plain.record.quantities[row])[-1])
    split_file(folder, plain.facts.symbols[index], 2.0)
    record = run_backtest(small_settings(folder)).run.record
    rows = [record.times_ms.index(SPLIT_MS + hours * HOUR_MS) for hours in (0, 10, 26, 47)]
    held = {float(record.quantities[row, index]) for row in rows}
    assert len(held) == 1
    assert held != {0.0}, "it was settled as if it had ended"


def test_two_statements_that_contradict_each_other_are_refused(folder: Path) -> None:
    one = f'{{"symbol": "XRPUSDT", "at": "{iso(SPLIT_MS)}", "factor": 2}}'
    other = one.replace('"factor": 2', '"factor": 3')
    with pytest.raises(ConfigurationError, match="two entries for XRPUSDT"):
        run_backtest(small_settings(folder, f"data.rescaled=[{one}, {other}]"))


@pytest.mark.parametrize("factor", ["0", "-2", '"1/0"', '"ten"', "0.1", "true", '"nan"'])
def test_a_factor_that_is_none_is_refused_with_what_is_accepted(factor: str, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"factor.*1/15"):
        small_settings(folder, entry("XRPUSDT", factor))
