"""What a decision plans ends inside the bounds on net and beta, and names what it cannot close."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from daemon.domain.instrument import Instrument, Standing, TradingRules
from daemon.domain.portfolio import TargetPortfolio
from daemon.engine.execution import Plan
from daemon.engine.planning import PLANNED_SHARE, Draft, Planner
from daemon.engine.risk import RiskLimits
from daemon.engine.state import EngineState
from daemon.engine.styles import ExecutionRules
from tests.engine.test_risk import NOW_MS, book_of
from tests.engine.world import make_engine

WIDE = RiskLimits(gross_weight_max=9, net_weight_max=0.5, name_weight_max=9, order_weight_max=9)
BETAS = [0.5, 0.7, 1.4, 2.0]


def state_of(*held: str, step: str = "0.01", quantity_min: str | None = None) -> EngineState:
    """Give an engine's memory with 10,000 USDT and these coins, each at 100."""
    state = make_engine().state
    state.book, state.now_ms, state.instant_ms = book_of(*held), NOW_MS, NOW_MS
    least = Decimal(quantity_min or step)
    rules = TradingRules(Decimal("0.01"), Decimal(step), least, Decimal(5))
    for index, was in enumerate(state.book.universe.instruments):
        now = Instrument(was.key, was.base, was.quote, was.settle, rules)
        state.book.stand(index, now, Standing.TRADING)
    return state


def planned(state: EngineState, weights: list[float], limits: RiskLimits) -> tuple[Plan, Draft]:
    book = state.book
    if limits.beta_weight_max is not None:
        book.count_beta(list(BETAS))
    draft = Draft(
        as_of_ms=NOW_MS,
        bars_digest="",
        absent=(),
        equity=book.equity,
        marks=book.marks,
        weights_before=book.quantity * book.marks / book.equity,
        predictions=(),
        notes=[],
    )
    wanted = np.array(weights)
    target = TargetPortfolio(NOW_MS, wanted, wanted, np.zeros(len(wanted)))
    return Planner(state, limits, ExecutionRules()).plan(draft, target, "p"), draft


def ends_in(state: EngineState, plan: Plan) -> tuple[float, float]:
    """Give net and beta once all of the plan is traded, in fractions of equity."""
    book = state.book
    notional = book.quantity * book.marks
    for leg in plan.legs:
        notional[leg.index] += leg.size * leg.mark
    return float(notional.sum()) / book.equity, float(notional @ np.array(BETAS)) / book.equity


def test_coarse_lots_end_inside_the_bound_on_beta_where_net_alone_would_not() -> None:
    # Half a lot of 0.05 of equity is missing in both longs; one of the two takes it.
    weights = [0.125, 0.0, -0.25, 0.125]
    by_net, bounded = state_of(step="5"), state_of(step="5")
    loose, _ = planned(by_net, weights, WIDE)
    tight, draft = planned(bounded, weights, replace(WIDE, beta_weight_max=0.08))
    assert ends_in(by_net, loose) == pytest.approx((0.0, -0.075))
    assert ends_in(bounded, tight) == pytest.approx((0.0, 0.0))
    assert not draft.notes


def test_a_target_past_the_bound_on_beta_is_planned_up_to_it_and_says_so() -> None:
    state = state_of()
    plan, draft = planned(state, [-0.3, -0.2, 0.2, 0.3], replace(WIDE, beta_weight_max=0.2))
    net, beta = ends_in(state, plan)
    assert net == pytest.approx(0.0, abs=1e-3)
    assert beta == pytest.approx(PLANNED_SHARE * 0.2, abs=2e-3)
    assert "of equity not traded: bounds on net and beta" in "; ".join(draft.notes)
    assert len(plan.legs) == 4


def test_what_is_too_small_to_be_closed_is_named_and_offset() -> None:
    state = state_of("0.3", "0", "0", "0", quantity_min="0.5")
    plan, draft = planned(state, [0.0, 0.2, -0.2, 0.0], WIDE)
    assert "dust, too small to be closed: BTC/USDT:USDT" in draft.notes
    assert 0 not in [leg.index for leg in plan.legs]
    assert ends_in(state, plan)[0] == pytest.approx(0.0, abs=1e-4)
