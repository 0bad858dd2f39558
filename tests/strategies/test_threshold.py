"""Hold the adaptive threshold to its breadth, its cost, and a book that agrees with its legs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from msgspec.structs import replace

from daemon.domain.bar import Floats
from daemon.domain.failures import ConfigurationError
from daemon.domain.portfolio import TargetPortfolio
from daemon.ports import Strategy
from strategies.book import RISK_BARS
from strategies.threshold import (
    ThresholdSettings,
    ThresholdStrategy,
    adapted,
    build,
    passing,
    started,
)
from tests.strategies.test_neutral import N, World

KNOBS = ThresholdSettings(breadth_min=4, friction_max=100.0)


def lived(
    strategy: Strategy, hours: int, *, alpha_sd: float, cost: float, seed: int = 5
) -> tuple[list[TargetPortfolio], Floats, Floats]:
    """Let a strategy live in a world; give its targets, thresholds and gains before costs."""
    world = World.make(hours + 1, alpha_sd=alpha_sd, seed=seed)
    state: Mapping[str, Floats] = strategy.initial_state(N)
    weights, targets, thetas, gains = np.zeros(N), [], [], []
    for t in range(RISK_BARS, RISK_BARS + hours):
        view = world.view(t, weights=weights, cost=np.full(N, cost))
        state, target = strategy.decide(state, view)
        moved = world.closes[t + 1] / world.closes[t]
        gains.append(float(target.weights @ (moved - 1.0)))
        weights = target.weights * moved
        targets.append(target)
        thetas.append(float(state["theta"][0]))
    return targets, np.array(thetas), np.array(gains)


def test_it_is_a_strategy_by_shape() -> None:
    strategy: Strategy = build({})
    assert (strategy.name, strategy.needs_estimates) == ("threshold", True)
    assert list(strategy.windows_needed.values()) == [169]


@pytest.mark.parametrize("share", [0.4, 0.7])
def test_the_wanted_share_passes_in_the_long_run(share: float) -> None:
    knobs = ThresholdSettings(breadth_share=share, breadth_min=2, friction_max=100.0)
    targets, _, _ = lived(ThresholdStrategy(knobs), 150, alpha_sd=0.06, cost=1e-5)
    passed = [int(x.note.rsplit(": ", 1)[1].split()[0]) for x in targets]
    assert np.mean(passed[20:]) / N == pytest.approx(share, abs=0.12)


def test_books_are_neutral_and_agree_with_the_edge_of_every_leg() -> None:
    targets, _, _ = lived(ThresholdStrategy(KNOBS), 60, alpha_sd=0.06, cost=1e-5)
    built = [x for x in targets if not x.note.startswith("hold")]
    assert len(built) > 40
    for target in built:
        assert target.ideal.sum() == pytest.approx(0.0, abs=1e-10)
        assert target.signals is not None
        edge = target.signals.alpha - target.signals.alpha.mean()
        legs = np.abs(target.ideal) > 1e-9
        assert (np.sign(edge) == np.sign(target.ideal))[legs].all()
        assert not legs.all()


def test_it_earns_where_forecasts_are_true_and_nothing_where_they_are_noise() -> None:
    _, _, there = lived(ThresholdStrategy(KNOBS), 250, alpha_sd=0.3, cost=1e-5)
    assert there.mean() / there.std() * len(there) ** 0.5 > 4.0
    world_without = World.make(260, alpha_sd=0.0, seed=3)
    world_without.forecast_sd = 0.05
    state: Mapping[str, Floats] = build({}).initial_state(N)
    strategy, gains = ThresholdStrategy(KNOBS), []
    for t in range(RISK_BARS, RISK_BARS + 250):
        view = world_without.view(t, cost=np.full(N, 1e-5))
        state, target = strategy.decide(state, view)
        moved = world_without.closes[t + 1] / world_without.closes[t]
        gains.append(float(target.weights @ (moved - 1.0)))
    found = np.array(gains)
    assert abs(found.mean() / found.std() * len(found) ** 0.5) < 2.6


def test_dear_trading_raises_the_threshold() -> None:
    _, cheap, _ = lived(ThresholdStrategy(KNOBS), 60, alpha_sd=0.06, cost=1e-5)
    _, dear, _ = lived(ThresholdStrategy(KNOBS), 60, alpha_sd=0.06, cost=3e-3)
    assert dear[-1] > 1.3 * cheap[-1]


def test_without_forecasts_the_book_and_the_threshold_stay() -> None:
    strategy = ThresholdStrategy(KNOBS)
    world = World.make(3, alpha_sd=0.06, seed=1)
    state, _ = strategy.decide(strategy.initial_state(N), world.view(RISK_BARS))
    empty = replace(world.view(RISK_BARS + 1), predictions=())
    after, target = strategy.decide(state, empty)
    assert target.note == "hold: no forecast is fresh enough"
    assert float(after["theta"][0]) == float(state["theta"][0]) > 0.0


def test_the_law_of_the_threshold_by_hand() -> None:
    knobs = ThresholdSettings(breadth_share=0.5, cost_share_max=0.5, gain=0.1)
    assert adapted(2.0, 0.5, 0.3, knobs) == 2.0
    assert adapted(2.0, 0.7, 0.3, knobs) == pytest.approx(2.0 * np.exp(0.02))
    assert adapted(2.0, 0.2, 0.9, knobs) == pytest.approx(2.0 * np.exp(0.1 * (-0.3 + 0.4)))
    assert np.isnan(adapted(float("nan"), 0.0, 0.0, knobs))
    z = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert started(float("nan"), z, 0.5) == 3.0
    assert started(7.0, z, 0.5) == 7.0
    assert np.isnan(started(float("nan"), z[:0], 0.5))


def test_a_leg_stays_a_little_below_the_threshold_on_its_own_side_only() -> None:
    z = np.array([1.2, 0.8, 0.8, 0.8, 0.6])
    edge = np.array([0.1, 0.1, 0.1, -0.1, 0.1])
    held = np.array([0.0, 0.0, 0.1, 0.1, 0.1])
    assert passing(edge, z, held, 1.0, 0.75).tolist() == [True, False, True, False, False]


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigurationError, match=r"strategy 'threshold': breadth_share = 0\.0"):
        build({"breadth_share": 0.0})
    with pytest.raises(ConfigurationError, match="did you mean 'stay_share'"):
        build({"stay": 0.5})
