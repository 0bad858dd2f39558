"""What the worker hosts where a covariance is asked for: forecasts as before, and the covariance.

Hourly log returns are gathered from the windows of one hour as they come. A new hour is appended to
those that are known, up to `memory_bars`; a window that does not continue them begins anew. So an
estimator remembers longer than a window while the worker lives; after a restart it has what the
window holds. A bar that is revised later counts as it was first seen.

Two estimators run side by side, the one that is asked for and a baseline, and a monitor holds both
against what comes (`strategies.covariance.monitor`). Whose word is given is in the answer's
`estimator` and, with the reason, in its `note`. A baseline that fails while the asked one speaks,
and that there is no covariance at all, is said among what is silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from msgspec import structs

from daemon.domain.bar import Floats, Window
from daemon.domain.covariance import Covariance
from daemon.domain.failures import EquipoiseError
from daemon.domain.forecast import Estimates
from daemon.domain.messages import FundingRates
from daemon.domain.units import HOUR_MS, Timeframe
from strategies.covariance.columns import Columns
from strategies.covariance.interface import CovarianceEstimator
from strategies.covariance.monitor import Monitor
from strategies.factor_form import factors_of

HOUR: Final = Timeframe(60)
NOBODY: Final = "covariance"  # names among what is silent
NO_BASELINE: Final = "covariance baseline"


class Forecaster(Protocol):
    """Say what the forecasts beside the covariance come from."""

    @property
    def model_id(self) -> str:
        """Give the model's id."""
        ...

    def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Estimates:
        """Give one prediction per window."""
        ...


class Noting(Protocol):
    """Take settled funding rates."""

    def note(self, rates: FundingRates) -> None:
        """Take the rates of one settlement."""
        ...


class HourlyReturns:
    """Gather hourly log returns (T, N) from windows; NaN where either bar is missing."""

    def __init__(self, memory_bars: int) -> None:
        self._kept = memory_bars
        self.rows: Floats = np.zeros((0, 0))
        self.newest_ms = 0

    def add(self, window: Window) -> None:
        """Take what is new in a window of one hour."""
        with np.errstate(divide="ignore", invalid="ignore"):
            made = np.diff(np.log(window.closes), axis=0)  #                        (T - 1, N)
        made = np.where(np.isfinite(made), made, np.nan)
        new_n = (window.newest_ms - self.newest_ms) // HOUR_MS
        continues = self.rows.shape[1] == made.shape[1] and 0 <= new_n <= len(made)
        if continues and new_n:
            self.rows = np.concatenate([self.rows, made[-new_n:]])
        elif not continues:
            self.rows = made
        self.rows, self.newest_ms = self.rows[-self._kept :], window.newest_ms


class WithCovariance:
    """Add a covariance to what a forecaster says; covers `adapters.estimate_worker`'s needs.

    inner: None where nothing else is forecast. columns: what the asked estimator reads beside
    returns, None where it reads nothing else. noting: who is told of settled funding rates.
    factors: whether the factor form is given as well, so that a decision need not make it.
    """

    def __init__(
        self,
        inner: Forecaster | None,
        asked: CovarianceEstimator,
        baseline: CovarianceEstimator,
        monitor: Monitor,
        *,
        memory_bars: int,
        columns: Columns | None = None,
        noting: Sequence[Noting] = (),
        factors: bool = False,
    ) -> None:
        self._inner = inner
        self._columns, self._noting, self._factors = columns, tuple(noting), factors
        self._asked, self._baseline = asked, baseline
        self._monitor = monitor
        self._returns = HourlyReturns(memory_bars)
        self._before: tuple[Covariance, Covariance] | None = None
        self._silent: dict[str, str] = {}  # by name, with the first reason

    @property
    def model_id(self) -> str:
        """Give the id of the model of the forecasts, and which covariance comes beside it."""
        inner = "" if self._inner is None else f"{self._inner.model_id} "
        return f"{inner}+ covariance {self._asked.name}"

    def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Estimates:
        """Give the forecasts and, at the close of an hour, the covariance."""
        said = (
            Estimates(as_of_ms, ())
            if self._inner is None
            else self._inner.estimate(as_of_ms, windows)
        )
        hours = [w for w in windows if w.timeframe == HOUR]
        if hours and hours[0].newest_ms > self._returns.newest_ms:
            said = structs.replace(said, covariance=self._predict(hours[0]))
        if self._silent:
            said = structs.replace(said, silent={**said.silent, **self._silent})
        return said

    def note(self, rates: FundingRates) -> None:
        """Pass settled rates on to those who read them."""
        for one in self._noting:
            one.note(rates)

    def _predict(self, window: Window) -> Covariance | None:
        """Give the covariance of the next hour; None where nobody who is believed has one."""
        last_ms = self._returns.newest_ms
        self._returns.add(window)
        rows, at_ms = self._returns.rows, window.newest_ms
        if self._before is not None and at_ms - last_ms == HOUR_MS and len(rows):
            self._monitor.judge(*self._before, rows[-1])
        asked, why = _said(self._asked, rows, self._beside(rows, at_ms), at_ms)
        baseline, why_not = _said(self._baseline, rows, None, at_ms)
        self._before = None if asked is None or baseline is None else (asked, baseline)
        why = why or self._monitor.why()
        spoken = baseline if why else asked
        self._fell_silent(spoken is None, why, why_not)
        if spoken is None:
            return None
        factors = factors_of(spoken) if self._factors else None
        return structs.replace(spoken, note=why, watch=self._monitor.watch(), factors=factors)

    def _fell_silent(self, nobody: bool, why: str, why_not: str) -> None:
        """Note what is not said, by the reason of its first hour: people hear of it once."""
        now = {NO_BASELINE: f"the watch is without it: {why_not}"} if why_not else {}
        if nobody:
            now[NOBODY] = f"nobody gives one: {why}; {why_not}".rstrip("; ")
        self._silent = {name: self._silent.get(name, text) for name, text in now.items()}

    def _beside(self, rows: Floats, at_ms: int) -> Floats | None:
        if self._columns is None:
            return None
        hours = at_ms - HOUR_MS * np.arange(len(rows) - 1, -1, -1, dtype=np.int64)
        return self._columns.at(hours, rows)


def _said(
    estimator: CovarianceEstimator, rows: Floats, covariates: Floats | None, at_ms: int
) -> tuple[Covariance | None, str]:
    """Ask an estimator; where it fails, or gives no covariance, say why in its place.

    What goes wrong with a covariance must not cost the forecasts that come beside it.
    """
    try:
        found = estimator.forecast(rows, covariates, at_ms)
        why = found.problem(rows.shape[1])
    except (ArithmeticError, ValueError, EquipoiseError) as failure:  # a LinAlgError is the second
        return None, f"{estimator.name} gave {failure}"
    return (found, "") if why is None else (None, f"{estimator.name} gave {why}")
