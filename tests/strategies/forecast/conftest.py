"""One small trained model of each kind for all tests of this folder that need one."""

from __future__ import annotations

from pathlib import Path

import pytest

from strategies.forecast.training.job import Job, TrainSettings
from strategies.forecast.training.network_training import train_model
from strategies.forecast.training.process import Progress
from strategies.forecast.training.ridge_training import train_ridge
from tests.strategies.forecast.markets import job, reverting

SETTINGS = TrainSettings(
    steps=90, hidden=8, embedding=8, batch_rows=240, feature_dropout=0.1, dropout=0.1
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path, list[Progress]]:
    """Train on a market that reverts strongly; give the job, the model's folder, the progress."""
    out = tmp_path_factory.mktemp("models")
    small = job(reverting(75, 10, 0.06), out, SETTINGS)
    told: list[Progress] = []
    return small, train_model(small, progress=told.append), told


@pytest.fixture(scope="session")
def trained_ridge(trained: tuple[Job, Path, list[Progress]]) -> tuple[Job, Path, list[Progress]]:
    """Fit a ridge on the same job, into the same registry."""
    told: list[Progress] = []
    return trained[0], train_ridge(trained[0], progress=told.append), told
