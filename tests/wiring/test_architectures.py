"""The comparison of architectures as users run it: equal terms, resumable, honest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.history.predictions_file import read_predictions
from adapters.trial_ledger import TrialLedger
from daemon import cli
from daemon.commands.evaluate.architectures import show
from daemon.domain.bar import Floats
from daemon.domain.failures import ConfigurationError
from daemon.domain.predictions import rows_of
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.research.architectures.arms import BASELINES, NETWORKS, Group, grid
from daemon.research.architectures.results import Results
from daemon.research.walk_forward.stitching import RawFold, RawPart
from daemon.statistics.cross_sections import rank_ics
from daemon.wiring.architecture_plan import Campaign, campaign_of, known_kinds
from daemon.wiring.architecture_work import (
    DECISIONS_TIMED,
    ArmTask,
    cost_path,
    decision_ms,
    measure_arm,
    read_cost,
    run_costed,
    with_plain_mean,
    with_timeframes,
)
from daemon.wiring.architectures import TABLES_FOLDER
from daemon.wiring.trials import different_trials
from daemon.wiring.walk_forward import UNITS_FOLDER, bars_to_walk
from strategies.forecast.baselines import Baseline
from strategies.forecast.calibration import PRIOR_SLOPE
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.inputs.labels import label
from strategies.forecast.training.baseline_training import FittedBaseline
from strategies.forecast.training.fitting import TRAINERS
from strategies.forecast.training.job import Longs, write_job
from strategies.forecast.training.unit import UnitTask, read_unit, run_unit, tables_of, unit_path
from tests.simulation.paper_line import generated_market
from tests.wiring.architecture_market import (
    DAYS,
    PAIRS,
    ROOT,
    STRATEGY,
    TINY,
    compared,
    settings_of,
)

KINDS = ("bilstm",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("market")
    generated_market(place, days=DAYS)
    return place


Whole = tuple[Results, Path]


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Compare a network and the plain forecasters in one process."""
    out = tmp_path_factory.mktemp("compared")
    return compared(folder, out, [Group.ARCHITECTURES], kinds=KINDS), out


def kept(out: Path) -> dict[str, bytes]:
    """Read what must be the same bytes however a run went."""
    found = [out / "architectures.json", *sorted((out / TABLES_FOLDER).iterdir())]
    return {path.name: path.read_bytes() for path in found}


def test_every_arm_is_asked_at_the_same_decisions_and_leaves_a_table(whole: Whole) -> None:
    results, out = whole
    assert [one.arm.name for one in results.arms] == [*KINDS, *BASELINES]
    first, last = results.facts["folds"][0]["test"][0], int(results.at_ms[-1])  # type: ignore[index]
    assert np.diff(results.at_ms).tolist() == [HOUR_MS] * (len(results.at_ms) - 1)
    for one in results.arms:
        stored = read_predictions(out / TABLES_FOLDER / one.arm.file_name)
        assert stored.table_id == one.table_id
        assert stored.facts["arm"] == one.arm.name
        hours = np.unique(stored.table.as_of_ms[stored.table.as_of_ms % HOUR_MS == 0])
        assert (hours[0], hours[-1]) == (first, last)
        losses = one.measured.losses
        assert len(losses.rank) == len(results.at_ms)
        known = np.isfinite(losses.score)
        assert known.sum() == np.isfinite(results.arms[0].measured.losses.score).sum() > 100


def test_a_network_chooses_of_the_grid_in_each_fold_and_all_that_was_tried_is_counted(
    folder: Path, whole: Whole
) -> None:
    results, _ = whole
    by_name = {one.arm.name: one for one in results.arms}
    folds = results.effort.folds_n
    assert len(by_name["bilstm"].tuned) == folds >= 2
    assert all(one in grid(2) for one in by_name["bilstm"].tuned)
    assert by_name["momentum"].tuned == ()
    logged = different_trials(TrialLedger(folder / "trials.jsonl").read().trials)
    trained = [one.trial.training.kind for one in logged if one.trial.training is not None]
    assert trained.count("bilstm, tuned") == 2
    assert [f"{name}, compared" in trained for name in (*KINDS, *BASELINES)] == [True] * 4
    tried = [
        one for one in logged if one.trial.training and one.trial.training.kind == "bilstm, tuned"
    ]
    assert all(len(one.trial.training.scores) == folds for one in tried if one.trial.training)
    assert results.trials_n == 2 + len(results.arms), "a table and its backtest are one attempt"


def test_tuning_looks_at_no_test(folder: Path, whole: Whole, tmp_path: Path) -> None:
    """Whatever is best on the stop part is taken, even where every test says otherwise."""
    results, out = whole
    campaign = campaign_of(
        settings_of(folder), bars_to_walk(settings_of(folder)), [Group.ARCHITECTURES], KINDS, TINY
    )
    arm = campaign.arms[0]
    for fold, chosen in zip(campaign.plan.folds, results.arms[0].tuned, strict=True):
        files = [
            unit_path(
                out / UNITS_FOLDER, campaign.unit(arm.members[0], fold, one), campaign.plan.job
            )
            for one in campaign.grid
        ]
        assert all(path.exists() for path in files), "both were tried"
        scores = [_stop_ic(path, campaign) for path in files]
        assert campaign.grid[int(np.argmax(scores))] == chosen


def _stop_ic(path: Path, campaign: Campaign) -> float:
    """Give the mean RankIC of a fit on its stop part, by hand."""
    job = campaign.plan.job
    close_ms, values = job.bars[job.source]
    lag_ms = job.settings.lag_bars * job.source.ms
    labels = label(close_ms, values, source=job.source, lag_ms=lag_ms)
    said = read_unit(path, job.timeframes).stop
    each = [np.nanmean(rank_ics(part.mean, labels.at(part.close_ms))) for part in said.values()]
    return float(np.mean(each))


def test_fits_say_what_they_took_and_equal_networks_have_equal_sizes(whole: Whole) -> None:
    results, out = whole
    for path in (out / UNITS_FOLDER).glob("*.safetensors"):
        assert cost_path(path).exists()
    by_name = {one.arm.name: one.resources for one in results.arms}
    assert by_name["bilstm"].parameters == results.parameters["bilstm"]
    assert by_name["momentum"].parameters == 0
    assert by_name["bilstm"].train_s > by_name["momentum"].train_s >= 0.0
    assert by_name["bilstm"].decision_ms > 0.0
    assert by_name["bilstm"].peak_mb > 50.0
    wanted = results.parameters["bilstm"]
    assert all(abs(n - wanted) <= 0.05 * wanted for n in results.parameters.values())


def test_the_strategy_itself_is_run_over_every_table(whole: Whole) -> None:
    results, _ = whole
    by_name = {one.arm.name: one for one in results.arms}
    steps = {step.step: step for step in by_name["momentum"].measured.steps}
    assert list(steps) == [
        "raw 1h",
        "raw 90m",
        "raw 2h",
        "combined",
        "neutralised",
        "capped",
        "held",
    ]
    assert steps["capped"].ic.instants > 100
    assert by_name["momentum"].traded is not None
    assert by_name["momentum"].traded.fills > 0
    assert by_name["zero"].traded is not None
    assert by_name["zero"].traded.fills == 0
    assert np.isnan(next(iter(by_name["zero"].measured.scores)).rank_ic.mean)
    assert (
        by_name["zero"].measured.losses.rank[np.isfinite(by_name["bilstm"].measured.losses.rank)]
        == 0
    ).all()


def test_a_fit_is_weighed_and_made_again_to_the_byte(folder: Path, tmp_path: Path) -> None:
    chosen = settings_of(folder)
    campaign = campaign_of(chosen, bars_to_walk(chosen), [Group.ARCHITECTURES], (), TINY)
    (ridge,) = (arm for arm in campaign.arms if arm.name == "ridge")
    unit = campaign.unit(ridge.members[0], campaign.plan.folds[0])
    job, files = write_job(campaign.plan.job, tmp_path / "job"), []
    for place in (tmp_path / "first", tmp_path / "second"):
        files.append(run_costed(UnitTask(unit, job, place), lambda share: None))
        cost = read_cost(files[-1])
        assert cost is not None
        assert cost.parameters == 45 * 3
        assert cost.train_s >= 0.0
        assert len(cost.decision_ms) > 10
    assert files[0].read_bytes() == files[1].read_bytes()
    assert read_cost(tmp_path / "none") is None


def test_every_kind_is_an_arm_where_the_bars_suffice_and_a_stack_that_lacks_some_is_named(
    folder: Path, tmp_path: Path
) -> None:
    def of(place: Path) -> Campaign:
        chosen = settings_of(place)
        return campaign_of(chosen, bars_to_walk(chosen), [Group.ARCHITECTURES], (), TINY)

    short = of(folder)
    assert "stack" not in [arm.name for arm in short.arms]
    (lacking,) = (one for one in short.absent if one.name == "stack")
    assert "too few bars for a stack" in lacking.why
    generated_market(tmp_path, days=80)
    long = of(tmp_path)
    assert [arm.name for arm in long.arms] == [*TRAINERS, *BASELINES]
    assert long.absent == ()
    assert long.effort.core_s > short.effort.core_s


def test_a_strategy_that_combines_fewer_timeframes_is_shown_those_of_the_table(
    folder: Path, tmp_path: Path
) -> None:
    fewer = json.dumps({**STRATEGY, "timeframes_minutes": [120, 60]})
    chosen = settings_of(folder, f"strategy.parameters={fewer}", "estimator.combination=mean")
    campaign = campaign_of(chosen, bars_to_walk(chosen), [Group.ARCHITECTURES], (), TINY)
    (arm,) = (one for one in campaign.arms if one.name == "momentum")
    job = write_job(campaign.plan.job, tmp_path / "job")
    units = tuple((campaign.unit(arm.members[0], fold),) for fold in campaign.plan.folds)
    for (unit,) in units:
        run_unit(UnitTask(unit, job, tmp_path), lambda share: None)
    refits, out = campaign.plan.refits, tmp_path / "table.parquet"
    done = measure_arm(ArmTask(arm, units, refits, job, tmp_path, out, chosen), lambda share: None)
    names = [step.step for step in done.measured.steps]
    assert names[:3] == ["raw 2h", "raw 1h", "combined"]
    assert {step.step: step for step in done.measured.steps}["capped"].ic.instants > 100
    stored = read_predictions(out)
    assert stored.facts["combination"] == "mean"
    assert [t.minutes for t in stored.table.timeframes] == [60, 90, 120]
    swapped = with_timeframes(stored.table, [Timeframe(120), Timeframe(240)])
    (_, whole), (_, part) = stored.table.readings[-1], swapped.readings[-1]
    assert part.slopes == (whole.slopes[2], 0.0)
    assert np.array_equal(swapped.mean[0], stored.table.mean[2], equal_nan=True)
    assert np.isnan(swapped.mean[1]).all()
    strange = settings_of(folder, 'strategy.parameters={"timeframes_minutes": [60, 240]}')
    with pytest.raises(ConfigurationError, match="timeframes_minutes names 4h"):
        campaign_of(strange, bars_to_walk(strange), [Group.ARCHITECTURES], (), TINY)


class Waiting(FittedBaseline):
    """Forecast as a machine does that has others to serve first."""

    def forecast(self, table: Table, rows: Longs) -> tuple[Floats, Floats]:
        time.sleep(0.02)
        return super().forecast(table, rows)


def test_a_decision_takes_what_it_computes_not_what_it_waits_on_a_busy_machine(
    folder: Path, tmp_path: Path
) -> None:
    chosen = settings_of(folder)
    campaign = campaign_of(chosen, bars_to_walk(chosen), [Group.ARCHITECTURES], (), TINY)
    tables = tables_of(write_job(campaign.plan.job, tmp_path / "job"))
    took = decision_ms(Waiting(Baseline.MOMENTUM, len(tables), 12), tables)
    assert len(took) == DECISIONS_TIMED
    assert 0.0 < np.median(took) < 20.0, "three timeframes wait 60 ms of the clock"


@pytest.mark.soak(minutes=2)
@pytest.mark.timeout(900)
def test_a_run_that_lost_half_of_its_fits_goes_on_and_gives_the_same_bytes(
    folder: Path, tmp_path: Path
) -> None:
    kinds = ("bilstm", "ridge", "lightgbm")

    def run(processes: int) -> Results:
        groups = [Group.ARCHITECTURES]
        return compared(folder, tmp_path, groups, kinds=kinds, processes=processes, sizes=PAIRS)

    results = run(1)
    before = kept(tmp_path)
    units = sorted((tmp_path / UNITS_FOLDER).glob("*.safetensors"))
    times = {path: path.stat().st_mtime_ns for path in units}
    for path in units[::2]:
        path.unlink()
    (tmp_path / "architectures.json").unlink()
    again = run(2)
    assert kept(tmp_path) == before
    for path in units[1::2]:
        assert path.stat().st_mtime_ns == times[path], "nothing is computed twice"
    assert again.trials_n == results.trials_n, "a repeat is no further trial"
    by_name = {one.arm.name: one.resources for one in results.arms}
    assert by_name["bilstm"].parameters == 2 * results.parameters["bilstm"], "two seeds"
    chosen = settings_of(folder)
    campaign = campaign_of(chosen, bars_to_walk(chosen), [Group.ARCHITECTURES], kinds, PAIRS)
    arm = campaign.arms[0]
    for fold, best in zip(campaign.plan.folds, results.arms[0].tuned, strict=True):
        there = [
            unit_path(
                tmp_path / UNITS_FOLDER, campaign.unit(arm.members[1], fold, one), campaign.plan.job
            ).exists()
            for one in campaign.grid
        ]
        assert there == [one == best for one in campaign.grid], "the second seed is not tuned again"


def test_page_terminal_and_json_say_the_same_and_what_was_left_out(
    whole: Whole, capsys: pytest.CaptureFixture[str]
) -> None:
    results, out = whole
    page = (out / "architectures.html").read_text(encoding="utf-8")
    values: dict[str, Any] = json.loads((out / "architectures.json").read_text())
    show(results)
    said = capsys.readouterr().out
    for one in results.arms:
        assert one.arm.name in page
        assert one.arm.name in said
    assert [one["name"] for one in values["arms"]] == [one.arm.name for one in results.arms]
    assert ">nan" not in page
    assert "<script" not in page
    for text in (page, said):
        assert "H5" in text
        assert "not tested" in text
    (verdict,) = values["verdicts"]
    assert verdict["why"] == "too few decisions, or no rivals"
    absent = {one["name"]: one["why"] for one in values["absent"]}
    assert absent["gru"] == "it was left out by --kinds"
    assert "gru was not compared: it was left out by --kinds" in page
    held = results.arms[-1].measured.steps[-1].ic
    if held.instants > 1:  # a few decisions are no record, and the page must say so
        assert f"{held.mean:+.4f} ± {(held.high - held.low) / 2:.4f}" in page
    whole_score = values["arms"][0]["scores"][0]["score_ic"]["mean"]
    assert f"{whole_score:+.4f}" in page
    assert f"{whole_score:+.4f}" in said


def test_what_cannot_be_compared_is_refused_or_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds, absent = known_kinds(settings_of(folder))
    assert {*NETWORKS, "ridge"} <= set(kinds)
    assert {*kinds, *(one.name for one in absent)} == set(TRAINERS)
    assert all(one.why for one in absent)
    monkeypatch.setitem(sys.modules, "lightgbm", None)  # what Python knows as not installed
    found = {one.name: one.why for one in known_kinds(settings_of(folder))[1]}
    assert set(found) >= {"lightgbm", "stack"}
    assert "which is not installed: pip install" in found["stack"]
    command = ["evaluate", "architectures", "--set", f"backtest.data_folder={folder}"]
    assert cli.run([*command, "--arms", "networks"]) == ConfigurationError.exit_code
    assert "accepted are, each once, architectures, timeframes, ladder" in capsys.readouterr().err
    poor = [f"evaluation.trials_file={folder / 'other.jsonl'}", "architectures.core_hours=0.000001"]
    words = [word for one in poor for word in ("--set", one)]
    assert cli.run([*command, *words, "--kinds", "prophet"]) == ConfigurationError.exit_code
    assert "--kinds prophet: accepted are bilstm, lstm" in capsys.readouterr().err


@pytest.mark.soak(minutes=6)
@pytest.mark.timeout(1_800)
def test_all_groups_survive_a_kill_and_give_the_bytes_of_a_run_that_was_not(
    folder: Path, tmp_path: Path
) -> None:
    groups = list(Group)
    module = "tests.wiring.architecture_market"
    command = [
        sys.executable,
        "-m",
        module,
        str(folder),
        str(tmp_path / "killed"),
        ",".join(groups),
        "",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    units, end = tmp_path / "killed" / UNITS_FOLDER, time.monotonic() + 600
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as child:
        try:
            while len(list(units.glob("*.safetensors"))) < 12:
                assert time.monotonic() < end, "nothing happened"
                time.sleep(0.05)
        finally:
            os.kill(child.pid, signal.SIGKILL)
    time.sleep(1.0)  # the worker outlives its parent for a moment
    left = {path: path.stat().st_mtime_ns for path in units.glob("*.safetensors")}
    killed = compared(folder, tmp_path / "killed", groups, processes=2, sizes=PAIRS)
    assert {path: path.stat().st_mtime_ns for path in left} == left
    straight = compared(folder, tmp_path / "straight", groups, processes=1, sizes=PAIRS)
    assert kept(tmp_path / "killed") == kept(tmp_path / "straight")
    assert [one.claim for one in killed.judged.verdicts] == ["H5", "H2", "H6"]
    assert [one.finding for one in killed.judged.verdicts] == [
        one.finding for one in straight.judged.verdicts
    ]
    alone = killed.arm("2h alone")
    assert alone is not None
    assert alone.arm.timeframes == (Timeframe(120),)
    assert (
        np.isfinite(alone.measured.losses.rank).sum()
        == np.isfinite(straight.arms[0].measured.losses.rank).sum()
    ), "a single timeframe is asked at every decision, too"


def test_a_plain_mean_is_of_the_size_of_a_forecast_and_not_of_an_outcome() -> None:
    """At unit size its likelihood would be that of a forecaster who claims to know everything."""
    draw = np.random.default_rng(3)
    hour, names = Timeframe(60), ("AAA", "BBB", "CCC", "DDD")
    at_ms = hour.ms * np.arange(1, 201, dtype=np.int64)
    said = draw.standard_normal((1, len(at_ms), len(names)))
    part = {hour: RawPart(at_ms, said, np.ones(said.shape[1:]))}
    nothing = np.zeros(said.shape[1:])
    table = rows_of(names, (hour,), at_ms, nothing, nothing[None], nothing[None])
    found = with_plain_mean(table, [RawFold(int(at_ms[0]), part, part)]).prediction
    assert found.std() == pytest.approx(PRIOR_SLOPE, rel=0.1)
    assert np.array_equal(np.argsort(found), np.argsort(said[0].ravel()))
