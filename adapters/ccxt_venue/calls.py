"""Calls of a ccxt client: each once, heard on the wire; readings again and again, within bounds.

An order's call is made once and judged by `outcomes`. A reading (account, listings) may be asked
again: it changes nothing. What it gives is read from the body as it came, so that a page of a
gateway with status 200 is never read as 'nothing'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from adapters.ccxt_venue.codes import Reason, payload_of, verdict_in
from adapters.ccxt_venue.keys import Redactor
from adapters.ccxt_venue.wire import Exchange, HeldBack, listening, unless
from daemon.domain.failures import BadPayload, VenueError

Value = TypeVar("Value")
READ_ATTEMPTS_MAX: Final = 5
PAUSE_S: Final = 0.2
LEFT_ALONE_S_MAX: Final = 60.0  # longer, and whoever waits should know
CROWD_STATUSES: Final = (429, 418)
# Their own words: a firewall's limit, and access too frequent, which ends after ten minutes of
# silence and not before.
CROWD_STATUSES_OF: Final = {"binanceusdm": (403,), "bybit": (403,)}
CROWD_PAUSE_S: Final = 5.0  # where no Retry-After came; doubles until something is answered again
CROWD_PAUSE_S_MAX: Final = 640.0
RATE_PAUSE_S: Final = 1.0  # limits that a code tells of, with status 200, are those of a second
REFUSAL_CHARACTERS_MAX: Final = 1_000
TEXT_MAX: Final = 200

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Called:
    """Hold what one call did on the wire, and what it raised, if anything."""

    heard: list[Exchange]
    trouble: Exception | None


class Caller:
    """Call one client; keep away from the venue for as long as it said 'too often'."""

    def __init__(self, venue: str, api: Any, clean: Redactor) -> None:
        self.venue = venue
        self.api = api
        self.clean = clean
        self.clock_refused = asyncio.Event()  # set by any request that came at a wrong time
        self._alone_until_s = 0.0
        self._crowds_n = 0  # in a row

    @property
    def left_alone_s(self) -> float:
        """Give for how long the venue wants no request, 0 when asking is welcome."""
        return max(0.0, self._alone_until_s - now_s())

    @property
    def venue_ms(self) -> int:
        """Give the venue's time as requests are signed with it."""
        return int(self.api.milliseconds()) - int(self.api.options.get("timeDifference") or 0)

    async def once(self, method: str, *args: object) -> Called:
        """Call a method exactly once; whatever it raises is an answer, save a cancellation."""
        if why := self._unwanted():
            return Called([], LeftAlone(why))
        return await self.run(lambda: getattr(self.api, method)(*args))

    def _unwanted(self) -> str:
        """Say that the venue wants no request now, "" where it takes them."""
        alone_s = self.left_alone_s
        return f"the venue wants none for {alone_s:.1f} s" if alone_s else ""

    async def run(self, call: Callable[[], Awaitable[object]]) -> Called:
        """Run a call exactly once, as `once` does.

        What waited for its turn when the venue said 'too often' does not leave either.
        """
        trouble: Exception | None = None
        with listening() as heard, unless(self._unwanted, LeftAlone):
            try:
                await call()
            except Exception as e:  # noqa: BLE001 whatever it is, the request may have arrived
                trouble = e
        self._note_words(heard)
        return Called(heard, trouble)

    async def read(
        self, method: str, params: Mapping[str, object], reader: Callable[[object], Value]
    ) -> Value:
        """Ask for a listing until the answer can be read; raises VenueError after the last try.

        reader: gets the exact payload and raises BadPayload where its shape is wrong.
        """
        return await self.patiently(lambda: self._read_once(method, params, reader), method)

    async def patiently(self, ask: Callable[[], Awaitable[Value]], what: str) -> Value:
        """Repeat a reading that raises BadPayload, with growing pauses, a bounded number of times.

        Raises VenueError with the last reason; it names neither keys nor signatures.
        """
        for attempt in range(1, READ_ATTEMPTS_MAX + 1):
            if self.left_alone_s > LEFT_ALONE_S_MAX:
                raise VenueError(
                    f"{self.venue}, {what}: it wants no request for {self.left_alone_s:.0f} s"
                )
            await asyncio.sleep(self.left_alone_s)
            try:
                return await ask()
            except BadPayload as e:
                why = str(e)
            _log.debug("venue_reading_repeated", what=what, attempt=attempt, why=why)
            if attempt < READ_ATTEMPTS_MAX:
                await asyncio.sleep(PAUSE_S * 2 ** (attempt - 1))
        raise VenueError(f"{self.venue}, {what}: no readable answer: {why}")

    async def _read_once(
        self, method: str, params: Mapping[str, object], reader: Callable[[object], Value]
    ) -> Value:
        done = await self.once(method, dict(params))
        last = done.heard[-1] if done.heard else None
        if last is None or last.status is None:
            raise BadPayload(f"no answer: {self.words(done.trouble)}")
        payload = payload_of(last.body)
        verdict = None if payload is None else verdict_in(self.venue, payload)
        if verdict is not None or not 200 <= last.status < 300:
            raise Refused(
                f"HTTP {last.status}: {self._flat(last.body or '')}",
                None if verdict is None else verdict.code,
            )
        if payload is None:
            raise BadPayload(f"HTTP {last.status} that is not JSON: {self._flat(last.body or '')}")
        return reader(payload)

    def _note_words(self, heard: list[Exchange]) -> None:
        """Note what any answer says of our pace and of our clock."""
        for one in heard:
            reason = self._reason_in(one)
            if reason is Reason.CLOCK:
                self.clock_refused.set()
            pause_s = self._crowd_s(one, reason)
            if pause_s:
                self._alone_until_s = max(self._alone_until_s, now_s() + pause_s)
            elif one.status is not None and 200 <= one.status < 300:
                self._crowds_n = 0

    def _reason_in(self, one: Exchange) -> Reason | None:
        if one.body is None or len(one.body) > REFUSAL_CHARACTERS_MAX:
            return None
        payload = payload_of(one.body)
        verdict = None if payload is None else verdict_in(self.venue, payload)
        return None if verdict is None else verdict.reason

    def _crowd_s(self, one: Exchange, reason: Reason | None) -> float:
        """Give for how long an answer wants us away, 0 where it says nothing of it."""
        if one.status in (*CROWD_STATUSES, *CROWD_STATUSES_OF.get(self.venue, ())):
            if one.retry_after_s is not None:
                return one.retry_after_s
            self._crowds_n += not self.left_alone_s  # those under way together count as one
            return min(CROWD_PAUSE_S_MAX, CROWD_PAUSE_S * 2.0 ** max(0, self._crowds_n - 1))
        return RATE_PAUSE_S if reason is Reason.RATE else 0.0

    def words(self, trouble: Exception | None) -> str:
        """Give the words of an exception, without anything secret."""
        return "nothing was said" if trouble is None else self._flat(repr(trouble))

    def _flat(self, text: str) -> str:
        return " ".join(self.clean(text).split())[:TEXT_MAX]


class LeftAlone(HeldBack):
    """Say that a request was not made because the venue said 'too often'."""


class Refused(BadPayload):
    """Signal that the venue refused a reading; code: the venue's own, None without one."""

    def __init__(self, text: str, code: str | None) -> None:
        super().__init__(text)
        self.code = code


def now_s() -> float:
    """Give the transport time of this loop in seconds; only differences mean anything."""
    return asyncio.get_running_loop().time()
