"""What is held and what is told of it agree: clocks, listings and other people may lag behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from adapters.ccxt_venue import account as account_module
from adapters.ccxt_venue import venue as venue_module
from daemon.domain.failures import VenueError
from daemon.domain.messages import OrderFilled, Snapshotted
from tests.adapters.ccxt_venue.both_rig import NEWS, both, bringing, until
from tests.adapters.ccxt_venue.live_rig import RULES, VENUE, live, order
from tests.adapters.ccxt_venue.test_live_account import begin, of, snapshot_in

BEHIND_MS = 3_000


async def test_a_fill_newer_than_our_clock_is_told_with_the_account_that_holds_it() -> None:
    async with live() as x:
        cursor = await begin(x)
        await x.r.advance(1)
        exchange = x.r.running.exchange
        x.venue.account._now_ms = lambda: exchange.clock_ms() - BEHIND_MS
        await x.venue.submit([order(1, "0.1")])
        told = await x.venue.snapshot(cursor, VENUE)
        assert sum(f.fill.quantity for f in of(told, OrderFilled)) == x.held() == Decimal("0.1")
        assert list(snapshot_in(told).quantities.values()) == [Decimal("0.1")]


async def test_an_account_that_never_stands_still_is_not_told_but_its_fills_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Told after all, it would hold a fill that comes later, and count it twice."""
    monkeypatch.setattr(account_module, "READING_PAUSE_S", 0.0)
    async with live() as x:
        cursor = await begin(x)
        await x.r.advance(1)
        listings = x.venue.account._listings
        told = listings.told

        async def with_a_trade(*args: object) -> object:
            found = await told(*args)  # type: ignore[arg-type]
            await x.r.buy(0.02)
            return found

        listings.told = with_a_trade  # type: ignore[method-assign,assignment]
        events = await x.venue.snapshot(cursor, VENUE)
        assert not of(events, Snapshotted)
        fills = sum(f.fill.quantity for f in of(events, OrderFilled))
        assert Decimal(0) < fills < x.held(), "the last trade came after the fills were read"
        listings.told = told  # type: ignore[method-assign]
        events = await x.venue.snapshot(cursor, VENUE)
        assert snapshot_in(events).quantities
        assert sum(f.fill.quantity for f in of(events, OrderFilled)) == x.held()


async def test_no_book_begins_while_the_account_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_module, "READING_PAUSE_S", 0.0)
    async with live() as x:
        listings = x.venue.account._listings
        holdings = listings.holdings

        async def with_a_trade() -> object:
            await x.r.buy(0.02)
            return await holdings()

        listings.holdings = with_a_trade  # type: ignore[method-assign,assignment]
        with pytest.raises(VenueError, match="changes"):
            await x.venue.snapshot(0, VENUE)


async def test_an_account_that_was_not_believed_is_read_again_only_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine acts at the third difference; a list of fills that lags a second is none."""
    monkeypatch.setattr(venue_module, "DISAGREED_PAUSE_S", 0.3)
    async with live() as x:
        cursor = await begin(x)
        await x.r.advance(1)
        await x.venue.submit([order(1, "0.1")])
        listings, loop = x.venue.account._listings, asyncio.get_running_loop()
        told, listed_s = listings.told, loop.time() + 0.5

        async def lagging(*args: object) -> object:
            found = await told(*args)  # type: ignore[arg-type]
            return found if loop.time() >= listed_s else []

        listings.told = lagging  # type: ignore[method-assign,assignment]
        answers = [await x.venue.snapshot(cursor, VENUE) for _ in range(3)]
        assert not of(answers[0], OrderFilled)
        assert snapshot_in(answers[0]).quantities, "positions are ahead of the list of fills"
        assert of(answers[2], OrderFilled), "three differences, and the position was adopted"
        begun_s = loop.time()
        await x.venue.snapshot(snapshot_in(answers[2]).executions_cursor, VENUE)
        assert loop.time() - begun_s < 0.3, "an account that was believed costs no pause"


async def test_in_lock_step_nobody_waits_for_a_market_that_stands_still() -> None:
    async with live(replace(RULES, in_place=True)) as x:
        cursor = await begin(x)
        await x.r.advance(1)
        begun_s = asyncio.get_running_loop().time()
        for _ in range(3):
            await x.venue.snapshot(cursor, VENUE)
        assert asyncio.get_running_loop().time() - begun_s < venue_module.DISAGREED_PAUSE_S


async def test_news_read_no_account_while_one_that_was_not_believed_waits_for_its_pause() -> None:
    """Frames come in bursts: three readings within a moment would be acted on as three."""
    async with both("binanceusdm") as x:
        cursor = x.running.exchange.now_ms
        await x.advance(1)
        await x.told_account(cursor)
        async with bringing(x, replace(NEWS, reconcile_s=60.0)):
            brought = x.venue.brought
            assert brought is not None
            read_n = brought.reconciled_n
            again = asyncio.create_task(x.venue.snapshot(cursor, x.venue.venue))
            for _ in range(10):
                await asyncio.sleep(0.05)
                brought.ask_account()
            assert not again.done()
            assert brought.reconciled_n == read_n
            assert any(isinstance(e, Snapshotted) for e in await again)
            await until(lambda: brought.reconciled_n > read_n)
