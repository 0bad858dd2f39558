"""Train the members of a model, one of each seed, and store them: for kinds that `fit_fold` makes.

Every member of a fold is fitted by the function that walk-forwards use; the last fold's are kept.
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
from strategies.forecast.training.job import Job, Longs
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

    is_seeded: without, there is one member, and its arrays keep their names. Raises ModelError when
    the data are too few for the folds. The same job gives the same model.
    """
    report, settings = progress or (lambda _: None), job.settings
    members_n = settings.members if is_seeded else 1
    tables = build_tables(job)
    folds = cut_folds(job, tables)
    outcome = OutOfSample(tables)
    total = SHARES * members_n * len(folds)
    members: list[Fitted] = []
    for number, fold in enumerate(folds):
        members = []
        for member in range(members_n):
            done = SHARES * (number * members_n + member)
            stage = f"fold {number + 1}/{len(folds)}, member {member + 1}/{members_n}"

            def told(share: float, *, done: int = done, stage: str = stage) -> None:
                report(Progress(done + round(SHARES * share), total, stage, float("nan")))

            seed = settings.seed + 1000 * number + member
            members.append(fit_fold(job, tables, fold, seed=seed, told=told))
        learned_ms = fold.learned.end_ms  # what only stopped the fit counts too
        outcome.add(number, fold, _forecaster(members), learned_until_ms=learned_ms)
    shape = replace(members[0].shape(), members=members_n)
    made = describe(job, outcome, kind=kind, shape=shape, steps=0, libraries=libraries)
    made = replace(made, chosen=members[0].chosen, stacked=_stacked(members))
    weights = {
        f"{m}.{name}" if is_seeded else name: array
        for m, member in enumerate(members)
        for name, array in member.weights().items()
    }
    return checkpoint.save(made, weights, job.out)


def _stacked(members: Sequence[Fitted]) -> tuple[checkpoint.Stacked, ...]:
    """Describe the kinds of a stack, with the mean of the seeds' shares."""
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
