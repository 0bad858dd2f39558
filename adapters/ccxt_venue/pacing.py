"""How fast requests leave: within the venue's budgets, orders before everything else.

ccxt's own throttle is a bucket that fills only while somebody waits: each request pays for the one
before it, however long ago that was, so that an order leaves a quarter of a second after a reading
that nobody remembers, and 200 orders need 40 seconds. Venues count what was used within a window of
time, and so does this:

    weight   what a window may use in all; questions may use only a share of it and long listings a
             smaller one, so that there is room for an order, and for what is asked about one
    orders   windows that venues count orders in; an order waits for each of them

Whoever must wait does so in line, each kind in a line of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from adapters.ccxt_venue.calls import now_s

ROUNDING: Final = 1e-9
PAUSE_S_MIN: Final = 1e-3


class Kind(StrEnum):
    """Say what a request is for."""

    ORDER = "order"
    QUESTION = "question"
    LISTING = "listing"  # one of many that belong together


# Of 1,800 a listing may take 1,116: the fills of 200 contracts at Binance weigh 1,000.
SHARES: Final[Mapping[Kind, float]] = {Kind.ORDER: 1.0, Kind.QUESTION: 0.95, Kind.LISTING: 0.62}
_KIND: ContextVar[Kind] = ContextVar("ccxt_pacing_kind", default=Kind.QUESTION)


@dataclass(frozen=True, slots=True)
class Budget:
    """Allow so much within any window of so many seconds."""

    most: float
    window_s: float


@dataclass(frozen=True, slots=True)
class Budgets:
    """Hold what a venue allows one account and address.

    weight: in ccxt's costs, orders included unless `orders` counts them apart.
    """

    weight: Budget
    orders: tuple[Budget, ...] = ()


# A quarter of Binance's weight (2,400 a minute for an address) is left to the feed; its orders (300
# in 10 s, 1,200 a minute for an account) weigh nothing there. Bybit takes 10 orders a second of one
# account; what else it takes is half of ccxt's figure for an address.
_STATED: Final[Mapping[str, Budgets]] = {
    "binanceusdm": Budgets(Budget(1_800, 60), (Budget(280, 10), Budget(1_100, 60))),
    "bybit": Budgets(Budget(25, 1), (Budget(9, 1),)),
}


def budgets_of(venue: str, rate_limit_ms: float) -> Budgets:
    """Give a venue's budgets; where none are known, a second of ccxt's own pace."""
    return _STATED.get(venue) or Budgets(Budget(1_000 / max(rate_limit_ms, 1e-3), 1.0))


@contextmanager
def meant_as(kind: Kind) -> Iterator[None]:
    """Let every request within this context wait in the line of its kind."""
    token = _KIND.set(kind)
    try:
        yield
    finally:
        _KIND.reset(token)


class Window:
    """Count what was used within a budget's window."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._used: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def wait_s(self, cost: float, at_s: float, share: float = 1.0) -> float:
        """Give for how long `cost` finds no room; one that is dearer than all takes it all."""
        while self._used and self._used[0][0] <= at_s - self._budget.window_s:
            self._sum -= self._used.popleft()[1]
        most = self._budget.most * share
        over = self._sum + min(cost, most) - most
        if over <= ROUNDING or not self._used:
            return 0.0
        return max(self._freed_s(over) + self._budget.window_s - at_s, PAUSE_S_MIN)

    def _freed_s(self, over: float) -> float:
        """Give when that was used whose end makes room for so much."""
        used_s = 0.0
        for used_s, used in self._used:
            over -= used
            if over <= ROUNDING:
                return used_s
        return used_s

    def use(self, cost: float, at_s: float) -> None:
        """Note what was used."""
        self._used.append((at_s, cost))
        self._sum += cost


@dataclass(slots=True)
class Pace:
    """Let one client's requests leave in turn; `clock` gives seconds that only grow."""

    budgets: Budgets
    clock: Callable[[], float] = now_s
    weight: Window = field(init=False)
    orders: Sequence[Window] = field(init=False)
    _lines: Mapping[Kind, asyncio.Lock] = field(
        default_factory=lambda: {kind: asyncio.Lock() for kind in Kind}
    )

    def __post_init__(self) -> None:
        self.weight = Window(self.budgets.weight)
        self.orders = [Window(one) for one in self.budgets.orders]

    async def __call__(self, cost: float | None = None) -> None:
        """Return when a request of this cost may leave."""
        kind, cost = _KIND.get(), 1.0 if cost is None else float(cost)
        counted_apart = kind is Kind.ORDER and bool(self.orders)
        async with self._lines[kind]:
            while (wait_s := self._wait_s(cost, kind)) > 0:  # noqa: ASYNC110 - time is the event
                await asyncio.sleep(wait_s)
            at_s = self.clock()
            if not counted_apart:
                self.weight.use(cost, at_s)
                return
            for window in self.orders:
                window.use(1.0, at_s)

    def _wait_s(self, cost: float, kind: Kind) -> float:
        at_s = self.clock()
        if kind is Kind.ORDER and self.orders:
            return max(window.wait_s(1.0, at_s) for window in self.orders)
        return self.weight.wait_s(cost, at_s, SHARES[kind])


def pace(venue: str, api: Any) -> None:
    """Replace the throttle of a ccxt client that keeps one; a second time changes nothing."""
    if api.enableRateLimit and not isinstance(api.throttle, Pace):
        api.throttle = Pace(budgets_of(venue, float(api.rateLimit)))
