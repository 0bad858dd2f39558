"""A predicted covariance says what is wrong with it, and never passes for one that it is not."""

from __future__ import annotations

import numpy as np
import pytest

from daemon import codec
from daemon.domain.covariance import Covariance


def _of(volatility: list[float], correlation: list[list[float]]) -> Covariance:
    return Covariance(0, "test", np.array(volatility), np.array(correlation))


def test_matrix_is_volatility_times_correlation_and_nan_where_nothing_is_known() -> None:
    found = _of([0.1, np.nan, 0.2], [[1.0, 0.0, 0.5], [0.0, 1.0, 0.0], [0.5, 0.0, 1.0]])
    assert found.problem(3) is None
    assert found.matrix[0, 2] == pytest.approx(0.01)
    assert np.isnan(found.matrix[1]).all()
    assert np.isnan(found.matrix[:, 1]).all()


@pytest.mark.parametrize(
    ("volatility", "correlation", "word"),
    [
        ([0.1], [[1.0]], "shapes"),
        ([0.1, 0.0], [[1.0, 0.0], [0.0, 1.0]], "volatility"),
        ([0.1, 0.1], [[1.0, np.nan], [np.nan, 1.0]], "no number"),
        ([0.1, 0.1], [[1.0, 0.2], [0.3, 1.0]], "symmetric"),
        ([0.1, 0.1], [[1.1, 0.2], [0.2, 1.0]], "itself"),
        ([0.1, 0.1], [[1.0, 1.2], [1.2, 1.0]], "eigenvalue"),
    ],
)
def test_what_is_no_covariance_is_named(
    volatility: list[float], correlation: list[list[float]], word: str
) -> None:
    problem = _of(volatility, correlation).problem(2)
    assert problem is not None
    assert word in problem


def test_it_goes_over_the_wire_unchanged() -> None:
    found = _of([0.1, np.nan], [[1.0, 0.0], [0.0, 1.0]])
    back = codec.decode(codec.encode(found), Covariance)
    assert back.estimator == found.estimator
    np.testing.assert_array_equal(back.volatility, found.volatility)
    np.testing.assert_array_equal(back.correlation, found.correlation)
