"""Checkpoints: whole, verified, and refused by name and reason when they are not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.domain.failures import ModelError
from daemon.domain.units import Timeframe
from strategies.forecast import checkpoint
from strategies.forecast.inference import build
from strategies.forecast.ridge import COEFFICIENTS
from strategies.forecast.training.job import Job, OriginKind
from strategies.forecast.training.process import Progress
from tests.strategies.forecast.markets import TIMEFRAMES

Trained = tuple[Job, Path, list[Progress]]


KINDS = ("bilstm", checkpoint.RIDGE)


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> Trained:
    """Give a trained model of each kind: the rules of loading are the same for all."""
    name = {"bilstm": "trained", checkpoint.RIDGE: "trained_ridge"}[request.param]
    found: Trained = request.getfixturevalue(name)
    return found


@pytest.fixture
def folder(model: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model[1], tmp_path / model[1].name))


def rewritten(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change the manifest and rename the folder to fit, as a forger would."""
    path = folder / checkpoint.MANIFEST_FILE
    manifest = json.loads(path.read_text())
    change(manifest)
    text = json.dumps(manifest).encode()
    path.write_bytes(text)
    return folder.rename(folder.with_name(checkpoint.model_id_of(text)))


def test_a_model_reads_back_with_its_origin_data_and_scores(model: Trained) -> None:
    job, folder, _ = model
    found = checkpoint.load(folder, timeframes=TIMEFRAMES)
    manifest = found.manifest
    assert found.model_id == folder.name
    assert (manifest.origin.kind, manifest.origin.name) == (OriginKind.GENERATED, "test")
    assert manifest.symbols == job.symbols
    assert manifest.timeframes == TIMEFRAMES
    assert len(manifest.scores) == 3
    assert manifest.data.lag_ms == 30 * 60_000
    parts = {"bilstm": {"0", "1"}, checkpoint.RIDGE: {COEFFICIENTS}}
    assert {k.split(".")[0] for k in found.weights} == parts[manifest.kind]


def test_models_of_both_kinds_learn_from_one_job_and_say_which_they_are(
    trained: Trained, trained_ridge: Trained
) -> None:
    network, ridge = (checkpoint.load(one[1]).manifest for one in (trained, trained_ridge))
    assert (network.kind, ridge.kind) == KINDS
    learned_until_ms = network.data.learned_until_ms
    assert replace(ridge.data, learned_until_ms=learned_until_ms) == network.data
    assert ridge.data.learned_until_ms > learned_until_ms, "it learns from the stopping part too"
    assert network.feature_hash == ridge.feature_hash
    assert [s.momentum for s in network.scores] == [s.momentum for s in ridge.scores]
    assert (
        {"python", "numpy", "safetensors"}
        == set(ridge.versions)
        == set(network.versions) - {"torch", "device"}
    )


def test_altered_weights_are_refused(folder: Path) -> None:
    path = folder / checkpoint.WEIGHTS_FILE
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ModelError, match=r"weights\.safetensors: its hash is not"):
        checkpoint.load(folder)


def test_an_altered_manifest_is_refused(folder: Path) -> None:
    path = folder / checkpoint.MANIFEST_FILE
    path.write_text(path.read_text().replace('"generated"', '"exchange"'))
    with pytest.raises(ModelError, match=r"manifest\.json: its content hash is"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(schema=99), "schema 99"),
        (lambda m: (m.clear(), m.update(schema=1)), "schema 1, this version reads 4: train again"),
        (lambda m: m.update(kind="prophet"), "kind 'prophet'"),
        (lambda m: m.update(feature_hash="0" * 16), "train again"),
        (lambda m: m.update(calibration=[]), "do not match"),
        (lambda m: m["reading"].update(rule="vote"), "combined: rule 'vote': known are strength"),
        (lambda m: m["reading"].update(slopes=[0.1]), "combined: 1 slopes for"),
        (lambda m: m["reading"].update(edges=[0.0], up=[0.6, 0.5]), "combined: a probability"),
        (lambda m: m["reading"].update(outcome_variance=0.0), "combined: a figure that is not"),
        (lambda m: m.pop("reading"), "no manifest of ours"),
        (lambda m: m.pop("origin"), "no manifest of ours"),
        (lambda m: m["origin"].update(kind="dream"), "no manifest of ours"),
        (lambda m: m["settings"].update(members=0), "train.members"),
        (lambda m: m.update(timeframes_minutes=[60, 90, 7]), "no manifest of ours: .*7 minutes"),
        (lambda m: m.update(timeframes_minutes=[60, 60, 60]), r"timeframes_minutes are \[60, 60"),
        (lambda m: m["shape"].update(timeframes=2), r"shape\.timeframes is 2"),
        (lambda m: m["shape"].update(members=0), r"shape\.members is 0: accepted is 1 \.\."),
        (lambda m: m["shape"].update(hidden=10**9), r"shape\.hidden is 1000000000: accepted"),
        (lambda m: m["shape"].update(sequence_bars=0), r"shape\.sequence_bars is 0: accepted is 6"),
        (lambda m: m["data"].update(horizon_ms=1), r"data\.horizon_ms is 1: accepted is 21600000"),
        (lambda m: m["calibration"][1].update(spread=-1), r"calibration\.spread of 90m is -1"),
        (lambda m: m["calibration"][0].update(scale=1e300), r"calibration\.scale of 1h is 1e\+300"),
        (lambda m: m.update(disagreement=[[1], [1, 2], [3]]), "no correlation matrix"),
        (lambda m: m.update(disagreement=[[1.0] * 3] * 3), "no correlation matrix"),
    ],
)
def test_a_foreign_manifest_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        checkpoint.load(rewritten(folder, change))


def test_bytes_that_are_no_safetensors_are_refused(folder: Path) -> None:
    raw = b"\x80\x04pickle"
    (folder / checkpoint.WEIGHTS_FILE).write_bytes(raw)
    digest = hashlib.sha256(raw).hexdigest()
    with pytest.raises(ModelError, match="not safetensors"):
        checkpoint.load(rewritten(folder, lambda m: m.update(weights_sha256=digest)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(
    model: Trained, tmp_path: Path, value: float
) -> None:
    found = checkpoint.load(model[1])
    name = max(found.weights)
    weight = found.weights[name].copy()
    weight.ravel()[-1] = value
    folder = checkpoint.save(found.manifest, {**found.weights, name: weight}, tmp_path)
    with pytest.raises(
        ModelError, match=rf"weights\.safetensors: {name} holds values that are not"
    ):
        checkpoint.load(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / checkpoint.WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors: No such file"):
        checkpoint.load(folder)
    with pytest.raises(ModelError, match=r"manifest\.json"):
        checkpoint.load(folder / "nowhere")


@pytest.mark.parametrize(("kind", "other"), [KINDS, KINDS[::-1], ("bilstm", "lstm")])
def test_weights_of_another_kind_than_the_manifest_says_are_refused(
    trained: Trained, trained_ridge: Trained, tmp_path: Path, kind: str, other: str
) -> None:
    source = {"bilstm": trained, checkpoint.RIDGE: trained_ridge}[kind][1]
    folder = Path(shutil.copytree(source, tmp_path / source.name))
    forged = rewritten(folder, lambda m: m.update(kind=other))
    with pytest.raises(ModelError, match=forged.name):
        build({"kind": "network", "model": str(forged)})


def test_a_timeframe_that_the_model_does_not_know_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="no 4h forecasts; the model knows 1h, 90m, 2h"):
        checkpoint.load(folder, timeframes=(Timeframe(240),))


def test_saving_the_same_model_twice_leaves_one_folder_and_no_draft(
    model: Trained, tmp_path: Path
) -> None:
    found = checkpoint.load(model[1])
    first = checkpoint.save(found.manifest, found.weights, tmp_path)
    assert first == checkpoint.save(found.manifest, found.weights, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [found.model_id]
