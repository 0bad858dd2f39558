"""Hold a book that is not traded to its neutrality: drift inside the bounds, corrected beyond."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from daemon.domain.bar import Floats
from daemon.domain.units import HOUR_MS
from strategies.factors import exposures
from strategies.holding import DRIFT_SHARE_MAX, FACTOR_DRIFT_SHARE_MAX, kept_neutral
from strategies.neutral import NeutralSettings, NeutralStrategy
from strategies.registry import make_strategy
from strategies.risk import residual_risk
from tests.strategies.views import HOUR, make_view

NEAR = 1e-9


@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(0, 3), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_kept_book_is_inside_its_bounds_and_no_leg_grows(
    seed: int, size: int, factors_n: int, closes: bool
) -> None:
    rng = np.random.default_rng(seed)
    held = rng.normal(0.0, 0.1, size) * (rng.random(size) < 0.8)
    eligible = rng.random(size) > (0.2 if closes else -1.0)
    factors = np.column_stack([np.ones((size, 0)), rng.normal(0.5, 1.0, (size, factors_n))])
    found = kept_neutral(held, eligible, factors)
    gross = float(np.abs(held[eligible]).sum())
    assert not found[~eligible].any()
    assert (np.abs(found) <= np.abs(held) + NEAR).all()
    assert (found * held >= 0.0).all()
    assert abs(float(found.sum())) <= DRIFT_SHARE_MAX * gross + NEAR
    assert (np.abs(factors.T @ found) <= FACTOR_DRIFT_SHARE_MAX * gross + NEAR).all()


def test_inside_its_bounds_a_book_is_kept_to_the_bit_and_beyond_it_goes_to_the_edge() -> None:
    held = np.array([0.25, 0.25, -0.25, -0.25])
    everywhere = np.ones(4, dtype=bool)
    calm, moved = np.array([[1.0], [1.15], [1.0], [1.0]]), np.array([[1.0], [1.6], [1.0], [1.0]])
    assert kept_neutral(held, everywhere, calm).tobytes() == held.tobytes()
    found = kept_neutral(held, everywhere, moved)
    assert float(moved[:, 0] @ found) == pytest.approx(FACTOR_DRIFT_SHARE_MAX)
    assert found[0] == 0.25  # it carries nothing that is to go
    again = kept_neutral(found, everywhere, moved)  # the bounds are shares of a smaller gross now
    assert np.abs(again - found).sum() < 0.5 * np.abs(found - held).sum()


def market(hours: int, coins: int) -> tuple[Floats, Floats]:
    """Give returns (T, N) of coins whose betas differ, and closes."""
    rng = np.random.default_rng(5)
    beta, size = rng.uniform(0.2, 2.2, coins), rng.uniform(0.003, 0.012, coins)
    moves = rng.normal(0.0, 0.006, (hours, 1)) * beta + rng.standard_normal((hours, coins)) * size
    return moves, 100.0 * np.exp(np.cumsum(moves, axis=0))


@pytest.mark.parametrize(
    "knobs", [{"neutral_to": ["market"]}, {"neutral_to": ["bitcoin", "momentum"]}]
)
def test_between_the_hours_of_a_calendar_exposures_stay_inside_their_bounds(
    knobs: dict[str, Any],
) -> None:
    strategy = make_strategy(
        "momentum",
        {"friction_max": 1e9, "band": "calendar", "calendar_hours": 24}
        | {"volatility_half_life_hours": 10.0, **knobs},
    )
    hours, coins = 520, 20
    moves, closes = market(hours, coins)
    state, held, drifted_n = strategy.initial_state(coins), np.zeros(coins), 0
    settings_of = strategy.settings
    half_life = settings_of.volatility_half_life_hours
    for t in range(400, hours):
        view = make_view(closes[t - 399 : t + 1], as_of_ms=t * HOUR_MS, weights=held)
        state, target = strategy.decide(state, view)
        risk = residual_risk(view.windows[HOUR].closes, half_life_bars=half_life)
        X = exposures(settings_of.factors, view, risk, half_life_bars=half_life).columns
        gross = float(np.abs(held).sum() or np.abs(target.weights).sum())
        drifted_n += bool(np.abs(X.T @ held).max() > FACTOR_DRIFT_SHARE_MAX * gross)
        assert np.abs(X.T @ target.weights).max() <= FACTOR_DRIFT_SHARE_MAX * gross + NEAR, t
        assert abs(float(target.weights.sum())) <= DRIFT_SHARE_MAX * gross + NEAR, t
        held = target.weights * np.exp(moves[t + 1]) if t + 1 < hours else target.weights
    assert drifted_n > 2  # there was something to correct


def test_a_book_on_hold_without_forecasts_keeps_the_neutrality_of_its_settings() -> None:
    _, closes = market(400, 12)
    held = np.zeros(12)
    beta = residual_risk(closes, half_life_bars=48.0).beta
    order = np.argsort(beta)
    held[order[-2:]], held[order[:2]] = 0.25, -0.25
    view = make_view(closes, weights=held)
    decided = {}
    for name in ("plain", "beta"):
        strategy = NeutralStrategy(NeutralSettings(beta_neutral=name == "beta"))
        _, decided[name] = strategy.decide(strategy.initial_state(12), replace(view))
    assert decided["plain"].weights.tobytes() == held.tobytes()
    assert decided["plain"].note == "hold: no forecast is fresh enough"
    assert abs(float(beta @ decided["beta"].weights)) <= FACTOR_DRIFT_SHARE_MAX + NEAR
    assert (np.abs(decided["beta"].weights) <= np.abs(held) + NEAR).all()
    assert decided["beta"].note.endswith("made smaller to stay neutral")
