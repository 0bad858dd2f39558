"""Values of the bank to the venue's private payloads: rows of REST answers, pure functions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from zlib import crc32

from adapters.rehearsal.bank.bank import PositionView
from adapters.rehearsal.bank.margin import Balance, SymbolMargin
from adapters.rehearsal.bank.records import BankOrder, Income, IncomeKind, OrderStatus, Trade
from adapters.rehearsal.bank.terms import ZERO, MarginMode, Origin, TimeInForce
from daemon.domain.order import OrderKind

STATUSES: Final[Mapping[OrderStatus, str]] = {
    OrderStatus.NEW: "NEW",
    OrderStatus.PARTIALLY_FILLED: "PARTIALLY_FILLED",
    OrderStatus.FILLED: "FILLED",
    OrderStatus.CANCELLED: "CANCELED",
    OrderStatus.EXPIRED: "EXPIRED",
}
TIMES_IN_FORCE: Final[Mapping[str, TimeInForce]] = {
    "GTC": TimeInForce.GTC,
    "IOC": TimeInForce.IOC,
    "FOK": TimeInForce.FOK,
    "GTX": TimeInForce.POST_ONLY,
}
FORCES: Final = {force: text for text, force in TIMES_IN_FORCE.items()}
INCOME_TYPES: Final[Mapping[IncomeKind, str]] = {
    IncomeKind.REALISED: "REALIZED_PNL",
    IncomeKind.COMMISSION: "COMMISSION",
    IncomeKind.FUNDING: "FUNDING_FEE",
    IncomeKind.TRANSFER: "TRANSFER",
    IncomeKind.LIQUIDATION_FEE: "INSURANCE_CLEAR",
    IncomeKind.INSURANCE: "INSURANCE_CLEAR",
}
_APART_MAX: Final = 97  # so near that numbers of different contracts meet soon
_VENUES_OWN: Final[Mapping[Origin, str]] = {
    Origin.LIQUIDATION: "autoclose-",
    Origin.FORCED_REDUCTION: "adl_autoclose",
    Origin.SETTLEMENT: "settlement_autoclose-",
}


def shown(symbol: str, number: int) -> int:
    """Give the number under which a contract's order or trade is shown.

    The venue counts within each contract, so that contracts share numbers; so do these.
    """
    return number + crc32(symbol.encode()) % _APART_MAX


def counted(symbol: str, number: int) -> int:
    """Give the bank's own number of a contract's order or trade; none has one below 1."""
    return number - shown(symbol, 0)


def plain(value: Decimal) -> str:
    """Write a number without an exponent; every digit of it."""
    return f"{value:f}" if value else "0"


def money_text(value: Decimal) -> str:
    """Write an amount of the statement with its eight decimals."""
    return f"{value:.8f}"


def client_id_of(order: BankOrder) -> str:
    """Give an order's client id as the venue shows it: its own orders have marked ones."""
    mark = _VENUES_OWN.get(order.origin)
    return order.client_id if mark is None else f"{mark}{order.created_ms}{order.order_id}"


def order_type(order: BankOrder) -> str:
    """Give the venue's name of an order's type."""
    if order.origin is Origin.LIQUIDATION:
        return "LIQUIDATION"
    return "MARKET" if order.kind is OrderKind.MARKET else "LIMIT"


def side(quantity: Decimal) -> str:
    """Give the side of a signed quantity."""
    return "BUY" if quantity > 0 else "SELL"


def order_row(order: BankOrder) -> dict[str, Any]:
    """Write an order as queries show it."""
    kind = order_type(order)
    return {
        "orderId": shown(order.symbol, order.order_id),
        "symbol": order.symbol,
        "status": STATUSES[order.status],
        "clientOrderId": client_id_of(order),
        "price": plain(order.price or ZERO),
        "avgPrice": plain(order.average_price or ZERO),
        "origQty": plain(abs(order.quantity)),
        "executedQty": plain(abs(order.filled)),
        "cumQty": plain(abs(order.filled)),
        "cumQuote": plain(order.paid),
        "timeInForce": FORCES[order.time_in_force],
        "type": kind,
        "reduceOnly": order.reduce_only,
        "closePosition": False,
        "side": side(order.quantity),
        "positionSide": "BOTH",
        "stopPrice": "0",
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "origType": kind,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": 0,
        "time": order.created_ms,
        "updateTime": order.updated_ms,
    }


def acknowledgement(order: BankOrder) -> dict[str, Any]:
    """Write an order as the answer to its placing: it has no creation time of its own."""
    row = order_row(order)
    del row["time"]
    return row


def trade_row(trade: Trade) -> dict[str, Any]:
    """Write a fill; the commission is positive where it was paid."""
    return {
        "symbol": trade.symbol,
        "id": shown(trade.symbol, trade.trade_id),
        "orderId": shown(trade.symbol, trade.order_id),
        "side": side(trade.quantity),
        "price": plain(trade.price),
        "qty": plain(abs(trade.quantity)),
        "realizedPnl": money_text(trade.realised),
        "quoteQty": plain(abs(trade.quantity) * trade.price),
        "commission": money_text(trade.fee),
        "commissionAsset": trade.currency,
        "time": trade.at_ms,
        "buyer": trade.quantity > 0,
        "maker": trade.is_maker,
        "positionSide": "BOTH",
    }


def income_row(line: Income) -> dict[str, Any]:
    """Write a line of the statement; its amount is what it changed the cash by.

    As at the venue, `tranId` is unique among lines of one kind only: a gain and its fee share it.
    """
    trade = "" if line.trade_id is None else str(shown(line.symbol, line.trade_id))
    return {
        "symbol": line.symbol,
        "incomeType": INCOME_TYPES[line.kind],
        "income": money_text(line.amount),
        "asset": line.currency,
        "info": trade,
        "time": line.at_ms,
        "tranId": line.income_id if line.trade_id is None else line.trade_id,
        "tradeId": trade,
    }


def position_row(view: PositionView, margin: SymbolMargin, changed_ms: int) -> dict[str, Any]:
    """Write a position, last traded at `changed_ms`, as positionRisk v3 shows it."""
    held, isolated = view.position, view.margin_mode is MarginMode.ISOLATED
    notional = held.quantity * view.mark
    return {
        "symbol": view.symbol,
        "positionSide": "BOTH",
        "positionAmt": plain(held.quantity),
        "entryPrice": plain(held.entry_price),
        "breakEvenPrice": plain(held.entry_price),
        "markPrice": plain(view.mark),
        "unRealizedProfit": money_text(view.unrealised),
        "liquidationPrice": plain(margin.liquidation),
        "isolatedMargin": money_text(held.margin + view.unrealised if isolated else ZERO),
        "notional": money_text(notional),
        "marginAsset": "USDT",
        "isolatedWallet": money_text(held.margin if isolated else ZERO),
        "initialMargin": money_text(margin.initial),
        "maintMargin": money_text(margin.maintenance),
        "positionInitialMargin": money_text(margin.position),
        "openOrderInitialMargin": money_text(margin.initial - margin.position),
        "adl": 0,
        "bidNotional": "0",
        "askNotional": "0",
        "updateTime": changed_ms,
    }


def asset_row(balance: Balance, now_ms: int) -> dict[str, Any]:
    """Write one currency of an account."""
    return {
        "asset": balance.currency,
        "walletBalance": money_text(balance.cash),
        "unrealizedProfit": money_text(balance.unrealised),
        "marginBalance": money_text(balance.equity),
        "maintMargin": money_text(balance.maintenance),
        "initialMargin": money_text(balance.initial),
        "positionInitialMargin": money_text(balance.initial),
        "openOrderInitialMargin": money_text(ZERO),
        "crossWalletBalance": money_text(balance.cash),
        "crossUnPnl": money_text(balance.unrealised),
        "availableBalance": money_text(max(ZERO, balance.available)),
        "maxWithdrawAmount": money_text(max(ZERO, min(balance.cash, balance.available))),
        "marginAvailable": True,
        "updateTime": now_ms,
    }


def account_alias(key: str) -> str:
    """Name the account of an API key as the venue names accounts: the same, without the key."""
    return f"R{hashlib.sha256(key.encode()).hexdigest()[:7]}"


def balance_row(balance: Balance, now_ms: int, alias: str) -> dict[str, Any]:
    """Write one currency as the shorter balance answer does."""
    whole = asset_row(balance, now_ms)
    names = ("asset", "crossWalletBalance", "crossUnPnl", "availableBalance", "maxWithdrawAmount")
    row = {name: whole[name] for name in names}
    return {
        "accountAlias": alias,
        **row,
        "balance": whole["walletBalance"],
        "marginAvailable": True,
        "updateTime": now_ms,
    }
