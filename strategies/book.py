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
from daemon.domain.concentration import bets_apart, bets_by_risk
from daemon.domain.forecast import Signals
from daemon.domain.portfolio import Solved, TargetPortfolio
from daemon.domain.units import Timeframe
from daemon.domain.view import View
from strategies import health, holding, mean_variance, policies, ranking, rebalance, weighting
from strategies.book_memory import (
    Memory,
    alpha_power,
    hours_since,
    with_book,
    with_outcome,
    with_velocity,
)
from strategies.book_settings import BookSettings, Weights
from strategies.factors import Exposed, blind, exposures
from strategies.liquidity import cap_share
from strategies.mean_variance import Basis
from strategies.policies import Moved, Wish
from strategies.risk import ResidualRisk, residual_risk
from strategies.sizing.sizer import Evidence, Sized, built_to_size

HORIZON_HOURS: Final = 6.0
RISK_TIMEFRAME: Final = Timeframe(60)
RISK_BARS: Final = 169  # a week of hourly returns
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
    def hourly_alpha_variance(self) -> Floats:
        """Give the variance of the error of that return, (N,)."""
        scale = self.risk.volatility * HORIZON_HOURS**0.5 * ((1.0 - self.phi) / self.reversal)
        return np.asarray(self.variance * scale**2, dtype=np.float64)

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
    exposed: Exposed  # what to be neutral to, dollars apart
    basis: Basis | None  # of the mean-variance programme; None: the closed form makes the weights
    why_closed: str = ""  # why it does although the programme was asked for

    @property
    def factors(self) -> Floats:
        """Give the exposures (N, M)."""
        return self.exposed.columns


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
    memory = with_outcome(memory, view)
    memory, expected = _expected(knobs, memory, view, outlook, hours)
    order = ranking.ranked(outlook.alpha, expected.ranked)
    if not ranking.is_broad(order, knobs.breadth_min):
        note = f"{len(order)} usable {outlook.noun}s; {knobs.breadth_min} are needed"
        return hold(knobs, memory, view, note, expected)
    memory = memory._replace(holds=np.zeros(1))
    if int((~expected.too_dear[order]).sum()) < 2:
        return hold(knobs, memory, view, "costs exceed what the signals can earn", expected)
    return _trade(knobs, memory, view, expected, order, hours)


def hold(
    knobs: BookSettings, memory: Memory, view: View, why: str, expected: _Expected | None = None
) -> tuple[Memory, TargetPortfolio]:
    """Keep the book; what may not be held goes to zero and the others offset it.

    What has drifted away from the wanted neutrality is brought back (`strategies.holding`).
    """
    memory = with_outcome(memory, view)
    holds = memory.holds + 1.0
    ideal = np.where(view.eligible, view.weights, 0.0)
    if expected is not None:
        exposed = expected.exposed
    else:
        exposed = _exposures(knobs, view, risk_now(view, knobs))
    weights = holding.kept_neutral(view.weights, view.eligible, exposed.columns)
    made_neutral = _cut(view, weights)
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
        note="; ".join(
            filter(None, (f"hold: {why}", made_neutral, blind(knobs.factors, exposed, view)))
        ),
        health=health.ratio(memory.health),
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
    exposed = _exposures(knobs, view, outlook.risk)
    basis: Basis | str | None = None
    if knobs.weights is Weights.MEAN_VARIANCE:
        basis = mean_variance.basis_of(view, exposed.columns)
    return memory, _Expected(
        outlook=outlook,
        usable=usable,
        too_dear=usable & dear,
        alpha=outlook.hourly_alpha,
        variance=outlook.hourly_variance,
        cap=cap,
        ranked=ranked,
        exposed=exposed,
        basis=basis if isinstance(basis, Basis) else None,
        why_closed=basis if isinstance(basis, str) else "",
    )


def _cut(view: View, weights: Floats) -> str:
    """Say that a kept book was made smaller, other than by legs that may not be held."""
    is_cut = bool((weights != np.where(view.eligible, view.weights, 0.0)).any())
    return "made smaller to stay neutral" if is_cut else ""


def _exposures(knobs: BookSettings, view: View, risk: ResidualRisk) -> Exposed:
    """Give the exposures that the settings name."""
    half_life = knobs.volatility_half_life_hours
    return exposures(knobs.factors, view, risk, half_life_bars=half_life)


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
    (book, chosen), size = _sized(knobs, memory, view, expected, chosen, kept, hours)
    memory = memory._replace(sizing=size.memory)
    memory = with_velocity(memory, book.weights, expected.usable, expected.outlook.phi, hours)
    reduce_only = expected.too_dear | silent | ~chosen
    if view.reduce_only is not None:
        reduce_only |= view.reduce_only
    wish = Wish(
        ideal=book.weights,
        gross=book.gross,
        aversion=knobs.risk_aversion or book.risk_aversion,
        variance=expected.variance,
        velocity2=memory.velocity2,
        confidence=_confidence(expected.outlook),
        usable=expected.usable,
        chosen=chosen,
        silent=silent,
        reduce_only=reduce_only,
        weight_max=expected.cap,
        hours=hours,
        factors=expected.factors if expected.factors.shape[1] else None,
    )
    solved: Solved | None = None
    if expected.basis is not None and np.isfinite(wish.aversion):
        widening, moved, solved = mean_variance.moved(
            expected.basis, knobs.policy, wish, view, memory.widening
        )
    else:
        widening, moved = policies.moved(knobs.policy, wish, view, memory.widening)
    memory = with_book(memory._replace(widening=widening), view, wish)
    note = _note(book, expected, int(silent.sum()), moved, _cut(view, moved.weights))
    if policies.drifted(wish, moved.weights, view.weights):
        note = "; ".join(filter(None, (note, _left(knobs, expected, moved.weights))))
    unseen = blind(knobs.factors, expected.exposed, view)
    return memory, TargetPortfolio(
        as_of_ms=view.as_of_ms,
        weights=moved.weights,
        ideal=book.weights,
        band=moved.band,
        signals=expected.outlook.signals,
        reduce_only=reduce_only,
        note="; ".join(filter(None, (size.note, note, unseen))),
        solved=solved,
        health=health.ratio(memory.health),
    )


def _left(knobs: BookSettings, expected: _Expected, weights: Floats) -> str:
    """Say which exposures a book keeps against its wish."""
    found = [("dollars", float(weights.sum()))]
    found += zip(expected.exposed.names, (expected.factors.T @ weights).tolist(), strict=True)
    return f"not neutral: {', '.join(f'{name} {value:+.4f}' for name, value in found)}"


def _confidence(outlook: Outlook) -> Floats:
    """Give kappa (N,) in (0, 1]; 1 for strategies that state none."""
    if outlook.signals is None:
        return np.ones(len(outlook.alpha))
    return outlook.signals.confidence


def _sized(
    knobs: BookSettings,
    memory: Memory,
    view: View,
    expected: _Expected,
    chosen: Flags,
    kept: Floats,
    hours: float,
) -> tuple[tuple[weighting.Book, Flags], Sized]:
    """Build the book with as much of its gross as sizing leaves, and tell why."""
    outlook = expected.outlook
    seen = Evidence(
        view.as_of_ms,
        hours,
        expected.alpha,
        outlook.hourly_alpha_variance,
        np.square(outlook.risk.volatility),
        view.covariance,
    )
    return built_to_size(
        lambda share: _ideal(knobs, expected, chosen, kept, share),
        lambda built: built[0].weights,
        view.gross_multiplier,
        knobs.sizing,
        memory.sizing,
        seen,
    )


def _gross(knobs: BookSettings, share: float, ranked_n: int) -> tuple[float, str]:
    """Give a share of the wanted gross, which missing breadth may only shrink, and why (or '')."""
    gross = knobs.gross_weight * share
    if ranked_n >= knobs.breadth_full:
        return gross, ""
    breadth = ranked_n / knobs.breadth_full
    return gross * breadth, f"{ranked_n} of {knobs.breadth_full} names: gross times {breadth:.2f}"


def _ideal(
    knobs: BookSettings, expected: _Expected, chosen: Flags, kept: Floats, share: float
) -> tuple[weighting.Book, Flags]:
    """Build the ideal book of a share of the gross, with too few effective bets of a smaller one.

    Gives the legs (N,) that kept their place besides: on a wrong side there is none.
    """
    gross, why = _gross(knobs, share, int(expected.ranked.sum()))
    book, chosen = _sided(knobs, expected, chosen, kept, gross)
    bets = _bets(expected, book.weights) if knobs.bets_min > 0.0 else np.inf
    if 0.0 < bets < knobs.bets_min:
        held_share = bets / knobs.bets_min
        short = f"{bets:.1f} of {knobs.bets_min:g} effective bets: gross times {held_share:.2f}"
        book, chosen = _sided(knobs, expected, chosen, kept, gross * held_share)
        why = f"{why}; {short}" if why else short
    reasons = "; ".join(x for x in (why, book.note) if x)
    return replace(book, note=reasons), chosen


def _bets(expected: _Expected, weights: Floats) -> float:
    """Count the bets of a book, by the predicted covariance where it knows all that is held."""
    held = weights != 0
    if expected.basis is not None and bool(np.isfinite(expected.basis.risk.specific[held]).all()):
        return float(bets_apart(weights[None, held], expected.basis.risk.part(held).matrix)[0])
    return bets_by_risk(weights[held], expected.variance[held])


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
    tradable = chosen & ~expected.too_dear
    closed = weighting.long_short(
        expected.alpha,
        expected.variance,
        tradable=tradable,
        gross=gross,
        weight_max=expected.cap,
        beta=_factors_of(expected),
        kept=kept,
    )
    room = gross - float(np.abs(kept).sum())
    if expected.basis is None or int(tradable.sum()) < 2 or room <= 0:
        return closed
    book, _ = mean_variance.ideal_book(
        expected.basis,
        expected.alpha,
        tradable=tradable,
        kept=kept,
        cap=expected.cap,
        gross=gross,
        aversion=knobs.risk_aversion or closed.risk_aversion,
    )
    return book


def _factors_of(expected: _Expected) -> Floats | None:
    """Give the exposures as the closed form reads them: (N,) for one, None for none."""
    count = expected.factors.shape[1]
    if count == 0:
        return None
    return expected.factors[:, 0] if count == 1 else expected.factors


def _note(book: weighting.Book, expected: _Expected, silent: int, moved: Moved, kept: str) -> str:
    """Say in plain words what made the book other than wanted."""
    parts = ["held until the calendar's next hour"] if moved.waits else []
    parts += [kept] if moved.waits and kept else []
    parts += [f"smaller than allowed: {book.note}"] if book.note else []
    if expected.why_closed:
        parts.append(f"closed form: {expected.why_closed}")
    dear = int(expected.too_dear.sum())
    if dear:
        parts.append(f"{dear} reduce-only: their cost exceeds what their signal can earn")
    small = int((expected.usable & (np.asarray(expected.cap) == 0.0)).sum())
    if small:
        parts.append(f"{small} left out: too little traded")
    if silent:
        parts.append(f"{silent} kept as they are: no {expected.outlook.noun}")
    if moved.lift > 1.0:
        parts.append(f"refilled: ideal weights times {moved.lift:.2f}")
    if moved.narrowing < 1.0:
        parts.append(f"cut: bands narrowed to {moved.narrowing:.0%}")
    return "; ".join(parts)
