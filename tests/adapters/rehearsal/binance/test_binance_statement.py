"""After a random session every account of the truth agrees to the last digit."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import ccxt
import pytest

from adapters.ccxt_venue.rows_binance import cash_flow
from adapters.rehearsal.bank.terms import BankSettings
from adapters.rehearsal.faults import Fault
from tests.adapters.rehearsal.binance.binance_rig import BTC, ETH, KEY, SOL, Rig, listening, rig

STEPS = 60
SYMBOLS = (BTC, ETH, SOL)
LOTS = {BTC: 0.01, ETH: 0.1, SOL: 5.0}
FAULTS = (
    Fault.ORDER_LOST_503,
    Fault.FILL_DUPLICATED,
    Fault.FILLS_SHUFFLED,
    Fault.MANUAL_TRADE,
    Fault.FORCED_REDUCTION,
    Fault.LIQUIDATION,
    Fault.INSUFFICIENT_MARGIN,
)


async def step(r: Rig, dice: random.Random) -> None:
    """Do one thing that a trader, an owner or the venue may do."""
    symbol, side = dice.choice(SYMBOLS), dice.choice(("buy", "sell"))
    amount = LOTS[symbol] * dice.randint(1, 40)
    match dice.randrange(8):
        case 0 | 1:
            await r.client.create_order(symbol, "market", side, amount)
        case 2 | 3:
            price = await r.price(symbol) * (1 + dice.uniform(-0.004, 0.004))
            price = float(r.client.price_to_precision(symbol, price))
            await r.client.create_order(symbol, "limit", side, amount, price)
        case 4:
            await r.client.cancel_all_orders(symbol)
        case 5:
            await r.post("account", key=KEY, **{dice.choice(("deposit", "withdraw")): "100.01"})
        case 6:
            await r.fault(dice.choice(FAULTS), symbol=symbol.split("/")[0] + "USDT")
        case _:
            await r.advance(dice.choice((30, 60, 240, 480)))


async def whole_statement(r: Rig) -> list[dict[str, Any]]:
    """Read every line in pages, weeks apart."""
    first_ms, now_ms = 1_704_326_400_000, r.running.exchange.now_ms
    week_ms, rows = 7 * 86_400_000, []
    for start_ms in range(first_ms, now_ms + 1, week_ms + 1):
        page = 1
        while True:
            query = {"startTime": start_ms, "endTime": min(now_ms, start_ms + week_ms)}
            found = await r.client.fapiPrivateGetIncome({**query, "limit": 100, "page": page})
            rows += found
            if len(found) < 100:
                break
            page += 1
    return rows


@pytest.mark.parametrize("seed", [1, 2])
async def test_statement_trades_stream_and_wallet_agree(seed: int) -> None:
    bank = BankSettings(latency_ms=40, depth_notional=Decimal(3_000))
    async with rig(bank=bank, cash="20000.00000001") as r:
        dice, ears = random.Random(seed), await listening(r)
        for _ in range(STEPS):
            try:
                await step(r, dice)
            except ccxt.BaseError:
                continue  # refused, or its answer was lost: the books must agree all the same
        await r.advance(30)
        rows = await whole_statement(r)
        assert len({(row["incomeType"], row["tranId"]) for row in rows}) == len(rows)
        asset = (await r.client.fapiPrivateV3GetAccount())["assets"][0]
        wallet = Decimal(asset["walletBalance"])
        assert sum((Decimal(row["income"]) for row in rows), Decimal(0)) == wallet
        kinds = {row["incomeType"] for row in rows}
        assert {"TRANSFER", "COMMISSION", "REALIZED_PNL"} <= kinds
        await trades_agree(r, rows)
        cash = [f["a"]["B"][0]["wb"] for f in ears.frames if f["e"] == "ACCOUNT_UPDATE"]
        assert wallet in {Decimal(text) for text in cash[-12:]}, "the stream ends where REST is"


async def trades_agree(r: Rig, rows: list[dict[str, Any]]) -> None:
    """Hold fees, gains and positions against the fills that made them."""
    held = {p["symbol"]: Decimal(p["positionAmt"]) for p in await raw_positions(r)}
    fees = gains = Decimal(0)
    for symbol in SYMBOLS:
        name = symbol.split("/")[0] + "USDT"
        fills: list[dict[str, Any]] = []
        while True:
            first = int(fills[-1]["id"]) + 1 if fills else 0
            page = await r.client.fapiPrivateGetUserTrades({"symbol": name, "fromId": first})
            if not page:
                break
            fills += page
        fees += sum((Decimal(f["commission"]) for f in fills), Decimal(0))
        gains += sum((Decimal(f["realizedPnl"]) for f in fills), Decimal(0))
        signed = [Decimal(f["qty"]) * (1 if f["side"] == "BUY" else -1) for f in fills]
        assert sum(signed, Decimal(0)) == held.get(name, Decimal(0))
    booked = {kind: Decimal(0) for kind in ("COMMISSION", "REALIZED_PNL")}
    for row in rows:
        if row["incomeType"] in booked:
            booked[row["incomeType"]] += Decimal(row["income"])
    assert (booked["COMMISSION"], booked["REALIZED_PNL"]) == (-fees, gains)


async def raw_positions(r: Rig) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await r.client.fapiPrivateV3GetPositionRisk()
    return found


async def test_a_gain_and_its_fee_share_a_number_and_are_two_lines_all_the_same() -> None:
    """The venue counts within a kind only: who keeps lines by number alone would lose some."""
    async with rig() as r:
        await r.buy()
        await r.advance(20)
        await r.client.create_order("BTC/USDT:USDT", "market", "sell", 0.01)
        rows = await whole_statement(r)
        (gain,) = [row for row in rows if row["incomeType"] == "REALIZED_PNL"]
        (fee,) = [
            row
            for row in rows
            if row["incomeType"] == "COMMISSION" and row["tradeId"] == gain["tradeId"]
        ]
        assert fee["tranId"] == gain["tranId"]
        assert len({cash_flow(row).flow_id for row in rows}) == len(rows)


async def test_contracts_count_their_own_orders_and_trades_so_that_numbers_meet() -> None:
    """Who knows an order or a fill by its number alone would take one for another."""
    async with rig() as r:
        for symbol in (BTC, ETH, SOL):
            for _ in range(60):
                await r.buy(LOTS[symbol], symbol)
        trades = {s: {t["id"]: t for t in await r.client.fetch_my_trades(s)} for s in SYMBOLS}
        orders = {s: {o["id"]: o for o in await r.client.fetch_orders(s)} for s in SYMBOLS}
        for known in (trades, orders):
            common = set(known[BTC]) & (set(known[ETH]) | set(known[SOL]))
            assert common, "numbers of several contracts are the same"
        for symbol in SYMBOLS:
            number, order = next(iter(orders[symbol].items()))
            asked = await r.client.fetch_order(number, symbol)
            assert asked["clientOrderId"] == order["clientOrderId"]
            fills = await r.client.fetch_my_trades(symbol, params={"orderId": number})
            assert {t["order"] for t in fills} == {number}
            assert {t["symbol"] for t in fills} == {symbol}
