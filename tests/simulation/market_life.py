"""A generated market of twelve contracts whose life is scripted: what its venue says, when.

A script may leave spare columns behind the twelve, which contracts listed later take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

import numpy as np

from adapters.paper import MemoryStore, PaperSettings, PaperVenue
from daemon.domain.bar import FIELDS, Floats, Proof
from daemon.domain.decision import Decision
from daemon.domain.instrument import (
    Instrument,
    InstrumentKey,
    Standing,
    TradingRules,
    Universe,
    spare_columns,
)
from daemon.domain.messages import (
    Alert,
    BarsClosed,
    Command,
    Event,
    InstrumentChanged,
    MarketEvent,
    OrderFilled,
    Submit,
)
from daemon.domain.order import SETTLEMENT_PREFIX, Order
from daemon.domain.units import MINUTE_MS, Timeframe
from daemon.engine.cadence import CadenceRules
from daemon.engine.engine import Engine
from daemon.engine.reconcile import differences
from daemon.engine.risk import RiskLimits
from daemon.engine.rules import EngineRules
from daemon.runtime.replay import ReplayShell
from strategies.relative_strength import RelativeStrength, RelativeStrengthSettings

N: Final = 12
BAR_MS: Final = 30 * MINUTE_MS
START_MS: Final = 1_700_006_400_000
WARM: Final = 60  # bars before the first decision
BARS: Final = 260
CHANGE: Final = 120  # the bar at whose close most scripts begin
H1: Final = Timeframe(60)
NET_MAX: Final = 0.05
RULES: Final = TradingRules(Decimal("0.001"), Decimal("0.001"), Decimal("0.001"), Decimal(5))
PAPER: Final = PaperSettings(2.0, 0.5, 0.0, 0.0, 0.5, {"USDT": Decimal(100_000)})


def at(bar: int) -> int:
    """Give the close of a bar in ms."""
    return START_MS + bar * BAR_MS


@dataclass
class Script:
    """Hold what happens: events by bar, and which bars do not exist.

    values: (BARS, N + spare, 5). said: what the venue says at a bar, before the bar of that
    instant. later: (BARS, spare, 5) what a contract in each spare column would trade at.
    """

    values: Floats
    instruments: list[Instrument]
    said: dict[int, list[MarketEvent]] = field(default_factory=dict)
    later: Floats = field(default_factory=lambda: np.empty((BARS, 0, FIELDS)))

    @property
    def width(self) -> int:
        """Count the columns."""
        return len(self.values[0])

    def say(self, bar: int, index: int, standing: Standing, why: str, **rules: Decimal) -> None:
        """Let the venue say something; later rules build on earlier ones."""
        now = self.instruments[index]
        now = replace(now, rules=replace(now.rules, **rules)) if rules else now
        self.instruments[index] = now
        self.said.setdefault(bar, []).append(InstrumentChanged(at(bar), index, now, standing, why))

    def join(self, bar: int, index: int, name: str, *, since: int | None = None) -> None:
        """Let a contract take the spare column `index` at a bar.

        since: it has traded from that bar on; the bars from before it was found come late.
        """
        first = bar if since is None else since
        key = InstrumentKey("paper", f"{name}/USDT:USDT")
        listed_ms = at(first) - BAR_MS
        self.instruments[index] = Instrument(key, name, "USDT", "USDT", RULES, listed_ms)
        self.values[bar:, index] = self.later[bar:, index - N]
        self.say(bar, index, Standing.TRADING, "it was listed")
        for past in range(first, bar):
            values = np.full((self.width, FIELDS), np.nan)
            proof = np.zeros(self.width, dtype=np.uint8)
            values[index], proof[index] = self.later[past, index - N], Proof.REREAD
            late = BarsClosed(at(past), values, proof, np.full(self.width, np.nan), False)
            self.said[bar].append(late)

    def silent(self, index: int, first: int, last: int = BARS) -> None:
        """Let bars [first, last) of an instrument not exist."""
        self.values[first:last, index] = np.nan

    def events(self) -> Iterator[MarketEvent]:
        """Yield everything in time order."""
        for bar in range(BARS):
            yield from self.said.get(bar, ())
            values = self.values[bar]
            proof = np.where(np.isnan(values[:, 0]), Proof.ABSENT, Proof.SUCCESSOR)
            last = np.full(self.width, np.nan)
            opens = self.values[bar + 1, :, 0] if bar + 1 < BARS else last
            yield BarsClosed(at(bar), values.copy(), proof.astype(np.uint8), opens.copy())


def script(seed: int, spare: int = 0) -> Script:
    """Generate prices: a common walk, twelve drifts that take turns, enough volume."""
    if spare:
        made, later = script(seed), script(seed + 1_000).values[:, :spare]
        nothing = np.full((BARS, spare, FIELDS), np.nan)
        made.values = np.concatenate([made.values, nothing], axis=1)
        made.instruments, made.later = list(universe(spare).instruments), later
        return made
    dice = np.random.default_rng(seed)
    drift = np.repeat(dice.normal(0.0, 0.0015, size=(BARS // 20 + 1, N)), 20, axis=0)[:BARS]
    steps = 0.002 * dice.normal(size=(BARS, 1)) + 0.003 * dice.normal(size=(BARS, N)) + drift
    closes = 100.0 * np.exp(np.cumsum(steps, axis=0))
    opens = np.vstack([np.full((1, N), 100.0), closes[:-1]])
    values = np.empty((BARS, N, FIELDS))
    values[:, :, 0], values[:, :, 3] = opens, closes
    values[:, :, 1], values[:, :, 2] = np.maximum(opens, closes), np.minimum(opens, closes)
    values[:, :, 4] = 5_000.0
    return Script(values, list(universe().instruments))


def universe(spare: int = 0) -> Universe:
    names = [f"C{i:02d}" for i in range(N)]
    return Universe(
        tuple(
            Instrument(InstrumentKey("paper", f"{n}/USDT:USDT"), n, "USDT", "USDT", RULES)
            for n in names
        )
        + spare_columns("paper", "USDT", spare)
    )


def engine_for(instruments: Universe) -> Engine:
    rules = EngineRules(
        cadence=CadenceRules(Timeframe(30), (H1,)),
        limits=RiskLimits(net_weight_max=NET_MAX, order_weight_max=0.5),
        cost=np.full(len(instruments), 0.0003),
        bars_n={H1: 60},
    )
    knobs = RelativeStrengthSettings(lookback_bars=12, legs_each_side=3)
    return Engine(instruments, RelativeStrength(knobs), rules)


@dataclass
class Told:
    """Hold what came of a script."""

    engine: Engine
    venue: PaperVenue
    decisions: list[Decision]
    held: Floats  # (BARS, N + spare) quantities after each bar
    orders: list[tuple[int, Order]]  # with the bar at which they were sent
    settlements: int
    net_weight: Floats  # (BARS,)
    alerts: list[Alert]
    entries: list[tuple[Event, tuple[Command, ...]]]

    def sent(self, index: int, first: int, last: int = BARS) -> list[Order]:
        """List the orders on an instrument that were sent in [first, last)."""
        return [o for bar, o in self.orders if o.index == index and first <= bar < last]

    def agree(self) -> bool:
        """Tell whether the account of the venue and ours are the same, to the last cent."""
        snapshot = self.venue._snapshot("")
        return differences(self.engine.state.book.ledger, snapshot) == ()


class Recording:
    """Write down what the engine sends, and check what holds at every event."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.bar = 0
        self.orders: list[tuple[int, Order]] = []
        self.settlements = 0
        self.entries: list[tuple[Event, tuple[Command, ...]]] = []

    def record(self, event: Event, commands: Sequence[Command]) -> None:
        """Take an entry of the journal."""
        self.entries.append((event, tuple(commands)))
        if isinstance(event, BarsClosed) and event.final:
            self.bar = (event.close_ms - START_MS) // BAR_MS
        if isinstance(event, OrderFilled):
            self.settlements += event.fill.order_id.startswith(SETTLEMENT_PREFIX)
        book = self.engine.state.book
        for command in commands:
            if not isinstance(command, Submit):
                continue
            order = command.approved.order
            self.orders.append((self.bar, order))
            standing = Standing(book.standing[order.index])
            assert standing is not Standing.GONE, "an order was sent for what is gone"
            if standing is not Standing.TRADING:
                held = book.held[order.index]
                assert held * float(order.quantity) < 0, "what may only be reduced was opened"
                assert abs(order.quantity) <= abs(Decimal(repr(held))) + Decimal("1e-9")
            rules = book.universe.instruments[order.index].rules
            assert order.quantity % rules.quantity_step == 0, "a lot of the old size was sent"


def play(made: Script, on_bar: Callable[[int, Engine], None] | None = None) -> Told:
    """Trade the script with the real strategy, engine and paper venue."""
    begun = universe(made.width - N)
    engine = engine_for(begun)
    venue = PaperVenue(begun, PAPER, MemoryStore(), opened_ms=START_MS)
    journal = Recording(engine)
    held, net = np.zeros((BARS, made.width)), np.zeros(BARS)
    events = list(made.events())
    bars = [i for i, event in enumerate(events) if isinstance(event, BarsClosed)]
    first = bars[WARM]
    shell = ReplayShell(engine, venue, None, journal)
    shell.warm_up(events[:first])
    shell.start(at(WARM - 1), "life")
    for event in events[first:]:
        shell.run([event])
        if isinstance(event, BarsClosed) and event.final:
            bar = (event.close_ms - START_MS) // BAR_MS
            held[bar] = engine.state.book.held
            net[bar] = engine.state.book.net / engine.state.book.equity
            if on_bar is not None:
                on_bar(bar, engine)
    return Told(
        engine,
        venue,
        shell.result.decisions,
        held,
        journal.orders,
        journal.settlements,
        net,
        shell.result.alerts,
        journal.entries,
    )
