"""How many bets a book really is: three counts, each the number of legs where all count alike.

    bets_by_size    1 / sum of squared shares of gross (the inverse Herfindahl index)
    bets_by_risk    1 / sum of squared shares of risk, p_i = w_i^2 V_i over their sum
    bets_apart      exp(-sum p ln p), p_j = (e_j'w)^2 l_j / w'Sw: the entropy of what the principal
                    directions e_j of the covariance S with variances l_j bring to the variance of
                    the book (Meucci 2009, "Managing diversification"); ten coins that move as one
                    are one bet here

The first two know nothing of correlation. Reports show the first and the last; the strategies'
`bets_min` asks the last where a covariance is predicted, else the second.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NOTHING: Final = 1e-12  # of equity; less gross than this is no book


def bets_by_size(weights: Floats) -> Floats:
    """Count the bets of books (T, N), fractions of equity; (T,), NaN where nothing is held."""
    gross = np.abs(weights).sum(axis=1)
    held = gross > NOTHING
    shares = weights / np.where(held, gross, 1.0)[:, None]
    squares = (shares**2).sum(axis=1)
    return np.where(held, 1.0 / np.where(held, squares, 1.0), np.nan)


def bets_by_risk(weights: Floats, variance: Floats) -> float:
    """Count the bets of a book (N,) whose legs have these variances (N,); 0 where it has no risk.

    No entry may be NaN.
    """
    power = weights**2 * variance
    total = float(power.sum())
    return total**2 / float((power**2).sum()) if total > 0 else 0.0


def bets_apart(weights: Floats, covariance: Floats) -> Floats:
    """Count the bets of books (T, N) by one covariance S (N, N), no entry NaN.

    Gives (T,), NaN where a book has no variance.
    """
    variances, directions = np.linalg.eigh(covariance)
    parts = (weights @ directions) ** 2 * np.maximum(variances, 0.0)  # (T, N)
    total = parts.sum(axis=1, keepdims=True)
    p = parts / np.where(total > 0.0, total, 1.0)
    logs = np.log(np.where(p > 0.0, p, 1.0))
    return np.where(total[:, 0] > 0.0, np.exp(-(p * logs).sum(axis=1)), np.nan)
