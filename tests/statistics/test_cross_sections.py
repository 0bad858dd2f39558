"""Many cross-sections at once: the same figures as one by one, and the truth of a generated one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from daemon.domain.failures import InvariantViolated
from daemon.statistics.checks import Floats
from daemon.statistics.cross_sections import (
    expected_score_ics,
    ics,
    normal_scores,
    rank_ics,
    score_ics,
)
from daemon.statistics.skill import ic, ic_series, rank_ic


def holed(rows: int, columns: int) -> tuple[Floats, Floats]:
    draw = np.random.default_rng(5)
    f, y = draw.standard_normal((rows, columns)), draw.standard_normal((rows, columns))
    f[draw.random(f.shape) < 0.3] = np.nan
    y[draw.random(y.shape) < 0.3] = np.nan
    f[:, 0] = np.round(f[:, 0])
    f[3] = np.round(f[3])  # ties
    f[4] = 1.0  # a row that says nothing
    f[5, 2:] = np.nan  # a row with too few
    return f, y


def test_all_at_once_is_what_one_by_one_gives() -> None:
    f, y = holed(60, 9)
    np.testing.assert_allclose(rank_ics(f, y), ic_series(f, y, rank_ic), atol=1e-14)
    np.testing.assert_allclose(ics(f, y), ic_series(f, y, ic), atol=1e-14)
    assert np.isnan(rank_ics(f, y)[[4, 5]]).all()


def test_score_ic_by_hand() -> None:
    f, y = np.array([[1.0, 5.0, 2.0, 9.0]]), np.array([[0.1, 0.2, -0.3, 0.4]])
    scores = norm.ppf(np.array([1, 3, 2, 4]) / 5)
    np.testing.assert_allclose(normal_scores(f)[0], scores)
    np.testing.assert_allclose(score_ics(f, y), [np.corrcoef(scores, y[0])[0, 1]])


def test_tables_of_another_shape_are_refused_and_empty_ones_give_nothing() -> None:
    with pytest.raises(InvariantViolated, match="differ in shape"):
        rank_ics(np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(InvariantViolated, match=r"\(M, N\) is accepted"):
        rank_ics(np.zeros(3), np.zeros(3))
    assert len(rank_ics(np.empty((0, 3)), np.empty((0, 3)))) == 0


def test_the_expected_ic_is_what_the_measured_one_comes_to_on_average() -> None:
    draw = np.random.default_rng(11)
    expected = 0.2 * draw.standard_normal((4000, 12))
    outcomes = expected + draw.standard_normal(expected.shape)
    forecasts = expected + 0.3 * draw.standard_normal(expected.shape)
    true, found = (
        expected_score_ics(forecasts, outcomes, expected),
        score_ics(forecasts, outcomes),
    )
    error = (found - true).std() / np.sqrt(len(true))
    assert abs((found - true).mean()) < 3 * error
    assert true.mean() > 0.08  # 0.2 / sqrt(1.04) times the correlation 0.2 / sqrt(0.13)
    assert true.std() < found.std() / 3
    nothing = expected_score_ics(forecasts, outcomes, np.zeros_like(expected))
    assert np.abs(nothing).max() == 0.0
