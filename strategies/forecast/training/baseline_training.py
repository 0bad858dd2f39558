"""Walk plain forecasters forward like models: nothing is fitted, a seed changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from strategies.forecast.baselines import Baseline, raw_forecast
from strategies.forecast.checkpoint import Shape, Stacked, Weights
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.training.fitting import Fitted, Told
from strategies.forecast.training.job import Job, Longs
from strategies.forecast.training.splits import Fold

MODULE: Final = "strategies.forecast.training.baseline_training"


@dataclass(frozen=True, slots=True)
class FittedBaseline:
    """Forecast with a baseline; the stated variance is that of labels, 1."""

    baseline: Baseline
    timeframes_n: int
    sequence_bars: int
    parameters_n: int = 0
    chosen: tuple[tuple[str, ...], ...] = ()
    stacked: tuple[Stacked, ...] = ()

    def forecast(self, table: Table, rows: Longs) -> tuple[Floats, Floats]:
        """Give raw means and unit variances, (M, N) each; see `fitting.Fitted`."""
        allowed, raw = table.allowed[rows], raw_forecast(self.baseline, table.rows[rows])
        return np.where(allowed, raw, np.nan), np.where(allowed, 1.0, np.nan)

    def weights(self) -> Weights:
        """Give no array: nothing was learned."""
        return {}

    def shape(self) -> Shape:
        """Give the shape of what has no columns of its own."""
        return Shape(0, self.timeframes_n, 0, 0, self.sequence_bars, 1)


@dataclass(frozen=True, slots=True)
class BaselineTrainer:
    """Take the place of a module that trains a kind."""

    baseline: Baseline
    LIBRARIES: Sequence[str] = ("numpy",)
    SEEDED: bool = False

    def fit_fold(
        self, job: Job, tables: Sequence[Table], fold: Fold, *, seed: int, told: Told
    ) -> Fitted:
        """Give the baseline as it is."""
        told(1.0)
        return FittedBaseline(self.baseline, len(tables), job.settings.sequence_bars)


MOMENTUM: Final = BaselineTrainer(Baseline.MOMENTUM)
LAST_RETURN: Final = BaselineTrainer(Baseline.LAST_RETURN)
ZERO: Final = BaselineTrainer(Baseline.ZERO)
BASELINES: Final = {one.value: f"{MODULE}:{one.name}" for one in Baseline}
