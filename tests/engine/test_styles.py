"""Passive first, with a deadline in market time, then crossing; and a plan spread over a window."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.instrument import TradingRules
from daemon.domain.messages import (
    Cancel,
    Command,
    Operator,
    OperatorAction,
    OrderAbsent,
    OrderAccepted,
    OrderEnded,
    OrderRejected,
    OrderUncertain,
    Query,
    Tick,
)
from daemon.domain.order import Order, OrderKind
from daemon.engine.doubts import SILENCE_MS
from daemon.engine.engine import Engine
from daemon.engine.execution import Leg
from daemon.engine.risk import RiskLimits
from daemon.engine.styles import CANCELS_MAX, ExecutionRules, Style, passive_price, spread
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
PASSIVE = ExecutionRules(style=Style.PASSIVE, passive_ms=60_000, passive_offset_bps=10.0)
DUE_MS = at(4) + 60_000
WEIGHTS = [0.1, -0.1, 0.0, 0.0]


def engine_of(execution: ExecutionRules, weights: list[float] | None = None) -> Engine:
    wanted = FixedWeights(lambda _: weights or WEIGHTS)
    plain = trading_engine(wanted, limits=WIDE)
    engine = Engine(plain.universe, wanted, replace(plain.rules, execution=execution))
    engine.take_over(plain)
    feed(engine, bars(3))
    return engine


def accepted(engine: Engine, *orders: Order) -> list[Command]:
    return feed(engine, *(OrderAccepted(o.order_id, at(4)) for o in orders))


def cancels(told: list[Command]) -> list[str]:
    return [c.order_id for c in told if isinstance(c, Cancel)]


def passive_pair(engine: Engine) -> tuple[Order, Order]:
    buy, sell = submitted(feed(engine, bars(4)))
    accepted(engine, buy, sell)
    return buy, sell


def test_passive_orders_are_post_only_limits_on_their_own_side_of_the_reference() -> None:
    buy, sell = passive_pair(engine_of(PASSIVE))
    assert (buy.kind, buy.post_only, buy.limit_price) == (OrderKind.LIMIT, True, Decimal("99.9"))
    assert (sell.post_only, sell.limit_price) == (True, Decimal("100.1"))


def test_past_the_deadline_the_end_is_awaited_and_only_the_rest_crosses() -> None:
    engine = engine_of(PASSIVE)
    buy, sell = passive_pair(engine)
    feed(engine, fill_of(sell, "s"), fill_of(buy, "b", "4"))
    assert engine.wake_ms == DUE_MS
    assert feed(engine, Tick(DUE_MS - 1)) == []
    told = feed(engine, Tick(DUE_MS))
    assert cancels(told) == [buy.order_id]
    assert submitted(told) == []  # it may still fill
    feed(engine, fill_of(buy, "late", "1"))
    told = feed(engine, OrderEnded(buy.order_id, DUE_MS, "cancelled"))
    (rest,) = submitted(told)
    assert (rest.kind, rest.quantity, rest.post_only) == (OrderKind.MARKET, Decimal(5), False)
    assert rest.reference_price == 100.0
    assert decided(told)[0].orders == (buy, sell, rest)


def test_an_order_in_doubt_is_asked_about_and_nothing_of_it_is_sent_again() -> None:
    engine = engine_of(PASSIVE)
    buy, sell = passive_pair(engine)
    feed(engine, fill_of(sell, "s"), Tick(DUE_MS))
    told = feed(engine, OrderUncertain(buy.order_id, DUE_MS, "timed out"))
    assert [c.order_id for c in told if isinstance(c, Query)] == [buy.order_id]
    assert submitted(feed(engine, Tick(DUE_MS + 4_000))) == []
    told = feed(engine, OrderAccepted(buy.order_id, DUE_MS), Tick(DUE_MS + 20_000))
    assert cancels(told) == [buy.order_id]  # it rests after all, and is taken back again
    (rest,) = submitted(feed(engine, OrderEnded(buy.order_id, DUE_MS, "cancelled")))
    assert rest.quantity == buy.quantity


@pytest.mark.parametrize("ends", [OrderRejected, OrderAbsent])
def test_a_passive_order_that_the_venue_refuses_crosses_once(ends: type) -> None:
    engine = engine_of(PASSIVE)
    buy, _ = passive_pair(engine)
    why = ("would take",) if ends is OrderRejected else ()
    (rest,) = submitted(feed(engine, ends(buy.order_id, at(4), *why)))
    assert (rest.kind, rest.quantity) == (OrderKind.MARKET, buy.quantity)
    told = feed(engine, OrderRejected(rest.order_id, at(4), "margin"))
    assert buy.key not in {o.key for o in submitted(told)}


def test_a_cancel_that_does_not_end_its_order_is_sent_again_a_bounded_number_of_times() -> None:
    engine = engine_of(PASSIVE)
    buy, sell = passive_pair(engine)
    feed(engine, fill_of(sell, "s"))
    asked = []
    for later_ms in range(0, 25 * 60_000, 5_000):
        asked += cancels(feed(engine, Tick(DUE_MS + later_ms)))
    assert asked == [buy.order_id] * CANCELS_MAX


def test_what_rests_when_the_next_decision_comes_is_taken_back_once() -> None:
    engine = engine_of(PASSIVE)
    buy, sell = passive_pair(engine)
    feed(engine, bars(5))
    told = feed(engine, bars(6))
    assert sorted(cancels(told)).count(buy.order_id) <= 2
    fresh = feed(engine, *(OrderEnded(o.order_id, at(6), "cancelled") for o in (buy, sell)))
    assert all(o.as_of_ms == at(6) for o in submitted(fresh))
    assert len({o.key for o in submitted(fresh)}) == 2


def test_what_waits_for_room_past_a_bar_is_measured_at_the_new_marks_in_every_style() -> None:
    limits = RiskLimits(net_weight_max=0.06, order_weight_max=0.5)
    wanted = FixedWeights(lambda _: [0.3, -0.3, 0.0, 0.0])
    engine = trading_engine(wanted, limits=limits)
    _, *others = submitted(feed(engine, bars(3), bars(4)))
    (sell,) = (o for o in others if o.quantity < 0)
    feed(engine, bars(5, [110.0, 100.0, 100.0, 100.0]))
    book = engine.state.book
    (more,) = (o for o in submitted(feed(engine, fill_of(sell, "s"))) if o.quantity > 0)
    assert float(more.quantity) * 110.0 > 400.0
    assert book.net + book.pending_up <= limits.net_weight_max * book.equity


def test_flattening_crosses_at_once_whatever_the_style() -> None:
    engine = engine_of(replace(PASSIVE, twap_slices_n=4, twap_window_ms=600_000))
    for order in submitted(feed(engine, bars(4))):
        accepted(engine, order)
        feed(engine, fill_of(order, f"t{order.order_id}"))
    told = feed(engine, Operator(OperatorAction.FLATTEN, "f", at(4)))
    kinds = {o.kind for o in submitted(told)}
    assert kinds == {OrderKind.MARKET}
    held = {o.index: o.quantity for o in submitted(told)}
    assert {i: float(-q) for i, q in held.items()} == {0: engine.state.book.held[0], 1: -2.5}


def test_a_spread_plan_sends_both_sides_of_each_slice_when_it_is_due() -> None:
    engine = engine_of(ExecutionRules(twap_slices_n=4, twap_window_ms=40_000))
    told = feed(engine, bars(4))
    sent = [[(o.index, o.quantity) for o in submitted(told)]]
    assert engine.wake_ms == at(4) + 10_000
    for number in range(1, 4):
        assert submitted(feed(engine, Tick(at(4) + number * 10_000 - 1))) == []
        told = feed(engine, Tick(at(4) + number * 10_000))
        sent.append([(o.index, o.quantity) for o in submitted(told)])
    assert sent == [[(0, Decimal("2.5")), (1, Decimal("-2.5"))]] * 4
    assert len(decided(told)) == 1
    assert engine.quiescent


def test_a_late_slice_is_asked_about_only_once_it_was_silent_itself() -> None:
    """In doubt, it would neither be taken back nor cleared away before the next decision."""
    engine = engine_of(ExecutionRules(twap_slices_n=4, twap_window_ms=4 * SILENCE_MS))
    feed(engine, bars(4))
    due_ms = at(4) + 2 * SILENCE_MS
    late = submitted(feed(engine, Tick(due_ms)))[-1]
    assert not asked_about(feed(engine, Tick(due_ms + SILENCE_MS - 1)), late)
    assert asked_about(feed(engine, Tick(due_ms + SILENCE_MS)), late)


def asked_about(told: list[Command], order: Order) -> bool:
    return any(isinstance(c, Query) and c.order_id == order.order_id for c in told)


def test_a_prices_side_is_never_rounded_into_the_market() -> None:
    rules = TradingRules(Decimal("0.5"), Decimal(1), Decimal(1), Decimal(0))
    assert passive_price(100.3, rules, 0.0, buys=True) == Decimal("100.0")
    assert passive_price(100.3, rules, 0.0, buys=False) == Decimal("100.5")
    assert passive_price(0.3, rules, 0.0, buys=True) is None


@given(st.lists(st.integers(-500, 500).filter(bool), min_size=1, max_size=8), st.integers(1, 20))
def test_slices_together_are_the_legs_to_the_last_lot(lots: list[int], slices_n: int) -> None:
    step = Decimal("0.01")
    rules = TradingRules(step, step, 7 * step, Decimal(0))
    legs = [
        Leg(i, n * step, float(n * step), 100.0, rules, reduces=False, value=abs(n))
        for i, n in enumerate(lots)
    ]
    waves = spread(legs, slices_n)
    assert len(waves) == slices_n
    for index, n in enumerate(lots):
        parts = [g.left for wave in waves for g in wave if g.index == index]
        assert sum(parts) == n * step
        assert all(abs(p) >= 7 * step for p in parts) or len(parts) == 1
