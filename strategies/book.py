"""The book maker that strategies share: outlook -> ranks -> weights -> bands -> targets.

One decision: leave out what cannot pay its costs, rank, keep the ends of the ranking, build the
dollar-neutral capped book of the wanted gross, and move the present book to it only as far as the
no-trade bands ask for (rebalance). What is expected of returns is the strategy's own: it hands in
an Outlook.

Units: alphas come in residual volatility over H = 6 hours. With hourly residual volatility sigma
and an alpha that decays by phi an hour, a signal of size a is worth

    a sigma sqrt(H) over the horizon,   a sigma sqrt(H) (1 - phi) / (1 - phi^H) in the next hour.

An alpha that is missing is never zero: the instrument keeps its weight, and with too few alphas the
whole book is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.forecast import Signals
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import Timeframe
from daemon.domain.view import View
from strategies import ranking, rebalance, weighting
from strategies.book_memory import Memory, alpha_power, hours_since, with_velocity
from strategies.book_settings import Band, BookSettings
from strategies.liquidity import cap_share
from strategies.risk import ResidualRisk, residual_risk

HORIZON_HOURS: Final = 6.0
RISK_TIMEFRAME: Final = Timeframe(60)
RISK_BARS: Final = 169  # a week of hourly returns
# The held gross as shares of the ideal one: below it the book is refilled, above it cut.
GROSS_SHARE_MIN: Final = 0.85
GROSS_SHARE_MAX: Final = 1.10
# Of the typical |ideal weight|. At 2 a leg capped on the long side would still rest when its target
# is the cap on the short side: a small book of capped targets would freeze.
BAND_SHARE_MAX: Final = 1.8
DRIFT_SHARE_MAX: Final = 0.005  # |net| / gross that may stay while no leg needs a trade
GIVE_MIN: Final = 1e-3
HOLD_DRIFT_SHARE_MAX: Final = 0.01  # the same for a book on hold
KEPT_BAND_WEIGHT: Final = 100.0  # wider than any weight: a leg without an alpha is not traded
HOLDS_BEFORE_REDUCE_ONLY: Final = 2


@dataclass(frozen=True, slots=True)
class Outlook:
    """Hold what a strategy expects of returns at one decision; (N,) arrays, NaN = no alpha.

    alpha: expected residual return over the horizon in residual volatility over it; variance: of
    that expectation. risk: `risk_now`. phi: persistence of the alpha per hour. signals: for the
    record, if there are any. noun: what one alpha is called in notes. sides: (N,) the side on which
    each may be held, +1 or -1, and 0 for those to be closed; None where either side will do.
    """

    alpha: Floats
    variance: Floats
    risk: ResidualRisk
    phi: float
    signals: Signals | None = None
    noun: str = "forecast"
    sides: Floats | None = None

    @property
    def hourly_alpha(self) -> Floats:
        """Give the expected residual return of the next hour, (N,)."""
        over_horizon = self.risk.volatility * HORIZON_HOURS**0.5
        hourly = self.alpha * over_horizon * ((1.0 - self.phi) / self.reversal)
        return np.asarray(hourly, dtype=np.float64)

    @property
    def hourly_variance(self) -> Floats:
        """Give the variance of that return with the alpha's own uncertainty, (N,)."""
        return np.asarray(self.risk.volatility**2 * (1.0 + self.variance), dtype=np.float64)

    @property
    def reversal(self) -> float:
        """Give the share of an alpha that is gone after the horizon."""
        return float(1.0 - self.phi**HORIZON_HOURS)


class _Expected(NamedTuple):
    """Hold an outlook in returns of the next hour, and what it leaves to trade."""

    outlook: Outlook
    usable: Flags
    too_dear: Flags  # (N,) usable, but F is above its maximum
    alpha: Floats  # (N,) expected residual return of the next hour
    variance: Floats  # (N,) hourly variance with the alpha's own uncertainty
    cap: float | Floats  # of each |weight|; 0 = too little traded to be held
    ranked: Flags  # (N,) who may take a place in the book


# ---- what strategies call ------------------------------------------------------------------------


def rankable(view: View, outlook: Outlook) -> Flags:
    """Tell which instruments have all that a place in the book takes, (N,)."""
    usable = view.eligible & np.isfinite(view.marks) & np.isfinite(outlook.risk.volatility)
    return usable & np.isfinite(outlook.alpha) & np.isfinite(view.cost)


def risk_now(view: View, knobs: BookSettings) -> ResidualRisk:
    """Measure hourly residual risk from the view's hourly closes."""
    closes = view.windows[RISK_TIMEFRAME].closes
    return residual_risk(closes, half_life_bars=knobs.volatility_half_life_hours)


def decide(
    knobs: BookSettings, memory: Memory, view: View, outlook: Outlook
) -> tuple[Memory, TargetPortfolio]:
    """Give the next memory and the target for an outlook; reads nothing but its arguments."""
    hours = hours_since(memory, view)
    memory, expected = _expected(knobs, memory, view, outlook, hours)
    order = ranking.ranked(outlook.alpha, expected.ranked)
    if not ranking.is_broad(order, knobs.breadth_min):
        note = f"{len(order)} usable {outlook.noun}s; {knobs.breadth_min} are needed"
        return hold(memory, view, note, expected)
    memory = memory._replace(holds=np.zeros(1))
    if int((~expected.too_dear[order]).sum()) < 2:
        return hold(memory, view, "costs exceed what the signals can earn", expected)
    return _trade(knobs, memory, view, expected, order, hours)


def hold(
    memory: Memory, view: View, why: str, expected: _Expected | None = None
) -> tuple[Memory, TargetPortfolio]:
    """Keep the book; what may not be held goes to zero and the others offset it."""
    holds = memory.holds + 1.0
    ideal = np.where(view.eligible, view.weights, 0.0)
    weights = _kept_neutral(view, ideal)
    reduce_only = None if expected is None else expected.too_dear
    if holds[0] > HOLDS_BEFORE_REDUCE_ONLY:
        reduce_only = np.ones(len(ideal), dtype=bool)
    return memory._replace(holds=holds), TargetPortfolio(
        as_of_ms=view.as_of_ms,
        weights=weights,
        ideal=ideal,
        band=np.zeros(len(ideal)),
        signals=None if expected is None else expected.outlook.signals,
        reduce_only=reduce_only,
        note=f"hold: {why}",
    )


# ---- the steps -----------------------------------------------------------------------------------


def _expected(
    knobs: BookSettings, memory: Memory, view: View, outlook: Outlook, hours: float
) -> tuple[Memory, _Expected]:
    """Turn an outlook into hourly returns and say what is too dear; move the alphas' size."""
    usable = rankable(view, outlook)
    power = alpha_power(memory, outlook.alpha[usable], hours)
    memory = memory._replace(
        as_of_ms=np.array([float(view.as_of_ms)]), alpha_power=np.array([power])
    )
    # Without a typical size yet no leg is refused for its cost.
    typical = max(power, 0.0) ** 0.5 if np.isfinite(power) else np.inf
    over_horizon = np.where(usable, outlook.risk.volatility * HORIZON_HOURS**0.5, 1.0)
    earned = np.maximum(typical * over_horizon, np.finfo(float).tiny)
    dear = rebalance.friction(view.cost, outlook.reversal, earned) > knobs.friction_max
    cap: float | Floats = knobs.name_weight_max
    ranked = usable if outlook.sides is None else usable & (outlook.sides != 0)
    if knobs.liquidity_tiers_usdt:
        window = view.windows[RISK_TIMEFRAME]
        cap = knobs.name_weight_max * cap_share(window, knobs.liquidity_tiers_usdt)
        ranked = ranked & (cap > 0)
    return memory, _Expected(
        outlook=outlook,
        usable=usable,
        too_dear=usable & dear,
        alpha=outlook.hourly_alpha,
        variance=outlook.hourly_variance,
        cap=cap,
        ranked=ranked,
    )


def _trade(
    knobs: BookSettings,
    memory: Memory,
    view: View,
    expected: _Expected,
    order: ranking.Indices,
    hours: float,
) -> tuple[Memory, TargetPortfolio]:
    """Build the ideal book and move to it as far as the bands ask for."""
    chosen = np.zeros(len(view.weights), dtype=bool)
    chosen[ranking.extremes(order, knobs.legs_max, view.weights)] = True
    silent = view.eligible & ~expected.usable
    kept = np.where(silent, view.weights, 0.0)
    book, chosen = _ideal(knobs, view, expected, chosen, kept)
    memory = with_velocity(memory, book.weights, expected.usable, expected.outlook.phi, hours)
    # A leg that lost its place is closed at once: inside a band around zero it would stay.
    band = np.where(chosen, _band(knobs, memory, view, expected, book), 0.0)
    reduce_only = expected.too_dear | silent | ~chosen
    if view.reduce_only is not None:
        reduce_only |= view.reduce_only
    weights, lift, narrowing = rebalance.at_gross(
        view.weights,
        book.weights,
        np.where(silent, KEPT_BAND_WEIGHT, band),
        _give(band, view.cost, expected),
        rebalance.limits(
            view.weights,
            weight_max=expected.cap,
            reduce_only=reduce_only,
            closing=~view.eligible,
        ),
        drift_max=DRIFT_SHARE_MAX * max(book.gross, float(np.abs(view.weights).sum())),
        gross_min=GROSS_SHARE_MIN * book.gross,
        gross_max=GROSS_SHARE_MAX * book.gross,
    )
    return memory, TargetPortfolio(
        as_of_ms=view.as_of_ms,
        weights=weights,
        ideal=book.weights,
        band=narrowing * band,
        signals=expected.outlook.signals,
        reduce_only=reduce_only,
        note=_note(book, expected, int(silent.sum()), lift, narrowing),
    )


def _gross(knobs: BookSettings, view: View, ranked_n: int) -> tuple[float, str]:
    """Give the wanted gross, which sizing and missing breadth may only shrink, and why (or '')."""
    multiplier = 1.0 if view.gross_multiplier is None else view.gross_multiplier
    gross = knobs.gross_weight * min(max(multiplier, 0.0), 1.0)
    if ranked_n >= knobs.breadth_full:
        return gross, ""
    share = ranked_n / knobs.breadth_full
    return gross * share, f"{ranked_n} of {knobs.breadth_full} names: gross times {share:.2f}"


def _ideal(
    knobs: BookSettings, view: View, expected: _Expected, chosen: Flags, kept: Floats
) -> tuple[weighting.Book, Flags]:
    """Build the ideal book of the wanted gross, with too few effective bets of a smaller one.

    Gives the legs (N,) that kept their place besides: on a wrong side there is none.
    """
    gross, why = _gross(knobs, view, int(expected.ranked.sum()))
    book, chosen = _sided(knobs, expected, chosen, kept, gross)
    held = book.weights != 0
    bets = weighting.effective_bets(book.weights[held], expected.variance[held])
    if held.any() and bets < knobs.bets_min:
        share = bets / knobs.bets_min
        short = f"{bets:.1f} of {knobs.bets_min:g} effective bets: gross times {share:.2f}"
        book, chosen = _sided(knobs, expected, chosen, kept, gross * share)
        why = f"{why}; {short}" if why else short
    reasons = "; ".join(x for x in (why, book.note) if x)
    return replace(book, note=reasons), chosen


def _sided(
    knobs: BookSettings, expected: _Expected, chosen: Flags, kept: Floats, gross: float
) -> tuple[weighting.Book, Flags]:
    """Build the book, without the legs that it would hold on the wrong side, until none is."""
    book = _weights(knobs, expected, chosen, kept, gross)
    sides = expected.outlook.sides
    while sides is not None:
        wrong = chosen & (book.weights * sides < 0)
        if not wrong.any():
            break
        chosen = chosen & ~wrong
        book = _weights(knobs, expected, chosen, kept, gross)
    return book, chosen


def _weights(
    knobs: BookSettings, expected: _Expected, chosen: Flags, kept: Floats, gross: float
) -> weighting.Book:
    """Choose the weights of a book of that gross: the one place where a rule for them is named."""
    beta = np.where(expected.usable, expected.outlook.risk.beta, 1.0)
    return weighting.long_short(
        expected.alpha,
        expected.variance,
        tradable=chosen & ~expected.too_dear,
        gross=gross,
        weight_max=expected.cap,
        beta=beta if knobs.beta_neutral else None,
        kept=kept,
    )


def _band(
    knobs: BookSettings, memory: Memory, view: View, expected: _Expected, book: weighting.Book
) -> Floats:
    """Give the half-widths (N,), zero for instruments that may not be held."""
    if knobs.band is Band.FIXED:
        return np.where(expected.usable, knobs.band_weight, 0.0)
    aversion = knobs.risk_aversion or book.risk_aversion
    if not np.isfinite(aversion):
        return np.zeros(len(view.weights))
    band = rebalance.cube_root_band(
        np.where(expected.usable, view.cost, 0.0),
        rebalance.floored_velocity2(memory.velocity2, expected.usable),
        aversion,
        np.where(expected.usable, expected.variance, 1.0),
    )
    held_legs = np.abs(book.weights[book.weights != 0])
    widest = BAND_SHARE_MAX * float(held_legs.mean()) if held_legs.size else 0.0
    return np.where(expected.usable, np.minimum(band, widest), 0.0)


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


def _give(band: Floats, cost: Floats, expected: _Expected) -> Floats:
    """Give 1/kappa = h/c per leg, or 1/variance where nothing costs anything; positive."""
    by_risk: Floats = np.where(expected.usable, 1.0 / expected.variance, 1.0)
    is_paid = (band > 0) & (cost > 0)
    if not is_paid.any():
        return np.maximum(by_risk / float(by_risk.max()), GIVE_MIN)
    give = np.where(is_paid, band / np.where(is_paid, cost, 1.0), 0.0)
    return np.maximum(give / float(give.max()), GIVE_MIN)


def _note(
    book: weighting.Book, expected: _Expected, silent: int, lift: float, narrowing: float
) -> str:
    """Say in plain words what made the book other than wanted."""
    parts = [f"smaller than allowed: {book.note}"] if book.note else []
    dear = int(expected.too_dear.sum())
    if dear:
        parts.append(f"{dear} reduce-only: their cost exceeds what their signal can earn")
    small = int((expected.usable & (np.asarray(expected.cap) == 0.0)).sum())
    if small:
        parts.append(f"{small} left out: too little traded")
    if silent:
        parts.append(f"{silent} kept as they are: no {expected.outlook.noun}")
    if lift > 1.0:
        parts.append(f"refilled: ideal weights times {lift:.2f}")
    if narrowing < 1.0:
        parts.append(f"cut: bands narrowed to {narrowing:.0%}")
    return "; ".join(parts)
