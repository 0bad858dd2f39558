"""Hand events from the pump to the one consumer, and tell who waits when all of them were taken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from daemon.domain.messages import MarketEvent
from daemon.domain.units import iso

SETTLING_TIMED_OUT: Final = "settling_timed_out"
OUT_EVENTS_MAX: Final = 10_000

_log = structlog.get_logger()


class Delivery:
    """Keep what is to be taken; the pump says how far it is, `settled` waits for it.

    wanted_ms: up to where somebody waits for all events. done_ms: up to where the pump has nothing
    more to tell. hurry: called when somebody begins to wait.
    """

    def __init__(
        self, after_ms: int, timeout_s: float, exchange: str, hurry: Callable[[], None]
    ) -> None:
        self._timeout_s = timeout_s
        self._exchange = exchange
        self._hurry = hurry
        self._events: deque[MarketEvent] = deque()
        self._news, self._progress = asyncio.Event(), asyncio.Event()
        self._consumer_waits = False
        self.stopped = False
        self.wanted_ms = self.done_ms = after_ms

    def put(self, event: MarketEvent) -> None:
        """Append at once: revisions, rates and notices, of which there are few."""
        self._events.append(event)
        self._news.set()

    async def hand_out(self, event: MarketEvent) -> None:
        """Append when there is room; a full buffer holds the pump back."""
        while len(self._events) >= OUT_EVENTS_MAX and not self.stopped:
            self._progress.clear()
            await self._progress.wait()
        self.put(event)

    def done(self, until_ms: int) -> None:
        """Note that everything up to `until_ms` was handed out."""
        self.done_ms = max(self.done_ms, until_ms)
        self._progress.set()

    async def next_event(self, task: asyncio.Task[None]) -> MarketEvent | None:
        """Wait for the next event; None after `stop`. Raises what ended the pump."""
        while True:
            if self._events:
                return self._events.popleft()
            if task.done() and not task.cancelled():
                task.result()
            if self.stopped or task.done():
                return None
            self._consumer_waits = True
            self._progress.set()
            try:
                self._news.clear()
                await self._news.wait()
            finally:
                self._consumer_waits = False

    async def settled(self, now_ms: int) -> None:
        """Wait until everything up to `now_ms` was handed out and taken."""
        self.wanted_ms = max(self.wanted_ms, now_ms)
        self._hurry()
        try:
            async with asyncio.timeout(self._timeout_s):
                while not self.stopped:
                    self._progress.clear()
                    if self.done_ms >= now_ms and not self._events and self._consumer_waits:
                        return
                    await self._progress.wait()
        except TimeoutError:
            _log.warning(SETTLING_TIMED_OUT, now=iso(now_ms), exchange=self._exchange)

    def wake(self) -> None:
        """Let everyone who waits look again."""
        self._news.set()
        self._progress.set()
