"""Bybit's private payloads: orders, executions, positions, wallet and statement, pure functions.

Amounts are exact decimals as texts. Signs: `execFee` positive is paid, funding included; `change`,
`cashFlow` and `funding` of the statement are what the cash changed by, its `fee` is what was paid.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from adapters.rehearsal.bank.margin import Balance
from adapters.rehearsal.bank.records import (
    BankOrder,
    BankPosition,
    EndReason,
    Income,
    IncomeKind,
    OrderStatus,
    Trade,
)
from adapters.rehearsal.bank.terms import BPS, ZERO, MarginMode, Origin, TimeInForce
from adapters.rehearsal.bybit.answers import plain
from daemon.domain.order import OrderKind
from daemon.domain.units import money

_ORDER_PREFIX: Final = "b1700000-0000-4000-8000-"
_TRADE_PREFIX: Final = "7e2a0000-0000-5000-8000-"
_FUNDING_PREFIX: Final = "f0d10000-0000-5000-8000-"
_STATUS: Final = {
    OrderStatus.NEW: "New",
    OrderStatus.PARTIALLY_FILLED: "PartiallyFilled",
    OrderStatus.FILLED: "Filled",
    OrderStatus.CANCELLED: "Cancelled",
    OrderStatus.EXPIRED: "Cancelled",
}
_TIME_IN_FORCE: Final = {
    TimeInForce.GTC: "GTC",
    TimeInForce.IOC: "IOC",
    TimeInForce.FOK: "FOK",
    TimeInForce.POST_ONLY: "PostOnly",
}
_CANCEL_TYPE: Final = {
    EndReason.REQUESTED: "CancelByUser",
    EndReason.TIMER: "CancelByUser",
    EndReason.REDUCE_ONLY: "CancelByReduceOnly",
    EndReason.LIQUIDATION: "CancelAllBeforeLiq",
    EndReason.DELISTED: "CancelByAdmin",
    EndReason.HALTED: "CancelByAdmin",
}
_REJECT_REASON: Final = {
    EndReason.POST_ONLY: "EC_PostOnlyWillTakeLiquidity",
    EndReason.NO_DEPTH: "EC_NoImmediateQtyToFill",
    EndReason.REQUESTED: "EC_PerCancelRequest",
    EndReason.TIMER: "EC_PerCancelRequest",
    EndReason.REDUCE_ONLY: "EC_ReduceOnlyCannotOpen",
}
EXEC_TYPE: Final = {
    Origin.API: "Trade",
    Origin.OWNER: "Trade",
    Origin.LIQUIDATION: "BustTrade",
    Origin.FORCED_REDUCTION: "AdlTrade",
    Origin.SETTLEMENT: "Delivery",  # which at this venue a delisting is called too
}
_CREATE_TYPE: Final = {
    Origin.API: "CreateByUser",
    Origin.OWNER: "CreateByUser",
    Origin.LIQUIDATION: "CreateByLiq",
    Origin.FORCED_REDUCTION: "CreateByAdl_PassThrough",
    Origin.SETTLEMENT: "CreateBySettle",
}
_LOG_TYPE_OF_FILL: Final = {
    Origin.API: "TRADE",
    Origin.OWNER: "TRADE",
    Origin.LIQUIDATION: "LIQUIDATION",
    Origin.FORCED_REDUCTION: "ADL",
    Origin.SETTLEMENT: "DELIVERY",
}
_LOG_TYPE: Final = {
    IncomeKind.FUNDING: "SETTLEMENT",
    IncomeKind.LIQUIDATION_FEE: "LIQUIDATION",
    IncomeKind.INSURANCE: "BONUS",  # the venue's gift of what a liquidation lost too much
}


class FundingPaid(Struct, frozen=True):
    """Hold a funding payment as an execution: signed `quantity` held, `fee` positive if paid."""

    income: Income
    rate: Decimal
    quantity: Decimal
    mark: Decimal


class Filled(Struct, frozen=True):
    """Hold a fill with its order as it was right after."""

    trade: Trade
    order: BankOrder


Execution = Filled | FundingPaid


def at_ms_of(one: Execution) -> int:
    """Give when it happened."""
    return one.income.at_ms if isinstance(one, FundingPaid) else one.trade.at_ms


class PositionHistory(Struct):
    """Hold what a symbol's position brought, fees and funding included, and when it changed.

    current: since it was last opened; all: ever. seq: the last event that changed it.
    """

    quantity: Decimal = ZERO
    current: Decimal = ZERO
    all: Decimal = ZERO
    created_ms: int = 0
    updated_ms: int = 0
    seq: int = 0


class PositionFacts(Struct, frozen=True):
    """Hold what a position is shown by."""

    symbol: str
    held: BankPosition
    mark: Decimal
    leverage: int
    margin_mode: MarginMode
    maintenance_bps: Decimal
    history: PositionHistory


# ---- ids -----------------------------------------------------------------------------------------


def venue_order_id(order_id: int) -> str:
    """Write an order's number as the venue's id."""
    return f"{_ORDER_PREFIX}{order_id:012x}"


def bank_order_id(text: str) -> int:
    """Read the venue's id; an order number that never exists for what is none."""
    try:
        return int(text.removeprefix(_ORDER_PREFIX), 16) if text.startswith(_ORDER_PREFIX) else 0
    except ValueError:
        return 0


def link_id(order: BankOrder) -> str:
    """Give the client's id of an order; empty where the bank made one up."""
    return "" if order.client_id == f"{order.origin}-{order.order_id}" else order.client_id


def side_of(quantity: Decimal) -> str:
    """Give the venue's word for a sign."""
    return "Buy" if quantity > 0 else "Sell" if quantity < 0 else ""


# ---- orders and executions -----------------------------------------------------------------------


def order_row(order: BankOrder, fee: Decimal) -> dict[str, Any]:
    """Write an order; fee: what its fills paid so far."""
    left = abs(order.left) if order.is_open else ZERO
    average, reason = order.average_price, order.end_reason
    market = order.kind is OrderKind.MARKET
    return {
        "category": "linear",
        "symbol": order.symbol,
        "orderId": venue_order_id(order.order_id),
        "orderLinkId": link_id(order),
        "blockTradeId": "",
        "side": side_of(order.quantity),
        "positionIdx": 0,
        "orderStatus": _STATUS[order.status],
        "cancelType": _CANCEL_TYPE.get(reason, "UNKNOWN") if reason is not None else "UNKNOWN",
        "rejectReason": _REJECT_REASON.get(reason, "EC_NoError") if reason else "EC_NoError",
        "timeInForce": "IOC" if market else _TIME_IN_FORCE[order.time_in_force],
        "orderType": "Market" if market else "Limit",
        "price": "0" if order.price is None else plain(order.price),
        "qty": plain(abs(order.quantity)),
        "avgPrice": "" if average is None else plain(average),
        "leavesQty": plain(left),
        "leavesValue": plain(left * (order.price or average or ZERO)),
        "cumExecQty": plain(abs(order.filled)),
        "cumExecValue": plain(order.paid),
        "cumExecFee": plain(fee),
        "cumFeeDetail": {"USDT": plain(fee)} if fee else {},
        "reduceOnly": order.reduce_only,
        "closeOnTrigger": False,
        "createType": _CREATE_TYPE[order.origin],
        "orderFilter": "Order",
        "stopOrderType": "",
        "tpslMode": "",
        "triggerPrice": "",
        "triggerDirection": 0,
        "takeProfit": "",
        "stopLoss": "",
        "createdTime": str(order.created_ms),
        "updatedTime": str(order.updated_ms),
    }


def execution_row(one: Execution) -> dict[str, Any]:
    """Write a fill or a funding payment."""
    if isinstance(one, FundingPaid):
        return _funding_row(one)
    trade, order = one.trade, one.order
    value = abs(trade.quantity) * trade.price
    return {
        "category": "linear",
        "symbol": trade.symbol,
        "orderId": venue_order_id(trade.order_id),
        "orderLinkId": link_id(order),
        "side": side_of(trade.quantity),
        "orderPrice": "0" if order.price is None else plain(order.price),
        "orderQty": plain(abs(order.quantity)),
        "leavesQty": plain(abs(order.left)),
        "createType": _CREATE_TYPE[order.origin],
        "orderType": "Market" if order.kind is OrderKind.MARKET else "Limit",
        "stopOrderType": "UNKNOWN",
        "execFee": plain(trade.fee),
        "execId": f"{_TRADE_PREFIX}{trade.trade_id:012x}",
        "execPrice": plain(trade.price),
        "execQty": plain(abs(trade.quantity)),
        "execType": EXEC_TYPE[order.origin],
        "execValue": plain(value),
        "execTime": str(trade.at_ms),
        "execPnl": plain(trade.realised),
        "feeCurrency": trade.currency,
        "isMaker": trade.is_maker,
        "feeRate": plain(money(trade.fee / value)) if value else "0",
        "closedSize": "",
        "blockTradeId": "",
        "seq": trade.trade_id,
    }


def _funding_row(one: FundingPaid) -> dict[str, Any]:
    income = one.income
    return {
        "category": "linear",
        "symbol": income.symbol,
        "orderId": f"{income.at_ms // 1000}-8-{income.income_id}",
        "orderLinkId": "",
        "side": side_of(one.quantity),
        "orderPrice": "0",
        "orderQty": "0",
        "leavesQty": "0",
        "createType": "",
        "orderType": "UNKNOWN",
        "stopOrderType": "UNKNOWN",
        "execFee": plain(-income.amount),
        "execId": f"{_FUNDING_PREFIX}{income.income_id:012x}",
        "execPrice": plain(one.mark),
        "execQty": plain(abs(one.quantity)),
        "execType": "Funding",
        "execValue": plain(abs(one.quantity) * one.mark),
        "execTime": str(income.at_ms),
        "execPnl": "",
        "feeCurrency": income.currency,
        "isMaker": False,
        "feeRate": plain(one.rate),
        "closedSize": "",
        "blockTradeId": "",
        "seq": income.income_id,
    }


# ---- positions, wallet, statement ----------------------------------------------------------------


def position_row(facts: PositionFacts) -> dict[str, Any]:
    """Write a position; a flat one has size 0 and no side."""
    history = facts.history
    held, notional = facts.held, abs(facts.held.quantity) * facts.mark
    isolated = facts.margin_mode is MarginMode.ISOLATED
    initial = held.margin if isolated else money(notional / facts.leverage)
    return {
        "category": "linear",
        "positionIdx": 0,
        "riskId": 1,
        "riskLimitValue": "",
        "symbol": facts.symbol,
        "side": side_of(held.quantity),
        "size": plain(abs(held.quantity)),
        "avgPrice": plain(held.entry_price),
        "entryPrice": plain(held.entry_price),
        "positionValue": plain(abs(held.cost)),
        "tradeMode": 1 if isolated else 0,
        "autoAddMargin": 0,
        "positionStatus": "Normal",
        "leverage": str(facts.leverage),
        "markPrice": plain(facts.mark),
        "liqPrice": "",
        "bustPrice": "",
        "positionIM": plain(initial),
        "positionMM": plain(notional * facts.maintenance_bps / BPS),
        "positionBalance": plain(held.margin),
        "takeProfit": "",
        "stopLoss": "",
        "trailingStop": "0",
        "unrealisedPnl": plain(held.unrealised(facts.mark)),
        "curRealisedPnl": plain(history.current),
        "cumRealisedPnl": plain(history.all),
        "adlRankIndicator": 0,
        "isReduceOnly": False,
        "createdTime": str(history.created_ms),
        "updatedTime": str(history.updated_ms),
        "seq": history.seq,
    }


class CoinFacts(Struct, frozen=True):
    """Hold a coin's balance, the initial margin of its positions alone, and their gains ever."""

    balance: Balance
    positions_initial: Decimal
    realised: Decimal


def wallet_row(coins: list[CoinFacts]) -> dict[str, Any]:
    """Write the unified account.

    Coins count at par: this exchange settles in dollar coins only.
    """
    whole = [one.balance for one in coins]
    equity = sum((one.equity for one in whole), ZERO)
    cash = sum((one.cash for one in whole), ZERO)
    initial = sum((one.initial for one in whole), ZERO)
    maintenance = sum((one.maintenance for one in whole), ZERO)
    return {
        "accountType": "UNIFIED",
        "accountLTV": "0",
        "accountIMRate": _share(initial, equity),
        "accountMMRate": _share(maintenance, equity),
        "totalEquity": plain(equity),
        "totalWalletBalance": plain(cash),
        "totalMarginBalance": plain(equity),
        "totalAvailableBalance": plain(sum((one.available for one in whole), ZERO)),
        "totalPerpUPL": plain(sum((one.unrealised for one in whole), ZERO)),
        "totalInitialMargin": plain(initial),
        "totalMaintenanceMargin": plain(maintenance),
        "coin": [_coin_row(one) for one in coins],
    }


def _coin_row(facts: CoinFacts) -> dict[str, Any]:
    one, positions = facts.balance, facts.positions_initial
    return {
        "coin": one.currency,
        "equity": plain(one.equity),
        "usdValue": plain(one.equity),
        "walletBalance": plain(one.cash),
        "availableToWithdraw": "",
        "availableToBorrow": "",
        "borrowAmount": "0",
        "accruedInterest": "0",
        "locked": "0",
        "totalOrderIM": plain(max(ZERO, one.initial - positions)),
        "totalPositionIM": plain(positions),
        "totalPositionMM": plain(one.maintenance),
        "unrealisedPnl": plain(one.unrealised),
        "cumRealisedPnl": plain(facts.realised),
        "bonus": "0",
        "marginCollateral": True,
        "collateralSwitch": True,
    }


def _share(part: Decimal, whole: Decimal) -> str:
    return plain(money(part / whole)) if whole > 0 else "0"


def log_row(
    lines: list[Income], fill: Filled | None, cash: Decimal, held: Decimal
) -> dict[str, Any]:
    """Write one row of the statement from the lines that belong together.

    cash, held: of the currency and of the symbol, after them.
    """
    first = lines[0]
    amounts = {line.kind: line.amount for line in lines}
    change = sum(amounts.values(), ZERO)
    fee = -amounts.get(IncomeKind.COMMISSION, ZERO) - amounts.get(IncomeKind.LIQUIDATION_FEE, ZERO)
    funding = amounts.get(IncomeKind.FUNDING, ZERO)
    kind = _LOG_TYPE.get(first.kind) or ("TRANSFER_IN" if change > 0 else "TRANSFER_OUT")
    kind = kind if fill is None else _LOG_TYPE_OF_FILL[fill.order.origin]
    execution = None if fill is None else execution_row(fill)
    of_funding = first.kind is IncomeKind.FUNDING
    return {
        "id": f"{first.income_id}",
        "symbol": first.symbol,
        "category": "linear" if first.symbol else "",
        "side": execution["side"] if execution else side_of(held) if of_funding else "None",
        "transactionTime": str(first.at_ms),
        "type": kind,
        "qty": execution["execQty"] if execution else plain(abs(held)) if of_funding else "0",
        "size": plain(held),
        "currency": first.currency,
        "tradePrice": execution["execPrice"] if execution else "0",
        "funding": plain(funding) if of_funding else "",
        "fee": plain(fee),
        "cashFlow": plain(change + fee - funding),
        "change": plain(change),
        "cashBalance": plain(cash),
        "feeRate": execution["feeRate"] if execution else "",
        "bonusChange": "",
        "tradeId": execution["execId"] if execution else "",
        "orderId": execution["orderId"] if execution else "",
        "orderLinkId": execution["orderLinkId"] if execution else "",
        "transSubType": "",
    }
