"""Training: finds what is there, invents nothing, repeats itself to the bit, says how far it is."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daemon.domain.bar import Window
from daemon.domain.failures import ConfigurationError, ModelError
from strategies.forecast import checkpoint
from strategies.forecast.inference import build, member_weights, network_config
from strategies.forecast.inputs.dataset import build_tables, cut_folds
from strategies.forecast.networks.config import ListLoss, NetworkKind
from strategies.forecast.networks.network import Network
from strategies.forecast.training.batches import Batches
from strategies.forecast.training.job import (
    Device,
    Job,
    Origin,
    OriginKind,
    Precision,
    TrainSettings,
    read_job,
    write_job,
)
from strategies.forecast.training.network_training import (
    BestWeights,
    config_of,
    device_of,
    rate,
    seed_step,
    steps_for,
    train_model,
)
from strategies.forecast.training.process import Progress
from tests.strategies.forecast.conftest import SETTINGS
from tests.strategies.forecast.markets import (
    SOURCE,
    START_MS,
    TIMEFRAMES,
    grouped,
    job,
    reverting,
    walk,
)

Trained = tuple[Job, Path, list[Progress]]
CPU = torch.device("cpu")


def test_a_pattern_that_is_there_is_found_out_of_sample(trained: Trained) -> None:
    _, folder, _ = trained
    hourly = checkpoint.load(folder).manifest.scores[0].model
    assert hourly.rank_ic > 0.05
    assert hourly.rank_ic_t > 2.5
    calibration = checkpoint.load(folder).manifest.calibration
    assert all(c.slope > 0.0225 for c in calibration), "more than is thought without outcomes"


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


@pytest.mark.parametrize("kind", NetworkKind)
def test_every_kind_with_every_rung_is_trained_and_answers_live(
    kind: NetworkKind, tmp_path: Path
) -> None:
    settings = replace(
        SETTINGS,
        network=kind,
        steps=8,
        members=1,
        sequence_bars=20,
        cross_asset=True,
        time_dropout=0.2,
        weight_drop=0.2,
        zoneout=0.1,
        weight_averaging=True,
        list_loss=ListLoss.LISTMLE,
    )
    source = reverting(75, 6, 0.05)
    trained = checkpoint.load(train_model(job(source, tmp_path, settings)))
    manifest = trained.manifest
    assert (manifest.kind, manifest.shape.sequence_bars, manifest.settings) == (kind, 20, settings)
    assert manifest.versions["device"] == "cpu"
    estimator = build({"kind": "network", "model": str(tmp_path / trained.model_id)})
    hourly = grouped(source, 2)
    window = Window(TIMEFRAMES[0], START_MS + len(hourly) * TIMEFRAMES[0].ms, hourly[-151:])
    mean = estimator.estimate(window.newest_ms, [window]).predictions[0].mean
    # what was forecast in training for that row is what is forecast live
    table = build_tables(job(source, tmp_path, settings))[0]
    network = Network(network_config(manifest.shape, kind))
    weights = member_weights(trained.weights, 0)
    network.load_state_dict({k: torch.from_numpy(w.copy()) for k, w in weights.items()})
    batch = Batches([table], settings, CPU).take(0, np.array([len(table.close_ms) - 1]))
    with torch.inference_mode():
        raw = network.eval()(batch.x, batch.place).mean[0, :, 0].numpy().astype(np.float64)
    slope = manifest.calibration[0].slope * manifest.calibration[0].scale
    np.testing.assert_allclose(mean, slope * (raw - raw.mean()), atol=1e-6)


def test_rungs_are_switched_one_by_one_in_the_settings(tmp_path: Path) -> None:
    off: dict[str, Any] = {
        "feature_dropout": 0.0,
        "time_dropout": 0.0,
        "weight_drop": 0.0,
        "dropout": 0.0,
    }
    small = job(reverting(75, 5, 0.05), tmp_path, replace(SETTINGS, steps=4, members=1, **off))
    base = config_of(small)
    for name in (*off, "zoneout"):
        rung: dict[str, Any] = {name: 0.25}
        changed = config_of(replace(small, settings=replace(small.settings, **rung)))
        assert changed == replace(base, **rung)
    rungs: tuple[dict[str, Any], ...] = (
        {},
        {"weight_decay": 0.5},
        {"weight_averaging": True},
        {"list_loss": ListLoss.LISTNET},
        {"ic_loss": False},
    )
    found = [
        train_model(replace(small, settings=replace(small.settings, **changed))).name
        for changed in rungs
    ]
    hashes = {checkpoint.load(tmp_path / name).manifest.weights_sha256 for name in found}
    assert len(hashes) == len(rungs)


def test_the_learning_rate_rises_falls_and_stays_while_weights_are_averaged() -> None:
    plain = [rate(step, 200, SETTINGS) for step in range(200)]
    peak = int(np.argmax(plain))
    assert 55 < peak < 65
    assert plain[peak] == pytest.approx(SETTINGS.learning_rate, rel=1e-3)
    assert np.all(np.diff(plain[:peak]) > 0)
    assert np.all(np.diff(plain[peak + 1 :]) < 0)
    assert plain[-1] < 1e-3 * plain[peak]
    averaged = [rate(step, 200, replace(SETTINGS, weight_averaging=True)) for step in range(200)]
    assert averaged[:150] == plain[:150]
    assert set(np.diff(averaged[151:])) == {0.0}


def test_a_step_draws_whole_cross_sections_of_every_timeframe(tmp_path: Path) -> None:
    small = job(walk(75 * 48, 6, gaps=0.02), tmp_path, replace(SETTINGS, batch_rows=72))
    tables = build_tables(small)
    batches = Batches(tables, small.settings, CPU)
    rows = [[t.usable] for t in tables]
    batch = batches.draw(seed_step(3, 5), rows)
    assert batch.x.shape == (12, 6, 12, tables[0].inputs.shape[-1])
    assert batch.y.shape == (12, 6, 2)
    assert batch.place.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    again = batches.draw(seed_step(3, 5), rows)
    assert torch.equal(batch.x, again.x)
    assert not torch.equal(batch.x, batches.draw(seed_step(3, 6), rows).x)
    one = batches.take(1, np.array([400]))
    expected = tables[1].inputs[389:401].transpose(1, 0, 2)
    np.testing.assert_array_equal(one.x[0].numpy(), expected)
    np.testing.assert_allclose(one.y[0, :, 1].numpy(), tables[1].y_secondary[400], rtol=1e-6)


def test_weights_that_are_no_numbers_are_never_kept(tmp_path: Path) -> None:
    small = job(walk(48 * 48, 5), tmp_path, SETTINGS)
    tables = build_tables(small)
    (fold,) = cut_folds(small, tables)
    network = Network(config_of(small))
    keeper = BestWeights(network, Batches(tables, small.settings, CPU), tables, fold.stop)
    good = {name: w.clone() for name, w in network.state_dict().items()}
    keeper.look(good)
    if keeper.rank_ic > 0:  # the other way round, it is below what nothing at all would show
        good["heads.out.weight"] *= -1
        keeper = BestWeights(network, Batches(tables, small.settings, CPU), tables, fold.stop)
        keeper.look(good)
    keeper.look({name: torch.full_like(w, torch.nan) for name, w in good.items()})
    kept = keeper.best().state_dict()
    assert all(torch.equal(kept[name], w) for name, w in good.items())
    never = BestWeights(network, Batches(tables, small.settings, CPU), tables, fold.stop)
    never.look({name: torch.full_like(w, torch.nan) for name, w in good.items()})
    with pytest.raises(ModelError, match=r"are no numbers: lower training\.learning_rate"):
        never.best()


def test_the_secondary_label_is_the_move_of_the_next_twelve_hours(tmp_path: Path) -> None:
    small = job(reverting(75, 6, 0.05), tmp_path, SETTINGS)
    hourly = build_tables(small)[0]
    opens = np.log(small.bars[SOURCE][1][:, :, 0])
    t = 600  # an hourly row closes with source row 2 t + 1; lag 1, so entry at the open of 2 t + 3
    moved = opens[2 * t + 3 + 24] - opens[2 * t + 3]
    both = np.corrcoef(moved - moved.mean(), hourly.y_secondary[t])[0, 1]
    assert both > 0.9
    assert np.isnan(hourly.y_secondary[-13:]).all()
    assert np.isfinite(hourly.y[-9]).all()


def test_a_gpu_that_is_not_there_is_refused_and_auto_does_without() -> None:
    if torch.cuda.is_available():
        assert device_of(replace(SETTINGS, device=Device.AUTO)).type == "cuda"
        return
    with pytest.raises(ConfigurationError, match=r"training\.device = cuda"):
        device_of(replace(SETTINGS, device=Device.CUDA))
    assert device_of(replace(SETTINGS, device=Device.AUTO)) == CPU


def test_half_precision_is_for_training_and_leaves_weights_whole(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=6, members=1, precision=Precision.BF16)
    source = reverting(75, 6, 0.05)
    coarse = checkpoint.load(train_model(job(source, tmp_path, settings)))
    fine = checkpoint.load(
        train_model(job(source, tmp_path, replace(settings, precision=Precision.FP32)))
    )
    assert {w.dtype for w in coarse.weights.values()} == {np.dtype(np.float32)}
    for name, weight in coarse.weights.items():
        assert np.abs(weight - fine.weights[name]).max() < 0.05
    assert coarse.manifest.weights_sha256 != fine.manifest.weights_sha256


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

    def steps(**changed: Any) -> int:
        settings = replace(small.settings, **changed)
        return steps_for(settings, Batches(tables, settings, CPU), tables, folds)

    assert steps() == steps()
    assert steps(budget_seconds=4) == pytest.approx(2 * steps(), abs=1)
    assert steps(hidden=64) < steps()
    assert steps(layers=2) < steps()
    assert steps(network=NetworkKind.GRU) > steps()
    assert steps(steps=77, hidden=64) == 77


def test_no_label_of_an_earlier_part_reaches_into_a_later_one(tmp_path: Path) -> None:
    small = job(walk(120 * 48, 5), tmp_path, TrainSettings(folds=2, test_share=0.3))
    tables = build_tables(small)
    reach_ms = 25 * 1_800_000  # twelve hours, and the entry after its half-hour bar
    for fold in cut_folds(small, tables):
        for table in tables:
            parts = [table.close_ms[table.within(s)] for s in (fold.train, fold.stop, fold.test)]
            assert all(len(p) > 20 for p in parts)
            assert parts[0].max() + reach_ms < parts[1].min()
            assert parts[1].max() + reach_ms < parts[2].min()


@pytest.mark.parametrize("names_n", [1, 2])
def test_too_few_instruments_for_a_label_are_told_and_no_days_are_asked_for(
    names_n: int, tmp_path: Path
) -> None:
    asked = job(walk(30 * 48, names_n), tmp_path, TrainSettings())
    with pytest.raises(ModelError, match=f"too few instruments: {names_n}; .* of 3 at least"):
        cut_folds(asked, build_tables(asked))


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


ROOM = "strategies.forecast.training"


@pytest.mark.parametrize(
    ("module", "kind", "steps"),
    [
        ("network_training", "gru", [1, 2, 3, 4]),
        ("ridge_training", "ridge", [33, 67, 100]),  # shares of a fit, a timeframe after another
    ],
)
def test_the_training_process_writes_json_lines_and_a_model(
    tmp_path: Path, module: str, kind: str, steps: list[int]
) -> None:
    settings = replace(SETTINGS, steps=4, members=1, network=NetworkKind.GRU)
    path = write_job(job(reverting(75, 5, 0.05), tmp_path / "models", settings), tmp_path / "job")
    command = [sys.executable, "-m", f"{ROOM}.{module}", "--job", os.fspath(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["progress"] * len(steps) + ["done"]
    assert [line["done_steps"] for line in lines[:-1]] == steps
    assert {line["total_steps"] for line in lines[:-1]} == {steps[-1]}
    assert lines[-1]["kind"] == kind
    assert (tmp_path / "models" / lines[-1]["id"] / checkpoint.MANIFEST_FILE).exists()


@pytest.mark.parametrize("module", ["network_training", "ridge_training"])
def test_the_training_process_says_what_is_wrong_and_fails(
    tmp_path: Path,
    module: str,
    repository_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_job(job(walk(96, 5), tmp_path, SETTINGS), tmp_path / "job")
    program = os.fspath(repository_root / f"{ROOM.replace('.', '/')}/{module}.py")
    monkeypatch.setattr(sys, "argv", [program, "--job", os.fspath(path)])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(program, run_name="__main__")  # in this process, which has torch already
    assert left.value.code == ModelError.exit_code
    assert "too few bars" in json.loads(capsys.readouterr().out)["error"]


def test_a_ridge_is_trained_without_torch() -> None:
    code = (
        "import sys, strategies.forecast.training.ridge_training; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path.cwd()).returncode == 0
