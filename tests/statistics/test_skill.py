"""Hold forecast skill to the published figures of the science notes."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from scipy.stats import t as student
from statsmodels.regression.linear_model import OLS

from daemon.domain.failures import InvariantViolated
from daemon.statistics.skill import (
    ic,
    ic_decay,
    ic_series,
    kendall_tau,
    mean_ic,
    newey_west_error,
    newey_west_lags,
    newey_west_t,
    power_ic,
    rank_ic,
)

FORECAST = np.array([0.3, 0.1, -0.2, 0.4, 0.0])
OUTCOME = np.array([0.02, -0.01, -0.03, 0.01, 0.0])
DIFFERENCES = np.array([0.5, -0.2, 0.1, 0.4, -0.3, 0.2, 0.6, -0.1, 0.0, 0.3])


def test_ic_and_rank_ic_give_the_worked_figures() -> None:
    assert ic(FORECAST, OUTCOME) == pytest.approx(0.881895, abs=5e-7)
    assert rank_ic(FORECAST, OUTCOME) == pytest.approx(0.8, abs=1e-12)


@pytest.mark.parametrize(
    ("lags", "expected"), [(0, 1.651446), (1, 2.126644), (2, 4.187179), (3, 3.292928)]
)
def test_newey_west_t_gives_the_worked_figures(lags: int, expected: float) -> None:
    assert newey_west_t(DIFFERENCES, lags) == pytest.approx(expected, abs=5e-7)


def test_rank_ic_shares_ranks_among_ties_and_skips_missing_pairs() -> None:
    forecast = np.array([1.0, 1.0, 2.0, np.nan, 3.0, 0.5])
    outcome = np.array([0.1, 0.2, 0.2, 9.0, np.nan, -1.0])
    kept = [0, 1, 2, 5]
    oracle = spearmanr(forecast[kept], outcome[kept]).statistic
    assert rank_ic(forecast, outcome) == pytest.approx(oracle, abs=1e-12)


def test_skill_is_unknown_where_nothing_varies_or_too_little_is_left() -> None:
    assert math.isnan(ic(np.zeros(4), np.arange(4.0)))
    assert math.isnan(ic(np.full(10, 0.1), np.arange(10.0)))
    assert math.isnan(newey_west_t(np.full(10, 0.1), 1))
    assert math.isnan(mean_ic(np.full(10, 0.1), horizon_bars=1).low)
    assert math.isnan(rank_ic(np.array([1.0, np.nan, 2.0]), np.arange(3.0)))
    assert math.isnan(newey_west_t(np.ones(5), 1))


def test_lags_cover_the_label_overlap_and_never_the_whole_sample() -> None:
    assert newey_west_lags(8_000, 6) == 10  # 4 * 80^(2/9) = 10.59
    assert newey_west_lags(100, 6) == 5
    assert newey_west_lags(4, 6) == 3


def test_bad_lags_and_holes_are_refused() -> None:
    with pytest.raises(InvariantViolated, match="10 lags with 10 observations"):
        newey_west_t(DIFFERENCES, 10)
    with pytest.raises(InvariantViolated, match="not finite"):
        newey_west_t(np.array([1.0, np.nan]), 0)
    with pytest.raises(InvariantViolated, match="differ in shape"):
        ic(np.ones(2), np.ones(3))
    with pytest.raises(InvariantViolated, match="horizon of 0 bars"):
        newey_west_lags(10, 0)


def test_kendall_and_the_power_correlation_give_the_worked_figures() -> None:
    assert kendall_tau(FORECAST, OUTCOME) == pytest.approx(0.6, abs=1e-12)
    assert power_ic(FORECAST, OUTCOME) == pytest.approx(0.792745, abs=5e-7)


def test_the_power_correlation_sees_order_and_not_size_of_forecasts() -> None:
    stretched = np.exp(5.0 * FORECAST)
    assert power_ic(stretched, OUTCOME) == pytest.approx(power_ic(FORECAST, OUTCOME))
    assert power_ic(-FORECAST, OUTCOME) == pytest.approx(-power_ic(FORECAST, OUTCOME))


def test_tau_of_pairs_without_variation_or_with_two_points_is_unknown() -> None:
    assert math.isnan(kendall_tau(np.zeros(4), np.arange(4.0)))
    assert math.isnan(kendall_tau(np.arange(2.0), np.arange(2.0)))
    assert math.isnan(power_ic(np.zeros(4), np.arange(4.0)))


@pytest.mark.parametrize("lags", [0, 2, 5])
def test_newey_west_equals_a_regression_on_a_constant_of_statsmodels(lags: int) -> None:
    x = np.random.default_rng(lags).standard_normal(150).cumsum() * 0.1
    fit = OLS(x, np.ones(150)).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False}
    )
    assert newey_west_t(x, lags) == pytest.approx(float(fit.tvalues[0]), rel=1e-10)
    assert newey_west_error(x, lags) == pytest.approx(float(fit.bse[0]), rel=1e-10)


def test_mean_ic_leaves_unknown_instants_out_and_brackets_its_mean() -> None:
    values = np.insert(DIFFERENCES, 4, np.nan)
    seen = mean_ic(values, horizon_bars=3)
    assert (seen.instants, seen.lags) == (10, 2)
    assert seen.mean == pytest.approx(0.15)
    assert seen.t == pytest.approx(4.187179, abs=5e-7)
    # one wave only: int(0.4 * 10^(2/3)) = 1, so the weight of the slowest cosine is all there is
    wave = float(np.cos(np.pi * (np.arange(10) + 0.5) / 10.0) @ DIFFERENCES)
    half = float(student.ppf(0.975, 1)) * math.sqrt(2.0 / 10.0 * wave**2 / 10.0)
    assert (seen.low, seen.high) == pytest.approx((0.15 - half, 0.15 + half))


def test_mean_ic_of_next_to_nothing_is_unknown() -> None:
    assert math.isnan(mean_ic(np.array([0.1, np.nan]), horizon_bars=1).mean)
    assert math.isnan(mean_ic(np.ones(5), horizon_bars=1).t)


@pytest.mark.parametrize("horizon", [1, 6, 24])
def test_intervals_of_a_mean_ic_cover_the_truth_as_often_as_they_say_despite_overlap(
    horizon: int,
) -> None:
    rng = np.random.default_rng(6)
    inside = by_newey_west = 0
    for _ in range(400):
        noise = rng.standard_normal(499 + horizon)
        seen = mean_ic(np.convolve(noise, np.ones(horizon), mode="valid"), horizon_bars=horizon)
        inside += seen.low <= 0.0 <= seen.high
        by_newey_west += abs(seen.t) <= 1.96
    print(f"H {horizon}: interval {inside / 400:.3f}, Newey-West {by_newey_west / 400:.3f}")
    assert 0.925 <= inside / 400 <= 0.975
    assert horizon == 1 or by_newey_west < inside


def test_ic_by_horizon_follows_the_half_life_of_the_planted_signal() -> None:
    # rho (1 - phi^H) / ((1 - phi) sqrt(H)) for an AR(1) signal, SCIENCE 2b
    rng = np.random.default_rng(7)
    M, N, phi, rho = 2_000, 40, 0.5 ** (1 / 6), 0.06
    signal = np.zeros((M, N))
    noise = rng.standard_normal((M, N)) * math.sqrt(1.0 - phi**2)
    for t in range(1, M):
        signal[t] = phi * signal[t - 1] + noise[t]
    returns = rho * signal + math.sqrt(1.0 - rho**2) * rng.standard_normal((M, N))
    totals = np.vstack((np.zeros(N), returns.cumsum(axis=0)))
    labels = {}
    for horizon in (1, 6):
        labels[horizon] = np.full((M, N), np.nan)
        labels[horizon][: M - horizon + 1] = totals[horizon:] - totals[:-horizon]
    seen = ic_decay(signal, labels, measure=ic)
    assert list(seen) == [1, 6]
    assert seen[6].lags >= 5
    for horizon, found in seen.items():
        expected = rho * (1.0 - phi**horizon) / ((1.0 - phi) * math.sqrt(horizon))
        assert found.low <= expected <= found.high
    assert seen[6].mean > 1.5 * seen[1].mean


def test_series_of_skill_follow_the_rows() -> None:
    forecasts = np.stack((FORECAST, np.zeros(5), -FORECAST))
    outcomes = np.stack((OUTCOME, OUTCOME, OUTCOME))
    assert ic_series(forecasts, outcomes) == pytest.approx([0.8, np.nan, -0.8], nan_ok=True)
    with pytest.raises(InvariantViolated, match="differ in shape"):
        ic_series(forecasts, outcomes[:2])
    with pytest.raises(InvariantViolated, match=r"\(M, N\) is accepted"):
        ic_series(FORECAST, OUTCOME)
    with pytest.raises(InvariantViolated, match="level 95"):
        mean_ic(DIFFERENCES, horizon_bars=1, level=95)
