"""A daemon's session with real orders, in this process, at a rehearsal exchange with an account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from adapters.ccxt_venue.preparing import account_name
from adapters.journal import JournalReader
from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.records import IncomeKind
from adapters.rehearsal.bank.terms import ZERO, Origin
from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import RehearsalSettings
from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.messages import (
    Command,
    Decided,
    Event,
    OrderAbsent,
    OrderRejected,
    Recorded,
    Submit,
)
from daemon.domain.portfolio import Ledger
from daemon.engine.engine import Engine
from daemon.settings import Settings
from daemon.wiring.live_session import live_session
from daemon.wiring.session import SessionHooks
from tests.e2e.line import SMALL, settings_of

KEY, SECRET = "key-of-the-live-tests-1", "secret-of-the-live-tests-1"
ACCOUNT = account_name("binanceusdm", "rehearsal")
ENVIRONMENT = {"EQUIPOISE_BINANCEUSDM_API_KEY": KEY, "EQUIPOISE_BINANCEUSDM_SECRET": SECRET}
COINS = 6
EVERYTHING = 10**9


@asynccontextmanager
async def exchange(**changes: Any) -> AsyncIterator[RunningExchange]:
    """Serve a market in lock-step with one account."""
    accounts = (KeySettings(KEY, SECRET, "50000"),)
    chosen = {"coins": COINS, "history_days": 12, "accounts": accounts, **changes}
    async with await serve(RehearsalSettings(**chosen)) as running:
        yield running


def live_settings(running: RunningExchange, state: Path, *overrides: str) -> Settings:
    """Give settings of a small daemon that trades at the exchange."""
    settings = settings_of(
        state,
        *SMALL,
        f"universe.symbols=top:{COINS}",
        "redis.enabled=false",
        f"live.account={ACCOUNT}",
        "live.receive_window_ms=400",
        *overrides,
    )
    led = settings.exchange.model_copy(
        update={
            "options": {**ccxt_options(running.rest_url, running.ws_url), "timeout": 1_500},
            "market_time": "lockstep",
            "lockstep_url": running.rest_url,
        }
    )
    return settings.model_copy(update={"exchange": led})


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
    async with asyncio.timeout(60), live_session(settings, hooks, environment=ENVIRONMENT) as shell:
        await shell.run(stop)
    return seen


def decided_n(seen: Seen) -> int:
    """Count the decisions."""
    return sum(isinstance(command, Decided) for command in seen.commands)


def bank_of(running: RunningExchange) -> Bank:
    """Give the truth."""
    accounts = running.exchange.accounts
    return accounts.bank


def check_agrees(ledger: Ledger | None, running: RunningExchange) -> None:
    """Hold the book against the bank: positions, and cash, fees and funding to the last digit.

    The wallet differs by what the venue rounds each gain: at most half of 1e-8 a trade.
    """
    assert ledger is not None
    bank = bank_of(running)
    views = bank.positions(KEY)
    theirs = {v.symbol: v.position.quantity for v in views if v.position.quantity}
    ours = {_id_of(k): p.quantity for k, p in ledger.positions.items() if p.quantity}
    assert ours == theirs
    trades = [t for s in bank.rules for t in bank.trades(KEY, s, limit=EVERYTHING)]
    lines = bank.income(KEY, since_ms=0, limit=EVERYTHING)
    fees = sum((t.fee for t in trades), ZERO)
    flows = [one for one in lines if one.kind not in {IncomeKind.REALISED, IncomeKind.COMMISSION}]
    cash = ledger.cash[CashKey("binanceusdm", "USDT")]
    paid = sum((t.quantity * t.price for t in trades), ZERO)
    assert cash == sum((one.amount for one in flows), ZERO) - paid - fees
    assert ledger.fees == fees
    funding = [one.amount for one in flows if one.kind is IncomeKind.FUNDING]
    assert ledger.funding == sum(funding, ZERO)
    wallet = bank.balance(KEY, "USDT").cash - sum((v.position.cost for v in views), ZERO)
    assert abs(cash - wallet) <= len(trades) * Decimal("5e-9")


def _id_of(key: InstrumentKey) -> str:
    return key.symbol.partition(":")[0].replace("/", "")


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
