"""While the feed is in a trouble that forbids it, nothing opens risk; what ends it is the feed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.messages import (
    AlertKind,
    EstimatesMissing,
    Event,
    FeedNotice,
    FeedTrouble,
    Operator,
    OperatorAction,
    Started,
)
from daemon.engine.engine import Engine
from daemon.engine.holds import HOLDING
from daemon.engine.risk import TradingState
from tests.engine.world import (
    VENUE,
    FixedWeights,
    alerts,
    at,
    bars,
    feed,
    fill_of,
    forecast,
    snapshot,
    submitted,
    trading,
    trading_engine,
)

WANTED = (0.2, -0.2, 0.1, -0.1)


def notice(
    active: bool, trouble: FeedTrouble = FeedTrouble.CLOCK_OFFSET, venue: str = VENUE
) -> FeedNotice:
    return FeedNotice(at(2), venue, trouble, active, "the clock is 3.0 s off")


def wanting(*weights: tuple[float, ...]) -> Engine:
    """Give an engine whose n-th decision wants the n-th weights, the last for ever."""
    by_hour = [at(4 + 2 * n) for n in range(len(weights))]

    def wanted(as_of_ms: int) -> tuple[float, ...]:
        return weights[max(n for n, at_ms in enumerate(by_hour) if at_ms <= as_of_ms)]

    return trading_engine(FixedWeights(wanted))


def exposures(engine: Engine) -> list[float]:
    return [abs(w) for w in engine.state.book.weights()]


def decide(engine: Engine, bar: int) -> int:
    """Close bar and fill whatever is sent; give the number of orders."""
    orders = submitted(feed(engine, bars(bar)))
    sent = 0
    while orders:
        sent += len(orders)
        fills = [fill_of(order, f"fill of {order.order_id}") for order in orders]
        orders = submitted(feed(engine, *fills))
    return sent


def test_what_holds_is_a_clock_that_is_off_and_timers_that_cannot_be_set() -> None:
    assert {FeedTrouble.CLOCK_OFFSET, FeedTrouble.DEAD_MAN} == HOLDING


@pytest.mark.parametrize("trouble", sorted(HOLDING))
def test_a_clock_too_far_off_holds_new_risk_back_until_it_is_right(trouble: FeedTrouble) -> None:
    engine = wanting(WANTED)
    told = feed(engine, notice(True, trouble))
    assert [a.text for a in alerts(told, AlertKind.FEED)] == ["paper: the clock is 3.0 s off"]
    assert trading(engine) is TradingState.REDUCE_ONLY
    assert decide(engine, 3) + decide(engine, 4) == 0
    feed(engine, notice(False, trouble))
    assert trading(engine) is TradingState.TRADING
    assert decide(engine, 6) > 0


def test_reducing_goes_on_while_risk_is_held_back() -> None:
    engine = wanting(WANTED, (0.0,) * 4)
    assert decide(engine, 4) > 0
    feed(engine, notice(True))
    assert decide(engine, 6) > 0
    assert max(exposures(engine)) == 0


@pytest.mark.parametrize("trouble", sorted(set(FeedTrouble) - HOLDING))
def test_other_troubles_are_told_and_stop_nothing(trouble: FeedTrouble) -> None:
    engine = wanting(WANTED)
    assert alerts(feed(engine, notice(True, trouble)), AlertKind.FEED)
    assert trading(engine) is TradingState.TRADING
    assert decide(engine, 4) > 0


def test_forecasts_that_come_back_do_not_end_the_hold() -> None:
    engine = trading_engine()
    feed(engine, notice(True))
    feed(engine, bars(3), bars(4), EstimatesMissing(at(4), "late"))
    feed(engine, bars(5), bars(6), forecast(6, WANTED))
    assert trading(engine) is TradingState.REDUCE_ONLY
    feed(engine, notice(False))
    assert trading(engine) is TradingState.TRADING


def test_a_restart_looks_anew_and_a_snapshot_keeps_what_holds() -> None:
    engine, other = wanting(WANTED), wanting(WANTED)
    feed(engine, notice(True))
    other.restore(engine.state.to_plain())
    assert decide(other, 4) == 0
    feed(other, Started(at(4), "again"), snapshot())
    assert trading(other) is TradingState.TRADING


FIRST, SECOND = notice(True), notice(True, venue="other")
CHANGES: tuple[Event, ...] = (
    FIRST,
    SECOND,
    notice(False),
    notice(False, venue="other"),
    Operator(OperatorAction.REDUCE_ONLY, "", at(2)),
    Operator(OperatorAction.RESUME, "", at(2)),
    snapshot(),
)


@settings(max_examples=150)
@given(st.lists(st.sampled_from(CHANGES), max_size=12))
def test_no_order_of_events_opens_risk_while_anything_holds(changes: list[Event]) -> None:
    engine = wanting(WANTED)
    held: set[str] = set()
    operator = False
    for number, change in enumerate(changes):
        if isinstance(change, FeedNotice):
            (held.add if change.active else held.discard)(change.venue)
        elif isinstance(change, Operator):
            operator = change.action is OperatorAction.REDUCE_ONLY
            change = Operator(change.action, f"request {number}", change.at_ms)
        feed(engine, change)
    feed(engine, snapshot())  # answers what a resume asked
    opens = decide(engine, 4) > 0
    assert opens == (not held and not operator)
