"""The shell of the present: asyncio, one TaskGroup, one bounded queue, one consumer.

Callbacks and streams only put events on the queue. The consumer lets the engine process what is
there, journals events and commands durably in one commit, and only then hands the commands out,
save questions for forecasts, which change nothing and are asked at once.
Orders and cancels go to the venue in one lane, questions in another, so that no question that waits
for its answer holds up a cancel; estimates are asked for one at a time. Every answer is an event
again, and the answers of a lane come in the order of its commands.

Who waits for whom: sources wait for room in the queue, the consumer may wait for room in a worker's
queue, and a worker never waits for the consumer. Nobody waits in a circle.

A task that fails ends the run in the same stages as a stop; its exception is raised at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, assert_never

import numpy as np
import structlog

from daemon.domain.bar import FIELDS
from daemon.domain.failures import BadPayload, VenueError
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import (
    AccountUnread,
    Alert,
    AskSnapshot,
    BarsClosed,
    Cancel,
    Command,
    Decided,
    DecisionsFlagged,
    Estimate,
    Event,
    MarketEvent,
    Operator,
    OrderRejected,
    Query,
    Started,
    Submit,
    Tick,
    VenueEvent,
)
from daemon.domain.order import Order, OrderId
from daemon.domain.units import iso
from daemon.engine.engine import Engine
from daemon.engine.risk import TradingState
from daemon.ports import AccountView, Clock, Estimator, Journal, MarketFeed, OrderEntry
from daemon.runtime.gauge import Gauge
from daemon.runtime.lanes import alike
from daemon.runtime.recovery import Recovered, recover, save_bytes

QUEUE_EVENTS_MAX: Final = 10_000  # for sources; answers of the workers always find room
BATCH_EVENTS_MAX: Final = 512
EFFECTS_QUEUED_MAX: Final = 10_000
TURNS_FIRST: Final = 16
"""How often the loop goes to the workers before anybody is shown what was handed out to them."""
CONSUMER: Final = "consumer"
SEND_S_MAX: Final = 180.0  # an order that waited longer for what was asked before it never leaves
LOOK_S: Final = 1.0  # while an account cannot be read before trading begins

Observer = Callable[[Event, Sequence[Command], Engine], None]
Source = Callable[["LiveShell"], Coroutine[Any, Any, None]]
Work = TypeVar("Work")
_HandedOut = tuple[float, Sequence[Command]]  # when, in seconds of transport time

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ShellTimeouts:
    """Name every wait of start-up and shutdown, in seconds of transport time."""

    reconcile_s: float = 60.0
    drain_s: float = 2.0
    close_s: float = 1.0


@dataclass(frozen=True, slots=True)
class ShellParts:
    """Hold what the composition root hands in."""

    engine: Engine
    feed: MarketFeed
    orders: OrderEntry
    account: AccountView
    estimator: Estimator | None
    journal: Journal
    clock: Clock
    run_id: str
    history_ms: int
    observers: tuple[Observer, ...] = ()
    recovered: Recovered | None = None  # set when the engine already stands where the journal ends
    overdue: Callable[[int], Sequence[MarketEvent]] = lambda close_ms: ()
    """Tell what the feed still holds back of instants up to a close whose deadline has come."""
    openings: tuple[Source, ...] = ()  # awaited once the engine starts, before it may trade
    sources: Mapping[str, Source] = field(default_factory=dict)  # beside the feed, by task name


class LiveShell:
    """Run an engine against the world until told to stop."""

    def __init__(self, parts: ShellParts, timeouts: ShellTimeouts | None = None) -> None:
        self._parts = parts
        self.engine = parts.engine
        self._timeouts = timeouts or ShellTimeouts()
        self._queue: asyncio.Queue[Event] = asyncio.Queue()  # `put` keeps the bound
        self._queued = Gauge()
        self._venue_work: asyncio.Queue[_HandedOut] = asyncio.Queue(EFFECTS_QUEUED_MAX)
        self._question_work: asyncio.Queue[_HandedOut] = asyncio.Queue(EFFECTS_QUEUED_MAX)
        self._estimate_work: asyncio.Queue[Estimate] = asyncio.Queue(EFFECTS_QUEUED_MAX)
        self._outstanding = Gauge()  # events not yet processed, and commands being carried out
        self._unprocessed = Gauge()  # events alone
        self._trading = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._leaving: set[OrderId] = set()  # orders handed out whose sending was not answered yet
        self._final_ms = 0  # the newest instant that nothing more can come for
        self._showing: asyncio.Task[None] | None = None
        self._failures: dict[str, Exception] = {}  # by task, in the order in which they came
        self._failed = asyncio.Event()
        self.events_n = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Recover, warm up, reconcile, trade until `stop`; then shut down in stages.

        A failing task shuts down in the same stages; an ExceptionGroup then names what failed.
        """
        found = self._parts.recovered or recover(self.engine, self._parts.journal)
        log.info(LogEvent.ENGINE_RECOVERED, snapshot=found.snapshot_sequence, tail_n=found.tail_n)
        async with asyncio.TaskGroup() as group:
            workers = [
                self._spawn(group, CONSUMER, self._consume()),
                self._spawn(group, "venue", self._work("venue", self._venue_work, self._trade)),
                self._spawn(
                    group, "questions", self._work("questions", self._question_work, self._trade)
                ),
                self._spawn(
                    group, "estimator", self._work("estimator", self._estimate_work, self._ask)
                ),
            ]
            intake = {self._spawn(group, "intake", self._live(group))}
            intake |= {self._spawn(group, n, s(self)) for n, s in self._parts.sources.items()}
            ends = {
                group.create_task(stop.wait(), name="stop"),
                group.create_task(self._failed.wait(), name="failure"),
            }
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            await self._shut_down(intake, workers)
        if self._failures:
            names = ", ".join(self._failures)
            raise ExceptionGroup(f"the run failed in: {names}", [*self._failures.values()])

    def _spawn(
        self, group: asyncio.TaskGroup, name: str, work: Coroutine[Any, Any, None]
    ) -> asyncio.Task[None]:
        """Start a task whose failure ends the run in stages instead of cancelling the others."""
        return group.create_task(self._noting_failure(name, work), name=name)

    async def _noting_failure(self, name: str, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as e:  # noqa: BLE001 the top of a task: `run` raises it after the shutdown
            self._note_failure(name, e)

    def _note_failure(self, name: str, failure: Exception) -> None:
        # Only info: it is raised at the end, and whoever runs us tells people.
        log.info(LogEvent.TASK_FAILED, task=name, why=f"{type(failure).__name__}: {failure}")
        failure.add_note(f"the task {name!r} failed; the run was shut down in stages")
        self._failures.setdefault(name, failure)
        self._failed.set()

    async def put(self, event: Event) -> None:
        """Queue an event; waits when the queue is full, so a flood slows its source."""
        self._outstanding.change(1)
        self._unprocessed.change(1)
        try:
            await self._queued.at_most(QUEUE_EVENTS_MAX - 1)
        except asyncio.CancelledError:  # it never got in: nobody must wait for it
            self._unprocessed.change(-1)
            self._outstanding.change(-1)
            raise
        self._enter(event)

    def _answer(self, event: Event) -> None:
        """Queue what a worker brings, at once: the consumer may be waiting for that very worker.

        A worker brings no more than it was given, so what enters above the bound is bounded too.
        """
        self._outstanding.change(1)
        self._unprocessed.change(1)
        self._enter(event)

    def _enter(self, event: Event) -> None:
        self._queued.change(1)
        self._queue.put_nowait(event)

    @property
    def queued_n(self) -> int:
        """Count the events that wait for the consumer."""
        return self._queued.count

    async def quiet(self) -> None:
        """Return when the feed has told all it can and nothing is queued or under way."""
        while True:
            await self._parts.feed.settled(self._parts.clock.now())
            await self._outstanding.at_most(0)
            # A source that was just resumed gets the loop once, and may bring work again.
            await asyncio.sleep(0)
            if not self._outstanding.count:
                return

    # ---- sources ---------------------------------------------------------------------------

    async def _live(self, group: asyncio.TaskGroup) -> None:
        parts = self._parts
        newest = self.engine.state.instant_ms
        now = parts.clock.now()
        await self.put(Started(now, parts.run_id, warming=True))
        for opening in parts.openings:
            await opening(self)
        since = now - parts.history_ms
        if newest:
            since = max(since, newest - max(t.ms for t in self.engine.rules.cadence.timeframes))
        async for event in parts.feed.history(since, now):
            await self._market(event)
        await self._outstanding.at_most(0)
        await self.put(Started(now, parts.run_id))
        await self._agreed()
        equity = round(self.engine.state.book.equity, 2)
        log.info(LogEvent.TRADING_STARTED, market_time=iso(now), equity=equity)
        self._final_ms = now
        pump = self._spawn(group, "feed", self._pump(group, now))
        ticks = self._spawn(group, "timekeeper", self._keep_time())
        try:
            await asyncio.gather(pump, ticks)
        finally:
            pump.cancel()
            ticks.cancel()

    async def _agreed(self) -> None:
        """Wait until the account agrees with the book, or trading is halted.

        While it cannot be read, time goes on for the engine, which asks again and halts at last.
        Raises TimeoutError where nothing comes of it.
        """
        waits_s = self._timeouts.reconcile_s
        patience_s = self.engine.rules.unread_max_ms / 1000
        waited_s = 0.0
        while waited_s < waits_s + (patience_s if self.engine.state.unread else 0.0):
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._trading.wait()
                    return
            waited_s += LOOK_S
            if self.engine.state.unread:
                await self.put(Tick(self._parts.clock.now()))
        raise TimeoutError(f"the account was not compared within {waited_s:.0f} s of the start")

    async def _pump(self, group: asyncio.TaskGroup, after_ms: int) -> None:
        async for event in self._parts.feed.events(after_ms):
            # A stop ends the feed, but not half way: what the venue did at this event comes home.
            self._showing = self._spawn(group, "market event", self._market(event))
            await asyncio.shield(self._showing)
            if self._failed.is_set():
                return

    async def _market(self, event: MarketEvent) -> None:
        """Show a market event to the venue, finish what that causes, then show it to the engine."""
        async with self._one_at_a_time:
            # One hold over the whole of it, so that nobody sees a gap as silence.
            self._outstanding.change(1)
            try:
                answers = await self._parts.account.observe(event)
                if answers:
                    await self._deliver(answers)
                    await self._outstanding.at_most(1)  # only the hold of this very event
                await self.put(event)
            finally:
                self._outstanding.change(-1)
        if isinstance(event, BarsClosed) and event.final:
            self._final_ms = max(self._final_ms, event.close_ms)

    async def _keep_time(self) -> None:
        clock = self._parts.clock
        while True:
            now = await clock.sleep_until(self.engine.wake_ms)
            cadence = self.engine.rules.cadence
            overdue_ms = cadence.source.last_close(now - cadence.deadline_ms)
            for event in self._parts.overdue(overdue_ms):
                await self._market(event)
            if (
                overdue_ms > self._final_ms
            ):  # who waits for late bars, venue included, waits no more
                await self._market(_nothing_more(overdue_ms, len(self.engine.universe)))
            await self.put(Tick(now))
            await self._unprocessed.at_most(0)  # only then the next waking time is known

    async def operator(self, wish: Operator) -> None:
        """Queue an operator's wish."""
        await self.put(wish)

    # ---- the one consumer ------------------------------------------------------------------

    async def _consume(self) -> None:
        parts = self._parts
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and len(batch) < BATCH_EVENTS_MAX:
                batch.append(self._queue.get_nowait())
            self._queued.change(-len(batch))
            entries = [(event, self.engine.process(event)) for event in batch]
            for _, commands in entries:
                await self._ask_estimates(commands)
            await parts.journal.append(entries)
            for _, commands in entries:
                await self._hand_out(commands)
            for _ in range(TURNS_FIRST):
                await asyncio.sleep(0)
            decided = False
            for event, commands in entries:
                decided = decided or any(isinstance(c, Decided) for c in commands)
                for observer in parts.observers:
                    observer(event, commands, self.engine)
            if decided and self.engine.quiescent:
                await parts.journal.save_snapshot(save_bytes(self.engine))
            self.events_n += len(batch)
            if self.engine.state.trading not in (TradingState.STARTING, TradingState.RECONCILING):
                self._trading.set()
            self._unprocessed.change(-len(batch))
            self._outstanding.change(-len(batch))

    async def _ask_estimates(self, commands: Sequence[Command]) -> None:
        """Ask for forecasts before the commands are written down: that changes nothing anywhere.

        The answer is an event, and waits in the queue until its question is on the disk. The
        question leaves before the record is encoded: the worker computes meanwhile.
        """
        for command in commands:
            if isinstance(command, Estimate):
                self._outstanding.change(1)
                await self._estimate_work.put(command)
                await asyncio.sleep(0)

    async def _hand_out(self, commands: Sequence[Command]) -> None:
        """Queue the commands for their workers, those of a lane together."""
        for_venue, questions = list[Command](), list[Command]()
        for command in commands:
            match command:
                case Submit(approved=approved):
                    self._leaving.add(approved.order.order_id)
                    for_venue.append(command)
                case Cancel():
                    for_venue.append(command)
                case Query() | AskSnapshot():
                    questions.append(command)
                case Alert():
                    # Only info: observers bring alerts to people, and nobody wants them twice.
                    log.info(LogEvent.ALERT_RAISED, kind=str(command.kind), text=command.text)
                case Decided() | DecisionsFlagged() | Estimate():
                    pass
                case _:
                    assert_never(command)
        for lane, work in ((self._venue_work, for_venue), (self._question_work, questions)):
            if work:
                self._outstanding.change(1)
                await lane.put((_now_s(), work))

    # ---- effects ---------------------------------------------------------------------------

    async def _work(
        self, name: str, work: asyncio.Queue[Work], act: Callable[[Work], Awaitable[None]]
    ) -> None:
        """Do one thing after another; after a failure the rest is taken away and not begun.

        Without a consumer nothing is begun either: an answer could not be written down.
        """
        while True:
            thing = await work.get()
            if not self._failures.keys() & {name, CONSUMER}:
                await self._noting_failure(name, act(thing))
            self._outstanding.change(-1)

    async def _trade(self, handed: _HandedOut) -> None:
        """Carry out a lane's commands in their order; what is alike goes out side by side."""
        handed_s, commands = handed
        for run in alike(commands):
            orders = [c.approved.order for c in run if isinstance(c, Submit)]
            if orders:
                self._take(await self._submit(orders, handed_s))
                self._leaving.difference_update(order.order_id for order in orders)
                continue
            asking = [asyncio.ensure_future(self._ask_venue(command)) for command in run]
            try:
                for one in asking:
                    self._take(await one)
            finally:
                for one in asking:
                    one.cancel()

    async def _submit(self, orders: Sequence[Order], handed_s: float) -> Sequence[VenueEvent]:
        """Send orders, save those that what was asked before held up: their market is gone."""
        late_s = _now_s() - handed_s
        if late_s <= SEND_S_MAX:
            return await self._parts.orders.submit(orders)
        at_ms, why = self._parts.clock.now(), f"not sent: held up for {late_s:.0f} s"
        return [OrderRejected(order.order_id, at_ms, why) for order in orders]

    def _take(self, answers: Sequence[VenueEvent]) -> None:
        for answer in answers:
            self._answer(answer)

    async def _ask_venue(self, command: Command) -> Sequence[VenueEvent]:
        match command:
            case Cancel(order_id=order_id, key=key):
                return await self._parts.orders.cancel(order_id, key)
            case Query(order_id=order_id) if order_id in self._leaving:
                return ()  # the venue would not know it yet; how its sending ends tells more
            case Query(order_id=order_id, key=key):
                return await self._parts.orders.query(order_id, key)
            case AskSnapshot(executions_cursor=cursor, venue=venue):
                try:
                    return await self._parts.account.snapshot(cursor, venue)
                except (VenueError, BadPayload) as e:  # the engine decides what follows
                    return (AccountUnread(venue, self._parts.clock.now(), str(e)),)
            case _:
                return ()

    async def _ask(self, command: Estimate) -> None:
        estimator = self._parts.estimator
        if estimator is not None:
            self._answer(await estimator.estimate(command.as_of_ms, command.windows))

    async def _deliver(self, events: Sequence[Event]) -> None:
        for event in events:
            await self.put(event)

    # ---- bookkeeping and shutdown ------------------------------------------------------------

    async def _shut_down(
        self, intake: set[asyncio.Task[None]], workers: list[asyncio.Task[None]]
    ) -> None:
        """Stop the sources, let what is under way finish, stop the workers, save."""
        timeouts = self._timeouts
        for source in intake:
            source.cancel()
        await _wait_named(intake, timeouts.close_s, "stop_sources")
        await self._drain()
        drained = not self._outstanding.count
        if self._showing is not None:
            workers.append(self._showing)
        for worker in workers:
            worker.cancel()
        await _wait_named(set(workers), timeouts.close_s, "stop_workers")
        # After a failure the next start takes the journal's word for it, not our memory's.
        if self.engine.quiescent and drained and not self._failures:
            await self._parts.journal.save_snapshot(save_bytes(self.engine))
        log.info(LogEvent.TRADING_STOPPED, instant=iso(self.engine.state.instant_ms))

    async def _drain(self) -> None:
        """Let what is queued be journalled and what is decided be answered, as far as it can."""
        if CONSUMER in self._failures:
            return  # nobody is left to write anything down
        try:
            async with asyncio.timeout(self._timeouts.drain_s):
                await self._outstanding.at_most(0)
        except TimeoutError:
            left = self._outstanding.count
            log.warning(LogEvent.SHUTDOWN_LATE, stage="drain", outstanding=left)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _nothing_more(close_ms: int, instruments_n: int) -> BarsClosed:
    """Say that the deadline of an instant has passed: what has not come is absent."""
    return BarsClosed(
        close_ms,
        np.full((instruments_n, FIELDS), np.nan),
        np.zeros(instruments_n, dtype=np.uint8),
        np.full(instruments_n, np.nan),
        final=True,
    )


async def _wait_named(tasks: set[asyncio.Task[None]], timeout_s: float, stage: str) -> None:
    _, late = await asyncio.wait(tasks, timeout=timeout_s)
    for task in late:
        log.warning(LogEvent.SHUTDOWN_LATE, stage=stage, task=task.get_name())
