"""Listen to one server for as long as the daemon lives, through all its outages.

The counterpart of `outbox`: what comes in is handed to a desk, which says what is answered. A
server that is away is asked again with a growing pause; an outage is logged when it begins and when
it ends. No failure of a listener reaches trading.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Final, Protocol

import structlog

from daemon.domain.log_events import LogEvent

PAUSE_S_MIN: Final = 0.2
PAUSE_S_MAX: Final = 5.0
STEADY_S: Final = 5.0
ANSWERS_AWAITED_MAX: Final = 64
REFUSED_PAUSE_S: Final = 0.02  # between refused payloads, so that a flood takes no time of trading

_log = structlog.get_logger()


class Ticket(Protocol):
    """Stand for a request that was taken."""

    async def answer(self) -> str | None:
        """Give the payload to answer with; None when there is none in time."""
        ...


class Desk(Protocol):
    """Take payloads from outside."""

    async def take(self, payload: bytes, *, via: str, refusal: str = "") -> Ticket | None:
        """Keep a request for good, or refuse it; None is to be met with silence.

        via: the transport, for the log. refusal: why the transport would not have it obeyed.
        """
        ...


Serve = Callable[[Callable[[], None]], Awaitable[None]]
"""Connects, calls what it is given once it hears, and listens until that fails."""


class Listener:
    """Run `serve` again and again, with bounded pauses."""

    def __init__(self, serve: Serve, *, server: str) -> None:
        self._serve = serve
        self._server = server  # an address without login, for the log
        self._heard_from_s: float | None = None
        self.is_away = False
        self.attempts = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen in the background for as long as the context lasts."""
        task = asyncio.create_task(self._run(), name=f"commands from {self._server}")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        pause_s = PAUSE_S_MIN
        while True:
            self._heard_from_s = None
            try:
                await self._serve(self._came_back)
            except Exception as failure:  # noqa: BLE001  a listener must not stop trading
                self._went_away(failure)
            self.attempts += 1
            # a server that only flaps is left alone for longer and longer
            is_new = self._heard_longer_than(STEADY_S)
            pause_s = PAUSE_S_MIN if is_new else min(2 * pause_s, PAUSE_S_MAX)
            await asyncio.sleep(pause_s)

    def _heard_longer_than(self, seconds: float) -> bool:
        since_s = self._heard_from_s
        return since_s is not None and asyncio.get_running_loop().time() - since_s > seconds

    def _came_back(self) -> None:
        self._heard_from_s = asyncio.get_running_loop().time()
        if self.is_away:
            _log.info(LogEvent.COMMANDS_HEARD_AGAIN, server=self._server, attempts=self.attempts)
        self.is_away = False
        self.attempts = 0

    def _went_away(self, failure: Exception) -> None:
        if not self.is_away:
            self.is_away = True
            why = f"{type(failure).__name__}: {failure}"
            _log.warning(LogEvent.COMMANDS_UNHEARD, server=self._server, why=why)


class Followers:
    """Wait for the answers to what was taken, so that nothing taken later waits for them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, answering: Coroutine[object, object, None]) -> None:
        """Wait in the background; with too many waiting already the answer is not told."""
        if len(self._tasks) >= ANSWERS_AWAITED_MAX:
            answering.close()
            return
        task = asyncio.create_task(answering, name="answer to a command")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its server is away: the listener says so

    async def close(self) -> None:
        """End all that still wait."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
