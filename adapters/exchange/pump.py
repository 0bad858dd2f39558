"""The feed's engine room: what one iteration of `CcxtFeed.events` does, round by round.

One task owns the finality gate and the bookkeeping of instants: read the stream's caches, ask by
REST for what is missing, hand out what is settled, and tell `settled` how far things are. Only this
task changes them, so that no order of arrival can.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import structlog

from adapters.exchange.audits import Audits
from adapters.exchange.carried import Carried, UnreadPast
from adapters.exchange.client import VenueClient
from adapters.exchange.darkness import DARK_BARS, Darkness
from adapters.exchange.delivery import Delivery
from adapters.exchange.feed_settings import FeedSettings
from adapters.exchange.frames import FRAME_READERS
from adapters.exchange.funding import FundingTable
from adapters.exchange.health import FeedHealth
from adapters.exchange.history import read_history
from adapters.exchange.instants import NEVER_MS, Instants
from adapters.exchange.joining import Joining
from adapters.exchange.life import Life
from adapters.exchange.reader import Page, VenueReader
from adapters.exchange.recent import OWED_BARS_MAX, RecentBars
from adapters.exchange.rereads import Doubts, Rereads
from adapters.exchange.stream import BarStream
from adapters.exchange.watch import Transport, Watch
from daemon.domain.bar import FIELDS, Field, Proof
from daemon.domain.failures import BadPayload, VenueError
from daemon.domain.finality import Contradiction, Correction, FinalBar, FinalityGate, Verdict
from daemon.domain.instrument import Instrument, is_spare_symbol
from daemon.domain.messages import BarsClosed, FeedNotice, FeedTrouble, Revised
from daemon.domain.units import DAY_MS, iso
from daemon.ports import Clock

BARS_ABSENT: Final = "bars_absent"
ROWS_AHEAD: Final = "rows_of_bars_that_have_not_begun"
PAST_UNREAD: Final = "past_of_a_listing_unread"
PAST_MS: Final = DAY_MS
"""How far back the bars of a contract that joins are read: what the engine still takes in."""
STREAM_NOT_OFFERED: Final = "stream_not_offered"
POLL_S: Final = 0.25
POLL_BUSY_S: Final = 0.02
IDLE_PAUSE_S: Final = 0.05
"""How long frames are gathered before a round, unless somebody waits for `settled`."""
FRAME_PAUSE_S: Final = 0.001
"""The same where frames are judged as they come: a round then costs little."""
ROUND_CHEAP_S: Final = 0.002
ROUND_PAUSE_MAX_S: Final = 0.01

__all__ = ["FeedSettings", "Pump"]

_log = structlog.get_logger()


class Pump:
    """Own the gate and the bookkeeping of one `events` iteration."""

    def __init__(
        self,
        settings: FeedSettings,
        client: VenueClient,
        reader: VenueReader,
        clock: Clock,
        transport: Transport,
        instruments: Sequence[Instrument],
        after_ms: int,
        *,
        funding: bool,
        joining: Joining | None = None,
        carried: Carried | None = None,
    ) -> None:
        self._settings, self._reader = settings, reader
        self._clock, self._transport = clock, transport
        self._symbols = [i.key.symbol for i in instruments]
        streaming = settings.stream and client.has("watchOHLCV")
        if settings.stream and not streaming:
            _log.info(STREAM_NOT_OFFERED, exchange=client.exchange)
        confirms = streaming and client.exchange in FRAME_READERS
        self._gate = FinalityGate(len(instruments), settings.timeframe, after_ms, confirms=confirms)
        self._instants = _new_instants(settings, instruments, after_ms)
        self._carried = Carried(RecentBars(settings.audit_bars)) if carried is None else carried
        self._go_on_from(self._carried.recent, after_ms)
        self._funding = self._new_funding(reader, after_ms, available=funding)
        self._news, self._hurry = asyncio.Event(), asyncio.Event()
        self.delivery = Delivery(
            after_ms, settings.settle_timeout_s, client.exchange, self._hurried
        )
        self.health = FeedHealth(client.exchange)
        self._rereads = self._new_rereads(reader)
        self._doubts = Doubts(settings.timeframe)
        self._stream = self._bar_stream(client) if streaming else None
        self._pause_s = FRAME_PAUSE_S if confirms else IDLE_PAUSE_S
        every_ms, tell = settings.markets_every_ms, self.delivery.put
        self._life = Life(client, instruments, every_ms, tell, self._wake, joining)
        self._reading_past_n = 0
        self._watch = Watch(
            settings.watch,
            client,
            self._stream,
            settings.timeframe,
            clock,
            transport,
            self.health,
            self.delivery.put,
            self._carried.compared,
        )
        self._recheck_done_ms, self._recheck_at_s = after_ms, transport.monotonic()
        self._audits = Audits(
            settings.timeframe,
            after_ms,
            len(instruments),
            every_bars=settings.audit_every_bars,
            bars_n=settings.audit_bars,
        )
        self._darkness = Darkness(self._tell_dark)
        self._unheard_ms = [after_ms] * len(instruments)
        self._ahead_n = 0

    def _go_on_from(self, recent: RecentBars, after_ms: int) -> None:
        """Know the bars that were told before, and ask for those that were left out."""
        for told in recent.told():
            self._gate.seed(*told)
        self._carried.begin(after_ms)
        for index, closes in recent.owed(after_ms):
            if index not in self._carried.unread_pasts:
                self._owe(index, closes, self._now_s())

    def _new_funding(self, reader: VenueReader, after_ms: int, *, available: bool) -> FundingTable:
        return FundingTable(
            reader,
            self._symbols,
            after_ms,
            patience_s=self._settings.funding_patience_s,
            available=available,
            answer_is_final=self._settings.reread_grace_ms == 0,
            news=self._wake,
            kept=self._carried.settlements,
        )

    def _bar_stream(self, client: VenueClient) -> BarStream:
        return BarStream(
            client,
            self._gate,
            self._symbols,
            self._settings.timeframe,
            self._news.set,
            self.health,
            deadline_bars=self._settings.stream_deadline_bars,
            whole=self._hurried,
        )

    def _new_rereads(self, reader: VenueReader) -> Rereads:
        return Rereads(
            reader,
            self._symbols,
            self._now_s,
            self.health,
            self._news.set,
            patience_s=self._settings.reread_patience_s,
        )

    def stop(self) -> None:
        """End the iteration of `events`."""
        self.delivery.stopped = True
        self.wake_all()

    def _wake(self) -> None:
        self._news.set()

    def wake_all(self) -> None:
        """Let everyone who waits look again."""
        self.delivery.wake()
        self._news.set()

    def _hurried(self) -> None:
        self._news.set()
        self._hurry.set()

    # ---- the pump ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch and pump until cancelled or stopped."""
        try:
            async with asyncio.TaskGroup() as group:
                if self._stream is not None:
                    self._stream.tasks(group)
                self._group = group
                self._rereads.start(group)
                for index in list(self._carried.unread_pasts):
                    self._begin_past(index)
                group.create_task(self._watch.measure_offset(), name="clock offset")
                group.create_task(self._run(), name="pump")
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from several
        finally:
            self.delivery.stopped = True
            if self._stream is not None:
                self._stream.detach()

    async def _run(self) -> None:
        while not self.delivery.stopped:
            began_s = self._now_s()
            await self._turn()
            took_s = self._now_s() - began_s
            # many symbols: gather frames instead of looking at each
            await self._wait_for_news(min(took_s, ROUND_PAUSE_MAX_S) * (took_s > ROUND_CHEAP_S))

    async def _turn(self) -> None:
        """Do one round: stream, funding, REST, hand out, and note how far we are."""
        wanted_ms = self.delivery.wanted_ms
        market_ms = max(self._clock.now(), wanted_ms)
        self._take_stream(market_ms)
        self._instants.reach(market_ms, self._now_s())
        if self._settings.funding:
            self._funding.step(market_ms, self._now_s(), self._group, self.delivery.put)
        self._life.step(market_ms, self._group)
        self._take_joined(market_ms)
        self._take_answers()
        self._ask_missing()
        self._recheck_denied(market_ms, wanted_ms)
        self._audit(market_ms)
        self._rereads.ask(self._doubts.due())
        self._take_answers()
        await self._send()
        self._darkness.look(self._instants.reached_ms, self._dark, self._symbols)
        self._watch.step(self._rereads.failing_since_s)
        if not (
            self._rereads.busy
            or self._funding.busy
            or self._life.busy
            or self._life.joined
            or self._reading_past_n
            or self._instants.waits_at(wanted_ms)
            or self._instants.unsent_until(wanted_ms)
            or self._funding.waits_at(wanted_ms, self._now_s())
            or self._recheck_done_ms < wanted_ms
        ):
            self.delivery.done(wanted_ms)

    async def _wait_for_news(self, more_s: float) -> None:
        """Sleep until a frame, a `settled`, the last of an instant's bars, or the next look."""
        hurried = self.delivery.done_ms < self.delivery.wanted_ms
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_BUSY_S if hurried else POLL_S):
                await self._news.wait()
        if not hurried:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s + more_s):
                    await self._hurry.wait()
        self._hurry.clear()
        self._news.clear()

    def _take_joined(self, market_ms: int) -> None:
        """Begin to watch the contracts that took spare columns: stream, proofs, funding, past."""
        joined, self._life.joined = self._life.joined, []
        for index, instrument in joined:
            symbol, from_ms = instrument.key.symbol, self._instants.reached_ms
            self._symbols[index] = symbol
            self._gate.admit(index, from_ms)
            self._instants.admit(index, from_ms)
            self._rereads.admit(index, symbol)
            self._funding.admit(index, symbol, market_ms)
            if self._stream is not None:
                self._stream.admit(index, symbol)
            since_ms = max(from_ms - PAST_MS, instrument.listed_ms or 0)
            self._carried.unread_pasts[index] = UnreadPast(symbol, since_ms, from_ms)
            self._begin_past(index)

    def _begin_past(self, index: int) -> None:
        self._reading_past_n += 1
        past = self._carried.unread_pasts[index]
        self._group.create_task(self._read_past(index, past), name=f"past of {past.symbol}")

    async def _read_past(self, index: int, past: UnreadPast) -> None:
        """Hand out the bars that closed before we knew of a contract, of which none was told."""
        source = read_history(
            self._reader,
            self._clock,
            [past.symbol],
            self._settings.timeframe,
            max(past.since_ms, past.told_ms),
            past.until_ms,
            grace_ms=self._settings.reread_grace_ms,
            funding=False,
            on_warmup=lambda progress: None,
        )
        try:
            async for event in source:
                if isinstance(event, BarsClosed) and event.proof[0]:
                    await self.delivery.hand_out(self._in_column(index, event))
                    past.told_ms = event.close_ms
            length_ms = self._settings.timeframe.ms
            left_out = range(past.told_ms + length_ms, past.until_ms + 1, length_ms)
            if 0 < len(left_out) <= OWED_BARS_MAX:  # else it stands still, or has no past
                self._owe(index, left_out, self._now_s())
            del self._carried.unread_pasts[index]
        except (VenueError, BadPayload) as trouble:  # it warms up with what comes from now on
            del self._carried.unread_pasts[index]
            _log.warning(PAST_UNREAD, symbol=past.symbol, why=str(trouble))
        except Exception:
            del self._carried.unread_pasts[index]  # else it would end the next feed as well
            raise
        finally:
            self._reading_past_n -= 1
            self._wake()

    def _owe(self, index: int, closes: Sequence[int], at_s: float) -> None:
        """Ask for bars that history left out, though those before them were there."""
        self._gate.owe(index, closes[0] - self._settings.timeframe.ms)
        for close_ms in closes:
            self._instants.owe(index, close_ms, at_s)

    def _in_column(self, index: int, event: BarsClosed) -> BarsClosed:
        """Write the bar of one instrument as a cross-section of all; nobody may trade at it."""
        count = len(self._symbols)
        values, proof = np.full((count, FIELDS), np.nan), np.zeros(count, dtype=np.uint8)
        proven_ms = np.zeros(count, dtype=np.int64)
        values[index], proof[index] = event.values[0], event.proof[0]
        proven_ms[index] = self._clock.now()
        opens = np.full(count, np.nan)
        return BarsClosed(event.close_ms, values, proof, opens, False, proven_ms)

    def _take_stream(self, market_ms: int) -> None:
        if self._settings.reread_grace_ms:  # a market in lock-step may run ahead of our last look
            offset_ms = self.health.offset_ms
            venue_ms = 0 if offset_ms is None else self._transport.wall_ms() + int(offset_ms)
            self._gate.reach(max(market_ms, venue_ms))
        if self._stream is None:
            return
        self._take(self._stream.take())
        ahead_n, self._ahead_n = self._gate.ahead_n - self._ahead_n, self._gate.ahead_n
        if ahead_n:
            self.health.rows_unreadable_n += ahead_n
            _log.warning(ROWS_AHEAD, exchange=self.health.venue, rows=ahead_n)

    def _take(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            match verdict:
                case FinalBar():
                    waited_s = self._instants.waited_s(verdict.close_ms, self._now_s())
                    self.health.proven(verdict.proof, waited_s)
                    if self._stream is not None and verdict.proof is Proof.SUCCESSOR:
                        self._stream.confirmed(verdict.index)
                    self._instants.prove(verdict, self._now_s(), self._clock.now())
                case Contradiction():
                    self._doubts.contradicted(verdict.index, verdict.close_ms, verdict.values)
                case Correction():
                    self.health.revisions_n += 1
                    self.delivery.put(
                        Revised(
                            verdict.close_ms,
                            verdict.index,
                            np.array(verdict.before),
                            np.array(verdict.after),
                            verdict.shown_by,
                            self._clock.now(),
                        )
                    )

    def _ask_missing(self) -> None:
        """Ask REST for what the stream did not prove in time, all symbols at once."""
        due = self._instants.to_ask(self._now_s(), self._hopeless)
        if due:
            shown = [i for i, closes in due.items() if self._gate.shown(i, max(closes))]
            self._rereads.ask(due, shown)

    def _take_answers(self) -> None:
        """Judge what REST answered; a live stream that should have shown it may be deaf."""
        for answer in self._rereads.take():
            index, closes = answer.index, answer.closes
            if answer.page is None:
                self._doubts.drop(index)
                for close_ms in closes:
                    self._instants.asked_in_vain(index, close_ms, answer.retry_s)
                if not answer.shown and self._instants.waits_for(index, closes):
                    self._missed_by_others_word(index, max(closes))
                continue
            waited = self._instants.waits_for(index, closes)
            self._judge(index, closes, answer.page)
            stream = self._stream
            if stream is None or not stream.alive or answer.shown or not waited:
                continue
            if self._traded(index, max(closes)):
                stream.missed(index)

    def _missed_by_others_word(self, index: int, close_ms: int) -> None:
        """Count a bar that the stream showed of most others, where REST cannot tell of this one."""
        stream = self._stream
        if stream is None or not stream.follows(index) or close_ms <= self._unheard_ms[index]:
            return
        if 2 * self._instants.streamed_n(close_ms) >= len(self._watched()):
            self._unheard_ms[index] = close_ms
            stream.missed(index)

    def _dark(self) -> list[int]:
        """List who is dark; while the whole venue fails, that is told instead."""
        watched = self._watched()
        dark = [i for i in self._instants.dark(DARK_BARS) if i in watched]
        fails = self._rereads.failing_since_s is not None
        return [] if fails and dark == watched else dark

    def _tell_dark(self, active: bool, text: str) -> None:
        venue, trouble = self.health.venue, FeedTrouble.BARS_MISSING
        self.delivery.put(FeedNotice(self._clock.now(), venue, trouble, active, text))

    def _watched(self) -> list[int]:
        return [i for i, symbol in enumerate(self._symbols) if not is_spare_symbol(symbol)]

    def _traded(self, index: int, close_ms: int) -> bool:
        """Tell whether a final bar has volume: without trades, some streams are silent rightly."""
        values = self._gate.final_values(index, close_ms)
        return values is not None and values[Field.VOLUME] > 0

    def _hopeless(self, index: int, close_ms: int) -> bool:
        streaming = self._stream is not None and self._stream.follows(index)
        return not streaming or self._gate.is_suspect(index, close_ms)

    def _recheck_denied(self, market_ms: int, wanted_ms: int) -> None:
        """Ask again for bars that the venue did not have; late ones go out by themselves."""
        asked_for = wanted_ms > self._recheck_done_ms
        rested = self._now_s() >= self._recheck_at_s + self._settings.recheck_s
        if rested and (asked_for or self._settings.recheck_s > 0):
            self._rereads.ask(self._instants.denied(market_ms))
            self._recheck_at_s = self._now_s()
        self._recheck_done_ms = max(self._recheck_done_ms, wanted_ms)

    def _audit(self, market_ms: int) -> None:
        """Read the newest emitted bars again, now and then: a venue may have corrected them."""

        def waits(index: int, close_ms: int) -> bool:
            return self._rereads.is_asking(index) or self._instants.waits(index, close_ms)

        self._rereads.ask(self._audits.due(market_ms, self._watched, waits))

    def _judge(self, index: int, closes: Sequence[int], page: Page) -> None:
        """Prove what an answer shows closed; what it should show and does not is denied.

        A venue answers a long gap in part: what lies beyond the rows of an answer that proved
        something, or beyond the span of one page, stays open and is asked for again at once.
        """
        grace_ms, length_ms = self._settings.reread_grace_ms, self._settings.timeframe.ms
        readings = self._doubts.sift(index, self._gate.possible(page.readings), self._gate)
        self._take(self._gate.see_reread(index, readings, read_ms=page.read_ms, grace_ms=grace_ms))
        self._doubts.unheard(index, closes, readings)
        shown = {reading.open_ms + length_ms for reading in readings}
        oldest_ms, newest_ms = min(shown, default=0), max(shown, default=0)
        if not any(c in shown and self._gate.is_final(index, c) for c in closes):
            oldest_ms = 0
            newest_ms = max(newest_ms, min(closes) + self._reader.rows_max * length_ms)
        for close_ms in closes:
            if self._gate.is_final(index, close_ms):
                continue
            if close_ms in shown:
                self._instants.unproven(index, close_ms, self._now_s())
            elif not oldest_ms <= close_ms < newest_ms:
                continue
            elif max(shown, default=0) > close_ms or self._gate.is_past(
                close_ms, page.read_ms, grace_ms
            ):
                self.health.absent_n += self._instants.deny(index, close_ms)
            else:
                self._instants.unproven(index, close_ms, self._now_s())

    async def _send(self) -> None:
        def held(close_ms: int) -> bool:
            # bars may be there before our clock has reached their close: then the venue's has
            self._funding.reach(close_ms, self._now_s())
            return self._funding.holds(close_ms, self._now_s())

        for message in self._instants.take_sendable(
            self._gate.opens_at, held, self._rereads.hangs, self._now_s()
        ):
            if not message.final:
                absent = [self._symbols[i] for i in np.flatnonzero(message.proof == Proof.ABSENT)]
                _log.debug(BARS_ABSENT, close=iso(message.close_ms), symbols=absent)
            await self.delivery.hand_out(message)

    def _now_s(self) -> float:
        return self._transport.monotonic()


def _new_instants(
    settings: FeedSettings, instruments: Sequence[Instrument], after_ms: int
) -> Instants:
    return Instants(
        settings.timeframe,
        after_ms,
        [NEVER_MS if i.is_spare else i.listed_ms for i in instruments],
        patience_s=settings.stream_patience_s,
        late_max_ms=settings.late_max_ms,
    )
