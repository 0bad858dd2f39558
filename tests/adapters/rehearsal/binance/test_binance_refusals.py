"""Every code with which the private half refuses, as the unmodified ccxt client gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from decimal import Decimal
from typing import Any

import ccxt
import msgspec
import pytest

from adapters.rehearsal.bank.terms import BankSettings
from adapters.rehearsal.binance.limits import OrderCounts
from adapters.rehearsal.faults import Fault
from adapters.rehearsal.settings import PaceKind
from daemon.domain.units import HOUR_MS
from tests.adapters.rehearsal.binance.binance_rig import (
    BTC,
    Rig,
    client_of,
    code_of,
    rig,
)


async def refused(call: Awaitable[Any]) -> int:
    """Give the code of a call that must be refused."""
    with pytest.raises(ccxt.BaseError) as failure:
        await call
    return code_of(failure.value)


# ---- orders --------------------------------------------------------------------------------------

LIMIT = {"type": "LIMIT", "timeInForce": "GTC"}
SHAPES: list[tuple[int, dict[str, Any]]] = [
    (-1121, {"symbol": "NOBODYUSDT"}),
    (-1102, {"symbol": None}),
    (-1102, {"side": None}),
    (-1102, {"type": None}),
    (-1102, {"quantity": None}),
    (-1102, {"type": "LIMIT", "price": "45000"}),
    (-1102, LIMIT),
    (-1100, {"quantity": "a lot"}),
    (-1100, {"quantity": "NaN"}),
    (-1117, {"side": "HOLD"}),
    (-1116, {"type": "WISH"}),
    (-1115, {"type": "LIMIT", "timeInForce": "SOON", "price": "45000"}),
    (-1111, {"quantity": "0.0001"}),
    (-1111, {**LIMIT, "price": "45000.123"}),
    (-4014, {**LIMIT, "price": "45000.12"}),
    (-4001, {**LIMIT, "price": "0"}),
    (-4003, {"quantity": "0"}),
    (-4003, {"quantity": "-1"}),
    (-4002, {**LIMIT, "price": "1000001"}),
    (-4002, {**LIMIT, "price": "1" + "0" * 70}),
    (-4005, {**LIMIT, "price": "45000", "quantity": "10001"}),
    (-4005, {"quantity": "1000.001"}),  # of a market order, a tenth of a limit order's most
    (-4015, {"newClientOrderId": "no spaces"}),
    (-4015, {"newClientOrderId": "x" * 37}),
    (-4016, {**LIMIT, "price": "60000"}),
    (-4024, {**LIMIT, "side": "SELL", "price": "30000"}),
    (-4061, {"positionSide": "LONG"}),
    (-4164, {"quantity": "0.001"}),
    (-2019, {"quantity": "100"}),
    (-2022, {"reduceOnly": "true"}),
    (-2021, {"type": "STOP_MARKET", "stopPrice": "30000"}),
    (-4120, {"type": "STOP_MARKET", "stopPrice": "60000"}),
    (-5022, {"type": "LIMIT", "timeInForce": "GTX", "price": "46000"}),
]


async def test_orders_are_refused_with_the_venues_codes_and_leave_no_trace() -> None:
    async with rig() as r:
        for code, changes in SHAPES:
            assert await refused(r.raw(**changes)) == code, changes
        assert await r.client.fetch_orders(BTC) == []
        assert await r.client.fetch_positions() == []


async def test_the_band_that_is_told_is_the_one_that_is_kept_and_only_on_the_taking_side() -> None:
    async with rig(bank=BankSettings(price_band_bps=Decimal(200))) as r:
        filters = r.client.market(BTC)["info"]["filters"]
        (band,) = [one for one in filters if one["filterType"] == "PERCENT_PRICE"]
        assert (band["multiplierUp"], band["multiplierDown"]) == ("1.0200", "0.9800")
        assert await refused(r.rest(away=0.021)) == -4016
        await r.rest(away=-0.3)  # far below, a bid is nobody's harm
        dear = round(await r.price() * 1.3, 1)
        await r.client.create_order(BTC, "limit", "sell", 0.01, dear)
        assert len(await r.client.fetch_open_orders(BTC)) == 2


async def test_a_quantity_between_two_steps_has_a_code_of_its_own() -> None:
    async with rig() as r:
        bank = r.running.exchange.accounts.bank
        rules = bank.rules["BTCUSDT"]
        wider = msgspec.structs.replace(rules, quantity_step=Decimal("0.005"))
        bank._desk.rules["BTCUSDT"] = wider
        assert await refused(r.raw(quantity="0.012")) == -4023
        await r.raw(quantity="0.015")


async def test_an_account_without_money_is_told_so() -> None:
    async with rig(cash="0") as r:
        assert await refused(r.buy()) == -2018


async def test_a_batch_of_six_or_of_none_is_refused_whole() -> None:
    async with rig() as r:
        item = {"symbol": BTC, "type": "market", "side": "buy", "amount": 0.01}
        assert await refused(r.client.create_orders([item] * 6)) == -4082
        assert await refused(r.client.fapiPrivatePostBatchOrders({"batchOrders": []})) == -1102
        assert await r.client.fetch_orders(BTC) == []


async def test_a_client_id_is_taken_while_its_order_is_open_and_no_longer() -> None:
    async with rig() as r:
        await r.rest(clientOrderId="mine")
        assert await refused(r.buy(clientOrderId="mine")) == -4116
        await r.client.cancel_order(None, BTC, {"clientOrderId": "mine"})
        first = await r.buy(clientOrderId="mine")
        again = await r.buy(clientOrderId="mine")
        assert (again["status"], again["id"] != first["id"]) == ("closed", True)
        (position,) = await r.client.fetch_positions()
        assert position["contracts"] == 0.02, "the id of a filled order fills again"


async def test_a_halted_symbol_takes_no_order_and_goes_on_when_resumed() -> None:
    async with rig() as r:
        await r.fault(Fault.SYMBOL_HALTED, symbol="BTCUSDT")
        assert await refused(r.buy()) == -4140
        await r.fault(Fault.SYMBOL_RESUMED, symbol="BTCUSDT")
        assert (await r.buy())["status"] == "closed"


async def test_a_contract_that_ended_takes_no_order() -> None:
    async with rig(delistings={"BTCUSDT": 1_704_326_400_000 + HOUR_MS}) as r:
        await r.buy()
        await r.advance(60)
        assert await refused(r.buy()) == -4141
        assert await r.client.fetch_positions() == [], "it was settled"


async def test_too_many_open_orders() -> None:
    async with rig(bank=BankSettings(orders_open_max=2)) as r:
        await r.rest()
        await r.rest()
        assert await refused(r.rest()) == -2025


async def test_a_market_order_far_from_the_last_price() -> None:
    async with rig(bank=BankSettings(half_spread_bps=Decimal(2_000))) as r:
        assert await refused(r.buy()) == -4131


async def test_orders_that_are_not_there() -> None:
    async with rig() as r:
        assert await refused(r.client.fetch_order("77", BTC)) == -2013
        assert await refused(r.client.cancel_order("77", BTC)) == -2011
        assert await refused(r.client.fapiPrivateGetOrder({"symbol": "BTCUSDT"})) == -1102
        order = await r.buy()
        query = {"symbol": "BTCUSDT", "orderId": order["id"]}
        assert await refused(r.client.fapiPrivateGetOpenOrder(query)) == -2013


# ---- settings of the account ---------------------------------------------------------------------


async def test_settings_are_refused_with_the_venues_codes() -> None:
    async with rig() as r:
        assert await refused(r.client.set_margin_mode("cross", BTC)) == -4046
        assert await refused(r.client.set_position_mode(False)) == -4059
        raw = {"symbol": "BTCUSDT", "leverage": 51}
        assert await refused(r.client.fapiPrivatePostLeverage(raw)) == -4028
        multi = r.client.fapiPrivatePostMultiAssetsMargin
        assert await refused(multi({"multiAssetsMargin": "false"})) == -4171
        resting = await r.rest()
        assert await refused(r.client.set_margin_mode("isolated", BTC)) == -4047
        assert await refused(r.client.set_position_mode(True)) == -4067
        await r.client.cancel_order(resting["id"], BTC)
        await r.buy()
        assert await refused(r.client.set_margin_mode("isolated", BTC)) == -4048
        assert await refused(r.client.set_position_mode(True)) == -4068


async def test_leverage_that_the_margin_does_not_carry() -> None:
    async with rig(cash="1000") as r:
        await r.buy(0.1)
        query = {"symbol": "BTCUSDT", "leverage": 1}
        assert await refused(r.client.fapiPrivatePostLeverage(query)) == -2019


async def test_in_hedge_mode_orders_must_name_a_side() -> None:
    async with rig() as r:
        await r.client.set_position_mode(True)
        assert (await r.client.fetch_position_mode())["hedged"] is True
        assert await refused(r.buy()) == -4061


# ---- who asks, and when --------------------------------------------------------------------------


async def test_a_key_and_its_signature_are_checked() -> None:
    async with rig() as r:
        for key, secret, code in (
            ("nobody", "x", -2015),
            ("k" * 200, "x", -2014),
            ("key-of-the-tests", "wrong", -1022),
        ):
            other = client_of(r.running, key, secret)
            try:
                await other.load_markets()
                assert await refused(other.fetch_balance()) == code
            finally:
                await other.close()
        url = f"{r.running.rest_url}/fapi/v3/account"
        async with r.session.get(url) as reply:
            assert (reply.status, (await reply.json())["code"]) == (401, -2014)
        async with r.session.get(url, headers={"X-MBX-APIKEY": "key-of-the-tests"}) as reply:
            assert (await reply.json())["code"] == -1102


async def skewed_by(r: Rig, ms: int) -> int:
    r.client.options["timeDifference"] += ms
    try:
        return await refused(r.client.fetch_balance())
    finally:
        r.client.options["timeDifference"] -= ms


@pytest.mark.parametrize("pace", list(PaceKind))
async def test_a_request_from_the_past_or_the_future_is_refused(pace: PaceKind) -> None:
    async with rig(pace=pace, factor=1.0) as r:
        await r.client.fetch_balance()
        assert await skewed_by(r, 11_000) == -1021
        assert await skewed_by(r, -2_000) == -1021
        r.client.options["timeDifference"] -= 500
        await r.client.fetch_balance()
        r.client.options["timeDifference"] += 5_500
        await r.client.fetch_balance()


async def test_in_lock_step_a_client_goes_on_signing_while_the_market_jumps() -> None:
    async with rig() as r:
        await r.client.fetch_balance()
        await r.advance(24 * 60)
        await r.client.fetch_balance()
        assert await skewed_by(r, 11_000) == -1021
        await r.client.load_time_difference()
        await r.advance(24 * 60)
        await r.client.fetch_balance()


async def test_a_window_may_not_be_too_wide_and_a_record_is_read_by_the_week() -> None:
    async with rig() as r:
        assert await refused(r.client.fapiPrivateV3GetAccount({"recvWindow": 60_001})) == -1131
        eight = {"symbol": "BTCUSDT", "startTime": 0, "endTime": 8 * 24 * HOUR_MS}
        assert await refused(r.client.fapiPrivateGetUserTrades(eight)) == -4165
        assert await refused(r.client.fapiPrivateGetAllOrders(eight)) == -4165
        assert await refused(r.client.fapiPrivateGetIncome({"incomeType": "GIFT"})) == -1130


# ---- how much ------------------------------------------------------------------------------------


async def test_request_weight_is_charged_and_refused_past_the_limit() -> None:
    async with rig(weight_limit_minute=200) as r:
        await r.client.fetch_open_orders()
        before = int(r.client.last_response_headers["x-mbx-used-weight-1m"])
        await r.client.fetch_open_orders()
        assert int(r.client.last_response_headers["x-mbx-used-weight-1m"]) == before + 40
        crowd = asyncio.gather(*(r.client.fetch_open_orders() for _ in range(5)))
        with pytest.raises(ccxt.DDoSProtection) as failure:
            await crowd
        assert code_of(failure.value) == -1003
        assert 1 <= int(r.client.last_response_headers["Retry-After"]) <= 60


async def test_orders_are_counted_and_refused_past_the_limit() -> None:
    async with rig(weight_limit_minute=2_400) as r:
        r.half.counts.limits[10] = 3
        await r.client.create_orders(
            [{"symbol": BTC, "type": "market", "side": "buy", "amount": 0.01}] * 2
        )
        await r.buy()
        assert r.client.last_response_headers["X-MBX-ORDER-COUNT-10S"] == "3"
        with pytest.raises(ccxt.DDoSProtection) as failure:
            await r.buy()
        assert code_of(failure.value) == -1015
        assert 1 <= int(r.client.last_response_headers["Retry-After"]) <= 10
        assert len(await r.client.fetch_orders(BTC)) == 3


def test_orders_are_forgotten_after_their_seconds() -> None:
    now_s = [0.0]
    counts = OrderCounts(lambda: now_s[0])
    assert counts.count("key", 300, refuse=True)["X-MBX-ORDER-COUNT-10S"] == "300"
    now_s[0] = 11.0
    headers = counts.count("key", 1, refuse=True)
    assert headers == {"X-MBX-ORDER-COUNT-10S": "1", "X-MBX-ORDER-COUNT-1M": "301"}
    assert counts.count("other", 1, refuse=True)["X-MBX-ORDER-COUNT-1M"] == "1"
