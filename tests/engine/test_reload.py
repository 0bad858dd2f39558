"""Rules that change while a book is open: at one place of the journal, and the same in a replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import codec
from daemon.domain.failures import InvariantViolated
from daemon.domain.messages import Cancel, Command, Event, Operator, OperatorAction, RuleValue
from daemon.engine.engine import Engine
from daemon.engine.reconcile import ReconcilePolicy
from daemon.engine.risk import RiskLimits
from daemon.engine.rules import changed, changes
from daemon.engine.styles import ExecutionRules, Style
from daemon.runtime.recovery import fingerprint
from tests.engine.world import (
    FixedWeights,
    at,
    bars,
    decided,
    feed,
    fill_of,
    make_engine,
    submitted,
    trading_engine,
)

PAIR = FixedWeights(lambda as_of_ms: [0.2, -0.2, 0.0, 0.0])


def reload(name: str, bar: int = 3, **new: RuleValue) -> Operator:
    """Reload rules; `limits__x` stands for `limits.x`."""
    rules = {key.replace("__", "."): value for key, value in new.items()}
    return Operator(OperatorAction.RELOAD, name, at(bar), "told", rules)


def test_a_tighter_limit_holds_from_the_very_next_order_on() -> None:
    engine = trading_engine(PAIR)
    feed(engine, reload("r1", limits__order_weight_max=0.05))
    sent = submitted(feed(engine, bars(3), bars(4)))
    assert max(abs(o.quantity) for o in sent) <= 5


def test_the_same_request_again_changes_nothing_even_with_other_values() -> None:
    engine = trading_engine(PAIR)
    feed(engine, reload("r1", limits__gross_weight_max=0.5))
    feed(engine, reload("r1", limits__gross_weight_max=9.0))
    assert engine.rules.limits.gross_weight_max == 0.5


def test_a_decision_in_the_middle_goes_on_by_the_new_rules_and_sends_nothing_twice() -> None:
    engine = trading_engine(PAIR, limits=RiskLimits(net_weight_max=0.05))
    told = feed(engine, bars(3), bars(4))
    wider = reload("r1", 4, limits__net_weight_max=0.5, limits__order_weight_max=0.5)
    told += feed(engine, wider)
    number = 0
    while waiting := [o for o in submitted(told) if o.order_id in engine.state.orders.open]:
        number += 1
        told += feed(engine, fill_of(waiting[0], f"f{number}"))
    sent = submitted(told)
    assert len({o.order_id for o in sent}) == len(sent)
    assert engine.state.book.held[:2] == [20.0, -20.0]
    (record,) = decided(told)
    assert len(record.orders) == len(sent)


def test_what_rests_past_a_new_bound_is_taken_back_at_once() -> None:
    engine = trading_engine(PAIR)
    sent = submitted(feed(engine, bars(3), bars(4)))
    for order in sent:
        engine.state.orders.accept(order.order_id)
    told = feed(engine, reload("r1", 4, limits__net_weight_max=0.01))
    assert {c.order_id for c in told if isinstance(c, Cancel)} == {o.order_id for o in sent}


def test_a_limit_that_was_off_begins_to_count_and_one_that_is_switched_off_ends() -> None:
    engine = trading_engine(PAIR)
    feed(engine, reload("r1", limits__beta_weight_max=0.3, limits__collar_bps=5.0))
    assert engine.state.book.beta is not None
    assert engine.rules.limits.collar_bps == 5.0
    feed(engine, reload("r2", limits__beta_weight_max=None))
    assert engine.state.book.beta is None


def test_policy_and_style_change_and_what_was_reloaded_survives_a_snapshot() -> None:
    engine = trading_engine(PAIR)
    feed(
        engine,
        reload("r1", reconcile="adopt", execution__style="passive", execution__hedges=("SOL",)),
    )
    again = make_engine(PAIR)
    again.restore(codec.decode(codec.encode(engine.state.to_plain()), dict))
    assert changes(engine.rules, again.rules) == {}
    assert again.rules.reconcile is ReconcilePolicy.ADOPT
    assert again.rules.execution.style is Style.PASSIVE
    assert again.rules.execution.hedges == ("SOL",)
    assert shown(again, bars(3), bars(4)) == shown(engine, bars(3), bars(4))


def test_a_new_start_goes_by_its_own_settings_and_not_by_what_was_reloaded() -> None:
    engine = trading_engine(PAIR)
    feed(engine, reload("r1", limits__gross_weight_max=0.5))
    again = make_engine(PAIR)
    again.take_over(engine)
    assert again.rules.limits.gross_weight_max == 2.0
    assert again.state.changed == {}
    assert again.state.book.cash == engine.state.book.cash


@pytest.mark.parametrize("name", ["cadence.deadline_ms", "cost", "limits.no_such"])
def test_a_rule_that_may_not_change_while_a_book_is_open_is_refused(name: str) -> None:
    engine = trading_engine(PAIR)
    with pytest.raises(InvariantViolated, match="may not change"):
        feed(engine, Operator(OperatorAction.RELOAD, "r1", at(3), "", {name: 1}))


limits = st.builds(
    RiskLimits,
    gross_weight_max=st.floats(0.1, 4),
    net_weight_max=st.floats(0.01, 1),
    order_weight_max=st.floats(0.01, 1),
    beta_weight_max=st.none() | st.floats(0.01, 1),
    collar_bps=st.none() | st.floats(1, 100),
    orders_minute_max=st.none() | st.integers(1, 50),
    day_loss_max=st.none() | st.floats(0.01, 0.5),
    margin_ratio_max=st.none() | st.floats(0.01, 1),
)
executions = st.builds(
    ExecutionRules,
    style=st.sampled_from(list(Style)),
    passive_ms=st.integers(1, 10**6),
    mends_max=st.integers(0, 5),
    hedges=st.sampled_from([("BTC",), ("ETH", "BTC"), ()]),
    cost_feedback=st.booleans(),
)


@given(limits, executions, st.sampled_from(list(ReconcilePolicy)), st.integers(1, 9))
def test_what_changes_written_down_and_read_back_gives_exactly_the_new_rules(
    new: RiskLimits, execution: ExecutionRules, policy: ReconcilePolicy, asks_max: int
) -> None:
    before = make_engine(PAIR).rules
    after = replace(
        before, limits=new, execution=execution, reconcile=policy, uncertain_asks_max=asks_max
    )
    event = Operator(OperatorAction.RELOAD, "r", 0, "", changes(before, after))
    read = codec.decode_message(codec.encode_message(event))
    assert read == event
    assert isinstance(read, Operator)
    assert changes(changed(before, read.rules), after) == {}
    assert changed(before, read.rules).limits == new
    assert changed(before, read.rules).execution == execution


@given(st.integers(0, 5), st.sampled_from([0.02, 0.3]), st.booleans())
def test_a_replay_takes_a_reload_at_the_same_place(place: int, net: float, passive: bool) -> None:
    def events(engine: Engine) -> list[bytes]:
        told: list[list[Command]] = []
        wish = reload(
            "r",
            limits__net_weight_max=net,
            execution__style="passive" if passive else "cross",
        )
        for step in range(6):
            if step == place:
                told.append(feed(engine, wish))
            told.append(feed(engine, bars(3 + step)))
            for order in submitted(told[-1]):
                told.append(feed(engine, fill_of(order, str(order.order_id))))
        return [fingerprint(command) for commands in told for command in commands]

    assert events(trading_engine(PAIR)) == events(trading_engine(PAIR))


def shown(engine: Engine, *events: Event) -> Sequence[Mapping[str, Decimal]]:
    """Give what an engine orders, by name."""
    return [{str(o.order_id): o.quantity} for o in submitted(feed(engine, *events))]
