"""The exchange itself: its time, what happens at an instant, and what is said about it.

Time moves only through `move_to`, from one instant to the next; whoever calls it is the pace (see
`pace.py`). Instants are the closes of the source interval, funding settlements and releases of late
bars. Everything said at an instant is a function of the market and that instant alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from msgspec.structs import replace

from adapters.rehearsal.accounts import Accounts
from adapters.rehearsal.bank.terms import BankSettings, ClientIds
from adapters.rehearsal.binance_words import BINANCE_WORDS
from adapters.rehearsal.bybit.words import bybit_words
from adapters.rehearsal.dialect import INTERVALS_MS
from adapters.rehearsal.fault_plan import FaultPlan
from adapters.rehearsal.faults import Fault, FaultSwitch
from adapters.rehearsal.market import Coin, Market
from adapters.rehearsal.publication import Publication, Withheld
from adapters.rehearsal.settings import DialectKind, RehearsalSettings
from adapters.rehearsal.streams import Hub
from adapters.rehearsal.words import Stream, StreamKind, Words
from daemon.domain.units import HOUR_MS, require

FUNDING_GRID_MS: Final = 4 * HOUR_MS
PRINTS_AT_ONCE_MAX: Final = 8
CLIENT_IDS: Final = {
    DialectKind.BINANCEUSDM: ClientIds.UNIQUE_WHILE_OPEN,
    DialectKind.BYBIT: ClientIds.UNIQUE_FOR_EVER,
}
REVISED_BARS_BACK: Final = 3
"""Which source bar a revision changes: so many opened since, the running one included."""


class Exchange:
    """Hold a market at an instant and announce what happens when the instant changes."""

    def __init__(self, market: Market, settings: RehearsalSettings, start_ms: int) -> None:
        self.market = market
        self.settings = settings
        self.faults = FaultSwitch()
        self.plan = FaultPlan(
            settings.faults, settings.fault_seed, tuple(market.coins), settings.source_ms
        )
        self.publication = Publication(market, withheld_of(settings))
        self.words = words_of(settings.dialect, self.publication)
        self.hub = Hub(self.faults, self.words)
        self.now_ms = start_ms
        self.instants = 0
        self.klines_closed = 0
        self.weight_charged = 0

        self.after_settling: Callable[[], Awaitable[None]] | None = None
        self._clock: Callable[[], int] = lambda: self.now_ms
        self.accounts = Accounts(
            market.coins,
            self.publication,
            settings.accounts,
            bank_of(settings),
            self.clock_ms,
            CLIENT_IDS[settings.dialect],
        )

    def clock_ms(self) -> int:
        """Give the market's time."""
        return self._clock()

    def read_clock_from(self, clock: Callable[[], int]) -> None:
        """Let a pace that runs with the wall tell the time between instants."""
        self._clock = clock

    def listed(self, symbol: str) -> Coin | None:
        """Give a coin that is or was listed by now; None for what the public cannot know."""
        coin = self.market.coins.get(symbol)
        return coin if coin is not None and coin.listed_ms <= self.clock_ms() else None

    def next_instant_ms(self) -> int | None:
        """Give the next instant at which something happens; None past the market's end."""
        source_ms = self.settings.source_ms
        candidates = [
            (self.now_ms // source_ms + 1) * source_ms,
            (self.now_ms // FUNDING_GRID_MS + 1) * FUNDING_GRID_MS,
        ]
        release_ms = self.publication.next_release_after(self.now_ms)
        if release_ms is not None:
            candidates.append(release_ms)
        found = min(candidates)
        end_ms = self.end_ms
        return None if end_ms is not None and found > end_ms else found

    @property
    def end_ms(self) -> int | None:
        """Give the instant at which the market ends, None if it does not."""
        ends = [end for end in (self.market.span_ms[1], self.settings.end_ms) if end is not None]
        return min(ends, default=None)

    async def move_to(self, at_ms: int) -> int:
        """Move time to `at_ms` and say what happened since; give the number of klines closed."""
        require(at_ms >= self.now_ms, f"time cannot go back from {self.now_ms} to {at_ms}")
        before_ms, self.now_ms = self.now_ms, at_ms
        self.instants += 1
        for strike in self.plan.due(before_ms, at_ms):
            self.faults.put(strike)
        if self.faults.takes(Fault.DROP_SOCKETS):
            self.hub.cut_all()
        self.hub.begin_publication()
        streams = self.hub.streams
        self.accounts.settled()
        if self.after_settling is not None:  # what accounts hear is said before the market's news
            await self.after_settling()
        closed = await self._say_closed(streams, before_ms)
        await self._say_prints(streams, before_ms)
        await self._revise(streams)
        for stream, text in self.current(streams):
            await self.hub.say(stream, text)
        await self.hub.end_publication(at_ms)
        self.klines_closed += closed
        return closed

    async def _revise(self, streams: list[Stream]) -> None:
        """Change a closed kline for good where that is due; one kind is said on the stream."""
        source_ms = self.settings.source_ms
        newest_ms = self.now_ms // source_ms * source_ms
        for strike in self.faults.take_all(Fault.REVISED_FRAME, Fault.REVISED_REST):
            open_ms = newest_ms - REVISED_BARS_BACK * source_ms
            for symbol in [strike.symbol] if strike.symbol else self.market.coins:
                coin = self.market.coins.get(symbol)
                if coin is None or not coin.lives_at(open_ms) or open_ms < self.market.span_ms[0]:
                    continue
                self.publication.revise(symbol, open_ms)
                if strike.fault is Fault.REVISED_FRAME:
                    for stream in streams:
                        if stream.kind is StreamKind.KLINE and stream.symbol == symbol:
                            await self._say_kline(stream, open_ms, self.now_ms)

    def current(self, streams: list[Stream]) -> list[tuple[Stream, str]]:
        """Write the present state of each stream: running kline, marks, best bid and ask."""
        written = []
        for stream in streams:
            text = self._present(stream)
            if text is not None:
                written.append((stream, text))
        return written

    def greeting(self, streams: list[Stream]) -> list[tuple[Stream, str]]:
        """Write what a fresh subscriber hears at once: the present and the last trade."""
        now_ms = self.clock_ms()
        written = self.current(streams)
        for stream in streams:
            if stream.kind in {StreamKind.TRADE, StreamKind.AGGREGATE_TRADE}:
                after_ms = now_ms - 2 * self.market.step_ms
                written += self._prints_of(stream, max(after_ms, self.market.span_ms[0]))[-1:]
        return written

    def mark(self, symbol: str, now_ms: int) -> tuple[float, float, int] | None:
        """Give mark price, rate and time of the next settlement; None before the first trade."""
        coin = self.market.coins[symbol]
        price = self.publication.last_price(symbol, now_ms)
        if price is None:
            return None
        rate = self.market.funding_estimate(symbol, now_ms)
        every_ms = coin.funding_interval_ms
        return price, rate, (now_ms // every_ms + 1) * every_ms

    async def _say_closed(self, streams: list[Stream], before_ms: int) -> int:
        """Say every kline that closed since `before_ms` or was released, by closing instant."""
        due: list[tuple[int, Stream, int]] = []
        releases = self.publication.releases_between(before_ms, self.now_ms)
        for stream in streams:
            if stream.kind is StreamKind.KLINE and stream.symbol in self.market.coins:
                opens = self._opens_due(stream, before_ms, releases)
                interval_ms = INTERVALS_MS[stream.interval]
                due += [(open_ms + interval_ms, stream, open_ms) for open_ms in opens]
        said = 0
        for close_ms, stream, open_ms in sorted(due, key=lambda item: item[0]):
            said += await self._say_kline(stream, open_ms, max(close_ms, before_ms))
        return said

    async def _say_kline(self, stream: Stream, open_ms: int, event_ms: int) -> bool:
        """Say a closed kline; tell whether there was one, and anyone who heard it."""
        coin, interval_ms = self.market.coins[stream.symbol], INTERVALS_MS[stream.interval]
        at_ms = open_ms // interval_ms * interval_ms
        kline = self.publication.kline(stream.symbol, interval_ms, at_ms, self.now_ms)
        if kline is None or at_ms + interval_ms > self.now_ms:
            return False
        text = self.words.kline(
            coin, kline, interval=stream.interval, event_ms=event_ms, closed=True
        )
        return await self.hub.say(stream, text)

    def _opens_due(self, stream: Stream, before_ms: int, releases: list[Withheld]) -> list[int]:
        """List opening instants whose final kline is to be said now, oldest first."""
        interval_ms = INTERVALS_MS[stream.interval]
        if interval_ms % self.market.step_ms:
            return []  # finer than what this market knows: such a stream stays silent
        first_close = (before_ms // interval_ms + 1) * interval_ms
        opens = {c - interval_ms for c in range(first_close, self.now_ms + 1, interval_ms)}
        for item in releases:
            if item.symbol == stream.symbol:
                first = item.open_ms // interval_ms * interval_ms
                inside = range(first, item.close_ms, interval_ms)
                opens |= {at for at in inside if at + interval_ms <= self.now_ms}
        return sorted(opens)

    async def _say_prints(self, streams: list[Stream], before_ms: int) -> None:
        for stream in streams:
            if stream.kind in {StreamKind.TRADE, StreamKind.AGGREGATE_TRADE}:
                for _, text in self._prints_of(stream, before_ms)[-PRINTS_AT_ONCE_MAX:]:
                    await self.hub.say(stream, text)

    def _prints_of(self, stream: Stream, after_ms: int) -> list[tuple[Stream, str]]:
        coin = self.listed(stream.symbol)
        if coin is None:
            return []
        now_ms = self.clock_ms()
        whole = stream.kind is StreamKind.AGGREGATE_TRADE
        newest_ms = max(after_ms, now_ms - PRINTS_AT_ONCE_MAX * self.market.step_ms)
        prints = self.publication.prints(stream.symbol, newest_ms, now_ms)
        return [
            (stream, self.words.trade(coin, item, event_ms=item.time_ms, aggregate=whole))
            for item in prints
        ]

    def _present(self, stream: Stream) -> str | None:
        """Write one stream's present state; None where there is nothing to say."""
        now_ms = self.clock_ms()
        if stream.kind is StreamKind.ALL_MARKS:
            texts = [self._mark_text(coin, now_ms) for coin in self.market.coins.values()]
            return "[" + ",".join(text for text in texts if text is not None) + "]"
        coin = self.listed(stream.symbol)
        if coin is None or not coin.lives_at(now_ms):
            return None
        if stream.kind is StreamKind.KLINE:
            return self._running_kline(coin, stream.interval, now_ms)
        if stream.kind is StreamKind.MARK:
            return self._mark_text(coin, now_ms)
        if stream.kind is StreamKind.BOOK:
            price = self.publication.last_price(coin.symbol, now_ms)
            return None if price is None else self.words.book(coin, price, now_ms)
        return None

    def _running_kline(self, coin: Coin, interval: str, now_ms: int) -> str | None:
        interval_ms = INTERVALS_MS[interval]
        end_ms = self.end_ms
        if interval_ms % self.market.step_ms or (end_ms is not None and now_ms >= end_ms):
            return None
        open_ms = now_ms // interval_ms * interval_ms
        kline = self.publication.kline(coin.symbol, interval_ms, open_ms, now_ms)
        if kline is None:
            return None
        return self.words.kline(coin, kline, interval=interval, event_ms=now_ms, closed=False)

    def _mark_text(self, coin: Coin, now_ms: int) -> str | None:
        if not coin.lives_at(now_ms):
            return None
        found = self.mark(coin.symbol, now_ms)
        return None if found is None else self.words.mark(coin, *found, now_ms)


def bank_of(settings: RehearsalSettings) -> BankSettings:
    """Give the bank's terms; Bybit admits a post-only order that would take, and cancels it."""
    refuses = settings.dialect is not DialectKind.BYBIT
    return replace(settings.bank, refuses_post_only=refuses and settings.bank.refuses_post_only)


def words_of(kind: DialectKind, publication: Publication) -> Words:
    """Give the words of a dialect for what is published."""
    return bybit_words(publication) if kind is DialectKind.BYBIT else BINANCE_WORDS


def withheld_of(settings: RehearsalSettings) -> list[Withheld]:
    """Turn the scripted absent and late bars into what the publication withholds."""
    source_ms = settings.source_ms
    absent = [
        Withheld(bar.symbol, bar.open_ms, bar.open_ms + source_ms, None)
        for bar in settings.absent_bars
    ]
    late = []
    for bar in settings.late_bars:
        release_ms = bar.open_ms + source_ms + bar.delay_ms
        # what follows is held back as well: a successor would vouch for a bar that is not out
        end_ms = -(-release_ms // source_ms) * source_ms
        late.append(Withheld(bar.symbol, bar.open_ms, end_ms, release_ms))
    return [*absent, *late]
