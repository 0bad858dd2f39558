"""A stored model over any folder of bars: what it would have said live, and its replay."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from adapters.history.parquet_file import Bars, read_bars, write_bars
from adapters.history.predictions_file import read_predictions, write_predictions
from adapters.history.store import load_panel, stored_symbols
from daemon import cli
from daemon.domain.bar import Window
from daemon.domain.bar_builder import aggregate_all
from daemon.domain.failures import (
    ConfigurationError,
    CorruptFile,
    DataError,
    ModelError,
)
from daemon.domain.predictions import PredictionTable
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe, utc
from daemon.settings import Settings, load_settings
from daemon.wiring.backtest import run_backtest
from daemon.wiring.estimator import estimator_of
from daemon.wiring.predicting import Predicted, bars_in, predict, stored_model
from daemon.wiring.training import Trained, bars_from_files, train_unlogged
from strategies.forecast.checkpoint import load
from strategies.forecast.inference import ModelEstimator
from strategies.forecast.inputs.windows import WINDOW_BARS
from tests.simulation.paper_line import ORIGIN_MS, generated_market

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Timeframe(30)
FRAMES = (Timeframe(60), Timeframe(90))
DAYS, TRAINED_DAYS = 44, 40
END_MS = ORIGIN_MS + TRAINED_DAYS * DAY_MS
VENUE = "binanceusdm"
STRATEGY = {"timeframes_minutes": [60, 90], "breadth_min": 3, "friction_max": 100.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("market")
    generated_market(place, days=DAYS)
    return place


def settings(folder: Path, *more: str) -> Settings:
    options = [
        f"backtest.data_folder={folder}",
        f"backtest.rules_file={ROOT / 'config' / 'trading_rules.toml'}",
        "backtest.report=",
        f"evaluation.trials_file={folder / 'trials.jsonl'}",
        f"estimator.models_folder={folder / 'models'}",
        "exchange.generated=true",
        "estimator.kind=model",
        f"strategy.parameters={json.dumps(STRATEGY)}",
        'market.timeframes=["1h", "90m"]',
        "market.window_bars=150",
        "training.kind=ridge",
        f"training.days={TRAINED_DAYS}",
        *more,
    ]
    base = [ROOT / "config" / "backtest.toml"]
    return load_settings(base, overrides=options, environment={})


@pytest.fixture(scope="module")
def trained(folder: Path) -> Trained:
    chosen = settings(folder, f"backtest.until={utc(END_MS).isoformat()}")
    return train_unlogged(chosen, bars_from_files(chosen), lambda _: None)


@pytest.fixture(scope="module")
def predicted(folder: Path, trained: Trained) -> Predicted:
    found = bars_in(folder, SOURCE)
    checkpoint = stored_model(settings(folder), trained.model_id)
    return predict(settings(folder), checkpoint, found, folder / "table.parquet")


def test_the_file_has_the_columns_that_are_promised(predicted: Predicted) -> None:
    table = pq.read_table(predicted.path)
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds == {
        "as_of": "int64",
        "symbol": "string",
        "prediction": "double",
        "mean_60": "double",
        "variance_60": "double",
        "mean_90": "double",
        "variance_90": "double",
    }
    rows = list(zip(table["as_of"].to_pylist(), table["symbol"].to_pylist(), strict=True))
    assert rows == sorted(set(rows))
    assert len(rows) == predicted.rows
    stored = read_predictions(predicted.path)
    assert stored.table_id == predicted.table_id
    assert stored.table.as_of_ms[0] == ORIGIN_MS + WINDOW_BARS * HOUR_MS, "a whole window first"
    assert stored.table.as_of_ms[-1] == ORIGIN_MS + DAYS * DAY_MS
    assert np.isfinite(stored.table.mean).any(axis=1).all()


def test_predictions_are_those_of_the_live_estimator_to_the_bit(
    folder: Path, trained: Trained, predicted: Predicted
) -> None:
    symbols = bars_in(folder, SOURCE).symbols
    assert sorted(symbols) == stored_symbols(folder, VENUE, SOURCE)
    panel = load_panel(folder, VENUE, symbols, SOURCE)
    derived = aggregate_all(panel.close_ms - SOURCE.ms, panel.values, SOURCE, FRAMES)
    table = read_predictions(predicted.path).table
    seen = 0
    for at_ms in (END_MS - DAY_MS, END_MS + 90 * 60_000, END_MS + 7 * HOUR_MS, END_MS + 3 * DAY_MS):
        live = ModelEstimator(load(trained.path))
        windows = []
        for timeframe, (closes, values) in zip(FRAMES, derived, strict=True):
            if at_ms % timeframe.ms == 0:
                last = int(np.searchsorted(closes, at_ms)) + 1
                windows.append(Window(timeframe, at_ms, values[last - 150 : last]))
        for said in live.estimate(at_ms, windows).predictions:
            k = FRAMES.index(said.timeframe)
            here = table.as_of_ms == at_ms
            order = [symbols.index(table.symbols[n]) for n in table.place[here].tolist()]
            assert len(order) == len(symbols)
            assert np.array_equal(table.mean[k, here], said.mean[order])
            assert np.array_equal(table.variance[k, here], said.variance[order])
            seen += 1
    assert seen == 6


def test_a_timeframe_speaks_only_in_the_rows_of_its_own_closes(predicted: Predicted) -> None:
    table = read_predictions(predicted.path).table
    for k, timeframe in enumerate(FRAMES):
        closes = table.as_of_ms % timeframe.ms == 0
        assert np.isnan(table.mean[k, ~closes]).all()
        late = closes & (table.as_of_ms >= ORIGIN_MS + WINDOW_BARS * timeframe.ms)
        assert np.isfinite(table.mean[k, late]).all()


def test_the_length_of_the_stretches_changes_nothing(
    folder: Path, trained: Trained, predicted: Predicted, tmp_path: Path
) -> None:
    checkpoint, found = load(trained.path), bars_in(folder, SOURCE)
    again = predict(
        settings(folder), checkpoint, found, tmp_path / "t.parquet", stretch_ms=5 * DAY_MS
    )
    assert again.table_id == predicted.table_id
    assert (again.rows, again.instants) == (predicted.rows, predicted.instants)


def test_a_backtest_over_the_table_gives_the_orders_of_one_with_the_model(
    folder: Path, trained: Trained, predicted: Predicted
) -> None:
    since = f"backtest.since={utc(END_MS + DAY_MS).isoformat()}"
    model = run_backtest(settings(folder, since, f"estimator.model={trained.model_id}"))
    table = f"estimator.table={predicted.path}"
    replayed = run_backtest(settings(folder, since, "estimator.kind=table", table))
    assert len(model.run.executions) > 50
    assert replayed.run.executions == model.run.executions
    assert [str(d.orders) for d in replayed.run.decisions] == [
        str(d.orders) for d in model.run.decisions
    ]
    assert replayed.trial.configuration["estimator"] == {
        "kind": "table",
        "model": predicted.table_id,
    }
    assert replayed.trial.id != model.trial.id


def test_a_model_of_long_bars_speaks_at_every_decision(folder: Path, tmp_path: Path) -> None:
    frames = {**STRATEGY, "timeframes_minutes": [120]}
    alone = ('market.timeframes=["2h"]', f"strategy.parameters={json.dumps(frames)}")
    longer = ("training.days=42", f"backtest.until={utc(END_MS + 2 * DAY_MS).isoformat()}")
    chosen = settings(folder, *alone, *longer)
    model = train_unlogged(chosen, bars_from_files(chosen), lambda _: None)
    found = bars_in(folder, SOURCE)
    made = predict(settings(folder, *alone), load(model.path), found, tmp_path / "t.parquet")
    table = read_predictions(made.path).table
    instants = np.unique(table.as_of_ms)
    assert (np.diff(instants) == HOUR_MS).all(), "decisions are hourly"
    between = table.as_of_ms % (2 * HOUR_MS) != 0
    assert between.any()
    assert np.isnan(table.mean[:, between]).all()


@pytest.mark.parametrize(
    ("market", "combined"), [('["1h"]', [60]), ('["1h", "90m"]', [90]), ('["1h", "90m"]', [90, 60])]
)
def test_a_strategy_may_combine_fewer_timeframes_than_the_model_knows(
    folder: Path, trained: Trained, predicted: Predicted, market: str, combined: list[int]
) -> None:
    chosen = settings(
        folder,
        f"backtest.since={utc(END_MS + 2 * DAY_MS).isoformat()}",
        f"market.timeframes={market}",
        f"strategy.parameters={json.dumps({**STRATEGY, 'timeframes_minutes': combined})}",
        f"estimator.model={trained.model_id}",
        f"estimator.table={predicted.path}",
    )
    model = run_backtest(chosen).run
    assert model.executions
    estimator = chosen.estimator.model_copy(update={"kind": "table"})
    replayed = run_backtest(chosen.model_copy(update={"estimator": estimator})).run
    assert replayed.executions == model.executions


def test_where_the_table_has_no_row_nothing_is_forecast(
    folder: Path, predicted: Predicted, tmp_path: Path
) -> None:
    stored = read_predictions(predicted.path)
    kept = stored.table.as_of_ms <= END_MS + DAY_MS
    short = part_of(stored.table, kept)
    write_predictions(tmp_path / "t.parquet", [short], FRAMES, stored.facts)
    run = run_backtest(
        settings(
            folder,
            f"backtest.since={utc(END_MS).isoformat()}",
            f"backtest.until={utc(END_MS + 2 * DAY_MS).isoformat()}",
            "estimator.kind=table",
            f"estimator.table={tmp_path / 't.parquet'}",
        )
    ).run
    after = [d for d in run.decisions if d.as_of_ms > END_MS + DAY_MS + 2 * HOUR_MS]
    before = [d for d in run.decisions if d.as_of_ms <= END_MS + DAY_MS]
    assert any(d.orders for d in before)
    assert after
    assert all("no usable forecast" in d.note or "hold" in d.note for d in after)


def part_of(table: PredictionTable, rows: Any) -> PredictionTable:
    """Keep some rows."""
    return replace(
        table,
        as_of_ms=table.as_of_ms[rows],
        place=table.place[rows],
        prediction=table.prediction[rows],
        mean=table.mean[:, rows],
        variance=table.variance[:, rows],
    )


def test_a_table_of_strange_symbols_or_without_a_timeframe_is_refused_by_name(
    folder: Path, predicted: Predicted
) -> None:
    table = ("estimator.kind=table", f"estimator.table={predicted.path}")
    some = list(bars_in(folder, SOURCE).symbols[:-1])
    lost = bars_in(folder, SOURCE).symbols[-1]
    with pytest.raises(ModelError, match=rf"table.parquet: it holds predictions of {lost}"):
        run_backtest(settings(folder, *table, f"backtest.symbols={json.dumps(some)}"))
    two = 'market.timeframes=["1h", "2h"]'
    frames = 'strategy.parameters={"timeframes_minutes": [60, 120]}'
    with pytest.raises(
        ModelError, match=r"table.parquet: no 2h forecasts; the table knows 1h, 90m"
    ):
        run_backtest(settings(folder, *table, two, frames))


def test_a_table_that_is_not_there_or_not_named_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"estimator\.table is empty"):
        run_backtest(settings(folder, "estimator.kind=table"))
    with pytest.raises(DataError, match="no such file"):
        run_backtest(settings(folder, "estimator.kind=table", "estimator.table=none.parquet"))


def test_predictions_of_a_generated_market_do_not_trade_on_real_prices(
    folder: Path, predicted: Predicted, tmp_path: Path
) -> None:
    stored, made = read_predictions(predicted.path), tmp_path / "t.parquet"
    write_predictions(made, [stored.table], FRAMES, {**stored.facts, "origin": "generated"})
    table = ("estimator.kind=table", f"estimator.table={made}")
    real = settings(folder, *table, "exchange.generated=false")
    with pytest.raises(ModelError, match="learned from a generated market"):
        run_backtest(real)


async def test_a_table_is_no_forecaster_of_a_live_session(
    folder: Path, predicted: Predicted
) -> None:
    chosen = settings(folder, "estimator.kind=table", f"estimator.table={predicted.path}")
    with pytest.raises(ConfigurationError, match="accepted in backtests only"):
        async with estimator_of(chosen):
            pass


def test_bars_are_found_in_a_store_and_in_a_folder_of_their_own(
    folder: Path, trained: Trained, predicted: Predicted, tmp_path: Path
) -> None:
    store, venue = folder, folder / "ohlcv" / VENUE
    flat = tmp_path / "flat"
    shutil.copytree(venue, flat)
    for place in (store, store / "ohlcv", venue):
        assert bars_in(place, SOURCE).root == folder
    found = bars_in(flat, SOURCE)
    assert found.symbols == bars_in(store, SOURCE).symbols
    again = predict(settings(folder), load(trained.path), found, tmp_path / "t.parquet")
    assert again.table_id == predicted.table_id
    for place in (flat, store):
        with pytest.raises(DataError, match=f"no 5m bars.*hold bars of {SOURCE.label}: .*--source"):
            bars_in(place, Timeframe(5))
    with pytest.raises(DataError, match=r"there are none$"):
        bars_in(tmp_path / "nowhere", SOURCE)
    shutil.copytree(flat, tmp_path / "two" / "ohlcv" / "one")
    shutil.copytree(flat, tmp_path / "two" / "ohlcv" / "other")
    with pytest.raises(ConfigurationError, match="--venue, accepted: one, other"):
        bars_in(tmp_path / "two", SOURCE)
    assert bars_in(tmp_path / "two", SOURCE, "other").venue == "other"


def test_a_hole_in_all_files_longer_than_a_stretch_is_a_hole_in_the_table(
    folder: Path, trained: Trained, tmp_path: Path
) -> None:
    venue, flat = folder / "ohlcv" / VENUE, tmp_path / "flat"
    gone = (ORIGIN_MS + 14 * DAY_MS, ORIGIN_MS + 30 * DAY_MS)
    for path in venue.glob("*-30m.parquet"):
        bars = read_bars(path, SOURCE)
        kept = (bars.open_ms < gone[0]) | (bars.open_ms >= gone[1])
        about = {"venue": VENUE, "symbol": path.name}
        cut = Bars(bars.open_ms[kept], bars.values[kept])
        write_bars(flat / path.name, cut, SOURCE, about)
    found, checkpoint = bars_in(flat, SOURCE), load(trained.path)
    short, whole = (
        predict(settings(folder), checkpoint, found, tmp_path / f"{days}", stretch_ms=days * DAY_MS)
        for days in (4, 100)
    )
    assert short.table_id == whole.table_id
    table = read_predictions(whole.path).table
    assert not ((table.as_of_ms > gone[0] + 2 * HOUR_MS) & (table.as_of_ms <= gone[1])).any()
    assert (table.as_of_ms > gone[1]).any()


def test_the_command_writes_a_table_of_a_period(
    folder: Path,
    trained: Trained,
    predicted: Predicted,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "deep" / "t.parquet"
    words = ["--model", str(trained.path), "--bars", str(folder / "ohlcv" / VENUE)]
    period = ["--since", f"{utc(END_MS):%Y-%m-%d}", "--until", f"{utc(END_MS + DAY_MS):%Y-%m-%d}"]
    code = cli.run(["predict", *words, "--out", str(out), *period, "--source", "30m", "--json"])
    assert code == 0
    said = json.loads(capsys.readouterr().out)
    table, whole = read_predictions(out).table, read_predictions(predicted.path).table
    assert (said["rows"], said["first_ms"]) == (len(table), END_MS + HOUR_MS)
    assert said["last_ms"] == END_MS + DAY_MS
    same = (whole.as_of_ms > END_MS) & (whole.as_of_ms <= END_MS + DAY_MS)
    assert np.array_equal(table.mean, whole.mean[:, same], equal_nan=True)


def test_a_damaged_table_is_refused(predicted: Predicted, tmp_path: Path) -> None:
    raw = bytearray(predicted.path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(bytes(raw))
    with pytest.raises(CorruptFile, match=r"bad\.parquet"):
        read_predictions(bad)
