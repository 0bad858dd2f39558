"""Shrink each eigenvalue of a sample correlation by a formula of its own (non-linear shrinkage).

Large sample eigenvalues are too large and small ones too small. In the limit of many instruments
and rows, the best value for the i-th eigenvector is (Ledoit and Wolf 2020, Annals of Statistics,
"Analytical nonlinear shrinkage of large-dimensional covariance matrices")

    d_i = l_i / ((pi c l_i f_i)^2 + (1 - c - pi c l_i H_i)^2),   c = N / n

f is the density of the sample eigenvalues l and H its Hilbert transform, both by an Epanechnikov
kernel of the width h l_j, h = n^(-1/3), at the j-th eigenvalue:

    x = (l_i - l_j) / (h l_j)
    f_i = mean_j  3 / (4 sqrt5 h l_j) (1 - x^2 / 5)+
    H_i = mean_j  (-3 x / (10 pi) + 3 / (4 sqrt5 pi) (1 - x^2 / 5) ln|(sqrt5 - x) / (sqrt5 + x)|)
                  / (h l_j)

With more instruments than rows the means run over the n eigenvalues above zero, and

    d_i = 1 / (pi^2 l_i (f_i^2 + H_i^2)),   d_0 = 1 / (pi (c - 1) H_0) for all that are zero
    H_0 = (3 / (10 h^2) + 3 / (4 sqrt5 h) (1 - 1 / (5 h^2)) ln((1 + sqrt5 h) / (1 - sqrt5 h)))
          / pi * mean_j 1 / l_j
"""

from __future__ import annotations

from typing import Final

import numpy as np

from strategies.covariance.interface import Floats
from strategies.covariance.pairwise import sample_correlation
from strategies.covariance.repair import EIGENVALUE_FLOOR, renormalised

ROOT5: Final = float(np.sqrt(5.0))
EIGENVALUE_MIN: Final = 1e-9  # of the mean: smaller ones are zeros of a matrix without full rank

MISFIT: Final = -1e-4  # of directions below zero: `joined` must see that pairs do not fit together


def shrunk_eigenvalues(values: Floats, rows_n: float) -> Floats:
    """Give the shrunk eigenvalues (N,) for sample ones (N,), ascending, from `rows_n` rows.

    Eigenvalues that are zero up to rounding share one value if there are more instruments than
    rows; otherwise instruments repeat each other, and they stay zero.
    """
    N = len(values)
    positive = values > EIGENVALUE_MIN * float(np.mean(values))
    sizes, h = values[positive], max(rows_n, 2.0) ** (-1.0 / 3.0)
    f, H = _density(sizes, h)
    shrunk = np.zeros(N)
    if rows_n >= N:
        c = len(sizes) / rows_n
        scaled = np.pi * c * sizes
        shrunk[positive] = sizes / ((scaled * f) ** 2 + (1.0 - c - scaled * H) ** 2)
        return shrunk
    edge = np.log((1.0 + ROOT5 * h) / np.abs(1.0 - ROOT5 * h))
    flat = 3.0 / (10.0 * h**2) + 3.0 / (4.0 * ROOT5 * h) * (1.0 - 1.0 / (5.0 * h**2)) * edge
    zeros_n = N - len(sizes)
    if zeros_n:
        shrunk[~positive] = len(sizes) / (zeros_n * flat * float(np.mean(1.0 / sizes)))
    shrunk[positive] = 1.0 / (np.pi**2 * sizes * (f**2 + H**2))
    return shrunk


def _density(sizes: Floats, h: float) -> tuple[Floats, Floats]:
    width = h * sizes  #                         (M,) of the kernel at each
    x = (sizes[:, None] - sizes) / width  #      (M, M)
    kernel = 1.0 - x**2 / 5.0
    f = np.mean(np.maximum(kernel, 0.0) / width, axis=1) * 3.0 / (4.0 * ROOT5)
    edge = np.abs(np.abs(x) - ROOT5) < 1e-12  # there the logarithm is infinite and its factor zero
    log = np.log(np.abs((ROOT5 - np.where(edge, 0.0, x)) / (ROOT5 + np.where(edge, 0.0, x))))
    hilbert = -3.0 * x / (10.0 * np.pi) + 3.0 / (4.0 * ROOT5 * np.pi) * kernel * log
    return np.asarray(f), np.asarray(np.mean(hilbert / width, axis=1))


def nonlinear_correlation(z: Floats) -> Floats:
    """Give the correlation (N, N) of z (T, N), NaN = not seen, with shrunk eigenvalues.

    Rows count as many as two instruments have in common in the mean.
    """
    seen = np.isfinite(z).astype(np.float64)
    R = sample_correlation(z)
    moved = (seen.sum(axis=0) > 0) & (np.abs(np.where(seen > 0, z, 0.0)).sum(axis=0) > 0)
    if int(moved.sum()) < 2:
        return R
    index = np.ix_(moved, moved)
    rows_n = float(np.mean((seen.T @ seen)[index]))
    values, vectors = np.linalg.eigh(R[index])
    shrunk = shrunk_eigenvalues(np.maximum(values, 0.0), rows_n)
    shrunk[values < -EIGENVALUE_FLOOR] = MISFIT
    R[index] = renormalised((vectors * shrunk) @ vectors.T)
    return R
