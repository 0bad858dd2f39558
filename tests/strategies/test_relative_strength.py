"""Hold the rule to the reference loop of the benchmark and to its manners with missing prices."""

import numpy as np
import pytest

from daemon.domain.bar import Floats
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import Timeframe
from daemon.ports import Strategy
from strategies.relative_strength import (
    Direction,
    RelativeStrength,
    RelativeStrengthSettings,
    build,
)
from tests.strategies.views import make_view

HOUR = Timeframe(60)


def walk(bars: int, size: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return 100 * np.exp(np.cumsum(0.01 * rng.standard_normal((bars, size)), axis=0))


def legs(count: int, **changes: object) -> RelativeStrength:
    return RelativeStrength(RelativeStrengthSettings(legs_each_side=count, **changes))  # type: ignore[arg-type]


def test_it_is_a_strategy_by_shape() -> None:
    strategy: Strategy = RelativeStrength()
    assert strategy.name == "relative_strength"
    assert not strategy.needs_estimates
    assert strategy.windows_needed == {HOUR: 25}


@pytest.mark.parametrize(("size", "count"), [(20, 5), (12, 4)])
def test_two_hundred_bars_give_the_reference_loop_s_equity_and_orders(
    size: int, count: int
) -> None:
    closes, lookback, band, fee, cash = walk(400, size), 24, 0.01, 5e-4, 1e6
    strategy = legs(count)
    state = strategy.initial_state(size)
    quantities, equity, orders = np.zeros(size), cash, 0
    expected_quantities, expected_cash, expected_orders = np.zeros(size), cash, 0
    for t in range(lookback, 400):
        price = closes[t]
        # the reference, leg by leg
        worth = expected_cash + sum(expected_quantities * price)
        order = np.argsort(price / closes[t - lookback], kind="stable")
        target = np.zeros(size)
        target[order[-count:]], target[order[:count]] = 0.5 / count, -0.5 / count
        for i in range(size):
            d = target[i] * worth - expected_quantities[i] * price[i]
            if abs(d) > band * worth:
                expected_quantities[i] += d / price[i]
                expected_cash -= d + fee * abs(d)
                expected_orders += 1
        # the strategy, all at once
        equity = cash + float(quantities @ price)
        view = make_view(
            closes[t - lookback : t + 1], weights=quantities * price / equity, equity=equity
        )
        state, found = strategy.decide(state, view)
        moved = found.weights != view.weights
        change = np.where(moved, found.weights * equity / price - quantities, 0.0)
        quantities = quantities + change
        cash_out = change * price
        cash -= float(cash_out.sum()) + fee * float(np.abs(cash_out).sum())
        orders += int(moved.sum())
    assert orders == expected_orders > 300
    assert cash == pytest.approx(expected_cash, rel=1e-9)
    assert quantities == pytest.approx(expected_quantities, rel=1e-9, abs=1e-9)


def test_reversal_holds_the_opposite_book() -> None:
    view = make_view(walk(25, 12))
    _, forward = legs(3).decide({}, view)
    _, backward = legs(3, direction=Direction.REVERSAL).decide({}, view)
    assert backward.ideal.tolist() == (-forward.ideal).tolist()
    assert forward.ideal.sum() == pytest.approx(0.0, abs=1e-15)
    assert np.abs(forward.ideal).sum() == pytest.approx(1.0)


def test_ties_are_broken_by_the_universe_order() -> None:
    closes = np.ones((25, 4))
    _, found = legs(1).decide({}, make_view(closes))
    assert found.ideal.tolist() == [-0.5, 0.0, 0.0, 0.5]


def test_unknown_prices_and_the_ineligible_take_no_place_and_go_to_zero() -> None:
    closes = walk(25, 6)
    closes[0, 2] = np.nan
    eligible = np.array([True, True, True, True, False, True])
    weights = np.full(6, 0.004)
    _, found = legs(2).decide({}, make_view(closes, eligible=eligible, weights=weights))
    assert found.weights[[2, 4]].tolist() == [0.0, 0.0]
    assert np.abs(found.ideal).sum() == pytest.approx(1.0)
    assert (found.ideal[[0, 1, 3, 5]] != 0).all()


def test_too_few_prices_hold_the_book_and_say_so() -> None:
    closes = walk(25, 3)
    closes[-1, 1:] = np.nan
    weights = np.array([0.2, -0.2, 0.0])
    _, found = legs(2).decide({}, make_view(closes, weights=weights))
    assert found.weights.tolist() == [0.2, 0.0, 0.0]
    assert found.note == "1 instrument(s) can be ranked; two are needed: hold"


def test_fewer_instruments_than_places_shrink_the_ends() -> None:
    _, found = legs(4).decide({}, make_view(walk(25, 5)))
    assert (found.ideal > 0).sum() == (found.ideal < 0).sum() == 2
    assert np.abs(found.ideal).sum() == pytest.approx(1.0)


def test_settings_are_read_and_checked() -> None:
    made = build({"direction": "reversal", "legs_each_side": 3, "gross_weight": 2})
    assert made.settings.direction is Direction.REVERSAL
    assert made.settings.gross_weight == 2.0
    with pytest.raises(ConfigurationError, match=r"lookback_bars = 0: accepted are values from 1"):
        build({"lookback_bars": 0})
    with pytest.raises(ConfigurationError, match="accepted are momentum, reversal"):
        build({"direction": "sideways"})
    with pytest.raises(ConfigurationError, match="must divide the day"):
        build({"timeframe_minutes": 7})


def test_the_state_is_only_its_version() -> None:
    state = RelativeStrength().initial_state(3)
    assert {k: v.tolist() for k, v in state.items()} == {"version": [1.0]}
    after, _ = legs(1).decide(state, make_view(walk(25, 3)))
    assert after is state
