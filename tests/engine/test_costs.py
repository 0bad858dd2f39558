"""Costs of fills: measured against the price the decision saw, bounded, shown, and fed back."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import msgspec
import numpy as np
import pytest

from daemon.domain.messages import OrderAccepted, OrderEnded, Tick
from daemon.domain.order import OrderKind
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.view import View
from daemon.engine.costs import KEPT_MAX, PRIOR_FILLS, Costs, shown_costs
from daemon.engine.engine import Engine
from daemon.engine.risk import RiskLimits
from daemon.engine.styles import ExecutionRules, Style
from daemon.engine.viewing import view_of
from daemon.ports import StrategyState
from tests.engine.test_risk import order
from tests.engine.world import (
    FixedWeights,
    at,
    bars,
    feed,
    fill_of,
    submitted,
    trading_engine,
    universe_of,
)

WIDE = RiskLimits(net_weight_max=0.5, order_weight_max=0.5)
SOL = 2


class Watching(FixedWeights):
    """Trade BTC against SOL, and remember the costs it was shown."""

    def decide(self, state: StrategyState, view: View) -> tuple[StrategyState, TargetPortfolio]:
        SHOWN.append(view.cost)
        return super().decide(state, view)


SHOWN: list[object] = []


def engine_of(execution: ExecutionRules) -> Engine:
    wanted = Watching(lambda _: [0.1, 0.0, -0.1, 0.0])
    plain = trading_engine(wanted, limits=WIDE)
    engine = Engine(plain.universe, wanted, replace(plain.rules, execution=execution))
    engine.take_over(plain)
    feed(engine, bars(3))
    return engine


def test_buys_above_and_sells_below_the_reference_cost_and_fees_are_kept_apart() -> None:
    engine = engine_of(ExecutionRules())
    buy, sell = submitted(feed(engine, bars(4)))
    feed(engine, fill_of(buy, "b", price="100.1", fee="0.5"), fill_of(sell, "s", price="100.3"))
    assert engine.state.costs["cross liquid"] == pytest.approx([1, 1_000, 1.0, 0.5])
    assert engine.state.costs["cross other"] == pytest.approx([1, 1_000, -3.0, 0.0])
    assert shown_costs(engine.state.costs) == (
        "cross liquid +10.00 and fee 5.00 bps of 1 fills; cross other -30.00 and fee 0.00 bps of 1 "
        "fills"
    )


def test_what_fills_of_a_leg_cost_is_shown_to_the_strategy_as_a_share_of_equity() -> None:
    engine = engine_of(ExecutionRules())
    buy, sell = submitted(feed(engine, bars(4)))
    equity = engine.state.book.equity
    assert not engine.state.paid.any()  # nothing was filled, whatever was asked for
    feed(engine, fill_of(buy, "b", price="100.1", fee="0.5"), fill_of(sell, "s", price="100.3"))
    paid = np.zeros(4)
    paid[buy.index], paid[sell.index] = 1.5 / equity, -3.0 / equity
    assert engine.state.paid == pytest.approx(paid, rel=1e-3)
    shown = view_of(engine.universe, engine.state, engine.rules, Costs({}, {}, ExecutionRules()))
    assert shown.paid is not None
    assert shown.paid.tolist() == engine.state.paid.tolist()
    assert not np.shares_memory(shown.paid, engine.state.paid)
    again = engine_of(ExecutionRules())
    again.restore(engine.state.to_plain())
    assert again.state.paid.tolist() == engine.state.paid.tolist()


def test_what_waited_and_crossed_later_pays_for_its_wait() -> None:
    engine = engine_of(ExecutionRules(style=Style.PASSIVE, passive_offset_bps=10.0))
    buy, sell = submitted(feed(engine, bars(4)))
    feed(engine, *(OrderAccepted(o.order_id, at(4)) for o in (buy, sell)))
    feed(engine, fill_of(sell, "s", price="100.1"), Tick(at(4) + 60_000))
    (rest,) = submitted(feed(engine, OrderEnded(buy.order_id, at(4) + 60_100, "cancelled")))
    feed(engine, fill_of(rest, "r", price="100.4"))
    assert engine.state.costs["passive other"] == pytest.approx([1, 1_000, -1.0, 0.0])
    assert engine.state.costs["rest liquid"] == pytest.approx([1, 1_000, 4.0, 0.0])


def test_what_was_seen_weighs_in_with_its_fills_and_old_fills_are_forgotten() -> None:
    sums: dict[str, list[float]] = {}
    costs, universe = Costs(sums, {}, ExecutionRules()), universe_of()
    assumed = np.full(4, 0.0006)
    assert costs.believed(assumed, universe) == pytest.approx(assumed)
    for _ in range(int(PRIOR_FILLS)):
        costs.took(order("1", SOL), universe, 100.0, 0.2, 0.04)
    # SOL measured 24 bps in 50 fills: halfway from 6 for its class, halfway again for itself
    assert costs.believed(assumed, universe) == pytest.approx([6e-4, 6e-4, 19.5e-4, 15e-4])
    for _ in range(20_000):
        costs.took(order("1", SOL), universe, 100.0, 0.0, 0.0)
    assert sums["cross other"][0] <= KEPT_MAX
    assert costs.believed(assumed, universe)[SOL] < 1e-4


def test_two_instruments_of_a_class_come_to_their_own_costs() -> None:
    costs, universe = Costs({}, {}, ExecutionRules()), universe_of()
    assumed = np.full(4, 0.0006)
    for _ in range(500):
        costs.took(order("1", SOL), universe, 100.0, 0.05, 0.04)  # 9 bps
        costs.took(order("1", SOL + 1), universe, 100.0, 0.21, 0.04)  # 25 bps
    cheap, dear = costs.believed(assumed, universe)[SOL : SOL + 2]
    assert cheap == pytest.approx(9e-4, rel=0.1)
    assert dear == pytest.approx(25e-4, rel=0.1)
    assert costs.believed(assumed, universe)[:2] == pytest.approx(assumed[:2])


def test_a_measured_gain_is_no_cost() -> None:
    costs = Costs({}, {}, ExecutionRules(style=Style.PASSIVE))
    post = msgspec.structs.replace(
        order("1", SOL), post_only=True, kind=OrderKind.LIMIT, limit_price=Decimal(100)
    )
    for _ in range(1_000):
        costs.took(post, universe_of(), 100.0, -1.0, 0.0)
    assert costs.believed(np.full(4, 0.0006), universe_of())[SOL] == 0.0


@pytest.mark.parametrize("feedback", [False, True])
def test_strategies_are_shown_it_only_where_settings_say_so(feedback: bool) -> None:
    SHOWN.clear()
    engine = engine_of(ExecutionRules(cost_feedback=feedback))
    for o in submitted(feed(engine, bars(4))):
        feed(engine, fill_of(o, f"t{o.order_id}", price="102" if o.quantity > 0 else "98"))
    feed(engine, bars(5), bars(6))
    last = np.asarray(SHOWN[-1])
    assert bool(last[0] > 0.0006) is feedback
    again = engine_of(ExecutionRules(cost_feedback=feedback))
    again.restore(engine.state.to_plain())
    assert again.state.costs == engine.state.costs
    assert again.state.leg_costs == engine.state.leg_costs != {}
