"""What the venue does of its own accord: liquidation, forced reduction, settlement, cancel timers.

A liquidation first cancels what is open, then closes at the best quote and charges its fee. Cross
positions go one after the other, the largest first, until the rest is carried. What was lost beyond
the margin that stood for it comes back from the house: no liquidation leaves a debt.
"""

from __future__ import annotations

from decimal import Decimal

from adapters.rehearsal.bank.depth import best_price
from adapters.rehearsal.bank.desk import Desk
from adapters.rehearsal.bank.ledger import book_fill, book_from_house
from adapters.rehearsal.bank.margin import cross_in_need, isolated_in_need
from adapters.rehearsal.bank.matching import end_reducers
from adapters.rehearsal.bank.records import (
    Account,
    EndReason,
    IncomeKind,
    Liquidated,
    OrderStatus,
    TimerFired,
)
from adapters.rehearsal.bank.terms import BPS, ZERO, MarginMode, OrderRequest, Origin
from daemon.domain.order import OrderKind
from daemon.domain.units import money


def liquidate_where_due(desk: Desk) -> None:
    """Close what is no longer maintained, in every account, isolated positions first."""
    for account in desk.state.accounts.values():
        if not account.positions:
            continue
        for symbol in isolated_in_need(desk, account):
            liquidate(desk, account, symbol)
        for currency in sorted(account.cash):
            _liquidate_cross(desk, account, currency)


def _liquidate_cross(desk: Desk, account: Account, currency: str) -> None:
    symbol = cross_in_need(desk, account, currency)
    if symbol is None:
        return
    for order in account.open_orders():
        of_currency = desk.rules[order.symbol].currency == currency
        if of_currency and account.mode_of(order.symbol) is MarginMode.CROSS:
            desk.end_order(account, order, OrderStatus.EXPIRED, EndReason.LIQUIDATION)
    while symbol is not None:
        liquidate(desk, account, symbol)
        symbol = cross_in_need(desk, account, currency)


def liquidate(desk: Desk, account: Account, symbol: str) -> None:
    """Take a position over: cancel, close at the best quote, charge, make good a debt."""
    position, mark = account.position(symbol), desk.mark_held(symbol)
    currency = desk.rules[symbol].currency
    isolated = account.mode_of(symbol) is MarginMode.ISOLATED
    before = account.cash.get(currency, ZERO)
    number, at_ms = desk.next_event(), desk.now_ms
    desk.say(Liquidated(number, account.key, at_ms, symbol, position.quantity, mark))
    for order in account.open_of(symbol):
        desk.end_order(account, order, OrderStatus.EXPIRED, EndReason.LIQUIDATION)
    price = best_price(desk, symbol, mark, buys=position.quantity < 0)
    close_by_venue(desk, account, symbol, -position.quantity, price, Origin.LIQUIDATION)
    fee = money(abs(position.quantity) * price * desk.settings.liquidation_fee_bps / BPS)
    if fee:
        book_from_house(desk, account, IncomeKind.LIQUIDATION_FEE, symbol, -fee)
    after = account.cash.get(currency, ZERO)
    floor = before - position.margin if isolated else _set_aside(desk, account, currency)
    others_cross = not isolated and any(
        account.mode_of(s) is MarginMode.CROSS and desk.rules[s].currency == currency
        for s in account.positions
    )
    if after < floor and not others_cross:
        book_from_house(desk, account, IncomeKind.INSURANCE, symbol, floor - after)


def _set_aside(desk: Desk, account: Account, currency: str) -> Decimal:
    """Sum the margins of isolated positions, which cross losses may not touch."""
    held = account.positions.items()
    return sum((p.margin for s, p in held if desk.rules[s].currency == currency), ZERO)


def close_by_venue(
    desk: Desk, account: Account, symbol: str, quantity: Decimal, price: Decimal, origin: Origin
) -> None:
    """Trade signed `quantity` for the account at `price` by an order of the venue's own."""
    request = OrderRequest(symbol, quantity, OrderKind.MARKET, reduce_only=True, origin=origin)
    order = desk.enter_order(account, request, 0)
    book_fill(desk, account, order, quantity, price, is_maker=False)
    end_reducers(desk, account, symbol)


def delist(desk: Desk, symbol: str) -> None:
    """End a contract: cancel what is open and settle positions at the last price, free of fee."""
    for account in desk.state.accounts.values():
        for order in account.open_of(symbol):
            desk.end_order(account, order, OrderStatus.EXPIRED, EndReason.DELISTED)
        held = account.position(symbol).quantity
        if held:
            mark = desk.mark_held(symbol)
            close_by_venue(desk, account, symbol, -held, mark, Origin.SETTLEMENT)


def fire_timer(desk: Desk, account: Account, symbol: str) -> None:
    """Cancel what a timer watches and forget the timer; the empty symbol stands for all."""
    del account.timers[symbol]
    orders = account.open_of(symbol) if symbol else account.open_orders()
    for order in orders:
        desk.end_order(account, order, OrderStatus.CANCELLED, EndReason.TIMER)
    desk.say(TimerFired(desk.next_event(), account.key, desk.now_ms, symbol, len(orders)))
