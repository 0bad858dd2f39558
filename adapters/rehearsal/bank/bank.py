"""The door of the bank: everything an account's holder, its owner and the venue itself may do.

Calls happen at the market's instant, which only `advance` moves. What a call changes is announced
as events; `take_events` hands each of them out once, in the order of their numbers. A request that
is refused comes back as a `Refusal` and changes nothing. Equal calls on equal quotes give equal
bytes; `snapshot` and `restore` carry everything from one process to another.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from decimal import Context, Decimal, localcontext
from functools import wraps
from itertools import islice
from typing import Any, Final, ParamSpec, TypeVar

from msgspec import Struct, convert, to_builtins

from adapters.rehearsal.bank import admission, enforcement, timeline
from adapters.rehearsal.bank.depth import best_price
from adapters.rehearsal.bank.desk import Desk
from adapters.rehearsal.bank.ledger import book_transfer, leverage_of
from adapters.rehearsal.bank.margin import Balance, SymbolMargin, balance, symbol_margin
from adapters.rehearsal.bank.matching import arrive
from adapters.rehearsal.bank.records import (
    Account,
    BankEvent,
    BankOrder,
    BankPosition,
    BankState,
    EndReason,
    House,
    Income,
    IncomeKind,
    OrderStatus,
    Trade,
)
from adapters.rehearsal.bank.terms import (
    ZERO,
    BankSettings,
    MarginMode,
    OrderRequest,
    Origin,
    PositionMode,
    Quotes,
    Refusal,
    RefusalReason,
    SymbolRules,
)
from daemon.domain.units import money, require

EXACT: Final = Context(prec=60)  # digits; sums and products of prices and quantities never round
ALL_SYMBOLS: Final = ""
PAGE_MAX: Final = 1_000

P = ParamSpec("P")
R = TypeVar("R")


def exactly(call: Callable[P, R]) -> Callable[P, R]:
    """Run a call in the bank's own decimal context, whatever the caller's is."""

    @wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with localcontext(EXACT):
            return call(*args, **kwargs)

    return run


def _check_statement(account: Account) -> None:
    """Check that each currency's cash is the sum of its statement lines."""
    sums = dict.fromkeys(account.cash, ZERO)
    for line in account.income:
        sums[line.currency] = sums.get(line.currency, ZERO) + line.amount
    require(sums == account.cash, f"cash {account.cash} differs from the statement's {sums}")


class PositionView(Struct, frozen=True):
    """Show a position with what it is worth and how it is held."""

    symbol: str
    position: BankPosition
    mark: Decimal
    unrealised: Decimal
    leverage: int
    margin_mode: MarginMode


class Bank:
    """Keep accounts and match their orders against a market that someone else describes."""

    def __init__(
        self,
        rules: Mapping[str, SymbolRules],
        quotes: Quotes,
        settings: BankSettings,
        *,
        start_ms: int = 0,
    ) -> None:
        self._desk = Desk(rules, quotes, settings, BankState(start_ms))

    # ---- time, events, state ---------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """Give the market's instant."""
        return self._desk.now_ms

    @property
    def house(self) -> House:
        """Give the venue's own account, the other side of every booking but transfers."""
        return self._desk.state.house

    @exactly
    def advance(self, now_ms: int) -> tuple[BankEvent, ...]:
        """Let everything happen that is due by `now_ms`; give all events not yet taken."""
        timeline.advance(self._desk, now_ms)
        return self.take_events()

    def take_events(self) -> tuple[BankEvent, ...]:
        """Give the events since they were last taken, oldest first."""
        outbox = self._desk.state.outbox
        events = tuple(outbox)
        outbox.clear()
        return events

    def snapshot(self) -> dict[str, Any]:
        """Give the whole state as plain values: dicts, lists, texts, integers."""
        plain: dict[str, Any] = to_builtins(self._desk.state, str_keys=True)
        return plain

    @classmethod
    def restore(
        cls,
        rules: Mapping[str, SymbolRules],
        quotes: Quotes,
        settings: BankSettings,
        plain: Mapping[str, Any],
    ) -> Bank:
        """Build a bank that goes on where `snapshot` was taken.

        Raises ValidationError for values of another shape, InvariantViolated where an account's
        cash is not the sum of its statement.
        """
        bank = cls(rules, quotes, settings)
        bank._desk.state = convert(plain, BankState, str_keys=True)
        with localcontext(EXACT):
            for account in bank._desk.state.accounts.values():
                _check_statement(account)
        return bank

    @property
    def settings(self) -> BankSettings:
        """Give the venue's terms."""
        return self._desk.settings

    @property
    def rules(self) -> Mapping[str, SymbolRules]:
        """Give the rules of all contracts by symbol, of future and ended ones too."""
        return self._desk.rules

    def last_price(self, symbol: str) -> Decimal | None:
        """Give the last traded price, None before the first."""
        return self._desk.mark(symbol)

    def symbol_refusal(self, symbol: str) -> Refusal | None:
        """Give the reason for which nothing can be traded in a symbol now, None if it can."""
        return admission.symbol_refusal(self._desk, symbol)

    # ---- accounts --------------------------------------------------------------------------------

    @exactly
    def open_account(self, key: str, deposits: Mapping[str, Decimal]) -> None:
        """Open an account for an API key with cash by currency."""
        require(key not in self._desk.state.accounts, "this API key has an account already")
        account = self._desk.state.accounts[key] = Account(key)
        for currency, amount in deposits.items():
            require(amount >= 0, f"first deposit of {amount} {currency} must not be negative")
            book_transfer(self._desk, account, currency, amount)

    def has_account(self, key: str) -> bool:
        """Tell whether a key has an account."""
        return key in self._desk.state.accounts

    @exactly
    def transfer(self, key: str, currency: str, amount: Decimal) -> Income | Refusal:
        """Deposit (positive) or withdraw; only what no margin needs can be withdrawn."""
        account = self._desk.account(key)
        if not amount or amount != money(amount):
            return Refusal(RefusalReason.FUNDS, f"{amount} is nothing, or finer than 1e-8")
        spare = balance(self._desk, account, currency)
        if amount < 0 and -amount > min(spare.cash, spare.available):
            return Refusal(RefusalReason.FUNDS, f"{spare.available} {currency} are available")
        return book_transfer(self._desk, account, currency, amount)

    @exactly
    def balance(self, key: str, currency: str) -> Balance:
        """Value a currency of an account at the last prices."""
        return balance(self._desk, self._desk.account(key), currency)

    def currencies(self, key: str) -> tuple[str, ...]:
        """List the currencies in which an account ever had cash."""
        return tuple(sorted(self._desk.account(key).cash))

    @exactly
    def positions(self, key: str) -> list[PositionView]:
        """List the positions that are not flat, by symbol."""
        account = self._desk.account(key)
        return [self._position(account, symbol) for symbol in sorted(account.positions)]

    @exactly
    def position(self, key: str, symbol: str) -> PositionView | Refusal:
        """Give the position of a symbol, flat ones included."""
        account = self._desk.account(key)
        if symbol not in self._desk.rules or self._desk.mark(symbol) is None:
            return Refusal(RefusalReason.UNKNOWN_SYMBOL, f"{symbol!r} has no price")
        return self._position(account, symbol)

    def _position(self, account: Account, symbol: str) -> PositionView:
        held, mark = account.position(symbol), self._desk.mark_held(symbol)
        leverage, mode = leverage_of(self._desk, account, symbol), account.mode_of(symbol)
        return PositionView(symbol, held, mark, held.unrealised(mark), leverage, mode)

    @exactly
    def margin_of(self, key: str, symbol: str) -> SymbolMargin:
        """Give the margins of a symbol that has traded, and its liquidation price."""
        return symbol_margin(self._desk, self._desk.account(key), symbol)

    @exactly
    def set_leverage(self, key: str, symbol: str, leverage: int) -> Refusal | None:
        """Set the leverage of a symbol; refused where the margin would not suffice any more."""
        desk, account = self._desk, self._desk.account(key)
        if symbol not in desk.rules:
            return Refusal(RefusalReason.UNKNOWN_SYMBOL, f"{symbol!r} is not listed")
        highest = desk.settings.leverage_max
        if not 1 <= leverage <= highest:
            return Refusal(RefusalReason.LEVERAGE_RANGE, f"leverage {leverage}: 1 to {highest}")
        before = leverage_of(desk, account, symbol)
        if before == leverage:
            return Refusal(RefusalReason.NO_CHANGE, f"leverage is {leverage}")
        account.leverage[symbol] = leverage
        currency = desk.rules[symbol].currency
        if leverage < before and balance(desk, account, currency).available < 0:
            account.leverage[symbol] = before
            return Refusal(RefusalReason.MARGIN, f"leverage {leverage} needs more margin")
        return None

    def set_margin_mode(self, key: str, symbol: str, mode: MarginMode) -> Refusal | None:
        """Set what a symbol's losses may draw on; only while nothing is held or ordered in it."""
        account = self._desk.account(key)
        if symbol not in self._desk.rules:
            return Refusal(RefusalReason.UNKNOWN_SYMBOL, f"{symbol!r} is not listed")
        if account.mode_of(symbol) is mode:
            return Refusal(RefusalReason.NO_CHANGE, f"margin mode is {mode}")
        if symbol in account.positions or symbol in account.open_ids:
            return Refusal(RefusalReason.MODE_LOCKED, f"{symbol} is held or ordered")
        account.margin_mode[symbol] = mode
        return None

    def margin_mode(self, key: str, symbol: str) -> MarginMode:
        """Give what a symbol's losses may draw on."""
        return self._desk.account(key).mode_of(symbol)

    def position_mode(self, key: str) -> PositionMode:
        """Give the position mode of an account."""
        return self._desk.account(key).position_mode

    def set_position_mode(self, key: str, mode: PositionMode) -> Refusal | None:
        """Set the position mode; only while the account holds and orders nothing."""
        account = self._desk.account(key)
        if account.position_mode is mode:
            return Refusal(RefusalReason.NO_CHANGE, f"position mode is {mode}")
        if account.positions or account.open_ids:
            return Refusal(RefusalReason.MODE_LOCKED, "positions or orders are open")
        account.position_mode = mode
        return None

    # ---- orders ----------------------------------------------------------------------------------

    @exactly
    def place(self, key: str, request: OrderRequest) -> BankOrder | Refusal:
        """Admit an order, or refuse it; without latency it reaches the book at once."""
        desk, account = self._desk, self._desk.account(key)
        by_holder = request.origin in (Origin.API, Origin.OWNER)
        require(by_holder, f"orders of origin {request.origin} are the venue's own")
        refusal = admission.refusal_of(desk, account, request)
        if refusal is not None:
            return refusal
        order = desk.enter_order(account, request, desk.settings.latency_ms)
        if not desk.settings.latency_ms:
            arrive(desk, account, order)
        return account.orders[order.order_id]

    def query(
        self,
        key: str,
        symbol: str,
        *,
        order_id: int | None = None,
        client_id: str | None = None,
    ) -> BankOrder | Refusal:
        """Give an order, ended ones too, by the venue's id or else the newest with a client id."""
        account = self._desk.account(key)
        if order_id is None and client_id is not None:
            order_id = account.newest_by_client_id.get(client_id)
        order = account.orders.get(order_id) if order_id is not None else None
        if order is None or order.symbol != symbol:
            return Refusal(RefusalReason.UNKNOWN_ORDER, f"no such order in {symbol}")
        return order

    @exactly
    def cancel(
        self,
        key: str,
        symbol: str,
        *,
        order_id: int | None = None,
        client_id: str | None = None,
    ) -> BankOrder | Refusal:
        """Cancel an open order and give what became of it."""
        order = self.query(key, symbol, order_id=order_id, client_id=client_id)
        if isinstance(order, Refusal):
            return order
        if not order.is_open:
            text = f"order {order.order_id} ended as {order.status}"
            return Refusal(RefusalReason.ORDER_ENDED, text)
        return self._cancel(self._desk.account(key), [order])[0]

    @exactly
    def cancel_all(self, key: str, symbol: str = ALL_SYMBOLS) -> list[BankOrder]:
        """Cancel all open orders of a symbol, or of all symbols."""
        return self._cancel(self._desk.account(key), self.open_orders(key, symbol))

    def _cancel(self, account: Account, orders: list[BankOrder]) -> list[BankOrder]:
        status, reason = OrderStatus.CANCELLED, EndReason.REQUESTED
        return [self._desk.end_order(account, order, status, reason) for order in orders]

    def open_orders(self, key: str, symbol: str = ALL_SYMBOLS) -> list[BankOrder]:
        """List the open orders of a symbol, or of all symbols, oldest first."""
        account = self._desk.account(key)
        return account.open_of(symbol) if symbol else account.open_orders()

    def orders_backwards(self, key: str) -> Iterator[BankOrder]:
        """Go through all orders that ever were, newest first."""
        return reversed(self._desk.account(key).orders.values())

    def set_timer(
        self, key: str, countdown_ms: int, symbol: str = ALL_SYMBOLS
    ) -> int | Refusal | None:
        """Cancel what is open once `countdown_ms` have passed without another call; 0 clears it.

        Each symbol has a timer, and all symbols together have one. Gives when it fires.
        """
        account = self._desk.account(key)
        require(countdown_ms >= 0, f"countdown of {countdown_ms} ms must not be negative")
        if symbol and symbol not in self._desk.rules:
            return Refusal(RefusalReason.UNKNOWN_SYMBOL, f"{symbol!r} is not listed")
        if not countdown_ms:
            account.timers.pop(symbol, None)
            return None
        account.timers[symbol] = self.now_ms + countdown_ms
        return account.timers[symbol]

    def orders(self, key: str, symbol: str = ALL_SYMBOLS, *, after_id: int = 0) -> list[BankOrder]:
        """List orders with a greater id, ended ones too, oldest first."""
        found = self._desk.account(key).orders.values()
        return [one for one in found if one.order_id > after_id and symbol in ("", one.symbol)]

    # ---- the record ------------------------------------------------------------------------------

    def trades(
        self,
        key: str,
        symbol: str = ALL_SYMBOLS,
        *,
        after_id: int = 0,
        since_ms: int = 0,
        limit: int = PAGE_MAX,
    ) -> list[Trade]:
        """List trades with a greater id, not older than `since_ms`, oldest first."""
        trades = self._desk.account(key).trades
        first = max(
            bisect_right(trades, after_id, key=lambda one: one.trade_id),
            bisect_left(trades, since_ms, key=lambda one: one.at_ms),
        )
        found = (one for one in islice(trades, first, None) if symbol in ("", one.symbol))
        return list(islice(found, limit))

    def last_trade_ms(self, key: str, symbol: str) -> int | None:
        """Give when a symbol was last traded, None if it never was."""
        trades = self._desk.account(key).trades
        return next((one.at_ms for one in reversed(trades) if one.symbol == symbol), None)

    def income(
        self,
        key: str,
        *,
        after_id: int = 0,
        since_ms: int = 0,
        kind: IncomeKind | None = None,
        limit: int = PAGE_MAX,
    ) -> list[Income]:
        """List statement lines with a greater id, not older than `since_ms`, oldest first."""
        lines = self._desk.account(key).income
        first = max(
            bisect_right(lines, after_id, key=lambda one: one.income_id),
            bisect_left(lines, since_ms, key=lambda one: one.at_ms),
        )
        found = (one for one in islice(lines, first, None) if kind in (None, one.kind))
        return list(islice(found, limit))

    # ---- what the venue does when a plan of faults says so ---------------------------------------

    def halt(self, symbol: str) -> None:
        """Stop matching in a symbol: nothing is admitted or filled until it is resumed."""
        require(symbol in self._desk.rules, f"{symbol!r} is not listed")
        if symbol not in self._desk.state.halted:
            self._desk.state.halted.append(symbol)

    def resume(self, symbol: str) -> None:
        """Let matching go on."""
        if symbol in self._desk.state.halted:
            self._desk.state.halted.remove(symbol)

    @exactly
    def reduce_forcibly(self, key: str, symbol: str, quantity: Decimal) -> BankOrder | Refusal:
        """Take up to an unsigned `quantity` off a position, as a venue may when others fail."""
        desk, account = self._desk, self._desk.account(key)
        held = account.position(symbol).quantity
        if not held:
            return Refusal(RefusalReason.REDUCE_ONLY, f"nothing of {symbol!r} is held")
        step = desk.rules[symbol].quantity_step
        require(quantity > ZERO and not quantity % step, f"{quantity} must be lots of {step}")
        signed = -held if quantity >= abs(held) else quantity.copy_sign(-held)
        price = best_price(desk, symbol, desk.mark_held(symbol), buys=signed > 0)
        origin = Origin.FORCED_REDUCTION
        enforcement.close_by_venue(desk, account, symbol, signed, price, origin)
        return account.orders[desk.state.last_order_id]

    @exactly
    def liquidate(self, key: str, symbol: str) -> Refusal | None:
        """Take a position over as if its margin were used up."""
        account = self._desk.account(key)
        if symbol not in account.positions:
            return Refusal(RefusalReason.REDUCE_ONLY, f"nothing of {symbol!r} is held")
        enforcement.liquidate(self._desk, account, symbol)
        return None

    @exactly
    def delist(self, symbol: str) -> None:
        """End a contract now, before its time: what is open goes, what is held is settled."""
        require(symbol in self._desk.rules, f"{symbol!r} is not listed")
        self._desk.state.ended_ms[symbol] = self.now_ms
        enforcement.delist(self._desk, symbol)
