"""A venue's own records as exact values: what every dialect is read into, and how a field is read.

Decimals come from the venue's texts, never from ccxt's floats. Quantities are signed base units
(positive buys or is long), fees are positive when paid, cash is positive when received. A field
that is missing or odd raises BadPayload: nothing is ever read as zero or as 'nothing'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Final

from daemon.domain.failures import BadPayload
from daemon.domain.order import DoneReason
from daemon.domain.units import require

DIGITS_MAX: Final = 18  # before and behind the point
Row = Mapping[str, object]
Sizes = Callable[[str], Decimal]  # the contract size by the venue's symbol id


class Cause(StrEnum):
    """Say why a quantity changed hands."""

    ORDER = "order"  # an order, ours or the owner's
    LIQUIDATION = "liquidation"
    DELEVERAGING = "deleveraging"
    SETTLEMENT = "settlement"  # the contract ended


class CashKind(StrEnum):
    """Say what moved cash. TRADE is inside the executions and must not be booked a second time."""

    FUNDING = "funding"
    TRANSFER = "transfer"
    TRADE = "trade"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Execution:
    """Hold one exchange of quantity for cash.

    trade_id: unique at the venue. client_id: None where the venue does not repeat it. quantity:
    signed base units. fee: in fee_currency, positive is paid.
    """

    trade_id: str
    order_id: str
    client_id: str | None
    symbol_id: str
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_currency: str
    at_ms: int
    cause: Cause = Cause.ORDER


@dataclass(frozen=True, slots=True)
class CashFlow:
    """Hold one movement of cash without quantity; amount is signed, positive is received."""

    flow_id: str
    kind: CashKind
    currency: str
    amount: Decimal
    symbol_id: str
    at_ms: int
    name: str  # the venue's own word


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """Hold what a venue says of one order; done: None while it rests.

    quantity, filled: signed base units. price: its limit, 0 where it has none.
    """

    client_id: str
    order_id: str
    symbol_id: str
    quantity: Decimal
    filled: Decimal
    done: DoneReason | None
    reduce_only: bool
    at_ms: int
    price: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Hold the two ids by which a venue took an order or a cancel."""

    client_id: str
    order_id: str


@dataclass(frozen=True, slots=True)
class Holding:
    """Hold a venue's position: signed base units; entry_price: None when flat.

    mark: the venue's own price of it, which two readings of one holding may differ in.
    """

    symbol_id: str
    quantity: Decimal
    entry_price: Decimal | None
    one_way: bool
    mark: Decimal | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Balance:
    """Hold one currency: wallet without and margin with unrealised gains."""

    currency: str
    wallet: Decimal
    margin: Decimal


def row_of(value: object) -> Row:
    """Take a JSON object; raises BadPayload for anything else."""
    if not isinstance(value, dict):
        raise BadPayload(f"expected a record, got {type(value).__name__}")
    return value


def rows_of(value: object) -> Iterator[Row]:
    """Take a JSON list of objects; raises BadPayload for anything else, None included."""
    if not isinstance(value, list):
        raise BadPayload(f"expected a list of records, got {type(value).__name__}")
    return map(row_of, value)


def text(row: Row, name: str) -> str:
    """Read a text or whole number as text; an empty one is refused."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise BadPayload(f"{name}: {value!r} is no text")
    return str(value)


def text_or_empty(row: Row, name: str) -> str:
    """Read a text that the venue may leave empty; one that is absent is refused."""
    value = row.get(name)
    if not isinstance(value, str):
        raise BadPayload(f"{name}: {value!r} is no text")
    return value


def exact(row: Row, name: str) -> Decimal:
    """Read an exact number from a text or whole number; a float is refused."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadPayload(f"{name}: {value!r} is no exact number")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise BadPayload(f"{name}: {value!r} is no number") from None
    if not number.is_finite():
        raise BadPayload(f"{name}: {value!r} is not finite")
    if number and not -DIGITS_MAX <= number.adjusted() < DIGITS_MAX:
        # What follows could not be computed exactly, or not at all.
        raise BadPayload(f"{name}: {value!r} is beyond what an account can hold")
    return number


def instant(row: Row, name: str) -> int:
    """Read milliseconds since the epoch."""
    value = text(row, name)
    if not (value.isascii() and value.isdecimal()):
        raise BadPayload(f"{name}: {value!r} is no instant")
    return int(value)


def flag(row: Row, name: str) -> bool:
    """Read a boolean, which some venues write as a text."""
    value = row.get(name)
    if value is True or value == "true":
        return True
    if value is False or value == "false":
        return False
    raise BadPayload(f"{name}: {value!r} is no yes or no")


def signed(quantity: Decimal, side: str) -> Decimal:
    """Give a quantity its side's sign; raises BadPayload for an unknown side or a negative one."""
    if quantity < 0:
        raise BadPayload(f"quantity {quantity} has a sign beside its side {side!r}")
    match side.lower():
        case "buy":
            return quantity
        case "sell":
            return -quantity
        case _:
            raise BadPayload(f"side {side!r} is neither buy nor sell")


def limit_price(row: Row, name: str) -> Decimal:
    """Read the limit of an order; 0 where the venue shows none."""
    return exact(row, name) if row.get(name) else Decimal(0)


def mark_price(row: Row, name: str) -> Decimal | None:
    """Read a venue's own price of a position; None where it shows none."""
    return positive(exact(row, name), name) if row.get(name) else None


def positive(number: Decimal, name: str) -> Decimal:
    """Refuse what is not positive."""
    if number <= 0:
        raise BadPayload(f"{name}: {number} is not positive")
    return number


def acknowledged(row: Row, *, client: str, order: str, wanted: str) -> Acknowledgement:
    """Read both ids of an answer, which must be about the order that was asked about."""
    found = Acknowledgement(text(row, client), text(row, order))
    if found.client_id != wanted:
        raise BadPayload(f"the answer is about {found.client_id!r}, not about {wanted!r}")
    return found


def one_each(symbol_id: str) -> Decimal:
    """Give the contract size of venues that count in base units: 1, whatever the contract."""
    return _ONE


def base_units(quantity: Decimal, symbol_id: str, sizes: Sizes) -> Decimal:
    """Turn a number of contracts into base units: 3 contracts of 0.01 BTC are 0.03 BTC."""
    size = sizes(symbol_id)
    require(size > 0, f"contract size {size} of {symbol_id} must be positive")
    return quantity * size


_ONE = Decimal(1)
