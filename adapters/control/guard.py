"""Stand between the shell and a venue: no order passes while a halt latch is set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adapters.control.latch import Latches
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import OrderRejected, VenueEvent
from daemon.domain.order import Order, OrderId
from daemon.ports import OrderEntry


class LatchedOrders:
    """Look at the latches immediately before every submit; cancel and query always pass.

    A latch that is set while a batch is on its way does not call it back: halting does.
    """

    def __init__(self, orders: OrderEntry, latches: Latches, now: Callable[[], int]) -> None:
        self._orders = orders
        self._latches = latches
        self._now = now

    async def submit(self, orders: Sequence[Order]) -> Sequence[VenueEvent]:
        """Send orders, or answer that they were certainly never sent."""
        halt = self._latches.found()
        if halt is None:
            return await self._orders.submit(orders)
        at_ms = self._now()
        return [OrderRejected(o.order_id, at_ms, f"not sent: {halt.reason}") for o in orders]

    async def cancel(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        """Stop one order."""
        return await self._orders.cancel(order_id, key)

    async def query(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        """Ask what became of an order."""
        return await self._orders.query(order_id, key)
