"""Orders by signed REST: placing, batches, cancelling, asking; refused with the venue's codes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.records import BankOrder
from adapters.rehearsal.bank.terms import (
    ZERO,
    OrderRequest,
    Origin,
    PositionMode,
    Refusal,
    RefusalReason,
    TimeInForce,
)
from adapters.rehearsal.binance.payloads import (
    TIMES_IN_FORCE,
    acknowledgement,
    counted,
    order_row,
)
from adapters.rehearsal.binance.refusals import error, malformed, refused
from adapters.rehearsal.binance.windows import limit_of, whole, window_of
from adapters.rehearsal.dialect import DialectError, invalid_symbol, missing
from adapters.rehearsal.market import Coin
from daemon.domain.order import OrderKind
from daemon.domain.units import DAY_MS

Query = Mapping[str, str]
BATCH_MAX: Final = 5
ORDERS_MAX: Final = 1_000
UNFILLED_KEPT_MS: Final = 3 * DAY_MS  # after its creation, an order without a fill is forgotten
FORCED: Final = {Origin.LIQUIDATION: "LIQUIDATION", Origin.FORCED_REDUCTION: "ADL"}
_CLIENT_ID: Final = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
_CONDITIONAL: Final = frozenset(
    {"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"}
)
_ENDS_AT_ONCE: Final = frozenset({TimeInForce.IOC, TimeInForce.FOK})


class Orders:
    """Answer what is asked about orders; `coins` tell the precision of prices and quantities."""

    def __init__(self, bank: Bank, coins: Mapping[str, Coin]) -> None:
        self._bank = bank
        self._coins = coins

    # ---- placing ---------------------------------------------------------------------------------

    def place(self, key: str, query: Query) -> dict[str, Any]:
        """Place an order and answer as `newOrderRespType` asks."""
        placed = self._bank.place(key, self.request_of(key, query))
        if isinstance(placed, Refusal):
            raise self._refused(key, placed, query)
        return _answer(placed, query)

    def place_batch(self, key: str, query: Query) -> list[dict[str, Any]]:
        """Place up to five orders; each is answered for itself, errors where the order would be."""
        answers = []
        for item in batch_of(query):
            try:
                answers.append(self.place(key, item))
            except DialectError as refusal:
                answers.append({"code": refusal.code, "msg": refusal.message})
        return answers

    def request_of(self, key: str, query: Query) -> OrderRequest:
        """Read an order; raise what the venue says where a parameter does not fit."""
        coin = self._coin(query)
        kind = _kind(query)
        self._check_side(key, query)
        quantity = self._quantity(coin, query)
        force, price = TimeInForce.GTC, None
        if kind is OrderKind.LIMIT:
            force, price = _force(query), self._price(coin, query)
        self._check_trigger(coin, query)
        client_id = query.get("newClientOrderId")
        if client_id is not None and not _CLIENT_ID.fullmatch(client_id):
            raise error(-4015, "Client order id is not valid.")
        return OrderRequest(
            coin.symbol,
            quantity if query["side"] == "BUY" else -quantity,
            kind,
            price,
            force,
            reduce_only=query.get("reduceOnly", "").lower() == "true",
            client_id=client_id,
        )

    def _coin(self, query: Query) -> Coin:
        symbol = query.get("symbol", "")
        if not symbol:
            raise missing("symbol")
        coin = self._coins.get(symbol)
        if coin is None or coin.listed_ms > self._bank.now_ms:
            raise invalid_symbol()
        return coin

    def _check_side(self, key: str, query: Query) -> None:
        if query.get("side") not in {"BUY", "SELL"}:
            raise error(-1117, "Invalid side.") if query.get("side") else missing("side")
        one_way = self._bank.position_mode(key) is PositionMode.ONE_WAY
        if one_way != (query.get("positionSide", "BOTH") == "BOTH"):
            raise error(-4061, "Order's position side does not match user's setting.")

    def _quantity(self, coin: Coin, query: Query) -> Decimal:
        quantity = _number(query, "quantity")
        if quantity <= 0:
            raise error(-4003, "Quantity less than or equal to zero.")
        if _decimals(quantity) > (coin.quantity_decimals or 0):
            raise error(-1111, "Precision is over the maximum defined for this asset.")
        return quantity

    def _price(self, coin: Coin, query: Query) -> Decimal:
        price = _number(query, "price")
        if price <= 0:
            raise error(-4001, "Price less than or equal to zero.")
        # the precision that the venue tells is finer than its tick, and so are its two refusals
        if _decimals(price) > min(8, (coin.price_decimals or 0) + 1):
            raise error(-1111, "Precision is over the maximum defined for this asset.")
        return price

    def _check_trigger(self, coin: Coin, query: Query) -> None:
        """Refuse conditional orders: one that would fire at once with a code of its own."""
        kind = query["type"]
        if kind not in _CONDITIONAL:
            return
        stop = _number(query, "stopPrice")
        last = self._bank.last_price(coin.symbol)
        rises = (query["side"] == "BUY") != kind.startswith("TAKE_PROFIT")
        if last is not None and (last >= stop if rises else last <= stop):
            raise error(-2021, "Order would immediately trigger.")
        text = "Order type not supported for this endpoint. Please use the Algo Order API"
        raise error(-4120, f"{text} endpoints instead.")

    def _refused(self, key: str, refusal: Refusal, query: Query) -> DialectError:
        if refusal.reason is RefusalReason.MARGIN:
            currency = self._bank.rules[query["symbol"]].currency
            if self._bank.balance(key, currency).equity <= 0:
                return error(-2018, "Balance is insufficient.")
        if refusal.reason is RefusalReason.PRICE_BAND and query["type"] == "LIMIT":
            last = self._bank.last_price(query["symbol"]) or ZERO
            if Decimal(query["price"]) > last:
                return refused(refusal, code=-4016, message="Limit price is above the cap.")
            return refused(refusal, code=-4024, message="Limit price is below the floor.")
        return refused(refusal)

    # ---- cancelling ------------------------------------------------------------------------------

    def cancel(self, key: str, query: Query) -> dict[str, Any]:
        """Cancel one order; one that ended is as unknown as one that never was."""
        coin = self._coin(query)
        order_id, client_id = _ids(query)
        done = self._bank.cancel(key, coin.symbol, order_id=order_id, client_id=client_id)
        if isinstance(done, Refusal):
            raise error(-2011, "Unknown order sent.")
        return acknowledgement(done)

    def cancel_batch(self, key: str, query: Query) -> list[dict[str, Any]]:
        """Cancel up to ten orders, each answered for itself."""
        ids = [("orderId", str(one)) for one in _list(query, "orderIdList", "orderidlist")]
        names = _list(query, "origClientOrderIdList", "origclientorderidlist")
        ids += [("origClientOrderId", str(one)) for one in names]
        if not ids or len(ids) > 2 * BATCH_MAX:
            raise missing("orderIdList")
        answers = []
        for name, value in ids:
            try:
                answers.append(self.cancel(key, {"symbol": query.get("symbol", ""), name: value}))
            except DialectError as refusal:
                answers.append({"code": refusal.code, "msg": refusal.message})
        return answers

    def cancel_all(self, key: str, query: Query) -> dict[str, Any]:
        """Cancel all open orders of a symbol."""
        self._bank.cancel_all(key, self._coin(query).symbol)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def countdown(self, key: str, query: Query) -> dict[str, Any]:
        """Set, renew or clear (0) the timer that cancels all open orders of a symbol."""
        coin, countdown_ms = self._coin(query), whole(query, "countdownTime")
        if countdown_ms is None:
            raise missing("countdownTime")
        self._bank.set_timer(key, countdown_ms, coin.symbol)
        return {"symbol": coin.symbol, "countdownTime": str(countdown_ms)}

    # ---- asking ----------------------------------------------------------------------------------

    def one(self, key: str, query: Query) -> dict[str, Any]:
        """Give an order, ended ones too."""
        coin = self._coin(query)
        order_id, client_id = _ids(query)
        found = self._bank.query(key, coin.symbol, order_id=order_id, client_id=client_id)
        if isinstance(found, Refusal) or self._is_forgotten(found):
            raise error(-2013, "Order does not exist.")
        return order_row(found)

    def _is_forgotten(self, order: BankOrder) -> bool:
        """Tell whether the venue has dropped an order: it ended unfilled and is days old."""
        age_ms = self._bank.now_ms - order.created_ms
        return not order.is_open and not order.filled and age_ms > UNFILLED_KEPT_MS

    def one_open(self, key: str, query: Query) -> dict[str, Any]:
        """Give an order that is open."""
        row = self.one(key, query)
        if row["status"] not in {"NEW", "PARTIALLY_FILLED"}:
            raise error(-2013, "Order does not exist.")
        return row

    def all_open(self, key: str, query: Query) -> list[dict[str, Any]]:
        """List the open orders of a symbol, or of all."""
        symbol = self._coin(query).symbol if query.get("symbol") else ""
        return [order_row(one) for one in self._bank.open_orders(key, symbol)]

    def all(self, key: str, query: Query) -> list[dict[str, Any]]:
        """List orders: from an id on, of a time window, or the newest."""
        coin, limit = self._coin(query), limit_of(query, 500, ORDERS_MAX)
        first = whole(query, "orderId")
        if first is not None:
            found = self._kept(key, coin.symbol, counted(coin.symbol, first) - 1)[:limit]
            return [order_row(one) for one in found]
        window = window_of(query, self._bank.now_ms)
        found = [o for o in self._kept(key, coin.symbol) if window.holds(o.created_ms)]
        return [order_row(one) for one in window.page(found, limit)]

    def _kept(self, key: str, symbol: str, after_id: int = 0) -> list[BankOrder]:
        found = self._bank.orders(key, symbol, after_id=after_id)
        return [order for order in found if not self._is_forgotten(order)]

    def forced(self, key: str, query: Query) -> list[dict[str, Any]]:
        """List what the venue itself closed: liquidations and forced reductions."""
        symbol = self._coin(query).symbol if query.get("symbol") else ""
        wanted, limit = query.get("autoCloseType"), limit_of(query, 50, 100)
        window = window_of(query, self._bank.now_ms)
        found = [
            order
            for order in self._bank.orders(key, symbol)
            if window.holds(order.created_ms)
            and order.origin in FORCED
            and wanted in (None, FORCED[order.origin])
        ]
        return [order_row(one) for one in window.page(found, limit)]


def batch_of(query: Query) -> list[dict[str, str]]:
    """Read the orders of a batch as the single orders that they are."""
    items = _list(query, "batchOrders")
    if not items:
        raise missing("batchOrders")
    if len(items) > BATCH_MAX:
        raise error(-4082, f"Invalid number of batch place orders: {len(items)}.")
    if not all(isinstance(item, dict) for item in items):
        raise malformed("batchOrders")
    return [{str(k): _text(v) for k, v in item.items()} for item in items]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list(query: Query, *names: str) -> list[Any]:
    text = next((query[name] for name in names if name in query), "[]")
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        raise malformed(names[0]) from None
    return found if isinstance(found, list) else []


def _ids(query: Query) -> tuple[int | None, str | None]:
    number, client_id = whole(query, "orderId"), query.get("origClientOrderId")
    order_id = None if number is None else counted(query["symbol"], number)
    if order_id is None and not client_id:
        text = "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!"
        raise error(-1102, text)
    return order_id, client_id


def _kind(query: Query) -> OrderKind:
    text = query.get("type", "")
    if not text:
        raise missing("type")
    if text in {"LIMIT", "MARKET"} or text in _CONDITIONAL:
        return OrderKind.LIMIT if text == "LIMIT" else OrderKind.MARKET
    raise error(-1116, "Invalid orderType.")


def _force(query: Query) -> TimeInForce:
    text = query.get("timeInForce", "")
    if not text:
        raise missing("timeInForce")
    force = TIMES_IN_FORCE.get(text)
    if force is None:
        raise error(-1115, "Invalid timeInForce.")
    return force


def _number(query: Query, name: str) -> Decimal:
    text = query.get(name, "")
    if not text:
        raise missing(name)
    try:
        found = Decimal(text)
    except InvalidOperation:
        raise malformed(name) from None
    if not found.is_finite():
        raise malformed(name)
    return found


def _decimals(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _answer(order: BankOrder, query: Query) -> dict[str, Any]:
    """Give the answer to a placed order: what is final at once is told, a resting one is new."""
    row = acknowledgement(order)
    ends = order.kind is OrderKind.MARKET or order.time_in_force in _ENDS_AT_ONCE
    if query.get("newOrderRespType", "ACK") == "RESULT" and ends:
        return row
    nothing = {"executedQty": "0", "cumQty": "0", "cumQuote": "0", "avgPrice": "0"}
    return {**row, **nothing, "status": "NEW", "updateTime": order.created_ms}
