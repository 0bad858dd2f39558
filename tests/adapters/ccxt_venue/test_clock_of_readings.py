"""A clock that is off is measured anew whatever was refused for it, a mere reading included."""

from __future__ import annotations

import asyncio

import pytest

from adapters.ccxt_venue.desk import ARRIVAL_MARGIN_S
from adapters.ccxt_venue.timing import ERROR_MS_MAX
from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.binance import signing as binance
from adapters.rehearsal.bybit import signing as bybit
from daemon.domain.messages import OrderAccepted, Snapshotted
from tests.adapters.ccxt_venue.both_rig import VENUES, both

OFF_MS = 60_000


async def test_an_account_that_is_refused_for_our_clock_is_read_by_a_clock_measured_anew() -> None:
    async with both("binanceusdm") as x:
        x.venue.desk.clock_refused.clear()
        keeping = asyncio.create_task(x.venue.keep_time(3600))
        api = x.venue._caller.api
        measured_n = x.venue._clock.measured_n
        api.options["timeDifference"] += OFF_MS  # the machine slept, or its clock was set
        told = await x.venue.snapshot(x.running.exchange.now_ms, "binanceusdm")
        assert isinstance(told[-1], Snapshotted)
        assert x.venue._clock.measured_n > measured_n
        keeping.cancel()


@pytest.mark.parametrize("venue", VENUES)
async def test_a_question_that_is_refused_for_our_clock_asks_for_a_new_measurement(
    venue: str,
) -> None:
    async with both(venue) as x:
        order = x.order(1, "0.01", price=x.price("0.9"))
        (told,) = await x.submit(order)
        assert isinstance(told, OrderAccepted)
        x.venue.desk.clock_refused.clear()
        x.venue._caller.api.options["timeDifference"] += OFF_MS
        await x.venue.query(order.order_id, order.key)
        assert x.venue.desk.clock_refused.is_set()


def test_an_absence_is_believed_only_after_what_was_signed_ahead_cannot_come_any_more() -> None:
    assert max(binance.AHEAD_MS_MAX, bybit.AHEAD_MS_MAX) <= ARRIVAL_MARGIN_S * 1000
    assert ARRIVAL_MARGIN_S * 1000 > ERROR_MS_MAX


def test_a_rehearsed_account_shows_no_secret() -> None:
    assert "hush-hush" not in repr(KeySettings("a-key", "hush-hush"))
