"""Fit one fold of one kind of model and forecast any rows with it: what walk-forwards are made of.

A module that trains a kind has a function `fit_fold` of this form beside the one that stores a
model, and `LIBRARIES`, the packages whose versions change its figures.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol, cast

from daemon.domain.bar import Floats
from daemon.domain.failures import ConfigurationError, ModelError
from strategies.forecast.checkpoint import FOREST, LIGHTGBM, RIDGE, STACK, Shape, Stacked, Weights
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.networks.config import RECURRENT, NetworkKind
from strategies.forecast.training.job import Job, Longs, TrainSettings
from strategies.forecast.training.splits import Fold

_ROOM: Final = "strategies.forecast.training"
NETWORK_TRAINER: Final = f"{_ROOM}.network_training"
TRAINERS: Final[dict[str, str]] = {  # by the kind that settings and manifests name
    **{kind.value: NETWORK_TRAINER for kind in NetworkKind},
    RIDGE: f"{_ROOM}.ridge_training",
    LIGHTGBM: f"{_ROOM}.lightgbm_training",
    FOREST: f"{_ROOM}.forest_training",
    STACK: f"{_ROOM}.stack_training",
}
OPTIONAL: Final = {LIGHTGBM: "lightgbm"}  # packages that an installation may lack
INSTALL: Final = "pip install 'lightgbm>=4.5,<5'"

Told = Callable[[float], None]  # how much of the fit is done, from 0 to 1


class NoNumbers(ModelError):
    """Signal that what a fit learned never forecast numbers, as at too high a learning rate."""


class Fitted(Protocol):
    """Forecast with what was fitted on a fold, and tell what it is."""

    @property
    def chosen(self) -> tuple[tuple[str, ...], ...]:
        """Give the columns that each timeframe reads; empty where nothing was to be chosen."""
        ...

    @property
    def parameters_n(self) -> int:
        """Count the numbers that were learned."""
        ...

    @property
    def stacked(self) -> tuple[Stacked, ...]:
        """Give the kinds of a stack; empty for all else."""
        ...

    def forecast(self, table: Table, rows: Longs) -> tuple[Floats, Floats]:
        """Give raw means and outcome variances, (M, N) each, of rows (M,) of one timeframe.

        NaN where the table allows no forecast; a label is never looked at.
        """
        ...

    def weights(self) -> Weights:
        """Give the arrays to store."""
        ...

    def shape(self) -> Shape:
        """Give its shape, as of one member."""
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
    """Import the module that trains a kind, or what stands in it behind a colon.

    Raises ConfigurationError where it fits no folds.
    """
    path, _, name = module.partition(":")
    found = importlib.import_module(path)
    found = getattr(found, name) if name else found
    if not hasattr(found, "fit_fold"):
        raise ConfigurationError(f"{module} has no fit_fold: this kind cannot be walked forward")
    return cast(Trainer, found)


def settings_for(kind: str, settings: TrainSettings) -> TrainSettings:
    """Ask for a kind of model; what is no network leaves that choice alone.

    Raises ConfigurationError for what acts on recurrent states alone where there are none.
    """
    if kind not in tuple(NetworkKind):
        return settings
    network = NetworkKind(kind)
    for name in ("weight_drop", "zoneout"):
        value = getattr(settings, name)
        if value and network not in RECURRENT:
            raise ConfigurationError(
                f"training.{name} = {value}: a {kind} has no recurrent states; accepted is 0"
            )
    return replace(settings, network=network)


def kinds_in(kind: str, settings: TrainSettings) -> tuple[str, ...]:
    """Give the kinds that are fitted for a kind: those of a stack and itself."""
    return (kind, *settings.stack) if kind == STACK else (kind,)


def libraries(module: str, kind: str, settings: TrainSettings) -> tuple[str, ...]:
    """Name the packages whose versions change what a kind says that a module fits."""
    modules = (module, *(TRAINERS[one] for one in kinds_in(kind, settings)[1:]))
    found = [name for one in modules for name in trainer_of(one).LIBRARIES]
    return tuple(dict.fromkeys(found))


def refuse_uninstalled(kind: str, settings: TrainSettings) -> None:
    """Raise ConfigurationError with the remedy where a kind needs a package that is not there."""
    for one in kinds_in(kind, settings):
        package = OPTIONAL.get(one)
        if package is not None and importlib.util.find_spec(package) is None:
            raise ConfigurationError(
                f"a {kind} needs the package {package}, which is not installed: {INSTALL}, or"
                " choose another training.kind or training.members"
            )
