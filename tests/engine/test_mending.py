"""A leg that is refused for good: partners shrink, the rest is hedged, and it never loops."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from daemon.domain.messages import (
    Command,
    Event,
    OrderAbsent,
    OrderAccepted,
    OrderRejected,
    OrderUncertain,
)
from daemon.domain.order import Order
from daemon.engine.engine import Engine
from daemon.engine.risk import RiskLimits
from daemon.engine.styles import ExecutionRules
from tests.engine.world import (
    FixedWeights,
    at,
    bars,
    decided,
    feed,
    fill_of,
    submitted,
    trading_engine,
)

WIDE = RiskLimits(net_weight_max=0.5, order_weight_max=0.5)
# ETH is sold; SOL and XRP carry the book, so that BTC is free to hedge
WEIGHTS = [0.0, 0.0, 0.2, -0.2]


def engine_of(
    weights: list[float], limits: RiskLimits = WIDE, execution: ExecutionRules | None = None
) -> Engine:
    engine = trading_engine(FixedWeights(lambda _: weights), limits=limits)
    if execution is not None:
        changed = Engine(
            engine.universe, engine.strategy, replace(engine.rules, execution=execution)
        )
        changed.take_over(engine)
        engine = changed
    feed(engine, bars(3))
    return engine


def fills(engine: Engine, orders: list[Order]) -> list[Command]:
    told = []
    for order in orders:
        told += feed(engine, OrderAccepted(order.order_id, at(4)))
        told += feed(engine, fill_of(order, f"t{order.order_id}"))
    return told


def net(engine: Engine) -> float:
    return engine.state.book.net / engine.state.book.equity


def refused(order: Order) -> Event:
    return OrderRejected(order.order_id, at(4), "margin")


def test_the_partner_of_a_leg_that_the_venue_refuses_is_hedged_within_the_decision() -> None:
    engine = engine_of(WEIGHTS)
    first, second = submitted(feed(engine, bars(4)))
    told = fills(engine, [first]) + feed(engine, refused(second))
    (hedge,) = submitted(told)
    assert (hedge.key.symbol, hedge.quantity) == ("BTC/USDT:USDT", Decimal(-20))
    assert decided(told)[-1].orders == (hedge,)
    assert "against BTC" in decided(told)[-1].note
    fills(engine, [hedge])
    assert net(engine) == pytest.approx(0.0, abs=0.005)


def test_legs_that_were_not_sent_yet_shrink_first_and_no_hedge_is_needed() -> None:
    engine = engine_of([0.0, 0.0, 0.2, -0.2], RiskLimits(net_weight_max=0.1))
    (first, second) = submitted(feed(engine, bars(4)))
    assert abs(first.quantity) < 20  # in slices
    told = feed(engine, refused(first)) + fills(engine, [second])
    for _ in range(6):
        told = fills(engine, submitted(told))
    held = engine.state.book.held
    assert held[:2] == [0.0, 0.0]
    assert held[2] == pytest.approx(20 + float(first.quantity) * -1, abs=0.02)
    assert held[2] == pytest.approx(-held[3], abs=0.02)


def test_nothing_is_mended_while_another_order_is_in_doubt() -> None:
    engine = engine_of(WEIGHTS)
    first, second = submitted(feed(engine, bars(4)))
    told = feed(engine, OrderUncertain(first.order_id, at(4), "reset"), refused(second))
    assert submitted(told) == []
    told = feed(engine, OrderAbsent(first.order_id, at(4)))
    assert submitted(told) == []  # neither leg came to be, and the book is as neutral as before
    assert net(engine) == 0.0


def test_without_a_hedge_that_trades_the_partner_itself_is_reduced() -> None:
    engine = engine_of(WEIGHTS, execution=ExecutionRules(hedges=("DOGE",)))
    first, second = submitted(feed(engine, bars(4)))
    told = fills(engine, [first]) + feed(engine, refused(second))
    (back,) = submitted(told)
    assert (back.key, back.quantity) == (first.key, -first.quantity)
    assert back.reduce_only


def test_rejects_are_answered_a_bounded_number_of_times_and_never_by_the_same_name() -> None:
    engine = engine_of(WEIGHTS)
    first, second = submitted(feed(engine, bars(4)))
    told = fills(engine, [first]) + feed(engine, refused(second))
    names = []
    for _ in range(10):
        orders = submitted(told)
        if not orders:
            break
        names += [o.key.symbol for o in orders]
        told = feed(engine, *map(refused, orders))
    assert names == ["BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT"]
    assert abs(net(engine)) <= 0.5


def test_with_no_attempts_allowed_nothing_is_added() -> None:
    engine = engine_of(WEIGHTS, execution=ExecutionRules(mends_max=0))
    first, second = submitted(feed(engine, bars(4)))
    assert submitted(fills(engine, [first]) + feed(engine, refused(second))) == []


def test_with_betas_the_hedge_is_the_name_that_brings_beta_back() -> None:
    limits = replace(WIDE, beta_weight_max=0.6)
    engine = engine_of([0.0, 0.0, 0.2, -0.2], limits)
    first, second = submitted(feed(engine, bars(4)))
    fills(engine, [first])
    engine.state.book.count_beta([2.0, 1.0, 1.0, 1.0])
    (hedge,) = submitted(feed(engine, refused(second)))
    assert hedge.key.symbol == "ETH/USDT:USDT"
    fills(engine, [hedge])
    exposure = engine.state.book.beta
    assert exposure is not None
    assert exposure.net == pytest.approx(0.0, abs=50)


def test_a_leg_that_risk_refuses_takes_its_partners_along() -> None:
    engine = engine_of([0.3, -0.1, -0.1, -0.1], replace(WIDE, name_weight_max=0.25))
    told = feed(engine, bars(4))
    assert submitted(told) == []
    record = decided(told)[0]
    assert [r.order.index for r in record.refusals] == [0]
    assert "by smaller legs" in record.note
