"""No-trade bands: trade only when the gain beats the cost, and then only to the band's edge.

The loss of holding w instead of w* is gamma sigma^2 (w - w*)^2 / 2 a bar, a trade costs c per unit;
w* wanders with variance nu^2 a bar. A band of half-width h costs gamma sigma^2 h^2 / 6 for tracking
and c nu^2 / (2h) for trading a bar, which is least at

    h = (3 c nu^2 / (2 gamma sigma^2))^(1/3)

where the trading cost is exactly twice the tracking loss. The portfolio version minimises

    sum of kappa_i (w_i - w*_i)^2 / 2 + c_i |w_i - w0_i|   with   sum(w) = 0,  kappa_i = c_i / h_i

whose solution clips w0 to a band around w* - lambda / kappa_i; one number lambda makes it neutral,
and a leg inside its shifted band is left alone to the last bit. With kappa_i = gamma s_i^2 L_i this
is the convex problem of uncorrelated residuals, L_i = c_i / (gamma s_i^2 h_i) being the bars in
which a trade earns its cost back.

`Band` names the rules by which trades wait. Rivals of the cube root: one width for all, a width by
confidence, and a calendar. `docs/rebalancing.md` has what each is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.units import HOUR_MS, require
from strategies.roots import falling_root, ramps_zero
from strategies.separable import Legs, NoMultipliersError, independent, with_exposures

VELOCITY_FLOOR_SHARE: Final = 0.10  # of the cross-sectional median of nu^2
NET_TOLERANCE: Final = 1e-14
POLISHES: Final = 2  # steps that remove what rounding left of the net
FACTOR_DRIFT_RATIO: Final = 4.0  # exposure to a factor that may stay, in nets that may
LIFT_MAX: Final = 4.0
GROSS_TOLERANCE: Final = 0.005  # how near the gross comes to the end of its corridor
CONFIDENCE_FLOOR: Final = 0.04  # no band is widened more than fivefold
# Of the half-width. From here on trading to half of it inside beats waiting until the trade to the
# edge is large enough; below, waiting costs less than what trading further would.
ORDER_SHARE_MIN: Final = 0.75


class Band(StrEnum):
    """Say by which rule trades wait."""

    CUBE_ROOT = "cube_root"
    FIXED = "fixed"
    CONFIDENCE = "confidence"
    CALENDAR = "calendar"


def cube_root_band(cost: Floats, velocity2: Floats, aversion: float, risk: Floats) -> Floats:
    """Give the half-width h (N,) of the cheapest band, in weights.

    cost: one-way cost per unit notional; velocity2: nu^2, variance per bar of the ideal weight;
    aversion: gamma; risk: sigma^2 + u, return variance per bar with the alpha's own uncertainty.
    """
    require(aversion > 0, f"risk aversion {aversion} must be positive")
    return np.asarray(np.cbrt(1.5 * cost * velocity2 / (aversion * risk)), dtype=np.float64)


def updated_velocity2(velocity2: Floats, step: Floats, *, hours: float, keep: float) -> Floats:
    """Move nu^2 (N,), the EWMA of squared hourly changes of the ideal weight, by one decision.

    step is the change over `hours`, NaN where there is none to see; keep is the past's weight.
    """
    require(hours > 0, f"{hours} hours since the last decision: must be positive")
    moved = keep * velocity2 + (1.0 - keep) * step**2 / hours
    return np.where(np.isfinite(step), moved, velocity2)


def floored_velocity2(velocity2: Floats, among: Flags) -> Floats:
    """Keep nu^2 above a tenth of the median of the instruments in `among`.

    A target that has stood at its cap for days would otherwise lose its band altogether.
    """
    if not among.any():
        return velocity2
    return np.maximum(velocity2, VELOCITY_FLOOR_SHARE * float(np.median(velocity2[among])))


def widening(confidence: Floats) -> Floats:
    """Give how much wider a band is where confidence kappa (N,) in (0, 1] is low: 1 / sqrt(kappa).

    kappa = tau^2 / (tau^2 + v), so this is the sd of a forecast before shrinkage in sds of what is
    there to be forecast. At least kappa = 0.04, which also stands for NaN.
    """
    return np.asarray(1.0 / np.sqrt(np.fmax(confidence, CONFIDENCE_FLOOR)), dtype=np.float64)


def is_due(as_of_ms: int, hours_since: float, every_hours: int) -> bool:
    """Tell whether a fixed hour has come since the last decision, `hours_since` ago.

    Fixed are the UTC hours that `every_hours`, a divisor of 24, divides. A decision that fell out
    at one is made up for by the next.
    """
    require(every_hours > 0 and 24 % every_hours == 0, f"{every_hours} hours do not divide a day")
    period = every_hours * HOUR_MS
    return as_of_ms // period > round(as_of_ms - hours_since * HOUR_MS) // period


def friction(cost: Floats, reversal: float, alpha_sd: Floats) -> Floats:
    """Give F (N,): one-way cost over the whole expected return of a one-sd signal.

    F = c (1 - phi^H) / sd(expected return over H bars), which for an alpha that decays by phi a bar
    is c (1 - phi) / sd(alpha a bar). reversal is 1 - phi^H, alpha_sd the sd (N,) over H. Above
    about 1.5 no band makes the signal pay.
    """
    return np.asarray(cost * reversal / alpha_sd, dtype=np.float64)


def nearest_edge(held: Floats, ideal: Floats, band: Floats) -> Floats:
    """Give where to trade to: `held` clipped to ideal +- band, untouched inside."""
    return np.minimum(np.maximum(held, ideal - band), ideal + band)


def inside_small(held: Floats, weights: Floats, band: Floats, least: Floats) -> Floats:
    """Halve the bands of the legs whose trade to `weights` is too small to be placed, (N,).

    least: (N,) the smallest trade, in weights, NaN unknown. A leg outside its band by less would
    wait until it is far enough out; where `least` is large beside the band it is better traded now,
    to half of the band inside.
    """
    trade = np.abs(weights - held)
    is_small = (trade > 0) & (trade < least) & (least > ORDER_SHARE_MIN * band)
    return np.where(is_small, 0.5 * band, band) if is_small.any() else band


def drift_band(held: Floats, target: Floats, band: float) -> Floats:
    """Give the target wherever |held - target| exceeds the band, else `held` to the last bit."""
    weights = held.copy()
    np.putmask(weights, np.abs(held - target) > band, target)  # half the price of np.where
    return weights


@dataclass(frozen=True, slots=True)
class Limits:
    """Hold the box of each leg: low <= 0 <= high (N,), which no trade may leave."""

    low: Floats
    high: Floats

    def __post_init__(self) -> None:
        require(bool((self.low <= 0).all() and (self.high >= 0).all()), "a box must hold zero")


def limits(
    held: Floats, *, weight_max: float | Floats, reduce_only: Flags, closing: Flags
) -> Limits:
    """Box the legs: no growth beyond weight_max, no growth at all, or nothing left.

    A leg that drifted above weight_max may stay there; it may not grow.
    """
    reach = np.where(reduce_only, 0.0, weight_max)
    low = np.minimum(-reach, np.minimum(held, 0.0))
    high = np.maximum(reach, np.maximum(held, 0.0))
    return Limits(np.where(closing, 0.0, low), np.where(closing, 0.0, high))


def neutral_rebalance(
    held: Floats, ideal: Floats, band: Floats, give: Floats, boxes: Limits, *, drift_max: float
) -> Floats:
    """Trade to the nearest edges such that the weights sum to zero.

    held, ideal, band: (N,). give: (N,) how far a leg's band moves for one unit of lambda, 1/kappa
    (positive; only ratios matter). boxes bind last. Where no leg needs to trade and |sum(held)| is
    at most drift_max, the book is left alone although drift has made it slightly unbalanced.
    """
    require(bool((give > 0).all()), "every leg needs a positive give")

    def weights(shift: float) -> Floats:
        edge = nearest_edge(held, ideal - shift * give, band)
        return np.minimum(np.maximum(edge, boxes.low), boxes.high)

    found = weights(0.0)
    excess = float(found.sum())
    rests = abs(excess) <= drift_max and bool((found == held).all())
    if rests or abs(excess) <= NET_TOLERANCE:
        return found
    # Each leg falls from its upper to its lower limit along two ramps, before and after its rest.
    rest = np.minimum(np.maximum(held, boxes.low), boxes.high)
    top, bottom = ideal - band, ideal + band
    kinks = np.concatenate([top - boxes.high, top - rest, bottom - rest, bottom - boxes.low])
    kinks /= np.concatenate([give, give, give, give])
    changes = np.concatenate([-give, give, -give, give])
    shift = ramps_zero(kinks, changes, float(boxes.high.sum()))
    found = weights(shift)
    for _ in range(POLISHES):
        moving = (found != rest) & (found > boxes.low) & (found < boxes.high)
        slope = float(give[moving].sum())
        if slope == 0:
            break
        shift += float(found.sum()) / slope
        found = weights(shift)
    return found


def drifted(weights: Floats, factors: Floats, drift_max: float) -> bool:
    """Tell whether dollars, or exposures to factors (N, M), are past what may stay untraded.

    Betas are measured anew each hour: a book must not trade for every change of them.
    """
    exposure = float(np.abs(factors.T @ weights).max(initial=0.0))
    return abs(float(weights.sum())) > drift_max or exposure > FACTOR_DRIFT_RATIO * drift_max


def factor_rebalance(
    held: Floats,
    ideal: Floats,
    band: Floats,
    give: Floats,
    boxes: Limits,
    factors: Floats,
    *,
    drift_max: float,
) -> Floats | None:
    """Do as `neutral_rebalance`, with no exposure to factors (N, M) either; no entry is NaN.

    None where the search for it fails; one is always there, since each box holds zero.
    """
    require(bool((give > 0).all()), "every leg needs a positive give")
    edge = nearest_edge(held, ideal, band)
    rests = np.minimum(np.maximum(edge, boxes.low), boxes.high)
    if bool((rests == held).all()) and not drifted(held, factors, drift_max):
        return held
    X = np.column_stack([np.ones(len(held)), factors])
    basis, totals = independent(X, np.zeros(X.shape[1]))
    legs = Legs(1.0 / give, ideal / give, band / give, held, boxes.low, boxes.high)
    try:
        return with_exposures(legs, basis, totals)
    except (NoMultipliersError, np.linalg.LinAlgError):
        return None


def trimmed(held: Floats) -> Floats:
    """Shrink the heavier side to neutral with as few trades as can be: the largest legs first."""
    net = float(held.sum())
    side = float(np.sign(net))
    heavy = held * side
    order = np.argsort(-heavy, kind="stable")
    sizes = np.maximum(heavy[order], 0.0)
    before = np.concatenate([[0.0], sizes.cumsum()[:-1]])
    cut = np.empty_like(held)
    cut[order] = np.minimum(np.maximum(abs(net) - before, 0.0), sizes)
    return held - cut * side


def at_gross(
    held: Floats,
    ideal: Floats,
    band: Floats,
    give: Floats,
    boxes: Limits,
    *,
    drift_max: float,
    gross_min: float,
    gross_max: float,
    factors: Floats | None = None,
) -> tuple[Floats, float, float]:
    """Rebalance, and keep the gross of what is then held inside [gross_min, gross_max].

    Bands alone hold less than the ideal gross: a leg is bought only up to the near edge, and from a
    flat start a wide band buys nothing. Below gross_min the ideal book is therefore lifted (scaled
    up) until the held gross is there: that adds to the legs which lack most, and costs far less
    than narrower bands would. Above gross_max all bands are narrowed. Gives the weights, the lift
    (1: none) and the narrowing (1: none); arguments as for `neutral_rebalance`. factors: (N, M)
    that the book has no exposure to either, None for none; dollars alone where none is found.
    """

    def weights(lift: float, narrowing: float) -> Floats:
        to, bands = lift * ideal, narrowing * band
        found = None
        if factors is not None:
            found = factor_rebalance(held, to, bands, give, boxes, factors, drift_max=drift_max)
        if found is None:
            found = neutral_rebalance(held, to, bands, give, boxes, drift_max=drift_max)
        return found

    def gross(lift: float, narrowing: float) -> float:
        return float(np.abs(weights(lift, narrowing)).sum())

    plain = weights(1.0, 1.0)
    total = float(np.abs(plain).sum())
    tolerance = GROSS_TOLERANCE * gross_max
    if gross_min <= total <= gross_max:
        return plain, 1.0, 1.0
    if total < gross_min:
        wanted = gross_min + tolerance
        lift = falling_root(lambda x: wanted - gross(x, 1.0), 1.0, LIFT_MAX, tolerance=tolerance)
        return weights(lift, 1.0), lift, 1.0
    wanted = gross_max - tolerance
    cut = falling_root(lambda x: gross(1.0, 1.0 - x) - wanted, 0.0, 1.0, tolerance=tolerance)
    return weights(1.0, 1.0 - cut), 1.0, 1.0 - cut
