"""Give the correlation matrix that is nearest to a symmetric one which is none.

Correlations that were measured pair by pair, on different rows, need not fit together: the matrix
has eigenvalues below zero. Its nearest correlation matrix in the Frobenius norm lies where two
convex sets meet: the matrices without negative eigenvalues and those with ones on the diagonal.
Projecting on one and then on the other finds it, if each projection on the first starts from what
Dykstra's correction leaves (Higham 2002, "Computing the nearest correlation matrix").

    Y = ones on the diagonal;  d = 0
    repeat  r = Y - d;  X = r without its negative eigenvalues;  d = X - r;  Y = X, ones on diagonal

Y comes near from outside and may keep eigenvalues of -1e-9 or so. Then eigenvalues below
EIGENVALUE_FLOOR are lifted to it and the diagonal is made one again, so that it can be inverted.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EIGENVALUE_FLOOR: Final = 1e-6
ROUNDS_MAX: Final = 200
TOLERANCE: Final = 1e-8  # relative change of a round; what is left, the floor mends


def nearest_correlation(matrix: Floats) -> Floats:
    """Give the nearest correlation matrix (N, N), with no eigenvalue far below EIGENVALUE_FLOOR.

    matrix: symmetric, finite, ones on its diagonal. One that is well inside comes back as it is,
    made exactly symmetric. Raises nothing: at ROUNDS_MAX the floor ends it.
    """
    R = _with_ones((matrix + matrix.T) / 2.0)
    if is_definite(R):
        return R
    if len(R) and float(np.linalg.eigvalsh(R)[0]) < -EIGENVALUE_FLOOR:
        R = higham(R)
    return floored(R)


def is_definite(R: Floats) -> bool:
    """Say whether all eigenvalues are above EIGENVALUE_FLOOR; one Cholesky factor tells."""
    try:
        np.linalg.cholesky(R - EIGENVALUE_FLOOR * np.eye(len(R)))
    except np.linalg.LinAlgError:
        return False
    return True


def higham(matrix: Floats, *, tolerance: float = TOLERANCE, rounds_max: int = ROUNDS_MAX) -> Floats:
    """Project on both sets in turn until a round changes less than `tolerance` of the norm."""
    Y, correction = _with_ones(matrix), np.zeros_like(matrix)
    for _ in range(rounds_max):
        start = Y - correction
        X = without_negative(start)
        correction, before = X - start, Y
        Y = _with_ones(X)
        if np.linalg.norm(Y - before) <= tolerance * np.linalg.norm(Y):
            break
    return Y


def without_negative(matrix: Floats, floor: float = 0.0) -> Floats:
    """Give the matrix with every eigenvalue below `floor` lifted to it."""
    values, vectors = np.linalg.eigh(matrix)
    lifted = (vectors * np.maximum(values, floor)) @ vectors.T
    return np.asarray((lifted + lifted.T) / 2.0)


def floored(R: Floats) -> Floats:
    """Lift eigenvalues to EIGENVALUE_FLOOR and renormalise."""
    return renormalised(without_negative(R, EIGENVALUE_FLOOR))


def renormalised(matrix: Floats) -> Floats:
    """Divide by the roots of the diagonal, which must be above zero; ones on it, symmetric."""
    root = np.sqrt(np.diagonal(matrix))
    R = matrix / root[:, None] / root
    return _with_ones((R + R.T) / 2.0)


def _with_ones(matrix: Floats) -> Floats:
    with_ones = matrix.copy()
    np.fill_diagonal(with_ones, 1.0)
    return with_ones
