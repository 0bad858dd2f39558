"""Columns made of bars and clock through the whole line: training, predict, worker, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from adapters.history.parquet_file import read_rates
from adapters.history.predictions_file import read_predictions
from adapters.history.store import funding_path, load_panel
from daemon.domain.bar import Window
from daemon.domain.bar_builder import aggregate_all
from daemon.domain.failures import ConfigurationError, ModelError
from daemon.domain.messages import FundingRates
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe, utc
from daemon.settings import Settings, load_settings
from daemon.wiring.backtest import run_backtest
from daemon.wiring.predicting import bars_in, predict, stored_model
from daemon.wiring.series_worker import build
from daemon.wiring.training import bars_from_files, promote_first, train
from strategies.forecast.inputs.derived import DERIVED
from tests.e2e.line import ROOT
from tests.simulation.paper_line import ORIGIN_MS, generated_market

DAYS, TRAINED_DAYS = 46, 42
END_MS = ORIGIN_MS + TRAINED_DAYS * DAY_MS
AFTER = f"backtest.since={utc(END_MS).isoformat()}"
SOURCE, HOURLY = Timeframe(30), Timeframe(60)
VENUE = "binanceusdm"
NAMES = ("funding_clock", *DERIVED)


def settings(market: Path, *more: str) -> Settings:
    chosen = [
        f"backtest.data_folder={market}",
        f"backtest.rules_file={ROOT / 'config' / 'trading_rules.toml'}",
        "backtest.report=",
        f"evaluation.trials_file={market / 'trials.jsonl'}",
        f"estimator.models_folder={market / 'models'}",
        "exchange.generated=true",
        "estimator.kind=model",
        'strategy.parameters={"breadth_min": 3, "friction_max": 100.0}',
        'market.timeframes=["1h"]',
        "market.window_bars=150",
        "training.kind=ridge",
        f"training.days={TRAINED_DAYS}",
        f"training.covariates={json.dumps(NAMES)}",
        *more,
    ]
    return load_settings([ROOT / "config" / "backtest.toml"], overrides=chosen, environment={})


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a market and a champion that reads everything that is made of bars and clock."""
    folder = tmp_path_factory.mktemp("market")
    generated_market(folder, days=DAYS)
    chosen = settings(folder, f"backtest.until={utc(END_MS).isoformat()}")
    made = train(chosen, bars_from_files(chosen), lambda _: None)
    assert promote_first(chosen, made.model_id)
    return folder


def model_of(market: Path) -> str:
    (made,) = (market / "models").glob("*/manifest.json")
    return made.parent.name


def test_the_worker_says_what_predict_writes_to_the_bit(market: Path) -> None:
    chosen = settings(market)
    found = bars_in(market, SOURCE)
    checkpoint = stored_model(chosen, model_of(market))
    assert checkpoint.manifest.covariates == NAMES
    path = predict(chosen, checkpoint, found, market / "table.parquet").path
    table = read_predictions(path).table
    panel = load_panel(market, VENUE, found.symbols, SOURCE)
    ((closes, values),) = aggregate_all(panel.close_ms - SOURCE.ms, panel.values, SOURCE, (HOURLY,))
    config = {
        "kind": "network",
        "model": str(market / "models" / checkpoint.model_id),
        "timeframes_minutes": [60],
        "symbols": list(found.symbols),
        "series_root": str(market),
        "venue": VENUE,
    }
    worker = build(config)
    paid = [read_rates(funding_path(market, VENUE, symbol)) for symbol in found.symbols]
    for settle_ms in sorted({int(at) for one in paid for at in one.settle_ms}):
        rates = np.full(len(paid), np.nan)
        for n, one in enumerate(paid):
            rates[n] = next(iter(one.rates[one.settle_ms == settle_ms]), np.nan)
        worker.note(FundingRates(settle_ms, rates, np.full(len(paid), np.nan)))
    for at_ms in range(END_MS, END_MS + 20 * HOUR_MS, HOUR_MS):
        last = int(np.searchsorted(closes, at_ms)) + 1
        window = Window(HOURLY, at_ms, values[last - 150 : last])
        (said,) = worker.estimate(at_ms, [window]).predictions
        here = table.as_of_ms == at_ms
        order = [found.symbols.index(table.symbols[n]) for n in table.place[here].tolist()]
        assert len(order) == len(found.symbols)
        np.testing.assert_array_equal(table.mean[0, here], said.mean[order])
        assert np.isfinite(said.mean).all()


def test_a_backtest_trades_by_such_a_model_and_again_the_same(market: Path) -> None:
    decided = [d.digest for d in run_backtest(settings(market, AFTER)).run.decisions]
    assert len(decided) > 24
    assert [d.digest for d in run_backtest(settings(market, AFTER)).run.decisions] == decided


def test_where_a_major_is_missing_training_run_and_predict_are_refused(
    market: Path, tmp_path: Path
) -> None:
    symbols = [one for one in bars_in(market, SOURCE).symbols if one != "ETHUSDT"]
    without = f"universe.symbols={json.dumps(symbols)}"
    said = "no ETH among the instruments"
    with pytest.raises(ModelError, match=said):
        run_backtest(settings(market, AFTER, without))
    chosen = settings(market, without)
    with pytest.raises(ModelError, match=said):
        train(chosen, bars_from_files(chosen), lambda _: None)
    shutil.copytree(market / "ohlcv", tmp_path / "ohlcv", ignore=shutil.ignore_patterns("ETHUSDT*"))
    found = bars_in(tmp_path, SOURCE)
    assert sorted(found.symbols) == sorted(symbols)
    checkpoint = stored_model(chosen, model_of(market))
    with pytest.raises(ModelError, match=said):
        predict(chosen, checkpoint, found, tmp_path / "table.parquet")


def test_a_name_that_there_is_not_is_refused_with_those_that_there_are(market: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"training\.covariates.*" + ", ".join(DERIVED)):
        settings(market, 'training.covariates=["rank"]')
