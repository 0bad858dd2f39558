"""From a target to the plan of a decision: joint lots, exact quantities, slices in time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import numpy as np
from msgspec import Struct

from daemon.domain.bar import Floats
from daemon.domain.decision import DecisionKind
from daemon.domain.forecast import Prediction
from daemon.domain.instrument import Standing
from daemon.domain.lots import LOTS_MAX, FeasibleBook, LotRules, feasible_book
from daemon.domain.order import OUTSIDE, Order, Refused
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.roundings import Bounds
from daemon.engine.balance import trim_beta
from daemon.engine.execution import Leg, Plan
from daemon.engine.limits import RiskLimits
from daemon.engine.risk import TradingState
from daemon.engine.state import EngineState
from daemon.engine.styles import ExecutionRules, spread

EQUITY_LEAST: Final = 1.0  # quote currency; stands in where weights need a positive equity
PLANNED_SHARE: Final = 0.9  # of the bounds: prices move while a plan is carried out
NET_TOLERANCE_WEIGHT: Final = 1e-6  # a rounding this small is not worth a flip of lots


class Draft(Struct):
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


class Planner:
    """Turn targets into plans, by the trading rules that hold now."""

    def __init__(self, state: EngineState, limits: RiskLimits, execution: ExecutionRules) -> None:
        self._state = state
        self._limits = limits
        self._execution = execution
        self.read_rules()

    def read_rules(self) -> None:
        """Read the trading rules off the universe, anew after they changed."""
        universe = self._state.book.universe
        self._lot_rules = LotRules.of(universe)
        self.rules = [i.rules for i in universe.instruments]
        self._steps = [exact_ratio(rules.quantity_step) for rules in self.rules]

    def plan(self, draft: Draft, target: TargetPortfolio, prefix: str) -> Plan:
        """Give the plan of a decision, and note what it leaves out."""
        draft.planned = True
        state, book = self._state, self._state.book
        state.closing.clear()  # the target says what shall be held of what others added
        untradable = None
        if state.orders.open:  # unresolved: their instruments wait, the others make up for it
            untradable = np.zeros(len(draft.marks), dtype=np.bool_)
            columns = [r.order.index for r in state.orders.open.values()]
            untradable[[index for index in columns if index != OUTSIDE]] = True
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
            bounds=self._bounds(draft.equity),
        )
        self._say(draft, feasible)
        stem = f"{prefix}{draft.as_of_ms // 1000:x}{draft.tag}"
        legs = self._legs(feasible.trades)
        if book.beta is not None:
            self._trim_beta(draft, legs)
            legs = [leg for leg in legs if leg.left]
        rules = self._execution
        # What must go goes at once, whatever the style.
        if state.flattening or rules.twap_slices_n == 1:
            plan = Plan.of(draft.as_of_ms, legs, stem)
        else:
            plan = Plan(draft.as_of_ms, stem=stem)
            step_ms = rules.twap_window_ms // rules.twap_slices_n
            for number, wave in enumerate(spread(legs, rules.twap_slices_n)):
                if wave:
                    plan.waves.append((state.now_ms + number * step_ms, wave))
            plan.release(state.now_ms)
        plan.urgent, goal = state.flattening, book.net
        for leg in legs:
            goal += leg.size * leg.mark
        plan.net_goal = goal
        return plan

    def _bounds(self, equity: float) -> Bounds | None:
        """Give the bounds that a book is rounded within, where there is one on beta."""
        book, limits = self._state.book, self._limits
        beta, most = book.beta, limits.beta_weight_max
        if beta is None or most is None or equity <= 0:
            return None
        share = PLANNED_SHARE * equity
        betas = np.array(beta.betas)
        return Bounds(betas, book.net, beta.net, share * limits.net_weight_max, share * most)

    def _say(self, draft: Draft, feasible: FeasibleBook) -> None:
        """Note what cannot be traded as the target has it."""
        if feasible.left_out:
            draft.notes.append(feasible.note)
        if feasible.dust:
            instruments = self._state.book.universe.instruments
            names = ", ".join(instruments[index].key.symbol for index in feasible.dust)
            draft.notes.append(f"dust, too small to be closed: {names}")
        if feasible.shrunk:
            share = feasible.shrunk / draft.equity
            draft.notes.append(f"{share:.4f} of equity not traded: bounds on net and beta")

    def _trim_beta(self, draft: Draft, legs: list[Leg]) -> None:
        """Let no plan end outside the beta bound: its last legs would find no room."""
        beta, most = self._state.book.beta, self._limits.beta_weight_max
        if beta is None or most is None or draft.equity <= 0:
            return
        bound = PLANNED_SHARE * most * draft.equity
        if lost := trim_beta(legs, beta.net, beta.betas, bound):
            draft.notes.append(f"{lost / draft.equity:.4f} of equity not traded: beta_weight_max")

    def closing_legs(self) -> list[Leg]:
        """Take what others added and can be closed now, as legs that only reduce."""
        state, book, legs = self._state, self._state.book, list[Leg]()
        for index, wanted in list(state.closing.items()):
            mark, rule = book.prices[index], self.rules[index]
            if not mark > 0:
                continue
            del state.closing[index]
            held = book.ledger.quantity(book.universe.instruments[index].key)
            if held * wanted >= 0:
                continue
            size = min(abs(wanted), abs(held)) // rule.quantity_step * rule.quantity_step
            if size:
                quantity = size if wanted > 0 else -size
                number = float(quantity)
                legs.append(Leg(index, quantity, number, mark, rule, True, abs(number) * mark))
        return legs

    def _legs(self, trades: Sequence[tuple[int, float]]) -> list[Leg]:
        """Turn whole lots by index into exact quantities."""
        prices, held, rules = self._state.book.prices, self._state.book.held, self.rules
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
