"""The records of Bybit v5 linear contracts (unified account), as its REST answers hold them.

Funding comes in the list of executions, shaped like a trade of the whole position: `execType`
decides before anything else is read, and a type we do not know stops the reading.
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
    text_or_empty,
)
from daemon.domain.failures import BadPayload
from daemon.domain.order import DoneReason

_FILLS: Final = MappingProxyType(
    {
        "Trade": Cause.ORDER,
        "BlockTrade": Cause.ORDER,
        "MovePosition": Cause.ORDER,  # between accounts of one owner, at a price
        "FutureSpread": Cause.ORDER,  # a leg of a spread that the owner traded
        "AdlTrade": Cause.DELEVERAGING,
        "BustTrade": Cause.LIQUIDATION,
        "Delivery": Cause.SETTLEMENT,
    }
)
_CASH: Final = MappingProxyType(
    {"Funding": CashKind.FUNDING, "Settle": CashKind.OTHER, "SessionSettlePnL": CashKind.OTHER}
)
_LOG: Final = MappingProxyType(
    {
        "TRANSFER_IN": CashKind.TRANSFER,
        "TRANSFER_OUT": CashKind.TRANSFER,
        "SETTLEMENT": CashKind.FUNDING,
        "TRADE": CashKind.TRADE,
        "DELIVERY": CashKind.TRADE,
        "LIQUIDATION": CashKind.TRADE,
        "ADL": CashKind.TRADE,
    }
)
_STATES: Final = MappingProxyType(
    {
        "New": None,
        "PartiallyFilled": None,
        "Untriggered": None,
        "Triggered": None,
        "Filled": DoneReason.FILLED,
        "Cancelled": DoneReason.CANCELLED,
        "PartiallyFilledCanceled": DoneReason.CANCELLED,
        "Rejected": DoneReason.REJECTED,
        "Deactivated": DoneReason.EXPIRED,
    }
)


def execution(row: Row, sizes: Sizes = one_each) -> Execution | CashFlow:
    """Read one row of /v5/execution/list: a fill, or the cash flow that only looks like one."""
    kind = text(row, "execType")
    if kind in _CASH:
        return _cash_of_execution(row, _CASH[kind], kind)
    if kind not in _FILLS:
        raise BadPayload(f"execType: {kind!r} is unknown; it may or may not be a fill")
    symbol = text(row, "symbol")
    quantity = signed(positive(exact(row, "execQty"), "execQty"), text(row, "side"))
    return Execution(
        trade_id=text(row, "execId"),
        order_id=text(row, "orderId"),
        client_id=text_or_empty(row, "orderLinkId") or None,
        symbol_id=symbol,
        quantity=base_units(quantity, symbol, sizes),
        price=positive(exact(row, "execPrice"), "execPrice"),
        fee=exact(row, "execFee"),
        fee_currency=str(row.get("feeCurrency") or _settle(symbol)),
        at_ms=instant(row, "execTime"),
        cause=_FILLS[kind],
    )


def _cash_of_execution(row: Row, kind: CashKind, name: str) -> CashFlow:
    symbol = text(row, "symbol")
    return CashFlow(
        flow_id=text(row, "execId"),
        kind=kind,
        currency=str(row.get("feeCurrency") or _settle(symbol)),
        amount=-exact(row, "execFee"),  # here a positive one is paid: 0.10 means 0.10 USDT less
        symbol_id=symbol,
        at_ms=instant(row, "execTime"),
        name=name,
    )


def cash_flow(row: Row) -> CashFlow:
    """Read one row of /v5/account/transaction-log; change is what the balance moved by.

    It repeats the funding that /v5/execution/list tells: book either, never both. A liquidation's
    row that names no trade (its fee) is in no execution, so it moves cash by itself.
    """
    name = text(row, "type")
    kind = _LOG.get(name, CashKind.OTHER)
    if name == "LIQUIDATION" and not row.get("tradeId"):
        kind = CashKind.OTHER
    return CashFlow(
        flow_id=text(row, "id"),
        kind=kind,
        currency=text(row, "currency"),
        amount=exact(row, "change"),
        symbol_id=text_or_empty(row, "symbol"),
        at_ms=instant(row, "transactionTime"),
        name=name,
    )


def order_record(row: Row, sizes: Sizes = one_each) -> OrderRecord:
    """Read one order of /v5/order/realtime or /v5/order/history."""
    state, side, symbol = text(row, "orderStatus"), text(row, "side"), text(row, "symbol")
    if state not in _STATES:
        raise BadPayload(f"orderStatus: {state!r} is unknown")
    return OrderRecord(
        client_id=text_or_empty(row, "orderLinkId"),
        order_id=text(row, "orderId"),
        symbol_id=symbol,
        quantity=base_units(signed(exact(row, "qty"), side), symbol, sizes),
        filled=base_units(signed(exact(row, "cumExecQty"), side), symbol, sizes),
        done=_STATES[state],
        reduce_only=flag(row, "reduceOnly"),
        at_ms=instant(row, "updatedTime"),
        price=limit_price(row, "price"),
    )


def asked_order(payload: object, wanted: str, sizes: Sizes = one_each) -> OrderRecord | None:
    """Read the answer to a query by our client id; None for an empty list, said in good form.

    One empty list is not absence: the open and recent orders (/v5/order/realtime) and the history
    (/v5/order/history) must both be empty.
    """
    found = [order_record(row, sizes) for row in listed(payload)]
    if not found:
        return None
    if len(found) > 1 or found[0].client_id != wanted:
        names = [one.client_id for one in found]
        raise BadPayload(f"the answer is about {names}, not about {wanted!r}")
    return found[0]


def listed(payload: object) -> tuple[Row, ...]:
    """Give the rows of an answer of this venue; the form around them must be right."""
    whole = row_of(payload)
    if whole.get("retCode") != 0:
        raise BadPayload(f"retCode: {whole.get('retCode')!r}")
    return tuple(rows_of(row_of(whole.get("result")).get("list")))


def acknowledgement(payload: object, wanted: str) -> Acknowledgement:
    """Read the ids in the answer to a new order or a cancel: the answer holds nothing else."""
    result = row_of(row_of(payload).get("result"))
    return acknowledged(result, client="orderLinkId", order="orderId", wanted=wanted)


def holdings(payload: object, sizes: Sizes = one_each) -> tuple[Holding, ...]:
    """Read /v5/position/list; a flat one has no side."""
    return tuple(_holding(row, sizes) for row in listed(payload))


def _holding(row: Row, sizes: Sizes) -> Holding:
    symbol, size = text(row, "symbol"), exact(row, "size")
    quantity = base_units(signed(size, text(row, "side")), symbol, sizes) if size else size
    return Holding(
        symbol_id=symbol,
        quantity=quantity,
        entry_price=positive(exact(row, "avgPrice"), "avgPrice") if size else None,
        one_way=exact(row, "positionIdx") == 0,
        mark=mark_price(row, "markPrice") if size else None,
    )


def balances(payload: object) -> tuple[Balance, ...]:
    """Read the coins of /v5/account/wallet-balance."""
    accounts = listed(payload)
    if len(accounts) != 1:
        raise BadPayload(f"expected one account, got {len(accounts)}")
    return tuple(
        Balance(text(row, "coin"), exact(row, "walletBalance"), exact(row, "equity"))
        for row in rows_of(accounts[0].get("coin"))
    )


def _settle(symbol_id: str) -> str:
    """Name the currency of a linear contract.

    BTCUSDT and BTCUSDT-26DEC25 settle in USDT, BTCPERP and BTC-26DEC25 in USDC.
    """
    name, hyphen, _ = symbol_id.partition("-")
    if name.endswith("USDT"):
        return "USDT"
    if name.endswith("PERP") or hyphen:
        return "USDC"
    raise BadPayload(f"{symbol_id}: the currency of its fee is not said")
