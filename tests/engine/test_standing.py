"""What a venue says of an instrument binds each layer by itself: plan, risk, resting orders."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from msgspec import structs

from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import InstrumentKey, Standing
from daemon.domain.messages import (
    Alert,
    AlertKind,
    Cancel,
    InstrumentChanged,
    OrderAccepted,
    OrderFilled,
)
from daemon.domain.order import SETTLEMENT_PREFIX, Order, OrderId, OrderKind, RefusalReason, Refused
from daemon.engine.engine import Engine
from daemon.engine.risk import Risk, RiskLimits, TradingState
from tests.engine.world import (
    FixedWeights,
    at,
    bars,
    decided,
    feed,
    fill_of,
    key,
    submitted,
    trading,
    trading_engine,
)

WANTED = (0.2, -0.2, 0.1, -0.1)
NOT_TRADING = [s for s in Standing if s is not Standing.TRADING]


def changed(engine: Engine, index: int, standing: Standing, **rules: Decimal) -> InstrumentChanged:
    instrument = engine.universe.instruments[index]
    now = replace(instrument, rules=replace(instrument.rules, **rules))
    return InstrumentChanged(at(3), index, now, standing, "because")


def wanting_blindly() -> Engine:
    """Give an engine whose strategy never looks at what is eligible."""
    return trading_engine(FixedWeights(lambda as_of_ms: WANTED))


@pytest.mark.parametrize("standing", NOT_TRADING)
def test_a_plan_opens_nothing_that_does_not_trade_and_keeps_the_rest_balanced(
    standing: Standing,
) -> None:
    engine = wanting_blindly()
    feed(engine, changed(engine, 0, standing))
    told = feed(engine, bars(3), bars(4))
    orders = submitted(told)
    while orders:
        told += (more := feed(engine, *(fill_of(o, f"f{o.order_id}") for o in orders)))
        orders = submitted(more)
    held = engine.state.book.held
    assert held[0] == 0
    assert sum(held) == pytest.approx(0, abs=1.0), "the others did not make up for it"
    assert any(held)
    assert all(not d.refusals for d in decided(told)), "it was planned, and only risk stopped it"


def order(quantity: str) -> Order:
    return Order(OrderId("o"), key(0), 0, Decimal(quantity), OrderKind.MARKET, at(2), 100.0)


@pytest.mark.parametrize("standing", NOT_TRADING)
@pytest.mark.parametrize("quantity", ["1.00", "-1.00"])
def test_risk_has_the_last_word_on_standing(standing: Standing, quantity: str) -> None:
    engine = trading_engine()
    engine.state.book.stand(0, engine.universe.instruments[0], standing)
    risk = Risk(RiskLimits(), engine.state.book)
    verdict = risk.judge(order(quantity), float(quantity), TradingState.TRADING, at(2), 0)
    assert isinstance(verdict, Refused)
    assert verdict.reason is RefusalReason.STANDING
    assert standing.words in verdict.detail


def holding() -> Engine:
    engine = wanting_blindly()
    orders = submitted(feed(engine, bars(3), bars(4)))
    while orders:
        orders = submitted(feed(engine, *(fill_of(o, f"f{o.order_id}") for o in orders)))
    assert engine.state.book.held[0] > 0
    return engine


@pytest.mark.parametrize(
    ("standing", "may_close"),
    [(Standing.REDUCE_ONLY, True), (Standing.UNRIPE, True), (Standing.GONE, False)],
)
def test_what_is_held_may_be_closed_until_it_is_gone(standing: Standing, may_close: bool) -> None:
    engine = holding()
    engine.state.book.stand(0, engine.universe.instruments[0], standing)
    risk = Risk(RiskLimits(), engine.state.book)
    size = -engine.state.book.held[0]
    verdict = risk.judge(order(f"{size:.2f}"), size, TradingState.TRADING, at(4), 0)
    assert isinstance(verdict, Refused) is not may_close


def test_what_rests_to_open_is_taken_back_and_what_closes_may_rest() -> None:
    engine = wanting_blindly()
    orders = submitted(feed(engine, bars(3), bars(4)))
    first = next(o for o in orders if o.index == 0)
    feed(engine, *(OrderAccepted(o.order_id, at(4)) for o in orders))
    told = feed(engine, changed(engine, 0, Standing.REDUCE_ONLY))
    assert [c.order_id for c in told if isinstance(c, Cancel)] == [first.order_id]
    assert [a.text for a in told if isinstance(a, Alert) and a.kind is AlertKind.INSTRUMENT] == [
        f"{key(0)} is reduce only: because"
    ]


def test_new_rules_hold_at_once_and_survive_a_snapshot() -> None:
    engine = wanting_blindly()
    coarse = changed(engine, 0, Standing.TRADING, quantity_step=Decimal(1), quantity_min=Decimal(1))
    feed(engine, coarse)
    other = wanting_blindly()
    other.restore(engine.state.to_plain())
    for one in (engine, other):
        orders = submitted(feed(one, bars(3), bars(4)))
        mine = [o.quantity for o in orders if o.index == 0]
        assert mine
        assert all(q == q.to_integral_value() for q in mine)
        assert one.universe.instruments[0].rules.quantity_step == 1


def test_standing_survives_a_snapshot() -> None:
    engine, other = wanting_blindly(), wanting_blindly()
    feed(engine, changed(engine, 0, Standing.REDUCE_ONLY))
    other.restore(engine.state.to_plain())
    assert all(o.index != 0 for o in submitted(feed(other, bars(3), bars(4))))


def test_a_settlement_by_the_venue_is_booked_and_no_strange_fill() -> None:
    engine = holding()
    closing = order(f"{-engine.state.book.held[0]:.2f}")
    fill = fill_of(closing, "settled").fill
    settled = OrderFilled(structs.replace(fill, order_id=OrderId(f"{SETTLEMENT_PREFIX}x")))
    told = feed(engine, settled)
    assert engine.state.book.held[0] == 0
    assert trading(engine) is TradingState.TRADING
    assert not [a for a in told if isinstance(a, Alert)]


def test_another_contract_in_a_column_is_refused() -> None:
    engine = trading_engine()
    other = replace(engine.universe.instruments[0], key=InstrumentKey("paper", "NEW/USDT:USDT"))
    with pytest.raises(InvariantViolated, match="column 0 is paper:BTC"):
        feed(engine, InstrumentChanged(at(3), 0, other, Standing.TRADING, ""))
