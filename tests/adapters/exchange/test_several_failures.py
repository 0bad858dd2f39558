"""A venue that breaks in a way nobody foresaw: told, begun again, nothing lost or repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import numpy as np
import pytest
import structlog

from adapters.exchange.feed import CcxtFeed
from daemon.domain.failures import VenueError
from daemon.domain.messages import BarsClosed, FeedNotice, FundingRates, MarketEvent
from daemon.domain.units import HOUR_MS
from tests.adapters.exchange.feed_rig import until
from tests.adapters.exchange.test_several import Two, two_venues


def notices(made: Two) -> list[tuple[str, bool]]:
    return [(e.venue, e.active) for e in made.told if isinstance(e, FeedNotice)]


def break_once(feed: CcxtFeed, where: str, trouble: Exception, when: Callable[[], bool]) -> None:
    """Let a step of the feed's pump raise once, when it is time."""
    pump = feed._pump
    real: Callable[[], Awaitable[None]] = getattr(pump, where)
    done: list[bool] = []

    async def broken() -> None:
        if not done and when():
            done.append(True)
            await asyncio.sleep(0.1)  # what was put before is taken
            raise trouble
        await real()

    setattr(pump, where, broken)


def expect_whole(made: Two) -> None:
    """Hold that each bar of each venue came once and is the market's own."""
    for close_ms, rows in made.collected().items():
        np.testing.assert_array_equal(rows, made.truth(close_ms))
    paid = [
        (e.settle_ms, int(i))
        for e in made.told
        if isinstance(e, FundingRates)
        for i in np.flatnonzero(~np.isnan(e.rates))
    ]
    assert len(paid) == len(set(paid)), "a payment was told twice"


@pytest.mark.parametrize("trouble", [RuntimeError("session is closed"), AssertionError("odd")])
async def test_a_failure_that_nobody_foresaw_is_told_logged_and_begun_again(
    trouble: Exception,
) -> None:
    async with two_venues() as made:
        await made.listen()
        await made.advance(2)
        with structlog.testing.capture_logs() as logs:
            break_once(made.feed._feeds[1], "_turn", trouble, lambda: True)
            await until(lambda: ("binance", True) in notices(made), "nobody was told")
            await until(lambda: made.feed._feeds[1]._pump is not None, "it was not begun again")
            await made.advance(3)
        assert [e["exc_info"] for e in logs if e["event"] == "feed_failed"] == [trouble]
        assert notices(made) == [("binance", True), ("binance", False)]
        assert len(made.collected()) == 5
        expect_whole(made)


async def test_what_was_told_ahead_of_an_instant_does_not_let_its_bars_be_skipped() -> None:
    async with two_venues() as made:
        await made.listen()
        await made.advance(2)
        feed, armed = made.feed._feeds[1], list[MarketEvent]()
        pump = feed._pump
        assert pump is not None
        put = pump.delivery.put

        def told(event: MarketEvent) -> None:
            armed.extend([event] if isinstance(event, FundingRates) else [])
            put(event)

        pump.delivery.put = told  # type: ignore[method-assign]
        break_once(feed, "_send", VenueError("between rates and bars"), lambda: bool(armed))
        for _ in range(20):
            await made.advance(1)
            if armed:
                break
        await until(lambda: feed._pump not in {None, pump}, "it was not begun again")
        await made.advance(2)
        assert notices(made) == [("binance", True), ("binance", False)]
        instants = sorted(made.collected())
        assert instants == list(range(instants[0], made.clock.now() + 1, 1_800_000))
        expect_whole(made)
        finals = [e.close_ms for e in made.told if isinstance(e, BarsClosed) and e.final]
        assert sorted(finals) == instants, "each instant is called complete once"


@pytest.mark.timeout(90)
async def test_a_book_that_goes_on_starts_without_a_venue_that_is_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adapters.exchange.client.ATTEMPTS_MAX", 2)
    async with two_venues() as made:
        before = list(await made.feed.instruments())
    async with two_venues() as made:
        made.line.cut()
        with pytest.raises(VenueError):
            await made.feed.instruments()  # a new book: nobody knows its trading rules
        for feed in made.feed._feeds:
            known = tuple(i for i in before if i.key.venue == feed.venue)
            feed._settings = replace(feed._settings, known=known)
        assert list(await made.feed.instruments()) == before
        since_ms = made.start_ms - 4 * HOUR_MS
        told = [e async for e in made.feed.history(since_ms, made.start_ms)]
        assert all(list(e.proof > 0)[:2] == [True, True] for e in told if isinstance(e, BarsClosed))
        made.told += told

        async def consume() -> None:
            async for event in made.feed.events(made.start_ms):
                made.told.append(event)

        made.consumer = asyncio.create_task(consume(), name="consumer")
        await until(lambda: ("binance", True) in notices(made), "nobody was told")
        await made.advance(2)
        alone = made.collected()[made.clock.now()]
        assert np.isnan(alone[:, 0]).tolist() == [False, False, True, True]
        made.line.is_cut = False
        await until(lambda: ("binance", False) in notices(made), "it did not come back")
        await made.subscribed()
        await made.advance(2)
        assert len(made.collected()) == 8 + 4, "its past came as well"
        expect_whole(made)
