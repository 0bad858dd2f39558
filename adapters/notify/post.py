"""Bring the messages of one way to people, one after another, through all its outages.

The outbox is bounded; the oldest that is not critical makes room first. Every attempt has a total
time, failures are tried again with growing pauses, and an outage is logged when it begins and when
it ends. Each way has a task of its own: one that stalls holds up nobody else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import structlog

from daemon.domain.log_events import LogEvent
from daemon.status.notices import Message, Severity

WAITING_MAX: Final = 100
SEND_S_MAX: Final = 15.0
PAUSE_S_MIN: Final = 1.0
PAUSE_S_MAX: Final = 60.0
RETRY_AFTER_S_MAX: Final = 300.0
FAREWELL_S_MAX: Final = 1.0

_log = structlog.get_logger()


class Undelivered(Exception):
    """Say why a message did not arrive; is_final: it never will. Holds no secret."""

    def __init__(self, why: str, *, is_final: bool = False, after_s: float | None = None) -> None:
        super().__init__(why)
        self.is_final = is_final
        self.after_s = after_s


class Channel(Protocol):
    """Be one way to people."""

    @property
    def name(self) -> str:
        """Give the short name of the way."""
        ...

    @property
    def server(self) -> str:
        """Say where it leads, without any secret."""
        ...

    async def send(self, message: Message) -> str:
        """Deliver and give the server's answer in a few words; raises Undelivered."""
        ...


class Post:
    """Deliver what is put, for as long as `running` lasts."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: deque[Message] = deque()
        self._news = asyncio.Event()
        self._closing = False
        self._is_away = False
        self.delivered_n = 0
        self.dropped_n = 0
        self.outages_n = 0

    @property
    def name(self) -> str:
        """Give the name of the way."""
        return self._channel.name

    def put(self, message: Message) -> None:
        """Take a message; never blocks."""
        self._waiting.append(message)
        if len(self._waiting) > WAITING_MAX:
            self._make_room()
        self._news.set()

    def _make_room(self) -> None:
        self.dropped_n += 1
        for one in self._waiting:
            if one.severity is not Severity.CRITICAL:
                self._waiting.remove(one)
                return
        self._waiting.popleft()

    def shown(self) -> dict[str, object]:
        """Give what people are shown of this way."""
        return {
            "server": self._channel.server,
            "connected": not self._is_away,
            "delivered_n": self.delivered_n,
            "dropped_n": self.dropped_n,
            "waiting_n": len(self._waiting),
            "outages_n": self.outages_n,
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver in the background; at the end the rest gets a moment."""
        task = asyncio.create_task(self._run(), name=f"notify by {self.name}")
        try:
            yield
        finally:
            self._closing = True
            self._news.set()
            try:
                await asyncio.wait([task], timeout=0 if self._is_away else FAREWELL_S_MAX)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        pause_s = PAUSE_S_MIN
        while True:
            while not self._waiting:
                if self._closing:
                    return
                self._news.clear()
                await self._news.wait()
            message = self._waiting[0]
            failure = await attempt(self._channel, message)
            if isinstance(failure, Undelivered) and not failure.is_final:
                self._went_away(failure)
                if self._closing:
                    return
                await asyncio.sleep(max(pause_s, failure.after_s or 0.0))
                pause_s = min(2 * pause_s, PAUSE_S_MAX)
                continue
            self._done(message, failure)
            pause_s = PAUSE_S_MIN

    def _done(self, message: Message, failure: Undelivered | str) -> None:
        """Take a message out that arrived or never will."""
        if self._waiting and self._waiting[0] is message:  # it may have made room meanwhile
            self._waiting.popleft()
        if isinstance(failure, Undelivered):
            self.dropped_n += 1
            self._went_away(failure)
            return
        self.delivered_n += 1
        if self._is_away:
            self._is_away = False
            _log.info(LogEvent.NOTIFICATIONS_RETURNED, way=self.name, dropped=self.dropped_n)

    def _went_away(self, failure: Undelivered) -> None:
        if not self._is_away:
            self._is_away = True
            self.outages_n += 1
            where = self._channel.server
            _log.warning(LogEvent.NOTIFICATIONS_LOST, way=self.name, server=where, why=str(failure))


async def attempt(channel: Channel, message: Message) -> Undelivered | str:
    """Send once within SEND_S_MAX and give the answer, or why it did not arrive; never raises."""
    try:
        async with asyncio.timeout(SEND_S_MAX):
            return await channel.send(message)
    except Undelivered as failure:
        return failure
    except TimeoutError:
        return Undelivered(f"no answer within {SEND_S_MAX:g} s")
    except Exception as failure:  # noqa: BLE001  a way to people: it must not stop trading
        # its text may hold an address with a secret in it: the kind of failure must do
        return Undelivered(f"{type(failure).__name__}")
