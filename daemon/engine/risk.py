"""The last word before every submit: approve an order or refuse it with a reason.

Every limit is a weight (fraction of equity) and is checked at the worst case of what is open. An
order that only lessens an exposure is never refused for the size of that exposure.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from daemon.domain.instrument import Standing
from daemon.domain.order import Approved, Order, RefusalReason, Refused
from daemon.engine.betas import BetaExposure
from daemon.engine.book import Book
from daemon.engine.limits import RiskLimits as RiskLimits
from daemon.engine.watch import OrderWatch


class TradingState(StrEnum):
    """Say what the daemon may do with orders."""

    STARTING = "starting"
    RECONCILING = "reconciling"
    TRADING = "trading"
    REDUCE_ONLY = "reduce_only"
    HALTED = "halted"


COST_SHARE_MAX: Final = 0.01  # of notional: fee, spread and impact of a fill, generously
_STILL: Final = (int(Standing.GONE), int(Standing.DOUBTED))  # neither opened nor reduced
_CORNERED: Final = (RefusalReason.NET, RefusalReason.BETA)
_TRADING: Final = TradingState.TRADING  # looking up a member of an enum is slow


class Risk:
    """Judge orders against the limits and the book as it stands."""

    def __init__(
        self,
        limits: RiskLimits,
        book: Book,
        sent_ms: list[int] | None = None,
        margins: dict[str, float] | None = None,
    ) -> None:
        self.limits = limits
        self._book = book
        # The very same objects, empty ones too: the state goes on filling them.
        sent_ms = [] if sent_ms is None else sent_ms
        margins = {} if margins is None else margins
        self._watch = OrderWatch.of(limits, book, sent_ms, margins)
        self.read_rules()

    @property
    def watch(self) -> OrderWatch | None:
        """Give what counts orders and looks at prices and venues, where a limit asks for it."""
        return self._watch

    def read_rules(self) -> None:
        """Read the trading rules off the universe, anew after they changed."""
        instruments = self._book.universe.instruments
        self._rules = [i.rules for i in instruments]
        self._notional_min = [float(i.rules.notional_min) for i in instruments]

    def judge(
        self, order: Order, size: float, state: TradingState, now_ms: int, open_n: int
    ) -> Approved | Refused:
        """Approve or refuse; the caller reserves what is approved.

        size: the order's signed quantity as a float, which the caller has at hand.
        """
        # In one piece although it is long: this runs at every order, and calls cost more than sums.
        index, quantity, book = order.index, order.quantity, self._book
        rules, reduces = self._rules[index], book.reduces(index, size)
        if state is not _TRADING:
            if state is not TradingState.REDUCE_ONLY:
                return Refused(order, RefusalReason.HALTED, f"trading state is {state}")
            if not reduces:
                text = f"holds {book.held[index]}, order {size} does not reduce"
                return Refused(order, RefusalReason.REDUCE_ONLY, text)
        standing = book.standing[index]
        if standing and (standing in _STILL or not reduces):
            return Refused(order, RefusalReason.STANDING, f"it is {Standing(standing).words}")
        if quantity % rules.quantity_step:
            text = f"{quantity} off step {rules.quantity_step}"
            return Refused(order, RefusalReason.QUANTITY_STEP, text)
        if abs(quantity) < rules.quantity_min:
            text = f"{quantity} below {rules.quantity_min}"
            return Refused(order, RefusalReason.QUANTITY_MIN, text)
        mark = book.prices[index]
        if not mark > 0:
            return Refused(order, RefusalReason.PRICE, f"mark is {mark}")
        age_ms = now_ms - book.mark_ms.item(index)
        if age_ms > self.limits.mark_age_ms_max:
            return Refused(order, RefusalReason.STALE, f"mark is {age_ms} ms old")
        value = size * mark
        if abs(value) < self._notional_min[index] and not order.reduce_only:
            closes = reduces and abs(size) == abs(book.held[index])
            if not closes:
                text = f"{abs(value):.2f} below {rules.notional_min}"
                return Refused(order, RefusalReason.NOTIONAL_MIN, text)
        if open_n >= self.limits.orders_open_max:
            return Refused(order, RefusalReason.ORDER_COUNT, f"{open_n} orders are open")
        if self._watch is not None:
            refused = self._watch.refusal(order, value, now_ms, reduces=reduces)
            if refused is not None:
                return refused
        found = self._too_large(index, size, value, reduces)
        if found is None or (not open_n and reduces and self._relieves(found[0], index, value)):
            return Approved(order)
        return Refused(order, *found)

    def _relieves(self, reason: RefusalReason, index: int, value: float) -> bool:
        """Tell whether a closing order, alone, may pass a bound: see `BetaRoom.relieves`."""
        book, limits = self._book, self.limits
        if reason not in _CORNERED or book.beta is None or limits.beta_weight_max is None:
            return False
        room = book.beta.room(limits.beta_weight_max * book.equity)
        return (
            room.relieves(index, value, book.net, limits.net_weight_max * book.equity) is not None
        )

    def _too_large(
        self, index: int, quantity: float, value: float, reduces: bool
    ) -> tuple[RefusalReason, str] | None:
        book, limits = self._book, self.limits
        equity = book.cash + book.net
        if equity <= 0:
            return None if reduces else (RefusalReason.GROSS, f"equity is {equity:.2f}")
        if abs(value) > limits.order_weight_max * equity:
            return RefusalReason.ORDER_SIZE, f"{abs(value) / equity:.4f} of equity"
        up, down = book.pending_up, book.pending_down
        worst = book.net + (up if value > 0 else -down) + value
        # Fills cost something, which lowers the equity that the bound is a share of.
        left = equity - COST_SHARE_MAX * (up + down + abs(value))
        outside = abs(worst) > limits.net_weight_max * left
        if outside and not abs(worst) < abs(worst - value):
            return RefusalReason.NET, f"net could reach {worst / equity:+.4f} of equity"
        if book.beta is not None and limits.beta_weight_max is not None:
            found = _beta_too_large(book.beta, index, value, limits.beta_weight_max * left)
            if found is not None:
                return RefusalReason.BETA, f"beta could reach {found / equity:+.4f} of equity"
        if reduces:
            return None
        name, gross = book.worst_name_and_gross(index, quantity)
        if name > limits.name_weight_max * equity:
            return RefusalReason.NAME, f"{name / equity:.4f} of equity in one name"
        if gross > limits.gross_weight_max * equity and gross > book.gross_worst:
            return RefusalReason.GROSS, f"gross could reach {gross / equity:.4f} of equity"
        return None


def _beta_too_large(beta: BetaExposure, index: int, value: float, bound: float) -> float | None:
    """Give the beta exposure that an order's signed notional could lead to beyond the bound.

    None where it stays inside, or where the order brings the worst case back.
    """
    change = value * beta.betas[index]
    worst = beta.net + (beta.up if change > 0 else -beta.down) + change
    outside = abs(worst) > bound and not abs(worst) < abs(worst - change)
    return worst if outside else None
