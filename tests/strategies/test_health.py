"""The health ratio of bands is two where they are right, and says on which side they are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain.bar import Floats
from strategies import health, rebalance
from strategies.neutral import RISK_BARS, NeutralSettings, NeutralStrategy
from strategies.rebalance import Band
from tests.strategies.test_neutral import N, Run, World, run

NAMES = 2_000
GAMMA, RISK = 10.0, np.full(NAMES, 0.007**2)


def measured(*, steps: float, width: float, hours: int) -> float:
    """Measure the ratio with bands of `width` times the best, `steps` hourly moves wide at 1."""
    rng = np.random.default_rng(3)
    nu = 0.004
    cost = np.full(NAMES, (steps * nu) ** 3 * GAMMA * RISK[0] / (1.5 * nu**2))
    band = width * rebalance.cube_root_band(cost, np.full(NAMES, nu**2), GAMMA, RISK)
    held, ideal, sums = np.zeros(NAMES), rng.uniform(-band, band), health.no_sums()
    for _ in range(hours):
        moved = rebalance.nearest_edge(held, ideal, band)
        sums = health.updated(
            sums,
            paid=float(cost @ np.abs(moved - held)),
            loss_an_hour=health.tracking_loss(GAMMA, RISK, moved - ideal),
            hours=1.0,
        )
        held, ideal = moved, ideal + nu * rng.standard_normal(NAMES)
    found = health.ratio(sums)
    assert found is not None
    return found


def test_at_the_best_band_it_is_two_and_beside_it_far_above_or_below() -> None:
    assert measured(steps=200.0, width=1.0, hours=1_500) == pytest.approx(health.BEST, abs=0.1)
    assert measured(steps=200.0, width=0.5, hours=1_500) == pytest.approx(16.0, abs=1.0)
    assert measured(steps=200.0, width=2.0, hours=1_500) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("steps", [3.0, 7.26, 15.0])
def test_targets_that_move_much_within_an_hour_have_their_best_below_two(steps: float) -> None:
    expected = health.BEST / (1.0 + 1.8 / steps)
    assert measured(steps=steps, width=1.0, hours=600) == pytest.approx(expected, rel=0.03)


def test_it_forgets_by_half_in_seven_days_and_says_nothing_of_two() -> None:
    sums = health.updated(health.no_sums(), paid=4e-4, loss_an_hour=1e-5, hours=10.0)
    assert sums.tolist() == pytest.approx([4e-4, 1e-4, 10.0])
    assert health.ratio(sums) is None
    later = health.updated(sums, paid=0.0, loss_an_hour=0.0, hours=168.0)
    assert later.tolist() == pytest.approx([2e-4, 5e-5, 173.0])
    assert health.ratio(later) == pytest.approx(4.0)


def test_a_book_that_always_holds_its_ideal_has_no_ratio() -> None:
    full = health.updated(health.no_sums(), paid=1e-3, loss_an_hour=0.0, hours=100.0)
    assert health.ratio(full) is None


def test_losses_of_legs_add_up() -> None:
    gap = np.array([0.02, -0.01])
    loss = health.tracking_loss(10.0, np.array([1e-4, 4e-4]), gap)
    assert loss == pytest.approx(5.0 * (1e-4 * 4e-4 + 4e-4 * 1e-4))


# ---- in the strategy -----------------------------------------------------------------------------


def seen(width: float, hours: int = 120) -> Run:
    world = World.make(hours, alpha_sd=0.06, seed=5)
    knobs = NeutralSettings(band=Band.FIXED, band_weight=width)
    return run(world, hours, NeutralStrategy(knobs))


def test_decisions_carry_it_and_narrow_bands_read_higher_than_wide_ones() -> None:
    narrow, wide = seen(0.01), seen(0.06)
    assert narrow.targets[0].health is None
    assert narrow.targets[40].health is None
    first, second = narrow.targets[-1].health, wide.targets[-1].health
    assert first is not None
    assert second is not None
    assert first > 4 * second


def test_the_first_book_is_no_trade_of_the_bands_and_a_hold_keeps_the_ratio() -> None:
    strategy = NeutralStrategy()
    world = World.make(80, alpha_sd=0.06, seed=6)
    state, weights, paid = strategy.initial_state(N), np.zeros(N), np.zeros(N)
    sums: list[Floats] = []
    for t in range(RISK_BARS, RISK_BARS + 60):
        view = world.view(t, weights=weights, paid=paid)
        state, target = strategy.decide(state, view)
        paid = paid + view.cost * np.abs(target.weights - weights)
        weights = target.weights
        sums.append(state["health"])
    assert not sums[1].any()  # what the first book came to
    assert sums[2][2] == 1.0
    assert target.health == pytest.approx(sums[-1][0] / sums[-1][1])
    calm = {"weights": weights, "paid": paid, "predictions": ()}
    kept, held = strategy.decide(state, world.view(RISK_BARS + 60, **calm))
    assert kept["health"][2] > sums[-1][2]  # the hour before the hold still counts
    later, still = strategy.decide(kept, world.view(RISK_BARS + 61, **calm))
    assert still.health == held.health
    assert later["health"].tolist() == kept["health"].tolist()


def test_fills_are_what_counts_and_not_what_was_asked_for() -> None:
    """One hour, in which nothing, all, or all at thrice the cost was filled."""
    strategy = NeutralStrategy(NeutralSettings(band=Band.FIXED, band_weight=0.005))
    world = World.make(8, alpha_sd=0.06, seed=6)
    state, target = strategy.decide(strategy.initial_state(N), world.view(RISK_BARS))
    held, before = target.weights, np.full(N, 0.01)
    now = world.view(RISK_BARS + 1, weights=held, paid=before)
    state, target = strategy.decide(state, now)
    traded = np.abs(target.weights - held)
    asked = float(now.cost @ traded)
    assert asked > 0.0

    def outcome(weights: Floats, share: float) -> Floats:
        paid = before + share * now.cost * traded
        view = world.view(RISK_BARS + 2, weights=weights, paid=paid)
        return strategy.decide(state, view)[0]["health"]

    none, full, dear = (
        outcome(held, 0.0),
        outcome(target.weights, 1.0),
        outcome(target.weights, 3.0),
    )
    assert none[0] == 0.0
    assert none[1] > full[1] > 0.0  # what was not filled is off the ideal by more
    assert full[0] == pytest.approx(asked, rel=0.05)  # legs that lost their place are not counted
    assert dear[0] == pytest.approx(3.0 * full[0])
    assert dear[1] == full[1]
    assert full[2] == 1.0


def test_where_nobody_counts_what_was_paid_there_is_no_ratio() -> None:
    strategy = NeutralStrategy()
    world = World.make(60, alpha_sd=0.06, seed=6)
    state, weights = strategy.initial_state(N), np.zeros(N)
    for t in range(RISK_BARS, RISK_BARS + 55):
        state, target = strategy.decide(state, world.view(t, weights=weights))
        weights = target.weights
    assert target.health is None
