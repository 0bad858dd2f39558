"""Bring raw forecasts to the scale of the label and say how sure they are.

Per timeframe, with f scaled to unit size out of sample, the slope of y on f through the origin is
the information coefficient. It is shrunk twice by the normal-normal rule: the pooled slope to a
prior of what price-and-volume models reach, each timeframe's slope to the pooled one. Standard
errors are Newey-West over instants, so overlapping labels do not count as new evidence. The prior
is a normal law cut off at zero, since a forecast that points the wrong way is not turned round, and
so is what is left after the outcomes: its mean is the slope. It is always above zero. The worse the
outcomes, the smaller it is, and the next ones can bring it back; one bad stretch does not silence.

    mean      m = slope * scale * f
    variance  v = slope^2 * spread_i + slope_sd^2                     of the mean, not the outcome

No error is stated by a forecast's own size: slope_sd is met with the unit size of a typical one, as
is the spread where there is no ensemble. An error that grew with |f| would shrink the largest
forecasts the most, until they rank behind middling ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.domain.bar import Floats

PRIOR_CENTRE: Final = 0.01  # of the normal law before it is cut off at zero
PRIOR_SD: Final = 0.02
PRIOR_SLOPE: Final = 0.02  # its mean after: coefficients of 0.015 to 0.035 at six hours are real
BETWEEN_SD: Final = 0.01  # by so much the slopes of different timeframes are thought to differ
SPREAD_OWN: Final = 0.5  # weight of the instrument's own spread over members; the rest is average
_SIZE_FLOOR: Final = 1e-6
_SLOPE_FLOOR: Final = 1e-9
_FAR_BELOW: Final = -20.0  # sds; the series is then exact to 1e-6 of its value
SINGLE_MEMBER_SPREAD: Final = 1.0  # without an ensemble, as large as a forecast is typically


@dataclass(frozen=True, slots=True)
class Calibration:
    """Hold one timeframe's map from raw forecast to mean and variance.

    scale: 1 / root mean square of raw forecasts out of sample. spread: mean variance over ensemble
    members of scaled forecasts. slope and slope_sd: see the module.
    """

    scale: float
    slope: float
    slope_sd: float
    spread: float

    def apply(self, members: Floats, noise: Floats) -> tuple[Floats, Floats]:
        """Map members' raw forecasts (M, N) and outcome variances (N,) to mean, variance (N,).

        NaN marks instruments without a forecast. Forecasts are centred over instruments first,
        since the label has no market part. Noisier instruments get a larger share of the spread.
        """
        scaled = centred(members) * self.scale
        f = np.asarray(scaled.mean(axis=0))
        relative = noise / np.nanmean(noise) if np.isfinite(noise).any() else noise
        spread = SPREAD_OWN * spread_of(scaled) + (1 - SPREAD_OWN) * self.spread * relative
        return self.slope * f, np.where(
            np.isfinite(f), self.slope**2 * spread + self.slope_sd**2, f
        )


def centred(rows: Floats) -> Floats:
    """Subtract the mean of the finite values of the last axis."""
    finite = np.isfinite(rows)
    count = np.maximum(finite.sum(axis=-1, keepdims=True), 1)
    return np.asarray(rows - np.where(finite, rows, 0.0).sum(axis=-1, keepdims=True) / count)


def spread_of(members: Floats) -> Floats:
    """Give the variance over members (M, ..) of scaled forecasts, of one member unit size."""
    if len(members) > 1:
        return np.asarray(members.var(axis=0, ddof=1))
    return np.where(np.isfinite(members[0]), SINGLE_MEMBER_SPREAD, np.nan)


def mean_of(members: Floats) -> Floats:
    """Average members (M, T, N) over those that spoke at an instant: (T, N), NaN where none did.

    A member speaks where it forecasts any instrument.
    """
    spoke = np.asarray(np.isfinite(members).any(axis=-1))  # (M, T)
    total = np.where(spoke[..., None], members, 0.0).sum(axis=0)
    count = spoke.sum(axis=0)[:, None]
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def calibrate(
    members: Sequence[Floats], outcomes: Sequence[Floats], *, lags: Sequence[int]
) -> tuple[Calibration, ...]:
    """Fit one Calibration per timeframe from out-of-sample raw forecasts.

    members[k]: (M, T_k, N) raw forecasts, outcomes[k]: (T_k, N) labels, lags[k]: instants that
    share a label's horizon. Where only some members spoke the mean is theirs; the spread is taken
    where most did. Without any outcome the slope is the prior and the size that of all
    forecasts.
    """
    scaled, scales, slopes = [], [], []
    for raw, y, lag in zip(members, outcomes, lags, strict=True):
        f = centred(raw)
        mean = mean_of(f)
        known = np.isfinite(mean) & np.isfinite(y)
        sized = known if known.any() else np.isfinite(mean)
        size = np.sqrt(np.mean(mean[sized] ** 2)) if sized.any() else 0.0
        scales.append(1.0 / max(float(size), _SIZE_FLOOR))
        scaled.append(f * scales[-1])
        slopes.append(slope_of(mean * scales[-1], y, lag))
    pooled = _pooled(slopes)
    found = []
    for f, scale, (slope, sd) in zip(scaled, scales, slopes, strict=True):
        drawn, drawn_sd = _drawn(slope, sd, *pooled)
        found.append(Calibration(scale, above_zero(drawn, drawn_sd), drawn_sd, _mean_spread(f)))
    return tuple(found)


def above_zero(mean: float, sd: float) -> float:
    """Give the mean of what is left above zero of a normal law: m + sd * pdf(m/sd) / cdf(m/sd).

    Source: the truncated normal law; far below zero its asymptotic series, as both functions end
    there. sd must be above 0.
    """
    z = mean / sd
    if z < _FAR_BELOW:
        return max(sd * (-1 / z + 2 / z**3 - 10 / z**5), _SLOPE_FLOOR)
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return mean + sd * density / (0.5 * math.erfc(-z / math.sqrt(2)))


def _mean_spread(scaled: Floats) -> float:
    """Average the spread of scaled forecasts (M, T, N) over instants at which most members spoke.

    The sets of members that spoke must be nested, as those of folds are.
    """
    spoke = np.asarray(np.isfinite(scaled).any(axis=-1))  # (M, T)
    if not spoke.any():
        return SINGLE_MEMBER_SPREAD
    count = spoke.sum(axis=0)
    most = count == count.max()
    them = scaled[spoke[:, most].any(axis=1)]
    return float(np.nanmean(spread_of(np.where(most[:, None], them, np.nan))))


def slope_of(f: Floats, y: Floats, lags: int) -> tuple[float, float]:
    """Regress y on f through the origin; give slope and Newey-West standard error over instants."""
    known = np.isfinite(f) & np.isfinite(y)
    joint = np.where(known, f * y, 0.0).sum(axis=1)  # (T, N) -> (T,)
    power = np.where(known, f * f, 0.0).sum(axis=1)
    if power.sum() <= 0:
        return 0.0, float("inf")
    slope = float(joint.sum() / power.sum())
    z = joint - slope * power
    variance = float(z @ z)
    for j in range(1, min(lags, len(z) - 1) + 1):
        variance += 2 * (1 - j / (lags + 1)) * float(z[j:] @ z[:-j])
    return slope, float(np.sqrt(max(variance, float(z @ z) / (lags + 1))) / power.sum())


def _pooled(slopes: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Average the timeframes' slopes and shrink them to the prior; their errors are shared."""
    known = [(b, sd) for b, sd in slopes if np.isfinite(sd) and sd > 0]
    if not known:
        return PRIOR_CENTRE, PRIOR_SD
    mean = sum(b for b, _ in known) / len(known)
    # The timeframes see the same outcomes: their average is hardly surer than one of them.
    return shrunk(mean, sum(sd for _, sd in known) / len(known), PRIOR_CENTRE, PRIOR_SD)


def shrunk(slope: float, sd: float, prior: float, prior_sd: float) -> tuple[float, float]:
    """Combine a measured slope with an independent prior by their precisions."""
    own, before = 1.0 / sd**2, 1.0 / prior_sd**2
    return (own * slope + before * prior) / (own + before), float((own + before) ** -0.5)


def _drawn(slope: float, sd: float, pooled: float, pooled_sd: float) -> tuple[float, float]:
    """Draw one timeframe's slope to the pooled one; both come from the same outcomes."""
    if not (np.isfinite(sd) and sd > 0):
        return pooled, float(np.hypot(pooled_sd, BETWEEN_SD))
    own = BETWEEN_SD**2 / (BETWEEN_SD**2 + sd**2)
    return own * slope + (1 - own) * pooled, own * sd + (1 - own) * pooled_sd


def disagreement(forecasts: Sequence[Floats]) -> Floats:
    """Estimate the correlation (K, K) of the timeframes' forecast errors.

    forecasts[k]: (T, N) centred out-of-sample forecasts at common instants. With slopes far below
    one a forecast is mostly error, so errors correlate about as forecasts do. Shrunk half-way to
    its mean off-diagonal; the mean off-diagonal is kept in 0 .. 0.95.
    """
    K = len(forecasts)
    known = np.all([np.isfinite(f) for f in forecasts], axis=0)
    flat = np.array([f[known] for f in forecasts])  # (K, T, N) -> (K, samples)
    if K == 1 or flat.shape[1] < 2 or np.any(flat.std(axis=1) == 0):
        return np.full((K, K), 0.5) + 0.5 * np.eye(K)
    found = np.corrcoef(flat)
    mean = float(np.clip((found.sum() - K) / (K * (K - 1)), 0.0, 0.95))
    shrunk = 0.5 * found + 0.5 * mean
    np.fill_diagonal(shrunk, 1.0)
    return np.asarray(shrunk)
