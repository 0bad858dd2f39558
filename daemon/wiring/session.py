"""A paper session: the live shell over a ccxt feed, the paper venue and a durable journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version

import structlog

from adapters.clocks import LockStepClock, SystemClock, TransportClock, VenueClock
from adapters.estimate_worker import EstimateWorker
from adapters.exchange.feed import CcxtFeed, FeedSettings
from adapters.exchange.several import SeveralFeeds
from adapters.exchange.watch import WatchRules
from adapters.history.store import disk_symbol
from adapters.journal import SqliteJournal
from adapters.paper import AsyncPaperVenue, PaperVenue, SqliteStore
from adapters.state_lock import StateLock
from daemon.domain.failures import ConfigurationError, VenueError
from daemon.domain.instrument import Instrument
from daemon.domain.log_events import LogEvent
from daemon.domain.units import Timeframe, iso
from daemon.engine.engine import Engine
from daemon.engine.state import SCHEMA
from daemon.ports import MarketFeed, Warmup
from daemon.runtime.live import LiveShell, Observer, ShellParts
from daemon.settings import Settings, effective_toml
from daemon.wiring.core import (
    REHEARSAL_FILE,
    history_ms,
    paper_settings,
    strategy_of,
    universe_of,
)
from daemon.wiring.covariates import NotedFeed
from daemon.wiring.estimator import Beside, estimator_of
from daemon.wiring.instruments import (
    has_instruments,
    read_instruments,
    refuse_headless_book,
    write_instruments,
)
from daemon.wiring.observing import unfailing
from daemon.wiring.recording import cleansed_feed, recording_folder
from daemon.wiring.recovery import recovered_engine
from daemon.wiring.sinks import status_sinks

MarketClock = SystemClock | VenueClock | LockStepClock


log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SessionHooks:
    """Let a command line show what happens; speed is market time per wall time of the venue.

    on_end: called when a market in lock-step is over. is_rehearsal: the market is that of our own
    exchange.
    """

    observers: tuple[Observer, ...] = ()
    on_warmup: Callable[[Warmup], None] = lambda progress: None
    on_ready: Callable[[Engine], None] = lambda engine: None
    on_end: Callable[[], None] = lambda: None
    speed: float = 1.0
    is_rehearsal: bool = False
    meta: dict[str, object] = field(default_factory=dict)


@asynccontextmanager
async def paper_session(settings: Settings, hooks: SessionHooks) -> AsyncIterator[LiveShell]:
    """Assemble a paper run; yields the shell, which the caller runs until told to stop.

    Raises AlreadyRunning when the state folder is in use, ConfigurationError, VenueError,
    ModelError or JournalError for what cannot be used. Everything is closed in reverse order at the
    end.
    """
    folder = settings.run.state_folder
    strategy_of(settings)  # a wrong one is named before anything is begun
    ours = hooks.is_rehearsal or settings.exchange.market_time == "lockstep"
    if (folder / REHEARSAL_FILE).exists() and not ours:
        raise ConfigurationError(
            f"run.state_folder = {str(folder)!r}: the book there was begun by a rehearsal, whose "
            "prices are not this market's; name another folder"
        )
    async with AsyncExitStack() as stack:
        stack.enter_context(StateLock(folder))
        transport = TransportClock()
        shells: list[LiveShell] = []
        clock = _clock(settings, transport, lambda: feed, shells, hooks)
        wanted = venue_feeds(settings, is_rehearsal=hooks.is_rehearsal)
        feeds = [CcxtFeed(one, clock, transport, hooks.on_warmup) for one in wanted]
        feed = feeds[0] if len(feeds) == 1 else SeveralFeeds(feeds)
        stack.push_async_callback(feed.close)
        await _start_clock(clock, stack)
        write_instruments(folder, await feed.instruments())
        # with the rules of the book's beginning: later ones are events of its journal
        universe = universe_of(read_instruments(folder))
        path = folder / "journal.sqlite"
        engine, recovered = await asyncio.to_thread(recovered_engine, settings, universe, path)
        estimator = await _estimator(settings, engine, stack, is_private=ours)
        journal = await stack.enter_async_context(_journal(settings))
        venue = await _venue(settings, engine, clock.now(), stack)
        _refuse_time_before(max(engine.state.instant_ms, venue.core.instant_ms), clock, settings)
        facts = {"strategy": engine.strategy.name, "exchange": settings.exchange.id, **hooks.meta}
        cleansed = await stack.enter_async_context(
            cleansed_feed(settings, feed, engine, is_private=ours)
        )
        publisher = await stack.enter_async_context(
            status_sinks(settings, facts, lambda: cleansed.shown(feed.shown()))
        )
        hooks.on_ready(engine)
        parts = ShellParts(
            engine=engine,
            feed=_told(cleansed, estimator),
            orders=venue,
            account=venue,
            estimator=estimator,
            journal=journal,
            clock=clock,
            run_id=settings.run.run_name,
            history_ms=history_ms(settings, engine),
            observers=(unfailing(publisher), *map(unfailing, hooks.observers)),
            recovered=recovered,
        )
        shells.append(LiveShell(parts))
        yield shells[0]


def venue_feeds(settings: Settings, *, is_rehearsal: bool) -> list[FeedSettings]:
    """Translate settings for the feed of each venue, the first one's first.

    Raises ConfigurationError where a venue is named twice or the book's venues are others.
    """
    first, others = settings.exchange, settings.exchange.others
    ids = [first.id, *(other.id for other in others)]
    twice = [name for name in ids if ids.count(name) > 1]
    if twice:
        raise ConfigurationError(f"exchange.others: {twice[0]!r} is named twice; name each once")
    folder = settings.run.state_folder
    if has_instruments(folder):
        book = list(dict.fromkeys(i.key.venue for i in read_instruments(folder)))
        if book != ids:
            raise ConfigurationError(
                f"exchange.id and exchange.others = {', '.join(ids)}: the book in {folder} is at "
                f"{', '.join(book)}; name these, or another run.state_folder for a new book"
            )
    found = [feed_settings(settings, pinned_symbols(settings), is_rehearsal=is_rehearsal)]
    for other in others:
        at_other = settings.model_copy(
            update={
                "exchange": first.model_copy(update={"id": other.id, "options": other.options}),
                "universe": settings.universe.model_copy(update={"symbols": other.symbols}),
            }
        )
        symbols = pinned_symbols(at_other)
        found.append(feed_settings(at_other, symbols, is_rehearsal=is_rehearsal))
    return found


def pinned_symbols(settings: Settings) -> tuple[str, ...]:
    """Give the symbols to ask for: the book's own once there is one, else what settings name.

    `top:12` is answered once, when a book is begun; afterwards the book keeps its instruments.
    Raises ConfigurationError when settings name others than the book in this state folder has.
    """
    symbols = settings.universe.symbols
    named = (symbols,) if isinstance(symbols, str) else tuple(symbols)
    folder = settings.run.state_folder
    if not has_instruments(folder):
        refuse_headless_book(folder)
        return named
    instruments, venue = read_instruments(folder), settings.exchange.id
    here = [i for i in instruments if i.key.venue == venue]
    book = tuple(i.key.symbol for i in here or instruments)
    asked = {disk_symbol(s) for s in named if not s.startswith("top:")}
    if asked and asked != {disk_symbol(s) for s in book}:
        raise ConfigurationError(
            f"universe.symbols = {list(named)}: the book in {folder} trades {', '.join(book)}; "
            "name these, or another run.state_folder for a new book"
        )
    tops = [s for s in named if s.startswith("top:") and s != f"top:{len(book)}"]
    if tops:
        log.warning(LogEvent.SETTING_PASSED_OVER, key="universe.symbols", value=tops[0], book=book)
    return book


def known_instruments(settings: Settings) -> tuple[Instrument, ...]:
    """Give the instruments that the book in the state folder has at this venue, () without one."""
    folder = settings.run.state_folder
    found = read_instruments(folder) if has_instruments(folder) else []
    return tuple(i for i in found if i.key.venue == settings.exchange.id)


def feed_settings(
    settings: Settings, symbols: tuple[str, ...], *, is_rehearsal: bool = False
) -> FeedSettings:
    """Translate settings for the feed; the time of a rehearsal is compared with no other."""
    exchange = settings.exchange
    lockstep = exchange.market_time == "lockstep"
    own_time = lockstep or is_rehearsal or exchange.generated
    return FeedSettings(
        exchange=exchange.id,
        symbols=symbols,
        timeframe=Timeframe.parse(settings.market.source),
        options=exchange.options,
        stream=exchange.streams,
        stream_patience_s=0.3 if lockstep else exchange.stream_patience_s,
        reread_grace_ms=0 if lockstep else 2_000,
        recheck_s=0.0 if lockstep else 30.0,
        markets_every_ms=round(exchange.markets_every_min * 60_000),
        known=known_instruments(settings),
        stream_deadline_bars=exchange.stream_deadline_bars,
        reread_patience_s=exchange.reread_patience_s,
        audit_every_bars=exchange.audit_every_bars,
        audit_bars=exchange.audit_bars,
        watch=WatchRules(
            silence_s=exchange.stream_silence_s,
            socket_age_max_s=exchange.socket_age_max_h * 3600,
            breaks_per_hour_max=exchange.breaks_per_hour_max,
            venue_down_s=exchange.venue_down_s,
            offset_max_ms=0 if own_time else exchange.clock_offset_max_ms,
        ),
    )


def _refuse_time_before(book_ms: int, clock: MarketClock, settings: Settings) -> None:
    """Raise VenueError where the market's time lies before what the book has seen.

    A bar more or less is the gap that a kill leaves between the venue's ledger and our journal.
    """
    now_ms = clock.now()
    if now_ms < book_ms - Timeframe.parse(settings.market.source).ms:
        raise VenueError(
            f"{settings.exchange.id}: its time is {iso(now_ms)}, but the book in "
            f"{settings.run.state_folder} has seen {iso(book_ms)}: this is another market, or the "
            "journal there was taken away; put it back, or name another run.state_folder"
        )


def code_version() -> str:
    """Give the version that snapshots are stamped with."""
    return version("equipoise")


def _clock(
    settings: Settings,
    transport: TransportClock,
    feed: Callable[[], CcxtFeed | SeveralFeeds],
    shells: list[LiveShell],
    hooks: SessionHooks,
) -> MarketClock:
    async def quiesce() -> None:
        if shells:
            await shells[0].quiet()

    async def ask() -> int:
        return await feed().server_time()

    match settings.exchange.market_time:
        case "lockstep":
            return LockStepClock(settings.exchange.lockstep_url, quiesce, on_end=hooks.on_end)
        case "system":
            return SystemClock(transport)
        case "venue":
            return VenueClock(ask, transport, speed=hooks.speed)


async def _start_clock(clock: MarketClock, stack: AsyncExitStack) -> None:
    if isinstance(clock, LockStepClock):
        stack.push_async_callback(clock.close)
        await clock.start()
    elif isinstance(clock, VenueClock):
        await clock.measure()


async def _estimator(
    settings: Settings, engine: Engine, stack: AsyncExitStack, *, is_private: bool
) -> EstimateWorker | None:
    if not engine.strategy.needs_estimates:
        return None
    folder = recording_folder(settings, is_private=is_private)
    beside = Beside(engine.universe.instruments, folder, settings.exchange.id)
    return await stack.enter_async_context(estimator_of(settings, beside))


def _told(feed: MarketFeed, worker: EstimateWorker | None) -> MarketFeed:
    return feed if worker is None or not worker.notes else NotedFeed(feed, worker.note)


def _journal(settings: Settings) -> SqliteJournal:
    return SqliteJournal(
        settings.run.state_folder / "journal.sqlite",
        state_schema=SCHEMA,
        code_version=code_version(),
        settings_text=effective_toml(settings),
    )


async def _venue(
    settings: Settings, engine: Engine, now_ms: int, stack: AsyncExitStack
) -> AsyncPaperVenue:
    store = SqliteStore(settings.run.state_folder / "paper.sqlite")
    stack.callback(store.close)
    core = PaperVenue(engine.universe, paper_settings(settings), store, opened_ms=now_ms)
    return await stack.enter_async_context(AsyncPaperVenue(core))
