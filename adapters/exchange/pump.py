"""The feed's engine room: what one iteration of `CcxtFeed.events` does, round by round.

One task owns the finality gate and the bookkeeping of instants: read the stream's caches, ask by
REST for what is missing, hand out what is settled, and tell `settled` how far things are. Only this
task changes them, so that no order of arrival can.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import structlog

from adapters.exchange.client import VenueClient
from adapters.exchange.delivery import Delivery
from adapters.exchange.frames import FRAME_READERS
from adapters.exchange.funding import FundingTable
from adapters.exchange.health import FeedHealth
from adapters.exchange.instants import RETRY_S, Instants
from adapters.exchange.life import Life
from adapters.exchange.reader import Page, VenueReader
from adapters.exchange.rereads import Doubts, Rereads
from adapters.exchange.stream import BarStream
from adapters.exchange.watch import Transport, Watch, WatchRules
from daemon.domain.bar import Field, Proof
from daemon.domain.finality import Correction, FinalBar, FinalityGate, Verdict
from daemon.domain.instrument import Instrument
from daemon.domain.messages import Revised
from daemon.domain.units import HOUR_MS, MINUTE_MS, Timeframe, iso, require
from daemon.ports import Clock

BARS_ABSENT: Final = "bars_absent"
STREAM_NOT_OFFERED: Final = "stream_not_offered"
POLL_S: Final = 0.25
POLL_BUSY_S: Final = 0.02
IDLE_PAUSE_S: Final = 0.05
"""How long frames are gathered before a round, unless somebody waits for `settled`."""
FRAME_PAUSE_S: Final = 0.001
"""The same where frames are judged as they come: a round then costs little."""
ROUND_CHEAP_S: Final = 0.002
ROUND_PAUSE_MAX_S: Final = 0.01

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """Choose venue, symbols and patience. Seconds are transport time, milliseconds market time.

    symbols: unified (`BTC/USDT:USDT`), the venue's ids (`BTCUSDT`), or `top:N` by quote volume.
    options: the ccxt constructor's, nested `urls`, `options` and proxies included; no keys.
    stream: False reads by REST only.
    stream_patience_s: how long after an instant the stream may take to prove its bars.
    stream_deadline_bars: how many bars in a row the stream may fail to show of one instrument that
    traded, before its socket counts as deaf.
    reread_patience_s: how long the bars of others wait for an answer of REST about one.
    reread_grace_ms: a row without successor counts as closed so long after its close (venues answer
    from copies that lag); 0 in lock-step, where market time stands still: then an answer that lacks
    the rates of a settlement is the venue's word that there are none, too.
    recheck_s: how often bars that the venue denied are asked for again; 0 in lock-step: at each
    `settled`. late_max_ms: for how long.
    funding_patience_s: how long bars of a settlement wait for its rates.
    settle_timeout_s: the longest that `settled` waits.
    audit_every_bars: how often the newest audit_bars are read again to find revisions, 0 = never.
    markets_every_ms: how often (market time) rules and standing of instruments are read, 0 never.
    known: instruments of a book that goes on; one that the venue no longer lists stays as it was.
    watch: bounds of silence, age, breaks and clock.
    """

    exchange: str
    symbols: tuple[str, ...]
    timeframe: Timeframe = field(default_factory=lambda: Timeframe(30))
    options: Mapping[str, object] = field(default_factory=dict)
    settle: str = "USDT"
    stream: bool = True
    funding: bool = True
    stream_patience_s: float = 3.0
    stream_deadline_bars: int = 2
    reread_grace_ms: int = 2_000
    reread_patience_s: float = 3.0
    recheck_s: float = 30.0
    late_max_ms: int = 6 * HOUR_MS
    funding_patience_s: float = 5.0
    settle_timeout_s: float = 60.0
    audit_every_bars: int = 8
    audit_bars: int = 48
    markets_every_ms: int = 15 * MINUTE_MS
    known: tuple[Instrument, ...] = ()
    watch: WatchRules = field(default_factory=WatchRules)
    parallel_requests: int = 4

    def __post_init__(self) -> None:
        require(self.symbols, "symbols: want at least one, such as BTC/USDT:USDT or top:12")
        for name in ("parallel_requests", "stream_deadline_bars", "audit_bars"):
            require(getattr(self, name) >= 1, f"{name} {getattr(self, name)}: want 1 or more")


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
    ) -> None:
        self._settings, self._reader = settings, reader
        self._clock, self._transport = clock, transport
        self._symbols = [i.key.symbol for i in instruments]
        streaming = settings.stream and client.has("watchOHLCV")
        if settings.stream and not streaming:
            _log.info(STREAM_NOT_OFFERED, exchange=client.exchange)
        confirms = streaming and client.exchange in FRAME_READERS
        self._gate = FinalityGate(len(instruments), settings.timeframe, after_ms, confirms=confirms)
        self._instants = Instants(
            settings.timeframe,
            after_ms,
            [i.listed_ms for i in instruments],
            patience_s=settings.stream_patience_s,
            late_max_ms=settings.late_max_ms,
        )
        self._funding = FundingTable(
            reader,
            self._symbols,
            after_ms,
            patience_s=settings.funding_patience_s,
            available=funding,
            answer_is_final=settings.reread_grace_ms == 0,
            news=self._wake,
        )
        self._news, self._hurry = asyncio.Event(), asyncio.Event()
        self.delivery = Delivery(
            after_ms, settings.settle_timeout_s, client.exchange, self._hurried
        )
        self.health = FeedHealth(client.exchange)
        self._rereads = self._new_rereads(reader)
        self._doubts = Doubts(settings.timeframe)
        self._stream = self._bar_stream(client) if streaming else None
        self._pause_s = FRAME_PAUSE_S if confirms else IDLE_PAUSE_S
        self._life = Life(
            client, instruments, settings.markets_every_ms, self.delivery.put, self._wake
        )
        self._watch = Watch(
            settings.watch,
            client,
            self._stream,
            settings.timeframe,
            clock,
            transport,
            self.health,
            self.delivery.put,
        )
        self._recheck_done_ms, self._recheck_at_s = after_ms, transport.monotonic()
        self._audited_ms = after_ms

    def _bar_stream(self, client: VenueClient) -> BarStream:
        return BarStream(
            client,
            self._gate,
            self._symbols,
            self._settings.timeframe,
            self._news.set,
            self.health,
            deadline_bars=self._settings.stream_deadline_bars,
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
            await self._wait_for_news()
            if took_s > ROUND_CHEAP_S:  # many symbols: gather frames instead of looking at each
                await asyncio.sleep(min(took_s, ROUND_PAUSE_MAX_S))

    async def _turn(self) -> None:
        """Do one round: stream, funding, REST, hand out, and note how far we are."""
        wanted_ms = self.delivery.wanted_ms
        market_ms = max(self._clock.now(), wanted_ms)
        self._take_stream()
        self._instants.reach(market_ms, self._now_s())
        if self._settings.funding:
            self._funding.step(market_ms, self._now_s(), self._group, self.delivery.put)
        self._life.step(market_ms, self._group)
        self._take_answers()
        self._ask_missing()
        self._recheck_denied(market_ms, wanted_ms)
        self._audit()
        self._rereads.ask(self._doubts.due())
        self._take_answers()
        await self._send()
        self._watch.step(self._rereads.failing_since_s)
        if not (
            self._rereads.busy
            or self._funding.busy
            or self._life.busy
            or self._instants.waits_at(wanted_ms)
            or self._instants.unsent_until(wanted_ms)
            or self._funding.waits_at(wanted_ms, self._now_s())
            or self._recheck_done_ms < wanted_ms
        ):
            self.delivery.done(wanted_ms)

    async def _wait_for_news(self) -> None:
        """Sleep until a frame, a `settled`, or the next look at the clock."""
        hurried = self.delivery.done_ms < self.delivery.wanted_ms
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_BUSY_S if hurried else POLL_S):
                await self._news.wait()
        if not hurried:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s):
                    await self._hurry.wait()
        self._hurry.clear()
        self._news.clear()

    def _take_stream(self) -> None:
        if self._stream is not None:
            self._take(self._stream.take())

    def _take(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            match verdict:
                case FinalBar():
                    waited_s = self._instants.waited_s(verdict.close_ms, self._now_s())
                    self.health.proven(verdict.proof, waited_s)
                    self._instants.prove(verdict, self._now_s(), self._clock.now())
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
                continue
            waited = self._instants.waits_for(index, closes)
            self._judge(index, closes, answer.page)
            stream = self._stream
            if stream is None or not stream.alive or answer.shown or not waited:
                continue
            if self._traded(index, max(closes)):
                stream.missed(index)

    def _traded(self, index: int, close_ms: int) -> bool:
        """Tell whether a final bar has volume: without trades, some streams are silent rightly."""
        values = self._gate.final_values(index, close_ms)
        return values is not None and values[Field.VOLUME] > 0

    def _hopeless(self, index: int, close_ms: int) -> bool:
        streaming = self._stream is not None and self._stream.alive
        return not streaming or self._gate.is_suspect(index, close_ms)

    def _recheck_denied(self, market_ms: int, wanted_ms: int) -> None:
        """Ask again for bars that the venue did not have; late ones go out by themselves."""
        asked_for = wanted_ms > self._recheck_done_ms
        rested = self._now_s() >= self._recheck_at_s + self._settings.recheck_s
        if rested and (asked_for or self._settings.recheck_s > 0):
            self._rereads.ask(self._instants.denied(market_ms))
            self._recheck_at_s = self._now_s()
        self._recheck_done_ms = max(self._recheck_done_ms, wanted_ms)

    def _audit(self) -> None:
        """Read the newest emitted bars again, now and then: a venue may have corrected them."""
        every_ms = self._settings.audit_every_bars * self._settings.timeframe.ms
        newest_ms = self._settings.timeframe.last_close(self._clock.now())
        if not every_ms or newest_ms < self._audited_ms + every_ms:
            return
        if self._rereads.busy or self._instants.waits_at(newest_ms):
            return
        self._audited_ms = newest_ms
        oldest_ms = newest_ms - (self._settings.audit_bars - 1) * self._settings.timeframe.ms
        self._rereads.ask({i: [oldest_ms, newest_ms] for i in range(len(self._symbols))})

    def _judge(self, index: int, closes: Sequence[int], page: Page) -> None:
        """Prove what an answer shows closed; what it should show and does not is denied."""
        grace_ms = self._settings.reread_grace_ms
        readings = self._doubts.sift(index, page.readings, self._gate)
        self._take(self._gate.see_reread(index, readings, read_ms=page.read_ms, grace_ms=grace_ms))
        newest_ms = max((reading.open_ms for reading in page.readings), default=0)
        shown = {reading.open_ms + self._settings.timeframe.ms for reading in page.readings}
        for close_ms in closes:
            if self._gate.is_final(index, close_ms):
                continue
            past = newest_ms >= close_ms or page.read_ms >= close_ms + grace_ms
            if past and close_ms not in shown:
                self.health.absent_n += self._instants.deny(index, close_ms)
            else:
                self._instants.asked_in_vain(index, close_ms, self._now_s() + RETRY_S)

    async def _send(self) -> None:
        def held(close_ms: int) -> bool:
            return self._funding.holds(close_ms, self._now_s())

        for message in self._instants.take_sendable(self._gate.opens_at, held, self._rereads.hangs):
            if not message.final:
                absent = [self._symbols[i] for i in np.flatnonzero(message.proof == Proof.ABSENT)]
                _log.debug(BARS_ABSENT, close=iso(message.close_ms), symbols=absent)
            await self.delivery.hand_out(message)

    def _now_s(self) -> float:
        return self._transport.monotonic()
