"""Targets, positions and the exact ledger.

The ledger is a cash-flow account: a buy lowers cash by quantity x price, so that

    equity = cash + sum(quantity x mark)

needs no average price and every amount is exact. `cash` therefore differs from a venue's wallet
balance by the cost of the open positions (`wallet_balance` converts).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from daemon.domain.forecast import Signals
from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.order import Fill, OrderId
from daemon.domain.units import require

Floats = npt.NDArray[np.float64]
ZERO = Decimal(0)


class Solved(Struct, frozen=True, gc=False):
    """Hold how a programme's weights were found, and what took over if it failed.

    iterations: of all attempts together. tolerance: what the solver was asked for. fallback: why
    the closed form's weights stand here in the place of the solver's, '' where they do not.
    """

    solver: str
    version: str
    status: str
    iterations: int
    tolerance: float
    fallback: str = ""

    @property
    def words(self) -> str:
        """Say it to people."""
        if self.fallback:
            return f"closed form in the place of {self.solver} {self.version}: {self.fallback}"
        told = self.status.lower().replace("_", " ")
        return f"{self.solver} {self.version}: {told}, {self.iterations} iterations"


class TargetPortfolio(Struct, frozen=True, gc=False):
    """Hold what the strategy wants, in weights (signed fractions of equity), all (N,).

    weights: where to trade to now (after the no-trade band). ideal: the frictionless target.
    band: half-width of the band. signals: what the ranks were made of, None for rule strategies.
    reduce_only: (N,) bool, instruments whose exposure may only shrink. note: plain words for
    people. solved: how the weights were found, None where no programme was solved. health: trading
    cost over tracking loss of the bands lately, 2 is best; None unknown.
    """

    as_of_ms: int
    weights: Floats
    ideal: Floats
    band: Floats
    signals: Signals | None = None
    reduce_only: npt.NDArray[np.bool_] | None = None
    note: str = ""
    solved: Solved | None = None
    health: float | None = None


class Position(Struct, frozen=True, gc=False):
    """Hold a signed quantity in base units and what it cost (signed, quote currency)."""

    quantity: Decimal = ZERO
    cost: Decimal = ZERO

    @property
    def average_price(self) -> Decimal | None:
        """Give the average entry price, or None when flat."""
        return self.cost / self.quantity if self.quantity else None


@dataclass(slots=True)
class Ledger:
    """Keep positions by (venue, instrument) and cash by (venue, currency), exactly.

    fees, funding and turnover are running totals in quote currency; fees >= 0 are paid, funding is
    signed as cash flow (negative = paid). realised is gain of closed quantity before fees. other:
    amounts in currencies in which nothing is traded, of which fees may be charged all the same;
    other_fees: what was.
    """

    positions: dict[InstrumentKey, Position] = field(default_factory=dict)
    cash: dict[CashKey, Decimal] = field(default_factory=dict)
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    transfers: Decimal = ZERO
    adjustments: Decimal = ZERO
    turnover: Decimal = ZERO
    fills: int = 0
    other: dict[CashKey, Decimal] = field(default_factory=dict)
    other_fees: dict[CashKey, Decimal] = field(default_factory=dict)

    def quantity(self, key: InstrumentKey) -> Decimal:
        """Give the signed quantity held, zero when none."""
        position = self.positions.get(key)
        return position.quantity if position is not None else ZERO

    def apply_fill(self, fill: Fill, cash_key: CashKey) -> Position:
        """Book an exchange of quantity for cash, and its fee; give the position it leaves."""
        key, quantity, fee = fill.key, fill.quantity, fill.fee
        notional = quantity * fill.price
        held = self.positions.get(key, _FLAT)
        before = held.quantity
        left = before + quantity
        if not before or (before > ZERO) == (quantity > ZERO):
            position = Position(left, held.cost + notional)
        elif not left:
            position = _FLAT
        elif (left > ZERO) == (quantity > ZERO):
            # What was left after closing the old side was opened at this fill's price.
            position = Position(left, notional * left / quantity)
        else:
            position = Position(left, held.cost * left / before)
        self.positions[key] = position
        self.cash[cash_key] = self.cash.get(cash_key, ZERO) - notional - fee
        self.fees += fee
        if fill.other_currency:
            paid_in = CashKey(cash_key.venue, fill.other_currency)
            self.other[paid_in] = self.other.get(paid_in, ZERO) - fill.other_fee
            self.other_fees[paid_in] = self.other_fees.get(paid_in, ZERO) + fill.other_fee
        self.turnover += abs(notional)
        self.fills += 1
        return position

    def apply_funding(self, cash_key: CashKey, amount: Decimal) -> None:
        """Book a funding cash flow (negative = paid); it can never change a quantity."""
        self.cash[cash_key] = self.cash.get(cash_key, ZERO) + amount
        self.funding += amount

    def apply_transfer(self, cash_key: CashKey, amount: Decimal) -> None:
        """Book a deposit (positive) or withdrawal (negative): neither gain nor loss."""
        self.cash[cash_key] = self.cash.get(cash_key, ZERO) + amount
        self.transfers += amount

    def apply_other(self, cash_key: CashKey, amount: Decimal) -> None:
        """Book what moved in a currency in which nothing is traded."""
        self.other[cash_key] = self.other.get(cash_key, ZERO) + amount

    def apply_adjustment(
        self, key: InstrumentKey, cash_key: CashKey, quantity: Decimal, cash: Decimal
    ) -> None:
        """Adopt a difference to the venue's truth explicitly; never disguised as a trade."""
        held = self.positions.get(key, _FLAT)
        self.positions[key] = Position(held.quantity + quantity, held.cost)
        self.cash[cash_key] = self.cash.get(cash_key, ZERO) + cash
        self.adjustments += cash

    def equity(self, marks: Mapping[InstrumentKey, Decimal]) -> Decimal:
        """Value the account at `marks`; raises KeyError for a held instrument without a mark."""
        held = (p.quantity * marks[k] for k, p in self.positions.items() if p.quantity)
        return sum(self.cash.values(), ZERO) + sum(held, ZERO)

    def wallet_balance(self, cash_key: CashKey, held: Iterable[InstrumentKey]) -> Decimal:
        """Give the balance as venues show it: cash plus the cost of the open positions."""
        cost = sum((self.positions[k].cost for k in held if k in self.positions), ZERO)
        return self.cash.get(cash_key, ZERO) + cost


_FLAT = Position()


class OpenOrder(Struct, frozen=True):
    """Hold what a venue says of an order that rests, whoever placed it.

    left: signed base units that may still fill. price: its limit, 0 where it has none.
    """

    key: InstrumentKey
    left: Decimal
    price: float = 0.0


class AccountSnapshot(Struct, frozen=True):
    """Hold what a venue says we have at an instant: quantities, cash in our cash-flow form.

    margin_ratio: maintenance margin over margin balance, None where the venue does not tell.
    cash_rounding: by how much the cash may be off because the venue rounds gains and entry prices.
    open_orders: everything that rests, whoever placed it, by our id or one that names the venue's.
    marks: the venue's own prices of what is held.
    other: amounts in currencies in which nothing of ours is traded.
    """

    venue: str
    at_ms: int
    quantities: Mapping[InstrumentKey, Decimal]
    cash: Mapping[CashKey, Decimal]
    executions_cursor: int = 0
    margin_ratio: float | None = None
    cash_rounding: Mapping[CashKey, Decimal] = {}
    open_orders: Mapping[OrderId, OpenOrder] = {}
    marks: Mapping[InstrumentKey, float] = {}
    other: Mapping[CashKey, Decimal] = {}

    def __post_init__(self) -> None:
        foreign = [str(k) for k in self.quantities if k.venue != self.venue]
        require(not foreign, f"snapshot of {self.venue} names positions of others: {foreign}")
