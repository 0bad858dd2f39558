"""Hold the scores of Gaussian forecasts to worked figures, integrals and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binomtest, norm

from daemon.domain.failures import InvariantViolated
from daemon.statistics.densities import (
    gaussian_crps,
    gaussian_nll,
    gaussian_pit,
    interval_coverage,
    pit_uniformity,
)


def _one(value: float) -> np.ndarray:
    return np.array([value])


def test_likelihood_gives_the_worked_figures() -> None:
    arguments = _one(0.1), _one(0.5), _one(0.4)
    assert gaussian_nll(*arguments)[0] == pytest.approx(0.405791, abs=5e-7)
    assert gaussian_nll(*arguments, constant=False)[0] == pytest.approx(-0.513147, abs=5e-7)


@settings(max_examples=30)
@given(mean=st.floats(-3, 3), sd=st.floats(0.1, 3), outcome=st.floats(-5, 5))
def test_scores_equal_scipy_and_the_integral_that_defines_crps(
    mean: float, sd: float, outcome: float
) -> None:
    law = norm(mean, sd)
    arguments = _one(mean), _one(sd), _one(outcome)
    assert gaussian_nll(*arguments)[0] == pytest.approx(-law.logpdf(outcome), abs=1e-10)
    assert gaussian_pit(*arguments)[0] == pytest.approx(law.cdf(outcome), abs=1e-12)
    below, _ = quad(lambda x: law.cdf(x) ** 2, min(mean, outcome) - 12 * sd, outcome)
    above, _ = quad(lambda x: law.sf(x) ** 2, outcome, max(mean, outcome) + 12 * sd)
    assert gaussian_crps(*arguments)[0] == pytest.approx(below + above, abs=1e-6)


def test_crps_of_a_sure_forecast_is_its_absolute_error_and_scores_reward_honesty() -> None:
    assert gaussian_crps(_one(1.0), _one(1e-9), _one(3.0))[0] == pytest.approx(2.0)
    y = np.random.default_rng(1).standard_normal(20_000)
    for score in (gaussian_crps, gaussian_nll):
        mean_loss = {sd: score(_one(0.0), _one(sd), y).mean() for sd in (0.7, 1.0, 1.4)}
        assert min(mean_loss, key=lambda sd: mean_loss[sd]) == 1.0


def test_holes_stay_holes_and_a_spread_of_nothing_is_refused() -> None:
    seen = gaussian_crps(np.array([0.0, np.nan]), np.ones(2), np.zeros(2))
    assert np.isnan(seen).tolist() == [False, True]
    with pytest.raises(InvariantViolated, match="an sd is not above 0"):
        gaussian_nll(_one(0.0), _one(0.0), _one(0.0))


def test_pit_is_uniform_for_the_truth_only() -> None:
    y = np.random.default_rng(4).standard_normal(2_000)
    honest = pit_uniformity(gaussian_pit(_one(0.0), _one(1.0), y))
    bold = pit_uniformity(gaussian_pit(_one(0.0), _one(0.8), y))
    assert honest.p_value > 0.05
    assert bold.p_value < 1e-4
    assert bold.distance > honest.distance


def test_uniformity_holds_its_size() -> None:
    rng = np.random.default_rng(9)
    rejected = sum(pit_uniformity(rng.random(50)).p_value <= 0.05 for _ in range(400))
    assert 0.02 <= rejected / 400 <= 0.09


@settings(max_examples=30)
@given(n=st.integers(1, 60), data=st.data())
def test_coverage_and_its_interval_equal_scipy(n: int, data: st.DataObject) -> None:
    inside = data.draw(st.integers(0, n))
    y = np.array([0.5] * inside + [2.0] * (n - inside))
    seen = interval_coverage(np.zeros(n), np.ones(n), y)
    exact = binomtest(inside, n).proportion_ci(0.95, method="exact")
    assert seen.share == inside / n
    assert (seen.low, seen.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_ends_count_as_inside_and_may_be_infinite() -> None:
    lower, upper = np.array([0.0, -math.inf]), np.array([1.0, 5.0])
    assert interval_coverage(lower, upper, np.array([1.0, -1e300])).share == 1.0


def test_impossible_input_is_refused_by_name() -> None:
    with pytest.raises(InvariantViolated, match="lower end above the upper"):
        interval_coverage(np.ones(2), np.zeros(2), np.zeros(2))
    with pytest.raises(InvariantViolated, match="have 1 and 2 rows"):
        interval_coverage(np.zeros(1), np.ones(2), np.zeros(2))
    with pytest.raises(InvariantViolated, match="PIT value lies outside"):
        pit_uniformity(np.array([1.5]))
