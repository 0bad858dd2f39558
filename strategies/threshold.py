"""Adaptive thresholds on confidence: hold only legs whose sign is likely enough to be right.

With the alphas a_i and variances u_i of the forecasts, as the default strategy combines them,

    d_i = a_i - mean of a           the edge over the others, which a neutral book earns
    z_i = |d_i| / sqrt(u_i)         its sign is right with probability Phi(z_i)
    enter while z_i >= theta        stay while z_i >= `stay_share` theta and d_i is on the held side

The threshold adapts, so that the wanted share of the usable instruments passes and trading costs no
more than the wanted share of what the book expects to earn. At each decision

    log theta <- log theta + gain (n / N - breadth_share + max(0, K - cost_share_max))

n of N usable instruments passed; K, at most 1, is costs over expected earnings, both exponentially
weighted sums of past decisions. It starts at the quantile that lets the wanted share pass. With too
many legs or too dear ones it rises, else it falls: a Robbins-Monro search for a quantile, which is
how adaptive conformal inference keeps its coverage too (Gibbs and Candes 2021).

A leg that the neutral book of those would hold against its own edge is left out as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, NamedTuple

import numpy as np
from msgspec import structs

from daemon.domain.bar import Flags, Floats
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import Timeframe
from daemon.domain.view import View
from strategies import book
from strategies.book import Outlook
from strategies.book_memory import State, fresh_memory, hours_since, read_memory
from strategies.knobs import check_range, read_settings
from strategies.neutral import (
    BELIEFS,
    NO_FORECAST,
    ForecastSettings,
    forecast_outlook,
    prior_beliefs,
)
from strategies.strength import VARIANCE_FLOOR

NAME: Final = "threshold"
KEEP: Final = 0.98  # an hour, of past costs and earnings: a half-life of 34 hours
THETA_MIN, THETA_MAX = 1e-6, 1e6


@dataclass(frozen=True, slots=True)
class ThresholdSettings(ForecastSettings):
    """Hold what breadth and cost are wanted, and how fast the threshold follows."""

    OWNER: ClassVar[str] = NAME

    breadth_share: float = 0.5
    cost_share_max: float = 0.5
    gain: float = 0.1
    stay_share: float = 0.75

    def __post_init__(self) -> None:
        ForecastSettings.__post_init__(self)
        check_range(NAME, "breadth_share", self.breadth_share, 0.01, 1.0)
        check_range(NAME, "cost_share_max", self.cost_share_max, 0.0, 1.0)
        check_range(NAME, "gain", self.gain, 0.0, 1.0)
        check_range(NAME, "stay_share", self.stay_share, 0.0, 1.0)


def build(settings: Mapping[str, object]) -> ThresholdStrategy:
    """Make the strategy from settings as the configuration file has them."""
    return ThresholdStrategy(read_settings(ThresholdSettings, settings, NAME))


class _Bar(NamedTuple):
    """Hold the threshold between decisions, and what it follows; (1,) each, NaN = not yet known."""

    theta: Floats
    paid: Floats  # exponentially weighted sum of costs, in weights
    earned: Floats  # the same of expected earnings


@dataclass(frozen=True)
class ThresholdStrategy:
    """Hold a dollar-neutral book of the forecasts that pass an adaptive threshold."""

    settings: ThresholdSettings = field(default_factory=ThresholdSettings)

    @property
    def name(self) -> str:
        """Give the name by which settings choose it."""
        return NAME

    @property
    def needs_estimates(self) -> bool:
        """Tell that decisions wait for the estimator."""
        return True

    @property
    def windows_needed(self) -> Mapping[Timeframe, int]:
        """Give the bars without which risk cannot be measured."""
        return {book.RISK_TIMEFRAME: book.RISK_BARS}

    def initial_state(self, instruments_n: int) -> State:
        """Give the state before the first decision."""
        first = _Bar(np.array([np.nan]), np.zeros(1), np.zeros(1))
        memory = fresh_memory(instruments_n)._asdict()
        return memory | prior_beliefs(instruments_n) | first._asdict()

    def decide(self, state: State, view: View) -> tuple[State, TargetPortfolio]:
        """Give the next state and the target; reads nothing but its arguments."""
        knobs = self.settings
        memory = read_memory(state, len(view.weights), (*BELIEFS, *_Bar._fields))
        bar = _Bar(**{name: state[name] for name in _Bar._fields})
        beliefs, outlook = forecast_outlook(knobs, state, memory, view)
        if outlook is None:
            memory, target = book.hold(knobs, memory, view, NO_FORECAST)
            return memory._asdict() | beliefs | bar._asdict(), target
        hours = hours_since(memory, view)
        usable = book.rankable(view, outlook)
        edge, z = confidence(outlook, usable)
        theta = started(float(bar.theta[0]), z[usable], knobs.breadth_share)
        entering = passing(edge, z, view.weights, theta, knobs.stay_share)
        share = float(entering.sum()) / max(int(usable.sum()), 1)
        outlook = replace(outlook, sides=np.where(entering, np.sign(edge), 0.0))
        memory, target = book.decide(knobs, memory, view, outlook)
        bar = _counted(bar, view, outlook.hourly_alpha, target, hours)
        moved = adapted(theta, share, _cost_share(bar), knobs)
        bar = bar._replace(theta=np.array([moved]))
        passed = f"threshold {theta:.3g}: {int(entering.sum())} of {int(usable.sum())} pass"
        note = f"{target.note}; {passed}" if target.note else passed
        target = structs.replace(target, note=note)
        return memory._asdict() | beliefs | bar._asdict(), target


def confidence(outlook: Outlook, usable: Flags) -> tuple[Floats, Floats]:
    """Give the edges d over the mean of the usable, and z = |d| / sqrt(u); (N,), NaN elsewhere."""
    edge = np.full(len(usable), np.nan)
    edge[usable] = outlook.alpha[usable] - outlook.alpha[usable].mean()
    return edge, np.abs(edge) / np.sqrt(np.maximum(outlook.variance, VARIANCE_FLOOR))


def started(theta: float, z: Floats, breadth_share: float) -> float:
    """Give the threshold, before the first one that which lets the wanted share of z pass."""
    if np.isfinite(theta) or not z.size:
        return theta
    return float(np.clip(np.quantile(z, 1.0 - breadth_share), THETA_MIN, THETA_MAX))


def passing(edge: Floats, z: Floats, held: Floats, theta: float, stay_share: float) -> Flags:
    """Tell who is above the threshold, or held on the side of its edge and near enough, (N,)."""
    stays = (held * edge > 0) & (z >= stay_share * theta)
    return (z >= theta) | stays


def adapted(
    theta: float, passed_share: float, cost_share: float, knobs: ThresholdSettings
) -> float:
    """Move the threshold by one decision; NaN, not known, stays."""
    error = passed_share - knobs.breadth_share + max(0.0, cost_share - knobs.cost_share_max)
    moved = theta * float(np.exp(knobs.gain * error))
    return float(np.clip(moved, THETA_MIN, THETA_MAX))


def _counted(bar: _Bar, view: View, hourly: Floats, target: TargetPortfolio, hours: float) -> _Bar:
    """Add what a decision costs, and what its book is expected to earn until the next one."""
    keep = KEEP**hours
    known = np.isfinite(hourly) & np.isfinite(view.cost)
    traded, held = np.abs(target.weights - view.weights)[known], target.weights[known]
    paid, earned = float(traded @ view.cost[known]), float(held @ hourly[known]) * hours
    return bar._replace(paid=keep * bar.paid + paid, earned=keep * bar.earned + earned)


def _cost_share(bar: _Bar) -> float:
    """Give costs over expected earnings, between 0 and 1; 1 where nothing is earned."""
    paid, earned = float(bar.paid[0]), float(bar.earned[0])
    if paid <= 0:
        return 0.0
    return min(paid / earned, 1.0) if earned > 0 else 1.0
