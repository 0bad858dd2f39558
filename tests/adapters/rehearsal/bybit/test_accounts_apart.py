"""Two accounts on one exchange in Bybit's words: neither sees or touches the other's."""

from __future__ import annotations

import ccxt
import pytest

from adapters.rehearsal.accounts import KeySettings
from tests.adapters.rehearsal.bybit.conftest import KEY, SECRET, ConnectBybit, StartBybit
from tests.adapters.rehearsal.bybit.test_private_socket import listening

BTC = "BTC/USDT:USDT"
BOTH = (KeySettings(KEY, SECRET), KeySettings("other", "other-secret", cash="500"))


async def test_what_one_holds_the_other_cannot_see_or_cancel(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    running = await bybit(accounts=BOTH)
    mine, theirs = client_of(running), client_of(running, "other", "other-secret")
    price = (await mine.fetch_ticker(BTC))["last"] * 0.95
    made = await mine.create_order(BTC, "limit", "buy", 0.01, price, {"clientOrderId": "a-1"})
    await mine.create_order(BTC, "market", "buy", 0.01)
    assert await theirs.fetch_positions() == []
    assert await theirs.fetch_open_orders() == []
    assert await theirs.fetch_my_trades() == []
    with pytest.raises(ccxt.OrderNotFound, match="110001"):
        await theirs.cancel_order(made["id"], BTC)
    await theirs.cancel_all_orders()
    assert [one["id"] for one in await mine.fetch_open_orders()] == [made["id"]]
    assert (await theirs.fetch_balance())["USDT"]["total"] == 500
    await theirs.load_markets()
    # an id is taken within an account only
    await theirs.create_order(BTC, "limit", "buy", 0.003, price, {"clientOrderId": "a-1"})
    assert len(await theirs.fetch_open_orders()) == 1


async def test_a_private_socket_hears_its_own_account_only(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    running = await bybit(accounts=BOTH)
    theirs = client_of(running, "other", "other-secret")
    await theirs.load_markets()
    async with listening(running) as heard:
        await heard.log_in("order", "execution", "position", "wallet")
        await theirs.create_order(BTC, "market", "buy", 0.003)
        assert (await heard.ask(op="ping"))["op"] == "pong"
