"""Hold averaged eigenvalues to a split worked out by hand, and to a market that stays as it is."""

import numpy as np
import pytest

from strategies.covariance.average_oracle import (
    TEST_HOURS,
    AverageOracleCorrelation,
    _shared_by_ties,
)
from strategies.covariance.pairwise import sample_correlation
from strategies.covariance.repair import renormalised
from tests.strategies.covariance.returns import drawn


def test_one_split_has_the_eigenvalues_that_served_best() -> None:
    z = drawn(2 * 60 + TEST_HOURS, 4)[-(60 + TEST_HOURS) - 36 :]
    model = AverageOracleCorrelation(60)
    assert len(z) == 120
    model.begin(z)  # 120 rows: half of them are W, and two splits of 24 hours fit after them
    wanted = []
    for end in (96, 72):
        _, vectors = np.linalg.eigh(sample_correlation(z[end - 60 : end]))
        C = z[end : end + 24].T @ z[end : end + 24] / 24
        best = np.array([v @ C @ v for v in vectors.T])
        wanted.append(4 * best / best.sum())
    _, vectors = np.linalg.eigh(sample_correlation(z[60:]))
    R = (vectors * np.mean(wanted, axis=0)) @ vectors.T
    np.testing.assert_allclose(model.correlation(0), renormalised(R), atol=1e-12)


def test_where_nothing_changes_it_is_nearer_to_the_truth_than_the_sample() -> None:
    rng = np.random.default_rng(9)
    N = 30
    truth = np.full((N, N), 0.5) + 0.5 * np.eye(N)
    z = rng.standard_normal((800, N)) @ np.linalg.cholesky(truth).T
    model = AverageOracleCorrelation(80)
    model.begin(z)
    sample = np.linalg.norm(sample_correlation(z[-80:]) - truth)
    assert np.linalg.norm(model.correlation(0) - truth) < 0.6 * sample


def test_too_few_rows_leave_the_sample_correlation() -> None:
    z = drawn(40, 4)
    model = AverageOracleCorrelation(720)
    model.begin(z)
    np.testing.assert_array_equal(model.correlation(0), sample_correlation(z[20:]))


def test_eigenvectors_of_one_eigenvalue_share_theirs() -> None:
    shared = _shared_by_ties(np.array([1.0, 3.0, 2.0, 7.0]), np.array([0.0, 1e-12, 0.5, 2.0]))
    assert shared == pytest.approx([2.0, 2.0, 2.0, 7.0])
