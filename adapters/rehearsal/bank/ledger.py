"""The only place where cash moves: each change is one line of the statement.

Wallet form, as venues show it: a trade changes the cash by its realised gain and its fee only, the
cost of an open position stands beside it. For a trade of dq at p against quantity q and cost c:

    opening      c' = c + dq p                      realised 0
    closing      realised = -(c |dq/q| + dq p)      c' = c + dq p + realised

Amounts are rounded to 1e-8, half to even; because c' uses the rounded gain, rounding only moves
value between cash and cost. What is left of the cost when the position is flat goes to the house,
whose own account is kept in cash-flow form, so that everything sums to the transfers exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from msgspec.structs import replace

from adapters.rehearsal.bank.desk import Desk
from adapters.rehearsal.bank.records import (
    FLAT,
    Account,
    AccountUpdated,
    BankOrder,
    BankPosition,
    FundingBooked,
    Income,
    IncomeKind,
    OrderFilled,
    OrderStatus,
    Trade,
)
from adapters.rehearsal.bank.terms import BPS, ZERO, MarginMode, Origin
from daemon.domain.units import money, require


@dataclass(frozen=True, slots=True)
class Exchanged:
    """Hold what a trade does to a position; `dust` is rounding that the house keeps."""

    position: BankPosition
    realised: Decimal
    dust: Decimal


def exchange(position: BankPosition, quantity: Decimal, price: Decimal) -> Exchanged:
    """Apply a signed trade to a position; a flip closes all of it and opens the rest."""
    held, cost, paid = position.quantity, position.cost, quantity * price
    if not held or (held > 0) == (quantity > 0):
        return Exchanged(BankPosition(held + quantity, cost + paid, position.margin), ZERO, ZERO)
    if abs(quantity) < abs(held):
        released = cost * abs(quantity) / abs(held)
        realised = money(-(released + paid))
        left = held + quantity
        margin = money(position.margin * abs(left) / abs(held))
        return Exchanged(BankPosition(left, cost + paid + realised, margin), realised, ZERO)
    closing = -held * price
    realised = money(-(cost + closing))
    dust = cost + closing + realised
    rest = held + quantity
    return Exchanged(BankPosition(rest, rest * price) if rest else FLAT, realised, dust)


def post(
    desk: Desk,
    account: Account,
    kind: IncomeKind,
    currency: str,
    amount: Decimal,
    *,
    symbol: str = "",
    trade_id: int | None = None,
) -> Income:
    """Write one line of the statement and change the cash by it."""
    require(amount == money(amount), f"{kind} of {amount} has more than eight decimals")
    desk.state.last_income_id += 1
    number = desk.state.last_income_id
    line = Income(number, kind, currency, amount, desk.now_ms, symbol, trade_id)
    account.income.append(line)
    account.cash[currency] = account.cash.get(currency, ZERO) + amount
    return line


def book_fill(
    desk: Desk,
    account: Account,
    order: BankOrder,
    quantity: Decimal,
    price: Decimal,
    *,
    is_maker: bool,
) -> BankOrder:
    """Fill signed `quantity` of an open order at `price`: trade, cash, position and events."""
    _check_fill(account, order, quantity)
    settings, symbol = desk.settings, order.symbol
    currency = desk.rules[symbol].currency
    before = account.position(symbol)
    result = exchange(before, quantity, price)
    bps = settings.maker_fee_bps if is_maker else settings.taker_fee_bps
    owed = ZERO if order.origin is Origin.SETTLEMENT else money(abs(quantity) * price * bps / BPS)
    fee, paid_in = _fee(desk, account, owed, currency)
    desk.state.last_trade_id += 1
    trade = Trade(
        trade_id=desk.state.last_trade_id,
        order_id=order.order_id,
        client_id=order.client_id,
        symbol=symbol,
        quantity=quantity,
        price=price,
        fee=fee,
        currency=paid_in,
        realised=result.realised,
        is_maker=is_maker,
        at_ms=desk.now_ms,
    )
    account.trades.append(trade)
    for kind, coin, amount in (
        (IncomeKind.REALISED, currency, result.realised),
        (IncomeKind.COMMISSION, paid_in, -fee),
    ):
        if amount:
            post(desk, account, kind, coin, amount, symbol=symbol, trade_id=trade.trade_id)
    _hold(desk, account, symbol, before, result.position, price)
    _charge_house(desk, symbol, quantity, quantity * price - result.dust)
    _charge_house_cash(desk, paid_in, fee)
    return _say_fill(desk, account, order, trade)


def _fee(desk: Desk, account: Account, owed: Decimal, currency: str) -> tuple[Decimal, str]:
    """Give what is charged for a fee and in which currency: the fee coin where there is enough."""
    coin = desk.settings.fee_coin
    symbol = f"{coin}{currency}"
    price = desk.mark(symbol) if coin and owed > 0 and symbol in desk.rules else None
    if price is None:
        return owed, currency
    charged = money(owed / price)
    enough = account.cash.get(coin, ZERO) >= charged
    return (charged, coin) if enough else (owed, currency)


def _check_fill(account: Account, order: BankOrder, quantity: Decimal) -> None:
    """Refuse a fill that no venue could have made: a programmer's error."""
    require(order.is_open, f"order {order.order_id} has ended as {order.status}")
    require(quantity != 0, f"order {order.order_id} cannot be filled by nothing")
    require((quantity > 0) == (order.quantity > 0), f"order {order.order_id} filled backwards")
    require(
        abs(order.filled + quantity) <= abs(order.quantity),
        f"order {order.order_id} of {order.quantity}: {order.filled} + {quantity} is too much",
    )
    held = account.position(order.symbol).quantity
    if order.reduce_only:
        reduces = held * quantity < 0 and abs(quantity) <= abs(held)
        require(reduces, f"reduce-only order {order.order_id} of {quantity} against {held}")


def _say_fill(desk: Desk, account: Account, order: BankOrder, trade: Trade) -> BankOrder:
    filled = order.filled + trade.quantity
    done = filled == order.quantity
    newer = replace(
        order,
        filled=filled,
        paid=order.paid + abs(trade.quantity) * trade.price,
        status=OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED,
        updated_ms=desk.now_ms,
    )
    desk.keep_order(account, newer)
    desk.say(OrderFilled(desk.next_event(), account.key, desk.now_ms, newer, trade))
    currency = desk.rules[trade.symbol].currency
    if trade.currency != currency:
        say_account(desk, account, IncomeKind.COMMISSION, trade.currency, "")
    say_account(desk, account, IncomeKind.COMMISSION, currency, trade.symbol)
    return newer


def _hold(
    desk: Desk,
    account: Account,
    symbol: str,
    before: BankPosition,
    after: BankPosition,
    price: Decimal,
) -> None:
    """Keep the new position; where margin is isolated, set aside what its growth needs."""
    flips = before.quantity * after.quantity < 0
    opened = abs(after.quantity) - (ZERO if flips else abs(before.quantity))
    if account.mode_of(symbol) is MarginMode.ISOLATED and opened > 0:
        more = money(opened * price / leverage_of(desk, account, symbol))
        after = replace(after, margin=after.margin + more)
    if after.quantity:
        account.positions[symbol] = after
    else:
        account.positions.pop(symbol, None)


def leverage_of(desk: Desk, account: Account, symbol: str) -> int:
    """Give the leverage set for a symbol, the venue's first one where none was."""
    return account.leverage.get(symbol, desk.settings.leverage_first)


def book_funding(desk: Desk, account: Account, symbol: str, rate: Decimal) -> None:
    """Pay or charge funding on the position held now: longs pay a positive rate."""
    position = account.position(symbol)
    currency, mark = desk.rules[symbol].currency, desk.mark_held(symbol)
    amount = money(-position.quantity * mark * rate)
    line = post(desk, account, IncomeKind.FUNDING, currency, amount, symbol=symbol)
    _charge_house_cash(desk, currency, -amount)
    number = desk.next_event()
    held = position.quantity
    desk.say(FundingBooked(number, account.key, desk.now_ms, symbol, rate, held, mark, line))
    say_account(desk, account, IncomeKind.FUNDING, currency, symbol)


def book_from_house(
    desk: Desk, account: Account, kind: IncomeKind, symbol: str, amount: Decimal
) -> None:
    """Move `amount` from the house to the account (negative: the other way) and say so."""
    currency = desk.rules[symbol].currency
    post(desk, account, kind, currency, amount, symbol=symbol)
    _charge_house_cash(desk, currency, -amount)
    say_account(desk, account, kind, currency, symbol)


def book_transfer(desk: Desk, account: Account, currency: str, amount: Decimal) -> Income:
    """Book a deposit (positive) or a withdrawal; neither has another side in the house."""
    line = post(desk, account, IncomeKind.TRANSFER, currency, amount)
    say_account(desk, account, IncomeKind.TRANSFER, currency, "")
    return line


def say_account(
    desk: Desk, account: Account, cause: IncomeKind, currency: str, symbol: str
) -> None:
    """Announce the cash and the position as they are now."""
    cash = account.cash.get(currency, ZERO)
    held = account.position(symbol)
    number, at_ms = desk.next_event(), desk.now_ms
    desk.say(AccountUpdated(number, account.key, at_ms, cause, currency, cash, symbol, held))


def _charge_house(desk: Desk, symbol: str, quantity: Decimal, cash: Decimal) -> None:
    house = desk.state.house
    house.quantities[symbol] = house.quantities.get(symbol, ZERO) - quantity
    _charge_house_cash(desk, desk.rules[symbol].currency, cash)


def _charge_house_cash(desk: Desk, currency: str, cash: Decimal) -> None:
    house = desk.state.house
    house.cash[currency] = house.cash.get(currency, ZERO) + cash
