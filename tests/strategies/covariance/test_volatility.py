"""Hold weighted, plain and heterogeneous variances to worked figures and planted truth."""

import numpy as np
import pytest
from skfolio.moments import EWCovariance

from daemon.domain.bar import Floats
from daemon.domain.failures import InvariantViolated
from strategies.covariance.ewma import EwmaCorrelation, EwmaVolatility, blended
from strategies.covariance.har import TYPICAL, HarVolatility
from strategies.covariance.pairwise import sample_correlation
from strategies.covariance.rolling import RollingVolatility
from tests.strategies.covariance.returns import drawn


def test_weights_of_age_are_as_published() -> None:
    Q, z = np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([1.5, -1.0])
    moved = blended(Q, np.outer(z, z), 0.97)
    rho = moved[0, 1] / np.sqrt(moved[0, 0] * moved[1, 1])
    assert rho == pytest.approx(0.431975, abs=5e-7)


def test_weighted_correlation_is_the_sum_written_out_over_common_rows() -> None:
    z = drawn(100, 3)
    z[::7, 1] = np.nan
    z[50:60, 2] = np.nan
    model = EwmaCorrelation(20.0)
    model.begin(z)
    R = model.correlation(0)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = np.isfinite(z[:, i]) & np.isfinite(z[:, j])
        weight = 0.5 ** (np.arange(99, -1, -1) / 20.0)[both]
        a, b = z[both, i], z[both, j]
        wanted = (weight @ (a * b)) / np.sqrt((weight @ a**2) * (weight @ b**2))
        assert R[i, j] == R[j, i] == pytest.approx(wanted, rel=1e-12)


def test_weights_of_age_are_those_of_skfolio() -> None:
    z = drawn(300, 5)
    theirs = EWCovariance(half_life=20).fit(z).covariance_
    correlation, volatility = EwmaCorrelation(20.0), EwmaVolatility(20.0)
    correlation.begin(z)
    volatility.begin(z)
    root = np.sqrt(np.diagonal(theirs))
    np.testing.assert_allclose(correlation.correlation(0), theirs / np.outer(root, root), rtol=1e-9)
    np.testing.assert_allclose(volatility.variance(), np.diagonal(theirs), rtol=1e-9)


def test_sample_correlation_is_numpys_about_zero() -> None:
    z = drawn(300, 4)
    mirrored = np.vstack([z, -z])  # whose means are zero
    np.testing.assert_allclose(sample_correlation(mirrored), np.corrcoef(mirrored.T), atol=1e-12)


def test_weighted_variance_forgets_by_half_in_a_half_life_and_skips_missing_bars() -> None:
    r = drawn(120, 2)
    r[100:110, 1] = np.nan
    model = EwmaVolatility(12.0)
    foreseen = model.begin(r)
    assert np.isnan(foreseen[:24]).all()
    for i in (0, 1):
        seen = np.isfinite(r[:, i])
        weight = 0.5 ** (np.arange(119, -1, -1) / 12.0)[seen]
        wanted = weight @ r[seen, i] ** 2 / weight.sum()
        assert model.variance()[i] == pytest.approx(wanted, rel=1e-12)


def test_plain_variance_is_the_mean_of_the_window() -> None:
    r = drawn(120, 2)
    r[100:110, 1] = np.nan
    model = RollingVolatility(50)
    foreseen = model.begin(r)
    assert foreseen[80] == pytest.approx(np.mean(r[30:80] ** 2, axis=0), rel=1e-12)
    assert model.variance() == pytest.approx(np.nanmean(r[70:] ** 2, axis=0), rel=1e-12)


@pytest.mark.parametrize("make", [lambda: EwmaVolatility(0.0), lambda: RollingVolatility(5)])
def test_a_window_or_half_life_that_measures_nothing_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(InvariantViolated):
        make()


def planted_har(T: int, N: int) -> tuple[Floats, Floats]:
    """Draw variances of 0.1 + 0.5 of the last day + 0.4 of the last week, in own units."""
    rng = np.random.default_rng(8)
    unit = rng.uniform(1e-5, 1e-4, N)
    x = rng.standard_normal((T, N)) ** 2
    for t in range(168, T):
        h = 0.1 + 0.5 * x[t - 24 : t].mean(axis=0) + 0.4 * x[t - 168 : t].mean(axis=0)
        x[t] *= h
    sign = rng.choice([-1.0, 1.0], (T, N))
    return np.sqrt(x * unit) * sign, unit


def test_planted_weights_of_day_and_week_are_found() -> None:
    r, unit = planted_har(2_500, 20)
    model = HarVolatility()
    model.begin(r)
    h = 0.1 * unit + 0.5 * np.mean(r[-24:] ** 2, axis=0) + 0.4 * np.mean(r[-168:] ** 2, axis=0)
    assert model.variance() == pytest.approx(h, rel=0.12)


def test_few_rows_take_typical_weights_and_gaps_the_longer_mean() -> None:
    r = drawn(60, 2)
    r[-10:, 1] = np.nan
    model = HarVolatility()
    model.begin(r)
    squares = r**2
    day, week = np.nanmean(squares[-24:], axis=0), np.nanmean(squares, axis=0)
    six = np.array([np.mean(squares[-6:, 0]), day[1]])
    one = np.array([squares[-1, 0], day[1]])
    wanted = np.array(TYPICAL) @ np.array([week, week, day, six, one])
    assert model.variance() == pytest.approx(wanted, rel=1e-12)
