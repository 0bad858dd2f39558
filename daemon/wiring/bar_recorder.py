"""Keep what a feed tells of bars, funding and series, and write it, without ever stopping the feed.

The recorder hears raw market events on the event loop and only keeps them; a thread of its own
writes. A disk that refuses is told to people once when it begins and once when it ends; meanwhile
what could not be written is kept and tried again, so that a store that recovers has no hole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import structlog

from adapters.history.parquet_file import Rates
from adapters.history.recorder import (
    Batch,
    Observation,
    Recorder,
    SeenRevision,
    write_observations,
)
from daemon.domain.bar import FIELDS, Proof
from daemon.domain.failures import DataError
from daemon.domain.instrument import Instrument, InstrumentKey
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import (
    BarsClosed,
    FeedNotice,
    FeedTrouble,
    FundingRates,
    InstrumentChanged,
    MarketEvent,
    Revised,
)
from daemon.domain.units import DAY_MS, MINUTE_MS

BARS_KEPT_MAX: Final = 200_000  # over all symbols; then they are written before their time
BARS_LOST_MAX: Final = 2_000_000  # with so many kept by a refusing disk, a repair reads them again
REVISIONS_KEPT_MAX: Final = 10_000
RATES_KEPT_MAX: Final = 100_000
OBSERVATIONS_KEPT_MAX: Final = 500_000
RETRY_MS: Final = 10 * MINUTE_MS  # a disk that refused is tried again after so much market time
BACKFILL_MS_MAX: Final = 7 * DAY_MS  # what an earlier run could not store is read again so far back

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Work:
    """Hold what goes to disk at once."""

    events: Sequence[BarsClosed] = ()
    revised: Sequence[Revised] = ()
    rates: Sequence[FundingRates] = ()
    observations: Sequence[Observation] = ()

    def __bool__(self) -> bool:
        return bool(self.events or self.revised or self.rates or self.observations)


@dataclass(slots=True)
class _Outcome:
    """Tell how a write went: what failed first and at which venue, and what it concerned."""

    why: str | None = None
    venue: str = ""
    columns: set[int] = field(default_factory=set)
    observations: list[Observation] = field(default_factory=list)
    aside: list[tuple[str, str]] = field(default_factory=list)  # venue, what became of a file

    def failed(self, venue: str, why: str) -> None:
        """Note a failure; the first one is told."""
        if self.why is None:
            self.why, self.venue = why, venue


class BarRecorder:
    """Hear market events; write each symbol's files at most every so many market hours.

    History that comes before the first live bar does not start the clock of writing.
    """

    def __init__(
        self,
        recorders: Mapping[str, Recorder],
        instruments: Sequence[Instrument],
        every_ms: int,
        series_root: Path | None = None,
    ) -> None:
        self._recorders = recorders  # by venue
        self._keys = [i.key for i in instruments]
        self._free = {n for n, i in enumerate(instruments) if i.is_spare}
        self._every_ms = every_ms
        self._series_root = series_root
        self._events: list[BarsClosed] = []
        self._revised: list[Revised] = []
        self._rates: list[FundingRates] = []
        self._observations: list[Observation] = []
        self._kept_n = 0
        self._lost_n = 0
        self._due_ms = self._now_ms = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bar store")
        self._writing: Future[_Outcome] | None = None
        self._sent = Work()
        self._is_failing = False
        self._notices: list[FeedNotice] = []
        self.writes_n = 0

    def __call__(self, event: MarketEvent) -> None:
        """Keep what an event says; begin to write when it is time."""
        if isinstance(event, Revised):
            self._revised.append(event)
        if isinstance(event, FundingRates):
            self._rates = [*self._rates, event][-RATES_KEPT_MAX:]
        if isinstance(event, InstrumentChanged):  # a contract may have taken a spare column
            self._keys[event.index] = event.instrument.key
            self._free.discard(event.index)
        if not isinstance(event, BarsClosed):
            return
        self._now_ms = max(self._now_ms, event.close_ms)
        self._events.append(event)
        self._kept_n += len(event.proof)
        if not self._due_ms and event.proven_ms is not None:  # history does not say when
            self._due_ms = event.close_ms + self._every_ms
        if not self._is_free():
            return
        is_due = self._due_ms and event.close_ms >= self._due_ms
        if is_due or (self._kept_n >= BARS_KEPT_MAX and not self._is_failing):
            pause_ms = min(RETRY_MS, self._every_ms) if self._is_failing else self._every_ms
            self._due_ms = event.close_ms + pause_ms if self._due_ms else 0
            self._begin()

    def missing_from_ms(self, known_ms: int) -> int | None:
        """Give the instant after which the store lacks what the engine knows up to `known_ms`.

        No further back than a week: what has been missing for longer than that is of a contract
        that is gone, or is fetched by a repair.
        """
        ends = [self._recorders[key.venue].stored_until_ms(key.symbol) for key in self.keys()]
        known = [end for end in ends if end is not None]
        oldest_ms = known_ms - max(BACKFILL_MS_MAX, 2 * self._every_ms)
        recent = [end for end in known if end >= oldest_ms]
        return min(recent, default=oldest_ms) if known else None

    async def put_damaged_aside(self, at_ms: int) -> None:
        """Move stored files that cannot be believed aside, and tell of each.

        Reads them all, one after another and beside whatever else goes on: nothing of a start
        rests on it, for whoever uses a stored file checks what it reads.
        """
        for key in self.keys():
            damaged = self._recorders[key.venue].damaged
            try:
                found = await asyncio.to_thread(damaged, key.symbol)
            except Exception as failure:  # it is a look beside the trading, and the rest is seen to
                log.error(LogEvent.FILE_UNCHECKED, symbol=key.symbol, exc_info=failure)
                self._tell(at_ms, key.venue, True, f"{key.symbol}: not checked: {failure!r}")
                continue
            for text in found:
                log.warning(LogEvent.FILE_SET_ASIDE, why=text)
                self._tell(at_ms, key.venue, True, f"a stored file is damaged: {text}{_remedy()}")

    def keys(self) -> list[InstrumentKey]:
        """List the instruments as they are now."""
        return [key for n, key in enumerate(self._keys) if n not in self._free]

    def take_notices(self) -> Sequence[FeedNotice]:
        """Give what people must hear since the last call."""
        told, self._notices = self._notices, []
        return [msgspec.structs.replace(n, at_ms=max(n.at_ms, self._now_ms)) for n in told]

    def shown(self, venue: str) -> dict[str, object]:
        """Give what a status shows of a store that refuses; empty while all is well."""
        del venue  # it is one disk
        if not self._is_failing:
            return {}
        return {"store_fails": True, "bars_unstored_n": self._kept_n, "bars_lost_n": self._lost_n}

    async def observed(self, rows: Sequence[Observation]) -> None:
        """Write observations of series at once; returns when they are stored or have failed."""
        self._observations = [*self._observations, *rows][-OBSERVATIONS_KEPT_MAX:]
        await self._written()
        if self._observations and self._writing is None:
            self._observations, taken = [], self._observations
            self._send(Work(observations=taken))
            await self._written()

    async def finish(self) -> None:
        """Write what is left and wait for it."""
        await self._written()
        self._begin()
        await self._written()
        self._thread.shutdown(wait=False)

    async def _written(self) -> None:
        if self._writing is not None:
            await asyncio.wait([asyncio.wrap_future(self._writing)])
        self._is_free()

    def _is_free(self) -> bool:
        """Tell whether nothing is being written; take the result of what was."""
        if self._writing is None:
            return True
        if not self._writing.done():
            return False
        failure = self._writing.exception()
        outcome = self._writing.result() if failure is None else _Outcome(why=repr(failure))
        sent, self._writing, self._sent = self._sent, None, Work()
        self.writes_n += 1
        for venue, text in outcome.aside:
            log.warning(LogEvent.FILE_SET_ASIDE, why=text)
            self._tell(self._now_ms, venue, True, f"a stored file is damaged: {text}{_remedy()}")
        if outcome.why is not None:
            self._keep(sent, outcome if failure is None else None)
        self._judge(outcome, has_bars=bool(sent.events))
        return True

    def _judge(self, outcome: _Outcome, *, has_bars: bool) -> None:
        """Tell when the disk begins to refuse, and when it takes all again."""
        venue = outcome.venue or self._keys[0].venue
        if outcome.why is not None and not self._is_failing:
            self._is_failing = True
            self._due_ms = min(self._due_ms, self._now_ms) if self._due_ms else 0
            log.warning(LogEvent.BARS_NOT_STORED, why=outcome.why, bars_kept=self._kept_n)
            text = (
                f"what it shows cannot be stored: {outcome.why}; trading goes on, and what is "
                "missing is kept and written as soon as the disk takes it"
            )
            self._tell(self._now_ms, venue, True, text)
        elif outcome.why is None and self._is_failing and has_bars:
            self._is_failing = False
            log.warning(LogEvent.BARS_STORED, after="a failure", bars_lost=self._lost_n)
            text = "what it shows is stored again"
            text += f", {self._lost_n:,} bars are missing{_remedy()}" if self._lost_n else ""
            self._lost_n = 0
            self._tell(self._now_ms, venue, False, text)

    def _tell(self, at_ms: int, venue: str, active: bool, text: str) -> None:
        self._notices.append(FeedNotice(at_ms, venue, FeedTrouble.STORE, active, text))

    def _keep(self, sent: Work, outcome: _Outcome | None) -> None:
        """Take back what was not written, unless that would be without bound.

        Bars and rates may be written twice, a revision may not.
        """
        events, revised, rates = sent.events, sent.revised, sent.rates
        if outcome is not None:  # what the others had is written, and not to be written for ever
            columns = sorted(outcome.columns)
            events = [kept for one in events if (kept := _bars_of(one, columns)).proof.any()]
            revised = [one for one in revised if one.index in outcome.columns]
            rates = [_rates_of(one, columns) for one in rates]
            rates = [one for one in rates if not np.isnan(one.rates).all()]
        self._revised = [*revised, *self._revised][-REVISIONS_KEPT_MAX:]
        self._rates = [*rates, *self._rates][-RATES_KEPT_MAX:]
        seen = sent.observations if outcome is None else outcome.observations
        self._observations = [*seen, *self._observations][-OBSERVATIONS_KEPT_MAX:]
        bars_n = sum(int(np.count_nonzero(event.proof)) for event in events)
        if self._kept_n + bars_n <= BARS_LOST_MAX:
            self._events = [*events, *self._events]
            self._kept_n += bars_n
        else:
            self._lost_n += bars_n

    def _begin(self) -> None:
        work = Work(self._events, self._revised, self._rates, self._observations)
        if not work:
            return
        self._events, self._revised, self._rates, self._observations = [], [], [], []
        self._kept_n = 0
        self._send(work)

    def _send(self, work: Work) -> None:
        self._sent = work
        keys = [None if n in self._free else key for n, key in enumerate(self._keys)]
        self._writing = self._thread.submit(self._write, work, keys)

    # ---- in the thread ---------------------------------------------------------------------------

    def _write(self, work: Work, keys: Sequence[InstrumentKey | None]) -> _Outcome:
        """Write every symbol's files, and go on where one of them fails."""
        outcome = _Outcome()
        closes = np.array([event.close_ms for event in work.events], dtype=np.int64)
        for n, key in enumerate(keys):
            if key is None:
                continue
            try:
                self._write_one(n, key, closes, work, outcome)
            except DataError as e:
                outcome.columns.add(n)
                outcome.failed(key.venue, str(e))
        self._write_observations(work.observations, outcome)
        return outcome

    def _write_one(
        self, n: int, key: InstrumentKey, closes: npt.NDArray[np.int64], work: Work, out: _Outcome
    ) -> None:
        asides: list[Path | None] = []
        batch = _batch(key.symbol, n, closes, work)
        if len(batch.close_ms) or batch.revisions:
            asides.append(self._recorders[key.venue].write(batch))
        rates = _rates(n, work.rates)
        if len(rates):
            asides.append(self._recorders[key.venue].write_funding(key.symbol, rates))
        out.aside += [(key.venue, f"it is kept as {one}") for one in asides if one is not None]

    def _write_observations(self, rows: Sequence[Observation], outcome: _Outcome) -> None:
        if self._series_root is None:
            return
        by_file: dict[tuple[str, str, str], list[Observation]] = {}
        for row in rows:
            by_file.setdefault((row.venue, row.symbol, row.name), []).append(row)
        for (venue, _, _), one in by_file.items():
            try:
                aside = write_observations(self._series_root, one)
            except DataError as e:
                outcome.observations += one
                outcome.failed(venue, str(e))
            else:
                if aside is not None:
                    outcome.aside.append((venue, f"it is kept as {aside}"))


def _bars_of(event: BarsClosed, columns: Sequence[int]) -> BarsClosed:
    """Give the bars of some columns only."""
    proof = np.full_like(event.proof, Proof.ABSENT)
    proof[columns] = event.proof[columns]
    return msgspec.structs.replace(event, proof=proof)


def _rates_of(event: FundingRates, columns: Sequence[int]) -> FundingRates:
    """Give the rates of some columns only."""
    rates = np.full_like(event.rates, np.nan)
    rates[columns] = event.rates[columns]
    return msgspec.structs.replace(event, rates=rates)


def _remedy() -> str:
    return "; check-data --repair fetches all that it held"


def _rates(n: int, told: Sequence[FundingRates]) -> Rates:
    """Give the rates of one instrument, each instant once, oldest first; the first told stays."""
    mine: dict[int, float] = {}
    for event in told:
        rate = float(event.rates[n]) if n < len(event.rates) else np.nan
        if np.isfinite(rate):
            mine.setdefault(event.settle_ms, rate)
    return Rates.from_pairs(sorted(mine.items()))


def _batch(symbol: str, n: int, closes: npt.NDArray[np.int64], work: Work) -> Batch:
    proof = np.array([event.proof[n] for event in work.events], dtype=np.uint8)
    rows = np.flatnonzero(proof != Proof.ABSENT)
    events = [work.events[t] for t in rows.tolist()]
    proven = [0 if e.proven_ms is None else int(e.proven_ms[n]) for e in events]
    values = np.array([event.values[n] for event in events]).reshape(-1, FIELDS)
    revisions = [
        SeenRevision(
            one.close_ms,
            tuple(one.before.tolist()),
            tuple(one.after.tolist()),
            one.seen_ms,
            Proof(one.shown_by).name.lower(),
        )
        for one in work.revised
        if one.index == n
    ]
    proven_ms = np.array(proven, dtype=np.int64)
    return Batch(symbol, closes[rows], values, proof[rows], proven_ms, revisions)
