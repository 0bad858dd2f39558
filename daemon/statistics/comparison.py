"""Compare two forecasters: Diebold-Mariano for a fixed sample, an e-process for watching live.

With d_t = loss_A - loss_B (above zero: B is better) and forecasts over h instants:

    DM = mean(d) / sqrt((g_0 + 2 * sum over j < h of g_j) / T)           Diebold and Mariano 1995
    DM* = DM sqrt((T + 1 - 2h + h(h - 1)/T) / T), against t(T - 1)   Harvey, Leybourne, Newbold 1997

Not for nested models, whose difference is degenerate under the null.

The e-process (Choe and Ramdas 2021) needs no fixed sample: for |d_t| <= k/2 and a predictable g_t

    E_t = exp(lam * sum d - psi * sum (d - g)^2),   psi = (-ln(1 - k lam) - k lam) / k^2

is, while the mean of d is not above zero, expected to be at most 1 at *any* stopping time, so one
may look after every instant and reject when E_t >= 1/alpha. An average over lam is one as well.
Trap: labels that overlap make d dependent; feed decisions that do not overlap (SCIENCE 3e).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, stdtr

from daemon.domain.units import require
from daemon.statistics.checks import Floats, count, same_length, series, share
from daemon.statistics.dependence import autocovariances, bartlett_variance

# fractions of the largest stake 1/k: small ones gain from faint edges, large ones from clear ones
STAKES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True, slots=True)
class DieboldMariano:
    """Hold the comparison; positive values say that A loses more. NaN where nothing varies."""

    mean: float  # of loss_A - loss_B
    statistic: float  # DM
    adjusted: float  # with the small-sample correction
    p_value: float  # two-sided, of the adjusted one against t(T - 1)
    bartlett: bool  # whether the plain variance was not positive, so that Bartlett's was taken


def small_sample_factor(observations: int, horizon: int) -> float:
    """Give the factor of Harvey, Leybourne and Newbold for T observations and horizon h <= T."""
    count(horizon, "horizon")
    count(observations, "observations", at_least=max(horizon, 2))
    T, h = observations, horizon
    return math.sqrt((T + 1 - 2 * h + h * (h - 1) / T) / T)


def diebold_mariano(losses_a: Floats, losses_b: Floats, *, horizon: int = 1) -> DieboldMariano:
    """Test whether two forecasters lose equally on (T,) instants; T >= 2 and above the horizon.

    horizon: over how many instants a forecast reaches; its errors are correlated up to lag h - 1.
    """
    a, b = series(losses_a, "losses_a", at_least=2), series(losses_b, "losses_b", at_least=2)
    same_length(a, b, "losses_a, losses_b")
    d = a - b
    T, mean = len(d), float(d.mean())
    factor = small_sample_factor(T, horizon)
    require(horizon < T, f"horizon {horizon}: below the {T} observations is accepted")
    g = autocovariances(d, horizon - 1)
    # what rounding leaves of a constant difference is no variation
    if np.ptp(d) <= 1e-12 * np.abs(np.concatenate((a, b))).max():
        return DieboldMariano(mean, math.nan, math.nan, math.nan, bartlett=False)
    variance = float(g[0] + 2.0 * g[1:].sum())
    negative = variance <= 0.0
    if negative:
        variance = bartlett_variance(d, horizon - 1)
    statistic = mean / math.sqrt(variance / T)
    adjusted = statistic * factor
    p_value = 2.0 * float(stdtr(T - 1, -abs(adjusted)))
    return DieboldMariano(mean, statistic, adjusted, p_value, bartlett=negative)


def e_process(differences: Floats, *, bound: float, stake: float) -> Floats:
    """Give E_1 .. E_T for (T,) score differences (above zero: the challenger is better).

    bound: k, twice the largest |d| that can occur, fixed beforehand; larger values are refused.
    stake: lam, in score^-1, from 0 up to but not including 1/k. The centre g is the past mean.
    """
    return _exponential(_log_e_process(_bounded(differences, bound), bound, stake))


@dataclass(frozen=True, slots=True)
class AnytimeComparison:
    """Hold the evidence that the challenger is better on average, instant by instant."""

    e_values: Floats  # (T,) the mixture over the stakes
    alpha: float
    rejected_at: int | None  # first index with E >= 1/alpha, which stands whatever follows


def anytime_comparison(
    differences: Floats, *, bound: float, alpha: float = 0.05, stakes: tuple[float, ...] = STAKES
) -> AnytimeComparison:
    """Watch (T,) score differences for a better challenger at any time.

    stakes: fractions of 1/k in (0, 1), mixed with equal weight; bound as in `e_process`.
    """
    share(alpha, "alpha")
    require(len(stakes) > 0, "stakes is empty: at least one is needed")
    for stake in stakes:
        share(stake, "a stake")
    d = _bounded(differences, bound)
    logs = np.stack([_log_e_process(d, bound, stake / bound) for stake in stakes])  # (L, T)
    mixed = np.asarray(logsumexp(logs, axis=0), dtype=np.float64) - math.log(len(stakes))
    crossed = np.flatnonzero(mixed >= -math.log(alpha))
    at = int(crossed[0]) if len(crossed) else None
    return AnytimeComparison(_exponential(mixed), alpha, at)


def _bounded(differences: Floats, bound: float) -> Floats:
    d = series(differences, "differences")
    require(math.isfinite(bound) and bound > 0, f"bound {bound}: above 0 is accepted")
    widest = float(np.abs(d).max())
    inside = widest <= bound / 2.0
    require(inside, f"a difference of size {widest} exceeds half the bound {bound}: clip it first")
    return d


def _exponential(logs: Floats) -> Floats:
    with np.errstate(over="ignore"):  # evidence beyond 1e308 is infinite for all purposes
        return np.exp(logs)


def _log_e_process(d: Floats, k: float, lam: float) -> Floats:
    require(0.0 <= lam * k < 1.0, f"stake {lam}: accepted is 0 up to below 1/bound = {1.0 / k}")
    psi = (-math.log1p(-k * lam) - k * lam) / k**2
    past = np.concatenate(([0.0], np.cumsum(d)[:-1] / np.arange(1, len(d))))
    return np.asarray(lam * np.cumsum(d) - psi * np.cumsum((d - past) ** 2))
