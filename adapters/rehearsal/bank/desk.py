"""The desk: the state with what every part of the bank needs to read and to say.

It knows how to look things up, to number and to announce; what may be done and what it costs is
decided in `admission`, `matching`, `ledger` and `margin`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from msgspec.structs import replace

from adapters.rehearsal.bank.records import (
    Account,
    BankEvent,
    BankOrder,
    BankState,
    EndReason,
    OrderStatus,
    OrderUpdated,
)
from adapters.rehearsal.bank.terms import (
    BankSettings,
    OrderRequest,
    Quotes,
    SymbolRules,
    UnknownAccount,
)
from daemon.domain.failures import InvariantViolated
from daemon.domain.units import require


class Desk:
    """Hold rules, quotes, settings and state; `marks` are the last prices at the state's instant.

    A mark is read from the quotes when it is first wanted at an instant, and moves with the prints
    while time is being advanced.
    """

    def __init__(
        self,
        rules: Mapping[str, SymbolRules],
        quotes: Quotes,
        settings: BankSettings,
        state: BankState,
    ) -> None:
        self.rules = dict(rules)
        self.quotes = quotes
        self.settings = settings
        self.state = state
        self.marks: dict[str, Decimal] = {}

    @property
    def now_ms(self) -> int:
        """Give the market's instant."""
        return self.state.now_ms

    def account(self, key: str) -> Account:
        """Look an account up; raise UnknownAccount."""
        account = self.state.accounts.get(key)
        if account is None:
            # the key itself stays out of the message: messages end up in logs
            raise UnknownAccount("no account was opened for this API key")
        return account

    def mark(self, symbol: str) -> Decimal | None:
        """Give the last price now, None before the first.

        Where the quotes forget it over a long hole, the one known when time last moved stands.
        """
        found = self.marks.get(symbol)
        if found is None:
            found = self.quotes.last_price(symbol, self.now_ms)
            found = self.state.last_marks.get(symbol) if found is None else found
            if found is not None:
                self.marks[symbol] = found
        return found

    def mark_held(self, symbol: str) -> Decimal:
        """Give the last price of a symbol that is traded; there is always one."""
        found = self.mark(symbol)
        if found is None:
            raise InvariantViolated(f"{symbol} is in use and has no price at {self.now_ms}")
        return found

    def is_halted(self, symbol: str) -> bool:
        """Tell whether matching in a symbol stands still."""
        return symbol in self.state.halted

    def end_of(self, symbol: str) -> int | None:
        """Give when a contract ends or ended, None while nobody knows."""
        return self.state.ended_ms.get(symbol, self.rules[symbol].delisted_ms)

    # ---- numbers and announcements ---------------------------------------------------------------

    def next_event(self) -> int:
        """Give the next event's number."""
        self.state.last_event += 1
        return self.state.last_event

    def say(self, event: BankEvent) -> None:
        """Announce; the event must carry the number just drawn."""
        last = self.state.last_event
        require(event.number == last, f"event {event.number} is announced as number {last}")
        self.state.outbox.append(event)

    def say_order(self, account: Account, order: BankOrder) -> None:
        """Announce an order's admission or end."""
        self.say(OrderUpdated(self.next_event(), account.key, self.now_ms, order))

    # ---- the life of an order --------------------------------------------------------------------

    def enter_order(self, account: Account, request: OrderRequest, latency_ms: int) -> BankOrder:
        """Give an admitted order its number, file it as open and announce it."""
        self.state.last_order_id += 1
        order_id = self.state.last_order_id
        order = BankOrder(
            order_id=order_id,
            client_id=request.client_id or f"{request.origin}-{order_id}",
            symbol=request.symbol,
            quantity=request.quantity,
            kind=request.kind,
            price=request.price,
            time_in_force=request.time_in_force,
            reduce_only=request.reduce_only,
            origin=request.origin,
            created_ms=self.now_ms,
            active_ms=self.now_ms + latency_ms,
            updated_ms=self.now_ms,
        )
        account.orders[order_id] = order
        account.open_ids.setdefault(order.symbol, []).append(order_id)
        account.newest_by_client_id[order.client_id] = order_id
        self.say_order(account, order)
        return order

    def keep_order(self, account: Account, order: BankOrder) -> None:
        """Replace an order by its newer self and take it off the open ones where it ended."""
        account.orders[order.order_id] = order
        if not order.is_open:
            ids = account.open_ids[order.symbol]
            ids.remove(order.order_id)
            if not ids:
                del account.open_ids[order.symbol]

    def end_order(
        self, account: Account, order: BankOrder, status: OrderStatus, reason: EndReason
    ) -> BankOrder:
        """End an open order and announce it."""
        require(order.is_open, f"order {order.order_id} ended before, as {order.status}")
        ended = replace(order, status=status, end_reason=reason, updated_ms=self.now_ms)
        self.keep_order(account, ended)
        self.say_order(account, ended)
        return ended
