"""Orders of the live venue at a rehearsal exchange: each once, whatever happens to answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from adapters.ccxt_venue.venue import CANCELS_AFTER_S, VenueRules
from adapters.rehearsal.bank.terms import BankSettings
from adapters.rehearsal.faults import Fault
from daemon.domain.messages import OrderEnded, OrderRejected, OrderUncertain, VenueEvent
from tests.adapters.ccxt_venue.live_rig import LiveRig, filled, forget, kinds, live, order
from tests.adapters.rehearsal.binance.binance_rig import KEY

ACCEPTED_LOST = (
    Fault.ORDER_LOST_RESET,
    Fault.ORDER_LOST_HANG,
    Fault.ORDER_LOST_503,
    Fault.ORDER_LOST_NOT_JSON,
)


def reasons(events: Sequence[VenueEvent]) -> list[str]:
    told = [e for e in events if isinstance(e, OrderRejected | OrderUncertain | OrderEnded)]
    return [e.reason for e in told]


async def price_of(x: LiveRig, share: str, symbol: str = "BTC") -> str:
    """Give a price at that share of the last one, on the tick."""
    last = x.bank.last_price(f"{symbol}USDT")
    return str((last * Decimal(share)).quantize(Decimal("0.1")))


# ---- sending -------------------------------------------------------------------------------------


async def test_orders_are_sent_once_each_and_answered_in_the_given_order() -> None:
    async with live() as x:
        sizes = {"BTC": "0.01", "ETH": "0.1", "SOL": "1"}
        wanted = [order(n, sizes[s], s) for n, s in enumerate(["BTC", "ETH", "SOL"] * 3)]
        events = await x.venue.submit(wanted)
        assert kinds(events) == ["OrderAccepted"] * 9
        assert [getattr(e, "order_id", "") for e in events] == [o.order_id for o in wanted]
        assert sorted(x.orders_at_venue()) == sorted(o.order_id for o in wanted)


async def test_answers_keep_the_given_order_though_the_first_comes_last() -> None:
    """Trap 8: ccxt sorts the answers of a batch by time, so nothing is sent as a batch."""
    async with live() as x:
        create, delays = x.api.create_order, iter((0.3, 0.1, 0.0))

        async def slower(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(next(delays))
            return await create(*args, **kwargs)

        x.api.create_order = slower
        wanted = [order(1, "0.01"), order(2, "0.001"), order(3, "0.02")]
        told = await x.venue.submit(wanted)
        assert [getattr(e, "order_id", "") for e in told] == [o.order_id for o in wanted]
        assert kinds(told) == ["OrderAccepted", "OrderRejected", "OrderAccepted"]
        assert "notional_min" in reasons(told)[0]


async def test_one_at_a_time_the_venue_sees_them_in_the_given_order() -> None:
    async with live(VenueRules(receive_window_ms=400, parallel_n=1)) as x:
        wanted = [order(n, "0.01") for n in (5, 3, 9, 1)]
        await x.venue.submit(wanted)
        assert x.orders_at_venue() == [o.order_id for o in wanted]


@pytest.mark.parametrize("quantity", ["0.003", "0.1", "1.037", "-0.299", "-2.5"])
async def test_a_quantity_arrives_with_every_digit(quantity: str) -> None:
    async with live() as x:
        one = order(1, quantity)
        await x.venue.submit([one])
        told = await x.venue.query(one.order_id, one.key)
        assert filled(told) == Decimal(quantity) == x.held()


async def test_limits_post_only_and_reduce_only_mean_at_the_venue_what_they_say() -> None:
    async with live() as x:
        above, below = await price_of(x, "1.01"), await price_of(x, "0.99")
        taking = order(1, "0.01", price=above, post_only=True)
        resting = order(2, "0.01", price=below, post_only=True)
        reducing = order(3, "-0.01", reduce_only=True)
        events = await x.venue.submit([taking, resting, reducing])
        assert sorted(kinds(events)) == ["OrderAccepted", "OrderRejected", "OrderRejected"]
        assert any("post_only_would_take" in why for why in reasons(events))
        assert any("reduce_only_refused" in why for why in reasons(events))
        plain = order(4, "0.01", price=above)
        assert kinds(await x.venue.submit([plain])) == ["OrderAccepted"]
        assert filled(await x.venue.query(plain.order_id, plain.key)) == Decimal("0.01")
        closing = order(5, "-0.01", reduce_only=True)
        assert kinds(await x.venue.submit([closing])) == ["OrderAccepted"]
        assert x.held() == 0


@pytest.mark.parametrize("fault", ACCEPTED_LOST)
async def test_a_lost_answer_is_uncertain_and_the_question_brings_the_fill(fault: Fault) -> None:
    async with live() as x:
        x.api.timeout = 300
        await x.r.fault(fault)
        one = order(1, "0.012")
        assert kinds(await x.venue.submit([one])) == ["OrderUncertain"]
        events = await x.venue.query(one.order_id, one.key)
        assert kinds(events)[-1] == "OrderEnded"
        assert filled(events) == one.quantity == x.held()
        assert x.orders_at_venue() == [one.order_id], "once"


async def test_an_option_that_asks_for_retries_resends_nothing() -> None:
    """Trap 6: ccxt would send an order again, signed anew, after a lost answer."""
    async with live() as x:
        assert x.api.options["maxRetriesOnFailure"] == 0
        x.api.timeout = 300
        await x.r.fault(Fault.ORDER_LOST_HANG)
        await x.venue.submit([order(1, "0.01")])
        assert x.held() == Decimal("0.01")
        assert len(x.orders_at_venue()) == 1


async def test_an_id_that_the_venue_has_already_is_uncertain_and_never_a_second_order() -> None:
    """Trap 7: a filled id fills again at Binance, so nothing here may ever send one twice."""
    async with live() as x:
        resting = order(1, "0.01", price=await price_of(x, "0.99"))
        assert kinds(await x.venue.submit([resting])) == ["OrderAccepted"]
        forget(x.venue.desk)
        told = await x.venue.submit([resting])
        assert kinds(told) == ["OrderUncertain"]
        assert "knows an order of this id" in reasons(told)[0]
        assert len(x.orders_at_venue()) == 1


@pytest.mark.parametrize(
    ("fault", "event", "word"),
    [
        (Fault.INSUFFICIENT_MARGIN, "OrderRejected", "margin_insufficient"),
        (Fault.CLOCK_SKEW, "OrderRejected", "clock_skew"),
        (Fault.ORDER_REFUSED_429, "OrderRejected", "asked_too_often"),
        (Fault.ORDER_REFUSED_503, "OrderUncertain", "503"),
    ],
)
async def test_a_refusal_is_told_with_our_word_for_it(fault: Fault, event: str, word: str) -> None:
    async with live() as x:
        await x.r.fault(fault, seconds=0.3)
        one = order(1, "0.01")
        told = await x.venue.submit([one])
        assert kinds(told) == [event]
        assert word in reasons(told)[0]
        assert x.orders_at_venue() == []
        if event == "OrderUncertain":
            assert kinds(await x.venue.query(one.order_id, one.key)) == ["OrderAbsent"]


async def test_a_venue_that_wants_to_be_left_alone_gets_no_further_order() -> None:
    async with live(VenueRules(receive_window_ms=400, parallel_n=1)) as x:
        await x.r.fault(Fault.ORDER_REFUSED_418, seconds=1)
        told = await x.venue.submit([order(n, "0.01") for n in range(3)])
        assert kinds(told) == ["OrderRejected"] * 3
        assert "asked_too_often" in reasons(told)[0]
        assert all("not sent" in why for why in reasons(told)[1:])
        assert x.orders_at_venue() == []
        asked_n = x.r.half.state()["private_requests"]
        one = order(8, "0.01")
        assert kinds(await x.venue.query(one.order_id, one.key)) == ["OrderUncertain"]
        assert x.r.half.state()["private_requests"] == asked_n, "a question counts there as well"
        await asyncio.sleep(1.05)
        assert kinds(await x.venue.submit([order(9, "0.01")])) == ["OrderAccepted"]


async def test_without_a_connection_nothing_was_sent_and_that_is_said() -> None:
    async with live() as x:
        x.api.urls["api"]["fapiPrivate"] = "http://127.0.0.1:1/fapi/v1"
        told = await x.venue.submit([order(1, "0.01")])
        assert kinds(told) == ["OrderRejected"]
        assert "not sent" in reasons(told)[0]


async def test_a_contract_that_the_list_lacks_is_refused_before_anything_leaves() -> None:
    async with live() as x:
        del x.api.markets["SOL/USDT:USDT"]
        told = await x.venue.submit([order(1, "1", "SOL")])
        assert kinds(told) == ["OrderRejected"]
        assert "not sent" in reasons(told)[0]


# ---- asking --------------------------------------------------------------------------------------


async def test_an_unknown_order_is_absent_only_after_a_late_request_could_have_come() -> None:
    """The venue says 'never heard of it' while our request is still on its way."""
    async with live(VenueRules(receive_window_ms=700)) as x:
        one, create = order(1, "0.01"), x.api.create_order
        arrived = asyncio.Event()

        async def dawdling(*args: Any, **kwargs: Any) -> Any:
            arrived.set()
            await asyncio.sleep(0.4)
            return await create(*args, **kwargs)

        x.api.create_order = dawdling
        sending = asyncio.create_task(x.venue.submit([one]))
        await arrived.wait()
        told = await x.venue.query(one.order_id, one.key)
        assert filled(told) == Decimal("0.01"), "it was called absent, and then it came"
        assert kinds(await sending) == ["OrderAccepted"]


async def test_what_the_process_before_sent_may_arrive_until_our_window_has_passed() -> None:
    async with live(VenueRules(receive_window_ms=300)) as x:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        one = order(1, "0.01")
        assert kinds(await x.venue.query(one.order_id, one.key)) == ["OrderAbsent"]
        assert loop.time() - begun_s >= 0.3


async def test_an_order_that_the_venue_admitted_cannot_become_absent() -> None:
    async with live() as x:
        one = order(1, "0.01", price=await price_of(x, "0.99"))
        await x.venue.submit([one])
        x.bank.cancel_all = None  # nothing below may go there
        query = x.bank.query
        x.bank.query = lambda key, symbol, **ids: query(key, symbol, order_id=10**9)
        assert kinds(await x.venue.query(one.order_id, one.key)) == ["OrderUncertain"]
        x.bank.query = query
        assert kinds(await x.venue.query(one.order_id, one.key)) == ["OrderAccepted"]


@pytest.mark.parametrize("fault", [Fault.HTTP_503, Fault.NOT_JSON_200, Fault.CLOCK_SKEW])
async def test_a_question_that_is_not_answered_says_nothing_of_the_order(fault: Fault) -> None:
    async with live() as x:
        one = order(1, "0.01")
        await x.venue.submit([one])
        await x.r.fault(fault)
        assert kinds(await x.venue.query(one.order_id, one.key)) == ["OrderUncertain"]
        assert filled(await x.venue.query(one.order_id, one.key)) == Decimal("0.01")


async def test_fills_that_are_not_listed_yet_end_no_order() -> None:
    async with live() as x:
        one = order(1, "0.01")
        await x.venue.submit([one])
        trades = x.bank.trades
        x.bank.trades = lambda *args, **kwargs: []
        told = await x.venue.query(one.order_id, one.key)
        assert kinds(told) == ["OrderUncertain"], "its end would have released what was filled"
        x.bank.trades = trades
        assert kinds(await x.venue.query(one.order_id, one.key)) == ["OrderFilled", "OrderEnded"]


async def test_partial_fills_come_one_by_one_and_exactly() -> None:
    bank = BankSettings(depth_notional=Decimal(2_000))
    async with live(bank=bank) as x:
        one = order(1, "0.3", price=await price_of(x, "1.0002"))
        await x.venue.submit([one])
        told = await x.venue.query(one.order_id, one.key)
        assert 0 < filled(told) < one.quantity
        assert kinds(told)[-1] == "OrderAccepted"
        assert filled(told) == x.held()
        ended = await x.venue.cancel(one.order_id, one.key)
        assert kinds(ended)[-1] == "OrderEnded"
        assert filled(ended) == x.held()


# ---- cancelling ----------------------------------------------------------------------------------


async def test_a_cancel_brings_the_end_and_one_that_comes_too_late_how_it_ended() -> None:
    async with live() as x:
        resting = order(1, "0.01", price=await price_of(x, "0.99"))
        done = order(2, "0.01")
        await x.venue.submit([resting, done])
        told = await x.venue.cancel(resting.order_id, resting.key)
        assert kinds(told) == ["OrderEnded"]
        assert reasons(told) == ["cancelled"]
        assert kinds(await x.venue.cancel(resting.order_id, resting.key)) == ["OrderEnded"]
        late = await x.venue.cancel(done.order_id, done.key)
        assert kinds(late) == ["OrderFilled", "OrderEnded"]
        assert reasons(late) == ["filled"]


async def test_a_cancel_that_is_lost_is_made_again_once_the_order_is_told_to_rest() -> None:
    """After a kill nobody else would before the next bar closes."""
    async with live() as x:
        resting = order(1, "0.01", price=await price_of(x, "0.99"))
        await x.venue.submit([resting])
        await x.r.fault(Fault.HTTP_503)
        told = await x.venue.cancel(resting.order_id, resting.key)
        assert kinds(told) == ["OrderEnded"]
        assert not x.bank.open_orders(KEY)


async def test_a_cancel_that_the_venue_never_confirms_is_made_a_few_times_and_no_more() -> None:
    async with live() as x:
        resting, asked_n = order(1, "0.01", price=await price_of(x, "0.99")), [0]
        await x.venue.submit([resting])

        async def lost(*asked: object) -> bool:
            asked_n[0] += 1
            return False

        x.venue.desk.stop = lost  # type: ignore[method-assign,assignment]
        told = await x.venue.cancel(resting.order_id, resting.key)
        assert kinds(told) == ["OrderAccepted"], "it rests, and the venue says so"
        assert asked_n == [len(CANCELS_AFTER_S)]
