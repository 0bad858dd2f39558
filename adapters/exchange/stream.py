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
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import structlog

from adapters.exchange.beginnings import Beginnings
from adapters.exchange.client import VenueClient, backoff_s
from adapters.exchange.deafness import Deafness
from adapters.exchange.failures import SubscriptionRefused, SymbolGone, Unanswered
from adapters.exchange.frames import FRAME_READERS, RawBar
from adapters.exchange.health import FeedHealth
from adapters.exchange.mapping import in_base, is_possible, reading_of, volume_unit
from daemon.domain.failures import BadPayload, VenueError
from daemon.domain.finality import FinalityGate, Reading, Verdict
from daemon.domain.instrument import is_spare_symbol
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
REFUSALS_MAX: Final = 2
"""Refused subscriptions after which its symbols are asked for in halves."""
REFUSED_AGAIN_S: Final = 3600.0
"""When a symbol that the venue refused to stream, again and again, is asked for once more."""
REFUSALS_SOON: Final = 8
"""Refusals in a row up to which it is asked for soon: a venue may only be busy."""
UNLISTED_S: Final = 1.0
"""Between two looks whether contracts that a venue does not list are there again."""
DIAL_S: Final = 12.0
"""How long a new socket may take before it can count as deaf; ccxt gives up dialling after 10 s."""

_log = structlog.get_logger()
_Row = tuple[Any, ...]


class BarStream:
    """Stream the bars of N symbols into a `FinalityGate`.

    news: called at each frame. whole: called when all symbols have begun their next bar.
    """

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
        whole: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._gate = gate
        self._symbols = list(symbols)
        self._timeframe = timeframe
        self._news, self._whole = news, whole
        self._beginnings = Beginnings()
        self._seen: list[list[_Row]] = [[] for _ in symbols]
        listed = client.api.markets
        self._index = {listed[s]["id"]: i for i, s in enumerate(symbols) if s in listed}
        self._interval = client.api.timeframes[timeframe.label]
        self._knows_frames = client.exchange in FRAME_READERS
        self._came: dict[int, list[Reading]] = {}  # by index, not judged yet
        self._left: list[Verdict] = []
        self._heard: Counter[str] = Counter()  # rows of bars that came, by symbol
        self._deafness = Deafness(len(symbols), deadline_bars)
        self._health = health
        self._group: asyncio.TaskGroup | None = None
        self._lost = False
        self._lost_s = 0.0
        self._replacing = False
        self.refused: dict[str, str] = {}
        """Symbols that the venue does not stream to us, and why; REST reads their bars."""
        self.frames = 0
        self.bars_n = 0
        """Rows of our bars that frames brought; pongs and other words are none."""
        self.replaced_n = 0
        """Sockets given up as silent or deaf."""
        self.broken_n = 0
        """Connections that ended without us."""

    def tasks(self, group: asyncio.TaskGroup) -> None:
        """Subscribe to all symbols; the tasks live in `group`."""
        self._group = group
        symbols = self._watched
        self._client.hooks.on_frame = self._on_frame
        self._client.hooks.on_broken = self._on_broken
        if self._knows_frames:
            self._client.hooks.on_bars = self._on_bars
            self._client.hooks.on_unreadable = self._on_unreadable
        if self._client.has("watchOHLCVForSymbols"):
            size = SYMBOLS_PER_CALL_MAX
            parts = [symbols[i : i + size] for i in range(0, len(symbols), size)]
        else:
            parts = [[symbol] for symbol in symbols]
        for part in parts:
            self._begin(part)

    @property
    def _watched(self) -> list[str]:
        return [symbol for symbol in self._symbols if not is_spare_symbol(symbol)]

    @property
    def _watched_n(self) -> int:
        return len(self._index)

    def admit(self, index: int, symbol: str) -> None:
        """Subscribe to a contract that took a free column."""
        self._symbols[index], self._seen[index] = symbol, []
        self._deafness.admit(index)
        self._index[self._client.api.markets[symbol]["id"]] = index
        if self.alive:
            self._begin([symbol])

    def _begin(self, part: Sequence[str], refusals: int = 0) -> None:
        """Watch some symbols with one subscription, in a task of their own."""
        if self._group is not None:
            name = f"watch {part[0]} and {len(part) - 1} more"
            self._group.create_task(self._watch(part, refusals), name=name)

    @property
    def alive(self) -> bool:
        """Tell whether the venue lets us stream anything at all."""
        return not self.refused or any(symbol not in self.refused for symbol in self._watched)

    def follows(self, index: int) -> bool:
        """Tell whether the stream of an instrument is to be waited for."""
        symbol = self._symbols[index]
        return not is_spare_symbol(symbol) and symbol not in self.refused

    def take(self) -> list[Verdict]:
        """Judge what came; give what it settles. Raises nothing for odd rows."""
        verdicts, self._left = self._left, []
        if not self._knows_frames:
            for index, symbol in enumerate(self._symbols):
                if readings := self._fresh_readings(index, symbol):
                    self._came[index] = readings
        came, self._came = self._came, {}
        for index, readings in came.items():
            self._deafness.shown(index)
            self.refused.pop(self._symbols[index], None)
            verdicts += self._gate.see_stream(index, readings)
        for verdict in verdicts:
            self._deafness.proven(verdict.index)
        return verdicts

    def confirmed(self, index: int) -> None:
        """Note that REST confirmed a bar that the stream showed."""
        self._deafness.proven(index)

    def missed(self, index: int) -> None:
        """Note a bar that REST has and a live stream should have shown; replace a deaf socket.

        Deaf is a stream that missed half of the symbols, or one of them `deadline_bars` in a row:
        the sockets that carry them are replaced, ever more rarely while that does not help. One
        that is being dialled is left to it for `DIAL_S`, or no dial would ever come through.
        """
        if self._lost and self._now_s() < self._lost_s + DIAL_S:
            return
        watched = [i for i, s in enumerate(self._symbols) if self.follows(i)]
        deaf = self._deafness.missed(index, watched) if index in watched else []
        if deaf:
            symbols = [self._symbols[i] for i in deaf]
            why = f"deaf: bars of {len(deaf)} of {len(watched)} were not shown"
            self.replace(why, symbols)

    def replace(self, why: str, symbols: Collection[str] | None = None) -> None:
        """Give sockets up, those of some symbols or all; the watchers dial and subscribe anew."""
        self.replaced_n += 1
        _log.warning(STREAM_REPLACED, why=why, replaced=self.replaced_n)
        self.renew(why, symbols)

    def renew(self, why: str, symbols: Collection[str] | None = None) -> None:
        """Take new sockets although nothing may be wrong with the old ones."""
        self._lost_s = self._now_s()
        self._replacing = True
        try:
            self._client.drop_sockets(why, symbols)
        finally:
            self._replacing = False

    def detach(self) -> None:
        """Stop listening to the client."""
        self._client.hooks.on_frame = lambda: None
        self._client.hooks.on_broken = lambda why, symbols: None
        self._client.hooks.on_bars = None

    async def _watch(self, symbols: Sequence[str], refusals: int = 0) -> None:
        failures, wished = 0, list(symbols)
        while wished:
            listed = self._client.api.markets or {}
            symbols = [symbol for symbol in wished if symbol in listed]
            if not symbols:  # all of them are gone, and may be listed again
                await asyncio.sleep(UNLISTED_S)
                continue
            before = {symbol: self._heard[symbol] for symbol in symbols}
            try:
                await self._client.watch_bars(symbols, self._timeframe.label)
            except SubscriptionRefused as refusal:
                refusals = 1 if self._came_since(before, refusal.symbols) else refusals + 1
                if refusals < REFUSALS_MAX:
                    await asyncio.sleep(backoff_s(refusals))
                    continue
                left = await self._without(refusal, symbols, refusals)
                wished = [symbol for symbol in wished if symbol in left or symbol not in symbols]
            except SymbolGone:
                await asyncio.sleep(backoff_s(failures))  # the next look leaves it out
                failures += 1
            except (Unanswered, BadPayload) as trouble:
                if self._came_since(before, symbols):
                    failures = refusals = 0
                failures += 1
                self._note_lost(str(trouble))
                await asyncio.sleep(backoff_s(failures - 1))
            except VenueError as trouble:
                self._leave(symbols, str(trouble))
                await asyncio.sleep(REFUSED_AGAIN_S)
            else:
                failures = refusals = 0
                self._note_restored()
                await asyncio.sleep(WATCH_PAUSE_S)

    def _came_since(self, before: Mapping[str, int], symbols: Collection[str]) -> bool:
        """Tell whether any of some symbols was shown: a `watch` call may never return by itself."""
        return any(self._heard[symbol] > before.get(symbol, 0) for symbol in symbols)

    async def _without(
        self, refusal: SubscriptionRefused, symbols: Sequence[str], refusals: int
    ) -> list[str]:
        """Give the symbols that are still to be watched together after so many refusals.

        Those that the last one is about go on in halves, until one is alone: that one is left to
        REST, and tried again a few times soon, then every `REFUSED_AGAIN_S`.
        """
        meant = [symbol for symbol in symbols if symbol in refusal.symbols] or list(symbols)
        if len(meant) > 1:
            half = len(meant) // 2
            self._begin(meant[:half], REFUSALS_MAX - 1)
            self._begin(meant[half:], REFUSALS_MAX - 1)
        elif len(symbols) > 1:
            self._begin(meant, REFUSALS_MAX - 1)
        else:
            if meant[0] not in self.refused:
                self._leave(meant, str(refusal))
            is_soon = refusals <= REFUSALS_SOON
            await asyncio.sleep(backoff_s(refusals) if is_soon else REFUSED_AGAIN_S)
            return meant
        return [symbol for symbol in symbols if symbol not in meant]

    def _leave(self, symbols: Sequence[str], why: str) -> None:
        """Leave symbols to REST."""
        _log.warning(STREAM_REFUSED, why=why, symbols=list(symbols))
        self.refused |= dict.fromkeys(symbols, why)
        self._news()

    def _fresh_readings(self, index: int, symbol: str) -> list[Reading]:
        """Read the rows of the client's cache that are new or other than at the last look."""
        cache = (self._client.api.ohlcvs.get(symbol) or {}).get(self._timeframe.label)
        if not cache:
            return []
        before = self._seen[index]
        now = [tuple(cache[place]) for place in range(-min(ROWS_READ, len(cache)), 0)]
        self._seen[index] = now
        source = f"{self._client.exchange}, stream of {symbol}"
        unit = volume_unit(self._client.market(symbol), self._client.exchange)
        read = []
        for row in now:
            if row in before:
                continue
            try:
                read.append(in_base(reading_of(row, self._timeframe, source), unit))
            except BadPayload as trouble:  # it proves nothing, and REST will tell
                self._on_unreadable(str(trouble))
        self.bars_n += len(read)
        self._heard[symbol] += len(read)
        return [reading for reading in read if is_possible(reading)]

    def _on_frame(self) -> None:
        self.frames += 1
        self._news()

    def _on_bars(self, bars: list[RawBar]) -> None:
        """Keep what a frame says of our bars until the next look; odd bars prove nothing."""
        self._note_restored()
        for bar in bars:
            index = self._index.get(bar.market_id)
            if index is None or bar.interval != self._interval:
                continue
            self.bars_n += 1
            self._heard[self._symbols[index]] += 1
            reading = Reading(bar.open_ms, bar.values, bar.closed, bar.told_ms)
            on_grid = bar.open_ms % self._timeframe.ms == 0
            if not (on_grid and math.isfinite(sum(bar.values)) and is_possible(reading)):
                self._on_unreadable(f"{self._client.exchange}: no market makes the bar {bar}")
                continue
            self._came.setdefault(index, []).append(reading)
            if self._beginnings.see(index, bar.open_ms, self._watched_n):
                self._whole()

    def _on_unreadable(self, why: str) -> None:
        self._health.rows_unreadable_n += 1
        _log.warning(ROW_UNREADABLE, why=why)

    def _on_broken(self, why: str, symbols: frozenset[str] | None) -> None:
        """Begin a new epoch for what the broken socket carried; what it still brought counts."""
        self.broken_n += not self._replacing
        self._left += self.take()
        ended = [i for i, s in enumerate(self._symbols) if symbols is None or s in symbols]
        self._deafness.dialled(ended)
        for index in ended:
            symbol = self._symbols[index]
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
