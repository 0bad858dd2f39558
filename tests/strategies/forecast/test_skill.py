"""Skill over instants: ties, gaps, scores; the statistics behind it have their own tests."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.statistics.skill import rank_ic
from strategies.forecast.skill import normal_scores, skill

P = np.array([0.3, 0.1, -0.2, 0.4, 0.0])
R = np.array([0.02, -0.01, -0.03, 0.01, 0.0])


def test_rank_ic_is_the_mean_of_the_worked_row_and_its_reverse() -> None:
    found = skill(np.vstack([P, P, -P]), np.vstack([R, R, R]), horizon_bars=1)
    assert found.rank_ic == pytest.approx((0.8 + 0.8 - 0.8) / 3)
    assert found.instants == 3


def test_score_ic_correlates_normal_scores_with_outcomes() -> None:
    found = skill(np.vstack([P, P]), np.vstack([R, R]), horizon_bars=1)
    # ranks of P are 4, 3, 1, 5, 2 of 5: quantiles of 4/6, 3/6, 1/6, 5/6, 2/6
    scores = [0.4307273, 0.0, -0.9674216, 0.9674216, -0.4307273]
    assert found.score_ic == pytest.approx(float(np.corrcoef(scores, R)[0, 1]))


def test_equal_values_share_their_normal_score() -> None:
    same = np.array([[2.0, 2.0, 2.0, np.nan]])
    np.testing.assert_allclose(normal_scores(same), [[0.0, 0.0, 0.0, np.nan]], atol=1e-12)


def test_all_instants_at_once_equal_one_after_the_other() -> None:
    draw = np.random.default_rng(1)
    f, y = draw.standard_normal((2, 40, 9))
    f[draw.random(f.shape) < 0.2] = np.nan
    f[3, :4] = 0.5
    one_by_one = [rank_ic(a, b) for a, b in zip(f, y, strict=True)]
    found = skill(f, y, horizon_bars=6)
    assert found.rank_ic == pytest.approx(np.mean(one_by_one), abs=1e-12)
    assert found.instants == 40


def test_instants_without_a_spread_or_with_too_few_pairs_do_not_count() -> None:
    gaps = np.array([1, 2, 3, np.nan, np.nan])
    forecasts = np.vstack([np.zeros(5), P, P, P])
    outcomes = np.vstack([P, P, gaps, P])
    found = skill(forecasts, outcomes, horizon_bars=1)
    assert found.instants == 2
    assert found.rank_ic == pytest.approx(1.0)
    assert np.isnan(skill(forecasts[:1], outcomes[:1], horizon_bars=1).rank_ic)


def test_unrelated_outcomes_have_no_skill_and_a_small_t() -> None:
    draw = np.random.default_rng(0)
    found = skill(draw.standard_normal((800, 10)), draw.standard_normal((800, 10)), horizon_bars=6)
    assert abs(found.rank_ic) < 0.04
    assert abs(found.rank_ic_t) < 3.5
