"""What an operator asks for: flatten, pause, reduce-only, kill, resume."""

from __future__ import annotations

from decimal import Decimal

import pytest

from daemon.domain.messages import (
    Cancel,
    OperatorAction,
    OrderAccepted,
    OrderEnded,
    OrderRejected,
    OrderUncertain,
    Started,
    Tick,
)
from daemon.engine.risk import RiskLimits, TradingState
from daemon.engine.state import remember
from tests.engine.acts import PAIR, accept_all, decide, fill_all, wish, with_a_pair
from tests.engine.world import (
    alerts,
    at,
    bars,
    decided,
    deposit,
    feed,
    fill_of,
    forecast,
    make_engine,
    names,
    snapshot,
    submitted,
    trading,
    trading_engine,
)

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
    accept_all(engine, out[1:])
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
    assert names(feed(engine, Tick(at(4) + 5_000))) == ["Query"]
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


def test_a_lost_order_that_turns_up_in_reduce_only_is_taken_back_if_it_would_open() -> None:
    engine = with_a_pair()
    orders = submitted(decide(engine, 6, (-0.1, 0.1, 0.0, 0.0)))
    opening = [o for o in orders if not o.reduce_only]
    assert opening
    feed(engine, *(OrderUncertain(o.order_id, at(6), "reset") for o in orders))
    told = feed(engine, wish(OperatorAction.REDUCE_ONLY))
    assert not any(isinstance(c, Cancel) for c in told), "nobody knows yet what is there"
    told = feed(engine, *(OrderAccepted(o.order_id, at(6)) for o in orders))
    found = [c.order_id for c in told if isinstance(c, Cancel)]
    assert found == [o.order_id for o in opening]


@pytest.mark.parametrize("action", [OperatorAction.PAUSE, OperatorAction.REDUCE_ONLY])
def test_a_pause_does_not_keep_a_book_from_being_flattened(action: OperatorAction) -> None:
    engine = with_a_pair(limits=RiskLimits(order_weight_max=0.04, net_weight_max=0.05))
    first = submitted(feed(engine, wish(OperatorAction.FLATTEN, "f")))
    assert sum(abs(o.quantity) for o in first) < 20
    assert feed(engine, wish(action, "again")) == []
    fill_all(engine, first)
    assert not engine.state.book.gross


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
