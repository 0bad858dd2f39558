"""Say why the paper venue does not take an order: lot, tick, minima, reduce-only."""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation
from typing import Final

from adapters.paper.rule import Terms
from daemon.domain.order import Order, OrderKind

_ZERO: Final = Decimal(0)
_LIMIT: Final = OrderKind.LIMIT  # looking up a member of an enum is slow


class Admission:
    """Check orders against the trading rules of their instruments."""

    def __init__(self, instruments_n: int) -> None:
        # by index: at a mark >= the first, a size >= the second is above the minimum notional
        self._enough: list[tuple[float, Decimal]] = [(math.inf, _ZERO)] * instruments_n

    def refusal(self, order: Order, terms: Terms, held: Decimal, mark: float) -> str | None:
        """Give the reason to refuse an order, or None.

        held: the signed position. mark: last close, which values the order; NaN = unknown, then the
        order's own reference price does.
        """
        quantity = order.quantity
        if not quantity or not is_multiple(quantity, terms.quantity_step):
            return f"quantity {quantity} is no multiple of the lot {terms.quantity_step}"
        size, closes_all = abs(quantity), False
        if order.reduce_only:
            if held * quantity >= 0:
                return f"reduce_only order of {quantity} does not reduce the position {held}"
            # What partial fills left over may be below the minimum and must still be closable.
            closes_all = size >= abs(held)
        if size < terms.quantity_min and not closes_all:
            return f"quantity {quantity} is below the minimum {terms.quantity_min}"
        if order.kind is _LIMIT:
            limit = order.limit_price
            if limit is None or not is_multiple(limit, terms.price_step) or limit <= 0:
                return f"limit price {limit} is no multiple of the tick {terms.price_step}"
        elif order.post_only:
            return "a post-only order needs a limit price"
        if order.reduce_only:
            return None
        mark = mark if mark == mark else order.reference_price
        mark_min, enough = self._enough[terms.index]
        is_enough = mark >= mark_min and size >= enough
        return None if is_enough else self._notional_refusal(size, mark, terms)

    def _notional_refusal(self, size: Decimal, mark: float, terms: Terms) -> str | None:
        least = terms.notional_min
        if not mark > 0:
            return f"no price is known to value {size} at" if least else None
        exact_mark = Decimal(repr(mark))
        # As long as the mark has not halved, twice the minimum needs no exact look.
        self._enough[terms.index] = (mark / 2, 2 * least / exact_mark)
        notional = size * exact_mark
        return None if notional >= least else f"notional {notional} is below the minimum {least}"


def is_beyond(price: Decimal, quantity: Decimal, limit: Decimal | None) -> bool:
    """Tell whether a price (after all costs) is worse than the limit of a signed quantity."""
    return limit is not None and (price > limit if quantity > 0 else price < limit)


def taking(order: Order, reference: float) -> str | None:
    """Say that a post-only order would trade at once; None where it rests or nothing is known."""
    limit = order.limit_price
    if limit is None or not reference > 0:
        return None
    exact = Decimal(repr(reference))
    takes = limit >= exact if order.quantity > 0 else limit <= exact
    return f"a post-only order at {limit} would take at {exact}" if takes else None


def maker_price(order: Order, reference: float) -> Decimal:
    """Give the limit of a resting post-only order once the market went past it, else zero.

    Touching is not enough, and nothing better than the limit is paid: whoever waits in a queue does
    not get the price after it. It pays neither spread nor impact.
    """
    limit, exact = order.limit_price or _ZERO, Decimal(repr(reference))
    past = exact < limit if order.quantity > 0 else exact > limit
    return limit if past else _ZERO


def is_multiple(value: Decimal, step: Decimal) -> bool:
    """Tell whether a value is finite and a whole number of steps."""
    try:
        return not value % step
    except InvalidOperation:  # infinite, or more than 28 digits of steps
        return False
