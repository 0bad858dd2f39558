"""Draw a sample covariance towards a target, as far as its own noise asks for (linear shrinkage).

    S = sample covariance,  F = target,  S* = d F + (1 - d) S
    d = (sum Var(s_ij) - sum Cov(f_ij, s_ij)) / sum (s_ij - f_ij)^2,  within [0, 1]

That d makes the expected squared distance to the truth smallest. Variances are estimated from the
rows: n Var(s_ij) = mean of (x_i x_j)^2 - s_ij^2. Targets:

    identity               mu I, mu = mean variance; Cov = 0          Ledoit and Wolf 2004, JMVA
    constant correlation   r sqrt(s_ii s_jj), r = mean correlation    Ledoit and Wolf 2004, JPM
    one factor             c_i c_j / v, the market = mean of all x    Ledoit and Wolf 2003, JEF

`oracle_approximating` has another d for the identity (OAS; Chen, Wiesel, Eldar and Hero 2010).
With holes every mean is over the rows that both instruments have, and n is their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from strategies.covariance.interface import COMMON_MIN, VARIANCE_MIN, Floats


@dataclass(frozen=True, slots=True)
class Shrunk:
    """Hold a shrunk covariance (N, N), its target (N, N) and the target's share d."""

    matrix: Floats
    target: Floats
    intensity: float


@dataclass(frozen=True, slots=True)
class _Sample:
    """Hold rows x (T, N) without holes, the flags of what was seen, and means over common rows."""

    x: Floats
    seen: Floats
    n: Floats  # (N, N) common rows, at least 1
    S: Floats  # mean of x_i x_j

    def mean(self, left: Floats, right: Floats) -> Floats:
        """Give the mean over common rows of left_i right_j, both zero where not seen."""
        return np.asarray(left.T @ right / self.n)

    def noise(self) -> Floats:
        """Give Var(s_ij) (N, N)."""
        return np.asarray((self.mean(self.x**2, self.x**2) - self.S**2) / self.n)


def _sample(x: Floats) -> _Sample:
    seen = np.isfinite(x).astype(np.float64)
    filled = np.where(seen > 0, x, 0.0)
    n = np.maximum(seen.T @ seen, 1.0)
    return _Sample(filled, seen, n, filled.T @ filled / n)


def to_identity(x: Floats) -> Shrunk:
    """Shrink to the mean variance on the diagonal; x: (T, N), centred, NaN = not seen."""
    sample = _sample(x)
    target = np.eye(len(sample.S)) * np.mean(np.diagonal(sample.S))
    return _shrunk(sample, target, float(sample.noise().sum()))


def oracle_approximating(x: Floats) -> Shrunk:
    """Shrink to the same target by the weight of OAS; x: (T, N), centred, NaN = not seen."""
    sample = _sample(x)
    N, mu, power = len(sample.S), float(np.mean(np.diagonal(sample.S))), np.mean(sample.S**2)
    target = np.eye(N) * mu
    below = (float(np.mean(sample.n)) + 1.0) * (power - mu**2 / N)
    d = min(float((power + mu**2) / below), 1.0) if below > 0 else 1.0
    return Shrunk(d * target + (1.0 - d) * sample.S, target, d)


def to_constant_correlation(x: Floats) -> Shrunk:
    """Shrink to equal correlations and the own variances; x: (T, N), centred, NaN = not seen."""
    sample = _sample(x)
    S, N = sample.S, len(sample.S)
    root = np.sqrt(np.maximum(np.diagonal(S), VARIANCE_MIN))
    off = ~np.eye(N, dtype=np.bool_)
    r = float(np.mean((S / root[:, None] / root)[off])) if N > 1 else 0.0
    target = np.where(off, r * root[:, None] * root, S)
    # n Cov(s_ii, s_ij); by symmetry the sum over i != j takes the other half of each pair as well
    shared = sample.mean(sample.x**3, sample.x) - sample.mean(sample.x**2, sample.seen) * S
    noise = sample.noise()
    covaried = np.where(off, r * root / root[:, None] * shared / sample.n, noise)
    return _shrunk(sample, target, float(noise.sum() - covaried.sum()))


def to_one_factor(x: Floats) -> Shrunk:
    """Shrink to what the mean of all instruments explains; x: (T, N), centred, NaN = not seen."""
    sample = _sample(x)
    S, off = sample.S, ~np.eye(len(sample.S), dtype=np.bool_)
    seen_n = sample.seen.sum(axis=1)
    m = sample.x.sum(axis=1) / np.maximum(seen_n, 1.0)  #                        (T,)
    v = max(float(m @ m) / max(int((seen_n > 0).sum()), 1), VARIANCE_MIN)
    with_m = sample.x * m[:, None]
    c = with_m.sum(axis=0) / np.maximum(sample.seen.sum(axis=0), 1.0)  #         (N,)
    target = np.where(off, np.outer(c, c) / v, S)
    # f = c_i c_j / v moves with each of them (delta method): n Cov(c_i, s_ij), n Cov(v, s_ij)
    of_c = sample.mean(sample.x**2 * m[:, None], sample.x) - c[:, None] * S
    of_v = sample.mean(with_m, with_m) - v * S
    moved = (c / v * of_c + (c / v * of_c).T - np.outer(c, c) / v**2 * of_v) / sample.n
    noise = sample.noise()
    return _shrunk(sample, target, float(noise.sum() - np.where(off, moved, noise).sum()))


def shrunk_correlation(shrink: Callable[[Floats], Shrunk]) -> Callable[[Floats], Floats]:
    """Make of a way to shrink a function from z (T, N) to a correlation (N, N).

    Columns are brought to unit variance first. A pair with fewer than COMMON_MIN common rows has
    what the target says of it.
    """

    def correlation(z: Floats) -> Floats:
        seen = np.isfinite(z)
        power = np.where(seen, z, 0.0) ** 2
        variance = power.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        still = variance <= VARIANCE_MIN
        found = shrink(z / np.sqrt(np.where(still, 1.0, variance)))
        common_n = seen.T.astype(np.float64) @ seen
        R = np.where(common_n >= COMMON_MIN, found.matrix, found.target)
        R[still, :] = R[:, still] = 0.0
        R = np.clip((R + R.T) / 2.0, -1.0, 1.0)
        np.fill_diagonal(R, 1.0)
        return R

    return correlation


def _shrunk(sample: _Sample, target: Floats, gain: float) -> Shrunk:
    distance = float(((sample.S - target) ** 2).sum())
    d = min(max(gain / distance, 0.0), 1.0) if distance > 0 else 1.0
    return Shrunk(d * target + (1.0 - d) * sample.S, target, d)
