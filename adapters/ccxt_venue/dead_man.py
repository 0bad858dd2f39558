"""The dead man's switch: timers at the venue that cancel what rests once we have fallen silent.

A timer is armed as soon as something rests and renewed when half of it is over, from a task of its
own, so that a hung process, a cut network or a killed one leaves nothing resting for longer than
the timer. A timer whose orders have ended is left to run out. At a clean stop timers are cleared,
save where something rests still: there the timer ends it. Where a venue counts from the end of our
private stream instead, the topic that it watches is kept subscribed, and nothing need be cleared.
Orders that have rested without a timer for half of one are told as a trouble that opens nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final, NoReturn

import structlog

from adapters.ccxt_venue.calls import Caller, now_s
from adapters.ccxt_venue.codes import payload_of, verdict_in
from adapters.ccxt_venue.names import Names
from adapters.ccxt_venue.quirks import DeadMan
from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import FeedNotice, FeedTrouble

LOOK_S: Final = 0.25
AGAIN_S: Final = 1.0
SHOWN_MAX: Final = 5
PARALLEL_N: Final = 4  # orders wait behind no more than these in the client's throttle
RENEW_AT: Final = 0.5  # of the timer; a renewal that fails is tried again until it has run out
CLEAR_S_MAX: Final = 3.0
WHOLE_ACCOUNT: Final = ""

_log = structlog.get_logger()


class DeadManSwitch:
    """Arm and renew the timers of one account.

    resting: the contracts with orders of ours. now_ms: market time.
    """

    def __init__(
        self,
        caller: Caller,
        words: DeadMan,
        names: Names,
        resting: Callable[[], Collection[InstrumentKey]],
        timer_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        self._caller = caller
        self._now_ms = now_ms
        self._words = words
        self._names = names
        self._resting = resting
        self._timer_s = timer_s
        self._due_s: dict[str, float] = {}  # when a timer is renewed, or tried again
        self._ends_s: dict[str, float] = {}  # when an armed timer strikes, by our clock
        self._failing: dict[str, tuple[float, str]] = {}  # since when, and why
        self._told = False

    async def keep(self, put: Callable[[FeedNotice], Awaitable[None]]) -> NoReturn:
        """Keep timers armed over everything that rests, until cancelled; tell what goes wrong."""
        async with asyncio.TaskGroup() as group:
            if self._words.topic:
                group.create_task(self._attend(), name="topic of the dead man's switch")
            while True:
                await self.look()
                for notice in self.notices():
                    await put(notice)
                await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Arm or renew what is due."""
        wanted, resting = self._wanted(), bool(self._resting())
        for one in [o for o in self._failing if o not in wanted or not resting]:
            del self._failing[one]
        due = [one for one in sorted(wanted) if now_s() >= self._due_s.get(one, 0.0)]
        for first in range(0, len(due), PARALLEL_N):
            await asyncio.gather(*(self._arm(one) for one in due[first : first + PARALLEL_N]))
        # What has nothing resting runs out by itself, and then counts as never armed.
        for one in [o for o in self._due_s if o not in wanted]:
            if now_s() >= self._ends_s.get(one, 0.0):
                del self._due_s[one]
                self._ends_s.pop(one, None)

    def notices(self) -> list[FeedNotice]:
        """Tell that orders have rested without a timer for too long, or no longer do so."""
        least_s = self._timer_s * (1 - RENEW_AT)
        bare = {one: why for one, (at_s, why) in self._failing.items() if now_s() - at_s >= least_s}
        if bool(bare) == self._told:
            return []
        self._told = bool(bare)
        text = "every order that rests has its timer at the venue again"
        if bare:
            names = ", ".join(one or "the account" for one in sorted(bare)[:SHOWN_MAX])
            more = f" and {len(bare) - SHOWN_MAX} more" if len(bare) > SHOWN_MAX else ""
            text = (
                f"orders in {names}{more} rest without a timer at the venue, which would outlive "
                f"this process: {next(iter(bare.values()))}; live.dead_man_s = 0 trades without"
            )
        return [
            FeedNotice(self._now_ms(), self._caller.venue, FeedTrouble.DEAD_MAN, self._told, text)
        ]

    async def clear(self) -> None:
        """Take away the timers over which nothing rests; what rests still is ended by its own.

        What came to rest while the run was ending has none yet, and is given one.
        """
        if self._words.topic:
            return
        wanted, armed = self._wanted(), list[str]()
        try:
            async with asyncio.timeout(CLEAR_S_MAX):
                await self.look()
                armed += [one for one, ends_s in self._ends_s.items() if ends_s > now_s()]
                await asyncio.gather(*(self._set(one, 0.0) for one in armed if one not in wanted))
        except TimeoutError:
            _log.warning("dead_man_timers_not_cleared", venue=self._caller.venue)
        for one in sorted(wanted & set(armed)):
            _log.info("dead_man_timer_left", venue=self._caller.venue, contract=one)

    def _wanted(self) -> set[str]:
        resting = self._resting()
        if not self._words.per_symbol:
            return {WHOLE_ACCOUNT} if resting or self._words.topic else set()
        return {self._names.symbol_id(key) for key in resting}

    async def _attend(self) -> NoReturn:
        """Keep the venue's topic subscribed, on one socket after the other."""
        while True:
            done = await self._caller.run(self._subscribed)
            _log.debug("dead_man_topic_again", why=self._caller.words(done.trouble))
            await asyncio.sleep(AGAIN_S)

    async def _subscribed(self) -> None:
        api, topic = self._caller.api, self._words.topic
        url = await api.get_url_by_market_type(None, True, "watchOrders")
        await api.authenticate(url)
        await api.watch_topics(url, [topic], [topic])

    async def _arm(self, one: str) -> None:
        begun_s = now_s()
        why = await self._set(one, self._timer_s)
        if why:
            self._due_s[one] = now_s() + min(AGAIN_S, self._timer_s / 8)
            since_s, _ = self._failing.setdefault(one, (begun_s, why))
            if since_s == begun_s:
                _log.warning("dead_man_timer_unset", contract=one, why=why)
            return
        if self._failing.pop(one, None):
            _log.warning("dead_man_timer_set_again", contract=one)
        self._due_s[one] = begun_s + self._timer_s * RENEW_AT
        self._ends_s[one] = now_s() + self._timer_s

    async def _set(self, one: str, timer_s: float) -> str:
        """Set one timer, 0 clears it; gives why the venue did not confirm it, "" when it did."""
        count = round(timer_s * 1000 / self._words.unit_ms)
        if self._words.per_symbol:
            query = {"symbol": one, self._words.key: str(count)}
            done = await self._caller.once(self._words.method, query)
        else:
            done = await self._caller.once(self._words.method, count)
        last = done.heard[-1] if done.heard else None
        if last is None or last.status is None:
            return self._caller.words(done.trouble)
        payload = payload_of(last.body)
        if not 200 <= last.status < 300 or payload is None:
            return self._caller.clean(f"HTTP {last.status}: {(last.body or '')[:120]}")
        verdict = verdict_in(self._caller.venue, payload)
        return "" if verdict is None else self._caller.clean(f"{verdict.code}: {verdict.text}")


def fit_timer(venue: str, words: DeadMan | None, timer_s: float) -> str:
    """Check a wished timer; gives why there is none at the venue, "" when there is.

    Raises ConfigurationError for a timer that the venue does not take.
    """
    if words is None:
        return f"{venue} offers none"
    if not words.least_ms <= timer_s * 1000 <= words.most_ms:
        raise ConfigurationError(
            f"live.dead_man_s = {timer_s:g}: {venue} takes {words.least_ms / 1000:g} to "
            f"{words.most_ms / 1000:g} s; 0 is off"
        )
    return ""
