"""Collect open interest, mark and index price of a running daemon, each known from when it came.

A round of questions is due shortly before each multiple of the wished interval, so that a decision
at that instant has fresh values. Everything of a round counts from the end of it: then the last
answer had come, and the market had reached that instant. What was collected is in the store of
series at once, where the worker reads it like any other series. A market in lock-step waits until a
round is over, so that speed changes no result; elsewhere nobody waits.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from adapters.exchange.feed import CcxtFeed
from adapters.exchange.gauges import GAUGES, Gauge, GaugeReader
from adapters.history.recorder import Observation
from daemon.domain.instrument import InstrumentKey
from daemon.domain.log_events import LogEvent
from daemon.domain.units import MINUTE_MS
from daemon.ports import Clock
from daemon.settings import Settings
from daemon.wiring.bar_recorder import BarRecorder
from daemon.wiring.estimator import covariates_in_use, reads_series
from strategies.forecast.inputs.covariates import needed

LEAD_MS: Final = 2 * MINUTE_MS  # before the instant that a round is for
LOOK_S: Final = 0.5  # between two looks at the market's clock
PER_ROUND_S: Final = 30.0  # a round that takes longer is given up

log = structlog.get_logger()


class Collector:
    """Ask every venue for its gauges when it is time, and store what came."""

    def __init__(
        self,
        readers: Sequence[tuple[str, GaugeReader]],
        keys: Callable[[], Sequence[InstrumentKey]],
        store: Callable[[Sequence[Observation]], Awaitable[None]],
        clock: Clock,
        every_ms: int,
        *,
        round_s: float = PER_ROUND_S,
    ) -> None:
        """Take readers by venue, and what gives the instruments as they are then."""
        self._readers = readers
        self._keys = keys
        self._store = store
        self._clock = clock
        self._every_ms = every_ms
        self._round_s = round_s
        self._done_ms = -1  # the instant that the last round was for
        self._newest: dict[tuple[str, str, str], int] = {}  # the last ts of a series
        self._failing: set[str] = set()
        self._busy = asyncio.Lock()
        self.rounds_n = 0
        self.values_n: Counter[str] = Counter()  # by venue
        self.failures_n: Counter[str] = Counter()

    async def settled(self, now_ms: int) -> None:
        """Do the round that is due by `now_ms`, and return when it is over; never raises."""
        due_ms = (now_ms + LEAD_MS) // self._every_ms
        async with self._busy:
            if due_ms <= self._done_ms:
                return
            self._done_ms = due_ms
            for venue, reader in self._readers:
                self._tell(venue, await self._unfailing_round(venue, reader))
            self.rounds_n += 1

    async def run(self) -> None:
        """Do every round when it is due; runs until cancelled."""
        while True:
            await self.settled(self._clock.now())
            await asyncio.sleep(LOOK_S)

    def shown(self, venue: str) -> dict[str, object]:
        """Give what a status shows of a venue: rounds, values that came, rounds with a failure."""
        return {
            "series_rounds_n": self.rounds_n,
            "series_values_n": self.values_n[venue],
            "series_failures_n": self.failures_n[venue],
        }

    async def _unfailing_round(self, venue: str, reader: GaugeReader) -> str:
        """Ask one venue, and give what went wrong; whatever that is, the next round is begun."""
        try:
            return await self._round(venue, reader)
        except Exception as failure:  # series are a sink: they must not stop trading
            if venue not in self._failing:
                log.error(LogEvent.SERIES_NOT_COLLECTED, venue=venue, exc_info=failure)
            return f"{type(failure).__name__}: {failure}"

    async def _round(self, venue: str, reader: GaugeReader) -> str:
        """Ask one venue and store what came; give the trouble that it had, empty for none."""
        symbols = [key.symbol for key in self._keys() if key.venue == venue]
        asked_ms, trouble = self._clock.now(), ""
        gauges: list[Gauge] = []
        try:
            async with asyncio.timeout(self._round_s):
                found = await reader.read(symbols)
            gauges, trouble = found.gauges, found.trouble
        except TimeoutError:
            trouble = f"not answered within {self._round_s:g} s"
        # the answers are known now: not at this instant, at which somebody may already have decided
        known_ms = self._clock.now() + 1
        rows = [row for one in gauges if (row := self._row(venue, one, asked_ms, known_ms))]
        if rows:
            self.values_n[venue] += len(rows)
            await self._store(rows)
        return trouble

    def _row(self, venue: str, one: Gauge, asked_ms: int, known_ms: int) -> Observation | None:
        """Make an observation; None for one that was there before."""
        ts_ms = min(asked_ms if one.ts_ms is None else one.ts_ms, known_ms)
        series = (venue, one.symbol, one.name)
        if ts_ms <= self._newest.get(series, -1):
            return None
        self._newest[series] = ts_ms
        return Observation(venue, one.symbol, one.name, ts_ms, known_ms, one.value)

    def _tell(self, venue: str, trouble: str) -> None:
        """Log when a venue begins to fail and when it is well again."""
        self.failures_n[venue] += bool(trouble)
        if trouble and venue not in self._failing:
            self._failing.add(venue)
            log.warning(LogEvent.SERIES_NOT_COLLECTED, venue=venue, why=trouble)
        elif not trouble and venue in self._failing:
            self._failing.discard(venue)
            log.warning(LogEvent.SERIES_COLLECTED, venue=venue, after="a failure")


def gauges_wanted(settings: Settings, *, is_private: bool) -> list[str]:
    """Name what a run with these settings collects: what a model reads, or what settings say.

    A market that is not what it says writes into no store that somebody named for series.
    """
    if not settings.data.record or not settings.data.series_every_min:
        return []
    is_own = not (is_private or settings.exchange.generated)
    if settings.estimator.series_folder and not is_own:
        return []
    match settings.data.series:
        case "always":
            return list(GAUGES)
        case "never":
            return []
        case "wanted":
            reads = covariates_in_use(settings) if reads_series(settings) else ()
            return [name for name in needed(reads) if name in GAUGES]


@asynccontextmanager
async def collector_of(
    settings: Settings,
    feeds: Sequence[CcxtFeed],
    clock: Clock,
    recorder: BarRecorder | None,
    *,
    is_private: bool,
) -> AsyncIterator[Collector | None]:
    """Give the collector of a run, None where nothing is wished; in real time it runs by itself."""
    names = gauges_wanted(settings, is_private=is_private)
    if recorder is None or not names:
        yield None
        return
    readers = [(feed.venue, GaugeReader(feed.client, names)) for feed in feeds]
    for venue, reader in readers:
        lacking = sorted(set(names) - set(reader.offered()))
        if lacking:
            log.warning(LogEvent.SERIES_NOT_COLLECTED, venue=venue, why=f"gives no {lacking}")
    every_ms = round(settings.data.series_every_min * MINUTE_MS)
    collector = Collector(readers, recorder.keys, recorder.observed, clock, every_ms)
    if settings.exchange.market_time == "lockstep":  # whoever moves the market waits for us
        yield collector
        return
    task = asyncio.create_task(collector.run(), name="series of the venue")
    try:
        yield collector
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
