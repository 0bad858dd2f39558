"""A cancel does not wait until hundreds of lists are read: the routine reading gives way."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from adapters.ccxt_venue import venue as venue_module
from adapters.ccxt_venue.calls import now_s
from adapters.ccxt_venue.together import PARALLEL_N
from daemon.domain.messages import (
    AccountUnread,
    OrderEnded,
    OrderFilled,
    Snapshotted,
    VenueEvent,
)
from tests.adapters.ccxt_venue.both_rig import KEY, NEWS, VENUES, Both, both, bringing, until

READING_S = 3.0
SLOW = replace(NEWS, follow_up_s=60.0, reconcile_s=0.3)


def read_slowly(x: Both, seconds: float) -> list[str]:
    """Let lists take long from now on; notes what became of each reading."""
    listings, seen = x.venue.account._listings, list[str]()
    told = listings.told

    async def slowly(*args: object) -> object:
        seen.append("begun")
        await asyncio.sleep(seconds)
        seen.append("read")
        return await told(*args)  # type: ignore[arg-type]

    listings.told = slowly  # type: ignore[method-assign,assignment]
    return seen


async def test_a_cancel_does_not_wait_for_a_reading_of_the_account() -> None:
    async with both("binanceusdm") as x:
        one = x.order(1, "0.01", price=x.price("0.95"))
        await x.submit(one)
        await x.told_account(x.running.exchange.now_ms)
        async with bringing(x, SLOW):
            seen = read_slowly(x, READING_S)
            await until(lambda: seen)
            begun_s = asyncio.get_running_loop().time()
            told = await x.venue.cancel(one.order_id, one.key)
            assert isinstance(told[-1], OrderEnded)
            assert asyncio.get_running_loop().time() - begun_s < READING_S / 2
            assert seen == ["begun"]
            read_n = len([e for e in x.events if isinstance(e, Snapshotted)])
            seen.clear()
            await until(lambda: "read" in seen)
            await until(lambda: len([e for e in x.events if isinstance(e, Snapshotted)]) > read_n)
        unread = [e for e in x.events if isinstance(e, AccountUnread)]
        assert not unread, "an account that we ourselves did not read on would open nothing"


async def test_a_reading_that_gave_way_too_often_is_finished_and_loses_no_fill() -> None:
    async with both("binanceusdm") as x:
        one = x.order(1, "0.01", price=x.price("0.95"))
        await x.submit(one)
        await x.told_account(x.running.exchange.now_ms)
        async with bringing(x, SLOW):
            x.venue._gave_way_s = now_s() - venue_module.GIVE_WAY_S_MAX
            seen = read_slowly(x, 0.5)
            await until(lambda: seen)
            await x.venue.query(one.order_id, one.key)
            assert seen[:2] == ["begun", "read"], "asked all the time, it would never be read"
            two = x.order(2, "0.02")
            await x.submit(two)
            await until(lambda: any(isinstance(e, OrderFilled) for e in x.events))
        assert await x.unexplained() == []


@pytest.mark.parametrize("venue", VENUES)
async def test_a_cancel_leaves_although_a_question_about_another_order_hangs(venue: str) -> None:
    """A listing of fills that a venue leaves hanging is asked again for minutes."""
    async with both(venue) as x:
        filled, resting = x.order(1, "0.01"), x.order(2, "0.01", price=x.price("0.95"))
        await x.submit(filled, resting)
        listings, hangs = x.venue.desk._listings, asyncio.Event()
        of_order = listings.of_order

        async def hanging(*args: object) -> object:
            hangs.set()
            await asyncio.sleep(READING_S)
            return await of_order(*args)  # type: ignore[arg-type]

        listings.of_order = hanging  # type: ignore[method-assign,assignment]
        asking = asyncio.create_task(x.venue.query(filled.order_id, filled.key))
        await hangs.wait()
        begun_s = asyncio.get_running_loop().time()
        cancelling = asyncio.create_task(x.venue.cancel(resting.order_id, resting.key))
        await until(lambda: not x.bank.open_orders(KEY))
        assert asyncio.get_running_loop().time() - begun_s < READING_S / 2
        assert isinstance((await cancelling)[-1], OrderEnded)
        assert asyncio.get_running_loop().time() - begun_s < READING_S / 2
        assert not asking.done()
        listings.of_order = of_order  # type: ignore[method-assign]
        assert any(isinstance(e, OrderFilled) for e in await asking)


@pytest.mark.parametrize("venue", VENUES)
async def test_every_cancel_of_many_leaves_although_what_became_of_the_first_hangs(
    venue: str,
) -> None:
    async with both(venue) as x:
        many = [x.order(n, "0.01", price=x.price("0.95")) for n in range(1, 21)]
        await x.submit(*many)
        query, goes_on, hanging = x.venue.desk.query, asyncio.Event(), [0]

        async def hangs(*asked: object, **more: object) -> list[VenueEvent]:
            hanging[0] += 1
            await goes_on.wait()
            return await query(*asked, **more)  # type: ignore[arg-type]

        x.venue.desk.query = hangs  # type: ignore[method-assign]
        cancelling = [asyncio.create_task(x.venue.cancel(o.order_id, o.key)) for o in many]
        await until(lambda: not x.bank.open_orders(KEY))
        assert hanging[0] <= PARALLEL_N
        goes_on.set()
        told = [(await one)[-1] for one in cancelling]
        assert all(isinstance(one, OrderEnded) for one in told)
