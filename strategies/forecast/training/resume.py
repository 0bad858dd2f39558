"""Let a training that was killed go on where it was, to the same model.

Beside the models, in `.training/<hash of the job>`, lie the finished members and the state of the
one at work: weights, optimiser, early stopping and the number of the step. What a step draws
follows from its number and the seed alone, so nothing else is needed. Each file is one safetensors
with its JSON in the header, put in place in one move: a kill leaves it whole or as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from daemon.domain.failures import ModelError
from strategies.forecast.checkpoint import SCHEMA
from strategies.forecast.inputs.covariates import column_names
from strategies.forecast.inputs.features import feature_hash
from strategies.forecast.training.job import Job, fingerprint
from strategies.forecast.training.unit import code_hash

FOLDER: Final = ".training"
KEPT_MAX: Final = 4  # folders of trainings that were never finished
_CURRENT: Final = "current.safetensors"

Tensors = Mapping[str, Tensor]


class TrainingFolder:
    """Keep the states of one job; made again with an equal job on such a device it finds them."""

    def __init__(self, job: Job, device: str) -> None:
        self._root = job.out / FOLDER
        self.path = self._root / _job_hash(job, device)

    def finished(self, fold: int, member: int) -> Tensors | None:
        """Give the weights of a finished member, None if it is not finished."""
        found = _read(self.path / f"{fold}-{member}.safetensors")
        return None if found is None else found[0]

    def finish(self, fold: int, member: int, weights: Tensors) -> None:
        """Keep a finished member."""
        self._write(f"{fold}-{member}.safetensors", weights, {})

    def state(self, fold: int, member: int) -> tuple[Tensors, dict[str, Any]] | None:
        """Give the state of the member at work, None if there is none of this member."""
        found = _read(self.path / _CURRENT)
        mine = found is not None and found[1]["member"] == [fold, member]
        return found if mine else None

    def keep(self, fold: int, member: int, tensors: Tensors, more: Mapping[str, Any]) -> None:
        """Keep the state of the member at work in place of the one before."""
        self._write(_CURRENT, tensors, {"member": [fold, member], **more})

    def remove(self) -> None:
        """Forget this job, and the oldest of others that were never finished."""
        shutil.rmtree(self.path, ignore_errors=True)
        others = [p for p in self._root.iterdir() if p.is_dir()] if self._root.is_dir() else []
        for old in sorted(others, key=lambda p: p.stat().st_mtime)[:-KEPT_MAX]:
            shutil.rmtree(old, ignore_errors=True)
        if not others and self._root.is_dir():
            self._root.rmdir()

    def _write(self, name: str, tensors: Tensors, more: Mapping[str, Any]) -> None:
        plain = {k: v.detach().to("cpu").contiguous() for k, v in tensors.items()}
        raw = to_safetensors(plain, metadata={"json": json.dumps(more)})
        self.path.mkdir(parents=True, exist_ok=True)
        draft = self.path / f".{name}.{os.getpid()}"
        try:
            with draft.open("wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path / name)
        except OSError as e:
            raise ModelError(f"training state {self.path / name}: {e.strerror}") from e


def _job_hash(job: Job, device: str) -> str:
    """Hash all that a training's numbers depend on."""
    parts = (
        code_hash(),
        device,
        SCHEMA,
        torch.__version__,
        fingerprint(job),
        feature_hash(column_names(job.covariates)),
        job.source.minutes,
        [t.minutes for t in job.timeframes],
        asdict(job.settings),
        "" if job.parent is None else job.parent.name,
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            more = json.loads(file.metadata()["json"])
            return {name: file.get_tensor(name) for name in file.keys()}, more  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as e:
        raise ModelError(f"training state {path}: {e}; remove its folder to begin anew") from e
