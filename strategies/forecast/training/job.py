"""Describe a training run as plain values: settings, origin of the data, files of one job.

The trading process and the command line write a job with this module and start
`python -m strategies.forecast.training.network_training --job job.json`; nothing here loads torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from daemon.domain.bar import FIELDS, Floats
from daemon.domain.failures import ConfigurationError, ModelError
from daemon.domain.units import Timeframe
from strategies.forecast.inputs.covariates import Known, checked, needed
from strategies.forecast.inputs.series_file import read_known, write_known
from strategies.forecast.inputs.windows import SEQUENCE_BARS, SEQUENCE_BARS_MAX, SEQUENCE_BARS_MIN
from strategies.forecast.networks.config import ListLoss, NetworkKind

Longs = npt.NDArray[np.int64]
Bars = Mapping[Timeframe, tuple[Longs, Floats]]  # close_ms (T,), values (T, N, 5)

MEMBERS_MAX: Final = 20  # of a fold
FOLDS_MAX: Final = 12
_JOB_FILE: Final = "job.json"
_BARS_FILE: Final = "bars.npz"
_SERIES_FILE: Final = "series.npz"


class Device(StrEnum):
    """Name what networks are trained on; auto is a GPU where there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """Name what networks are trained in; bf16 is torch's autocast, weights stay fp32."""

    FP32 = "fp32"
    BF16 = "bf16"


class Tune(StrEnum):
    """Name how much of a stored model learns on; none trains a new one."""

    NONE = "none"
    RECALIBRATE = "recalibrate"
    HEAD = "head"
    LAST = "last"
    FULL = "full"


class Selection(StrEnum):
    """Name how tabular kinds choose among their columns; see `training.selection`."""

    NONE = "none"
    CORRELATION = "correlation"
    ELIMINATION = "elimination"
    LASSO = "lasso"


class OriginKind(StrEnum):
    """Name where training data may come from."""

    GENERATED = "generated"
    EXCHANGE = "exchange"
    FILES = "files"


@dataclass(frozen=True, slots=True)
class Origin:
    """Hold where data comes from: `name` is the generator's seed, the exchange id or the folder."""

    kind: OriginKind
    name: str


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Hold the knobs of a training run.

    budget_seconds buys a number of optimiser steps at the nominal speed of one thread; the clock is
    never asked, so the same settings and data give the same model. lag_bars: source bars from the
    decision to the entry price of the label. members: of each fold, by seed; those of all folds are
    kept. Shares are of the whole stretch of data. shuffled: labels change places within each
    instant, which leaves nothing to find: for controls only.
    batch_rows: sequences of a step, all timeframes together, cut to whole cross-sections. What
    networks alone read begins at `network`; for shape and regularisation see `NetworkConfig`.
    weight_averaging: the mean of the weights over the last quarter of the steps is kept. What
    begins at `trees` is for tabular kinds: leaf_share is the smallest share of its rows that a leaf
    of a tree holds; stack: the kinds of which a stack is made; components: 0 reads columns.
    """

    seed: int = 7
    members: int = 2
    budget_seconds: float = 30.0
    folds: int = 1
    hidden: int = 32
    embedding: int = 32
    batch_rows: int = 576
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    feature_dropout: float = 0.3
    dropout: float = 0.3
    lag_bars: int = 1
    stop_share: float = 0.12
    test_share: float = 0.18
    steps: int | None = None
    shuffled: bool = False
    sequence_bars: int = SEQUENCE_BARS
    network: NetworkKind = NetworkKind.BILSTM
    layers: int = 1
    cross_asset: bool = False
    time_dropout: float = 0.0
    weight_drop: float = 0.0
    zoneout: float = 0.0
    weight_averaging: bool = False
    ic_loss: bool = True
    list_loss: ListLoss = ListLoss.NONE
    device: Device = Device.CPU
    precision: Precision = Precision.FP32
    tune: Tune = Tune.NONE
    trees: int = 300
    leaf_share: float = 0.005
    selection: Selection = Selection.NONE
    components: int = 0
    stack: tuple[str, ...] = ("lightgbm", "forest", "ridge")

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigurationError(f"train.{name} = {value}: accepted {low} .. {high}")


_RANGES: Final = (
    ("seed", 0, 2**31 - 1),
    ("members", 1, MEMBERS_MAX),
    ("budget_seconds", 1, 1_000_000),
    ("folds", 1, FOLDS_MAX),
    ("hidden", 4, 256),
    ("embedding", 4, 256),
    ("batch_rows", 16, 65_536),
    ("learning_rate", 1e-6, 1.0),
    ("weight_decay", 0.0, 10.0),
    ("feature_dropout", 0.0, 0.9),
    ("dropout", 0.0, 0.9),
    ("lag_bars", 0, 48),
    ("stop_share", 0.05, 0.4),
    ("test_share", 0.05, 0.5),
    ("steps", 1, 10_000_000),
    ("sequence_bars", SEQUENCE_BARS_MIN, SEQUENCE_BARS_MAX),
    ("layers", 1, 4),
    ("time_dropout", 0.0, 0.9),
    ("weight_drop", 0.0, 0.9),
    ("zoneout", 0.0, 0.9),
    ("trees", 10, 5_000),
    ("leaf_share", 0.0001, 0.2),
    ("components", 0, 200),
)


@dataclass(frozen=True, slots=True)
class Job:
    """Hold one training run: what to learn from, for which timeframes, and where to put it.

    bars must hold `source` and all `timeframes`; `out` is the registry folder of models. series: of
    each instrument what the covariates need. parent: folder of the model that is tuned, where
    `settings.tune` says so.
    """

    bars: Bars
    symbols: tuple[str, ...]
    source: Timeframe
    timeframes: tuple[Timeframe, ...]
    origin: Origin
    out: Path
    settings: TrainSettings = field(default_factory=TrainSettings)
    covariates: tuple[str, ...] = ()
    series: Known = field(default_factory=dict)
    parent: Path | None = None

    def __post_init__(self) -> None:
        for name in needed(checked(self.covariates)):
            if len(self.series.get(name, ())) != len(self.symbols):
                raise ModelError(f"the training job holds no series {name} of its symbols")
        if (self.parent is None) is not (self.settings.tune is Tune.NONE):
            raise ModelError("a training job tunes a model, or names none")
        if not self.timeframes or len(set(self.timeframes)) != len(self.timeframes):
            raise ModelError("a training job names each of its timeframes once")
        for timeframe in sorted({self.source, *self.timeframes}):
            if timeframe not in self.bars:
                raise ModelError(f"the training job holds no {timeframe.label} bars")
            close_ms, values = self.bars[timeframe]
            wanted = (len(close_ms), len(self.symbols), FIELDS)
            if values.shape != wanted:
                raise ModelError(
                    f"{timeframe.label} bars have shape {values.shape}, want {wanted} (T, N, 5)"
                )


def write_job(job: Job, folder: Path) -> Path:
    """Write a job into `folder` (bars as .npz, the rest as JSON) and give the JSON's path."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for timeframe, (close_ms, values) in job.bars.items():
        arrays[f"close_ms_{timeframe.minutes}"] = np.asarray(close_ms, dtype=np.int64)
        arrays[f"values_{timeframe.minutes}"] = np.asarray(values, dtype=np.float64)
    np.savez(folder / _BARS_FILE, allow_pickle=False, **arrays)
    beside: dict[str, object] = {"covariates": job.covariates} if job.covariates else {}
    if beside:
        write_known(job.series, folder / _SERIES_FILE)
    text = json.dumps(
        {
            **beside,
            "bars": _BARS_FILE,
            "symbols": job.symbols,
            "source_minutes": job.source.minutes,
            "timeframes_minutes": [t.minutes for t in job.timeframes],
            "origin": asdict(job.origin),
            "out": os.fspath(job.out.absolute()),
            "settings": asdict(job.settings),
            "parent": None if job.parent is None else os.fspath(job.parent.absolute()),
        },
        indent=1,
    )
    path = folder / _JOB_FILE
    path.write_text(text, encoding="utf-8")
    return path


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    bars: str
    symbols: tuple[str, ...]
    source_minutes: int
    timeframes_minutes: tuple[int, ...]
    origin: Origin
    out: str
    settings: TrainSettings
    parent: str | None
    covariates: tuple[str, ...] = ()


def fingerprint(job: Job) -> str:
    """Hash symbols, bars and series, so that a manifest names exactly what was learned from."""
    digest = hashlib.sha256(json.dumps(job.symbols).encode())
    for timeframe in sorted(job.bars):
        close_ms, values = job.bars[timeframe]
        digest.update(timeframe.label.encode())
        digest.update(np.ascontiguousarray(close_ms, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    for name in needed(job.covariates):
        for series in job.series[name]:
            digest.update(name.encode())
            if series is not None:
                digest.update(str(series.stale_ms).encode())
                for column in (series.ts, series.known_ms):
                    digest.update(np.ascontiguousarray(column, dtype="<i8").tobytes())
                digest.update(np.ascontiguousarray(series.values, dtype="<f8").tobytes())
    return digest.hexdigest()


def read_job(path: Path) -> Job:
    """Read what `write_job` wrote; raise ModelError naming the file and what is wrong with it."""
    try:
        written = msgspec.json.decode(path.read_bytes(), type=_Written)
    except OSError as e:
        raise ModelError(f"training job {path}: {e.strerror}") from e
    except msgspec.DecodeError as e:
        raise ModelError(f"training job {path}: {e}") from e
    minutes: Sequence[int] = sorted({written.source_minutes, *written.timeframes_minutes})
    return Job(
        bars=_read_bars(path.parent / written.bars, minutes),
        symbols=written.symbols,
        source=Timeframe(written.source_minutes),
        timeframes=tuple(Timeframe(m) for m in written.timeframes_minutes),
        origin=written.origin,
        out=Path(written.out),
        settings=written.settings,
        covariates=written.covariates,
        parent=None if written.parent is None else Path(written.parent),
        series=read_known(path.parent / _SERIES_FILE) if written.covariates else {},
    )


def _read_bars(path: Path, minutes: Sequence[int]) -> Bars:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {Timeframe(m): (arrays[f"close_ms_{m}"], arrays[f"values_{m}"]) for m in minutes}
    except (OSError, ValueError, KeyError, EOFError) as e:
        raise ModelError(f"training bars {path}: {e}") from e
