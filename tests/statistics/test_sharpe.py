"""Hold the Sharpe ratio and its error to the published figures of the science notes."""

import math

import numpy as np
import pytest

from daemon.domain.failures import InvariantViolated
from daemon.statistics.sharpe import sharpe, sharpe_standard_error


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
    assert math.isnan(sharpe(np.array([0.01])).standard_error)


def test_holes_and_impossible_moments_are_refused() -> None:
    with pytest.raises(InvariantViolated, match="not finite"):
        sharpe(np.array([0.1, np.nan]))
    with pytest.raises(InvariantViolated, match="cannot occur together"):
        sharpe_standard_error(2.0, 10, skewness=3.0, kurtosis=1.0)
    with pytest.raises(InvariantViolated, match="at least 2"):
        sharpe_standard_error(1.0, 1)
