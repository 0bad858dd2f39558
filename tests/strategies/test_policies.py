"""Rebalance policies: what each does, and what all of them share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from daemon.domain.bar import Floats
from daemon.domain.failures import ConfigurationError, InvariantViolated
from daemon.domain.units import HOUR_MS
from daemon.domain.view import View
from strategies import policies, rebalance
from strategies.neutral import RISK_BARS, NeutralSettings, NeutralStrategy, build
from strategies.policies import Moved, Policy, Wish, no_widening
from strategies.rebalance import Band
from tests.strategies.test_neutral import N, Run, World, first, run
from tests.strategies.views import make_view

HOURS = 60
SIX = 6


def wish(ideal: Floats, **changes: Any) -> Wish:
    """Wish for an ideal book of which every leg has a forecast."""
    all_legs, none = np.ones(len(ideal), dtype=bool), np.zeros(len(ideal), dtype=bool)
    plain = Wish(
        ideal=ideal,
        gross=float(np.abs(ideal).sum()),
        aversion=10.0,
        variance=np.full(len(ideal), 1e-4),
        velocity2=np.full(len(ideal), 4e-5),
        confidence=np.full(len(ideal), 0.5),
        usable=all_legs,
        chosen=all_legs,
        silent=none,
        reduce_only=none,
        weight_max=1.0,
        hours=1.0,
    )
    return plain._replace(**changes)


def view_of(weights: Floats, *, at_hour: int = 1_000, **changes: Any) -> View:
    closes = np.full((2, len(weights)), 100.0)
    return make_view(closes, as_of_ms=at_hour * HOUR_MS, weights=weights, **changes)


def moved(policy: Policy, wanted: Wish, view: View) -> Moved:
    return policies.moved(policy, wanted, view, no_widening())[1]


def traded_by(**knobs: Any) -> Run:
    strategy = NeutralStrategy(NeutralSettings(**knobs))
    return run(World.make(HOURS, alpha_sd=0.06, seed=5), HOURS, strategy)


# ---- the calendar --------------------------------------------------------------------------------


def test_a_calendar_trades_in_full_at_its_hours_and_holds_in_between() -> None:
    seen = traded_by(band=Band.CALENDAR, calendar_hours=SIX)
    for target, traded in zip(seen.targets, seen.traded, strict=True):
        if target.as_of_ms // HOUR_MS % SIX == 0:
            assert target.weights == pytest.approx(target.ideal, abs=1e-12)
            assert "calendar" not in target.note
        else:
            assert "held until the calendar's next hour" in target.note
            assert traded < 0.03  # nothing, or what drift took from neutrality
        assert not target.band.any()
    assert max(abs(net) for net in seen.net) <= 0.0115
    quiet = [x for x in seen.traded if x == 0.0]
    assert len(quiet) > 0.6 * HOURS


def test_between_its_hours_what_may_not_be_held_is_closed_and_the_rest_stays_neutral() -> None:
    held = np.array([0.2, 0.1, -0.2, -0.1])
    eligible = np.array([False, True, True, True])
    found = moved(
        Policy(Band.CALENDAR, 0.0, SIX),
        wish(np.array([-0.2, -0.1, 0.2, 0.1])),
        view_of(held, at_hour=1_001, eligible=eligible),
    )
    assert found.waits
    assert found.weights[0] == 0.0
    assert found.weights.sum() == pytest.approx(0.0, abs=1e-12)
    assert (np.abs(found.weights) <= np.abs(held)).all()


@pytest.mark.parametrize(
    ("hour", "hours_since", "every", "due"),
    [
        (24, 1.0, 24, True),
        (25, 1.0, 24, False),
        (25, 2.0, 24, True),  # the decision at midnight fell out: made up for
        (26, 1.5, 24, False),
        (30, 1.0, 6, True),
        (31, 1.0, 6, False),
        (31, 1.0, 1, True),
    ],
)
def test_fixed_hours_are_of_utc_and_a_lost_one_is_made_up_for(
    hour: int, hours_since: float, every: int, due: bool
) -> None:
    assert rebalance.is_due(hour * HOUR_MS, hours_since, every) is due


def test_hours_that_do_not_divide_the_day_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="calendar_hours = 7: it must divide 24"):
        build({"calendar_hours": 7})
    with pytest.raises(ConfigurationError, match="from 1 to 24"):
        build({"calendar_hours": 0})
    with pytest.raises(InvariantViolated, match="5 hours do not divide a day"):
        rebalance.is_due(0, 1.0, 5)


# ---- confidence ----------------------------------------------------------------------------------


def test_less_confidence_widens_a_band_by_its_stated_function() -> None:
    found = rebalance.widening(np.array([1.0, 0.25, 0.04, 0.001, np.nan]))
    assert found.tolist() == pytest.approx([1.0, 2.0, 5.0, 5.0, 5.0])


def test_bands_by_confidence_are_as_wide_as_the_fixed_one_on_average() -> None:
    confidence = np.array([0.9, 0.1, 0.5, 0.3])
    policy = Policy(Band.CONFIDENCE, 0.02, 24)
    ideal = np.array([0.3, 0.2, -0.3, -0.2])
    wanted = wish(ideal, confidence=confidence)
    found = moved(policy, wanted, view_of(np.zeros(4)))
    assert float(found.band.mean()) == pytest.approx(0.02 * found.narrowing)
    assert np.argsort(found.band).tolist() == [0, 2, 3, 1]
    widening, widths = no_widening(), []
    rng = np.random.default_rng(2)
    for hour in range(200):  # also where the confidence of all changes at once
        level = 0.2 if hour % 50 < 25 else 0.8
        wanted = wish(ideal, confidence=level * rng.uniform(0.8, 1.2, 4))
        widening, found = policies.moved(policy, wanted, view_of(np.zeros(4)), widening)
        widths.append(float(found.band.mean()) / found.narrowing)
    assert np.mean(widths[50:]) == pytest.approx(0.02, rel=0.05)
    assert np.mean(widths[150:175]) > 1.5 * np.mean(widths[175:])


def test_the_strategy_runs_on_bands_by_confidence_neutral_and_at_its_gross() -> None:
    seen = traded_by(band=Band.CONFIDENCE, band_weight=0.04)
    assert max(abs(net) for net in seen.net) < 0.0055
    assert min(seen.gross) >= 0.8
    assert np.mean([t.band.mean() for t in seen.targets]) == pytest.approx(0.04, rel=0.05)


# ---- small orders --------------------------------------------------------------------------------


def test_a_trade_too_small_to_be_placed_goes_to_half_the_band_inside() -> None:
    held = np.array([0.26, -0.26, 0.4, -0.4])
    ideal = np.array([0.2, -0.2, 0.4, -0.4])
    fixed = Policy(Band.FIXED, 0.05, 24)
    large = moved(fixed, wish(ideal), view_of(held, equity=10_000.0))
    small = moved(fixed, wish(ideal), view_of(held, equity=80.0))
    assert policies.least_trades(view_of(held, equity=80.0), held > 0.3)[2] == 0.0625
    assert large.weights == pytest.approx([0.25, -0.25, 0.4, -0.4])
    assert small.weights == pytest.approx([0.225, -0.225, 0.4, -0.4])
    assert small.band.tolist() == large.band.tolist() == [0.05] * 4


def test_a_minimum_that_is_small_beside_the_band_changes_nothing() -> None:
    held, least = np.array([0.26, -0.1]), np.array([0.03, 0.03])
    edge, band = np.array([0.25, -0.1]), np.full(2, 0.05)
    assert rebalance.inside_small(held, edge, band, least) is band
    narrow = rebalance.inside_small(held, edge, band, np.array([0.04, 0.04]))
    assert narrow.tolist() == [0.025, 0.05]  # the leg that rests keeps its band
    unknown = np.full(2, np.nan)
    assert rebalance.inside_small(held, edge, band, unknown) is band


def test_the_smallest_trade_is_a_lot_or_the_least_notional_whichever_is_more() -> None:
    view = replace(view_of(np.zeros(2)), marks=np.array([100.0, 90_000.0]), equity=1_000.0)
    legs = np.array([True, True])
    assert policies.least_trades(view, legs).tolist() == pytest.approx([0.005, 0.09])
    assert np.isnan(policies.least_trades(view, ~legs)).all()


@pytest.mark.parametrize("friction", [0.1, 0.3, 1.0])
def test_where_orders_must_be_as_large_as_the_band_half_inside_keeps_more_than_waiting(
    friction: float,
) -> None:
    phi, paths, rng = 0.5 ** (1 / 12), 200, np.random.default_rng(4)
    cost, h = friction / (1 - phi), np.full(paths, (3 * friction) ** (1 / 3))
    ideal = rng.standard_normal(paths)
    held = {"waits": ideal.copy(), "inside": ideal.copy()}
    earned = dict.fromkeys(held, 0.0)
    power = dict.fromkeys(held, 0.0)
    for _ in range(1_500):
        for name, before in held.items():
            after = rebalance.nearest_edge(before, ideal, h)
            if name == "inside":
                band = rebalance.inside_small(before, after, h, h)
                after = rebalance.nearest_edge(before, ideal, band)
            placed = np.abs(after - before) >= h * (1 - 1e-9)
            after = np.where(placed, after, before)
            earned[name] += float(after @ ideal - cost * np.abs(after - before).sum())
            power[name] += float(after @ after)
            held[name] = after
        ideal = phi * ideal + (1 - phi**2) ** 0.5 * rng.standard_normal(paths)
    kept = {name: earned[name] / power[name] ** 0.5 for name in held}
    assert kept["inside"] > 1.03 * kept["waits"]


# ---- what all share ------------------------------------------------------------------------------


@pytest.mark.parametrize("band", list(Band))
def test_under_every_policy_permuted_instruments_get_permuted_weights(band: Band) -> None:
    strategy = NeutralStrategy(NeutralSettings(band=band, calendar_hours=1))
    rng = np.random.default_rng(1)
    weights = rng.uniform(-0.1, 0.1, N)
    state, view = first(strategy, weights=weights, cost=rng.uniform(2e-4, 2e-3, N))
    order = rng.permutation(N)
    mixed = replace(
        view,
        windows={
            t: replace(w, values=np.ascontiguousarray(w.values[:, order]))
            for t, w in view.windows.items()
        },
        predictions=tuple(
            replace(p, mean=p.mean[order], variance=p.variance[order]) for p in view.predictions
        ),
        marks=view.marks[order],
        weights=weights[order],
        cost=view.cost[order],
    )
    plain, other = (strategy.decide(state, v)[1] for v in (view, mixed))
    assert other.weights == pytest.approx(plain.weights[order], abs=1e-9)
    assert other.band == pytest.approx(plain.band[order], abs=1e-9)


@pytest.mark.parametrize("band", list(Band))
@pytest.mark.parametrize("size", [8, 14])
def test_under_no_policy_does_a_small_book_of_capped_targets_freeze(band: Band, size: int) -> None:
    """Two sides of equal caps that change places every ten hours, with costs of 30 bps."""
    strategy = Policy(band, 0.05, 6)
    cap = 1.0 / size
    side = np.where(np.arange(size) % 2 == 0, cap, -cap)
    held, widening, right = np.zeros(size), no_widening(), []
    for hour in range(1, 81):
        ideal = side if hour // 10 % 2 == 0 else -side
        wanted = wish(ideal, weight_max=cap, velocity2=np.full(size, (2 * cap) ** 2 / 10))
        view = view_of(held, at_hour=hour, cost=np.full(size, 3e-3))
        widening, found = policies.moved(strategy, wanted, view, widening)
        held = found.weights
        assert held.sum() == pytest.approx(0.0, abs=1e-12)
        if hour % 10 > 6:
            right.append(float(np.mean(held * ideal > 0)))
    assert np.mean(right) > 0.9


def test_reduce_only_above_friction_is_of_each_leg_and_of_the_cost_it_is_shown() -> None:
    strategy = NeutralStrategy()
    world = World.make(4, alpha_sd=0.06, seed=6)
    state, weights = strategy.initial_state(N), np.zeros(N)
    state, target = strategy.decide(state, world.view(RISK_BARS, weights=weights))
    assert target.reduce_only is not None
    assert not target.reduce_only.any()
    dearer = np.full(N, 7e-4)
    dearer[5] = 0.05  # what fills of this one were measured to cost
    _, target = strategy.decide(
        state, world.view(RISK_BARS + 1, weights=target.weights, cost=dearer)
    )
    assert target.reduce_only is not None
    assert np.flatnonzero(target.reduce_only).tolist() == [5]
