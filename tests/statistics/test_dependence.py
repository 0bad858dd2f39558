"""Hold autocovariances and long-run variances to their sums by hand and to two libraries."""

import numpy as np
import pytest
from arch.covariance.kernel import Bartlett, QuadraticSpectral
from statsmodels.tsa.stattools import acovf

from daemon.domain.failures import InvariantViolated
from daemon.statistics.dependence import (
    autocovariances,
    bartlett_variance,
    cosine_variance,
    quadratic_spectral_variance,
    stationary_bootstrap_variance,
)


def _walk(T: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(T).cumsum() * 0.3


def test_autocovariances_of_a_short_series_are_the_sums_by_hand() -> None:
    # deviations -1, 1, 0 : g0 = 2/3, g1 = (-1 + 0)/3, g2 = 0
    assert autocovariances(np.array([1.0, 3.0, 2.0]), 2) == pytest.approx([2 / 3, -1 / 3, 0.0])


@pytest.mark.parametrize("T", [5, 64, 257])
def test_autocovariances_equal_those_of_statsmodels(T: int) -> None:
    x = _walk(T, seed=T)
    assert autocovariances(x, T - 1) == pytest.approx(acovf(x, fft=False), abs=1e-10)


def test_columns_are_measured_each_for_itself() -> None:
    x = np.column_stack((_walk(40, 1), _walk(40, 2)))
    both = autocovariances(x, 6)
    assert both[:, 0] == pytest.approx(autocovariances(x[:, 0], 6), abs=1e-12)
    assert both[:, 1] == pytest.approx(autocovariances(x[:, 1], 6), abs=1e-12)


@pytest.mark.parametrize("bandwidth", [1.0, 4.0, 9.5])
def test_kernels_equal_those_of_arch(bandwidth: float) -> None:
    x = _walk(300, seed=3)
    ours = quadratic_spectral_variance(x, bandwidth)
    theirs = QuadraticSpectral(x, bandwidth=bandwidth).cov.long_run[0, 0]
    assert ours == pytest.approx(theirs, rel=1e-10)
    lags = int(bandwidth)
    theirs = Bartlett(x, bandwidth=lags).cov.long_run[0, 0]
    assert bartlett_variance(x, lags) == pytest.approx(theirs, rel=1e-10)


def test_the_plug_in_bandwidth_recovers_the_long_run_variance_of_an_ar_process() -> None:
    rng = np.random.default_rng(11)
    x = np.zeros(20_000)
    for t in range(1, len(x)):
        x[t] = 0.5 * x[t - 1] + rng.standard_normal()
    assert quadratic_spectral_variance(x) == pytest.approx(4.0, rel=0.1)  # 1 / (1 - 0.5)^2


def test_the_bootstrap_variance_is_what_resampling_shows() -> None:
    rng = np.random.default_rng(2)
    x = _walk(60, seed=9)[:, None]
    keep, at, means = 1.0 - 1.0 / 6.0, np.arange(60), []
    for _ in range(20_000):
        begins = rng.random(60) >= keep
        begins[0] = True
        first = np.maximum.accumulate(np.where(begins, at, 0))
        means.append(x[(rng.integers(60, size=60)[first] + at - first) % 60].mean())
    seen = 60 * np.var(means)
    assert stationary_bootstrap_variance(x, 6.0)[0] == pytest.approx(seen, rel=0.05)


def test_the_slowest_waves_give_the_long_run_variance_with_its_degrees_of_freedom() -> None:
    rng = np.random.default_rng(14)
    x = np.stack([np.convolve(row, np.ones(4), "valid") for row in rng.standard_normal((400, 303))])
    seen = [cosine_variance(row, 4) for row in x]
    assert {found.degrees for found in seen} == {17}  # int(0.4 * 300^(2/3))
    ratios = np.array([found.variance for found in seen]) / 16.0
    assert ratios.mean() == pytest.approx(1.0, abs=0.06)
    assert ratios.var() == pytest.approx(2.0 / 17.0, rel=0.25)
    assert cosine_variance(x[0], 40).degrees == 3  # 300 / 80


def test_a_series_that_does_not_vary_has_no_variance_and_impossible_lags_are_refused() -> None:
    assert bartlett_variance(np.ones(9), 3) == 0.0
    assert quadratic_spectral_variance(np.ones(9)) == 0.0
    with pytest.raises(InvariantViolated, match="9 lags with 9 observations"):
        autocovariances(np.ones(9), 9)
    with pytest.raises(InvariantViolated, match="at least 2"):
        quadratic_spectral_variance(np.ones(1))
