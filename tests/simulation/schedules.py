"""A full-size book against a venue in market time that does its worst, without sockets.

Every message has a latency of its own, save that what concerns one order reaches the venue in the
order it was sent. Orders are lost, refused, filled in parts and at any moment, also while a cancel
is on its way; answers are lost, or never come. After every single fill the truth is measured: what
the venue holds, and the worst that any subset of what it or the wires still have could make of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from random import Random

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import FIELDS, Proof
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules, Universe
from daemon.domain.messages import (
    AskSnapshot,
    BarsClosed,
    Cancel,
    Command,
    Event,
    Operator,
    OperatorAction,
    OrderAbsent,
    OrderAccepted,
    OrderEnded,
    OrderFilled,
    OrderRejected,
    OrderUncertain,
    Query,
    Snapshotted,
    Started,
    Submit,
    Tick,
    VenueEvent,
)
from daemon.domain.order import Fill, Order, OrderId, OrderKind
from daemon.domain.portfolio import AccountSnapshot
from daemon.engine.cadence import CadenceRules
from daemon.engine.engine import Engine
from daemon.engine.risk import RiskLimits, TradingState
from daemon.engine.rules import EngineRules
from tests.engine.world import CASH, CASH_KEY, H1, M30, VENUE, FixedWeights, at, deposit

N = 20
NET_MAX, BETA_MAX = 0.05, 0.06
HISTORY = 60  # source bars before trading, from which betas are measured
LIMITS = RiskLimits(
    gross_weight_max=3.0, net_weight_max=NET_MAX, order_weight_max=0.1, beta_weight_max=BETA_MAX
)
LOT = Decimal("0.001")
FEE = Decimal("0.0005")


@dataclass
class Working:
    """Hold an order as the wires and the venue have it."""

    order: Order
    left: Decimal
    arrived: bool = False
    is_open: bool = True
    story: list[VenueEvent] = field(default_factory=list)
    heard_ms: int = 0  # the wire keeps the order of what concerns one order


@dataclass
class Exposures:
    """Hold what was measured after each fill, as shares of the bound."""

    net: list[float] = field(default_factory=list)
    beta: list[float] = field(default_factory=list)


def universe() -> Universe:
    names = ["BTC", "ETH", *(f"C{i:02d}" for i in range(2, N))]
    rules = TradingRules(Decimal("0.01"), LOT, LOT, Decimal(5))
    keys = [InstrumentKey(VENUE, f"{name}/USDT:USDT") for name in names]
    return Universe(tuple(Instrument(k, k.symbol[:3], "USDT", "USDT", rules) for k in keys))


class Schedule:
    """Run one engine against one venue; the same seed gives the same run."""

    def __init__(
        self,
        seed: int,
        *,
        rules_of: Callable[[EngineRules], EngineRules] = lambda rules: rules,
        reject: float = 0.05,
        lose: float = 0.06,
    ) -> None:
        self.rng = Random(seed)
        self.reject, self.lose = reject, lose
        self.now_ms = at(HISTORY)
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.turn = 0
        self.orders: dict[OrderId, Working] = {}
        self.live: dict[OrderId, Working] = {}  # what may still trade, as far as the truth goes
        self.held = [Decimal(0)] * N
        self.cash = CASH
        self.executions: list[VenueEvent] = [deposit()]
        self.seen = Exposures()
        self.events: list[Event] = []
        self.commands: list[tuple[Command, ...]] = []
        self.wishes_n = 0
        self.true_betas = [0.4 + 1.6 * i / (N - 1) for i in range(N)]
        self.rng.shuffle(self.true_betas)
        self.marks = np.full(N, 100.0)

        def wanted(as_of_ms: int) -> Sequence[float]:
            weights = Random(f"{seed},{as_of_ms}")
            drawn = [weights.uniform(0.03, 0.1) * weights.choice((-1, 1)) for _ in range(N)]
            mean = sum(drawn) / N
            return [w - mean for w in drawn]

        cadence = CadenceRules(M30, (H1,), deadline_ms=20_000, alive_ms=4 * M30.ms)
        rules = EngineRules(cadence, LIMITS, np.full(N, 0.0006), {H1: 40}, uncertain_asks_max=6)
        self.fresh = partial(Engine, universe(), FixedWeights(wanted), rules_of(rules))
        self.engine = self.fresh()

    # ---- the run ---------------------------------------------------------------------------------

    def run(self, hours: int = 2) -> Schedule:
        """Warm up on moving prices, then trade at prices that stand still."""
        self.say(Started(at(0), "run", warming=True))
        for bar in range(1, HISTORY + 1):
            move = self.rng.gauss(0, 0.01)
            steps = [b * move + self.rng.gauss(0, 0.001) for b in self.true_betas]
            self.marks = np.round(self.marks * np.exp(steps), 2)
            self.say(self.bars(bar))
        self.say(Started(at(HISTORY), "run"))
        self.until(at(HISTORY) + 60_000)
        for bar in range(HISTORY + 1, HISTORY + 2 * hours + 1):
            self.until(at(bar))
            self.say(self.bars(bar))
            if self.engine.state.trading is TradingState.HALTED:
                self.wish(OperatorAction.RESUME)
        self.until(self.now_ms + M30.ms)
        return self

    def bars(self, bar: int) -> BarsClosed:
        values: npt.NDArray[np.float64] = np.repeat(self.marks[:, None], FIELDS, axis=1)
        proof = np.full(N, int(Proof.SUCCESSOR), dtype=np.uint8)
        return BarsClosed(at(bar), values, proof, self.marks.copy())

    def wish(self, action: OperatorAction) -> None:
        self.wishes_n += 1
        self.say(Operator(action, f"w{self.wishes_n}", self.now_ms))

    def until(self, end_ms: int) -> None:
        """Let everything happen that is due before `end_ms`, with a Tick when the engine asks."""
        while True:
            wake_ms = max(self.engine.wake_ms, self.now_ms + 1_000)
            due_ms = self.queue[0][0] if self.queue else end_ms
            next_ms = min(wake_ms, due_ms)
            if next_ms >= end_ms:
                self.now_ms = end_ms
                return
            self.now_ms = max(self.now_ms, next_ms)
            if due_ms <= wake_ms:
                heapq.heappop(self.queue)[2]()
            else:
                self.say(Tick(self.now_ms))

    def say(self, event: Event) -> None:
        commands = self.engine.process(event)
        self.events.append(event)
        self.commands.append(commands)
        for command in commands:
            self.take(command)

    def say_all(self, events: Sequence[Event]) -> None:
        for event in events:
            self.say(event)

    def later(self, delay_ms: int, action: Callable[[], None]) -> int:
        self.turn += 1
        due_ms = self.now_ms + delay_ms
        heapq.heappush(self.queue, (due_ms, self.turn, action))
        return due_ms

    def latency(self) -> int:
        fate = self.rng.random()
        return int(self.rng.uniform(3, 400) if fate < 0.9 else self.rng.uniform(400, 90_000))

    # ---- the wires -------------------------------------------------------------------------------

    def take(self, command: Command) -> None:
        match command:
            case Submit(approved=approved):
                order = approved.order
                assert order.order_id not in self.orders, f"{order.order_id} was sent twice"
                work = self.orders[order.order_id] = Working(order, order.quantity)
                self.live[order.order_id] = work
                self.to_venue(work, lambda: self.arrives(work))
            case Cancel(order_id=order_id):
                work = self.orders[order_id]
                self.to_venue(work, lambda: self.cancels(work))
            case Query(order_id=order_id):
                work = self.orders[order_id]
                self.to_venue(work, lambda: self.asked(work))
            case AskSnapshot(executions_cursor=cursor):
                self.later(self.latency(), lambda: self.account(cursor))
            case _:
                pass

    def to_venue(self, work: Working, action: Callable[[], None]) -> None:
        delay_ms = max(self.latency(), work.heard_ms - self.now_ms + 1)
        work.heard_ms = self.later(delay_ms, action)

    def tell(self, events: Sequence[VenueEvent]) -> None:
        told = tuple(events)
        if self.rng.random() < self.lose:
            return
        for event in told:
            self.later(self.latency(), partial(self.say, event))

    # ---- the venue -------------------------------------------------------------------------------

    def arrives(self, work: Working) -> None:
        order, fate = work.order, self.rng.random()
        if fate < self.lose:  # lost on the way, and nobody knows
            work.is_open = False
            if self.rng.random() < 0.5:
                self.tell([OrderUncertain(order.order_id, self.now_ms, "reset")])
            return
        work.arrived = True
        if fate < self.lose + self.reject:
            work.is_open = False
            work.story = [OrderRejected(order.order_id, self.now_ms, "margin")]
            self.tell(work.story)
            return
        work.story.append(OrderAccepted(order.order_id, self.now_ms))
        if self.rng.random() < self.lose:
            self.tell([OrderUncertain(order.order_id, self.now_ms, "timed out")])
        else:
            self.tell(work.story)
        self.later(self.fill_delay(order), lambda: self.fills(work))

    def fill_delay(self, order: Order) -> int:
        slow = order.kind is OrderKind.LIMIT
        return int(self.rng.expovariate(1 / (120_000 if slow else 2_000)))

    def fills(self, work: Working) -> None:
        if not work.is_open:
            return
        order = work.order
        lots = int(abs(work.left) / LOT)
        size = Decimal(lots if self.rng.random() < 0.4 else self.rng.randint(1, lots)) * LOT
        quantity = size if work.left > 0 else -size
        drift = Decimal(self.rng.randint(-5, 5)) / 10_000
        price = (Decimal(repr(float(self.marks[order.index]))) * (1 + drift)).quantize(LOT)
        if order.limit_price is not None:
            price = order.limit_price
        fee = size * price * FEE
        work.left -= quantity
        work.is_open = bool(work.left)
        self.held[order.index] += quantity
        self.cash -= quantity * price + fee
        number = len(self.executions)
        names = (f"x{number}", order.order_id, order.key, order.index)
        event = OrderFilled(Fill(*names, quantity, price, fee, self.now_ms))
        self.executions.append(event)
        work.story.append(event)
        self.measure()
        self.tell([event])
        if self.rng.random() < 0.1:
            self.tell([event])
        if work.is_open:
            self.later(self.fill_delay(order), lambda: self.fills(work))

    def cancels(self, work: Working) -> None:
        if work.arrived and work.is_open and self.rng.random() > self.lose:
            work.is_open = False
            work.story.append(OrderEnded(work.order.order_id, self.now_ms, "cancelled"))
        self.asked(work)

    def asked(self, work: Working) -> None:
        name = work.order.order_id
        if self.rng.random() < self.lose:
            self.tell([OrderUncertain(name, self.now_ms, "timed out")])
        elif not work.arrived:
            self.tell([OrderAbsent(name, self.now_ms)])
        else:
            # One answer: what it tells comes in one piece, in order.
            self.later(self.latency(), partial(self.say_all, tuple(work.story)))

    def account(self, cursor: int) -> None:
        keys = self.engine.universe.instruments
        held = {keys[i].key: q for i, q in enumerate(self.held) if q}
        taken = AccountSnapshot(
            VENUE, self.now_ms, held, {CASH_KEY: self.cash}, len(self.executions)
        )
        missed = self.executions[cursor:] if cursor >= 0 else []
        for event in (*missed, Snapshotted(taken)):
            self.say(event)

    # ---- the truth -------------------------------------------------------------------------------

    def measure(self) -> None:
        """Note how near to the bounds any subset of what is out there could bring the truth."""
        self.live = {name: work for name, work in self.live.items() if work.is_open}
        values = [float(q) * float(m) for q, m in zip(self.held, self.marks, strict=True)]
        equity = float(self.cash) + sum(values)
        exposure = self.engine.state.book.beta
        betas = [1.0] * N if exposure is None else exposure.betas
        self.seen.net.append(self.worst(values, [1.0] * N) / (NET_MAX * equity))
        self.seen.beta.append(self.worst(values, betas) / (BETA_MAX * equity))

    def worst(self, values: Sequence[float], factors: Sequence[float]) -> float:
        high = low = sum(v * f for v, f in zip(values, factors, strict=True))
        for work in self.live.values():
            index = work.order.index
            value = float(work.left) * float(self.marks[index]) * factors[index]
            high, low = high + max(value, 0.0), low + min(value, 0.0)
        return max(high, -low)


def shown(name: str, seen: Sequence[float]) -> str:
    """Write worst and p99.9 of shares of a bound, for people."""
    return f"{name}: worst {max(seen):.4f}, p99.9 {np.quantile(seen, 0.999):.4f} of its bound"
