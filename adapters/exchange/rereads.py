"""Ask a venue for bars by REST in the background, so that a slow answer holds nothing else up.

One question at a time per instrument. A venue that fails is left alone for a while that doubles,
or for as long as it says (Retry-After); an instrument whose answers cannot be read is left alone by
itself, without touching the others.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from adapters.exchange.failures import Unanswered
from adapters.exchange.health import FeedHealth
from adapters.exchange.instants import RETRY_S
from adapters.exchange.reader import Page, VenueReader
from daemon.domain.failures import BadPayload, VenueError
from daemon.domain.finality import BarValues, FinalityGate, Reading
from daemon.domain.units import Timeframe

REST_LOST: Final = "rest_lost"
REST_RESTORED: Final = "rest_restored"
REST_MAX_S: Final = 8.0
FAILURES_BEFORE_REST: Final = 2
DOUBT_ANSWERS_MAX: Final = 4
DOUBT_VAIN_MAX: Final = 2

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


@dataclass(slots=True)
class _Doubt:
    """Hold what was said against a final bar; asked_n, vain_n: answers with and without its row."""

    values: BarValues
    asked_n: int = 0
    vain_n: int = 0


class Doubts:
    """Believe what contradicts a final bar only when REST says it and another witness agrees.

    Venues answer from copies, and one of them may be wrong for a moment; a frame of the stream may
    be an old one. The other witness is the stream, or a second answer.
    """

    def __init__(self, timeframe: Timeframe) -> None:
        self._length_ms = timeframe.ms
        self._said: dict[tuple[int, int], _Doubt] = {}

    def contradicted(self, index: int, close_ms: int, values: BarValues) -> None:
        """Note what the stream says of a final bar."""
        self._said[index, close_ms] = _Doubt(values)

    def sift(self, index: int, readings: Sequence[Reading], gate: FinalityGate) -> list[Reading]:
        """Give what can be believed: where one answer stands alone, what was told before."""
        return [self._believed(index, reading, gate) for reading in readings]

    def due(self) -> dict[int, list[int]]:
        """Give the closes that a further answer is wanted for, by instrument."""
        due: dict[int, list[int]] = {}
        for index, close_ms in self._said:
            due.setdefault(index, []).append(close_ms)
        return due

    def drop(self, index: int) -> None:
        """Forget what was said of an instrument: nobody answers, and the next audit will tell."""
        self._said = {key: values for key, values in self._said.items() if key[0] != index}

    def unheard(self, index: int, closes: Sequence[int], readings: Sequence[Reading]) -> None:
        """Note an answer about closes; a doubt that was passed over twice is left to an audit."""
        shown = {reading.open_ms + self._length_ms for reading in readings}
        for key in [(index, close_ms) for close_ms in closes if close_ms not in shown]:
            doubt = self._said.get(key)
            if doubt is None:
                continue
            doubt.vain_n += 1
            if doubt.vain_n >= DOUBT_VAIN_MAX:
                del self._said[key]

    def _believed(self, index: int, reading: Reading, gate: FinalityGate) -> Reading:
        close_ms = reading.open_ms + self._length_ms
        told = gate.final_values(index, close_ms)
        said = self._said.pop((index, close_ms), None)
        if told is None or reading.values == told or (said and reading.values == said.values):
            return reading
        asked_n = 1 + (said.asked_n if said else 0)
        if asked_n < DOUBT_ANSWERS_MAX:  # or else every answer says something new
            self._said[index, close_ms] = _Doubt(reading.values, asked_n)
        return replace(reading, values=told)


class Rereads:
    """Keep the questions that are under way and the answers that nobody took yet."""

    def __init__(
        self,
        reader: VenueReader,
        symbols: Sequence[str],
        now_s: Callable[[], float],
        health: FeedHealth,
        news: Callable[[], None],
        *,
        patience_s: float = 3.0,
    ) -> None:
        self._patience_s = patience_s
        self._reader = reader
        self._symbols = list(symbols)
        self._now_s = now_s
        self._health = health
        self._news = news
        self._group: asyncio.TaskGroup | None = None
        self._under_way: dict[int, float] = {}  # since when, in transport seconds
        self._answers: list[Answer] = []
        self._failures = 0  # of the venue, in a row
        self._unread = [0] * len(symbols)  # answers in a row that could not be read
        self._rest_until_s = 0.0
        self.failing_since_s: float | None = None
        """Since when no question was answered, None while the venue answers."""

    def start(self, group: asyncio.TaskGroup) -> None:
        """Let the questions live in `group`."""
        self._group = group

    def admit(self, index: int, symbol: str) -> None:
        """Ask about this contract where a column was free."""
        self._symbols[index] = symbol

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
        for index in sorted(due.keys() - self._under_way.keys()):
            closes = tuple(due[index])
            if self._now_s() < self._rest_until_s:
                answer = Answer(index, closes, None, index in shown, self._rest_until_s)
                self._answers.append(answer)
                continue
            self._under_way[index] = self._now_s()
            name = f"reread {self._symbols[index]}"
            self._group.create_task(self._ask(index, closes, index in shown), name=name)

    def is_asking(self, index: int) -> bool:
        """Tell whether a question about an instrument is under way."""
        return index in self._under_way

    def hangs(self, index: int) -> bool:
        """Tell whether a question about an instrument is under way for too long."""
        since_s = self._under_way.get(index)
        return since_s is not None and self._now_s() - since_s > self._patience_s

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
            del self._under_way[index]
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
