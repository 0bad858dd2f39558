"""The envelope of Bybit's answers, its codes, and what each refusal of the bank is called there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from adapters.rehearsal.bank.terms import Refusal, RefusalReason
from daemon.domain.failures import InvariantViolated

Query = Mapping[str, str]
INTEGER_MAX: Final = 10**14  # of an instant in ms: some three thousand years
_REASONS: Final[Mapping[RefusalReason, tuple[int, str]]] = {
    RefusalReason.UNKNOWN_SYMBOL: (10001, "params error: symbol invalid"),
    RefusalReason.HALTED: (110074, "This contract is not live"),
    RefusalReason.DELISTED: (110074, "This contract is not live"),
    RefusalReason.NO_PRICE: (110074, "This contract is not live"),
    RefusalReason.POSITION_MODE: (10001, "position idx not match position mode"),
    RefusalReason.PRICE_PRECISION: (10001, "params error: price invalid"),
    RefusalReason.PRICE_MISSING: (10001, "params error: price invalid"),
    RefusalReason.PRICE_BAND: (110003, "Order price exceeds the allowable range."),
    RefusalReason.PRICE_MAX: (110003, "Order price exceeds the allowable range."),
    RefusalReason.QUANTITY_PRECISION: (10001, "Qty invalid"),
    RefusalReason.QUANTITY_MAX: (
        10001,
        "The number of contracts exceeds maximum limit allowed: too large",
    ),
    RefusalReason.QUANTITY_MIN: (
        10001,
        "The number of contracts exceeds minimum limit allowed",
    ),
    RefusalReason.NOTIONAL_MIN: (110094, "Order does not meet minimum order value"),
    RefusalReason.DUPLICATE_CLIENT_ID: (110072, "OrderLinkedID is duplicate"),
    RefusalReason.ORDERS_MAX: (110020, "Not allowed to have more than 500 active orders"),
    RefusalReason.REDUCE_ONLY: (110017, "Reduce-only rule not satisfied"),
    RefusalReason.MARGIN: (110007, "ab not enough for new order"),
    RefusalReason.UNKNOWN_ORDER: (110001, "order not exists or too late to cancel"),
    RefusalReason.ORDER_ENDED: (110001, "order not exists or too late to cancel"),
    RefusalReason.LEVERAGE_RANGE: (110013, "Cannot set leverage due to risk limit"),
    RefusalReason.FUNDS: (110012, "Available balance not enough"),
}


class BybitError(Exception):
    """Carry an error as the venue words it; it comes with HTTP status 200 but for few."""

    def __init__(self, code: int, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

    def body(self, now_ms: int) -> str:
        """Write the error's JSON body."""
        return envelope({}, now_ms, code=self.code, message=self.message)


def envelope(
    result: Any, now_ms: int, *, code: int = 0, message: str = "OK", extra: Any = None
) -> str:
    """Write an answer."""
    return json.dumps(
        {
            "retCode": code,
            "retMsg": message,
            "result": result,
            "retExtInfo": {} if extra is None else extra,
            "time": now_ms,
        }
    )


def wrong_parameter(name: str) -> BybitError:
    """Give the answer to a parameter that is missing or cannot be read."""
    return BybitError(10001, f"params error: {name} invalid")


def refused(refusal: Refusal) -> BybitError:
    """Give the venue's error for a refusal of the bank."""
    found = _REASONS.get(refusal.reason)
    if found is None:
        raise InvariantViolated(f"refusal {refusal.reason} has another name at each door")
    return BybitError(*found)


def plain(value: Decimal) -> str:
    """Write a decimal without an exponent and without zeros at its end."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


# ---- reading parameters --------------------------------------------------------------------------


def integer(query: Query, name: str) -> int | None:
    """Read a whole number that need not be there."""
    text = query.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or int(text) > INTEGER_MAX:
        raise wrong_parameter(name)
    return int(text)


def limit_of(query: Query, default: int, most: int) -> int:
    """Read how many rows are wanted; more than the venue gives means as many as it gives."""
    limit = integer(query, "limit")
    if limit is None:
        return default
    if limit < 1:
        raise wrong_parameter("limit")
    return min(limit, most)


def linear_only(query: Query) -> None:
    """Refuse categories that this exchange does not have."""
    if query.get("category") != "linear":
        raise wrong_parameter("category")
