"""Hold forecast skill to the published figures of the science notes."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from daemon.domain.failures import InvariantViolated
from daemon.statistics.skill import ic, newey_west_lags, newey_west_t, rank_ic

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
