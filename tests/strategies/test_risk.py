"""Hold residual risk to what was planted in the prices, causally."""

import numpy as np
import pytest

from daemon.domain.bar import Floats
from daemon.domain.failures import InvariantViolated
from strategies.risk import residual_risk


def planted(bars: int = 4_000, seed: int = 3) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(seed)
    sigma = np.array([0.004, 0.008, 0.012, 0.006, 0.01, 0.005])
    beta = np.array([0.6, 1.0, 1.4, 0.8, 1.2, 1.0])
    market = 0.01 * rng.standard_normal(bars)
    noise = sigma * rng.standard_normal((bars, 6))
    noise -= noise.mean(axis=1)[:, None]
    returns = market[:, None] * beta + noise
    return 100 * np.exp(np.cumsum(returns, axis=0)), noise.std(axis=0), beta


def test_planted_volatility_and_beta_are_found() -> None:
    closes, sigma, beta = planted()
    found = residual_risk(closes, half_life_bars=2_000)
    assert found.beta == pytest.approx(0.7 * beta + 0.3, abs=0.03)
    # beta shrunk by 0.3 leaves a little of the market in the residual
    leak = 0.3 * (beta - 1.0) * 0.01
    assert found.volatility == pytest.approx(np.hypot(sigma, leak), rel=0.05)


def test_missing_bars_are_left_out_and_short_histories_have_no_risk() -> None:
    closes, _, _ = planted(169)
    holes = closes.copy()
    holes[40:45, 1] = np.nan
    holes[:150, 2] = np.nan
    full, found = (residual_risk(c, half_life_bars=48) for c in (closes, holes))
    assert np.isnan(found.volatility[2])
    assert np.isnan(found.beta[2])
    assert found.volatility[1] == pytest.approx(full.volatility[1], rel=0.3)
    assert np.isfinite(found.volatility[[0, 1, 3, 4, 5]]).all()


def test_a_stalled_price_is_not_riskless_and_a_dead_market_has_no_risk_to_size_by() -> None:
    closes, _, _ = planted(169)
    closes[:, 4] = 50.0
    found = residual_risk(closes, half_life_bars=48)
    assert found.volatility[4] >= 0.1 * np.median(found.volatility) > 0
    assert np.isnan(residual_risk(np.full((169, 3), 7.0), half_life_bars=48).volatility).all()


def test_recent_returns_weigh_more() -> None:
    closes, _, _ = planted(169)
    wild = closes.copy()
    wild[-20:, 0] *= np.exp(np.cumsum(np.tile([0.05, -0.05], 10)))
    calm_then_wild = residual_risk(wild, half_life_bars=10).volatility[0]
    assert calm_then_wild > residual_risk(wild, half_life_bars=1_000).volatility[0]


def test_a_half_life_must_be_positive() -> None:
    with pytest.raises(InvariantViolated, match="half-life of 0"):
        residual_risk(np.ones((5, 2)), half_life_bars=0)


def test_a_history_too_short_for_everyone_gives_no_risk_at_all() -> None:
    closes, _, _ = planted(20)
    found = residual_risk(closes, half_life_bars=48)
    assert np.isnan(found.volatility).all()
    assert np.isnan(found.beta).all()
