"""A session: the live shell over a ccxt feed, a venue (paper unless handed in) and a journal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

import structlog

from adapters.clocks import TransportClock
from adapters.control import Latches
from adapters.estimate_worker import EstimateWorker
from adapters.exchange.feed import CcxtFeed, FeedSettings
from adapters.exchange.joining import Beginning
from adapters.exchange.several import SeveralFeeds
from adapters.exchange.watch import WatchRules
from adapters.history.store import disk_symbol
from adapters.journal import SqliteJournal
from adapters.paper import AsyncPaperVenue, PaperVenue, SqliteStore
from adapters.service_notice import ServiceNotice
from adapters.state_lock import StateLock
from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import Instrument, is_spare_symbol
from daemon.domain.log_events import LogEvent
from daemon.domain.units import Timeframe
from daemon.engine.engine import Engine
from daemon.engine.state import SCHEMA
from daemon.ports import AccountView, MarketFeed, OrderEntry, Warmup
from daemon.runtime.live import LiveShell, Observer, ShellParts, ShellTimeouts, Source
from daemon.runtime.log_file import log_file
from daemon.runtime.recovery import Recovered
from daemon.settings import Settings, effective_toml
from daemon.wiring.clocks import (
    MarketClock,
    market_clock,
    refuse_time_before,
    start_clock,
)
from daemon.wiring.control import OperatorControl, latches_of
from daemon.wiring.core import (
    LIVE_FILE,
    REHEARSAL_FILE,
    asks_worker,
    history_ms,
    paper_settings,
    strategy_of,
    universe_of,
)
from daemon.wiring.covariates import NotedFeed
from daemon.wiring.estimator import Beside, estimator_of
from daemon.wiring.instruments import (
    has_instruments,
    read_beginning,
    read_instruments,
    refuse_headless_book,
    write_instruments,
)
from daemon.wiring.observing import unfailing
from daemon.wiring.recording import cleansed_feed, recording_folder
from daemon.wiring.recovery import recovered_engine
from daemon.wiring.reloading import Reloading, refuse_unaccepted
from daemon.wiring.remote import remote_control
from daemon.wiring.runtime_status import Seen
from daemon.wiring.sinks import Publisher, status_sinks

PAPER_LEDGER: Final = "paper.sqlite"


log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SessionHooks:
    """Let a command line show what happens; speed is market time per wall time of the venue.

    on_end: called when a market in lock-step is over. is_rehearsal: the market is that of our own
    exchange. reread: reads the settings again, for a reload. accepted: settings that a start may
    change although the book is open. on_page: hears the address of the status page.
    """

    observers: tuple[Observer, ...] = ()
    on_warmup: Callable[[Warmup], None] = lambda progress: None
    on_ready: Callable[[Engine], None] = lambda engine: None
    on_end: Callable[[], None] = lambda: None
    on_page: Callable[[str], None] = lambda address: None
    speed: float = 1.0
    is_rehearsal: bool = False
    reread: Callable[[], Settings] | None = None
    accepted: frozenset[str] = frozenset()
    meta: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenedVenue:
    """Hold a venue as the shell takes it; instant_ms: what its own ledger has seen, 0 if none.

    sources: what brings its news beside the feed, by task name. reconcile_s: how long its account
    may take at the start.
    """

    orders: OrderEntry
    account: AccountView
    instant_ms: int = 0
    reconcile_s: float = ShellTimeouts().reconcile_s
    sources: Mapping[str, Source] = field(default_factory=dict)


VenueMaker = Callable[[Settings, Engine, MarketClock, AsyncExitStack], Awaitable[OpenedVenue]]


@asynccontextmanager
async def paper_session(settings: Settings, hooks: SessionHooks) -> AsyncIterator[LiveShell]:
    """Assemble a paper run; yields the shell, which the caller runs until told to stop.

    Raises what `trading_session` raises, and ConfigurationError for the folder of a real account.
    """
    folder = settings.run.state_folder
    if (folder / LIVE_FILE).exists():
        raise ConfigurationError(
            f"run.state_folder = {str(folder)!r}: the book there is of a real account; name "
            "another folder for paper"
        )
    async with trading_session(settings, hooks, _paper_venue) as shell:
        yield shell


@asynccontextmanager
async def trading_session(
    settings: Settings,
    hooks: SessionHooks,
    open_venue: VenueMaker,
    latches: Latches | None = None,
) -> AsyncIterator[LiveShell]:
    """Assemble a run at the venue that `open_venue` gives; yields the shell.

    latches: what forbids orders, that of the state folder unless given.
    Raises AlreadyRunning when the state folder is in use, ConfigurationError, VenueError,
    ModelError or JournalError for what cannot be used. Everything is closed in reverse order at the
    end.
    """
    folder = settings.run.state_folder
    ours = _is_private(settings, hooks)
    async with AsyncExitStack() as stack:
        stack.enter_context(StateLock(folder))
        stack.enter_context(log_file(folder))
        transport = TransportClock()
        shells: list[LiveShell] = []
        clock = market_clock(settings, transport, lambda: feed, shells, hooks.on_end, hooks.speed)
        # A book that goes on tells the feeds which contracts have taken its spare columns.
        known = has_instruments(folder)
        book = await asyncio.to_thread(_book, settings, hooks.accepted) if known else None
        columns = None if book is None else book[0].universe.instruments
        wanted = venue_feeds(settings, columns, is_rehearsal=hooks.is_rehearsal)
        feeds = [CcxtFeed(one, clock, transport, hooks.on_warmup) for one in wanted]
        feed = SeveralFeeds(feeds)  # of one venue too: who fails is begun again
        stack.push_async_callback(feed.close)
        await start_clock(clock, stack)
        instruments = await feed.instruments()
        if book is None:
            _begin_book(folder, instruments, feeds)
            book = await asyncio.to_thread(_book, settings, hooks.accepted)
        engine, recovered = book
        estimator = await _estimator(settings, engine, stack, is_private=ours)
        journal = await stack.enter_async_context(_journal(settings))
        venue = await open_venue(settings, engine, clock, stack)
        refuse_time_before(max(engine.state.instant_ms, venue.instant_ms), clock, settings)
        cleansed = await stack.enter_async_context(
            cleansed_feed(settings, feed, engine, feeds, clock, is_private=ours)
        )
        seen = Seen(engine, clock, shells, hooks.speed)
        sinks = _sinks(settings, hooks, seen, lambda: cleansed.shown(feed.shown()))
        publisher = await stack.enter_async_context(sinks)
        latches = latches or latches_of(folder)
        control = _control(settings, hooks, latches, clock, transport)
        await stack.enter_async_context(remote_control(settings, latches))
        hooks.on_ready(engine)
        parts = ShellParts(
            engine=engine,
            feed=_told(cleansed, estimator),
            orders=control.guarded(venue.orders),
            account=venue.account,
            estimator=estimator,
            journal=journal,
            clock=clock,
            run_id=settings.run.run_name,
            history_ms=history_ms(settings, engine),
            observers=(control.observe, unfailing(publisher), *map(unfailing, hooks.observers)),
            recovered=recovered,
            overdue=cleansed.overdue,
            openings=(control.begin,),
            sources={"operator": control.listen, **_alive(), **venue.sources},
        )
        shells.append(LiveShell(parts, ShellTimeouts(reconcile_s=venue.reconcile_s)))
        yield shells[0]


def _sinks(
    settings: Settings, hooks: SessionHooks, seen: Seen, feed: Callable[[], Mapping[str, object]]
) -> AbstractAsyncContextManager[Publisher]:
    """Give what shows the run to people, with the facts that stay as they are."""
    name = seen.engine.strategy.name
    facts = {"strategy": name, "exchange": settings.exchange.id, **hooks.meta}
    return status_sinks(settings, facts, feed, seen, hooks.on_page)


def _control(
    settings: Settings,
    hooks: SessionHooks,
    latches: Latches,
    clock: MarketClock,
    transport: TransportClock,
) -> OperatorControl:
    """Open the operator's side, which reads the settings again where the command says how."""
    reread = None if hooks.reread is None else Reloading(settings, hooks.reread)
    control = OperatorControl(settings.run.state_folder, latches, clock, transport, reread)
    control.open()
    return control


def _is_private(settings: Settings, hooks: SessionHooks) -> bool:
    """Tell whether the market is one that we made; refuse what is wrong before all else."""
    strategy_of(settings)
    folder = settings.run.state_folder
    ours = hooks.is_rehearsal or settings.exchange.market_time == "lockstep"
    if (folder / REHEARSAL_FILE).exists() and not ours:
        raise ConfigurationError(
            f"run.state_folder = {str(folder)!r}: the book there was begun by a rehearsal, whose "
            "prices are not this market's; name another folder"
        )
    return ours


def _alive() -> dict[str, Source]:
    """Tell the service manager, where there is one, that the event loop runs."""
    notice = ServiceNotice(os.environ)

    async def keep(shell: LiveShell) -> None:
        await notice.keep()

    return {"service manager": keep} if notice.is_wanted else {}


def _book(settings: Settings, accepted: frozenset[str]) -> tuple[Engine, Recovered]:
    """Bring the engine of the state folder's book to where its journal ends.

    It begins with the rules of the book's beginning: later ones are events of the journal.
    """
    folder = settings.run.state_folder
    universe, journal = universe_of(read_instruments(folder)), folder / "journal.sqlite"
    engine, recovered = recovered_engine(settings, universe, journal)
    refuse_unaccepted(settings, journal, engine, accepted)
    return engine, recovered


def _begin_book(folder: Path, instruments: Sequence[Instrument], feeds: Sequence[CcxtFeed]) -> None:
    """Write down what a new book is made of, and what a later listing is told from."""
    begun = [(feed.venue, feed.beginning) for feed in feeds]
    known = {venue: beginning for venue, beginning in begun if beginning is not None}
    if not any(i.is_spare for i in instruments):
        write_instruments(folder, instruments)
        return
    begun_ms = max(beginning.at_ms for beginning in known.values())
    listed = {venue: beginning.listed for venue, beginning in known.items()}
    write_instruments(folder, instruments, begun_ms=begun_ms, listed=listed)


def venue_feeds(
    settings: Settings,
    columns: Sequence[Instrument] | None = None,
    *,
    is_rehearsal: bool,
) -> list[FeedSettings]:
    """Translate settings for the feed of each venue, the first one's first.

    columns: of a book that goes on, as they are now.
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
    chosen = [settings]
    for other in others:
        at_other = settings.model_copy(
            update={
                "exchange": first.model_copy(update={"id": other.id, "options": other.options}),
                "universe": settings.universe.model_copy(
                    update={"symbols": other.symbols, "spare": other.spare}
                ),
            }
        )
        chosen.append(at_other)
    return [
        feed_settings(
            one,
            pinned_symbols(one, columns),
            columns,
            spare=one.universe.spare,
            is_rehearsal=is_rehearsal,
        )
        for one in chosen
    ]


def pinned_symbols(
    settings: Settings, columns: Sequence[Instrument] | None = None
) -> tuple[str, ...]:
    """Give the symbols to ask for: the book's own once there is one, else what settings name.

    `top:12` is answered once, when a book is begun; afterwards the book keeps its instruments, and
    symbols named in addition take its spare columns. columns: as they are now, else those of the
    book's beginning. Raises ConfigurationError when settings lack a symbol that the book was begun
    with, or name more than it has room for.
    """
    symbols = settings.universe.symbols
    named = (symbols,) if isinstance(symbols, str) else tuple(symbols)
    folder = settings.run.state_folder
    if not has_instruments(folder):
        refuse_headless_book(folder)
        return named
    begun = _symbols_at(settings.exchange.id, read_instruments(folder))
    now = _symbols_at(settings.exchange.id, columns or read_instruments(folder))
    book, free_n = [s for s in now if not is_spare_symbol(s)], sum(map(is_spare_symbol, now))
    first = [s for s in begun if not is_spare_symbol(s)]
    asked = [s for s in named if not s.startswith("top:")]
    held, wanted = {disk_symbol(s) for s in book}, {disk_symbol(s) for s in asked}
    if f"top:{len(first)}" in named:  # as the book was begun
        wanted |= {disk_symbol(s) for s in first}
    more = [s for s in asked if disk_symbol(s) not in held]
    if asked and ({disk_symbol(s) for s in first} - wanted or len(more) > free_n):
        raise ConfigurationError(
            f"universe.symbols = {list(named)}: the book in {folder} trades {', '.join(book)} and "
            f"has {free_n} free columns (universe.spare when a book is begun); name these, or "
            "another run.state_folder for a new book"
        )
    tops = [s for s in named if s.startswith("top:") and s != f"top:{len(first)}"]
    if tops:
        log.warning(LogEvent.SETTING_PASSED_OVER, key="universe.symbols", value=tops[0], book=book)
    spare_n = len(begun) - len(first)
    if settings.universe.spare != spare_n:
        key, value = "universe.spare", settings.universe.spare
        log.warning(LogEvent.SETTING_PASSED_OVER, key=key, value=value, book=spare_n)
    return (*book, *more)


def _symbols_at(venue: str, instruments: Sequence[Instrument]) -> list[str]:
    here = [i.key.symbol for i in instruments if i.key.venue == venue]
    return here or [i.key.symbol for i in instruments]


def known_instruments(settings: Settings) -> tuple[Instrument, ...]:
    """Give what the book in the state folder was begun with at this venue, () without one."""
    folder = settings.run.state_folder
    found = read_instruments(folder) if has_instruments(folder) else []
    return tuple(i for i in found if i.key.venue == settings.exchange.id and not i.is_spare)


def feed_settings(
    settings: Settings,
    symbols: tuple[str, ...],
    columns: Sequence[Instrument] | None = None,
    *,
    spare: int = 0,
    is_rehearsal: bool = False,
) -> FeedSettings:
    """Translate settings for the feed; the time of a rehearsal is compared with no other.

    columns: those of the book that the feed is for, None for a new one. spare: how many a new one
    keeps free. Who only reads bars leaves both out: free columns are none of his business.
    """
    exchange, known = settings.exchange, known_instruments(settings)
    if columns is not None:
        known = tuple(i for i in columns if i.key.venue == settings.exchange.id)
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
        recheck_s=0.0 if lockstep else exchange.recheck_s,
        late_max_ms=round(exchange.late_max_h * 3_600_000),
        markets_every_ms=round(exchange.markets_every_min * 60_000),
        known=known,
        spare=spare,
        admit_new=settings.universe.admit_new,
        beginning=_beginning(settings),
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
            offset_every_s=exchange.clock_offset_every_s,
            standstill_s=exchange.standstill_s,
        ),
    )


def _beginning(settings: Settings) -> Beginning | None:
    """Say when the book was begun, None for a new one and one without spare columns."""
    folder = settings.run.state_folder
    found = read_beginning(folder) if has_instruments(folder) else None
    if found is None:
        return None
    return Beginning(found[0], found[1].get(settings.exchange.id, frozenset()))


def code_version() -> str:
    """Give the version that snapshots are stamped with."""
    return version("equipoise")


async def _estimator(
    settings: Settings, engine: Engine, stack: AsyncExitStack, *, is_private: bool
) -> EstimateWorker | None:
    if not asks_worker(settings, engine.strategy):
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


async def _paper_venue(
    settings: Settings, engine: Engine, clock: MarketClock, stack: AsyncExitStack
) -> OpenedVenue:
    store = SqliteStore(settings.run.state_folder / PAPER_LEDGER)
    stack.callback(store.close)
    core = PaperVenue(engine.universe, paper_settings(settings), store, opened_ms=clock.now())
    venue = await stack.enter_async_context(AsyncPaperVenue(core))
    return OpenedVenue(venue, venue, core.instant_ms)
