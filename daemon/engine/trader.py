"""From a target to orders and to the finished Decision record.

The Trader owns the decision in progress: it waits until the last decision's orders are out of the
way, turns weights into lots jointly, hands out child orders as the exposure bound allows, and emits
the Decision once the last child is out or the next decision supersedes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import numpy as np
from msgspec import Struct

from daemon.domain.bar import Floats
from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.failures import InvariantViolated
from daemon.domain.forecast import Prediction
from daemon.domain.instrument import Standing
from daemon.domain.lots import LOTS_MAX, LotRules, feasible_book
from daemon.domain.messages import Alert, AlertKind, Cancel, Command, Decided, Submit
from daemon.domain.order import (
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
from daemon.engine.execution import Leg, Plan
from daemon.engine.orders import OrderRecord
from daemon.engine.risk import COST_SHARE_MAX, Risk, RiskLimits, TradingState
from daemon.engine.state import EngineState, Phase

_MARKET: Final = OrderKind.MARKET  # looking up a member of an enum is slow
EQUITY_LEAST: Final = 1.0  # quote currency; stands in where weights need a positive equity
SLICE_SHARE_MIN: Final = 0.25  # of the largest slice; smaller ones wait while fills can make room
NET_TOLERANCE_WEIGHT: Final = 1e-6  # a rounding this small is not worth a flip of lots


class _Draft(Struct):
    """Gather a decision while it is being carried out."""

    as_of_ms: int
    bars_digest: str
    absent: tuple[int, ...]
    equity: float
    marks: Floats
    weights_before: Floats
    predictions: tuple[Prediction, ...]
    tag: str = ""
    kind: DecisionKind = DecisionKind.HELD
    target: TargetPortfolio | None = None
    planned: bool = False
    notes: list[str] = []
    orders: list[Order] = []
    refusals: list[Refused] = []
    revised: tuple[int, ...] = ()


def exact_ratio(step: Decimal) -> tuple[float, float]:
    """Give two whole numbers whose ratio is `step`; (inf, 1) where floats do not hold them."""
    top, bottom = step.as_integer_ratio()
    return (float(top), float(bottom)) if max(top, bottom) < LOTS_MAX else (math.inf, 1.0)


class Trader:
    """Carry out one decision at a time against the engine's state."""

    def __init__(
        self, state: EngineState, limits: RiskLimits, id_prefix: str, out: list[Command]
    ) -> None:
        self._state = state
        self._limits = limits
        self._prefix = id_prefix
        self._out = out
        self._risk = Risk(limits, state.book)
        self._draft: _Draft | None = None
        self._plan: Plan | None = None
        self.read_rules()

    def read_rules(self) -> None:
        """Read the trading rules off the universe, anew after they changed."""
        universe = self._state.book.universe
        self._lot_rules = LotRules.of(universe)
        self._keys = [i.key for i in universe.instruments]
        self._rules = [i.rules for i in universe.instruments]
        self._steps = [exact_ratio(rules.quantity_step) for rules in self._rules]
        self._risk.read_rules()

    @property
    def idle(self) -> bool:
        """Tell whether no decision is being carried out."""
        return self._draft is None

    def take_over(self, other: Trader) -> None:
        """Go on with the decision that another one carries out on the same state."""
        self._draft, self._plan = other._draft, other._plan

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
        state.sequence += 1
        self._draft = _Draft(
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
        if draft is None:
            return
        if draft.target is not None and not draft.planned:
            if self._state.phase is Phase.CLEARING:
                if any(
                    not isinstance(r.state, Uncertain) for r in self._state.orders.open.values()
                ):
                    return
                self._state.phase = Phase.IDLE
            self._make_plan(draft, draft.target)
        # Not while an instant is being worked on: whether its forecasts or the venue's answers to
        # old slices come first would be chance, and the book it decides on would depend on that.
        if self._plan is not None and self._state.phase is Phase.IDLE:
            self._send(draft, self._plan)

    def close_plan(self, why: str) -> None:
        """Give up what is still unsent, and finish the record saying so."""
        draft, plan = self._draft, self._plan
        if draft is None:
            return
        if plan is not None:
            draft.notes.append(f"{len(plan.buys) + len(plan.sells)} legs unsent: {why}")
        elif draft.target is not None:
            draft.notes.append(f"no orders: {why}")
        self._finish(draft)

    def ended(self, record: OrderRecord, why: DoneReason) -> None:
        """Note that an order of the present decision ended without filling completely."""
        draft = self._draft
        mine = draft is not None and record.order.as_of_ms == draft.as_of_ms
        if draft is not None and mine and why is not DoneReason.FILLED:
            draft.notes.append(f"{record.order.order_id} {why}")

    def keep_bound(self) -> None:
        """Take back what rests on a side whose worst case new prices carried past the net bound."""
        book, open_orders = self._state.book, self._state.orders.open
        bound = self._limits.net_weight_max * book.equity
        if bound <= 0:
            return  # what is open then only closes positions
        high, low = book.worst_net()
        for order_id, record in open_orders.items():
            adds = high > bound if record.order.quantity > 0 else low < -bound
            if adds and isinstance(record.state, Resting):
                self._out.append(Cancel(order_id, record.order.key))

    def take_back(self) -> None:
        """At a close, take back what may not rest any longer."""
        if self._state.paused or self._state.trading is TradingState.HALTED:
            for record in self._state.orders.open.values():
                self.withdraw(record)
        else:
            self.keep_bound()

    def withdraw(self, record: OrderRecord) -> None:
        """Take an order back: any when halted, one that may open exposure when paused."""
        halted = self._state.trading is TradingState.HALTED
        unwanted = halted or (self._state.paused and not record.order.reduce_only)
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
        legs = [] if plan is None else [*plan.buys, *plan.sells]
        if any(leg.index in indices and not reduces(leg.index, leg.size) for leg in legs):
            self.close_plan("what they would open is held back")
        for index in sorted(indices):
            self.leave(index)

    def cancel_all(self, *, keep_reducing: bool = False) -> None:
        """Ask the venue to stop all orders that it may have, save the uncertain ones."""
        for record in self._state.orders.open.values():
            kept = keep_reducing and record.order.reduce_only
            if _may_rest(record) and not kept:
                self._out.append(Cancel(record.order.order_id, record.order.key))

    def _make_plan(self, draft: _Draft, target: TargetPortfolio) -> None:
        draft.planned = True
        state, book = self._state, self._state.book
        untradable = None
        if state.orders.open:  # unresolved: their instruments wait, the others make up for it
            untradable = np.zeros(len(draft.marks), dtype=np.bool_)
            untradable[[r.order.index for r in state.orders.open.values()]] = True
        reduce_only = target.reduce_only
        if not book.all_trade:
            gone, leaving = book.stands(Standing.GONE), ~book.stands(Standing.TRADING)
            gone |= book.stands(Standing.DOUBTED)
            untradable = gone if untradable is None else untradable | gone
            reduce_only = leaving if reduce_only is None else reduce_only | leaving
        stale = book.stale(state.instant_ms - self._limits.mark_age_ms_max)
        if stale is not None:  # risk would refuse each of them, and nobody would make up for it
            untradable = stale if untradable is None else untradable | stale
        if state.trading is TradingState.REDUCE_ONLY:  # jointly, so that the book stays balanced
            reduce_only = np.ones(len(draft.marks), dtype=np.bool_)
        trade = target.weights != draft.weights_before
        if draft.equity <= 0:  # weights mean nothing then; what is held may still be closed
            trade = (target.weights == 0.0) & (book.quantity != 0.0)
        equity = max(draft.equity, EQUITY_LEAST)
        feasible = feasible_book(
            target.weights,
            equity=equity,
            marks=draft.marks,
            quantities=book.quantity,
            rules=self._lot_rules,
            trade=trade,
            untradable=untradable,
            reduce_only=reduce_only,
            net_tolerance=NET_TOLERANCE_WEIGHT * equity,
        )
        if feasible.left_out:
            draft.notes.append(feasible.note)
        stem = f"{self._prefix}{draft.as_of_ms // 1000:x}{draft.tag}"
        self._plan = Plan.of(draft.as_of_ms, self._legs(feasible.trades), stem)

    def _legs(self, trades: Sequence[tuple[int, float]]) -> list[Leg]:
        """Turn whole lots by index into exact quantities."""
        prices, held, rules = self._state.book.prices, self._state.book.held, self._rules
        legs = []
        for index, lots_n in trades:
            rule, mark, (top, bottom) = rules[index], prices[index], self._steps[index]
            quantity = int(lots_n) * rule.quantity_step
            # The same number as float(quantity), which is slow: one division of two whole numbers
            # that floats hold exactly is rounded once, as the reading of a Decimal is.
            whole = lots_n * top
            size = whole / bottom if abs(whole) < LOTS_MAX else float(quantity)
            reduces = held[index] * size < 0
            legs.append(Leg(index, quantity, size, mark, rule, reduces, abs(size) * mark))
        return legs

    def _send(self, draft: _Draft, plan: Plan) -> None:
        book, open_orders = self._state.book, self._state.orders.open
        equity = book.equity
        net_max = self._limits.net_weight_max
        order_max = self._limits.order_weight_max * equity * 0.999
        if equity <= 0:  # only closing is left, and no share of nothing bounds it
            order_max = math.inf
        crumbs = SLICE_SHARE_MIN * min(net_max * equity, order_max)
        while plan.buys or plan.sells:
            up, down = book.pending_up, book.pending_down
            high, low = book.net + up, book.net - down
            bound = net_max * (equity - COST_SHARE_MAX * (up + down)) if equity > 0 else math.inf
            least = crumbs if open_orders else 0.0
            child = plan.next_child(high, low, bound, order_max, least)
            if child is not None:
                self._submit(draft, plan, *child)
            elif open_orders:
                return  # the fills or ends of what is open will make room
            else:
                self._give_up(draft, plan)
        self._finish(draft)

    def _submit(self, draft: _Draft, plan: Plan, leg: Leg, quantity: Decimal, size: float) -> None:
        state = self._state
        order = self._order(plan, leg, quantity, size)
        open_n = len(state.orders.open)
        verdict = self._risk.judge(order, size, state.trading, state.instant_ms, open_n)
        if isinstance(verdict, Approved):
            state.orders.submit(order, size)
            state.book.reserve(leg.index, size)
            draft.orders.append(order)
            self._out.append(Submit(verdict))
        else:
            self._refused(draft, verdict)

    def _order(self, plan: Plan, leg: Leg, quantity: Decimal, size: float) -> Order:
        index = leg.index
        return Order(
            OrderId(f"{plan.stem}-{index}-{plan.children_n}"),
            self._keys[index],
            index,
            quantity,
            _MARKET,
            plan.as_of_ms,
            leg.mark,  # reference_price
            None,  # limit_price
            self._state.book.reduces(index, size),  # reduce_only
        )

    def _give_up(self, draft: _Draft, plan: Plan) -> None:
        """Nothing is open and nothing fits: name the leg that cannot be placed and go on."""
        leg = plan.drop_next()
        order = self._order(plan, leg, leg.left, leg.size)
        detail = "no slice fits into the net bound"
        self._refused(draft, Refused(order, RefusalReason.NET, detail))

    def _refused(self, draft: _Draft, refused: Refused) -> None:
        draft.refusals.append(refused)
        text = f"{refused.order.key} {refused.order.quantity}: {refused.reason}, {refused.detail}"
        self._out.append(Alert(AlertKind.ORDER_REFUSED, refused.order.as_of_ms, text))

    def _finish(self, draft: _Draft) -> None:
        self._draft = self._plan = None
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


def flat_target(as_of_ms: int, instruments_n: int) -> TargetPortfolio:
    """Want nothing of anything."""
    zero = np.zeros(instruments_n)
    return TargetPortfolio(as_of_ms, zero, zero, zero, note="flattened by the operator")
