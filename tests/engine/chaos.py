"""A venue that fills in any order and in parts, refuses, and loses answers; and runs against it.

It keeps the truth: what was really traded. Messages of one order stay in order, those of different
orders overtake each other; a fill may be told twice, or only to those who ask.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random

import numpy as np

from adapters.journal import MemoryJournal
from daemon.domain.messages import (
    AskSnapshot,
    Cancel,
    Command,
    Event,
    FundingPaid,
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
from daemon.domain.order import Fill, Order, OrderId
from daemon.domain.portfolio import AccountSnapshot
from daemon.engine.engine import Engine
from daemon.engine.risk import RiskLimits, TradingState
from daemon.runtime.recovery import save_bytes
from tests.engine.world import (
    CASH,
    CASH_KEY,
    VENUE,
    FixedWeights,
    at,
    bars,
    deposit,
    key,
    make_engine,
)

N = 4
NET_MAX = 0.25
LIMITS = RiskLimits(net_weight_max=NET_MAX, order_weight_max=0.2)
Message = Callable[[], Sequence[VenueEvent]]  # what it says is decided when it arrives


@dataclass
class Truth:
    """Hold what the venue really has."""

    order: Order
    fills: list[OrderFilled] = field(default_factory=list)
    is_open: bool = True
    end: OrderEnded | None = None

    @property
    def left(self) -> Decimal:
        return self.order.quantity - sum((f.fill.quantity for f in self.fills), Decimal(0))

    def story(self) -> list[VenueEvent]:
        told: list[VenueEvent] = [OrderAccepted(self.order.order_id, 0), *self.fills]
        return [*told, self.end] if self.end is not None else told


class ChaosVenue:
    """Answer commands with messages that arrive when `deliver` is called."""

    def __init__(self, rng: Random, *, fee_bps: int = 0) -> None:
        self.rng = rng
        self.fee_bps = fee_bps
        self.marks = [Decimal(100)] * N
        self.held = [Decimal(0)] * N
        self.cash = CASH
        self.orders: dict[OrderId, Truth] = {}
        self.executions: list[VenueEvent] = [deposit()]
        self.channels: dict[str, deque[Message]] = {}
        self.net_max = 0.0

    @property
    def net(self) -> float:
        return float(sum(q * m for q, m in zip(self.held, self.marks, strict=True)))

    def take(self, command: Command) -> None:
        match command:
            case Submit(approved=approved):
                self._submit(approved.order)
            case Cancel(order_id=order_id) | Query(order_id=order_id):
                self._ask(order_id, cancels=isinstance(command, Cancel))
            case AskSnapshot(executions_cursor=cursor):
                self._say("account", lambda: self._account(cursor))
            case _:
                pass

    def _say(self, channel: str, message: Message) -> None:
        self.channels.setdefault(channel, deque()).append(message)

    def _submit(self, order: Order) -> None:
        name, fate = order.order_id, self.rng.random()
        assert name not in self.orders, f"{name} was sent twice"
        if fate < 0.1:
            rejected = OrderRejected(name, 0, "margin")
            self._say(name, lambda: [rejected])
            return
        if fate > 0.2:
            self.orders[name] = Truth(order)
        known = OrderAccepted(name, 0) if fate > 0.3 else OrderUncertain(name, 0, "reset")
        self._say(name, lambda: [known])

    def _ask(self, order_id: OrderId, *, cancels: bool) -> None:
        truth, fate = self.orders.get(order_id), self.rng.random()
        if cancels and fate > 0.1 and truth is not None and truth.is_open:
            truth.is_open, truth.end = False, OrderEnded(order_id, 0, "cancelled")
        if fate < 0.2:
            self._say(order_id, lambda: [OrderUncertain(order_id, 0, "timed out")])
        elif truth is None:
            self._say(order_id, lambda: [OrderAbsent(order_id, 0)])
        else:
            self._say(order_id, truth.story)

    def _account(self, cursor: int) -> list[VenueEvent]:
        held = {key(i): q for i, q in enumerate(self.held) if q}
        account = AccountSnapshot(VENUE, 0, held, {CASH_KEY: self.cash}, len(self.executions))
        missed = self.executions[cursor:] if cursor >= 0 else []
        return [*missed, Snapshotted(account)]

    def fill_something(self) -> None:
        """Fill a part of some order that works; tell it, tell it twice, or keep quiet."""
        working = [t for t in self.orders.values() if t.is_open]
        if not working:
            return
        truth = self.rng.choice(working)
        order, left = truth.order, truth.left
        lots = int(abs(left) / Decimal("0.01"))
        size = Decimal(self.rng.choice([lots, self.rng.randint(1, lots)])) * Decimal("0.01")
        quantity = size if left > 0 else -size
        price, number = self.marks[order.index], len(self.executions)
        fee = size * price * self.fee_bps / 10_000
        fill = Fill(
            f"x{number}",
            order.order_id,
            order.key,
            order.index,
            quantity,
            price,
            fee,
            order.as_of_ms,
        )
        event = OrderFilled(fill)
        self.held[order.index] += quantity
        self.cash -= quantity * price + fee
        truth.fills.append(event)
        truth.is_open = bool(truth.left)
        self.executions.append(event)
        self.net_max = max(self.net_max, abs(self.net))
        for _ in range(self.rng.choice([0, 1, 1, 1, 2])):
            self._say(order.order_id, lambda: [event])

    def pay_funding(self) -> None:
        number = len(self.executions)
        amount = Decimal(self.rng.randint(-200, 200)) / 100
        event = FundingPaid(f"f{number}", key(0), CASH_KEY, at(0), 0.0001, amount)
        self.cash += amount
        self.executions.append(event)
        self._say("funding", lambda: [event, event])

    def arrive(self) -> Sequence[VenueEvent]:
        """Give the next message of some channel; nothing when all are silent."""
        speaking = [name for name, queue in self.channels.items() if queue]
        if not speaking:
            return []
        return self.channels[self.rng.choice(speaking)].popleft()()


@dataclass
class Run:
    """Record a run: all events with the commands they caused, and snapshots between them."""

    engine: Engine
    venue: ChaosVenue
    rng: Random
    journal: MemoryJournal = field(default_factory=lambda: MemoryJournal(keep_entries=True))
    events: list[Event] = field(default_factory=list)
    commands: list[tuple[Command, ...]] = field(default_factory=list)
    snapshots: list[tuple[int, bytes]] = field(default_factory=list)
    checks: list[Callable[[Run], None]] = field(default_factory=list)
    wishes_n: int = 0
    now_ms: int = at(0)

    def say(self, event: Event) -> None:
        commands = self.engine.process(event)
        self.journal.record(event, commands)
        self.events.append(event)
        self.commands.append(commands)
        for command in commands:
            self.venue.take(command)
        for check in self.checks:
            check(self)
        if self.engine.quiescent and self.rng.random() < 0.1:
            self.snapshots.append((len(self.events), save_bytes(self.engine)))

    def wish(self, action: OperatorAction) -> None:
        self.wishes_n += 1
        self.say(Operator(action, f"w{self.wishes_n}", 0))

    def stir(self, times: int) -> None:
        """Let the venue trade and talk for a while."""
        for _ in range(times):
            if self.rng.random() < 0.4:
                self.venue.fill_something()
            if self.rng.random() < 0.2:
                self.tick(10_000)
            for event in self.venue.arrive():
                self.say(event)

    def tick(self, later_ms: int) -> None:
        self.now_ms += later_ms
        self.say(Tick(self.now_ms))

    def settle(self) -> None:
        """Let everything arrive that was said, and the engine ask as often as it wants to."""
        for _ in range(2_000):
            told = self.venue.arrive()
            for event in told:
                self.say(event)
            if not told:
                if self.engine.wake_ms > self.now_ms + 10 * 60_000:
                    return
                self.tick(60_000)
        raise AssertionError("the talk with the venue never ends")


def chaos_engine(seed: int) -> Engine:
    def weights(as_of_ms: int) -> list[float]:
        draw = Random(f"{seed},{as_of_ms}")
        return [draw.choice([0.0, draw.uniform(-0.4, 0.4)]) for _ in range(N)]

    return make_engine(FixedWeights(weights), limits=LIMITS, asks_max=4)


def chaos_run(
    seed: int,
    *,
    bars_n: int = 24,
    moving: bool = False,
    fee_bps: int = 0,
    wishes: bool = True,
    checks: Sequence[Callable[[Run], None]] = (),
) -> Run:
    """Trade `bars_n` source bars against a chaotic venue; the same seed gives the same run."""
    rng = Random(seed)
    run = Run(chaos_engine(seed), ChaosVenue(rng, fee_bps=fee_bps), rng, checks=list(checks))
    run.say(Started(at(0), "run", warming=True))
    run.say(bars(1))
    run.say(Started(at(1), "run"))
    run.settle()
    for bar in range(2, bars_n):
        if moving:
            moved = [float(m) * (1 + rng.gauss(0, 0.01)) for m in run.venue.marks]
            run.venue.marks = [Decimal(f"{m:.2f}") for m in moved]
        run.now_ms = at(bar)
        run.say(bars(bar, [float(m) for m in run.venue.marks]))
        run.stir(rng.randint(0, 40))
        if rng.random() < 0.2:
            run.venue.pay_funding()
        if rng.random() < 0.3:
            run.tick(60_000)
        if wishes and rng.random() < 0.15:
            run.wish(rng.choice(list(OperatorAction)))
        if wishes and rng.random() < 0.05:
            run.say(Started(at(bar) + 90_000, "again", warming=True))
            run.say(Started(at(bar) + 90_000, "again"))
        if run.engine.state.trading is TradingState.HALTED or rng.random() < 0.1:
            run.wish(OperatorAction.RESUME)
    run.stir(30)
    run.settle()
    return run


def quantities(engine: Engine) -> list[Decimal]:
    return [engine.state.book.ledger.quantity(key(i)) for i in range(N)]


def exact_equal(left: object, right: object) -> bool:
    """Compare two plain forms, arrays by their bytes."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.tobytes() == right.tobytes()
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(exact_equal(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(exact_equal, left, right))
    return left == right
