"""Hold the Sharpe ratio and its error to the published figures of the science notes."""

import math

import numpy as np
import pytest
from scipy.stats import kurtosis, skew

from daemon.domain.failures import InvariantViolated
from daemon.statistics.sharpe import (
    annualisation_factor,
    sharpe,
    sharpe_moments,
    sharpe_standard_error,
)


def test_standard_error_of_normal_returns_gives_the_worked_figure() -> None:
    # The published figure divides by T, ours by T - 1.
    by_t = sharpe_standard_error(0.1, 1_000) * math.sqrt(999 / 1_000)
    assert by_t == pytest.approx(0.0317017, abs=5e-8)


def test_standard_error_of_skewed_fat_tails_gives_the_worked_figure() -> None:
    error = sharpe_standard_error(0.1, 1_000, skewness=-1.0, kurtosis=6.0)
    assert error == pytest.approx(0.0333709, abs=6e-8)  # exactly 0.03337085


def test_error_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    truth, inside = 0.08, 0
    for _ in range(400):
        seen = sharpe(truth + rng.standard_normal(500))
        inside += abs(seen.ratio - truth) < 1.96 * seen.standard_error
    assert 0.92 <= inside / 400 <= 0.98


def test_annualising_scales_ratio_and_error_alike() -> None:
    daily = sharpe(np.array([0.01, -0.02, 0.03, 0.00, 0.01]))
    yearly = daily.annualised(365)
    assert yearly.ratio == pytest.approx(daily.ratio * math.sqrt(365))
    assert yearly.standard_error == pytest.approx(daily.standard_error * math.sqrt(365))
    assert yearly.observations == 5


def test_constant_or_lonely_returns_have_no_ratio() -> None:
    assert math.isnan(sharpe(np.zeros(10)).ratio)
    assert math.isnan(sharpe(np.full(10, 0.1)).ratio)  # whose deviation rounds to 1e-17
    assert math.isnan(sharpe(np.array([0.01])).standard_error)


def test_holes_and_impossible_moments_are_refused() -> None:
    with pytest.raises(InvariantViolated, match="not finite"):
        sharpe(np.array([0.1, np.nan]))
    with pytest.raises(InvariantViolated, match="cannot occur together"):
        sharpe_standard_error(2.0, 10, skewness=3.0, kurtosis=1.0)
    with pytest.raises(InvariantViolated, match="at least 2"):
        sharpe_standard_error(1.0, 1)


@pytest.mark.parametrize(("base", "expected"), [(0.2, 2.878849), (-0.2, 4.170848)])
def test_annualisation_under_dependence_gives_the_worked_figures(
    base: float, expected: float
) -> None:
    assert annualisation_factor(12, np.array([base**k for k in range(1, 12)])) == pytest.approx(
        expected, abs=5e-7
    )


def test_annualisation_without_dependence_is_the_square_root() -> None:
    assert annualisation_factor(12, np.zeros(0)) == pytest.approx(3.464102, abs=5e-7)
    assert annualisation_factor(1, np.array([0.9])) == 1.0


def test_annualisation_is_the_ratio_of_summed_returns() -> None:
    # an MA(1) process: the first autocorrelation is 0.5 / 1.25, the others are 0
    noise = np.random.default_rng(3).standard_normal(240_001)
    x = 0.1 + noise[1:] + 0.5 * noise[:-1]
    summed = x.reshape(-1, 12).sum(axis=1)
    seen = sharpe(summed).ratio / sharpe(x).ratio
    assert annualisation_factor(12, np.array([0.4])) == pytest.approx(seen, rel=0.03)


def test_impossible_autocorrelations_are_refused() -> None:
    with pytest.raises(InvariantViolated, match="leave no variance over 12 periods"):
        annualisation_factor(12, np.full(11, -0.9))
    with pytest.raises(InvariantViolated, match="outside -1 to 1"):
        annualisation_factor(12, np.array([np.nan]))
    with pytest.raises(InvariantViolated, match="periods 0"):
        annualisation_factor(0, np.zeros(0))


def test_moments_are_those_that_went_into_the_error() -> None:
    x = np.array([0.01, -0.02, 0.03, 0.00, 0.01])
    seen = sharpe_moments(x)
    assert seen.sharpe == sharpe(x)
    assert seen.skewness == pytest.approx(float(skew(x)))
    assert seen.kurtosis == pytest.approx(float(kurtosis(x, fisher=False)))
    assert math.isnan(sharpe_moments(np.ones(3)).skewness)
