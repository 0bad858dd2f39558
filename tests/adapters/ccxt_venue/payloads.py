"""Answers in the shapes that the venues document and send; all numbers are ours.

`ours` in a template stands for the client id that the test asked about.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

SIZES = {"BTC-USDT-SWAP": Decimal("0.01"), "BTCUSDT": Decimal(1)}

BINANCE_ORDER: dict[str, Any] = {
    "orderId": 4293153,
    "symbol": "BTCUSDT",
    "status": "PARTIALLY_FILLED",
    "clientOrderId": "ours",
    "price": "50000.00",
    "avgPrice": "50000.00",
    "origQty": "0.010",
    "executedQty": "0.004",
    "cumQuote": "200.00000",
    "timeInForce": "GTX",
    "type": "LIMIT",
    "reduceOnly": False,
    "closePosition": False,
    "side": "SELL",
    "positionSide": "BOTH",
    "time": 1700000000123,
    "updateTime": 1700000000456,
}
BINANCE_TRADE: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "id": 698759,
    "orderId": 25851813,
    "side": "SELL",
    "price": "7819.01",
    "qty": "0.002",
    "realizedPnl": "-0.91539999",
    "quoteQty": "15.63802",
    "commission": "0.07819010",
    "commissionAsset": "USDT",
    "time": 1569514978020,
    "positionSide": "BOTH",
    "buyer": False,
    "maker": False,
}
BINANCE_INCOME: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "incomeType": "FUNDING_FEE",
    "income": "-0.37500000",
    "asset": "USDT",
    "info": "FUNDING_FEE",
    "time": 1570608000000,
    "tranId": 9689322392,
    "tradeId": "",
}
BINANCE_POSITION: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "positionSide": "BOTH",
    "positionAmt": "-0.850",
    "entryPrice": "50100.5",
    "breakEvenPrice": "50101.1",
    "markPrice": "50000.0",
    "unRealizedProfit": "85.42500000",
    "updateTime": 1720736417660,
}
BINANCE_ACCOUNT: dict[str, Any] = {
    "totalWalletBalance": "103.12345678",
    "assets": [
        {
            "asset": "USDT",
            "walletBalance": "103.12345678",
            "unrealizedProfit": "1.00000001",
            "marginBalance": "104.12345679",
        }
    ],
}
BYBIT_ORDER: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "orderType": "Limit",
    "orderLinkId": "ours",
    "orderId": "f5f2d355-0000-4af3-9b83-aa1d6ab6ddfe",
    "orderStatus": "PartiallyFilledCanceled",
    "side": "Sell",
    "price": "50000",
    "qty": "0.010",
    "cumExecQty": "0.004",
    "cumExecFee": "0.11",
    "avgPrice": "50000",
    "reduceOnly": True,
    "timeInForce": "PostOnly",
    "positionIdx": 0,
    "createdTime": "1757837618905",
    "updatedTime": "1757837618909",
}
BYBIT_TRADE: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "orderType": "Limit",
    "orderLinkId": "ours",
    "orderId": "1549452573428424448",
    "execTime": "1699445151998",
    "feeRate": "0.00025",
    "execPrice": "102.8",
    "execType": "Trade",
    "side": "Buy",
    "leavesQty": "3.642",
    "isMaker": True,
    "execFee": "-0.0000025",
    "execId": "2210000000101610464",
    "execQty": "0.01",
    "execValue": "1.028",
    "feeCurrency": "",
}
BYBIT_FUNDING: dict[str, Any] = {
    **BYBIT_TRADE,
    "orderLinkId": "",
    "orderId": "a11e5fe2-0000-4bab-a9b2-af80a14efc5d",
    "execType": "Funding",
    "execQty": "0.98",
    "execFee": "0.10232512",
    "execId": "8d1ef156-0000-4445-9a6c-1c0c24dbd046",
}
BYBIT_POSITION: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "side": "Sell",
    "size": "0.85",
    "avgPrice": "50100.5",
    "positionIdx": 0,
    "markPrice": "50000",
    "unrealisedPnl": "85.4",
}
BYBIT_TRANSFER: dict[str, Any] = {
    "id": "592324_BTC_161440249321",
    "symbol": "",
    "side": "None",
    "type": "TRANSFER_OUT",
    "currency": "USDT",
    "cashFlow": "-25.5",
    "change": "-25.5",
    "fee": "0",
    "funding": "",
    "transactionTime": "1672128000000",
}
OKX_ORDER: dict[str, Any] = {
    "instId": "BTC-USDT-SWAP",
    "instType": "SWAP",
    "ordId": "312269865356374016",
    "clOrdId": "ours",
    "state": "canceled",
    "side": "sell",
    "px": "50000",
    "sz": "1",
    "accFillSz": "0.4",
    "fee": "-0.08",
    "feeCcy": "USDT",
    "posSide": "net",
    "tdMode": "cross",
    "ordType": "post_only",
    "reduceOnly": "false",
    "cTime": "1621910749815",
    "uTime": "1621910749900",
}
OKX_TRADE: dict[str, Any] = {
    "side": "sell",
    "fillSz": "3",
    "fillPx": "26543.9",
    "fee": "-0.39815850",
    "ordId": "317321390244397056",
    "instType": "SWAP",
    "instId": "BTC-USDT-SWAP",
    "clOrdId": "ours",
    "posSide": "net",
    "billId": "317321390265368576",
    "execType": "T",
    "subType": "2",
    "tradeId": "107601752",
    "feeCcy": "USDT",
    "ts": "1621927314985",
}
OKX_BILL: dict[str, Any] = {
    "bal": "8694.21792403379",
    "balChg": "-0.014875271224",
    "billId": "377970609204146187",
    "ccy": "USDT",
    "fee": "0",
    "instId": "BTC-USDT-SWAP",
    "instType": "SWAP",
    "ordId": "",
    "pnl": "-0.014875271224",
    "subType": "173",
    "sz": "0",
    "ts": "1636387215588",
    "type": "8",
}
OKX_POSITION: dict[str, Any] = {
    "avgPx": "34131.1",
    "instId": "BTC-USDT-SWAP",
    "instType": "SWAP",
    "pos": "-85",
    "posSide": "net",
    "mgnMode": "cross",
    "uTime": "1627227626502",
}


def bybit(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Wrap rows the way Bybit does."""
    result = {"category": "linear", "list": rows, "nextPageCursor": ""}
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 1}


def okx(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Wrap rows the way OKX does."""
    return {"code": "0", "msg": "", "data": rows}


def named(payload: object, name: str) -> str:
    """Write a payload as JSON with the client id in its place."""
    return json.dumps(payload).replace('"ours"', json.dumps(name))


_BYBIT_IDS = {"orderId": "1321003749386327552", "orderLinkId": "ours"}
_OKX_IDS = {"clOrdId": "ours", "ordId": "312269865356374016", "sCode": "0", "sMsg": ""}

GOOD: dict[tuple[str, str], object] = {
    ("binanceusdm", "send"): BINANCE_ORDER,
    ("binanceusdm", "cancel"): {**BINANCE_ORDER, "status": "CANCELED"},
    ("binanceusdm", "query"): BINANCE_ORDER,
    ("bybit", "send"): {**bybit([]), "result": _BYBIT_IDS},
    ("bybit", "cancel"): {**bybit([]), "result": _BYBIT_IDS},
    ("bybit", "query"): bybit([BYBIT_ORDER]),
    ("okx", "send"): okx([_OKX_IDS]),
    ("okx", "cancel"): okx([_OKX_IDS]),
    ("okx", "query"): okx([OKX_ORDER]),
}


def refusal(venue: str, code: str, text: str = "No.") -> tuple[int, str]:
    """Give status and body by which a venue refuses with a code."""
    if venue == "binanceusdm":
        return 400, json.dumps({"code": int(code), "msg": text})
    if venue == "bybit":
        shape = {"retCode": int(code), "retMsg": text, "result": {}, "retExtInfo": {}, "time": 1}
        return 200, json.dumps(shape)
    if code.startswith("50"):
        return 400, json.dumps({"code": code, "msg": text, "data": []})
    item = {"clOrdId": "x", "ordId": "", "sCode": code, "sMsg": text, "tag": ""}
    return 200, json.dumps({"code": "1", "msg": "All operations failed", "data": [item]})
