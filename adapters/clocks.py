"""The only place that reads time: transport time, and market time in its four kinds.

*Market time* decides what is closed and due; it is the venue's, history's, or that of a market in
lock-step. *Transport time* measures sockets, patience and round trips; it is always the machine's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from daemon.domain.failures import BadPayload, VenueError
from daemon.domain.units import iso, require

if TYPE_CHECKING:
    import aiohttp

VENUE_CLOCK_MEASURED: Final = "venue_clock_measured"
VENUE_CLOCK_UNREACHABLE: Final = "venue_clock_unreachable"
VENUE_CLOCK_REACHED_AGAIN: Final = "venue_clock_reached_again"
VENUE_CLOCK_DOUBTED: Final = "venue_clock_doubted"
VENUE_CLOCK_MOVED: Final = "venue_clock_moved"
JUMP_MS: Final = 1000.0
"""What a venue's time may differ from what ours has run since the last measurement."""
JUMP_MEASUREMENTS: Final = 3
"""So many measurements in a row must agree before a jump is believed."""
MEASURE_MAX_S: Final = 30.0
"""A measurement that takes longer is given up."""
DRIFT: Final = 2e-4
"""What the machine's monotonic clock may run wrong, as a share of the time that it ran."""
SLEEP_SLICE_S: Final = 5.0
ADVANCE_TIMEOUT_S: Final = 120.0
OVER_PAUSE_S: Final = 0.2  # between questions to a market that is over
LEAVE_TIMEOUT_S: Final = 1.0
ADVANCE_PATH: Final = "/rehearsal/advance"

_log = structlog.get_logger()


class TransportClock:
    """Read the machine's own time, for sockets and patience."""

    def monotonic(self) -> float:
        """Give seconds of a clock that never goes back; only differences mean anything."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Give the machine's UTC time in ms since the epoch, right or wrong."""
        return time.time_ns() // 1_000_000


class SystemClock:
    """Take the machine's UTC time for market time, where a venue tells no time of its own."""

    def __init__(self, transport: TransportClock) -> None:
        self._transport = transport

    def now(self) -> int:
        """Give the market time in ms since the epoch."""
        return self._transport.wall_ms()

    async def sleep_until(self, at_ms: int) -> int:
        """Wait until `at_ms`; give the time then."""
        now_ms = self.now()
        while now_ms < at_ms:
            # in slices, because the machine's clock may be set while we sleep
            await asyncio.sleep(min((at_ms - now_ms) / 1000, SLEEP_SLICE_S))
            now_ms = self.now()
        return now_ms


@dataclass(frozen=True, slots=True)
class _Anchor:
    """Hold the venue's time at an instant of both of the machine's clocks."""

    at_s: float
    wall_ms: float
    venue_ms: float
    error_ms: float

    def runs_to(self, other: _Anchor, speed: float) -> bool:
        """Tell whether either clock of the machine ran as far as the venue's did.

        While a machine is suspended, only its UTC goes on; while that is set, only the other one.
        """
        ran_ms = other.venue_ms - self.venue_ms
        by_transport_ms = (other.at_s - self.at_s) * 1000 * speed
        by_wall_ms = (other.wall_ms - self.wall_ms) * speed
        slack_ms = self.error_ms + other.error_ms + JUMP_MS * speed
        return min(abs(ran_ms - by_transport_ms), abs(ran_ms - by_wall_ms)) <= slack_ms

    def is_sharper_than(self, later: _Anchor, speed: float) -> bool:
        """Tell whether this measurement still bounds the time closer than a later one that agrees.

        Its bound grows with what the machine's monotonic clock may have run wrong since.
        """
        by_transport_ms = (later.at_s - self.at_s) * 1000 * speed
        error_ms = self.error_ms + by_transport_ms * DRIFT
        differ_ms = abs(later.venue_ms - self.venue_ms - by_transport_ms)
        return error_ms < later.error_ms and differ_ms <= error_ms + later.error_ms


class VenueClock:
    """Follow the venue's server time, never ahead of it.

    Each measurement asks the server a few times and keeps the quickest answer: the server read its
    clock somewhere within that round trip, so half of it bounds the error. `now()` subtracts the
    bound and what our own clock may have run wrong since: a bar is taken for closed when it surely
    is. Between measurements time runs on the monotonic clock times `speed` (market ms per transport
    ms: 1 except in a rehearsal). A time
    that both clocks of the machine contradict is not believed before `JUMP_MEASUREMENTS` agree:
    `now()` never goes back, so one wrong answer would be believed for as long as it was wrong.
    Of two measurements that agree the sharper one counts: a slow answer makes no time late. While
    somebody sleeps it is measured anew in the background, for a venue that hangs is not to wake
    anybody late; `close` must be awaited then.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[int]],
        transport: TransportClock,
        *,
        remeasure_every_s: float = 60.0,
        samples: int = 3,
        speed: float = 1.0,
        measure_max_s: float = MEASURE_MAX_S,
    ) -> None:
        require(samples >= 1, f"samples {samples} must be at least 1")
        require(speed > 0, f"speed {speed} must be positive")
        self._ask = ask
        self._transport = transport
        self._remeasure_every_s = remeasure_every_s
        self._samples = samples
        self._measure_max_s = measure_max_s
        self._speed = speed
        self._anchor: _Anchor | None = None
        self._doubted: list[_Anchor] = []
        self._tried_s, self._tried_wall_ms = 0.0, 0  # on both clocks of the machine
        self._measuring: asyncio.Task[None] | None = None
        self._latest_ms = 0
        self._unreachable = False
        self.offset_ms = 0.0
        """Venue time minus the machine's UTC time at the last measurement."""
        self.error_ms = 0.0
        """Half the round trip of the last measurement: the bound of its error."""

    def now(self) -> int:
        """Give a market time that the venue has surely reached; it never goes back."""
        require(self._anchor is not None, "the venue's clock was not measured yet")
        if self._anchor is not None:
            run_ms = (self._transport.monotonic() - self._anchor.at_s) * 1000 * self._speed
            told_ms = int(self._anchor.venue_ms + run_ms * (1 - DRIFT) - self.error_ms)
            self._latest_ms = max(self._latest_ms, told_ms)
        return self._latest_ms

    async def measure(self) -> None:
        """Ask the venue for its time; raises what asking raises, and BadPayload for nonsense."""
        found = [await self._sample() for _ in range(self._samples)]
        anchor = min(found, key=lambda one: one.error_ms)
        self._note_tried()
        if not self._is_believed(anchor):
            return
        if self._anchor is not None and self._anchor.is_sharper_than(anchor, self._speed):
            return
        self._anchor = anchor
        self.error_ms = anchor.error_ms
        self.offset_ms = anchor.venue_ms - anchor.wall_ms
        _log.debug(VENUE_CLOCK_MEASURED, offset_ms=self.offset_ms, error_ms=self.error_ms)

    def _is_believed(self, anchor: _Anchor) -> bool:
        """Tell whether a measurement follows from the last one, or from enough others by now."""
        if self._anchor is None or self._anchor.runs_to(anchor, self._speed):
            self._doubted = []
            return True
        agree = not self._doubted or self._doubted[-1].runs_to(anchor, self._speed)
        self._doubted = [*(self._doubted if agree else []), anchor]
        ahead_ms = anchor.venue_ms - self.now()
        if len(self._doubted) < JUMP_MEASUREMENTS:
            _log.warning(VENUE_CLOCK_DOUBTED, ahead_ms=ahead_ms, times=len(self._doubted))
            return False
        _log.warning(VENUE_CLOCK_MOVED, ahead_ms=ahead_ms)
        self._doubted = []
        return True

    async def _sample(self) -> _Anchor:
        """Ask once; half of the round trip is the bound of the error."""
        before_s = self._transport.monotonic()
        venue_ms = await self._ask()
        trip_s = self._transport.monotonic() - before_s
        if venue_ms <= 0:
            raise BadPayload(f"the venue says its time is {venue_ms}: want ms since 1970")
        wall_ms = self._transport.wall_ms() - trip_s * 500
        error_ms = trip_s * 500 * self._speed
        return _Anchor(before_s + trip_s / 2, wall_ms, float(venue_ms), error_ms)

    async def sleep_until(self, at_ms: int) -> int:
        """Wait until the venue's time is `at_ms`; when it is due, measure it beside that."""
        while (left_ms := at_ms - self.now()) > 0:
            pause_s = min(left_ms / 1000 / self._speed, SLEEP_SLICE_S)
            measuring = self._measured_beside()
            if measuring is None:
                ran_s = self._transport.monotonic() - self._tried_s
                await asyncio.sleep(min(pause_s, max(self._remeasure_every_s - ran_s, 0.0)))
            else:  # it may find that the time has come
                await asyncio.wait({measuring}, timeout=pause_s)
        return self.now()

    async def remeasure_if_due(self) -> None:
        """Measure again after `remeasure_every_s`; a venue that cannot be asked changes nothing."""
        if not self._is_due():
            return
        self._note_tried()
        try:
            async with asyncio.timeout(self._measure_max_s):
                await self.measure()
        except Exception as trouble:  # noqa: BLE001 whatever it is, time runs on as measured before
            self._note_tried()
            if not self._unreachable:
                foreseen = isinstance(trouble, VenueError | BadPayload | OSError)
                more = {} if foreseen else {"exc_info": trouble}
                why = str(trouble) or type(trouble).__name__
                _log.warning(VENUE_CLOCK_UNREACHABLE, why=why, **more)
            self._unreachable = True
            return
        if self._unreachable:
            _log.info(VENUE_CLOCK_REACHED_AGAIN, offset_ms=self.offset_ms)
        self._unreachable = False

    async def close(self) -> None:
        """End a measurement that is under way."""
        task, self._measuring = self._measuring, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _measured_beside(self) -> asyncio.Task[None] | None:
        """Give the measurement under way, begun now where one is due; None where none is."""
        if self._measuring is not None and self._measuring.done():
            self._measuring = None
        if self._measuring is None and self._is_due():
            self._measuring = asyncio.create_task(self.remeasure_if_due(), name="venue clock")
        return self._measuring

    def _is_due(self) -> bool:
        """Tell whether to measure: after a while, and when this machine was suspended or set."""
        ran_s = self._transport.monotonic() - self._tried_s
        wall_ms = self._transport.wall_ms() - self._tried_wall_ms
        return ran_s >= self._remeasure_every_s or abs(wall_ms - ran_s * 1000) > JUMP_MS

    def _note_tried(self) -> None:
        self._tried_s = self._transport.monotonic()
        self._tried_wall_ms = self._transport.wall_ms()


class LockStepClock:
    """Move a rehearsal market forward, only after the daemon has come to rest.

    `quiesce` returns when everything up to now is processed; the market stands still until then,
    so that speed never changes a result. `on_end` is told when a market that has an end (recorded
    bars) is over and all of it is processed. One caller at a time.
    """

    def __init__(
        self,
        url: str,
        quiesce: Callable[[], Awaitable[None]],
        *,
        client: str = "equipoise",
        timeout_s: float = ADVANCE_TIMEOUT_S,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._url = url.rstrip("/") + ADVANCE_PATH
        self._quiesce = quiesce
        self._client = client
        self._on_end = on_end
        import aiohttp  # here: a backtest, which only needs the time, starts sooner and smaller

        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._now_ms: int | None = None
        self._is_over = False
        self._advancing = False

    def now(self) -> int:
        """Give the market time of the last advance; `start` must have been awaited."""
        require(self._now_ms is not None, "the lock-step clock was not started")
        return self._now_ms or 0

    async def start(self) -> int:
        """Learn where the market stands, without moving it."""
        return await self._advance(0)

    async def sleep_until(self, at_ms: int) -> int:
        """Come to rest, then let the market run to `at_ms` or to its next news before that."""
        require(not self._advancing, "two tasks move the market in lock-step: want one")
        self._advancing = True
        try:
            await self._quiesce()
            before_ms, now_ms = self._now_ms, await self._advance(at_ms)
            if self._is_over and now_ms == before_ms:
                self._on_end()
                await asyncio.sleep(OVER_PAUSE_S)  # the caller may not know, and would ask at once
            return now_ms
        finally:
            self._advancing = False

    async def close(self) -> None:
        """Leave the market, which no longer waits for us, and close the connection to it."""
        import aiohttp

        session, self._session = self._session, None
        if session is None:
            return
        try:
            body = {"client": self._client, "leave": True}
            quickly = aiohttp.ClientTimeout(total=LEAVE_TIMEOUT_S)
            async with session.post(self._url, json=body, timeout=quickly):
                pass
        except (aiohttp.ClientError, TimeoutError):
            pass  # the market is gone already: nobody waits
        finally:
            await session.close()

    async def _advance(self, until_ms: int) -> int:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        body = {"until_ms": until_ms, "client": self._client}
        try:
            async with self._session.post(self._url, json=body) as response:
                answer = await response.json(content_type=None)
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as trouble:
            raise VenueError(
                f"the market in lock-step at {self._url} did not answer:"
                f" {type(trouble).__name__} {trouble}"
            ) from trouble
        except ValueError as trouble:
            raise BadPayload(f"{self._url} answered something that is not JSON") from trouble
        now_ms = answer.get("now_ms") if isinstance(answer, dict) else None
        if status != 200 or not isinstance(now_ms, int):
            raise BadPayload(f"{self._url} answered {status} {str(answer)[:200]!r}: want now_ms")
        before_ms = self._now_ms or 0
        require(now_ms >= before_ms, f"the market went back to {iso(now_ms)}")
        self._now_ms = now_ms
        self._is_over = answer.get("finished") is True
        return now_ms
