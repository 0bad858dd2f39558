"""What a signal is worth beside its IC: how it ages, how fast it turns, what its costs leave.

The friction number is F = c (1 - phi) / (rho sigma): one-way cost over the cumulated expected
return of a one-sd signal. With the IC over H hours and an alpha that decays by phi an hour that is
c (1 - phi^H) / (IC sqrt(H) sigma). Above 1.5 no band makes the signal pay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.domain.units import HOUR_MS
from daemon.statistics.cross_sections import normal_scores, rank_ics, score_ics
from daemon.statistics.skill import MeanIc, mean_ic
from strategies.forecast.calibration import centred
from strategies.rebalance import friction

Longs = npt.NDArray[np.int64]
HORIZONS_H: Final = (1, 6, 12, 24)
AGES_H: Final = (0, 1, 2, 4, 8, 12, 24)
HORIZON_H: Final = 6


@dataclass(frozen=True, slots=True)
class At:
    """Hold the IC over a horizon, or of a forecast of some age, in hours."""

    hours: int
    rank_ic: MeanIc
    score_ic: MeanIc


@dataclass(frozen=True, slots=True)
class Quality:
    """Hold what a signal is like.

    decay: by horizon; ages: of a forecast so many hours old, over 6 hours. persistence: correlation
    of the forecasts, centred at each instant, with those one instant before, all pairs together
    (the mean of an instant's correlation would be too low by what few names do). turnover: what
    a book that follows the scores in full buys and sells a day, in its gross. friction: F, infinite
    without skill. All NaN where the signal never differs between instruments.
    """

    decay: tuple[At, ...]
    ages: tuple[At, ...]
    persistence: float
    turnover: float
    friction: float


def quality_of(
    forecasts: Floats, outcomes: Mapping[int, Floats], sigma: Floats, *, cost: float, step_h: int
) -> Quality:
    """Measure forecasts (M, N) of instants that are step_h apart.

    outcomes: labels (M, N) by horizon in hours. sigma: residual volatility an hour (M, N). cost:
    one way, as a fraction of notional.
    """
    decay = tuple(_at(hours, forecasts, outcomes[hours], hours, step_h) for hours in outcomes)
    ages = tuple(
        _at(age, _aged(forecasts, age // step_h), outcomes[HORIZON_H], HORIZON_H, step_h)
        for age in AGES_H
        if age % step_h == 0
    )
    scores = centred(normal_scores(forecasts))
    before = _aged(scores, 1)
    persistence = _correlation(centred(forecasts), _aged(centred(forecasts), 1))
    per_hour = max(persistence, 0.0) ** (1.0 / step_h) if persistence == persistence else math.nan
    ic = next(one.score_ic.mean for one in decay if one.hours == HORIZON_H)
    return Quality(
        decay,
        ages,
        persistence,
        _turnover(scores, before) * 24.0 / step_h,
        friction_number(ic, per_hour, _mean(sigma[np.isfinite(forecasts)]), cost),
    )


def friction_number(ic: float, phi: float, sigma: float, cost: float) -> float:
    """Give F from the IC over 6 hours; phi and the residual volatility sigma are of one hour.

    Infinite where the IC is not above 0, NaN where the IC or phi is not known.
    """
    if not (math.isfinite(ic) and math.isfinite(phi)):
        return math.nan
    if ic <= 0.0:
        return math.inf
    reversal = 1.0 - phi**HORIZON_H
    return float(friction(np.array(cost), reversal, np.array(ic * HORIZON_H**0.5 * sigma)))


def _correlation(a: Floats, b: Floats) -> float:
    known = np.isfinite(a) & np.isfinite(b)
    x, y = a[known], b[known]
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0 else math.nan


def _at(hours: int, forecasts: Floats, y: Floats, horizon_h: int, step_h: int) -> At:
    lags = max(1, horizon_h // step_h)
    found = (measure(forecasts, y) for measure in (rank_ics, score_ics))
    return At(hours, *(mean_ic(values, horizon_bars=lags) for values in found))


def _aged(values: Floats, steps: int) -> Floats:
    """Give at each instant what stood there so many steps before."""
    if not steps:
        return values
    return np.vstack([np.full((min(steps, len(values)), values.shape[1]), np.nan), values[:-steps]])


def _turnover(scores: Floats, before: Floats) -> float:
    """Give what is bought and sold in a step of a book of gross 1 that is the scores."""
    books = []
    for rows in (scores, before):
        size = np.nansum(np.abs(rows), axis=1, keepdims=True)
        books.append(np.nan_to_num(rows / np.where(size > 0, size, np.nan)))
    held = (books[0] != 0).any(axis=1) & (books[1] != 0).any(axis=1)
    return _mean(np.abs(books[0] - books[1]).sum(axis=1)[held])


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def step_of(hours_ms: int) -> int:
    """Give a spacing of decisions in whole hours, at least one."""
    return max(1, hours_ms // HOUR_MS)
