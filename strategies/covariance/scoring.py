"""Score a predicted covariance against what came: losses of matrices and of books made with them.

With S the realised and H the predicted matrix of N instruments, R a correlation matrix:

    QLIKE = ln|H| + tr(H^-1 S)                    least where H = S
    Stein = tr(H^-1 S) - ln|H^-1 S| - N           QLIKE less its least value, 0 at best
    squared Frobenius = sum (S - H)^2
    CMD = 1 - tr(R1 R2) / (|R1| |R2|)             0 for the same shape; blind for scale
    least variance: w = H^-1 1 / (1' H^-1 1)
    neutral book of a forecast a: min w'Hw with 1'w = 0, a'w = 1

QLIKE, Stein and squared Frobenius order forecasts rightly though S is a noisy measurement, as long
as it is right on average (Patton 2011; Laurent, Rombouts and Violante 2013). CMD and the distance
of single entries do not. Formulas and test vectors: SCIENCE 2d, 3d.

Unknown instruments are not guessed: `known_part` leaves out who has no prediction or no complete
record of what came. A realised matrix of fewer returns than instruments is singular: QLIKE and
Frobenius take it as it is, Stein has no value there. A predicted one that cannot be inverted is
lifted by `invertible`, as whoever trades on it would have to. Knows nothing of files or estimators.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from daemon.domain.covariance import Covariance
from daemon.domain.units import require

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
EIGENVALUE_FLOOR: Final = 1e-6  # of a predicted correlation matrix, before it is inverted
SINGULAR: Final = 1e-12  # an eigenvalue this small beside the largest is rounding


def qlike(predicted: Floats, realised: Floats) -> float:
    """Give ln|H| + tr(H^-1 S) of (N, N) matrices; infinite where H is not positive definite."""
    factor = _factor(predicted)
    if factor is None:
        return float("inf")
    log_size = 2.0 * float(np.log(np.diagonal(factor[0])).sum())
    return log_size + float(np.trace(cho_solve(factor, realised)))


def stein(predicted: Floats, realised: Floats) -> float:
    """Give Stein's loss of (N, N) matrices; NaN where S is singular, infinite where H is."""
    size = _log_size(realised)
    if size is None:
        return float("nan")
    return qlike(predicted, realised) - size - len(realised)


def squared_frobenius(predicted: Floats, realised: Floats) -> float:
    """Give the sum of squared differences of all entries, both sides of the diagonal."""
    return float(((realised - predicted) ** 2).sum())


def matrix_distance(first: Floats, second: Floats) -> float:
    """Give the CMD of two (N, N) correlation matrices, 0 to 1; never judge by it alone."""
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return 1.0 - float((first * second).sum()) / size


def realised_covariance(returns: Floats) -> Floats:
    """Give sum r r' of the (M, N) log returns inside a block, not centred: (N, N).

    It is of the whole block, however many returns it is cut into. Rows and columns of instruments
    without a complete record are NaN.
    """
    require(returns.ndim == 2, f"returns have shape {returns.shape}: (M, N) is accepted")
    return np.asarray(returns.T @ returns)


def correlation_of(covariance: Floats) -> Floats:
    """Give the correlation matrix of a covariance; NaN for what never moved."""
    sd = np.sqrt(np.diagonal(covariance))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = covariance / (sd[:, None] * sd)
    return np.asarray(np.where(np.isfinite(found), found, np.nan))


def known_part(predicted: Covariance, realised: Floats) -> Flags:
    """Tell (N,) of which instruments both the prediction and the whole outcome are known."""
    moved = np.diagonal(realised) > 0.0  # NaN compares as false
    return np.asarray(np.isfinite(predicted.volatility) & moved)


def invertible(correlation: Floats, floor: float = EIGENVALUE_FLOOR) -> Floats:
    """Lift eigenvalues of a correlation matrix to `floor` and give ones on the diagonal again.

    A matrix that needs none of it comes back as it is.
    """
    values, vectors = np.linalg.eigh(correlation)
    if values[0] >= floor:
        return correlation
    lifted = (vectors * np.maximum(values, floor)) @ vectors.T
    root = np.sqrt(np.diagonal(lifted))
    found = lifted / (root[:, None] * root)
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)


# ---- books ---------------------------------------------------------------------------------------


def minimum_variance(covariance: Floats) -> Floats:
    """Give the weights (N,) of least variance that add up to 1; some may be negative."""
    solved = _solved(covariance, np.ones(len(covariance)))
    return np.asarray(solved / solved.sum())


def neutral_books(covariance: Floats, forecasts: Floats) -> Floats:
    """Give the neutral books (K, N) of least variance, each exposed by 1 to its forecast (K, N).

    Raises InvariantViolated for a forecast that is the same for all instruments.
    """
    ones = np.ones(len(covariance))
    spread = np.ptp(forecasts, axis=1)
    require(bool((spread > 0.0).all()), "a forecast that is the same for all has no neutral book")
    solved = _solved(covariance, np.vstack([ones, forecasts]).T).T  # (K + 1, N)
    of_ones, of_forecasts = solved[0], solved[1:]
    # leave out of each what it shares with the sum, so that the book adds up to 0
    share = of_forecasts.sum(axis=1) / of_ones.sum()
    books = of_forecasts - share[:, None] * of_ones
    return np.asarray(books / (books * forecasts).sum(axis=1, keepdims=True))


def random_forecasts(instruments_n: int, count: int, seed: int) -> Floats:
    """Draw forecasts (K, N) without any knowledge; the same seed gives the same ones."""
    drawn = np.random.default_rng(seed).standard_normal((count, instruments_n))
    return np.asarray(drawn / np.abs(drawn).mean(axis=1, keepdims=True))


def variance_of(books: Floats, covariance: Floats) -> Floats:
    """Give w'Sw of books (K, N), or of one (N,)."""
    return np.asarray(((books @ covariance) * books).sum(axis=-1))


def traded(before: Floats, after: Floats) -> float:
    """Give what is bought and sold between two books over the same instruments."""
    return float(np.abs(after - before).sum())


# ---- linear algebra ------------------------------------------------------------------------------


def _factor(matrix: Floats) -> tuple[Floats, bool] | None:
    try:
        factor, lower = cho_factor(matrix, lower=True)
    except LinAlgError:
        return None
    return np.asarray(factor), bool(lower)


def _solved(matrix: Floats, right: Floats) -> Floats:
    factor = _factor(matrix)
    require(factor is not None, "a predicted covariance that cannot be inverted")
    return np.asarray(cho_solve(factor, right))


def _log_size(matrix: Floats) -> float | None:
    values = np.linalg.eigvalsh(matrix)
    if values[0] <= SINGULAR * values[-1]:
        return None
    return float(np.log(values).sum())
