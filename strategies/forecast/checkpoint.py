"""Keep a model as `weights.safetensors` and `manifest.json`; load nothing that could run code.

The manifest says what the model is, what it has seen and how it scored; it carries the hash of the
weights, and the model's id is the hash of the manifest, so one id stands for both files.
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

from daemon.domain.failures import ConfigurationError, ModelError
from daemon.domain.forecast import Reading, is_disagreement
from daemon.domain.units import Timeframe
from strategies.forecast.calibration import Calibration
from strategies.forecast.inputs.covariates import column_names
from strategies.forecast.inputs.features import feature_hash
from strategies.forecast.inputs.labels import HORIZON_MS
from strategies.forecast.inputs.windows import SEQUENCE_BARS_MAX, SEQUENCE_BARS_MIN
from strategies.forecast.networks.config import NetworkKind
from strategies.forecast.training.job import Origin, TrainSettings
from strategies.rules import Contender, reading_problem

MANIFEST_FILE: Final = "manifest.json"
WEIGHTS_FILE: Final = "weights.safetensors"
SCHEMA: Final = 4
NETWORKS: Final = tuple(kind.value for kind in NetworkKind)
RIDGE: Final = "ridge"
LIGHTGBM: Final = "lightgbm"
FOREST: Final = "forest"
TREES: Final = (LIGHTGBM, FOREST)
STACK: Final = "stack"
KINDS: Final = (*NETWORKS, RIDGE, *TREES, STACK)
ID_LENGTH: Final = 16
FIGURE_MAX: Final = 1e9  # of a calibration: beyond it a forecast would not stay a number
_SHAPE_MAX: Final = (("hidden", 1024), ("embedding", 1024), ("layers", 64), ("members", 1000))

Weights = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Shape:
    """Hold the shape of the networks (see NetworkConfig) and how many members there are.

    Of tabular kinds, channels counts the columns of the ridge's design; hidden, embedding and
    layers are 0. Of a stack, channels counts its kinds; sequence_bars is the most that one reads.
    """

    channels: int
    timeframes: int
    hidden: int
    embedding: int
    sequence_bars: int
    members: int
    layers: int = 0
    cross_asset: bool = False
    zoneout: float = 0.0


@dataclass(frozen=True, slots=True)
class Data:
    """Name the data: fingerprint of all bars, first and last decision, source length, lag.

    learned_until_ms: where the part ends that weights were fitted to; after it lie the parts for
    early stopping, scores and calibration.
    """

    fingerprint: str
    from_ms: int
    to_ms: int
    source_minutes: int
    lag_ms: int
    horizon_ms: int
    learned_until_ms: int


@dataclass(frozen=True, slots=True)
class Skill:
    """Hold mean ICs over instants with their Newey-West t values; NaN without instants."""

    instants: int
    rank_ic: float
    rank_ic_t: float
    score_ic: float
    score_ic_t: float


@dataclass(frozen=True, slots=True)
class Score:
    """Hold the skill of one fold's test part at one timeframe, beside the plain baselines."""

    fold: int
    timeframe_minutes: int
    model: Skill
    last_return: Skill
    momentum: Skill


@dataclass(frozen=True, slots=True)
class Learned:
    """Say of one fold's members how many they are and what they had seen; times in ms.

    Their weights were fitted to what lies before learned_until_ms, and networks were stopped by
    what lies before stopped_until_ms. From tested_from_ms until tested_until_ms they were judged,
    together with the members of earlier folds.
    """

    fold: int
    members: int
    learned_until_ms: int
    stopped_until_ms: int
    tested_from_ms: int
    tested_until_ms: int


@dataclass(frozen=True, slots=True)
class Stacked:
    """Hold one kind of a stack: its shape, and its share in each timeframe's forecast, (K,).

    Shares are of forecasts of unit size, mean over the seeds, and add up to 1 where any is above 0.
    chosen: the columns that each timeframe reads, empty where nothing was to be chosen.
    """

    kind: str
    shape: Shape
    shares: tuple[float, ...]
    chosen: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """Hold everything about a model but its weights.

    chosen: the columns that each timeframe reads, empty where nothing was to be chosen; of several
    folds those of the last. learned: of the members of each fold, in their order; empty for one.
    """

    schema: int
    kind: str
    shape: Shape
    feature_hash: str
    timeframes_minutes: tuple[int, ...]
    symbols: tuple[str, ...]
    origin: Origin
    data: Data
    settings: TrainSettings
    steps: int
    versions: dict[str, str]
    scores: tuple[Score, ...]
    calibration: tuple[Calibration, ...]
    disagreement: tuple[tuple[float, ...], ...]
    reading: Reading  # how the timeframes are combined, and what comes of it
    contenders: tuple[Contender, ...]  # the rules between which validation chose
    weights_sha256: str
    covariates: tuple[str, ...] = ()
    parent: str = ""  # the id of the model that was tuned to get this one
    chosen: tuple[tuple[str, ...], ...] = ()
    stacked: tuple[Stacked, ...] = ()
    learned: tuple[Learned, ...] = ()

    @property
    def timeframes(self) -> tuple[Timeframe, ...]:
        """Give the timeframes in the order of calibration and disagreement."""
        return tuple(Timeframe(m) for m in self.timeframes_minutes)


class _Versioned(msgspec.Struct):
    schema: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Hold a loaded, verified model."""

    model_id: str
    manifest: Manifest
    weights: Weights


def save(manifest: Manifest, weights: Weights, registry: Path) -> Path:
    """Write a model into `registry/<id>` so that it is there whole or not at all; give the folder.

    `manifest.weights_sha256` is filled in here. The same content gives the same id and is kept.
    """
    raw = save_weights({name: np.ascontiguousarray(w) for name, w in weights.items()})
    described = asdict(manifest) | {"weights_sha256": hashlib.sha256(raw).hexdigest()}
    for name in ("covariates", "learned"):  # models without keep the ids they have always had
        if not described[name]:
            del described[name]
    text = json.dumps(_without_nan(described), indent=1).encode()
    folder = registry / model_id_of(text)
    if folder.exists():
        return folder
    registry.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=registry))
    try:
        _write(draft / WEIGHTS_FILE, raw)
        _write(draft / MANIFEST_FILE, text)
        draft.rename(folder)
    except OSError as e:
        shutil.rmtree(draft, ignore_errors=True)
        raise ModelError(f"model {folder}: {e.strerror}") from e
    return folder


def load(folder: Path, *, timeframes: tuple[Timeframe, ...] | None = None) -> Checkpoint:
    """Read and verify a model; raise ModelError naming the file and the reason.

    Refused: unreadable or altered files, another schema or feature list, timeframes that are asked
    for and unknown to the model, and whatever could not forecast: weights that are no numbers,
    figures of a calibration that none can have, a shape that is not that of the timeframes.
    """
    path = folder / MANIFEST_FILE
    text = _read(path)
    try:
        schema = msgspec.json.decode(text, type=_Versioned).schema
        if schema != SCHEMA:
            raise ModelError(f"{path}: schema {schema}, this version reads {SCHEMA}: train again")
        manifest = msgspec.json.decode(text, type=Manifest)
        known = manifest.timeframes
    except (msgspec.DecodeError, ValueError, ConfigurationError) as e:
        raise ModelError(f"{path}: no manifest of ours: {e}") from e
    _check(manifest, path)
    for timeframe in timeframes or ():
        if timeframe not in known:
            labels = ", ".join(t.label for t in known)
            raise ModelError(f"{path}: no {timeframe.label} forecasts; the model knows {labels}")
    if model_id_of(text) != folder.resolve().name:
        raise ModelError(f"{path}: its content hash is {model_id_of(text)}, not the folder's name")
    raw = _read(folder / WEIGHTS_FILE)
    if hashlib.sha256(raw).hexdigest() != manifest.weights_sha256:
        raise ModelError(f"{folder / WEIGHTS_FILE}: its hash is not the one in the manifest")
    try:
        weights = load_weights(raw)
    except (SafetensorError, KeyError, ValueError) as e:
        raise ModelError(f"{folder / WEIGHTS_FILE}: not safetensors: {e}") from e
    for name, weight in weights.items():
        if not np.isfinite(weight).all():
            raise ModelError(f"{folder / WEIGHTS_FILE}: {name} holds values that are not finite")
    return Checkpoint(folder.resolve().name, manifest, weights)


def model_id_of(manifest_text: bytes) -> str:
    """Give the id of a model from the bytes of its manifest."""
    return hashlib.sha256(manifest_text).hexdigest()[:ID_LENGTH]


def _check(manifest: Manifest, path: Path) -> None:
    if manifest.kind not in KINDS:
        accepted = " or ".join(map(repr, KINDS))
        raise ModelError(f"{path}: a model of kind {manifest.kind!r}, this version runs {accepted}")
    computed = feature_hash(column_names(manifest.covariates))
    if manifest.feature_hash != computed:
        raise ModelError(
            f"{path}: trained on features {manifest.feature_hash}, this version computes"
            f" {computed}: train again"
        )
    if wrong := _wrong_shape(manifest) or _wrong_figure(manifest):
        raise ModelError(f"{path}: {wrong}")
    if problem := reading_problem(manifest.reading, len(manifest.timeframes)):
        raise ModelError(f"{path}: how its forecasts are combined: {problem}")


def _wrong_shape(manifest: Manifest) -> str | None:
    """Say what of a manifest does not fit together, or None."""
    shape, minutes = manifest.shape, manifest.timeframes_minutes
    K = len(minutes)
    if not K or len(set(minutes)) != K or shape.timeframes != K:
        return f"timeframes_minutes are {list(minutes)} and shape.timeframes is {shape.timeframes}"
    if not K == len(manifest.calibration) == len(manifest.disagreement):
        return "calibration or disagreement do not match the timeframes"
    if not SEQUENCE_BARS_MIN <= shape.sequence_bars <= SEQUENCE_BARS_MAX:
        accepted = f"{SEQUENCE_BARS_MIN} .. {SEQUENCE_BARS_MAX}"
        return f"shape.sequence_bars is {shape.sequence_bars}: accepted is {accepted}"
    for name, most in _SHAPE_MAX:
        least = 1 if name == "members" or manifest.kind in NETWORKS else 0
        if not least <= getattr(shape, name) <= most:
            return f"shape.{name} is {getattr(shape, name)}: accepted is {least} .. {most}"
    learned = manifest.learned
    if learned and sum(one.members for one in learned) != shape.members:
        return f"shape.members is {shape.members} and learned tells of {len(learned)} folds' others"
    if any(one.learned_until_ms > one.tested_from_ms for one in learned):
        return "learned tells of members that were tested on what they had learned from"
    if manifest.data.horizon_ms != HORIZON_MS:
        return f"data.horizon_ms is {manifest.data.horizon_ms}: accepted is {HORIZON_MS}"
    return None


def _wrong_figure(manifest: Manifest) -> str | None:
    """Say which figure of the calibration cannot be one, or None."""
    for timeframe, calibration in zip(manifest.timeframes, manifest.calibration, strict=True):
        for name, value in asdict(calibration).items():
            if not 0.0 <= value <= FIGURE_MAX:
                return f"calibration.{name} of {timeframe.label} is {value}: accepted is 0 and more"
    try:
        found = np.array(manifest.disagreement, dtype=np.float64)
    except ValueError:  # rows of different lengths
        found = np.empty(0)
    if not is_disagreement(found, len(manifest.calibration)):
        return f"disagreement {manifest.disagreement} is no correlation matrix that can be inverted"
    return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise ModelError(f"{path}: {e.strerror}") from e


def _write(path: Path, raw: bytes) -> None:
    with path.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _without_nan(value: Any) -> Any:
    """Write NaN scores as null would break their type: say 0 instants, 0 skill instead."""
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return 0.0
    return value
