"""A run with everything that can be said about it: what a tear sheet shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from daemon.domain.failures import InvariantViolated
from daemon.report.attribution import Attribution, attribute
from daemon.report.bookings import later_transfers
from daemon.report.exposures import MARKET, Exposures, column_of, exposures
from daemon.report.forecast_skill import ForecastSkill, forecast_skill
from daemon.report.honesty import BAND_DAYS_MIN, Honesty, equity_band, judge
from daemon.report.metrics import Ints, RunMetrics, daily, day_ends, measure, performance
from daemon.report.run import Run
from daemon.report.trials import Trials

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """Hold a run and the judgements of it; name tells it from others beside it.

    attribution: the reason as a text where the record does not explain every change of the book, as
    after an adopted difference to the venue. band: the bounds (D,) between which resampled days
    would have left the equity at each day's end, quote currency; None for a run too short to tell.
    value: what the first equity became by trading alone, (T,) quote currency; None where nothing
    was paid in or out since, so that it is the equity. benchmark: what the information ratio is
    against.
    """

    name: str
    run: Run
    metrics: RunMetrics
    attribution: Attribution | str
    exposures: Exposures
    skill: ForecastSkill
    honesty: Honesty
    band: tuple[Floats, Floats] | None
    value: Floats | None = None
    benchmark: str = MARKET


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Hold what a run is compared with: its name, and its returns by UTC day since 1970."""

    name: str
    returns: Mapping[int, float]

    def on(self, days: Ints) -> Floats:
        """Give its returns on these days, NaN on those that it does not have, same shape."""
        return np.array([self.returns.get(day, np.nan) for day in days.tolist()])


def coin_benchmark(run: Run, coin: str) -> Benchmark | None:
    """Make a benchmark of holding a coin such as BTC; None where the run does not know it."""
    at = column_of(run.facts.symbols, coin)
    return None if at is None else _benchmark(run.facts.symbols[at], run, run.record.marks[:, at])


def run_benchmark(name: str, run: Run) -> Benchmark:
    """Make a benchmark of another run, without what was paid in or out."""
    return _benchmark(name, run, _value(run, later_transfers(run)))


def _benchmark(name: str, run: Run, values: Floats) -> Benchmark:
    days, rows = day_ends(run.record.times_ms)
    returns = values[rows[1:]] / values[rows[:-1]] - 1.0
    return Benchmark(name, dict(zip(days[1:].tolist(), returns.tolist(), strict=True)))


def _value(run: Run, transfers: Floats | None) -> Floats:
    equity = run.record.column("equity")
    return equity if transfers is None else performance(equity, transfers)


def judge_run(
    run: Run,
    *,
    name: str = "run",
    trials: Trials | None = None,
    seed: int = 7,
    latency_bps: float = 0.0,
    benchmark: Benchmark | None = None,
) -> Judged:
    """Work out everything; `trials` is what was tried on the same data, this run included.

    benchmark: of the information ratio, the equal-weight market by default.
    """
    record, transfers = run.record, later_transfers(run)
    value = _value(run, transfers)
    days = day_ends(record.times_ms)[0]
    against = None if benchmark is None else benchmark.on(days[1:])
    equity = daily(record.times_ms, value)
    returns = equity[1:] / equity[:-1] - 1.0
    band = None
    if len(returns) >= BAND_DAYS_MIN:
        low, high = equity_band(returns, seed)
        band = equity[0] * low, equity[0] * high
    return Judged(
        name=name,
        run=run,
        metrics=measure(record, benchmark=against, transfers=transfers),
        attribution=_attribution(run, latency_bps),
        exposures=exposures(run, value),
        skill=forecast_skill(run),
        honesty=judge(returns, trials=trials),
        band=band,
        value=None if transfers is None else value,
        benchmark=MARKET if benchmark is None else benchmark.name,
    )


def _attribution(run: Run, latency_bps: float) -> Attribution | str:
    try:
        return attribute(run, latency_bps=latency_bps)
    except InvariantViolated as e:
        return f"not attributed: {e}"
