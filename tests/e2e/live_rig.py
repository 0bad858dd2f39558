"""A daemon's session with real orders, in this process, at a rehearsal exchange with an account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.ccxt_venue.keys import Credentials, Hidden
from adapters.ccxt_venue.preparing import account_name
from adapters.journal import JournalReader
from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.terms import Origin
from adapters.rehearsal.binance.payloads import account_alias
from adapters.rehearsal.bybit.ccxt_options import bybit_options
from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import DialectKind, RehearsalSettings
from daemon.domain.messages import (
    Command,
    Decided,
    Event,
    OrderAbsent,
    OrderRejected,
    Recorded,
    Snapshotted,
    Submit,
)
from daemon.domain.portfolio import AccountSnapshot, Ledger
from daemon.engine.engine import Engine
from daemon.settings import Settings
from daemon.wiring.live_session import live_session
from daemon.wiring.session import SessionHooks
from tests.e2e.line import SMALL, settings_of
from tests.simulation.statement import check_statement

KEY, SECRET = "key-of-the-live-tests-1", "secret-of-the-live-tests-1"
BYBIT_USER = "24600000"
VENUES = ("binanceusdm", "bybit")
ACCOUNT = account_name("binanceusdm", account_alias(KEY))
ACCOUNTS = {"binanceusdm": ACCOUNT, "bybit": account_name("bybit", BYBIT_USER)}
ENVIRONMENT = {
    f"EQUIPOISE_{venue.upper()}_{name}": value
    for venue in VENUES
    for name, value in (("API_KEY", KEY), ("SECRET", SECRET))
}
COINS = 6
EVERYTHING = 10**9


@asynccontextmanager
async def exchange(venue: str = "binanceusdm", **changes: Any) -> AsyncIterator[RunningExchange]:
    """Serve a market in lock-step with one account, in the words of a venue."""
    accounts = (KeySettings(KEY, SECRET, "50000"),)
    usual = {"coins": COINS, "history_days": 12, "accounts": accounts}
    chosen: dict[str, Any] = {**usual, "dialect": DialectKind(venue), **changes}
    async with await serve(RehearsalSettings(**chosen)) as running:
        yield running


def venue_of(running: RunningExchange) -> str:
    """Give the exchange id that a rehearsal speaks."""
    return running.exchange.settings.dialect.value


def account_of(running: RunningExchange) -> str:
    """Name the account that the key opens there."""
    return ACCOUNTS[venue_of(running)]


def live_settings(running: RunningExchange, state: Path, *overrides: str) -> Settings:
    """Give settings of a small daemon that trades at the exchange."""
    venue = venue_of(running)
    options = bybit_options if venue == "bybit" else ccxt_options
    settings = settings_of(
        state,
        *SMALL,
        f"exchange.id={venue}",
        f"universe.symbols=top:{COINS}",
        "redis.enabled=false",
        f"live.account={account_of(running)}",
        "live.receive_window_ms=400",
        *overrides,
    )
    led = settings.exchange.model_copy(
        update={
            "options": {**options(running.rest_url, running.ws_url), "timeout": 1_500},
            "market_time": "lockstep",
            "lockstep_url": running.rest_url,
        }
    )
    return settings.model_copy(update={"exchange": led})


def environment_at(state: Path) -> dict[str, str]:
    """Give the environment of a live daemon; accounts' latches lie beside the state folder."""
    return {**ENVIRONMENT, "XDG_STATE_HOME": str(state.parent / "xdg")}


def live_credentials(venue: str = "binanceusdm") -> Credentials:
    """Give the key of the account."""
    return Credentials(venue, Hidden(KEY), Hidden(SECRET))


@dataclass
class Seen:
    """Hold what a session did."""

    ledger: Ledger | None = None
    engine: Engine | None = None
    events: list[Event] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)


async def run_live(
    settings: Settings,
    until: Callable[[Seen], bool],
    seen: Seen | None = None,
    *,
    speed: float = 1.0,
) -> Seen:
    """Run a session until something was seen, then stop it."""
    seen, stop = seen or Seen(), asyncio.Event()

    def observe(event: Event, commands: Sequence[Command], engine: Engine) -> None:
        seen.events.append(event)
        seen.commands.extend(commands)
        seen.engine, seen.ledger = engine, engine.state.book.ledger
        if until(seen):
            stop.set()

    hooks = SessionHooks(observers=(observe,), speed=speed, is_rehearsal=True)
    around = environment_at(settings.run.state_folder)
    async with asyncio.timeout(60), live_session(settings, hooks, environment=around) as shell:
        await shell.run(stop)
    return seen


def decided_n(seen: Seen) -> int:
    """Count the decisions."""
    return sum(isinstance(command, Decided) for command in seen.commands)


def bank_of(running: RunningExchange) -> Bank:
    """Give the truth."""
    accounts = running.exchange.accounts
    return accounts.bank


def check_agrees(
    ledger: Ledger | None, running: RunningExchange, adopted: AccountSnapshot | None = None
) -> None:
    """Hold the book against the bank's statement, every line of it, to the last digit.

    adopted: what the book began with, where the account had traded before.
    """
    assert ledger is not None
    check_statement(ledger, bank_of(running), KEY, adopted)


def adopted_by(seen: Seen) -> AccountSnapshot:
    """Give the account that a new book began with: the first that it was told."""
    return next(e.snapshot for e in seen.events if isinstance(e, Snapshotted))


async def abandon_live(settings: Settings, when: Callable[[Seen], bool]) -> Seen:
    """Run a session until something was seen, and drop it there: nothing is drained or saved."""
    seen, reached = Seen(), asyncio.Event()

    def noticed(now: Seen) -> bool:
        if when(now):
            reached.set()
        return False

    running = asyncio.create_task(run_live(settings, noticed, seen))
    async with asyncio.timeout(60):
        waiting = asyncio.create_task(reached.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    assert reached.is_set(), running.result()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return seen


def journalled(state: Path) -> tuple[list[Event], list[Recorded]]:
    """Read all events and commands of a book's journal."""
    entries = list(JournalReader(state / "journal.sqlite").read_from(1))
    return [e.event for e in entries], [c for e in entries for c in e.commands]


def check_once_each(state: Path, running: RunningExchange) -> int:
    """Hold intents against the venue's orders: none twice, none unknown, none silently missing.

    Gives how many intents never reached the venue.
    """
    events, commands = journalled(state)
    intents = [c.approved.order.order_id for c in commands if isinstance(c, Submit)]
    assert len(set(intents)) == len(intents)
    placed = [one for one in bank_of(running).orders(KEY) if one.origin is Origin.API]
    there = [one.client_id for one in placed]
    assert len(set(there)) == len(there), "an order was doubled"
    assert set(there) <= set(intents), "an order has no intent"
    refused = {e.order_id for e in events if isinstance(e, OrderAbsent | OrderRejected)}
    missing = set(intents) - set(there)
    assert missing <= refused, "an intent vanished"
    return len(missing)
