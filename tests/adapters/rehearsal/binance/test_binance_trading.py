"""The unmodified ccxt client trades on the rehearsal's private half."""

from __future__ import annotations

import asyncio

import ccxt
import pytest

from adapters.rehearsal.bank.terms import BankSettings
from adapters.rehearsal.faults import Fault
from adapters.rehearsal.settings import PaceKind
from tests.adapters.rehearsal.binance.binance_rig import BTC, ETH, KEY, client_of, code_of, rig


async def test_a_market_order_fills_and_everything_agrees_on_it() -> None:
    async with rig() as r:
        order = await r.buy(0.01, clientOrderId="eq-1")
        assert (order["status"], order["filled"], order["clientOrderId"]) == (
            "closed",
            0.01,
            "eq-1",
        )
        asked = await r.client.fetch_order(None, BTC, {"clientOrderId": "eq-1"})
        assert (asked["id"], asked["average"]) == (order["id"], order["average"])
        (trade,) = await r.client.fetch_my_trades(BTC)
        assert (trade["order"], trade["price"], trade["takerOrMaker"]) == (
            order["id"],
            order["average"],
            "taker",
        )
        (position,) = await r.client.fetch_positions()
        assert (position["side"], position["contracts"]) == ("long", 0.01)
        assert position["entryPrice"] == order["average"]
        balance = await r.client.fetch_balance()
        fee = trade["fee"]["cost"]
        assert fee == pytest.approx(order["average"] * 0.01 * 0.0005)
        wallet = float(balance["info"]["assets"][0]["walletBalance"])
        assert wallet == pytest.approx(100_000 - fee, abs=1e-8)


async def test_a_resting_order_is_listed_cancelled_and_then_unknown_to_cancel() -> None:
    async with rig() as r:
        order = await r.rest(postOnly=True, clientOrderId="rest-1")
        assert order["status"] == "open"
        assert [o["id"] for o in await r.client.fetch_open_orders()] == [order["id"]]
        assert [o["id"] for o in await r.client.fetch_open_orders(ETH)] == []
        raw = await r.client.fapiPrivateGetOpenOrder(
            {"symbol": "BTCUSDT", "origClientOrderId": "rest-1"}
        )
        assert raw["timeInForce"] == "GTX"
        done = await r.client.cancel_order(None, BTC, {"clientOrderId": "rest-1"})
        assert done["status"] == "canceled"
        with pytest.raises(ccxt.OrderNotFound) as failure:
            await r.client.cancel_order(order["id"], BTC)
        assert code_of(failure.value) == -2011
        assert [o["status"] for o in await r.client.fetch_orders(BTC)] == ["canceled"]


async def test_a_resting_order_is_filled_by_the_market_as_a_maker_in_parts() -> None:
    async with rig(cash="100000000") as r:
        near = round(await r.price() * 0.9995, 1)
        order = await r.client.create_order(BTC, "limit", "buy", 2000, near)
        for _ in range(8):
            await r.advance(30)
            order = await r.client.fetch_order(order["id"], BTC)
            if order["status"] == "closed":
                break
        trades = await r.client.fetch_my_trades(BTC)
        assert len(trades) > 1, "no single print was large enough"
        assert {trade["takerOrMaker"] for trade in trades} == {"maker"}
        assert sum(trade["amount"] for trade in trades) == pytest.approx(order["filled"])
        assert {trade["price"] for trade in trades} == {near}


async def test_a_batch_answers_each_order_for_itself() -> None:
    async with rig() as r:
        price = await r.price()
        limit = {"symbol": BTC, "type": "limit", "side": "buy", "amount": 0.01}
        answers = await r.client.create_orders(
            [{**limit, "price": round(price * 0.99, 1)}, {**limit, "price": round(price * 1.5, 1)}]
        )
        assert sorted(str(one["status"]) for one in answers) == ["open", "rejected"]
        assert {one["info"].get("code") for one in answers} == {None, -4016}
        await r.client.cancel_all_orders(BTC)
        assert await r.client.fetch_open_orders() == []


async def test_settings_of_the_account() -> None:
    async with rig() as r:
        assert (await r.client.set_leverage(5, BTC))["leverage"] == 5
        assert (await r.client.fetch_leverage(BTC))["longLeverage"] == 5
        await r.client.set_margin_mode("isolated", BTC)
        await r.buy(0.01)
        (position,) = await r.client.fetch_positions()
        assert position["marginMode"] == "isolated"
        assert position["initialMarginPercentage"] == pytest.approx(0.2, rel=1e-3)
        assert 0 < position["liquidationPrice"] < position["entryPrice"]
        assert (await r.client.fetch_position_mode())["hedged"] is False
        rights = await r.client.sapiGetAccountApiRestrictions()
        assert rights["enableWithdrawals"] is False
        assert (await r.client.fetch_trading_fee(BTC))["taker"] == 0.0005


async def test_funding_is_paid_on_what_is_held() -> None:
    async with rig() as r:
        await r.buy(0.5)
        await r.advance(8 * 60)
        (paid,) = await r.client.fetch_funding_history(BTC)
        (rate,) = await r.client.fetch_funding_rate_history(BTC, limit=1)
        assert paid["timestamp"] == rate["timestamp"]
        assert (paid["amount"] < 0) == (rate["fundingRate"] > 0)


async def test_the_countdown_cancels_what_rests_unless_it_is_renewed() -> None:
    async with rig() as r:
        await r.rest(away=-0.09)
        set_timer = r.client.fapiPrivatePostCountdownCancelAll
        await set_timer({"symbol": "BTCUSDT", "countdownTime": 3_600_000})
        await r.advance(30)
        await set_timer({"symbol": "BTCUSDT", "countdownTime": 3_600_000})
        await r.advance(30)
        assert len(await r.client.fetch_open_orders()) == 1
        await r.advance(60)
        assert await r.client.fetch_open_orders() == []
        (order,) = await r.client.fetch_orders(BTC)
        assert order["status"] == "canceled"


async def test_with_the_wall_a_countdown_fires_on_the_stream_without_any_request() -> None:
    async with rig(pace=PaceKind.FACTOR, factor=1.0) as r:
        orders = asyncio.create_task(r.client.watch_orders())
        await asyncio.sleep(0.1)
        placed = await r.rest(away=-0.05)
        assert (await asyncio.wait_for(orders, 3))[-1]["id"] == placed["id"]
        await r.client.fapiPrivatePostCountdownCancelAll(
            {"symbol": "BTCUSDT", "countdownTime": 300}
        )
        told = await asyncio.wait_for(r.client.watch_orders(), 3)
        assert told[-1]["status"] == "canceled"


async def test_several_watchers_hear_of_one_fill() -> None:
    async with rig() as r:
        watching = [
            asyncio.create_task(watch())
            for watch in (
                r.client.watch_orders,
                r.client.watch_my_trades,
                r.client.watch_positions,
                r.client.watch_balance,
            )
        ]
        second = client_of(r.running)
        try:
            await second.load_markets()
            other = asyncio.create_task(second.watch_my_trades())
            await asyncio.sleep(0.3)
            order = await r.buy(0.02)
            orders, trades, positions, balance = await asyncio.wait_for(
                asyncio.gather(*watching), 3
            )
            assert orders[-1]["id"] == trades[-1]["order"] == order["id"]
            assert (positions[-1]["side"], positions[-1]["contracts"]) == ("long", 0.02)
            fee = trades[-1]["fee"]["cost"]
            assert balance["USDT"]["total"] == pytest.approx(100_000 - fee, abs=1e-8)
            assert (await asyncio.wait_for(other, 3))[-1]["id"] == trades[-1]["id"]
        finally:
            await second.close()


async def test_orders_on_their_way_are_new_until_they_arrive() -> None:
    async with rig(bank=BankSettings(latency_ms=1_000)) as r:
        order = await r.buy(0.01)
        assert (order["status"], order["filled"]) == ("open", 0.0)
        await r.advance(1)
        assert (await r.client.fetch_order(order["id"], BTC))["status"] == "closed"


async def test_the_owner_trades_and_pays_in_and_out_from_outside() -> None:
    async with rig() as r:
        told = asyncio.create_task(r.client.watch_orders())
        await asyncio.sleep(0.3)
        by_hand = {"symbol": "BTCUSDT", "quantity": "-0.02", "client_id": "web_mine"}
        answer = await r.post("account", key=KEY, manual_order=by_hand)
        assert (answer["http"], answer["filled"]) == (200, "-0.02")
        assert (await asyncio.wait_for(told, 3))[-1]["clientOrderId"] == "web_mine"
        (position,) = await r.client.fetch_positions()
        assert (position["side"], position["contracts"]) == ("short", 0.02)
        await r.post("account", key=KEY, deposit="500")
        await r.post("account", key=KEY, withdraw="200")
        rows = await r.client.fapiPrivateGetIncome({"incomeType": "TRANSFER"})
        assert [row["income"] for row in rows[-2:]] == ["500.00000000", "-200.00000000"]
        for wrong in (
            {"key": "nobody", "deposit": "1"},
            {"key": KEY},
            {"key": KEY, "deposit": "-1"},
            {"key": KEY, "withdraw": "10000000"},
            {"key": KEY, "manual_order": {"symbol": "BTCUSDT"}},
            {"key": KEY, "manual_order": {"symbol": "BTCUSDT", "quantity": "x"}},
        ):
            assert (await r.post("account", **wrong))["http"] == 400


async def test_a_client_that_asks_for_everything_can_load_its_markets() -> None:
    async with rig() as r:
        other = client_of(r.running)
        other.options["fetchCurrencies"] = other.options["fetchMargins"] = True
        try:
            assert BTC in await other.load_markets()
        finally:
            await other.close()


async def test_several_orders_are_cancelled_at_once_each_answered_for_itself() -> None:
    async with rig() as r:
        one, two = await r.rest(clientOrderId="one"), await r.rest(clientOrderId="two")
        answers = await r.client.fapiPrivateDeleteBatchOrders(
            {"symbol": "BTCUSDT", "orderidlist": [one["id"], "99"]}
        )
        assert [a.get("status", a.get("code")) for a in answers] == ["CANCELED", -2011]
        names = {"symbol": "BTCUSDT", "origclientorderidlist": ["two"]}
        (answer,) = await r.client.fapiPrivateDeleteBatchOrders(names)
        assert (str(answer["orderId"]), answer["status"]) == (two["id"], "CANCELED")


async def test_a_halted_or_ended_contract_is_no_longer_listed_as_trading() -> None:
    async with rig() as r:
        await r.fault(Fault.SYMBOL_HALTED, symbol="BTCUSDT")
        await r.fault(Fault.SYMBOL_DELISTED, symbol="ETHUSDT")
        markets = await r.client.load_markets(True)
        assert [markets[s]["active"] for s in (BTC, ETH)] == [False, False]
        await r.fault(Fault.SYMBOL_RESUMED, symbol="BTCUSDT")
        assert (await r.client.load_markets(True))[BTC]["active"]


async def test_the_older_answers_list_every_contract() -> None:
    async with rig() as r:
        await r.client.set_leverage(3, BTC)
        await r.buy()
        rows = await r.client.fapiPrivateV2GetPositionRisk()
        assert {row["symbol"] for row in rows} == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
        bitcoin = next(row for row in rows if row["symbol"] == "BTCUSDT")
        assert (bitcoin["leverage"], bitcoin["marginType"]) == ("3", "cross")
        account = await r.client.fapiPrivateV2GetAccount()
        assert (account["canWithdraw"], len(account["positions"])) == (False, 3)
        (balance,) = await r.client.fapiPrivateV3GetBalance()
        assert balance["balance"] == account["totalWalletBalance"]
        config = await r.client.fapiPrivateGetAccountConfig()
        assert config["dualSidePosition"] is False


async def test_an_order_without_a_fill_is_forgotten_three_days_after_its_creation() -> None:
    """That the venue does not know an order is then no proof that it never did."""
    async with rig() as r:
        filled, rests, gone = await r.buy(), await r.rest(away=-0.5), await r.rest(away=-0.5)
        await r.client.cancel_order(gone["id"], BTC)
        await r.advance(3 * 24 * 60)
        assert (await r.client.fetch_order(gone["id"], BTC))["status"] == "canceled"
        await r.advance(1)
        with pytest.raises(ccxt.OrderNotFound, match="-2013"):
            await r.client.fetch_order(gone["id"], BTC)
        known = {one["id"] for one in await r.client.fetch_orders(BTC)}
        assert known == {filled["id"], rests["id"]}
        assert (await r.client.fetch_order(rests["id"], BTC))["status"] == "open"
