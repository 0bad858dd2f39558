"""Hold Diebold-Mariano and the e-process to worked figures, a library and their guarantees."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.regression.linear_model import OLS

from daemon.domain.failures import InvariantViolated
from daemon.statistics.checks import Floats
from daemon.statistics.comparison import (
    anytime_comparison,
    diebold_mariano,
    e_process,
    small_sample_factor,
)

DIFFERENCES = np.array([0.5, -0.2, 0.1, 0.4, -0.3, 0.2, 0.6, -0.1, 0.0, 0.3])
ZEROS = np.zeros(10)


@pytest.mark.parametrize(
    ("horizon", "statistic", "adjusted", "p_value"),
    [(1, 1.651446, 1.566699, 0.151624), (2, 3.638034, 3.086975, 0.012993)],
)
def test_diebold_mariano_gives_the_worked_figures(
    horizon: int, statistic: float, adjusted: float, p_value: float
) -> None:
    seen = diebold_mariano(DIFFERENCES, ZEROS, horizon=horizon)
    assert seen.statistic == pytest.approx(statistic, abs=5e-7)
    assert seen.adjusted == pytest.approx(adjusted, abs=5e-7)
    # the notes round the adjusted statistic before they look p up at h = 1
    assert seen.p_value == pytest.approx(p_value, abs=5e-6)


def test_small_sample_factor_gives_the_worked_figures() -> None:
    assert small_sample_factor(100, 1) == pytest.approx(0.994987, abs=5e-7)
    assert small_sample_factor(100, 4) == pytest.approx(0.964987, abs=5e-7)


@pytest.mark.parametrize("horizon", [1, 3, 6])
def test_diebold_mariano_equals_a_regression_on_a_constant(horizon: int) -> None:
    rng = np.random.default_rng(horizon)
    noise = rng.standard_normal(200 + horizon)
    d = 0.1 + np.convolve(noise, np.ones(horizon), mode="valid")
    fit = OLS(d, np.ones(len(d))).fit(
        cov_type="HAC",
        cov_kwds={"maxlags": horizon - 1, "kernel": "uniform", "use_correction": False},
    )
    seen = diebold_mariano(d, np.zeros(len(d)), horizon=horizon)
    assert seen.statistic == pytest.approx(float(fit.tvalues[0]), rel=1e-10)


def test_changing_sides_changes_the_sign_only() -> None:
    one = diebold_mariano(DIFFERENCES, ZEROS, horizon=2)
    other = diebold_mariano(ZEROS, DIFFERENCES, horizon=2)
    assert other.adjusted == pytest.approx(-one.adjusted)
    assert other.p_value == pytest.approx(one.p_value)


def test_a_negative_variance_falls_back_to_bartlett() -> None:
    swings = np.array([1.0, -1.0] * 10) + 0.1
    seen = diebold_mariano(swings, np.zeros(20), horizon=2)
    # g0 = 1 and g1 = -19/20, so the plain sum is -0.9 and Bartlett's 1 - 0.95 = 0.05
    assert seen.bartlett
    assert seen.statistic == pytest.approx(0.1 / math.sqrt(0.05 / 20))


def test_forecasters_that_never_differ_are_not_compared() -> None:
    assert math.isnan(diebold_mariano(np.ones(5), np.zeros(5)).p_value)
    losses = np.random.default_rng(1).random(50)
    assert math.isnan(diebold_mariano(losses + 0.1, losses).p_value)  # equal but for rounding


def test_the_test_holds_its_size_with_overlapping_errors() -> None:
    rng = np.random.default_rng(12)
    noise = rng.standard_normal((400, 83))
    d = np.stack([np.convolve(row, np.ones(4), mode="valid") for row in noise])
    rejected = sum(diebold_mariano(row, np.zeros(80), horizon=4).p_value <= 0.05 for row in d)
    assert 0.02 <= rejected / 400 <= 0.12


def test_e_process_gives_the_worked_figures() -> None:
    expected = [1.09754, 1.04029, 1.06123, 1.14735, 1.07308]
    expected += [1.11656, 1.25080, 1.22326, 1.22250, 1.29709]
    assert e_process(DIFFERENCES, bound=2.0, stake=0.2) == pytest.approx(expected, abs=5.1e-6)
    assert e_process(DIFFERENCES, bound=2.0, stake=0.0).tolist() == [1.0] * 10


def _null(shape: str, rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    match shape:
        case "coin":
            return np.where(rng.random(size) < 0.5, 1.0, -1.0)
        case "skewed":  # a rare gain pays for many small losses
            return np.where(rng.random(size) < 0.1, 0.9, -0.1)
        case "dependent":  # the size of the next difference follows the last one
            d = np.where(rng.random(size) < 0.5, 1.0, -1.0)
            d[:, 1:] *= np.where(d[:, :-1] > 0, 1.0, 0.2)
            return d
    raise ValueError(shape)


@pytest.mark.parametrize("shape", ["coin", "skewed", "dependent"])
def test_evidence_under_the_null_is_not_expected_to_grow_at_any_time(shape: str) -> None:
    d = _null(shape, np.random.default_rng(21), (1_500, 60))
    evidence = np.stack([anytime_comparison(row, bound=2.0).e_values for row in d])
    means = evidence.mean(axis=0)
    errors = evidence.std(axis=0) / math.sqrt(len(d))
    assert (means <= 1.0 + 3.0 * errors).all()


@pytest.mark.parametrize("shape", ["coin", "skewed", "dependent"])
def test_looking_at_every_instant_keeps_the_promised_error(shape: str) -> None:
    d = _null(shape, np.random.default_rng(22), (400, 300))
    rejected = sum(
        anytime_comparison(row, bound=2.0, alpha=0.1).rejected_at is not None for row in d
    )
    assert rejected / 400 <= 0.1


def test_a_better_challenger_is_found_and_the_first_crossing_is_named() -> None:
    rng = np.random.default_rng(5)
    d = np.clip(0.2 + 0.4 * rng.standard_normal(400), -1.0, 1.0)
    seen = anytime_comparison(d, bound=2.0, alpha=0.05)
    at = seen.rejected_at
    assert at is not None
    assert seen.e_values[at] >= 20.0
    assert (seen.e_values[:at] < 20.0).all()
    assert anytime_comparison(-d, bound=2.0).rejected_at is None


def test_overwhelming_evidence_is_infinite_and_not_an_error() -> None:
    seen = anytime_comparison(np.ones(5_000), bound=2.0)
    assert seen.e_values[-1] == math.inf
    assert seen.rejected_at is not None
    assert seen.rejected_at < 20


def test_the_mixture_is_the_average_over_the_stakes() -> None:
    stakes = (0.1, 0.5)
    parts = [e_process(DIFFERENCES, bound=2.0, stake=s / 2.0) for s in stakes]
    seen = anytime_comparison(DIFFERENCES, bound=2.0, stakes=stakes).e_values
    assert seen == pytest.approx(np.mean(parts, axis=0), rel=1e-12)


@settings(max_examples=40)
@given(
    d=st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=40),
    change=st.floats(-1.0, 1.0),
    stake=st.floats(0.0, 0.49),
)
def test_evidence_never_knows_the_future(d: list[float], change: float, stake: float) -> None:
    one = e_process(np.array(d), bound=2.0, stake=stake)
    other = e_process(np.array([*d[:-1], change]), bound=2.0, stake=stake)
    assert one[:-1].tolist() == other[:-1].tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diebold_mariano(np.ones(3), np.ones(4)), "have 3 and 4 rows"),
        (lambda: diebold_mariano(np.ones(3), np.ones(3), horizon=3), "horizon 3: below the 3"),
        (lambda: diebold_mariano(np.ones(3), np.ones(3), horizon=0), "horizon 0: at least 1"),
        (lambda: diebold_mariano(np.array([1.0, np.inf]), np.ones(2)), "losses_a at 1 is inf"),
        (lambda: e_process(np.array([1.2]), bound=2.0, stake=0.1), "exceeds half the bound 2.0"),
        (lambda: e_process(np.array([0.2]), bound=2.0, stake=0.5), "stake 0.5: accepted is 0"),
        (lambda: e_process(np.array([0.2]), bound=0.0, stake=0.5), "bound 0.0: above 0"),
        (lambda: anytime_comparison(ZEROS, bound=2.0, stakes=()), "stakes is empty"),
        (lambda: anytime_comparison(ZEROS, bound=2.0, alpha=5.0), "alpha 5.0"),
    ],
)
def test_bad_input_is_refused_by_name(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(InvariantViolated, match=message):
        call()
