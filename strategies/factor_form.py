"""Write a predicted covariance as few common factors and what is left of each instrument.

    S = F F' + diag(D),   F (N, K),  D > 0

The programme of the book is sparse in this form: K more variables stand for N^2 numbers. Up to
FULL_MAX instruments the form is exact (K = N - 1: the smallest eigenvalue goes to D). Above, F is
made of the eigenvectors of the correlation whose eigenvalue exceeds 1, which explain more than one
instrument does, FACTORS_MAX at most; D keeps every variance as it was predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.linalg import eigh

from daemon.domain.bar import Flags, Floats
from daemon.domain.covariance import Covariance, Factors

FULL_MAX: Final = 40
FACTORS_MAX: Final = 20
EIGENVALUE_FLOOR: Final = 1e-6  # of a correlation: a book without risk would be bought without end
SPECIFIC_SHARE_MIN: Final = 1e-4  # of an instrument's variance
EIGENVALUE_OF_ONE: Final = 1.0  # the mean of a correlation's eigenvalues


@dataclass(frozen=True, slots=True)
class FactorForm:
    """Hold loadings F (N, K) and specific variances D (N,); NaN rows are unknown instruments."""

    loadings: Floats
    specific: Floats

    @property
    def variance(self) -> Floats:
        """Give the diagonal of S (N,)."""
        return np.asarray(self.specific + np.square(self.loadings).sum(axis=1), dtype=np.float64)

    @property
    def matrix(self) -> Floats:
        """Give S (N, N)."""
        return np.asarray(self.loadings @ self.loadings.T + np.diag(self.specific))

    def times(self, weights: Floats) -> Floats:
        """Give S w (N,)."""
        common = self.loadings @ (self.loadings.T @ weights)
        return np.asarray(common + self.specific * weights, dtype=np.float64)

    def part(self, legs: Flags) -> FactorForm:
        """Give the form of some of the instruments; legs: (N,) bool."""
        return FactorForm(self.loadings[legs], self.specific[legs])

    def stretched(self, factor: Floats) -> FactorForm:
        """Give the form of diag(factor)^(1/2) S diag(factor)^(1/2); factor (N,) >= 0."""
        return FactorForm(self.loadings * np.sqrt(factor)[:, None], self.specific * factor)


def factor_form(covariance: Covariance) -> FactorForm:
    """Give the covariance in factor form: the one that came with it, or else one made of it."""
    made = covariance.factors or factors_of(covariance)
    return FactorForm(made.loadings, made.specific)


def factors_of(covariance: Covariance) -> Factors:
    """Write the covariance in factor form, by the rule that the module states.

    Rows of instruments with unknown volatility are NaN.
    """
    N = len(covariance.volatility)
    if N <= FULL_MAX:
        values, vectors = np.linalg.eigh(covariance.correlation)
        least = max(float(values[0]), EIGENVALUE_FLOOR) if N else 0.0
        extra = np.maximum(values - least, 0.0)
        loadings = (vectors * np.sqrt(extra))[:, extra > 0]
        specific = np.full(N, least)
    else:
        values, vectors = eigh(covariance.correlation, subset_by_index=[N - FACTORS_MAX, N - 1])
        common = values > EIGENVALUE_OF_ONE
        loadings = vectors[:, common] * np.sqrt(values[common])
        specific = np.maximum(1.0 - np.square(loadings).sum(axis=1), SPECIFIC_SHARE_MIN)
    scale = covariance.volatility
    return Factors(
        np.ascontiguousarray(loadings * scale[:, None], dtype=np.float64),
        np.asarray(specific * scale**2, dtype=np.float64),
    )
