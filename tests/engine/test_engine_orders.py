"""What becomes of orders when things go wrong: each scenario in a few events."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from daemon.domain.messages import (
    AlertKind,
    Cancel,
    EstimatesMissing,
    OperatorAction,
    OrderAbsent,
    OrderAccepted,
    OrderEnded,
    OrderRejected,
    OrderUncertain,
    Query,
    Started,
    Tick,
)
from daemon.domain.order import DoneReason, Order, OrderId, OrderKind, Resting, Uncertain
from daemon.engine.orders import TOLD_AGAIN_MS, TRADE_IDS_KEPT
from daemon.engine.risk import RiskLimits, TradingState
from tests.engine.acts import PAIR, accept_all, decide, wish, with_a_pair
from tests.engine.world import (
    CASH_KEY,
    alerts,
    at,
    bars,
    decided,
    feed,
    fill_of,
    forecast,
    key,
    names,
    snapshot,
    submitted,
    trading,
    trading_engine,
)

# ---- orders --------------------------------------------------------------------------------------


def test_slices_that_turn_a_position_round_do_not_all_claim_to_reduce_it() -> None:
    limits = RiskLimits(order_weight_max=0.06, net_weight_max=1.0)
    engine = with_a_pair(limits=limits)
    orders = submitted(decide(engine, 6, (-0.1, 0.1, 0.0, 0.0)))
    sells = [o for o in orders if o.index == 0]
    assert sum(o.quantity for o in sells) == -20
    reducing = [o.quantity for o in sells if o.reduce_only]
    assert -10 <= sum(reducing, Decimal(0)) < 0  # a venue would refuse or clip any more
    assert [o.reduce_only for o in sells] == [True] + [False] * (len(sells) - 1)


def test_orders_the_venue_did_not_cancel_until_the_next_instant_end_the_decision() -> None:
    engine = trading_engine()
    accept_all(engine, submitted(decide(engine, 4, PAIR)))
    told = decide(engine, 6, (0.2, -0.2, 0.0, 0.0))
    assert names(told)[-2:] == ["Cancel", "Cancel"]
    told = feed(engine, bars(7))
    assert submitted(told) == []
    record = decided(told)[0]
    assert record.note == f"no orders: {alerts(told, AlertKind.NO_DECISION)[0].text}"
    assert "was still clearing" in record.note
    assert submitted(feed(engine, EstimatesMissing(at(7), "late"))) == []


def test_legs_that_never_found_room_are_named_when_the_next_decision_takes_over() -> None:
    engine = trading_engine()
    told = decide(engine, 4, (0.4, -0.4, 0.0, 0.0))
    assert decided(told) == []  # 0.25 is the bound: the rest waits for fills
    told = decide(engine, 6, (0.4, -0.4, 0.0, 0.0))
    assert decided(told)[0].note == "2 legs unsent: superseded by the next decision"


def test_no_slice_of_the_last_decision_goes_out_while_the_next_one_is_worked_on() -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, (0.4, -0.4, 0.0, 0.0)))
    feed(engine, bars(5), bars(6))  # the estimator is asked, and its answer is on the way
    assert feed(engine, fill_of(orders[0], "a")) == []  # there would be room for a sale now
    told = feed(engine, forecast(6, (0.4, -0.4, 0.0, 0.0)))
    assert decided(told)[0].note == "2 legs unsent: superseded by the next decision"


def test_an_unresolved_order_keeps_its_instrument_out_and_its_exposure_in() -> None:
    engine = trading_engine()
    first = submitted(decide(engine, 4, PAIR))
    feed(engine, OrderUncertain(first[0].order_id, at(4), "reset"), fill_of(first[1], "t1"))
    told = decide(engine, 6, (0.2, -0.2, 0.1, -0.1))
    assert {o.index for o in submitted(told)} == {2}  # the sells would stand alone
    assert engine.state.book.pending_up >= 1_000.0
    high, low = engine.state.book.worst_net()
    assert max(high, -low) <= 2_500.0


def test_a_lost_answer_is_asked_about_a_bounded_number_of_times_also_over_many_ticks() -> None:
    engine = trading_engine(asks_max=3)
    orders = submitted(decide(engine, 4, PAIR))
    name = orders[0].order_id
    asked = 0
    told = feed(engine, OrderUncertain(name, at(4), "reset"))
    for bar in range(5, 40):
        asked += told.count(Query(name, key(0)))
        told = feed(engine, OrderUncertain(name, at(bar), "reset"), Tick(at(bar) + 30_000))
    assert asked == 3
    assert trading(engine) is TradingState.HALTED
    assert str(name) in engine.state.halted_why
    # a start asks once more, and halts at once when that is in vain
    told = feed(engine, Started(at(40), "again"))
    assert Query(name, key(0)) in told
    told = feed(engine, OrderUncertain(name, at(40), "reset"))
    assert trading(engine) is TradingState.HALTED


def test_an_order_that_gets_no_answer_at_all_is_asked_about_and_named() -> None:
    engine = trading_engine(asks_max=2)
    orders = submitted(decide(engine, 4, PAIR))
    feed(engine, fill_of(orders[1], "t1"))
    name = orders[0].order_id
    assert feed(engine, Tick(at(4) + 299_999)) == []
    assert feed(engine, Tick(at(4) + 300_000)) == [Query(name, key(0))]
    told = [c for minute in range(6, 9) for c in feed(engine, Tick(at(4) + minute * 60_000))]
    assert told.count(Query(name, key(0))) == 1
    assert trading(engine) is TradingState.HALTED
    assert str(name) in engine.state.halted_why


def test_questions_follow_the_time_of_the_market_and_not_the_stamps_of_answers() -> None:
    engine = trading_engine()
    name = submitted(decide(engine, 4, PAIR))[0].order_id
    told = feed(engine, OrderUncertain(name, at(100_000), "a clock that is years ahead"))
    assert told == [Query(name, key(0))]
    assert feed(engine, Tick(at(4) + 5_000)) == [Query(name, key(0))]


@pytest.mark.parametrize("action", [OperatorAction.KILL, OperatorAction.PAUSE])
def test_a_lost_order_that_turns_up_after_a_halt_or_pause_is_taken_back(
    action: OperatorAction,
) -> None:
    engine = trading_engine()
    first, second = submitted(decide(engine, 4, PAIR))
    for one in (first, second):
        feed(engine, OrderUncertain(one.order_id, at(4), "reset"))
    feed(engine, wish(action))
    told = feed(engine, fill_of(first, "t1", "2"))  # by a fill of a part
    assert Cancel(first.order_id, first.key) in told
    told = feed(engine, OrderAccepted(second.order_id, at(4)))  # or by its admission
    assert Cancel(second.order_id, second.key) in told
    told = feed(engine, bars(5))  # and again at each close, should that be lost as well
    assert {c.order_id for c in told if isinstance(c, Cancel)} == {first.order_id, second.order_id}


def test_a_fill_that_nothing_of_ours_explains_is_booked_and_stops_trading() -> None:
    engine = trading_engine()
    ours = submitted(decide(engine, 4, PAIR))[0]
    stranger = replace(ours, order_id=OrderId("hand-made"))
    told = feed(engine, fill_of(stranger, "t9", "3"))
    assert engine.state.book.held[0] == 3.0
    assert trading(engine) is TradingState.HALTED
    (alert,) = alerts(told, AlertKind.STRANGE_FILL)
    assert alert.text == f"fill t9 of 3 {key(0)} belongs to an order that is not ours"


def test_a_fill_on_another_instrument_than_its_order_stops_trading() -> None:
    engine = trading_engine()
    first, second = submitted(decide(engine, 4, PAIR))
    crossed = replace(second, order_id=first.order_id, quantity=first.quantity)
    told = feed(engine, fill_of(crossed, "t1", "1"))
    assert trading(engine) is TradingState.HALTED
    assert f"which is for {first.key}" in alerts(told, AlertKind.STRANGE_FILL)[0].text


def test_a_venue_that_is_away_for_a_minute_does_not_use_up_the_questions() -> None:
    engine = trading_engine(asks_max=5)
    name = submitted(decide(engine, 4, PAIR))[0].order_id
    asked_ms = []
    told = feed(engine, OrderUncertain(name, at(4), "reset"))
    for second in range(60):
        now_ms = at(4) + second * 1_000
        told += feed(engine, Tick(now_ms))
        for _ in [c for c in told if isinstance(c, Query)]:
            asked_ms.append(now_ms - at(4))
            feed(engine, *[OrderUncertain(name, now_ms, "away")] * 3)  # said more than once
        told = []
    assert asked_ms == [0, 5_000, 15_000, 35_000]
    assert trading(engine) is TradingState.TRADING
    feed(engine, OrderAbsent(name, at(4) + 61_000))
    assert name not in engine.state.orders.open


def test_a_venue_that_answers_nothing_at_all_is_not_waited_for_for_ever() -> None:
    engine = trading_engine(asks_max=2)
    name = submitted(decide(engine, 4, PAIR))[0].order_id
    told = feed(engine, OrderUncertain(name, at(4), "reset"))
    for second in range(1, 30):
        told += feed(engine, Tick(at(4) + second * 1_000))
    assert sum(isinstance(c, Query) for c in told) == 2
    assert trading(engine) is TradingState.HALTED
    (unresolved,) = alerts(told, AlertKind.ORDER_UNRESOLVED)
    assert str(name) in unresolved.text


def test_what_rests_is_taken_back_when_new_prices_carry_its_worst_case_past_the_bound() -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, (0.24, -0.24, 0.0, 0.0)))
    buy, sell = sorted(orders, key=lambda o: -o.quantity)
    feed(engine, OrderAccepted(buy.order_id, at(4)), OrderAccepted(sell.order_id, at(4)))
    assert feed(engine, bars(5, [103.0, 100.0, 100.0, 100.0])) == []  # 0.2472 of equity still fits
    told = feed(engine, bars(6, [106.0, 100.0, 100.0, 100.0]))
    # 24 coins at 106 could take the book to 0.2544 of equity; the sale still fits
    assert [c.order_id for c in told if isinstance(c, Cancel)] == [buy.order_id]


def test_an_answer_that_comes_at_last_resolves_the_doubt() -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, PAIR))
    name = orders[0].order_id
    feed(engine, OrderUncertain(name, at(4), "reset"))
    assert engine.state.orders.open[name].state == Uncertain(1, at(4) + 5_000)
    feed(engine, OrderAccepted(name, at(4)))
    assert engine.state.orders.open[name].state == Resting()
    feed(engine, fill_of(orders[0], "t1"))
    assert engine.state.orders.ended[name] is DoneReason.FILLED
    assert feed(engine, OrderUncertain(name, at(4), "too late")) == []


def test_more_filled_than_ordered_halts_and_names_the_order() -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, PAIR))
    told = feed(engine, fill_of(orders[0], "t1", "12.00"))
    assert trading(engine) is TradingState.HALTED
    assert alerts(told)[0].text == f"order {orders[0].order_id} of 10.00: venue filled 12.00"
    assert engine.state.book.held[0] == 12.0  # the venue's truth all the same
    assert engine.state.book.pending_down == 1_000.0  # the other order is still out
    assert engine.state.orders.ended[orders[0].order_id] is DoneReason.FILLED


def test_a_fill_of_an_order_that_is_over_or_unknown_still_moves_the_book() -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, PAIR))
    feed(engine, OrderEnded(orders[0].order_id, at(4), "cancelled"))
    feed(engine, fill_of(orders[0], "late", "4"))
    assert engine.state.book.held[0] == 4.0
    assert engine.state.book.pending_buy[0] == 0.0
    assert engine.state.book.shortfall == 0.0


def test_how_orders_end_is_remembered() -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, (0.1, -0.1, 0.1, -0.1)))
    feed(
        engine,
        OrderEnded(orders[0].order_id, at(4), "expired"),
        OrderEnded(orders[1].order_id, at(4), "cancelled on request"),
        OrderRejected(orders[2].order_id, at(4), "margin"),
        OrderAbsent(orders[3].order_id, at(4)),
        OrderRejected(orders[3].order_id, at(4), "said again"),
    )
    ended = list(engine.state.orders.ended.values())
    assert ended == [
        DoneReason.EXPIRED,
        DoneReason.CANCELLED,
        DoneReason.REJECTED,
        DoneReason.ABSENT,
    ]
    assert engine.state.book.worst_net() == (0.0, 0.0)


def test_an_order_that_ended_early_is_noted_in_the_decision_that_sent_it() -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, (0.4, -0.4, 0.0, 0.0)))
    told = feed(engine, OrderRejected(orders[0].order_id, at(4), "margin"))
    assert f"{orders[0].order_id} rejected" in decided(told)[0].note


def test_what_risk_refuses_is_in_the_record_and_said_aloud() -> None:
    engine = trading_engine(limits=RiskLimits(name_weight_max=0.15))
    told = decide(engine, 4, (0.2, -0.1, -0.1, 0.0))
    record = decided(told)[0]
    assert [r.order.index for r in record.refusals] == [0]
    assert "name_weight_max" in alerts(told, AlertKind.ORDER_REFUSED)[0].text


def test_a_leg_that_fits_nowhere_is_refused_by_name_and_its_partner_shrinks() -> None:
    engine = trading_engine(limits=RiskLimits(net_weight_max=0.0004))
    told = decide(engine, 4, PAIR)  # 4 USDT of room, orders from 5 USDT on
    record = decided(told)[0]
    assert record.orders == ()
    assert [r.detail for r in record.refusals] == ["no slice fits into the net bound"]
    assert "by smaller legs" in record.note


def test_what_the_venue_tells_again_after_a_restart_counts_once_however_much_it_is() -> None:
    engine = trading_engine()
    count = TRADE_IDS_KEPT + 500
    orders = [
        Order(
            OrderId(f"o{i}"),
            key(0),
            0,
            Decimal(2 - 3 * (i % 2)),
            OrderKind.MARKET,
            at(2),
            100.0,
            None,
        )
        for i in range(count)
    ]
    fills = [fill_of(order, f"t{i}") for i, order in enumerate(orders)]
    for order, fill in zip(orders, fills, strict=True):
        engine.state.orders.submit(order)
        engine.state.book.reserve(0, float(order.quantity))
        engine.process(fill)
    ledger = engine.state.book.ledger
    held, cash = ledger.quantity(key(0)), ledger.cash[CASH_KEY]
    end = snapshot({0: str(held)}, str(cash), at(3) + TOLD_AGAIN_MS)
    feed(engine, Started(at(3), "again"), *fills, end)
    assert ledger.quantity(key(0)) == held
    assert trading(engine) is TradingState.TRADING
    assert len(engine.state.orders.trade_ids) == TRADE_IDS_KEPT, (
        "the venue will not tell them again"
    )


def test_more_fills_in_a_few_minutes_than_are_kept_for_good_count_once_when_told_again() -> None:
    engine = trading_engine()
    ledger = engine.state.book.ledger
    fills = []
    for i in range(TRADE_IDS_KEPT + 500):
        quantity = Decimal(2 - 3 * (i % 2))
        order = Order(OrderId(f"o{i}"), key(0), 0, quantity, OrderKind.MARKET, at(2), 100.0, None)
        fills.append(fill_of(order, f"t{i}"))
        engine.state.orders.submit(order)
        engine.state.book.reserve(0, float(quantity))
        engine.process(fills[-1])
    held, cash = ledger.quantity(key(0)), ledger.cash[CASH_KEY]
    feed(engine, snapshot({0: str(held)}, str(cash), fills[-1].fill.at_ms + 1_000))
    feed(engine, *fills)
    assert ledger.quantity(key(0)) == held
