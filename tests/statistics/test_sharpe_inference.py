"""Hold the inference on Sharpe ratios to the worked figures of the science notes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.failures import InvariantViolated
from daemon.statistics.checks import Floats
from daemon.statistics.sharpe_inference import (
    backtest_years_min,
    deflated_sharpe,
    expected_maximum,
    luck_hurdle,
    probabilistic_sharpe,
    sharpe_difference,
    track_record_min,
)

DAILY = 2.5 / math.sqrt(250)
VARIANCE = 0.5 / 250


def test_psr_gives_the_published_figures() -> None:
    assert probabilistic_sharpe(0.458, 24) == pytest.approx(0.9817, abs=5e-5)
    skewed = probabilistic_sharpe(0.458, 24, skewness=-2.448, kurtosis=10.164)
    assert skewed == pytest.approx(0.9134, abs=5e-5)


@pytest.mark.parametrize(
    ("per_year", "observations", "years"),
    [(252, 688.21, 2.731), (52, 147.10, 2.829), (12, 38.878, 3.240)],
)
def test_minimum_track_record_gives_the_published_figures(
    per_year: int, observations: float, years: float
) -> None:
    root = math.sqrt(per_year)
    seen = track_record_min(2.0 / root, benchmark=1.0 / root)
    assert seen == pytest.approx(observations, abs=5e-3)
    assert seen / per_year == pytest.approx(years, abs=5e-4)


def test_dsr_gives_the_published_figures() -> None:
    assert luck_hurdle(100, VARIANCE) == pytest.approx(0.113172, abs=5e-7)
    for trials, expected in ((100, 0.900397), (46, 0.950502)):
        seen = deflated_sharpe(
            DAILY, 1250, trials=trials, ratio_variance=VARIANCE, skewness=-3.0, kurtosis=10.0
        )
        assert seen == pytest.approx(expected, abs=5e-7)
    normal = deflated_sharpe(DAILY, 1250, trials=88, ratio_variance=VARIANCE)
    assert normal == pytest.approx(0.950491, abs=5e-7)


@pytest.mark.parametrize(
    ("trials", "expected"), [(10, 1.574598), (45, 2.235640), (100, 2.530603), (1000, 3.255122)]
)
def test_expected_maximum_gives_the_worked_figures(trials: int, expected: float) -> None:
    assert expected_maximum(trials) == pytest.approx(expected, abs=5e-7)


def test_expected_maximum_is_what_draws_show_and_nothing_for_one_trial() -> None:
    draws = np.random.default_rng(1).standard_normal((4_000, 100)).max(axis=1)
    assert expected_maximum(100) == pytest.approx(draws.mean(), abs=0.03)
    assert expected_maximum(1) == 0.0


def test_minimum_backtest_length_gives_the_published_figure() -> None:
    assert backtest_years_min(45, 1.0) == pytest.approx(4.998, abs=5e-4)


@settings(max_examples=80)
@given(
    ratio=st.floats(-0.5, 0.5),
    step=st.floats(1e-3, 0.3),
    observations=st.integers(2, 5_000),
    kurtosis=st.floats(3.0, 30.0),
)
def test_psr_rises_with_the_ratio_s_lead_and_falls_with_the_benchmark(
    ratio: float, step: float, observations: int, kurtosis: float
) -> None:
    low = probabilistic_sharpe(ratio, observations, benchmark=ratio + step, kurtosis=kurtosis)
    level = probabilistic_sharpe(ratio, observations, benchmark=ratio, kurtosis=kurtosis)
    high = probabilistic_sharpe(ratio, observations, benchmark=ratio - step, kurtosis=kurtosis)
    assert 0.0 <= low < level < high <= 1.0
    assert level == 0.5


@settings(max_examples=80)
@given(
    ratio=st.floats(-0.2, 0.4),
    trials=st.floats(1.0, 1e5),
    more=st.floats(1.0, 1e3),
    variance=st.floats(0.0, 0.1),
)
def test_dsr_never_exceeds_psr_and_falls_with_every_trial(
    ratio: float, trials: float, more: float, variance: float
) -> None:
    dsr = deflated_sharpe(ratio, 500, trials=trials, ratio_variance=variance)
    assert dsr <= probabilistic_sharpe(ratio, 500)
    assert deflated_sharpe(ratio, 500, trials=trials * more, ratio_variance=variance) <= dsr


@settings(max_examples=60)
@given(ratio=st.floats(0.02, 0.5), skewness=st.floats(-2.0, 1.0), confidence=st.floats(0.6, 0.99))
def test_a_track_record_of_the_minimum_length_reaches_the_confidence(
    ratio: float, skewness: float, confidence: float
) -> None:
    moments = {"skewness": skewness, "kurtosis": 9.0}
    needed = track_record_min(ratio, confidence=confidence, **moments)
    enough, short = math.ceil(needed) + 1, math.floor(needed) - 1
    assert probabilistic_sharpe(ratio, enough, **moments) >= confidence - 1e-12
    if short >= 2:
        assert probabilistic_sharpe(ratio, short, **moments) < confidence


def test_a_record_below_its_benchmark_is_never_long_enough() -> None:
    assert track_record_min(0.1, benchmark=0.1) == math.inf
    assert math.isnan(probabilistic_sharpe(math.nan, 10))


def _paired(seed: int, T: int, *, lead: float = 0.0, overlap: float = 0.6) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(T)
    own = rng.standard_normal((2, T))
    a, b = (math.sqrt(overlap) * common + math.sqrt(1 - overlap) * e for e in own)
    return a + 0.05 + lead, 2.0 * (b + 0.05)


def test_difference_of_independent_days_has_the_textbook_error() -> None:
    a, b = _paired(1, 2_000)
    a, b = a + 1.0, b + 1.2  # large ratios, so that the error of the deviations counts as well
    seen = sharpe_difference(a, b, seed=1, block=1, repetitions=1_500)
    ratios = [x.mean() / x.std() for x in (a, b)]
    r = float(np.corrcoef(a, b)[0, 1])
    # Jobson and Korkie's variance with Memmel's correction, for normal returns
    squares = ratios[0] ** 2 + ratios[1] ** 2 - 2.0 * ratios[0] * ratios[1] * r**2
    error = math.sqrt((2.0 - 2.0 * r + 0.5 * squares) / len(a))
    assert seen.difference == pytest.approx(ratios[0] - ratios[1], rel=1e-12)
    assert seen.standard_error == pytest.approx(error, rel=0.05)
    assert seen.high - seen.low == pytest.approx(2 * 1.96 * error, rel=0.08)


def test_difference_is_antisymmetric_and_blind_to_leverage() -> None:
    a, b = _paired(3, 300)
    one = sharpe_difference(a, b, seed=4, repetitions=200)
    other = sharpe_difference(b, a, seed=4, repetitions=200)
    levered = sharpe_difference(10.0 * a, 0.1 * b, seed=4, repetitions=200)
    assert (other.difference, other.low) == pytest.approx((-one.difference, -one.high))
    assert other.p_value == one.p_value
    assert levered.difference == pytest.approx(one.difference)
    assert levered.p_value == one.p_value


def test_a_clear_lead_is_found_and_equal_skill_is_seldom_called_different() -> None:
    clear = sharpe_difference(*_paired(5, 500, lead=0.25), seed=1, repetitions=300)
    assert clear.p_value < 0.01
    assert clear.low > 0.0
    rejected = sum(
        sharpe_difference(*_paired(s, 200), seed=s, repetitions=99).p_value <= 0.1
        for s in range(60)
    )
    assert rejected <= 13  # 6 are expected; more than 13 of 60 has a chance of 0.3 %


def test_a_series_against_itself_differs_by_nothing() -> None:
    a, _ = _paired(1, 50)
    same = sharpe_difference(a, a, seed=1, repetitions=20)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    assert math.isnan(sharpe_difference(a, np.ones(50), seed=1, repetitions=20).p_value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: probabilistic_sharpe(0.1, 1), "1 observations"),
        (lambda: probabilistic_sharpe(1.0, 9, skewness=1.5, kurtosis=3.0), "leave no error"),
        (lambda: expected_maximum(0.5), "trials 0.5: at least 1"),
        (lambda: luck_hurdle(3, -0.1), "ratio_variance -0.1"),
        (lambda: track_record_min(0.1, confidence=0.4), "confidence 0.4"),
        (lambda: track_record_min(math.nan), "ratio nan: a finite number"),
        (lambda: track_record_min(0.1, benchmark=math.nan), "benchmark nan: a finite number"),
        (lambda: backtest_years_min(45, 0.0), "annual_ratio 0.0: above 0"),
        (lambda: sharpe_difference(np.ones(30), np.ones(31), seed=1), "30 and 31 rows"),
        (lambda: sharpe_difference(np.ones(5), np.ones(5), seed=1), "first has 5 rows"),
    ],
)
def test_bad_input_is_refused_by_name(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(InvariantViolated, match=message):
        call()
