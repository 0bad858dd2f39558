"""The records of OKX v5 linear swaps, as its REST answers hold them.

Quantities are whole or fractional *contracts* of a base amount that differs from swap to swap, so
every reader here takes `sizes` and has no default. Fees are negative when paid. Trade ids count per
contract, and both sides of a trade with oneself share one.
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
    positive,
    row_of,
    rows_of,
    signed,
    text,
    text_or_empty,
)
from daemon.domain.failures import BadPayload
from daemon.domain.order import DoneReason

_BILLS: Final = MappingProxyType(
    {
        "1": CashKind.TRANSFER,
        "2": CashKind.TRADE,
        "3": CashKind.TRADE,  # delivery
        "5": CashKind.TRADE,  # liquidation
        "8": CashKind.FUNDING,
        "9": CashKind.TRADE,  # deleveraging
    }
)
_FORCED_SUBTYPES: Final = MappingProxyType(
    {
        **dict.fromkeys(map(str, range(100, 108)), Cause.LIQUIDATION),
        **dict.fromkeys(map(str, range(125, 129)), Cause.DELEVERAGING),
        **dict.fromkeys(("112", "113"), Cause.SETTLEMENT),
    }
)
_STATES: Final = MappingProxyType(
    {
        "live": None,
        "partially_filled": None,
        "filled": DoneReason.FILLED,
        "canceled": DoneReason.CANCELLED,
        "mmp_canceled": DoneReason.CANCELLED,
    }
)


def execution(row: Row, sizes: Sizes) -> Execution:
    """Read one row of /api/v5/trade/fills or fills-history."""
    symbol, order = text(row, "instId"), text(row, "ordId")
    contracts = signed(positive(exact(row, "fillSz"), "fillSz"), text(row, "side"))
    return Execution(
        trade_id=f"{symbol}:{text(row, 'tradeId')}:{order}",
        order_id=order,
        client_id=text_or_empty(row, "clOrdId") or None,
        symbol_id=symbol,
        quantity=base_units(contracts, symbol, sizes),
        price=positive(exact(row, "fillPx"), "fillPx"),
        fee=-exact(row, "fee"),  # here a negative one is paid: -0.05 means 0.05 USDT less
        fee_currency=text(row, "feeCcy"),
        at_ms=instant(row, "ts"),
        cause=_FORCED_SUBTYPES.get(str(row.get("subType")), Cause.ORDER),
    )


def cash_flow(row: Row) -> CashFlow:
    """Read one row of /api/v5/account/bills; its sign is that of the cash already."""
    kind = text(row, "type")
    return CashFlow(
        flow_id=text(row, "billId"),
        kind=_BILLS.get(kind, CashKind.OTHER),
        currency=text(row, "ccy"),
        amount=exact(row, "balChg"),
        symbol_id=text_or_empty(row, "instId"),
        at_ms=instant(row, "ts"),
        name=f"{kind}/{row.get('subType') or ''}",
    )


def order_record(row: Row, sizes: Sizes) -> OrderRecord:
    """Read one order of /api/v5/trade/order or orders-pending."""
    state, side, symbol = text(row, "state"), text(row, "side"), text(row, "instId")
    if state not in _STATES:
        raise BadPayload(f"state: {state!r} is unknown")
    return OrderRecord(
        client_id=text_or_empty(row, "clOrdId"),
        order_id=text(row, "ordId"),
        symbol_id=symbol,
        quantity=base_units(signed(exact(row, "sz"), side), symbol, sizes),
        filled=base_units(signed(exact(row, "accFillSz"), side), symbol, sizes),
        done=_STATES[state],
        reduce_only=flag(row, "reduceOnly"),
        at_ms=instant(row, "uTime"),
        price=limit_price(row, "px"),
    )


def asked_order(payload: object, wanted: str, sizes: Sizes) -> OrderRecord:
    """Read the answer to a query by our client id; raises BadPayload for another order."""
    found = order_record(_only(payload), sizes)
    if found.client_id != wanted:
        raise BadPayload(f"the answer is about {found.client_id!r}, not about {wanted!r}")
    return found


def acknowledgement(payload: object, wanted: str) -> Acknowledgement:
    """Read the ids in the answer to a new order or a cancel; the item must say success itself."""
    row = _only(payload)
    if row.get("sCode") != "0":
        raise BadPayload(f"sCode: {row.get('sCode')!r}")
    return acknowledged(row, client="clOrdId", order="ordId", wanted=wanted)


def listed(payload: object) -> tuple[Row, ...]:
    """Give the rows of an answer of this venue; the form around them must be right."""
    whole = row_of(payload)
    if whole.get("code") != "0":
        raise BadPayload(f"code: {whole.get('code')!r}")
    return tuple(rows_of(whole.get("data")))


def holdings(payload: object, sizes: Sizes) -> tuple[Holding, ...]:
    """Read /api/v5/account/positions; in one-way mode the amount carries the sign."""
    return tuple(_holding(row, sizes) for row in listed(payload))


def _holding(row: Row, sizes: Sizes) -> Holding:
    symbol, side = text(row, "instId"), text(row, "posSide")
    contracts = exact(row, "pos")
    if side == "short":
        contracts = -abs(contracts)
    elif side not in {"net", "long"}:
        raise BadPayload(f"posSide: {side!r} is unknown")
    return Holding(
        symbol_id=symbol,
        quantity=base_units(contracts, symbol, sizes),
        entry_price=positive(exact(row, "avgPx"), "avgPx") if contracts else None,
        one_way=side == "net",
        mark=mark_price(row, "markPx") if contracts else None,
    )


def balances(payload: object) -> tuple[Balance, ...]:
    """Read the currencies of /api/v5/account/balance."""
    return tuple(
        Balance(text(row, "ccy"), exact(row, "cashBal"), exact(row, "eq"))
        for row in rows_of(_only(payload).get("details"))
    )


def _only(payload: object) -> Row:
    rows = listed(payload)
    if len(rows) != 1:
        raise BadPayload(f"expected one record, got {len(rows)}")
    return rows[0]
