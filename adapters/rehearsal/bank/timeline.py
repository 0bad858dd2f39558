"""Advancing: everything that happens between two instants, in its order, once.

Things of one instant happen in this order: contracts end, funding settles on what is held, cancel
timers fire, orders reach the book, public prints fill what rests; then the venue looks whether
anyone is to be liquidated. Two short steps therefore do what one long step does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from itertools import groupby

from adapters.rehearsal.bank.desk import Desk
from adapters.rehearsal.bank.enforcement import delist, fire_timer, liquidate_where_due
from adapters.rehearsal.bank.ledger import book_funding
from adapters.rehearsal.bank.matching import arrive, match_print
from daemon.domain.units import require


class Rank(IntEnum):
    """Order what happens at one instant."""

    END = 0
    FUNDING = 1
    TIMER = 2
    ARRIVAL = 3
    PRINT = 4


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """Hold one thing to happen; fields beyond `place` mean what its rank needs."""

    at_ms: int
    rank: Rank
    symbol: str
    place: int
    account: str = ""
    price: Decimal = Decimal(0)
    quantity: Decimal = Decimal(0)


def advance(desk: Desk, now_ms: int) -> None:
    """Move the market's instant to `now_ms` and let everything due by then happen."""
    before_ms = desk.now_ms
    require(now_ms >= before_ms, f"time cannot go back from {before_ms} to {now_ms}")
    watched = _watched(desk)
    desk.marks = {s: m for s in watched if (m := desk.mark(s)) is not None}
    due = sorted(
        (
            *_ends(desk, watched, now_ms),
            *_timers(desk, now_ms),
            *_arrivals(desk, now_ms),
            *(one for s in watched for one in _published(desk, s, before_ms, now_ms)),
        )
    )
    for at_ms, group in groupby(due, key=lambda one: one.at_ms):
        desk.state.now_ms = at_ms
        for one in group:
            _happen(desk, one)
        liquidate_where_due(desk)
    desk.state.now_ms = now_ms
    desk.state.last_marks = {s: m for s in _watched(desk) if (m := desk.mark(s)) is not None}
    desk.marks = {}
    desk.state.taken = {p: t for p, t in desk.state.taken.items() if t.at_ms == now_ms}


def _watched(desk: Desk) -> list[str]:
    """List the symbols in which anyone holds or orders something, and those that price fees."""
    accounts = desk.state.accounts.values()
    used = {s for a in accounts for s in (*a.positions, *a.open_ids)}
    coin = desk.settings.fee_coin
    priced = {f"{coin}{desk.rules[s].currency}" for s in used} if coin else set()
    return sorted(used | (priced & desk.rules.keys()))


def _ends(desk: Desk, watched: list[str], now_ms: int) -> Iterator[Due]:
    for symbol in watched:
        at_ms = desk.end_of(symbol)
        if at_ms is not None and desk.now_ms < at_ms <= now_ms:
            yield Due(at_ms, Rank.END, symbol, 0)


def _timers(desk: Desk, now_ms: int) -> Iterator[Due]:
    for account in desk.state.accounts.values():
        for symbol, at_ms in account.timers.items():
            if at_ms <= now_ms:
                yield Due(at_ms, Rank.TIMER, symbol, 0, account.key)


def _arrivals(desk: Desk, now_ms: int) -> Iterator[Due]:
    for account in desk.state.accounts.values():
        for order in account.open_orders():
            if not order.arrived and order.active_ms <= now_ms:
                yield Due(order.active_ms, Rank.ARRIVAL, "", order.order_id, account.key)


def _published(desk: Desk, symbol: str, after_ms: int, until_ms: int) -> Iterator[Due]:
    if until_ms == after_ms:  # many requests are handled at one instant
        return
    for one in desk.quotes.settlements(symbol, after_ms, until_ms):
        yield Due(one.at_ms, Rank.FUNDING, symbol, 0, price=one.rate)
    for place, seen in enumerate(desk.quotes.prints(symbol, after_ms, until_ms)):
        yield Due(seen.at_ms, Rank.PRINT, symbol, place, "", seen.price, seen.quantity)


def _happen(desk: Desk, due: Due) -> None:
    match due.rank:
        case Rank.END:
            delist(desk, due.symbol)
        case Rank.FUNDING:
            _settle_funding(desk, due)
        case Rank.TIMER:
            fire_timer(desk, desk.account(due.account), due.symbol)
        case Rank.ARRIVAL:
            account = desk.account(due.account)
            arrive(desk, account, account.orders[due.place])
        case Rank.PRINT:
            desk.marks[due.symbol] = due.price
            match_print(desk, due.symbol, due.price, due.quantity)


def _settle_funding(desk: Desk, due: Due) -> None:
    for account in desk.state.accounts.values():
        if account.position(due.symbol).quantity:
            book_funding(desk, account, due.symbol, due.price)
