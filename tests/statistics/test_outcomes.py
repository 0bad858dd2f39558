"""Outcomes: the formula by hand, and risk that knows nothing of later prices."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain.failures import InvariantViolated
from daemon.domain.units import HOUR_MS
from daemon.statistics.outcomes import ahead_of, residual_outcome, residual_risk, row_mean


def test_an_outcome_is_the_scaled_residual_return_without_its_mean() -> None:
    ahead = np.array([[0.03, 0.01, -0.01]])  # market 0.01
    beta, sigma = np.array([[1.0, 2.0, 0.5]]), np.array([[0.01, 0.01, 0.005]])
    # residuals 0.02, -0.01, -0.015 over sigma * 2: 1.0, -0.5, -1.5, whose mean is -1/3
    found = residual_outcome(ahead, beta, sigma, horizon_bars=4)
    np.testing.assert_allclose(found, [[4 / 3, -1 / 6, -7 / 6]])


def test_outcomes_are_clipped_and_need_three_instruments() -> None:
    ahead = np.array([[1.0, -1.0, 0.0], [0.1, np.nan, -0.1]])
    ones = np.ones_like(ahead)
    found = residual_outcome(ahead, ones, 0.01 * ones, horizon_bars=1)
    assert found[0].tolist() == [5.0, -5.0, 0.0]
    assert np.isnan(found[1]).all()
    with pytest.raises(InvariantViolated, match="horizon of 0 bars"):
        residual_outcome(ahead, ones, ones, horizon_bars=0)


def test_risk_is_unknown_for_two_days_and_knows_nothing_of_later_prices() -> None:
    prices = np.cumsum(np.random.default_rng(1).standard_normal((120, 3)), axis=0) / 100
    beta, sigma = residual_risk(prices, bar_ms=HOUR_MS)
    assert np.isnan(sigma[:48]).all()
    assert np.isfinite(sigma[48:]).all()
    later = prices.copy()
    later[100:] += 1.0
    for before, after in zip((beta, sigma), residual_risk(later, bar_ms=HOUR_MS), strict=True):
        np.testing.assert_array_equal(before[:100], after[:100])


def test_rows_ahead_end_in_nan_and_means_skip_it() -> None:
    x = np.array([[1.0, np.nan], [3.0, 5.0]])
    np.testing.assert_array_equal(ahead_of(x, 1), [[3.0, 5.0], [np.nan, np.nan]])
    assert np.isnan(ahead_of(x, 2)).all()
    np.testing.assert_array_equal(row_mean(x), [[1.0], [4.0]])
    assert np.isnan(row_mean(np.full((1, 2), np.nan))).all()


def test_a_beta_is_drawn_to_one_by_three_tenths() -> None:
    moves = np.random.default_rng(4).standard_normal((400, 1)) / 100
    planted = np.array([2.0, 1.0, 0.0])  # their mean is 1, so the market is the common move
    prices = np.cumsum(moves * planted, axis=0)
    beta, _ = residual_risk(prices, bar_ms=HOUR_MS)
    np.testing.assert_allclose(beta[-1], [0.7 * 2.0 + 0.3, 1.0, 0.3], atol=1e-12)
