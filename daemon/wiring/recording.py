"""Where the bars, funding and series of a running daemon go, and who hears the raw market."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from adapters.exchange.feed import CcxtFeed
from adapters.history.recorder import Recorder
from daemon.domain.instrument import Instrument
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.engine.engine import Engine
from daemon.ports import Clock, MarketFeed
from daemon.settings import Settings
from daemon.wiring.bar_recorder import BarRecorder
from daemon.wiring.cleansed_feed import CleansedFeed
from daemon.wiring.cleansing import cleansing_rules, log_early, log_judged
from daemon.wiring.covariates import series_root
from daemon.wiring.gauging import collector_of
from daemon.wiring.rescaled import UnitChanges, stated_changes

SHARED_FOLDER: Final = "data"
PRIVATE_FOLDER: Final = "bars"


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
    recorder = BarRecorder(recorders, instruments, every_ms, series_root(settings, root))
    try:
        yield recorder
    finally:
        await recorder.finish()


@asynccontextmanager
async def cleansed_feed(
    settings: Settings,
    feed: MarketFeed,
    engine: Engine,
    feeds: Sequence[CcxtFeed],
    clock: Clock,
    *,
    is_private: bool,
) -> AsyncIterator[CleansedFeed]:
    """Give the feed that an engine sees, bad bars absent; the bar store hears the raw one.

    feeds, clock: the venues that `feed` is made of and their time, for the series beside the bars.
    is_private: the venue is not what its name says (a rehearsal), so its bars stay with the run.
    """
    instruments = engine.universe.instruments
    known_ms = engine.state.instant_ms
    source = Timeframe.parse(settings.market.source)
    changes = stated_changes(settings, [i.key for i in instruments], source)
    async with bar_recorder(settings, instruments, is_private=is_private) as recorder:
        missing_ms = None
        if recorder is not None and known_ms:
            missing_ms = await asyncio.to_thread(recorder.missing_from_ms, known_ms)
        cleansed = CleansedFeed(
            feed,
            cleansing_rules(settings),
            source,
            on_judged=lambda records: log_judged(records, engine.universe.symbols),
            raw_from_ms=missing_ms,
            units=UnitChanges(changes, engine.state.rescaled),
            on_early=lambda early: log_early(early, engine.universe.symbols),
            **_heard_by(recorder),
        )
        if recorder is not None:
            cleansed.beside(recorder.shown)
        await cleansed.prime(engine.state.book.marks, known_ms, engine.state.doubted)
        collecting = collector_of(settings, feeds, clock, recorder, is_private=is_private)
        async with _checked(recorder, known_ms), collecting as collector:
            if collector is not None:
                lockstep = settings.exchange.market_time == "lockstep"
                cleansed.beside(collector.shown, collector.settled if lockstep else None)
            yield cleansed


@asynccontextmanager
async def _checked(recorder: BarRecorder | None, known_ms: int) -> AsyncIterator[None]:
    """Look through the whole store while the feed runs; a large one takes minutes."""
    if recorder is None:
        yield
        return
    task = asyncio.create_task(recorder.put_damaged_aside(known_ms), name="check of the store")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _heard_by(recorder: BarRecorder | None) -> dict[str, Any]:
    """Give the hooks of a feed for the recorder that hears it, none without one."""
    if recorder is None:
        return {}
    return {"on_raw": recorder, "notices": recorder.take_notices}
