"""Recovery: from any point of a journal the engine stands where it stood, or the start stops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adapters.journal import MemoryJournal
from daemon import codec
from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.failures import JournalError
from daemon.domain.messages import Cancel, Decided, Event, Query, Started
from daemon.domain.order import OrderId
from daemon.domain.portfolio import TargetPortfolio
from daemon.engine.engine import Engine
from daemon.runtime.divergence import diverged
from daemon.runtime.recovery import fingerprint, recover, replay_entry, save_bytes
from daemon.runtime.replay import ReplayShell
from tests.engine.world import FollowForecasts, at, bars, key, make_engine
from tests.runtime.rig import WARM_BARS, Momentum, line_of, panel_of, venue_core

BARS = 30


def new_engine() -> Engine:
    return make_engine(FollowForecasts())


def recorded_run(volume: float = 300.0) -> tuple[Engine, MemoryJournal]:
    """Replay some bars into a journal that keeps everything."""
    journal, engine = MemoryJournal(keep_entries=True), new_engine()
    shell = ReplayShell(engine, venue_core(), Momentum(), journal)
    feed = line_of(panel_of(BARS, volume=volume)).feed
    shell.warm_up(feed.replay(0, at(WARM_BARS)))
    shell.start(at(WARM_BARS), "run")
    shell.run(feed.replay(at(WARM_BARS), at(BARS)))
    return engine, journal


def state_of(engine: Engine) -> bytes:
    return codec.encode(engine.state.to_plain())


def test_an_empty_journal_leaves_a_fresh_engine() -> None:
    engine = new_engine()
    found = recover(engine, MemoryJournal(keep_entries=True))
    assert (found.snapshot_sequence, found.tail_n) == (0, 0)
    assert state_of(engine) == state_of(new_engine())


@pytest.mark.parametrize("volume", [300.0, 40.0])
async def test_after_any_number_of_entries_recovery_stands_where_the_engine_stood(
    volume: float,
) -> None:
    """A kill may come after any entry: with the newest snapshot before it, or with none."""
    _, journal = recorded_run(volume)
    entries = list(journal.read_from(1))
    live = new_engine()
    short = MemoryJournal(keep_entries=True)
    for number, entry in enumerate(entries, start=1):
        short.record(entry.event, live.process(entry.event))
        if number % 23 == 0 and live.quiescent:
            await short.save_snapshot(save_bytes(live))
        if number % 7 == 0:
            again = new_engine()
            found = recover(again, short)
            assert found.snapshot_sequence + found.tail_n == number
            assert state_of(again) == state_of(live)
            assert again.wake_ms == live.wake_ms
    assert short.last_snapshot() is not None


def test_a_journal_that_says_otherwise_stops_the_start_and_names_the_place() -> None:
    _, journal = recorded_run()
    other = make_engine(FollowForecasts(), asks_max=3, bars_n=7)  # windows of another length
    with pytest.raises(JournalError, match=r"cannot be reproduced: entry \d+ \(BarsClosed at "):
        recover(other, journal)


def test_a_difference_names_what_was_recorded_and_what_came_now() -> None:
    engine = new_engine()
    journal = MemoryJournal(keep_entries=True)
    event: Event = Started(at(2), "run")
    journal.record(event, [Query(OrderId("x"), key(0))])
    found = replay_entry(engine, next(journal.read_from(1)))
    assert found is not None
    first, recorded, replayed = found.lines()
    assert first.startswith("entry 1 (Started at 2023-")
    assert "command 1 of 1 recorded and 1 replayed" in first
    assert recorded.startswith("recorded Query {order_id x, key ")
    assert replayed.startswith("replayed AskSnapshot {venue ")
    assert str(found) == f"{first}; {recorded}; {replayed}"


def test_the_field_that_differs_is_named_with_both_values() -> None:
    values, others = np.array([1.0, 2.0, 3.0]), np.array([1.0, np.nextafter(2.0, 3.0), 3.0])
    targets = [TargetPortfolio(7, v, values, values) for v in (values, others)]
    made = [Decided(decision_with(target)) for target in targets]
    same = Cancel(OrderId("x"), key(0))
    found = diverged(5, "Tick", 0, [same, made[0]], [same, made[1]])
    assert found is not None
    assert (found.sequence, found.number) == (5, 2)
    assert found.place == "decision.target.weights[1]"
    assert found.values == ("2.0", "2.0000000000000004")
    missing = diverged(5, "Tick", 0, [same, made[0]], [same])
    assert missing is not None
    assert (missing.number, missing.replayed) == (2, "nothing")
    assert diverged(5, "Tick", 0, [same, made[0]], [same, made[0]]) is None


def decision_with(target: TargetPortfolio) -> Decision:
    nothing = np.zeros(3)
    return Decision(
        as_of_ms=7,
        sequence=1,
        kind=DecisionKind.TRADED,
        bars_digest="",
        absent=(),
        equity=1.0,
        marks=nothing,
        weights_before=nothing,
        predictions=(),
        target=target,
        orders=(),
        refusals=(),
        note="",
    )


def test_another_number_of_commands_is_a_difference_too() -> None:
    engine = new_engine()
    journal = MemoryJournal(keep_entries=True)
    journal.record(bars(1), [Cancel(OrderId("x"), key(0))])
    assert replay_entry(engine, next(journal.read_from(1))) is not None


def test_commands_are_compared_by_every_field() -> None:
    one = Cancel(OrderId("x"), key(0))
    assert fingerprint(one) == fingerprint(Cancel(OrderId("x"), key(0)))
    assert fingerprint(one) != fingerprint(Cancel(OrderId("y"), key(0)))
    assert fingerprint(one) != fingerprint(Query(OrderId("x"), key(0)))


def test_saved_bytes_are_the_whole_state() -> None:
    engine, _ = recorded_run()
    again = new_engine()
    again.restore(codec.decode(save_bytes(engine), dict[str, Any]))
    assert state_of(again) == state_of(engine)
    assert engine.state.book.ledger.fills > 10
