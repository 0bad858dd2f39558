"""Hold conformal intervals to worked ranks, their coverage and the bound that needs no model."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.failures import InvariantViolated
from daemon.statistics.conformal import (
    PanelConformal,
    adaptive_alpha,
    adaptive_conformal,
    conformal_quantile,
    conformal_rank,
    panel_conformal,
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


# ---- many scores at an instant, known late -------------------------------------------------------


def panel(scores: np.ndarray, delay: int, **changes: float) -> PanelConformal:
    known = np.maximum(np.arange(len(scores)) - delay, 0).astype(np.int64)
    options: dict[str, Any] = {"target": 0.1, "window": 300, "instants_min": 100} | changes
    return panel_conformal(scores, known, **options)


def test_one_score_at_a_time_known_at_once_is_the_plain_adaptive_run() -> None:
    scores = np.abs(np.random.default_rng(5).standard_normal(500))
    plain = adaptive_conformal(scores, target=0.1, window=50, rate=0.02)
    found = panel(scores[:, None], 0, window=50, instants_min=50, rate=0.02)
    assert np.array_equal(found.half_widths[50:], plain.quantiles)
    assert np.array_equal(found.missed[50:], plain.missed)
    assert np.isnan(found.half_widths[:50]).all()


@pytest.mark.parametrize("kind", ["growing", "breaking", "shrinking"])
def test_coverage_holds_on_a_drifting_series_where_a_fixed_width_fails(kind: str) -> None:
    T, N = 6_000, 15
    rng = np.random.default_rng(7)
    sd = {
        "growing": np.linspace(1.0, 3.0, T),
        "breaking": np.where(np.arange(T) < T // 2, 1.0, 2.5),
        "shrinking": np.linspace(3.0, 1.0, T),
    }[kind]
    scores = np.abs(sd[:, None] * rng.standard_normal((T, N)))
    found = panel(scores, 7, window=720)
    judged = slice(1_000, None)
    adaptive = 1.0 - np.nanmean(found.missed[judged])
    fixed = np.mean(scores[judged] <= np.quantile(scores[:1_000], 0.9))
    assert abs(fixed - 0.9) > 0.05
    assert adaptive == pytest.approx(0.9, abs=0.01)


def test_no_half_width_knows_an_outcome_that_came_later() -> None:
    scores = np.abs(np.random.default_rng(8).standard_normal((600, 5)))
    changed = scores.copy()
    changed[401:] *= 50.0
    ours, theirs = panel(scores, 7), panel(changed, 7)
    # row 401 is known from instant 409 on, when 402 rows are
    same = ours.half_widths[:409], theirs.half_widths[:409]
    assert np.array_equal(*same, equal_nan=True)
    assert ours.half_widths[409] != theirs.half_widths[409]


def test_missing_scores_do_not_count_and_a_future_that_is_known_is_refused() -> None:
    scores = np.abs(np.random.default_rng(9).standard_normal((300, 4)))
    scores[:, 3] = np.nan
    scores[150] = np.nan
    whole, three = panel(scores, 1), panel(scores[:, :3], 1)
    assert np.array_equal(whole.half_widths, three.half_widths, equal_nan=True)
    assert np.isnan(whole.missed[150])
    with pytest.raises(InvariantViolated, match="before its instant"):
        panel_conformal(
            scores, np.arange(300, dtype=np.int64) + 1, target=0.1, window=10, instants_min=5
        )
