"""Keep the newest eigenvectors and give them the eigenvalues that served best in the past.

    v_k: eigenvectors of the sample correlation of W hours;  C': that of the TEST_HOURS after them
    l_k = mean over past splits of v_k' C' v_k,   by rank k;   R = sum l_k v_k v_k', renormalised

The Average Oracle (Bongiorno, Challet and Loeper 2023): eigenvalues for which the next hours were
known in hindsight, averaged over many pasts, need no model of how correlations move. Eigenvectors
are those of the newest W hours at each bar; eigenvalues are averaged once a day.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from strategies.covariance.interface import VARIANCE_MIN, Floats
from strategies.covariance.pairwise import sample_correlation
from strategies.covariance.repair import EIGENVALUE_FLOOR, renormalised

TEST_HOURS: Final = 24
SPLITS_MAX: Final = 30
SEEN_SHARE_MIN: Final = 0.5  # of the rows: instruments with fewer take no part
TIE: Final = 1e-9


class AverageOracleCorrelation:
    """Foresee the correlation by averaged eigenvalues, as the module says.

    Instruments with too few rows keep their sample correlations. Without a past split the sample
    correlation stands.
    """

    def __init__(self, window_hours: int) -> None:
        """Take W; half of the rows where there are not twice as many."""
        self._window_hours = window_hours
        self._z = np.zeros((0, 0))
        self._used = np.zeros(0, dtype=np.intp)
        self._eigenvalues: Floats | None = None

    def begin(self, z: Floats) -> None:
        """Average the eigenvalues over past splits."""
        T = len(z)
        W = min(self._window_hours, T // 2)
        self._z = z[T - W :]
        seen = np.isfinite(z)
        moved = (np.where(seen, z, 0.0) ** 2).sum(axis=0) > VARIANCE_MIN
        self._used = np.flatnonzero((seen.sum(axis=0) >= SEEN_SHARE_MIN * T) & moved)
        ends = range(T - TEST_HOURS, W - 1, -TEST_HOURS)[:SPLITS_MAX]
        found = [self._oracle(z[end - W : end], z[end : end + TEST_HOURS]) for end in ends]
        self._eigenvalues = np.mean(found, axis=0) if found else None

    def step(self, row: Floats) -> None:
        """Take in one row of z for the oldest."""
        self._z = np.vstack([self._z[1:], row])

    def correlation(self, as_of_ms: int) -> Floats:
        """Give the newest eigenvectors their eigenvalues."""
        R = sample_correlation(self._z)
        if self._eigenvalues is None or len(self._used) < 2:
            return R
        index = np.ix_(self._used, self._used)
        values, vectors = np.linalg.eigh(R[index])
        oracle = _shared_by_ties(self._eigenvalues, values)
        R[index] = renormalised((vectors * oracle) @ vectors.T)
        return R

    def _oracle(self, train: Floats, test: Floats) -> Floats:
        values, vectors = np.linalg.eigh(sample_correlation(train[:, self._used]))
        later = test[:, self._used]
        seen = np.isfinite(later).astype(np.float64)
        filled = np.where(seen > 0, later, 0.0)
        C = filled.T @ filled / np.maximum(seen.T @ seen, 1.0)
        best = _shared_by_ties(np.einsum("ik,ij,jk->k", vectors, C, vectors, optimize=True), values)
        total = float(best.sum())
        even = np.ones(len(best))
        return np.maximum(best * (len(best) / total), EIGENVALUE_FLOOR) if total > 0 else even


def _shared_by_ties(best: Floats, values: Floats) -> Floats:
    """Let eigenvectors of one sample eigenvalue share theirs: which is which was chance."""
    group = np.concatenate([[0], np.cumsum(np.diff(values) > TIE * len(values))])[: len(values)]
    mean = np.bincount(group, best) / np.maximum(np.bincount(group), 1)
    return np.asarray(mean[group], dtype=np.float64)
