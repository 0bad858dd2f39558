"""Hold the fit of mean reversion to processes whose reversion is known."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain.units import HOUR_MS
from strategies.pairs import build, left_of_factors, reversion
from strategies.risk import residual_risk
from tests.strategies.views import make_view


def test_the_reversion_of_a_known_process_is_found() -> None:
    rng = np.random.default_rng(3)
    b, level, noise = 0.9, 5.0, 0.2
    x = np.full((20_000, 2), level)
    for t in range(1, len(x)):
        x[t] = level + b * (x[t - 1] - level) + noise * rng.standard_normal(2)
    found = reversion(x)
    assert found.b == pytest.approx(np.full(2, b), abs=0.01)
    assert found.level == pytest.approx(np.full(2, level), abs=0.05)
    assert found.spread == pytest.approx(np.full(2, noise / (1 - b**2) ** 0.5), rel=0.05)


def test_least_squares_are_those_of_a_library() -> None:
    x = np.cumsum(np.random.default_rng(4).standard_normal((300, 1)), axis=0)
    slope, _ = np.polyfit(x[:-1, 0], x[1:, 0], 1)
    assert reversion(x).b[0] == pytest.approx(slope, rel=1e-9)


def test_what_never_moves_or_flees_does_not_revert() -> None:
    still, fleeing = np.zeros((50, 1)), 1.1 ** np.arange(50.0)[:, None]
    assert reversion(still).spread[0] == 0.0
    assert reversion(fleeing).spread[0] == 0.0


def test_what_factors_leave_is_nothing_of_the_factors() -> None:
    rng = np.random.default_rng(5)
    shared = rng.standard_normal((400, 1)) * 0.01
    own = rng.standard_normal((400, 12)) * 1e-5
    left = left_of_factors(shared @ np.linspace(0.5, 2.0, 12)[None, :] + own, 1)
    assert np.abs(np.diff(left, axis=0)).max() < 1e-4
    assert np.abs(left[-1]).max() < 1e-10  # residuals sum to zero


@pytest.mark.parametrize("coins_n", [3, 8])
def test_with_too_few_coins_for_a_factor_there_is_no_alpha(coins_n: int) -> None:
    strategy = build({"lookback_hours": 200})
    closes = 100 * np.exp(np.cumsum(np.random.default_rng(6).normal(0, 0.01, (201, coins_n)), 0))
    view = make_view(closes, as_of_ms=201 * HOUR_MS)
    risk = residual_risk(closes, half_life_bars=48.0)
    found = strategy.alpha(strategy.settings, view, risk, np.ones(coins_n, dtype=bool))
    assert np.isnan(found).all() == (coins_n == 3)


def test_a_walk_without_reversion_is_expected_to_do_nothing() -> None:
    strategy = build({"half_life_hours_max": 1.0})
    closes = 100 * np.exp(np.cumsum(np.random.default_rng(7).normal(0, 0.01, (337, 12)), 0))
    view = make_view(closes, as_of_ms=337 * HOUR_MS)
    risk = residual_risk(closes, half_life_bars=48.0)
    found = strategy.alpha(strategy.settings, view, risk, np.ones(12, dtype=bool))
    assert not found.any()
