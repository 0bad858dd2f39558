"""Count what is under way and wait until little enough of it is left."""

from __future__ import annotations

import asyncio

from daemon.domain.units import require


class Gauge:
    """Hold a count >= 0; waiting costs nothing while nothing changes."""

    def __init__(self) -> None:
        self.count = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def change(self, by: int) -> None:
        """Add to the count and wake whoever waits for this level."""
        self.count += by
        require(self.count >= 0, f"more was finished than begun: {self.count}")
        if by < 0 and self._waiting:
            kept = []
            for limit, future in self._waiting:
                if self.count <= limit and not future.done():
                    future.set_result(None)
                elif not future.done():
                    kept.append((limit, future))
            self._waiting = kept

    async def at_most(self, limit: int) -> None:
        """Return once the count is `limit` or less."""
        while self.count > limit:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((limit, future))
            await future
