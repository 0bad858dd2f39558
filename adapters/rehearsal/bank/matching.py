"""Matching: what an order does when it reaches the book, and what public prints do to resting ones.

An arriving order takes from `depth`; what is left of a limit order rests or expires as its time in
force says. A resting buy is filled by prints at or below its price, a sell by those at or above, at
its own price, up to the print's quantity: dearest buys and cheapest sells first, then the older.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from adapters.rehearsal.bank.depth import offered, take, would_take
from adapters.rehearsal.bank.desk import Desk
from adapters.rehearsal.bank.ledger import book_fill
from adapters.rehearsal.bank.records import Account, BankOrder, EndReason, OrderStatus
from adapters.rehearsal.bank.terms import TimeInForce
from daemon.domain.failures import InvariantViolated
from daemon.domain.order import OrderKind
from daemon.domain.units import quantise


def arrive(desk: Desk, account: Account, order: BankOrder) -> None:
    """Let an admitted order reach the book; one that ended on its way is left alone."""
    order = account.orders[order.order_id]
    if not order.is_open:
        return
    order = replace(order, arrived=True)
    desk.keep_order(account, order)
    mark = desk.mark_held(order.symbol)
    if desk.is_halted(order.symbol):
        desk.end_order(account, order, OrderStatus.EXPIRED, EndReason.HALTED)
    elif order.time_in_force is TimeInForce.POST_ONLY and order.price is not None:
        # the market may have moved while the order was on its way
        if would_take(desk, order.symbol, mark, order.quantity, order.price):
            desk.end_order(account, order, OrderStatus.EXPIRED, EndReason.POST_ONLY)
    else:
        _take(desk, account, order, mark)
    end_reducers(desk, account, order.symbol)


def _take(desk: Desk, account: Account, order: BankOrder, mark: Decimal) -> None:
    """Fill an order from the levels, best first, and end what may not rest."""
    wanted = reducible(account, order, order.left)
    slices = offered(desk, order.symbol, mark, wanted, order.price) if wanted else []
    there = sum((s.quantity for s in slices), Decimal(0))
    kills = order.kind is OrderKind.LIMIT and order.time_in_force is TimeInForce.FOK
    if kills and there < abs(order.quantity):
        slices = []
    sign = 1 if order.quantity > 0 else -1
    for one in slices:
        take(desk, order.symbol, sign * one.quantity)
        order = book_fill(desk, account, order, sign * one.quantity, one.price, is_maker=False)
    rests = order.kind is OrderKind.LIMIT and order.time_in_force is TimeInForce.GTC
    if order.is_open and not rests:
        desk.end_order(account, order, OrderStatus.EXPIRED, EndReason.NO_DEPTH)


def reducible(account: Account, order: BankOrder, quantity: Decimal) -> Decimal:
    """Give the part of signed `quantity` that the order may trade: reduce-only ones never flip."""
    if not order.reduce_only:
        return quantity
    held = account.position(order.symbol).quantity
    if held * quantity >= 0:
        return Decimal(0)
    return quantity if abs(quantity) <= abs(held) else -held


def end_reducers(desk: Desk, account: Account, symbol: str) -> None:
    """End the reduce-only orders that have nothing left to reduce."""
    for order in account.open_of(symbol):
        if order.arrived and order.reduce_only and not reducible(account, order, order.left):
            desk.end_order(account, order, OrderStatus.EXPIRED, EndReason.REDUCE_ONLY)


def match_print(desk: Desk, symbol: str, price: Decimal, quantity: Decimal) -> None:
    """Fill resting orders of all accounts that a print of `quantity` at `price` meets."""
    step = desk.rules[symbol].quantity_step
    left = quantise(quantity, step)
    for account, resting in _met(desk, symbol, price):
        if left <= 0:
            break
        order = account.orders[resting.order_id]
        wanted = reducible(account, order, order.left) if order.is_open else Decimal(0)
        if not wanted:
            continue
        size = min(abs(wanted), left)
        left -= size
        signed = size if wanted > 0 else -size
        book_fill(desk, account, order, signed, _limit(order), is_maker=True)
        end_reducers(desk, account, symbol)


def _met(desk: Desk, symbol: str, price: Decimal) -> list[tuple[Account, BankOrder]]:
    """List account and order of those that a print at `price` meets, in order of priority."""
    if desk.is_halted(symbol):
        return []
    found = [
        (account, order)
        for account in desk.state.accounts.values()
        for order in account.open_of(symbol)
        if order.arrived and _meets(order, price)
    ]
    found.sort(key=lambda pair: (-abs(_limit(pair[1]) - price), pair[1].order_id))
    return found


def _limit(order: BankOrder) -> Decimal:
    """Give the limit of a resting order."""
    if order.price is None:
        raise InvariantViolated(f"market order {order.order_id} rests")
    return order.price


def _meets(order: BankOrder, price: Decimal) -> bool:
    limit = _limit(order)
    return price <= limit if order.quantity > 0 else price >= limit
