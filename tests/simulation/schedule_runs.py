"""One schedule: a full-size book, an engine that may die, and a venue that does its worst."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any, Final

import numpy as np

from daemon import codec
from daemon.domain.instrument import Standing
from daemon.domain.messages import (
    BarsClosed,
    Command,
    Event,
    Operator,
    OperatorAction,
    OrderFilled,
    Started,
    Submit,
    Tick,
    Transferred,
)
from daemon.domain.order import OrderId
from daemon.engine.engine import Engine
from daemon.engine.reconcile import ReconcilePolicy
from daemon.engine.risk import TradingState
from daemon.engine.styles import ExecutionRules
from daemon.runtime.recovery import fingerprint, save_bytes
from tests.engine.world import CASH, FixedWeights, at
from tests.simulation.schedule_troubles import Troubles, drawn
from tests.simulation.schedule_venue import Agenda, News, Venue
from tests.simulation.schedules import (
    BETA_MAX,
    EARLIER,
    HISTORY,
    LOT,
    NET_MAX,
    RULES,
    N,
    World,
    bars_of,
    universe,
    world,
)

WORLDS: Final = 16
ORDERS_MIN: Final = 100
DECISIONS_MIN: Final = 2
HOURS_MAX: Final = 48
REST_MS: Final = 180_000  # after enough orders: how much more is played, at most
STRIKES_MS: Final = 30_000  # of the last trouble: how much of it is played, at least
WISH_WAITS_MS: Final = 10_000
TICK_MS: Final = 1_000  # between two Ticks, at least
TILT: Final = 0.6  # of the bounds, at most: where a schedule begins


def fixed_weights(seed: int) -> FixedWeights:
    """Want another book at each instant, without net, of 1.3 times the equity in gross."""

    def wanted(as_of_ms: int) -> Sequence[float]:
        rng = Random(f"{seed},{as_of_ms}")
        weights = [rng.uniform(0.03, 0.1) * rng.choice((-1, 1)) for _ in range(N)]
        mean = sum(weights) / N
        return [w - mean for w in weights]

    return FixedWeights(wanted)


def book_before(rng: Random, market: World) -> list[Decimal]:
    """Draw a book from an earlier life, somewhere inside both bounds."""
    betas = np.array(market.betas)
    away = betas - betas.mean()
    weights = np.array([rng.uniform(-0.08, 0.08) for _ in range(N)])
    weights -= weights.mean()
    weights -= away * (weights @ betas) / (away @ away)
    net = rng.uniform(-TILT, TILT) * NET_MAX
    beta = rng.uniform(-TILT, TILT) * BETA_MAX - net * betas.mean()
    weights += net / N + away * beta / (away @ away)
    sizes = weights * float(CASH) / market.marks
    return [Decimal(repr(float(size))).quantize(LOT) for size in sizes]


class Schedule:
    """Run one engine against one venue; the same seed gives the same run."""

    def __init__(
        self, seed: int, execution: ExecutionRules | None = None, troubles: Troubles | None = None
    ) -> None:
        self.rng = Random(seed)
        self.troubles = drawn(seed) if troubles is None else troubles
        market = world(seed // 8 % WORLDS)
        self.agenda = Agenda(at(HISTORY))
        self.venue = Venue(self.rng, self.troubles, self.agenda, market, self.hear_later)
        for index, size in enumerate(book_before(self.rng, market)):
            self.venue.foreign(EARLIER, index, size)
        self.happened, self.truth = self.venue.happened, self.venue.truth
        self.events: list[Event] = []
        self.commands: list[tuple[Command, ...]] = []
        self.wishes_n = 0
        self.newest_ms: dict[OrderId, int] = {}  # of the fills that were heard

        # Trades of the owner are adopted; in a book that is ours alone any stranger halts.
        policy = ReconcilePolicy.ADOPT if self.troubles.moves else ReconcilePolicy.HALT
        rules = replace(RULES, reconcile=policy, execution=execution or ExecutionRules())
        self.fresh = partial(Engine, universe(), fixed_weights(seed), rules)
        self.engine = self.fresh()
        self.engine.restore(market.snapshot)
        self.saved: tuple[int, dict[str, Any]] = (0, dict(market.snapshot))
        self.process_n = 1  # what was to be told to one that died is lost
        self.is_up = True
        self.wake_ms: int | None = None  # when the engine wants a Tick, once it was asked for that
        self.crashes = sorted(self.troubles.crashes, reverse=True)
        self._see_betas()

    def _see_betas(self) -> None:
        counted = self.engine.state.book.beta
        assert counted is not None
        self.betas = counted.betas

    @property
    def orders_n(self) -> int:
        """Give how many orders the engine has sent so far."""
        return len(self.venue.orders)

    # ---- the run ---------------------------------------------------------------------------------

    def run(self) -> Schedule:
        """Trade through two decisions and every trouble, until more than 100 orders were sent."""
        self.say(Started(at(HISTORY), "run"))
        for due_ms, action in self._planned():
            self.agenda.later(due_ms - at(HISTORY), action)
        struck_ms = max(at(HISTORY + 2 * DECISIONS_MIN), self.troubles.last_ms) + STRIKES_MS
        for bar in range(HISTORY + 1, HISTORY + 2 * HOURS_MAX + 1):
            self.until(at(bar))
            if not self.is_up:
                self.restart()
            self.close(bar)
            self.until(min(struck_ms, at(bar + 1)))
            if self.agenda.now_ms >= struck_ms:
                self.until(at(bar + 1), orders_n=ORDERS_MIN)
                if self.orders_n > ORDERS_MIN:
                    break
        self.until(self.agenda.now_ms + self.rng.randint(30_000, REST_MS))
        if not self.is_up:
            self.restart()
        return self

    def _planned(self) -> list[tuple[int, Callable[[], None]]]:
        """List what strikes, with when."""
        what, stand = self.troubles, self.venue.stand
        plan: list[tuple[int, Callable[[], None]]] = []
        for at_ms, action in what.wishes:
            resumes_ms = self.rng.randint(30_000, 1_500_000)
            plan.append((at_ms, partial(self.wish, action, resumes_ms)))
        for (since_ms, to_ms), index in what.halts:
            plan.append((since_ms, partial(stand, index, Standing.REDUCE_ONLY)))
            plan.append((to_ms, partial(stand, index, Standing.TRADING)))
        plan += [(at_ms, partial(stand, index, Standing.GONE)) for at_ms, index in what.ends]
        plan += [(at_ms, self.venue.owner_trades) for at_ms in what.trades]
        plan += [(at_ms, self.venue.owner_transfers) for at_ms in what.transfers]
        return plan

    def close(self, bar: int) -> None:
        """Close a bar at the prices that the market has come to."""
        venue = self.venue
        if self.troubles.moves:
            venue.move()
        self.say(bars_of(bar, venue.marks, sorted(venue.gone)))
        if self.engine.state.trading is TradingState.HALTED:
            self.happened["halts by the engine"] += 1
            self.wish(OperatorAction.RESUME)
        if self.crashes and self.engine.quiescent:
            self.saved = (len(self.events), codec.decode(save_bytes(self.engine), dict[str, Any]))

    def wish(self, action: OperatorAction, resumes_ms: int | None = None) -> None:
        """Let the operator ask for something; while the daemon is dead the wish waits.

        resumes_ms: how long after it was heard he wants to go on, if ever.
        """
        if not self.is_up:
            self.agenda.later(WISH_WAITS_MS, partial(self.wish, action, resumes_ms))
            return
        if resumes_ms is not None:
            self.agenda.later(resumes_ms, partial(self.wish, OperatorAction.RESUME))
        self.wishes_n += 1
        self.happened[f"operator: {action}"] += 1
        self.say(Operator(action, f"w{self.wishes_n}", self.agenda.now_ms))

    def until(self, end_ms: int, orders_n: float = math.inf) -> None:
        """Let everything happen that is due before `end_ms`, with a Tick when the engine asks.

        orders_n: end sooner, once the engine has sent more than this many.
        """
        agenda, orders, queue = self.agenda, self.venue.orders, self.agenda.queue
        while len(orders) <= orders_n:
            due_ms = queue[0][0] if queue else end_ms
            soonest_ms = agenda.now_ms + TICK_MS
            # What is due within a second comes before any Tick: no need to ask for one.
            if due_ms < end_ms and (due_ms <= soonest_ms or not self.is_up):
                agenda.happen()
                continue
            if self.wake_ms is None:
                self.wake_ms = self.engine.wake_ms
            wake_ms = max(self.wake_ms, soonest_ms) if self.is_up else due_ms
            if min(wake_ms, due_ms) >= end_ms:
                agenda.now_ms = end_ms
                return
            if due_ms <= wake_ms:
                agenda.happen()
            else:
                agenda.now_ms = wake_ms
                self.say(Tick(wake_ms))

    # ---- the engine ------------------------------------------------------------------------------

    def hear_later(self, events: Sequence[News], delay_ms: int) -> None:
        """Let the engine hear events in one piece, unless it has died by then."""
        self.agenda.later(delay_ms, partial(self._hear, self.process_n, tuple(events)))

    def _hear(self, process_n: int, events: Sequence[News]) -> None:
        for event in events:
            if process_n == self.process_n:
                self.say(event)

    def say(self, event: Event) -> None:
        """Let the engine hear something, and carry out what it answers; or let it die there."""
        if not self.is_up:
            return
        commands = self.engine.process(event)
        self.wake_ms = None
        self.events.append(event)
        self.commands.append(commands)
        self._follow(event)
        if not commands:
            return
        left = self._dies_after(commands)
        for number, command in enumerate(commands):
            self.venue.take(command, is_sent=number < left)
        if left < len(commands):
            self._die()

    def _follow(self, event: Event) -> None:
        """Value the truth at what the engine decides by from here on."""
        truth, before, moved = self.truth, self.betas, False
        if type(event) is OrderFilled:
            fill = event.fill
            moved = truth.unheard.pop(fill.trade_id, None) is not None
            if fill.at_ms < self.newest_ms.get(fill.order_id, 0):
                self.happened["fills out of order"] += 1
            else:
                self.newest_ms[fill.order_id] = fill.at_ms
        elif type(event) is Transferred:
            moved = truth.unheard_cash.pop(event.cashflow_id, None) is not None
        counted = self.engine.state.book.beta
        self.betas = before if counted is None else counted.betas
        if type(event) is BarsClosed or self.betas is not before:
            known = truth.betas if self.betas is before else self.betas
            truth.value(self.venue.marks.tolist(), known)
            moved = True
        if moved and self.troubles.moves:
            truth.others_moved()

    def _dies_after(self, commands: Sequence[Command]) -> int:
        """Give how many of these commands still leave: all, unless it is time to die."""
        if not self.crashes or self.crashes[-1][0] > self.agenda.now_ms:
            return len(commands)
        if not any(isinstance(command, Submit) for command in commands):
            return len(commands)
        return min(self.crashes.pop()[1], len(commands) - 1)

    def _die(self) -> None:
        self.is_up = False
        self.process_n += 1
        self.happened["crashes"] += 1
        self.agenda.later(self.rng.randint(1_000, 120_000), self.restart)

    def restart(self) -> None:
        """Recover from the snapshot and the journal since; the commands must be the same."""
        if self.is_up:
            return
        after_n, snapshot = self.saved
        engine = self.fresh()
        engine.restore(snapshot)
        tail = zip(self.events[after_n:], self.commands[after_n:], strict=True)
        for event, commands in tail:
            told = engine.process(event)
            assert list(map(fingerprint, told)) == list(map(fingerprint, commands))
            self.happened["events replayed"] += 1
        self.engine, self.is_up = engine, True
        self.happened["orders open at a restart"] += len(engine.state.orders.open)
        self._see_betas()
        self.say(Started(self.agenda.now_ms, f"run{self.process_n}"))
