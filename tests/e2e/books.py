"""Read what a run leaves behind, and check the engine's book against the venue's own ledger."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from adapters.journal import JournalReader
from adapters.paper import SqliteStore
from adapters.paper.state import PaperStatus
from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.messages import (
    FundingPaid,
    OrderAbsent,
    OrderFilled,
    OrderRejected,
    Snapshotted,
    Submit,
)
from daemon.domain.order import Fill, OrderId
from daemon.domain.portfolio import Ledger
from daemon.domain.units import Timeframe
from daemon.engine.reconcile import differences
from daemon.runtime.recovery import replay_entry
from daemon.settings import Settings
from daemon.wiring.core import engine_of, universe_of
from daemon.wiring.instruments import read_instruments

ORDERS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Account:
    """Hold the paper account's own file: what is owned, every order, every execution in order."""

    quantities: Mapping[InstrumentKey, Decimal]
    cash: Mapping[CashKey, Decimal]
    fills: tuple[Fill, ...]
    funding: tuple[FundingPaid, ...]
    order_ids: frozenset[OrderId]
    open_orders: int


def copied(state: Path, to: Path) -> Path:
    """Copy the durable files as a kill left them: reading them must not mend the original."""
    to.mkdir(parents=True)
    for name in ("journal.sqlite", "paper.sqlite"):
        for suffix in ("", "-wal"):
            if (state / f"{name}{suffix}").exists():
                shutil.copy(state / f"{name}{suffix}", to)
    shutil.copy(state / "instruments.json", to)
    return to


def read_account(state: Path) -> Account | None:
    """Read the paper ledger, which checks that it adds up; None before the account was opened."""
    store = SqliteStore(state / "paper.sqlite")
    try:
        loaded = store.load(ORDERS_MAX)
        if loaded is None:
            return None
        account = loaded.state.account
        executions = tuple(store.executions_after(0, account.executions_n))
    finally:
        store.close()
    ledger = account.ledger
    return Account(
        quantities=held(ledger),
        cash=dict(ledger.cash),
        fills=tuple(e.fill for e in executions if isinstance(e, OrderFilled)),
        funding=tuple(e for e in executions if isinstance(e, FundingPaid)),
        order_ids=frozenset(record.order.order_id for record in loaded.orders),
        open_orders=sum(record.status is PaperStatus.OPEN for record in loaded.orders),
    )


def held(ledger: Ledger) -> dict[InstrumentKey, Decimal]:
    """Give the positions that are not flat."""
    return {k: p.quantity for k, p in ledger.positions.items() if p.quantity}


@dataclass(frozen=True, slots=True)
class Book:
    """Hold the engine's book after its journal was played again from the first entry."""

    ledger: Ledger
    trade_ids: frozenset[str]
    submitted: frozenset[OrderId]
    refused: frozenset[OrderId]  # by the venue, or it said that it never had them
    net_weight_worst: float
    entries: int
    reconciliations: int


def replay_book(settings: Settings) -> Book:
    """Play a journal again; every command must be the recorded one, every account ours.

    One engine goes through all of it, where the daemon began anew from a snapshot at each start. At
    each account that the venue gave, ours must be the same, once the engine has settled on it.
    """
    universe = universe_of(read_instruments(settings.run.state_folder))
    engine = engine_of(settings, universe, Timeframe.parse(settings.market.source))
    trade_ids, submitted, refused = set[str](), set[OrderId](), set[OrderId]()
    count = reconciliations = 0
    for entry in JournalReader(settings.run.state_folder / "journal.sqlite").read_from(1):
        virgin = not engine.state.book.ledger.cash
        divergence = replay_entry(engine, entry)
        assert divergence is None, str(divergence)
        count += 1
        for one in entry.commands:
            if isinstance(one, Submit):
                assert one.approved.order.order_id not in submitted, "an order id was used again"
                submitted.add(one.approved.order.order_id)
        if isinstance(entry.event, OrderFilled):
            trade_ids.add(entry.event.fill.trade_id)
        if isinstance(entry.event, OrderRejected | OrderAbsent):
            refused.add(entry.event.order_id)
        if isinstance(entry.event, Snapshotted) and not virgin and not engine.state.mismatches:
            reconciliations += 1
            assert differences(engine.state.book.ledger, entry.event.snapshot) == ()
    book = engine.state.book
    assert not engine.state.halted_why, engine.state.halted_why
    return Book(
        ledger=book.ledger,
        trade_ids=frozenset(trade_ids),
        submitted=frozenset(submitted),
        refused=frozenset(refused),
        net_weight_worst=book.net_weight_worst,
        entries=count,
        reconciliations=reconciliations,
    )


@dataclass(frozen=True, slots=True)
class Left:
    """Count what a kill caught in the middle: it says between which commits the kill fell."""

    unsent_orders: int  # journalled, not yet at the venue
    unheard_fills: int  # committed by the venue, not yet journalled
    open_orders: int


def check_what_is_left(settings: Settings) -> Left | None:
    """Check a killed daemon's files: each whole, and neither ahead where it must not be.

    The journal has every order before the venue has it, the venue every fill before the journal.
    None when the kill came before the account was opened.
    """
    state = settings.run.state_folder
    account = read_account(state)
    if account is None:
        return None
    JournalReader(state / "journal.sqlite").verify()
    book = replay_book(settings)
    known = [fill.trade_id for fill in account.fills]
    assert len(known) == len(set(known))
    assert book.trade_ids <= set(known), "the journal has a fill that the venue never committed"
    assert account.order_ids <= book.submitted, "the venue has an order that was not journalled"
    return Left(
        unsent_orders=len(book.submitted - account.order_ids - book.refused),
        unheard_fills=len(set(known) - book.trade_ids),
        open_orders=account.open_orders,
    )


def check_books_agree(settings: Settings) -> Book:
    """Check the engine's book against the paper ledger's file: nothing lost, nothing doubled."""
    book, account = replay_book(settings), read_account(settings.run.state_folder)
    assert account is not None
    told = [fill.trade_id for fill in account.fills]
    assert len(told) == len(set(told)), "the venue has a trade id twice"
    assert book.trade_ids == set(told)
    assert book.ledger.fills == len(told), "a fill was counted twice or not at all"
    assert held(book.ledger) == account.quantities
    assert book.ledger.cash == account.cash
    assert book.ledger.funding == sum((f.amount for f in account.funding), Decimal(0))
    assert len({f.cashflow_id for f in account.funding}) == len(account.funding)
    return book
