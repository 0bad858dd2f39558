"""Ask a venue for bars by REST in the background, so that a slow answer holds nothing else up.

One question at a time per instrument. A venue that fails is left alone for a while that doubles,
or for as long as it says (Retry-After); an instrument whose answers cannot be read is left alone by
itself, without touching the others.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from adapters.exchange.failures import Unanswered
from adapters.exchange.health import FeedHealth
from adapters.exchange.instants import RETRY_S
from adapters.exchange.reader import Page, VenueReader
from daemon.domain.failures import BadPayload, VenueError

REST_LOST: Final = "rest_lost"
REST_RESTORED: Final = "rest_restored"
REST_MAX_S: Final = 8.0
FAILURES_BEFORE_REST: Final = 2

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what came of a question about closes: a page, or None and when to ask again.

    shown: the stream had shown the newest of these bars when we asked.
    """

    index: int
    closes: tuple[int, ...]
    page: Page | None
    shown: bool
    retry_s: float


class Rereads:
    """Keep the questions that are under way and the answers that nobody took yet."""

    def __init__(
        self,
        reader: VenueReader,
        symbols: Sequence[str],
        now_s: Callable[[], float],
        health: FeedHealth,
        news: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._symbols = list(symbols)
        self._now_s = now_s
        self._health = health
        self._news = news
        self._group: asyncio.TaskGroup | None = None
        self._under_way: set[int] = set()
        self._answers: list[Answer] = []
        self._failures = 0  # of the venue, in a row
        self._unread = [0] * len(symbols)  # answers in a row that could not be read
        self._rest_until_s = 0.0
        self.failing_since_s: float | None = None
        """Since when no question was answered, None while the venue answers."""

    def start(self, group: asyncio.TaskGroup) -> None:
        """Let the questions live in `group`."""
        self._group = group

    @property
    def busy(self) -> bool:
        """Tell whether a question is under way or an answer was not taken."""
        return bool(self._under_way or self._answers)

    def ask(self, due: Mapping[int, Sequence[int]], shown: Collection[int] = ()) -> None:
        """Ask about closes by instrument; who is being asked about already is passed over.

        While the venue rests, the answer is at once that there is none.
        """
        if self._group is None:
            return
        for index in sorted(due.keys() - self._under_way):
            closes = tuple(due[index])
            if self._now_s() < self._rest_until_s:
                self._answers.append(Answer(index, closes, None, True, self._rest_until_s))
                continue
            self._under_way.add(index)
            name = f"reread {self._symbols[index]}"
            self._group.create_task(self._ask(index, closes, index in shown), name=name)

    def take(self) -> list[Answer]:
        """Take the answers that came."""
        answers, self._answers = self._answers, []
        return answers

    async def _ask(self, index: int, closes: tuple[int, ...], shown: bool) -> None:
        page = None
        try:
            page = await self._reader.reread(self._symbols[index], min(closes), max(closes))
        except (VenueError, BadPayload) as trouble:
            retry_s = self._failed(index, trouble)
        else:
            retry_s = self._now_s()
            self._answered(index)
        finally:
            self._under_way.discard(index)
        self._answers.append(Answer(index, closes, page, shown, retry_s))
        self._news()

    def _answered(self, index: int) -> None:
        self._failures = self._unread[index] = 0
        if self.failing_since_s is not None:
            self.failing_since_s = None
            _log.info(REST_RESTORED, exchange=self._health.venue)

    def _failed(self, index: int, trouble: VenueError | BadPayload) -> float:
        """Count a failure; give when this instrument may be asked about again, in seconds."""
        now_s = self._now_s()
        self._health.rest_failures_n += 1
        if self.failing_since_s is None:
            self.failing_since_s = now_s
            _log.warning(REST_LOST, exchange=self._health.venue, why=str(trouble))
        if not isinstance(trouble, Unanswered):
            self._unread[index] += 1
            return now_s + pause_s(self._unread[index])
        self._failures += 1
        if trouble.retry_after_s or self._failures >= FAILURES_BEFORE_REST:
            after_s = max(trouble.retry_after_s or 0.0, pause_s(self._failures - 1))
            self._rest_until_s = max(self._rest_until_s, now_s + after_s)
        return max(self._rest_until_s, now_s + RETRY_S)


def pause_s(failures: int) -> float:
    """Give a pause in seconds that doubles with each failure, capped, with jitter."""
    return min(REST_MAX_S, RETRY_S * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)
