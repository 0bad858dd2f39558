"""What schedules share: the full-size book, its warmed worlds, and the truth that is measured.

The truth knows what the venue holds and what it, or the wires, may still fill. An exposure is taken
at the worst that any subset of that could make of it, at the marks that the engine decides by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from random import Random
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from daemon import codec
from daemon.domain.bar import FIELDS, Proof
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules, Universe
from daemon.domain.messages import BarsClosed, Started, VenueEvent
from daemon.domain.order import DoneReason, Order, OrderId
from daemon.engine.betas import RELIEF_SHARE, USED_SHARE, betas_now
from daemon.engine.cadence import CadenceRules
from daemon.engine.engine import Engine
from daemon.engine.risk import RiskLimits
from daemon.engine.rules import EngineRules
from daemon.runtime.recovery import save_bytes
from tests.engine.world import H1, M30, VENUE, FixedWeights, at

N = 20
NET_MAX, BETA_MAX = 0.05, 0.06
HISTORY = 60  # source bars before trading, from which betas are measured
EARLIER: Final = OrderId("eq-earlier")  # of an earlier life: the book that a schedule begins with
LIMITS = RiskLimits(
    gross_weight_max=3.0, net_weight_max=NET_MAX, order_weight_max=0.1, beta_weight_max=BETA_MAX
)
RULES: Final = EngineRules(
    cadence=CadenceRules(M30, (H1,), deadline_ms=20_000, alive_ms=4 * M30.ms),
    limits=LIMITS,
    cost=np.full(N, 0.0006),
    bars_n={H1: 40},
    uncertain_asks_max=6,
)
LOT = Decimal("0.001")
FEE = Decimal("0.0005")


@dataclass
class Exposures:
    """Hold what was measured after each fill, as shares of the bound."""

    net: list[float] = field(default_factory=list)
    beta: list[float] = field(default_factory=list)


def shown(name: str, seen: Sequence[float]) -> str:
    """Write worst and p99.9 of shares of a bound, for people."""
    return f"{name}: worst {max(seen):.4f}, p99.9 {np.quantile(seen, 0.999):.4f} of its bound"


# ---- worlds --------------------------------------------------------------------------------------


@cache
def universe() -> Universe:
    """Give twenty contracts of one venue."""
    names = ["BTC", "ETH", *(f"C{i:02d}" for i in range(2, N))]
    rules = TradingRules(Decimal("0.01"), LOT, LOT, Decimal(5))
    keys = [InstrumentKey(VENUE, f"{name}/USDT:USDT") for name in names]
    return Universe(tuple(Instrument(k, k.symbol[:3], "USDT", "USDT", rules) for k in keys))


def bars_of(bar: int, marks: npt.NDArray[np.float64], gone: Sequence[int] = ()) -> BarsClosed:
    """Close source bar `bar` of all instruments but those that are gone, flat at these marks."""
    closes = marks.copy()
    closes[list(gone)] = np.nan
    values: npt.NDArray[np.float64] = np.repeat(closes[:, None], FIELDS, axis=1)
    proof = np.where(np.isnan(closes), int(Proof.ABSENT), int(Proof.SUCCESSOR)).astype(np.uint8)
    return BarsClosed(at(bar), values, proof, closes)


@dataclass(frozen=True, slots=True)
class World:
    """Hold a market after its history: what an engine that saw it remembers, and what it saw.

    betas: as the engine measures them, from those that really drive the prices.
    """

    snapshot: Mapping[str, Any]
    marks: npt.NDArray[np.float64]
    betas: Sequence[float]
    true_betas: Sequence[float]


@cache
def world(number: int) -> World:
    """Let an engine see a history of its own; the same number gives the same."""
    rng = Random(number)
    true_betas = [0.4 + 1.6 * i / (N - 1) for i in range(N)]
    rng.shuffle(true_betas)
    engine = Engine(universe(), FixedWeights(lambda _: [0.0] * N), RULES)
    engine.process(Started(at(0), "run", warming=True))
    marks = np.full(N, 100.0)
    for bar in range(1, HISTORY + 1):
        move = rng.gauss(0, 0.01)
        steps = [beta * move + rng.gauss(0, 0.001) for beta in true_betas]
        marks = np.round(marks * np.exp(steps), 2)
        engine.process(bars_of(bar, marks))
    engine.state.orders.ended[EARLIER] = DoneReason.FILLED  # ours, so its fills are no stranger's
    betas = betas_now(engine.state.windows, N)
    return World(codec.decode(save_bytes(engine), dict[str, Any]), marks, betas, true_betas)


# ---- the truth -----------------------------------------------------------------------------------


@dataclass
class Working:
    """Hold an order as the wires and the venue have it; story is what the venue tells of it."""

    order: Order
    left: Decimal
    arrived: bool = False
    is_open: bool = True
    story: list[VenueEvent] = field(default_factory=list)
    heard_ms: int = 0  # the wire keeps the order of what concerns one order


class Worst:
    """Count one exposure at the worst case of what is open, on its two sides.

    factors: quote currency of exposure in one base unit, by index. net: of what is held. sides: how
    far open orders may still move it up and down. levels: where others than the engine put a side
    that is past its bound; it must not go further. unheard: what others did and nobody told yet.
    taken: the largest share of the bound alone, which others may have caused. is_moved: whether
    others did anything. slack: how much further a closing order may take it that is out alone in a
    corner of both bounds, quote currency.
    """

    def __init__(self, weight_max: float) -> None:
        self.weight_max = weight_max
        self.factors = [0.0] * N
        self.net = 0.0
        self.sides = [0.0, 0.0]
        self.levels = [0.0, 0.0]
        self.unheard = [0.0, 0.0]
        self.taken = 0.0
        self.is_moved = False
        self.slack = 0.0

    def recount(self, held: Sequence[Decimal], live: Sequence[Working]) -> None:
        """Sum everything anew, after marks or betas changed."""
        self.net = sum(float(q) * f for q, f in zip(held, self.factors, strict=True))
        self.sides = [0.0, 0.0]
        for work in live:
            self.pend(work.order.index, float(work.left))

    def pend(self, index: int, quantity: float, sign: float = 1.0) -> None:
        """Count (sign 1), or no more (-1), a signed quantity that may still fill."""
        value = quantity * self.factors[index]
        if value < 0:
            self.sides[1] -= sign * value
        else:
            self.sides[0] += sign * value

    @property
    def reaches(self) -> tuple[float, float]:
        """Give how far up and how far down the exposure could come, quote currency."""
        return self.net + self.sides[0], self.sides[1] - self.net

    def share(self, equity: float) -> float:
        """Give the worst case as a share of what is allowed, and let levels only sink."""
        bound = self.weight_max * equity
        up, down = self.net + self.sides[0], self.sides[1] - self.net
        furthest = up if up > down else down  # noqa: FURB136 - this runs after every fill
        if furthest > self.taken * bound:
            self.taken = furthest / bound
        if not self.is_moved:
            return furthest / bound
        worst = 0.0
        for side, reach in enumerate((up, down)):
            unheard, level = self.unheard[side], self.levels[side]
            worst = max(worst, reach / (max(bound, level) + unheard + self.slack))
            self.levels[side] = max(min(level, reach - unheard), 0.0)
        return worst

    def moved(self, equity: float) -> None:
        """Take where others put the sides, if that is past the bound, as where they may be now."""
        self.is_moved = True
        for side, reach in enumerate(self.reaches):
            known = reach - self.unheard[side]
            self.levels[side] = known if known > self.weight_max * equity else 0.0


class Truth:
    """Hold the venue's account and what may still trade; note how near to its bounds that is.

    seen: after each fill; sent: after each order that left. unheard: trades of others that nobody
    told the engine yet, (index, quantity, paid with the fee) by id; unheard_cash: transfers.
    """

    def __init__(self, start: World, held: Sequence[Decimal], cash: Decimal) -> None:
        self.held = list(held)
        self.cash = cash
        self.live: dict[OrderId, Working] = {}
        self.net, self.beta = Worst(NET_MAX), Worst(BETA_MAX)
        self.seen, self.sent = Exposures(), Exposures()
        self.relief: Working | None = None  # the closing order that is out of a corner
        self.reliefs_n = 0
        self.unheard: dict[str, tuple[int, Decimal, float]] = {}
        self.unheard_cash: dict[str, Decimal] = {}
        self.value(start.marks.tolist(), start.betas)

    @property
    def equity(self) -> float:
        """Give cash and positions at their marks, without what nobody told yet."""
        told = self.cash
        if self.unheard_cash:
            told -= sum(self.unheard_cash.values())
        marks = self.marks
        return (
            float(told)
            + self.net.net
            + sum(paid - float(q) * marks[i] for i, q, paid in self.unheard.values())
        )

    def value(self, marks: Sequence[float], betas: Sequence[float]) -> None:
        """Value everything at these marks and betas."""
        self.marks, self.betas = marks, betas
        self.net.factors = list(marks)
        self.beta.factors = [m * b for m, b in zip(marks, betas, strict=True)]
        live = list(self.live.values())
        self.net.recount(self.held, live)
        self.beta.recount(self.held, live)

    def opens(self, work: Working) -> None:
        """Count an order from the moment that it leaves, and measure."""
        index, size = work.order.index, float(work.left)
        if self.net.is_moved and not self.live and self._relieves(index, work.left):
            self.relief, self.reliefs_n = work, self.reliefs_n + 1
            for one in (self.net, self.beta):
                one.slack = RELIEF_SHARE * one.weight_max * self.equity
        self.live[work.order.order_id] = work
        self.net.pend(index, size)
        self.beta.pend(index, size)
        self._measure(self.sent)

    def _relieves(self, index: int, quantity: Decimal) -> bool:
        """Tell whether an order may be the exception: it closes, is small, and brings back the
        exposure that uses more of its bound.
        """
        held, equity = self.held[index], self.equity
        if held * quantity >= 0 or abs(quantity) > abs(held):
            return False
        bounds = [one.weight_max * equity for one in (self.net, self.beta)]
        shares = [one.net / bound for one, bound in zip((self.net, self.beta), bounds, strict=True)]
        moves = [
            float(quantity) * one.factors[index] / bound
            for one, bound in zip((self.net, self.beta), bounds, strict=True)
        ]
        worse = int(abs(shares[1]) > abs(shares[0]))
        is_small = max(map(abs, moves)) <= RELIEF_SHARE * (1 + 1e-9)
        return (
            is_small
            and abs(shares[worse]) > USED_SHARE - RELIEF_SHARE
            and shares[worse] * moves[worse] < 0.0
        )

    def closes(self, work: Working) -> None:
        """Count what an order left no more: it cannot trade again."""
        work.is_open = False
        if self.live.pop(work.order.order_id, None) is not None:
            for one in (self.net, self.beta):
                one.pend(work.order.index, float(work.left), -1.0)
        if work is self.relief:  # where it has led counts as where others put the book
            self.relief, self.net.slack, self.beta.slack = None, 0.0, 0.0
            self.others_moved()

    def trades(self, index: int, quantity: Decimal, price: Decimal, fee: Decimal) -> None:
        """Book a trade, whoever's it is."""
        self.held[index] += quantity
        self.cash -= quantity * price + fee
        size, net, beta = float(quantity), self.net, self.beta
        net.net += size * net.factors[index]
        beta.net += size * beta.factors[index]

    def fills(self, work: Working, quantity: Decimal, price: Decimal, fee: Decimal) -> None:
        """Book a fill of an order, and measure."""
        index, size = work.order.index, float(quantity)
        self.net.pend(index, size, -1.0)
        self.beta.pend(index, size, -1.0)
        work.left -= quantity
        self.trades(index, quantity, price, fee)
        if not work.left:
            self.closes(work)
        self._measure(self.seen)

    def _measure(self, into: Exposures) -> None:
        equity = self.equity
        into.net.append(self.net.share(equity))
        into.beta.append(self.beta.share(equity))

    def others_moved(self) -> None:
        """Take note that prices, betas, transfers or trades of others moved the exposures."""
        equity = self.equity
        for one in (self.net, self.beta):
            one.unheard = [0.0, 0.0]
            for index, quantity, _ in self.unheard.values():
                value = float(quantity) * one.factors[index]
                one.unheard[value < 0] += abs(value)
            one.moved(equity)
