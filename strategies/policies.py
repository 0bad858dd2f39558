"""Rebalance policies: from the ideal book and the held one to what is traded now.

A policy says how wide the bands are (`half_widths`) and when trades are made at all. Shared by all:
trades go to the nearest edge, the book stays neutral and in its gross corridor, closing legs are
closed, and a leg whose trade would be too small to be placed goes to half of its band inside.

    cube_root     h_i = (3 c_i nu_i^2 / (2 gamma s_i^2))^(1/3), at most 1.8 typical weights
    fixed         one half-width for all, which somebody has to choose
    confidence    that width times 1/sqrt(kappa_i) over its mean of the last month or so
    calendar      in full at fixed UTC hours; held in between, where only neutrality, and what may
                  not be held, are served
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, assert_never

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.view import View
from strategies import holding, rebalance
from strategies.rebalance import Band

# The held gross as shares of the ideal one: below it the book is refilled, above it cut.
GROSS_SHARE_MIN: Final = 0.85
GROSS_SHARE_MAX: Final = 1.10
# Of the typical |ideal weight|. At 2 a leg capped on the long side would still rest when its target
# is the cap on the short side: a small book of capped targets would freeze.
BAND_SHARE_MAX: Final = 1.8
DRIFT_SHARE_MAX: Final = 0.005  # |net| / gross that may stay while no leg needs a trade
GIVE_MIN: Final = 1e-3
KEPT_BAND_WEIGHT: Final = 100.0  # wider than any weight: a leg without a forecast is not traded
WIDENING_HALF_LIFE_HOURS: Final = 720.0  # of what confidence widens a band by on average


@dataclass(frozen=True, slots=True)
class Policy:
    """Hold the rule and its figures: a half-width for fixed and confidence, hours of a calendar."""

    band: Band
    width: float
    every_hours: int


class Wish(NamedTuple):
    """Hold what a strategy wants, (N,) where it is an array.

    ideal: the frictionless weights, gross their sum of magnitudes. aversion: gamma in hourly
    returns, infinite where nothing is wanted. variance: hourly, with the alpha's own uncertainty;
    velocity2: hourly variance of the ideal weight; confidence: kappa in (0, 1]; all three are read
    where usable. usable: there is a forecast, and a price to trade at. chosen: has a place in the
    book; the others are closed. silent: kept as it is, for want of a forecast. reduce_only: may
    not grow. weight_max: no leg grows beyond. hours: since the last decision. factors: (N, M) that
    the book is neutral to besides dollars, None for none.
    """

    ideal: Floats
    gross: float
    aversion: float
    variance: Floats
    velocity2: Floats
    confidence: Floats
    usable: Flags
    chosen: Flags
    silent: Flags
    reduce_only: Flags
    weight_max: float | Floats
    hours: float
    factors: Floats | None = None


class Moved(NamedTuple):
    """Hold where to trade to, (N,), and by which half-widths.

    lift: by how much the ideal book was scaled up to reach its gross; narrowing: by how much all
    bands were to leave it; 1 where not. waits: a calendar's hour has not come.
    """

    weights: Floats
    band: Floats
    lift: float
    narrowing: float
    waits: bool


def no_widening() -> Floats:
    """Give the sums of `moved` before the first decision, (2,)."""
    return np.zeros(2)


def moved(policy: Policy, wish: Wish, view: View, widening: Floats) -> tuple[Floats, Moved]:
    """Give where to trade to, and what is remembered of it.

    widening: (2,) by how much confidence widened a band on average, summed, and of how many
    decisions; both are forgotten with time.
    """
    widening, band = bands(policy, wish, view, widening)
    if policy.band is Band.CALENDAR and not rebalance.is_due(
        view.as_of_ms, wish.hours, policy.every_hours
    ):
        kept = holding.kept_neutral(view.weights, view.eligible, wish.factors)
        return widening, Moved(kept, band, 1.0, 1.0, waits=True)
    return widening, _to_the_bands(wish, view, band)


def bands(policy: Policy, wish: Wish, view: View, widening: Floats) -> tuple[Floats, Floats]:
    """Give the sums of `moved`, and the half-widths (N,) of a decision."""
    if policy.band is Band.CONFIDENCE:
        widening = _updated_widening(widening, wish)
    # A leg that lost its place is closed at once: inside a band around zero it would stay.
    return widening, np.where(wish.chosen, half_widths(policy, wish, view.cost, widening), 0.0)


def boxes_of(wish: Wish, view: View) -> rebalance.Limits:
    """Give the box of each leg."""
    return rebalance.limits(
        view.weights,
        weight_max=wish.weight_max,
        reduce_only=wish.reduce_only,
        closing=~view.eligible,
    )


def drift_max(wish: Wish, held: Floats) -> float:
    """Give the net weight that may stay while no leg needs a trade."""
    return DRIFT_SHARE_MAX * max(wish.gross, float(np.abs(held).sum()))


def drifted(wish: Wish, weights: Floats, held: Floats) -> bool:
    """Tell whether a book has more dollars or exposures than may stay while no leg trades."""
    none = np.empty((len(weights), 0))
    factors = none if wish.factors is None else wish.factors
    return rebalance.drifted(weights, factors, drift_max(wish, held))


def half_widths(policy: Policy, wish: Wish, cost: Floats, widening: Floats) -> Floats:
    """Give the half-widths (N,), zero for what has no forecast, by the policy's rule.

    cost: (N,) one-way, per unit notional. widening: as for `moved`.
    """
    match policy.band:
        case Band.CUBE_ROOT:
            band = _cheapest(wish, cost)
        case Band.FIXED:
            band = np.full(len(cost), policy.width)
        case Band.CONFIDENCE:
            mean = float(widening[0] / widening[1])
            band = policy.width / mean * rebalance.widening(wish.confidence)
        case Band.CALENDAR:
            band = np.zeros(len(cost))
        case _:
            assert_never(policy.band)
    return np.where(wish.usable, band, 0.0)


def _cheapest(wish: Wish, cost: Floats) -> Floats:
    if not np.isfinite(wish.aversion):
        return np.zeros(len(cost))
    band = rebalance.cube_root_band(
        np.where(wish.usable, cost, 0.0),
        rebalance.floored_velocity2(wish.velocity2, wish.usable),
        wish.aversion,
        np.where(wish.usable, wish.variance, 1.0),
    )
    legs = np.abs(wish.ideal[wish.ideal != 0])
    return np.minimum(band, BAND_SHARE_MAX * float(legs.mean()) if legs.size else 0.0)


def _to_the_bands(wish: Wish, view: View, band: Floats) -> Moved:
    """Move to the bands, and further where the trade would be too small to be placed."""
    boxes = boxes_of(wish, view)

    def to(band: Floats) -> Moved:
        weights, lift, narrowing = rebalance.at_gross(
            view.weights,
            wish.ideal,
            np.where(wish.silent, KEPT_BAND_WEIGHT, band),
            _give(band, view.cost, wish),
            boxes,
            drift_max=drift_max(wish, view.weights),
            gross_min=GROSS_SHARE_MIN * wish.gross,
            gross_max=GROSS_SHARE_MAX * wish.gross,
            factors=wish.factors,
        )
        return Moved(weights, narrowing * band, lift, narrowing, waits=False)

    found = to(band)
    least = least_trades(view, found.weights != view.weights)
    inner = rebalance.inside_small(view.weights, found.weights, band, least)
    return found if inner is band else to(inner)._replace(band=found.band)


def least_trades(view: View, legs: Flags) -> Floats:
    """Give the smallest trade that each venue takes, in weights: (N,), NaN but for `legs`."""
    least = np.full(len(legs), np.nan)
    for i in np.flatnonzero(legs).tolist():  # few; rules are exact numbers and slow to read
        rules = view.universe.instruments[i].rules
        lot = float(max(rules.quantity_min, rules.quantity_step)) * view.marks[i]
        least[i] = max(float(rules.notional_min), lot) / view.equity
    return least


def _give(band: Floats, cost: Floats, wish: Wish) -> Floats:
    """Give 1/kappa = h/c per leg, or 1/variance where nothing costs anything; positive."""
    by_risk: Floats = np.where(wish.usable, 1.0 / wish.variance, 1.0)
    is_paid = (band > 0) & (cost > 0)
    if not is_paid.any():
        return np.maximum(by_risk / float(by_risk.max()), GIVE_MIN)
    give = np.where(is_paid, band / np.where(is_paid, cost, 1.0), 0.0)
    return np.maximum(give / float(give.max()), GIVE_MIN)


def _updated_widening(sums: Floats, wish: Wish) -> Floats:
    """Remember by how much confidence widens bands on average, so that their mean can be set."""
    wider = rebalance.widening(wish.confidence[wish.usable])
    keep = 0.5 ** (wish.hours / WIDENING_HALF_LIFE_HOURS)
    return np.asarray(keep * sums + np.array([float(wider.mean()), 1.0]), dtype=np.float64)
