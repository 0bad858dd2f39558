"""The live feed with bad bars absent: what the engine sees, and so what the journal holds.

Between the exchange's feed and the shell. Raw events are shown to `on_raw` first, so that the bar
store keeps what the venue said. An event without a bad bar passes through as it is. A still bar
waits until it is certain whether its venue stands still; what waits at the deadline of an instant
is judged by what is known then (`overdue`), and what was told never changes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isnan
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog

from daemon.domain.bar import Field, Flags, Floats, Proof
from daemon.domain.cleanser import Cleanser, Early
from daemon.domain.cleansing import (
    CleansingRule,
    CleansingRules,
    Memory,
    Removal,
    Verdict,
    judge,
)
from daemon.domain.instrument import Instrument, InstrumentKey
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import (
    BarsClosed,
    FeedNotice,
    InstrumentChanged,
    MarketEvent,
    Rescaled,
    Revised,
    event_ms,
)
from daemon.domain.scales import Doubt, guessed_factors
from daemon.domain.units import Timeframe, iso, require
from daemon.domain.units_change import Change
from daemon.ports import MarketFeed
from daemon.wiring.rescaled import UnitChanges, counted_events, doubt_events

log = structlog.get_logger()

GONE_MAX: Final = 10_000  # removed bars whose revisions concern nobody


class CleansedFeed:
    """Implement the MarketFeed port over another feed."""

    def __init__(
        self,
        inner: MarketFeed,
        rules: CleansingRules,
        source: Timeframe,
        *,
        on_judged: Callable[[Sequence[Removal]], None] = lambda records: None,
        on_raw: Callable[[MarketEvent], None] = lambda event: None,
        raw_from_ms: int | None = None,
        notices: Callable[[], Sequence[FeedNotice]] = tuple,
        units: UnitChanges | None = None,
        on_early: Callable[[Early], None] = lambda early: None,
    ) -> None:
        """Wrap a feed; history begins at `raw_from_ms` for `on_raw` where that is earlier.

        notices: what whoever hears raw events has to tell, asked for after each of them. units: the
        changes of units that are stated, none when left out. on_early: told of each instant that
        was judged at its deadline, with which `cleansing.cleansed` comes to the same verdicts.
        """
        self._on_early = on_early
        self._units = UnitChanges() if units is None else units
        self._keys: tuple[InstrumentKey, ...] = ()
        self._primed_ms = 0
        self._first_ms = np.zeros(0, dtype=np.int64)  # the close of the first bar, by column
        self._doubted: dict[int, int] = {}  # since when, by column
        self._notices = notices
        self._shown: list[Callable[[str], Mapping[str, object]]] = []
        self._settled: Callable[[int], Awaitable[None]] | None = None
        self._raw_from_ms = raw_from_ms
        self._inner, self._rules, self._source = inner, rules, source
        self._on_judged, self._on_raw = on_judged, on_raw
        self._cleanser: Cleanser | None = None
        self._newest_ms = 0
        self._waiting: BarsClosed | None = None  # bars of the newest instant, not judged yet
        self._venues: tuple[str, ...] = ()  # of each instrument
        self._removed_by_venue: Counter[str] = Counter()
        self._gone: deque[tuple[int, int]] = deque(maxlen=GONE_MAX)

    @property
    def removed_n(self) -> dict[CleansingRule, int]:
        """Count removed bars by rule."""
        return {} if self._cleanser is None else dict(self._cleanser.removed_n)

    def shown(self, venues: Mapping[str, object]) -> dict[str, object]:
        """Add to what a status shows of each feed: bars removed, and a store that refuses."""
        found: dict[str, object] = {}
        for venue, values in venues.items():
            if not isinstance(values, Mapping):
                found[venue] = values
                continue
            removed_n = self._removed_by_venue[venue]
            more = {"bars_removed_n": removed_n} if removed_n else {}
            beside = {key: one for shown in self._shown for key, one in shown(venue).items()}
            found[venue] = {**values, **more, **beside}
        return found

    def beside(
        self,
        shown: Callable[[str], Mapping[str, object]],
        settled: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """Let a status show more of each venue; settled: a market in lock-step waits for it too."""
        self._shown.append(shown)
        self._settled = settled or self._settled

    async def prime(
        self, marks: Floats, at_ms: int, doubted: Mapping[int, Doubt] | None = None
    ) -> None:
        """Take the last prices (N,) of a recovered book, so that a change of unit is seen.

        doubted: whose prices were doubted before, with what had been counted for it.
        """
        await self.instruments()
        cleanser = self._required()
        memory = cleanser.memory.primed(marks, at_ms)
        for index, doubt in (doubted or {}).items():
            anchor = float(marks[index]) if isnan(doubt.anchor) else doubt.anchor
            memory = memory.doubting(index, replace(doubt, anchor=anchor))
        cleanser.memory = memory
        self._primed_ms = at_ms
        self._first_ms[np.isfinite(marks)] = 1  # known for longer than this feed is
        self._doubted = {index: doubt.since_ms for index, doubt in (doubted or {}).items()}

    # ---- the port --------------------------------------------------------------------------------

    async def instruments(self) -> Sequence[Instrument]:
        """Load the instruments with their trading rules, in the configured order."""
        found = await self._inner.instruments()
        if self._cleanser is None:
            self._keys = tuple(i.key for i in found)
            self._venues = tuple(i.key.venue for i in found)
            names = sorted({i.key.venue for i in found})
            venues = np.array([names.index(i.key.venue) for i in found], dtype=np.int64)
            memory = Memory.empty(len(found))
            self._first_ms = np.zeros(len(found), dtype=np.int64)
            taken = np.array([not i.is_spare for i in found], dtype=np.bool_)
            self._cleanser = Cleanser(self._rules, self._source.minutes, memory, venues, taken)
        return found

    async def history(self, since_ms: int, until_ms: int) -> AsyncIterator[MarketEvent]:
        """Yield the cleansed history with since < close <= until."""
        await self.instruments()
        start_ms = since_ms if self._raw_from_ms is None else min(since_ms, self._raw_from_ms)
        # stated while they were doubted: their bars were kept back
        untold = self._units.untold(since_ms)
        late = [change for change in untold if self._answers(change)]
        again_ms = min([change.at_ms for change in late], default=since_ms)
        async for event in self._inner.history(min(start_ms, again_ms), until_ms):
            for one in self.cleansed(event):
                if event_ms(one) > since_ms or isinstance(one, Rescaled):
                    yield one
                elif isinstance(one, BarsClosed) and late:
                    yield _columns(one, [change.event.index for change in late])

    async def events(self, after_ms: int) -> AsyncIterator[MarketEvent]:
        """Yield what happens after `after_ms`, cleansed."""
        await self.instruments()
        async for event in self._inner.events(after_ms):
            for one in list(self.cleansed(event)):  # whole: `overdue` may come between two of them
                yield one
            for notice in self._notices():
                yield notice

    async def settled(self, now_ms: int) -> None:
        """Return when the inner feed has told all up to `now_ms`."""
        await self._inner.settled(now_ms)
        if self._settled is not None:
            await self._settled(now_ms)

    async def close(self) -> None:
        """Close the inner feed."""
        await self._inner.close()

    # ---- what becomes of an event ----------------------------------------------------------------

    def cleansed(self, event: MarketEvent) -> Iterator[MarketEvent]:
        """Give what the engine sees of an event, after showing the raw one."""
        self._on_raw(event)
        yield from self._changed(event_ms(event))
        event = self._units.shown(event)
        match event:
            case BarsClosed(close_ms=close_ms) if close_ms < self._newest_ms:
                yield self._late(event)
            case BarsClosed():
                yield from self._bars(event)
            case InstrumentChanged(index=index, instrument=instrument):
                self._expect(index, instrument)
                self._keys = (*self._keys[:index], instrument.key, *self._keys[index + 1 :])
                yield event
            case Revised(close_ms=close_ms, index=index) if (close_ms, index) in self._gone:
                return  # nobody ever saw that bar
            case _:
                yield event

    def overdue(self, close_ms: int) -> Sequence[MarketEvent]:
        """Judge what waits of an instant whose deadline has come; give what comes out of it."""
        before = self._waiting
        if before is None or before.close_ms > close_ms:
            return ()
        self._waiting = None
        cleanser = self._required()
        doubts = cleanser.memory.doubts
        out, records, early = cleanser.decide()
        self._told(records)
        if early is None:
            return ()
        self._on_early(early)
        events: list[MarketEvent] = list(doubt_events(cleanser.turns, self._keys))
        events += counted_events(before.close_ms, doubts, cleanser.memory.doubts)
        if out.any():
            events.append(_part(self._without_strange_opens(before), out, out, final=False))
        return events

    def _expect(self, index: int, instrument: Instrument) -> None:
        """Wait for the bars of a contract that takes a spare column."""
        cleanser = self._required()
        if cleanser.expected is not None:
            expected = cleanser.expected.copy()
            expected[index] = not instrument.is_spare
            cleanser.expected = expected

    def _changed(self, at_ms: int) -> Iterator[MarketEvent]:
        """Tell of changes of units that begin by `at_ms`; what waited in old ones goes first."""
        for change in self._units.due(at_ms):
            if self._waiting is not None:
                yield from self._bars(_nothing_more(self._waiting))
                self._waiting = None
            cleanser = self._required()
            memory = cleanser.memory
            if not self._is_past(change):
                cleanser.memory = change.remembered(memory)
                yield change.event
                continue
            # What the book holds was traded after the change, or its price believed: it is in new
            # units already, and only the bars of before are shown in them.
            if not memory.doubts.active[change.event.index]:  # of another jump: that is still open
                cleanser.memory = memory.believing(change.event.index)
            log.warning(
                LogEvent.SETTING_PASSED_OVER,
                key="data.rescaled",
                value=f"{change.event.key} at {iso(change.at_ms)}",
                book=f"has traded until {iso(self._primed_ms)}: its position stays as it is",
            )

    def _is_past(self, change: Change) -> bool:
        """Tell whether a book has gone on over a change, with nobody in doubt about the price."""
        return change.at_ms < self._primed_ms and not self._answers(change)

    def _answers(self, change: Change) -> bool:
        """Tell whether a statement is about the very jump for which an instrument is doubted."""
        since_ms = self._doubted.get(change.event.index)
        return since_ms is not None and abs(change.at_ms - since_ms) <= self._source.ms

    def _bars(self, event: BarsClosed) -> Iterator[MarketEvent]:
        before = self._waiting
        if before is not None and before.close_ms != event.close_ms:
            yield from self._bars(_nothing_more(before))  # no final piece ever came
            before = None
        self._newest_ms = event.close_ms
        values = event.values
        cleanser = self._required()
        doubts = cleanser.memory.doubts
        out, held, records = cleanser.take(event.close_ms, values, is_final=event.final)
        yield from doubt_events(cleanser.turns, self._keys)
        yield from counted_events(event.close_ms, doubts, cleanser.memory.doubts)
        event = self._without_strange_opens(event)
        gone = self._told(records)
        there = ~np.isnan(values[:, Field.CLOSE])
        self._first_ms[there & (self._first_ms == 0)] = event.close_ms
        self._waiting = None
        if not gone and before is None and not held.any():
            yield event
            return
        known = _over(event, before, there)
        if held.any():
            self._waiting = _part(known, held, held, final=False)
        # What waited and comes out now has its place in `known`, like what this piece brings.
        told = out | (known.proof == Proof.ABSENT)
        if event.final or out.any() or np.isfinite(known.opens[told]).any():
            yield _part(known, out, told, final=event.final)

    def _without_strange_opens(self, event: BarsClosed) -> BarsClosed:
        """Let nobody trade at a price that is doubted, or will be when its bar has closed."""
        if CleansingRule.RESCALED in self._rules.off:
            return event
        memory = self._required().memory
        with np.errstate(invalid="ignore", divide="ignore"):
            strange = guessed_factors(event.opens / memory.last[:, Field.CLOSE]) > 0
        strange |= memory.doubts.active & ~np.isnan(event.opens)
        return (
            _with_opens(event, np.where(strange, np.nan, event.opens)) if strange.any() else event
        )

    def _late(self, event: BarsClosed) -> BarsClosed:
        """Judge a bar that comes after later ones; memory, which is of those, stays.

        What is older than all that was told of a contract (it joined) is compared with nothing: no
        gap lies between it and a price of hours later.
        """
        cleanser = self._required()
        memory = cleanser.memory
        last_ms = np.where(event.close_ms < self._first_ms, 0, memory.last_ms)
        memory = replace(memory, last_ms=last_ms)
        at_ms = np.array([event.close_ms], dtype=np.int64)
        judged = judge(at_ms, event.values[None], memory, self._rules, self._source.minutes)
        if not self._told(tuple(judged.records(at_ms))):
            return event
        there: Flags = np.asarray(~np.isnan(event.values[:, Field.CLOSE]))
        kept = np.asarray(there & ~judged.removed[0])
        return _part(event, kept, kept | ~there, final=event.final)

    def _told(self, records: Sequence[Removal]) -> bool:
        """Tell of verdicts; give whether any bar was removed."""
        if records:
            self._on_judged(records)
        removed = [one for one in records if one.verdict is Verdict.REMOVE]
        self._removed_by_venue.update(self._venues[one.index] for one in removed)
        self._gone.extend((one.close_ms, one.index) for one in removed)
        return bool(removed)

    def _required(self) -> Cleanser:
        require(self._cleanser is not None, "a feed tells nothing before its instruments")
        return self._cleanser or Cleanser(self._rules, self._source.minutes, Memory.empty(0))


def _with_opens(event: BarsClosed, opens: Floats) -> BarsClosed:
    return BarsClosed(
        event.close_ms, event.values, event.proof, opens, event.final, event.proven_ms
    )


def _columns(event: BarsClosed, columns: list[int]) -> BarsClosed:
    """Take the bars of some columns only."""
    which = np.zeros(len(event.opens), dtype=np.bool_)
    which[columns] = True
    which &= event.proof != Proof.ABSENT
    return _part(event, which, which, final=False)


def _nothing_more(waiting: BarsClosed) -> BarsClosed:
    """End an instant whose last piece never came; it adds no bar."""
    n = len(waiting.opens)
    absent = np.zeros(n, dtype=np.uint8)
    nothing = np.full_like(waiting.values, np.nan)
    return BarsClosed(waiting.close_ms, nothing, absent, np.full(n, np.nan), final=True)


def _over(event: BarsClosed, before: BarsClosed | None, there: Flags) -> BarsClosed:
    """Lay a piece over the still bars that came before it."""
    if before is None:
        return event
    values = np.where(there[:, None], event.values, before.values)
    proof = np.where(there, event.proof, before.proof).astype(np.uint8)
    opens = np.where(np.isnan(event.opens), before.opens, event.opens)
    proven_ms = None
    if event.proven_ms is not None or before.proven_ms is not None:
        proven_ms = np.where(there, _instants(event), _instants(before))
    return BarsClosed(event.close_ms, values, proof, opens, event.final, proven_ms)


def _instants(event: BarsClosed) -> npt.NDArray[np.int64]:
    nothing = np.zeros(len(event.proof), dtype=np.int64)
    return nothing if event.proven_ms is None else event.proven_ms


def _part(known: BarsClosed, which: Flags, priced: Flags, *, final: bool) -> BarsClosed:
    """Take the bars of some instruments, and the prices that follow those of others.

    At the price that follows a removed bar nobody trades, and one that follows a bar which still
    waits comes with it.
    """
    values = np.where(which[:, None], known.values, np.nan)
    opens = np.where(priced, known.opens, np.nan)
    proof = np.where(which, known.proof, np.uint8(Proof.ABSENT)).astype(np.uint8)
    proven_ms = None if known.proven_ms is None else np.where(which, known.proven_ms, 0)
    return BarsClosed(known.close_ms, values, proof, opens, final, proven_ms)
