"""The venue's statement equals the account to its last digit, through the real ccxt client."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import ccxt
import pytest

from adapters.rehearsal.bank.terms import BankSettings
from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT
from daemon.domain.units import DAY_MS
from tests.adapters.rehearsal.bybit.conftest import KEY, ConnectBybit, StartBybit
from tests.adapters.rehearsal.conftest import Post

FOREVER_MS = 10**15
START_MS = ORIGIN_MS_DEFAULT + 3 * DAY_MS
SYMBOLS = ("BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT")
SIZES = {"BTC/USDT:USDT": 0.02, "ETH/USDT:USDT": 0.3, "SOL/USDT:USDT": 7.0}


async def paged(ask: Any, **query: Any) -> list[dict[str, Any]]:
    """Read every page of a list, newest first."""
    rows: list[dict[str, Any]] = []
    cursor = ""
    while True:
        result = (await ask({**query, "cursor": cursor}))["result"]
        rows += result["list"]
        cursor = result["nextPageCursor"]
        if not cursor:
            return rows


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_statement_executions_and_wallet_agree(
    bybit: StartBybit, client_of: ConnectBybit, post: Post, seed: int
) -> None:
    terms = BankSettings(maker_fee_bps=Decimal("-0.5"), depth_notional=Decimal(3_000))
    running = await bybit(bank=terms)
    client, dice = client_of(running), random.Random(seed)
    await client.load_markets()
    refused_n = 0
    for turn in range(24):
        for _ in range(4):
            symbol = dice.choice(SYMBOLS)
            side, kind = dice.choice(["buy", "sell"]), dice.choice(["market", "limit"])
            last = (await client.fetch_ticker(symbol))["last"]
            price = last * dice.uniform(0.997, 1.003) if kind == "limit" else None
            size = SIZES[symbol] * dice.randint(1, 9)
            params = {"clientOrderId": f"s-{turn}-{dice.random()}"[:36]}
            params["clientOrderId"] = params["clientOrderId"].replace(".", "-")
            reduces = dice.random() < 0.2
            try:
                await client.create_order(
                    symbol, kind, side, size, price, params | {"reduceOnly": reduces}
                )
            except ccxt.InvalidOrder:
                refused_n += 1
        await post(running, "advance", until_ms=FOREVER_MS)
    bank = running.exchange.accounts.settled()
    rows = await paged(client.privateGetV5AccountTransactionLog, accountType="UNIFIED", limit=50)
    executions = await paged(client.privateGetV5ExecutionList, category="linear", limit=100)
    answer = await client.privateGetV5AccountWalletBalance({"accountType": "UNIFIED"})
    (coin,) = answer["result"]["list"][0]["coin"]

    assert len(executions) > 60
    assert {row["isMaker"] for row in executions} == {True, False}
    assert {len(rows) > 50, refused_n > 0} == {True}
    assert {row["execType"] for row in executions} == {"Trade", "Funding"}
    cash = bank.balance(KEY, "USDT").cash
    assert sum(Decimal(row["change"]) for row in rows) == cash == Decimal(coin["walletBalance"])
    assert Decimal(rows[0]["cashBalance"]) == cash
    for row in rows:
        parts = Decimal(row["cashFlow"]) - Decimal(row["fee"]) + Decimal(row["funding"] or "0")
        assert parts == Decimal(row["change"])
    assert Decimal(coin["cumRealisedPnl"]) == cash - 100_000
    paid = sum(Decimal(row["execFee"]) for row in executions)
    logged = sum(Decimal(r["fee"]) - Decimal(r["funding"] or "0") for r in rows)
    assert paid == logged
    gained = sum(Decimal(r["execPnl"]) for r in executions if r["execType"] == "Trade")
    assert cash == 100_000 + gained - paid
    await orders_and_positions_agree(client, rows, executions, len(bank.trades(KEY)))


async def orders_and_positions_agree(
    client: Any, rows: list[dict[str, Any]], executions: list[dict[str, Any]], trades_n: int
) -> None:
    """Check orders and positions against the executions, and those against the statement."""
    trades = [row for row in executions if row["execType"] == "Trade"]
    assert {row["execId"] for row in trades} == {r["tradeId"] for r in rows if r["tradeId"]}
    assert len(trades) == trades_n
    for row in await paged(client.privateGetV5OrderHistory, category="linear", limit=50):
        mine = [one for one in trades if one["orderId"] == row["orderId"]]
        assert sum(Decimal(one["execQty"]) for one in mine) == Decimal(row["cumExecQty"])
        assert sum(Decimal(one["execFee"]) for one in mine) == Decimal(row["cumExecFee"])
        assert sum(Decimal(one["execValue"]) for one in mine) == Decimal(row["cumExecValue"])
    answer = await client.privateGetV5PositionList({"category": "linear", "settleCoin": "USDT"})
    for row in answer["result"]["list"]:
        signed = [
            Decimal(one["execQty"]) * (1 if one["side"] == "Buy" else -1)
            for one in trades
            if one["symbol"] == row["symbol"]
        ]
        brought = [Decimal(r["change"]) for r in rows if r["symbol"] == row["symbol"]]
        assert sum(brought) == Decimal(row["cumRealisedPnl"])
        newest = next(r for r in rows if r["symbol"] == row["symbol"])
        assert abs(Decimal(newest["size"])) == Decimal(row["size"])
        held = Decimal(row["size"]) * (1 if row["side"] == "Buy" else -1)
        assert sum(signed) == held
