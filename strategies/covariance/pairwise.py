"""Measure correlations pair by pair, each on the rows that both instruments have.

    rho_ij = sum z_i z_j / sqrt(sum z_i^2 sum z_j^2),   sums over rows where both are seen

Means are taken as zero: an hour's is far below its deviation. Each rho lies in [-1, 1]; together
they may have eigenvalues below zero where holes differ, which `repair` mends.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from strategies.covariance.interface import COMMON_MIN, VARIANCE_MIN

Floats = npt.NDArray[np.float64]


def sample_correlation(z: Floats) -> Floats:
    """Give the correlation (N, N) of z (T, N), NaN = not seen; too few common rows give zero."""
    seen = np.isfinite(z).astype(np.float64)
    filled = np.where(seen > 0, z, 0.0)
    return normalised(filled.T @ filled, (filled**2).T @ seen, seen.T @ seen)


def normalised(products: Floats, powers: Floats, common_n: Floats) -> Floats:
    """Give rho from sums over common rows: z_i z_j, z_i^2 where j is seen too, and their number."""
    scale = powers * powers.T
    known = (common_n >= COMMON_MIN) & (scale > VARIANCE_MIN**2)
    R = np.where(known, products, 0.0) / np.sqrt(np.where(known, scale, 1.0))
    R = np.clip((R + R.T) / 2.0, -1.0, 1.0)
    np.fill_diagonal(R, 1.0)
    return R
