"""Turn alphas into dollar-neutral (optionally factor-neutral) capped weights of a given gross.

The book solves, for a scale s found so that the gross meets its target,

    max over w of  s alpha'w - w'V w / 2   subject to  X'w = t,  |w_i| <= cap

with V the diagonal of residual variances and X = [1], [1, beta] or [1, factors]. Its solution is

    w_i = clip((s alpha_i - X_i b) / V_i, -cap, cap)

where b makes X'w = t. Without caps this is s times the risk-weighted neutral projection
S a - S X (X'S X)^-1 X'S a, S = V^-1; with caps, what a capped leg cannot carry moves to the others
and the book stays neutral, because neutrality is solved after the caps. 1/s is the risk aversion
that the gross target implies. t is zero, or whatever offsets instruments that keep their weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.units import require
from strategies.roots import falling_root, ramps_zero
from strategies.separable import Legs, NoMultipliersError, independent, with_exposures

PATTERNS_MAX: Final = 12
# Beyond this multiple of the uncapped scale the book would bet on differences too small to mean
# anything, only to reach its gross.
SCALE_STRETCH_MAX: Final = 2.0**16
DETERMINANT_MIN: Final = 1e-9  # of its larger product: below it rounding would choose the scale
GROSS_TOLERANCE: Final = 1e-10
ROOT_TOLERANCE: Final = 1e-13
TIE_TOLERANCE: Final = 1e-12
SHORTFALL_WORTH_A_WORD: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Book:
    """Hold ideal weights (N,), their gross, and why the gross is below its target (or '').

    risk_aversion is what the uncapped book of this gross implies, in units of alpha over variance;
    infinite for a book without any difference of opinion.
    """

    weights: Floats
    gross: float
    risk_aversion: float
    note: str = ""


def neutral_projection(alpha: Floats, variance: Floats, exposures: Floats) -> Floats:
    """Project alpha / variance onto books without exposure: S a - S X (X'S X)^-1 X'S a.

    alpha, variance: (N,); exposures X: (N, M) of full column rank; S = diag(1 / variance).
    """
    pull = exposures.T / variance  #                                    (M, N) = X'S
    b = np.linalg.solve(pull @ exposures, pull @ alpha)
    return np.asarray((alpha - exposures @ b) / variance, dtype=np.float64)


def long_short(
    alpha: Floats,
    variance: Floats,
    *,
    tradable: Flags,
    gross: float,
    weight_max: float | Floats,
    beta: Floats | None = None,
    kept: Floats | None = None,
) -> Book:
    """Build the neutral capped book of all tradable instruments.

    alpha and variance: (N,) in the same return units, read where tradable. weight_max caps every
    single |weight|: one number, or (N,). beta: (N,), (N, M) for a few factors, or None. kept: (N,)
    weights of instruments that stay as they are (zero wherever tradable); the others offset them
    and share the gross that is left. Feasible by construction: what cannot reach the target comes
    out smaller, and the note says why.
    """
    require(gross >= 0, f"gross {gross} must not be negative")
    weights = np.zeros(len(alpha)) if kept is None else kept.copy()
    require(not weights[tradable].any(), "an instrument is both kept and free")
    room = gross - float(np.abs(weights).sum())
    free = np.flatnonzero(tradable)
    if len(free) < 2 or room <= 0:
        why = "fewer than two legs can trade" if room > 0 else "kept legs take the whole gross"
        return Book(weights, float(np.abs(weights).sum()), np.inf, why)
    caps = weight_max[free] if isinstance(weight_max, np.ndarray) else weight_max
    legs = _legs(alpha[free], variance[free], caps, room)
    offset = -float(weights.sum())
    part, reason = None, ""
    if beta is not None:
        X = np.column_stack([np.ones(len(alpha)), beta])
        basis, totals = independent(X[free], -X.T @ weights)
        if basis.shape[1] > 1:
            part = _factor_neutral(legs, basis, totals)
            kind = "beta" if beta.ndim == 1 else "factor"
            reason = "" if part else f"the caps leave no {kind}-neutral book; "
    if part is None:
        part = _dollar_neutral(legs, offset)
    weights[free] = part.weights
    total = float(np.abs(weights).sum())
    return Book(weights, total, part.risk_aversion, reason + part.note)


@dataclass(frozen=True, slots=True)
class _Legs:
    """Hold the free legs: centred alpha, variance and cap (n,), the gross of all.

    reach: the sum of all caps. aversion is the risk aversion at which the uncapped dollar-neutral
    book has that gross.
    """

    alpha: Floats
    variance: Floats
    cap: Floats
    reach: float
    gross: float
    aversion: float


def _legs(alpha: Floats, variance: Floats, weight_max: float | Floats, gross: float) -> _Legs:
    require(bool(np.isfinite(alpha).all()), "a free leg has no alpha")
    require(bool((variance > 0).all()), "a free leg has no risk")
    # Centring first keeps small differences between large alphas exact.
    centred = alpha - alpha.mean()
    spread = float(np.abs(neutral_projection(centred, variance, np.ones((len(alpha), 1)))).sum())
    is_flat = spread <= TIE_TOLERANCE * float(np.abs(alpha / variance).sum())
    caps = np.minimum(weight_max, np.full(len(alpha), gross))
    require(bool((caps > 0).all()), f"weight_max {weight_max} must be positive")
    is_each = isinstance(weight_max, np.ndarray)
    reach = float(caps.sum()) if is_each else len(alpha) * float(caps[0])
    return _Legs(centred, variance, caps, reach, gross, np.inf if is_flat else spread / gross)


def _dollar_neutral(legs: _Legs, total: float) -> Book:
    """Give the book whose weights sum to `total`, or come as near as the caps allow."""
    slack, slope = legs.cap * legs.variance, 1.0 / legs.variance
    slope_changes = np.concatenate([-slope, slope])

    def weights_at(scale: float) -> Floats:
        centre = scale * legs.alpha
        w = (centre - (centre @ slope - total) / slope.sum()) * slope
        if (np.abs(w) > legs.cap).any():
            kinks = np.concatenate([centre - slack, centre + slack])
            shift = ramps_zero(kinks, slope_changes, legs.reach - total)
            w = _capped(legs, (centre - shift) / legs.variance)
        return _settled(legs, w, total)

    quick = _by_pattern(legs, total)
    if quick is not None:
        return Book(quick, float(np.abs(quick).sum()), legs.aversion)
    return _at_gross(legs, weights_at)


def _by_pattern(legs: _Legs, total: float) -> Floats | None:
    """Guess which legs are long, short and capped, solve scale and shift for that, and repeat.

    With the pattern known, total and gross are two linear equations. A pattern that reproduces
    itself is the answer, nearly always within a few rounds; None where none does.
    """
    if not np.isfinite(legs.aversion):
        return None
    inverse = 1.0 / legs.variance
    pull = legs.alpha * inverse
    shift = (float(pull.sum()) - total * legs.aversion) / float(inverse.sum())
    w = (pull - shift * inverse) / legs.aversion
    for _ in range(PATTERNS_MAX):
        side, is_open = np.sign(w), np.abs(w) < legs.cap
        a, b = pull * is_open, inverse * is_open
        carried = legs.cap * (side - side * is_open)
        first, second = total - float(carried.sum()), legs.gross - float(np.abs(carried).sum())
        a_sum, b_sum, a_side, b_side = float(a.sum()), float(b.sum()), side @ a, side @ b
        determinant = float(b_sum * a_side - a_sum * b_side)
        if determinant <= DETERMINANT_MIN * b_sum * abs(float(a_side)):
            return None  # all legs of one side are capped: gross says nothing of the scale
        scale = (b_sum * second - b_side * first) / determinant
        level = (a_sum * second - a_side * first) / determinant
        if not 0 < scale * legs.aversion <= SCALE_STRETCH_MAX:
            return None
        w = scale * pull - level * inverse
        if (np.sign(w) == side).all() and ((np.abs(w) < legs.cap) == is_open).all():
            return _settled(legs, _capped(legs, w), total)
    return None


def _settled(legs: _Legs, w: Floats, total: float) -> Floats:
    """Remove what rounding left of sum(w) - total, over the legs below their cap."""
    share = (np.abs(w) < legs.cap) / legs.variance
    whole = float(share.sum())
    if whole == 0:
        return w
    return _capped(legs, w + share * ((total - float(w.sum())) / whole))


def _capped(legs: _Legs, w: Floats) -> Floats:
    return np.minimum(np.maximum(w, -legs.cap), legs.cap)


def _factor_neutral(legs: _Legs, X: Floats, totals: Floats) -> Book | None:
    """Give the book with X'w = totals, or None where the caps forbid it."""
    none, cap = np.zeros(len(X)), np.full(len(X), legs.cap)

    def weights_at(scale: float) -> Floats:
        own = Legs(legs.variance, scale * legs.alpha, none, none, -cap, cap)
        return with_exposures(own, X, totals)

    try:
        return _at_gross(legs, weights_at)
    except NoMultipliersError:
        return None


def _at_gross(legs: _Legs, weights_at: Callable[[float], Floats]) -> Book:
    """Find the scale at which the book has the wanted gross, the caps permitting."""
    hedge = weights_at(0.0)
    spent = float(np.abs(hedge).sum())
    if not np.isfinite(legs.aversion):
        return Book(hedge, spent, np.inf, "the signals do not differ")
    if spent >= legs.gross:
        return Book(hedge, spent, legs.aversion, "offsetting the kept legs takes the whole gross")

    # Where all legs of a side are capped, any larger scale gives the same gross. Aiming just below
    # it finds the smallest one, whatever the order of the legs.
    aim = legs.gross * (1.0 - GROSS_TOLERANCE)

    def missing(scale: float) -> float:
        return aim - float(np.abs(weights_at(scale)).sum())

    low, high = 0.0, 1.0 / legs.aversion
    largest, tolerance = high * SCALE_STRETCH_MAX, ROOT_TOLERANCE * legs.gross
    left = missing(high)
    while left > tolerance and high < largest:
        low, high = high, high * 2.0
        left = missing(high)
    if abs(left) > tolerance:
        high = falling_root(missing, low, high, tolerance=tolerance)
    weights = weights_at(high)
    total = float(np.abs(weights).sum())
    is_short = total < legs.gross * (1.0 - SHORTFALL_WORTH_A_WORD)
    note = (
        f"caps of {float(legs.cap.max()):.3f} allow a gross of {total:.3f} only" if is_short else ""
    )
    return Book(weights, total, legs.aversion, note)
