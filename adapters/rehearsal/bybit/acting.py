"""Bybit's private REST half, acting: orders, cancels, leverage, modes, the cancel on disconnection.

An order's answer holds its two ids only. What an order became is asked for, or heard on a socket.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.bank.records import BankOrder
from adapters.rehearsal.bank.terms import (
    MarginMode,
    OrderRequest,
    PositionMode,
    Refusal,
    RefusalReason,
    TimeInForce,
)
from adapters.rehearsal.bybit.answers import BybitError, linear_only, refused, wrong_parameter
from adapters.rehearsal.bybit.asking import Desk, known_symbol
from adapters.rehearsal.bybit.payloads import bank_order_id, link_id, venue_order_id
from daemon.domain.order import OrderKind

Body = Mapping[str, Any]
BATCH_MAX: Final = 20
NUMBER_MAX: Final = Decimal(10**15)  # of a quantity or price; the bank reckons with 60 digits
WINDOW_S_MIN: Final = 3
WINDOW_S_MAX: Final = 300
_LINK_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,36}")
_TIMES: Final = {
    "GTC": TimeInForce.GTC,
    "IOC": TimeInForce.IOC,
    "FOK": TimeInForce.FOK,
    "PostOnly": TimeInForce.POST_ONLY,
}
_MARGIN_MODES: Final = {
    "REGULAR_MARGIN": MarginMode.CROSS,
    "ISOLATED_MARGIN": MarginMode.ISOLATED,
}
_POSITION_MODES: Final = {"0": PositionMode.ONE_WAY, "3": PositionMode.HEDGE}


def create(desk: Desk, who: KeySettings, body: Body) -> Any:
    """Place one order."""
    linear_only(body)
    return _ids(_placed(desk, who, body))


def create_batch(desk: Desk, who: KeySettings, body: Body) -> tuple[Any, Any]:
    """Place several orders, each answered on its own, in the order in which they were sent."""
    return _batch(desk, who, body, _placed)


def cancel_batch(desk: Desk, who: KeySettings, body: Body) -> tuple[Any, Any]:
    """Cancel several orders, each answered on its own."""
    return _batch(desk, who, body, _cancelled)


def _batch(
    desk: Desk,
    who: KeySettings,
    body: Body,
    act: Callable[[Desk, KeySettings, Body], BankOrder],
) -> tuple[Any, Any]:
    linear_only(body)
    wanted = body.get("request")
    if not isinstance(wanted, list) or not all(isinstance(one, dict) for one in wanted):
        raise wrong_parameter("request")
    if not 1 <= len(wanted) <= BATCH_MAX:
        raise BybitError(10001, f"the batch holds {len(wanted)}: 1 to {BATCH_MAX} are allowed")
    rows, codes = [], []
    for one in wanted:
        row = {"category": "linear", "symbol": one.get("symbol", "")}
        try:
            order = act(desk, who, one)
        except BybitError as refusal:
            rows.append(row | {"orderId": "", "orderLinkId": one.get("orderLinkId", "")})
            codes.append({"code": refusal.code, "msg": refusal.message})
        else:
            at = {"createAt": str(order.created_ms)}
            rows.append(row | _ids(order) | at)
            codes.append({"code": 0, "msg": "OK"})
    return {"list": rows}, {"list": codes}


def _placed(desk: Desk, who: KeySettings, body: Body) -> BankOrder:
    answer = desk.bank.place(who.key, _request(body))
    desk.exchange.accounts.say()
    if isinstance(answer, Refusal):
        raise refused(answer)
    return answer


def _request(body: Body) -> OrderRequest:
    """Read an order; raises BybitError naming what is wrong."""
    side, kind = str(body.get("side")), str(body.get("orderType"))
    if side not in {"Buy", "Sell"}:
        raise wrong_parameter("side")
    if kind not in {"Market", "Limit"}:
        raise wrong_parameter("orderType")
    if str(body.get("positionIdx", 0)) != "0":
        raise BybitError(10001, "position idx not match position mode")
    if any(body.get(name) for name in ("triggerPrice", "takeProfit", "stopLoss", "trailingStop")):
        raise BybitError(10001, "conditional orders are not part of this exchange")
    link = body.get("orderLinkId") or None
    if link is not None and not _LINK_ID.fullmatch(str(link)):
        raise wrong_parameter("OrderLinkId")
    time = _TIMES.get(str(body.get("timeInForce") or "GTC"))
    if time is None:
        raise wrong_parameter("timeInForce")
    size = _number(body, "qty")
    limit = kind == "Limit"
    return OrderRequest(
        symbol=str(body.get("symbol", "")),
        quantity=size if side == "Buy" else -size,
        kind=OrderKind.LIMIT if limit else OrderKind.MARKET,
        price=_number(body, "price") if limit and body.get("price") else None,
        time_in_force=time if limit else TimeInForce.GTC,
        reduce_only=body.get("reduceOnly") is True,
        client_id=None if link is None else str(link),
    )


def _number(body: Body, name: str) -> Decimal:
    try:
        number = Decimal(str(body.get(name, "")))
    except InvalidOperation:
        raise wrong_parameter(name) from None
    if not number.is_finite() or not 0 < number <= NUMBER_MAX:
        raise wrong_parameter(name)
    return number


def _ids(order: BankOrder) -> dict[str, str]:
    return {"orderId": venue_order_id(order.order_id), "orderLinkId": link_id(order)}


def cancel(desk: Desk, who: KeySettings, body: Body) -> Any:
    """Cancel one order by the venue's id or by the client's."""
    linear_only(body)
    return _ids(_cancelled(desk, who, body))


def _cancelled(desk: Desk, who: KeySettings, body: Body) -> BankOrder:
    symbol = known_symbol(desk, body)
    order_id, link = body.get("orderId"), body.get("orderLinkId")
    if not order_id and not link:
        # an id under any other name is not seen, as at the venue
        raise BybitError(10001, "params error: OrderId or orderLinkId is required")
    number = bank_order_id(str(order_id)) if order_id else None
    link = str(link) if link else None
    answer = desk.bank.cancel(who.key, symbol, order_id=number, client_id=link)
    desk.exchange.accounts.say()
    if isinstance(answer, Refusal):
        raise refused(answer)
    return answer


def cancel_all(desk: Desk, who: KeySettings, body: Body) -> Any:
    """Cancel all open orders of a symbol, or of a settlement coin."""
    linear_only(body)
    symbol, coin = str(body.get("symbol") or ""), str(body.get("settleCoin") or "")
    if symbol:
        known_symbol(desk, body)
    elif not coin:
        raise BybitError(10001, "params error: symbol, baseCoin or settleCoin is required")
    bank = desk.bank
    named = {one.symbol for one in bank.open_orders(who.key, symbol) if one.symbol.endswith(coin)}
    ended = [order for name in sorted(named) for order in bank.cancel_all(who.key, name)]
    desk.exchange.accounts.say()
    return {"list": [_ids(order) for order in ended], "success": "1"}


def set_leverage(desk: Desk, who: KeySettings, body: Body) -> Any:
    """Set the leverage of a symbol; both sides are one in one-way mode."""
    linear_only(body)
    symbol = known_symbol(desk, body)
    buys, sells = _number(body, "buyLeverage"), _number(body, "sellLeverage")
    if buys != sells:
        raise BybitError(10001, "buy leverage must equal sell leverage in one-way mode")
    if buys != int(buys):
        raise wrong_parameter("buyLeverage")
    answer = desk.bank.set_leverage(who.key, symbol, int(buys))
    if answer is not None and answer.reason is RefusalReason.NO_CHANGE:
        raise BybitError(110043, "leverage not modified")
    if answer is not None:
        raise refused(answer)
    return {}


def switch_mode(desk: Desk, who: KeySettings, body: Body) -> Any:
    """Set the position mode; it is one for the whole account here."""
    linear_only(body)
    mode = _POSITION_MODES.get(str(body.get("mode")))
    if mode is None:
        raise wrong_parameter("mode")
    if body.get("symbol"):
        known_symbol(desk, body)
    elif not body.get("coin"):
        raise wrong_parameter("coin")
    bank = desk.bank
    answer = bank.set_position_mode(who.key, mode)
    if answer is None:
        return {}
    if answer.reason is RefusalReason.NO_CHANGE:
        raise BybitError(110025, "Position mode is not modified")
    if bank.positions(who.key):
        raise BybitError(110024, "You have an existing position, so you may not switch modes")
    raise BybitError(110028, "You have existing open orders, so you may not switch modes")


def set_margin_mode(desk: Desk, who: KeySettings, body: Body) -> Any:
    """Set the margin mode of the whole account; only while it holds and orders nothing."""
    mode = _MARGIN_MODES.get(str(body.get("setMarginMode", "")))
    if mode is None:
        raise wrong_parameter("setMarginMode")
    bank = desk.bank
    if bank.positions(who.key) or bank.open_orders(who.key):
        raise BybitError(3400045, "Set margin mode failed")
    for symbol in desk.exchange.market.coins:
        answer = bank.set_margin_mode(who.key, symbol, mode)
        if answer is not None and answer.reason is not RefusalReason.NO_CHANGE:
            raise refused(answer)
    return {"reasons": []}


def cancel_when_disconnected(desk: Desk, who: KeySettings, body: Body) -> Any:
    """Set after how many seconds without its private socket an account's orders are cancelled."""
    window, product = body.get("timeWindow"), body.get("product", "OPTIONS")
    if not isinstance(window, int) or not WINDOW_S_MIN <= window <= WINDOW_S_MAX:
        raise wrong_parameter("timeWindow")
    if str(product) not in {"OPTIONS", "SPOT", "DERIVATIVES"}:
        raise wrong_parameter("product")
    if product == "DERIVATIVES":
        desk.windows_s[who.key] = window
    return {}


ROUTES: Final[Mapping[str, Callable[[Desk, KeySettings, Body], Any]]] = {
    "/v5/order/create": create,
    "/v5/order/cancel": cancel,
    "/v5/order/cancel-all": cancel_all,
    "/v5/position/set-leverage": set_leverage,
    "/v5/position/switch-mode": switch_mode,
    "/v5/account/set-margin-mode": set_margin_mode,
    "/v5/order/disconnected-cancel-all": cancel_when_disconnected,
}
BATCHES: Final[Mapping[str, Callable[[Desk, KeySettings, Body], tuple[Any, Any]]]] = {
    "/v5/order/create-batch": create_batch,
    "/v5/order/cancel-batch": cancel_batch,
}
