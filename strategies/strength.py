"""Turn forecasts at several timeframes into one signal per instrument.

Symbols, all in units of residual volatility over the common horizon: m_k, v_k are the mean of
timeframe k and the error variance of that mean; R is the correlation of the timeframes' errors;
tau2 is the cross-sectional variance of the true alpha.

    V = D R D, D = diag(sqrt(v_k))      w = V^-1 1 / (1'V^-1 1), negative weights cut, rescaled
    m = w'm_k                           magnitude
    v = w'V w                           error variance of m
    Q = (m_k - m)' V^-1 (m_k - m)       disagreement
    C = 1 / max(1, (n0 + Q)/(n0 + K-1)) consistency, in (0, 1]
    kappa = tau2 C / (tau2 C + v)       confidence, in (0, 1)
    a = kappa m,  u = kappa v / C       alpha and its variance
    p = Phi(|a|/sqrt(u))                probability that the sign is right
    S = |a| / sqrt(1 + u)               strength: expected Sharpe ratio over the horizon

This is normal-normal shrinkage whose error variance is inflated, with n0 as damping, when the
timeframes disagree by more than their stated errors explain. A timeframe without a forecast for an
instrument drops out of that instrument's sums (K counts those present) and is never read as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import ndtr

from daemon.domain.bar import Floats
from daemon.domain.forecast import Signals
from daemon.domain.units import require

CONSISTENCY_DAMPING: Final = 4.0  # n0
TAU2_FLOOR: Final = 0.005**2
VARIANCE_FLOOR: Final = 1e-12  # a model that claims no error at all would make V singular
NAMES_MIN: Final = 3  # a cross-sectional variance of fewer instruments says nothing


@dataclass(frozen=True, slots=True)
class Combined:
    """Hold what the timeframes say together before shrinkage; (N,) each, NaN = no forecast."""

    magnitude: Floats
    variance: Floats
    disagreement: Floats
    consistency: Floats

    @property
    def inflated_variance(self) -> Floats:
        """Give v/C, the error variance that the observed disagreement admits, shape (N,)."""
        return self.variance / self.consistency


def decayed(
    mean: Floats, variance: Floats, *, age_hours: Floats | float, phi: float, tau2: float
) -> tuple[Floats, Floats]:
    """Age forecasts: m <- phi^d m and v <- phi^(2d) v + (1 - phi^(2d)) tau2.

    phi is the alpha's persistence per hour, d the age in hours (broadcast against mean). NaN stays.
    """
    keep = np.power(phi, age_hours)
    return keep * mean, keep**2 * variance + (1.0 - keep**2) * tau2


def combine(
    mean: Floats,
    variance: Floats,
    disagreement: Floats,
    *,
    damping: float = CONSISTENCY_DAMPING,
) -> Combined:
    """Combine K timeframes by precision, per instrument.

    mean, variance: (K, N), NaN = that timeframe says nothing about that instrument. disagreement:
    (K, K) positive definite correlation. Raises InvariantViolated for shapes that do not fit or a
    negative variance.
    """
    K, N = mean.shape
    require(variance.shape == (K, N), f"variance shape {variance.shape}: want {(K, N)}")
    require(disagreement.shape == (K, K), f"disagreement shape {disagreement.shape}: want K x K")
    require(not (variance < 0).any(), "a forecast variance is negative")
    here = (np.isfinite(mean) & np.isfinite(variance)).T.astype(np.float64)  #     (N, K)
    spread = error_covariance(variance, disagreement, here)  #                    (N, K, K)
    inverse = np.linalg.inv(spread)
    pull = np.maximum((inverse @ here[:, :, None])[:, :, 0], 0.0) * here
    total = pull.sum(axis=1)
    w = pull / np.where(total > 0, total, np.nan)[:, None]
    values = np.where(here > 0, mean.T, 0.0)
    m = (w * values).sum(axis=1)
    v = np.einsum("nk,nkl,nl->n", w, spread, w)
    gap = (values - m[:, None]) * here
    Q = np.einsum("nk,nkl,nl->n", gap, inverse, gap)
    count = here.sum(axis=1)
    C = 1.0 / np.maximum(1.0, (damping + Q) / (damping + count - 1.0))
    return Combined(m, v, Q, C)


def error_covariance(variance: Floats, disagreement: Floats, here: Floats) -> Floats:
    """Give V (N, K, K) of the errors; here: (N, K), 1 where a timeframe has a forecast, else 0.

    An absent timeframe becomes an uncorrelated row of its own, so that one batched inverse serves
    every pattern of absence; whoever uses it keeps it out of all sums.
    """
    sd = np.sqrt(np.where(here.T > 0, np.maximum(variance, VARIANCE_FLOOR), 1.0)).T
    scale = sd[:, :, None] * sd[:, None, :]
    return np.asarray(between_present(disagreement, here) * scale)


def between_present(correlation: Floats, here: Floats) -> Floats:
    """Give the correlation (K, K) for every instrument, (N, K, K): the absent have none."""
    pair = here[:, :, None] * here[:, None, :]
    return np.asarray(correlation * pair + np.eye(len(correlation)) * (1.0 - here)[:, :, None])


def updated_tau2(tau2: float, combined: Combined, *, keep: float) -> float:
    """Move the EWMA of the true alpha's cross-sectional variance by one decision.

    The observation is max(floor, var(m) - mean(v/C)); `keep` is the weight of the past. With fewer
    than three forecasts there is no observation and tau2 stays.
    """
    seen = np.isfinite(combined.magnitude)
    if int(seen.sum()) < NAMES_MIN:
        return tau2
    spread = float(np.var(combined.magnitude[seen], ddof=1))
    noise = float(np.mean(combined.inflated_variance[seen]))
    return keep * tau2 + (1.0 - keep) * max(TAU2_FLOOR, spread - noise)


def signals(as_of_ms: int, combined: Combined, tau2: float) -> Signals:
    """Shrink the combined forecasts to signals, without memory."""
    require(tau2 > 0, f"tau2 {tau2} must be positive")
    m, v, C = combined.magnitude, combined.variance, combined.consistency
    kappa = tau2 * C / (tau2 * C + v)
    return signals_of(as_of_ms, combined, kappa, kappa * m, kappa * v / C)


def filtered_signals(
    as_of_ms: int, combined: Combined, gain: Floats, alpha: Floats, variance: Floats
) -> Signals:
    """Make signals of a Kalman filter's belief; the gain stands for the confidence.

    An instrument without any forecast now has no signal, whatever the filter remembers of it.
    """
    unseen = ~np.isfinite(combined.magnitude)
    return signals_of(
        as_of_ms,
        combined,
        np.where(unseen, np.nan, gain),
        np.where(unseen, np.nan, alpha),
        np.where(unseen, np.nan, variance),
    )


def signals_of(
    as_of_ms: int, combined: Combined, confidence: Floats, alpha: Floats, variance: Floats
) -> Signals:
    """Lay out a belief (alpha, variance) as signals; all arrays (N,)."""
    size = np.abs(alpha)
    return Signals(
        as_of_ms=as_of_ms,
        magnitude=combined.magnitude,
        consistency=combined.consistency,
        confidence=confidence,
        alpha=alpha,
        variance=variance,
        probability=np.asarray(ndtr(size / np.sqrt(variance)), dtype=np.float64),
        strength=size / np.sqrt(1.0 + variance),
    )


def kalman_step(
    alpha: Floats,
    variance: Floats,
    observed: Floats,
    observed_variance: Floats,
    *,
    phi: float,
    tau2: float,
) -> tuple[Floats, Floats, Floats]:
    """Give the next alpha, its variance and the gain; all (N,).

    `observed` is the magnitude with variance v/C; NaN there means 'predict only', NaN in the past
    belief means 'start from the prior' (0, tau2). With phi = 0 this equals `signals`.
    """
    unknown = ~(np.isfinite(alpha) & np.isfinite(variance))
    before = np.where(unknown, 0.0, alpha)
    before_variance = np.where(unknown, tau2, variance)
    predicted = phi * before
    predicted_variance = phi**2 * before_variance + (1.0 - phi**2) * tau2
    seen = np.isfinite(observed) & np.isfinite(observed_variance)
    noise = np.where(seen, observed_variance, np.inf)
    gain = predicted_variance / (predicted_variance + noise)
    surprise = np.where(seen, observed - predicted, 0.0)
    return predicted + gain * surprise, (1.0 - gain) * predicted_variance, gain


def grinold_kahn(coefficients: Floats, correlation: Floats) -> tuple[Floats, float]:
    """Weigh forecasts by Omega^-1 IC (the static baseline) and give the combined coefficient.

    coefficients: (K,) information coefficients; correlation: (K, K) of the forecasts. The weights
    sum to one; the combined information coefficient is sqrt(IC' Omega^-1 IC).
    """
    raw: Floats = np.linalg.solve(correlation, coefficients).astype(np.float64)
    total = float(raw.sum())
    require(total != 0, "the forecasts' weights cancel; there is nothing to combine")
    return raw / total, float(np.sqrt(coefficients @ raw))
