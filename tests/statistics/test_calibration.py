"""Hold calibration to worked figures, to statsmodels and scikit-learn, and to planted truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from statsmodels.regression.linear_model import OLS
from statsmodels.tools.tools import add_constant

from daemon.domain.failures import InvariantViolated
from daemon.statistics.calibration import isotonic, mincer_zarnowitz, reliability
from daemon.statistics.checks import Floats


def _forecasts(slope: float, T: int = 400) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(3)
    forecast = rng.standard_normal(T) * 0.01
    return forecast, slope * forecast + 0.02 * rng.standard_normal(T) + 0.001


def _coins(rng: np.random.Generator, n: int) -> Floats:
    return (rng.random(n) < 0.5).astype(np.float64)


@pytest.mark.parametrize("lags", [0, 3, 11])
def test_slopes_and_errors_equal_those_of_statsmodels(lags: int) -> None:
    f, y = _forecasts(0.7)
    fit = OLS(y, add_constant(f)).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False}
    )
    seen = mincer_zarnowitz(f, y, lags=lags)
    assert (seen.intercept, seen.slope) == pytest.approx(tuple(fit.params), rel=1e-9)
    assert (seen.intercept_error, seen.slope_error) == pytest.approx(tuple(fit.bse), rel=1e-9)
    wald = fit.wald_test((np.eye(2), np.array([0.0, 1.0])), use_f=False, scalar=True)
    assert seen.p_calibrated == pytest.approx(float(wald.pvalue), rel=1e-8)


def test_forecasts_that_are_twice_too_bold_have_half_the_slope_and_are_called_out() -> None:
    f, y = _forecasts(1.0, 4_000)
    honest, bold = mincer_zarnowitz(f, y - 0.001), mincer_zarnowitz(2.0 * f, y - 0.001)
    assert bold.slope == pytest.approx(honest.slope / 2.0)
    assert honest.p_calibrated > 0.05
    assert bold.p_calibrated < 1e-6


def test_without_variation_or_error_there_is_no_test() -> None:
    assert math.isnan(mincer_zarnowitz(np.ones(9), np.arange(9.0)).slope)
    exact = mincer_zarnowitz(np.arange(8.0), 2.0 * np.arange(8.0))
    assert exact.slope == pytest.approx(2.0)
    assert exact.slope_error == pytest.approx(0.0, abs=1e-12)


def test_reliability_equals_scikit_learn_with_bins_of_equal_mass() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(1_000)
    y = (rng.random(1_000) < p**2).astype(float)
    frequency, confidence = calibration_curve(y, p, n_bins=10, strategy="quantile")
    seen = reliability(p, y, bins=10)
    assert seen.sizes.tolist() == [100] * 10
    assert seen.frequency == pytest.approx(frequency, rel=1e-12)
    assert seen.confidence == pytest.approx(confidence, rel=1e-12)
    assert seen.ece == pytest.approx(np.abs(frequency - confidence).mean(), rel=1e-12)


def test_ece_of_four_forecasts_is_as_computed_by_hand() -> None:
    seen = reliability(np.array([0.9, 0.2, 0.8, 0.1]), np.array([1.0, 0.0, 0.0, 0.0]), bins=2)
    # bins 0.15 against 0, and 0.85 against 0.5
    assert seen.ece == pytest.approx(0.5 * 0.15 + 0.5 * 0.35)


def test_equal_probabilities_share_a_bin_whatever_their_order() -> None:
    p = np.array([0.5] * 7 + [0.9] * 3)
    y = np.array([1.0, 0, 1, 0, 1, 0, 1, 1, 1, 0])
    seen = reliability(p, y, bins=5)
    assert seen.sizes.tolist() == [7, 3]
    order = np.random.default_rng(1).permutation(10)
    assert reliability(p[order], y[order], bins=5).ece == pytest.approx(seen.ece)


def test_a_perfect_forecaster_has_the_ece_that_the_docstring_states() -> None:
    rng = np.random.default_rng(2)
    seen = [
        reliability(np.linspace(0.4999, 0.5001, 2_000), _coins(rng, 2_000)).ece for _ in range(60)
    ]
    assert np.mean(seen) == pytest.approx(0.8 * math.sqrt(10 * 0.25 / 2_000), rel=0.1)


def test_isotonic_gives_the_worked_figures() -> None:
    seen = isotonic(np.arange(6.0), np.array([0.0, 0.5, 0.3, 0.4, 1.0, 0.7]))
    assert seen.values == pytest.approx([0.0, 0.4, 0.4, 0.4, 0.85, 0.85])


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(st.integers(-5, 5), st.floats(-10.0, 10.0)), min_size=1, max_size=40)
)
def test_isotonic_never_falls_and_equals_scikit_learn_with_ties_too(
    rows: list[tuple[int, float]],
) -> None:
    x, y = np.array(rows, dtype=float).T
    seen = isotonic(x, y)
    assert (np.diff(seen.values) >= 0.0).all()
    grid = np.linspace(-6.0, 6.0, 49)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(x, y).predict(grid)
    assert seen.apply(grid) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mincer_zarnowitz(np.ones(3), np.ones(3)), "forecast has 3 rows: at least 4"),
        (lambda: mincer_zarnowitz(np.ones(4), np.ones(4), lags=4), "lags 4: accepted are 0 to 3"),
        (lambda: reliability(np.array([1.2]), np.ones(1), bins=1), "lies outside 0 to 1"),
        (lambda: reliability(np.array([0.2]), np.array([0.5]), bins=1), "other numbers than 0"),
        (lambda: reliability(np.array([0.2]), np.ones(1), bins=2), "has 1 rows: at least 2"),
        (lambda: isotonic(np.ones(2), np.ones(3)), "have 2 and 3 rows"),
        (lambda: isotonic(np.array([np.nan]), np.ones(1)), "scores at 0 is nan"),
    ],
)
def test_bad_input_is_refused_by_name(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(InvariantViolated, match=message):
        call()
