"""Hold GARCH to the arch library, its slope to small differences, its steps to worked figures."""

import warnings

import numpy as np
import pytest
from arch import arch_model
from arch.data import sp500

from daemon.domain.bar import Floats
from strategies.covariance.garch import (
    START,
    Garch,
    GarchVolatility,
    first_variance,
    fit_garch,
    likelihood,
)
from tests.strategies.covariance.returns import drawn


@pytest.fixture(scope="module")
def index_returns() -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prices = sp500.load()["Adj Close"].to_numpy(dtype=np.float64)
    return np.asarray(100.0 * (prices[1:] / prices[:-1] - 1.0))


def test_the_published_fit_of_the_index_is_found(index_returns: Floats) -> None:
    assert len(index_returns) == 5_030
    found = fit_garch(index_returns, with_mean=True, is_asymmetric=False, has_heavy_tails=False)
    plain = [found.mu, found.omega, found.alpha, found.beta]
    assert plain == pytest.approx([0.05635, 0.01751, 0.10215, 0.88521], abs=2e-5)
    assert found.likelihood == pytest.approx(-6936.718, abs=1e-3)


@pytest.mark.parametrize(("asymmetric", "tails"), [(False, True), (True, False), (True, True)])
def test_every_kind_is_as_likely_as_what_arch_finds(
    index_returns: Floats, asymmetric: bool, tails: bool
) -> None:
    r = index_returns[-1_500:]
    theirs = arch_model(r, p=1, o=int(asymmetric), q=1, dist="t" if tails else "normal").fit(
        disp="off"
    )
    ours = fit_garch(r, with_mean=True, is_asymmetric=asymmetric, has_heavy_tails=tails)
    assert ours.likelihood == pytest.approx(theirs.loglikelihood, abs=0.05)
    assert ours.beta == pytest.approx(theirs.params["beta[1]"], abs=0.01)
    news = theirs.params["alpha[1]"] + theirs.params.get("gamma[1]", 0.0) / 2
    assert ours.alpha + ours.gamma / 2 == pytest.approx(news, abs=0.01)
    if tails:
        assert ours.nu == pytest.approx(theirs.params["nu"], rel=0.05)


@pytest.mark.parametrize("tails", [True, False])
def test_the_slope_is_that_of_small_differences(tails: bool) -> None:
    rng = np.random.default_rng(0)
    r = rng.standard_t(5, 300)
    for _ in range(5):
        u = np.array(START) + 0.3 * rng.standard_normal(6)
        _, slope = likelihood(u, r, has_heavy_tails=tails)
        for k in range(6):
            change = 1e-6 * np.eye(6)[k]
            up, _ = likelihood(u + change, r, has_heavy_tails=tails)
            down, _ = likelihood(u - change, r, has_heavy_tails=tails)
            assert slope[k] == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-3)


def planted(T: int, asymmetric: bool, seed: int = 3) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    omega, alpha, gamma, beta = 2e-6, 0.06, 0.08 * asymmetric, 0.88
    h, r, level = np.zeros(T), np.zeros(T), 2.5e-5
    for t in range(T):
        h[t] = level
        r[t] = np.sqrt(level) * rng.standard_normal()
        level = omega + (alpha + gamma * (r[t] < 0)) * r[t] ** 2 + beta * level
    return r, h


@pytest.mark.parametrize("asymmetric", [False, True])
def test_a_planted_process_is_found_in_any_unit(asymmetric: bool) -> None:
    r, _ = planted(8_000, asymmetric)
    fits = [
        fit_garch(u * r, with_mean=False, is_asymmetric=asymmetric, has_heavy_tails=True)
        for u in (1.0, 1e4)
    ]
    for fit in fits:
        assert fit.beta == pytest.approx(0.88, abs=0.03)
        assert fit.alpha == pytest.approx(0.06, abs=0.03)
        assert fit.gamma == pytest.approx(0.08 * asymmetric, abs=0.04)
        assert fit.nu > 20
    assert fits[1].omega == pytest.approx(1e8 * fits[0].omega, rel=1e-3)


def test_steps_are_the_recursion_of_the_fit() -> None:
    r, h = planted(3_000, asymmetric=True)
    model = GarchVolatility(is_asymmetric=True)
    foreseen = model.begin(r[:, None])[:, 0]
    assert np.isnan(foreseen[:24]).all()
    fit: Garch = fit_garch(r, with_mean=False, is_asymmetric=True, has_heavy_tails=True)
    level = first_variance(r)
    for t in range(len(r)):
        if t >= 24:
            assert foreseen[t] == pytest.approx(level, rel=1e-9)
        level = fit.omega + (fit.alpha + fit.gamma * (r[t] < 0)) * r[t] ** 2 + fit.beta * level
    assert model.variance()[0] == pytest.approx(level, rel=1e-9)
    assert np.mean(np.abs(foreseen[100:] / h[100:] - 1.0)) < 0.15


def test_a_short_history_borrows_the_shape_of_the_others_and_keeps_its_own_level() -> None:
    returns = drawn(600, 4)
    returns[:500, 3] = np.nan
    model = GarchVolatility(is_asymmetric=False)
    foreseen = model.begin(returns)
    assert np.isnan(foreseen[:524, 3]).all()
    own = np.nanmean(returns[:, 3] ** 2)
    assert 0.2 * own < model.variance()[3] < 5 * own


def test_a_missing_bar_is_passed_over() -> None:
    returns = drawn(600, 2)
    model, other = (GarchVolatility(is_asymmetric=False) for _ in range(2))
    model.begin(returns)
    other.begin(returns)
    before = model.variance()
    model.step(np.array([np.nan, 0.01]))
    other.step(np.array([0.05, 0.01]))
    assert model.variance()[0] == before[0]
    assert model.variance()[1] == other.variance()[1] != before[1]


def test_instruments_that_never_moved_have_no_variance() -> None:
    model = GarchVolatility(is_asymmetric=False)
    model.begin(np.zeros((400, 2)))
    np.testing.assert_array_equal(model.variance(), [0.0, 0.0])
