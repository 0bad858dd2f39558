"""What can be traded: instruments, their trading rules, and the ordered universe.

The order of the universe is the axis N of every cross-section array. It is fixed for a run. A book
may be begun with spare columns: places that a contract listed later can take, each once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from daemon.domain.units import require

SPARE_PREFIX: Final = "(spare "  # no venue names a symbol like this


class InstrumentKey(NamedTuple):
    """Name a position: the venue and the venue-independent (ccxt unified) symbol."""

    venue: str
    symbol: str

    def __str__(self) -> str:
        return f"{self.venue}:{self.symbol}"


class CashKey(NamedTuple):
    """Name a cash balance: the venue and the currency."""

    venue: str
    currency: str


@dataclass(frozen=True, slots=True)
class TradingRules:
    """Hold what a venue accepts. Steps and minima are exact; sizes are in base units."""

    price_step: Decimal
    quantity_step: Decimal
    quantity_min: Decimal
    notional_min: Decimal
    contract_size: Decimal = Decimal(1)

    def __post_init__(self) -> None:
        for name in ("price_step", "quantity_step", "contract_size"):
            require(getattr(self, name) > 0, f"{name} {getattr(self, name)} must be positive")
        require(self.quantity_min >= 0, f"quantity_min {self.quantity_min} must not be negative")
        require(self.notional_min >= 0, f"notional_min {self.notional_min} must not be negative")


@dataclass(frozen=True, slots=True)
class Instrument:
    """Describe one perpetual contract at one venue."""

    key: InstrumentKey
    base: str
    quote: str
    settle: str
    rules: TradingRules
    listed_ms: int | None = None

    @property
    def cash_key(self) -> CashKey:
        """Name the balance that fees, funding and gains of this instrument move."""
        return CashKey(self.key.venue, self.settle)

    @property
    def is_spare(self) -> bool:
        """Tell whether this only keeps a column free: nothing of it can be traded."""
        return is_spare_symbol(self.key.symbol)


def is_spare_symbol(symbol: str) -> bool:
    """Tell whether a symbol names a column that is still free."""
    return symbol.startswith(SPARE_PREFIX)


def spare_columns(venue: str, settle: str, count: int) -> tuple[Instrument, ...]:
    """Make the free columns of a venue, numbered from 1; their rules stand for nothing."""
    one = Decimal(1)
    rules = TradingRules(one, one, one, Decimal(0))
    keys = [InstrumentKey(venue, f"{SPARE_PREFIX}{n})") for n in range(1, count + 1)]
    return tuple(Instrument(key, "", settle, settle, rules) for key in keys)


class Standing(IntEnum):
    """Say what may be done with an instrument; 0 is the usual one."""

    TRADING = 0
    UNRIPE = 1  # listed, but too young or too little traded: nothing is opened
    REDUCE_ONLY = 2  # halted, or its end was announced: what is held goes out
    GONE = 3  # the venue no longer trades it, or the column is still free
    DOUBTED = 4  # its price jumped as by another unit: nothing is sent until one knows why

    @property
    def words(self) -> str:
        """Give the words for people."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Universe:
    """Order the instruments of a run; position i is column i of every (N,) array."""

    instruments: tuple[Instrument, ...]
    index: dict[InstrumentKey, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {instrument.key: i for i, instrument in enumerate(self.instruments)}
        require(len(index) == len(self.instruments), "an instrument is listed twice")
        require(index, "a universe needs at least one instrument")
        object.__setattr__(self, "index", index)

    def __len__(self) -> int:
        return len(self.instruments)

    @property
    def symbols(self) -> tuple[str, ...]:
        """List the unified symbols in axis order."""
        return tuple(i.key.symbol for i in self.instruments)

    def taken(self) -> tuple[tuple[int, str], ...]:
        """List (column, unified symbol) of all columns but the free ones."""
        columns = enumerate(self.instruments)
        return tuple((n, i.key.symbol) for n, i in columns if not i.is_spare)

    def with_instrument(self, index: int, instrument: Instrument) -> Universe:
        """Give the same order with other facts about one instrument.

        Its key must stay, save that a spare column takes an instrument of its venue that the
        universe does not have.
        """
        ours, theirs = self.instruments[index].key, instrument.key
        if ours != theirs:
            require(self.instruments[index].is_spare, f"column {index} is {ours}: got {theirs}")
            require(ours.venue == theirs.venue, f"column {index} is of {ours.venue}: got {theirs}")
            held = self.index.get(theirs)
            require(held is None, f"column {index}: {theirs} has column {held} already")
            require(not instrument.is_spare, f"column {index}: {theirs} is no contract")
        changed = list(self.instruments)
        changed[index] = instrument
        return Universe(tuple(changed))

    def steps(self) -> npt.NDArray[np.float64]:
        """Give the quantity steps in base units, shape (N,)."""
        return np.array([float(i.rules.quantity_step) for i in self.instruments])

    def notional_minima(self) -> npt.NDArray[np.float64]:
        """Give the minimum notionals in quote currency, shape (N,)."""
        return np.array([float(i.rules.notional_min) for i in self.instruments])

    def quantity_minima(self) -> npt.NDArray[np.float64]:
        """Give the minimum quantities in base units, shape (N,)."""
        return np.array([float(i.rules.quantity_min) for i in self.instruments])
