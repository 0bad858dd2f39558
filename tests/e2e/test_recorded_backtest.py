"""What a daemon recorded is all that a backtest needs: bars, funding, and series as they came."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters.history.covariates import read_series, series_path
from adapters.history.parquet_file import read_rates
from adapters.history.store import funding_path
from daemon.domain.units import HOUR_MS, iso
from daemon.wiring.decisions import read_run
from tests.e2e.line import command, sets
from tests.e2e.test_parity import BEGIN_MS, compared

VENUE = "binanceusdm"


@pytest.mark.timeout(200)
def test_a_backtest_over_the_recorded_folder_decides_as_the_daemon_did(tmp_path: Path) -> None:
    state = tmp_path / "state"
    options = (
        "strategy.name=neutral",
        'strategy.parameters={"breadth_min": 3, "friction_max": 100.0}',
        "estimator.kind=model",
        "universe.symbols=top:6",
        "estimator.allow_foreign_model=true",
        f"estimator.models_folder={tmp_path / 'models'}",
        f"evaluation.trials_file={tmp_path / 'trials.jsonl'}",
        'market.timeframes=["1h"]',
        "market.window_bars=150",
        "training.kind=ridge",
        "training.days=40",
        'training.covariates=["funding", "open_interest", "basis"]',
    )
    live = [*options, f"run.state_folder={state}", f"rehearsal.start={iso(BEGIN_MS)}"]
    done = command("rehearse", "--days", "1", "--json", *sets(live), cwd=tmp_path, seconds=100)
    assert done.code == 0, done.complaint
    recorded = state / "bars"
    out = tmp_path / "again.jsonl"
    begun_ms = read_run(state)[0].as_of_ms
    chosen = [
        *options,
        f"backtest.data_folder={recorded}",
        f"backtest.venue={VENUE}",
        f"backtest.since={iso(begun_ms - HOUR_MS)}",
        "backtest.report=",
    ]
    words = ["--decisions", str(out), "--book", str(state), "--json"]
    again = command("backtest", *words, *sets(chosen), cwd=tmp_path, seconds=100)
    assert again.code == 0, again.complaint
    code, found = compared(tmp_path, state, out)
    assert (code, found["first_difference"]) == (0, "")
    assert found["compared"] == found["equal"] >= 23
    for name in ("open_interest", "mark", "index"):
        series = read_series(series_path(recorded, VENUE, "BTCUSDT", name))
        came = series.known_ms[series.known_ms > BEGIN_MS]
        assert len(came) >= 22, "one an hour"
        assert (came % HOUR_MS == 1).all(), "known from after the instant at which it was asked"
    rates = read_rates(funding_path(recorded, VENUE, "BTCUSDT"))
    assert (np.diff(rates.settle_ms) == 8 * HOUR_MS).all()
    assert rates.settle_ms[-1] == begun_ms - begun_ms % (24 * HOUR_MS) + 24 * HOUR_MS
