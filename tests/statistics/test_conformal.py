"""Hold conformal intervals to worked ranks, their coverage and the bound that needs no model."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.failures import InvariantViolated
from daemon.statistics.conformal import (
    adaptive_alpha,
    adaptive_conformal,
    conformal_quantile,
    conformal_rank,
)


@pytest.mark.parametrize(("n", "rank"), [(99, 90), (20, 19), (8, 9)])
def test_ranks_are_the_worked_figures(n: int, rank: int) -> None:
    assert conformal_rank(n, 0.1) == rank


@settings(max_examples=100)
@given(n=st.integers(1, 2_000), hundredths=st.integers(1, 99))
def test_ranks_do_not_suffer_from_rounding(n: int, hundredths: int) -> None:
    exact = -(-(n + 1) * (100 - hundredths) // 100)  # in whole numbers
    assert conformal_rank(n, hundredths / 100) == exact


def test_quantile_is_the_score_of_that_rank_or_infinite_with_too_few() -> None:
    scores = np.random.default_rng(1).permutation(np.arange(1.0, 100.0))
    assert conformal_quantile(scores, 0.1) == 90.0
    assert conformal_quantile(scores[:8], 0.1) == math.inf


def test_new_scores_are_covered_as_promised() -> None:
    rng = np.random.default_rng(2)
    x = np.abs(rng.standard_t(3, (4_000, 20)))
    covered = np.mean([row[-1] <= conformal_quantile(row[:-1], 0.2) for row in x])
    assert covered == pytest.approx(0.8, abs=0.02)  # (19 + 1) 0.8 = 16 is exact


def test_the_level_steps_by_its_rate() -> None:
    assert adaptive_alpha(0.1, True, target=0.1, rate=0.01) == pytest.approx(0.091)
    assert adaptive_alpha(0.1, False, target=0.1, rate=0.01) == pytest.approx(0.101)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1_000),
    target=st.floats(0.02, 0.5),
    rate=st.floats(0.005, 0.2),
    kind=st.sampled_from(["noise", "trend", "breaks"]),
)
def test_the_share_of_misses_obeys_its_bound_whatever_the_data(
    seed: int, target: float, rate: float, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    scores = np.abs(rng.standard_normal(400))
    scores *= {"noise": 1.0, "trend": np.arange(400.0), "breaks": 1 + 9 * (rng.random(400) < 0.3)}[
        kind
    ]
    seen = adaptive_conformal(scores, target=target, window=50, rate=rate)
    bound = (max(target, 1 - target) + rate) / (rate * len(seen.missed))
    assert abs(seen.missed.mean() - target) <= bound


def test_a_jump_in_volatility_is_caught_up_with_where_fixed_levels_fail() -> None:
    rng = np.random.default_rng(3)
    scores = np.abs(rng.standard_normal(3_000)) * np.linspace(1.0, 60.0, 3_000)
    fixed = adaptive_conformal(scores, target=0.1, window=500, rate=1e-12)
    steered = adaptive_conformal(scores, target=0.1, window=500, rate=0.02)
    assert fixed.missed.mean() > 0.125
    assert steered.missed.mean() == pytest.approx(0.1, abs=0.01)


def test_a_half_width_never_knows_its_own_score() -> None:
    scores = np.random.default_rng(1).random(60)
    one = adaptive_conformal(scores, target=0.2, window=20)
    scores[-1] = 1e9
    other = adaptive_conformal(scores, target=0.2, window=20)
    assert one.quantiles.tolist() == other.quantiles.tolist()
    assert other.missed[-1] == 1.0


def test_levels_beyond_their_ends_cover_all_or_nothing() -> None:
    rising = np.arange(30.0)
    seen = adaptive_conformal(rising, target=0.5, window=5, rate=0.6)
    assert math.inf in seen.quantiles.tolist()
    falling = adaptive_conformal(rising[::-1].copy(), target=0.5, window=5, rate=0.6)
    assert -math.inf in falling.quantiles.tolist()


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(InvariantViolated, match=r"alpha 0\.0"):
        conformal_rank(9, 0.0)
    with pytest.raises(InvariantViolated, match="n 0: at least 1"):
        conformal_rank(0, 0.1)
    with pytest.raises(InvariantViolated, match="scores has 5 rows: at least 6"):
        adaptive_conformal(np.ones(5), target=0.1, window=5)
    with pytest.raises(InvariantViolated, match=r"rate 0\.0: above 0"):
        adaptive_conformal(np.ones(9), target=0.1, window=5, rate=0.0)
