"""The live shell and venue over real files, real ccxt and sockets, and an exchange that goes back.

It runs in a loop that does not idle. A camera (`crash_points`) may look on; what it saw is put back
into the running exchange and into another folder, and a run of that begins as after a crash, with
requests of the process before arriving while it recovers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeVar

from adapters.ccxt_venue.calls import Caller
from adapters.ccxt_venue.client import keyed_client
from adapters.ccxt_venue.keys import Credentials, Hidden
from adapters.ccxt_venue.listings_binance import BinanceListings
from adapters.ccxt_venue.listings_bybit import BybitListings
from adapters.ccxt_venue.names import Names
from adapters.ccxt_venue.quirks import QUIRKS
from adapters.ccxt_venue.timing import SigningClock
from adapters.ccxt_venue.venue import CcxtVenue, VenueRules
from adapters.history.replay_feed import ReplayFeed
from adapters.history.rules import FileInstruments
from adapters.journal import SqliteJournal
from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.bank.terms import BankSettings, OrderRequest, TimeInForce
from adapters.rehearsal.bybit.ccxt_options import bybit_options
from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.export import export_parquet
from adapters.rehearsal.seeded import SeededMarket
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import DialectKind, RehearsalSettings
from adapters.rehearsal.universe import NAMES, traits_of
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules
from daemon.domain.messages import Command, Event, VenueEvent
from daemon.domain.order import Order, OrderId
from daemon.domain.units import DAY_MS
from daemon.engine.engine import Engine
from daemon.engine.risk import TradingState
from daemon.engine.state import SCHEMA
from daemon.ports import Entry, Snapshot
from daemon.runtime.live import LiveShell, ShellParts
from daemon.settings import Settings, effective_toml
from daemon.wiring.backtest import History, load_history
from daemon.wiring.core import LIVE_FILE, history_ms
from daemon.wiring.live_session import _Book
from daemon.wiring.recovery import recovered_engine
from tests.e2e.line import settings_of
from tests.e2e.live_rig import KEY, SECRET
from tests.simulation.crash_points import SHUTDOWN, TRADING, Camera, Request
from tests.simulation.jumping_loop import here
from tests.simulation.paper_line import BEGIN_MS, COINS, ORIGIN_MS, SOURCE, Follower, StepClock

WINDOW_MS: Final = 250
RULES: Final = VenueRules(receive_window_ms=WINDOW_MS, in_place=True)
OVERRIDES: Final = (
    "strategy.name=relative_strength",
    'strategy.parameters={"lookback_bars": 3, "legs_each_side": 2, "band_weight": 0.0}',
    "estimator.kind=none",
    "market.window_bars=4",
    "risk.net_weight_max=0.25",
)
# Orders take a while to the book, so that they rest, and are filled in parts.
BANK: Final = BankSettings(depth_notional=Decimal(400), latency_ms=500)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Market:
    """Hold a generated market, and its bars and instruments as a feed reads them."""

    venue: str
    seeded: SeededMarket
    history: History
    data: Path

    def settings(self, state: Path) -> Settings:
        """Give the settings of a run in this state folder."""
        return _settings(state, self.data, self.venue)


def _settings(state: Path, data: Path, venue: str) -> Settings:
    named = (f"exchange.id={venue}", f"backtest.venue={venue}", f"backtest.data_folder={data}")
    return settings_of(state, *OVERRIDES, *named)


def generated_market(folder: Path, venue: str, days: int = 6, seed: int = 3) -> Market:
    """Generate a market and write it to files as a venue's."""
    traits = [traits_of(name, ORIGIN_MS, None) for name in NAMES[:COINS]]
    market = SeededMarket(traits, seed=seed, origin_ms=ORIGIN_MS, step_minutes=5, planted_ic=0.05)
    bars, rates = folder / "ohlcv" / venue, folder / "funding" / venue
    export_parquet(market, bars, SOURCE.label, ORIGIN_MS, ORIGIN_MS + days * DAY_MS)
    rates.mkdir(parents=True)
    for path in bars.glob("*-funding.parquet"):
        path.rename(rates / path.name)
    made = FileInstruments(tuple(_instrument(venue, one.coin) for one in traits), ())
    history = load_history(_settings(folder / "none", folder, venue), made, 0)
    return Market(venue, market, history, folder)


def _instrument(venue: str, coin: Any) -> Instrument:
    base = coin.symbol.removesuffix("USDT")
    step = Decimal(coin.quantity_step)
    rules = TradingRules(Decimal(coin.price_step), step, step, Decimal(coin.notional_min_usdt))
    return Instrument(InstrumentKey(venue, f"{base}/USDT:USDT"), base, "USDT", "USDT", rules)


class VenueClock(StepClock):
    """Tell the time of an exchange that is moved when the daemon has come to rest."""

    def __init__(self, running: RunningExchange, end_ms: int) -> None:
        super().__init__(running.exchange.now_ms, end_ms)
        self._running = running
        self.on_end: Callable[[], None] = lambda: None

    async def sleep_until(self, at_ms: int) -> int:
        await self.quiet()
        now_ms = self.now()
        if now_ms >= self._end_ms:
            self.on_end()
        else:
            await self._running.exchange.move_to(max(now_ms, min(at_ms, SOURCE.next_close(now_ms))))
        return await super().sleep_until(at_ms)


# ---- what is watched -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WatchedJournal:
    """Stand in front of the real journal: time does not jump, and a camera sees each commit."""

    inner: SqliteJournal
    camera: Camera | None

    async def append(self, entries: Sequence[tuple[Event, Sequence[Command]]]) -> int:
        return await self._written("journal", self.inner.append(entries))

    async def save_snapshot(self, snapshot_state: bytes) -> None:
        await self._written("snapshot", self.inner.save_snapshot(snapshot_state))

    def read_from(self, sequence: int) -> Iterator[Entry]:
        return self.inner.read_from(sequence)

    def last_snapshot(self) -> Snapshot | None:
        return self.inner.last_snapshot()

    async def _written(self, what: str, call: Awaitable[T]) -> T:
        with here().at_work():
            return await (call if self.camera is None else self.camera.writing(what, call))


@dataclass(frozen=True, slots=True)
class WatchedOrders:
    """Stand in front of the live venue and note what is to be sent."""

    inner: CcxtVenue
    camera: Camera

    async def submit(self, orders: Sequence[Order]) -> Sequence[VenueEvent]:
        self.camera.orders.update((one.order_id, one) for one in orders)
        return await self.inner.submit(orders)

    async def cancel(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        return await self.inner.cancel(order_id, key)

    async def query(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        return await self.inner.query(order_id, key)


class WatchedBook(_Book):
    """Show the file beside a book while it is replaced."""

    camera: Camera | None = None

    def _write(self) -> None:
        before = self._path.read_bytes() if self._path.exists() else b""
        super()._write()
        if self.camera is None:
            return
        after = self._path.read_bytes()
        self.camera.replaced(self._path, before, after)


# ---- the line ------------------------------------------------------------------------------------


@dataclass
class Line:
    """Hold an exchange, and a ccxt client to it that outlives what crashes: it keeps nothing.

    recovered_s: the loop's time at which the newest run was allowed to trade.
    """

    market: Market
    running: RunningExchange
    api: Any
    camera: Camera | None = None
    recovered_s: float = 0.0

    def venue(self, state: Path, engine: Engine) -> CcxtVenue:
        """Make a live venue that knows nothing of the one before."""
        name = self.market.venue
        caller = Caller(name, self.api, _keys(name).redactor())
        names = Names(name, engine.universe.instruments)
        names.learn(self.api.markets)
        listings = BybitListings(caller) if name == "bybit" else BinanceListings(caller)
        book = WatchedBook(state / LIVE_FILE)
        book.camera = self.camera
        book.of("an account")
        now_ms = self.running.exchange.clock_ms
        return CcxtVenue(
            QUIRKS[name], caller, names, listings, RULES, now_ms,
            begun_ms=book.begun_ms, on_begun=book.begin,
        )  # fmt: skip

    async def run(
        self,
        state: Path,
        end_ms: int,
        camera: Camera | None = None,
        late: Sequence[tuple[float, Request]] = (),
    ) -> Engine:
        """Trade from where the exchange stands until `end_ms`; give the engine as it ends.

        late: requests of before, and after how many seconds each arrives.
        """
        self.camera, self.recovered_s = camera, 0.0
        arriving = [asyncio.create_task(self._arrive(*one)) for one in late]
        if camera is not None:
            camera.watch(here())
        try:
            return await self._run(state, end_ms, camera)
        finally:
            if camera is not None:
                camera.leave(here())
            self.camera = None
            await asyncio.gather(*arriving)

    async def _run(self, state: Path, end_ms: int, camera: Camera | None) -> Engine:
        market, clock = self.market, VenueClock(self.running, end_ms)
        settings, universe = market.settings(state), market.history.universe
        panel, funding = market.history.panel, market.history.funding
        feed = ReplayFeed(panel, SOURCE, universe.instruments, funding, Follower(clock))
        path = state / "journal.sqlite"
        engine, recovered = recovered_engine(settings, universe, path)
        venue = self.venue(state, engine)
        async with AsyncExitStack() as stack:
            text = effective_toml(settings)
            journal = SqliteJournal(
                path, state_schema=SCHEMA, code_version="simulation", settings_text=text
            )
            await stack.enter_async_context(journal)
            if camera is not None:
                camera.shoot("journal: opened")
            parts = ShellParts(
                engine=engine,
                feed=feed,
                orders=venue if camera is None else WatchedOrders(venue, camera),
                account=venue,
                estimator=None,
                journal=WatchedJournal(journal, camera),
                clock=clock,
                run_id="simulation",
                history_ms=history_ms(settings, engine),
                observers=(self._observed,),
                recovered=recovered,
            )
            shell = LiveShell(parts)
            clock.quiet = shell.quiet
            clock.on_end = self._ending
            await shell.run(clock.ended)
        return engine

    def _observed(self, event: Event, commands: Sequence[Command], engine: Engine) -> None:
        starting = (TradingState.STARTING, TradingState.RECONCILING)
        if not self.recovered_s and engine.state.trading not in starting:
            self.recovered_s = here().time()
            if self.camera is not None:
                self.camera.phase = TRADING

    def _ending(self) -> None:
        if self.camera is not None:
            self.camera.phase = SHUTDOWN

    async def _arrive(self, seconds: float, request: Request) -> None:
        """Let a request of the process before arrive."""
        arrived = None if self.camera is None else self.camera.late(request)
        await asyncio.sleep(seconds)
        accounts = self.running.exchange.accounts
        bank, order = accounts.settled(), request.order
        if request.what == "send":
            bank.place(KEY, request_of(order))
        else:
            bank.cancel(KEY, request_of(order).symbol, client_id=order.order_id)
        if arrived is not None:
            arrived()
        accounts.say()

    def watch_requests(self) -> None:
        """Let the camera of the moment see each request that leaves."""
        fetch = self.api.fetch

        async def seen(
            url: str, method: str = "GET", headers: object = None, body: object = None
        ) -> object:
            call = fetch(url, method, headers, body)
            return await (
                call if self.camera is None else self.camera.asking(method, url, body, call)
            )

        self.api.fetch = seen


def request_of(order: Order) -> OrderRequest:
    """Write an order as the bank takes it."""
    return OrderRequest(
        order.key.symbol.partition(":")[0].replace("/", ""),
        order.quantity,
        order.kind,
        order.limit_price,
        time_in_force=TimeInForce.POST_ONLY if order.post_only else TimeInForce.GTC,
        reduce_only=order.reduce_only,
        client_id=order.order_id,
    )


def _keys(venue: str) -> Credentials:
    return Credentials(venue, Hidden(KEY), Hidden(SECRET))


@asynccontextmanager
async def live_line(market: Market) -> AsyncIterator[Line]:
    """Serve the market to one account at the instant at which trading begins."""
    settings = RehearsalSettings(
        dialect=DialectKind(market.venue),
        accounts=(KeySettings(KEY, SECRET, "50000"),),
        history_days=3,
        bank=BANK,
    )
    async with await serve(settings, market.seeded) as running:
        options = bybit_options if market.venue == "bybit" else ccxt_options
        api = keyed_client(
            market.venue,
            options(running.rest_url, running.ws_url),
            _keys(market.venue),
            receive_window_ms=5_000,
        )
        try:
            await running.exchange.move_to(BEGIN_MS)
            caller = Caller(market.venue, api, _keys(market.venue).redactor())
            await SigningClock(caller, error_ms_max=500).measure()
            await api.load_markets()
            line = Line(market, running, api)
            line.watch_requests()
            yield line
        finally:
            await api.close()
