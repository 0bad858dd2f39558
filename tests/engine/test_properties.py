"""Properties of the whole engine against a venue that does its worst.

A failing seed is printed by hypothesis; `chaos_run(seed)` repeats the run exactly.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon import codec
from daemon.domain.messages import (
    Command,
    Event,
    FundingPaid,
    Operator,
    OrderFilled,
    Query,
    Submit,
    Transferred,
)
from daemon.domain.order import OrderId
from daemon.runtime.recovery import fingerprint, recover, replay_entry
from tests.engine.chaos import (
    NET_MAX,
    Run,
    chaos_engine,
    chaos_run,
    exact_equal,
    quantities,
)
from tests.engine.world import CASH_KEY

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=20)
Commands = list[tuple[Command, ...]]


def marks_of(commands: Commands) -> list[list[bytes]]:
    return [[fingerprint(c) for c in some] for some in commands]


def test_the_venue_is_as_bad_as_it_should_be() -> None:
    told = [event for seed in range(24) for event in chaos_run(seed).events]
    seen = Counter(type(event).__name__ for event in told)
    for kind in ("OrderFilled", "OrderUncertain", "OrderAbsent", "OrderRejected", "OrderEnded"):
        assert seen[kind] > 20
    trades = Counter(event.fill.trade_id for event in told if isinstance(event, OrderFilled))
    assert max(trades.values()) > 1


# ---- exposure ------------------------------------------------------------------------------------


@given(seeds)
@settings(max_examples=40)
def test_no_subset_of_fills_pushes_net_past_its_bound(seed: int) -> None:
    run = chaos_run(seed)
    received = sum(
        e.amount
        for e in run.venue.executions
        if isinstance(e, FundingPaid | Transferred) and e.amount > 0
    )
    assert run.venue.net_max <= NET_MAX * float(received) * (1 + 1e-9)


@given(seeds, st.sampled_from([0, 10]))
@few
def test_every_order_leaves_the_worst_case_inside_the_bound_whatever_prices_did(
    seed: int, fee_bps: int
) -> None:
    def check(run: Run) -> None:
        book = run.engine.state.book
        high, low = book.worst_net()
        bound = NET_MAX * book.equity * (1 + 1e-9)
        for command in run.commands[-1]:
            if isinstance(command, Submit):
                buys = command.approved.order.quantity > 0
                assert (high if buys else -low) <= bound

    chaos_run(seed, moving=True, fee_bps=fee_bps, checks=[check])


@given(seeds)
@few
def test_the_venue_never_holds_more_than_we_count_with(seed: int) -> None:
    def check(run: Run) -> None:
        high, low = run.engine.state.book.worst_net()
        assert low - 1e-6 <= run.venue.net <= high + 1e-6

    chaos_run(seed, checks=[check])


# ---- the books -----------------------------------------------------------------------------------


@given(seeds, st.booleans())
@few
def test_the_float_mirror_equals_the_ledger_after_every_event(seed: int, moving: bool) -> None:
    def check(run: Run) -> None:
        book = run.engine.state.book
        book.check_mirror()
        assert [Decimal(repr(q)) for q in book.held] == quantities(run.engine)
        assert book.quantity.tolist() == book.held

    chaos_run(seed, moving=moving, fee_bps=5, checks=[check])


@given(seeds, st.booleans())
@few
def test_cash_positions_fees_funding_and_transfers_add_up_exactly(seed: int, moving: bool) -> None:
    run = chaos_run(seed, moving=moving, fee_bps=7)
    bought: dict[str, Decimal] = {}
    cash = Decimal(0)
    for event in run.events:
        match event:
            case OrderFilled(fill=fill):
                bought[fill.trade_id] = -fill.quantity * fill.price - fill.fee
            case FundingPaid() | Transferred():
                bought[event.cashflow_id] = event.amount
            case _:
                pass
    cash = sum(bought.values(), Decimal(0))
    assert run.engine.state.book.ledger.cash[CASH_KEY] == cash


@given(seeds)
@few
def test_when_all_has_arrived_our_books_are_the_venue_s(seed: int) -> None:
    run = chaos_run(seed, wishes=False, fee_bps=3)
    for order_id, record in list(run.engine.state.orders.open.items()):
        run.venue.take(Query(order_id, record.order.key))
    for truth in list(run.venue.orders.values()):
        for event in truth.story():
            run.say(event)
    assert quantities(run.engine) == run.venue.held
    missed = [e for e in run.venue.executions if isinstance(e, FundingPaid)]
    for event in missed:
        run.say(event)
    assert run.engine.state.book.ledger.cash[CASH_KEY] == run.venue.cash


# ---- once, again, and from anywhere --------------------------------------------------------------


def is_repeatable(event: Event) -> bool:
    return isinstance(event, OrderFilled | FundingPaid | Transferred | Operator)


@given(seeds, st.data())
@few
def test_news_counts_once_however_often_it_is_delivered(seed: int, data: st.DataObject) -> None:
    run = chaos_run(seed)
    rng = data.draw(st.randoms(use_true_random=False))
    again = chaos_engine(seed)
    past: list[Event] = []
    for event, expected in zip(run.events, run.commands, strict=True):
        assert marks_of([again.process(event)]) == marks_of([expected])
        if is_repeatable(event):
            past.append(event)
        for old in rng.sample(past, min(len(past), rng.randint(0, 2))):
            assert again.process(old) == ()
    assert exact_equal(again.state.to_plain(), run.engine.state.to_plain())


@given(seeds, st.booleans())
@few
def test_a_saved_engine_goes_on_exactly_where_it_was(seed: int, moving: bool) -> None:
    run = chaos_run(seed, moving=moving, fee_bps=3)
    assert run.snapshots
    for position, raw in run.snapshots[:: max(1, len(run.snapshots) // 4)]:
        again = chaos_engine(seed)
        again.restore(codec.decode(raw, dict[str, Any]))
        told = [again.process(event) for event in run.events[position:]]
        assert marks_of(told) == marks_of(run.commands[position:])
        ours = codec.encode(again.state.to_plain())
        assert ours == codec.encode(run.engine.state.to_plain())


@given(seeds)
@few
def test_a_recorded_run_gives_the_same_commands_again(seed: int) -> None:
    run = chaos_run(seed)
    again = chaos_engine(seed)
    assert recover(again, run.journal).tail_n == len(run.events)
    assert exact_equal(again.state.to_plain(), run.engine.state.to_plain())


@pytest.mark.parametrize("seed", [1, 2])
def test_a_replay_with_one_bar_changed_names_the_first_difference(seed: int) -> None:
    run = chaos_run(seed)
    entries = list(run.journal.read_from(1))
    again = chaos_engine(seed + 1)  # other weights: another strategy, as it were
    found = next(d for d in (replay_entry(again, e) for e in entries) if d is not None)
    assert 1 < found.sequence <= len(entries)
    assert f"entry {found.sequence}" in str(found)


@given(seeds)
@few
def test_an_order_id_is_used_once_whatever_happens(seed: int) -> None:
    run = chaos_run(seed)
    sent: list[OrderId] = [
        c.approved.order.order_id for some in run.commands for c in some if isinstance(c, Submit)
    ]
    assert len(sent) == len(set(sent))
