"""Imply correlations from a tree of what the instruments are (Lopez de Prado 2019, TIC).

    d_ij = sqrt((1 - r_ij) / 2)                                   r: sample correlation of z
    join the two nearest clusters, again and again; near = mean d over all pairs between them;
      the children of a branch of the tree become one cluster before it meets another branch
    r'_ij = 1 - 2 h^2,  h the mean d at which i and j were joined
    eigenvalues of r' up to (1 + sqrt(N / T))^2, those of pure noise, become their mean;
      ones on the diagonal again

The tree is `taxonomy.toml`, as it was known at the instant. The **control** keeps the tree and
deals its places to other instruments: what it forecasts as well as the true tree does, comes from
smoothing, not from knowing what belongs together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from daemon.domain.units import require
from strategies.covariance.interface import COMMON_MIN, VARIANCE_MIN, Floats
from strategies.covariance.pairwise import sample_correlation
from strategies.covariance.repair import EIGENVALUE_FLOOR, renormalised
from strategies.covariance.taxonomy import Place, Taxonomy

Index = npt.NDArray[np.intp]


@dataclass(slots=True)
class _Branch:
    """Hold the rows that are leaves here, and the branches below by name."""

    leaves: list[int] = field(default_factory=list)
    below: dict[str, _Branch] = field(default_factory=dict)


def theory_implied(
    coins: Sequence[str], taxonomy: Taxonomy, *, permuted_by: int | None = None
) -> Callable[[Floats, int], Floats]:
    """Make a function from z (T, N) and an instant to a correlation (N, N).

    coins: base coins of the columns. permuted_by: a seed for the control, None for the true tree.
    Instruments that hardly moved keep correlations of zero and no place in the tree.
    """
    order = np.array(sorted(range(len(coins)), key=lambda k: coins[k]), dtype=np.intp)
    dealt = np.arange(len(coins))
    if permuted_by is not None:
        dealt = np.random.default_rng(permuted_by).permutation(len(coins))

    def estimate(z: Floats, as_of_ms: int) -> Floats:
        require(z.shape[1] == len(coins), f"{z.shape[1]} columns for {len(coins)} coins")
        places = [taxonomy.place(coins[order[k]], as_of_ms) for k in dealt]
        z = z[:, order]  # by name, so that ties fall the same way in whatever order columns come
        seen = np.isfinite(z).sum(axis=0)
        power = (np.where(np.isfinite(z), z, 0.0) ** 2).sum(axis=0)
        used = np.flatnonzero((seen >= COMMON_MIN) & (power > VARIANCE_MIN))
        R = np.eye(len(coins))
        if len(used) > 1:
            implied = implied_correlation(sample_correlation(z[:, used]), [places[k] for k in used])
            R[np.ix_(used, used)] = denoised(implied, float(np.mean(seen[used])))
        found = np.empty_like(R)
        found[np.ix_(order, order)] = R
        return found

    return estimate


def implied_correlation(R: Floats, places: Sequence[Place]) -> Floats:
    """Give r' (N, N) of a correlation and the place of each row in the tree."""
    root = _Branch()
    for row, place in enumerate(places):
        branch = root
        for name in place:
            branch = branch.below.setdefault(name, _Branch())
        branch.leaves.append(row)
    implied = np.eye(len(R))
    _completed(root, np.sqrt(np.maximum((1.0 - R) / 2.0, 0.0)), implied)
    return implied


def _completed(branch: _Branch, d: Floats, implied: Floats) -> Index:
    """Join everything under a branch into one cluster and give its rows."""
    below = [_completed(branch.below[name], d, implied) for name in sorted(branch.below)]
    clusters = [np.array([row], dtype=np.intp) for row in branch.leaves] + below
    member = np.zeros((len(clusters), len(d)))
    for k, rows in enumerate(clusters):
        member[k, rows] = 1.0
    sums, sizes = member @ d @ member.T, member.sum(axis=1)
    while len(clusters) > 1:
        near = sums / np.outer(sizes, sizes)
        np.fill_diagonal(near, np.inf)
        i, j = sorted(divmod(int(np.argmin(near)), len(clusters)))
        rho = 1.0 - 2.0 * float(near[i, j]) ** 2
        implied[np.ix_(clusters[i], clusters[j])] = rho
        implied[np.ix_(clusters[j], clusters[i])] = rho
        clusters[i] = np.concatenate([clusters[i], clusters.pop(j)])
        sums[i] += sums[j]
        sums[:, i] += sums[:, j]
        sizes[i] += sizes[j]
        kept = np.arange(len(sizes)) != j
        sums, sizes = sums[np.ix_(kept, kept)], sizes[kept]
    return clusters[0]


def noise_edges(instruments_n: int, rows_n: float) -> tuple[float, float]:
    """Give the smallest and largest eigenvalue of pure noise: (1 -+ sqrt(N / T))^2.

    For unit variances (Marchenko and Pastur 1967).
    """
    root = float(np.sqrt(instruments_n / rows_n))
    return (1.0 - root) ** 2, (1.0 + root) ** 2


def denoised(R: Floats, rows_n: float) -> Floats:
    """Give the correlation whose eigenvalues of pure noise are their mean."""
    values, vectors = np.linalg.eigh(R)
    noise = values <= noise_edges(len(R), rows_n)[1]
    if noise.any():
        values = np.where(noise, max(float(values[noise].mean()), EIGENVALUE_FLOOR), values)
    return renormalised((vectors * values) @ vectors.T)
