"""Hold the signal strength to its worked vectors and its promises about missing forecasts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.failures import InvariantViolated
from strategies.strength import (
    combine,
    decayed,
    filtered_signals,
    grinold_kahn,
    kalman_step,
    signals,
    updated_tau2,
)

R = np.array([[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]])
TAU2 = 9e-4
NAN = np.nan

VECTORS = {
    "agreement": (
        (0.04, 0.03, 0.05),
        (4e-4, 4e-4, 4e-4),
        {
            "magnitude": 0.04,
            "consistency": 1.0,
            "confidence": 0.771429,
            "alpha": 0.030857,
            "variance": 2.05714e-4,
            "probability": 0.984278,
            "strength": 0.030854,
        },
    ),
    "disagreement": (
        (0.04, -0.03, 0.05),
        (4e-4, 4e-4, 4e-4),
        {
            "magnitude": 0.02,
            "consistency": 0.260870,
            "confidence": 0.468208,
            "alpha": 0.009364,
            "variance": 4.7861e-4,
            "probability": 0.665686,
            "strength": 0.009362,
        },
    ),
    "doubt": (
        (0.04, 0.04, 0.04),
        (16e-4, 16e-4, 16e-4),
        {
            "confidence": 0.457627,
            "alpha": 0.018305,
            "probability": 0.796311,
            "strength": 0.018301,
        },
    ),
    "a clipped weight": (
        (0.04, 0.03, 0.05),
        (4e-4, 9e-4, 16e-4),
        {
            "magnitude": 0.038462,
            "consistency": 1.0,
            "confidence": 0.699954,
            "alpha": 0.026921,
            "strength": 0.026918,
        },
    ),
}


def column(values: tuple[float, ...]) -> np.ndarray:
    return np.array(values)[:, None]


@pytest.mark.parametrize("name", VECTORS)
def test_strength_gives_the_worked_figures(name: str) -> None:
    mean, variance, expected = VECTORS[name]
    found = signals(0, combine(column(mean), column(variance), R), TAU2)
    for field, value in expected.items():
        half_a_digit = 6e-9 if field == "variance" else 6e-7
        assert getattr(found, field)[0] == pytest.approx(value, abs=half_a_digit), field


def test_disagreement_and_variance_give_the_worked_figures() -> None:
    agreed = combine(column((0.04, 0.03, 0.05)), column((4e-4,) * 3), R)
    assert agreed.variance[0] == pytest.approx(2.66667e-4, rel=1e-5)
    assert agreed.disagreement[0] == pytest.approx(1.0)
    split = combine(column((0.04, -0.03, 0.05)), column((4e-4,) * 3), R)
    assert split.disagreement[0] == pytest.approx(19.0)
    clipped = combine(column((0.04, 0.03, 0.05)), column((4e-4, 9e-4, 16e-4)), R)
    assert clipped.variance[0] == pytest.approx(3.8580e-4, rel=1e-5)
    assert clipped.disagreement[0] == pytest.approx(0.333888, rel=1e-5)


def test_kalman_step_gives_the_worked_figures() -> None:
    one = np.array
    alpha, variance, gain = kalman_step(
        one([0.02]), one([3e-4]), one([0.05]), one([4e-4]), phi=0.9, tau2=TAU2
    )
    assert gain[0] == pytest.approx(0.508600, abs=5e-7)
    assert alpha[0] == pytest.approx(0.034275, abs=5e-7)
    assert variance[0] == pytest.approx(2.0344e-4, abs=5e-9)
    predicted, spread, _ = kalman_step(
        one([0.02]), one([3e-4]), one([NAN]), one([NAN]), phi=0.9, tau2=TAU2
    )
    assert predicted[0] == pytest.approx(0.018)
    assert spread[0] == pytest.approx(4.14e-4)


def test_grinold_kahn_gives_the_worked_figures() -> None:
    omega = np.array([[1.0, 0.7, 0.5], [0.7, 1.0, 0.6], [0.5, 0.6, 1.0]])
    weights, combined = grinold_kahn(np.array([0.03, 0.025, 0.02]), omega)
    assert weights == pytest.approx([0.69725, 0.16055, 0.14220], abs=5e-6)
    assert combined == pytest.approx(0.030759, abs=5e-7)


@given(m=st.floats(-0.2, 0.2), v=st.floats(1e-6, 1e-2), tau2=st.floats(1e-6, 1e-2))
def test_without_persistence_the_filter_is_plain_shrinkage(m: float, v: float, tau2: float) -> None:
    combined = combine(np.array([[m]]), np.array([[v]]), np.ones((1, 1)))
    plain = signals(0, combined, tau2)
    noise = combined.inflated_variance
    alpha, variance, gain = kalman_step(
        np.array([0.7]), np.array([0.1]), combined.magnitude, noise, phi=0.0, tau2=tau2
    )
    filtered = filtered_signals(0, combined, gain, alpha, variance)
    assert filtered.alpha == pytest.approx(plain.alpha, rel=1e-9, abs=1e-15)
    assert filtered.variance == pytest.approx(plain.variance, rel=1e-9)
    assert filtered.strength == pytest.approx(plain.strength, rel=1e-9, abs=1e-15)


def test_a_missing_timeframe_drops_out_instead_of_counting_as_zero() -> None:
    mean = np.array([[0.09, 0.04], [-0.08, 0.03], [NAN, 0.05]])
    variance = np.array([[4e-4, 4e-4], [9e-4, 4e-4], [4e-4, NAN]])
    two = combine(mean[:2, :1], variance[:2, :1], R[:2, :2])
    both = combine(mean, variance, R)
    assert both.magnitude[0] == pytest.approx(two.magnitude[0], rel=1e-12)
    assert both.variance[0] == pytest.approx(two.variance[0], rel=1e-12)
    assert both.consistency[0] == pytest.approx(two.consistency[0], rel=1e-12)
    assert two.consistency[0] < 0.5
    # a mean without its variance is no forecast either
    assert both.magnitude[1] == pytest.approx(0.035)


def test_an_instrument_without_any_forecast_has_no_signal() -> None:
    mean = np.array([[NAN, 0.01], [NAN, 0.02]])
    found = signals(0, combine(mean, np.full((2, 2), 1e-4), R[:2, :2]), TAU2)
    for field in ("magnitude", "consistency", "confidence", "alpha", "probability", "strength"):
        assert np.isnan(getattr(found, field)[0]), field
        assert np.isfinite(getattr(found, field)[1]), field


def test_a_remembered_alpha_gives_no_signal_without_a_forecast_now() -> None:
    combined = combine(np.array([[NAN, 0.01]]), np.full((1, 2), 1e-4), np.ones((1, 1)))
    belief = np.array([0.03, 0.03])
    found = filtered_signals(0, combined, belief, belief, belief)
    assert np.isnan(found.alpha[0])
    assert found.alpha[1] == 0.03


@given(
    mean=st.lists(st.floats(-0.3, 0.3), min_size=3, max_size=3),
    sd=st.lists(st.floats(1e-3, 0.3), min_size=3, max_size=3),
    off=st.floats(-0.3, 0.9),
)
def test_signals_stay_in_their_ranges(mean: list[float], sd: list[float], off: float) -> None:
    R_any = np.where(np.eye(3, dtype=bool), 1.0, off)
    found = signals(0, combine(column(tuple(mean)), column(tuple(sd)) ** 2, R_any), TAU2)
    assert min(mean) - 1e-12 <= found.magnitude[0] <= max(mean) + 1e-12
    assert 0 < found.consistency[0] <= 1
    assert 0 < found.confidence[0] < 1
    assert abs(found.alpha[0]) <= abs(found.magnitude[0])
    assert 0.5 <= found.probability[0] <= 1
    assert found.strength[0] >= 0


def test_an_exact_forecast_does_not_break_the_sums() -> None:
    found = combine(column((0.04, 0.01, 0.0)), column((0.0, 4e-4, 4e-4)), R)
    assert found.magnitude[0] == pytest.approx(0.04, abs=1e-5)


def test_stale_forecasts_fade_and_grow_less_certain() -> None:
    mean, variance = decayed(
        np.array([0.04, NAN]), np.array([4e-4, 4e-4]), age_hours=2.0, phi=0.9, tau2=TAU2
    )
    assert mean[0] == pytest.approx(0.0324)
    assert variance[0] == pytest.approx(0.6561 * 4e-4 + 0.3439 * 9e-4)
    assert np.isnan(mean[1])
    fresh, spread = decayed(np.array([0.04]), np.array([4e-4]), age_hours=0.0, phi=0.9, tau2=TAU2)
    assert (fresh[0], spread[0]) == (0.04, 4e-4)


def test_tau2_moves_towards_the_spread_that_noise_does_not_explain() -> None:
    mean = np.array([[0.05, -0.05, 0.02, NAN]])
    combined = combine(mean, np.full((1, 4), 1e-4), np.ones((1, 1)))
    seen = float(np.var([0.05, -0.05, 0.02], ddof=1)) - 1e-4
    assert updated_tau2(TAU2, combined, keep=0.9) == pytest.approx(0.9 * TAU2 + 0.1 * seen)
    noisy = combine(mean, np.full((1, 4), 1.0), np.ones((1, 1)))
    assert updated_tau2(TAU2, noisy, keep=0.0) == pytest.approx(0.005**2)
    few = combine(mean[:, 2:], np.full((1, 2), 1e-4), np.ones((1, 1)))
    assert updated_tau2(TAU2, few, keep=0.0) == TAU2


def test_wrong_shapes_and_negative_variances_are_refused() -> None:
    with pytest.raises(InvariantViolated, match="variance shape"):
        combine(np.zeros((3, 2)), np.zeros((2, 2)), R)
    with pytest.raises(InvariantViolated, match="disagreement shape"):
        combine(np.zeros((2, 2)), np.zeros((2, 2)), R)
    with pytest.raises(InvariantViolated, match="negative"):
        combine(np.zeros((3, 1)), np.full((3, 1), -1.0), R)
    with pytest.raises(InvariantViolated, match="cancel"):
        grinold_kahn(np.array([1.0, -1.0]), np.eye(2))
