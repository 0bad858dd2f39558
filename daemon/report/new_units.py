"""A run over a change of units, shown in the newest ones: records, fills and decisions alike.

Gains are taken from one mark to the next, which must be of one unit.
"""

from __future__ import annotations

from msgspec.structs import replace

from daemon.domain.decision import Decision
from daemon.domain.messages import Rescaled
from daemon.domain.order import Fill, Order
from daemon.domain.scales import rescaled_quantity
from daemon.report.run import Execution


def show_in_new_units(
    event: Rescaled,
    executions: list[Execution],
    decisions: list[Decision],
    before_ms: int | None = None,
) -> None:
    """Change the lists in place; before_ms: only what lies before it, None for all."""
    index, new_n, old_n = event.index, event.new_n, event.old_n
    for at, one in enumerate(executions):
        is_mine = isinstance(one, Fill) and one.index == index
        if is_mine and isinstance(one, Fill) and (before_ms is None or one.at_ms < before_ms):
            quantity = rescaled_quantity(one.quantity, new_n, old_n)
            price = rescaled_quantity(one.price, old_n, new_n)
            executions[at] = replace(one, quantity=quantity, price=price)
    for at, decision in enumerate(decisions):
        if before_ms is None or decision.as_of_ms < before_ms:
            marks = decision.marks.copy()
            marks[index] = marks[index] * old_n / new_n
            orders = tuple(_order(one, event) for one in decision.orders)
            decisions[at] = replace(decision, marks=marks, orders=orders)


def _order(order: Order, event: Rescaled) -> Order:
    if order.index != event.index:
        return order
    price = order.reference_price * event.old_n / event.new_n
    quantity = rescaled_quantity(order.quantity, event.new_n, event.old_n)
    return replace(order, quantity=quantity, reference_price=price)
