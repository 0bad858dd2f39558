"""What outlives the failure of a feed: a clock that is off, payments, a past to be read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from adapters.exchange import pump, several
from adapters.exchange.carried import Carried, Compared, UnreadPast
from adapters.exchange.feed import CcxtFeed
from adapters.exchange.health import FeedHealth
from adapters.exchange.history import read_history
from adapters.exchange.reader import VenueReader
from adapters.exchange.recent import RecentBars
from adapters.exchange.several import SeveralFeeds
from adapters.exchange.watch import OFFSETS_MISSED_MAX, Watch, WatchRules
from daemon.domain.failures import VenueError
from daemon.domain.messages import FeedNotice, FeedTrouble
from tests.adapters.exchange.feed_rig import HALF_HOUR_MS, SYMBOLS, Rig, rig, until
from tests.adapters.exchange.test_joining import column, market
from tests.adapters.exchange.test_several_failures import break_once
from tests.adapters.exchange.test_watch import ShiftedClock

OFF: Final = FeedTrouble.CLOCK_OFFSET
DOWN: Final = FeedTrouble.VENUE_DOWN
RULES: Final = WatchRules(offset_max_ms=1000.0, offset_every_s=0.1, standstill_s=1e9)


async def deaf(*_: object) -> Any:
    raise VenueError("no answer")


@contextlib.asynccontextmanager
async def begun(made: Rig) -> AsyncIterator[CcxtFeed]:
    """Listen to the feed as the only one of a book, which begins it again when it fails."""
    inner, book = made.feed, SeveralFeeds([made.feed])
    made.feed = book  # type: ignore[assignment]

    async def consume() -> None:
        async for event in book.events(made.start_ms):
            made.told.append(event)

    made.consumer = asyncio.create_task(consume(), name="consumer")
    await made.subscribed()
    try:
        yield inner
    finally:
        await book.close()


async def fail(feed: CcxtFeed) -> None:
    """Let a feed fail, and wait until it is begun again."""
    before = feed._pump
    break_once(feed, "_turn", RuntimeError("odd"), lambda: True)
    await until(lambda: feed._pump not in {None, before}, "it was not begun again")


async def test_a_clock_that_is_off_stays_so_over_a_failure_until_it_is_measured_right() -> None:
    transport = ShiftedClock()
    transport.wall_later_s = 3.0
    async with rig(transport=transport, watch=RULES) as made, begun(made) as inner:
        transport.wall_of = made.exchange.exchange.clock_ms
        await until(lambda: (OFF, True) in made.notices, "nobody was told")
        ask = inner.client.server_time
        inner.client.server_time = deaf  # type: ignore[method-assign]
        await fail(inner)
        await asyncio.sleep(0.3)  # it cannot be measured, and looks some times
        assert made.notices == [(OFF, True), (DOWN, True)]
        inner.client.server_time = ask  # type: ignore[method-assign]
        await asyncio.sleep(0.3)  # measured, and still off: known already
        assert made.notices == [(OFF, True), (DOWN, True)]
        transport.wall_later_s = 0.0
        await until(lambda: (OFF, False) in made.notices, "the hold did not end")
        assert made.notices == [(OFF, True), (DOWN, True), (OFF, False)]


async def test_the_time_for_which_a_clock_is_unknown_is_counted_over_a_failure() -> None:
    transport, told = ShiftedClock(), list[FeedNotice]()
    async with rig(transport=transport, watch=RULES) as made:
        await made.feed.instruments()

        def watched(compared: Compared) -> Watch:
            settings, clock, client = made.feed._settings, made.clock, made.feed.client
            health = FeedHealth(client.exchange)
            return Watch(
                RULES,
                client,
                None,
                settings.timeframe,
                clock,
                transport,
                health,
                told.append,
                compared,
            )

        kept, part_s = Compared(), 0.6 * OFFSETS_MISSED_MAX * RULES.offset_every_s
        for compared in (kept, kept, Compared()):
            watch = watched(compared)
            transport.later_s += part_s
            watch.step(None)
        assert [(one.trouble, one.active) for one in told] == [(OFF, True)]
        assert kept.is_off


async def test_what_has_settled_and_was_not_paid_when_a_feed_fails_is_paid_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask, asked_n = VenueReader.settled, 0

    async def withheld(*_: object) -> Any:
        nonlocal asked_n
        asked_n += 1
        raise VenueError("not there yet")

    monkeypatch.setattr(VenueReader, "settled", withheld)
    async with rig(funding_patience_s=0.05) as made, begun(made) as inner:
        while not asked_n:
            await made.advance(1)
        await made.advance(1)
        settle_ms = made.clock.now() - HALF_HOUR_MS
        assert made.bars[-1].close_ms > settle_ms, "bars did not wait for ever"
        await fail(inner)
        monkeypatch.setattr(VenueReader, "settled", ask)
        await until(lambda: bool(made.funding), "it was never paid")
        await made.advance(1)
        assert [one.settle_ms for one in made.funding] == [settle_ms]


class Halting:
    """Read history, and stop once after some bars; or fail at once, each time."""

    def __init__(self, halt_after: int, trouble: Exception | None = None) -> None:
        self.halt_after, self.trouble = halt_after, trouble
        self.begun_n = 0
        self.halted = False

    async def read(self, *args: Any, **more: Any) -> AsyncIterator[Any]:
        self.begun_n += 1
        if self.trouble is not None:
            raise self.trouble
        count = 0
        async for event in read_history(*args, **more):
            yield event
            count += 1
            if self.begun_n == 1 and count == self.halt_after:
                self.halted = True
                await asyncio.Event().wait()


SELDOM: Final[dict[str, Any]] = {
    "symbols": SYMBOLS,
    "spare": 1,
    "markets_every_ms": 6 * HALF_HOUR_MS,
    "settle_timeout_s": 0.3,  # a reading that halts is not waited for
}


@pytest.mark.parametrize("told_n", [0, 3])
async def test_the_past_of_a_contract_that_joined_is_read_on_when_its_reading_was_cut_off(
    monkeypatch: pytest.MonkeyPatch, told_n: int
) -> None:
    reading = Halting(told_n + 1)
    monkeypatch.setattr(pump, "read_history", reading.read)
    async with rig(market(BNBUSDT=2), **SELDOM) as made, begun(made) as inner:
        await made.advance(6)
        await until(lambda: reading.halted, "nothing was read")
        await until(lambda: len(column(made, 3)) == told_n + 1, "what was read is told")
        await fail(inner)
        await until(lambda: len(column(made, 3)) == 4, "the rest never came")
        made.symbols = (*SYMBOLS, "BNBUSDT")
        await made.subscribed()
        await made.advance(3)
        assert sorted(column(made, 3)) == list(range(3, 10)), "each once"
        assert reading.begun_n == 2
        await made.advance(1)
        assert inner._carried.unread_pasts == {}


async def test_a_past_that_cannot_be_read_ends_no_second_feed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading = Halting(0, KeyError("odd"))
    monkeypatch.setattr(pump, "read_history", reading.read)
    async with rig(market(BNBUSDT=2), **SELDOM) as made, begun(made) as inner:
        await made.advance(5)
        before = inner._pump
        await made.advance(1)
        await until(lambda: inner._pump not in {None, before}, "it was not begun again")
        made.symbols = (*SYMBOLS, "BNBUSDT")
        await made.subscribed()
        await made.advance(2)
        assert reading.begun_n == 1
        assert made.notices == [(DOWN, True), (DOWN, False)]
        assert {7, 8} <= set(column(made, 3)), "it warms up with what comes"


def test_a_feed_that_begins_reads_no_past_beyond_what_was_told_whole() -> None:
    carried = Carried(RecentBars(4))
    carried.unread_pasts = {3: UnreadPast("A", 10, 90), 4: UnreadPast("B", 10, 40)}
    carried.begin(60)
    assert [past.until_ms for past in carried.unread_pasts.values()] == [60, 40]


async def test_a_book_that_is_closed_while_a_feed_rests_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(several, "backoff_s", lambda failures: 60.0)
    async with rig() as made, begun(made) as inner:
        break_once(inner, "_turn", RuntimeError("odd"), lambda: True)
        await until(lambda: (DOWN, True) in made.notices, "nobody was told")
        await until(lambda: inner._pump is None, "it did not end")
        await made.feed.close()
        assert made.consumer is not None
        async with asyncio.timeout(2):
            await made.consumer
