"""A covariance in factor form is the covariance, or keeps what matters of it."""

import numpy as np
import pytest
from msgspec.structs import replace

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance
from strategies.factor_form import FACTORS_MAX, FULL_MAX, factor_form, factors_of


def covariance(n: int, seed: int = 0, factors_n: int = 3) -> Covariance:
    rng = np.random.default_rng(seed)
    loadings = 0.5 * rng.standard_normal((n, factors_n))
    loadings[:, 0] += 0.8
    whole = loadings @ loadings.T + np.diag(rng.uniform(0.3, 1.0, n))
    scale = 1.0 / np.sqrt(np.diag(whole))
    correlation = whole * scale[:, None] * scale
    np.fill_diagonal(correlation, 1.0)
    return Covariance(0, "made", rng.uniform(0.004, 0.012, n), correlation)


@pytest.mark.parametrize("n", [1, 2, 10, FULL_MAX])
def test_a_small_universe_keeps_its_whole_covariance(n: int) -> None:
    made = covariance(n)
    found = factor_form(made)
    assert found.loadings.shape[1] == n - 1
    assert found.matrix == pytest.approx(made.matrix, rel=1e-9, abs=1e-15)


def test_a_large_universe_keeps_its_variances_and_its_common_factors() -> None:
    made = covariance(200)
    found = factor_form(made)
    assert 3 <= found.loadings.shape[1] <= FACTORS_MAX
    assert found.variance == pytest.approx(made.volatility**2, rel=1e-12)
    scale = np.outer(made.volatility, made.volatility)
    off = np.abs(found.matrix / scale - made.correlation)
    assert float(off.max()) < 0.08  # what is left of three true factors is small
    weights = np.random.default_rng(1).standard_normal(200)
    assert weights @ found.matrix @ weights == pytest.approx(
        float(weights @ made.matrix @ weights), rel=0.05
    )


def test_without_common_factors_a_large_universe_has_at_most_so_many() -> None:
    noise = np.random.default_rng(0).standard_normal((400, 100))
    correlation: Floats = np.asarray(np.corrcoef(noise, rowvar=False))
    found = factor_form(Covariance(0, "noise", np.ones(100), correlation))
    assert found.loadings.shape == (100, FACTORS_MAX)


@pytest.mark.parametrize("n", [4, 80])
def test_instruments_that_move_as_one_have_specific_risk_left(n: int) -> None:
    found = factor_form(Covariance(0, "one", np.full(n, 0.01), np.ones((n, n))))
    assert (found.specific > 0).all()
    assert found.variance == pytest.approx(np.full(n, 1e-4), rel=1e-3)


def test_what_is_unknown_stays_unknown() -> None:
    made = covariance(5)
    volatility, correlation = made.volatility.copy(), made.correlation.copy()
    volatility[2] = np.nan
    correlation[2], correlation[:, 2] = np.eye(5)[2], np.eye(5)[2]
    found = factor_form(Covariance(0, "made", volatility, correlation))
    assert np.flatnonzero(np.isnan(found.specific)).tolist() == [2]
    assert np.isnan(found.loadings[2]).all()


def test_products_with_weights_are_those_of_the_matrix_and_stretching_scales_both_sides() -> None:
    found = factor_form(covariance(12))
    weights, factor = np.linspace(-1, 1, 12), np.linspace(0, 4, 12)
    assert found.times(weights) == pytest.approx(found.matrix @ weights, rel=1e-12)
    wanted = np.sqrt(factor)[:, None] * found.matrix * np.sqrt(factor)
    assert found.stretched(factor).matrix == pytest.approx(wanted, abs=1e-18)


@pytest.mark.parametrize("n", [10, 60])
def test_factors_that_came_with_a_covariance_are_taken_as_they_are(n: int) -> None:
    made = covariance(n)
    carried = replace(made, factors=factors_of(made))
    assert factor_form(carried).loadings.tobytes() == factor_form(made).loadings.tobytes()
    assert factor_form(carried).specific.tobytes() == factor_form(made).specific.tobytes()
    other = replace(made, factors=factors_of(covariance(n, seed=1)))
    assert (factor_form(other).loadings != factor_form(made).loadings).any()
