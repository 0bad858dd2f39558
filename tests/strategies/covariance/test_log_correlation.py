"""Hold the logarithm of a correlation to Fisher's z and to its way back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.covariance import Covariance
from daemon.domain.failures import InvariantViolated
from strategies.covariance.log_correlation import correlation_of, log_correlation
from strategies.covariance.pairwise import sample_correlation
from tests.strategies.covariance.returns import drawn


def test_two_instruments_have_fishers_z() -> None:
    R = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert log_correlation(R) == pytest.approx([0.549306], abs=5e-7)
    np.testing.assert_allclose(correlation_of(np.array([np.arctanh(0.5)]), 2), R, atol=1e-12)


@pytest.mark.parametrize("N", [1, 3, 12])
def test_there_and_back_again(N: int) -> None:
    R = sample_correlation(drawn(300, N))
    np.testing.assert_allclose(correlation_of(log_correlation(R), N), R, atol=1e-10)


@given(g=st.lists(st.floats(-1.5, 1.5), min_size=10, max_size=10))
@settings(max_examples=40, deadline=None)
def test_any_numbers_are_a_correlation(g: list[float]) -> None:
    assert Covariance(0, "", np.ones(5), correlation_of(np.array(g), 5)).problem(5) is None


def test_a_matrix_without_full_rank_is_refused() -> None:
    with pytest.raises(InvariantViolated, match="has no logarithm"):
        log_correlation(np.array([[1.0, 1.0], [1.0, 1.0]]) - 1e-9)
