"""Bring the final bars of a running daemon into the bar store, without ever stopping it.

The recorder hears raw market events on the event loop and only keeps them; a thread of its own
writes. A disk that refuses is told once when it begins and once when it ends; what could not be
written is tried again. What a kill takes away is the warm-up history of the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog

from adapters.history.recorder import Batch, Recorder, SeenRevision
from daemon.domain.bar import FIELDS, Proof
from daemon.domain.failures import DataError
from daemon.domain.instrument import Instrument
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import BarsClosed, MarketEvent, Revised
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.engine.engine import Engine
from daemon.ports import MarketFeed
from daemon.settings import Settings
from daemon.wiring.cleansed_feed import CleansedFeed
from daemon.wiring.cleansing import cleansing_rules, log_judged

SHARED_FOLDER: Final = "data"
PRIVATE_FOLDER: Final = "bars"
BARS_KEPT_MAX: Final = 200_000  # over all symbols; then they are written before their time
BARS_LOST_MAX: Final = 2_000_000  # with so many kept by a refusing disk, the next start reads them
REVISIONS_KEPT_MAX: Final = 10_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Work:
    """Hold what goes to disk at once."""

    events: Sequence[BarsClosed]
    revised: Sequence[Revised]


class BarRecorder:
    """Hear market events; write each symbol's file at most every so many market hours.

    History that comes before the first live bar does not start the clock of writing.
    """

    def __init__(
        self,
        recorders: Mapping[str, Recorder],
        instruments: Sequence[Instrument],
        every_ms: int,
    ) -> None:
        self._recorders = recorders  # by venue
        self._keys = [i.key for i in instruments]
        self._every_ms = every_ms
        self._events: list[BarsClosed] = []
        self._revised: list[Revised] = []
        self._kept_n = 0
        self._due_ms = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bar store")
        self._writing: Future[str | None] | None = None
        self._sent = _Work((), ())
        self._is_failing = False
        self.writes_n = 0

    def __call__(self, event: MarketEvent) -> None:
        """Keep what an event says; begin to write when it is time."""
        if isinstance(event, Revised):
            self._revised.append(event)
        if not isinstance(event, BarsClosed):
            return
        self._events.append(event)
        self._kept_n += len(event.proof)
        if not self._due_ms and event.proven_ms is not None:  # history does not say when
            self._due_ms = event.close_ms + self._every_ms
        is_due = self._due_ms and event.close_ms >= self._due_ms
        if (is_due or self._kept_n >= BARS_KEPT_MAX) and self._is_free():
            self._due_ms = event.close_ms + self._every_ms if self._due_ms else 0
            self._begin()

    def missing_from_ms(self, known_ms: int) -> int | None:
        """Give the instant after which the store lacks what the engine knows up to `known_ms`.

        A kill takes at most what was not written yet, so it is no further back than that.
        """
        ends = [self._recorders[key.venue].stored_until_ms(key.symbol) for key in self._keys]
        known = [end for end in ends if end is not None]
        return max(min(known), known_ms - 2 * self._every_ms) if known else None

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
        why = repr(failure) if failure is not None else self._writing.result()
        sent, self._writing, self._sent = self._sent, None, _Work((), ())
        self.writes_n += 1
        if why is None:
            if self._is_failing:
                log.warning(LogEvent.BARS_STORED, after="a failure")
        else:
            self._keep(sent)
            if not self._is_failing:
                log.warning(LogEvent.BARS_NOT_STORED, why=why, bars_kept=self._kept_n)
        self._is_failing = why is not None
        return True

    def _keep(self, sent: _Work) -> None:
        """Take back what was not written, unless that would be without bound."""
        self._revised = [*sent.revised, *self._revised][-REVISIONS_KEPT_MAX:]
        bars_n = sum(len(event.proof) for event in sent.events)
        if self._kept_n + bars_n <= BARS_LOST_MAX:
            self._events = [*sent.events, *self._events]
            self._kept_n += bars_n

    def _begin(self) -> None:
        if not self._events and not self._revised:
            return
        self._sent = _Work(self._events, self._revised)
        self._events, self._revised, self._kept_n = [], [], 0
        self._writing = self._thread.submit(self._write, self._sent)

    # ---- in the thread ---------------------------------------------------------------------------

    def _write(self, work: _Work) -> str | None:
        """Write every symbol's file; give the first failure in words."""
        why = None
        closes = np.array([event.close_ms for event in work.events], dtype=np.int64)
        for n, key in enumerate(self._keys):
            batch = _batch(key.symbol, n, closes, work)
            if not len(batch.close_ms) and not batch.revisions:
                continue
            try:
                aside = self._recorders[key.venue].write(batch)
            except DataError as e:
                why = why or str(e)
            else:
                if aside is not None:
                    log.warning(LogEvent.FILE_SET_ASIDE, file=str(aside))
        return why


def _batch(symbol: str, n: int, closes: npt.NDArray[np.int64], work: _Work) -> Batch:
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


def recording_folder(settings: Settings, *, is_private: bool) -> Path:
    """Give the root of the store that a run writes to.

    A market that may not be what the venue's name says (generated, rehearsed, or reached under
    another address) gets a store of its own in the state folder.
    """
    if settings.data.folder:
        return Path(settings.data.folder)
    exchange = settings.exchange
    own = is_private or exchange.generated or "urls" in exchange.options
    return settings.run.state_folder / PRIVATE_FOLDER if own else Path(SHARED_FOLDER)


@asynccontextmanager
async def bar_recorder(
    settings: Settings, instruments: Sequence[Instrument], *, is_private: bool
) -> AsyncIterator[BarRecorder | None]:
    """Give the recorder of a run, None where settings want none; the end writes what is left."""
    if not settings.data.record:
        yield None
        return
    source = Timeframe.parse(settings.market.source)
    root = recording_folder(settings, is_private=is_private)
    is_generated = settings.exchange.generated
    venues = {i.key.venue for i in instruments}
    recorders = {venue: Recorder(root, venue, source, is_generated) for venue in venues}
    every_ms = round(settings.data.record_every_h * HOUR_MS)
    recorder = BarRecorder(recorders, instruments, every_ms)
    try:
        yield recorder
    finally:
        await recorder.finish()


@asynccontextmanager
async def cleansed_feed(
    settings: Settings, feed: MarketFeed, engine: Engine, *, is_private: bool
) -> AsyncIterator[CleansedFeed]:
    """Give the feed that an engine sees, bad bars absent; the bar store hears the raw one.

    is_private: the venue is not what its name says (a rehearsal), so its bars stay with the run.
    """
    instruments = engine.universe.instruments
    known_ms = engine.state.instant_ms
    async with bar_recorder(settings, instruments, is_private=is_private) as recorder:
        missing_ms = None
        if recorder is not None and known_ms:
            missing_ms = await asyncio.to_thread(recorder.missing_from_ms, known_ms)
        cleansed = CleansedFeed(
            feed,
            cleansing_rules(settings),
            Timeframe.parse(settings.market.source),
            on_judged=lambda records: log_judged(records, engine.universe.symbols),
            on_raw=recorder or (lambda event: None),
            raw_from_ms=missing_ms,
        )
        await cleansed.prime(engine.state.book.marks, known_ms)
        yield cleansed
