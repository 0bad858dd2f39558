"""What the page knows, and who is being told: newest states, recent events, a trail through time.

Each open page has a queue of its own: of a state only the newest waits, of events the newest few
hundred. A page that reads slowly loses what is old and never keeps anybody else waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from adapters.web.trail import Trail

KEPT: Final[Mapping[str, int]] = {"decision": 200, "fill": 200, "alert": 100, "log": 300}
EVENTS_WAITING_MAX: Final = 400
SILENT_S: Final = 10.0  # without a word the daemon counts as silent; it beats every 2 s
BEAT_S: Final = 3.0
AGAIN: Final = ""  # stands among a client's states for: tell everything once more
PAUSE_S: Final = 0.25  # between two messages to one page
_encode: Final = msgspec.json.encode


@dataclass(eq=False)
class Client:
    """Hold what waits for one open page."""

    states: dict[str, bytes] = field(default_factory=dict)
    events: deque[tuple[str, bytes]] = field(
        default_factory=lambda: deque(maxlen=EVENTS_WAITING_MAX)
    )
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Hub:
    """Take what the daemon tells and give it to every open page; lives on one event loop.

    facts: what a page is told once. now_s: monotonic seconds; wall_ms: the machine's clock.
    """

    def __init__(
        self,
        facts: Mapping[str, object],
        now_s: Callable[[], float],
        wall_ms: Callable[[], int],
        *,
        clients_max: int,
    ) -> None:
        self.facts = dict(facts)
        self.topics: dict[str, Mapping[str, object]] = {}  # the newest values, for metrics
        self.trail = Trail()
        self.stopped = False
        self.closing = asyncio.Event()
        self._now_s = now_s
        self._wall_ms = wall_ms
        self._clients_max = clients_max
        self._clients: set[Client] = set()
        self._states: dict[str, bytes] = {}
        self._events = {topic: deque[bytes](maxlen=most) for topic, most in KEPT.items()}
        self._heard_s: float | None = None
        self._number = 0
        self._market: tuple[int, int] | None = None  # market time, and ours when it was told

    @property
    def silent_s(self) -> float | None:
        """Give since when the daemon has said nothing; None before its first word."""
        return None if self._heard_s is None else self._now_s() - self._heard_s

    @property
    def is_fresh(self) -> bool:
        """Tell whether the daemon speaks."""
        silent_s = self.silent_s
        return silent_s is not None and silent_s < SILENT_S and not self.stopped

    @property
    def clients_n(self) -> int:
        """Count the open pages."""
        return len(self._clients)

    @property
    def is_full(self) -> bool:
        """Tell whether no more pages may be opened."""
        return len(self._clients) >= self._clients_max

    def take(self, message: Mapping[str, Any]) -> None:
        """Take a line of the daemon: states, events, a beat or its farewell."""
        self._heard_s = self._now_s()
        if "market_ms" in message:
            self._market = (int(message["market_ms"]), self._wall_ms())
        self.stopped = bool(message.get("farewell", False))
        states: Mapping[str, Mapping[str, object]] = message.get("states") or {}
        self.trail.take(states)
        self.topics.update(states)
        fresh = {topic: _encode(values) for topic, values in states.items()}
        self._states.update(fresh)
        events = [(topic, _encode(values)) for topic, values in message.get("events") or ()]
        for topic, text in events:
            self._events.setdefault(topic, deque(maxlen=100)).append(text)
        for client in self._clients:
            client.states.update(fresh)
            client.events.extend(events)
            if fresh or events or self.stopped:
                client.news.set()

    def remember(self, topic: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Put events of before our start in front of those since."""
        kept = self._events[topic]
        since = list(kept)
        told = {_encode(row): None for row in rows}
        kept.clear()
        kept.extend([*(text for text in told if text not in since), *since])
        self._tell_again()

    def recall(self, states: Mapping[str, Mapping[str, object]]) -> None:
        """Take states of before our start, save those that the daemon has told since."""
        for topic, values in states.items():
            if not self.topics.get(topic):
                self.topics[topic] = values
                self._states[topic] = _encode(values)
        self._tell_again()

    def _tell_again(self) -> None:
        for client in self._clients:
            client.states[AGAIN] = b"true"
            client.news.set()

    def close(self) -> None:
        """End all streams: we stop."""
        self.closing.set()
        for client in self._clients:
            client.news.set()

    @contextmanager
    def joined(self) -> Iterator[Client | None]:
        """Count a page in for as long as it is open; None where there are too many."""
        if len(self._clients) >= self._clients_max:
            yield None
            return
        client = Client()
        self._clients.add(client)
        try:
            yield client
        finally:
            self._clients.discard(client)

    async def messages(self, client: Client) -> AsyncIterator[bytes]:
        """Give the messages of an event stream: everything first, then what changes, and beats."""
        yield self._message("whole", self._whole())
        while not self.closing.is_set():
            try:
                async with asyncio.timeout(BEAT_S):
                    await client.news.wait()
            except TimeoutError:
                yield b": still here\n" + self._message("beat", self._beat())
                continue
            if self.closing.is_set():
                return
            client.news.clear()
            if client.states.pop(AGAIN, None):
                client.states.clear()
                client.events.clear()
                yield self._message("whole", self._whole())
            else:
                yield self._message("news", self._news(client))
            await asyncio.sleep(PAUSE_S)

    def _message(self, kind: str, text: bytes) -> bytes:
        self._number += 1
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (self._number, kind.encode(), text)

    def _beat(self) -> bytes:
        market_ms, at_ms = self._market or (None, None)
        times = {"wall_ms": self._wall_ms(), "market_ms": market_ms, "market_at_ms": at_ms}
        return _encode({"silent_s": self.silent_s, "stopped": self.stopped, **times})

    def _news(self, client: Client) -> bytes:
        states, events = client.states, list(client.events)
        client.states = {}
        client.events.clear()
        lines = [b'["%s",%s]' % (topic.encode(), text) for topic, text in events]
        return b'{"beat":%s,"states":%s,"events":[%s]}' % (
            self._beat(),
            _object(states),
            b",".join(lines),
        )

    def _whole(self) -> bytes:
        events = {topic: b"[%s]" % b",".join(texts) for topic, texts in self._events.items()}
        return b'{"facts":%s,"beat":%s,"states":%s,"events":%s}' % (
            _encode(self.facts),
            self._beat(),
            _object(self._states),
            _object(events),
        )


def _object(parts: Mapping[str, bytes]) -> bytes:
    return b"{%s}" % b",".join(b'"%s":%s' % (k.encode(), text) for k, text in parts.items())
