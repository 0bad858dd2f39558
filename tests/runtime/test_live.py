"""The live shell over real asyncio, the real paper venue and feed: order, bounds, failures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from adapters.journal import MemoryJournal
from daemon.commands.running import first_cause
from daemon.domain.failures import JournalError
from daemon.domain.messages import (
    BarsClosed,
    Command,
    Event,
    Operator,
    OperatorAction,
    OrderFilled,
    Started,
    Submit,
    Tick,
)
from daemon.engine.engine import Engine
from daemon.engine.risk import RiskLimits
from daemon.runtime.live import ShellTimeouts
from daemon.runtime.recovery import recover
from daemon.runtime.replay import ReplayShell
from tests.engine.world import M30, FollowForecasts, at, make_engine
from tests.runtime.rig import (
    WARM_BARS,
    Line,
    Momentum,
    funding_of,
    line_of,
    panel_of,
    venue_core,
)

BARS = 60
HASTE = ShellTimeouts(reconcile_s=0.2, drain_s=0.05, close_s=0.05)


async def cause_of(line: Line) -> BaseException:
    """Run until the run fails; give the failure that people would read."""
    with pytest.raises(BaseExceptionGroup) as caught:
        async with asyncio.timeout(20):
            await line.run()
    return first_cause(caught.value)


# ---- the ordinary run ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("volume", "gross", "net_max", "seed"),
    [
        (300.0, 0.3, 0.25, 0),
        (40.0, 0.3, 0.25, 0),  # a bar fills 4 coins: orders rest over several bars
        (300.0, 0.9, 0.05, 0),  # slices that wait for the fills of others
        (120.0, 0.9, 0.05, 2),  # both
        (40.0, 0.9, 0.1, 6),
    ],
)
async def test_a_live_run_decides_what_a_replay_of_the_same_bars_decides(
    volume: float, gross: float, net_max: float, seed: int
) -> None:
    def engine() -> Engine:
        return make_engine(FollowForecasts(), limits=RiskLimits(net_weight_max=net_max))

    panel, funding = panel_of(BARS, seed, volume), funding_of(BARS)
    line = line_of(panel, funding=funding, engine=engine(), estimator=Momentum(gross))
    await line.run()
    shell = ReplayShell(engine(), venue_core(), Momentum(gross))
    shell.warm_up(line.feed.replay(0, at(WARM_BARS)))  # the same events, told in place
    shell.start(at(WARM_BARS), "rig")
    result = shell.run(line.feed.replay(at(WARM_BARS), at(BARS)))
    assert len(line.decisions) >= (BARS - WARM_BARS) // 2 - 1  # the last may be unfinished
    assert [d.digest for d in line.decisions] == [d.digest for d in result.decisions]
    assert sum(len(d.orders) for d in line.decisions) > 50
    assert line.engine.state.book.ledger == shell.engine.state.book.ledger
    assert line.engine.state.book.ledger.funding != 0


async def test_history_is_seen_the_account_is_asked_and_only_then_is_anything_sent() -> None:
    line = line_of(panel_of(20))
    await line.run()
    kinds = [type(e) for e in line.events]
    first, second = (i for i, kind in enumerate(kinds) if kind is Started)
    assert first == 0
    assert kinds[1:second] == [BarsClosed] * WARM_BARS
    assert line.venue.calls[: WARM_BARS + 1] == ["observe"] * WARM_BARS + ["snapshot"]
    assert "submit" in line.venue.calls


async def test_a_second_run_goes_on_from_the_journal_with_the_same_book() -> None:
    panel, journal, core = panel_of(BARS), MemoryJournal(keep_entries=True), venue_core()
    first = line_of(panel, journal=journal, core=core, end_bar=31)
    await first.run()
    ledger = first.engine.state.book.ledger
    assert journal.last_snapshot() is not None
    second = line_of(panel, start_bar=31, journal=journal, core=core)
    await second.run()
    assert second.decisions[0].as_of_ms == at(32)
    assert second.engine.state.book.ledger.fills > ledger.fills
    whole = line_of(panel)
    await whole.run()
    both = [d.digest for d in (*first.decisions, *second.decisions)]
    assert both == [d.digest for d in whole.decisions]


async def test_what_the_venue_fills_at_a_bar_is_known_before_the_bar_is_decided_on() -> None:
    line = line_of(panel_of(BARS, volume=40.0))  # 4 coins a bar: orders rest and fill later
    await line.run()
    told: set[str] = set()
    rested_n = 0
    for i, event in enumerate(line.events):
        if not isinstance(event, OrderFilled) or event.fill.trade_id in told:
            continue  # the answer to a cancel tells the whole story again
        told.add(event.fill.trade_id)
        if event.fill.at_ms > _sent_at(event):
            rested_n += 1
            later = next(e for e in line.events[i:] if isinstance(e, BarsClosed))
            assert later.close_ms == event.fill.at_ms
    assert rested_n > 5


def _sent_at(event: OrderFilled) -> int:
    when = event.fill.order_id.removeprefix("eq").split("-")[0]
    return int(when, 16) * 1000


# ---- the journal comes first ---------------------------------------------------------------------


class RefusingJournal(MemoryJournal):
    """Refuse to write an order down."""

    async def append(self, entries: Sequence[tuple[Event, Sequence[Command]]]) -> int:
        if any(isinstance(c, Submit) for _, commands in entries for c in commands):
            raise JournalError("disk full")
        return await super().append(entries)


async def test_an_order_that_cannot_be_written_down_never_reaches_the_venue() -> None:
    journal = RefusingJournal(keep_entries=True)
    line = line_of(panel_of(BARS), journal=journal)
    cause = await cause_of(line)
    assert isinstance(cause, JournalError)
    assert "snapshot" in line.venue.calls
    assert line.venue.sent == []
    assert "submit" not in line.venue.calls


class WatchingJournal(MemoryJournal):
    """Note what was sent at the time each order was written down."""

    def __init__(self) -> None:
        super().__init__(keep_entries=True)
        self.line: Line | None = None
        self.written: set[str] = set()

    async def append(self, entries: Sequence[tuple[Event, Sequence[Command]]]) -> int:
        assert self.line is not None
        await asyncio.sleep(0)  # give a premature effect the chance to happen
        fresh = {
            str(c.approved.order.order_id)
            for _, commands in entries
            for c in commands
            if isinstance(c, Submit)
        }
        assert not fresh & {str(o.order_id) for o in self.line.venue.sent}
        self.written |= fresh
        return await super().append(entries)


async def test_every_order_is_in_the_journal_before_it_is_sent() -> None:
    journal = WatchingJournal()
    journal.line = line = line_of(panel_of(30), journal=journal)
    await line.run()
    assert {str(o.order_id) for o in line.venue.sent} == journal.written
    assert journal.written


# ---- failures ------------------------------------------------------------------------------------


class Broken(Exception):
    """Stand for any failure of a part."""


@pytest.mark.parametrize("call", ["submit", "snapshot", "observe", "cancel"])
async def test_a_venue_that_breaks_ends_the_run_with_its_own_exception(call: str) -> None:
    line = line_of(panel_of(BARS, volume=40.0))
    line.venue.breaks[call] = Broken(call)
    cause = await cause_of(line)
    assert isinstance(cause, Broken)
    assert str(cause) == call


class BrokenEstimator(Momentum):
    """Die at the third question."""

    def estimate_sync(self, as_of_ms: int, windows: object) -> Event:
        if len(self.asked) == 2:
            raise Broken("estimator")
        return super().estimate_sync(as_of_ms, windows)  # type: ignore[arg-type]


async def test_an_estimator_that_breaks_ends_the_run_with_its_own_exception() -> None:
    cause = await cause_of(line_of(panel_of(BARS), estimator=BrokenEstimator()))
    assert isinstance(cause, Broken)


async def test_a_mistake_in_the_engine_ends_the_run_before_it_is_written_down() -> None:
    line = line_of(panel_of(BARS))

    def breaking(event: Event) -> tuple[Command, ...]:
        if isinstance(event, BarsClosed) and event.close_ms == at(10):
            raise Broken("engine")
        return process(event)

    process = line.engine.process
    line.engine.process = breaking  # type: ignore[method-assign]
    assert isinstance(await cause_of(line), Broken)
    assert isinstance(line.journal, MemoryJournal)
    kept = [e.event for e in line.journal.read_from(1)]
    assert max(e.close_ms for e in kept if isinstance(e, BarsClosed)) == at(9)


async def test_an_account_that_never_answers_is_not_waited_for_for_ever() -> None:
    line = line_of(panel_of(BARS), timeouts=HASTE)
    line.venue.holds.add("snapshot")
    line.venue.open.clear()
    assert isinstance(await cause_of(line), TimeoutError)
    assert line.venue.sent == []


# ---- bounds and rest -----------------------------------------------------------------------------


async def test_a_full_queue_slows_its_sources_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.runtime.live.QUEUE_EVENTS_MAX", 3)
    line = line_of(panel_of(30))
    depths: list[int] = []

    async def flood() -> None:
        for number in range(200):
            await line.shell.operator(Operator(OperatorAction.PAUSE, f"{number}", at(6)))
            depths.append(line.shell._queue.qsize())

    flooding = asyncio.create_task(flood())
    await line.run()
    await flooding
    assert max(depths) <= 3
    wishes = [e.request_id for e in line.events if isinstance(e, Operator)]
    assert wishes == [f"{n}" for n in range(200)]


async def test_quiet_waits_for_an_order_on_its_way_and_for_all_it_causes() -> None:
    line = line_of(panel_of(BARS))
    line.venue.holds.add("submit")
    line.venue.open.clear()
    running = asyncio.create_task(line.run())
    await line.venue.wait_for("submit")
    before = line.clock.now()
    for _ in range(200):
        await asyncio.sleep(0)
    assert line.clock.now() == before  # the market stands still while an answer is out
    quiet = asyncio.create_task(line.shell.quiet())
    await asyncio.sleep(0)
    assert not quiet.done()
    line.venue.open.set()
    await quiet
    assert {str(o.order_id) for o in line.venue.sent} <= {
        str(e.fill.order_id) for e in line.events if isinstance(e, OrderFilled)
    }
    await running
    assert line.decisions[-1].as_of_ms == at(BARS)


async def test_quiet_waits_for_the_estimator() -> None:
    class Slow(Momentum):
        release = asyncio.Event()

        async def estimate(self, as_of_ms: int, windows: object) -> Event:
            await self.release.wait()
            return await super().estimate(as_of_ms, windows)  # type: ignore[arg-type]

    estimator = Slow()
    estimator.release = asyncio.Event()
    line = line_of(panel_of(12), estimator=estimator)
    running = asyncio.create_task(line.run())
    for _ in range(500):
        await asyncio.sleep(0)
    assert line.clock.now() == at(WARM_BARS + 1)
    assert line.decisions == []
    estimator.release.set()
    await running
    assert [d.as_of_ms for d in line.decisions] == [at(8), at(10), at(12)]


async def test_ticks_bring_every_deadline_and_never_come_twice_for_one() -> None:
    line = line_of(panel_of(30))
    await line.run()
    ticks = [e.now_ms for e in line.events if isinstance(e, Tick)]
    assert ticks == sorted(set(ticks))
    assert all(M30.closes_at(now) for now in ticks)  # the market's news woke us


# ---- the end -------------------------------------------------------------------------------------


async def test_a_stop_finishes_what_is_under_way_saves_and_leaves_no_task_behind() -> None:
    line = line_of(panel_of(BARS), end_bar=20)
    with capture_logs() as logs:
        await line.run()
    assert [entry["event"] for entry in logs if entry["log_level"] == "info"] == [
        "engine_recovered",
        "trading_started",
        "trading_stopped",
    ]
    assert not [entry for entry in logs if entry["event"] == "shutdown_late"]
    snapshot = line.journal.last_snapshot()
    assert snapshot is not None
    assert isinstance(line.journal, MemoryJournal)
    assert snapshot.sequence == line.journal.entries_n
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert others == set()


async def test_a_stop_with_an_answer_outstanding_says_who_is_late_and_ends_all_the_same() -> None:
    line = line_of(panel_of(BARS), timeouts=HASTE)
    line.venue.holds.add("submit")
    line.venue.open.clear()
    running = asyncio.create_task(line.run())
    await line.venue.wait_for("submit")
    with capture_logs() as logs:
        line.clock.ended.set()
        async with asyncio.timeout(5):
            await running
    late = [entry for entry in logs if entry["event"] == "shutdown_late"]
    assert [entry["stage"] for entry in late] == ["drain"]
    assert late[0]["outstanding"] >= 1
    again = make_engine(FollowForecasts())
    recover(again, line.journal)  # the next start knows which orders nobody has answered
    assert set(again.state.orders.open) == set(line.engine.state.orders.open)
    assert again.state.orders.open


async def test_a_stop_while_a_source_waits_for_room_in_the_queue_is_not_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.runtime.live.QUEUE_EVENTS_MAX", 1)
    line = line_of(panel_of(12), timeouts=HASTE)
    await line.shell.put(Tick(at(1)))
    waiting = asyncio.create_task(line.shell.put(Tick(at(2))))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    with capture_logs() as logs:
        await line.run()
    assert not [entry for entry in logs if entry["event"] == "shutdown_late"]


async def test_a_stop_before_trading_began_is_a_clean_end_too() -> None:
    line = line_of(panel_of(BARS), timeouts=HASTE)
    line.clock.ended.set()
    await line.run()
    assert line.venue.sent == []
    assert line.decisions == []
