"""The unmodified ccxt.pro client `bybit` against the private REST half of the rehearsal."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import ccxt
import pytest

from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.bank.terms import BankSettings, MarginMode
from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT
from daemon.domain.units import DAY_MS, HOUR_MS
from tests.adapters.rehearsal.bybit.conftest import KEY, SECRET, ConnectBybit, StartBybit
from tests.adapters.rehearsal.conftest import Post

FOREVER_MS = 10**15
START_MS = ORIGIN_MS_DEFAULT + 3 * DAY_MS
BTC, ETH, SOL = "BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT"


async def resting(client: Any, symbol: str = BTC, link: str | None = None) -> Any:
    """Place a buy 5 % below the price."""
    price = (await client.fetch_ticker(symbol))["last"] * 0.95
    params = {} if link is None else {"clientOrderId": link}
    return await client.create_order(symbol, "limit", "buy", 0.01, price, params)


async def test_what_the_key_may_do(bybit: StartBybit, client_of: ConnectBybit) -> None:
    keys = (KeySettings(KEY, SECRET), KeySettings("rich", "secret", may_withdraw=True))
    running = await bybit(accounts=keys)
    modest = await client_of(running).privateGetV5UserQueryApi()
    assert "Withdraw" not in modest["result"]["permissions"]["Wallet"]
    rich = await client_of(running, "rich", "secret").privateGetV5UserQueryApi()
    assert "Withdraw" in rich["result"]["permissions"]["Wallet"]
    assert rich["result"]["secret"] == ""
    info = await client_of(running).privateGetV5AccountInfo()
    assert info["result"]["marginMode"] == "REGULAR_MARGIN"
    assert info["result"]["unifiedMarginStatus"] == 6


async def test_a_market_order_is_answered_by_its_ids_only(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    client = client_of(await bybit())
    made = await client.create_order(BTC, "market", "buy", 0.02, None, {"clientOrderId": "eq-1"})
    assert made["clientOrderId"] == "eq-1"
    assert (made["status"], made["filled"]) == (None, None)
    (order,) = await client.fetch_open_orders(BTC, params={"orderLinkId": "eq-1"})
    assert (order["id"], order["status"], order["filled"]) == (made["id"], "closed", 0.02)
    (trade,) = await client.fetch_my_trades(BTC)
    assert (trade["order"], trade["amount"], trade["side"]) == (made["id"], 0.02, "buy")
    assert trade["info"]["execType"] == "Trade"
    assert trade["fee"]["cost"] == pytest.approx(0.02 * trade["price"] * 0.0005)
    (position,) = await client.fetch_positions()
    assert (position["symbol"], position["side"], position["contracts"]) == (BTC, "long", 0.02)
    balance = await client.fetch_balance()
    assert balance["USDT"]["total"] == pytest.approx(100_000 - trade["fee"]["cost"])
    assert balance["USDT"]["used"] == pytest.approx(0.02 * position["markPrice"] / 20)


async def test_a_flat_position_is_told_by_symbol_only(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    client = client_of(await bybit())
    assert await client.fetch_positions() == []
    (flat,) = await client.fetch_positions([BTC])
    assert (flat["contracts"], flat["side"]) == (0, None)


async def test_an_order_rests_and_is_cancelled_by_either_id(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    client = client_of(await bybit())
    first, second = await resting(client), await resting(client, link="eq-2")
    assert first["clientOrderId"] is None
    assert {one["id"] for one in await client.fetch_open_orders()} == {first["id"], second["id"]}
    await client.cancel_order(first["id"], BTC)
    with pytest.raises(ccxt.BadRequest, match="10001"):  # the unified name is not the venue's
        await client.cancel_order(None, BTC, {"clientOrderId": "eq-2"})
    await client.cancel_order(None, BTC, {"orderLinkId": "eq-2"})
    assert await client.fetch_open_orders() == []
    ended = await client.fetch_canceled_and_closed_orders(BTC)
    assert {one["id"]: one["status"] for one in ended} == {
        first["id"]: "canceled",
        second["id"]: "canceled",
    }
    found = await client.fetch_order(first["id"], BTC, {"acknowledged": True})
    assert found["status"] == "canceled"


async def test_open_orders_and_history_come_in_pages(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    client = client_of(await bybit())
    for _ in range(23):
        await resting(client)
    assert len(await client.fetch_open_orders()) == 20  # the venue's page
    query = {"category": "linear", "settleCoin": "USDT", "limit": 10}
    seen: list[str] = []
    cursor = ""
    while True:
        answer = await client.privateGetV5OrderRealtime({**query, "cursor": cursor})
        seen += [row["orderId"] for row in answer["result"]["list"]]
        cursor = answer["result"]["nextPageCursor"]
        if not cursor:
            break
    assert len(seen) == len(set(seen)) == 23
    assert seen == sorted(seen, reverse=True)
    await client.cancel_all_orders()
    assert await client.fetch_open_orders() == []
    assert len(await client.fetch_canceled_and_closed_orders(limit=50)) == 23


async def test_cancel_all_leaves_other_symbols(bybit: StartBybit, client_of: ConnectBybit) -> None:
    client = client_of(await bybit())
    await resting(client)
    kept = await resting(client, ETH)
    await client.cancel_all_orders(BTC)
    assert [one["id"] for one in await client.fetch_open_orders()] == [kept["id"]]


async def test_a_batch_answers_each_order_in_its_place(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    client = client_of(await bybit())

    def one(symbol: str, amount: float, link: str) -> dict[str, Any]:
        params = {"clientOrderId": link}
        usual = {"type": "market", "side": "buy", "price": None}
        return {"symbol": symbol, "amount": amount, "params": params, **usual}

    await client.load_markets()
    wanted = [one(BTC, 0.01, "b-1"), one(ETH, 0.001, "b-2"), one(SOL, 5, "b-3")]
    answers = {row["clientOrderId"]: row for row in await client.create_orders(wanted)}
    assert answers["b-2"]["status"] == "rejected"
    assert answers["b-2"]["info"]["code"] == 110094
    assert {row["symbol"] for row in await client.fetch_positions()} == {BTC, SOL}
    kept = [await resting(client), await resting(client)]
    await client.cancel_orders([row["id"] for row in kept], BTC)
    assert await client.fetch_open_orders() == []
    with pytest.raises(ccxt.BadRequest, match="batch holds 21"):
        await client.create_orders([one(BTC, 0.01, f"c-{i}") for i in range(21)])


async def test_an_id_is_used_once_for_ever(bybit: StartBybit, client_of: ConnectBybit) -> None:
    client = client_of(await bybit())
    await client.create_order(BTC, "market", "buy", 0.01, None, {"clientOrderId": "once"})
    with pytest.raises(ccxt.InvalidOrder, match="110072"):
        await client.create_order(BTC, "market", "buy", 0.01, None, {"clientOrderId": "once"})
    (position,) = await client.fetch_positions()
    assert position["contracts"] == 0.01


async def test_a_post_only_order_that_would_take_is_admitted_and_cancelled(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    client = client_of(await bybit())
    price = (await client.fetch_ticker(BTC))["last"] * 1.01
    made = await client.create_order(BTC, "limit", "buy", 0.01, price, {"postOnly": True})
    (order,) = await client.fetch_canceled_and_closed_orders(BTC)
    assert (order["id"], order["status"], order["filled"]) == (made["id"], "canceled", 0)
    assert order["info"]["rejectReason"] == "EC_PostOnlyWillTakeLiquidity"


CREATE = ("privatePostV5OrderCreate", {"category": "linear", "symbol": "BTCUSDT", "side": "Buy"})
LIMIT = {"orderType": "Limit", "qty": "0.01"}
MARKET = {"orderType": "Market", "qty": "0.01"}


@pytest.mark.parametrize(
    ("change", "code", "kind"),
    [
        ({**MARKET, "qty": "90"}, 110007, ccxt.InsufficientFunds),
        ({**MARKET, "qty": "0.001"}, 110094, ccxt.InvalidOrder),
        ({**MARKET, "qty": "0.0101"}, 10001, ccxt.BadRequest),
        ({**MARKET, "qty": "0.0001"}, 10001, ccxt.BadRequest),
        ({**MARKET, "qty": "-1"}, 10001, ccxt.BadRequest),
        ({**MARKET, "qty": "NaN"}, 10001, ccxt.BadRequest),
        ({**MARKET, "reduceOnly": True}, 110017, ccxt.InvalidOrder),
        ({**MARKET, "symbol": "NOPEUSDT"}, 10001, ccxt.BadRequest),
        ({**MARKET, "positionIdx": 1}, 10001, ccxt.BadRequest),
        ({**MARKET, "side": "buy"}, 10001, ccxt.BadRequest),
        ({**MARKET, "category": "inverse"}, 10001, ccxt.BadRequest),
        ({**MARKET, "orderLinkId": "x" * 37}, 10001, ccxt.BadRequest),
        ({**MARKET, "triggerPrice": "9"}, 10001, ccxt.BadRequest),
        ({**LIMIT, "price": "90000"}, 110003, ccxt.InvalidOrder),
        ({**LIMIT, "side": "Sell", "price": "20000"}, 110003, ccxt.InvalidOrder),
        ({**MARKET, "qty": "1000.001"}, 10001, ccxt.BadRequest),
        ({**LIMIT, "price": "43000", "qty": "10000.001"}, 10001, ccxt.BadRequest),
        ({**LIMIT, "price": "1000000.1"}, 110003, ccxt.InvalidOrder),
        ({**LIMIT, "price": "43000.05"}, 10001, ccxt.BadRequest),
        (LIMIT, 10001, ccxt.BadRequest),
    ],
)
async def test_a_refused_order_gets_the_venues_own_code(
    bybit: StartBybit,
    client_of: ConnectBybit,
    change: dict[str, Any],
    code: int,
    kind: type[Exception],
) -> None:
    running = await bybit()
    client = client_of(running)
    method, usual = CREATE
    with pytest.raises(kind, match=f'"retCode": {code}'):
        await getattr(client, method)({**usual, **change})
    assert list(running.exchange.accounts.bank.orders_backwards(KEY)) == []


async def test_unknown_and_ended_orders_cannot_be_cancelled(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    client = client_of(await bybit())
    with pytest.raises(ccxt.OrderNotFound, match="110001"):
        await client.cancel_order("no-such-id", BTC)
    made = await client.create_order(BTC, "market", "buy", 0.01)
    with pytest.raises(ccxt.OrderNotFound, match="110001"):
        await client.cancel_order(made["id"], BTC)


async def test_halted_and_ended_contracts_are_not_live(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit(delistings={"ETHUSDT": START_MS + HOUR_MS})
    client = client_of(running)
    await client.load_markets()
    running.exchange.accounts.bank.halt("BTCUSDT")
    with pytest.raises(ccxt.ExchangeError, match="110074"):
        await client.create_order(BTC, "market", "buy", 0.01)
    for _ in range(2):
        await post(running, "advance", until_ms=FOREVER_MS)
    with pytest.raises(ccxt.ExchangeError, match="110074"):
        await client.create_order(ETH, "market", "buy", 0.1)


async def test_leverage_is_set_and_twice_the_same_is_told(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    client = client_of(await bybit())
    await client.set_leverage(5, BTC)
    with pytest.raises(ccxt.BadRequest, match="110043"):
        await client.set_leverage(5, BTC)
    with pytest.raises(ccxt.ExchangeError, match="110013"):
        await client.set_leverage(51, BTC)
    (flat,) = await client.fetch_positions([BTC])
    assert flat["leverage"] == 5


async def test_modes_are_set_while_nothing_stands_in_the_way(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    running = await bybit()
    client = client_of(running)
    with pytest.raises(ccxt.NoChange, match="110025"):
        await client.set_position_mode(False)
    await client.set_position_mode(True)
    with pytest.raises(ccxt.BadRequest, match="position idx"):
        await client.create_order(BTC, "market", "buy", 0.01)
    await client.set_position_mode(False)
    await client.set_margin_mode("isolated")
    info = await client.privateGetV5AccountInfo()
    assert info["result"]["marginMode"] == "ISOLATED_MARGIN"
    view = running.exchange.accounts.bank.position(KEY, "ETHUSDT")
    assert getattr(view, "margin_mode", None) is MarginMode.ISOLATED
    await client.set_margin_mode("cross")
    await client.set_margin_mode("cross")  # no change is no error here
    await resting(client)
    with pytest.raises(ccxt.ExchangeError, match="110028"):
        await client.set_position_mode(True)
    await client.create_order(BTC, "market", "buy", 0.01)
    with pytest.raises(ccxt.ExchangeError, match="110024"):
        await client.set_position_mode(True)
    with pytest.raises(ccxt.ExchangeError, match="3400045"):
        await client.set_margin_mode("isolated")


async def test_funding_is_an_execution_that_is_positive_when_paid(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    await client.create_order(BTC, "market", "buy", 0.5)
    await client.create_order(ETH, "market", "sell", 5)
    while running.exchange.now_ms < START_MS + 8 * HOUR_MS:
        await post(running, "advance", until_ms=FOREVER_MS)
    found = await client.fetch_funding_history(since=START_MS)
    booked = {
        line.symbol: line.amount
        for line in running.exchange.accounts.bank.income(KEY)
        if line.kind == "funding"
    }
    assert set(booked) == {"BTCUSDT", "ETHUSDT"}
    assert len(found) == 2
    for row in found:
        info = row["info"]
        assert Decimal(info["execFee"]) == -booked[info["symbol"]]
        assert info["execType"] == "Funding"
    trades = await client.fetch_my_trades()  # funding is none of them
    assert {row["info"]["execType"] for row in trades} == {"Trade"}
    assert sum(row["amount"] for row in trades if row["symbol"] == BTC) == pytest.approx(0.5)


async def test_what_a_position_brought_begins_anew_with_each_position(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    running = await bybit()
    client = client_of(running)

    async def brought() -> tuple[Decimal, Decimal]:
        (position,) = await client.fetch_positions([BTC])
        info = position["info"]
        assert int(info["createdTime"]) == START_MS
        return Decimal(info["curRealisedPnl"]), Decimal(info["cumRealisedPnl"])

    async def trade(side: str, amount: float) -> Decimal:
        """Trade, and give what it brought by the account's cash."""
        before = running.exchange.accounts.bank.balance(KEY, "USDT").cash
        await client.create_order(BTC, "market", side, amount)
        return running.exchange.accounts.bank.balance(KEY, "USDT").cash - before

    first = await trade("buy", 0.02)
    assert await brought() == (first, first)
    second = await trade("sell", 0.01)
    assert await brought() == (first + second, first + second)
    third = await trade("sell", 0.01)
    assert await brought() == (first + second + third, first + second + third)
    fourth = await trade("buy", 0.01)
    assert await brought() == (fourth, first + second + third + fourth)
    fifth = await trade("sell", 0.03)  # over to the other side
    assert await brought() == (fifth, first + second + third + fourth + fifth)


async def test_fees_are_those_of_the_bank(bybit: StartBybit, client_of: ConnectBybit) -> None:
    client = client_of(await bybit())
    fee = await client.fetch_trading_fee(BTC)
    assert (fee["maker"], fee["taker"]) == (0.0002, 0.0005)


async def test_forced_ends_have_their_own_kinds_of_execution(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit(delistings={"ETHUSDT": START_MS + HOUR_MS})
    client = client_of(running)
    await client.create_order(BTC, "market", "buy", 0.5)
    await client.create_order(ETH, "market", "sell", 5)
    bank = running.exchange.accounts.settled()
    bank.reduce_forcibly(KEY, "BTCUSDT", Decimal("0.2"))
    running.exchange.accounts.say()
    for _ in range(2):
        await post(running, "advance", until_ms=FOREVER_MS)
    answer = await client.privateGetV5ExecutionList({"category": "linear", "limit": 100})
    kinds = [(row["symbol"], row["execType"]) for row in answer["result"]["list"]]
    assert kinds[0] == ("ETHUSDT", "Delivery")
    assert kinds[1] == ("BTCUSDT", "AdlTrade")
    assert {kind for _, kind in kinds[2:]} == {"Trade"}
    only = await client.privateGetV5ExecutionList({"category": "linear", "execType": "AdlTrade"})
    assert [row["execQty"] for row in only["result"]["list"]] == ["0.2"]
    log = await client.privateGetV5AccountTransactionLog({"accountType": "UNIFIED"})
    assert [row["type"] for row in log["result"]["list"]][:2] == ["DELIVERY", "ADL"]


async def test_a_liquidation_is_a_bust_trade(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    poor = (KeySettings(KEY, SECRET, cash="1000"),)
    terms = BankSettings(leverage_first=50, depth_notional=Decimal(10**7))
    running = await bybit(accounts=poor, bank=terms)
    client = client_of(running)
    price = (await client.fetch_ticker(BTC))["last"]
    await client.load_markets()
    await client.create_order(BTC, "market", "buy", round(46_000 / price, 3))
    for _ in range(400):
        await post(running, "advance", until_ms=FOREVER_MS)
        if not await client.fetch_positions():
            break
    answer = await client.privateGetV5ExecutionList({"category": "linear", "limit": 100})
    assert answer["result"]["list"][0]["execType"] == "BustTrade"
    log = await client.privateGetV5AccountTransactionLog({"accountType": "UNIFIED"})
    kinds = [row["type"] for row in log["result"]["list"]]
    assert kinds.count("LIQUIDATION") == 2  # the trade and its own fee


async def test_a_span_of_over_a_week_is_refused(bybit: StartBybit, client_of: ConnectBybit) -> None:
    client = client_of(await bybit())
    span = {"startTime": START_MS - 8 * DAY_MS, "endTime": START_MS}
    with pytest.raises(ccxt.BadRequest, match="7 days"):
        await client.privateGetV5ExecutionList({"category": "linear", **span})


async def test_a_span_holds_both_its_ends_and_nothing_else(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit()
    client = client_of(running)
    times = []
    for _ in range(3):
        await client.create_order(BTC, "market", "buy", 0.01)
        times.append(running.exchange.now_ms)
        await post(running, "advance", until_ms=FOREVER_MS)
    asked = [
        (client.privateGetV5ExecutionList, {"category": "linear"}, "execTime"),
        (client.privateGetV5OrderHistory, {"category": "linear"}, "createdTime"),
        (client.privateGetV5AccountTransactionLog, {"type": "TRADE"}, "transactionTime"),
    ]
    spans = [(times[1], times[2]), (times[1], times[1]), (times[0] + 1, times[2] - 1)]
    for ask, query, name in asked:
        for first, last in spans:
            answer = await ask({**query, "startTime": first, "endTime": last})
            seen = {int(row[name]) for row in answer["result"]["list"]}
            assert seen == {at for at in times if first <= at <= last}
