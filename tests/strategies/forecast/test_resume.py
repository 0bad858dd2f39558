"""A training that is killed goes on where it was and ends at the same model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from daemon.domain.failures import ModelError
from strategies.forecast import checkpoint
from strategies.forecast.training import resume
from strategies.forecast.training.job import Job, write_job
from strategies.forecast.training.network_training import train_model
from strategies.forecast.training.process import Progress
from strategies.forecast.training.resume import FOLDER, TrainingFolder
from tests.strategies.forecast.conftest import SETTINGS
from tests.strategies.forecast.markets import job, reverting

LONG = replace(
    SETTINGS, steps=40, members=2, time_dropout=0.2, weight_averaging=True, weight_drop=0.1
)


class Killed(Exception):
    """End a training from inside, as a kill would."""


@pytest.fixture(scope="module")
def whole_job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return job(reverting(48, 4, 0.05), tmp_path_factory.mktemp("whole"), LONG)


@pytest.fixture(scope="module")
def whole(whole_job: Job) -> tuple[Job, str]:
    """Train without interruption; give the job and the model's id."""
    return whole_job, train_model(whole_job).name


def test_a_network_is_trained_on_one_thread(whole_job: Job, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    try:
        interrupted(replace(whole_job, out=tmp_path), 1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)


def interrupted(small: Job, at_step: int) -> None:
    def stop(progress: Progress) -> None:
        if progress.done_steps == at_step:
            raise Killed

    with pytest.raises(Killed):
        train_model(small, progress=stop)


def resumed(small: Job) -> tuple[str, int]:
    """Train on; give the model's id and the first step that was done."""
    told: list[Progress] = []
    return train_model(small, progress=told.append).name, told[0].done_steps


# killed by itself: what a process gets done until somebody else kills it hangs on who runs beside
KILLED_AT_50 = """
import os, signal, sys
from pathlib import Path
from strategies.forecast.training.job import read_job
from strategies.forecast.training.network_training import train_model

def told(progress):
    if progress.done_steps == 50:
        os.kill(os.getpid(), signal.SIGKILL)

train_model(read_job(Path(sys.argv[1])), progress=told)
"""


def test_a_killed_process_is_resumed_to_the_same_model(
    whole: tuple[Job, str], tmp_path: Path
) -> None:
    small = replace(whole[0], out=tmp_path / "models")
    path = write_job(small, tmp_path / "job")
    command = [sys.executable, "-c", KILLED_AT_50, os.fspath(path)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [p.name for p in small.out.iterdir()] == [FOLDER], "no model yet"
    model, first = resumed(small)
    assert model == whole[1]
    assert first == 49, "the first member is not trained again, nor the second from its start"
    assert [p.name for p in small.out.iterdir()] == [model], "nothing is left of the training"


@pytest.mark.parametrize("at_step", [2, 38])
def test_a_kill_before_the_first_state_or_amid_averaging_changes_nothing(
    whole: tuple[Job, str], tmp_path: Path, at_step: int
) -> None:
    small = replace(whole[0], out=tmp_path)
    interrupted(small, at_step)
    model, first = resumed(small)
    assert (model, first) == (whole[1], {2: 1, 38: 37}[at_step])


def test_another_job_begins_anew(whole: tuple[Job, str], tmp_path: Path) -> None:
    small = replace(whole[0], out=tmp_path)
    interrupted(small, 20)
    assert resumed(replace(small, settings=replace(LONG, seed=8, steps=4)))[1] == 1
    assert (tmp_path / FOLDER).exists(), "the interrupted one can still go on"
    changed = reverting(48, 4, 0.05, seed=2)
    other = job(changed, tmp_path, LONG)
    assert TrainingFolder(other, "cpu").path != TrainingFolder(small, "cpu").path
    assert TrainingFolder(small, "cuda").path != TrainingFolder(small, "cpu").path


def test_another_version_of_the_program_begins_anew(
    whole_job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(whole_job, out=tmp_path)
    ours = TrainingFolder(small, "cpu").path
    monkeypatch.setattr(resume, "code_hash", lambda: "of a later version")
    assert TrainingFolder(small, "cpu").path != ours


def test_trainings_that_were_never_finished_are_few(whole: tuple[Job, str], tmp_path: Path) -> None:
    folders = []
    for seed in range(7):
        small = replace(whole[0], out=tmp_path, settings=replace(LONG, seed=seed))
        folders.append(TrainingFolder(small, "cpu"))
        folders[-1].keep(0, 0, {"a/b": torch.zeros(1)}, {})
        os.utime(folders[-1].path, (seed, seed))
    folders[6].remove()
    assert [f.path.exists() for f in folders] == [False, False, True, True, True, True, False]


def test_a_damaged_state_is_named(whole: tuple[Job, str], tmp_path: Path) -> None:
    small = replace(whole[0], out=tmp_path)
    interrupted(small, 10)
    (state,) = (tmp_path / FOLDER).rglob("current.safetensors")
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"current\.safetensors: .*remove its folder"):
        train_model(small)


def test_models_are_not_found_among_states(whole: tuple[Job, str], tmp_path: Path) -> None:
    small = replace(whole[0], out=tmp_path)
    interrupted(small, 10)
    with pytest.raises(ModelError, match=r"manifest\.json"):
        checkpoint.load(TrainingFolder(small, "cpu").path)
