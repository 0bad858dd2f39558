"""The default strategy: predictions -> strength -> ranks -> weights -> bands -> targets.

One decision: age the forecasts, combine the timeframes per instrument (combination), rank, leave
out what cannot pay its costs, build the dollar-neutral capped book of the wanted gross, and
move the present book to it only as far as the no-trade bands ask for (rebalance).

Units: alphas come in residual volatility over H = 6 hours. With hourly residual volatility sigma
and an alpha that decays by phi an hour, a signal of size a is worth

    a sigma sqrt(H) over the horizon,   a sigma sqrt(H) (1 - phi) / (1 - phi^H) in the next hour.

A forecast that is missing is never zero: a missing timeframe drops out, an instrument without any
keeps its weight, and with too few forecasts the whole book is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Flags, Floats
from daemon.domain.forecast import Prediction, Signals
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import HOUR_MS, Timeframe, require
from daemon.domain.view import View
from strategies import combination, ranking, rebalance, weighting
from strategies.combination import Belief, Forecasts
from strategies.knobs import check_range, read_settings
from strategies.risk import ResidualRisk, residual_risk
from strategies.rules import Rule

State = Mapping[str, npt.NDArray[np.float64]]
NAME: Final = "neutral"
STATE_VERSION: Final = 1.0
HORIZON_HOURS: Final = 6.0
RISK_TIMEFRAME: Final = Timeframe(60)
RISK_BARS: Final = 169  # a week of hourly returns
VELOCITY_HALF_LIFE_HOURS: Final = 48.0
POWER_HALF_LIFE_HOURS: Final = 48.0  # of the alphas' mean square
# The held gross as shares of the ideal one: below it the book is refilled, above it cut.
GROSS_SHARE_MIN: Final = 0.85
GROSS_SHARE_MAX: Final = 1.10
# Of the typical |ideal weight|. At 2 a leg capped on the long side would still rest when its target
# is the cap on the short side: a small book of capped targets would freeze.
BAND_SHARE_MAX: Final = 1.8
DRIFT_SHARE_MAX: Final = 0.005  # |net| / gross that may stay while no leg needs a trade
GIVE_MIN: Final = 1e-3
HOLD_DRIFT_SHARE_MAX: Final = 0.01  # the same for a book on hold
KEPT_BAND_WEIGHT: Final = 100.0  # wider than any weight: a leg without a forecast is not traded
HOLDS_BEFORE_REDUCE_ONLY: Final = 2


class Band(StrEnum):
    """Say how wide the no-trade bands are."""

    CUBE_ROOT = "cube_root"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class NeutralSettings:
    """Hold the knobs; weights are fractions of equity.

    timeframes_minutes: the order of the estimates' disagreement matrix. legs_max: legs in all on a
    large universe. alpha_half_life_hours: how long half of a forecast's edge lasts. friction_max: a
    leg whose cost exceeds this multiple of a typical signal's expected return may only shrink.
    risk_aversion: of the band, in hourly returns; 0 takes what the gross target implies.
    combination: the rule that makes one alpha of the timeframes' forecasts.
    band: the cheapest half-width by the cube-root rule, or fixed at band_weight (0: trade in full),
    which is there to be compared with.
    """

    timeframes_minutes: tuple[int, ...] = (60, 90, 120)
    gross_weight: float = 1.0
    name_weight_max: float = 0.2
    legs_max: int = 40
    breadth_min: int = 6
    alpha_half_life_hours: float = 12.0
    volatility_half_life_hours: float = 48.0
    friction_max: float = 1.5
    risk_aversion: float = 0.0
    combination: Rule = Rule.AUTO
    beta_neutral: bool = False
    band: Band = Band.CUBE_ROOT
    band_weight: float = 0.02

    def __post_init__(self) -> None:
        check_range(NAME, "gross_weight", self.gross_weight, 0.0, 10.0)
        check_range(NAME, "name_weight_max", self.name_weight_max, 1e-6, 10.0)
        check_range(NAME, "legs_max", self.legs_max, 2, 10_000)
        check_range(NAME, "breadth_min", self.breadth_min, 2, 10_000)
        check_range(NAME, "alpha_half_life_hours", self.alpha_half_life_hours, 0.1, 10_000)
        check_range(NAME, "volatility_half_life_hours", self.volatility_half_life_hours, 1, 10_000)
        check_range(NAME, "friction_max", self.friction_max, 0.0, float("inf"))
        check_range(NAME, "risk_aversion", self.risk_aversion, 0.0, float("inf"))
        check_range(NAME, "band_weight", self.band_weight, 0.0, 1.0)
        check_range(NAME, "timeframes_minutes (count)", len(self.timeframes_minutes), 1, 20)

    @property
    def phi(self) -> float:
        """Give the alpha's persistence per hour."""
        return float(0.5 ** (1.0 / self.alpha_half_life_hours))


def build(settings: Mapping[str, object]) -> NeutralStrategy:
    """Make the strategy from settings as the configuration file has them."""
    return NeutralStrategy(read_settings(NeutralSettings, settings, NAME))


class _Memory(NamedTuple):
    """Hold the state between decisions; (N,) or (1,) float64 arrays, NaN = not yet known."""

    version: Floats
    as_of_ms: Floats  # (1,)
    tau2: Floats  # (1,)
    alpha_power: Floats  # (1,) mean square of the alphas about their mean
    velocity2: Floats  # (N,) nu^2, variance per hour of the ideal weight
    ideal: Floats  # (N,) the last ideal weights
    alpha: Floats  # (N,) filtered alpha and its variance, for the rule with memory
    alpha_variance: Floats
    holds: Floats  # (1,) decisions in a row that only kept the book


class _Forecast(NamedTuple):
    """Hold what one decision knows about returns: signals, risk, and the scales between them."""

    signals: Signals
    risk: ResidualRisk
    usable: Flags
    too_dear: Flags  # (N,) usable, but F is above its maximum
    alpha: Floats  # (N,) expected residual return of the next hour
    variance: Floats  # (N,) hourly variance with the alpha's own uncertainty


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
        unknown, one = np.full(instruments_n, np.nan), np.array([np.nan])
        memory = _Memory(
            version=np.array([STATE_VERSION]),
            as_of_ms=one,
            tau2=np.array([combination.TAU2_PRIOR]),
            alpha_power=one,
            velocity2=unknown,
            ideal=unknown,
            alpha=unknown,
            alpha_variance=unknown,
            holds=np.zeros(1),
        )
        return memory._asdict()

    def decide(self, state: State, view: View) -> tuple[State, TargetPortfolio]:
        """Give the next state and the target; reads nothing but its arguments."""
        memory = _read(state, len(view.weights))
        if not any(np.isfinite(p.mean).any() for p in view.predictions):
            return self._hold(memory, view, "no forecast is fresh enough")
        hours = _hours_since(memory, view)
        memory, forecast = self._forecast(memory, view, hours)
        order = ranking.ranked(forecast.signals.alpha, forecast.usable)
        if not ranking.is_broad(order, self.settings.breadth_min):
            note = f"{len(order)} usable forecasts; {self.settings.breadth_min} are needed"
            return self._hold(memory, view, note, forecast)
        memory = memory._replace(holds=np.zeros(1))
        if int((~forecast.too_dear[order]).sum()) < 2:
            note = "costs exceed what the signals can earn"
            return self._hold(memory, view, note, forecast)
        return self._trade(memory, view, forecast, order, hours)

    def _forecast(self, memory: _Memory, view: View, hours: float) -> tuple[_Memory, _Forecast]:
        """Combine and shrink the predictions; move the moments that shrinkage needs."""
        knobs = self.settings
        belief = Belief(float(memory.tau2[0]), memory.alpha, memory.alpha_variance)
        belief, made = combination.blend(
            belief, self._forecasts(view), view.disagreement, hours=hours, phi=knobs.phi
        )
        rule, reading = combination.resolved(knobs.combination, view.reading)
        slopes = None if view.reading is None else view.reading.slopes
        signals = combination.read(combination.signals(made, view.as_of_ms, rule, slopes), reading)
        closes = view.windows[RISK_TIMEFRAME].closes
        risk = residual_risk(closes, half_life_bars=knobs.volatility_half_life_hours)
        usable = view.eligible & np.isfinite(view.marks) & np.isfinite(risk.volatility)
        usable &= np.isfinite(signals.alpha) & np.isfinite(view.cost)
        power = _alpha_power(memory, signals.alpha[usable], _keep(hours, POWER_HALF_LIFE_HOURS))
        memory = memory._replace(
            as_of_ms=np.array([float(view.as_of_ms)]),
            tau2=np.array([belief.tau2]),
            alpha=belief.alpha,
            alpha_variance=belief.variance,
            alpha_power=np.array([power]),
        )
        # Without a typical size yet no leg is refused for its cost.
        typical = max(power, 0.0) ** 0.5 if np.isfinite(power) else np.inf
        over_horizon = np.where(usable, risk.volatility * HORIZON_HOURS**0.5, 1.0)
        reversal = 1.0 - knobs.phi**HORIZON_HOURS
        earned = np.maximum(typical * over_horizon, np.finfo(float).tiny)
        dear = rebalance.friction(view.cost, reversal, earned) > knobs.friction_max
        return memory, _Forecast(
            signals=signals,
            risk=risk,
            usable=usable,
            too_dear=usable & dear,
            alpha=signals.alpha * over_horizon * ((1.0 - knobs.phi) / reversal),
            variance=risk.volatility**2 * (1.0 + signals.variance),
        )

    def _forecasts(self, view: View) -> Forecasts:
        """Lay the predictions out by timeframe, with their ages."""
        frames = self.settings.timeframes_minutes
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

    def _trade(
        self,
        memory: _Memory,
        view: View,
        forecast: _Forecast,
        order: ranking.Indices,
        hours: float,
    ) -> tuple[State, TargetPortfolio]:
        """Build the ideal book and move to it as far as the bands ask for."""
        knobs = self.settings
        chosen = np.zeros(len(view.weights), dtype=bool)
        chosen[ranking.extremes(order, knobs.legs_max, view.weights)] = True
        silent = view.eligible & ~forecast.usable
        multiplier = 1.0 if view.gross_multiplier is None else view.gross_multiplier
        book = weighting.long_short(
            forecast.alpha,
            forecast.variance,
            tradable=chosen & ~forecast.too_dear,
            gross=knobs.gross_weight * min(max(multiplier, 0.0), 1.0),
            weight_max=knobs.name_weight_max,
            beta=np.where(forecast.usable, forecast.risk.beta, 1.0) if knobs.beta_neutral else None,
            kept=np.where(silent, view.weights, 0.0),
        )
        memory = _with_velocity(memory, book.weights, forecast.usable, knobs.phi, hours)
        # A leg that lost its place is closed at once: inside a band around zero it would stay.
        band = np.where(chosen, self._band(memory, view, forecast, book), 0.0)
        reduce_only = forecast.too_dear | silent | ~chosen
        if view.reduce_only is not None:
            reduce_only |= view.reduce_only
        weights, lift, narrowing = rebalance.at_gross(
            view.weights,
            book.weights,
            np.where(silent, KEPT_BAND_WEIGHT, band),
            _give(band, view.cost, forecast),
            rebalance.limits(
                view.weights,
                weight_max=knobs.name_weight_max,
                reduce_only=reduce_only,
                closing=~view.eligible,
            ),
            drift_max=DRIFT_SHARE_MAX * max(book.gross, float(np.abs(view.weights).sum())),
            gross_min=GROSS_SHARE_MIN * book.gross,
            gross_max=GROSS_SHARE_MAX * book.gross,
        )
        return memory._asdict(), TargetPortfolio(
            as_of_ms=view.as_of_ms,
            weights=weights,
            ideal=book.weights,
            band=narrowing * band,
            signals=forecast.signals,
            reduce_only=reduce_only,
            note=_note(book, int(forecast.too_dear.sum()), int(silent.sum()), lift, narrowing),
        )

    def _band(
        self, memory: _Memory, view: View, forecast: _Forecast, book: weighting.Book
    ) -> Floats:
        """Give the half-widths (N,), zero for instruments that may not be held."""
        if self.settings.band is Band.FIXED:
            return np.where(forecast.usable, self.settings.band_weight, 0.0)
        aversion = self.settings.risk_aversion or book.risk_aversion
        if not np.isfinite(aversion):
            return np.zeros(len(view.weights))
        band = rebalance.cube_root_band(
            np.where(forecast.usable, view.cost, 0.0),
            rebalance.floored_velocity2(memory.velocity2, forecast.usable),
            aversion,
            np.where(forecast.usable, forecast.variance, 1.0),
        )
        held_legs = np.abs(book.weights[book.weights != 0])
        widest = BAND_SHARE_MAX * float(held_legs.mean()) if held_legs.size else 0.0
        return np.where(forecast.usable, np.minimum(band, widest), 0.0)

    def _hold(
        self, memory: _Memory, view: View, why: str, forecast: _Forecast | None = None
    ) -> tuple[State, TargetPortfolio]:
        """Keep the book; what may not be held goes to zero and the others offset it."""
        holds = memory.holds + 1.0
        ideal = np.where(view.eligible, view.weights, 0.0)
        weights = _kept_neutral(view, ideal)
        reduce_only = None if forecast is None else forecast.too_dear
        if holds[0] > HOLDS_BEFORE_REDUCE_ONLY:
            reduce_only = np.ones(len(ideal), dtype=bool)
        return memory._replace(holds=holds)._asdict(), TargetPortfolio(
            as_of_ms=view.as_of_ms,
            weights=weights,
            ideal=ideal,
            band=np.zeros(len(ideal)),
            signals=None if forecast is None else forecast.signals,
            reduce_only=reduce_only,
            note=f"hold: {why}",
        )


def _kept_neutral(view: View, ideal: Floats) -> Floats:
    """Keep the held weights, save what neutrality asks: shrink the heavier side, never grow a leg.

    Closed instruments are offset by all legs of the other side in proportion; drift beyond its
    tolerance by the largest leg alone, so that a book on hold is not nibbled at everywhere.
    """
    net, gross = float(ideal.sum()), float(np.abs(ideal).sum())
    is_closing = bool((ideal != view.weights).any())
    if not is_closing and abs(net) <= HOLD_DRIFT_SHARE_MAX * gross:
        return view.weights
    if not is_closing:
        return rebalance.trimmed(ideal)
    return rebalance.neutral_rebalance(
        view.weights,
        ideal,
        np.zeros(len(ideal)),
        np.maximum(np.abs(ideal), GIVE_MIN),
        rebalance.limits(
            view.weights,
            weight_max=0.0,
            reduce_only=np.ones(len(ideal), dtype=bool),
            closing=~view.eligible,
        ),
        drift_max=0.0,
    )


def _read(state: State, instruments_n: int) -> _Memory:
    require(
        set(state) == set(_Memory._fields),
        f"state has the arrays {sorted(state)}; want {sorted(_Memory._fields)}",
    )
    version = float(state["version"][0])
    require(version == STATE_VERSION, f"state version {version}; this code reads {STATE_VERSION}")
    held = len(state["ideal"])
    require(held == instruments_n, f"state is of {held} instruments, the view of {instruments_n}")
    return _Memory(**state)


def _hours_since(memory: _Memory, view: View) -> float:
    """Give the hours since the last decision that traded; one before the first."""
    before = float(memory.as_of_ms[0])
    if not np.isfinite(before):
        return 1.0
    hours = (view.as_of_ms - before) / HOUR_MS
    require(hours > 0, f"decision at {view.as_of_ms} is not after the last one at {before:.0f}")
    return hours


def _age_hours(p: Prediction, view: View) -> float:
    require(p.as_of_ms <= view.as_of_ms, f"forecast of {p.timeframe.label} is from the future")
    return (view.as_of_ms - p.as_of_ms) / HOUR_MS


def _keep(hours: float, half_life_hours: float) -> float:
    return float(0.5 ** (hours / half_life_hours))


def _alpha_power(memory: _Memory, alpha: Floats, keep: float) -> float:
    """Move the mean square of the alphas about their mean; the first observation starts it."""
    before = float(memory.alpha_power[0])
    if alpha.size < 2:
        return before
    now = float(np.var(alpha, ddof=1))
    return keep * before + (1.0 - keep) * now if np.isfinite(before) else now


def _with_velocity(
    memory: _Memory, ideal: Floats, usable: Flags, phi: float, hours: float
) -> _Memory:
    """Remember the ideal book and how fast its weights move.

    Before any change was seen, a weight is taken to move like the alpha: 2 (1 - phi) times its
    mean square an hour.
    """
    step = np.where(usable, ideal - memory.ideal, np.nan)
    prior = 2.0 * (1.0 - phi) * float(np.mean(ideal[usable] ** 2))
    velocity2 = np.where(np.isfinite(memory.velocity2), memory.velocity2, prior)
    velocity2 = rebalance.updated_velocity2(
        velocity2, step, hours=hours, keep=_keep(hours, VELOCITY_HALF_LIFE_HOURS)
    )
    return memory._replace(velocity2=velocity2, ideal=np.where(usable, ideal, memory.ideal))


def _give(band: Floats, cost: Floats, forecast: _Forecast) -> Floats:
    """Give 1/kappa = h/c per leg, or 1/variance where nothing costs anything; positive."""
    by_risk: Floats = np.where(forecast.usable, 1.0 / forecast.variance, 1.0)
    is_paid = (band > 0) & (cost > 0)
    if not is_paid.any():
        return np.maximum(by_risk / float(by_risk.max()), GIVE_MIN)
    give = np.where(is_paid, band / np.where(is_paid, cost, 1.0), 0.0)
    return np.maximum(give / float(give.max()), GIVE_MIN)


def _note(book: weighting.Book, dear: int, silent: int, lift: float, narrowing: float) -> str:
    """Say in plain words what made the book other than wanted."""
    parts = [f"smaller than allowed: {book.note}"] if book.note else []
    if dear:
        parts.append(f"{dear} reduce-only: their cost exceeds what their signal can earn")
    if silent:
        parts.append(f"{silent} kept as they are: no forecast")
    if lift > 1.0:
        parts.append(f"refilled: ideal weights times {lift:.2f}")
    if narrowing < 1.0:
        parts.append(f"cut: bands narrowed to {narrowing:.0%}")
    return "; ".join(parts)
