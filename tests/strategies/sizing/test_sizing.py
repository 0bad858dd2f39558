"""Sizing only shrinks, never gives NaN, falls as risk rises, and does to a book what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance
from daemon.domain.units import HOUR_MS
from strategies.sizing import rules
from strategies.sizing.predicted import book_variance
from strategies.sizing.settings import Sizing, SizingSettings
from strategies.sizing.sizer import Evidence, built_to_size, nothing_known, sized
from strategies.weighting import Book, long_short

NOW_MS = 1_000 * HOUR_MS
ACTIVE = (Sizing.VOLATILITY_TARGET, Sizing.KELLY, Sizing.RISK_LEVERAGE)


def drawn(seed: int, size: int) -> tuple[Floats, Evidence]:
    """Draw a dollar-neutral book and what is known of it, with gaps."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.2, size) * (rng.random(size) < 0.8)
    volatility = 10.0 ** rng.uniform(-4, -1, size)
    loadings = rng.normal(0, 1, (size, 3))
    square = loadings @ loadings.T + np.diag(rng.uniform(0.1, 3, size))
    scale = np.sqrt(np.diag(square))
    correlation = square / np.outer(scale, scale)
    unknown = rng.random(size) < 0.2
    correlation[unknown] = 0.0
    correlation[:, unknown] = 0.0
    correlation[unknown, unknown] = 1.0
    covariance = Covariance(NOW_MS, "drawn", np.where(unknown, np.nan, volatility), correlation)
    alpha = rng.normal(0, 1e-4, size)
    gaps = rng.random(size) < 0.1
    seen = Evidence(
        NOW_MS,
        1.0,
        np.where(gaps, np.nan, alpha),
        np.where(gaps, np.nan, np.square(rng.normal(0, 1e-4, size))),
        np.where(rng.random(size) < 0.2, np.nan, volatility**2),
        covariance if rng.random() < 0.8 else None,
    )
    return weights, seen


worlds = st.builds(drawn, st.integers(0, 2**32 - 1), st.integers(1, 12))
rules_of = st.sampled_from(ACTIVE)


def knobs(rule: Sizing) -> SizingSettings:
    return SizingSettings(sizing=rule, shortfall_max=0.05)


# ---- properties of every rule --------------------------------------------------------------------


@given(worlds, rules_of, st.booleans())
def test_a_multiplier_is_a_number_from_zero_to_one(
    world: tuple[Floats, Evidence], rule: Sizing, has_memory: bool
) -> None:
    weights, seen = world
    memory = np.array([1e-6, 0.4]) if has_memory else nothing_known()
    found = sized(knobs(rule), memory, weights, seen)
    assert 0.0 <= found.multiplier <= 1.0
    assert np.isfinite(found.memory[1]) or not np.isfinite(found.memory).any()


@given(worlds, rules_of, st.floats(1.0, 100.0), st.booleans())
def test_more_predicted_risk_never_raises_it(
    world: tuple[Floats, Evidence], rule: Sizing, factor: float, has_memory: bool
) -> None:
    weights, seen = world
    memory = np.array([1e-6, 0.4]) if has_memory else nothing_known()
    known = seen.covariance
    riskier = seen._replace(
        residual_variance=seen.residual_variance * factor**2,
        covariance=known
        and Covariance(NOW_MS, "drawn", known.volatility * factor, known.correlation),
    )
    calm = sized(knobs(rule), memory, weights, seen).multiplier
    assert sized(knobs(rule), memory, weights, riskier).multiplier <= calm + 1e-12


@given(worlds, rules_of, st.integers(0, 2**32 - 1))
def test_the_order_of_the_instruments_does_not_matter(
    world: tuple[Floats, Evidence], rule: Sizing, seed: int
) -> None:
    weights, seen = world
    order = np.random.default_rng(seed).permutation(len(weights))
    known = seen.covariance
    turned = Evidence(
        seen.as_of_ms,
        seen.hours,
        seen.alpha[order],
        seen.alpha_variance[order],
        seen.residual_variance[order],
        known
        and Covariance(
            NOW_MS, "drawn", known.volatility[order], known.correlation[np.ix_(order, order)]
        ),
    )
    first = sized(knobs(rule), nothing_known(), weights, seen).multiplier
    again = sized(knobs(rule), nothing_known(), weights[order], turned).multiplier
    assert again == pytest.approx(first, rel=1e-9)


# ---- predicted risk ------------------------------------------------------------------------------


@given(worlds)
def test_a_books_variance_is_the_quadratic_form(world: tuple[Floats, Evidence]) -> None:
    weights, seen = world
    known = seen.covariance
    if known is None or not np.isfinite(known.volatility).all():
        return
    expected = float(weights @ known.matrix @ weights)
    assert book_variance(weights, known, seen.residual_variance) == pytest.approx(
        expected, rel=1e-9, abs=1e-15
    )


def test_what_is_unknown_takes_residual_variance_and_then_the_largest_known() -> None:
    covariance = Covariance(NOW_MS, "x", np.array([0.02, np.nan, np.nan]), np.eye(3))
    residual = np.array([9.0, 0.01**2, np.nan])
    w = np.array([0.5, -0.3, -0.2])
    expected = 0.25 * 4e-4 + 0.09 * 1e-4 + 0.04 * 4e-4
    assert book_variance(w, covariance, residual) == pytest.approx(expected)
    assert np.isnan(book_variance(w, None, np.full(3, np.nan)))
    assert book_variance(np.zeros(3), None, np.full(3, np.nan)) == 0.0


def test_without_any_risk_the_last_multiplier_stands_and_before_any_it_is_one() -> None:
    weights, nan = np.array([0.5, -0.5]), np.full(2, np.nan)
    seen = Evidence(NOW_MS, 1.0, nan, nan, nan)
    for rule in ACTIVE:
        first = sized(knobs(rule), nothing_known(), weights, seen)
        assert first.multiplier == 1.0
        later = sized(knobs(rule), np.array([1e-5, 0.3]), weights, seen)
        assert later.multiplier == 0.3
        assert "no risk is known" in later.note


def test_a_covariance_of_long_ago_is_not_believed_and_that_is_said() -> None:
    weights, residual = np.array([0.5, -0.5]), np.full(2, 0.01**2)
    seen = Evidence(NOW_MS, 1.0, residual, residual, residual)
    wild = Covariance(NOW_MS - 7 * HOUR_MS, "x", np.full(2, 5.0), np.eye(2))
    rule = knobs(Sizing.VOLATILITY_TARGET)
    plain = sized(rule, nothing_known(), weights, seen)
    old = sized(rule, nothing_known(), weights, seen._replace(covariance=wild))
    assert old.multiplier == plain.multiplier
    assert "residual variances alone" in old.note


# ---- single rules --------------------------------------------------------------------------------


def test_the_volatility_target_is_met_exactly_and_has_a_floor() -> None:
    hourly = 0.3**2 / 8760
    assert rules.volatility_target(hourly, target=0.15) == pytest.approx(0.5)
    assert rules.volatility_target(hourly, target=0.15, least=0.6) == 0.6
    assert rules.volatility_target(hourly, target=0.5) == 1.0


def test_the_mean_of_variances_forgets_half_in_its_half_life() -> None:
    assert rules.smoothed(4.0, 2.0, hours=12.0, half_life_hours=12.0) == pytest.approx(3.0)
    assert rules.smoothed(np.nan, 2.0, hours=1.0, half_life_hours=12.0) == 2.0
    assert rules.smoothed(4.0, 2.0, hours=1.0, half_life_hours=0.0) == 2.0


def test_kelly_of_the_book_that_grows_fastest_is_its_risk_aversion() -> None:
    rng = np.random.default_rng(1)
    root = rng.normal(0, 0.01, (5, 5))
    S, alpha = root @ root.T + 1e-5 * np.eye(5), rng.normal(0, 1e-5, 5)
    gamma = 20.0
    w: Floats = np.asarray(np.linalg.solve(S, alpha) / gamma, dtype=np.float64)
    found = rules.kelly(w, alpha, np.zeros(5), float(w @ S @ w), fraction=0.01)
    assert found == pytest.approx(0.01 * gamma)
    growth = float(alpha @ np.linalg.solve(S, alpha)) / 2
    multiples = np.linspace(0, 2 * gamma, 81)
    rates = multiples * (alpha @ w) - multiples**2 * (w @ S @ w) / 2
    assert multiples[rates.argmax()] == pytest.approx(gamma)
    assert rates.max() == pytest.approx(growth)


@given(st.floats(0.1, 10.0), st.floats(0.0, 3.0))
def test_alpha_and_its_error_scale_kelly_as_the_formula_says(a: float, error: float) -> None:
    w, alpha = np.array([0.5, -0.3, -0.2]), np.array([2e-4, -1e-4, -1e-4])
    u, variance = np.full(3, (error * 1e-4) ** 2), 1e-2

    def size(alpha: Floats, u: Floats) -> float:
        return rules.kelly(w, alpha, u, variance, fraction=0.25)

    plain = size(alpha, u)
    assert size(a * alpha, a**2 * u) == pytest.approx(min(1.0, a * plain))
    m, e = float(alpha @ w), float(u @ w**2)
    assert plain == pytest.approx(0.25 * m / variance * m**2 / (m**2 + e))
    assert size(alpha, 2 * u + 1e-12) < plain
    assert size(-alpha, u) == 0.0


def test_the_shortfall_of_a_day_is_the_student_laws() -> None:
    law = stats.t(4)
    quantile = law.ppf(0.975)
    tail = law.pdf(quantile) / 0.025 * (4 + quantile**2) / 3 * np.sqrt(2 / 4)
    assert pytest.approx(tail, rel=1e-6) == rules.SHORTFALL_PER_VOLATILITY
    hourly = (0.02 / tail) ** 2 / 24  # a mean bad day of 2 %
    assert rules.risk_leverage(hourly, volatility_max=0.0, shortfall_max=0.01) == pytest.approx(0.5)
    yearly = (hourly * 8760) ** 0.5
    assert rules.risk_leverage(
        hourly, volatility_max=yearly / 4, shortfall_max=0.01
    ) == pytest.approx(0.25)
    assert rules.risk_leverage(hourly, volatility_max=0.0, shortfall_max=0.0) == 1.0


def test_a_bound_on_risk_holds_for_the_smaller_book_where_its_caps_bind_less() -> None:
    alpha = np.array([40.0, 1.0, 0.5, -0.5, -1.0, -40.0]) * 1e-4
    variance = np.array([9.0, 1.0, 1.0, 1.0, 1.0, 9.0]) * 1e-4
    everyone = np.ones(6, dtype=bool)

    def build(share: float) -> Book:
        return long_short(alpha, variance, tradable=everyone, gross=share, weight_max=0.2)

    seen = Evidence(NOW_MS, 1.0, alpha, np.zeros(6), variance)
    for bound in (0.3, 0.1, 0.02):
        wanted = SizingSettings(sizing=Sizing.RISK_LEVERAGE, volatility_max=bound)
        book, found = built_to_size(build, lambda b: b.weights, None, wanted, nothing_known(), seen)
        volatility = rules.annual_volatility(book_variance(book.weights, None, variance))
        assert volatility <= bound * (1 + 1e-6)
        assert volatility >= 0.95 * bound
        assert "risk_leverage" in found.note


def test_the_smaller_of_two_ceilings_counts() -> None:
    built: list[float] = []
    weights, variance = np.array([0.5, -0.5]), np.full(2, 0.02**2)
    seen = Evidence(NOW_MS, 1.0, variance, variance, variance)

    def build(share: float) -> Floats:
        built.append(share)
        return weights * share

    target = SizingSettings(sizing=Sizing.VOLATILITY_TARGET)
    for ceiling, expected in ((0.01, 0.01), (None, 0.15 / (0.5 * 0.02**2 * 8760) ** 0.5)):
        book, _ = built_to_size(build, lambda w: w, ceiling, target, nothing_known(), seen)
        assert built[-1] == pytest.approx(expected)
        assert book == pytest.approx(weights * expected)
    built.clear()
    built_to_size(build, lambda w: w, 7.0, SizingSettings(), nothing_known(), seen)
    assert built == [1.0]


# ---- a market whose volatility changes -----------------------------------------------------------


def realised_errors(seed: int) -> tuple[float, float]:
    """Give the mean |log(realised / target)| of weeks, with the target and without.

    Volatility of all instruments is 1, 2 or 4 times its lowest, for 10 days on average.
    """
    rng = np.random.default_rng(seed)
    hours, size, target = 60 * 7 * 24, 8, 0.15
    weights = np.array([0.125, -0.125] * (size // 2))
    lowest = target / (size * 0.125**2 * 8760) ** 0.5  # calm weeks are at the target
    regime, level = np.empty(hours), 1.0
    for t in range(hours):
        if rng.random() < 1 / 240:
            level = float(rng.choice([1.0, 2.0, 4.0]))
        regime[t] = level
    returns = lowest * regime[:, None] * rng.standard_normal((hours, size))
    settings = SizingSettings(sizing=Sizing.VOLATILITY_TARGET, volatility_target=target)
    memory, predicted = nothing_known(), np.full(size, lowest**2)
    nothing, plain = np.zeros(size), np.empty(hours)
    held = np.empty(hours)
    for t in range(hours):  # what is predicted knows the hours before t alone
        seen = Evidence(NOW_MS, 1.0, nothing, nothing, predicted)
        found = sized(settings, memory, weights, seen)
        memory = found.memory
        plain[t] = weights @ returns[t]
        held[t] = found.multiplier * plain[t]
        predicted = 0.97 * predicted + 0.03 * returns[t] ** 2
    weekly = [r.reshape(60, -1).std(axis=1) * 8760**0.5 for r in (held, plain)]
    errors = [float(np.abs(np.log(w / target)).mean()) for w in weekly]
    return errors[0], errors[1]


def test_realised_volatility_lies_nearer_to_the_target_than_without() -> None:
    errors = np.array([realised_errors(seed) for seed in range(6)])
    gains = errors[:, 1] - errors[:, 0]
    half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / len(gains) ** 0.5
    assert gains.mean() - half > 0.2  # in logarithms; without the target the error is about 0.7
    assert errors[:, 0].mean() < 0.5 * errors[:, 1].mean()
