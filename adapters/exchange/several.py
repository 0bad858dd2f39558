"""One venue or several as one feed: each keeps its own client, budget, sockets and troubles.

The columns of the book are those of the venues in the order of the settings. An instant of one
venue goes out when that venue has told it, with NaN for all others, and counts as final only when
every venue has said that nothing more can come; the engine's deadline bounds how long a venue that
is down is waited for. Rates, revisions and notices pass through with their columns moved. What a
book's only venue tells passes through as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec
import numpy as np
import structlog

from adapters.exchange.client import backoff_s
from adapters.exchange.feed import CcxtFeed
from adapters.exchange.ledger import Ledger
from daemon.domain.bar import FIELDS
from daemon.domain.failures import BadPayload, VenueError
from daemon.domain.instrument import Instrument
from daemon.domain.messages import (
    BarsClosed,
    FeedNotice,
    FeedTrouble,
    FundingRates,
    InstrumentChanged,
    MarketEvent,
    PriceDoubted,
    Rescaled,
    Revised,
    event_ms,
)
from daemon.domain.units import DAY_MS, require

INSTANTS_KEPT: Final = 1_000
PAUSE_MAX_S: Final = 300.0
EVENTS_MAX: Final = 1_000
BEGIN_MAX_S: Final = 5.0
"""How long a market in lock-step waits for a feed that is begun (again)."""
BEGIN_POLL_S: Final = 0.01
FEED_FAILED: Final = "feed_failed"
HISTORY_CUT: Final = "history_cut_short"
STARTED_WITHOUT: Final = "started_without_a_venue"
LASTING: Final = (FeedTrouble.VENUE_DOWN, FeedTrouble.CLOCK_OFFSET)
"""Troubles that no failure of a feed ends: one is told anew, the other measured by the next."""
OUTAGES: Final = (VenueError, BadPayload, OSError)

Told = tuple[int, MarketEvent | None]
"""The place of a venue and what it tells; None when it was closed."""

_log = structlog.get_logger()


class SeveralFeeds:
    """Deliver the bars of all venues; one that fails is begun again, and leaves others alone."""

    def __init__(self, feeds: Sequence[CcxtFeed]) -> None:
        require(feeds, "feeds: want at least one")
        self._feeds = list(feeds)
        self._columns: list[slice] = []
        self._count = 0
        self._timekeeper = 0  # the place of the venue whose time is asked for first
        self._closed = asyncio.Event()
        self._awaited: set[int] = set()  # the places of venues that are begun (again) at once
        self._final: dict[int, set[int]] = {}
        self._cut_ms: dict[int, int] = {}  # up to where the history of a venue came
        self._queue: asyncio.Queue[Told] | None = None
        self._waiting = asyncio.Event()
        self._taken = asyncio.Event()

    async def server_time(self) -> int:
        """Ask for the venue's time in ms: the market time of the book.

        The venue that answered last is asked first, the others while none answers: one that hangs
        is waited for once, not at each question.
        """
        count, first = len(self._feeds), self._timekeeper
        for place in range(first, first + count):
            self._timekeeper = (place + 1) % count  # whatever comes of it: next time another one
            try:
                told_ms = await self._feeds[place % count].server_time()
            except OUTAGES:
                if place == first + count - 1:
                    raise
                continue
            self._timekeeper = place % count
            return told_ms
        raise VenueError("no venue tells its time")

    def shown(self) -> dict[str, object]:
        """Give what people are shown, by venue."""
        return {venue: values for feed in self._feeds for venue, values in feed.shown().items()}

    async def instruments(self) -> Sequence[Instrument]:
        """Load the instruments of all venues.

        A venue that cannot be reached raises for a new book: without its trading rules nothing of
        it could be traded, reduced or valued. A book that goes on knows them: one of its venues is
        told as down and begun when it is back. Its only venue raises: nothing is left to trade.
        """
        found = await asyncio.gather(*(self._loaded(feed) for feed in self._feeds))
        ends = np.cumsum([len(one) for one in found]).tolist()
        starts = [0, *ends[:-1]]
        self._columns = [slice(a, b) for a, b in zip(starts, ends, strict=True)]
        self._count = ends[-1]
        return [instrument for one in found for instrument in one]

    async def history(self, since_ms: int, until_ms: int) -> AsyncIterator[MarketEvent]:
        """Yield the closed bars of all venues in time order, rates before bars, one at a time."""
        await self._placed()
        if len(self._feeds) == 1:
            async for event in self._feeds[0].history(since_ms, until_ms):
                yield event
            return
        streams = [
            _Ahead(place, self._told_before(place, since_ms, until_ms))
            for place in range(len(self._feeds))
        ]
        await asyncio.gather(*(stream.step() for stream in streams))
        while live := [s for s in streams if s.head is not None]:
            at_ms = min(event_ms(s.head) for s in live if s.head is not None)
            now = [s for s in live if s.head is not None and event_ms(s.head) == at_ms]
            rates = [s for s in now if not isinstance(s.head, BarsClosed)]
            if rates:
                head = rates[0].head
                if head is not None:
                    yield self._moved(rates[0].place, head)
                await rates[0].step()
                continue
            yield self._joined(now)
            await asyncio.gather(*(stream.step() for stream in now))

    async def events(self, after_ms: int) -> AsyncIterator[MarketEvent]:
        """Yield what happens at any venue after `after_ms`, until closed.

        A venue whose feed fails is told as a notice, and begun again after a growing pause.
        """
        await self._placed()
        queue = self._queue = asyncio.Queue(EVENTS_MAX)
        self._closed.clear()
        open_n = len(self._feeds)
        self._awaited = set(range(open_n))
        tasks = [
            asyncio.create_task(
                self._pump(queue, place, min(after_ms, self._cut_ms.get(place, after_ms))),
                name=f"feed {place}",
            )
            for place in range(open_n)
        ]
        try:
            while open_n:
                place, event = await self._next(queue)
                if event is None:
                    open_n -= 1
                else:
                    yield self._moved(place, event)
        finally:
            self._queue = None  # nobody takes from it any more: nobody is to wait for that
            self._awaited.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self, now_ms: int) -> None:
        """Return when every venue has told all it can up to `now_ms` and all of it was taken."""
        await asyncio.gather(*(self._settled(place, now_ms) for place in range(len(self._feeds))))
        while (queue := self._queue) is not None and not (queue.empty() and self._waiting.is_set()):
            self._taken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._taken.wait()

    async def close(self) -> None:
        """Close every connection of every venue."""
        self._closed.set()
        self._awaited.clear()
        await asyncio.gather(*(feed.close() for feed in self._feeds))

    async def _settled(self, place: int, now_ms: int) -> None:
        """Wait for one venue; a market in lock-step stands still while a feed is begun again.

        Nobody waits for one that could not be begun at once.
        """
        feed = self._feeds[place]
        while True:
            try:
                async with asyncio.timeout(BEGIN_MAX_S):
                    while place in self._awaited and feed.health is None:  # noqa: ASYNC110
                        await asyncio.sleep(BEGIN_POLL_S)
            except TimeoutError:
                self._awaited.discard(place)
            await feed.settled(now_ms)
            if place not in self._awaited or feed.health is not None:
                return

    async def _told_before(
        self, place: int, since_ms: int, until_ms: int
    ) -> AsyncIterator[MarketEvent]:
        """Yield one venue's history; what an outage leaves of it comes as late bars, up to a day.

        Nobody waits for a venue of a book that goes on; that of a new one raises.
        """
        feed, newest_ms = self._feeds[place], since_ms
        try:
            async for event in feed.history(since_ms, until_ms):
                newest_ms = max(newest_ms, event_ms(event))
                yield event
        except OUTAGES as trouble:
            if not feed.known:
                raise
            _log.warning(HISTORY_CUT, venue=feed.venue, why=str(trouble))
            self._cut_ms[place] = max(newest_ms, until_ms - DAY_MS)

    async def _placed(self) -> None:
        if not self._columns:
            await self.instruments()

    async def _loaded(self, feed: CcxtFeed) -> Sequence[Instrument]:
        try:
            return await feed.instruments()
        except OUTAGES as trouble:
            if not feed.known or len(self._feeds) == 1:
                raise
            _log.warning(STARTED_WITHOUT, venue=feed.venue, why=str(trouble))
            return feed.known

    async def _next(self, queue: asyncio.Queue[Told]) -> Told:
        if queue.empty():
            self._waiting.set()
            self._taken.set()
        try:
            return await queue.get()
        finally:
            self._waiting.clear()

    async def _pump(self, queue: asyncio.Queue[Told], place: int, after_ms: int) -> None:
        """Bring one venue's events to the queue until closed; a failure is told when it begins.

        A failure that nobody foresaw ends this venue's feed like any other: it is logged with its
        place in the code, told, and the feed begun again where everything had been told.
        """
        feed, failures, again = self._feeds[place], 0, False
        ledger = Ledger(after_ms, feed.timeframe, feed.late_max_ms)
        lasting: dict[FeedTrouble, FeedNotice] = {}
        while not self._closed.is_set():
            try:
                await self._refuse_other_width(place)
                async with contextlib.aclosing(feed.events(ledger.whole_ms)) as events:
                    async for event in events:
                        # notices and rates come at any start: only bars say that it works
                        if failures and isinstance(event, BarsClosed):
                            await queue.put((place, self._notice(place, ledger, False, "is back")))
                            failures = 0
                            self._awaited.add(place)
                        if isinstance(event, FeedNotice):
                            lasting[event.trouble] = event
                        fresh = ledger.fresh(event)
                        for one in fresh if again else [event]:
                            await queue.put((place, one))
                require(self._closed.is_set(), f"the feed of {feed.venue} ended by itself")
            except Exception as trouble:  # noqa: BLE001 one venue's failure must not stop the book
                foreseen = isinstance(trouble, OUTAGES)
                if not foreseen:
                    _log.error(FEED_FAILED, venue=feed.venue, exc_info=trouble)
                if not failures:
                    what = trouble if foreseen else f"{type(trouble).__name__}: {trouble}"
                    text = f"its feed failed and is begun again: {what}"
                    await queue.put((place, self._notice(place, ledger, True, text)))
                for told in lasting.values():  # the new feed knows of none, and could end none
                    if told.active and told.trouble not in LASTING:
                        ended = msgspec.structs.replace(
                            told, active=False, text="its feed is begun again"
                        )
                        await queue.put((place, ended))
                lasting.clear()
                failures, again = failures + 1, True
                if failures > 1:
                    self._awaited.discard(place)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(PAUSE_MAX_S, backoff_s(failures))):
                        await self._closed.wait()
        await queue.put((place, None))

    async def _refuse_other_width(self, place: int) -> None:
        """Raise where a venue that is begun again has another number of columns than the book."""
        feed, columns = self._feeds[place], self._columns[place]
        width, known = len(await feed.instruments()), columns.stop - columns.start
        require(
            width == known,
            f"{feed.venue} now gives {width} instruments, the book has {known} of it",
        )

    def _notice(self, place: int, ledger: Ledger, active: bool, text: str) -> FeedNotice:
        venue = self._feeds[place].venue
        return FeedNotice(ledger.newest_ms, venue, FeedTrouble.VENUE_DOWN, active, text)

    def _moved(self, place: int, event: MarketEvent) -> MarketEvent:
        """Give an event of one venue in the columns of the book."""
        if len(self._feeds) == 1:
            return event
        columns = self._columns[place]
        match event:
            case BarsClosed():
                whole = self._spread(columns, event)
                return msgspec.structs.replace(whole, final=self._says_final(place, event))
            case Revised():
                return msgspec.structs.replace(event, index=event.index + columns.start)
            case FundingRates():
                rates, marks = np.full(self._count, np.nan), np.full(self._count, np.nan)
                rates[columns], marks[columns] = event.rates, event.marks
                return FundingRates(event.settle_ms, rates, marks)
            case InstrumentChanged() | Rescaled() | PriceDoubted():
                return msgspec.structs.replace(event, index=event.index + columns.start)
            case FeedNotice():
                return event

    def _spread(self, columns: slice, event: BarsClosed) -> BarsClosed:
        values = np.full((self._count, FIELDS), np.nan)
        proof = np.zeros(self._count, dtype=np.uint8)
        opens = np.full(self._count, np.nan)
        values[columns], proof[columns], opens[columns] = event.values, event.proof, event.opens
        proven_ms = None
        if event.proven_ms is not None:
            proven_ms = np.zeros(self._count, dtype=np.int64)
            proven_ms[columns] = event.proven_ms
        return BarsClosed(event.close_ms, values, proof, opens, event.final, proven_ms)

    def _says_final(self, place: int, event: BarsClosed) -> bool:
        """Note that a venue is done with an instant; tell whether all of them are."""
        if not event.final:
            return False
        done = self._final.setdefault(event.close_ms, set())
        done.add(place)
        while len(self._final) > INSTANTS_KEPT:
            del self._final[min(self._final)]
        return len(done) == len(self._feeds)

    def _joined(self, streams: Sequence[_Ahead]) -> BarsClosed:
        """Put the bars of one instant of several venues into one message."""
        parts = [
            self._spread(self._columns[s.place], s.head)
            for s in streams
            if isinstance(s.head, BarsClosed)
        ]
        first = parts[0]
        values, proof, opens = first.values.copy(), first.proof.copy(), first.opens.copy()
        for part in parts[1:]:
            there = part.proof > 0
            values[there], proof[there] = part.values[there], part.proof[there]
            opens = np.where(np.isnan(opens), part.opens, opens)
        return BarsClosed(first.close_ms, values, proof, opens, True)


class _Ahead:
    """Read one venue's history one event ahead."""

    def __init__(self, place: int, source: AsyncIterator[MarketEvent]) -> None:
        self.place = place
        self._source = source
        self.head: MarketEvent | None = None

    async def step(self) -> None:
        """Go on to the next event; None at the end."""
        self.head = await anext(self._source, None)
