"""The IC on its way into the book: the strategy itself is run over the predictions of a table.

The default strategy decides at every instant, three times: with a cap that never binds and with its
own, both as if nothing were too dear to trade, and as it is. What it says on the way is compared
with what came. A weight counts times its residual volatility: outcomes are in units of it, so that
the products are what a leg earned. The book starts empty and holds what was decided: prices move no
weights here, a backtest does that.

    raw 1h ..      the timeframes' forecasts, as old as they are
    combined       the signal: combined, shrunk, in units of residual volatility
    neutralised    the ideal book without a binding cap, dollar-neutral, weighed by risk
    capped         the ideal book
    held           what is held inside the bands, where the costs allow a book at all
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats, Window
from daemon.domain.forecast import Prediction
from daemon.domain.instrument import Universe
from daemon.domain.predictions import Disagreements, Readings
from daemon.domain.units import Timeframe
from daemon.domain.view import View
from daemon.ports import Share
from daemon.statistics.cross_sections import ics, rank_ics
from daemon.statistics.skill import MeanIc, mean_ic
from strategies.neutral import NAME, RISK_BARS, RISK_TIMEFRAME, NeutralStrategy, build

Longs = npt.NDArray[np.int64]
UNCAPPED_WEIGHT: Final = 10.0
HOLD: Final = "hold"  # how the note of a decision begins that only kept the book
STEPS: Final = ("combined", "neutralised", "capped", "held")


@dataclass(frozen=True, slots=True)
class StepIc:
    """Hold what one step correlates with the outcome over 6 hours: Pearson's IC and the RankIC."""

    step: str
    ic: MeanIc
    rank_ic: MeanIc


@dataclass(frozen=True)
class Told:
    """Hold what is known at the decisions of a run.

    at_ms (M,), rising by an hour. mean, variance: (K, M, N), the newest forecasts of each
    timeframe, and age_ms (K, M) how old they are, -1 for none. hourly: closes (T,) and bars
    (T, N, 5) of one hour. disagreement: (K, K), readings: of the K timeframes, each from an instant
    on. cost: one way, (N,). sigma: (M, N) the residual volatility that outcomes are measured in.
    """

    at_ms: Longs
    timeframes: tuple[Timeframe, ...]
    mean: Floats
    variance: Floats
    age_ms: Longs
    hourly_ms: Longs
    hourly: Floats
    disagreement: Disagreements
    cost: Floats
    sigma: Floats
    readings: Readings = ()


def book_steps(
    told: Told,
    parameters: Mapping[str, object],
    universe: Universe,
    outcomes: Floats,
    done: Share = lambda share: None,
) -> tuple[StepIc, ...]:
    """Measure every step against outcomes (M, N); parameters: of the strategy, as settings say."""
    minutes = [t.minutes for t in told.timeframes]
    given = {"timeframes_minutes": minutes, **parameters}
    anyway = {**given, "friction_max": float("inf")}
    own, capped = build(given), build(anyway)
    free = build({**anyway, "name_weight_max": UNCAPPED_WEIGHT})
    found = {name: np.full(outcomes.shape, np.nan) for name in STEPS}
    states = [strategy.initial_state(len(universe)) for strategy in (capped, free, own)]
    held = np.zeros(len(universe))
    for m in range(len(told.at_ms)):
        done(m / len(told.at_ms))
        view = _view(told, m, universe, held)
        if view is None:
            continue
        states[0], target = capped.decide(states[0], view)
        states[1], wide = free.decide(states[1], view)
        states[2], traded = own.decide(states[2], view)
        held = traded.weights
        if target.signals is None or target.note.startswith(HOLD):
            continue
        found["combined"][m] = target.signals.alpha
        found["neutralised"][m] = wide.ideal * told.sigma[m]
        found["capped"][m] = target.ideal * told.sigma[m]
        if not traded.note.startswith(HOLD):
            found["held"][m] = held * told.sigma[m]
    raw = {f"raw {t.label}": told.mean[k] for k, t in enumerate(told.timeframes)}
    counts = np.isfinite(found["capped"]).any(axis=1, keepdims=True)
    lags = max(1, 6 * 3_600_000 // max(1, _spacing_ms(told.at_ms)))
    return tuple(
        _measured(name, np.where(counts, values, np.nan), outcomes, lags)
        for name, values in {**raw, **found}.items()
    )


def _measured(name: str, values: Floats, outcomes: Floats, lags: int) -> StepIc:
    found = (measure(values, outcomes) for measure in (ics, rank_ics))
    return StepIc(name, *(mean_ic(each, horizon_bars=lags) for each in found))


def _spacing_ms(at_ms: Longs) -> int:
    return int(at_ms[1] - at_ms[0]) if len(at_ms) > 1 else 1


def _view(told: Told, m: int, universe: Universe, held: Floats) -> View | None:
    """Give what the strategy sees at decision m, None before there are bars for it."""
    as_of_ms = int(told.at_ms[m])
    end = int(np.searchsorted(told.hourly_ms, as_of_ms, side="right"))
    if end < RISK_BARS or told.hourly_ms[end - 1] != as_of_ms:
        return None
    window = Window(RISK_TIMEFRAME, as_of_ms, told.hourly[end - RISK_BARS : end])
    marks = window.closes[-1]
    predictions = tuple(
        Prediction(t, as_of_ms - int(told.age_ms[k, m]), told.mean[k, m], told.variance[k, m], NAME)
        for k, t in enumerate(told.timeframes)
        if told.age_ms[k, m] >= 0
    )
    known = [matrix for from_ms, matrix in told.disagreement if from_ms <= as_of_ms]
    readings = [reading for from_ms, reading in told.readings if from_ms <= as_of_ms]
    return View(
        as_of_ms=as_of_ms,
        universe=universe,
        windows={RISK_TIMEFRAME: window},
        predictions=predictions,
        disagreement=known[-1] if known else None,
        marks=marks,
        weights=held,
        equity=1.0,
        eligible=np.isfinite(marks),
        cost=told.cost,
        funding_rates=np.full(len(marks), np.nan),
        reading=readings[-1] if readings else None,
    )


def strategy_fits(name: str) -> bool:
    """Tell whether a strategy's steps can be shown: those of the default one."""
    return name == NeutralStrategy().name
