"""What is learned of a combination: scale, spread, sign, interval, and which rule to take."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from daemon.domain.bar import Floats
from daemon.domain.forecast import Reading
from strategies.combination import chance_up
from strategies.forecast.combined import (
    CHOICE_INSTANTS_MIN,
    GROUP_PAIRS,
    PAIRS_MIN,
    SCALE_MAX,
    SCALE_MIN,
    SIGN_PAIRS_MIN,
    choose,
    learn,
    sign_steps,
)
from strategies.rules import RULES, Rule, reading_problem

SLOPES = (0.03, 0.02)


def drawn(slope: float, sd: float, T: int = 4000, N: int = 10) -> tuple[Floats, Floats]:
    draw = np.random.default_rng(6)
    alpha = 0.1 * draw.standard_normal((T, N))
    return alpha, slope * alpha + sd * draw.standard_normal((T, N))


def learned(alpha: Floats, y: Floats, *, lags: int = 1) -> Reading:
    return learn(Rule.MEAN, SLOPES, {Rule.MEAN: alpha}, y, lags=lags)


def test_what_a_rule_shrank_once_too_often_is_given_back() -> None:
    """Forecasts of the right size, shrunk to a fifth by the rule, come out at their size again."""
    mean, y = drawn(1.0, 0.5)
    alphas = {Rule.MEAN: mean, Rule.STRENGTH: 0.2 * mean, Rule.GRINOLD_KAHN: 0.2 * mean}
    found = learn(Rule.STRENGTH, SLOPES, alphas, y, lags=1)
    assert found.scale == pytest.approx(5.0, rel=0.1)
    unknown = np.full_like(y, np.nan)
    assert learn(Rule.STRENGTH, SLOPES, alphas, unknown, lags=1).scale == pytest.approx(5.0)
    assert learn(Rule.GRINOLD_KAHN, SLOPES, alphas, unknown, lags=1).scale == 1.0
    larger = {Rule.MEAN: mean, Rule.STRENGTH: 2.0 * mean}
    assert learn(Rule.STRENGTH, SLOPES, larger, unknown, lags=1).scale == 1.0
    worthless = learn(Rule.STRENGTH, SLOPES, alphas, -20.0 * mean, lags=1)
    assert worthless.scale == pytest.approx(SCALE_MIN * 5.0)


def test_a_planted_misstatement_of_the_spread_is_corrected() -> None:
    alpha, y = drawn(1.0, 1.5)
    reading = learned(alpha, y)
    assert reading.outcome_variance == pytest.approx(2.25, rel=0.02)
    squared = (y - reading.scale * alpha) ** 2 / reading.outcome_variance
    assert squared.mean() == pytest.approx(1.0, abs=1e-12)
    fresh = drawn(1.0, 1.5, T=8000)[1][4000:] - drawn(1.0, 1.5, T=8000)[0][4000:]
    assert (fresh**2).mean() / reading.outcome_variance == pytest.approx(1.0, abs=0.03)
    assert reading.half_width == pytest.approx(1.645, abs=0.03)
    assert reading_problem(reading, 2) is None


def test_a_planted_misstatement_of_the_size_is_corrected_within_bounds() -> None:
    for slope, expected in ((0.5, 0.5), (2.0, 2.0), (-4.0, SCALE_MIN), (50.0, SCALE_MAX)):
        alpha, y = drawn(slope, 0.3)
        found = learned(alpha, y)
        assert found.scale == pytest.approx(expected, rel=0.05), slope
    few = learned(*drawn(3.0, 30.0, T=60), lags=6)
    assert few.scale == pytest.approx(1.0, abs=0.2), "what so few cannot tell stays near 1"


def test_without_enough_outcomes_the_prior_stands() -> None:
    alpha, y = drawn(1.0, 1.5, T=40)
    y[PAIRS_MIN // 10 - 1 :] = np.nan
    found = learned(alpha, y)
    assert (found.outcome_variance, found.up, found.edges) == (1.0, (), ())
    nothing = learned(np.full_like(alpha, np.nan), y)
    assert (nothing.scale, nothing.outcome_variance) == (1.0, 1.0)


def test_fat_tails_widen_the_interval_and_not_the_spread_alone() -> None:
    draw = np.random.default_rng(1)
    alpha = np.zeros((4000, 10)) + 0.01 * draw.standard_normal((4000, 10))
    y = draw.standard_t(3, (4000, 10))
    found = learned(alpha, y)
    half = found.half_width * np.sqrt(found.outcome_variance)
    assert np.mean(np.abs(y - found.scale * alpha) <= half) == pytest.approx(0.9, abs=1e-3)
    assert found.half_width < 1.6, "of a fat-tailed law more lies near the middle"


def test_the_sign_is_a_rising_step_function_equal_to_that_of_a_library() -> None:
    draw = np.random.default_rng(8)
    z = np.round(draw.standard_normal(20_000), 3)  # with equal values
    outcome = 0.2 * np.sin(3 * z) + 0.3 * z + draw.standard_normal(20_000)
    outcome[:100] = 0.0  # without a sign: they must not count
    edges, up = (np.array(part) for part in sign_steps(z, outcome))
    assert len(edges) == len(up) - 1
    assert (np.diff(edges) > 0).all()
    assert (np.diff(up) > 0).all()
    # the same groups by hand, and the library's fit to their shares
    keep = outcome != 0
    order = np.argsort(z[keep], kind="stable")
    x, came = z[keep][order], (outcome[keep][order] > 0).astype(float)
    parts = np.array_split(np.arange(len(x)), len(x) // GROUP_PAIRS)
    starts = np.unique([int(np.searchsorted(x, x[part[0]])) for part in parts])
    groups = np.split(np.arange(len(x)), starts[1:])
    shares = [came[rows].mean() for rows in groups]
    sizes = [len(rows) for rows in groups]
    places = np.arange(len(groups))
    fitted = IsotonicRegression().fit(places, shares, sample_weight=sizes).predict(places)
    stated = up[np.searchsorted(edges, [x[rows[0]] for rows in groups], side="right")]
    assert stated == pytest.approx(fitted, abs=1e-12)
    assert np.average(stated, weights=sizes) == pytest.approx(came.mean()), "right on average"


def test_with_few_signs_the_normal_law_stands() -> None:
    draw = np.random.default_rng(8)
    z = draw.standard_normal(SIGN_PAIRS_MIN - 1)
    assert sign_steps(z, z) == ((), ())
    assert len(sign_steps(np.append(z, 0.1), np.append(z, 0.1))[1]) > 1


def test_a_forecast_without_skill_states_no_more_than_the_base_rate() -> None:
    draw = np.random.default_rng(3)
    alpha, y = draw.standard_normal((6000, 10)), draw.standard_normal((6000, 10)) + 0.1
    reading = learned(alpha, y)
    fresh = chance_up(reading.scale * draw.standard_normal(10_000), reading)
    assert np.std(fresh) < 0.02
    assert fresh.mean() == pytest.approx(0.54, abs=0.01)  # Phi(0.1)


# ---- the choice ----------------------------------------------------------------------------------


def rules_of(noise: dict[Rule, float], T: int = 2000) -> tuple[dict[Rule, Floats], Floats]:
    draw = np.random.default_rng(4)
    truth = draw.standard_normal((T, 12))
    y = 0.1 * truth + draw.standard_normal((T, 12))
    common = draw.standard_normal((T, 12))
    alphas: dict[Rule, Floats] = {}
    for rule in RULES:
        alphas[rule] = truth + noise.get(rule, 1.0) * common + 0.1 * draw.standard_normal((T, 12))
    return alphas, y


def test_the_rule_that_leads_by_more_than_luck_is_taken() -> None:
    alphas, y = rules_of({Rule.KALMAN: 0.3, Rule.MEAN: 0.6})
    found = choose(alphas, y, lags=6)
    assert found.rule is Rule.KALMAN
    assert [one.rule for one in found.contenders] == [str(rule) for rule in RULES]
    by_rule = {one.rule: one for one in found.contenders}
    assert by_rule["strength"].lead == 0.0
    assert np.isnan(by_rule["strength"].lead_t)
    assert by_rule["kalman"].lead > by_rule["mean"].lead > 0
    assert by_rule["kalman"].score_ic == pytest.approx(
        by_rule["strength"].score_ic + by_rule["kalman"].lead
    )


def test_a_lead_that_may_be_luck_or_rests_on_little_changes_nothing() -> None:
    assert choose(*rules_of({}), lags=6).rule is Rule.STRENGTH
    alphas, y = rules_of({Rule.KALMAN: 0.0}, T=CHOICE_INSTANTS_MIN - 1)
    assert choose(alphas, y, lags=6).rule is Rule.STRENGTH
    alphas, y = rules_of({Rule.KALMAN: 0.3})
    unknown = choose(alphas, np.full_like(y, np.nan), lags=6)
    assert unknown.rule is Rule.STRENGTH
    assert {one.instants for one in unknown.contenders} == {0}
