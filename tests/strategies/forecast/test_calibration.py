"""Calibration: slopes far below one, shrunk and always above zero; variance of the mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import truncnorm

from daemon.domain.units import Timeframe
from strategies import combination
from strategies.forecast.alphas import Alphas, Combining
from strategies.forecast.calibration import (
    PRIOR_CENTRE,
    PRIOR_SD,
    PRIOR_SLOPE,
    Calibration,
    above_zero,
    calibrate,
    centred,
    disagreement,
)
from strategies.rules import Rule


def drawn(ic: float, T: int = 4000, N: int = 10) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(4)
    truth = draw.standard_normal((T, N))
    members = 3.0 * (truth + 0.3 * draw.standard_normal((2, T, N)))
    outcomes = centred(ic * truth + draw.standard_normal((T, N)))
    return members, outcomes


def test_a_strong_forecast_gets_about_its_regression_slope() -> None:
    members, outcomes = drawn(0.2)
    (found,) = calibrate([members], [outcomes], lags=[1])
    f = centred(members).mean(axis=0) * found.scale
    assert np.sqrt((f**2).mean()) == pytest.approx(1.0)
    assert found.slope == pytest.approx((f * outcomes).sum() / (f * f).sum(), rel=0.1)
    assert found.slope_sd == pytest.approx(1 / np.sqrt(f.size), rel=0.2)
    assert found.spread == pytest.approx(0.09 / 1.045, rel=0.1)


def test_few_samples_leave_the_prior_and_a_wrong_way_forecast_next_to_nothing() -> None:
    members, outcomes = drawn(0.0, T=30)
    (little,) = calibrate([members], [outcomes], lags=[6])
    assert little.slope == pytest.approx(0.02, abs=0.02)
    members, outcomes = drawn(-0.3)
    (wrong,) = calibrate([members], [outcomes], lags=[1])
    assert 0.0 < wrong.slope < 0.001, "sd 0.005, thirty times as far below zero"


def test_a_bad_stretch_that_may_be_luck_does_not_silence() -> None:
    members, outcomes = drawn(-0.01, T=1000)
    (found,) = calibrate([members], [outcomes], lags=[6])
    assert 0.001 < found.slope < 0.015


@given(st.floats(-3.0, 3.0), st.floats(0.001, 0.1))
def test_what_is_left_above_zero_is_the_mean_of_the_cut_law(mean: float, sd: float) -> None:
    """The oracle integrates the tail by its own law; the order of two stretches is kept."""
    found = above_zero(mean, sd)
    assert found > max(mean, 0.0) or found == pytest.approx(mean, rel=1e-9)
    if mean > -30 * sd:
        cut = truncnorm(-mean / sd, np.inf, loc=mean, scale=sd)
        assert found == pytest.approx(float(cut.mean()), rel=1e-4)
    assert above_zero(mean + 0.1 * sd, sd) > found


def test_overlapping_labels_make_the_slope_less_sure() -> None:
    members, outcomes = drawn(0.1)
    slow = np.repeat(outcomes[::8], 8, axis=0)
    steady = np.repeat(members[:, ::8], 8, axis=1)
    (fast,) = calibrate([members], [outcomes], lags=[7])
    (held,) = calibrate([steady], [slow], lags=[7])
    assert held.slope_sd > 1.3 * fast.slope_sd


def test_without_any_outcome_the_prior_stands() -> None:
    members = np.zeros((2, 5, 4))
    (found,) = calibrate([members], [np.full((5, 4), np.nan)], lags=[1])
    assert found.slope == pytest.approx(0.022, abs=0.0005)
    assert above_zero(PRIOR_CENTRE, PRIOR_SD) == pytest.approx(PRIOR_SLOPE, rel=0.02)


def test_mean_is_centred_scaled_and_variance_is_that_of_the_mean() -> None:
    calibration = Calibration(scale=2.0, slope=0.1, slope_sd=0.02, spread=0.5)
    members = np.array([[1.0, 0.0, -1.0, np.nan], [2.0, 0.0, -2.0, np.nan]])
    mean, variance = calibration.apply(members, np.array([1.0, 1.0, 1.0, np.nan]))
    np.testing.assert_allclose(mean, [0.3, 0.0, -0.3, np.nan], atol=1e-12)
    # members' variance of +-2, +-4 is 2: 0.01 * (0.5 * 2 + 0.5 * 0.5) + 0.0004
    np.testing.assert_allclose(variance, [0.0129, 0.0029, 0.0129, np.nan], atol=1e-12)


@pytest.mark.parametrize("members_n", [1, 3])
def test_forecasts_of_any_size_keep_their_order_when_they_are_shrunk(members_n: int) -> None:
    """Slope and its error as before any outcome; the larger of two forecasts ranks first."""
    (prior,) = calibrate([np.ones((members_n, 5, 4))], [np.full((5, 4), np.nan)], lags=[1])
    hour, N = Timeframe(60), 25
    calibration = replace(prior, scale=1.0, spread=1.0 if members_n == 1 else 0.0)
    alphas = Alphas((hour,), N, Combining(rule=Rule.STRENGTH))
    draw = np.random.default_rng(7)
    for n in range(1, 200):  # long enough for tau2 to leave its prior
        members = np.tile(draw.standard_normal(N), (members_n, 1))
        mean, variance = calibration.apply(members, np.ones(N))
        made = alphas.step(n * hour.ms, {hour: (mean, variance)}, None)
        said = combination.signals(made, n, Rule.STRENGTH).alpha
        assert np.array_equal(np.argsort(said), np.argsort(members[0])), n


def test_disagreement_is_a_correlation_drawn_half_way_to_its_mean() -> None:
    draw = np.random.default_rng(0)
    common = draw.standard_normal((500, 8))
    first, second = (common + draw.standard_normal((500, 8)) for _ in range(2))
    third = draw.standard_normal((500, 8))
    found = disagreement([first, second, third])
    # 0.5, 0, 0 have the mean 1/6
    expected = np.array([[1, 1 / 3, 1 / 12], [1 / 3, 1, 1 / 12], [1 / 12, 1 / 12, 1]])
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert np.linalg.eigvalsh(found).min() > 0


def test_disagreement_without_data_is_the_prior() -> None:
    np.testing.assert_allclose(disagreement([np.zeros((3, 2))] * 2), [[1.0, 0.5], [0.5, 1.0]])
