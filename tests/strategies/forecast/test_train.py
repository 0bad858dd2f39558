"""Training: finds what is there, invents nothing, repeats itself to the bit, says how far it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from daemon.domain.failures import ConfigurationError, ModelError
from strategies.forecast import checkpoint
from strategies.forecast.inputs.dataset import build_tables, cut_folds
from strategies.forecast.training.job import (
    Job,
    Origin,
    OriginKind,
    TrainSettings,
    read_job,
    write_job,
)
from strategies.forecast.training.network_training import steps_for, train_model
from strategies.forecast.training.process import Progress
from tests.strategies.forecast.conftest import SETTINGS
from tests.strategies.forecast.markets import SOURCE, TIMEFRAMES, job, reverting, walk

Trained = tuple[Job, Path, list[Progress]]


def test_a_pattern_that_is_there_is_found_out_of_sample(trained: Trained) -> None:
    _, folder, _ = trained
    hourly = checkpoint.load(folder).manifest.scores[0].model
    assert hourly.rank_ic > 0.05
    assert hourly.rank_ic_t > 2.5
    calibration = checkpoint.load(folder).manifest.calibration
    assert all(c.slope > 0 for c in calibration)


def test_a_market_without_a_pattern_shows_no_skill(tmp_path: Path) -> None:
    quiet = job(walk(75 * 48, 10, seed=3), tmp_path, replace(SETTINGS, steps=30, members=1))
    manifest = checkpoint.load(train_model(quiet)).manifest
    assert all(abs(s.model.rank_ic_t) < 3.5 for s in manifest.scores)
    assert all(c.slope < 0.05 for c in manifest.calibration)


def test_the_same_job_gives_the_same_model_and_another_seed_another(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=6, members=1)
    source = reverting(75, 6, 0.05)
    first = train_model(job(source, tmp_path / "a", settings))
    again = train_model(job(source, tmp_path / "b", settings))
    other = train_model(job(source, tmp_path / "c", replace(settings, seed=8)))
    assert first.name == again.name
    raw = [(f / checkpoint.WEIGHTS_FILE).read_bytes() for f in (first, again, other)]
    assert raw[0] == raw[1] != raw[2]


def test_progress_rises_to_the_end_and_shows_the_live_metric(trained: Trained) -> None:
    _, _, told = trained
    assert [p.done_steps for p in told] == list(range(1, 181))
    assert {p.total_steps for p in told} == {180}
    assert np.isnan(told[0].rank_ic)
    assert np.isfinite(told[-1].rank_ic)
    assert told[-1].stage == "fold 1/1, member 2/2"


def test_the_budget_buys_steps_by_size_and_never_by_the_clock(tmp_path: Path) -> None:
    small = job(walk(75 * 48, 10), tmp_path, TrainSettings(budget_seconds=2))
    tables = build_tables(small)
    folds = cut_folds(small, tables)
    steps = steps_for(small.settings, tables, folds)
    assert steps == steps_for(small.settings, tables, folds)
    double = steps_for(replace(small.settings, budget_seconds=4), tables, folds)
    assert double == pytest.approx(2 * steps, abs=1)
    assert steps_for(replace(small.settings, hidden=64), tables, folds) < steps


def test_no_label_of_an_earlier_part_reaches_into_a_later_one(tmp_path: Path) -> None:
    small = job(walk(120 * 48, 5), tmp_path, TrainSettings(folds=2, test_share=0.3))
    tables = build_tables(small)
    reach_ms = 7 * 3_600_000  # six hours, and the entry after its half-hour bar
    for fold in cut_folds(small, tables):
        for table in tables:
            parts = [table.close_ms[table.within(s)] for s in (fold.train, fold.stop, fold.test)]
            assert all(len(p) > 20 for p in parts)
            assert parts[0].max() + reach_ms < parts[1].min()
            assert parts[1].max() + reach_ms < parts[2].min()


def test_too_few_bars_are_refused_with_the_days_needed(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"too few bars: .* usable days .* need \d+"):
        train_model(job(walk(20 * 48, 5), tmp_path, SETTINGS))


def test_a_written_job_reads_back_equal(tmp_path: Path) -> None:
    written = job(walk(96, 3, gaps=0.1), tmp_path / "out", TrainSettings(seed=9))
    back = read_job(write_job(written, tmp_path / "job"))
    assert (back.symbols, back.source, back.timeframes) == (written.symbols, SOURCE, TIMEFRAMES)
    assert (back.settings, back.origin, back.out) == (
        written.settings,
        Origin(OriginKind.GENERATED, "test"),
        written.out,
    )
    for timeframe, (close_ms, values) in written.bars.items():
        np.testing.assert_array_equal(back.bars[timeframe][0], close_ms)
        np.testing.assert_array_equal(back.bars[timeframe][1], values)


def test_a_setting_out_of_range_names_key_value_and_range() -> None:
    with pytest.raises(ConfigurationError, match=r"train.members = 0: accepted 1 .. 20"):
        TrainSettings(members=0)


def test_a_broken_job_names_the_file(tmp_path: Path) -> None:
    path = write_job(job(walk(96, 3), tmp_path, SETTINGS), tmp_path)
    (tmp_path / "bars.npz").write_bytes(b"no bars")
    with pytest.raises(ModelError, match=r"bars\.npz"):
        read_job(path)
    path.write_text("{}")
    with pytest.raises(ModelError, match=r"job\.json"):
        read_job(path)


def test_bars_of_a_wrong_shape_are_refused(tmp_path: Path) -> None:
    whole = job(walk(96, 3), tmp_path, SETTINGS)
    with pytest.raises(ModelError, match="30m bars have shape"):
        replace(whole, symbols=("A", "B"))
    with pytest.raises(ModelError, match="no 30m bars"):
        replace(whole, bars={t: whole.bars[t] for t in TIMEFRAMES})


@pytest.mark.parametrize(
    ("module", "kind", "steps"), [("network_training", "bilstm", 4), ("ridge_training", "ridge", 3)]
)
def test_the_training_process_writes_json_lines_and_a_model(
    tmp_path: Path, module: str, kind: str, steps: int
) -> None:
    settings = replace(SETTINGS, steps=4, members=1)
    path = write_job(job(reverting(75, 5, 0.05), tmp_path / "models", settings), tmp_path / "job")
    program = f"strategies.forecast.training.{module}"
    command = [sys.executable, "-m", program, "--job", os.fspath(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["progress"] * steps + ["done"]
    assert [line["done_steps"] for line in lines[:-1]] == list(range(1, steps + 1))
    assert {line["total_steps"] for line in lines[:-1]} == {steps}
    assert lines[-1]["kind"] == kind
    assert (tmp_path / "models" / lines[-1]["id"] / checkpoint.MANIFEST_FILE).exists()


@pytest.mark.parametrize("module", ["network_training", "ridge_training"])
def test_the_training_process_says_what_is_wrong_and_fails(tmp_path: Path, module: str) -> None:
    path = write_job(job(walk(96, 5), tmp_path, SETTINGS), tmp_path / "job")
    program = f"strategies.forecast.training.{module}"
    command = [sys.executable, "-m", program, "--job", os.fspath(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert ran.returncode == ModelError.exit_code
    assert "too few bars" in json.loads(ran.stdout)["error"]


def test_a_ridge_is_trained_without_torch() -> None:
    code = (
        "import sys, strategies.forecast.training.ridge_training; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path.cwd()).returncode == 0
