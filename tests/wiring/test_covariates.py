"""Covariates through the whole line: files, training, the worker, and the check for look-ahead."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from structlog.testing import capture_logs

from adapters.estimate_worker import EstimateWorker
from adapters.history.covariates import list_series, read_series, series_path, write_series
from adapters.history.replay_feed import ReplayFeed
from daemon.domain.bar import Floats, Window
from daemon.domain.covariates import Series
from daemon.domain.failures import ConfigurationError, CorruptFile, ModelError
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import AlertKind, EstimatesMissing, EstimatesReady, FundingRates
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe, iso, utc
from daemon.research.lookahead import check_training
from daemon.research.worlds import removed, replaced
from daemon.settings import Settings, load_settings
from daemon.wiring import estimator, training
from daemon.wiring import lookahead as wiring
from daemon.wiring.backtest import instruments_of, load_history, run_backtest
from daemon.wiring.core import engine_of, universe_of
from daemon.wiring.covariates import stored_known
from daemon.wiring.series_worker import build
from daemon.wiring.training import bars_from_files, promote_first, train
from daemon.wiring.world_files import stored_world
from tests.e2e.line import ROOT
from tests.simulation.paper_line import ORIGIN_MS, generated_market
from tests.wiring.series_market import COVARIATES, early, write_beside

DAYS, TRAINED_DAYS = 50, 42
END_MS = ORIGIN_MS + TRAINED_DAYS * DAY_MS
AFTER = f"backtest.since={utc(END_MS).isoformat()}"
EARLY = "tests.wiring.series_market:build_early"


def settings(market: Path, *more: str) -> Settings:
    chosen = [
        f"backtest.data_folder={market}",
        f"backtest.rules_file={ROOT / 'config' / 'trading_rules.toml'}",
        "backtest.report=",
        f"evaluation.trials_file={market / 'trials.jsonl'}",
        f"estimator.models_folder={market / 'models'}",
        "estimator.kind=model",
        'strategy.parameters={"breadth_min": 3, "friction_max": 100.0}',
        'market.timeframes=["1h"]',
        "market.window_bars=150",
        "training.kind=ridge",
        f"training.days={TRAINED_DAYS}",
        f"training.covariates={COVARIATES}",
        *more,
    ]
    return load_settings([ROOT / "config" / "backtest.toml"], overrides=chosen, environment={})


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a market with series beside it, and a champion that reads them."""
    folder = tmp_path_factory.mktemp("market")
    generated_market(folder, days=DAYS)
    symbols = tuple(stored_world(settings(folder, "training.covariates=[]")).data.symbols)
    write_beside(folder, symbols, ORIGIN_MS, DAYS)
    chosen = settings(folder, f"backtest.until={utc(END_MS).isoformat()}")
    made = train(chosen, bars_from_files(chosen), lambda _: None)
    assert promote_first(chosen, made.model_id)
    return folder


def test_a_training_reads_series_as_they_were_known_at_its_last_close(market: Path) -> None:
    bars = bars_from_files(settings(market, f"backtest.until={utc(END_MS).isoformat()}"))
    assert set(bars.known) == {"funding", "open_interest", "series:fear"}
    for ones in bars.known.values():
        assert all(one is not None and int(one.known_ms[-1]) <= END_MS for one in ones)
    assert len({id(one) for one in bars.known["series:fear"]}) == 1


def test_a_backtest_with_covariates_stands_the_check_for_look_ahead(
    market: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"cuts_n": 2, "seed": 3, "days": 1}
    honest = wiring.check_lookahead(settings(market, AFTER), **asked).lookahead
    assert honest.is_clean
    assert honest.orders_n > 10
    monkeypatch.setattr(estimator, "BUILD_WITH_SERIES", EARLY)
    found = wiring.check_lookahead(settings(market, AFTER), **asked).lookahead
    assert found.verdict is wiring.Verdict.LEAK


def test_funding_that_the_feed_tells_has_a_say_in_forecasts(
    market: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(market, AFTER)
    decided = [d.digest for d in run_backtest(chosen).run.decisions]
    assert [d.digest for d in run_backtest(chosen).run.decisions] == decided
    monkeypatch.setattr("daemon.wiring.backtest.told", lambda worker, events: events)
    assert [d.digest for d in run_backtest(chosen).run.decisions] != decided


def test_a_training_that_joins_early_is_caught(
    market: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(market)
    data = stored_world(chosen).data
    assert {name for name, _ in data.series} >= {"survey/ALL-fear.parquet"}
    trainer = wiring.trainer_of(chosen)
    assert check_training(trainer, data, [END_MS], 1) == ()

    def hasty(
        chosen: Settings, folder: Path, symbols: Sequence[str], venue: str, until_ms: int
    ) -> dict[str, tuple[Series | None, ...]]:
        return early(stored_known(chosen, folder, symbols, venue, until_ms + DAY_MS), DAY_MS)

    monkeypatch.setattr(training, "stored_known", hasty)
    late = check_training(trainer, data, [END_MS], 1)
    assert {d.name for d in late} >= {"data", "scores"}


def test_a_missing_series_is_named_with_what_to_do(market: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'series:moon'.*import-series"):
        bars_from_files(settings(market, 'training.covariates=["series:moon"]'))
    with pytest.raises(ConfigurationError, match=r"training\.covariates.*accepted: a list of"):
        settings(market, 'training.covariates=["moon"]')
    # the worker refuses to start without what its model reads
    with pytest.raises(ModelError, match="open_interest"):
        run_backtest(settings(market, AFTER, f"estimator.series_folder={tmp_path}"))


def test_an_altered_series_is_found_out(tmp_path: Path) -> None:
    path = series_path(tmp_path, "survey", "ALL", "fear")
    ts = np.arange(5, dtype=np.int64)
    write_series(path, Series(ts, ts + 1, np.ones(5)), {})
    table = pq.read_table(path)
    sooner = table.set_column(1, "known_ms", pa.array(ts))
    pq.write_table(sooner.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(CorruptFile, match=r"fear.*SHA-256"):
        read_series(path)
    (only,) = list_series(tmp_path)
    assert only.problem


def test_the_manifest_says_what_a_model_reads(market: Path) -> None:
    (folder,) = (p for p in (market / "models").iterdir() if p.is_dir() and p.name[:1] != ".")
    told = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert told["covariates"] == json.loads(COVARIATES)


def test_a_worker_that_was_killed_is_told_all_funding_again(market: Path) -> None:
    chosen = settings(market, AFTER)
    made = instruments_of(chosen)
    engine = engine_of(chosen, universe_of(list(made.instruments)), Timeframe(30))
    history = load_history(chosen, made, 12 * DAY_MS)
    feed = ReplayFeed(history.panel, Timeframe(30), made.instruments, history.funding)
    N = len(made.instruments)
    with estimator.estimator_in_place(chosen, estimator.beside_files(chosen, engine)) as worker:
        for event in feed.replay(feed.first_ms - 1, feed.last_ms):
            if isinstance(event, FundingRates) and event.settle_ms <= END_MS:
                worker.note(event)
        hours = history.panel.values[: 2 * 150, :, :][::2]  # any bars will do
        window = Window(Timeframe(60), END_MS, hours)
        first = worker.estimate_sync(END_MS, [window])
        assert isinstance(first, EstimatesReady)
        (before,) = first.estimates.predictions
        assert np.isfinite(before.mean).sum() > N // 2
        process = psutil.Process(worker.process_id)
        process.kill()
        process.wait(5)
        assert isinstance(worker.estimate_sync(END_MS, [window]), EstimatesMissing)
        second = worker.estimate_sync(END_MS, [window])
    assert isinstance(second, EstimatesReady)
    np.testing.assert_array_equal(second.estimates.predictions[0].mean, before.mean)
    with estimator.estimator_in_place(chosen, estimator.beside_files(chosen, engine)) as deaf:
        untold = deaf.estimate_sync(END_MS, [window])
    assert isinstance(untold, EstimatesReady)
    assert not np.array_equal(untold.estimates.predictions[0].mean, before.mean, equal_nan=True)


def test_funding_that_came_after_its_forecast_is_never_known_at_it(market: Path) -> None:
    chosen = settings(market, AFTER)
    made = instruments_of(chosen)
    engine = engine_of(chosen, universe_of(list(made.instruments)), Timeframe(30))
    history = load_history(chosen, made, 12 * DAY_MS)
    feed = ReplayFeed(history.panel, Timeframe(30), made.instruments, history.funding)
    told = [
        event
        for event in feed.replay(feed.first_ms - 1, feed.last_ms)
        if isinstance(event, FundingRates) and event.settle_ms <= END_MS
    ]
    window = Window(Timeframe(60), END_MS, history.panel.values[:300:2])

    def mean(*, newest_is_late: bool) -> Floats:
        with estimator.estimator_in_place(chosen, estimator.beside_files(chosen, engine)) as worker:
            for event in told[:-1]:
                worker.note(event)
            if not newest_is_late:
                worker.note(told[-1])
            first = worker.estimate_sync(END_MS, [window])
            if newest_is_late:
                worker.note(told[-1])
            again = worker.estimate_sync(END_MS, [window])
        assert isinstance(first, EstimatesReady)
        assert isinstance(again, EstimatesReady)
        before, after = (one.estimates.predictions[0].mean for one in (first, again))
        np.testing.assert_array_equal(before, after)
        return after

    in_time, late = mean(newest_is_late=False), mean(newest_is_late=True)
    assert told[-1].settle_ms == END_MS
    assert not np.array_equal(in_time, late, equal_nan=True)


def test_the_other_worlds_of_the_check_share_no_later_value_of_a_series(market: Path) -> None:
    data = stored_world(settings(market)).data
    without = dict(removed(data, END_MS).series)
    other = dict(replaced(data, END_MS, np.random.default_rng(1)).series)
    for name, series in data.series:
        assert int(without[name].known_ms[-1]) <= END_MS < int(series.known_ms[-1])
        known = series.known_ms <= END_MS
        np.testing.assert_array_equal(other[name].values[known], series.values[known])
        assert (other[name].values[~known] != series.values[~known]).all()


def test_a_series_that_stops_and_one_that_comes_late_are_told_with_the_forecasts(
    market: Path, tmp_path: Path
) -> None:
    """The worker says so in its own process; who reads the file later reads what came late."""
    shutil.copytree(market / "covariates", tmp_path / "covariates")
    path = series_path(tmp_path, "survey", "ALL", "fear")
    whole = read_series(path)
    write_series(path, whole.known_at(END_MS - 2 * HOUR_MS), {})
    chosen = settings(market, AFTER, f"estimator.series_folder={tmp_path}")
    made = instruments_of(chosen)
    engine = engine_of(chosen, universe_of(list(made.instruments)), Timeframe(30))
    hours = load_history(chosen, made, 12 * DAY_MS).panel.values[:300:2]

    def asked(worker: EstimateWorker, hour: int) -> dict[str, str]:
        at_ms = END_MS + hour * HOUR_MS
        answer = worker.estimate_sync(at_ms, [Window(Timeframe(60), at_ms, hours)])
        assert isinstance(answer, EstimatesReady)
        return {k: v for k, v in answer.estimates.silent.items() if k != "funding"}

    with estimator.estimator_in_place(chosen, estimator.beside_files(chosen, engine)) as worker:
        first = asked(worker, 0)
        assert set(first) == {"series:fear"}
        assert "overdue for 6 of 6, read as the last value known" in first["series:fear"]
        write_series(path, whole, {})
        late = asked(worker, 1)
        assert set(late) == {"series:fear came late"}
        assert f"forecasts up to {utc(END_MS):%Y-%m-%dT%H:%M:%SZ}" in late["series:fear came late"]
        assert asked(worker, 2) == late
        assert asked(worker, 24) == {}, "it is told for a day"
    with estimator.estimator_in_place(chosen, estimator.beside_files(chosen, engine)) as worker:
        assert asked(worker, 0) == {}, "nothing is late for who begins later"


def test_a_run_hears_once_that_a_series_ends_and_once_that_it_is_unknown(
    market: Path, tmp_path: Path
) -> None:
    shutil.copytree(market / "covariates", tmp_path / "covariates")
    path = series_path(tmp_path, "survey", "ALL", "fear")
    cut = read_series(path).known_at(END_MS + DAY_MS)
    write_series(path, replace(cut, stale_ms=DAY_MS), {})
    chosen = settings(market, AFTER, f"estimator.series_folder={tmp_path}")
    done = run_backtest(chosen)
    assert done.alerts[AlertKind.SERIES] == 2, "overdue at first, then unknown"
    assert set(done.engine.state.silent) == {"series:fear"}
    assert done.engine.state.silent["series:fear"].startswith("unknown for 6 of 6")
    honest = run_backtest(settings(market, AFTER))
    assert AlertKind.SERIES not in honest.alerts


def test_a_training_says_which_series_are_silent_where_it_begins_and_ends(
    market: Path, tmp_path: Path
) -> None:
    shutil.copytree(market / "covariates", tmp_path / "covariates")
    path = series_path(tmp_path, "survey", "ALL", "fear")
    write_series(path, read_series(path).known_at(END_MS - 2 * DAY_MS), {})
    chosen = settings(
        market,
        f"backtest.until={utc(END_MS).isoformat()}",
        f"estimator.series_folder={tmp_path}",
        f"estimator.models_folder={tmp_path / 'models'}",
    )
    with capture_logs() as logs:
        train(chosen, bars_from_files(chosen), lambda _: None)
    told = [(one["series"], one["at"]) for one in logs if one["event"] == LogEvent.SERIES_SILENT]
    assert ("series:fear", iso(END_MS)) in told
    begins = {at for name, at in told if name != "series:fear"}
    assert begins <= {iso(ORIGIN_MS + HOUR_MS // 2)}, "the others were not there before the bars"


def test_a_file_that_breaks_is_logged_once_and_what_was_read_counts_on(
    market: Path, tmp_path: Path
) -> None:
    shutil.copytree(market / "covariates", tmp_path / "covariates")
    path = series_path(tmp_path, "survey", "ALL", "fear")
    chosen = settings(market, AFTER, f"estimator.series_folder={tmp_path}")
    engine = engine_of(chosen, universe_of(list(instruments_of(chosen).instruments)), Timeframe(30))
    hosted = build(estimator._config(chosen, estimator.beside_files(chosen, engine)))
    at_ms = np.array([END_MS], dtype=np.int64)
    before = hosted.table().rows(at_ms)
    path.write_bytes(b"nothing")
    with capture_logs() as logs:
        np.testing.assert_array_equal(hosted.table().rows(at_ms), before)
        hosted.table()
    assert [one["event"] for one in logs] == [LogEvent.SERIES_NOT_READ]
    assert str(path) in logs[0]["file"]
