"""What the venue keeps of an account beside the bank: its executions in their order.

The bank knows fills and funding apart; here they are one row, as they were announced. Whoever wants
to say them on sockets is told after they were kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from adapters.rehearsal.accounts import Accounts
from adapters.rehearsal.bank.records import (
    FLAT,
    BankEvent,
    BankOrder,
    BankPosition,
    FundingBooked,
    Income,
    OrderFilled,
)
from adapters.rehearsal.bank.terms import ZERO, MarginMode, Refusal
from adapters.rehearsal.bybit import payloads
from adapters.rehearsal.bybit.payloads import (
    CoinFacts,
    Execution,
    Filled,
    FundingPaid,
    PositionFacts,
    PositionHistory,
)
from daemon.domain.units import money


@dataclass(slots=True)
class _Log:
    """Hold the statement as written so far; together: the lines of its last row."""

    last_id: int = 0
    rows: list[dict[str, object]] = field(default_factory=list)
    cash: dict[str, Decimal] = field(default_factory=dict)
    held: dict[str, Decimal] = field(default_factory=dict)
    together: list[Income] = field(default_factory=list)


class Record:
    """Keep executions and fees by account, and write what is asked of the bank."""

    def __init__(self, accounts: Accounts, maintenance_bps: Decimal) -> None:
        self._accounts = accounts
        self._maintenance_bps = maintenance_bps
        self._executions: dict[str, list[Execution]] = {}
        self._fees: dict[int, Decimal] = {}
        self._fills: dict[int, Filled] = {}
        self._histories: dict[tuple[str, str], PositionHistory] = {}
        self._logs: dict[str, _Log] = {}
        accounts.listen(self._keep)

    def _keep(self, events: Sequence[BankEvent]) -> None:
        for event in events:
            kept = execution_of(event)
            if kept is None:
                continue
            self._executions.setdefault(event.account, []).append(kept)
            if isinstance(kept, Filled):
                trade = kept.trade
                self._fills[trade.trade_id] = kept
                self._fees[trade.order_id] = self._fees.get(trade.order_id, ZERO) + trade.fee
            self._add_to_history(event, kept)

    def _add_to_history(self, event: BankEvent, one: Execution) -> None:
        if isinstance(one, Filled):
            symbol, quantity = one.trade.symbol, one.trade.quantity
            brought = one.trade.realised - one.trade.fee
        else:
            symbol, quantity, brought = one.income.symbol, ZERO, one.income.amount
        history = self._histories.setdefault((event.account, symbol), PositionHistory())
        before, after = history.quantity, history.quantity + quantity
        if not before or before * after < 0:  # opened, from nothing or from the other side
            history.current, history.created_ms = ZERO, event.at_ms
        history.quantity = after
        history.current += brought
        history.all += brought
        history.updated_ms, history.seq = event.at_ms, event.number

    def executions(self, key: str) -> Sequence[Execution]:
        """Give all fills and funding payments of an account, oldest first."""
        return self._executions.get(key, ())

    def order_row(self, order: BankOrder) -> dict[str, object]:
        """Write an order."""
        return payloads.order_row(order, self._fees.get(order.order_id, ZERO))

    def position_row(
        self, key: str, symbol: str, held: BankPosition | None = None
    ) -> dict[str, object]:
        """Write a position as it is, or as it was told to be; one without a price is flat."""
        view = self._accounts.bank.position(key, symbol)
        history = self._histories.get((key, symbol), PositionHistory())
        if isinstance(view, Refusal):
            facts = PositionFacts(symbol, FLAT, ZERO, 1, MarginMode.CROSS, ZERO, history)
            return payloads.position_row(facts)
        facts = PositionFacts(
            symbol,
            view.position if held is None else held,
            view.mark,
            view.leverage,
            view.margin_mode,
            self._maintenance_bps,
            history,
        )
        return payloads.position_row(facts)

    def wallet_row(self, key: str) -> dict[str, object]:
        """Write the whole wallet of an account; contracts settle in USDT."""
        bank, usdt = self._accounts.bank, "USDT"
        views = bank.positions(key)
        needed = sum((money(abs(v.position.quantity) * v.mark / v.leverage) for v in views), ZERO)
        brought = sum((h.all for (owner, _), h in self._histories.items() if owner == key), ZERO)
        return payloads.wallet_row(
            [
                CoinFacts(
                    bank.balance(key, currency),
                    needed if currency == usdt else ZERO,
                    brought if currency == usdt else ZERO,
                )
                for currency in bank.currencies(key)
            ]
        )

    def log(self, key: str) -> list[dict[str, object]]:
        """Give the statement, oldest first: what a fill gained and its fee are one row."""
        log = self._logs.setdefault(key, _Log())
        while page := self._accounts.bank.income(key, after_id=log.last_id):
            for line in page:
                of_last = log.together and line.trade_id is not None
                if not of_last or line.trade_id != log.together[0].trade_id:
                    log.together = []
                log.together.append(line)
                log.cash[line.currency] = log.cash.get(line.currency, ZERO) + line.amount
                row = self._log_row(log, line)
                log.rows[len(log.rows) - (len(log.together) > 1) :] = [row]
                log.last_id = line.income_id
        return log.rows

    def _log_row(self, log: _Log, line: Income) -> dict[str, object]:
        fill = None if line.trade_id is None else self._fills.get(line.trade_id)
        if fill is not None and len(log.together) == 1:
            log.held[line.symbol] = log.held.get(line.symbol, ZERO) + fill.trade.quantity
        held = log.held.get(line.symbol, ZERO)
        return payloads.log_row(log.together, fill, log.cash[line.currency], held)


def execution_of(event: BankEvent) -> Execution | None:
    """Give the execution that an event tells of, None where it tells of none."""
    if isinstance(event, OrderFilled):
        return Filled(event.trade, event.order)
    if isinstance(event, FundingBooked):
        return FundingPaid(event.income, event.rate, event.quantity, event.mark)
    return None
