"""A full-size book through real ccxt and sockets, at an exchange that does its worst.

Prices stand still once trading begins, market time runs far ahead of the sockets, and every message
has a latency of its own, save that what concerns one order keeps its order. Orders are refused and
filled in parts, answers are lost after and before the venue acted. After every single fill the
truth is measured: what the account holds, and the worst that any subset of what rests or is under
way could make of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Final

import numpy as np
import numpy.typing as npt

from adapters.ccxt_venue.news import NewsRules
from adapters.ccxt_venue.opening import opened
from adapters.ccxt_venue.preparing import Wishes
from adapters.ccxt_venue.venue import CcxtVenue, VenueRules
from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.bank.records import BankEvent, OrderFilled, OrderUpdated
from adapters.rehearsal.bank.terms import BankSettings
from adapters.rehearsal.faults import Fault
from adapters.rehearsal.market import Coin, Settlement, Steps
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import DialectKind, RehearsalSettings
from adapters.rehearsal.universe import NAMES
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
    OrderRejected,
    Query,
    Started,
    Submit,
    Tick,
    VenueEvent,
)
from daemon.domain.order import Order, OrderId
from daemon.domain.units import DAY_MS, MINUTE_MS
from daemon.engine.cadence import CadenceRules
from daemon.engine.engine import Engine
from daemon.engine.risk import TradingState
from daemon.engine.rules import EngineRules
from tests.adapters.ccxt_venue.both_rig import ACCOUNTS, KEY, SECRET, opening_at
from tests.engine.world import H1, M30, FixedWeights
from tests.simulation.schedules import BETA_MAX, HISTORY, LIMITS, NET_MAX, Exposures, N

PRICE: Final = 100.0
CASH: Final = Decimal(10_000)
LOT: Final = Decimal("0.001")
STEP_MS: Final = 5 * MINUTE_MS
ORIGIN_MS: Final = 1_704_067_200_000
RULES: Final = VenueRules(receive_window_ms=200, parallel_n=4)
BANK: Final = BankSettings(
    depth_notional=Decimal(150),
    levels_n=8,
    level_bps=Decimal("0.1"),
    half_spread_bps=Decimal("0.5"),
)
WORST: Final = (
    Fault.ORDER_LOST_RESET,
    Fault.ORDER_LOST_503,
    Fault.ORDER_LOST_CUT,
    Fault.ORDER_LOST_NOT_JSON,
    Fault.ORDER_REFUSED_503,
    Fault.INSUFFICIENT_MARGIN,
    Fault.CLOCK_SKEW,
    Fault.HTTP_503,
    Fault.NOT_JSON_200,
    Fault.SLOW,
    Fault.FILL_DUPLICATED,
    Fault.FILLS_SHUFFLED,
    Fault.FILL_BEFORE_ACK,
    Fault.USER_STREAM_STALLED,
    Fault.USER_STREAM_DROPPED,
)
NEWS: Final = NewsRules(follow_up_s=0.2, reconcile_s=1.0, stream_silence_s=60, listen_key_s=600)
SETTLED_S_MAX: Final = 60.0  # by a loop that jumps, on a busy machine over answers too
HOURS_MAX: Final = 8
BUSY_MS: Final = (100, 2_000)
IDLE_MS: Final = (2_000, 90_000)
FAULTS_SHARE: Final = 0.03  # of the steps of market time, many to a message


class FlatMarket:
    """Serve coins whose price never moves and of which a little is traded in every step."""

    def __init__(self, names: Sequence[str]) -> None:
        self._coins = {
            name: Coin(
                name, name.removesuffix("USDT"), "0.01", str(LOT), "5", 2, 3, 0, None, 8 * 3_600_000
            )
            for name in names
        }

    @property
    def coins(self) -> Mapping[str, Coin]:
        """Give the coins."""
        return self._coins

    @property
    def step_ms(self) -> int:
        """Give the length of a step."""
        return STEP_MS

    @property
    def span_ms(self) -> tuple[int, int | None]:
        """Give the origin."""
        return ORIGIN_MS, None

    def steps(self, symbol: str, start_ms: int, end_ms: int) -> Steps:
        """Give the same step again and again."""
        count = max(0, (end_ms - start_ms) // STEP_MS)
        price = np.full(count, PRICE)
        return Steps(start_ms, STEP_MS, price, price, price, price, np.full(count, 8.0))

    def settlements(self, symbol: str, start_ms: int, end_ms: int) -> tuple[Settlement, ...]:
        """Give none."""
        return ()

    def funding_estimate(self, symbol: str, at_ms: int) -> float:
        """Give nothing to be paid."""
        return 0.0


def universe_at(venue: str) -> Universe:
    """Name the coins as a venue does."""
    rules = TradingRules(Decimal("0.01"), LOT, LOT, Decimal(5))
    bases = [name.removesuffix("USDT") for name in NAMES[:N]]
    keys = [InstrumentKey(venue, f"{base}/USDT:USDT") for base in bases]
    return Universe(
        tuple(Instrument(k, b, "USDT", "USDT", rules) for k, b in zip(keys, bases, strict=True))
    )


def symbol_of(order: Order) -> str:
    """Name an order's contract as the venue does."""
    return order.key.symbol.partition(":")[0].replace("/", "")


@dataclass
class Truth:
    """Hold what is true at the venue and on the wires, whatever anyone was told."""

    betas: Callable[[], Sequence[float]]
    index: Mapping[str, int]
    held: list[Decimal] = field(default_factory=lambda: [Decimal(0)] * N)
    cash: Decimal = CASH
    left: dict[str, tuple[int, Decimal]] = field(default_factory=dict)  # by client id
    under_way: dict[str, tuple[int, Decimal]] = field(default_factory=dict)
    seen: Exposures = field(default_factory=Exposures)

    def heard(self, events: Sequence[BankEvent]) -> None:
        """Follow the bank, and measure after every single fill."""
        for event in events:
            if not isinstance(event, OrderFilled | OrderUpdated):
                continue
            order = event.order
            index = self.index[order.symbol]
            self.under_way.pop(order.client_id, None)
            self.left.pop(order.client_id, None)
            if order.is_open:
                self.left[order.client_id] = (index, order.left)
            if isinstance(event, OrderFilled):
                trade = event.trade
                self.held[index] += trade.quantity
                self.cash -= trade.quantity * trade.price + trade.fee
                self.measure()

    def measure(self) -> None:
        """Note how near to the bounds any subset of what is out there could bring the truth."""
        values = [float(q) * PRICE for q in self.held]
        equity = float(self.cash) + sum(values)
        self.seen.net.append(self.worst(values, [1.0] * N) / (NET_MAX * equity))
        self.seen.beta.append(self.worst(values, self.betas()) / (BETA_MAX * equity))

    def worst(self, values: Sequence[float], factors: Sequence[float]) -> float:
        """Give the greatest exposure that any subset of what is out there could lead to."""
        high = low = sum(v * f for v, f in zip(values, factors, strict=True))
        for index, left in (*self.left.values(), *self.under_way.values()):
            value = float(left) * PRICE * factors[index]
            high, low = high + max(value, 0.0), low + min(value, 0.0)
        return max(high, -low)


class LiveSchedule:
    """Run one engine against one live venue."""

    def __init__(self, seed: int, running: RunningExchange, venue: CcxtVenue) -> None:
        self.rng = Random(seed)
        self.running, self.venue = running, venue
        self.universe = universe_at(venue.venue)
        self.begin_ms = running.exchange.now_ms
        self.tasks: set[asyncio.Task[None]] = set()
        self.locks: dict[OrderId, asyncio.Lock] = {}
        self.sent: dict[OrderId, Order] = {}
        self.kinds: dict[str, int] = {}
        self.wishes_n = 0
        self.is_kind = False  # no more faults
        self.news: asyncio.Task[None] | None = None

        def wanted(as_of_ms: int) -> Sequence[float]:
            weights = Random(f"{seed},{as_of_ms}")
            drawn = [weights.uniform(0.03, 0.1) * weights.choice((-1, 1)) for _ in range(N)]
            mean = sum(drawn) / N
            return [w - mean for w in drawn]

        cadence = CadenceRules(M30, (H1,), deadline_ms=20_000, alive_ms=4 * M30.ms)
        rules = EngineRules(cadence, LIMITS, np.full(N, 0.0006), {H1: 40}, uncertain_asks_max=6)
        self.engine = Engine(self.universe, FixedWeights(wanted), rules)
        names = [i.key.symbol.partition(":")[0].replace("/", "") for i in self.universe.instruments]
        self.truth = Truth(self.betas, {name: index for index, name in enumerate(names)})
        running.exchange.accounts.listen(self.truth.heard)

    def betas(self) -> Sequence[float]:
        exposure = self.engine.state.book.beta
        return [1.0] * N if exposure is None else exposure.betas

    # ---- the run ---------------------------------------------------------------------------------

    async def run(self, hours: int, orders_min: int, faults_min: int = 0) -> LiveSchedule:
        """Warm up on moving prices, then trade at prices that stand still.

        hours: at least so many, and until more than `orders_min` orders were sent and more than
        `faults_min` faults struck: how many do in an hour hangs on the machine.
        """
        self.say(Started(self.at(0), "run", warming=True))
        betas = [0.4 + 1.6 * i / (N - 1) for i in range(N)]
        self.rng.shuffle(betas)
        steps = [self.rng.gauss(0, 0.01) for _ in range(HISTORY)]
        moves = [[b * step + self.rng.gauss(0, 0.001) for b in betas] for step in steps]
        paths = np.cumsum(np.array(moves), axis=0)
        marks = np.round(PRICE * np.exp(paths - paths[-1]), 2)
        for bar in range(1, HISTORY + 1):
            self.say(self.bars(bar, marks[bar - 1]))
        self.say(Started(self.at(HISTORY), "run"))
        await self.drained()
        for bar in range(HISTORY + 1, HISTORY + 2 * HOURS_MAX + 1):
            enough = len(self.sent) > orders_min and self.struck_n > faults_min
            if bar > HISTORY + 2 * hours and enough:
                break
            await self.until(self.at(bar))
            self.say(self.bars(bar, np.full(N, PRICE)))
            if self.engine.state.trading is TradingState.HALTED:
                self.wishes_n += 1
                now_ms = self.running.exchange.now_ms
                self.say(Operator(OperatorAction.RESUME, f"w{self.wishes_n}", now_ms))
        self.is_kind = True
        self.running.exchange.faults.set("none", 1)
        await self.until(self.running.exchange.now_ms + M30.ms)
        try:
            async with asyncio.timeout(SETTLED_S_MAX):
                while not self.is_told():
                    await asyncio.sleep(0.02)
                    await self.drained()
        except TimeoutError:
            raise AssertionError(f"not every fill was told: {self.story()}") from None
        return self

    def story(self) -> str:
        """Say how things stand, for whoever reads a failure."""
        state, desk = self.engine.state, self.venue.desk
        return (
            f"{state.book.ledger.fills} of {len(self.truth.seen.net)} fills, {state.trading} "
            f"({state.halted_why}), open {list(state.orders.open.values())}, at the desk "
            f"{list(desk.open)} and in doubt {list(desk.doubtful)}, under way {self.tasks}, news "
            f"{self.news}, "
            f"{self.kinds}"
        )

    @property
    def struck_n(self) -> int:
        """Give how many faults the venue has met somebody with."""
        return self.running.exchange.faults.struck_n.total()

    def is_told(self) -> bool:
        """Tell whether the engine's book has every fill, whatever they add up to."""
        return self.engine.state.book.ledger.fills >= len(self.truth.seen.net)

    async def put(self, event: VenueEvent) -> None:
        """Hear what the private stream and its follow-ups bring."""
        self.say(event)

    def at(self, bar: int) -> int:
        return self.begin_ms + (bar - HISTORY) * M30.ms

    def bars(self, bar: int, marks: npt.NDArray[np.float64]) -> BarsClosed:
        values = np.repeat(marks[:, None], FIELDS, axis=1)
        proof = np.full(N, int(Proof.SUCCESSOR), dtype=np.uint8)
        return BarsClosed(self.at(bar), values, proof, marks.copy())

    async def until(self, end_ms: int) -> None:
        """Let market time run ahead, in steps of some seconds, while messages are under way."""
        exchange = self.running.exchange
        while exchange.now_ms < end_ms:
            # Who has messages under way lets time run slower, or it would ask in vain for ever.
            step_ms = int(self.rng.uniform(*(BUSY_MS if self.tasks else IDLE_MS)))
            await exchange.move_to(min(end_ms, exchange.now_ms + step_ms))
            if not self.is_kind and self.rng.random() < FAULTS_SHARE:
                exchange.faults.set(self.rng.choice(WORST).value, 1, seconds=0.05)
            self.say(Tick(exchange.now_ms))
            await asyncio.sleep(self.latency())

    async def drained(self) -> None:
        """Wait until nothing is under way."""
        while self.tasks:
            await asyncio.gather(*self.tasks)
            self.say(Tick(self.running.exchange.now_ms))

    def latency(self) -> float:
        fast = self.rng.random() < 0.85
        return self.rng.uniform(0.0, 0.003) if fast else self.rng.uniform(0.003, 0.04)

    # ---- the wires -------------------------------------------------------------------------------

    def say(self, event: Event) -> None:
        if isinstance(event, OrderAbsent | OrderRejected):
            self.truth.under_way.pop(event.order_id, None)
        name = type(event).__name__
        self.kinds[name] = self.kinds.get(name, 0) + 1
        for command in self.engine.process(event):
            self.take(command)

    def take(self, command: Command) -> None:
        match command:
            case Submit(approved=approved):
                order = approved.order
                assert order.order_id not in self.sent, f"{order.order_id} was sent twice"
                self.sent[order.order_id] = order
                self.truth.under_way[order.order_id] = (order.index, order.quantity)
                self.carry(order.order_id, lambda: self.venue.submit([order]))
            case Cancel(order_id=name, key=key):
                self.carry(name, lambda: self.venue.cancel(name, key))
            case Query(order_id=name, key=key):
                self.carry(name, lambda: self.venue.query(name, key))
            case AskSnapshot(executions_cursor=cursor):
                account = OrderId("account")
                self.carry(account, lambda: self.venue.snapshot(cursor, self.venue.venue))
            case _:
                pass

    def carry(self, name: OrderId, ask: Callable[[], Awaitable[Sequence[VenueEvent]]]) -> None:
        task = asyncio.create_task(self.carried(name, ask))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def carried(
        self, name: OrderId, ask: Callable[[], Awaitable[Sequence[VenueEvent]]]
    ) -> None:
        async with self.locks.setdefault(name, asyncio.Lock()):
            await asyncio.sleep(self.latency())
            told = await ask()
            await asyncio.sleep(self.latency())
            for event in told:
                self.say(event)


@asynccontextmanager
async def scheduled(seed: int, venue: str) -> AsyncIterator[LiveSchedule]:
    """Open a live venue at an exchange of 20 coins whose prices stand still."""
    settings = RehearsalSettings(
        dialect=DialectKind(venue),
        accounts=(KeySettings(KEY, SECRET, str(CASH)),),
        start_ms=ORIGIN_MS + 3 * DAY_MS,
        bank=BANK,
    )
    async with await serve(settings, FlatMarket(NAMES[:N])) as running:
        wishes = Wishes(ACCOUNTS[venue], 20, "refuse", frozenset())
        chosen = {"instruments": universe_at(venue).instruments, "wishes": wishes, "rules": RULES}
        async with opened(opening_at(running, **chosen)) as live:
            run = LiveSchedule(seed, running, live)
            run.news = news = asyncio.create_task(live.news(run.put, NEWS))
            try:
                yield run
                assert not news.done(), news
            finally:
                news.cancel()
                await asyncio.gather(news, *run.tasks, return_exceptions=True)
