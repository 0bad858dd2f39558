"""What a decision comes to: what the strategy wants, unless something forbids to act on it."""

from __future__ import annotations

from daemon.domain.decision import DecisionKind
from daemon.domain.portfolio import TargetPortfolio
from daemon.engine.contract import fault
from daemon.engine.costs import Costs
from daemon.engine.risk import TradingState
from daemon.engine.rules import EngineRules
from daemon.engine.state import EngineState
from daemon.engine.trader import flat_target
from daemon.engine.viewing import view_of
from daemon.ports import Strategy


def wanted(
    strategy: Strategy, state: EngineState, rules: EngineRules, costs: Costs
) -> tuple[DecisionKind, TargetPortfolio | None, str]:
    """Ask the strategy, unless something forbids to act on what it would say."""
    if state.trading is TradingState.HALTED:
        return DecisionKind.HELD, None, f"halted: {state.halted_why}"
    if state.flattening and state.book.gross > 0:
        target = flat_target(state.instant_ms, len(state.book.universe))
        return DecisionKind.REDUCED, target, target.note
    needed = strategy.windows_needed
    short = [t.label for t, bars_n in needed.items() if state.windows[t].filled < bars_n]
    if short:
        return DecisionKind.WARMING, None, f"not enough bars yet: {', '.join(short)}"
    if state.paused:
        return DecisionKind.HELD, None, "paused by the operator"
    view = view_of(state.book.universe, state, rules, costs)
    is_stale = strategy.needs_estimates and not view.predictions
    stale_note = _stale(state, rules) if is_stale else _fresh(state)
    answer = strategy.decide(state.strategy, view)
    wrong = fault(answer, view.as_of_ms, len(state.book.universe))
    if wrong:
        return DecisionKind.HELD, None, f"refused: strategy {strategy.name}: {wrong}"
    state.strategy, target = answer
    reducing = state.trading is TradingState.REDUCE_ONLY
    kind = DecisionKind.REDUCED if reducing else DecisionKind.TRADED
    note = stale_note or target.note
    if stale_note and target.note:
        note = f"{stale_note}; {target.note}"
    return DecisionKind.HELD if is_stale else kind, target, note


def _stale(state: EngineState, rules: EngineRules) -> str:
    """Count a decision without forecasts: the strategy holds, later it may only reduce."""
    state.stale_decisions += 1
    if state.stale_decisions > rules.cadence.stale_decisions_max:
        state.trading = TradingState.REDUCE_ONLY
    return f"no usable forecast ({state.stale_decisions} in a row)"


def _fresh(state: EngineState) -> str:
    if state.stale_decisions and state.may_open:
        state.trading = TradingState.TRADING
    state.stale_decisions = 0
    return ""
