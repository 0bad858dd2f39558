"""The interval of a Sharpe ratio: what it is made of, and that it covers what it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import t as student

from daemon.domain.failures import InvariantViolated
from daemon.statistics.dependence import cosine_variance
from daemon.statistics.sharpe_interval import sharpe_interval, student_width


def test_the_interval_is_that_of_the_mean_influence() -> None:
    x = np.array([0.5, -0.2, 0.1, 0.4, -0.3, 0.2, 0.6, -0.1, 0.0, 0.3])
    ratio = x.mean() / x.std(ddof=1)
    z = (x - x.mean()) / x.std()
    slow = cosine_variance(z - ratio / 2 * (z * z - 1))
    assert slow.degrees == 1
    found = sharpe_interval(x)
    assert found.estimate == pytest.approx(ratio)
    assert found.standard_error == pytest.approx(np.sqrt(slow.variance / 10))
    half = student.ppf(0.975, 1) * found.standard_error
    assert (found.low, found.high) == pytest.approx((ratio - half, ratio + half))
    assert sharpe_interval(7 * x).high == pytest.approx(found.high)


@pytest.mark.parametrize("T", [39, 250])
@pytest.mark.parametrize(("memory", "mean"), [(0.0, 0.0), (0.3, 0.0), (0.3, 0.15)])
def test_it_covers_the_truth_as_often_as_it_says(T: int, memory: float, mean: float) -> None:
    covered, runs = 0, 600
    for seed in range(runs):
        noise = np.random.default_rng([seed, T]).standard_normal(T + 50)
        x = lfilter([1.0], [1.0, -memory], noise)[50:] * np.sqrt(1 - memory**2) + mean
        found = sharpe_interval(x)
        covered += found.low <= mean <= found.high
    assert 0.92 <= covered / runs <= 0.98  # four standard errors


def test_returns_that_never_vary_have_no_ratio_and_few_returns_are_refused() -> None:
    found = sharpe_interval(np.full(20, 0.01))
    assert np.isnan([found.estimate, found.low, found.high, found.standard_error]).all()
    with pytest.raises(InvariantViolated, match="7 rows: at least 8"):
        sharpe_interval(np.arange(7.0))


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_student_s_t_is_scipy_s(level: float) -> None:
    for degrees in (*range(1, 40), 101, 250):
        assert student_width(level, degrees) == pytest.approx(
            student.ppf((1 + level) / 2, degrees), rel=1e-11
        )
