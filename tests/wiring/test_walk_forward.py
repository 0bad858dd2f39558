"""Walk-forward as users run it: resumable, the same with any number of processes, honest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.history.predictions_file import read_predictions, write_predictions
from adapters.history.store import disk_symbol
from adapters.trial_ledger import TrialLedger
from daemon import cli
from daemon.domain.failures import ConfigurationError, CorruptFile, DataError, ModelError
from daemon.domain.units import DAY_MS, HOUR_MS, utc
from daemon.settings import Settings, load_settings
from daemon.wiring.backtest import run_backtest
from daemon.wiring.combinations import combinations_of, cross_validate
from daemon.wiring.reliability import reliability_of
from daemon.wiring.training import SourceBars
from daemon.wiring.trials import different_trials, read_trials
from daemon.wiring.walk_forward import (
    UNITS_FOLDER,
    WalkForward,
    bars_to_walk,
    plan_of,
    walk_forward,
    walk_forward_values,
)
from strategies.forecast.training.unit import read_unit
from strategies.rules import RULES
from tests.simulation.paper_line import ORIGIN_MS, generated_market

ROOT = Path(__file__).resolve().parents[2]
DAYS = 34
STRATEGY = {"timeframes_minutes": [60, 90], "breadth_min": 3, "friction_max": 100.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("market")
    generated_market(place, days=DAYS)
    return place


def options(folder: Path, *more: str) -> list[str]:
    return [
        f"backtest.data_folder={folder}",
        f"backtest.rules_file={ROOT / 'config' / 'trading_rules.toml'}",
        "backtest.report=",
        f"evaluation.trials_file={folder / 'trials.jsonl'}",
        "exchange.generated=true",
        f"strategy.parameters={json.dumps(STRATEGY)}",
        'market.timeframes=["1h", "90m"]',
        "market.window_bars=150",
        "training.kind=ridge",
        "training.budget_s=1",
        "training.hidden_size=32",  # buys the least steps
        "walkforward.refit_days=6",
        "walkforward.stop_days=4",
        "walkforward.embargo_h=2",
        *more,
    ]


def settings(folder: Path, *more: str) -> Settings:
    base = [ROOT / "config" / "backtest.toml"]
    return load_settings(base, overrides=options(folder, *more), environment={})


@pytest.fixture(scope="module")
def bars(folder: Path) -> SourceBars:
    return bars_to_walk(settings(folder))


Whole = tuple[WalkForward, Path]


@pytest.fixture(scope="module")
def walked(folder: Path, bars: SourceBars, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Walk a ridge and a small network forward, in two processes."""
    out = tmp_path_factory.mktemp("walked")
    result = walk_forward(settings(folder), bars, ["ridge", "bilstm"], out, processes=2)
    return result, out


def files_of(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def test_every_instant_of_the_tests_is_forecast_once_by_a_fit_made_before(
    walked: Whole,
) -> None:
    result, _ = walked
    plan = result.plan
    assert len(plan.folds) == 2
    assert plan.refits.reach_ms == 12 * HOUR_MS + 30 * 60_000
    for fold in plan.folds:
        assert fold.train.end_ms + plan.refits.reach_ms <= fold.stop.start_ms - 2 * HOUR_MS
        assert fold.stop.end_ms + plan.refits.reach_ms <= fold.test.start_ms - 2 * HOUR_MS
    for arm in result.arms:
        table = read_predictions(arm.path).table
        wanted = [
            at
            for at in range(plan.folds[0].test.start_ms, plan.folds[-1].test.end_ms, 30 * 60_000)
            if at % HOUR_MS == 0 or at % (90 * 60_000) == 0
        ]
        assert np.unique(table.as_of_ms).tolist() == wanted
        assert len(table) == len(wanted) * len(plan.job.symbols)
    assert [arm.fits_n for arm in result.arms] == [len(plan.folds), 2 * len(plan.folds)]
    assert [arm.fitted_n for arm in result.arms] == [arm.fits_n for arm in result.arms]


def test_one_process_gives_the_same_bytes_as_two(
    folder: Path, bars: SourceBars, walked: Whole, tmp_path: Path
) -> None:
    walk_forward(settings(folder), bars, ["ridge", "bilstm"], tmp_path, processes=1)
    ours, theirs = files_of(tmp_path), files_of(walked[1])
    assert list(ours) == list(theirs)
    assert ours == theirs


def test_a_second_run_computes_nothing_and_gives_the_same(
    folder: Path, bars: SourceBars, walked: Whole
) -> None:
    _, out = walked
    before = files_of(out)
    times = {path: path.stat().st_mtime_ns for path in (out / UNITS_FOLDER).iterdir()}
    again = walk_forward(settings(folder), bars, ["ridge", "bilstm"], out, processes=2)
    assert [arm.fitted_n for arm in again.arms] == [0, 0]
    assert files_of(out) == before
    assert {path: path.stat().st_mtime_ns for path in (out / UNITS_FOLDER).iterdir()} == times


@pytest.mark.parametrize(
    ("changed", "fitted"),
    [
        ("training.seed=8", "all"),
        ("walkforward.embargo_h=3", "all"),
        ("risk.name_weight_max=0.15", "none"),
    ],
)
def test_what_determines_a_fit_names_its_file(
    folder: Path, bars: SourceBars, walked: Whole, tmp_path: Path, changed: str, fitted: str
) -> None:
    _, out = walked
    (tmp_path / UNITS_FOLDER).symlink_to(out / UNITS_FOLDER)
    before = set((out / UNITS_FOLDER).iterdir())
    try:
        result = walk_forward(settings(folder, changed), bars, ["ridge"], tmp_path, processes=1)
    finally:
        for path in set((out / UNITS_FOLDER).iterdir()) - before:
            path.unlink()
    assert result.arms[0].fitted_n == (result.arms[0].fits_n if fitted == "all" else 0)


def test_other_bars_are_other_fits(bars: SourceBars, folder: Path) -> None:
    plan = plan_of(settings(folder), bars)
    values = bars.values.copy()
    values[-1, 0, 4] *= 1.5
    assert plan_of(settings(folder), replace(bars, values=values)).data != plan.data


def test_the_future_changes_no_prediction_before_it(
    folder: Path, bars: SourceBars, walked: Whole, tmp_path: Path
) -> None:
    plan = walked[0].plan
    cut_ms = plan.folds[1].test.start_ms
    later = bars.close_ms > cut_ms
    values = bars.values.copy()
    draw = np.random.default_rng(1)
    factors = np.exp(0.02 * draw.standard_normal((int(later.sum()), values.shape[1], 1)))
    values[later, :, :4] *= factors
    changed = replace(bars, values=values)
    walk_forward(settings(folder), changed, ["ridge"], tmp_path, processes=1)
    ours = read_predictions(tmp_path / "ridge.parquet").table
    theirs = read_predictions(walked[1] / "ridge.parquet").table
    before = ours.as_of_ms <= cut_ms
    assert np.array_equal(before, theirs.as_of_ms <= cut_ms)
    for name in ("prediction", "mean", "variance"):
        one, other = getattr(ours, name)[..., before], getattr(theirs, name)[..., before]
        assert np.array_equal(one, other, equal_nan=True), name
    assert not np.array_equal(ours.prediction, theirs.prediction)


RUN = """
import sys
from daemon import cli
sys.exit(cli.run(sys.argv[1:]))
"""


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_a_run_that_was_killed_goes_on_where_it_was(
    folder: Path, bars: SourceBars, tmp_path: Path
) -> None:
    often = "walkforward.refit_days=0.5"
    words = [word for one in options(folder, often) for word in ("--set", one)]
    command = [sys.executable, "-c", RUN, "evaluate", "walkforward", "--kinds", "ridge", "--json"]
    command += ["--out", str(tmp_path / "killed"), "--processes", "1", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    units = tmp_path / "killed" / UNITS_FOLDER
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as child:
        try:
            until(lambda: len(list(units.glob("*.safetensors"))) >= 2)
        finally:
            os.kill(child.pid, signal.SIGKILL)
    time.sleep(0.3)  # the worker outlives its parent for a moment
    left = {path: path.stat().st_mtime_ns for path in units.glob("*.safetensors")}
    assert not (tmp_path / "killed" / "ridge.parquet").exists()
    chosen = settings(folder, often)
    (resumed,) = walk_forward(chosen, bars, ["ridge"], tmp_path / "killed", processes=2).arms
    assert 0 < resumed.fitted_n <= resumed.fits_n - 2, "killed in the middle"
    assert {path: path.stat().st_mtime_ns for path in left} == left, "nothing is computed twice"
    walk_forward(chosen, bars, ["ridge"], tmp_path / "whole", processes=1)
    ours, theirs = files_of(tmp_path / "killed"), files_of(tmp_path / "whole")
    assert ours == theirs


def test_a_damaged_fit_is_named_and_not_believed(
    folder: Path, bars: SourceBars, walked: Whole, tmp_path: Path
) -> None:
    walk_forward(settings(folder), bars, ["ridge"], tmp_path, processes=1)
    path = min((tmp_path / UNITS_FOLDER).iterdir())
    assert read_unit(path, walked[0].plan.job.timeframes).test
    raw = bytearray(path.read_bytes())
    raw[-9] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(CorruptFile, match=rf"{path.name}: its content is not what was written"):
        walk_forward(settings(folder), bars, ["ridge"], tmp_path, processes=1)


def test_a_walk_forward_is_one_trial_an_arm_and_one_with_the_run_over_its_table(
    folder: Path, bars: SourceBars, walked: Whole, tmp_path: Path
) -> None:
    ledger = f"evaluation.trials_file={tmp_path / 'trials.jsonl'}"
    result, out = walked
    chosen = settings(folder, ledger)
    for _ in range(2):
        walk_forward(chosen, bars, ["ridge", "bilstm"], out, processes=1)
    logged = TrialLedger(tmp_path / "trials.jsonl").read().trials
    assert [one.command for one in logged] == ["evaluate walkforward"] * 4
    assert [one.repeats for one in different_trials(logged)] == [1, 1]
    training = logged[0].training
    assert training is not None
    assert (training.model, training.kind) == (result.arms[0].table_id, "ridge, walked forward")
    signals = [(one["signal"], one["horizon_h"]) for one in training.scores]
    assert signals == [(s, h) for s in ("combined", "1h", "90m") for h in (6, 12)]
    first_ms = result.plan.folds[0].test.start_ms
    table = ("estimator.kind=table", f"estimator.table={result.arms[0].path}")
    since = f"backtest.since={utc(first_ms + 6 * DAY_MS).isoformat()}"
    run = run_backtest(settings(folder, ledger, *table, since)).run
    assert any(decision.orders for decision in run.decisions)
    beside = read_trials(tmp_path / "trials.jsonl", data_fingerprint=run.facts.fingerprint)
    assert (beside.tried_n, beside.trained_n) == (2, 1), "the ridge's walk and its run are one"


def test_a_backtest_over_a_table_makes_the_alphas_of_the_table_at_every_decision(
    folder: Path, walked: Whole
) -> None:
    result, _ = walked
    arm = result.arms[0]
    since_ms = result.plan.folds[0].test.start_ms - 6 * HOUR_MS  # before it nobody forecasts
    run = run_backtest(
        settings(
            folder,
            "estimator.kind=table",
            f"estimator.table={arm.path}",
            f"backtest.since={utc(since_ms).isoformat()}",
        )
    ).run
    table = read_predictions(arm.path).table
    names = [disk_symbol(symbol) for symbol in run.facts.symbols]
    compared = 0
    for decision in run.decisions:
        signals = None if decision.target is None else decision.target.signals
        if signals is None:
            continue
        here = table.as_of_ms == decision.as_of_ms
        order = [names.index(table.symbols[place]) for place in table.place[here].tolist()]
        assert signals.alpha[order].tolist() == table.prediction[here].tolist()
        assert signals.up is not None
        assert ((signals.up[order] > 0) & (signals.up[order] < 1)).all()
        compared += 1
    assert compared > 24 * 9, "both fits spoke"


def test_every_rule_is_an_arm_and_a_trial_of_its_own(
    folder: Path, bars: SourceBars, walked: Whole, tmp_path: Path
) -> None:
    (tmp_path / UNITS_FOLDER).symlink_to(walked[1] / UNITS_FOLDER)
    chosen = settings(folder, f"evaluation.trials_file={tmp_path / 'trials.jsonl'}")
    result = walk_forward(chosen, bars, ["ridge"], tmp_path, every_rule=True, processes=1)
    names = ["ridge", *(f"ridge-{rule}" for rule in RULES)]
    assert [arm.name for arm in result.arms] == names
    assert [arm.path.name for arm in result.arms] == [f"{name}.parquet" for name in names]
    assert len({arm.table_id for arm in result.arms[1:]}) == len(RULES)
    for arm in result.arms[1:]:
        assert {one.reading.rule for one in arm.stitched.learned} == {str(arm.combination)}
    logged = different_trials(TrialLedger(tmp_path / "trials.jsonl").read().trials)
    assert [one.repeats for one in logged] == [0] * len(names)
    written = json.loads((tmp_path / "walkforward.json").read_text())
    assert [arm["combination"] for arm in written["arms"]] == ["auto", *RULES]
    contenders = written["arms"][0]["combined"][1]["contenders"]
    assert [one["rule"] for one in contenders] == list(RULES)


def test_the_reliability_of_a_table_is_judged_and_written(
    folder: Path, walked: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arm = walked[0].arms[0]
    words = [word for one in options(folder) for word in ("--set", one)]
    command = ["evaluate", "reliability", "--table", str(arm.path), *words]
    assert cli.run([*command, "--out", str(tmp_path / "a"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "a" / "reliability.json").read_text())
    assert {key: value for key, value in said.items() if key != "files"} == written
    assert (written["table"], written["states_itself"]) == (arm.table_id, True)
    assert list(written["slopes_alone"]) == ["1h", "90m"]
    assert written["slope"]["low"] < written["slope"]["estimate"] < written["slope"]["high"]
    assert [one["name"] for one in written["coverages"]] == ["stated", "adaptive"]
    assert 0.8 < written["coverages"][0]["share"]["estimate"] < 1.0
    assert [one["name"] for one in written["quarters"]] == ["2024-Q1"]
    assert sum(written["pit"]) == pytest.approx(1.0)
    page = (tmp_path / "a" / "reliability.html").read_text()
    assert "<svg" in page
    assert "Probability of the sign" in page
    assert cli.run([*command, "--out", str(tmp_path / "b")]) == 0
    text = capsys.readouterr().out
    assert "slope, 1 is right" in text
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b"), "the same inputs, the same bytes"


def test_what_another_rule_says_is_not_judged_by_the_law_of_the_readings(
    folder: Path, bars: SourceBars, walked: Whole, tmp_path: Path
) -> None:
    """A table says by which rule its predictions came; a model's reading may be of another."""
    stored = read_predictions(walked[0].arms[0].path)
    held = {reading.rule for _, reading in stored.table.readings}
    other = next(rule for rule in RULES if rule not in held)
    path, facts = tmp_path / "table.parquet", {**stored.facts, "combination": str(other)}
    write_predictions(path, [stored.table], stored.table.timeframes, facts)
    found = reliability_of(settings(folder), path, bars)
    assert not found.states_itself
    assert reliability_of(settings(folder), walked[0].arms[0].path, bars).states_itself


def test_a_table_that_the_bars_cannot_judge_is_refused(
    folder: Path, bars: SourceBars, walked: Whole
) -> None:
    path = walked[0].arms[0].path
    few = replace(bars, close_ms=bars.close_ms[:900], values=bars.values[:900])
    with pytest.raises(DataError, match=r"ridge.parquet: 0 of its decisions have an outcome"):
        reliability_of(settings(folder), path, few)
    strange = replace(bars, symbols=tuple(f"X{n}/USDT:USDT" for n in range(len(bars.symbols))))
    with pytest.raises(DataError, match=r"none of its symbols .* is among the bars XUSDT|X0USDT"):
        reliability_of(settings(folder), path, strange)


def test_a_schedule_that_the_bars_do_not_allow_is_told_with_what_is_accepted(
    folder: Path, bars: SourceBars, tmp_path: Path
) -> None:
    early = settings(folder, f"walkforward.first_test={utc(ORIGIN_MS + DAY_MS).isoformat()}")
    with pytest.raises(
        ModelError, match=r"walkforward.first_test = 2024-01-02.* accepted is after"
    ):
        plan_of(early, bars)
    wide = settings(folder, "walkforward.train_days=400")
    with pytest.raises(ModelError, match=r"walkforward\.first_test"):
        plan_of(wide, bars)
    with pytest.raises(ConfigurationError, match="kinds prophet: accepted"):
        walk_forward(settings(folder), bars, ["prophet"], tmp_path)
    with pytest.raises(ConfigurationError, match="each once"):
        walk_forward(settings(folder), bars, ["ridge", "ridge"], tmp_path)
    rolling = plan_of(settings(folder, "walkforward.train_days=6"), bars)
    lengths = {fold.train.end_ms - fold.train.start_ms for fold in rolling.folds}
    assert lengths == {6 * DAY_MS}


def test_combinations_are_a_scatter_apart_from_the_table(
    folder: Path, bars: SourceBars, walked: Whole, tmp_path: Path
) -> None:
    plan, chosen = walked[0].plan, settings(folder)
    found = cross_validate(chosen, bars, plan, ["ridge"], tmp_path, (4, 1), processes=2)
    assert [len(paths) for paths in found.paths.values()] == [1]
    (path,) = found.paths["ridge"]
    assert abs(path.rank_ic) < 0.5
    decisions = (plan.folds[-1].test.end_ms - plan.folds[0].train.start_ms) // HOUR_MS
    assert decisions - 12 < path.instants <= decisions, "all of time but the newest, without labels"
    written = json.loads((tmp_path / "cpcv.json").read_text())
    assert "learn from the future of their tests" in written["warning"]
    assert len(list((tmp_path / UNITS_FOLDER).glob("*.safetensors"))) == 4
    assert not (tmp_path / "ridge.parquet").exists()
    before = files_of(tmp_path)
    cross_validate(chosen, bars, plan, ["ridge"], tmp_path, (4, 1), processes=1)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("text", ["6", "6,x", "2,1", "6,5", "21,2", "6,2,1"])
def test_combinations_that_leave_too_little_are_refused(text: str) -> None:
    assert combinations_of("6, 2") == (6, 2)
    with pytest.raises(ConfigurationError, match=r"--cpcv .*: accepted is GROUPS,TESTED as 6,2"):
        combinations_of(text)


def test_the_command_prints_the_scores_and_says_where_everything_is(
    folder: Path, walked: Whole, capsys: pytest.CaptureFixture[str]
) -> None:
    result, out = walked
    words = [word for one in options(folder) for word in ("--set", one)]
    command = ["evaluate", "walkforward", "--kinds", "ridge,bilstm", "--out", str(out), *words]
    assert cli.run([*command, "--json"]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    written = json.loads((out / "walkforward.json").read_text())
    assert {key: value for key, value in said.items() if key != "files"} == written
    assert written == json.loads(json.dumps(walk_forward_values(result)))
    assert [arm["kind"] for arm in written["arms"]] == ["ridge", "bilstm"]
    periods = [
        one["period"]
        for one in written["arms"][0]["scores"]
        if (one["signal"], one["horizon_h"]) == ("combined", 6)
    ]
    assert periods == ["all", "2024", "2024-Q1"]
    assert cli.run([*[w.replace(",bilstm", "") for w in command], "--cpcv", "4,1"]) == 0
    text = capsys.readouterr().out
    assert "ridge, table" in text
    assert "2024-Q1" in text
    assert "0 fits computed" in text
    assert "warning: combinatorial folds learn from the future" in text
    assert "ridge: rank IC of 1 paths from" in text
