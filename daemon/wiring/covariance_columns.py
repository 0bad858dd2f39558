"""What a recurrent network reads beside returns while the daemon runs: funding and stored series.

Funding is noted as the feed told it; other series are read from the store, and again when a file
has changed. Loaded in the worker's process only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from adapters.history.covariates import StoredSeries
from daemon.domain.covariates import Series
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import FundingRates
from daemon.wiring.covariates import ToldFunding
from strategies.covariance.columns import (
    BTC_VOLATILITY,
    Floats,
    Longs,
    day_volatility,
    leader_of,
    middle_known,
)
from strategies.forecast.inputs.covariates import FUNDING

log = structlog.get_logger()


class RunningColumns:
    """Give the columns that a network names, as they are known in a run."""

    def __init__(self, names: Sequence[str], config: Mapping[str, Any]) -> None:
        """Take the names of a network's columns, and "symbols", "series_root" and "venue".

        Raises DataError or ConfigurationError for a series that is not there.
        """
        self._names = tuple(names)
        symbols = tuple(config["symbols"])
        self._leader = leader_of(symbols)
        self._funding = ToldFunding(len(symbols))
        self._asked_ms = 0
        wanted = [one for one in names if one not in (BTC_VOLATILITY, FUNDING)]
        self._stored = (
            StoredSeries(Path(config["series_root"]), wanted, symbols, config["venue"])
            if wanted
            else None
        )

    def note(self, rates: FundingRates) -> None:
        """Take settled rates; those that came late count from then on."""
        is_late = rates.settle_ms <= self._asked_ms
        self._funding.note(rates, self._asked_ms + 1 if is_late else 0)

    def at(self, hour_ms: Longs, returns: Floats) -> Floats:
        """Give columns (T, C) as known at closes of hours (T,) with returns (T, N); NaN unknown."""
        self._asked_ms = max(self._asked_ms, int(hour_ms[-1]))
        self._read_again()
        known = {} if self._stored is None else self._stored.known()
        return np.column_stack([self._column(one, known, hour_ms, returns) for one in self._names])

    def _column(
        self,
        name: str,
        known: Mapping[str, Sequence[Series | None]],
        hour_ms: Longs,
        returns: Floats,
    ) -> Floats:
        if name == BTC_VOLATILITY:
            return day_volatility(returns[:, self._leader])
        if name == FUNDING:
            return middle_known(self._funding.hourly(), hour_ms)
        return middle_known(known[name], hour_ms)

    def _read_again(self) -> None:
        if self._stored is None:
            return
        before = dict(self._stored.problems)
        self._stored.refresh()
        for path, why in self._stored.problems.items():
            if before.get(path) != why:  # the rows read before stay until they are stale
                log.warning(LogEvent.SERIES_NOT_READ, file=str(path), why=why)
