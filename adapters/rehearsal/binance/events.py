"""What the bank announces, as frames of the user stream."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from adapters.rehearsal.bank.records import (
    AccountUpdated,
    BankEvent,
    BankOrder,
    IncomeKind,
    OrderFilled,
    OrderStatus,
    OrderUpdated,
    Trade,
)
from adapters.rehearsal.bank.terms import ZERO, MarginMode, Origin
from adapters.rehearsal.binance.payloads import (
    FORCES,
    STATUSES,
    client_id_of,
    money_text,
    order_type,
    plain,
    shown,
    side,
)

_CAUSES: Final = {
    IncomeKind.REALISED: "ORDER",
    IncomeKind.COMMISSION: "ORDER",
    IncomeKind.FUNDING: "FUNDING_FEE",
    IncomeKind.LIQUIDATION_FEE: "INSURANCE_CLEAR",
    IncomeKind.INSURANCE: "INSURANCE_CLEAR",
}
_BY_VENUE: Final = frozenset({Origin.LIQUIDATION, Origin.FORCED_REDUCTION})
_EXECUTIONS: Final = {
    OrderStatus.NEW: "NEW",
    OrderStatus.CANCELLED: "CANCELED",
    OrderStatus.EXPIRED: "EXPIRED",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """Hold one message for the sockets of an account."""

    key: str
    symbol: str
    text: str
    is_fill: bool = False


def order_frame(event: BankEvent) -> Frame | None:
    """Write what happened to an order; None for what the venue says nothing about."""
    match event:
        case OrderUpdated():
            text = _order_text(event.order, None, event.at_ms)
            return Frame(event.account, event.order.symbol, text)
        case OrderFilled():
            text = _order_text(event.order, event.trade, event.at_ms)
            return Frame(event.account, event.order.symbol, text, is_fill=True)
        case _:
            return None


def account_frame(event: AccountUpdated, mode: MarginMode, previous: Decimal) -> Frame:
    """Write what cash and position are now.

    mode: margin mode of the event's symbol. previous: the cash as it was last said.
    """
    return Frame(event.account, event.symbol, _account_text(event, mode, previous))


def config_text(symbol: str, leverage: int, now_ms: int) -> str:
    """Write that the leverage of a symbol was set."""
    body = {"e": "ACCOUNT_CONFIG_UPDATE", "E": now_ms, "T": now_ms}
    return json.dumps({**body, "ac": {"s": symbol, "l": leverage}})


def expired_text(listen_key: str, now_ms: int) -> str:
    """Write that a listen key is no more."""
    return json.dumps({"e": "listenKeyExpired", "E": now_ms, "listenKey": listen_key})


def _order_text(order: BankOrder, trade: Trade | None, at_ms: int) -> str:
    kind = order_type(order)
    row: dict[str, Any] = {
        "s": order.symbol,
        "c": client_id_of(order),
        "S": side(order.quantity),
        "o": kind,
        "f": FORCES[order.time_in_force],
        "q": plain(abs(order.quantity)),
        "p": plain(order.price or ZERO),
        "ap": plain(order.average_price or ZERO),
        "sp": "0",
        "x": _execution(order, trade),
        "X": STATUSES[order.status],
        "i": shown(order.symbol, order.order_id),
        "l": plain(abs(trade.quantity)) if trade else "0",
        "z": plain(abs(order.filled)),
        "L": plain(trade.price) if trade else "0",
        "N": trade.currency if trade else "USDT",
        "n": money_text(trade.fee) if trade else "0",
        "T": at_ms,
        "t": shown(trade.symbol, trade.trade_id) if trade else 0,
        "b": "0",
        "a": "0",
        "m": trade.is_maker if trade else False,
        "R": order.reduce_only,
        "wt": "CONTRACT_PRICE",
        "ot": kind,
        "ps": "BOTH",
        "cp": False,
        "rp": money_text(trade.realised) if trade else "0",
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": "EXPIRE_MAKER",
        "pm": "NONE",
        "gtd": 0,
    }
    return json.dumps({"e": "ORDER_TRADE_UPDATE", "E": at_ms, "T": at_ms, "o": row})


def _execution(order: BankOrder, trade: Trade | None) -> str:
    if trade is None:
        return _EXECUTIONS.get(order.status, "NEW")
    return "CALCULATED" if order.origin in _BY_VENUE else "TRADE"


def _account_text(event: AccountUpdated, mode: MarginMode, previous: Decimal) -> str:
    changed = event.cash - previous
    if event.cause is IncomeKind.TRANSFER:
        cause = "DEPOSIT" if changed >= 0 else "WITHDRAW"
    else:
        cause = _CAUSES[event.cause]
    cash = {
        "a": event.currency,
        "wb": money_text(event.cash),
        "cw": money_text(event.cash),
        # what neither trades nor their fees changed
        "bc": money_text(ZERO if cause == "ORDER" else changed),
    }
    body: dict[str, Any] = {"m": cause, "B": [cash], "P": []}
    says_position = cause != "FUNDING_FEE" or mode is MarginMode.ISOLATED
    if event.symbol and says_position:
        body["P"].append(_position(event, mode))
    message = {"e": "ACCOUNT_UPDATE", "E": event.at_ms, "T": event.at_ms, "a": body}
    return json.dumps(message)


def _position(event: AccountUpdated, mode: MarginMode) -> dict[str, Any]:
    held = event.position
    return {
        "s": event.symbol,
        "pa": plain(held.quantity),
        "ep": plain(held.entry_price),
        "bep": plain(held.entry_price),
        "cr": "0",
        "up": "0",
        "mt": mode.value,
        "iw": money_text(held.margin),
        "ps": "BOTH",
        "ma": event.currency,
    }
