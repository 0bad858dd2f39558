"""A run with everything that can be said about it: what a tear sheet shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from daemon.domain.failures import InvariantViolated
from daemon.report.attribution import Attribution, attribute
from daemon.report.exposures import Exposures, exposures
from daemon.report.forecast_skill import ForecastSkill, forecast_skill
from daemon.report.honesty import BAND_DAYS_MIN, Honesty, equity_band, judge
from daemon.report.metrics import RunMetrics, daily, measure
from daemon.report.run import Run
from daemon.report.trials import Trials

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """Hold a run and the judgements of it; name tells it from others beside it.

    attribution: the reason as a text where the record does not explain every change of the book, as
    after an adopted difference to the venue. band: the bounds (D,) between which resampled days
    would have left the equity at each day's end, quote currency; None for a run too short to tell.
    """

    name: str
    run: Run
    metrics: RunMetrics
    attribution: Attribution | str
    exposures: Exposures
    skill: ForecastSkill
    honesty: Honesty
    band: tuple[Floats, Floats] | None


def judge_run(
    run: Run,
    *,
    name: str = "run",
    trials: Trials | None = None,
    seed: int = 7,
    latency_bps: float = 0.0,
) -> Judged:
    """Work out everything; `trials` is what was tried on the same data, this run included."""
    record = run.record
    equity = daily(record.times_ms, record.column("equity"))
    returns = equity[1:] / equity[:-1] - 1.0
    band = None
    if len(returns) >= BAND_DAYS_MIN:
        low, high = equity_band(returns, seed)
        band = equity[0] * low, equity[0] * high
    return Judged(
        name=name,
        run=run,
        metrics=measure(record),
        attribution=_attribution(run, latency_bps),
        exposures=exposures(run),
        skill=forecast_skill(run),
        honesty=judge(returns, trials=trials),
        band=band,
    )


def _attribution(run: Run, latency_bps: float) -> Attribution | str:
    try:
        return attribute(run, latency_bps=latency_bps)
    except InvariantViolated as e:
        return f"not attributed: {e}"
