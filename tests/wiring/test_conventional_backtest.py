"""Every conventional strategy runs in a backtest by its name alone, without an estimator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters.history.parquet_file import Rates, write_rates
from adapters.history.store import funding_path
from daemon.domain.decision import DecisionKind
from daemon.domain.messages import Transferred
from daemon.domain.units import DAY_MS
from daemon.wiring.backtest import run_backtest
from tests.wiring.small_market import FIRST_MS, SYMBOLS, VENUE, small_settings, write_market


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the small market with a funding rate of its own for each coin."""
    folder = write_market(tmp_path_factory.mktemp("market"), days=20)
    settle_ms = FIRST_MS + np.arange(1, 60, dtype=np.int64) * (DAY_MS // 3)
    for place, symbol in enumerate(SYMBOLS):
        rates = Rates(settle_ms, np.full(len(settle_ms), (place - 2) * 1e-4))
        about = {"venue": VENUE, "symbol": symbol}
        write_rates(funding_path(folder, VENUE, symbol), rates, about)
    return folder


@pytest.mark.parametrize("name", ["carry", "low_volatility", "momentum", "pairs", "reversal"])
def test_it_decides_once_its_window_is_full(market: Path, name: str) -> None:
    own = ("strategy.parameters={}", 'strategy.parameters={"friction_max": 100.0}')
    run = run_backtest(small_settings(market, f"strategy.name={name}", *own)).run
    made = [d for d in run.decisions if d.kind is not DecisionKind.WARMING]
    assert len(made) > 5
    assert not any("refused" in d.note for d in made)
    fills = [x for x in run.executions if not isinstance(x, Transferred)]
    assert len(fills) > 5
