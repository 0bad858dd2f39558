"""Hold the nearest correlation matrix to published ones and to what it must always be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance
from strategies.covariance.repair import EIGENVALUE_FLOOR, higham, nearest_correlation


def test_highams_first_example_is_his() -> None:
    matrix = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    found = higham(matrix, tolerance=1e-12, rounds_max=2_000)
    assert [found[0, 1], found[1, 2]] == pytest.approx([0.760690] * 2, abs=1e-6)
    assert found[0, 2] == pytest.approx(0.157298, abs=1e-6)
    assert np.linalg.norm(found - matrix) == pytest.approx(0.527790, abs=1e-6)


def test_highams_second_example_is_his() -> None:
    matrix = 2.0 * np.eye(4) - np.eye(4, k=1) - np.eye(4, k=-1)
    found = higham(matrix, tolerance=1e-12, rounds_max=2_000)
    wanted = [-0.8084, 0.1916, 0.1068, -0.6562]
    assert [found[0, 1], found[0, 2], found[0, 3], found[1, 2]] == pytest.approx(wanted, abs=5e-5)
    assert np.linalg.norm(found - matrix) == pytest.approx(2.1337, abs=5e-5)


@given(N=st.integers(2, 12), seed=st.integers(0, 2**32 - 1), rank=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_whatever_is_given_a_correlation_comes_back(N: int, seed: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    raw = np.clip(rng.uniform(-1.2, 1.2, (N, N)), -1, 1)
    low = rng.standard_normal((N, rank))
    low /= np.linalg.norm(low, axis=1)[:, None]
    for matrix in ((raw + raw.T) / 2, low @ low.T):
        np.fill_diagonal(matrix, 1.0)
        found = nearest_correlation(matrix)
        assert Covariance(0, "", np.ones(N), found).problem(N) is None
        assert np.linalg.eigvalsh(found)[0] > EIGENVALUE_FLOOR / N


def test_a_sound_matrix_is_left_alone() -> None:
    matrix = np.full((5, 5), 0.6) + 0.4 * np.eye(5)
    np.testing.assert_array_equal(nearest_correlation(matrix), matrix)


def test_no_other_correlation_is_nearer() -> None:
    rng = np.random.default_rng(7)
    raw = rng.uniform(-1, 1, (6, 6))
    matrix = (raw + raw.T) / 2
    np.fill_diagonal(matrix, 1.0)
    found = nearest_correlation(matrix)

    def distance(R: Floats) -> float:
        return float(np.linalg.norm(R - matrix))

    for _ in range(200):
        other = rng.standard_normal((6, 8))
        other /= np.linalg.norm(other, axis=1)[:, None]
        step = found + rng.uniform(0.001, 1.0) * (other @ other.T - found)  # the set is convex
        assert distance(step) > distance(found) - 1e-4
