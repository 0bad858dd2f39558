"""One unit of a walk-forward: one fold of one arm and one seed, kept as a file.

A file is named by the hash of everything that determines it: kind, settings, fold, seed, data,
features, the program's own text and the versions of the libraries behind the figures. What is there
is not computed again, so a killed run resumes; what differs in anything has another name. The file
is safetensors: of each timeframe of k minutes `close_<k>` (M,), `mean_<k>` and `noise_<k>` (M, N),
raw, for the test part, and the same after `stop_` for the stop part and, where a unit asks for it,
after `learned_` for instants of the training part.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from daemon.domain.bar import Floats
from daemon.domain.failures import CorruptFile, DataError
from daemon.domain.units import Timeframe, require
from strategies.forecast.inputs.blocks import blanked
from strategies.forecast.inputs.covariates import column_names
from strategies.forecast.inputs.dataset import Table, build_tables
from strategies.forecast.inputs.features import feature_hash
from strategies.forecast.training.fitting import Fitted, NoNumbers, Told, libraries, trainer_of
from strategies.forecast.training.job import Job, Longs, TrainSettings, read_job
from strategies.forecast.training.splits import Fold, Span, Spans

SCHEMA: Final = 2
SUFFIX: Final = ".safetensors"
DRAFT: Final = ".part"
_DETERMINED: Final = "determined_by"
_CHECKSUM: Final = "content_sha256"
_HASH_DIGITS: Final = 32
_ROOT: Final = Path(__file__).resolve().parents[3]
ROOMS: Final = ("strategies/forecast", "daemon/statistics", "daemon/domain")


@dataclass(frozen=True, slots=True)
class Unit:
    """Name one fit: module that trains the kind, fold, settings, and the data by fingerprint.

    settings.seed is the seed of the fit; lag_bars must be that of the job, sequence_bars at most
    the job's, whose instants count for all. timeframes: which of the job's are learned from, none:
    all. probes: at how many instants of the training part it is asked as well. blanked: blocks of
    inputs that it does without, see `inputs.blocks`.
    """

    kind: str
    module: str
    fold: Fold
    settings: TrainSettings
    data: str
    timeframes: tuple[Timeframe, ...] = ()
    probes: int = 0
    blanked: tuple[str, ...] = ()

    def frames(self, job: Job) -> tuple[Timeframe, ...]:
        """Give the timeframes that it learns from, in the order of the job."""
        return self.timeframes or job.timeframes


@dataclass(frozen=True, slots=True)
class UnitTask:
    """Hand a unit to a worker: the written job, and the folder of the units' files."""

    unit: Unit
    job: Path
    folder: Path


@dataclass(frozen=True, slots=True)
class Part:
    """Hold raw forecasts of one timeframe: close_ms (M,), mean and noise (M, N), NaN = none."""

    close_ms: Longs
    mean: Floats
    noise: Floats


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Hold what a unit's file holds, by timeframe; learned: empty unless the unit asked for it."""

    test: Mapping[Timeframe, Part]
    stop: Mapping[Timeframe, Part]
    learned: Mapping[Timeframe, Part] = field(default_factory=dict)


Watch = Callable[[Fitted, Sequence[Table]], None]  # told of a model before its file is written


def determined_by(unit: Unit, job: Job) -> dict[str, object]:
    """Give everything that determines a unit's file, as plain values."""
    return {
        "schema": SCHEMA,
        "kind": unit.kind,
        "module": unit.module,
        "fold": {name: _spans(getattr(unit.fold, name)) for name in ("train", "stop", "test")},
        "data": unit.data,
        "settings": asdict(unit.settings),
        "symbols": job.symbols,
        "source_minutes": job.source.minutes,
        "timeframes_minutes": [t.minutes for t in unit.frames(job)],
        "instants_of_bars": job.settings.sequence_bars,
        "probes": unit.probes,
        "blanked": unit.blanked,
        "covariates": job.covariates,
        "features": feature_hash(column_names(job.covariates)),
        "code": code_hash(),
        "versions": {
            name: version(name) for name in libraries(unit.module, unit.kind, unit.settings)
        },
    }


def unit_path(folder: Path, unit: Unit, job: Job) -> Path:
    """Name the file of a unit."""
    text = json.dumps(determined_by(unit, job), sort_keys=True)
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]}{SUFFIX}"


@cache
def code_hash(rooms: tuple[str, ...] = ROOMS) -> str:
    """Hash the program's text in some rooms, unless told otherwise those that decide forecasts."""
    digest = hashlib.sha256()
    for room in rooms:
        for path in sorted((_ROOT / room).rglob("*.py")):
            digest.update(path.relative_to(_ROOT).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def run_unit(
    task: UnitTask, told: Told, watch: Watch | None = None, *, instead: Fitted | None = None
) -> Path:
    """Fit a unit and write its file, unless it is there; give the file. Runs in a worker.

    instead: speaks in the place of a fit that never forecast numbers; without it NoNumbers is
    raised.
    """
    unit, job = task.unit, _job_of(task.job)
    path = unit_path(task.folder, unit, job)
    if path.exists():
        return path
    fold, settings = unit.fold, unit.settings
    require(settings.lag_bars == job.settings.lag_bars, "a unit's lag is not that of its labels")
    require(settings.sequence_bars <= job.settings.sequence_bars, "a sequence beyond the job's")
    frames = unit.frames(job)
    built = {table.timeframe: table for table in tables_of(task.job)}
    tables = [replace(built[t], place=place) for place, t in enumerate(frames)]
    if unit.blanked:
        tables = [blanked(table, unit.blanked, job.covariates) for table in tables]
    asked = replace(job, settings=settings, timeframes=frames)
    try:
        fit = trainer_of(unit.module).fit_fold
        fitted = fit(asked, tables, fold, seed=settings.seed, told=told)
    except NoNumbers:
        if instead is None:
            raise
        fitted = instead
    if watch is not None:
        watch(fitted, tables)
    arrays = _forecast(fitted, tables, fold.test, "") | _forecast(
        fitted, tables, fold.stop, "stop_"
    )
    if unit.probes:
        arrays |= _forecast(fitted, tables, fold.train, LEARNED, unit.probes)
    _write(path, arrays, json.dumps(determined_by(unit, job), sort_keys=True))
    return path


def _forecast(
    fitted: Fitted, tables: Sequence[Table], span: Span | Spans, prefix: str, most: int = 0
) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for table in tables:
        rows, minutes = table.decided(span), table.timeframe.minutes
        if most:
            rows = rows[np.unique(np.linspace(0, len(rows) - 1, most).round().astype(np.int64))]
        mean, noise = fitted.forecast(table, rows)
        arrays[f"{prefix}close_{minutes}"] = table.close_ms[rows]
        arrays[f"{prefix}mean_{minutes}"] = np.ascontiguousarray(mean)
        arrays[f"{prefix}noise_{minutes}"] = np.ascontiguousarray(noise)
    return arrays


@lru_cache(maxsize=1)
def _job_of(path: Path) -> Job:
    return read_job(path)


@lru_cache(maxsize=1)
def tables_of(path: Path) -> tuple[Table, ...]:
    """Give the features and labels of a written job, made once in a process."""
    return build_tables(_job_of(path))  # a worker makes features once for all of its units


def _write(path: Path, arrays: Mapping[str, npt.NDArray[Any]], text: str) -> None:
    # one entry of metadata alone: of several the library writes in any order
    about = {_DETERMINED: text, _CHECKSUM: _checksum(arrays)}
    raw = save_arrays(dict(arrays), metadata={"about": json.dumps(about, sort_keys=True)})
    draft = path.with_name(f".{path.name}.{os.getpid()}{DRAFT}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as e:
        raise DataError(f"{path}: cannot be written: {e.strerror}") from e


def _checksum(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def read_unit(path: Path, timeframes: Sequence[Timeframe]) -> Forecasts:
    """Read a unit's file; raise CorruptFile naming it where its content is not what was written."""
    try:
        raw = path.read_bytes()
        arrays = load_arrays(raw)
        with safe_open(path, framework="numpy") as opened:
            about = json.loads((opened.metadata() or {})["about"])
    except (OSError, SafetensorError, KeyError, ValueError) as e:
        raise CorruptFile(f"{path}: no forecasts of ours: {e}; remove it and run again") from e
    if about.get(_CHECKSUM) != _checksum(arrays):
        raise CorruptFile(f"{path}: its content is not what was written; remove it and run again")
    return Forecasts(
        *(
            {
                t: _part(arrays, prefix, t)
                for t in timeframes
                if f"{prefix}close_{t.minutes}" in arrays
            }
            for prefix in ("", "stop_", LEARNED)
        )
    )


LEARNED: Final = "learned_"


def _part(arrays: Mapping[str, npt.NDArray[Any]], prefix: str, timeframe: Timeframe) -> Part:
    return Part(*(arrays[f"{prefix}{name}_{timeframe.minutes}"] for name in _NAMES))


_NAMES: Final = ("close", "mean", "noise")


def _spans(part: Span | Spans) -> list[tuple[int, int]]:
    spans = part.parts if isinstance(part, Spans) else (part,)
    return [(one.start_ms, one.end_ms) for one in spans]
