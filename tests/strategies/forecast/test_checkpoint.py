"""Checkpoints: whole, verified, and refused by name and reason when they are not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.failures import ModelError
from daemon.domain.units import Timeframe
from strategies.forecast import checkpoint
from strategies.forecast.job import Job, OriginKind
from strategies.forecast.train import Progress
from tests.strategies.forecast.markets import TIMEFRAMES

Trained = tuple[Job, Path, list[Progress]]


@pytest.fixture
def folder(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[1], tmp_path / trained[1].name))


def rewritten(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change the manifest and rename the folder to fit, as a forger would."""
    path = folder / checkpoint.MANIFEST_FILE
    manifest = json.loads(path.read_text())
    change(manifest)
    text = json.dumps(manifest).encode()
    path.write_bytes(text)
    return folder.rename(folder.with_name(checkpoint.model_id_of(text)))


def test_a_model_reads_back_with_its_origin_data_and_scores(trained: Trained) -> None:
    job, folder, _ = trained
    found = checkpoint.load(folder, timeframes=TIMEFRAMES)
    manifest = found.manifest
    assert found.model_id == folder.name
    assert (manifest.origin.kind, manifest.origin.name) == (OriginKind.GENERATED, "test")
    assert manifest.symbols == job.symbols
    assert manifest.timeframes == TIMEFRAMES
    assert len(manifest.scores) == 3
    assert manifest.data.lag_ms == 30 * 60_000
    assert {k.split(".")[0] for k in found.weights} == {"0", "1"}


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
        (lambda m: m.update(kind="prophet"), "kind 'prophet'"),
        (lambda m: m.update(feature_hash="0" * 16), "train again"),
        (lambda m: m.update(calibration=[]), "do not match"),
        (lambda m: m.pop("origin"), "no manifest of ours"),
        (lambda m: m["origin"].update(kind="dream"), "no manifest of ours"),
        (lambda m: m["settings"].update(members=0), "train.members"),
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


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / checkpoint.WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors: No such file"):
        checkpoint.load(folder)
    with pytest.raises(ModelError, match=r"manifest\.json"):
        checkpoint.load(folder / "nowhere")


def test_a_timeframe_that_the_model_does_not_know_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="no 4h forecasts; the model knows 1h, 90m, 2h"):
        checkpoint.load(folder, timeframes=(Timeframe(240),))


def test_saving_the_same_model_twice_leaves_one_folder_and_no_draft(
    trained: Trained, tmp_path: Path
) -> None:
    found = checkpoint.load(trained[1])
    first = checkpoint.save(found.manifest, found.weights, tmp_path)
    assert first == checkpoint.save(found.manifest, found.weights, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [found.model_id]
