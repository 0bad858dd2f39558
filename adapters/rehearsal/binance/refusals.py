"""What the venue says when it refuses: its codes and HTTP status for each of the bank's reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adapters.rehearsal.bank.terms import Refusal, RefusalReason
from adapters.rehearsal.dialect import DialectError

_CODES: Final[Mapping[RefusalReason, tuple[int, str]]] = {
    RefusalReason.UNKNOWN_SYMBOL: (-1121, "Invalid symbol."),
    RefusalReason.HALTED: (-4140, "Invalid symbol status for opening position."),
    RefusalReason.DELISTED: (-4141, "Symbol is closed."),
    RefusalReason.NO_PRICE: (-4108, "This contract is pending trading; it has no price yet."),
    RefusalReason.POSITION_MODE: (
        -4061,
        "Order's position side does not match user's setting.",
    ),
    RefusalReason.PRICE_PRECISION: (-4014, "Price not increased by tick size."),
    RefusalReason.PRICE_MISSING: (
        -1102,
        "Mandatory parameter 'price' was not sent, was empty/null, or malformed.",
    ),
    RefusalReason.PRICE_BAND: (
        -4131,
        "The counterparty's best price does not meet the PERCENT_PRICE filter limit.",
    ),
    RefusalReason.PRICE_MAX: (-4002, "Price greater than max price."),
    # too many decimals have another code, given before the bank is asked
    RefusalReason.QUANTITY_PRECISION: (-4023, "Qty not increased by step size."),
    RefusalReason.QUANTITY_MAX: (-4005, "Quantity greater than max quantity."),
    RefusalReason.QUANTITY_MIN: (-4004, "Quantity less than min quantity."),
    RefusalReason.NOTIONAL_MIN: (
        -4164,
        "Order's notional must be no smaller than the minimum (unless you choose reduce only).",
    ),
    RefusalReason.DUPLICATE_CLIENT_ID: (-4116, "ClientOrderId is duplicated."),
    RefusalReason.ORDERS_MAX: (-2025, "Reach max open order limit."),
    RefusalReason.REDUCE_ONLY: (-2022, "ReduceOnly Order is rejected."),
    RefusalReason.POST_ONLY: (
        -5022,
        "Due to the order could not be executed as maker, the Post Only order will be rejected.",
    ),
    RefusalReason.MARGIN: (-2019, "Margin is insufficient."),
    RefusalReason.UNKNOWN_ORDER: (-2013, "Order does not exist."),
    RefusalReason.ORDER_ENDED: (-2011, "Unknown order sent."),
    RefusalReason.LEVERAGE_RANGE: (-4028, "Leverage is not valid."),
    RefusalReason.MODE_LOCKED: (
        -4068,
        "Position side cannot be changed if there exists position or open orders.",
    ),
    RefusalReason.NO_CHANGE: (-4046, "No need to change margin type."),
    RefusalReason.FUNDS: (-2018, "Balance is insufficient."),
}


def error(code: int, message: str, *, status: int = 400) -> DialectError:
    """Give an error as the venue words it."""
    return DialectError(status, code, message)


def refused(refusal: Refusal, *, code: int | None = None, message: str = "") -> DialectError:
    """Give the venue's words for a refusal; some requests have a code of their own for it."""
    known, text = _CODES[refusal.reason]
    return error(known if code is None else code, message or text)


def malformed(parameter: str) -> DialectError:
    """Give the answer to a parameter that cannot be read."""
    return error(-1100, f"Illegal characters found in parameter '{parameter}'.")
