"""The shell of history: single-stepped, in place, each instant with all its consequences.

Used by backtests and by the comparison with live runs. It asks no mode questions: it is handed a
stream of market events, the synchronous core of a venue, an estimator and a journal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, assert_never

from daemon.domain.bar import Window
from daemon.domain.decision import Decision
from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import (
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
    Query,
    Started,
    Submit,
    VenueEvent,
)
from daemon.domain.order import Order, OrderId
from daemon.domain.units import require
from daemon.engine.engine import Engine

CONSEQUENCES_MAX = 100_000  # events that one market event may cause before we call it a loop


class VenueCore(Protocol):
    """Name what a venue that answers in place offers."""

    def submit(self, orders: Sequence[Order]) -> Sequence[VenueEvent]:
        """Send orders in this order."""
        ...

    def cancel(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        """Stop one order."""
        ...

    def query(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        """Ask what became of an order."""
        ...

    def snapshot(self, executions_cursor: int, venue: str) -> Sequence[VenueEvent]:
        """Give executions after the cursor and the account at that venue."""
        ...

    def observe(self, event: MarketEvent) -> Sequence[VenueEvent]:
        """See the market before the engine does."""
        ...


class EstimatorCore(Protocol):
    """Name an estimator that answers in place."""

    def estimate_sync(self, as_of_ms: int, windows: Sequence[Window]) -> Event:
        """Give EstimatesReady or EstimatesMissing."""
        ...


class Recorder(Protocol):
    """Name a journal that can be written in place."""

    def record(self, event: Event, commands: Sequence[Command]) -> object:
        """Keep one entry."""
        ...


@dataclass(slots=True)
class ReplayResult:
    """Hold what a replay produced: decisions in order, alerts, the number of events processed."""

    decisions: list[Decision] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    events_n: int = 0


class ReplayShell:
    """Drive an engine through history."""

    def __init__(
        self,
        engine: Engine,
        venue: VenueCore,
        estimator: EstimatorCore | None,
        journal: Recorder | None = None,
        on_instant: Callable[[int, Engine], None] | None = None,
    ) -> None:
        require(
            estimator is not None
            or not (engine.strategy.needs_estimates or engine.rules.cadence.covariance),
            f"strategy {engine.strategy.name} or a covariance needs an estimator",
        )
        self.engine = engine
        self.result = ReplayResult()
        self._venue = venue
        self._estimator = estimator
        self._journal = journal
        self._on_instant = on_instant

    def warm_up(self, events: Iterable[MarketEvent]) -> None:
        """Let the engine and the venue see history without trading."""
        for event in events:
            self._show(event)

    def start(self, at_ms: int, run_id: str) -> None:
        """Reconcile with the venue and begin to trade."""
        self._process((Started(at_ms, run_id),))

    def run(self, events: Iterable[MarketEvent]) -> ReplayResult:
        """Process every market event with all its consequences; give what came of it."""
        for event in events:
            self._show(event)
            if self._on_instant is not None and isinstance(event, BarsClosed):
                self._on_instant(event.close_ms, self.engine)
        return self.result

    def _show(self, event: MarketEvent) -> None:
        """Show an event to the venue first; all it answers comes before what the answers cause."""
        answers = self._venue.observe(event)
        if answers:
            self._process(answers)
        self._process((event,))

    def _process(self, events: Sequence[Event]) -> None:
        queue = deque(events)
        process, journal, steps = self.engine.process, self._journal, 0
        while queue:
            steps += 1
            if steps >= CONSEQUENCES_MAX:
                cause = type(events[0]).__name__
                raise InvariantViolated(f"{cause} caused {steps} events: a loop")
            present = queue.popleft()
            commands = process(present)
            if journal is not None:
                journal.record(present, commands)
            if commands:
                self._carry_out(commands, queue)
        self.result.events_n += steps

    def _carry_out(self, commands: Sequence[Command], queue: deque[Event]) -> None:
        orders: list[Order] = []
        for command in commands:
            if isinstance(command, Submit):
                orders.append(command.approved.order)
                continue
            if orders:
                queue.extend(self._venue.submit(orders))
                orders = []
            queue.extend(self._effect(command))
        if orders:
            queue.extend(self._venue.submit(orders))

    def _effect(self, command: Command) -> Sequence[Event]:
        match command:
            case Decided(decision=decision):
                self.result.decisions.append(decision)
                return ()
            case Estimate(as_of_ms=as_of_ms, windows=windows):
                require(
                    self._estimator is not None, "an estimate was asked for without an estimator"
                )
                estimator = self._estimator
                return (estimator.estimate_sync(as_of_ms, windows),) if estimator else ()
            case Cancel(order_id=order_id, key=key):
                return self._venue.cancel(order_id, key)
            case Query(order_id=order_id, key=key):
                return self._venue.query(order_id, key)
            case AskSnapshot(executions_cursor=cursor, venue=venue):
                return self._venue.snapshot(cursor, venue)
            case Alert():
                self.result.alerts.append(command)
                return ()
            case DecisionsFlagged():
                return ()
            case Submit(approved=approved):
                return self._venue.submit([approved.order])
            case _:
                assert_never(command)
