"""Map a correlation matrix to free numbers and back: the elements below the diagonal of its log.

    g = vecl(log R);   back: the only diagonal x for which exp(G + diag(x)) has ones on its diagonal

Every real vector g is a correlation matrix, so a model may add to it what it likes (Archakov and
Hansen 2021, Econometrica, "A new parametrization of correlation matrices"). With two instruments
g = atanh(rho), Fisher's z. The way back repeats x <- x - ln diag(exp(G + diag(x))), a contraction.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from daemon.domain.units import require
from strategies.covariance.interface import Floats
from strategies.covariance.repair import renormalised

ROUNDS_MAX: Final = 500
TOLERANCE: Final = 1e-13


def log_correlation(R: Floats) -> Floats:
    """Give g (N (N - 1) / 2,), row by row, of a correlation (N, N) without eigenvalues of zero."""
    values, vectors = np.linalg.eigh(R)
    require(float(values[0]) > 0.0, f"an eigenvalue of {values[0]:g} has no logarithm")
    logged = (vectors * np.log(values)) @ vectors.T
    return np.asarray(logged[np.tril_indices(len(R), -1)])


def correlation_of(g: Floats, instruments_n: int) -> Floats:
    """Give the correlation (N, N) of g (N (N - 1) / 2,)."""
    G = np.zeros((instruments_n, instruments_n))
    G[np.tril_indices(instruments_n, -1)] = g
    G = G + G.T
    x = np.zeros(instruments_n)
    found = np.eye(instruments_n)
    for _ in range(ROUNDS_MAX):
        values, vectors = np.linalg.eigh(G + np.diag(x))
        found = (vectors * np.exp(values)) @ vectors.T
        off = np.log(np.diagonal(found))
        x = x - off
        if float(np.abs(off).max(initial=0.0)) <= TOLERANCE:
            break
    return renormalised(found)
