"""The ports: what the shells need from the world, each with at least two real implementations.

Adapters implement these by shape. Everything that can fail in an expected way answers with an
event; exceptions mean the port cannot be used at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Window
from daemon.domain.instrument import Instrument, InstrumentKey
from daemon.domain.messages import (
    Alert,
    Command,
    Event,
    MarketEvent,
    Recorded,
    VenueEvent,
)
from daemon.domain.order import Order, OrderId
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import Timeframe
from daemon.domain.view import View

StrategyState = Mapping[str, npt.NDArray[np.float64]]
Arm = TypeVar("Arm")
Result = TypeVar("Result")
Share = Callable[[float], None]  # tells how much of an arm is done, from 0 to 1


class Clock(Protocol):
    """Tell market time: of the venue, of history, or of a market in lock-step."""

    def now(self) -> int:
        """Give the market time in ms since the epoch."""
        ...

    async def sleep_until(self, at_ms: int) -> int:
        """Wait until market time reaches `at_ms` or the market has news; give the time then.

        In lock-step this tells the market that everything up to now has been processed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Warmup:
    """Report how far the history needed before the first decision has come."""

    symbol: str
    bars: int
    bars_wanted: int


class MarketFeed(Protocol):
    """Deliver closed source bars, revisions and funding rates of the configured universe."""

    async def instruments(self) -> Sequence[Instrument]:
        """Load the instruments with their trading rules, in the configured order."""
        ...

    def history(self, since_ms: int, until_ms: int) -> AsyncIterator[MarketEvent]:
        """Yield the closed bars with since < close <= until in time order, then stop."""
        ...

    def events(self, after_ms: int) -> AsyncIterator[MarketEvent]:
        """Yield what happens after `after_ms`, for as long as the feed lives."""
        ...

    async def settled(self, now_ms: int) -> None:
        """Return when all that the venue can tell up to `now_ms` has been yielded.

        For each expected bar this means a proven bar or the venue's own word that there is none.
        """
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class OrderEntry(Protocol):
    """Send, cancel and ask about orders. Every answer is a sequence of venue events."""

    async def submit(self, orders: Sequence[Order]) -> Sequence[VenueEvent]:
        """Send orders once, in this order; failures come back as events, never as a resend."""
        ...

    async def cancel(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        """Stop one order; an order that already ended answers with how it ended."""
        ...

    async def query(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        """Ask what became of an order: its fills and state, or OrderAbsent."""
        ...


class AccountView(Protocol):
    """Read the account as the venue knows it."""

    async def snapshot(self, executions_cursor: int, venue: str) -> Sequence[VenueEvent]:
        """Give fills and cash flows after the cursor, then one Snapshotted of that venue."""
        ...

    async def observe(self, event: MarketEvent) -> Sequence[VenueEvent]:
        """See a market event before the engine does; a simulator answers with fills and funding."""
        ...


class Estimator(Protocol):
    """Answer Estimate commands within a deadline of transport time."""

    async def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Event:
        """Give EstimatesReady, or EstimatesMissing with the reason."""
        ...


class Strategy(Protocol):
    """Turn what is known into wanted weights: a pure function with a versioned state."""

    @property
    def name(self) -> str:
        """Give the name by which settings choose it."""
        ...

    @property
    def needs_estimates(self) -> bool:
        """Tell whether decisions wait for the estimator."""
        ...

    @property
    def windows_needed(self) -> Mapping[Timeframe, int]:
        """Give the bars per timeframe without which it cannot decide."""
        ...

    def initial_state(self, instruments_n: int) -> StrategyState:
        """Give the state before the first decision."""
        ...

    def decide(self, state: StrategyState, view: View) -> tuple[StrategyState, TargetPortfolio]:
        """Give the next state and the target; may not read anything but its arguments.

        Without predictions, one that needs estimates keeps the book and grows no position.
        """
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold one journal entry: an event and what is kept of the commands it caused."""

    sequence: int
    event: Event
    commands: tuple[Recorded, ...]
    chain: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Hold a saved engine state and its place in the hash chain."""

    sequence: int
    chain: bytes
    schema: int
    code_version: str
    state: bytes


class Journal(Protocol):
    """Keep events and commands durably, in order, in a hash chain."""

    async def append(self, entries: Sequence[tuple[Event, Sequence[Command]]]) -> int:
        """Write entries durably in one commit and give the last sequence number."""
        ...

    def read_from(self, sequence: int) -> Iterator[Entry]:
        """Yield entries with a number >= `sequence`; raises BrokenChain at the first bad one."""
        ...

    async def save_snapshot(self, snapshot_state: bytes) -> None:
        """Save the engine state as of the last appended entry; keeps the newest few."""
        ...

    def last_snapshot(self) -> Snapshot | None:
        """Give the newest snapshot that is valid and lies on the chain, or None."""
        ...


class StatusSink(Protocol):
    """Show state to people; lossy, never able to delay a decision."""

    def publish(self, topic: str, values: Mapping[str, object]) -> None:
        """Take the newest values of a topic; never blocks, newest wins."""
        ...

    def running(self) -> AbstractAsyncContextManager[None]:
        """Connect in the background for as long as the context lasts."""
        ...


class AlertSink(Protocol):
    """Bring alerts to people."""

    def alert(self, alert: Alert) -> None:
        """Take an alert; never blocks."""
        ...


class Executor(Protocol):
    """Run the arms of a campaign, one after the other or several at a time."""

    def map(
        self,
        run: Callable[[Arm, Share], Result],
        arms: Sequence[tuple[str, Arm]],
        done: Share,
        taken: Callable[[Result], None] = ...,
    ) -> list[Result]:
        """Run each named arm and give the results in the order of the arms.

        run: a function that other processes can import, as they can its arms and results. done
        hears how much of the whole is done. taken hears each result once, in the order of the arms,
        as soon as those before it are there; where an arm fails, those that others left come last.
        What an arm raises is raised here, with its name.
        """
        ...
