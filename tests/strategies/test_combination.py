"""The rules of combination: worked figures, ages, absent timeframes, and what a model says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from daemon.domain.bar import Floats
from daemon.domain.failures import InvariantViolated
from daemon.domain.forecast import Reading
from strategies import combination, strength
from strategies.combination import Belief, Blend, Forecasts
from strategies.forecast.calibration import disagreement
from strategies.rules import RULES, Rule, reading_problem

NAN = np.nan
TAU2 = 9e-4
OMEGA = np.array([[1.0, 0.7, 0.5], [0.7, 1.0, 0.6], [0.5, 0.6, 1.0]])
IC = (0.03, 0.025, 0.02)


def blended(
    mean: Floats, variance: Floats, ages: tuple[float, ...], *, phi: float = 0.9
) -> tuple[Belief, Blend]:
    N = mean.shape[1]
    belief = Belief(TAU2, np.full(N, NAN), np.full(N, NAN))
    forecasts = Forecasts(mean, variance, np.array(ages))
    return combination.blend(belief, forecasts, None, hours=1.0, phi=phi)


def alpha(made: Blend, rule: Rule, slopes: tuple[float, ...] | None = None) -> Floats:
    return combination.signals(made, 7, rule, slopes).alpha


def test_the_mean_counts_the_forecasts_that_are_there_and_ages_them() -> None:
    mean = np.array([[0.04, 0.04, NAN], [0.02, NAN, NAN], [0.09, 0.08, NAN]])
    _, made = blended(mean, np.full((3, 3), 4e-4), (0.0, 1.0, 2.0))
    found = combination.signals(made, 7, Rule.MEAN)
    # by hand: 0.04, 0.9 * 0.02 = 0.018, 0.81 * 0.09 = 0.0729; and 0.04, 0.81 * 0.08 = 0.0648
    assert found.alpha[:2] == pytest.approx([(0.04 + 0.018 + 0.0729) / 3, (0.04 + 0.0648) / 2])
    assert np.isnan(found.alpha[2])
    assert np.isnan(found.probability[2])
    assert found.confidence[:2].tolist() == [1.0, 1.0]
    # variances age too: of two with correlation 0.5, a quarter of v1 + v2 + sqrt(v1 v2)
    v = 0.6561 * 4e-4 + (1 - 0.6561) * TAU2
    assert found.variance[1] == pytest.approx((4e-4 + v + np.sqrt(4e-4 * v)) / 4)


def test_a_timeframe_that_is_too_old_says_nothing() -> None:
    mean, variance = np.array([[0.04], [0.9]]), np.full((2, 1), 4e-4)
    _, both = blended(mean, variance, (0.0, NAN))
    _, alone = blended(mean[:1], variance[:1], (0.0,))
    for rule in RULES:
        assert alpha(both, rule) == pytest.approx(alpha(alone, rule)), rule


def test_grinold_kahn_gives_the_worked_weights() -> None:
    """One forecast of unit size at a time: its alpha is its row of Omega^-1 IC."""
    mean = np.diag(IC)
    _, made = blended(np.where(mean == 0.0, 0.0, mean), np.full((3, 3), 1e-4), (0.0, 0.0, 0.0))
    pulled = alpha(replace(made, correlation=OMEGA), Rule.GRINOLD_KAHN, IC)
    assert pulled / pulled.sum() == pytest.approx([0.69725, 0.16055, 0.14220], abs=5e-6)
    # its IC is what it says of itself: sqrt(IC' Omega^-1 IC)
    assert np.sqrt(np.asarray(IC) @ pulled) == pytest.approx(0.030759, abs=5e-7)


def test_grinold_kahn_regresses_on_what_is_there() -> None:
    mean = np.array([[0.03, 0.03], [NAN, 0.01]])
    _, made = blended(mean, np.full((2, 2), 1e-4), (0.0, 0.0))
    # alone a calibrated mean is the alpha itself, also beside one whose slope is 0
    assert alpha(made, Rule.GRINOLD_KAHN, (0.03, 0.02))[0] == pytest.approx(0.03)
    assert alpha(made, Rule.GRINOLD_KAHN, (0.03, 0.0)) == pytest.approx([0.03, 0.03])
    # without slopes all count as equal: with correlation 0.5 the sum of both times 1 / 1.5
    assert alpha(made, Rule.GRINOLD_KAHN)[1] == pytest.approx(0.04 / 1.5)
    with pytest.raises(InvariantViolated, match="3 slopes for 2 timeframes"):
        alpha(made, Rule.GRINOLD_KAHN, IC)


def test_grinold_kahn_turns_no_forecast_round() -> None:
    """Alike to 0.8, one of hardly any worth: the regression would trade against it the most."""
    mean = np.array([[0.001], [0.02], [0.02]])
    slopes = (0.0005, 0.02, 0.02)
    _, made = blended(mean, np.full((3, 1), 1e-4), (0.0, 0.0, 0.0))
    made = replace(made, correlation=0.8 + 0.2 * np.eye(3))
    found = alpha(made, Rule.GRINOLD_KAHN, slopes)
    assert found == pytest.approx(alpha(made, Rule.GRINOLD_KAHN, (0.0, 0.02, 0.02)))
    assert found[0] == pytest.approx(0.04 / 1.8)
    # of two that are weak only the strong one is left, and its mean is the alpha
    assert alpha(made, Rule.GRINOLD_KAHN, (0.0005, 0.0006, 0.02)) == pytest.approx([0.02])


def test_the_filter_gives_the_worked_figures_through_the_rule() -> None:
    belief = Belief(TAU2, np.array([0.02]), np.array([3e-4]))
    forecasts = Forecasts(np.array([[0.05]]), np.array([[4e-4]]), np.zeros(1))
    after, made = combination.blend(belief, forecasts, None, hours=1.0, phi=0.9)
    found = combination.signals(made, 7, Rule.KALMAN)
    assert found.alpha[0] == pytest.approx(0.034275, abs=5e-7)
    assert found.confidence[0] == pytest.approx(0.508600, abs=5e-7)
    assert after.alpha[0] == found.alpha[0]
    assert after.variance[0] == pytest.approx(2.0344e-4, abs=5e-9)
    # two hours later it has forgotten more
    _, later = combination.blend(after, forecasts, None, hours=2.0, phi=0.9)
    gain = combination.signals(later, 8, Rule.KALMAN).confidence[0]
    predicted = 0.9**4 * after.variance[0] + (1 - 0.9**4) * after.tau2
    assert gain == pytest.approx(predicted / (predicted + 4e-4))


def test_strength_is_the_formula_of_its_own_module() -> None:
    rng = np.random.default_rng(3)
    mean, variance = 0.03 * rng.standard_normal((3, 9)), rng.uniform(1e-4, 9e-4, (3, 9))
    after, made = blended(mean, variance, (0.0, 0.0, 0.0))
    R = np.where(np.eye(3, dtype=bool), 1.0, combination.DISAGREEMENT_PRIOR)
    plain = strength.signals(7, strength.combine(mean, variance, R), after.tau2)
    assert alpha(made, Rule.STRENGTH) == pytest.approx(plain.alpha, rel=1e-12)


def test_the_errors_correlate_as_was_measured_and_told() -> None:
    """They were drawn half-way to their mean where they were measured: once is enough."""
    draw = np.random.default_rng(5)
    common = draw.standard_normal((4000, 9))
    first, second = (common + 0.5 * draw.standard_normal((4000, 9)) for _ in range(2))
    told = disagreement([first, second, draw.standard_normal((4000, 9))])
    # raw 0.8, 0, 0 has the mean 0.267: half-way lie 0.533, 0.133, 0.133
    assert told[0, 1:] == pytest.approx([0.533, 0.133], abs=0.01)
    belief = Belief(TAU2, np.full(1, NAN), np.full(1, NAN))
    forecasts = Forecasts(np.full((3, 1), 0.04), np.full((3, 1), 4e-4), np.zeros(3))
    _, made = combination.blend(belief, forecasts, told, hours=1.0, phi=0.9)
    assert np.array_equal(made.correlation, told)
    pull = np.linalg.inv(told).sum(axis=1)
    assert made.combined.variance[0] == pytest.approx(4e-4 / pull.sum())


def test_auto_is_what_the_model_names_and_strength_without_a_model() -> None:
    reading = Reading("kalman", (0.03,))
    assert combination.resolved(Rule.AUTO, None) == (Rule.STRENGTH, None)
    assert combination.resolved(Rule.AUTO, reading) == (Rule.KALMAN, reading)
    # what was learned for another rule does not hold for this one
    assert combination.resolved(Rule.MEAN, reading) == (Rule.MEAN, None)
    assert combination.resolved(Rule.KALMAN, reading) == (Rule.KALMAN, reading)
    _, made = blended(np.array([[0.1]]), np.array([[1e-4]]), (0.0,))
    with pytest.raises(InvariantViolated, match="auto names no rule"):
        combination.signals(made, 7, Rule.AUTO)


def test_a_reading_scales_the_belief_and_states_sign_and_interval() -> None:
    _, made = blended(np.array([[0.4, -0.4, NAN]]), np.full((1, 3), 1e-4), (0.0,))
    plain = combination.signals(made, 7, Rule.MEAN)
    reading = Reading(
        "mean", (0.03,), scale=0.5, outcome_variance=4.0, edges=(0.0,), up=(0.45, 0.6)
    )
    found = combination.read(plain, reading)
    assert found.alpha[:2] == pytest.approx([0.2, -0.2])
    assert found.variance[0] == pytest.approx(0.25 * plain.variance[0])
    assert found.up is not None
    assert found.half_width is not None
    assert found.up[:2].tolist() == [0.6, 0.45]
    assert found.chance[:2] == pytest.approx([0.6, 0.55])
    assert found.half_width[:2] == pytest.approx([2 * 1.6449] * 2, abs=1e-4)
    assert np.isnan(found.up[2])
    assert np.isnan(found.half_width[2])
    assert combination.read(plain, None) is plain
    assert plain.chance.tolist()[:2] == plain.probability.tolist()[:2]


def test_without_steps_the_sign_follows_the_normal_law() -> None:
    up = combination.chance_up(np.array([0.0, 2.0, -2.0, NAN]), Reading("mean", ()))
    assert up[:3] == pytest.approx([0.5, 0.977250, 0.022750], abs=1e-6)
    assert np.isnan(up[3])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rule": "vote"}, "rule 'vote': known are strength, mean"),
        ({"slopes": (0.1,)}, "1 slopes for 2 timeframes"),
        ({"outcome_variance": 0.0}, "none above 0"),
        ({"scale": float("nan")}, "not finite"),
        ({"half_width": -1.0}, "none above 0"),
        ({"edges": (NAN,), "up": (0.4, 0.6)}, "not finite"),
        ({"coverage": 1.5}, "a share of 1.5"),
        ({"coverage": NAN}, "a share of nan"),
        ({"edges": (0.0,)}, "1 edges for 0 steps"),
        ({"edges": (0.0,), "up": (0.6, 0.4)}, "falls"),
        ({"edges": (0.0,), "up": (0.6, 1.4)}, "or is none"),
    ],
)
def test_a_reading_that_cannot_be_is_told(changes: dict[str, object], why: str) -> None:
    good = Reading("mean", (0.1, 0.2))
    assert reading_problem(good, 2) is None
    assert why in str(reading_problem(replace(good, **changes), 2))  # type: ignore[arg-type]
