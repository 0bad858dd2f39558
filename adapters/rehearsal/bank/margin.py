"""Margin: what an account is worth, what its orders need, and when the venue steps in.

Equity of a currency = cash + unrealised gains. Per symbol the initial margin is the larger of what
the position with all open buys, or with all open sells, would need at its leverage. An isolated
position has margin of its own set aside, and stands or falls with that alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from adapters.rehearsal.bank.desk import Desk
from adapters.rehearsal.bank.ledger import leverage_of
from adapters.rehearsal.bank.records import Account
from adapters.rehearsal.bank.terms import BPS, ZERO, MarginMode, OrderRequest
from daemon.domain.units import money


@dataclass(frozen=True, slots=True)
class Balance:
    """Hold one currency of an account: all in that currency, `available` may be negative.

    initial: margin of positions and open orders. maintenance: below it the positions are closed.
    """

    currency: str
    cash: Decimal
    unrealised: Decimal
    initial: Decimal
    maintenance: Decimal
    available: Decimal

    @property
    def equity(self) -> Decimal:
        """Give cash and unrealised gains."""
        return self.cash + self.unrealised


def balance(
    desk: Desk, account: Account, currency: str, more: OrderRequest | None = None
) -> Balance:
    """Value a currency at the marks; `more` is an order counted as if it were open."""
    cash = account.cash.get(currency, ZERO)
    unrealised = initial = maintenance = locked = ZERO
    for symbol in _symbols(desk, account, currency, more):
        position, mark = account.position(symbol), desk.mark_held(symbol)
        gain = position.unrealised(mark)
        unrealised += gain
        maintenance += maintenance_of(desk, position.quantity, mark)
        extra = more if more is not None and more.symbol == symbol else None
        needs = required(desk, account, symbol, extra)
        initial += needs
        isolated = account.mode_of(symbol) is MarginMode.ISOLATED
        # an isolated position's own margin serves it first, and its gains serve no one else
        locked += max(needs, position.margin) if isolated else needs - gain
    return Balance(currency, cash, unrealised, initial, maintenance, cash - locked)


@dataclass(frozen=True, slots=True)
class SymbolMargin:
    """Hold what one symbol of an account needs, in its currency.

    position: initial margin of the position alone. initial: with its open orders. liquidation: the
    mark at which the venue steps in while all else stays; zero where there is none.
    """

    position: Decimal
    initial: Decimal
    maintenance: Decimal
    liquidation: Decimal


def symbol_margin(desk: Desk, account: Account, symbol: str) -> SymbolMargin:
    """Give the margins of a symbol at its mark."""
    held, mark = account.position(symbol).quantity, desk.mark_held(symbol)
    alone = money(abs(held) * mark / leverage_of(desk, account, symbol))
    return SymbolMargin(
        alone,
        required(desk, account, symbol),
        money(maintenance_of(desk, held, mark)),
        liquidation_price(desk, account, symbol),
    )


def liquidation_price(desk: Desk, account: Account, symbol: str) -> Decimal:
    """Give the mark at which a position is liquidated while all else stays, zero if none is.

    It solves worth + q p - c = |q| p m + maintenance of the others, with quantity q, cost c and the
    maintenance rate m; worth is what stands for the position beside its own gain.
    """
    position = account.position(symbol)
    quantity = position.quantity
    if not quantity:
        return ZERO
    worth, others = position.margin, ZERO
    if account.mode_of(symbol) is MarginMode.CROSS:
        worth, others = _cross_of_others(desk, account, symbol)
    rate = desk.settings.maintenance_bps / BPS
    found = (position.cost - worth + others) / (quantity - abs(quantity) * rate)
    return money(found) if found > 0 else ZERO


def _cross_of_others(desk: Desk, account: Account, symbol: str) -> tuple[Decimal, Decimal]:
    """Give what stands for a cross position, and the maintenance of the others it stands for."""
    currency = desk.rules[symbol].currency
    worth, needed = account.cash.get(currency, ZERO), ZERO
    for name, position in account.positions.items():
        if name == symbol or desk.rules[name].currency != currency:
            continue
        if account.mode_of(name) is MarginMode.ISOLATED:
            worth -= position.margin
            continue
        mark = desk.mark_held(name)
        worth += position.unrealised(mark)
        needed += maintenance_of(desk, position.quantity, mark)
    return worth, needed


def maintenance_of(desk: Desk, quantity: Decimal, mark: Decimal) -> Decimal:
    """Give the margin below which a position is liquidated."""
    return abs(quantity) * mark * desk.settings.maintenance_bps / BPS


def required(
    desk: Desk, account: Account, symbol: str, more: OrderRequest | None = None
) -> Decimal:
    """Give the initial margin of a symbol's position and open orders at their worst case.

    An order counts at its limit or the mark, whichever is dearer; reduce-only ones need nothing.
    """
    mark = desk.mark_held(symbol)
    long = short = account.position(symbol).quantity * mark
    wanted = [(o.left, o.price) for o in account.open_of(symbol) if not o.reduce_only]
    if more is not None and not more.reduce_only:
        wanted.append((more.quantity, more.price))
    for quantity, price in wanted:
        notional = quantity * max(mark, price or mark)
        long, short = long + max(notional, ZERO), short + min(notional, ZERO)
    return money(max(abs(long), abs(short)) / leverage_of(desk, account, symbol))


def can_afford(desk: Desk, account: Account, request: OrderRequest) -> bool:
    """Tell whether the margin suffices with the order; one that needs no more always may pass."""
    if required(desk, account, request.symbol, request) <= required(desk, account, request.symbol):
        return True
    currency = desk.rules[request.symbol].currency
    price = request.price or desk.mark_held(request.symbol)
    fee = max(ZERO, abs(request.quantity) * price * desk.settings.taker_fee_bps / BPS)
    return balance(desk, account, currency, request).available >= fee


def isolated_in_need(desk: Desk, account: Account) -> list[str]:
    """List the symbols whose isolated margin no longer maintains their position."""
    found = []
    for symbol, position in sorted(account.positions.items()):
        if account.mode_of(symbol) is MarginMode.ISOLATED:
            mark = desk.mark_held(symbol)
            worth = position.margin + position.unrealised(mark)
            if worth < maintenance_of(desk, position.quantity, mark):
                found.append(symbol)
    return found


def cross_in_need(desk: Desk, account: Account, currency: str) -> str | None:
    """Give the largest cross position of a currency whose cross margin is used up, if it is."""
    worth, needed = account.cash.get(currency, ZERO), ZERO
    sizes: list[tuple[Decimal, str]] = []
    for symbol, position in sorted(account.positions.items()):
        if desk.rules[symbol].currency != currency:
            continue
        if account.mode_of(symbol) is MarginMode.ISOLATED:
            worth -= position.margin
            continue
        mark = desk.mark_held(symbol)
        worth += position.unrealised(mark)
        needed += maintenance_of(desk, position.quantity, mark)
        sizes.append((abs(position.quantity) * mark, symbol))
    return max(sizes)[1] if sizes and worth < needed else None


def _symbols(desk: Desk, account: Account, currency: str, more: OrderRequest | None) -> list[str]:
    named = {*account.positions, *account.open_ids, *((more.symbol,) if more else ())}
    return sorted(s for s in named if desk.rules[s].currency == currency)
