"""A venue in market time that does its worst, and the wires to it.

Every message has a latency of its own, save that what concerns one order reaches the venue in the
order it was sent. Orders are lost, refused, filled in parts and at any moment, also while a cancel
is on its way; answers are lost, late, repeated, or never come. `schedule_troubles` adds to that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Final

import numpy as np

from daemon.domain.instrument import Standing
from daemon.domain.messages import (
    AskSnapshot,
    Cancel,
    Command,
    InstrumentChanged,
    OrderAbsent,
    OrderAccepted,
    OrderEnded,
    OrderFilled,
    OrderRejected,
    OrderUncertain,
    Query,
    Snapshotted,
    Submit,
    Transferred,
    VenueEvent,
)
from daemon.domain.order import SETTLEMENT_PREFIX, Fill, Order, OrderId, OrderKind
from daemon.domain.portfolio import AccountSnapshot
from tests.engine.world import CASH, CASH_KEY, VENUE, deposit
from tests.simulation.schedule_troubles import Troubles
from tests.simulation.schedules import FEE, LOT, N, Truth, Working, World, universe

NEWS_MS: Final = 60_000  # the news of a halt may be so late
SPREAD: Final = 0.0005  # of the mark: how far from it trades are, at most
DRIFT: Final = 0.005  # likewise where prices move, between two bars as well

News = VenueEvent | InstrumentChanged


class Agenda:
    """Hold what is to happen, in market time."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.queue: list[tuple[int, int, Callable[[], None]]] = []  # the next one first
        self._turn = 0

    def later(self, delay_ms: int, action: Callable[[], None]) -> int:
        """Let something happen after a delay; give when."""
        self._turn = turn = self._turn + 1
        due_ms = self.now_ms + delay_ms
        heappush(self.queue, (due_ms, turn, action))
        return due_ms

    @property
    def next_ms(self) -> int | None:
        """Give when the next thing happens, None where nothing is to."""
        return self.queue[0][0] if self.queue else None

    def happen(self) -> None:
        """Let the next thing happen, now if it is late."""
        due_ms, _, action = heappop(self.queue)
        if due_ms > self.now_ms:
            self.now_ms = due_ms
        action()


class Venue:
    """Take commands; give `hear` what the engine is told, in one piece, with a delay in ms."""

    def __init__(
        self,
        rng: Random,
        troubles: Troubles,
        agenda: Agenda,
        market: World,
        hear: Callable[[Sequence[News], int], None],
    ) -> None:
        self.rng = rng
        self.troubles = troubles
        self.agenda = agenda
        self.hear = hear
        self.truth = Truth(market, [Decimal(0)] * N, CASH)
        self.marks = market.marks
        self.prices = self.marks.copy()  # of the market now: the marks follow at each bar
        self.true_betas = np.array(market.true_betas)
        self.orders: dict[OrderId, Working] = {}
        self.executions: list[VenueEvent] = [deposit()]
        self.happened = Counter[str]()
        self.keys = [one.key for one in universe().instruments]
        self.halted: set[int] = set()
        self.gone: set[int] = set()

    # ---- the wires -------------------------------------------------------------------------------

    def take(self, command: Command, *, is_sent: bool = True) -> None:
        """Carry out a command; one that is not sent is an intent that died with its process."""
        if type(command) is Submit:  # most commands are: a plain question is faster than a match
            work = self._intend(command.approved.order)
            if is_sent:
                self._to_venue(work, partial(self._arrives, work))
            else:
                self.truth.closes(work)
            return
        match command:
            case Cancel(order_id=order_id) if is_sent:
                work = self.orders[order_id]
                self._to_venue(work, partial(self._cancels, work))
            case Query(order_id=order_id) if is_sent:
                work = self.orders[order_id]
                self._to_venue(work, partial(self._asked, work))
            case AskSnapshot(executions_cursor=cursor) if is_sent:
                self.agenda.later(self.latency(), lambda: self._account(cursor))
            case _:
                pass

    def _intend(self, order: Order) -> Working:
        assert order.order_id not in self.orders, f"{order.order_id} was sent twice"
        work = self.orders[order.order_id] = Working(order, order.quantity)
        self.truth.opens(work)
        return work

    def latency(self) -> int:
        """Draw how long one message takes, ms."""
        fate = self.rng.random()
        if fate < 0.9:  # up to 400 ms, nine times in ten
            return int((3 + fate * 441) * self.troubles.slow)
        return int((400 + (fate - 0.9) * 896_000) * self.troubles.slow)  # else up to 90 s

    def _to_venue(self, work: Working, action: Callable[[], None]) -> None:
        delay_ms, soonest_ms = self.latency(), work.heard_ms - self.agenda.now_ms + 1
        if delay_ms < soonest_ms:
            delay_ms = soonest_ms
        work.heard_ms = self.agenda.later(delay_ms, action)

    def is_lost(self) -> bool:
        """Tell whether an answer that leaves now is lost."""
        now_ms = self.agenda.now_ms
        loss = self.troubles.loss(now_ms)
        is_lost = self.rng.random() < loss
        if is_lost:
            self.happened["answers lost"] += 1
            self.happened["answers lost in a burst"] += self.troubles.lose < loss < 1.0
            self.happened["answers lost in an outage"] += loss == 1.0
        return is_lost

    def answer(self, *events: News) -> None:
        """Bring news in one piece and in order, after a while."""
        self.hear(events, self.latency())

    def tell(self, *events: VenueEvent) -> None:
        """Let the stream bring events, each in its own time, or lose them all."""
        if not self.is_lost():
            for event in events:
                self.hear((event,), self.latency())

    def _is_unclear(self, work: Working) -> bool:
        """Tell whether a request got no answer; then mostly our own end of the wire says so."""
        if not self.is_lost():
            return False
        if self.rng.random() < 0.5:
            self.answer(OrderUncertain(work.order.order_id, self.agenda.now_ms, "timed out"))
        return True

    # ---- orders ----------------------------------------------------------------------------------

    def _arrives(self, work: Working) -> None:
        order, now_ms = work.order, self.agenda.now_ms
        if self.rng.random() < self.troubles.lose:  # lost on the way, and nobody knows
            self.truth.closes(work)
            self.happened["orders lost"] += 1
            if self.rng.random() < 0.5:
                self.answer(OrderUncertain(order.order_id, now_ms, "reset"))
            return
        work.arrived = True
        why = self._refuses(order)
        if why:
            self.truth.closes(work)
            self.happened["orders refused"] += 1
            work.story = [OrderRejected(order.order_id, now_ms, why)]
        else:
            work.story = [OrderAccepted(order.order_id, now_ms)]
            self.agenda.later(self._fill_delay(order), partial(self._fills, work))
        if not self._is_unclear(work):
            self.tell(*work.story)

    def _refuses(self, order: Order) -> str:
        if order.index in self.gone or (order.index in self.halted and not order.reduce_only):
            self.happened["orders refused by a halted market"] += 1
            return "the instrument is not trading"
        return "margin" if self.rng.random() < self.troubles.reject else ""

    def _fill_delay(self, order: Order) -> int:
        slow = order.kind is OrderKind.LIMIT
        return int(self.rng.expovariate(1 / (120_000 if slow else 2_000)))

    def _fills(self, work: Working) -> None:
        if not work.is_open:
            return
        order, rng = work.order, self.rng
        lots = int(abs(work.left) / LOT)
        filled_n = lots if rng.random() < 0.5 else 1 + int(rng.random() * lots)
        if rng.random() < self.troubles.crumbs:
            filled_n = 1
            self.happened["fills of one lot"] += 1
        quantity = filled_n * (LOT if work.left > 0 else -LOT)
        price = order.limit_price or self.price(order.index)
        event = self._trade(order.order_id, order.index, quantity, price)
        self.truth.fills(work, quantity, price, event.fill.fee)
        work.story.append(event)
        if self.troubles.outages:
            self.happened["fills in an outage"] += self.troubles.loss(self.agenda.now_ms) == 1.0
        self.tell(event)
        if rng.random() < 0.1:
            self.happened["fills repeated"] += 1
            self.tell(event)
        if work.is_open:
            self.agenda.later(self._fill_delay(order), partial(self._fills, work))

    def price(self, index: int) -> Decimal:
        """Draw the price of a trade now."""
        off = DRIFT if self.troubles.moves else SPREAD
        price = self.prices.item(index) * self.rng.uniform(1 - off, 1 + off)
        return Decimal(f"{price:.2f}")

    def _trade(
        self, order_id: OrderId, index: int, quantity: Decimal, price: Decimal
    ) -> OrderFilled:
        fee = abs(quantity) * price * FEE
        executions = self.executions
        names = (f"x{len(executions)}", order_id, self.keys[index], index)
        event = OrderFilled(Fill(*names, quantity, price, fee, self.agenda.now_ms))
        executions.append(event)
        return event

    def _cancels(self, work: Working) -> None:
        if work.arrived and work.is_open and not self.is_lost():
            self._ends(work, "cancelled")
        self._asked(work)

    def _ends(self, work: Working, why: str) -> None:
        """End an order that was filled in part or not at all."""
        self.truth.closes(work)
        self.happened["cancels after a part"] += isinstance(work.story[-1], OrderFilled)
        work.story.append(OrderEnded(work.order.order_id, self.agenda.now_ms, why))

    def _asked(self, work: Working) -> None:
        if self._is_unclear(work):
            return
        if not work.arrived:
            self.answer(OrderAbsent(work.order.order_id, self.agenda.now_ms))
        else:  # one answer: what it tells comes in one piece, in order
            self.answer(*work.story)

    def _account(self, cursor: int) -> None:
        """Answer with the account as it is then, once answers come through."""
        now_ms = self.agenda.now_ms
        wait_ms = self.troubles.outage_end(now_ms) - now_ms
        if wait_ms:
            self.agenda.later(wait_ms, lambda: self._account(cursor))
            return
        self.hear(self.account(cursor), 0)

    def account(self, cursor: int) -> tuple[VenueEvent, ...]:
        """Give what was executed from `cursor` on (-1: nothing of it), and the account."""
        keys = universe().instruments
        held = {keys[i].key: q for i, q in enumerate(self.truth.held) if q}
        cash, executed_n = {CASH_KEY: self.truth.cash}, len(self.executions)
        taken = AccountSnapshot(VENUE, self.agenda.now_ms, held, cash, executed_n)
        return (*self.executions[cursor if cursor >= 0 else executed_n :], Snapshotted(taken))

    # ---- what others do --------------------------------------------------------------------------

    def foreign(self, name: str, index: int, quantity: Decimal) -> OrderFilled:
        """Book a trade that no order of the engine made."""
        price = self.price(index)
        event = self._trade(OrderId(name), index, quantity, price)
        self.truth.trades(index, quantity, price, event.fill.fee)
        return event

    def owner_trades(self) -> None:
        """Let the owner trade by hand, up to a third of the bound on net."""
        open_now = [index for index in range(N) if index not in self.gone | self.halted]
        index = self.rng.choice(open_now)
        worth = self.rng.uniform(20.0, 160.0) * self.rng.choice((-1, 1))
        size = Decimal(repr(worth / float(self.marks[index]))).quantize(LOT)
        self._unheard(self.foreign("by hand", index, size))
        self.happened["trades of the owner"] += 1

    def _unheard(self, event: OrderFilled) -> None:
        fill = event.fill
        paid = float(fill.quantity * fill.price + fill.fee)
        self.truth.unheard[fill.trade_id] = (fill.index, fill.quantity, paid)
        self.truth.others_moved()
        self.tell(event)

    def owner_transfers(self) -> None:
        """Let the owner deposit or withdraw up to a tenth of the account."""
        amount = Decimal(self.rng.randint(-1_000, 1_000))
        name = f"transfer{len(self.executions)}"
        event = Transferred(name, CASH_KEY, self.agenda.now_ms, amount)
        self.executions.append(event)
        self.truth.cash += amount
        self.truth.unheard_cash[name] = amount
        self.truth.others_moved()
        self.tell(event)
        self.happened["transfers"] += 1

    def stand(self, index: int, standing: Standing) -> None:
        """Halt an instrument, let it trade again, or delist it: what is held then is settled."""
        if index in self.gone:
            return
        (self.halted.discard if standing is Standing.TRADING else self.halted.add)(index)
        self.happened[f"instruments {standing.words}"] += 1
        for work in list(self.truth.live.values()):
            if work.arrived and work.order.index == index and standing is not Standing.TRADING:
                self._ends(work, "expired")
                if not self.is_lost():  # the end is told with the fills before it
                    self.answer(*work.story)
        if standing is Standing.GONE:
            self.gone.add(index)
            if held := self.truth.held[index]:
                self._unheard(self.foreign(f"{SETTLEMENT_PREFIX}{index}", index, -held))
        names = (self.agenda.now_ms, index, universe().instruments[index], standing)
        event = InstrumentChanged(*names, "the venue says so")
        self.agenda.later(self.rng.randint(0, NEWS_MS), lambda: self.answer(event))

    def move(self) -> None:
        """Let prices move by what they do in a bar, and marks follow; what is gone stands still."""
        step = self.rng.gauss(0, 0.006)
        own = np.array([self.rng.gauss(0, 0.003) for _ in range(N)])
        own[list(self.gone)] = -self.true_betas[list(self.gone)] * step
        self.prices = self.prices * np.exp(self.true_betas * step + own)
        self.marks = np.round(self.prices, 2)
