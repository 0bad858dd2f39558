"""Hold what is to be shown until a server takes it, and bring it there; never make anyone wait.

`Outbox` is bounded: of each state topic only the newest value waits, of events the newest few
hundred. `Courier` is the one reconnecting loop that all sinks share: it connects, delivers, beats,
and after a failure comes back with a growing pause. An outage is logged when it begins and when it
ends. What a server had not confirmed is sent again: events arrive at least once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from daemon.domain.failures import InvariantViolated
from daemon.domain.log_events import LogEvent
from daemon.domain.units import require
from daemon.status.codec import EVENT_TOPICS, STATE_TOPICS, plain

EVENTS_WAITING_MAX: Final = 500
LOGS_WAITING_MAX: Final = 100  # beside the events, which they must not push out
EVENTS_IN_BATCH_MAX: Final = 100
PAUSE_S_MIN: Final = 0.2
PAUSE_S_MAX: Final = 5.0
STEADY_S: Final = 5.0
FAREWELL_S_MAX: Final = 1.0

Values = Mapping[str, object]
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold what leaves together: newest states by topic, and events in order."""

    states: Mapping[str, Values] = field(default_factory=dict)
    events: tuple[tuple[str, Values], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.states or self.events)


class Outbox:
    """Take values at once and give them out in batches; lives on the event loop's thread."""

    def __init__(self, *, events_max: int = EVENTS_WAITING_MAX) -> None:
        self._events_max = events_max
        self._topics = frozenset({*STATE_TOPICS, *EVENT_TOPICS})
        self._shown: dict[str, Values] = {}
        self._states: dict[str, Values] = {}
        self._events: deque[tuple[str, Values]] = deque()
        self._logs: deque[tuple[str, Values]] = deque(maxlen=LOGS_WAITING_MAX)
        self._news = asyncio.Event()
        self.events_dropped = 0
        self.values_refused = 0

    def __len__(self) -> int:
        return len(self._states) + len(self._events) + len(self._logs)

    def put(self, topic: str, values: Values) -> None:
        """Take the newest values of a topic; the oldest event makes room when there are too many.

        The values are copied down to the last array, so the caller may go on changing them. What
        cannot be shown is logged and dropped: a mistake in the status must not stop trading.
        """
        try:
            require(topic in self._topics, f"status topic {topic!r} is none of ours")
            copy: Values = plain(values)
        except InvariantViolated as e:
            self.values_refused += 1
            _log.error(LogEvent.STATUS_VALUE_REFUSED, topic=topic, why=str(e))
            return
        if topic in STATE_TOPICS:
            self._states[topic] = self._shown[topic] = copy
        elif topic == "log":
            self._logs.append((topic, copy))
        else:
            self._events.append((topic, copy))
            self._trim()
        self._news.set()

    def _trim(self) -> None:
        while len(self._events) > self._events_max:
            self._events.popleft()
            self.events_dropped += 1

    def take(self) -> Batch:
        """Take out what waits: all states, and at most EVENTS_IN_BATCH_MAX events, logs last."""
        events: list[tuple[str, Values]] = []
        for waiting in (self._events, self._logs):
            count = min(len(waiting), EVENTS_IN_BATCH_MAX - len(events))
            events += [waiting.popleft() for _ in range(count)]
        batch = Batch(self._states, tuple(events))
        self._states = {}
        if not self._events and not self._logs:
            self._news.clear()
        return batch

    def give_back(self, batch: Batch) -> None:
        """Return a batch that may not have arrived; states that are newer by now win."""
        self._states = {**batch.states, **self._states}
        self._events.extendleft(e for e in reversed(batch.events) if e[0] != "log")
        logs = [e for e in batch.events if e[0] == "log"]
        room = LOGS_WAITING_MAX - len(self._logs)
        self._logs.extendleft(reversed(logs[-room:] if room else []))
        self._trim()
        self._news.set()

    def show_again(self) -> None:
        """Queue the newest value of every state topic: a server may have come back empty."""
        self._states = {**self._shown, **self._states}
        if self._states:
            self._news.set()

    def wake(self) -> None:
        """End a wait although there is nothing new."""
        self._news.set()

    async def wait(self, seconds: float) -> None:
        """Return when something waits, or after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return


class Link(Protocol):
    """Speak to one connected server; everything here may fail and may take a bounded time."""

    async def send(self, batch: Batch) -> None:
        """Bring a batch to the server and return when it has confirmed all of it."""
        ...

    async def beat(self) -> None:
        """Tell the server that we live."""
        ...

    async def farewell(self) -> None:
        """Tell the server that we stop on purpose."""
        ...


Connect = Callable[[], AbstractAsyncContextManager[Link]]


class Courier:
    """Deliver an outbox to one server for as long as `running` lasts, through all its outages."""

    def __init__(
        self,
        outbox: Outbox,
        connect: Connect,
        *,
        server: str,
        beat_s: float,
        pause_s_max: float = PAUSE_S_MAX,
    ) -> None:
        self._outbox = outbox
        self._pause_s_max = pause_s_max
        self._connect = connect
        self._server = server  # an address without login, for the log
        self._beat_s = beat_s
        self._closing = asyncio.Event()
        self._served_from_s: float | None = None
        self._dropped_before = 0
        self.is_away = False
        self.attempts = 0
        self.delivered_n = 0
        self.outages_n = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver in the background; at the end deliver the rest if the server is there."""
        task = asyncio.create_task(self._run(), name=f"status to {self._server}")
        try:
            yield
        finally:
            self._closing.set()
            self._outbox.wake()
            try:
                # an absent server is not worth waiting for; a present one gets a moment
                await asyncio.wait([task], timeout=0 if self.is_away else FAREWELL_S_MAX)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        pause_s = PAUSE_S_MIN
        while not self._closing.is_set():
            self._served_from_s = None
            try:
                async with self._connect() as link:
                    await self._serve(link)
            except Exception as failure:  # noqa: BLE001  a sink must not stop trading
                self._went_away(failure)
            if self._closing.is_set():
                return
            self.attempts += 1
            # a server that only flaps is left alone for longer and longer
            is_new = self._served_longer_than(STEADY_S)
            pause_s = PAUSE_S_MIN if is_new else min(2 * pause_s, self._pause_s_max)
            await asyncio.sleep(pause_s)

    def _served_longer_than(self, seconds: float) -> bool:
        since_s = self._served_from_s
        return since_s is not None and asyncio.get_running_loop().time() - since_s > seconds

    async def _serve(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        self._outbox.show_again()
        next_beat = loop.time()
        while True:
            if loop.time() >= next_beat:
                await link.beat()
                next_beat = loop.time() + self._beat_s
                self._came_back(loop.time())
            await self._deliver(link)
            if self._closing.is_set() and not len(self._outbox):
                await link.farewell()
                return
            if not self._closing.is_set():
                await self._outbox.wait(max(0.0, next_beat - loop.time()))

    async def _deliver(self, link: Link) -> None:
        batch = self._outbox.take()
        if not batch:
            return
        try:
            await link.send(batch)
        except BaseException:
            self._outbox.give_back(batch)
            raise
        self.delivered_n += len(batch.states) + len(batch.events)

    def shown(self) -> dict[str, object]:
        """Give what people are shown of this sink; counts grow as long as the process lives."""
        return {
            "server": self._server,
            "connected": self._served_from_s is not None and not self.is_away,
            "delivered_n": self.delivered_n,
            "dropped_n": self._outbox.events_dropped,
            "refused_n": self._outbox.values_refused,
            "waiting_n": len(self._outbox),
            "outages_n": self.outages_n,
        }

    def _went_away(self, failure: Exception) -> None:
        if not self.is_away:
            self.is_away = True
            self.outages_n += 1
            _log.warning(
                LogEvent.STATUS_SERVER_LOST,
                server=self._server,
                why=f"{type(failure).__name__}: {failure}",
            )

    def _came_back(self, now_s: float) -> None:
        if self._served_from_s is None:
            self._served_from_s = now_s
        if self.is_away:
            dropped = self._outbox.events_dropped - self._dropped_before
            _log.info(
                LogEvent.STATUS_SERVER_RETURNED,
                server=self._server,
                attempts=self.attempts,
                events_dropped=dropped,
            )
        self._dropped_before = self._outbox.events_dropped
        self.is_away = False
        self.attempts = 0
