"""Fit one fold of one kind of model and forecast any rows with it: what walk-forwards are made of.

A module that trains a kind (`training.process`) has a function `fit_fold` of this form beside the
one that stores a model, and `LIBRARIES`, the packages whose versions change its figures.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from daemon.domain.bar import Floats
from daemon.domain.failures import ConfigurationError
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.training.job import Job, Longs
from strategies.forecast.training.splits import Fold

Told = Callable[[float], None]  # how much of the fit is done, from 0 to 1


class Fitted(Protocol):
    """Forecast with what was fitted on a fold."""

    def forecast(self, table: Table, rows: Longs) -> tuple[Floats, Floats]:
        """Give raw means and outcome variances, (M, N) each, of rows (M,) of one timeframe.

        NaN where the table allows no forecast; a label is never looked at.
        """
        ...


class FitFold(Protocol):
    """Fit one member on the training and stop parts of a fold."""

    def __call__(
        self, job: Job, tables: Sequence[Table], fold: Fold, *, seed: int, told: Told
    ) -> Fitted:
        """Read no settings.seed: `seed` is the only one. Raises ModelError for too few data."""
        ...


class Trainer(Protocol):
    """Describe a module that trains a kind of model; SEEDED: whether a seed changes anything."""

    LIBRARIES: Sequence[str]
    SEEDED: bool
    fit_fold: FitFold


def trainer_of(module: str) -> Trainer:
    """Import the module that trains a kind; raise ConfigurationError where it fits no folds."""
    found = importlib.import_module(module)
    if not hasattr(found, "fit_fold"):
        raise ConfigurationError(f"{module} has no fit_fold: this kind cannot be walked forward")
    return cast(Trainer, found)
