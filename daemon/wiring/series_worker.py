"""What the worker hosts for a model that reads more than bars. Loaded in the worker's process only.

Funding is noted as the feed told it; everything else is read from the store of series, and read
again when a file has changed. What counts at an instant is settled by the join alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog

from adapters.history.covariates import StoredSeries
from daemon.domain.bar import Window
from daemon.domain.forecast import Estimates
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import FundingRates
from daemon.domain.units import Timeframe
from daemon.wiring.covariates import ToldFunding, hourly_of
from strategies.forecast.checkpoint import load
from strategies.forecast.covariates import FUNDING, CovariateTable, Known, needed
from strategies.forecast.inference import ModelEstimator

FOREVER_MS: Final = int(np.iinfo(np.int64).max)
log = structlog.get_logger()


class HostedWithSeries:
    """Forecast with a model that reads more than bars; what a worker hosts for it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        folder = Path(str(config["model"]))
        timeframes = tuple(Timeframe(m) for m in config.get("timeframes_minutes", ()))
        checkpoint = load(folder, timeframes=timeframes)
        self._names = checkpoint.manifest.covariates
        self._symbols_n = len(config["symbols"])
        wanted = [name for name in needed(self._names) if name != FUNDING]
        self._stored = StoredSeries(
            Path(str(config["series_root"])), wanted, config["symbols"], str(config["venue"])
        )
        self._funding = ToldFunding(self._symbols_n)
        self._table: CovariateTable | None = None
        self._model = ModelEstimator(checkpoint, self)

    @property
    def model_id(self) -> str:
        """Give the hash of the model."""
        return self._model.model_id

    def note(self, rates: FundingRates) -> None:
        """Take settled rates; they count from their settlement on."""
        self._funding.note(rates)
        self._table = None

    def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Estimates:
        """Forecast from windows and from what was known at the closes of their bars."""
        return self._model.estimate(as_of_ms, windows)

    def table(self) -> CovariateTable:
        """Give the covariates as they stand: files that have changed are read again."""
        before = dict(self._stored.problems)
        if self._stored.refresh() or self._table is None:
            self._table = CovariateTable(self._names, self._known(), self._symbols_n)
        for path, why in self._stored.problems.items():
            if before.get(path) != why:  # the rows read before stay until they are stale
                log.warning(LogEvent.SERIES_NOT_READ, file=str(path), why=why)
        return self._table

    def _known(self) -> Known:
        known = self._stored.known()
        if FUNDING in self._names:
            known[FUNDING] = tuple(
                hourly_of(self._funding.rates(n), FOREVER_MS) for n in range(self._symbols_n)
            )
        return known


def build(config: Mapping[str, Any]) -> HostedWithSeries:
    """Build the estimator of a model with covariates; raises as `inference.build`, and DataError.

    Beside what that takes: "symbols" of the windows as in file names, "series_root", "venue".
    """
    return HostedWithSeries(config)
