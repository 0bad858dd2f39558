"""What the paper venue knows, as plain values that a store can write and read back.

`Market` is what the bars said, `FundingBook` (see `funding`) what settles, `Account` what is held.
Lists are in universe order; NaN means unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from adapters.paper.funding import FundingBook
from daemon.domain.bar import Field, Floats
from daemon.domain.messages import BarsClosed, VenueEvent
from daemon.domain.order import Fill, Order, OrderId
from daemon.domain.portfolio import Ledger

ZERO = Decimal(0)
# as an index a plain number is much faster than a member of an enum
_CLOSE, _VOLUME = int(Field.CLOSE), int(Field.VOLUME)


class PaperStatus(StrEnum):
    """Say where an order stands at the venue."""

    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class PaperOrder(Struct, gc=False):
    """Hold an admitted order: number counts submissions, filled is signed, fills in order."""

    order: Order
    number: int
    index: int
    accepted_ms: int
    status: PaperStatus = PaperStatus.OPEN
    filled: Decimal = ZERO
    fills: list[Fill] = []
    ended_ms: int = 0
    reason: str = ""


@dataclass(slots=True)
class Market:
    """Hold what the bars told: opens of the bars that start at the instant, last closes, volumes.

    closed_ms: the close of the newest bar known of each instrument. used: base units taken at this
    instant. final: nothing more comes for this instant.
    """

    symbols: tuple[str, ...]
    opens: list[float]
    closes: list[float]
    volumes: list[float]
    closed_ms: list[int]
    instant_ms: int = 0
    final: bool = False
    used: dict[int, Decimal] = field(default_factory=dict)

    @classmethod
    def empty(cls, symbols: tuple[str, ...]) -> Market:
        """Know nothing yet."""
        n = len(symbols)
        return cls(symbols, [math.nan] * n, [math.nan] * n, [0.0] * n, [0] * n)

    def see(self, event: BarsClosed) -> bool:
        """Take in closed bars; tell whether a new instant began."""
        advances = event.close_ms > self.instant_ms
        is_over = self.final and event.close_ms == self.instant_ms
        if advances:
            self.instant_ms = event.close_ms
            self.final = event.final
            self.opens = event.opens.tolist()
            self.used = {}
        elif event.close_ms == self.instant_ms:
            self.final = self.final or event.final
            self.opens = [
                theirs if ours != ours else ours  # an open once known is never changed
                for ours, theirs in zip(self.opens, event.opens.tolist(), strict=True)
            ]
        # What was traded on must stay what it was: after the last word volumes are fixed.
        if not is_over:
            self._take_rows(event.close_ms, event.values, advances)
        return advances

    def is_settled(self, index: int) -> bool:
        """Tell whether nothing more will be learnt of the bar that closed at the instant."""
        return self.final or self.closed_ms[index] == self.instant_ms

    def reference(self, index: int) -> float:
        """Give the price that orders trade at now, NaN where it is not known (yet)."""
        return self.opens[index] if self.final or self.is_settled(index) else math.nan

    def rename(self, index: int, symbol: str) -> None:
        """Note that a contract took a spare column; nothing was known of it."""
        self.symbols = (*self.symbols[:index], symbol, *self.symbols[index + 1 :])

    def aligned(self, symbols: tuple[str, ...]) -> Market:
        """Give the same knowledge for another universe; new instruments are unknown."""
        if symbols == self.symbols:
            return self
        at = {symbol: i for i, symbol in enumerate(self.symbols)}
        fresh = Market.empty(symbols)
        fresh.instant_ms, fresh.final = self.instant_ms, self.final
        for i, symbol in enumerate(symbols):
            if (old := at.get(symbol)) is not None:
                fresh.opens[i], fresh.closes[i] = self.opens[old], self.closes[old]
                fresh.volumes[i], fresh.closed_ms[i] = self.volumes[old], self.closed_ms[old]
                if old in self.used:
                    fresh.used[i] = self.used[old]
        return fresh

    def _take_rows(self, close_ms: int, values: Floats, advances: bool) -> None:
        closes, volumes = values[:, _CLOSE].tolist(), values[:, _VOLUME].tolist()
        if advances and math.isfinite(sum(closes)) and math.isfinite(sum(volumes)):
            self.closes, self.volumes = closes, volumes
            self.closed_ms = [close_ms] * len(closes)
            return
        self.closes, self.volumes = self.closes.copy(), self.volumes.copy()
        for i, close in enumerate(closes):
            is_news = close == close and self.closed_ms[i] < close_ms
            if is_news:
                self.closes[i], self.closed_ms[i] = close, close_ms
                self.volumes[i] = volumes[i] if math.isfinite(volumes[i]) else 0.0


@dataclass(slots=True)
class Account:
    """Hold what the account owns and how many executions and orders there have been.

    executions count fills, funding and transfers together; the last number is the cursor.
    """

    venue: str
    opened_ms: int
    starting_cash: dict[str, Decimal]
    ledger: Ledger = field(default_factory=Ledger)
    executions_n: int = 0
    orders_n: int = 0
    rescaled: dict[str, int] = field(default_factory=dict)  # by instrument, the newest change in ms


@dataclass(slots=True)
class VenueState:
    """Hold everything that must survive a restart, save orders and executions."""

    account: Account
    market: Market
    funding: FundingBook


class Changes(Struct):
    """Collect what one call changed.

    orders: touched ones by id. executions: fills, funding, transfers with consecutive numbers that
    end at account.executions_n. bars: market and funding books changed by a market event.
    """

    orders: dict[OrderId, PaperOrder] = {}
    executions: list[VenueEvent] = []
    bars: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """Hold what a store had: the state, and the open and last ended orders by number."""

    state: VenueState
    orders: Sequence[PaperOrder]


class LedgerStore(Protocol):
    """Keep the venue's own record; `commit` returns when it is as durable as it will ever be."""

    @property
    def is_durable(self) -> bool:
        """Tell whether commits block on a disk."""
        ...

    def load(self, ended_kept: int) -> Loaded | None:
        """Give what was kept, with the newest `ended_kept` ended orders; None when new."""
        ...

    def commit(self, state: VenueState, changes: Changes) -> None:
        """Keep all changes of one call or none of them."""
        ...

    def executions_after(self, cursor: int, last: int) -> Iterable[VenueEvent]:
        """Give the executions cursor + 1 .. last."""
        ...

    def find(self, order_id: OrderId) -> PaperOrder | None:
        """Give an order that ended too long ago to be in memory, or None."""
        ...
