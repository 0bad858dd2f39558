"""A book's only venue: what it tells passes through untouched, and its failure ends nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import structlog

from adapters.exchange.feed import CcxtFeed
from adapters.exchange.several import SeveralFeeds
from daemon.domain.failures import VenueError
from daemon.domain.messages import BarsClosed, FeedNotice, FundingRates, MarketEvent
from daemon.domain.units import HOUR_MS
from tests.adapters.exchange.feed_rig import HALF_HOUR_MS, Rig, rig, until
from tests.adapters.exchange.test_several_failures import break_once


@dataclass
class Alone:
    """Hold a rig whose only feed is followed through the feed of all venues."""

    made: Rig
    inner: CcxtFeed
    feed: SeveralFeeds

    @property
    def notices(self) -> list[tuple[str, bool, str]]:
        return [(e.venue, e.active, e.text) for e in self.made.told if isinstance(e, FeedNotice)]

    async def listen(self) -> None:
        async def consume() -> None:
            async for event in self.feed.events(self.made.start_ms):
                self.made.told.append(event)

        self.made.consumer = asyncio.create_task(consume(), name="consumer")
        await self.made.subscribed()

    def expect_whole(self, instants: int) -> None:
        """Hold that each bar of so many instants came once and is the market's own."""
        found: dict[int, list[BarsClosed]] = {}
        for bar in self.made.bars:
            found.setdefault(bar.close_ms, []).append(bar)
        first_ms = self.made.start_ms + HALF_HOUR_MS
        assert sorted(found) == [first_ms + n * HALF_HOUR_MS for n in range(instants)]
        for close_ms, pieces in found.items():
            assert (np.sum([piece.proof > 0 for piece in pieces], axis=0) == 1).all()
            told = np.nansum([piece.values for piece in pieces], axis=0)
            np.testing.assert_array_equal(told, self.made.truth(close_ms))


@contextlib.asynccontextmanager
async def alone() -> AsyncIterator[Alone]:
    async with rig() as made:
        inner = made.feed
        several = SeveralFeeds([inner])
        made.feed = several  # type: ignore[assignment]
        try:
            yield Alone(made, inner, several)
        finally:
            await several.close()


async def test_what_the_only_venue_tells_passes_through_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with alone() as line:
        said: list[MarketEvent] = []
        events, history = line.inner.events, line.inner.history

        async def noted(source: AsyncIterator[MarketEvent]) -> AsyncIterator[MarketEvent]:
            async for event in source:
                said.append(event)
                yield event

        monkeypatch.setattr(line.inner, "events", lambda after_ms: noted(events(after_ms)))
        monkeypatch.setattr(line.inner, "history", lambda *span: noted(history(*span)))
        since_ms = line.made.start_ms - 12 * HOUR_MS
        line.made.told += [e async for e in line.feed.history(since_ms, line.made.start_ms)]
        assert len(line.made.bars) == 24
        await line.listen()
        await line.made.advance(20)
        assert [id(event) for event in line.made.told] == [id(event) for event in said]
        assert any(isinstance(event, FundingRates) for event in said)
        assert line.made.bars[-1].proven_ms is not None
        assert line.feed.shown() == line.inner.shown() != {}


@pytest.mark.parametrize("trouble", [RuntimeError("session is closed"), VenueError("no route")])
async def test_its_failure_is_told_and_it_is_begun_again(trouble: Exception) -> None:
    async with alone() as line:
        await line.listen()
        await line.made.advance(2)
        with structlog.testing.capture_logs() as logs:
            before = line.inner._pump
            break_once(line.inner, "_turn", trouble, lambda: True)
            await until(lambda: bool(line.notices), "nobody was told")
            await until(lambda: line.inner._pump not in {None, before}, "it was not begun again")
            await line.made.advance(3)
        assert line.made.consumer is not None
        assert not line.made.consumer.done()
        foreseen = isinstance(trouble, VenueError)
        failed = [e["exc_info"] for e in logs if e["event"] == "feed_failed"]
        assert failed == ([] if foreseen else [trouble])
        assert [active for _, active, _ in line.notices] == [True, False]
        assert str(trouble) in line.notices[0][2]
        line.expect_whole(5)


async def test_a_feed_that_ends_by_itself_is_begun_again() -> None:
    async with alone() as line:
        await line.listen()
        await line.made.advance(1)
        assert line.inner._task is not None
        line.inner._task.cancel()
        await until(lambda: bool(line.notices), "nobody was told")
        assert "ended by itself" in line.notices[0][2]
        await until(lambda: line.inner._pump is not None, "it was not begun again")
        await line.made.advance(2)
        line.expect_whole(3)


async def test_closing_ends_its_events_and_nobody_waits_for_a_consumer_that_left() -> None:
    async with alone() as line:
        await line.listen()
        await line.made.advance(1)
        assert line.made.consumer is not None
        async with asyncio.timeout(5):
            await line.feed.close()
            await line.made.consumer
            await line.feed.settled(line.made.clock.now() + HALF_HOUR_MS)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("feed")]


async def test_a_book_does_not_start_without_its_only_venue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adapters.exchange.client.ATTEMPTS_MAX", 1)
    async with alone() as line:
        known = tuple(await line.feed.instruments())
        line.inner._settings = replace(line.inner._settings, known=known)
        line.inner._instruments = ()
        await line.feed.close()  # the next question is the first of a new client
        await line.made.fault("http_503", 1)
        with pytest.raises(VenueError):
            await line.feed.instruments()
        assert tuple(await line.feed.instruments()) == known
        await line.made.fault("http_503", 1)
        with pytest.raises(VenueError):
            [e async for e in line.feed.history(line.made.start_ms - HOUR_MS, line.made.start_ms)]
