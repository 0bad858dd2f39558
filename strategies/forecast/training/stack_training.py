"""Train a stack from a job: several kinds of models, and how much each of them counts.

    python -m strategies.forecast.training.stack_training --job job.json

The shares are learned from forecasts out of the members' sample alone. What a member says of rows
that it has learned from says how well it remembers, and the one that remembers best would get
everything. So the learned part of a fold is walked forward once more: in `INNER_FOLDS` steps every
member is fitted on what lies before, with the fold's own gap between the parts, and forecasts what
comes after. Then all are fitted on the whole fold, and count with the shares found.

    w = argmin over w >= 0 of |y - F w|^2 + penalty |w - prior|^2

for each timeframe, F (S, J) the members' forecasts, centred within instants and each of unit size
on its stop part. The prior is equal shares worth an information coefficient of IC_PRIOR together,
the penalty what its size implies, as for a ridge: with little evidence the members count alike.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from daemon.domain.bar import Floats
from daemon.domain.failures import ModelError
from daemon.domain.units import iso
from strategies.forecast import checkpoint
from strategies.forecast.calibration import centred
from strategies.forecast.checkpoint import Shape, Stacked, Weights
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.ridge import IC_PRIOR, penalty_of
from strategies.forecast.stack import COEFFICIENTS, member_name
from strategies.forecast.training.fitting import (
    TRAINERS,
    FitFold,
    Fitted,
    Told,
    libraries,
    settings_for,
    trainer_of,
)
from strategies.forecast.training.job import Job, Longs
from strategies.forecast.training.members import train_members
from strategies.forecast.training.process import Report, run_process
from strategies.forecast.training.splits import Fold, Span, walk_forward

LIBRARIES: Final = ("numpy", "scipy", "safetensors")  # beside those of the members
SEEDED: Final = True
INNER_FOLDS: Final = 3
INNER_TEST_SHARE: Final = 0.5  # of the learned part, all inner tests together
INNER_STOP_SHARE: Final = 0.15
SIZE_FLOOR: Final = 1e-12


def train_stack(job: Job, *, progress: Report | None = None) -> Path:
    """Train, score, calibrate and save a stack; see `members.train_members`."""
    return train_members(
        job,
        kind=checkpoint.STACK,
        fit_fold=fit_fold,
        libraries=libraries(TRAINERS[checkpoint.STACK], checkpoint.STACK, job.settings),
        progress=progress,
    )


def fit_fold(job: Job, tables: Sequence[Table], fold: Fold, *, seed: int, told: Told) -> Fitted:
    """Fit the members of `settings.stack` and their shares on a fold. See `fitting.FitFold`."""
    chosen = {kind: trainer_of(TRAINERS[kind]).fit_fold for kind in job.settings.stack}
    return fit_stack(job, tables, fold, chosen, seed=seed, told=told)


def fit_stack(
    job: Job,
    tables: Sequence[Table],
    fold: Fold,
    chosen: Mapping[str, FitFold],
    *,
    seed: int,
    told: Told,
) -> FittedStack:
    """Learn the shares of some kinds (J) from inner folds, then fit all of them on the fold."""
    fits = len(chosen) * (INNER_FOLDS + 1)

    def part(done: int) -> Told:
        return lambda share: told((done + share) / fits)

    said: list[list[Floats]] = [[] for _ in tables]  # of each timeframe and inner fold (J, T, N)
    outcomes: list[list[Floats]] = [[] for _ in tables]
    done = 0
    for cut in inner_folds(fold):
        found = []
        for kind, fit in chosen.items():
            found.append(fit(_asked(job, kind), tables, cut, seed=seed, told=part(done)))
            done += 1
        for table in tables:
            rows = table.within(cut.test)
            units = [u.forecast(table, rows)[0] * unit_scale(u, table, cut) for u in found]
            said[table.place].append(np.array(units))
            outcomes[table.place].append(table.y[rows])
    shares = np.array(
        [
            learn_shares(np.concatenate(f, axis=1), np.concatenate(y), table.horizon_bars)
            for f, y, table in zip(said, outcomes, tables, strict=True)
        ]
    )
    final = []
    for kind, fit in chosen.items():
        final.append(fit(_asked(job, kind), tables, fold, seed=seed, told=part(done)))
        done += 1
    scales = np.array([[unit_scale(one, table, fold) for one in final] for table in tables])
    return FittedStack(tuple(chosen), tuple(final), shares, scales)


def inner_folds(fold: Fold) -> tuple[Fold, ...]:
    """Cut the unbroken stretch that ends with the stop part into folds that go forward in time.

    Raises ModelError where it is too short for them.
    """
    parts = (fold.train,) if isinstance(fold.train, Span) else fold.train.parts
    before = [part for part in parts if part.end_ms <= fold.stop.start_ms][-1]
    gap_ms = fold.stop.start_ms - before.end_ms
    start_ms, end_ms = before.start_ms, fold.stop.end_ms
    length_ms = end_ms - start_ms
    shortest = min(
        INNER_STOP_SHARE, INNER_TEST_SHARE / INNER_FOLDS, 1 - INNER_STOP_SHARE - INNER_TEST_SHARE
    )
    if length_ms * shortest < 2 * gap_ms:
        raise ModelError(
            f"too few bars for a stack: from {iso(start_ms)} to {iso(end_ms)}, and its inner folds"
            f" need {2 * gap_ms / shortest / 86_400_000:.0f} days; a single kind needs less"
        )
    return walk_forward(
        start_ms,
        end_ms,
        folds=INNER_FOLDS,
        gap_ms=gap_ms,
        stop_share=INNER_STOP_SHARE,
        test_share=INNER_TEST_SHARE,
    )


def unit_scale(fitted: Fitted, table: Table, fold: Fold) -> float:
    """Give what makes forecasts of the stop part of unit size; 0 where they all are the same."""
    forecasts = centred(fitted.forecast(table, table.decided(fold.stop))[0])
    known = np.isfinite(forecasts)
    size = float(np.sqrt(np.mean(forecasts[known] ** 2))) if known.any() else 0.0
    return 1.0 / size if size > SIZE_FLOOR else 0.0


def learn_shares(forecasts: Floats, y: Floats, horizon_bars: int) -> Floats:
    """Give the shares (J,) of forecasts (J, T, N) in labels y (T, N); see the module.

    They add up to 1, or are all 0 where every member was worse than nothing. The forecasts must be
    out of the members' sample: nothing here can tell.
    """
    J = len(forecasts)
    known = np.isfinite(y) & np.isfinite(forecasts).all(axis=0)
    F = np.array([centred(np.where(known, f, np.nan))[known] for f in forecasts])  # (J, S)
    outcomes = centred(np.where(known, y, np.nan))[known]
    penalty = penalty_of(horizon_bars, J)
    gram = F @ F.T + penalty * np.eye(J)
    joint = F @ outcomes + penalty * IC_PRIOR / J
    upper = np.linalg.cholesky(gram).T  # |upper w - z|^2 is the sum of squares up to a constant
    w, _ = nnls(upper, np.linalg.solve(upper.T, joint))
    return np.asarray(w / w.sum() if w.sum() > 0 else w)


class FittedStack:
    """Forecast with members (J) and their shares and scales, (K, J) each."""

    def __init__(
        self, kinds: Sequence[str], members: Sequence[Fitted], shares: Floats, scales: Floats
    ) -> None:
        self._kinds, self._members = kinds, members
        self._coefficients = shares * scales
        self.parameters_n = shares.size + sum(one.parameters_n for one in members)
        self.chosen: tuple[tuple[str, ...], ...] = ()
        self.stacked = tuple(
            Stacked(kind, one.shape(), tuple(shares[:, j].tolist()), one.chosen)
            for j, (kind, one) in enumerate(zip(kinds, members, strict=True))
        )

    def forecast(self, table: Table, rows: Longs) -> tuple[Floats, Floats]:
        """Give raw means and unit variances, (M, N) each; see `fitting.Fitted`."""
        total = np.where(table.allowed[rows], 0.0, np.nan)
        for share, one in zip(self._coefficients[table.place], self._members, strict=True):
            total = total + share * one.forecast(table, rows)[0]
        return total, np.where(np.isfinite(total), 1.0, np.nan)

    def weights(self) -> Weights:
        """Give the arrays of all members and what they are multiplied with."""
        found: dict[str, npt.NDArray[Any]] = {COEFFICIENTS: self._coefficients}
        for kind, one in zip(self._kinds, self._members, strict=True):
            found |= {member_name(kind, name): array for name, array in one.weights().items()}
        return found

    def shape(self) -> Shape:
        """Give the shape of one stack."""
        shapes = [one.shape() for one in self._members]
        bars = max(shape.sequence_bars for shape in shapes)
        return Shape(len(shapes), len(self._coefficients), 0, 0, bars, 1)


def _asked(job: Job, kind: str) -> Job:
    """Ask for a member; all fits of a stack share the effort for networks."""
    budget = max(1.0, job.settings.budget_seconds / (INNER_FOLDS + 1))
    return replace(job, settings=settings_for(kind, replace(job.settings, budget_seconds=budget)))


if __name__ == "__main__":
    sys.exit(run_process(train_stack, sys.argv[1:]))
