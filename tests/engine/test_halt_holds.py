"""A halt ends what rests, also what nobody vouched for then, and keeps the word of who asked."""

from __future__ import annotations

import pytest

from daemon.domain.messages import (
    Cancel,
    Command,
    OperatorAction,
    OrderAccepted,
    OrderUncertain,
    Query,
    Tick,
)
from daemon.domain.order import Order
from daemon.domain.portfolio import OpenOrder
from daemon.engine.engine import Engine
from daemon.engine.risk import TradingState
from tests.engine.acts import PAIR, decide, wish
from tests.engine.test_foreign import account
from tests.engine.world import at, feed, fill_of, snapshot, submitted, trading, trading_engine


def halted_over(asks_max: int = 2) -> tuple[Engine, Order]:
    """Give an engine that used up its questions about an order, and was halted by that."""
    engine = trading_engine(asks_max=asks_max)
    lost = submitted(decide(engine, 4, PAIR))[0]
    feed(engine, OrderUncertain(lost.order_id, at(4), "reset"))
    for minute in range(1, 10):
        feed(engine, Tick(at(4) + minute * 60_000))
        feed(engine, OrderUncertain(lost.order_id, at(4), "away"))
    assert trading(engine) is TradingState.HALTED
    return engine, lost


def questions(told: list[Command], order: Order) -> int:
    return told.count(Query(order.order_id, order.key))


def test_an_unresolved_order_that_the_account_shows_to_rest_is_taken_back_after_the_halt() -> None:
    engine, lost = halted_over()
    resting = {str(lost.order_id): OpenOrder(lost.key, lost.quantity)}
    told = feed(engine, account(engine, {}, resting=resting))
    assert questions(told, lost) == 1, "the venue itself says that it is there"
    told = feed(engine, OrderAccepted(lost.order_id, at(5)))
    assert told == [Cancel(lost.order_id, lost.key)]
    assert questions(feed(engine, account(engine, {}, resting=resting)), lost) == 0


def test_an_unresolved_order_that_no_account_shows_is_not_asked_about_for_ever() -> None:
    engine, lost = halted_over()
    told = feed(engine, *(account(engine, {}) for _ in range(20)))
    assert questions(told, lost) == 0


@pytest.mark.parametrize("later", ["account", "overfilled"])
def test_what_halts_again_does_not_take_the_word_of_a_kill(later: str) -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, PAIR))
    feed(engine, wish(OperatorAction.KILL, "k"))
    if later == "account":
        feed(engine, *(snapshot({2: "5"}) for _ in range(3)))
    else:
        feed(engine, fill_of(orders[0], "t1", "12.00"))
    assert trading(engine) is TradingState.HALTED
    assert engine.state.halted_why == "killed by the operator"


def test_a_kill_says_so_although_something_else_halted_before() -> None:
    engine = trading_engine()
    feed(engine, *(snapshot({2: "5"}) for _ in range(3)))
    assert "differs from the venue" in engine.state.halted_why
    feed(engine, wish(OperatorAction.KILL, "k"))
    assert engine.state.halted_why == "killed by the operator"
