"""Whatever an operator asks for and whatever the market and the venue do in between.

A failing seed is printed by hypothesis; the same seed gives the same run.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.messages import Cancel, Operator, OperatorAction, Started, Submit
from daemon.domain.order import Resting
from daemon.engine.risk import TradingState
from tests.engine.chaos import ChaosVenue, Run, chaos_engine, chaos_run
from tests.engine.world import at, bars, trading

seeds = st.integers(0, 2**32 - 1)
some = settings(max_examples=30)
FORBIDS = (OperatorAction.PAUSE, OperatorAction.REDUCE_ONLY, OperatorAction.KILL)


def begun(seed: int) -> Run:
    """Give a run that trades, with positions and orders after two decisions."""
    rng = Random(seed)
    run = Run(chaos_engine(seed), ChaosVenue(rng), rng)
    run.say(Started(at(0), "run", warming=True))
    run.say(bars(1))
    run.say(Started(at(1), "run"))
    run.settle()
    for bar in range(2, 6):
        run.now_ms = at(bar)
        run.say(bars(bar))
        run.stir(20)
    return run


def opens_no_risk(run: Run) -> None:
    """Check what the newest event caused against what the operator allows."""
    state, commands = run.engine.state, run.commands[-1]
    sent = [c.approved.order for c in commands if isinstance(c, Submit)]
    if state.trading is TradingState.HALTED or state.halted_why:
        assert sent == []
    if state.paused or state.operator_reduce_only:
        for order in sent:
            assert order.reduce_only
            held = state.book.held[order.index]
            assert held * float(order.quantity) < 0
            assert abs(order.quantity) <= Decimal(repr(abs(held)))
    if state.paused and not state.flattening:
        assert sent == []


def takes_back(run: Run) -> None:
    """Check that a wish that forbids risk takes back what rests at the venue and would open."""
    event = run.events[-1]
    if not isinstance(event, Operator) or event.action not in FORBIDS:
        return
    cancelled = {c.order_id for c in run.commands[-1] if isinstance(c, Cancel)}
    for order_id, record in run.engine.state.orders.open.items():
        may_open = isinstance(record.state, Resting) and not record.order.reduce_only
        if may_open and not run.engine.state.flattening:
            assert order_id in cancelled, f"{order_id} rests after {event.action}"


@given(seeds, st.booleans())
@some
def test_no_order_of_wishes_and_events_opens_risk_that_the_operator_forbids(
    seed: int, moving: bool
) -> None:
    chaos_run(seed, moving=moving, checks=[opens_no_risk, takes_back])


wishes = st.lists(
    st.tuples(st.sampled_from(list(OperatorAction)), st.integers(0, 12), st.booleans()),
    max_size=12,
)


@given(seeds, wishes)
@some
def test_any_row_of_wishes_at_any_moment_is_obeyed_and_lasts_until_resumed(
    seed: int, row: list[tuple[OperatorAction, int, bool]]
) -> None:
    run, bar = begun(seed), 6
    run.checks = [opens_no_risk, takes_back]
    forbidden: set[OperatorAction] = set()
    for action, stirs, closes in row:
        run.wish(action)
        forbidden = set() if action is OperatorAction.RESUME else forbidden | {action}
        run.stir(stirs)
        if closes:
            run.now_ms = at(bar)
            run.say(bars(bar))
            bar += 1
        state = run.engine.state
        assert state.paused == bool(forbidden & {OperatorAction.PAUSE, OperatorAction.FLATTEN})
        assert state.flattening == (OperatorAction.FLATTEN in forbidden)
        assert state.operator_reduce_only == (OperatorAction.REDUCE_ONLY in forbidden)
        if OperatorAction.KILL in forbidden:
            assert state.trading is TradingState.HALTED


@given(seeds)
@some
def test_flatten_ends_flat_at_the_venue_whatever_it_does(seed: int) -> None:
    run = begun(seed)
    run.checks = [opens_no_risk]
    run.wish(OperatorAction.FLATTEN)
    for bar in range(6, 80):
        run.stir(20)
        run.settle()
        if not any(run.venue.held) and not run.engine.state.orders.open:
            break
        if run.engine.state.trading is TradingState.HALTED:  # as the page says: resume, and again
            run.wish(OperatorAction.RESUME)
            run.settle()
            run.wish(OperatorAction.FLATTEN)
        run.now_ms = at(bar)
        run.say(bars(bar))
    assert not any(run.venue.held)
    assert not run.engine.state.book.gross


def test_a_start_goes_on_with_flattening_as_soon_as_the_account_agrees() -> None:
    run = begun(3)
    run.settle()
    assert any(run.venue.held)
    run.wish(OperatorAction.RESUME)
    run.settle()
    run.say(Started(run.now_ms, "again", warming=True))
    run.wish(OperatorAction.FLATTEN)
    run.say(Started(run.now_ms, "again"))
    before = len(run.commands)
    run.settle()
    sent = Counter(type(c).__name__ for some in run.commands[before:] for c in some)
    assert sent["Submit"] > 0, "it waited for the next decision"


def test_a_halt_is_cleared_by_a_resume_during_the_start_and_then_the_account_is_compared() -> None:
    run = begun(3)
    run.wish(OperatorAction.KILL)
    run.say(Started(run.now_ms, "again", warming=True))
    run.wish(OperatorAction.RESUME)
    passed = [trading(run.engine)]
    run.say(Started(run.now_ms, "again"))
    passed.append(trading(run.engine))
    run.settle()
    passed.append(trading(run.engine))
    assert passed == [TradingState.STARTING, TradingState.RECONCILING, TradingState.TRADING]


def test_kill_and_resume_during_the_start_trade_on_no_history() -> None:
    run = begun(3)
    run.say(Started(run.now_ms, "again", warming=True))
    run.wish(OperatorAction.KILL)
    assert run.engine.state.halted_why == "killed by the operator"
    run.wish(OperatorAction.RESUME)
    before = len(run.commands)
    for bar in (6, 7, 8):
        run.say(bars(bar))
        run.stir(10)
    assert not any(isinstance(c, Submit) for some in run.commands[before:] for c in some)


def test_a_kill_gives_the_reason_that_it_came_with() -> None:
    run = begun(3)
    run.say(Operator(OperatorAction.KILL, "k", run.now_ms, "the latch says so"))
    assert run.engine.state.halted_why == "the latch says so"
