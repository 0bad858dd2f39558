"""The whole configured pipeline stands the check; a defect of the product makes it fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from adapters.history.parquet_file import Bars, read_bars, write_bars
from adapters.history.replay_feed import ReplayFeed
from adapters.history.store import Funding, Panel, bars_path, load_funding, load_panel
from daemon import cli
from daemon.commands.evaluate.lookahead import verdict_text
from daemon.domain.bar import Field
from daemon.domain.messages import BarsClosed, MarketEvent
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe, utc
from daemon.research.lookahead import check_training
from daemon.research.outcome import Change, booked_at, first_difference
from daemon.research.point_in_time import Kind
from daemon.research.worlds import Data, removed, replaced
from daemon.settings import Settings, load_settings
from daemon.wiring import backtest
from daemon.wiring import backtest as backtest_wiring
from daemon.wiring import lookahead as wiring
from daemon.wiring.backtest import instruments_of, load_history, run_backtest
from daemon.wiring.bar_files import symbols_of
from daemon.wiring.data_findings import data_of as plain_data
from daemon.wiring.training import bars_from_files
from daemon.wiring.world_files import StoredWorld, stored_world, write_world
from tests.e2e.line import ROOT
from tests.simulation.paper_line import ORIGIN_MS, generated_market

M30 = Timeframe(30)
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
    history = load_history(chosen, instruments_of(chosen), 0)
    return plain_data(history)


def test_the_pipeline_decides_what_the_backtest_decides(market: Path) -> None:
    since_ms = ORIGIN_MS + 5 * DAY_MS
    chosen = settings(market, *RULE, f"backtest.since={utc(since_ms).isoformat()}")
    of_backtest = run_backtest(chosen)
    warmup_ms = 2 * DAY_MS
    history = load_history(chosen, instruments_of(chosen), warmup_ms)
    world = stored_world(chosen)
    pipeline = wiring.pipeline_of(chosen, world, history, warmup_ms)
    until_ms = since_ms + 2 * DAY_MS
    found = pipeline(world.data, since_ms, until_ms)
    run = of_backtest.run
    expected = [d.digest for d in run.decisions if d.as_of_ms <= until_ms]
    assert len(expected) == 48
    assert [d.digest for d in found.decisions] == expected
    booked = [e for e in run.executions if booked_at(e) <= until_ms]
    assert len(booked) > 100
    assert list(found.executions) == booked
    equity = dict(zip(run.record.times_ms, run.record.column("equity").tolist(), strict=True))
    assert len(found.rows) == 96
    shown = [e.close_ms for e in found.shown if isinstance(e, BarsClosed)]
    assert shown == list(range(since_ms - warmup_ms + M30.ms, until_ms + 1, M30.ms))
    assert all(row.equity == equity[at_ms] for at_ms, row in found.rows)
    written = pipeline(replace(world.data), since_ms, until_ms)
    assert first_difference(found, written, Change.REPLACED, until_ms) is None


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
    assert clean["verdict"] == "clean"
    assert min(clean["fills"], clean["funding"]) > 10
    monkeypatch.setattr(backtest_wiring, "ReplayFeed", EarlyFeed)
    assert cli.run(arguments) == 4
    leaky = json.loads(capsys.readouterr().out)
    assert leaky["clean"] is False
    assert leaky["verdict"] == "leak"
    found = [d for one in leaky["results"] for d in one["differences"]]
    assert {d["part"] for d in found} <= {"bar", "fill price", "funding rate"}
    assert cli.run([a for a in arguments if a != "--json"]) == 4
    said = capsys.readouterr().out
    assert "LEAK: what the feed showed at 2024-01-" in said
    assert "clean" not in said


# ---- leaks between the files and the engine ------------------------------------------------------


def mixed_with_the_next(panel: Panel) -> Panel:
    values, closes = panel.values.copy(), panel.values[:, :, Field.CLOSE]
    mixed = (closes[:-1] + closes[1:]) / 2
    values[:-1, :, Field.CLOSE] = np.where(np.isfinite(mixed), mixed, closes[:-1])
    ends = values[:, :, [Field.OPEN, Field.CLOSE]]  # still a bar by its shape
    values[:, :, Field.HIGH] = np.maximum(values[:, :, Field.HIGH], ends.max(axis=2))
    values[:, :, Field.LOW] = np.minimum(values[:, :, Field.LOW], ends.min(axis=2))
    return panel._replace(values=values)


def filled_at_the_close_to_come(panel: Panel) -> Panel:
    opens = panel.opens.copy()
    opens[:-1] = panel.values[1:, :, Field.CLOSE]
    return panel._replace(opens=opens)


def holes_filled_from_what_follows(panel: Panel) -> Panel:
    """Do what leaves no trace when it is done twice, so that cutting its result finds nothing."""
    values, rows = panel.values.copy(), np.arange(len(panel.values))
    for n in range(values.shape[1]):
        known = np.isfinite(values[:, n, Field.CLOSE])
        for field in Field:  # no two of them alike, so that they do not look repeated
            values[~known, n, field] = np.interp(rows[~known], rows[known], values[known, n, field])
    opens = np.vstack([values[1:, :, Field.OPEN], panel.opens[-1:]])
    return panel._replace(values=values, opens=opens)


def patch_panel(bend: Callable[[Panel], Panel], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(backtest, "load_panel", lambda *asked: bend(load_panel(*asked)))


def patch_funding(patch: pytest.MonkeyPatch) -> None:
    def early(*asked: Any) -> Funding:
        loaded = load_funding(*asked)
        return loaded._replace(settle_ms=loaded.settle_ms - 4 * HOUR_MS)

    patch.setattr(backtest, "load_funding", early)


def patch_universe(patch: pytest.MonkeyPatch) -> None:
    """Trade the four that gained most from the first to the last row of their files."""

    def best(chosen: Settings) -> tuple[str, ...]:
        folder = Path(chosen.backtest.data_folder)
        paths = {s: bars_path(folder, "binanceusdm", s, M30) for s in symbols_of(chosen)}
        rows = {s: read_bars(path, M30).values for s, path in paths.items()}
        gains = {s: r[-1, Field.CLOSE] / r[0, Field.OPEN] for s, r in rows.items() if len(r)}
        return tuple(sorted(gains, key=lambda s: gains[s])[-4:])

    patch.setattr("daemon.wiring.backtest.symbols_of", best)


class LowFeed(ReplayFeed):
    """Let orders of an instant be filled at the low of the bar that only begins then."""

    def replay(self, since_ms: int, until_ms: int) -> Iterator[MarketEvent]:
        close_ms, values = self._panel.close_ms, self._panel.values
        for event in super().replay(since_ms, until_ms):
            if isinstance(event, BarsClosed):
                row = int(np.searchsorted(close_ms, event.close_ms)) + 1
                low = values[row, :, Field.LOW] if row < len(values) else event.opens
                yield structs.replace(event, opens=low)
            else:
                yield event


PLANTED: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "the loader mixes closes": (partial(patch_panel, mixed_with_the_next), "bar"),
    "the loader fills at the close": (
        partial(patch_panel, filled_at_the_close_to_come),
        "fill price",
    ),
    "the universe by hindsight": (patch_universe, "instruments"),
    "fills at the low": (
        lambda patch: patch.setattr(backtest_wiring, "ReplayFeed", LowFeed),
        "fill price",
    ),
    "funding early": (patch_funding, "funding rate"),
}


@pytest.mark.parametrize("unseen", [False, True], ids=["seen", "unseen"])
@pytest.mark.parametrize("name", PLANTED)
def test_a_leak_between_files_and_engine_is_caught(
    market: Path, monkeypatch: pytest.MonkeyPatch, name: str, unseen: bool
) -> None:
    """`unseen` leaves out what the feed showed: decisions, executions and the book show it too."""
    plant, part = PLANTED[name]
    plant(monkeypatch)
    if unseen:
        monkeypatch.setattr(wiring, "_noted", lambda events, shown: events)
    checked = wiring.check_lookahead(settings(market, *RULE), cuts_n=4, seed=3, days=2)
    found = {d.part for one in checked.lookahead.results for d in one.differences}
    assert checked.lookahead.verdict is wiring.Verdict.LEAK
    assert found
    assert unseen or part in found


def test_a_loader_that_fills_holes_from_the_future_is_caught_when_a_cut_meets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other worlds are cut from the files, not from what the loader made of them."""
    generated_market(tmp_path, days=DAYS)
    path = bars_path(tmp_path, "binanceusdm", "ETHUSDT", M30)
    bars = read_bars(path, M30)
    keep = np.arange(len(bars)) % 96 < 40  # more than half of every two days is missing
    write_bars(path, Bars(bars.open_ms[keep], bars.values[keep]), M30, {})
    chosen = settings(tmp_path, *RULE)
    honest = wiring.check_lookahead(chosen, cuts_n=8, seed=3, days=1).lookahead
    assert honest.verdict is wiring.Verdict.CLEAN
    patch_panel(holes_filled_from_what_follows, monkeypatch)
    assert not wiring.check_lookahead(chosen, cuts_n=8, seed=3, days=1).lookahead.is_clean


# ---- what is said --------------------------------------------------------------------------------


def test_a_run_without_orders_is_not_called_clean(
    market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    idle = 'strategy.parameters={"lookback_bars": 3, "legs_each_side": 2, "band_weight": 1.0}'
    arguments = ["evaluate", "lookahead", "--cuts", "1", "--days", "1"]
    for one in options(market, *RULE, idle):
        arguments += ["--set", one]
    assert cli.run(arguments) == 0
    said = capsys.readouterr().out
    assert (
        "nothing traded: forecasts and decisions were compared, orders and fills were not" in said
    )
    assert "clean" not in said
    assert cli.run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["clean"], found["orders"]) == ("nothing_traded", True, 0)


def test_each_verdict_says_how_much_was_compared(market: Path) -> None:
    found = wiring.check_lookahead(settings(market, *RULE), cuts_n=1, seed=3, days=1).lookahead
    (result,) = found.results
    assert verdict_text(found) == (
        f"clean: {found.decisions_n} decisions, {found.orders_n} orders, {found.fills_n} fills and "
        f"{found.funding_n} payments of funding are the same to the bit before 1 cuts without and "
        "with another future"
    )
    unfilled = replace(found, results=(replace(result, fills_n=0, traded_n=20),))
    assert unfilled.verdict is wiring.Verdict.NOTHING_FILLED
    assert "nothing filled: 24 decisions (4 of them waited for bars)" in verdict_text(unfilled)
    assert "fills and fees were not compared" in verdict_text(unfilled)


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
        write_world(StoredWorld(world, frozenset()), folder, chosen)
        read.append(bars_from_files(wiring._reading(chosen, until=utc(cut_ms), folder=folder)))
    assert int(read[0].close_ms[-1]) == cut_ms
    for other in read[1:]:
        assert np.array_equal(other.close_ms, read[0].close_ms)
        assert np.array_equal(other.values, read[0].values, equal_nan=True)


@pytest.mark.parametrize("kind", ["ridge", pytest.param("bilstm", marks=pytest.mark.soak)])
def test_a_model_trained_until_a_cut_is_the_same_whatever_follows(
    tmp_path: Path, kind: str
) -> None:
    generated_market(tmp_path, days=50)
    effort = (f"training.kind={kind}", "training.days=35", "training.budget_s=1")
    chosen = settings(tmp_path, *FORECASTS, *effort)
    data = data_of(chosen)
    cut_ms = int(data.close_ms[-1]) - 6 * DAY_MS
    assert check_training(wiring.trainer_of(chosen), data, [cut_ms], 1) == ()

    honest = wiring.trainer_of(chosen)
    late = check_training(lambda world, at_ms: honest(world, at_ms + DAY_MS), data, [cut_ms], 1)
    assert {d.name for d in late} >= {"weights_sha256", "data"}


def test_the_training_step_is_checked_when_asked_for(tmp_path: Path) -> None:
    generated_market(tmp_path, days=50)
    effort = ("training.kind=ridge", "training.days=30", "training.budget_s=1")
    chosen = settings(tmp_path, *FORECASTS, *effort, "backtest.since=2024-02-12")
    told: list[tuple[str, int, int]] = []
    found = wiring.check_lookahead(
        chosen,
        cuts_n=1,
        seed=1,
        days=1,
        with_training=True,
        progress=lambda stage, done, total: told.append((stage, done, total)),
    ).lookahead
    assert found.training == ()
    assert found.trained_ms == (found.results[-1].cut.at_ms,)
    assert told[-1] == ("trainings", 3, 3)


def test_panels_of_other_worlds_feed_the_replay(market: Path) -> None:
    data = data_of(settings(market, *RULE))
    cut_ms = int(data.close_ms[100])
    other = replaced(data, cut_ms, np.random.default_rng(2))
    universe = load_history(
        settings(market, *RULE), instruments_of(settings(market, *RULE)), 0
    ).universe
    feed = ReplayFeed(
        Panel(other.close_ms, other.values, other.opens),
        Timeframe(30),
        universe.instruments,
    )
    events = list(feed.replay(cut_ms, cut_ms + 6 * HOUR_MS))
    assert len(events) == 12
