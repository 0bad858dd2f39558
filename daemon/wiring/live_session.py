"""A session with real orders: as a paper session in everything but the venue."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from adapters.ccxt_venue.dead_man import fit_timer
from adapters.ccxt_venue.keys import (
    Credentials,
    credentials_from_environment,
    credentials_from_file,
)
from adapters.ccxt_venue.news import NewsRules
from adapters.ccxt_venue.opening import Opening, opened
from adapters.ccxt_venue.preparing import Wishes
from adapters.ccxt_venue.quirks import quirks_of
from adapters.ccxt_venue.venue import CcxtVenue, VenueRules
from adapters.control import Latches
from adapters.control.files import write_whole
from adapters.state_lock import StateLock
from daemon.domain.failures import ConfigurationError, CorruptFile
from daemon.domain.order import Order
from daemon.engine.engine import Engine
from daemon.engine.risk import TradingState
from daemon.runtime.live import LiveShell, Source
from daemon.settings import Settings, secret_path
from daemon.wiring.clocks import MarketClock
from daemon.wiring.control import live_latches
from daemon.wiring.core import LIVE_FILE
from daemon.wiring.session import (
    PAPER_LEDGER,
    OpenedVenue,
    SessionHooks,
    trading_session,
)

BEGUN: Final = "begun_ms"
# Fills are listed contract by contract and week by week, four lists a second: 100 contracts after
# a month away take two minutes and more.
RECONCILE_S: Final = 1_800.0


@asynccontextmanager
async def live_session(
    settings: Settings, hooks: SessionHooks, *, environment: Mapping[str, str] | None = None
) -> AsyncIterator[LiveShell]:
    """Assemble a run with real orders; yields the shell, which the caller runs.

    Raises what a paper session raises, AlreadyRunning also for an account that another daemon
    trades on, and ConfigurationError for settings, keys or an account that must not be traded with.
    environment: where keys may stand; the process's own unless given.
    """
    keys = refuse_unfit(settings, environment)
    latches = live_latches(settings.run.state_folder, settings.live.account, environment)
    make = partial(_live_venue, keys, latches)
    with _alone_at(settings.live.account, latches):
        async with trading_session(settings, hooks, make, latches) as shell:
            yield shell


def _alone_at(account: str, latches: Latches) -> StateLock:
    """Give the lock of an account, beside its latch: two books there would give the same names to
    their orders, cancel each other's, and each take all that is held for its own.
    """
    latch = latches.files[-1]
    return StateLock(latch.parent, latch.with_suffix(".lock").name, account)


def refuse_unfit(settings: Settings, environment: Mapping[str, str] | None = None) -> Credentials:
    """Give the key, or raise ConfigurationError for what cannot be traded live.

    Nothing is begun or asked anywhere.
    """
    quirks = quirks_of(settings.exchange.id)
    if settings.live.dead_man_s:
        fit_timer(quirks.venue, quirks.dead_man, settings.live.dead_man_s)
    if settings.exchange.others:
        names = ", ".join(one.id for one in settings.exchange.others)
        raise ConfigurationError(
            f"exchange.others = {names}: live trading at several venues is not built; leave it out"
        )
    folder = settings.run.state_folder
    if (folder / PAPER_LEDGER).exists():
        raise ConfigurationError(
            f"run.state_folder = {str(folder)!r}: the book there was begun on paper; name another "
            "folder for a real account"
        )
    return credentials_of(settings, environment)


def credentials_of(settings: Settings, environment: Mapping[str, str] | None) -> Credentials:
    """Read the key of the venue; raises ConfigurationError that quotes none of it."""
    venue = settings.exchange.id
    if settings.live.key_file:
        return credentials_from_file(venue, secret_path(settings.live.key_file))
    found = credentials_from_environment(venue, environment)
    if found is None:
        raise ConfigurationError(
            f"live.key_file = '': no key for {venue}; name a private file, or set "
            f"EQUIPOISE_{venue.upper()}_API_KEY and ..._SECRET"
        )
    return found


def why_halted(latches: Latches) -> str:
    """Say why no order may leave, "" while no latch is set."""
    halt = latches.found()
    return "" if halt is None else halt.reason or "the halt latch is set"


def why_not(engine: Engine, order: Order) -> str:
    """Say why an order that was decided on may not leave any more, "" where it may.

    A batch takes many seconds, in which the engine may halt or hear what forbids to open.
    """
    state = engine.state
    if state.trading not in (TradingState.TRADING, TradingState.REDUCE_ONLY):
        return state.halted_why or f"trading state is {state.trading}"
    if order.reduce_only or not (state.paused or state.trading is TradingState.REDUCE_ONLY):
        return ""
    return state.reasons_text or "it only reduces"


async def _live_venue(
    keys: Credentials,
    latches: Latches,
    settings: Settings,
    engine: Engine,
    clock: MarketClock,
    stack: AsyncExitStack,
) -> OpenedVenue:
    """Open the venue of the account that the book is of."""
    live, folder = settings.live, settings.run.state_folder
    book = _Book(folder / LIVE_FILE, latches.files[-1].parent)
    if book.account and book.account != live.account:
        raise ConfigurationError(
            f"live.account = {live.account!r}: the book in {folder} is of {book.account}; name "
            "that, or another run.state_folder"
        )
    opening = Opening(
        venue=settings.exchange.id,
        options=settings.exchange.options,
        credentials=keys,
        instruments=engine.universe.instruments,
        wishes=Wishes(
            account=live.account,
            leverage=live.leverage,
            open_orders=live.open_orders,
            known=frozenset(engine.state.orders.open),
        ),
        rules=VenueRules(
            receive_window_ms=live.receive_window_ms,
            parallel_n=live.parallel_orders,
            in_place=settings.exchange.market_time == "lockstep",
            forbids=lambda order: why_halted(latches) or why_not(engine, order),
        ),
        now_ms=clock.now,
        begun_ms=book.begun_ms,
        on_begun=book.begin,
    )
    venue = await stack.enter_async_context(opened(opening))
    book.of(venue.account_name)
    found = _sources(settings, venue, stack)
    return OpenedVenue(venue, venue, sources=found, reconcile_s=RECONCILE_S)


def _sources(settings: Settings, venue: CcxtVenue, stack: AsyncExitStack) -> dict[str, Source]:
    """Give the tasks beside the feed; `stack` clears the venue's timers before the venue closes."""
    switch = venue.dead_man(settings.live.dead_man_s)

    async def keep_time(shell: LiveShell) -> None:
        await venue.keep_time(settings.live.clock_every_s)

    async def bring(shell: LiveShell) -> None:
        live = settings.live
        rules = NewsRules(
            follow_up_s=live.follow_up_s,
            reconcile_s=live.reconcile_s,
            stream_silence_s=live.stream_silence_s,
            listen_key_s=live.listen_key_s,
        )
        await venue.news(shell.put, rules)

    async def keep_timers(shell: LiveShell) -> None:
        if switch is not None:
            await switch.keep(shell.put)

    found: dict[str, Source] = {"venue clock": keep_time, "account news": bring}
    if switch is not None:
        stack.push_async_callback(switch.clear)
        found["dead man's switch"] = keep_timers
    return found


class _Book:
    """Keep beside a book which account it is of, and since when; raises CorruptFile."""

    def __init__(self, path: Path, shared_latches: Path | None = None) -> None:
        self._path = path
        self._shared = shared_latches
        self.account = ""
        self.begun_ms: int | None = None
        if not path.exists():
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            self.account, self.begun_ms = str(found["account"]), found[BEGUN]
        except (ValueError, KeyError, TypeError) as e:
            raise CorruptFile(f"{path}: does not say which account the book is of: {e}") from e

    def of(self, account: str) -> None:
        """Say which account the book is of."""
        self.account = account
        self._write()

    def begin(self, at_ms: int) -> None:
        """Say that what the account held at `at_ms` is the book's beginning."""
        self.begun_ms = at_ms
        self._write()

    def _write(self) -> None:
        told: dict[str, object] = {"account": self.account, BEGUN: self.begun_ms}
        if self._shared is not None:  # so that an operator finds the latch that we look at
            told["latches"] = str(self._shared)
        # A power cut leaves the old one or the new one: without it a kill finds no latch.
        write_whole(self._path, json.dumps(told).encode())
