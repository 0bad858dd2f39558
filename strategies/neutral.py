"""The default strategy: predictions -> strength -> one alpha an instrument -> the shared book.

One decision: age the forecasts, combine the timeframes per instrument (combination), and hand the
alphas to the book maker (`strategies.book`), which ranks, weighs and trades.

A forecast that is missing is never zero: a missing timeframe drops out, an instrument without any
keeps its weight, and with too few forecasts the whole book is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, NamedTuple

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.forecast import Prediction
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import HOUR_MS, Timeframe, require
from daemon.domain.view import View
from strategies import book, combination
from strategies.book import RISK_BARS as RISK_BARS
from strategies.book import RISK_TIMEFRAME as RISK_TIMEFRAME
from strategies.book import Outlook
from strategies.book_memory import Memory, State, fresh_memory, hours_since, read_memory
from strategies.book_settings import BookSettings
from strategies.combination import Belief, Forecasts
from strategies.knobs import check_range, read_settings
from strategies.rules import Rule

NAME: Final = "neutral"


@dataclass(frozen=True, slots=True)
class ForecastSettings(BookSettings):
    """Hold the knobs of a strategy that reads forecasts, beside those of the book.

    timeframes_minutes: the order of the estimates' disagreement matrix. combination: the rule that
    makes one alpha of the timeframes' forecasts.
    """

    timeframes_minutes: tuple[int, ...] = (60, 90, 120)
    combination: Rule = Rule.AUTO

    def __post_init__(self) -> None:
        BookSettings.__post_init__(self)
        check_range(self.OWNER, "timeframes_minutes (count)", len(self.timeframes_minutes), 1, 20)


@dataclass(frozen=True, slots=True)
class NeutralSettings(ForecastSettings):
    """Hold the knobs of the default strategy; all of them are shared ones."""

    OWNER: ClassVar[str] = NAME


def build(settings: Mapping[str, object]) -> NeutralStrategy:
    """Make the strategy from settings as the configuration file has them."""
    return NeutralStrategy(read_settings(NeutralSettings, settings, NAME))


class _Believed(NamedTuple):
    """Hold what is remembered of forecasts between decisions."""

    tau2: Floats  # (1,)
    alpha: Floats  # (N,) filtered alpha and its variance, for the rule with memory
    alpha_variance: Floats


@dataclass(frozen=True)
class NeutralStrategy:
    """Hold a dollar-neutral book of the strongest against the weakest forecasts."""

    settings: NeutralSettings = field(default_factory=NeutralSettings)

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
        return {RISK_TIMEFRAME: RISK_BARS}

    def initial_state(self, instruments_n: int) -> State:
        """Give the state before the first decision."""
        return fresh_memory(instruments_n)._asdict() | prior_beliefs(instruments_n)

    def decide(self, state: State, view: View) -> tuple[State, TargetPortfolio]:
        """Give the next state and the target; reads nothing but its arguments."""
        memory = read_memory(state, len(view.weights), BELIEFS)
        beliefs, outlook = forecast_outlook(self.settings, state, memory, view)
        if outlook is None:
            memory, target = book.hold(self.settings, memory, view, NO_FORECAST)
        else:
            memory, target = book.decide(self.settings, memory, view, outlook)
        return memory._asdict() | beliefs, target


# ---- forecasts to an outlook, for every strategy that reads them ---------------------------------

BELIEFS: Final = _Believed._fields  # the names of the arrays that beliefs add to a state
NO_FORECAST: Final = "no forecast is fresh enough"


def prior_beliefs(instruments_n: int) -> dict[str, Floats]:
    """Give the arrays of a state before any forecast."""
    prior = combination.prior_belief(instruments_n)
    return _Believed(np.array([prior.tau2]), prior.alpha, prior.variance)._asdict()


def forecast_outlook(
    knobs: ForecastSettings, state: State, memory: Memory, view: View
) -> tuple[dict[str, Floats], Outlook | None]:
    """Combine and shrink the predictions; move the moments that shrinkage needs.

    Gives the next beliefs, and None for the outlook where no forecast is fresh enough: then the
    beliefs stay.
    """
    before = _Believed(**{name: state[name] for name in BELIEFS})
    if not any(np.isfinite(p.mean).any() for p in view.predictions):
        return before._asdict(), None
    belief = Belief(float(before.tau2[0]), before.alpha, before.alpha_variance)
    belief, made = combination.blend(
        belief,
        _forecasts(knobs, view),
        view.disagreement,
        hours=hours_since(memory, view),
        phi=knobs.phi,
    )
    rule, reading = combination.resolved(knobs.combination, view.reading)
    slopes = None if view.reading is None else view.reading.slopes
    signals = combination.read(combination.signals(made, view.as_of_ms, rule, slopes), reading)
    after = _Believed(np.array([belief.tau2]), belief.alpha, belief.variance)
    return after._asdict(), Outlook(
        alpha=signals.alpha,
        variance=signals.variance,
        risk=book.risk_now(view, knobs),
        phi=knobs.phi,
        signals=signals,
    )


def _forecasts(knobs: ForecastSettings, view: View) -> Forecasts:
    """Lay the predictions out by timeframe, with their ages."""
    frames = knobs.timeframes_minutes
    shape = (len(frames), len(view.weights))
    mean, variance, ages = (
        np.full(shape, np.nan),
        np.full(shape, np.nan),
        np.full(shape[0], np.nan),
    )
    for p in view.predictions:
        if p.timeframe.minutes in frames:
            k = frames.index(p.timeframe.minutes)
            mean[k], variance[k], ages[k] = p.mean, p.variance, _age_hours(p, view)
    return Forecasts(mean, variance, ages)


def _age_hours(p: Prediction, view: View) -> float:
    require(p.as_of_ms <= view.as_of_ms, f"forecast of {p.timeframe.label} is from the future")
    return (view.as_of_ms - p.as_of_ms) / HOUR_MS
