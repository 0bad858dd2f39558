"""The process that trains: a written job in, JSON lines out. Each kind of model is one such module.

    python -m strategies.forecast.training.network_training --job job.json             # the Bi-LSTM
    python -m strategies.forecast.training.ridge_training --job job.json    # the ridge
    python -m strategies.forecast.training.lightgbm_training --job job.json    # and so on

One line per step of progress and a last one with the model's id, or with the error. Loads no torch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from daemon.domain.failures import EquipoiseError
from strategies.forecast import checkpoint
from strategies.forecast.training.job import Job, read_job
from strategies.forecast.training.memory import keep_freed_memory


@dataclass(frozen=True, slots=True)
class Progress:
    """Tell how far a training run is; rank_ic: of the stop part, NaN until or unless measured."""

    done_steps: int
    total_steps: int
    stage: str
    rank_ic: float


Report = Callable[[Progress], None]


class Train(Protocol):
    """Train a kind of model on a job and give the folder of what was stored."""

    def __call__(self, job: Job, *, progress: Report | None = None) -> Path:
        """Raise ModelError when the data are too few for the folds."""
        ...


def run_process(train: Train, arguments: Sequence[str]) -> int:
    """Run a written job; JSON lines on stdout: progress, then done or error. Give the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", type=Path, required=True, help="the job.json of write_job")
    job_path: Path = parser.parse_args(arguments).job
    keep_freed_memory()
    try:
        folder = train(read_job(job_path), progress=_tell_progress)
        manifest = checkpoint.load(folder).manifest
    except EquipoiseError as e:
        _tell({"event": "error", "error": str(e), "exit_code": e.exit_code})
        return e.exit_code
    scores = [asdict(s) for s in manifest.scores]
    done = {"event": "done", "id": folder.name, "path": str(folder), "kind": manifest.kind}
    _tell(done | {"scores": scores})
    return 0


def _tell_progress(progress: Progress) -> None:
    rank_ic = None if np.isnan(progress.rank_ic) else progress.rank_ic
    _tell({"event": "progress", **asdict(progress), "rank_ic": rank_ic})


def _tell(line: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
