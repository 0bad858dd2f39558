"""What the bank is told: rules of symbols, quotes of the market, its own settings, requests.

Prices are in quote currency per base unit, quantities in base units; a signed quantity is positive
for buys and longs. Everything is Decimal: `published` is the border where floats become exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final, Protocol

from msgspec import Struct

from daemon.domain.failures import DataError
from daemon.domain.order import OrderKind
from daemon.domain.units import require

ZERO: Final = Decimal(0)
BPS: Final = Decimal(10_000)


class UnknownAccount(DataError):
    """Signal an API key that no account was opened for."""


class TimeInForce(StrEnum):
    """Say how long a limit order works."""

    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    POST_ONLY = "post_only"


class Origin(StrEnum):
    """Say who made an order: the key's holder, its owner by hand, or the venue."""

    API = "api"
    OWNER = "owner"
    LIQUIDATION = "liquidation"
    FORCED_REDUCTION = "forced_reduction"
    SETTLEMENT = "settlement"


class MarginMode(StrEnum):
    """Say what a position's losses may draw on."""

    CROSS = "cross"
    ISOLATED = "isolated"


class PositionMode(StrEnum):
    """Say how many positions a symbol may have; only one-way ones can be traded here."""

    ONE_WAY = "one_way"
    HEDGE = "hedge"


class ClientIds(StrEnum):
    """Say how long a client order id stays taken."""

    UNIQUE_WHILE_OPEN = "unique_while_open"
    UNIQUE_FOR_EVER = "unique_for_ever"


class RefusalReason(StrEnum):
    """Say, in no venue's words, why a request was refused."""

    UNKNOWN_SYMBOL = "unknown_symbol"
    HALTED = "halted"
    DELISTED = "delisted"
    NO_PRICE = "no_price"
    POSITION_MODE = "position_mode"
    PRICE_PRECISION = "price_precision"
    PRICE_MISSING = "price_missing"
    PRICE_MAX = "price_max"
    PRICE_BAND = "price_band"
    QUANTITY_PRECISION = "quantity_precision"
    QUANTITY_MIN = "quantity_min"
    QUANTITY_MAX = "quantity_max"
    NOTIONAL_MIN = "notional_min"
    DUPLICATE_CLIENT_ID = "duplicate_client_id"
    ORDERS_MAX = "orders_max"
    REDUCE_ONLY = "reduce_only"
    POST_ONLY = "post_only"
    MARGIN = "margin"
    UNKNOWN_ORDER = "unknown_order"
    ORDER_ENDED = "order_ended"
    LEVERAGE_RANGE = "leverage_range"
    MODE_LOCKED = "mode_locked"  # a position or an open order stands in the way
    NO_CHANGE = "no_change"
    FUNDS = "funds"


class Refusal(Struct, frozen=True):
    """Refuse a request: nothing was changed and no id was used up."""

    reason: RefusalReason
    detail: str


class SymbolRules(Struct, frozen=True):
    """Hold the trading rules and life of one contract; steps and minima are positive.

    quantity_max: of a limit order. market_max: of a market order. None: no bound.
    """

    symbol: str
    currency: str
    price_step: Decimal
    quantity_step: Decimal
    quantity_min: Decimal
    notional_min: Decimal
    listed_ms: int
    delisted_ms: int | None = None
    price_max: Decimal | None = None
    quantity_max: Decimal | None = None
    market_max: Decimal | None = None

    def __post_init__(self) -> None:
        for name in ("price_step", "quantity_step", "quantity_min"):
            value = getattr(self, name)
            require(value > 0, f"{self.symbol}: {name} {value} must be positive")


@dataclass(frozen=True, slots=True)
class PublicPrint:
    """Hold one public trade at `at_ms`."""

    at_ms: int
    price: Decimal
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class FundingSettlement:
    """Hold one funding payment: longs pay `rate` of their notional where it is positive."""

    at_ms: int
    rate: Decimal


class Quotes(Protocol):
    """Tell the bank what the market does; the same question always has the same answer."""

    def last_price(self, symbol: str, now_ms: int) -> Decimal | None:
        """Give the last traded price at `now_ms`, None before the first."""
        ...

    def prints(self, symbol: str, after_ms: int, until_ms: int) -> Sequence[PublicPrint]:
        """List the public trades with after < time <= until, oldest first."""
        ...

    def settlements(self, symbol: str, after_ms: int, until_ms: int) -> Sequence[FundingSettlement]:
        """List the funding settlements with after < time <= until, oldest first."""
        ...


class BankSettings(Struct, frozen=True):
    """Hold what the venue charges and how deep its books are.

    half_spread_bps: from the last price to the best quote. level_bps: from one level to the next.
    depth_notional: mean size of one level in quote currency; `seed` varies it by half around that.
    levels_n: what finds no quantity on so many levels expires. price_band_bps: how far a buy may
    lie above the last price, and a sell below it. maintenance_bps: of the positions' notional;
    equity below it is liquidated. latency_ms: from admission to the book. maker fees may be
    negative (a rebate).
    """

    maker_fee_bps: Decimal = Decimal(2)
    taker_fee_bps: Decimal = Decimal(5)
    liquidation_fee_bps: Decimal = Decimal(50)
    maintenance_bps: Decimal = Decimal(100)
    half_spread_bps: Decimal = Decimal(1)
    level_bps: Decimal = Decimal(1)
    depth_notional: Decimal = Decimal(20_000)
    levels_n: int = 50
    price_band_bps: Decimal = Decimal(1_000)
    latency_ms: int = 0
    leverage_first: int = 20
    leverage_max: int = 50
    orders_open_max: int = 200  # of one account in one symbol
    client_ids: ClientIds = ClientIds.UNIQUE_WHILE_OPEN
    refuses_post_only: bool = True  # where one would take at once; else it is admitted, and ends
    seed: int = 0
    fee_coin: str = ""  # fees are charged in it, at its price, while there is enough; "": never

    def __post_init__(self) -> None:
        require(self.levels_n > 0, f"levels_n {self.levels_n} must be positive")
        require(self.depth_notional > 0, f"depth {self.depth_notional} must be positive")
        require(self.latency_ms >= 0, f"latency {self.latency_ms} ms must not be negative")
        require(self.half_spread_bps >= 0, f"half spread {self.half_spread_bps} is negative")
        require(self.level_bps >= 0, f"level distance {self.level_bps} is negative")
        require(
            1 <= self.leverage_first <= self.leverage_max,
            f"leverage {self.leverage_first} must lie in 1 to {self.leverage_max}",
        )


class OrderRequest(Struct, frozen=True):
    """Ask for an order; `price` is for limit orders, `time_in_force` binds them only.

    quantity: signed base units. client_id: ours; the bank makes one up where it is None.
    """

    symbol: str
    quantity: Decimal
    kind: OrderKind
    price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    reduce_only: bool = False
    client_id: str | None = None
    origin: Origin = Origin.API
