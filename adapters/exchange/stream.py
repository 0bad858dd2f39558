"""Watch bars over WebSockets: keep subscriptions alive, and read what they brought.

A `watch` call of ccxt serves only to subscribe and to learn of broken sockets. Where we know the
venue's frames, each of them is judged as it came. Elsewhere the client's cache is read: of a burst
of updates a call returns one, so the rows of every symbol are looked at, at each frame. A broken
socket begins a new epoch: what was kept is thrown away and the next rows only prime. Sockets that
are open but silent, or that miss what REST shows, are replaced; how often is counted.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from adapters.exchange.client import VenueClient, backoff_s
from adapters.exchange.failures import SymbolGone, Unanswered
from adapters.exchange.frames import FRAME_READERS, RawBar
from adapters.exchange.health import FeedHealth
from adapters.exchange.mapping import is_possible, reading_of
from daemon.domain.failures import BadPayload, VenueError
from daemon.domain.finality import FinalityGate, Reading, Verdict
from daemon.domain.units import Timeframe

STREAM_LOST: Final = "stream_lost"
STREAM_RESTORED: Final = "stream_restored"
STREAM_REFUSED: Final = "stream_refused"
STREAM_REPLACED: Final = "stream_replaced"
ROW_UNREADABLE: Final = "row_unreadable"
SYMBOLS_PER_CALL_MAX: Final = 50
WATCH_PAUSE_S: Final = 0.05
"""Between watch calls; frames wake the feed by themselves, so this delays no bar."""
ROWS_READ: Final = 4
"""Newest cache rows looked at per frame: running bar, its predecessor, and late ones."""
DIAL_S: Final = 12.0
"""How long a new socket may take before it can count as deaf; ccxt gives up dialling after 10 s."""

_log = structlog.get_logger()
_Row = tuple[Any, ...]


class BarStream:
    """Stream the bars of N symbols into a `FinalityGate`."""

    def __init__(
        self,
        client: VenueClient,
        gate: FinalityGate,
        symbols: Sequence[str],
        timeframe: Timeframe,
        news: Callable[[], None],
        health: FeedHealth,
        *,
        deadline_bars: int = 2,
    ) -> None:
        self._client = client
        self._gate = gate
        self._symbols = list(symbols)
        self._timeframe = timeframe
        self._news = news
        self._seen: list[list[_Row]] = [[] for _ in symbols]
        listed = client.api.markets
        self._index = {listed[s]["id"]: i for i, s in enumerate(symbols) if s in listed}
        self._interval = client.api.timeframes[timeframe.label]
        self._knows_frames = client.exchange in FRAME_READERS
        self._came: dict[int, list[Reading]] = {}  # by index, not judged yet
        self._left: list[Verdict] = []
        self._missed = [0] * len(symbols)
        self._missed_max = deadline_bars
        self._health = health
        self._bars_n = 0  # from frames, so that one that brought any is no failed dial
        self._lost = False
        self._lost_s = 0.0
        self._replacing = False
        self.alive = True
        """Whether the venue lets us stream at all."""
        self.frames = 0
        self.replaced_n = 0
        """Sockets given up as silent or deaf."""
        self.broken_n = 0
        """Connections that ended without us."""

    def tasks(self, group: asyncio.TaskGroup) -> None:
        """Subscribe to all symbols; the tasks live in `group`."""
        self._client.hooks.on_frame = self._on_frame
        self._client.hooks.on_broken = self._on_broken
        if self._knows_frames:
            self._client.hooks.on_bars = self._on_bars
            self._client.hooks.on_unreadable = self._on_unreadable
        if self._client.has("watchOHLCVForSymbols"):
            size = SYMBOLS_PER_CALL_MAX
            parts = [self._symbols[i : i + size] for i in range(0, len(self._symbols), size)]
        else:
            parts = [[symbol] for symbol in self._symbols]
        for part in parts:
            group.create_task(self._watch(part), name=f"watch {part[0]} and {len(part) - 1} more")

    def take(self) -> list[Verdict]:
        """Judge what came; give what it settles. Raises nothing for odd rows."""
        verdicts, self._left = self._left, []
        if not self._knows_frames:
            for index, symbol in enumerate(self._symbols):
                if readings := self._fresh_readings(index, symbol):
                    self._came[index] = readings
        came, self._came = self._came, {}
        for index, readings in came.items():
            verdicts += self._gate.see_stream(index, readings)
        for verdict in verdicts:
            self._missed[verdict.index] = 0
        return verdicts

    def missed(self, index: int) -> None:
        """Note a bar that REST has and a live stream should have shown; replace a deaf socket.

        Deaf is a stream that missed half of the symbols, or one of them `deadline_bars` in a row.
        One that is being dialled is left to it for `DIAL_S`, or no dial would ever come through.
        """
        if self._lost and self._now_s() < self._lost_s + DIAL_S:
            return
        self._missed[index] += 1
        missing_n = sum(1 for bars_n in self._missed if bars_n)
        if self._missed[index] >= self._missed_max or 2 * missing_n >= len(self._symbols):
            self.replace(f"deaf: bars of {missing_n} of {len(self._symbols)} were not shown")

    def replace(self, why: str) -> None:
        """Give the sockets up; the watchers dial and subscribe anew."""
        self.replaced_n += 1
        _log.warning(STREAM_REPLACED, why=why, replaced=self.replaced_n)
        self.renew(why)

    def renew(self, why: str) -> None:
        """Take new sockets although nothing may be wrong with the old ones."""
        self._missed = [0] * len(self._symbols)
        self._lost_s = self._now_s()
        self._replacing = True
        try:
            self._client.drop_sockets(why)
        finally:
            self._replacing = False

    def detach(self) -> None:
        """Stop listening to the client."""
        self._client.hooks.on_frame = lambda: None
        self._client.hooks.on_broken = lambda why: None
        self._client.hooks.on_bars = None

    async def _watch(self, symbols: Sequence[str]) -> None:
        failures = 0
        label = self._timeframe.label
        while True:
            listed = self._client.api.markets or {}
            symbols = [symbol for symbol in symbols if symbol in listed]
            if not symbols:  # all of them are gone
                return
            bars_n = self._bars_n
            try:
                if self._client.has("watchOHLCVForSymbols"):
                    pairs = [[symbol, label] for symbol in symbols]
                    await self._client.ask("watch_ohlcv_for_symbols", pairs)
                else:
                    await self._client.ask("watch_ohlcv", symbols[0], label)
            except SymbolGone:
                await asyncio.sleep(backoff_s(failures))  # the next look leaves it out
                failures += 1
            except (Unanswered, BadPayload) as trouble:
                failures = 1 if self._bars_n > bars_n else failures + 1
                self._note_lost(str(trouble))
                await asyncio.sleep(backoff_s(failures - 1))
            except VenueError as trouble:
                _log.warning(STREAM_REFUSED, why=str(trouble), symbols=list(symbols))
                self.alive = False
                self._news()
                return
            else:
                failures = 0
                self._note_restored()
                await asyncio.sleep(WATCH_PAUSE_S)

    def _fresh_readings(self, index: int, symbol: str) -> list[Reading]:
        """Read the rows of the client's cache that are new or other than at the last look."""
        cache = (self._client.api.ohlcvs.get(symbol) or {}).get(self._timeframe.label)
        if not cache:
            return []
        before = self._seen[index]
        now = [tuple(cache[place]) for place in range(-min(ROWS_READ, len(cache)), 0)]
        self._seen[index] = now
        source = f"{self._client.exchange}, stream of {symbol}"
        read = []
        for row in now:
            if row in before:
                continue
            try:
                read.append(reading_of(row, self._timeframe, source))
            except BadPayload as trouble:  # it proves nothing, and REST will tell
                self._on_unreadable(str(trouble))
        return [reading for reading in read if is_possible(reading)]

    def _on_frame(self) -> None:
        self.frames += 1
        self._news()

    def _on_bars(self, bars: list[RawBar]) -> None:
        """Keep what a frame says of our bars until the next look; odd bars prove nothing."""
        self._note_restored()
        self._bars_n += len(bars)
        for bar in bars:
            index = self._index.get(bar.market_id)
            if index is None or bar.interval != self._interval:
                continue
            reading = Reading(bar.open_ms, bar.values, bar.closed)
            on_grid = bar.open_ms % self._timeframe.ms == 0
            if not (on_grid and math.isfinite(sum(bar.values)) and is_possible(reading)):
                self._on_unreadable(f"{self._client.exchange}: no market makes the bar {bar}")
                continue
            self._came.setdefault(index, []).append(reading)

    def _on_unreadable(self, why: str) -> None:
        self._health.rows_unreadable_n += 1
        _log.warning(ROW_UNREADABLE, why=why)

    def _on_broken(self, why: str) -> None:
        """Begin a new epoch; what the broken socket still brought is read first."""
        self.broken_n += not self._replacing
        self._left += self.take()
        self._came.clear()
        for index, symbol in enumerate(self._symbols):
            self._client.api.ohlcvs.pop(symbol, None)
            self._seen[index] = []
            self._gate.subscribed(index)
        self._note_lost(why)
        self._news()

    def _note_lost(self, why: str) -> None:
        if not self._lost:
            _log.warning(STREAM_LOST, exchange=self._client.exchange, why=why)
            self._lost_s = self._now_s()
        self._lost = True

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def _note_restored(self) -> None:
        if self._lost:
            _log.info(STREAM_RESTORED, exchange=self._client.exchange, broken=self.broken_n)
        self._lost = False
