"""The live shell when something fails or is full: nobody waits in a circle, it ends in stages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from adapters.journal import MemoryJournal
from daemon.domain.failures import JournalError
from daemon.domain.messages import (
    AskSnapshot,
    BarsClosed,
    Command,
    Event,
    MarketEvent,
    Operator,
    OperatorAction,
    Snapshotted,
    Tick,
)
from daemon.runtime.recovery import recover
from tests.engine.world import FollowForecasts, at, make_engine
from tests.runtime.rig import WARM_BARS, line_of, panel_of
from tests.runtime.test_live import BARS, Broken, BrokenEstimator, RefusingJournal, cause_of

# ---- no circle of waiting ------------------------------------------------------------------------


async def test_a_full_queue_never_waits_for_a_worker_that_waits_for_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.runtime.live.QUEUE_EVENTS_MAX", 1)
    monkeypatch.setattr("daemon.runtime.live.EFFECTS_QUEUED_MAX", 1)
    line = line_of(panel_of(30))
    process = line.engine.process

    def asking(event: Event) -> tuple[Command, ...]:
        more = (AskSnapshot("paper", -1),) if isinstance(event, Operator) else ()
        return (*process(event), *more)

    line.engine.process = asking  # type: ignore[method-assign]

    async def wish_often() -> None:
        for number in range(40):
            await line.shell.operator(Operator(OperatorAction.REDUCE_ONLY, f"{number}", at(6)))

    wishing = [asyncio.create_task(wish_often()) for _ in range(3)]
    async with asyncio.timeout(10):
        await line.run()
        await asyncio.gather(*wishing)
    assert line.venue.calls.count("snapshot") > 100
    assert isinstance(line.journal, MemoryJournal)
    answers = [e for e in line.events if isinstance(e, Snapshotted)]
    assert len(answers) == line.venue.calls.count("snapshot")


# ---- a failure ends the run in stages ------------------------------------------------------------


async def test_when_the_feed_fails_orders_under_way_are_answered_and_written_down() -> None:
    line = line_of(panel_of(BARS))
    line.venue.holds.add("submit")
    line.venue.open.clear()

    async def failing(after_ms: int) -> AsyncIterator[MarketEvent]:
        async for event in events(after_ms):
            yield event
            if isinstance(event, BarsClosed) and event.close_ms < at(8):
                continue  # the first decision falls on the eighth bar
            await line.venue.wait_for("submit")
            asyncio.get_running_loop().call_soon(line.venue.open.set)
            raise Broken("feed")

    events = line.feed.events
    line.feed.events = failing  # type: ignore[method-assign]
    with capture_logs() as logs:
        cause = await cause_of(line)
    assert str(cause) == "feed"
    assert cause.__notes__ == ["the task 'feed' failed; the run was shut down in stages"]
    names = [entry["event"] for entry in logs]
    assert names.index("task_failed") < names.index("trading_stopped")
    assert "shutdown_late" not in names
    assert line.venue.sent
    recovered = make_engine(FollowForecasts())
    recover(recovered, line.journal)
    assert not recovered.state.orders.open  # each one got its answer, and the journal has it
    assert recovered.state.book.ledger == line.engine.state.book.ledger
    assert recovered.state.book.ledger.fills > 0


async def test_when_the_estimator_fails_the_orders_decided_before_are_still_sent() -> None:
    line = line_of(panel_of(BARS), estimator=BrokenEstimator())
    line.venue.holds.add("submit")
    line.venue.open.clear()
    running = asyncio.create_task(cause_of(line))
    await line.venue.wait_for("submit")
    await line.shell.put(Tick(at(WARM_BARS)))
    line.venue.open.set()
    assert isinstance(await running, Broken)
    decided = {o.order_id for d in line.decisions for o in d.orders}
    assert decided == {o.order_id for o in line.venue.sent}
    assert not line.engine.state.orders.open


async def test_when_the_venue_fails_nothing_more_is_sent_and_the_end_is_not_late() -> None:
    line = line_of(panel_of(BARS, volume=40.0))
    line.venue.breaks["cancel"] = Broken("cancel")
    with capture_logs() as logs:
        cause = await cause_of(line)
    assert str(cause) == "cancel"
    assert line.venue.calls.count("cancel") == 1
    assert "submit" not in line.venue.calls[line.venue.calls.index("cancel") :]
    assert "shutdown_late" not in [entry["event"] for entry in logs]


async def test_after_a_failed_journal_no_further_order_is_begun_and_no_snapshot_is_saved() -> None:
    journal = RefusingJournal(keep_entries=True)
    line = line_of(panel_of(BARS), journal=journal)
    with capture_logs() as logs:
        cause = await cause_of(line)
    assert isinstance(cause, JournalError)
    assert line.venue.sent == []
    assert journal.last_snapshot() is None
    names = [entry["event"] for entry in logs]
    assert "trading_stopped" in names
    assert "shutdown_late" not in names
    assert asyncio.all_tasks() - {asyncio.current_task()} == set()


async def test_two_failures_are_both_named() -> None:
    line = line_of(panel_of(BARS), estimator=BrokenEstimator())
    line.venue.holds.add("submit")
    line.venue.breaks["submit"] = Broken("submit")
    line.venue.open.clear()
    running = asyncio.create_task(line.run())
    await line.venue.wait_for("submit")
    line.engine.process = _breaking  # type: ignore[method-assign]
    line.venue.open.set()
    await asyncio.sleep(0)
    await line.shell.put(Tick(at(WARM_BARS)))
    with pytest.raises(ExceptionGroup, match="the run failed in: venue, consumer"):
        await running


def _breaking(event: Event) -> tuple[Command, ...]:
    raise Broken("engine")


@pytest.mark.parametrize("failing", ["venue", "consumer"])
async def test_what_waits_for_the_venue_is_not_begun_once_it_cannot_be_answered(
    failing: str,
) -> None:
    line = line_of(panel_of(30))
    process = line.engine.process

    def asking(event: Event) -> tuple[Command, ...]:
        if isinstance(event, Operator) and event.action is OperatorAction.KILL:
            raise Broken("consumer")
        more = (AskSnapshot("paper", -1),) if isinstance(event, Operator) else ()
        return (*process(event), *more)

    line.engine.process = asking  # type: ignore[method-assign]
    line.venue.holds.add("snapshot")
    line.venue.open.clear()
    running = asyncio.create_task(cause_of(line))
    await line.venue.wait_for("snapshot")
    for number in range(5):
        await line.shell.operator(Operator(OperatorAction.REDUCE_ONLY, f"{number}", at(6)))
    await line.shell._unprocessed.at_most(0)
    if failing == "venue":
        line.venue.breaks["snapshot"] = Broken("venue")
    else:
        await line.shell.operator(Operator(OperatorAction.KILL, "kill", at(6)))
        await line.shell._failed.wait()
    line.venue.open.set()
    assert str(await running) == failing
    assert line.venue.calls.count("snapshot") == 1  # the one that was under way
