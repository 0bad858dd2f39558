"""What the bank keeps and says: orders, trades, statement lines, accounts, events, its whole state.

Facts are frozen and replaced when they change, so that an event keeps what was true when it was
said. Accounts and the state are the only mutable values. All of it goes to plain values and back.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct, field

from adapters.rehearsal.bank.terms import (
    ZERO,
    MarginMode,
    Origin,
    PositionMode,
    TimeInForce,
)
from daemon.domain.order import OrderKind
from daemon.domain.units import money


class OrderStatus(StrEnum):
    """Say where an order is in its life; the last three are final."""

    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


OPEN_STATUSES = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})


class EndReason(StrEnum):
    """Say why an order ended unfilled."""

    REQUESTED = "requested"
    TIMER = "timer"
    LIQUIDATION = "liquidation"
    DELISTED = "delisted"
    HALTED = "halted"
    NO_DEPTH = "no_depth"  # IOC, FOK and market orders: what the book did not give at once
    POST_ONLY = "post_only"
    REDUCE_ONLY = "reduce_only"  # the position that it was to reduce is gone


class IncomeKind(StrEnum):
    """Name the kinds of statement lines."""

    REALISED = "realised"
    COMMISSION = "commission"
    FUNDING = "funding"
    TRANSFER = "transfer"
    LIQUIDATION_FEE = "liquidation_fee"
    INSURANCE = "insurance"  # the venue makes good what a liquidation lost beyond the margin


class BankOrder(Struct, frozen=True):
    """Hold an order as the venue sees it; quantity and filled carry the same sign.

    paid: sum of |filled| x price, quote currency. active_ms: when it reaches the book. arrived:
    whether it has.
    """

    order_id: int
    client_id: str
    symbol: str
    quantity: Decimal
    kind: OrderKind
    price: Decimal | None
    time_in_force: TimeInForce
    reduce_only: bool
    origin: Origin
    created_ms: int
    active_ms: int
    updated_ms: int
    status: OrderStatus = OrderStatus.NEW
    arrived: bool = False
    filled: Decimal = ZERO
    paid: Decimal = ZERO
    end_reason: EndReason | None = None

    @property
    def is_open(self) -> bool:
        """Tell whether more of it may be filled."""
        return self.status in OPEN_STATUSES

    @property
    def left(self) -> Decimal:
        """Give the signed quantity that is not filled."""
        return self.quantity - self.filled

    @property
    def average_price(self) -> Decimal | None:
        """Give the mean price of what is filled, rounded to 1e-8."""
        return money(self.paid / abs(self.filled)) if self.filled else None


class Trade(Struct, frozen=True):
    """Record one fill: signed quantity, fee paid (negative: a rebate) and realised gain.

    currency: of the fee.
    """

    trade_id: int
    order_id: int
    client_id: str
    symbol: str
    quantity: Decimal
    price: Decimal
    fee: Decimal
    currency: str
    realised: Decimal
    is_maker: bool
    at_ms: int


class Income(Struct, frozen=True):
    """Record one line of the statement: `amount` is what it changed the cash by."""

    income_id: int
    kind: IncomeKind
    currency: str
    amount: Decimal
    at_ms: int
    symbol: str = ""
    trade_id: int | None = None


class BankPosition(Struct, frozen=True):
    """Hold a signed quantity and its signed cost; `margin` is set aside where it is isolated."""

    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    margin: Decimal = ZERO

    @property
    def entry_price(self) -> Decimal:
        """Give the average entry price, rounded to 1e-8; zero when flat."""
        return money(self.cost / self.quantity) if self.quantity else ZERO

    def unrealised(self, mark: Decimal) -> Decimal:
        """Give the gain at `mark` over the cost."""
        return self.quantity * mark - self.cost


FLAT = BankPosition()


class Account(Struct):
    """Hold one account: the cash of a currency is always the sum of its statement lines."""

    key: str
    cash: dict[str, Decimal] = field(default_factory=dict)
    positions: dict[str, BankPosition] = field(default_factory=dict)
    leverage: dict[str, int] = field(default_factory=dict)
    margin_mode: dict[str, MarginMode] = field(default_factory=dict)
    position_mode: PositionMode = PositionMode.ONE_WAY
    orders: dict[int, BankOrder] = field(default_factory=dict)
    open_ids: dict[str, list[int]] = field(default_factory=dict)  # by symbol, oldest first
    newest_by_client_id: dict[str, int] = field(default_factory=dict)
    trades: list[Trade] = field(default_factory=list)
    income: list[Income] = field(default_factory=list)
    timers: dict[str, int] = field(default_factory=dict)  # by symbol, "" for all: fires at

    def position(self, symbol: str) -> BankPosition:
        """Give the position held, flat where there is none."""
        return self.positions.get(symbol, FLAT)

    def mode_of(self, symbol: str) -> MarginMode:
        """Give the margin mode of a symbol."""
        return self.margin_mode.get(symbol, MarginMode.CROSS)

    def open_of(self, symbol: str) -> list[BankOrder]:
        """List the open orders of a symbol, oldest first."""
        return [self.orders[n] for n in self.open_ids.get(symbol, ())]

    def open_orders(self) -> list[BankOrder]:
        """List all open orders, oldest first."""
        return [self.orders[n] for n in sorted(n for ids in self.open_ids.values() for n in ids)]


class Event(Struct, frozen=True, tag=True):
    """Be said on an account's stream; numbers rise strictly over all accounts."""

    number: int
    account: str
    at_ms: int


class OrderUpdated(Event, frozen=True, tag=True):
    """Say that an order was admitted or ended; fills are said by OrderFilled."""

    order: BankOrder


class OrderFilled(Event, frozen=True, tag=True):
    """Say that an order was filled, partly or wholly."""

    order: BankOrder
    trade: Trade


class AccountUpdated(Event, frozen=True, tag=True):
    """Say what the cash of a currency is now, and the position of the symbol that changed."""

    cause: IncomeKind
    currency: str
    cash: Decimal
    symbol: str
    position: BankPosition


class FundingBooked(Event, frozen=True, tag=True):
    """Say that funding was paid (negative amount) or received on `quantity` at `mark`."""

    symbol: str
    rate: Decimal
    quantity: Decimal
    mark: Decimal
    income: Income


class Liquidated(Event, frozen=True, tag=True):
    """Say that the venue is taking over a position for want of margin."""

    symbol: str
    quantity: Decimal
    mark: Decimal


class TimerFired(Event, frozen=True, tag=True):
    """Say that a cancel timer ran out; `symbol` is empty for the one of all symbols."""

    symbol: str
    cancelled_n: int


BankEvent = OrderUpdated | OrderFilled | AccountUpdated | FundingBooked | Liquidated | TimerFired


class House(Struct):
    """Hold the venue's own account in cash-flow form: it is the other side of everything."""

    cash: dict[str, Decimal] = field(default_factory=dict)
    quantities: dict[str, Decimal] = field(default_factory=dict)


class Taken(Struct, frozen=True):
    """Remember what takers took of one side at an instant, so that depth is not given twice."""

    at_ms: int
    quantity: Decimal


class BankState(Struct):
    """Hold everything the bank knows; statements and orders are kept whole for the rehearsal."""

    now_ms: int
    accounts: dict[str, Account] = field(default_factory=dict)
    house: House = field(default_factory=House)
    halted: list[str] = field(default_factory=list)
    ended_ms: dict[str, int] = field(default_factory=dict)  # contracts ended before their time
    taken: dict[str, Taken] = field(default_factory=dict)  # by side and symbol
    last_marks: dict[str, Decimal] = field(default_factory=dict)  # of what is held or ordered
    outbox: list[BankEvent] = field(default_factory=list)
    last_order_id: int = 0
    last_trade_id: int = 0
    last_income_id: int = 0
    last_event: int = 0
