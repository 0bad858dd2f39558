"""The records of Binance USDⓈ-M futures (fapi), as its REST answers hold them.

Trade ids count per contract, and both sides of a trade with oneself share one: the contract and the
order belong to the id. Trades name no client id; liquidations and deleveragings are told by the
client id of their order (`autoclose-…`, `adl_autoclose`), see `cause_of`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from adapters.ccxt_venue.rows import (
    Acknowledgement,
    Balance,
    CashFlow,
    CashKind,
    Cause,
    Execution,
    Holding,
    OrderRecord,
    Row,
    Sizes,
    acknowledged,
    base_units,
    exact,
    flag,
    instant,
    limit_price,
    mark_price,
    one_each,
    positive,
    row_of,
    rows_of,
    signed,
    text,
)
from daemon.domain.failures import BadPayload
from daemon.domain.order import DoneReason

_STATES: Final = MappingProxyType(
    {
        "NEW": None,
        "PARTIALLY_FILLED": None,
        "FILLED": DoneReason.FILLED,
        "CANCELED": DoneReason.CANCELLED,
        "REJECTED": DoneReason.REJECTED,
        "EXPIRED": DoneReason.EXPIRED,
        "EXPIRED_IN_MATCH": DoneReason.EXPIRED,
    }
)
_INCOME: Final = MappingProxyType(
    {
        "FUNDING_FEE": CashKind.FUNDING,
        "TRANSFER": CashKind.TRANSFER,
        "INTERNAL_TRANSFER": CashKind.TRANSFER,
        "CROSS_COLLATERAL_TRANSFER": CashKind.TRANSFER,
        "STRATEGY_UMFUTURES_TRANSFER": CashKind.TRANSFER,
        "COIN_SWAP_DEPOSIT": CashKind.TRANSFER,
        "COIN_SWAP_WITHDRAW": CashKind.TRANSFER,
        "REALIZED_PNL": CashKind.TRADE,
        "COMMISSION": CashKind.TRADE,
    }
)
_FORCED: Final = (
    ("autoclose-", Cause.LIQUIDATION),
    ("adl_autoclose", Cause.DELEVERAGING),
    ("settlement_autoclose-", Cause.SETTLEMENT),
    ("delivery_autoclose-", Cause.SETTLEMENT),
)


def cause_of(client_id: str) -> Cause:
    """Tell from an order's client id whether the venue itself placed it."""
    return next((cause for start, cause in _FORCED if client_id.startswith(start)), Cause.ORDER)


def execution(row: Row, sizes: Sizes = one_each) -> Execution:
    """Read one row of /fapi/v1/userTrades."""
    symbol, order = text(row, "symbol"), text(row, "orderId")
    quantity = signed(positive(exact(row, "qty"), "qty"), text(row, "side"))
    return Execution(
        trade_id=f"{symbol}:{text(row, 'id')}:{order}",
        order_id=order,
        client_id=None,
        symbol_id=symbol,
        quantity=base_units(quantity, symbol, sizes),
        price=positive(exact(row, "price"), "price"),
        fee=exact(row, "commission"),
        fee_currency=text(row, "commissionAsset"),
        at_ms=instant(row, "time"),
    )


def cash_flow(row: Row) -> CashFlow:
    """Read one row of /fapi/v1/income; its sign is that of the cash already (negative is paid)."""
    name = text(row, "incomeType")
    return CashFlow(
        flow_id=f"{name}:{text(row, 'tranId')}:{row.get('symbol') or ''}",
        kind=_INCOME.get(name, CashKind.OTHER),
        currency=text(row, "asset"),
        amount=exact(row, "income"),
        symbol_id=str(row.get("symbol") or ""),
        at_ms=instant(row, "time"),
        name=name,
    )


def order_record(row: Row, sizes: Sizes = one_each) -> OrderRecord:
    """Read one order of /fapi/v1/order or /fapi/v1/openOrders."""
    state, side, symbol = text(row, "status"), text(row, "side"), text(row, "symbol")
    if state not in _STATES:
        raise BadPayload(f"status: {state!r} is unknown")
    return OrderRecord(
        client_id=text(row, "clientOrderId"),
        order_id=text(row, "orderId"),
        symbol_id=symbol,
        quantity=base_units(signed(exact(row, "origQty"), side), symbol, sizes),
        filled=base_units(signed(exact(row, "executedQty"), side), symbol, sizes),
        done=_STATES[state],
        reduce_only=flag(row, "reduceOnly"),
        at_ms=instant(row, "updateTime"),
        price=limit_price(row, "price"),
    )


def asked_order(payload: object, wanted: str, sizes: Sizes = one_each) -> OrderRecord:
    """Read the answer to a query by our client id; raises BadPayload for another order."""
    found = order_record(row_of(payload), sizes)
    if found.client_id != wanted:
        raise BadPayload(f"the answer is about {found.client_id!r}, not about {wanted!r}")
    return found


def acknowledgement(payload: object, wanted: str) -> Acknowledgement:
    """Read the ids in the answer to a new order or a cancel."""
    return acknowledged(row_of(payload), client="clientOrderId", order="orderId", wanted=wanted)


def holdings(payload: object, sizes: Sizes = one_each) -> tuple[Holding, ...]:
    """Read /fapi/v3/positionRisk: only what is held; the amount carries the sign."""
    return tuple(_holding(row, sizes) for row in rows_of(payload))


def _holding(row: Row, sizes: Sizes) -> Holding:
    symbol = text(row, "symbol")
    quantity = base_units(exact(row, "positionAmt"), symbol, sizes)
    entry = exact(row, "entryPrice")
    return Holding(
        symbol_id=symbol,
        quantity=quantity,
        entry_price=positive(entry, "entryPrice") if quantity else None,
        one_way=text(row, "positionSide") == "BOTH",
        mark=mark_price(row, "markPrice") if quantity else None,
    )


def balances(payload: object) -> tuple[Balance, ...]:
    """Read the assets of /fapi/v3/account."""
    return tuple(
        Balance(text(row, "asset"), exact(row, "walletBalance"), exact(row, "marginBalance"))
        for row in rows_of(row_of(payload).get("assets"))
    )
