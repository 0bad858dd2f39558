"""Train the members of a model, one of each seed and fold: for kinds that `fit_fold` makes.

Every member is fitted by the function that walk-forwards use, and all are kept. Networks inside a
stack share the budget over the folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from strategies.forecast import checkpoint
from strategies.forecast.inputs.dataset import Table, build_tables, cut_folds
from strategies.forecast.training.evaluation import Forecaster, OutOfSample, describe
from strategies.forecast.training.fitting import FitFold, Fitted
from strategies.forecast.training.job import Job, Longs, TrainSettings
from strategies.forecast.training.process import Progress, Report

SHARES: Final = 100  # in which the progress of a fit is told


def train_members(
    job: Job,
    *,
    kind: str,
    fit_fold: FitFold,
    libraries: Sequence[str],
    progress: Report | None = None,
    is_seeded: bool = True,
) -> Path:
    """Train, score, calibrate and save a model into `job.out`; give its folder, named by its id.

    is_seeded: without, a fold has one member, and the arrays of an only one keep their names.
    Raises ModelError when the data are too few for the folds. The same job gives the same model.
    """
    report, settings = progress or (lambda _: None), job.settings
    seeds_n = settings.members if is_seeded else 1
    tables = build_tables(job)
    folds = cut_folds(job, tables)
    outcome = OutOfSample(tables)
    asked = replace(job, settings=_shared(settings, len(folds)))
    total = SHARES * seeds_n * len(folds)
    members: list[Fitted] = []  # of all folds so far
    for number, fold in enumerate(folds):
        for member in range(seeds_n):
            done = SHARES * (number * seeds_n + member)
            stage = f"fold {number + 1}/{len(folds)}, member {member + 1}/{seeds_n}"

            def told(share: float, *, done: int = done, stage: str = stage) -> None:
                report(Progress(done + round(SHARES * share), total, stage, float("nan")))

            seed = settings.seed + 1000 * number + member
            members.append(fit_fold(asked, tables, fold, seed=seed, told=told))
        learned_ms = fold.learned.end_ms  # what only stopped the fit counts too
        outcome.add(number, fold, _forecaster(members), learned_until_ms=learned_ms)
    newest = members[-seeds_n:]  # each fold chooses its columns anew: the last one's are told
    shape = replace(newest[0].shape(), members=len(members))
    made = describe(job, outcome, kind=kind, shape=shape, steps=0, libraries=libraries)
    stacked = _stacked([*newest, *members[:-seeds_n]])
    made = replace(made, chosen=newest[0].chosen, stacked=stacked)
    weights = {
        f"{m}.{name}" if is_seeded or len(members) > 1 else name: array
        for m, member in enumerate(members)
        for name, array in member.weights().items()
    }
    return checkpoint.save(made, weights, job.out)


def _shared(settings: TrainSettings, folds_n: int) -> TrainSettings:
    """Give each fold its share of the budget, of at least a second."""
    if folds_n == 1:
        return settings
    return replace(settings, budget_seconds=max(1.0, settings.budget_seconds / folds_n))


def _stacked(members: Sequence[Fitted]) -> tuple[checkpoint.Stacked, ...]:
    """Describe the kinds of a stack as in its first member, with the mean of all shares."""
    described = [member.stacked for member in members]
    return tuple(
        replace(of_kind[0], shares=tuple(np.mean([o.shares for o in of_kind], axis=0).tolist()))
        for of_kind in zip(*described, strict=True)
    )


def _forecaster(members: Sequence[Fitted]) -> Forecaster:
    def forecast(table: Table, rows: Longs) -> Floats:
        raw = np.array([member.forecast(table, rows)[0] for member in members])  # (M, T, N)
        return np.where(np.isfinite(table.y[rows]), raw, np.nan)

    return forecast
