"""Make one alpha of the timeframes' forecasts by one of several rules, in the same way everywhere.

The default strategy, walk-forwards and exported tables all take this way, so that they agree to the
bit. A step ages the newest forecast of each timeframe by d hours,

    m <- phi^d m,   v <- phi^(2d) v + (1 - phi^(2d)) tau2,   phi = 0.5^(1 / half-life),

and moves what every rule may need: tau2, and a Kalman filter of the alpha. Then a rule speaks:

    strength       precision weights, consistency and confidence (`strategies.strength`)
    kalman         the same with memory: the filter's belief
    mean           sum of m_k over the timeframes that have a forecast, divided by their number
    grinold_kahn   IC' Omega^-1 f with f_k = m_k / IC_k, IC aged like m (Grinold and Kahn 2000)

Omega is the correlation of the forecasts, IC their slopes of outcomes on forecasts of unit size. A
timeframe whose weight would be below zero says nothing, and the others are weighed without it: no
forecast is turned round, however weak beside those that it is like. The last two do not shrink.
`auto` takes the rule that the model's Reading names: it was chosen by validation, see
`strategies.forecast.combined`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from msgspec import structs
from scipy.special import ndtr

from daemon.domain.bar import Floats
from daemon.domain.forecast import Reading, Signals
from daemon.domain.units import require
from strategies import strength
from strategies.rules import Rule
from strategies.strength import Combined

TAU2_PRIOR: Final = 9e-4
MOMENTS_HALF_LIFE_HOURS: Final = 48.0  # of tau2
DISAGREEMENT_PRIOR: Final = 0.5
_HALF: Final = 0.5


class Belief(NamedTuple):
    """Hold what is remembered from one decision to the next; alpha, variance (N,), NaN = prior."""

    tau2: float
    alpha: Floats
    variance: Floats


class Forecasts(NamedTuple):
    """Hold the newest forecasts as they were made: mean, variance (K, N), age_hours (K,).

    NaN = that timeframe says nothing, or is too old to be used.
    """

    mean: Floats
    variance: Floats
    age_hours: Floats


@dataclass(frozen=True, slots=True)
class Blend:
    """Hold what the timeframes say at an instant, aged and ready for any rule.

    mean, variance: (K, N). keep: (K,) phi^d. correlation: (K, K). combined: by precision. filtered:
    alpha, its variance and the gain (N,) of the filter with memory.
    """

    mean: Floats
    variance: Floats
    keep: Floats
    correlation: Floats
    combined: Combined
    tau2: float
    filtered: tuple[Floats, Floats, Floats]

    @property
    def here(self) -> Floats:
        """Tell with 1 and 0 which timeframe has a forecast of which instrument, (N, K)."""
        both = np.isfinite(self.mean) & np.isfinite(self.variance)
        return np.asarray(both.T.astype(np.float64))


def prior_belief(instruments_n: int) -> Belief:
    """Give the belief before any forecast."""
    unknown = np.full(instruments_n, np.nan)
    return Belief(TAU2_PRIOR, unknown, unknown)


def blend(
    belief: Belief,
    forecasts: Forecasts,
    disagreement: Floats | None,
    *,
    hours: float,
    phi: float,
) -> tuple[Belief, Blend]:
    """Age and join the forecasts of a decision; give the next belief beside it.

    disagreement: (K, K) of the errors, taken as it is: who measured it has shrunk it. None or NaN
    takes the prior. hours: since the last decision with a forecast. phi: persistence of the alpha
    per hour.
    """
    ages = np.where(np.isfinite(forecasts.age_hours), forecasts.age_hours, 0.0)
    known = np.isfinite(forecasts.age_hours)[:, None]
    mean, variance = strength.decayed(
        np.where(known, forecasts.mean, np.nan),
        np.where(known, forecasts.variance, np.nan),
        age_hours=ages[:, None],
        phi=phi,
        tau2=belief.tau2,
    )
    correlation = _correlation(len(mean), disagreement)
    combined = strength.combine(mean, variance, correlation)
    keep = float(_HALF ** (hours / MOMENTS_HALF_LIFE_HOURS))
    tau2 = strength.updated_tau2(belief.tau2, combined, keep=keep)
    filtered = strength.kalman_step(
        belief.alpha,
        belief.variance,
        combined.magnitude,
        combined.inflated_variance,
        phi=phi**hours,
        tau2=tau2,
    )
    made = Blend(mean, variance, np.power(phi, ages), correlation, combined, tau2, filtered)
    return Belief(tau2, filtered[0], filtered[1]), made


def _correlation(K: int, disagreement: Floats | None) -> Floats:
    if disagreement is not None and np.isfinite(disagreement).all():
        return disagreement
    return np.where(np.eye(K, dtype=bool), 1.0, DISAGREEMENT_PRIOR)


# ---- rules ---------------------------------------------------------------------------------------


def signals(
    made: Blend, as_of_ms: int, rule: Rule, slopes: Sequence[float] | None = None
) -> Signals:
    """Let a rule speak; slopes: (K,) for GRINOLD_KAHN, without them all count as equal."""
    require(rule is not Rule.AUTO, "auto names no rule of its own: resolve it first")
    if rule is Rule.KALMAN:
        alpha, variance, gain = made.filtered
        return strength.filtered_signals(as_of_ms, made.combined, gain, alpha, variance)
    if rule is Rule.MEAN:
        count = made.here.sum(axis=1, keepdims=True)
        return _weighed(made, as_of_ms, made.here / np.where(count > 0, count, np.nan))
    if rule is Rule.GRINOLD_KAHN:
        return _weighed(made, as_of_ms, _grinold_kahn_weights(made, slopes))
    return strength.signals(as_of_ms, made.combined, made.tau2)


def _weighed(made: Blend, as_of_ms: int, weights: Floats) -> Signals:
    """Sum the forecasts with weights (N, K), without shrinkage; NaN where there is none."""
    here = made.here
    weights = np.where(here.any(axis=1, keepdims=True), weights, np.nan)
    m = (weights * np.where(here > 0, made.mean.T, 0.0)).sum(axis=1)
    spread = strength.error_covariance(made.variance, made.correlation, here)
    v = np.einsum("nk,nkl,nl->n", weights, spread, weights)
    v = np.where(np.isnan(m), np.nan, np.maximum(v, strength.VARIANCE_FLOOR))
    one = np.where(np.isnan(m), np.nan, 1.0)
    return strength.signals_of(as_of_ms, Combined(m, v, 0.0 * one, one), one, m, v)


def _grinold_kahn_weights(made: Blend, slopes: Sequence[float] | None) -> Floats:
    """Give the weights (N, K) on means that regress the outcome on all forecasts at once.

    The one furthest below zero leaves, for each instrument, until none is.
    """
    K = len(made.keep)
    known = np.ones(K) if slopes is None else np.asarray(slopes)
    require(len(known) == K, f"{len(known)} slopes for {K} timeframes")
    ic = made.keep * known
    here = made.here * (ic > 0)
    pulled = _regressed(made.correlation, here, ic)
    while (pulled < 0.0).any():
        worst = np.arange(K) == pulled.argmin(axis=1)[:, None]
        here = here * ~(worst & (pulled < 0.0))
        pulled = _regressed(made.correlation, here, ic)
    return pulled / np.where(ic > 0, ic, 1.0)


def _regressed(correlation: Floats, here: Floats, ic: Floats) -> Floats:
    """Give Omega^-1 IC (N, K) of those that are here, 0 of the others."""
    between = strength.between_present(correlation, here)
    return here * np.linalg.solve(between, (here * ic)[:, :, None])[:, :, 0]


# ---- what a model says of its forecasts ----------------------------------------------------------


def resolved(rule: Rule, reading: Reading | None) -> tuple[Rule, Reading | None]:
    """Give the rule that speaks, and the reading if it was learned for that very rule."""
    if rule is Rule.AUTO:
        rule = Rule.STRENGTH if reading is None else Rule(reading.rule)
    return rule, reading if reading is not None and reading.rule == rule else None


def read(found: Signals, reading: Reading | None) -> Signals:
    """Bring signals to the scale of outcomes, with the chance of the sign and an interval."""
    if reading is None:
        return found
    alpha, variance = reading.scale * found.alpha, reading.scale**2 * found.variance
    sd = float(np.sqrt(reading.outcome_variance))
    return structs.replace(
        found,
        alpha=alpha,
        variance=variance,
        strength=np.abs(alpha) / np.sqrt(1.0 + variance),
        up=chance_up(alpha, reading),
        half_width=np.where(np.isfinite(alpha), reading.half_width * sd, np.nan),
    )


def chance_up(alpha: Floats, reading: Reading) -> Floats:
    """Give the probability of an outcome above 0 for scaled alphas of any shape; NaN stays."""
    z = alpha / float(np.sqrt(reading.outcome_variance))
    if not reading.up:
        return np.asarray(ndtr(z), dtype=np.float64)
    steps = np.searchsorted(np.asarray(reading.edges), z, side="right")
    up = np.asarray(reading.up)[np.minimum(steps, len(reading.up) - 1)]
    return np.where(np.isfinite(z), up, np.nan)
