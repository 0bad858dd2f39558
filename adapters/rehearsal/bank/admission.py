"""Admission: whether a request becomes an order, and if not, why, in no venue's words.

Checks run in a fixed order, from the shape of the request to the state of the account; the first
one that fails is the answer. A refused request leaves no trace.
"""

from __future__ import annotations

from decimal import Decimal

from adapters.rehearsal.bank.depth import best_price, would_take
from adapters.rehearsal.bank.desk import Desk
from adapters.rehearsal.bank.margin import can_afford
from adapters.rehearsal.bank.records import Account
from adapters.rehearsal.bank.terms import (
    BPS,
    ClientIds,
    OrderRequest,
    PositionMode,
    Refusal,
    RefusalReason,
    SymbolRules,
    TimeInForce,
)
from daemon.domain.order import OrderKind


def refusal_of(desk: Desk, account: Account, request: OrderRequest) -> Refusal | None:
    """Give the reason against a request, None where there is none."""
    refused = symbol_refusal(desk, request.symbol)
    if refused is not None:
        return refused
    rules, mark = desk.rules[request.symbol], desk.mark(request.symbol)
    if mark is None:
        return Refusal(RefusalReason.NO_PRICE, f"{request.symbol} has not traded yet")
    return (
        _shape_refusal(rules, request)
        or _size_refusal(rules, request, mark)
        or _band_refusal(desk, request, mark)
        or _id_refusal(desk, account, request)
        or _account_refusal(desk, account, request, mark)
    )


def symbol_refusal(desk: Desk, symbol: str) -> Refusal | None:
    """Give the reason for which nothing can be traded in a symbol now."""
    rules, now_ms = desk.rules.get(symbol), desk.now_ms
    if rules is None or now_ms < rules.listed_ms:
        return Refusal(RefusalReason.UNKNOWN_SYMBOL, f"{symbol!r} is not listed")
    ended_ms = desk.end_of(symbol)
    if ended_ms is not None and now_ms >= ended_ms:
        return Refusal(RefusalReason.DELISTED, f"{symbol} ended at {ended_ms}")
    if desk.is_halted(symbol):
        return Refusal(RefusalReason.HALTED, f"{symbol} is halted")
    return None


def _shape_refusal(rules: SymbolRules, request: OrderRequest) -> Refusal | None:
    size, price = abs(request.quantity), request.price
    most = rules.market_max if request.kind is OrderKind.MARKET else rules.quantity_max
    if most is not None and size.is_finite() and size > most:
        return Refusal(RefusalReason.QUANTITY_MAX, f"quantity {size} is above {most}")
    if not size.is_finite() or size % rules.quantity_step:
        text = f"quantity {size} is no multiple of {rules.quantity_step}"
        return Refusal(RefusalReason.QUANTITY_PRECISION, text)
    if size < rules.quantity_min:
        text = f"quantity {size} is below {rules.quantity_min}"
        return Refusal(RefusalReason.QUANTITY_MIN, text)
    if request.kind is OrderKind.MARKET:
        return None
    if price is None:
        return Refusal(RefusalReason.PRICE_MISSING, "a limit order names its price")
    if rules.price_max is not None and price.is_finite() and price > rules.price_max:
        return Refusal(RefusalReason.PRICE_MAX, f"price {price} is above {rules.price_max}")
    if not price.is_finite() or price <= 0 or price % rules.price_step:
        text = f"price {price} is no multiple of {rules.price_step}"
        return Refusal(RefusalReason.PRICE_PRECISION, text)
    return None


def _size_refusal(rules: SymbolRules, request: OrderRequest, mark: Decimal) -> Refusal | None:
    notional = abs(request.quantity) * (request.price or mark)
    if request.reduce_only or notional >= rules.notional_min:
        return None
    text = f"notional {notional} is below {rules.notional_min}"
    return Refusal(RefusalReason.NOTIONAL_MIN, text)


def _band_refusal(desk: Desk, request: OrderRequest, mark: Decimal) -> Refusal | None:
    # a market order is held against the first price that it would get
    price = request.price or best_price(desk, request.symbol, mark, buys=request.quantity > 0)
    # what is far on the passive side harms nobody, and no venue refuses it
    away = price - mark if request.quantity > 0 else mark - price
    if away * BPS <= mark * desk.settings.price_band_bps:
        return None
    text = f"price {price} is over {desk.settings.price_band_bps} bps from {mark}"
    return Refusal(RefusalReason.PRICE_BAND, text)


def _id_refusal(desk: Desk, account: Account, request: OrderRequest) -> Refusal | None:
    open_n = len(account.open_ids.get(request.symbol, ()))
    if open_n >= desk.settings.orders_open_max:
        return Refusal(RefusalReason.ORDERS_MAX, f"{open_n} orders are open in {request.symbol}")
    newest = account.newest_by_client_id.get(request.client_id or "")
    if newest is None:
        return None
    for_ever = desk.settings.client_ids is ClientIds.UNIQUE_FOR_EVER
    if for_ever or account.orders[newest].is_open:
        text = f"client id {request.client_id!r} is order {newest}"
        return Refusal(RefusalReason.DUPLICATE_CLIENT_ID, text)
    return None


def _account_refusal(
    desk: Desk, account: Account, request: OrderRequest, mark: Decimal
) -> Refusal | None:
    if account.position_mode is not PositionMode.ONE_WAY:
        return Refusal(RefusalReason.POSITION_MODE, "orders here are for one-way positions")
    held = account.position(request.symbol).quantity
    if request.reduce_only and held * request.quantity >= 0:
        text = f"{request.quantity} would open, {held} is held"
        return Refusal(RefusalReason.REDUCE_ONLY, text)
    posts = request.time_in_force is TimeInForce.POST_ONLY and request.price is not None
    posts = posts and desk.settings.refuses_post_only
    if posts and would_take(desk, request.symbol, mark, request.quantity, request.price or mark):
        return Refusal(RefusalReason.POST_ONLY, f"{request.price} would take at once")
    if not request.reduce_only and not can_afford(desk, account, request):
        return Refusal(RefusalReason.MARGIN, f"the margin does not carry {request.quantity}")
    return None
