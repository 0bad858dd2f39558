"""Orders as intentions with our own id, and what the venue has admitted of them.

`OrderState` is a closed union; the table of allowed transitions is in `daemon.engine.orders`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NewType

from daemon.domain.instrument import InstrumentKey
from daemon.domain.quick import quickly_made

OrderId = NewType("OrderId", str)


class OrderKind(StrEnum):
    """Name how an order meets the market."""

    MARKET = "market"
    LIMIT = "limit"


@quickly_made
@dataclass(frozen=True, slots=True)
class Order:
    """Describe one intention to trade.

    quantity: signed base units (positive buys). limit_price: None for market orders. index is the
    instrument's place in the universe. reference_price: the mark it was sized with.
    """

    order_id: OrderId
    key: InstrumentKey
    index: int
    quantity: Decimal
    kind: OrderKind
    as_of_ms: int
    reference_price: float
    limit_price: Decimal | None = None
    reduce_only: bool = False


@quickly_made
@dataclass(frozen=True, slots=True)
class Fill:
    """Record an exchanged quantity.

    quantity: signed base units. fee: quote currency, >= 0 is paid. trade_id is the venue's and is
    unique per venue: a fill counts once.
    """

    trade_id: str
    order_id: OrderId
    key: InstrumentKey
    index: int
    quantity: Decimal
    price: Decimal
    fee: Decimal
    at_ms: int


class DoneReason(StrEnum):
    """Say how an order ended."""

    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    ABSENT = "absent"  # the venue answered that it never had it
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class InFlight:
    """The intention is journalled and sent; the venue has not answered yet."""


@dataclass(frozen=True, slots=True)
class Resting:
    """The venue admitted the order and works on what is left of it."""


@dataclass(frozen=True, slots=True)
class Uncertain:
    """No answer tells whether the order exists; it is asked about, never sent again."""

    asked: int = 0


@quickly_made
@dataclass(frozen=True, slots=True)
class Done:
    """The order is over."""

    why: DoneReason


OrderState = InFlight | Resting | Uncertain | Done


class RefusalReason(StrEnum):
    """Say why risk refused an order."""

    HALTED = "halted"
    REDUCE_ONLY = "reduce_only"
    GROSS = "gross_weight_max"
    NET = "net_weight_max"
    NAME = "name_weight_max"
    QUANTITY_STEP = "quantity_step"
    QUANTITY_MIN = "quantity_min"
    NOTIONAL_MIN = "notional_min"
    ORDER_SIZE = "order_weight_max"
    PRICE = "price_unknown"
    STALE = "stale_mark"
    ORDER_COUNT = "orders_open_max"


@quickly_made
@dataclass(frozen=True, slots=True)
class Approved:
    """Prove that risk let an order pass; only this can be submitted."""

    order: Order


@dataclass(frozen=True, slots=True)
class Refused:
    """Record that risk stopped an order, and why."""

    order: Order
    reason: RefusalReason
    detail: str
