"""An order that ended long ago: its fills are beyond what a venue lists unless told when."""

from __future__ import annotations

import pytest

from adapters.ccxt_venue.listings import RECENT_MS, WINDOW_MS_MAX, around_end
from adapters.ccxt_venue.listings_okx import OkxListings
from adapters.ccxt_venue.rows import one_each
from daemon.domain.units import DAY_MS
from tests.adapters.ccxt_venue.both_rig import VENUES, both
from tests.adapters.ccxt_venue.live_rig import filled, kinds
from tests.adapters.ccxt_venue.payloads import okx
from tests.adapters.ccxt_venue.test_live_listings import Answer, answering

DAYS = 9


@pytest.mark.parametrize("venue", VENUES)
async def test_after_nine_days_away_an_order_still_tells_its_fills_and_its_end(venue: str) -> None:
    """Left in doubt it would halt every start, and nobody could ever resolve it."""
    async with both(venue) as x:
        one = x.order(1, "0.02")
        await x.venue.submit([one])
        await x.advance(DAYS * 24 * 60)
        await x.venue._clock.measure()
        told = await x.venue.query(one.order_id, one.key)
        assert filled(told) == one.quantity
        assert kinds(told)[-1] == "OrderEnded"


async def test_okx_lists_old_fills_elsewhere_than_those_of_three_days() -> None:
    answers: dict[str, Answer] = {
        "/api/v5/trade/fills": lambda query: okx([]),
        "/api/v5/trade/fills-history": lambda query: okx([]),
    }
    async with answering("okx", answers) as (caller, asked):
        listings = OkxListings(caller, one_each)
        now_ms = caller.venue_ms
        await listings.of_order("BTC-USDT-SWAP", "1", now_ms)
        await listings.of_order("BTC-USDT-SWAP", "1", now_ms - RECENT_MS)
        assert [path for path, _ in asked] == list(answers)


def test_a_span_around_an_end_is_one_that_every_venue_takes() -> None:
    now_ms = 100 * DAY_MS
    assert around_end(now_ms, now_ms) == {}
    span = around_end(now_ms, 50 * DAY_MS)
    assert span["startTime"] <= 50 * DAY_MS < span["endTime"]
    assert span["endTime"] - span["startTime"] == WINDOW_MS_MAX


async def test_okx_keeps_cash_flows_of_more_than_a_week_in_another_list() -> None:
    """Read from the newer one alone, a week's funding would be missing from the cash."""
    answers: dict[str, Answer] = {
        "/api/v5/trade/fills-history": lambda query: okx([]),
        "/api/v5/account/bills": lambda query: okx([]),
        "/api/v5/account/bills-archive": lambda query: okx([]),
    }
    async with answering("okx", answers) as (caller, asked):
        listings, now_ms = OkxListings(caller, one_each), caller.venue_ms
        for days, name in ((1, "bills"), (7, "bills-archive"), (30, "bills-archive")):
            asked.clear()
            await listings.told(now_ms - days * DAY_MS, now_ms, ())
            assert [path for path, _ in asked if "bills" in path] == [f"/api/v5/account/{name}"]
