"""What a strategy is shown at a decision: everything known at the instant, nothing later."""

from __future__ import annotations

from daemon.domain.instrument import Universe
from daemon.domain.view import View
from daemon.engine.cadence import usable_predictions
from daemon.engine.costs import Costs
from daemon.engine.rules import EngineRules
from daemon.engine.state import EngineState


def view_of(universe: Universe, state: EngineState, rules: EngineRules, costs: Costs) -> View:
    """Gather the strategy's inputs from the engine's state.

    Its cost is the assumed one, or where settings want it what fills were measured to cost.
    """
    instant, book = state.instant_ms, state.book
    feedback = rules.execution.cost_feedback
    return View(
        as_of_ms=instant,
        universe=universe,
        windows={t: w.view() for t, w in state.windows.items()},
        predictions=usable_predictions(state.newest, rules.cadence.timeframes, instant),
        disagreement=state.disagreement,
        reading=state.reading,
        marks=book.marks,
        weights=book.weights(),
        equity=book.equity,
        eligible=book.eligible(instant - rules.limits.mark_age_ms_max),
        cost=costs.believed(rules.cost, universe) if feedback else rules.cost,
        funding_rates=state.funding.fresh(state.instant_ms),
        funding_hours=state.funding.hours,
        gross_multiplier=state.gross_multiplier,
        reduce_only=book.held_back(),
        covariance=state.covariance,
        paid=state.paid.copy(),  # strategies keep it; fills add to ours
    )
