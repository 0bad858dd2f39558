"""A bar that its venue changes after the fact flags the decisions that used it, and no others."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.decision import Decision
from daemon.domain.messages import Alert, AlertKind, Command, DecisionsFlagged, Revised, Started
from daemon.engine.engine import Engine
from tests.engine.world import (
    H1,
    H2,
    M90,
    FixedWeights,
    at,
    bars,
    decided,
    deposit,
    feed,
    make_engine,
    snapshot,
)

Seen = dict[int, list[tuple[int, int]]]  # by decision: the ranges (after, until] of its windows


def fresh(bars_n: int) -> Engine:
    nothing = FixedWeights(lambda as_of_ms: (0.0,) * 4)
    return make_engine(nothing, timeframes=(H1, M90, H2), bars_n=bars_n)


def engine_of(bars_n: int) -> Engine:
    """Give an engine that has seen bars 1 and 2 and may trade."""
    engine = fresh(bars_n)
    feed(engine, Started(at(0), "run", warming=True), bars(1), bars(2))
    feed(engine, Started(at(2), "run"), deposit(), snapshot())
    return engine


def run_to(engine: Engine, first: int, last: int, seen: Seen) -> list[Decision]:
    """Close source bars first to last; note what the windows held at each decision."""
    found = []
    for bar in range(first, last + 1):
        made = decided(engine.process(bars(bar)))
        for decision in made:
            views = [store.view() for store in engine.state.windows.values() if store.rows_n]
            seen[decision.as_of_ms] = [
                (v.newest_ms - len(v.values) * v.timeframe.ms, v.newest_ms) for v in views
            ]
        found += made
    return found


def users_of(close_ms: int, seen: Seen) -> list[int]:
    return [d for d, spans in seen.items() if any(a < close_ms <= b for a, b in spans)]


def revise(engine: Engine, bar: int, index: int = 0) -> tuple[Command, ...]:
    row = np.full(5, 100.0)
    return engine.process(Revised(at(bar), index, row, row + 1.0))


@settings(max_examples=40)
@given(
    bars_n=st.integers(2, 6),
    until=st.integers(24, 60),
    back=st.integers(0, 40),
    index=st.integers(0, 3),
)
def test_exactly_the_decisions_whose_windows_held_the_bar_are_flagged(
    bars_n: int, until: int, back: int, index: int
) -> None:
    engine = engine_of(bars_n)
    seen: Seen = {}
    run_to(engine, 3, until, seen)
    bar = max(until - back, 3)
    commands = revise(engine, bar, index)
    flags = [c for c in commands if isinstance(c, DecisionsFlagged)]
    flagged = list(flags[0].instants) if flags else []
    assert flagged == users_of(at(bar), seen)
    assert all((c.index, c.close_ms) == (index, at(bar)) for c in flags)
    alerts = [c for c in commands if isinstance(c, Alert)]
    assert [a.kind for a in alerts] == [AlertKind.BAR_REVISED]
    assert (f"by {len(flagged)} decisions" in alerts[0].text) == bool(flagged)
    later = run_to(engine, until + 1, until + 30, seen)
    wanted = [(index,) if d.as_of_ms in users_of(at(bar), seen) else () for d in later]
    assert [d.revised for d in later] == wanted
    assert later[-1].revised == ()  # the bar has left every window, and is forgotten
    assert engine.state.revised == []


def test_a_revision_changes_no_digest_and_no_window() -> None:
    plain, told = engine_of(4), engine_of(4)
    run_to(plain, 3, 20, {}), run_to(told, 3, 20, {})
    revise(told, 20, index=2)
    ours, theirs = run_to(told, 21, 30, {}), run_to(plain, 21, 30, {})
    assert ours
    assert [d.digest for d in ours] == [d.digest for d in theirs]
    assert any(d.revised == (2,) for d in ours)
    for timeframe, store in told.state.windows.items():
        assert np.array_equal(store.view().values, plain.state.windows[timeframe].view().values)


def test_what_was_revised_survives_a_snapshot() -> None:
    engine = engine_of(4)
    seen: Seen = {}
    run_to(engine, 3, 20, seen)
    revise(engine, 19, index=1)
    revived = fresh(4)
    revived.restore(engine.state.to_plain())
    ours, theirs = run_to(revived, 21, 40, {}), run_to(engine, 21, 40, {})
    assert [d.revised for d in ours] == [d.revised for d in theirs]
    assert any(d.revised == (1,) for d in ours)
    assert revise(revived, 39) == revise(engine, 39)
