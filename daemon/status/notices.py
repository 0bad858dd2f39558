"""Decide who is disturbed by what, and when: pure rules over alerts, without a network or a clock.

A notice has a kind, a subject (what it is about) and a text. The first of a kind and subject is
told at once. More of the same within a window are counted, and told as one line at its end. Quiet
hours and a bound per hour hold back what is not critical; what was held back comes later as one
digest. The end of a condition is told where its beginning was. Nothing is lost without a count.

All instants are ms since 1970 of the machine's UTC clock; the caller gives them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from enum import StrEnum
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

from daemon.domain.messages import AlertKind
from daemon.domain.units import HOUR_MS, MINUTE_MS, iso

EPISODES_MAX: Final = 1000
HELD_LINES_MAX: Final = 200
DIGEST_LINES_MAX: Final = 30
TEXT_CHARS_MAX: Final = 600
CRITICAL_PER_HOUR_MAX: Final = 60  # a person cannot act on more; the rest comes as a digest


class Severity(StrEnum):
    """Say how much a notice may disturb: info can wait, critical wakes people."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Give a number that orders severities."""
        return list(Severity).index(self)


SEVERITIES: Final[Mapping[AlertKind, Severity]] = {
    AlertKind.NO_DECISION: Severity.CRITICAL,
    AlertKind.ORDER_UNRESOLVED: Severity.CRITICAL,
    AlertKind.RECONCILED: Severity.WARNING,
    AlertKind.HALTED: Severity.CRITICAL,
    AlertKind.BAR_REVISED: Severity.INFO,
    AlertKind.ESTIMATES_STALE: Severity.WARNING,
    AlertKind.ORDER_REFUSED: Severity.INFO,
    AlertKind.STRANGE_FILL: Severity.CRITICAL,
    AlertKind.FORCED: Severity.CRITICAL,
    AlertKind.ACCOUNT: Severity.WARNING,
    AlertKind.FEED: Severity.WARNING,
    AlertKind.INSTRUMENT: Severity.WARNING,
    AlertKind.LOSS: Severity.CRITICAL,
    AlertKind.COVARIANCE: Severity.WARNING,
    AlertKind.SERIES: Severity.WARNING,
    AlertKind.RUNTIME: Severity.WARNING,
    AlertKind.PAGE: Severity.WARNING,
    AlertKind.DAILY: Severity.INFO,
}


@dataclass(frozen=True, slots=True)
class Notice:
    """Hold something to tell; over: the condition that was told under this subject has ended."""

    kind: AlertKind
    at_ms: int
    text: str
    subject: str = ""
    over: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """Hold what leaves for people; kind is an AlertKind, `digest` or `test`. count: notices in it.

    at_ms: of the newest notice, in market time; sent_ms: when it was given out.
    """

    severity: Severity
    kind: str
    subject: str
    text: str
    at_ms: int
    sent_ms: int
    count: int = 1
    over: bool = False

    def title(self, run: str) -> str:
        """Give one line: severity, run, kind and subject."""
        word = "OVER" if self.over else self.severity.upper()
        about = f" ({self.subject})" if self.subject else ""
        return " ".join(f"[{word}] {run}: {self.kind}{about}".split())

    def body(self, run: str) -> str:
        """Give what a person reads: the title, the text, when, and where to read on."""
        lines = [self.title(run), self.text, f"at {iso(self.at_ms)}"]
        if self.kind in list(AlertKind) and not self.over:
            lines.append(f"see docs/runbook.md#{self.kind.replace('_', '-')}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Hold the hours of a day, in a named zone, in which only critical things are told."""

    begin: time
    end: time
    zone: ZoneInfo

    def cover(self, now_ms: int) -> bool:
        """Tell whether an instant is within; hours may span midnight, equal ends mean none."""
        local = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(self.zone).time()
        if self.begin <= self.end:
            return self.begin <= local < self.end
        return local >= self.begin or local < self.end


@dataclass(frozen=True, slots=True)
class NoticeRules:
    """Hold what a person chose."""

    severities: Mapping[AlertKind, Severity] = field(default_factory=lambda: SEVERITIES)
    least: Severity = Severity.WARNING
    window_ms: int = 15 * MINUTE_MS
    per_hour_max: int = 12
    quiet: QuietHours | None = None


@dataclass(slots=True)
class _Episode:
    """Hold what came of one kind and subject since `since_ms`, beyond what was told."""

    since_ms: int
    severity: Severity
    repeats_n: int = 0
    newest: Notice | None = None


@dataclass(slots=True)
class _Held:
    """Hold a line of the digest."""

    severity: Severity
    count: int
    newest: Message


_Key = tuple[AlertKind, str]
_Kept = TypeVar("_Kept")


class NoticeDesk:
    """Take notices and give out messages; `due` must be asked every few seconds."""

    def __init__(self, rules: NoticeRules) -> None:
        self._rules = rules
        self._episodes: dict[_Key, _Episode] = {}
        self._told: dict[_Key, Severity] = {}  # conditions that people believe to last
        self._sent_ms: deque[int] = deque()
        self._critical_ms: deque[int] = deque()
        self._held: dict[tuple[str, str, bool], _Held] = {}
        self._held_since_ms = 0
        self.held_lost_n = 0

    def take(self, notice: Notice, now_ms: int) -> list[Message]:
        """Take a notice and give what is to be sent because of it, at most one message."""
        severity = self._rules.severities.get(notice.kind, Severity.WARNING)
        key = (notice.kind, notice.subject)
        if severity.rank < self._rules.least.rank:
            return []
        if notice.over:
            return self._over(key, notice, now_ms)
        episode = self._episodes.get(key)
        if episode is not None:
            episode.repeats_n += 1
            episode.newest = notice
            return []
        _remember(self._episodes, key, _Episode(now_ms, severity))
        return self._emit(_message(notice, severity, now_ms), key, now_ms)

    def due(self, now_ms: int) -> list[Message]:
        """Give what has waited long enough: counts of repeated notices, and the digest."""
        out: list[Message] = []
        for key, episode in list(self._episodes.items()):
            age_ms = now_ms - episode.since_ms
            if 0 <= age_ms < self._rules.window_ms:
                continue
            if episode.newest is None:
                del self._episodes[key]
                continue
            message = _message(episode.newest, episode.severity, now_ms, episode.repeats_n)
            episode.since_ms, episode.repeats_n, episode.newest = now_ms, 0, None
            out += self._emit(message, key, now_ms)
        return out + self._digest(now_ms)

    def _over(self, key: _Key, notice: Notice, now_ms: int) -> list[Message]:
        """Tell the end of what was told; of what was not, it joins the count of its episode."""
        severity = self._told.pop(key, None)
        if severity is not None:
            return self._emit(_message(notice, severity, now_ms), key, now_ms)
        episode = self._episodes.get(key)
        if episode is not None:
            episode.repeats_n += 1
            episode.newest = notice
        return []

    def _emit(self, message: Message, key: _Key, now_ms: int) -> list[Message]:
        """Let a message through, or keep it for the digest."""
        if message.severity is Severity.CRITICAL:
            passes = _has_room(self._critical_ms, CRITICAL_PER_HOUR_MAX, now_ms)
            times = self._critical_ms
        else:
            passes = not self._is_quiet(now_ms) and self._has_room(now_ms)
            times = self._sent_ms
        if not passes:
            self._hold(message, now_ms)
            return []
        times.append(now_ms)
        if not message.over:
            _remember(self._told, key, message.severity)
        return [message]

    def _hold(self, message: Message, now_ms: int) -> None:
        key = (message.kind, message.subject, message.over)
        line = self._held.get(key)
        if line is not None:
            line.count += message.count
            line.newest = message
        elif len(self._held) < HELD_LINES_MAX:
            self._held_since_ms = self._held_since_ms if self._held else now_ms
            self._held[key] = _Held(message.severity, message.count, message)
        else:
            self.held_lost_n += message.count

    def _digest(self, now_ms: int) -> list[Message]:
        waited_ms = now_ms - self._held_since_ms
        if not self._held or self._is_quiet(now_ms) or 0 <= waited_ms < self._rules.window_ms:
            return []
        if not self._has_room(now_ms):
            return []
        lines = sorted(self._held.values(), key=lambda one: -one.severity.rank)
        texts = [_line(one) for one in lines[:DIGEST_LINES_MAX]]
        left_n = sum(one.count for one in lines[DIGEST_LINES_MAX:]) + self.held_lost_n
        if left_n:
            texts.append(f"and {left_n} more")
        count = sum(one.count for one in lines) + self.held_lost_n
        newest_ms = max(one.newest.at_ms for one in lines)
        text = "\n".join([f"{count} held back", *texts])
        self._held.clear()
        self.held_lost_n = 0
        self._sent_ms.append(now_ms)
        return [Message(lines[0].severity, "digest", "", text, newest_ms, now_ms, count)]

    def _is_quiet(self, now_ms: int) -> bool:
        return self._rules.quiet is not None and self._rules.quiet.cover(now_ms)

    def _has_room(self, now_ms: int) -> bool:
        return _has_room(self._sent_ms, self._rules.per_hour_max, now_ms)


def _remember(kept: dict[_Key, _Kept], key: _Key, value: _Kept) -> None:
    """Keep at most EPISODES_MAX; the oldest makes room."""
    kept.pop(key, None)
    if len(kept) >= EPISODES_MAX:
        del kept[next(iter(kept))]
    kept[key] = value


def _has_room(times: deque[int], most: int, now_ms: int) -> bool:
    """Tell whether fewer than `most` left within the last hour; a clock set back forgets."""
    while times and not 0 <= now_ms - times[0] < HOUR_MS:
        times.popleft()
    return len(times) < most


def _message(notice: Notice, severity: Severity, now_ms: int, count: int = 1) -> Message:
    text = notice.text if len(notice.text) <= TEXT_CHARS_MAX else notice.text[:TEXT_CHARS_MAX] + "…"
    if count > 1:
        text = f"{count} more; the newest: {text}"
    kind = str(notice.kind)
    return Message(severity, kind, notice.subject, text, notice.at_ms, now_ms, count, notice.over)


def _line(held: _Held) -> str:
    newest = held.newest
    about = f" ({newest.subject[:60]})" if newest.subject else ""
    word = "over" if newest.over else str(held.severity)
    head = f"{word}: {newest.kind}{about} x{held.count}, last at {iso(newest.at_ms)}"
    return f"{head}: {newest.text[:120]}"
