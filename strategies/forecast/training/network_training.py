"""Train the network: the whole loop, top to bottom, in one file.

    python -m strategies.forecast.training.network_training --job job.json

trains in a process of its own (see `process`), so the one that trades never loads torch. One number
seeds Python, NumPy and torch; the number of steps follows from the settings and the data, never
from a clock: the same job gives the same model.

Loss: beta-NLL (beta 0.5) first, then the mean over instants of minus the cross-section's
correlation, with a tenth of the NLL to keep scale and variance honest. A batch is some instants of
one timeframe with all their instruments. Early stopping keeps the state with the best RankIC on the
part of time after the training part; the test part after that is seen once, for scores and
calibration.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from daemon.domain.bar import Floats
from strategies.forecast import checkpoint
from strategies.forecast.inputs.covariates import column_names
from strategies.forecast.inputs.dataset import Table, build_tables, cut_folds
from strategies.forecast.inputs.windows import CHANNELS_N, SEQUENCE_BARS, sequences
from strategies.forecast.networks.bilstm import BiLstm, NetworkConfig
from strategies.forecast.training.evaluation import Forecaster, OutOfSample, describe, score
from strategies.forecast.training.job import Job, Longs, TrainSettings
from strategies.forecast.training.process import Progress, Report, run_process
from strategies.forecast.training.splits import Fold, Span

SPEED: Final = 17_000 * 12 * 32  # rows x bars x hidden that one thread learns from in a second
EPOCHS_MAX: Final = 12
STEPS_MIN: Final = 20
EVALUATIONS: Final = 8
WARM_UP_SHARE: Final = 0.15  # share of steps with the likelihood alone
NLL_WEIGHT: Final = 0.1
BETA: Final = 0.5
GRADIENT_NORM_MAX: Final = 1.0
PREDICT_INSTANTS: Final = 256
LIBRARIES: Final = ("numpy", "torch", "safetensors")


def train_model(job: Job, *, progress: Report | None = None) -> Path:
    """Train, score, calibrate and save a model into `job.out`; give its folder (named by its id).

    Raises ModelError when the data are too few for the folds.
    """
    settings, report = job.settings, progress or (lambda _: None)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tables = build_tables(job)
    folds = cut_folds(job, tables)
    steps = steps_for(settings, tables, folds)
    total = steps * settings.members * len(folds)
    outcome = OutOfSample(tables)
    members: list[BiLstm] = []
    for number, fold in enumerate(folds):
        members = []
        for member in range(settings.members):
            done = steps * (number * settings.members + member)
            stage = f"fold {number + 1}/{len(folds)}, member {member + 1}/{settings.members}"

            def told(step: int, ic: float, *, done: int = done, stage: str = stage) -> None:
                report(Progress(done + step, total, stage, ic))

            seed = settings.seed + 1000 * number + member
            members.append(_train_member(settings, tables, fold, steps, seed, told))
        outcome.add(number, fold, _forecaster(members))
    manifest = _describe(job, steps, outcome)
    return checkpoint.save(manifest, _weights(members), job.out)


# ---- the loop ------------------------------------------------------------------------------------


def steps_for(settings: TrainSettings, tables: Sequence[Table], folds: Sequence[Fold]) -> int:
    """Turn the budget into optimiser steps per member, from sizes alone."""
    if settings.steps is not None:
        return settings.steps
    N = int(tables[0].y.shape[1])
    rows = _instants_per_batch(settings, tables) * N
    runs = settings.members * len(folds)
    speed = SPEED / (SEQUENCE_BARS * settings.hidden)
    bought = int(settings.budget_seconds * speed / (rows * runs))
    samples = sum(len(t.within(folds[-1].train)) for t in tables) * N
    return max(STEPS_MIN, min(bought, EPOCHS_MAX * samples // rows))


def _instants_per_batch(settings: TrainSettings, tables: Sequence[Table]) -> int:
    return max(4, round(settings.batch_rows / int(tables[0].y.shape[1])))


def _train_member(
    settings: TrainSettings,
    tables: Sequence[Table],
    fold: Fold,
    steps: int,
    seed: int,
    told: Callable[[int, float], None],
) -> BiLstm:
    draw = seed_everything(seed)
    network = BiLstm(_config(settings, tables))
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=settings.learning_rate, total_steps=steps + 1
    )
    train = [t.within(fold.train) for t in tables]
    keeper = _Keeper(network, tables, fold.stop)
    batch = _instants_per_batch(settings, tables)
    for step in range(steps):
        place = step % len(tables)
        chosen = draw.choice(train[place], size=min(batch, len(train[place])), replace=False)
        x, y = _batch(tables[place], chosen)
        mean, log_variance = network(x, place)
        warm = step < WARM_UP_SHARE * steps
        value = loss(mean.view_as(y), log_variance.view_as(y), y, warm=warm)
        optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM_MAX)
        optimiser.step()
        schedule.step()
        if (step + 1) % max(1, steps // EVALUATIONS) == 0 or step + 1 == steps:
            keeper.look()
        told(step + 1, keeper.rank_ic)
    return keeper.best()


def seed_everything(seed: int) -> np.random.Generator:
    """Seed Python, NumPy and torch from one number and give a generator for batches."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def loss(mean: Tensor, log_variance: Tensor, y: Tensor, *, warm: bool) -> Tensor:
    """Give the loss of a batch (B, N); labels that are NaN do not count.

    warm: beta-NLL alone; else minus the mean correlation per instant plus a tenth of it.
    """
    known = torch.isfinite(y)
    y = torch.where(known, y, 0.0)
    count = known.sum(dim=1, keepdim=True).clamp(min=1)
    centre = torch.where(known, mean, 0.0).sum(dim=1, keepdim=True) / count  # (B, 1)
    f = torch.where(known, mean - centre, 0.0)  # (B, N)
    nll = 0.5 * (log_variance + (y - f) ** 2 * torch.exp(-log_variance))
    weight = torch.exp(BETA * log_variance).detach()
    likelihood = (torch.where(known, nll * weight, 0.0)).sum() / known.sum().clamp(min=1)
    if warm:
        return likelihood
    size = ((f * f).sum(dim=1) * (y * y).sum(dim=1) + 1e-8).sqrt()
    correlation = (f * y).sum(dim=1) / size  # (B, N) -> (B,)
    return NLL_WEIGHT * likelihood - correlation.mean()


class _Keeper:
    """Keep the state with the best RankIC on the stop part, averaged over two looks in a row."""

    def __init__(self, network: BiLstm, tables: Sequence[Table], span: Span) -> None:
        self._network = network
        self._tables = tables
        self._rows = [t.within(span) for t in tables]
        self._best = float("-inf")
        self._state: Mapping[str, Tensor] = {}
        self._last = float("nan")
        self.rank_ic = float("nan")

    def look(self) -> None:
        """Measure the stop part and remember the state if it is the best so far."""
        found = []
        for table, rows in zip(self._tables, self._rows, strict=True):
            forecasts = predict(self._network, table, rows)
            found.append(score(table, rows, forecasts).rank_ic)
        now = float(np.nanmean(found)) if np.isfinite(found).any() else 0.0
        self.rank_ic = now if np.isnan(self._last) else 0.5 * (now + self._last)
        self._last = now
        if self.rank_ic > self._best:
            self._best = self.rank_ic
            self._state = {k: v.clone() for k, v in self._network.state_dict().items()}

    def best(self) -> BiLstm:
        """Put the best state back and give the network."""
        self._network.load_state_dict(self._state)
        return self._network.eval()


def predict(network: BiLstm, table: Table, rows: Longs) -> Floats:
    """Forecast rows (M,) of a table: (M, N) raw means, NaN where there is no sequence."""
    was_training = network.training
    network.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(rows), PREDICT_INSTANTS):
            part = rows[start : start + PREDICT_INSTANTS]
            x, _ = _batch(table, part)
            mean, _ = network(x, table.place)
            found.append(mean.view(len(part), -1).numpy().astype(np.float64))
    network.train(was_training)
    N = table.y.shape[1]
    raw = np.concatenate(found) if found else np.empty((0, N))
    return np.where(np.isfinite(table.y[rows]), raw, np.nan)


def _batch(table: Table, rows: Longs) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(sequences(table.inputs, rows))  # (B, L, N, C)
    B, L, N, C = x.shape
    x = x.permute(0, 2, 1, 3).reshape(B * N, L, C)  # (B, L, N, C) -> (B * N, L, C)
    return x, torch.from_numpy(table.y[rows].astype(np.float32))


def _config(settings: TrainSettings, tables: Sequence[Table]) -> NetworkConfig:
    return NetworkConfig(
        channels=tables[0].inputs.shape[-1],
        timeframes=len(tables),
        hidden=settings.hidden,
        embedding=settings.embedding,
        sequence_bars=SEQUENCE_BARS,
        feature_dropout=settings.feature_dropout,
        dropout=settings.dropout,
    )


# ---- what came of it -----------------------------------------------------------------------------


def _forecaster(members: Sequence[BiLstm]) -> Forecaster:
    return lambda table, rows: np.array([predict(network, table, rows) for network in members])


def _weights(members: Sequence[BiLstm]) -> checkpoint.Weights:
    return {
        f"{number}.{name}": value.detach().numpy()
        for number, network in enumerate(members)
        for name, value in network.state_dict().items()
    }


def _describe(job: Job, steps: int, outcome: OutOfSample) -> checkpoint.Manifest:
    settings = job.settings
    shape = checkpoint.Shape(
        channels=CHANNELS_N + len(column_names(job.covariates)),
        timeframes=len(job.timeframes),
        hidden=settings.hidden,
        embedding=settings.embedding,
        sequence_bars=SEQUENCE_BARS,
        members=settings.members,
    )
    return describe(
        job, outcome, kind=checkpoint.BILSTM, shape=shape, steps=steps, libraries=LIBRARIES
    )


if __name__ == "__main__":
    sys.exit(run_process(train_model, sys.argv[1:]))
