"""The last word before every submit: approve an order or refuse it with a reason.

Every limit is a weight (fraction of equity) and is checked at the worst case of what is open. An
order that only lessens an exposure is never refused for the size of that exposure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from daemon.domain.order import Approved, Order, RefusalReason, Refused
from daemon.domain.units import require
from daemon.engine.book import Book


class TradingState(StrEnum):
    """Say what the daemon may do with orders."""

    STARTING = "starting"
    RECONCILING = "reconciling"
    TRADING = "trading"
    REDUCE_ONLY = "reduce_only"
    HALTED = "halted"


_TRADING: Final = TradingState.TRADING  # looking up a member of an enum is slow


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """Bound the book, in weights unless the name says otherwise.

    net_weight_max holds at every instant, counting open orders at their worst case.
    mark_age_ms_max: an instrument without a newer price than this is not traded.
    """

    gross_weight_max: float = 2.0
    net_weight_max: float = 0.25
    name_weight_max: float = 0.5
    order_weight_max: float = 0.25
    orders_open_max: int = 500
    mark_age_ms_max: int = 4 * 3_600_000

    def __post_init__(self) -> None:
        for name in ("gross_weight_max", "net_weight_max", "name_weight_max", "order_weight_max"):
            require(getattr(self, name) > 0, f"{name} {getattr(self, name)} must be positive")


class Risk:
    """Judge orders against the limits and the book as it stands."""

    def __init__(self, limits: RiskLimits, book: Book) -> None:
        self.limits = limits
        self._book = book
        instruments = book.universe.instruments
        self._rules = [i.rules for i in instruments]
        self._notional_min = [float(i.rules.notional_min) for i in instruments]

    def judge(
        self, order: Order, state: TradingState, now_ms: int, open_n: int
    ) -> Approved | Refused:
        """Approve or refuse; the caller reserves what is approved."""
        index, quantity = order.index, float(order.quantity)
        reduces = self._book.reduces(index, quantity)
        found = self._forbidden(order, quantity, reduces, state, now_ms)
        if found is None and open_n >= self.limits.orders_open_max:
            found = RefusalReason.ORDER_COUNT, f"{open_n} orders are open"
        if found is None:
            found = self._too_large(index, quantity, reduces)
        if found is None:
            return Approved(order)
        return Refused(order, *found)

    def _forbidden(
        self, order: Order, quantity: float, reduces: bool, state: TradingState, now_ms: int
    ) -> tuple[RefusalReason, str] | None:
        index, book = order.index, self._book
        rules, held = self._rules[index], book.held[index]
        if state is not _TRADING:
            if state is not TradingState.REDUCE_ONLY:
                return RefusalReason.HALTED, f"trading state is {state}"
            if not reduces:
                return RefusalReason.REDUCE_ONLY, f"holds {held}, order {quantity} does not reduce"
        if order.quantity % rules.quantity_step:
            return RefusalReason.QUANTITY_STEP, f"{order.quantity} off step {rules.quantity_step}"
        if abs(order.quantity) < rules.quantity_min:
            return RefusalReason.QUANTITY_MIN, f"{order.quantity} below {rules.quantity_min}"
        mark = book.prices[index]
        if not mark > 0:
            return RefusalReason.PRICE, f"mark is {mark}"
        age_ms = now_ms - book.mark_ms.item(index)
        if age_ms > self.limits.mark_age_ms_max:
            return RefusalReason.STALE, f"mark is {age_ms} ms old"
        notional = abs(quantity) * mark
        closes = reduces and abs(quantity) == abs(held)
        if notional < self._notional_min[index] and not (closes or order.reduce_only):
            return RefusalReason.NOTIONAL_MIN, f"{notional:.2f} below {rules.notional_min}"
        return None

    def _too_large(
        self, index: int, quantity: float, reduces: bool
    ) -> tuple[RefusalReason, str] | None:
        book, limits = self._book, self.limits
        equity = book.cash + book.net
        if equity <= 0:
            return None if reduces else (RefusalReason.GROSS, f"equity is {equity:.2f}")
        mark = book.prices[index]
        value = quantity * mark
        if abs(value) > limits.order_weight_max * equity:
            return RefusalReason.ORDER_SIZE, f"{abs(value) / equity:.4f} of equity"
        side = book.pending_up if value > 0 else -book.pending_down
        worst = book.net + side + value
        if abs(worst) > limits.net_weight_max * equity and not abs(worst) < abs(worst - value):
            return RefusalReason.NET, f"net could reach {worst / equity:+.4f} of equity"
        if reduces:
            return None
        name, gross = book.worst_name_and_gross(index, quantity)
        if name > limits.name_weight_max * equity:
            return RefusalReason.NAME, f"{name / equity:.4f} of equity in one name"
        if gross > limits.gross_weight_max * equity and gross > book.gross_worst:
            return RefusalReason.GROSS, f"gross could reach {gross / equity:.4f} of equity"
        return None
