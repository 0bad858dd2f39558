"""Keep a fitted recurrent correlation as `weights.safetensors` and `manifest.json`; nothing runs.

The manifest says what the network reads, from what it has learned and how it did on the part that
stopped it. It carries the hash of the weights, and the folder is named by the hash of the manifest:
one id stands for both files. Whatever does not fit together is refused with the reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_weights
from safetensors.numpy import save as save_weights

from daemon.domain.failures import ModelError
from strategies.covariance.recurrent import (
    CORRECTIONS,
    HALF_LIVES_H,
    NAME,
    SEQUENCE,
    STATE,
    STEP_H,
    STEPS_N,
    WEIGHT_NAMES,
    RecurrentCorrelation,
    Scaling,
    Weights,
)

MANIFEST_FILE: Final = "manifest.json"
WEIGHTS_FILE: Final = "weights.safetensors"
KIND: Final = "recurrent_correlation"
SCHEMA: Final = 2
ID_LENGTH: Final = 16
HIDDEN_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class RecurrentManifest:
    """Hold everything about a fitted network but its weights.

    reads: names of what it reads beside covariates, with the memory of its EWMA states, so that
    another version's network is refused. centre, spread: (F,) of the sequence, then of the state.
    data: fingerprint of the bars. loss, ewma_loss: QLIKE an instrument on the part that stopped it.
    """

    schema: int
    kind: str
    reads: tuple[str, ...]
    covariates: tuple[str, ...]
    hidden: int
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    seed: int
    epochs: int
    loss: float
    ewma_loss: float
    data: str
    learned_from_ms: int
    learned_until_ms: int
    weights_sha256: str = ""


def reads() -> tuple[str, ...]:
    """Give what a network of this version reads and says, in the manifest's words."""
    memory = tuple(f"half-life {h:g} h" for h in HALF_LIVES_H)
    return (*SEQUENCE, *STATE, *memory, f"{STEPS_N} steps of {STEP_H} h", *CORRECTIONS)


def save(manifest: RecurrentManifest, weights: Weights, registry: Path) -> Path:
    """Write into `registry/<id>`, whole or not at all; the same content is kept. Give the folder.

    Raises ModelError where the disk refuses.
    """
    raw = save_weights({name: np.ascontiguousarray(w) for name, w in weights.items()})
    described = asdict(manifest) | {"weights_sha256": hashlib.sha256(raw).hexdigest()}
    text = json.dumps(described, indent=1, allow_nan=False).encode()
    folder = registry / _id_of(text)
    if folder.exists():
        return folder
    registry.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=registry))
    try:
        for name, content in ((WEIGHTS_FILE, raw), (MANIFEST_FILE, text)):
            with (draft / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        draft.rename(folder)
    except OSError as e:
        shutil.rmtree(draft, ignore_errors=True)
        raise ModelError(f"model {folder}: {e.strerror}") from e
    return folder


def load(folder: Path) -> tuple[RecurrentManifest, RecurrentCorrelation]:
    """Read and verify a network; raise ModelError naming the file and the reason."""
    path = folder / MANIFEST_FILE
    text = _read(path)
    try:
        manifest = msgspec.json.decode(text, type=RecurrentManifest)
    except (msgspec.DecodeError, ValueError) as e:
        raise ModelError(f"{path}: no manifest of a recurrent correlation: {e}") from e
    if problem := _problem(manifest):
        raise ModelError(f"{path}: {problem}")
    if _id_of(text) != folder.resolve().name:
        raise ModelError(f"{path}: its content hash is {_id_of(text)}, not the folder's name")
    weights_path = folder / WEIGHTS_FILE
    raw = _read(weights_path)
    if hashlib.sha256(raw).hexdigest() != manifest.weights_sha256:
        raise ModelError(f"{weights_path}: its hash is not the one in the manifest")
    try:
        weights = load_weights(raw)
    except (SafetensorError, KeyError, ValueError) as e:
        raise ModelError(f"{weights_path}: not safetensors: {e}") from e
    if problem := _weights_problem(manifest, weights):
        raise ModelError(f"{weights_path}: {problem}")
    return manifest, network_of(manifest, weights)


def network_of(manifest: RecurrentManifest, weights: Weights) -> RecurrentCorrelation:
    """Make the estimator of a manifest and its weights."""
    scaling = Scaling(np.array(manifest.centre), np.array(manifest.spread))
    return RecurrentCorrelation(weights, scaling, manifest.covariates, NAME)


def _problem(manifest: RecurrentManifest) -> str | None:
    if (manifest.kind, manifest.schema) != (KIND, SCHEMA):
        return (
            f"kind {manifest.kind!r}, schema {manifest.schema}; this version reads {KIND!r},"
            f" schema {SCHEMA}"
        )
    if manifest.reads != reads():
        return "it reads other inputs than this version computes: fit it again"
    if not 1 <= manifest.hidden <= HIDDEN_MAX:
        return f"hidden is {manifest.hidden}: accepted is 1 .. {HIDDEN_MAX}"
    wanted = len(SEQUENCE) + len(manifest.covariates) + len(STATE)
    if not len(manifest.centre) == len(manifest.spread) == wanted:
        return f"{len(manifest.centre)} centres, {len(manifest.spread)} spreads for {wanted} inputs"
    if min(manifest.spread) <= 0.0:
        return "a spread that is not above 0"
    return None


def _weights_problem(
    manifest: RecurrentManifest, weights: Mapping[str, npt.NDArray[Any]]
) -> str | None:
    H, F = manifest.hidden, len(SEQUENCE) + len(manifest.covariates)
    shapes = ((3 * H, F), (3 * H, H), (3 * H,), (3 * H,))
    heads = ((len(CORRECTIONS), H + len(STATE)), (len(CORRECTIONS),))
    wanted = dict(zip(WEIGHT_NAMES, (*shapes, *heads), strict=True))
    found = {name: one.shape for name, one in weights.items()}
    if found != wanted:
        return f"weights {found}; the manifest asks for {wanted}"
    for name, one in weights.items():
        if not np.isfinite(one).all():
            return f"{name} holds values that are not finite"
    return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise ModelError(f"{path}: {e.strerror}") from e


def _id_of(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:ID_LENGTH]
