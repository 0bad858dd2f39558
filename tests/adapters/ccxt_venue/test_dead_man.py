"""Timers at the venue: armed while something rests, renewed, and cleared where nothing does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adapters.ccxt_venue import dead_man
from adapters.ccxt_venue.client import keyed_client
from adapters.ccxt_venue.dead_man import DeadManSwitch, fit_timer
from adapters.ccxt_venue.keys import Credentials, Hidden
from adapters.ccxt_venue.names import Names
from adapters.ccxt_venue.quirks import QUIRKS
from adapters.ccxt_venue.venue import VenueRules
from adapters.rehearsal.bybit.ccxt_options import bybit_options
from adapters.rehearsal.faults import Fault
from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import InstrumentKey
from daemon.domain.order import OrderId
from tests.adapters.ccxt_venue.live_rig import (
    RULES,
    VENUE,
    LiveRig,
    instruments,
    key_of,
    kinds,
    live,
    order,
)
from tests.adapters.ccxt_venue.payloads import okx
from tests.adapters.ccxt_venue.test_live_listings import Answer, answering
from tests.adapters.rehearsal.binance.binance_rig import KEY

TIMER_S = 60.0


def timers_of(one: LiveRig) -> dict[str, int]:
    found: dict[str, int] = one.bank._desk.account(KEY).timers
    return found


def switch_of(one: LiveRig) -> DeadManSwitch:
    found = one.venue.dead_man(TIMER_S)
    assert found is not None
    return found


def let_rest(one: LiveRig, name: str, symbol: str) -> None:
    one.venue.desk.open[OrderId(name)] = key_of(symbol)


async def test_each_contract_with_something_resting_has_a_timer_and_no_other_has() -> None:
    async with live() as one:
        switch = switch_of(one)
        await switch.look()
        assert timers_of(one) == {}
        let_rest(one, "a", "BTC")
        let_rest(one, "b", "BTC")
        let_rest(one, "c", "SOL")
        await switch.look()
        now_ms = one.r.running.exchange.clock_ms()
        assert set(timers_of(one)) == {"BTCUSDT", "SOLUSDT"}
        assert all(0 < at_ms - now_ms <= TIMER_S * 1000 for at_ms in timers_of(one).values())


async def test_a_timer_is_renewed_at_half_of_it_and_a_failed_renewal_at_once_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_s = [1000.0]
    monkeypatch.setattr(dead_man, "now_s", lambda: at_s[0])
    async with live() as one:
        switch, calls = switch_of(one), [0]
        once = one.caller.once

        async def counting(method: str, *args: object) -> Any:
            calls[0] += method == "fapiPrivatePostCountdownCancelAll"
            return await once(method, *args)

        monkeypatch.setattr(one.caller, "once", counting)
        let_rest(one, "a", "BTC")
        for offset_s, calls_n in ((0.0, 1), (29.0, 1), (30.5, 2)):
            at_s[0] = 1000.0 + offset_s
            await switch.look()
            assert calls[0] == calls_n, offset_s
        await one.r.fault(Fault.HTTP_503, count=1)
        for offset_s, calls_n in ((61.0, 3), (61.5, 3), (62.5, 4), (63.0, 4)):
            at_s[0] = 1000.0 + offset_s
            await switch.look()
            assert calls[0] == calls_n, offset_s


async def test_orders_that_rest_long_without_a_timer_are_told_and_so_is_the_end_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_s = [1000.0]
    monkeypatch.setattr(dead_man, "now_s", lambda: at_s[0])
    async with live() as one:
        switch, told = switch_of(one), list[tuple[float, bool]]()

        async def look_at(offset_s: float) -> str:
            at_s[0] = 1000.0 + offset_s
            await switch.look()
            notices = switch.notices()
            told.extend((offset_s, notice.active) for notice in notices)
            return "".join(notice.text for notice in notices)

        let_rest(one, "a", "BTC")
        await one.r.fault(Fault.HTTP_503, count=100)
        assert not any([await look_at(offset_s) for offset_s in (0.0, 10.0, 29.0)])
        text = await look_at(31.0)
        assert text.startswith("orders in BTCUSDT rest without a timer at the venue")
        assert "503" in text
        assert "live.dead_man_s = 0" in text
        await look_at(40.0)
        await one.r.fault(Fault.NONE)
        await look_at(50.0)
        await look_at(51.0)
        assert told == [(31.0, True), (50.0, False)]
        await one.r.fault(Fault.HTTP_503, count=100)
        await look_at(81.0)
        del one.venue.desk.open[OrderId("a")]
        await look_at(130.0)
        assert len(told) == 2, "nothing rests, so nothing is unguarded"


async def test_a_stop_clears_what_has_nothing_resting_and_leaves_the_rest_to_its_timer() -> None:
    async with live() as one:
        switch = switch_of(one)
        let_rest(one, "a", "BTC")
        let_rest(one, "b", "ETH")
        await switch.look()
        del one.venue.desk.open[OrderId("a")]
        await switch.clear()
        assert set(timers_of(one)) == {"ETHUSDT"}


async def test_what_came_to_rest_while_the_run_was_ending_has_its_timer_after_a_stop() -> None:
    """Orders are still answered then, and nobody looks any more."""
    async with live() as one:
        switch = switch_of(one)
        let_rest(one, "a", "BTC")
        await switch.look()
        let_rest(one, "b", "SOL")
        await switch.clear()
        assert set(timers_of(one)) == {"BTCUSDT", "SOLUSDT"}


async def test_an_order_whose_answer_was_lost_has_its_timer_before_anybody_asked() -> None:
    """It rests at the venue: who is killed now would leave it there for ever."""
    async with live() as one:
        switch = switch_of(one)
        price = str(round(await one.r.price() * 0.99, 1))
        lost = order(1, "0.01", price=price)
        await one.r.fault(Fault.ORDER_LOST_503)
        assert kinds(await one.venue.submit([lost])) == ["OrderUncertain"]
        assert len(one.bank.open_orders(KEY)) == 1
        await switch.look()
        assert set(timers_of(one)) == {"BTCUSDT"}
        await one.venue.cancel(lost.order_id, lost.key)
        assert not one.venue.desk.doubtful
        await switch.clear()
        assert timers_of(one) == {}


async def test_what_may_rest_is_forgotten_once_its_end_is_known() -> None:
    async with live() as one:
        desk, price = one.venue.desk, str(round(await one.r.price() * 0.99, 1))
        refused, kept, market = (
            order(n, "0.01", price=p) for n, p in enumerate((price, price, None))
        )
        await one.r.fault(Fault.ORDER_REFUSED_503)  # it never came to be
        await one.venue.submit([refused])
        assert set(desk.doubtful) == {refused.order_id}
        await one.venue.query(refused.order_id, refused.key)
        assert desk.doubtful == {}
        await one.r.fault(Fault.ORDER_LOST_503)
        await one.venue.submit([market])
        assert desk.doubtful == {}, "a market order never rests"
        await one.venue.submit([kept])
        await one.r.fault(Fault.HTTP_503, count=1)
        assert kinds(await one.venue.query(kept.order_id, kept.key)) == ["OrderUncertain"]
        await one.venue.query(kept.order_id, kept.key)
        assert desk.doubtful == {}
        assert set(desk.open) == {kept.order_id}


async def test_off_means_off_and_time_that_waits_for_us_needs_none() -> None:
    async with live() as one:
        assert one.venue.dead_man(0) is None
    rules: VenueRules = replace(RULES, in_place=True)
    async with live(rules) as one:
        assert one.venue.dead_man(TIMER_S) is None


async def test_okx_has_one_timer_for_all_told_in_seconds() -> None:
    answers: dict[str, Answer] = {
        "/api/v5/trade/cancel-all-after": lambda query: okx([{"triggerTime": "1"}])
    }
    async with answering("okx", answers) as (caller, asked):
        words = QUIRKS["okx"].dead_man
        assert words is not None
        names = Names("okx", ())
        resting = {InstrumentKey("okx", one.key.symbol) for one in instruments()}
        switch = DeadManSwitch(caller, words, names, lambda: resting, TIMER_S, lambda: 0)
        await switch.look()
        await switch.look()
        (first,) = asked
        assert dict(first[1])["timeOut"] in ("60", 60)
        resting.clear()
        await switch.clear()
        assert dict(asked[-1][1])["timeOut"] in ("0", 0)


def test_what_a_venue_does_not_take_is_said_before_anything_is_begun() -> None:
    with pytest.raises(ConfigurationError, match="10 to 120 s"):
        fit_timer("okx", QUIRKS["okx"].dead_man, 5)
    assert fit_timer("okx", QUIRKS["okx"].dead_man, 120) == ""
    assert fit_timer("bybit", QUIRKS["bybit"].dead_man, 60) == ""
    assert fit_timer(VENUE, QUIRKS[VENUE].dead_man, 120) == ""
    assert fit_timer("elsewhere", None, 60)


async def test_bybit_is_asked_to_end_our_private_sockets_when_we_are_silent() -> None:
    keys = Credentials("bybit", Hidden("key-of-silence"), Hidden("secret-of-silence"))
    led = bybit_options("http://127.0.0.1:1", "ws://127.0.0.1:1")
    addresses: tuple[dict[str, Any], ...] = ({}, led)
    for options in addresses:
        api = keyed_client("bybit", options, keys, receive_window_ms=5_000)
        try:
            private = api.urls["api"]["ws"]["private"]
            named = [private["contract"], private["spot"]["unified"]]
            assert all(one.endswith("/v5/private?max_active_time=30s") for one in named), named
            assert api.streaming["keepAlive"] < 30_000, "our pings come in time"
        finally:
            await api.close()
