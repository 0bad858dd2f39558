"""Reliability figures against planted truths: what is stated right passes, what is not is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from daemon.domain.failures import InvariantViolated
from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.report.reliability import ReliabilityReport, Stated, judged
from daemon.report.reliability_page import reliability_page

START_MS = 1_704_067_200_000  # 2024-01-01
T, N = 1_200, 8
OVERLAP = 7


def honest(*, sd: float = 1.0, size: float = 0.3, T: int = T) -> Stated:
    """Forecast a part of outcomes that are normal with a known spread."""
    draw = np.random.default_rng(3)
    forecast = size * draw.standard_normal((T, N))
    outcome = forecast + sd * draw.standard_normal((T, N))
    deviation = np.full((T, N), sd)
    return Stated(
        at_ms=START_MS + HOUR_MS * np.arange(T, dtype=np.int64),
        forecast=forecast,
        sd=deviation,
        up=ndtr(forecast / sd),
        half_width=1.6448536 * deviation,
        outcome=outcome,
        reach_ms=OVERLAP * HOUR_MS,
        overlap=OVERLAP,
        coverage=0.9,
    )


def report(stated: Stated) -> ReliabilityReport:
    return judged(stated, {}, seed=1)


@pytest.fixture(scope="module")
def right() -> ReliabilityReport:
    return report(honest(sd=1.5))


def test_what_is_stated_right_is_found_right(right: ReliabilityReport) -> None:
    for one in (right.slope, right.variance_ratio):
        assert abs(one.estimate - 1.0) < 3.0 * one.standard_error < 0.3
    assert right.pit_test.p_value > 0.01
    assert right.pit.sum() == pytest.approx(1.0)
    assert np.abs(right.pit - 0.05).max() < 0.01
    assert right.curve.ece < 0.02
    assert right.brier.skill.low > 0.0
    for interval in right.coverages:
        assert abs(interval.share.estimate - 0.9) < 3.0 * interval.share.standard_error < 0.02
        assert interval.accepted == 1.0
        assert interval.worst == pytest.approx(0.9, abs=0.03)
    assert right.crps < right.crps_base
    assert right.nll < right.nll_base


def test_too_sure_a_spread_is_seen_and_the_adaptive_interval_mends_it() -> None:
    stated = honest(sd=1.5)
    half = replace(stated, sd=0.5 * stated.sd, half_width=0.5 * stated.half_width)
    found = report(half)
    assert found.variance_ratio.estimate == pytest.approx(4.0, rel=0.05)
    assert found.pit_test.p_value < 1e-6
    assert found.pit[0] > 0.1
    first, second = found.coverages
    assert first.share.estimate == pytest.approx(2 * ndtr(0.8224) - 1, abs=0.01)
    assert second.share.low < 0.9 < second.share.high
    assert (first.accepted, second.accepted) == (0.0, 1.0)


def test_too_bold_forecasts_have_half_the_slope() -> None:
    stated = honest()
    bold = replace(stated, forecast=2.0 * stated.forecast)
    found = judged(bold, {"1h": (stated.forecast, stated.outcome)}, seed=1)
    assert found.slope.estimate == pytest.approx(0.5, abs=0.05)
    assert found.slopes_alone["1h"].estimate == pytest.approx(2 * found.slope.estimate)


def test_the_score_of_signs_and_its_parts_by_hand() -> None:
    """0.4 is said four times and 0.6 four times at each of 60 instants; 1 and 3 of each rise."""
    signs = np.array([1, -1, -1, -1, 1, 1, 1, -1], dtype=np.float64)
    stated = honest(T=60)
    up = np.tile(np.repeat([0.4, 0.6], 4), (60, 1))
    found = report(replace(stated, up=up, outcome=np.tile(signs, (60, 1))))
    # (1 * 0.36 + 3 * 0.16 + 3 * 0.16 + 1 * 0.36) / 8
    assert found.brier.score == pytest.approx(0.21)
    assert found.brier.base == pytest.approx(0.25)
    assert found.brier.reliability == pytest.approx(0.15**2)  # 0.4 against 0.25, 0.6 against 0.75
    assert found.brier.resolution == pytest.approx(0.25**2)
    assert found.brier.within == pytest.approx(0.0, abs=1e-12)
    assert found.brier.skill.estimate == pytest.approx(0.16)
    assert found.curve.confidence.tolist() == pytest.approx([0.4, 0.6])
    assert found.curve.sizes.tolist() == [240, 240]


def test_the_parts_of_the_score_sum_to_it(right: ReliabilityReport) -> None:
    one = right.brier
    total = one.reliability - one.resolution + one.base + one.within
    assert total == pytest.approx(one.score, abs=1e-12)
    assert one.skill.estimate == pytest.approx(1 - one.score / one.base)


def test_a_bad_month_is_the_worst_window_and_stands_in_its_quarter() -> None:
    stated = honest(T=24 * 150)
    bad = (stated.at_ms >= START_MS + 100 * DAY_MS) & (stated.at_ms < START_MS + 130 * DAY_MS)
    wild = np.where(bad[:, None], 3.0, 1.0) * (stated.outcome - stated.forecast)
    found = report(replace(stated, outcome=stated.forecast + wild))
    first, adaptive = found.coverages
    assert first.worst_from_ms is not None
    assert abs(first.worst_from_ms - (START_MS + 100 * DAY_MS)) < 2 * DAY_MS
    assert first.worst < 0.5
    assert adaptive.worst > first.worst + 0.2
    assert [one.name for one in found.quarters] == ["2024-Q1", "2024-Q2"]
    assert found.quarters[0].variance_ratio == pytest.approx(1.0, abs=0.05)
    assert found.quarters[1].variance_ratio > 3.0
    assert found.quarters[1].stated_coverage < found.quarters[0].stated_coverage - 0.1
    assert sum(one.pairs for one in found.quarters) == found.pairs


def test_missing_forecasts_and_outcomes_do_not_count_and_too_few_are_refused() -> None:
    stated = honest(T=200)
    forecast, outcome = stated.forecast.copy(), stated.outcome.copy()
    forecast[:60], outcome[60:100] = np.nan, np.nan
    outcome[:, 0] = np.nan
    found = report(replace(stated, forecast=forecast, outcome=outcome))
    assert (found.instants, found.pairs) == (100, 700)
    assert found.coverages[1].share.estimate != found.coverages[1].share.estimate, "not yet"
    outcome[120:] = np.nan
    with pytest.raises(InvariantViolated, match="20 instants with forecasts and outcomes: 48"):
        report(replace(stated, forecast=forecast, outcome=outcome))


def test_the_page_shows_every_part_and_warns_of_a_table_that_states_nothing(
    right: ReliabilityReport,
) -> None:
    text = reliability_page("t.parquet", ["kind ridge"], right, True)
    parts = ("Slope", "Probability of the sign", "Outcomes within", "Intervals", "By quarter")
    for title in parts:
        assert f"<h2>{title}" in text
    assert text.count("<svg") == 4, "two charts, each for wide and narrow screens"
    assert "kind ridge" in text
    assert "says nothing of its own law" not in text
    assert "says nothing of its own law" in reliability_page("t", [], right, False)
