"""A whole line in memory: bars by seed, lock-step time, the real paper venue, feed and engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

from adapters.history.replay_feed import ReplayFeed
from adapters.history.store import Funding, Panel
from adapters.journal import MemoryJournal
from adapters.paper import AsyncPaperVenue, MemoryStore, PaperSettings, PaperVenue
from daemon.domain.bar import FIELDS, Window
from daemon.domain.decision import Decision
from daemon.domain.forecast import Estimates, Prediction
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import Command, Decided, EstimatesReady, Event, MarketEvent, VenueEvent
from daemon.domain.order import Order, OrderId
from daemon.engine.engine import Engine
from daemon.ports import Journal
from daemon.runtime.live import LiveShell, ShellParts, ShellTimeouts
from tests.engine.world import BAR_MS, M30, MIDNIGHT_MS, FollowForecasts, at, make_engine

N = 4
WARM_BARS = 6
COSTS = PaperSettings(
    fee_bps=5.0,
    half_spread_bps=1.0,
    impact_bps=10.0,
    latency_bps=0.5,
    participation_share=0.1,
    starting_cash={"USDT": Decimal(10_000)},
)


def panel_of(bars_n: int, seed: int = 0, volume: float = 300.0) -> Panel:
    """Draw bars whose opens are the closes before; 300 coins a bar let 30 be filled at once."""
    rng = np.random.default_rng(seed)
    closes = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.004, (bars_n, N)), axis=0)).round(4)
    before = np.vstack([np.full((1, N), 100.0), closes[:-1]])
    high, low = np.maximum(before, closes), np.minimum(before, closes)
    values = np.stack([before, high, low, closes, np.full((bars_n, N), volume)], axis=2)
    assert values.shape == (bars_n, N, FIELDS)
    close_ms = MIDNIGHT_MS + BAR_MS * np.arange(1, bars_n + 1, dtype=np.int64)
    return Panel(close_ms, values, closes)


def funding_of(bars_n: int) -> Funding:
    """Settle every eight hours."""
    settle_ms = np.array([at(b) for b in range(16, bars_n + 1, 16)], dtype=np.int64)
    rates = np.full((len(settle_ms), N), 1e-4) * np.arange(1.0, N + 1.0)
    return Funding(settle_ms, rates, ())


class Momentum:
    """Forecast from the bars that are handed in, in place or as the port wants it."""

    def __init__(self, gross: float = 0.3) -> None:
        self.asked: list[int] = []
        self.gross = gross

    def estimate_sync(self, as_of_ms: int, windows: Sequence[Window]) -> Event:
        self.asked.append(as_of_ms)
        predictions = [self._predict(window) for window in windows]
        return EstimatesReady(Estimates(as_of_ms, tuple(predictions)))

    async def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Event:
        await asyncio.sleep(0)
        return self.estimate_sync(as_of_ms, windows)

    def _predict(self, window: Window) -> Prediction:
        closes = window.closes
        move = closes[-1] / closes[0] - 1.0
        ranks = np.argsort(np.argsort(move)).astype(float)
        mean = self.gross * (ranks - ranks.mean()) / np.abs(ranks - ranks.mean()).sum()
        return Prediction(window.timeframe, window.newest_ms, mean, np.full(N, 0.01), "momentum")


class StepClock:
    """Tell the time of a market that moves only when the daemon has come to rest."""

    def __init__(self, start_ms: int, end_ms: int) -> None:
        self._now_ms = start_ms
        self._end_ms = end_ms
        self._moved = asyncio.Condition()
        self.ended = asyncio.Event()
        self.quiet: Callable[[], Awaitable[object]] = asyncio.Event().wait

    def now(self) -> int:
        return self._now_ms

    async def sleep_until(self, at_ms: int) -> int:
        await self.quiet()
        if self._now_ms >= self._end_ms:
            self.ended.set()
            await asyncio.Event().wait()
        async with self._moved:
            self._now_ms = max(self._now_ms, min(at_ms, M30.next_close(self._now_ms)))
            self._moved.notify_all()
        return self._now_ms

    async def reached(self, at_ms: int) -> int:
        async with self._moved:
            await self._moved.wait_for(lambda: self._now_ms >= at_ms)
        return self._now_ms


@dataclass(frozen=True)
class Follower:
    """Let the feed wait for the market without moving it."""

    clock: StepClock

    def now(self) -> int:
        return self.clock.now()

    async def sleep_until(self, at_ms: int) -> int:
        return await self.clock.reached(at_ms)


class WatchedVenue:
    """Stand in front of the real venue: note every call, hold it up or break it when told to."""

    def __init__(self, inner: AsyncPaperVenue) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self.sent: list[Order] = []
        self.open = asyncio.Event()
        self.open.set()
        self.holds: set[str] = set()  # calls that wait for `open`
        self.breaks: dict[str, Exception] = {}
        self.reached: dict[str, asyncio.Event] = {}

    async def wait_for(self, name: str) -> None:
        """Return once a call of that name has begun."""
        await self.reached.setdefault(name, asyncio.Event()).wait()

    async def _before(self, name: str) -> None:
        self.calls.append(name)
        self.reached.setdefault(name, asyncio.Event()).set()
        if name in self.holds:
            await self.open.wait()
        if name in self.breaks:
            raise self.breaks[name]

    async def submit(self, orders: Sequence[Order]) -> Sequence[VenueEvent]:
        await self._before("submit")
        self.sent += orders
        return await self.inner.submit(orders)

    async def cancel(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        await self._before("cancel")
        return await self.inner.cancel(order_id, key)

    async def query(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        await self._before("query")
        return await self.inner.query(order_id, key)

    async def snapshot(self, executions_cursor: int, venue: str) -> Sequence[VenueEvent]:
        await self._before("snapshot")
        return await self.inner.snapshot(executions_cursor, venue)

    async def observe(self, event: MarketEvent) -> Sequence[VenueEvent]:
        await self._before("observe")
        return await self.inner.observe(event)


@dataclass
class Line:
    """Hold the parts of one live run; `run` trades until the clock's end."""

    shell: LiveShell
    clock: StepClock
    engine: Engine
    venue: WatchedVenue
    estimator: Momentum
    journal: Journal
    feed: ReplayFeed
    decisions: list[Decision] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    async def run(self) -> None:
        await self.shell.run(self.clock.ended)


def venue_core(start_bar: int = WARM_BARS) -> PaperVenue:
    return PaperVenue(make_engine().universe, COSTS, MemoryStore(), opened_ms=at(start_bar))


def line_of(
    panel: Panel,
    *,
    start_bar: int = WARM_BARS,
    end_bar: int | None = None,
    journal: Journal | None = None,
    core: PaperVenue | None = None,
    estimator: Momentum | None = None,
    engine: Engine | None = None,
    timeouts: ShellTimeouts | None = None,
    funding: Funding | None = None,
) -> Line:
    """Assemble a live run over the panel from one bar to another."""
    engine = engine or make_engine(FollowForecasts())
    clock = StepClock(at(start_bar), at(len(panel.close_ms) if end_bar is None else end_bar))
    instruments = engine.universe.instruments
    feed = ReplayFeed(panel, M30, instruments, funding, Follower(clock))
    venue = WatchedVenue(AsyncPaperVenue(core or venue_core(start_bar)))
    journal = journal or MemoryJournal(keep_entries=True)
    estimator = estimator or Momentum()
    decisions: list[Decision] = []
    events: list[Event] = []

    def observer(event: Event, commands: Sequence[Command], seen: Engine) -> None:
        assert seen is engine
        events.append(event)
        decisions.extend(c.decision for c in commands if isinstance(c, Decided))

    parts = ShellParts(
        engine=engine,
        feed=feed,
        orders=venue,
        account=venue,
        estimator=estimator,
        journal=journal,
        clock=clock,
        run_id="rig",
        history_ms=WARM_BARS * BAR_MS,
        observers=(observer,),
    )
    shell = LiveShell(parts, timeouts)
    clock.quiet = shell.quiet
    return Line(shell, clock, engine, venue, estimator, journal, feed, decisions, events)
