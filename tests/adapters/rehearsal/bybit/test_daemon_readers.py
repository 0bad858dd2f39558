"""The daemon's own readers of Bybit's records read the rehearsal's, to the last digit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from adapters.ccxt_venue.quirks import QUIRKS
from adapters.ccxt_venue.rows import CashFlow, CashKind, Cause, Execution, one_each
from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT
from daemon.domain.order import DoneReason
from daemon.domain.units import DAY_MS, HOUR_MS
from tests.adapters.rehearsal.bybit.conftest import KEY, ConnectBybit, StartBybit
from tests.adapters.rehearsal.conftest import Post

FOREVER_MS = 10**15
START_MS = ORIGIN_MS_DEFAULT + 3 * DAY_MS
BTC, ETH, SOL = "BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT"
BYBIT = QUIRKS["bybit"]
READ = BYBIT.readers


async def asked(client: Any, method: str, **query: Any) -> Any:
    """Ask by the table's fixed words."""
    return await getattr(client, method)(query)


async def test_every_record_of_a_session_is_read(
    bybit: StartBybit, client_of: ConnectBybit, post: Post
) -> None:
    running = await bybit(delistings={"ETHUSDT": START_MS + 9 * HOUR_MS})
    client = client_of(running)
    await client.load_markets()
    made = await asked(
        client,
        "privatePostV5OrderCreate",
        category="linear",
        symbol="BTCUSDT",
        side="Buy",
        orderType="Market",
        qty="0.3",
        orderLinkId="r-1",
    )
    taken = READ.acknowledgement(made, "r-1")
    await client.create_order(ETH, "market", "sell", 4, None, {BYBIT.id_on_create: "r-2"})
    price = (await client.fetch_ticker(SOL))["last"] * 0.93
    await client.create_order(SOL, "limit", "buy", 3, price, {BYBIT.id_on_create: "r-3"})
    bank = running.exchange.accounts.settled()
    bank.reduce_forcibly(KEY, "BTCUSDT", Decimal("0.1"))
    running.exchange.accounts.say()
    while running.exchange.now_ms < START_MS + 10 * HOUR_MS:
        await post(running, "advance", until_ms=FOREVER_MS)

    listing = await asked(
        client, BYBIT.executions_method, **BYBIT.executions_fixed, limit=BYBIT.executions.rows_max
    )
    read = [READ.execution(row, one_each) for row in listing["result"]["list"]]
    fills = [one for one in read if isinstance(one, Execution)]
    assert {one.cause for one in fills} == {Cause.ORDER, Cause.DELEVERAGING, Cause.SETTLEMENT}
    trades = {one.trade_id: one for one in bank.trades(KEY)}
    assert sorted((f.quantity, f.price, f.fee) for f in fills) == sorted(
        (t.quantity, t.price, t.fee) for t in trades.values()
    )
    paid = [one for one in read if isinstance(one, CashFlow)]
    booked = [one.amount for one in bank.income(KEY) if one.kind == "funding"]
    assert sorted(one.amount for one in paid) == sorted(booked)
    assert {one.kind for one in paid} == {CashKind.FUNDING}

    log = await asked(client, BYBIT.flows_method, accountType="UNIFIED", limit=50)
    flows = [READ.cash_flow(row) for row in log["result"]["list"]]
    cash = bank.balance(KEY, "USDT").cash
    assert sum(one.amount for one in flows) == cash
    assert CashKind.OTHER not in {one.kind for one in flows}

    wallet = await asked(client, "privateGetV5AccountWalletBalance", accountType="UNIFIED")
    (usdt,) = READ.balances(wallet)
    assert (usdt.wallet, usdt.margin) == (cash, bank.balance(KEY, "USDT").equity)
    query = {"category": "linear", "settleCoin": "USDT", "limit": 200}
    held = READ.holdings(await asked(client, "privateGetV5PositionList", **query), one_each)
    views = {one.symbol: one.position for one in bank.positions(KEY)}
    assert {one.symbol_id: (one.quantity, one.entry_price) for one in held} == {
        symbol: (one.quantity, one.entry_price) for symbol, one in views.items()
    }
    await orders_are_read(client, taken.order_id)


async def orders_are_read(client: Any, order_id: str) -> None:
    """Read a filled order by its id, a resting one, and one that never was."""
    query = {"category": "linear", "symbol": "BTCUSDT", "orderLinkId": "r-1"}
    answer = await asked(client, "privateGetV5OrderRealtime", **query)
    order = READ.asked_order(answer, "r-1", one_each)
    assert order is not None
    assert (order.order_id, order.done) == (order_id, DoneReason.FILLED)
    assert (order.quantity, order.filled) == (Decimal("0.3"), Decimal("0.3"))
    query = {"category": "linear", "symbol": "SOLUSDT", "orderLinkId": "r-3"}
    answer = await asked(client, "privateGetV5OrderRealtime", **query)
    resting = READ.asked_order(answer, "r-3", one_each)
    assert resting is not None
    assert resting.done is None
    assert resting.filled == 0
    for method in ("privateGetV5OrderRealtime", "privateGetV5OrderHistory"):
        query = {"category": "linear", "symbol": "SOLUSDT", "orderLinkId": "never"}
        assert READ.asked_order(await asked(client, method, **query), "never", one_each) is None
