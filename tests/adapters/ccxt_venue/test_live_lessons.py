"""What others lost money by, played at the live venue of either dialect; see docs/lessons.md."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from adapters.ccxt_venue.dead_man import DeadManSwitch
from adapters.rehearsal.faults import Fault
from daemon.domain.messages import OrderFilled
from daemon.domain.order import Order, OrderKind
from tests.adapters.ccxt_venue.both_rig import KEY, VENUES, Both, both
from tests.adapters.ccxt_venue.live_rig import forget, kinds

NOWHERE = "http://venue.invalid"
SIX = (
    ("BTC", "0.02"),
    ("BTC", "0.03"),
    ("ETH", "-0.4"),
    ("ETH", "-0.5"),
    ("SOL", "9"),
    ("SOL", "8"),
)


def moved(urls: Any, base: str) -> Any:
    """Give the tree of addresses with every REST host replaced."""
    if isinstance(urls, dict):
        return {name: one if name == "ws" else moved(one, base) for name, one in urls.items()}
    if isinstance(urls, str) and urls.startswith("http"):
        return (
            base
            + urls.split("//", 1)[1].partition("/")[1]
            + urls.split("//", 1)[1].partition("/")[2]
        )
    return urls


@pytest.mark.parametrize("venue", VENUES)
async def test_orders_that_were_numbered_stay_ours_through_an_outage_of_names(venue: str) -> None:
    """No look-up, time-out or reset closes an order: only the venue's word about it does."""
    async with both(venue) as x:
        orders = [
            x.order(
                n, amount, name, price=x.price("0.9995" if amount[0] != "-" else "1.0005", name)
            )
            for n, (name, amount) in enumerate(SIX)
        ]
        assert kinds(await x.submit(*orders[:3])) == ["OrderAccepted"] * 3
        await x.fault(Fault.ORDER_LOST_503, 3)
        assert kinds(await x.submit(*orders[3:])) == ["OrderUncertain"] * 3
        api = x.venue._caller.api
        urls = api.urls["api"]
        api.urls["api"] = moved(urls, NOWHERE)
        for order in orders:
            assert kinds(await x.venue.query(order.order_id, order.key)) == ["OrderUncertain"]
            assert kinds(await x.venue.cancel(order.order_id, order.key)) == ["OrderUncertain"]
        assert set(x.venue.desk.open) == {o.order_id for o in orders[:3]}
        await x.advance(240)  # meanwhile the market comes to them
        api.urls["api"] = urls
        for order in orders:
            x.book(await x.venue.query(order.order_id, order.key))
        assert x.positions() != {}
        assert x.booked() == x.positions()
        fills = {e.fill.order_id for e in x.events if isinstance(e, OrderFilled)}
        assert fills <= {o.order_id for o in orders}
        assert sorted(x.orders_at_venue()) == [o.order_id for o in orders]


async def test_after_a_restart_what_rests_has_its_timer_again() -> None:
    async with both("binanceusdm") as x:
        resting = x.order(1, "0.01", price=x.price("0.97"))
        assert kinds(await x.submit(resting)) == ["OrderAccepted"]
        forget(x.venue.desk)
        x.venue.desk.open.clear()  # another process remembers nothing but the journal's intent
        assert kinds(await x.venue.query(resting.order_id, resting.key)) == ["OrderAccepted"]
        switch = DeadManSwitch(
            x.venue._caller,
            x.venue._quirks.dead_man,  # type: ignore[arg-type]
            x.venue._names,
            lambda: set(x.venue.desk.open.values()),
            60.0,
            x.running.exchange.clock_ms,
        )
        await switch.look()
        assert set(x.bank._desk.account(KEY).timers) == {"BTCUSDT"}


@pytest.mark.parametrize("venue", VENUES)
async def test_a_rest_below_the_least_order_is_closed_and_never_stays_for_good(venue: str) -> None:
    async with both(venue) as x:
        step = x.bank.rules["SOLUSDT"].quantity_step
        crumb = step  # worth far less than the least order
        await x.submit(x.order(1, "1", "SOL"))
        x.bank.reduce_forcibly(KEY, "SOLUSDT", Decimal(1) - crumb)
        assert x.positions() == {"SOLUSDT": crumb}
        assert kinds(await x.submit(_sell(x, 2, crumb, reduce_only=False))) == ["OrderRejected"]
        assert x.positions() == {"SOLUSDT": crumb}, "the trap: too small to be sold"
        assert kinds(await x.submit(_sell(x, 3, crumb, reduce_only=True))) == ["OrderAccepted"]
        assert x.positions() == {}


def _sell(x: Both, number: int, quantity: Decimal, *, reduce_only: bool) -> Order:
    made = x.order(number, str(-quantity), "SOL")
    return Order(
        made.order_id,
        made.key,
        made.index,
        made.quantity,
        OrderKind.MARKET,
        0,
        1.0,
        reduce_only=reduce_only,
    )
