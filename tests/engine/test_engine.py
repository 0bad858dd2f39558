"""What the engine does when things go wrong: each scenario in a few events."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from daemon.domain.decision import DecisionKind
from daemon.domain.failures import InvariantViolated
from daemon.domain.forecast import Estimates
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import (
    AlertKind,
    AskSnapshot,
    Cancel,
    Command,
    Estimate,
    EstimatesMissing,
    EstimatesReady,
    FundingRates,
    Operator,
    OperatorAction,
    OrderAbsent,
    OrderAccepted,
    OrderEnded,
    OrderRejected,
    OrderUncertain,
    Query,
    Snapshotted,
    Started,
    Submit,
    Tick,
    Transferred,
)
from daemon.domain.order import DoneReason, Order, Resting, Uncertain
from daemon.domain.portfolio import AccountSnapshot
from daemon.engine.engine import Engine
from daemon.engine.reconcile import ReconcilePolicy
from daemon.engine.risk import RiskLimits, TradingState
from daemon.engine.state import Phase, remember
from daemon.engine.trader import Trader
from tests.engine.world import (
    CASH_KEY,
    H1,
    M90,
    NAN,
    VENUE,
    FixedWeights,
    FollowForecasts,
    alerts,
    at,
    bars,
    decided,
    deposit,
    feed,
    fill_of,
    forecast,
    key,
    make_engine,
    names,
    shown,
    snapshot,
    submitted,
    trading,
    trading_engine,
)

PAIR = (0.1, -0.1, 0.0, 0.0)


def wish(action: OperatorAction, request: str = "1") -> Operator:
    return Operator(action, request, at(0))


def decide(engine: Engine, bar: int, means: tuple[float, ...]) -> list[Command]:
    """Close a bar on the hour and answer the question for forecasts."""
    return feed(engine, bars(bar, n=len(means)), forecast(bar, means))


def fill_all(engine: Engine, orders: list[Order], prefix: str = "t") -> list[Command]:
    """Fill orders, and those that their fills make room for."""
    told: list[Command] = []
    queue = list(orders)
    while queue:
        order = queue.pop(0)
        commands = feed(engine, fill_of(order, f"{prefix}-{order.order_id}"))
        queue += submitted(commands)
        told += commands
    return told


def with_a_pair(**changes: object) -> Engine:
    """Give an engine that is long 10 coins of the first and short 10 of the second."""
    engine = trading_engine(**changes)  # type: ignore[arg-type]
    fill_all(engine, submitted(decide(engine, 4, PAIR)))
    assert engine.state.book.held[:2] == [10.0, -10.0]
    return engine


# ---- flatten, pause, reduce-only, kill -----------------------------------------------------------


def test_flatten_at_the_instant_of_a_decision_uses_names_of_its_own() -> None:
    engine = with_a_pair()
    first = submitted(feed(engine, wish(OperatorAction.FLATTEN, "1")))
    assert {o.quantity for o in first} == {Decimal(10), Decimal(-10)}
    for order in first:
        feed(engine, OrderRejected(order.order_id, at(4), "too fast"))
    second = submitted(feed(engine, wish(OperatorAction.FLATTEN, "2")))
    assert {o.quantity for o in second} == {Decimal(10), Decimal(-10)}
    assert not {o.order_id for o in first} & {o.order_id for o in second}


def test_flatten_goes_on_at_the_next_decision_until_nothing_is_left() -> None:
    engine = with_a_pair(limits=RiskLimits(order_weight_max=0.04))
    out = submitted(feed(engine, wish(OperatorAction.FLATTEN)))
    assert sum(abs(o.quantity) for o in out) == 20  # in slices below 400 USDT
    feed(engine, fill_of(out[0], "f1"))
    told = feed(engine, bars(5), bars(6), forecast(6, PAIR))
    assert names(told)[-len(out) + 1 :] == ["Cancel"] * (len(out) - 1)
    told = feed(engine, *(OrderEnded(o.order_id, at(6), "cancelled") for o in out[1:]))
    fill_all(engine, submitted(told), "g")
    assert not engine.state.book.gross
    told = feed(engine, bars(7), bars(8), forecast(8, PAIR))
    assert decided(told)[-1].note == "paused by the operator"
    feed(engine, wish(OperatorAction.RESUME, "r"))
    assert submitted(decide(engine, 10, PAIR))


@pytest.mark.parametrize("warming", [True, False])
def test_reduce_only_before_the_account_is_known_does_not_skip_reconciliation(
    warming: bool,
) -> None:
    engine = make_engine()
    feed(engine, Started(at(2), "run", warming=warming), wish(OperatorAction.REDUCE_ONLY))
    expected = TradingState.STARTING if warming else TradingState.RECONCILING
    assert trading(engine) is expected
    feed(engine, Started(at(2), "run"), deposit(), snapshot())
    assert trading(engine) is TradingState.REDUCE_ONLY


def test_reduce_only_shrinks_both_sides_together_and_asks_for_nothing_forbidden() -> None:
    engine = with_a_pair()
    feed(engine, wish(OperatorAction.REDUCE_ONLY))
    # wanted: most of the long moved to another coin; of that only the sale may be done
    told = decide(engine, 6, (0.02, -0.1, 0.08, 0.0))
    assert decided(told)[-1].refusals == ()
    fill_all(engine, submitted(told))
    assert engine.state.book.held == [10.0, -10.0, 0.0, 0.0]  # balanced as it was


def test_kill_before_trading_began_holds_after_the_start() -> None:
    engine = make_engine()
    feed(engine, Started(at(2), "run", warming=True), wish(OperatorAction.KILL))
    feed(engine, Started(at(2), "run"), deposit(), snapshot())
    assert trading(engine) is TradingState.HALTED
    assert submitted(feed(engine, bars(3), bars(4), forecast(4, PAIR))) == []


def test_flatten_while_halted_sends_nothing_says_so_and_is_done_after_the_pause_of_trading() -> (
    None
):
    engine = with_a_pair()
    feed(engine, wish(OperatorAction.KILL, "k"))
    told = feed(engine, wish(OperatorAction.FLATTEN, "f"))
    assert names(told) == ["Alert"]
    assert "trading state is halted killed by the operator" in alerts(told)[0].text


def test_kill_cancels_what_is_open_and_asks_again_about_the_uncertain() -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, PAIR))
    feed(engine, OrderUncertain(orders[0].order_id, at(4), "reset"))
    told = feed(engine, wish(OperatorAction.KILL))
    assert names(told) == ["Alert", "Cancel"]
    assert names(feed(engine, Tick(at(4) + 1000))) == ["Query"]
    assert names(feed(engine, OrderAccepted(orders[0].order_id, at(4)))) == ["Cancel"]
    assert feed(engine, OrderAccepted(orders[1].order_id, at(4))) == []


def test_pause_ends_the_rebalance_under_way_and_takes_opening_orders_back() -> None:
    engine = with_a_pair(limits=RiskLimits(net_weight_max=0.11))
    orders = submitted(decide(engine, 6, (-0.2, 0.2, 0.0, 0.0)))
    told = feed(engine, wish(OperatorAction.PAUSE))
    assert "legs unsent: paused by the operator" in decided(told)[0].note
    opening = [o.order_id for o in orders if not o.reduce_only]
    assert [c.order_id for c in told if isinstance(c, Cancel)] == opening
    assert submitted(feed(engine, *(fill_of(o, o.order_id) for o in orders))) == []


def test_resume_when_nothing_is_wrong_only_ends_the_pause() -> None:
    engine = trading_engine()
    assert feed(engine, wish(OperatorAction.PAUSE, "p"), wish(OperatorAction.RESUME, "r")) == []
    assert trading(engine) is TradingState.TRADING
    assert not engine.state.paused


def test_after_a_resume_nothing_is_sent_before_the_account_was_compared() -> None:
    engine = with_a_pair()
    feed(engine, wish(OperatorAction.KILL, "k"), wish(OperatorAction.RESUME, "r"))
    assert trading(engine) is TradingState.RECONCILING
    assert submitted(decide(engine, 6, (0.2, -0.2, 0.0, 0.0))) == []
    feed(engine, snapshot({0: "10", 1: "-10"}, "10000", cursor=3))
    assert submitted(decide(engine, 8, (0.2, -0.2, 0.0, 0.0)))


def test_a_memory_of_names_is_bounded_and_forgets_the_oldest() -> None:
    engine = make_engine()
    seen = engine.state.operator_requests
    assert all(remember(f"{i}", seen, 3) for i in range(5))
    assert list(seen) == ["2", "3", "4"]
    assert not remember("4", seen, 3)


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
    decide(engine, 4, PAIR)
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
        asked += sum(isinstance(c, Query) for c in told)
        told = feed(engine, OrderUncertain(name, at(bar), "reset"), Tick(at(bar) + 30_000))
    assert asked <= 6  # three questions, and at most one more at each Tick in between
    assert trading(engine) is TradingState.HALTED
    assert str(name) in engine.state.halted_why
    # a start asks once more, and halts at once when that is in vain
    told = feed(engine, Started(at(40), "again"))
    assert Query(name, key(0)) in told
    told = feed(engine, OrderUncertain(name, at(40), "reset"))
    assert trading(engine) is TradingState.HALTED


def test_an_answer_that_comes_at_last_resolves_the_doubt() -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, PAIR))
    name = orders[0].order_id
    feed(engine, OrderUncertain(name, at(4), "reset"))
    assert engine.state.orders.open[name].state == Uncertain(0)
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
    feed(engine, OrderRejected(orders[0].order_id, at(4), "margin"))
    told = decide(engine, 6, (0.0, 0.0, 0.0, 0.0))
    assert f"{orders[0].order_id} rejected" in decided(told)[0].note


def test_what_risk_refuses_is_in_the_record_and_said_aloud() -> None:
    engine = trading_engine(limits=RiskLimits(name_weight_max=0.15))
    told = decide(engine, 4, (0.2, -0.1, -0.1, 0.0))
    record = decided(told)[0]
    assert [r.order.index for r in record.refusals] == [0]
    assert "name_weight_max" in alerts(told, AlertKind.ORDER_REFUSED)[0].text


def test_a_leg_that_fits_nowhere_is_refused_by_name_and_the_rest_goes_on() -> None:
    engine = trading_engine(limits=RiskLimits(net_weight_max=0.0004))
    told = decide(engine, 4, PAIR)  # 4 USDT of room, orders from 5 USDT on
    record = decided(told)[0]
    assert record.orders == ()
    assert [r.detail for r in record.refusals] == ["no slice fits into the net bound"] * 2


# ---- instants ------------------------------------------------------------------------------------


def test_too_few_bars_are_recorded_as_warming() -> None:
    engine = trading_engine(FollowForecasts(windows_needed={H1: 3}))
    told = feed(engine, bars(3), bars(4))
    assert decided(told)[0].note == "not enough bars yet: 1h"
    assert not any(isinstance(c, Estimate) for c in told)


def test_an_instant_without_any_bar_is_decided_at_its_deadline_with_all_absent() -> None:
    engine = trading_engine()
    told = feed(engine, bars(3), Tick(at(4)), Tick(at(4) + 19_999))
    assert names(told) == ["Estimate"]  # of half past three
    told = feed(engine, Tick(at(4) + 20_000), forecast(4, PAIR))
    assert decided(told)[0].absent == (0, 1, 2, 3)


def test_an_instrument_silent_for_too_long_is_no_longer_waited_for() -> None:
    engine = trading_engine()
    some = (100.0, 100.0, 100.0, NAN)
    for bar in range(3, 6):
        feed(engine, bars(bar, some, final=False))
        assert engine.state.phase is Phase.GATHERING  # last seen less than four bars ago
    feed(engine, bars(6, some, final=False), bars(7, some, final=False))
    assert engine.state.phase is Phase.ESTIMATING


def test_bars_that_come_in_pieces_are_decided_on_when_the_last_one_is_there() -> None:
    engine = trading_engine()
    feed(engine, bars(3))
    feed(engine, bars(4, (100.0, 100.0, NAN, NAN), final=False))
    assert engine.state.phase is Phase.GATHERING
    told = feed(engine, bars(4, (NAN, NAN, 100.0, 100.0), final=False))
    assert names(told) == ["Estimate"]


def test_a_question_still_open_at_the_next_bar_is_given_up_and_its_answer_ignored() -> None:
    engine = trading_engine()
    feed(engine, bars(3), bars(4))
    told = feed(engine, bars(5))
    assert "was still estimating" in alerts(told, AlertKind.NO_DECISION)[0].text
    assert feed(engine, forecast(4, PAIR)) == []
    assert feed(engine, EstimatesMissing(at(4), "late")) == []


def test_a_decision_before_reconciliation_is_not_made_and_said_so() -> None:
    engine = make_engine(FixedWeights(lambda _: PAIR))
    told = feed(engine, Started(at(2), "run"), bars(3), bars(4))
    assert "trading state is reconciling" in alerts(told, AlertKind.NO_DECISION)[0].text


def test_the_account_is_compared_once_a_day_without_asking_for_executions() -> None:
    engine = trading_engine()
    told = feed(engine, bars(47), bars(48))
    assert AskSnapshot(VENUE, -1) in told
    assert sum(isinstance(c, AskSnapshot) for c in told) == 1


def test_a_late_bar_of_an_older_instant_changes_no_newer_mark() -> None:
    engine = trading_engine()
    feed(engine, bars(3, (101.0, NAN, 101.0, 101.0)), bars(4, 102.0))
    feed(engine, bars(3, (NAN, 50.0, NAN, NAN), final=False))
    assert engine.state.book.prices == [102.0] * 4


def test_everything_the_estimator_says_reaches_the_strategy() -> None:
    engine = trading_engine()
    feed(engine, bars(3), bars(4))
    prediction = forecast(4, PAIR).estimates.predictions
    disagreement = np.eye(1)
    feed(
        engine,
        FundingRates(at(4), np.array([0.1, NAN, 0.3, NAN]), np.zeros(4)),
        FundingRates(at(4), np.array([NAN, 0.2, NAN, NAN]), np.zeros(4)),
        EstimatesReady(Estimates(at(4), prediction, disagreement, None, 0.5)),
    )
    state = engine.state
    assert state.gross_multiplier == 0.5
    assert state.disagreement is disagreement
    assert np.array_equal(state.funding_rates, [0.1, 0.2, 0.3, NAN], equal_nan=True)


def test_only_timeframes_with_a_new_bar_are_asked_about() -> None:
    engine = make_engine(timeframes=(H1, M90))
    feed(engine, Started(at(0), "run", warming=True), *(bars(b) for b in range(1, 7)))
    feed(engine, Started(at(6), "run"), deposit(), snapshot())
    asked = [c for c in feed(engine, bars(7)) if isinstance(c, Estimate)]
    assert [w.timeframe for w in asked[0].windows] == [H1, M90]
    feed(engine, forecast(7, PAIR), EstimatesMissing(at(7), "again"))
    asked = [c for c in feed(engine, bars(8)) if isinstance(c, Estimate)]
    assert [w.timeframe for w in asked[0].windows] == [H1, M90]  # 90m was never answered


def test_equity_below_zero_stops_the_engine_instead_of_trading_on_nonsense() -> None:
    engine = with_a_pair()
    feed(engine, Transferred("w", CASH_KEY, at(4), Decimal(-20_000)))
    told = decide(engine, 6, PAIR)
    assert trading(engine) is TradingState.HALTED
    assert "equity" in alerts(told, AlertKind.HALTED)[0].text
    assert decided(told) == []


def test_a_ruined_book_can_still_be_flattened_by_the_operator() -> None:
    engine = with_a_pair()
    held = [k for k, q in enumerate(engine.state.book.held) if q]
    feed(engine, Transferred("w", CASH_KEY, at(4), Decimal(-20_000)))
    told = feed(engine, Operator(OperatorAction.FLATTEN, "f1", at(4)))
    sent = [c.approved.order for c in told if isinstance(c, Submit)]
    assert sorted(o.index for o in sent) == held
    assert all(o.reduce_only for o in sent)


# ---- the account ---------------------------------------------------------------------------------


def test_the_first_account_found_is_adopted_whole() -> None:
    engine = make_engine()
    feed(engine, Started(at(2), "run"))
    told = feed(engine, snapshot({0: "3"}, "500", cursor=7))
    assert "ours 0, venue 3" in alerts(told, AlertKind.RECONCILED)[0].text
    assert trading(engine) is TradingState.TRADING
    assert engine.state.book.held[0] == 3.0
    assert engine.state.book.cash == 500.0
    assert engine.state.book.ledger.transfers == 500
    assert engine.state.cursor == 7


def test_a_later_difference_is_asked_about_twice_more_and_then_halts() -> None:
    engine = with_a_pair()
    wrong = snapshot({0: "10"}, "10000", cursor=3)  # the short has vanished at the venue
    assert feed(engine, wrong) == [AskSnapshot(VENUE, 0)]
    assert feed(engine, wrong) == [AskSnapshot(VENUE, 0)]
    told = feed(engine, wrong)
    assert [a.kind for a in alerts(told)] == [AlertKind.RECONCILED, AlertKind.HALTED]
    assert "paper:ETH/USDT:USDT: ours -10.00, venue 0" in engine.state.halted_why
    assert engine.state.book.held[1] == -10.0  # never traded or booked away


def test_a_difference_that_the_next_executions_explain_is_forgotten() -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, PAIR))
    ours = snapshot({0: "10", 1: "-10"}, "10000", cursor=2)
    assert feed(engine, ours) == [AskSnapshot(VENUE, 0)]
    told = feed(engine, fill_of(orders[0], "a"), fill_of(orders[1], "b"), ours)
    assert told == []
    assert engine.state.mismatches == 0
    assert engine.state.cursor == 2


def test_the_adopting_policy_takes_the_venue_s_word_as_an_adjustment() -> None:
    engine = with_a_pair(reconcile=ReconcilePolicy.ADOPT)
    wrong = snapshot({0: "10"}, "9000")
    told = feed(engine, wrong, wrong, wrong)
    assert names(told) == ["AskSnapshot", "AskSnapshot", "Alert"]
    assert engine.state.book.held == [10.0, 0.0, 0.0, 0.0]
    assert trading(engine) is TradingState.TRADING
    assert engine.state.book.ledger.fills == 2


def test_a_position_in_a_foreign_instrument_halts_and_names_it() -> None:
    engine = make_engine(reconcile=ReconcilePolicy.ADOPT)
    feed(engine, Started(at(2), "run"))
    foreign = {InstrumentKey(VENUE, "PEPE/USDT:USDT"): Decimal(7)}
    account = AccountSnapshot(VENUE, at(2), foreign, {CASH_KEY: Decimal(5)})
    told = feed(engine, Snapshotted(account))
    assert trading(engine) is TradingState.HALTED
    assert "paper:PEPE/USDT:USDT: ours 0, venue 7" in alerts(told, AlertKind.HALTED)[0].text


def test_deposits_and_withdrawals_are_no_gain_and_no_loss_and_count_once() -> None:
    engine = trading_engine()
    feed(engine, deposit(Decimal(-300), 1), deposit(Decimal(-300), 1))
    assert engine.state.book.cash == 9_700.0
    assert engine.state.book.ledger.transfers == 9_700


# ---- restart -------------------------------------------------------------------------------------


def test_a_restart_asks_about_every_order_in_flight_before_it_trades() -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, PAIR))
    feed(engine, OrderAccepted(orders[0].order_id, at(4)))
    assert feed(engine, Started(at(4) + 60_000, "again", warming=True)) == []
    assert feed(engine, bars(5)) == []
    told = feed(engine, Started(at(5), "again"))
    assert told == [
        Query(orders[0].order_id, key(0)),
        Query(orders[1].order_id, key(1)),
        AskSnapshot(VENUE, 0),
    ]
    assert trading(engine) is TradingState.RECONCILING
    feed(engine, fill_of(orders[0], "t1"), OrderAbsent(orders[1].order_id, at(5)))
    feed(engine, snapshot({0: "10"}, "9000", cursor=1))
    assert trading(engine) is TradingState.TRADING
    told = decide(engine, 6, PAIR)
    assert shown(submitted(told)) == [(f"eq{at(6) // 1000:x}-1-1", "-10.00")]


def test_a_restart_in_the_middle_of_a_decision_records_what_was_left_unsent() -> None:
    engine = trading_engine()
    decide(engine, 4, (0.4, -0.4, 0.0, 0.0))
    told = feed(engine, Started(at(4), "again", warming=True))
    assert decided(told)[0].note == "2 legs unsent: superseded by a restart"
    assert engine.quiescent


def test_a_restart_after_a_halt_stays_halted() -> None:
    engine = with_a_pair()
    feed(engine, wish(OperatorAction.KILL))
    feed(engine, Started(at(5), "again", warming=True), Started(at(5), "again"))
    assert trading(engine) is TradingState.HALTED


def test_the_engine_asks_to_be_woken_at_the_deadline_of_the_next_source_close() -> None:
    engine = trading_engine()
    assert engine.wake_ms == at(3) + 20_000
    feed(engine, bars(3, (100.0, NAN, NAN, NAN), final=False))
    assert engine.wake_ms == at(3) + 20_000
    assert engine.state.phase is Phase.GATHERING
    feed(engine, Tick(at(3) + 20_000))
    assert engine.wake_ms == at(4) + 20_000


def test_a_tick_before_trading_changes_nothing() -> None:
    engine = make_engine()
    feed(engine, Started(at(1), "run", warming=True))
    assert feed(engine, Tick(at(9))) == []
    assert engine.state.instant_ms == 0


def test_an_instrument_without_any_bar_yet_does_not_hold_up_the_first_decisions() -> None:
    engine = make_engine(timeframes=(H1, M90))
    feed(engine, Started(at(2), "run"), deposit(), snapshot())
    told = feed(engine, bars(3, (NAN,) * 4), bars(4, (NAN,) * 4))
    assert decided(told)[0].note == "not enough bars yet: 1h"


def test_a_target_without_an_open_decision_is_a_mistake_of_ours() -> None:
    engine = trading_engine()
    trader = Trader(engine.state, RiskLimits(), "eq", [])
    with pytest.raises(InvariantViolated, match="no decision was opened"):
        trader.want(DecisionKind.HELD, None, "")
