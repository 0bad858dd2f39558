"""What an order's life was, told again to whoever asks."""

from __future__ import annotations

from adapters.paper.state import PaperOrder, PaperStatus
from daemon.domain.messages import (
    OrderAccepted,
    OrderEnded,
    OrderFilled,
    OrderRejected,
    VenueEvent,
)
from daemon.domain.order import Order


def story(record: PaperOrder) -> list[VenueEvent]:
    """Tell an order's life from the start."""
    order_id = record.order.order_id
    events: list[VenueEvent] = []
    at_once = len(record.fills) == 1 and record.fills[0].at_ms == record.accepted_ms
    if record.status is not PaperStatus.FILLED or not at_once:
        events.append(OrderAccepted(order_id, record.accepted_ms))
    events.extend(OrderFilled(fill) for fill in record.fills)
    if record.status in (PaperStatus.CANCELLED, PaperStatus.EXPIRED):
        events.append(OrderEnded(order_id, record.ended_ms, record.reason))
    return events


def answer_again(known: PaperOrder, order: Order, now_ms: int) -> list[VenueEvent]:
    """Answer an order whose id was used before: with its story, if it is the same order."""
    if _terms_of(known.order) == _terms_of(order):
        return story(known)
    reason = f"order id {order.order_id} is taken by an order with other terms"
    return [OrderRejected(order.order_id, now_ms, reason)]


def _terms_of(order: Order) -> tuple[object, ...]:
    how = order.kind, order.limit_price, order.reduce_only, order.post_only
    return order.key, order.quantity, *how
