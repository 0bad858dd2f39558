"""Listen keys, their life and their sockets, and what the user stream says of settings and cash."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import ccxt
import pytest

from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.bank.terms import BankSettings
from tests.adapters.rehearsal.binance.binance_rig import (
    BTC,
    KEY,
    SECRET,
    client_of,
    executions,
    heard,
    listening,
    rig,
)

LIFE_S = 0.4
OTHER = KeySettings("another-key", "another-secret", "1000", may_withdraw=True)


async def test_a_listen_key_is_given_again_while_it_lives() -> None:
    async with rig() as r:
        first = await r.client.fapiPrivatePostListenKey()
        assert await r.client.fapiPrivatePostListenKey() == first
        assert await r.client.fapiPrivatePutListenKey() == first
        await r.client.fapiPrivateDeleteListenKey()
        with pytest.raises(ccxt.ExchangeError, match="-1125"):
            await r.client.fapiPrivatePutListenKey()
        assert await r.client.fapiPrivatePostListenKey() != first


async def test_a_key_that_nobody_renews_dies_and_says_so() -> None:
    async with rig() as r:
        r.half.streams.life_s = LIFE_S
        ears = await listening(r)
        await asyncio.sleep(LIFE_S * 0.7)
        await r.client.fapiPrivatePutListenKey()
        await asyncio.sleep(LIFE_S * 0.7)
        assert ears.frames == [], "it was renewed"
        told = await heard(ears, 1)
        assert executions(told) == ["listenKeyExpired"]
        await r.buy()
        fresh = await listening(r)
        await r.buy()
        assert len(await heard(fresh, 3)) == 3
        assert len(ears.frames) == 1, "the socket of a dead key hears nothing"


async def test_ccxt_itself_renews_a_key_exactly_once() -> None:
    async with rig() as r:
        r.half.streams.life_s = LIFE_S
        r.client.options["listenKeyRefreshRate"] = 300  # ms
        watching = asyncio.create_task(r.client.watch_orders())
        await asyncio.sleep(0.3 + LIFE_S + 0.3)
        assert (await r.state())["listen_keys"] == 0, "posted, put once, then forgotten"
        await r.buy()
        await asyncio.sleep(0.2)
        assert not watching.done(), "deaf, and nobody said so"
        watching.cancel()


async def test_every_socket_of_an_account_hears_it_and_no_one_elses() -> None:
    accounts = (KeySettings(KEY, SECRET), OTHER)
    async with rig(accounts=accounts) as r:
        one, two = await listening(r), await listening(r)
        stranger = client_of(r.running, OTHER.key, OTHER.secret)
        try:
            await stranger.load_markets()
            key = (await stranger.fapiPrivatePostListenKey())["listenKey"]
            other, nobody = await listening(r, key), await listening(r, "no-such-key")
            await r.buy()
            assert await heard(one, 3) == await heard(two, 3)
            assert (other.frames, nobody.frames) == ([], [])
            assert (await stranger.sapiGetAccountApiRestrictions())["enableWithdrawals"] is True
            assert await stranger.fetch_orders(BTC) == []
            await stranger.create_order(BTC, "market", "sell", 0.01)
            assert len(await heard(other, 3)) == 3
            assert len(one.frames) == len(two.frames) == 3
        finally:
            await stranger.close()


async def test_settings_transfers_and_funding_are_said() -> None:
    async with rig() as r:
        ears = await listening(r)
        await r.client.set_leverage(7, BTC)
        await r.post("account", key=KEY, deposit="12.5")
        await r.post("account", key=KEY, withdraw="2.5")
        told = await heard(ears, 3)
        assert told[0]["ac"] == {"s": "BTCUSDT", "l": 7}
        assert [f["a"]["m"] for f in told[1:]] == ["DEPOSIT", "WITHDRAW"]
        changes = [f["a"]["B"][0]["bc"] for f in told[1:]]
        assert changes == ["12.50000000", "-2.50000000"]
        await r.buy()
        await r.advance(8 * 60)
        paid = (await heard(ears, 7))[-1]["a"]
        assert (paid["m"], paid["P"]) == ("FUNDING_FEE", [])
        (line,) = await r.client.fapiPrivateGetIncome({"incomeType": "FUNDING_FEE"})
        assert paid["B"][0]["bc"] == line["income"]


async def test_a_fee_in_another_coin_hides_nothing_that_became_of_the_margin_currency() -> None:
    async with rig(bank=BankSettings(fee_coin="BNB"), coins=6) as r:
        r.running.exchange.accounts.bank.transfer(KEY, "BNB", Decimal(1))
        r.running.exchange.accounts.settled()
        ears = await listening(r)
        await r.buy()
        await r.advance(20)
        await r.client.create_order(BTC, "market", "sell", 0.01, None, {"reduceOnly": True})
        said: dict[str, str] = {}
        for frame in await heard(ears, 6):
            for one in frame.get("a", {}).get("B", ()):
                said[one["a"]] = one["wb"]
            for one in frame.get("a", {}).get("P", ()):
                assert one["ma"] == "USDT"
        account = await r.client.fapiPrivateV3GetAccount()
        owned = {one["asset"]: one["walletBalance"] for one in account["assets"]}
        assert said == owned
        assert Decimal(said["USDT"]) != Decimal(100_000), "a gain or a loss was realised"


async def test_a_stream_tells_of_cancelling_and_expiry() -> None:
    async with rig() as r:
        ears = await listening(r)
        order = await r.rest()
        await r.client.cancel_order(order["id"], BTC)
        price = round(await r.price() * 0.99, 1)
        params = {"timeInForce": "IOC"}
        done = await r.client.create_order(BTC, "limit", "buy", 0.01, price, params)
        assert done["status"] == "expired"
        assert executions(await heard(ears, 4)) == ["NEW", "CANCELED", "NEW", "EXPIRED"]
        numbers = [frame["o"]["i"] for frame in ears.frames]
        assert numbers == sorted(numbers)


async def test_a_client_that_leaves_at_once_takes_no_frame_with_it() -> None:
    async with rig() as r:
        ears, hasty = await listening(r), client_of(r.running)
        await hasty.load_markets()
        async with r.half.streams.silence():
            await hasty.create_order(BTC, "market", "buy", 0.01)
            await hasty.close()
            await asyncio.sleep(0.1)
        assert len(await heard(ears, 3)) == 3
