"""Orders as intentions with our own id, and what the venue has admitted of them.

`OrderState` is a closed union; the table of allowed transitions is in `daemon.engine.orders`.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Final, NewType

from msgspec import Struct

from daemon.domain.instrument import InstrumentKey

OrderId = NewType("OrderId", str)


class OrderKind(StrEnum):
    """Name how an order meets the market."""

    MARKET = "market"
    LIMIT = "limit"


class Order(Struct, frozen=True, gc=False):
    """Describe one intention to trade.

    quantity: signed base units (positive buys). limit_price: None for market orders. index is the
    instrument's place in the universe. reference_price: the mark it was sized with. post_only:
    a limit order that the venue refuses rather than let it take what rests.
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
    post_only: bool = False


class Fill(Struct, frozen=True, gc=False):
    """Record an exchanged quantity.

    quantity: signed base units. fee: quote currency, >= 0 is paid. trade_id is the venue's and is
    unique per venue: a fill counts once. other_fee: what was charged in `other_currency` instead.
    """

    trade_id: str
    order_id: OrderId
    key: InstrumentKey
    index: int
    quantity: Decimal
    price: Decimal
    fee: Decimal
    at_ms: int
    other_fee: Decimal = Decimal(0)
    other_currency: str = ""


SETTLEMENT_PREFIX: Final = "settlement:"
"""Begins the order id of a fill by which a venue closes a position in a contract that ends."""
LIQUIDATION_PREFIX: Final = "liquidation:"
"""Begins the order id of a fill by which a venue takes a position over for want of margin."""
DELEVERAGING_PREFIX: Final = "deleveraging:"
"""Begins the order id of a fill by which a venue reduces a position to close somebody else's."""


FOREIGN_PREFIX: Final = "venue:"
"""Begins the id of an order that is not ours, and of its fills: contract, colon, the venue's id."""

OUTSIDE: Final = -1
"""Stands for the column of a contract that is not of the universe."""


class DoneReason(StrEnum):
    """Say how an order ended."""

    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    ABSENT = "absent"  # the venue answered that it never had it
    EXPIRED = "expired"


class InFlight(Struct, frozen=True, gc=False):
    """The intention is journalled and sent; the venue has not answered yet."""


class Resting(Struct, frozen=True, gc=False):
    """The venue admitted the order and works on what is left of it."""


class Uncertain(Struct, frozen=True, gc=False):
    """No answer tells whether the order exists; it is asked about, never sent again.

    asked: questions so far. ask_ms: market time before which it is not asked about again.
    """

    asked: int = 0
    ask_ms: int = 0


class Done(Struct, frozen=True, gc=False):
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
    STANDING = "standing"
    BETA = "beta_weight_max"
    VENUE = "venue_weight_max"
    COLLAR = "collar_bps"
    ORDERS_MINUTE = "orders_minute_max"
    MARGIN = "margin_ratio_max"


class Approved(Struct, frozen=True, gc=False):
    """Prove that risk let an order pass; only this can be submitted."""

    order: Order


class Refused(Struct, frozen=True):
    """Record that risk stopped an order, and why."""

    order: Order
    reason: RefusalReason
    detail: str
