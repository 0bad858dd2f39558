"""Train networks: the whole loop, top to bottom, in one file.

    python -m strategies.forecast.training.network_training --job job.json

trains in a process of its own (see `process`), so the one that trades never loads torch. One number
seeds Python, NumPy and torch; the number of steps follows from the settings and the data, never
from a clock: the same job gives the same model, also when it was killed and begun again (`resume`).

Products of bars that show in closed form are where a training begins (`found_products`).
Losses stand in `networks.losses`: a likelihood for the first steps, then the order within each
cross-section. A step sees some instants of every timeframe with all their instruments. Early
stopping keeps the weights with the best RankIC on the part of time after the training part; the
test part after that is seen once, for scores and calibration. The members of all folds are kept
(see `evaluation.OutOfSample` for what they are judged by).
"""

from __future__ import annotations

import copy
import math
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from daemon.domain.bar import Floats
from daemon.domain.failures import ConfigurationError
from strategies.forecast import checkpoint
from strategies.forecast.inputs.covariates import column_names
from strategies.forecast.inputs.dataset import Table, build_tables, cut_folds
from strategies.forecast.inputs.windows import CHANNELS_N
from strategies.forecast.networks.config import FoundProduct, NetworkConfig, NetworkKind
from strategies.forecast.networks.losses import total_loss
from strategies.forecast.networks.network import Network
from strategies.forecast.training.averaging import AVERAGED_SHARE, WeightAverage
from strategies.forecast.training.batches import Batches
from strategies.forecast.training.evaluation import Forecaster, OutOfSample, describe, score
from strategies.forecast.training.fitting import Fitted, NoNumbers, Told
from strategies.forecast.training.found_products import find_products
from strategies.forecast.training.job import (
    Device,
    Job,
    Longs,
    Precision,
    TrainSettings,
    Tune,
)
from strategies.forecast.training.process import Progress, Report, run_process
from strategies.forecast.training.resume import TrainingFolder
from strategies.forecast.training.splits import Fold, Span
from strategies.forecast.training.tuning import RATE_SHARE, Tuning

SPEED: Final = 17_000 * 12 * 32  # rows x bars x hidden that one thread learns from in a second
COST: Final = {  # of a kind, beside a Bi-LSTM of so many hidden units in each direction
    NetworkKind.BILSTM: 1.0,
    NetworkKind.LSTM: 0.55,
    NetworkKind.GRU: 0.55,
    NetworkKind.TCN: 0.8,
    NetworkKind.TRANSFORMER: 1.0,
}
EPOCHS_MAX: Final = 12
STEPS_MIN: Final = 20
EVALUATIONS: Final = 8
STATES_KEPT: Final = 20  # times that the state of a member is kept on its way
FIRST_STAGE_SHARE: Final = 0.15  # of the steps, with the likelihood alone
RATE_RISE_SHARE: Final = 0.3  # of the steps
RATE_START: Final = 0.04  # of the settings' learning rate
GRADIENT_NORM_MAX: Final = 1.0
LIBRARIES: Final = ("numpy", "torch", "safetensors")
SEEDED: Final = True


def train_model(job: Job, *, progress: Report | None = None) -> Path:
    """Train, score, calibrate and save a model into `job.out`; give its folder (named by its id).

    Raises ModelError when the data are too few for the folds or a network never forecast numbers,
    ConfigurationError for a device that is not there.
    """
    settings, report = job.settings, progress or (lambda _: None)
    device = device_of(settings)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tables = build_tables(job)
    folds = cut_folds(job, tables)
    tuning = None if job.parent is None else Tuning(job)
    if tuning is not None:
        tuning.refuse_known(folds)
    batches = Batches(tables, settings, device)
    steps = steps_for(settings, batches, tables, folds)
    states = TrainingFolder(job, str(device))
    arm = _Arm(settings, config_of(job), tables, batches, states, steps, tuning)
    total = steps * settings.members * len(folds)
    outcome = OutOfSample(tables)
    members: list[Network] = []  # of all folds so far
    for number, fold in enumerate(folds):
        if tuning is None:
            arm = replace(arm, found=_found(settings, tables, fold))
        for member in range(settings.members):
            done = steps * (number * settings.members + member)
            stage = f"fold {number + 1}/{len(folds)}, member {member + 1}/{settings.members}"

            def told(step: int, ic: float, *, done: int = done, stage: str = stage) -> None:
                report(Progress(done + step, total, stage, ic))

            members.append(_member(arm, fold, (number, member), told))
        learned_ms = fold.train.end_ms if tuning is None else tuning.learned_until(fold)
        outcome.add(number, fold, _forecaster(batches, members), learned_until_ms=learned_ms)
    manifest = _describe(job, steps, outcome, device)
    folder = checkpoint.save(manifest, _weights(members), job.out)
    states.remove()
    return folder


@dataclass(frozen=True, slots=True)
class _Arm:
    """Hold what all members of a fold share; without a folder nothing is kept on the way."""

    settings: TrainSettings
    config: NetworkConfig
    tables: Sequence[Table]
    batches: Batches
    folder: TrainingFolder | None
    steps: int
    tuning: Tuning | None
    found: tuple[FoundProduct, ...] = ()


# ---- the loop ------------------------------------------------------------------------------------


def _train(
    arm: _Arm, fold: Fold, mine: tuple[int, int], told: Callable[[int, float], None]
) -> Network:
    """Train member `mine` (fold, member) or go on with it; give the network with its best state."""
    settings, steps = arm.settings, arm.steps
    seed = settings.seed + 1000 * mine[0] + mine[1]
    seed_everything(seed)
    network = Network(arm.config)
    rows = [[table.within(fold.train)] for table in arm.tables]
    network.begin(arm.found)
    if arm.tuning is not None:
        arm.tuning.begin(network, mine[1])
        rows = arm.tuning.rows(arm.tables, fold) if steps else rows
    network.to(arm.batches.device)
    state = _State(arm, fold, network)
    done = state.restore(mine)
    if (arm.tuning is not None or arm.found) and done == 0:
        state.keeper.look(network.state_dict())  # what it began with may stay the best
    for step in range(done, steps):
        batch = arm.batches.draw(seed_step(seed, step), rows)
        with _autocast(settings, arm.batches.device):
            forecast = network(batch.x, batch.place)
        warm = arm.tuning is None and step < FIRST_STAGE_SHARE * steps
        value = total_loss(
            forecast, batch.y, warm=warm, listed=settings.list_loss, by_ic=settings.ic_loss
        )
        state.optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM_MAX)
        for group in state.optimiser.param_groups:
            group["lr"] = rate(step, steps, settings)
        state.optimiser.step()
        if arm.tuning is not None:
            arm.tuning.pull(network, rate(step, steps, settings))
        if settings.weight_averaging and step >= (1 - AVERAGED_SHARE) * steps:
            state.average.add(network)
        if (step + 1) % max(1, steps // EVALUATIONS) == 0 or step + 1 == steps:
            state.keeper.look(state.average.mean or network.state_dict())
        told(step + 1, state.keeper.rank_ic)
        if (step + 1) % max(1, steps // STATES_KEPT) == 0:
            state.keep(mine, step + 1)
    return state.keeper.best()


def _found(
    settings: TrainSettings, tables: Sequence[Table], fold: Fold
) -> tuple[FoundProduct, ...]:
    rows = [table.within(fold.train) for table in tables]
    return find_products(tables, rows, settings.sequence_bars)


def _member(
    arm: _Arm, fold: Fold, mine: tuple[int, int], told: Callable[[int, float], None]
) -> Network:
    """Give a member: the one that was finished before a kill, or train it."""
    finished = arm.folder.finished(*mine) if arm.folder else None
    if finished is not None:
        network = Network(arm.config)
        network.load_state_dict(dict(finished))
        return network.to(arm.batches.device).eval()
    network = _train(arm, fold, mine, told)
    if arm.folder:
        arm.folder.finish(*mine, network.state_dict())
    return network


def rate(step: int, steps: int, settings: TrainSettings) -> float:
    """Give the learning rate of a step: it rises, then falls to 0 along cosines.

    With weight averaging it stays where it is when the averaged part begins.
    """
    highest = settings.learning_rate * (1.0 if settings.tune is Tune.NONE else RATE_SHARE)
    share = (step + 1) / (steps + 1)
    if settings.weight_averaging:
        share = min(share, 1 - AVERAGED_SHARE)
    if share < RATE_RISE_SHARE:
        risen = 0.5 - 0.5 * math.cos(math.pi * share / RATE_RISE_SHARE)
        return highest * (RATE_START + (1 - RATE_START) * risen)
    fallen = (share - RATE_RISE_SHARE) / (1 - RATE_RISE_SHARE)
    return highest * (0.5 + 0.5 * math.cos(math.pi * fallen))


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch from one number."""
    random.seed(seed)
    np.random.seed(seed)
    _seed_torch(seed)


def _seed_torch(seed: int) -> None:
    """Seed all that torch draws with on the device in use.

    Before a GPU is in use, `torch.manual_seed` would note down for it the seed of every step, each
    with its stack: that costs time, and memory that is never given back.
    """
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def seed_step(seed: int, step: int) -> np.random.Generator:
    """Seed a step from its number, so that it draws the same whatever was done before it."""
    draw = np.random.default_rng((seed, step))
    _seed_torch(int(draw.integers(2**63)))
    return draw


def steps_for(
    settings: TrainSettings, batches: Batches, tables: Sequence[Table], folds: Sequence[Fold]
) -> int:
    """Turn the budget into optimiser steps per member, from sizes alone."""
    if settings.tune is Tune.RECALIBRATE:
        return 0
    if settings.steps is not None:
        return settings.steps
    N, rows = int(tables[0].y.shape[1]), batches.rows_n
    runs = settings.members * len(folds)
    width = settings.hidden * settings.layers * COST[settings.network]
    bought = int(settings.budget_seconds * SPEED / (settings.sequence_bars * width * rows * runs))
    samples = sum(len(t.within(folds[-1].train)) for t in tables) * N
    return max(STEPS_MIN, min(bought, EPOCHS_MAX * samples // rows))


def device_of(settings: TrainSettings) -> torch.device:
    """Choose the device; raise ConfigurationError where a GPU is asked for and there is none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may vary by run
    if settings.device is Device.CUDA and not torch.cuda.is_available():
        raise ConfigurationError("training.device = cuda: torch finds no GPU here; accepted: cpu")
    use_gpu = settings.device is not Device.CPU and torch.cuda.is_available()
    return torch.device("cuda" if use_gpu else "cpu")


def _autocast(settings: TrainSettings, device: torch.device) -> torch.autocast:
    enabled = settings.precision is Precision.BF16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


class _State:
    """Hold what changes while a member is trained, and put it where a next process finds it."""

    def __init__(self, arm: _Arm, fold: Fold, network: Network) -> None:
        settings = arm.settings
        self._folder = arm.folder
        self._network = network
        decay = settings.weight_decay if arm.tuning is None else 0.0  # tuning pulls elsewhere
        learning = [weight for weight in network.parameters() if weight.requires_grad]
        self.optimiser = torch.optim.AdamW(
            learning or network.parameters(), lr=settings.learning_rate, weight_decay=decay
        )
        self.average = WeightAverage()
        self.keeper = BestWeights(copy.deepcopy(network), arm.batches, arm.tables, fold.stop)

    def keep(self, mine: tuple[int, int], step: int) -> None:
        """Keep everything as it is after so many steps, where there is a folder for it."""
        if self._folder is None:
            return
        moments = self.optimiser.state_dict()["state"]
        parts: Mapping[str, Mapping[str, Tensor]] = {
            "network": self._network.state_dict(),
            "average": self.average.mean,
            "best": self.keeper.weights,
            **{f"optimiser.{number}": values for number, values in moments.items()},
        }
        tensors = {f"{part}/{name}": v for part, own in parts.items() for name, v in own.items()}
        more = {"step": step, "averaged": self.average.steps_n, "keeper": self.keeper.seen()}
        self._folder.keep(*mine, tensors, more)

    def restore(self, mine: tuple[int, int]) -> int:
        """Take over what was kept of this member, if anything; give the steps done."""
        found = self._folder.state(*mine) if self._folder else None
        if found is None:
            return 0
        tensors, more = found
        parts: dict[str, dict[str, Tensor]] = {"average": {}, "best": {}}
        for key, value in tensors.items():
            part, _, name = key.partition("/")
            device = self.keeper.device if part in ("average", "best") else value.device
            parts.setdefault(part, {})[name] = value.to(device)
        self._network.load_state_dict(parts.pop("network"))
        self.average.restore(parts.pop("average"), more["averaged"])
        self.keeper.restore(parts.pop("best"), more["keeper"])
        moments = {int(part.removeprefix("optimiser.")): own for part, own in parts.items()}
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        return int(more["step"])


class BestWeights:
    """Keep the weights with the best RankIC on the stop part, averaged over two looks in a row."""

    def __init__(
        self, probe: Network, batches: Batches, tables: Sequence[Table], span: Span
    ) -> None:
        self._probe = probe
        self._batches = batches
        self._tables = tables
        self._rows = [t.within(span) for t in tables]
        self.device = batches.device
        self._best = float("-inf")
        self._last = float("nan")
        self.rank_ic = float("nan")
        self.weights: dict[str, Tensor] = {}

    def look(self, weights: Mapping[str, Tensor]) -> None:
        """Measure weights on the stop part and remember them if they are the best so far.

        Weights whose forecasts are no numbers, as at too high a learning rate, are never the best.
        """
        self._probe.load_state_dict(dict(weights))
        found = []
        for table, rows in zip(self._tables, self._rows, strict=True):
            forecasts = self._batches.predict(self._probe, table, rows)
            if not np.isfinite(forecasts[np.isfinite(table.y[rows])]).all():
                self._last = self.rank_ic = float("nan")
                return
            found.append(score(table, rows, forecasts).rank_ic)
        now = float(np.nanmean(found)) if np.isfinite(found).any() else 0.0
        self.rank_ic = now if np.isnan(self._last) else 0.5 * (now + self._last)
        self._last = now
        if self.rank_ic > self._best:
            self._best = self.rank_ic
            self.weights = {k: v.detach().clone() for k, v in weights.items()}

    def best(self) -> Network:
        """Give the network with the best weights; raise NoNumbers where there are none."""
        if not self.weights:
            raise NoNumbers(
                "the forecasts of a network are no numbers: lower training.learning_rate"
            )
        self._probe.load_state_dict(self.weights)
        return self._probe.eval()

    def seen(self) -> dict[str, float]:
        """Give what was measured, for `restore`."""
        return {"best": self._best, "last": self._last, "rank_ic": self.rank_ic}

    def restore(self, weights: dict[str, Tensor], seen: Mapping[str, Any]) -> None:
        """Go on from what was kept."""
        self.weights = weights
        self._best, self._last, self.rank_ic = seen["best"], seen["last"], seen["rank_ic"]


# ---- one fold, for walk-forwards -----------------------------------------------------------------


class FittedNetwork:
    """Forecast with one trained network, which reads all columns."""

    def __init__(self, network: Network, batches: Batches, config: NetworkConfig) -> None:
        self._network = network
        self._batches = batches
        self._config = config
        self.chosen: tuple[tuple[str, ...], ...] = ()
        self.stacked: tuple[checkpoint.Stacked, ...] = ()
        self.parameters_n = sum(weights.numel() for weights in network.parameters())

    def forecast(self, table: Table, rows: Longs) -> tuple[Floats, Floats]:
        """Give raw means and variances, (M, N) each; see `fitting.Fitted`."""
        mean, variance = self._batches.forecast(self._network, table, rows)
        allowed = table.allowed[rows]
        return np.where(allowed, mean, np.nan), np.where(allowed, variance, np.nan)

    def weights(self) -> checkpoint.Weights:
        """Give the arrays of the network."""
        return {k: value.detach().cpu().numpy() for k, value in self._network.state_dict().items()}

    def shape(self) -> checkpoint.Shape:
        """Give the shape of one network."""
        return _shape(self._config, 1)


def fit_fold(job: Job, tables: Sequence[Table], fold: Fold, *, seed: int, told: Told) -> Fitted:
    """Train one member on a fold, with its share of the budget. See `fitting.FitFold`."""
    settings = replace(job.settings, seed=seed)
    device = device_of(settings)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    batches = Batches(tables, settings, device)
    steps = steps_for(settings, batches, tables, (fold,))
    found = _found(settings, tables, fold)
    arm = _Arm(settings, config_of(job), tables, batches, None, steps, None, found)
    network = _train(arm, fold, (0, 0), lambda step, rank_ic: told(step / steps))
    return FittedNetwork(network, batches, arm.config)


# ---- what came of it -----------------------------------------------------------------------------


def config_of(job: Job) -> NetworkConfig:
    """Say what network a job asks for."""
    settings = job.settings
    return NetworkConfig(
        kind=settings.network,
        channels=CHANNELS_N + len(column_names(job.covariates)),
        timeframes=len(job.timeframes),
        hidden=settings.hidden,
        embedding=settings.embedding,
        sequence_bars=settings.sequence_bars,
        layers=settings.layers,
        cross_asset=settings.cross_asset,
        feature_dropout=settings.feature_dropout,
        time_dropout=settings.time_dropout,
        weight_drop=settings.weight_drop,
        zoneout=settings.zoneout,
        dropout=settings.dropout,
    )


def _forecaster(batches: Batches, members: Sequence[Network]) -> Forecaster:
    return lambda table, rows: np.array([batches.predict(m, table, rows) for m in members])


def _weights(members: Sequence[Network]) -> checkpoint.Weights:
    return {
        f"{number}.{name}": value.detach().cpu().numpy()
        for number, network in enumerate(members)
        for name, value in network.state_dict().items()
    }


def _shape(config: NetworkConfig, members: int) -> checkpoint.Shape:
    return checkpoint.Shape(
        channels=config.channels,
        timeframes=config.timeframes,
        hidden=config.hidden,
        embedding=config.embedding,
        sequence_bars=config.sequence_bars,
        members=members,
        layers=config.layers,
        cross_asset=config.cross_asset,
        zoneout=config.zoneout,
    )


def _describe(
    job: Job, steps: int, outcome: OutOfSample, device: torch.device
) -> checkpoint.Manifest:
    config = config_of(job)
    kind, shape = config.kind.value, _shape(config, outcome.members_n)
    made = describe(job, outcome, kind=kind, shape=shape, steps=steps, libraries=LIBRARIES)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return replace(made, versions=made.versions | {"device": name})


if __name__ == "__main__":
    sys.exit(run_process(train_model, sys.argv[1:]))
