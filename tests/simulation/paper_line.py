"""The live shell over its real files and an in-memory market in lock-step, with a camera.

What a kill -9 leaves is what the kernel has of the files at that moment, and they change by
commits of the journal and of the paper ledger only. So a copy of them after every commit is every
state that a kill between two steps of the program can leave, the one between the venue's commit and
ours among them. The calls that commit are made one at a time here, which changes their timing only.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from adapters.history.replay_feed import ReplayFeed
from adapters.history.rules import instruments_from, load_rules
from adapters.journal import SqliteJournal
from adapters.paper import AsyncPaperVenue, PaperVenue, SqliteStore
from adapters.rehearsal.export import export_parquet
from adapters.rehearsal.seeded import SeededMarket
from adapters.rehearsal.universe import NAMES, traits_of
from daemon.domain.decision import Decision
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import Command, Decided, Event, MarketEvent, VenueEvent
from daemon.domain.order import Order, OrderId
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe
from daemon.engine.engine import Engine
from daemon.engine.state import SCHEMA
from daemon.ports import Entry, Snapshot
from daemon.runtime.live import LiveShell, ShellParts
from daemon.settings import Settings, effective_toml
from daemon.wiring.backtest import History, load_history
from daemon.wiring.core import history_ms, paper_settings
from daemon.wiring.instruments import write_instruments
from daemon.wiring.recovery import recovered_engine
from tests.e2e.line import ROOT, settings_of

COINS: Final = 6
ORIGIN_MS: Final = 1_704_067_200_000  # 2024-01-01
# The second decision, from the first book to the next, falls on a settlement of funding.
BEGIN_MS: Final = ORIGIN_MS + 3 * DAY_MS + 6 * HOUR_MS
SOURCE: Final = Timeframe(30)
# Little of a bar may be taken, so that orders rest; no band, so that every hour trades.
OVERRIDES: Final = (
    "strategy.name=relative_strength",
    'strategy.parameters={"lookback_bars": 3, "legs_each_side": 2, "band_weight": 0.0}',
    "estimator.kind=none",
    "market.window_bars=4",
    "paper.participation_share=0.00002",
    "risk.net_weight_max=0.25",  # wide, so that a rebalance is few commits and all can be tried
    "backtest.venue=binanceusdm",
)
FILES: Final = ("journal.sqlite", "journal.sqlite-wal", "paper.sqlite", "paper.sqlite-wal")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Market:
    """Hold the bars, funding and instruments of a few generated days."""

    history: History
    data: Path

    def settings(self, state: Path) -> Settings:
        """Give the settings of a run in this state folder."""
        return settings_of(state, *OVERRIDES, f"backtest.data_folder={self.data}")


def generated_market(folder: Path, days: int = 6, seed: int = 3) -> Market:
    """Write a generated market to files and load it as a backtest does."""
    market = SeededMarket(
        [traits_of(name, ORIGIN_MS, None) for name in NAMES[:COINS]],
        seed=seed,
        origin_ms=ORIGIN_MS,
        step_minutes=5,
        planted_ic=0.05,
    )
    bars, rates = folder / "ohlcv" / "binanceusdm", folder / "funding" / "binanceusdm"
    end_ms = ORIGIN_MS + days * DAY_MS
    export_parquet(market, bars, SOURCE.label, ORIGIN_MS, end_ms)
    rates.mkdir(parents=True)
    for path in bars.glob("*-funding.parquet"):
        path.rename(rates / path.name)
    made = instruments_from(
        load_rules(ROOT / "config" / "trading_rules.toml"), "binanceusdm", NAMES[:COINS]
    )
    settings = settings_of(folder / "none", *OVERRIDES, f"backtest.data_folder={folder}")
    return Market(load_history(settings, made, 0), folder)


class StepClock:
    """Tell the time of a market that waits until the daemon has come to rest."""

    def __init__(self, start_ms: int, end_ms: int) -> None:
        self._now_ms = start_ms
        self._end_ms = end_ms
        self._moved = asyncio.Condition()
        self.ended = asyncio.Event()
        self.quiet: Callable[[], Awaitable[object]] = asyncio.Event().wait  # set by the line

    def now(self) -> int:
        return self._now_ms

    async def sleep_until(self, at_ms: int) -> int:
        await self.quiet()
        if self._now_ms >= self._end_ms:
            self.ended.set()  # all of this instant is done; nothing of the next has begun
            await asyncio.Event().wait()
        async with self._moved:
            self._now_ms = max(self._now_ms, min(at_ms, SOURCE.next_close(self._now_ms)))
            self._moved.notify_all()
        return self._now_ms

    async def reached(self, at_ms: int) -> int:
        async with self._moved:
            await self._moved.wait_for(lambda: self._now_ms >= at_ms)
        return self._now_ms


@dataclass(frozen=True, slots=True)
class Follower:
    """Let the feed wait for the market without moving it."""

    clock: StepClock

    def now(self) -> int:
        return self.clock.now()

    async def sleep_until(self, at_ms: int) -> int:
        return await self.clock.reached(at_ms)


# ---- the camera ----------------------------------------------------------------------------------


@dataclass
class Camera:
    """Copy the durable files after each commit; a copy like the one before is not kept."""

    state: Path
    album: Path
    shots: list[tuple[str, Path]] = field(default_factory=list)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _seen: dict[str, bytes] = field(default_factory=dict)

    async def around(self, name: str, call: Awaitable[T]) -> T:
        """Make one call that may commit, alone, and look at the files when it has."""
        async with self._lock:
            answer = await call
            self.shoot(name)
        return answer

    def shoot(self, name: str) -> None:
        present = {f: (self.state / f).read_bytes() for f in FILES if (self.state / f).exists()}
        if present == self._seen:
            return
        self._seen = present
        folder = self.album / f"{len(self.shots):04d}-{name}"
        folder.mkdir(parents=True)
        for file, content in present.items():
            (folder / file).write_bytes(content)
        shutil.copy(self.state / "instruments.json", folder)
        self.shots.append((name, folder))


@dataclass(frozen=True, slots=True)
class WatchedJournal:
    """Stand in front of the real journal and let the camera see every commit."""

    inner: SqliteJournal
    camera: Camera

    async def append(self, entries: Sequence[tuple[Event, Sequence[Command]]]) -> int:
        return await self.camera.around("journal", self.inner.append(entries))

    async def save_snapshot(self, snapshot_state: bytes) -> None:
        await self.camera.around("snapshot", self.inner.save_snapshot(snapshot_state))

    def read_from(self, sequence: int) -> Iterator[Entry]:
        return self.inner.read_from(sequence)

    def last_snapshot(self) -> Snapshot | None:
        return self.inner.last_snapshot()


@dataclass(frozen=True, slots=True)
class WatchedVenue:
    """Stand in front of the real paper venue and let the camera see every commit."""

    inner: AsyncPaperVenue
    camera: Camera

    async def submit(self, orders: Sequence[Order]) -> Sequence[VenueEvent]:
        return await self.camera.around("submit", self.inner.submit(orders))

    async def cancel(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        return await self.camera.around("cancel", self.inner.cancel(order_id, key))

    async def query(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        return await self.camera.around("query", self.inner.query(order_id, key))

    async def snapshot(self, executions_cursor: int, venue: str) -> Sequence[VenueEvent]:
        return await self.camera.around("account", self.inner.snapshot(executions_cursor, venue))

    async def observe(self, event: MarketEvent) -> Sequence[VenueEvent]:
        return await self.camera.around("observe", self.inner.observe(event))


# ---- the line ------------------------------------------------------------------------------------


def begin_book(state: Path, market: Market) -> None:
    """Make the state folder of a run, unless it is there."""
    state.mkdir(parents=True, exist_ok=True)
    write_instruments(state, market.history.universe.instruments)


@asynccontextmanager
async def paper_line(
    market: Market, state: Path, clock: StepClock, observer: Observer, camera: Camera | None = None
) -> AsyncIterator[LiveShell]:
    """Assemble a paper session as the daemon does, over the market in memory."""
    settings, history, start_ms = market.settings(state), market.history, clock.now()
    feed = ReplayFeed(
        history.panel, SOURCE, history.universe.instruments, history.funding, Follower(clock)
    )
    begin_book(state, market)
    path = state / "journal.sqlite"
    engine, recovered = recovered_engine(settings, history.universe, path)
    async with AsyncExitStack() as stack:
        journal = SqliteJournal(
            path,
            state_schema=SCHEMA,
            code_version="simulation",
            settings_text=effective_toml(settings),
        )
        await stack.enter_async_context(journal)
        if camera is not None:
            camera.shoot("begun")
        store = SqliteStore(state / "paper.sqlite")
        stack.callback(store.close)
        core = PaperVenue(engine.universe, paper_settings(settings), store, opened_ms=start_ms)
        venue = await stack.enter_async_context(AsyncPaperVenue(core))
        watched = venue if camera is None else WatchedVenue(venue, camera)
        parts = ShellParts(
            engine=engine,
            feed=feed,
            orders=watched,
            account=watched,
            estimator=None,
            journal=journal if camera is None else WatchedJournal(journal, camera),
            clock=clock,
            run_id="simulation",
            history_ms=history_ms(settings, engine),
            observers=(observer,),
            recovered=recovered,
        )
        shell = LiveShell(parts)
        clock.quiet = shell.quiet
        if camera is not None:
            camera.shoot("opened")
        yield shell


Observer = Callable[[Event, Sequence[Command], Engine], None]


async def run_until(
    market: Market, state: Path, start_ms: int, end_ms: int, camera: Camera | None = None
) -> list[Decision]:
    """Trade from `start_ms` through the decision at `end_ms`; give the decisions."""
    clock, decisions = StepClock(start_ms, end_ms), list[Decision]()

    def observer(event: Event, commands: Sequence[Command], engine: Engine) -> None:
        for command in commands:
            if isinstance(command, Decided):
                decisions.append(command.decision)

    async with paper_line(market, state, clock, observer, camera) as shell:
        await shell.run(clock.ended)
    return decisions
