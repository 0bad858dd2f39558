"""What moves the market's time: clients in lock-step, or the wall at a fixed factor."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from adapters.rehearsal.exchange import Exchange
from adapters.rehearsal.faults import Fault
from adapters.rehearsal.publication import PRINTS_PER_STEP
from adapters.rehearsal.words import StreamKind

_WALL_PAUSE_MS_MIN: Final = 20.0  # finer instants than this are not worth a wake-up
_MARK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Advance:
    """Answer a client that was idle: the new time, klines closed, whether the market is over."""

    now_ms: int
    published: int
    finished: bool


class Superseded(Exception):
    """Tell a waiting request that its client has sent a newer one."""


class LockStep:
    """Move time when every client has said until when it is idle.

    A client is known by its name from its first request until it leaves or disconnects. Time moves
    to the earliest of all clients' limits and the next instant; everything said at that instant is
    sent before anyone is answered.
    """

    def __init__(self, exchange: Exchange, clients_min: int) -> None:
        self._exchange = exchange
        self._clients_min = clients_min
        self._known: dict[str, None] = {}
        self._idle: dict[str, tuple[int, asyncio.Future[Advance]]] = {}
        self._moving = asyncio.Lock()

    @property
    def clients(self) -> list[str]:
        """List the known clients."""
        return list(self._known)

    async def idle_until(self, client: str, until_ms: int) -> Advance:
        """Wait until time has moved, at most to `until_ms`; replaces the client's older wait."""
        future: asyncio.Future[Advance] = asyncio.get_running_loop().create_future()
        older = self._idle.pop(client, None)
        if older is not None:
            older[1].set_exception(Superseded(f"client {client!r} sent a newer request"))
        self._known[client] = None
        self._idle[client] = (until_ms, future)
        await self._move_if_all_idle()
        try:
            return await future
        except asyncio.CancelledError:
            if self._idle.get(client, (0, None))[1] is future:
                await self.leave(client)
            raise

    async def leave(self, client: str) -> None:
        """Forget a client; those who waited for it may go on."""
        self._known.pop(client, None)
        self._idle.pop(client, None)
        await self._move_if_all_idle()

    async def _move_if_all_idle(self) -> None:
        async with self._moving:
            waiting = len(self._idle)
            if not waiting or waiting < max(self._clients_min, len(self._known)):
                return
            idle, self._idle = self._idle, {}
            answer = await self._move(min(until_ms for until_ms, _ in idle.values()))
            for _, future in idle.values():
                if not future.done():
                    future.set_result(answer)

    async def _move(self, until_ms: int) -> Advance:
        exchange = self._exchange
        next_ms = exchange.next_instant_ms()
        if next_ms is None:
            return Advance(exchange.now_ms, 0, finished=True)
        target_ms = min(next_ms, until_ms)
        if target_ms < next_ms:  # nothing happens on the way, so nothing is said
            exchange.now_ms = max(exchange.now_ms, target_ms)
            return Advance(exchange.now_ms, 0, finished=False)
        published = await exchange.move_to(next_ms)
        return Advance(exchange.now_ms, published, finished=exchange.next_instant_ms() is None)


class WallPace:
    """Move time `factor` times as fast as the wall, instant by instant.

    The clock never passes an instant that has not been announced: a pace too fast for the machine
    slows the market down instead of skipping bars.
    """

    def __init__(self, exchange: Exchange, factor: float) -> None:
        self._exchange = exchange
        self._factor = factor
        self._loop = asyncio.get_running_loop()
        self._anchor_ms = exchange.now_ms
        self._anchor_seconds = self._loop.time()

    def clock_ms(self) -> int:
        """Read the market's time off the wall, held before the next instant."""
        elapsed_ms = (self._loop.time() - self._anchor_seconds) * 1000 * self._factor
        limit_ms = self._next_ms()
        if limit_ms is None:
            return self._exchange.now_ms
        return max(self._exchange.now_ms, min(limit_ms - 1, self._anchor_ms + int(elapsed_ms)))

    async def run(self) -> None:
        """Move the market until it ends."""
        async with asyncio.TaskGroup() as group:
            marks = group.create_task(self._say_marks(), name="marks")
            while (next_ms := self._next_ms()) is not None:
                wall_seconds = (next_ms - self._anchor_ms) / 1000 / self._factor
                pause = self._anchor_seconds + wall_seconds - self._loop.time()
                await asyncio.sleep(max(0.0, pause))
                await self._exchange.move_to(next_ms)
            marks.cancel()

    async def _say_marks(self) -> None:
        """Say mark prices each wall second, as the venue does."""
        hub, faults = self._exchange.hub, self._exchange.faults
        while True:
            await asyncio.sleep(_MARK_SECONDS)
            if faults.is_active(Fault.STALL):
                continue
            kinds = {StreamKind.MARK, StreamKind.ALL_MARKS}
            streams = [stream for stream in hub.streams if stream.kind in kinds]
            for stream, text in self._exchange.current(streams):
                await hub.say(stream, text)

    def _next_ms(self) -> int | None:
        """Give the next instant, refined to prints or steps where the wall leaves time for them."""
        instant_ms = self._exchange.next_instant_ms()
        if instant_ms is None:
            return None
        step_ms = self._exchange.market.step_ms
        now_ms = self._exchange.now_ms
        third_ms = step_ms // (PRINTS_PER_STEP - 1)
        if third_ms / self._factor >= _WALL_PAUSE_MS_MIN:
            opened_ms = now_ms // step_ms * step_ms
            marks = (opened_ms + third_ms, opened_ms + 2 * third_ms, opened_ms + step_ms)
            return min(instant_ms, *(mark for mark in marks if mark > now_ms))
        if step_ms / self._factor >= _WALL_PAUSE_MS_MIN:
            return min(instant_ms, (now_ms // step_ms + 1) * step_ms)
        return instant_ms
