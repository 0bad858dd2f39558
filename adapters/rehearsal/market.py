"""What a market is to the rehearsal exchange: coins with rules, steps on a grid, funding.

A `Market` knows its whole past and future; it must not know what time it is. Who may see what, and
when, is decided in `publication.py`. Two implementations: `SeededMarket` and `ParquetMarket`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from daemon.domain.failures import DataError
from daemon.domain.units import require

LOTS_MAX: Final = 10**7
"""Quantity steps that a limit order may hold at most; so many price steps are the dearest price."""
MARKET_LOTS_MAX: Final = 10**6
"""Quantity steps that a market order may hold at most."""
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class UnknownSymbol(DataError):
    """Signal a symbol that this market does not have."""


@dataclass(frozen=True, slots=True)
class Coin:
    """Hold one perpetual contract: its name, trading rules, life and funding interval.

    Steps and minimum are decimal strings, as a venue publishes them. `price_decimals` and
    `quantity_decimals` say how many decimals reproduce every price and volume exactly; None means
    that no count up to ten does, and the shortest exact form is written instead.
    """

    symbol: str
    base: str
    price_step: str
    quantity_step: str
    notional_min_usdt: str
    price_decimals: int | None
    quantity_decimals: int | None
    listed_ms: int
    delisted_ms: int | None
    funding_interval_ms: int

    def lives_at(self, at_ms: int) -> bool:
        """Tell whether the contract trades at `at_ms`."""
        return self.listed_ms <= at_ms and (self.delisted_ms is None or at_ms < self.delisted_ms)


@dataclass(frozen=True, slots=True)
class Steps:
    """Hold consecutive base steps of one coin, one array of shape (T,) per column.

    Prices in USDT, volume in base units; a step that does not exist is NaN in every column.
    """

    start_ms: int
    step_ms: int
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    def __len__(self) -> int:
        return len(self.close)


@dataclass(frozen=True, slots=True)
class Settlement:
    """Hold one funding payment: `rate` is a fraction of the notional, paid by longs to shorts."""

    symbol: str
    time_ms: int
    rate: float


class Market(Protocol):
    """Serve prices and funding of many coins on a grid of base steps anchored at 00:00 UTC."""

    @property
    def coins(self) -> Mapping[str, Coin]:
        """Give every coin that ever lives here, by symbol, in publication order."""
        ...

    @property
    def step_ms(self) -> int:
        """Give the length of a base step."""
        ...

    @property
    def span_ms(self) -> tuple[int, int | None]:
        """Give the first instant and the end (exclusive; None where there is no end)."""
        ...

    def steps(self, symbol: str, start_ms: int, end_ms: int) -> Steps:
        """Give the steps opening in [start, end), both on the grid; future ones included."""
        ...

    def settlements(self, symbol: str, start_ms: int, end_ms: int) -> tuple[Settlement, ...]:
        """Give the funding payments with start <= time < end, oldest first."""
        ...

    def funding_estimate(self, symbol: str, at_ms: int) -> float:
        """Give the rate that the venue would announce at `at_ms` for the next settlement."""
        ...


def coin_named(market: Market, symbol: str) -> Coin:
    """Look a coin up; raise UnknownSymbol naming it."""
    coin = market.coins.get(symbol)
    if coin is None:
        raise UnknownSymbol(f"symbol {symbol!r} is not one of {', '.join(market.coins)}")
    return coin


def on_grid(start_ms: int, end_ms: int, step_ms: int) -> tuple[int, int]:
    """Give first index and count of the steps in [start, end); both ends must lie on the grid."""
    require(start_ms % step_ms == 0, f"start {start_ms} is off the grid of {step_ms} ms")
    require(end_ms % step_ms == 0, f"end {end_ms} is off the grid of {step_ms} ms")
    return start_ms // step_ms, max(0, (end_ms - start_ms) // step_ms)
