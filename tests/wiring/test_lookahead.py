"""The whole configured pipeline stands the check; a defect of the product makes it fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from adapters.history.replay_feed import ReplayFeed
from adapters.history.store import Panel
from daemon import cli
from daemon.domain.messages import BarsClosed, MarketEvent
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe, utc
from daemon.research.lookahead import check_training
from daemon.research.point_in_time import Kind
from daemon.research.worlds import Data, removed, replaced
from daemon.settings import Settings, load_settings
from daemon.wiring import lookahead as wiring
from daemon.wiring.backtest import load_history, run_backtest
from daemon.wiring.training import bars_from_files
from tests.e2e.line import ROOT
from tests.simulation.paper_line import ORIGIN_MS, generated_market

DAYS = 14


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("market")
    generated_market(folder, days=DAYS)
    return folder


def options(market: Path, *more: str) -> list[str]:
    return [
        f"backtest.data_folder={market}",
        f"backtest.rules_file={ROOT / 'config' / 'trading_rules.toml'}",
        "backtest.report=",
        f"evaluation.trials_file={market / 'trials.jsonl'}",
        *more,
    ]


RULE = (
    "strategy.name=relative_strength",
    'strategy.parameters={"lookback_bars": 3, "legs_each_side": 2, "band_weight": 0.0}',
    "estimator.kind=none",
    "market.window_bars=4",
)
FORECASTS = (
    "strategy.name=neutral",
    'strategy.parameters={"breadth_min": 3, "friction_max": 100.0}',
    "estimator.kind=momentum",
    'market.timeframes=["1h"]',
    "market.window_bars=80",
)


def settings(market: Path, *more: str) -> Settings:
    base = [ROOT / "config" / "backtest.toml"]
    return load_settings(base, overrides=options(market, *more), environment={})


def data_of(chosen: Settings) -> Data:
    history = load_history(chosen, wiring.instruments_of(chosen), 0)
    return wiring.data_of(history)


def test_the_pipeline_decides_what_the_backtest_decides(market: Path) -> None:
    since_ms = ORIGIN_MS + 5 * DAY_MS
    chosen = settings(market, *RULE, f"backtest.since={utc(since_ms).isoformat()}")
    of_backtest = run_backtest(chosen).run.decisions
    warmup_ms = 2 * DAY_MS
    history = load_history(chosen, wiring.instruments_of(chosen), warmup_ms)
    pipeline = wiring.pipeline_of(chosen, history, warmup_ms)
    until_ms = since_ms + 2 * DAY_MS
    found = pipeline(wiring.data_of(history), since_ms, until_ms)
    expected = [d for d in of_backtest if d.as_of_ms <= until_ms]
    assert len(found) == 48
    assert [d.digest for d in found] == [d.digest for d in expected]


def test_a_rule_stands_the_check_and_the_data_are_described(market: Path) -> None:
    told: list[tuple[str, int, int]] = []
    checked = wiring.check_lookahead(
        settings(market, *RULE),
        cuts_n=4,
        seed=3,
        days=2,
        progress=lambda stage, done, total: told.append((stage, done, total)),
    )
    found = checked.lookahead
    assert found.is_clean
    assert found.traded_n == found.decisions_n > 100
    assert found.orders_n > 100
    assert told[-1] == ("instants", told[-1][2], told[-1][2])
    assert Kind.SURVIVORSHIP in {one.kind for one in checked.findings}


def test_forecasts_of_the_worker_stand_the_check(market: Path) -> None:
    checked = wiring.check_lookahead(settings(market, *FORECASTS), cuts_n=1, seed=3, days=1)
    assert checked.lookahead.is_clean
    assert checked.lookahead.orders_n > 10


class EarlyFeed(ReplayFeed):
    """Show at each close the bars that close one bar later, as a loader off by one would."""

    def replay(self, since_ms: int, until_ms: int) -> Iterator[MarketEvent]:
        pending: MarketEvent | None = None
        for event in super().replay(since_ms, until_ms + self._source.ms):
            if isinstance(event, BarsClosed):
                if isinstance(pending, BarsClosed):
                    yield BarsClosed(pending.close_ms, event.values, event.proof, pending.opens)
                pending = event
        if isinstance(pending, BarsClosed) and pending.close_ms <= until_ms:
            yield pending


def test_a_feed_that_shows_bars_early_gives_exit_code_4(
    market: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["evaluate", "lookahead", "--json", "--cuts", "2", "--days", "1"]
    for one in options(market, *RULE):
        arguments += ["--set", one]
    assert cli.run(arguments) == 0
    first = capsys.readouterr().out
    clean = json.loads(first)
    assert clean["clean"] is True
    assert clean["orders"] > 10
    assert cli.run(arguments) == 0
    assert capsys.readouterr().out == first, "a repeat is the same to the byte"
    monkeypatch.setattr(wiring, "ReplayFeed", EarlyFeed)
    assert cli.run(arguments) == 4
    leaky = json.loads(capsys.readouterr().out)
    assert leaky["clean"] is False
    found = [d for one in leaky["results"] for d in one["differences"]]
    assert {d["part"] for d in found} <= {"bars", "marks", "absent"}
    assert cli.run([a for a in arguments if a != "--json"]) == 4
    assert "LEAK: the decision at 2024-01-" in capsys.readouterr().out


def test_a_period_too_short_for_its_windows_is_refused(
    market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "lookahead"]
    for one in options(market, *RULE, "market.window_bars=900"):
        arguments += ["--set", one]
    assert cli.run(arguments) == 65
    assert "before their windows are full" in capsys.readouterr().err


def test_training_reads_the_same_bars_until_the_cut_whatever_follows(
    market: Path, tmp_path: Path
) -> None:
    chosen = settings(market, *FORECASTS, "training.days=10")
    data = data_of(chosen)
    cut_ms = int(data.close_ms[-1]) - 2 * DAY_MS
    worlds = (data, removed(data, cut_ms), replaced(data, cut_ms, np.random.default_rng(1)))
    read = []
    for number, world in enumerate(worlds):
        folder = tmp_path / str(number)
        wiring._write(world, folder, chosen)
        read.append(bars_from_files(wiring._reading(chosen, until=utc(cut_ms), folder=folder)))
    assert int(read[0].close_ms[-1]) == cut_ms
    for other in read[1:]:
        assert np.array_equal(other.close_ms, read[0].close_ms)
        assert np.array_equal(other.values, read[0].values, equal_nan=True)


@pytest.mark.soak
def test_a_network_trained_until_a_cut_is_the_same_whatever_follows(
    tmp_path: Path,
) -> None:
    generated_market(tmp_path, days=50)
    chosen = settings(tmp_path, *FORECASTS, "training.days=35", "training.budget_s=1")
    data = data_of(chosen)
    cut_ms = int(data.close_ms[-1]) - 6 * DAY_MS
    assert check_training(wiring.trainer_of(chosen), data, [cut_ms], 1) == ()

    honest = wiring.trainer_of(chosen)
    late = check_training(lambda world, at_ms: honest(world, at_ms + DAY_MS), data, [cut_ms], 1)
    assert {d.name for d in late} >= {"weights_sha256", "data"}


def test_panels_of_other_worlds_feed_the_replay(market: Path) -> None:
    data = data_of(settings(market, *RULE))
    cut_ms = int(data.close_ms[100])
    other = replaced(data, cut_ms, np.random.default_rng(2))
    universe = load_history(
        settings(market, *RULE), wiring.instruments_of(settings(market, *RULE)), 0
    ).universe
    feed = ReplayFeed(
        Panel(other.close_ms, other.values, other.opens),
        Timeframe(30),
        universe.instruments,
    )
    events = list(feed.replay(cut_ms, cut_ms + 6 * HOUR_MS))
    assert len(events) == 12
