"""From a target to orders and to the finished Decision record.

The Trader owns the decision in progress: it waits until the last decision's orders are out of the
way, has a plan made of the target, hands out child orders as the exposure bounds allow, takes back
what waited too long, and emits the Decision once the last child is out and nothing waits any more,
or the next decision supersedes it.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import Standing
from daemon.domain.messages import Alert, AlertKind, Cancel, Command, Decided, Submit
from daemon.domain.order import (
    OUTSIDE,
    Approved,
    DoneReason,
    Order,
    OrderId,
    OrderKind,
    RefusalReason,
    Refused,
    Resting,
    Uncertain,
)
from daemon.domain.portfolio import TargetPortfolio
from daemon.engine.betas import betas_now
from daemon.engine.book import Book
from daemon.engine.execution import Leg, Plan
from daemon.engine.mending import Mender
from daemon.engine.orders import OrderRecord
from daemon.engine.planning import Draft, Planner
from daemon.engine.risk import COST_SHARE_MAX, Risk, RiskLimits, TradingState
from daemon.engine.state import EngineState, Phase
from daemon.engine.styles import ExecutionRules, Style, Waiting, passive_price
from daemon.engine.windows import bars_digest

_MARKET, _LIMIT = OrderKind.MARKET, OrderKind.LIMIT  # looking up a member of an enum is slow
SLICE_SHARE_MIN: Final = 0.25  # of the largest slice; smaller ones wait while fills can make room


class Trader:
    """Carry out one decision at a time against the engine's state."""

    def __init__(
        self,
        state: EngineState,
        limits: RiskLimits,
        id_prefix: str,
        out: list[Command],
        execution: ExecutionRules | None = None,
    ) -> None:
        self._state = state
        self._limits = limits
        self._execution = execution or ExecutionRules()
        self._planner = Planner(state, limits, self._execution)
        self._mender = Mender(state, limits, self._execution)
        self._waiting: dict[OrderId, Waiting] = {}  # passive orders of the present decision
        self._taken_back: set[OrderId] = set()  # by the event in hand
        self._prefix = id_prefix
        self._out = out
        self._risk = Risk(limits, state.book, state.sent_ms, state.margins)
        # looked up at every order, so that each is kept at hand
        self._watch = self._risk.watch
        self._is_passive = self._execution.style is Style.PASSIVE
        self._draft: Draft | None = None
        self._plan: Plan | None = None
        self._priced: Floats | None = None  # the marks at which the plan's legs are valued
        self.read_rules()

    def read_rules(self) -> None:
        """Read the trading rules off the universe, anew after they changed."""
        universe = self._state.book.universe
        self._keys = [i.key for i in universe.instruments]
        self._planner.read_rules()
        self._risk.read_rules()

    @property
    def idle(self) -> bool:
        """Tell whether no decision is being carried out."""
        return self._draft is None

    def take_over(self, other: Trader) -> None:
        """Go on with the decision that another one carries out on the same state."""
        self._draft, self._plan, self._waiting = other._draft, other._plan, other._waiting
        if self._plan is not None:
            self._plan.no_room = ()  # under other limits there may be some

    def open(
        self,
        bars_digest: str,
        absent: tuple[int, ...],
        revised: tuple[int, ...] = (),
        *,
        extra: bool = False,
    ) -> None:
        """Begin the record of a decision at the present instant, ending the one before.

        revised: as in `Decision`. extra: not the one decision of this instant, so its orders need
        names of their own.
        """
        self.close_plan("superseded by the next decision")
        state = self._state
        book = state.book
        book.check_mirror()
        if book.beta is not None:
            book.count_beta(betas_now(state.windows, len(book.marks)))
        state.sequence += 1
        self._draft = Draft(
            as_of_ms=state.instant_ms,
            bars_digest=bars_digest,
            absent=absent,
            equity=book.equity,
            marks=book.marks,
            weights_before=book.weights() if book.equity > 0 else np.zeros(len(book.marks)),
            predictions=tuple(state.newest.values()),
            tag=f"x{state.sequence}" if extra else "",
            revised=revised,
        )
        if state.holds:
            self._draft.notes.append(state.holds_text)

    def want(self, kind: DecisionKind, target: TargetPortfolio | None, note: str) -> None:
        """Say what the decision came to; without a target it ends here."""
        draft = self._draft
        if draft is None:
            raise InvariantViolated(f"{kind}: no decision was opened")
        draft.kind, draft.target = kind, target
        if note:
            draft.notes.append(note)
        if target is None:
            self._finish(draft)

    def advance(self) -> None:
        """Do whatever the state now allows: plan when cleared, send what fits, finish."""
        draft = self._draft
        if self._taken_back:
            self._taken_back.clear()
        if draft is None:
            if self._state.phase is Phase.IDLE:
                if self._state.leg_lost:
                    self._mend_afterwards()
                elif self._state.closing:
                    self._close_foreign()
            return
        if draft.target is not None and not draft.planned:
            if self._state.phase is Phase.CLEARING:
                if any(
                    not isinstance(r.state, Uncertain) for r in self._state.orders.open.values()
                ):
                    return
                self._state.phase = Phase.IDLE
            self._plan = plan = self._planner.plan(draft, draft.target, self._prefix)
            self._mender.begins(plan)
        # Not while an instant is being worked on: whether its forecasts or the venue's answers to
        # old slices come first would be chance, and the book it decides on would depend on that.
        if self._plan is not None:
            if self._waiting or self._plan.waves:
                self._keep_time(self._plan)
            if self._state.phase is Phase.IDLE:
                self._send(draft, self._plan)

    @property
    def next_ms(self) -> int | None:
        """Give the market time at which something is to be done without any news; None: never."""
        times = [self._plan.waves[0][0]] if self._plan is not None and self._plan.waves else []
        open_orders = self._state.orders.open
        for order_id, waiting in self._waiting.items():
            record = open_orders.get(order_id)
            if record is not None and type(record.state) is Resting and waiting.may_ask:
                times.append(waiting.due_ms)
        free_ms = None if self._watch is None else self._watch.free_ms
        # While an instant is being worked on nothing is sent, and its end is news.
        sends = self._plan is not None and self._state.phase is Phase.IDLE
        if sends and free_ms is not None:
            times.append(free_ms)
        return min(times, default=None)

    def _keep_time(self, plan: Plan) -> None:
        """Take back passive orders past their deadline, and take up the waves that are due."""
        now_ms, open_orders = self._state.now_ms, self._state.orders.open
        for order_id in [name for name in self._waiting if name not in open_orders]:
            del self._waiting[order_id]
        for order_id, waiting in self._waiting.items():
            record = open_orders[order_id] if waiting.is_due(now_ms) else None
            if record is not None and isinstance(record.state, Resting):
                waiting.asked(now_ms)
                self._out.append(Cancel(order_id, record.order.key))
        plan.release(now_ms)

    def _mend_afterwards(self) -> None:
        """Mend what was lost after everything had been sent, as a decision record of its own."""
        state = self._state
        if not self._mender.may_begin:
            return
        plan = Plan(state.mend_as_of_ms, urgent=True)
        text = self._mender.mend(plan)
        if not text:
            return
        if plan.done:
            self._out.append(Alert(AlertKind.ORDER_REFUSED, state.now_ms, text))
            return
        self._carry_out(plan, text)

    def _close_foreign(self) -> None:
        """Close what was added by others, where the policy says so; what cannot go yet waits."""
        state = self._state
        may = state.trading in (TradingState.TRADING, TradingState.REDUCE_ONLY)
        if not may or state.paused or state.flattening or not state.book.equity > 0:
            return
        legs = self._planner.closing_legs()
        if legs:
            plan = Plan.of(state.instant_ms, legs)
            plan.urgent = True
            self._carry_out(plan, "closes what others added; live.foreign = flatten")

    def _carry_out(self, plan: Plan, text: str) -> None:
        """Send a plan that no strategy asked for, as a decision record of its own."""
        state = self._state
        self.open(bars_digest(state.windows), state.absent(), extra=True)
        draft = self._draft
        if draft is None:
            raise InvariantViolated("no decision was opened")
        draft.kind, draft.planned = DecisionKind.REDUCED, True
        draft.notes.append(text)
        plan.stem = f"{self._prefix}{plan.as_of_ms // 1000:x}{draft.tag}"
        self._plan = plan
        self._send(draft, plan)

    def close_plan(self, why: str) -> None:
        """Give up what is still unsent, and finish the record saying so."""
        draft, plan = self._draft, self._plan
        if draft is None:
            return
        if plan is not None:
            draft.notes.append(f"{len(plan.legs)} legs unsent: {why}")
            self._take_back_waiting()
        elif draft.target is not None:
            draft.notes.append(f"no orders: {why}")
        self._finish(draft)

    def _take_back_waiting(self) -> None:
        """Let no passive order outlive the plan that it belongs to."""
        for order_id in self._waiting:
            record = self._state.orders.open.get(order_id)
            if record is not None and isinstance(record.state, Resting):
                self._taken_back.add(order_id)
                self._out.append(Cancel(order_id, record.order.key))
        self._waiting.clear()

    def ended(self, record: OrderRecord, why: DoneReason) -> None:
        """Note that an order of the present decision ended without filling completely."""
        draft = self._draft
        if self._waiting.pop(record.order.order_id, None) is not None and self._plan is not None:
            self._cross(self._plan, record)
            if why is DoneReason.CANCELLED:
                return  # as it was meant to be
        else:
            self._mender.ended(record, why)
        mine = draft is not None and record.order.as_of_ms == draft.as_of_ms
        if draft is not None and mine and why is not DoneReason.FILLED:
            draft.notes.append(f"{record.order.order_id} {why}")

    def _cross(self, plan: Plan, record: OrderRecord) -> None:
        """Let what a passive order did not trade cross, unless no venue would take so little."""
        order, left, book = record.order, record.left, self._state.book
        if not left:
            return
        index, size = order.index, float(left)
        mark, reduces = book.prices[index], book.reduces(index, size)
        worth, reference = abs(size) * mark, order.reference_price
        rules = self._planner.rules[index]
        leg = Leg(index, left, size, mark, rules, reduces, worth, reference, crosses=True)
        if abs(left) >= leg.smallest or (reduces and abs(size) == abs(book.held[index])):
            plan.add([leg])

    def lost(self, index: int) -> None:
        """Note that a position was taken from us: what leans now is evened out."""
        self._mender.lost(index)

    def keep_bound(self) -> None:
        """Take back what rests on a side whose worst case new prices carried past the net bound."""
        book, open_orders = self._state.book, self._state.orders.open
        bound = self._limits.net_weight_max * book.equity
        if bound <= 0:
            return  # what is open then only closes positions
        high, low = book.worst_net()
        beta, beta_max = book.beta, self._limits.beta_weight_max
        for order_id, record in open_orders.items():
            if record.order.index == OUTSIDE:
                continue  # it only reduces
            adds = high > bound if record.order.quantity > 0 else low < -bound
            if not adds and beta is not None and beta_max is not None:
                room = beta.room(beta_max * book.equity)
                adds = room.is_past(record.order.index, buys=record.order.quantity > 0)
            if adds and isinstance(record.state, Resting):
                self._out.append(Cancel(order_id, record.order.key))

    def take_back(self) -> None:
        """At a close, take back what may not rest any longer."""
        halted = self._state.trading is TradingState.HALTED
        if halted or self._state.paused or self._state.operator_reduce_only:
            for record in self._state.orders.open.values():
                self.withdraw(record)
        else:
            self.keep_bound()

    def withdraw(self, record: OrderRecord) -> None:
        """Take an order back: any when halted, else one that the operator lets open nothing."""
        halted = self._state.trading is TradingState.HALTED
        may_not_open = self._state.paused or self._state.operator_reduce_only
        unwanted = halted or (may_not_open and not record.order.reduce_only)
        if unwanted and isinstance(record.state, Resting):
            self._out.append(Cancel(record.order.order_id, record.order.key))

    def leave(self, index: int) -> None:
        """Take back what rests on an instrument and would open, or anything once it is gone."""
        book = self._state.book
        gone = book.standing[index] == int(Standing.GONE)
        for record in self._state.orders.open.values():
            opens = book.held[index] * float(record.order.quantity) >= 0
            if record.order.index == index and (gone or opens) and _may_rest(record):
                self._out.append(Cancel(record.order.order_id, record.order.key))

    def hold_back(self, indices: frozenset[int]) -> None:
        """Open nothing more on these; a plan that would is dropped: without them it would lean."""
        plan, reduces = self._plan, self._state.book.reduces
        legs = [] if plan is None else plan.legs
        if any(leg.index in indices and not reduces(leg.index, leg.size) for leg in legs):
            self.close_plan("what they would open is held back")
        for index in sorted(indices):
            self.leave(index)

    def cancel_all(self, *, keep_reducing: bool = False) -> None:
        """Ask the venue to stop all orders that it may have, save the uncertain ones."""
        for record in self._state.orders.open.values():
            kept = keep_reducing and record.order.reduce_only
            kept |= record.order.order_id in self._taken_back
            if _may_rest(record) and not kept:
                self._out.append(Cancel(record.order.order_id, record.order.key))

    def open_no_more(self, why: str) -> None:
        """Give up what is unsent and take back what would open; flattening goes on, it opens none.

        What only reduces stays at the venue.
        """
        if not self._state.flattening:
            self.close_plan(why)
            self.cancel_all(keep_reducing=True)

    def _send(self, draft: Draft, plan: Plan) -> None:
        book, state = self._state.book, self._state
        if book.marks is not self._priced:  # other marks are another array
            self._priced = book.marks
            plan.reprice(book.prices)
        if state.leg_lost or plan.buys or plan.sells:
            self._send_what_fits(draft, plan)
        if not self._waiting and plan.done:
            self._finish(draft)

    def _send_what_fits(self, draft: Draft, plan: Plan) -> None:
        book, open_orders = self._state.book, self._state.orders.open
        # Most of what is heard makes no room, and while nothing is sent the legs do not change.
        tries_again = plan.no_room and open_orders and not self._state.leg_lost
        if tries_again and plan.no_room == _exposures(book):
            return
        equity = book.equity
        net_max, beta_max = self._limits.net_weight_max, self._limits.beta_weight_max
        order_max = self._limits.order_weight_max * equity * 0.999
        if equity <= 0:  # only closing is left, and no share of nothing bounds it
            order_max = math.inf
        crumbs = SLICE_SHARE_MIN * min(net_max * equity, order_max)
        watch, state = self._watch, self._state
        while plan.buys or plan.sells or state.leg_lost:
            if state.leg_lost:
                draft.notes += [text] if (text := self._mender.mend(plan)) else []
                continue
            if watch is not None and watch.minute_is_full(state.now_ms):
                return  # time will make room
            up, down = book.pending_up, book.pending_down
            high, low = book.net + up, book.net - down
            bound = net_max * (equity - COST_SHARE_MAX * (up + down)) if equity > 0 else math.inf
            least = crumbs if open_orders else 0.0
            beta = None
            if book.beta is not None and beta_max is not None:
                beta = book.beta.room(bound * (beta_max / net_max))
            child = plan.next_child(high, low, bound, order_max, least, beta)
            if child is None and beta is not None and not open_orders:
                child = plan.relief(book.net, bound, beta)
            if child is not None:
                self._submit(draft, plan, *child)
            elif open_orders:
                plan.no_room = _exposures(book)
                return  # the fills or ends of what is open will make room
            else:
                self._give_up(draft, plan)

    def _submit(self, draft: Draft, plan: Plan, leg: Leg, quantity: Decimal, size: float) -> None:
        state = self._state
        order = self._order(plan, leg, quantity, size)
        open_n = len(state.orders.open)
        now_ms = state.instant_ms if self._watch is None else state.now_ms
        verdict = self._risk.judge(order, size, state.trading, now_ms, open_n)
        if isinstance(verdict, Approved):
            state.orders.submit(order, size, state.now_ms)
            state.book.reserve(leg.index, size)
            draft.orders.append(order)
            if order.post_only:
                due_ms = state.now_ms + self._execution.passive_ms
                self._waiting[order.order_id] = Waiting(due_ms)
            if self._watch is not None:
                self._watch.note(state.now_ms)
            self._out.append(Submit(verdict))
        else:
            self._refused(draft, verdict)

    def _order(self, plan: Plan, leg: Leg, quantity: Decimal, size: float) -> Order:
        index = leg.index
        limit = None
        if self._is_passive and not leg.crosses and not plan.urgent:
            offset_bps = self._execution.passive_offset_bps
            limit = passive_price(leg.mark, leg.rules, offset_bps, buys=size > 0)
        return Order(
            OrderId(f"{plan.stem}-{index}-{plan.children_n}"),
            self._keys[index],
            index,
            quantity,
            _MARKET if limit is None else _LIMIT,
            plan.as_of_ms,
            leg.reference or leg.mark,  # reference_price
            limit,
            self._state.book.reduces(index, size),  # reduce_only
            limit is not None,  # post_only
        )

    def _give_up(self, draft: Draft, plan: Plan) -> None:
        """Nothing is open and nothing fits: name the leg that cannot be placed and go on."""
        leg = plan.drop_next()
        order = self._order(plan, leg, leg.left, leg.size)
        detail, reason = "no slice fits into the net bound", RefusalReason.NET
        if self._state.book.beta is not None and self._fits_net(leg):
            detail, reason = "no slice fits into the beta bound", RefusalReason.BETA
        self._refused(draft, Refused(order, reason, detail))

    def _fits_net(self, leg: Leg) -> bool:
        """Tell whether the net bound alone has room for the least that a venue takes of a leg."""
        book = self._state.book
        room = self._limits.net_weight_max * book.equity - abs(book.net)
        return float(leg.smallest) * leg.mark <= room

    def _refused(self, draft: Draft, refused: Refused) -> None:
        draft.refusals.append(refused)
        self._mender.lost(refused.order.index)
        text = f"{refused.order.key} {refused.order.quantity}: {refused.reason}, {refused.detail}"
        self._out.append(Alert(AlertKind.ORDER_REFUSED, refused.order.as_of_ms, text))

    def _finish(self, draft: Draft) -> None:
        self._draft = self._plan = None
        self._waiting.clear()
        decision = Decision(
            as_of_ms=draft.as_of_ms,
            sequence=self._state.sequence,
            kind=draft.kind,
            bars_digest=draft.bars_digest,
            absent=draft.absent,
            equity=draft.equity,
            marks=draft.marks,
            weights_before=draft.weights_before,
            predictions=draft.predictions,
            target=draft.target,
            orders=tuple(draft.orders),
            refusals=tuple(draft.refusals),
            note="; ".join(draft.notes),
            revised=draft.revised,
        )
        self._out.append(Decided(decision))


def _may_rest(record: OrderRecord) -> bool:
    return not isinstance(record.state, Uncertain)


def _exposures(book: Book) -> tuple[float, ...]:
    """Give all that the room for one more order depends on."""
    known, beta = (book.cash, book.net, book.pending_up, book.pending_down), book.beta
    return known if beta is None else (*known, beta.net, beta.up, beta.down)


def flat_target(as_of_ms: int, instruments_n: int) -> TargetPortfolio:
    """Want nothing of anything."""
    zero = np.zeros(instruments_n)
    return TargetPortfolio(as_of_ms, zero, zero, zero, note="flattened by the operator")
