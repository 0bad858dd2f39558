"""What the worker hosts for a model that reads more than bars. Loaded in the worker's process only.

Funding is noted as the feed told it; everything else is read from the store of series, and read
again when a file has changed. What counts at an instant is settled by the join alone.

A value that comes into a file after the instant from which it is said to be known was not there for
the forecasts between the two, but will be for a backtest: that is told with the forecasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import structlog

from adapters.history.covariates import StoredSeries
from daemon.domain.bar import Window
from daemon.domain.covariates import Series
from daemon.domain.forecast import Estimates
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import FundingRates
from daemon.domain.units import DAY_MS, iso
from daemon.wiring.covariates import ToldFunding
from strategies.forecast.inference import ModelEstimator, combined_of, load_for
from strategies.forecast.inputs.covariates import FUNDING, CovariateTable, Known, needed
from strategies.forecast.inputs.derived import refuse_unmakeable

TOLD_MS: Final = DAY_MS  # of market time, that late values are told of
log = structlog.get_logger()


class HostedWithSeries:
    """Forecast with a model that reads more than bars; what a worker hosts for it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        checkpoint = load_for(config)
        self._names = checkpoint.manifest.covariates
        self._symbols = tuple(config["symbols"])
        refuse_unmakeable(self._names, self._symbols)
        wanted = [name for name in needed(self._names) if name != FUNDING]
        self._stored = StoredSeries(
            Path(str(config["series_root"])), wanted, config["symbols"], str(config["venue"])
        )
        self._funding = ToldFunding(len(self._symbols))
        self._table: CovariateTable | None = None
        self._before: CovariateTable | None = None  # what it made of series is made once
        self._asked_ms = 0
        self._late: dict[str, tuple[str, int]] = {}  # by name: what is told, and until when
        self._model = ModelEstimator(checkpoint, self, combined=combined_of(config))

    @property
    def model_id(self) -> str:
        """Give the hash of the model."""
        return self._model.model_id

    def note(self, rates: FundingRates) -> None:
        """Take settled rates; they count from their settlement on.

        Those that came after a forecast of that instant was made without them count from then on,
        so that what was not known at an instant is never said to have been.
        """
        is_late = rates.settle_ms <= self._asked_ms
        self._funding.note(rates, self._asked_ms + 1 if is_late else 0)
        self._table = None

    def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Estimates:
        """Forecast from windows and from what was known at the closes of their bars."""
        estimates = self._model.estimate(as_of_ms, windows)
        self._asked_ms = as_of_ms
        late = {
            f"{name} came late": text
            for name, (text, until_ms) in self._late.items()
            if as_of_ms < until_ms
        }
        return msgspec.structs.replace(estimates, silent={**estimates.silent, **late})

    def table(self) -> CovariateTable:
        """Give the covariates as they stand: files that have changed are read again."""
        before, held = dict(self._stored.problems), self._stored.known()
        changed = self._stored.refresh()
        if changed:
            self._find_late(held)
        if changed or self._table is None:
            self._table = CovariateTable(
                self._names, self._known(), self._symbols, before=self._before
            )
            self._before = self._table
        for path, why in self._stored.problems.items():
            if before.get(path) != why:  # the rows read before stay until they are stale
                log.warning(LogEvent.SERIES_NOT_READ, file=str(path), why=why)
        return self._table

    def _find_late(self, held: Known) -> None:
        """Note values that are new here, though said to be known when a forecast was asked for."""
        for name, ones in self._stored.known().items():
            pairs = {
                (id(old), id(new)): (old, new) for old, new in zip(held[name], ones, strict=True)
            }
            late_n = sum(
                _known_n(new, self._asked_ms) - _known_n(old, self._asked_ms)
                for old, new in pairs.values()
            )
            if late_n > 0:
                text = (
                    f"{late_n} values were not there when forecasts up to {iso(self._asked_ms)} "
                    "were made, though known before; a backtest will read them in time"
                )
                self._late[name] = (text, self._asked_ms + TOLD_MS)

    def _known(self) -> Known:
        known = self._stored.known()
        if FUNDING in needed(self._names):
            known[FUNDING] = self._funding.hourly()
        return known


def _known_n(series: Series | None, at_ms: int) -> int:
    return 0 if series is None else int(np.searchsorted(series.known_ms, at_ms, side="right"))


def build(config: Mapping[str, Any]) -> HostedWithSeries:
    """Build the estimator of a model with covariates; raises as `inference.build`, and DataError.

    Beside what that takes: "symbols" of the windows as in file names, "series_root", "venue".
    """
    return HostedWithSeries(config)
