"""Watch over one feed: silence, age and breaks of its sockets, its venue, our clock, our own sleep.

Everything here is measured in transport time, and silence in market time as well: a market that
stands still (lock-step, a halted venue clock) is no dead socket. What people must hear of goes out
as a `FeedNotice` when it begins and when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from adapters.exchange.carried import Compared
from adapters.exchange.client import VenueClient
from adapters.exchange.health import FeedHealth
from adapters.exchange.stream import BarStream
from daemon.domain.failures import BadPayload, VenueError
from daemon.domain.messages import FeedNotice, FeedTrouble
from daemon.domain.units import HOUR_MS, Timeframe, require
from daemon.ports import Clock

OFFSET_UNKNOWN: Final = "clock_offset_unknown"
OFFSET_SAMPLES: Final = 3
OFFSETS_MISSED_MAX: Final = 5
HOUR_S: Final = HOUR_MS / 1000
LATEST_ROTATION: Final = 1.25  # of the age: a good moment is awaited no longer
QUIET_PART: Final = (0.25, 0.75)  # of a bar: a new socket then costs no proof

_log = structlog.get_logger()


class Transport(Protocol):
    """Measure transport time, and tell what this machine takes for UTC."""

    def monotonic(self) -> float:
        """Give seconds; only differences mean anything."""
        ...

    def wall_ms(self) -> int:
        """Give the machine's UTC time in ms since the epoch, right or wrong."""
        ...


@dataclass(frozen=True, slots=True)
class WatchRules:
    """Bound what a feed may do before it is helped or people are told.

    silence_s: how long all sockets may say nothing. socket_age_max_s: when they are replaced
    although nothing is wrong. breaks_per_hour_max: more broken or replaced connections are told.
    offset_max_ms: largest distance of our clock to the venue's, 0 measures none. offset_every_s:
    how often it is measured; one that stays unknown for `OFFSETS_MISSED_MAX` times as long counts
    as too large. venue_down_s: how long a venue may fail before people are told.
    standstill_s: a gap between two looks, or a jump of the machine's clock, that means that this
    machine slept.
    """

    silence_s: float = 120.0
    socket_age_max_s: float = 12 * HOUR_S
    breaks_per_hour_max: int = 20
    offset_max_ms: float = 1000.0
    offset_every_s: float = 60.0
    venue_down_s: float = 30.0
    standstill_s: float = 20.0

    def __post_init__(self) -> None:
        bounds = ("silence_s", "socket_age_max_s", "venue_down_s", "standstill_s", "offset_every_s")
        for name in bounds:
            require(getattr(self, name) > 0, f"{name} {getattr(self, name)}: want more than 0")


class Watch:
    """Look after one feed; `step` is called at every round of its pump."""

    def __init__(
        self,
        rules: WatchRules,
        client: VenueClient,
        stream: BarStream | None,
        timeframe: Timeframe,
        clock: Clock,
        transport: Transport,
        health: FeedHealth,
        tell: Callable[[FeedNotice], None],
        compared: Compared | None = None,
    ) -> None:
        self._rules = rules
        self._client = client
        self._stream = stream
        self._timeframe = timeframe
        self._clock = clock
        self._transport = transport
        self._health = health
        self._tell = tell
        now_s = transport.monotonic()
        self._looked_s, self._looked_wall_ms = now_s, transport.wall_ms()
        self._heard_s, self._heard_ms = now_s, clock.now()
        self._opened_s = now_s
        self._compared = Compared() if compared is None else compared
        if self._compared.at_s is None:
            self._compared.at_s = now_s
        self._measures = bool(rules.offset_max_ms) and client.has("fetchTime")
        self._remeasure = asyncio.Event()
        self._bars_n = self._broken_n = 0
        self._refused: frozenset[str] = frozenset()
        self._breaks_s: deque[float] = deque()
        self._active = {FeedTrouble.CLOCK_OFFSET} if self._compared.is_off else set()

    def step(self, failing_since_s: float | None) -> None:
        """Look at everything once; `failing_since_s` tells since when REST goes unanswered."""
        now_s = self._transport.monotonic()
        slept_s = self._slept_s(now_s)
        if slept_s:
            self._wake_up(slept_s)
        if self._stream is not None:
            self._note_refused(self._stream.refused)
        if self._stream is not None and self._stream.alive:
            self._listen(self._stream, now_s)
            self._count_breaks(self._stream, now_s)
        self._note_down(0.0 if failing_since_s is None else now_s - failing_since_s)
        if failing_since_s is not None or FeedTrouble.VENUE_DOWN in self._active:
            self._compared.at_s = now_s  # a venue that answers nothing says nothing of clocks
        self._doubt_offset(now_s)

    def _note_down(self, down_s: float) -> None:
        """Tell that a venue fails for long, or will not have us for long."""
        most_s, alone_s = self._rules.venue_down_s, self._client.left_alone_s
        why = f"does not answer, for {down_s:.0f} s now"
        if alone_s > 0:
            why = f"was asked too often and wants no question for {alone_s:.0f} s more"
        is_down = down_s > most_s or alone_s > most_s
        known = FeedTrouble.VENUE_DOWN in self._active
        is_down = is_down or (known and alone_s > 0)
        self._note(FeedTrouble.VENUE_DOWN, is_down, why, "answers again")

    def _slept_s(self, now_s: float) -> float:
        """Give how long this machine stood still since the last look, 0 for not at all.

        A stopped process sees a gap in the monotonic clock, a suspended machine one in its UTC.
        """
        wall_ms = self._transport.wall_ms()
        ran_s, wall_s = now_s - self._looked_s, (wall_ms - self._looked_wall_ms) / 1000
        self._looked_s, self._looked_wall_ms = now_s, wall_ms
        longest_s = max(ran_s, wall_s)
        return longest_s if longest_s > self._rules.standstill_s else 0.0

    def _wake_up(self, slept_s: float) -> None:
        self._health.suspended_n += 1
        self._remeasure.set()
        text = f"this machine stood still for {slept_s:.0f} s; sockets are replaced"
        self._tell(self._notice(FeedTrouble.SUSPENDED, True, text))
        self._tell(self._notice(FeedTrouble.SUSPENDED, False, "bars are filled in"))
        if self._stream is not None and self._stream.alive:
            self._renew(self._stream, f"this machine stood still for {slept_s:.0f} s")

    def _listen(self, stream: BarStream, now_s: float) -> None:
        now_ms = self._clock.now()
        if stream.bars_n != self._bars_n:  # words that are no bars keep no stream alive
            self._bars_n = stream.bars_n
            self._heard_s, self._heard_ms = now_s, now_ms
        bound_s = self._rules.silence_s
        silent_s = now_s - self._heard_s
        if silent_s > bound_s and now_ms - self._heard_ms > bound_s * 1000:
            self._renew(stream, f"silent for {silent_s:.0f} s")
            return
        age_s, age_max_s = now_s - self._opened_s, self._rules.socket_age_max_s
        part = now_ms % self._timeframe.ms / self._timeframe.ms
        quiet = QUIET_PART[0] <= part <= QUIET_PART[1]
        if age_s > age_max_s and (quiet or age_s > LATEST_ROTATION * age_max_s):
            self._health.rotated_n += 1
            self._opened_s = now_s
            stream.renew(f"{age_s / HOUR_S:.1f} h old")

    def _renew(self, stream: BarStream, why: str) -> None:
        self._heard_s, self._heard_ms = self._transport.monotonic(), self._clock.now()
        self._opened_s = self._heard_s
        stream.replace(why)

    def _count_breaks(self, stream: BarStream, now_s: float) -> None:
        broken_n = stream.broken_n + stream.replaced_n
        self._health.broken_n, self._health.replaced_n = stream.broken_n, stream.replaced_n
        self._breaks_s.extend([now_s] * (broken_n - self._broken_n))
        self._broken_n = broken_n
        while self._breaks_s and self._breaks_s[0] < now_s - HOUR_S:
            self._breaks_s.popleft()
        count, most = len(self._breaks_s), self._rules.breaks_per_hour_max
        known = FeedTrouble.RECONNECTS in self._active
        self._note(
            FeedTrouble.RECONNECTS,
            count > (most // 2 if known else most),
            f"{count} connections broke within an hour (more than {most} are told)",
            f"connections last again: {count} breaks within the last hour",
        )

    def _note_refused(self, refused: Mapping[str, str]) -> None:
        """Tell of each change in what the venue refuses to stream."""
        if refused.keys() == self._refused:
            return
        self._refused = frozenset(refused)
        text = "streams all contracts again"
        if refused:
            first = min(refused)
            names = ", ".join(sorted(refused))
            text = f"refuses to stream {names}; their bars are read by REST: {refused[first]}"
        self._tell(self._notice(FeedTrouble.UNSTREAMED, bool(refused), text))

    def _note(self, trouble: FeedTrouble, active: bool, began: str, ended: str) -> None:
        if active == (trouble in self._active):
            return
        (self._active.add if active else self._active.discard)(trouble)
        self._tell(self._notice(trouble, active, began if active else ended))

    def _notice(self, trouble: FeedTrouble, active: bool, text: str) -> FeedNotice:
        return FeedNotice(self._clock.now(), self._client.exchange, trouble, active, text)

    # ---- the clock -----------------------------------------------------------------------------

    async def measure_offset(self) -> None:
        """Compare our clock with the venue's, again and again; runs until cancelled."""
        if not self._rules.offset_max_ms:
            return
        if not self._client.has("fetchTime"):
            _log.warning(OFFSET_UNKNOWN, exchange=self._client.exchange, why="no server time")
            return
        while True:
            try:
                self._judge(*min([await self._sample() for _ in range(OFFSET_SAMPLES)]))
            except (VenueError, BadPayload) as trouble:
                _log.debug(OFFSET_UNKNOWN, exchange=self._client.exchange, why=str(trouble))
            self._remeasure.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rules.offset_every_s):
                    await self._remeasure.wait()

    def _doubt_offset(self, now_s: float) -> None:
        """Take an offset that nobody could measure for long for one that is too large."""
        unknown_s = now_s - (self._compared.at_s or 0.0)
        if not self._measures or unknown_s <= OFFSETS_MISSED_MAX * self._rules.offset_every_s:
            return
        self._note_clock(
            True,
            f"its clock could not be compared with this machine's for {unknown_s:.0f} s: no risk is"
            " opened",
            "",
        )

    def _note_clock(self, is_off: bool, began: str, ended: str) -> None:
        self._compared.is_off = is_off
        self._note(FeedTrouble.CLOCK_OFFSET, is_off, began, ended)

    async def _sample(self) -> tuple[float, float]:
        """Ask once; give half the round trip (the bound of the error) and the offset, in ms."""
        before_s = self._transport.monotonic()
        venue_ms = await self._client.server_time()
        error_ms = (self._transport.monotonic() - before_s) * 500
        return error_ms, venue_ms - (self._transport.wall_ms() - error_ms)

    def _judge(self, error_ms: float, offset_ms: float) -> None:
        self._health.offset_ms, self._health.offset_error_ms = offset_ms, error_ms
        self._compared.at_s = self._transport.monotonic()
        most_ms = self._rules.offset_max_ms
        self._note_clock(
            abs(offset_ms) - error_ms > most_ms,
            f"its clock and this machine's differ by {offset_ms / 1000:+.1f} s (at most "
            f"{most_ms / 1000:g} s is accepted): no risk is opened; set this machine's clock",
            f"its clock and this machine's differ by {offset_ms:+.0f} ms again",
        )
