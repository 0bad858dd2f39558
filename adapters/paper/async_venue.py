"""Put the ports OrderEntry and AccountView in front of the paper venue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Self

from adapters.paper.venue import PaperVenue
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import MarketEvent, VenueEvent
from daemon.domain.order import Order, OrderId


class AsyncPaperVenue:
    """Call the venue one thing at a time: in a thread when it waits for a disk, else in place.

    A call whose caller is cancelled is finished all the same; asking again tells its outcome.
    """

    def __init__(self, core: PaperVenue) -> None:
        self.core = core
        self._thread = ThreadPoolExecutor(1, "paper-venue") if core.is_durable else None

    async def submit(self, orders: Sequence[Order]) -> Sequence[VenueEvent]:
        """Send orders once, in this order."""
        return await self._call(partial(self.core.submit, orders))

    async def cancel(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        """Stop one order; an order that already ended answers with how it ended."""
        return await self._call(partial(self.core.cancel, order_id, key))

    async def query(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        """Ask what became of an order: its fills and state, or OrderAbsent."""
        return await self._call(partial(self.core.query, order_id, key))

    async def snapshot(self, executions_cursor: int, venue: str) -> Sequence[VenueEvent]:
        """Give fills and cash flows after the cursor, then one Snapshotted of that venue."""
        return await self._call(partial(self.core.snapshot, executions_cursor, venue))

    async def observe(self, event: MarketEvent) -> Sequence[VenueEvent]:
        """Show the venue a market event before the engine sees it."""
        return await self._call(partial(self.core.observe, event))

    async def close(self) -> None:
        """Finish what runs and end the thread; the store is closed by whoever opened it."""
        if self._thread is not None:
            await asyncio.to_thread(self._thread.shutdown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _call(self, call: Callable[[], list[VenueEvent]]) -> list[VenueEvent]:
        if self._thread is None:
            return call()
        running = asyncio.get_running_loop().run_in_executor(self._thread, call)
        return await asyncio.shield(running)
