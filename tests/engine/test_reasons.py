"""Whatever keeps the daemon from trading is said: in the decision, to people, and as one text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.domain.messages import (
    AlertKind,
    EstimatesMissing,
    FeedNotice,
    FeedTrouble,
    Operator,
    OperatorAction,
)
from daemon.domain.order import RefusalReason
from daemon.engine.risk import RiskLimits
from tests.engine.world import (
    VENUE,
    FixedWeights,
    FollowForecasts,
    alerts,
    at,
    bars,
    decided,
    feed,
    fill_of,
    submitted,
    trading,
    trading_engine,
)

PAIR = FixedWeights(lambda as_of_ms: [0.2, -0.2, 0.0, 0.0])
WIDE = RiskLimits(gross_weight_max=9, net_weight_max=9, name_weight_max=9, order_weight_max=9)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (replace(WIDE, gross_weight_max=0.1), RefusalReason.GROSS),
        (replace(WIDE, name_weight_max=0.1), RefusalReason.NAME),
        (replace(WIDE, net_weight_max=0.0001), RefusalReason.NET),
        (replace(WIDE, orders_open_max=1), RefusalReason.ORDER_COUNT),
        (replace(WIDE, venue_weight_max=0.3), RefusalReason.VENUE),
        (replace(WIDE, margin_ratio_max=0.1), RefusalReason.MARGIN),
        (replace(WIDE, beta_weight_max=0.0001), RefusalReason.BETA),
    ],
)
def test_a_refusal_stands_in_the_decision_and_is_told_with_its_figures(
    limits: RiskLimits, reason: RefusalReason
) -> None:
    engine = trading_engine(PAIR, limits=limits)
    engine.state.margins[VENUE] = 0.5
    told = feed(engine, bars(3), bars(4))
    number = 0
    while waiting := [o for o in submitted(told) if o.order_id in engine.state.orders.open]:
        number += 1
        told += feed(engine, fill_of(waiting[0], f"f{number}"))
    refusals = [r for d in decided(told) for r in d.refusals]
    assert reason in {r.reason for r in refusals}
    assert all(r.detail for r in refusals)
    assert any(str(reason) in a.text for a in alerts(told, AlertKind.ORDER_REFUSED))


def test_nothing_keeps_a_book_from_trading_that_says_no_reason() -> None:
    engine = trading_engine(PAIR)
    assert engine.state.reasons_text == ""
    feed(engine, Operator(OperatorAction.PAUSE, "p", at(3)))
    feed(engine, Operator(OperatorAction.REDUCE_ONLY, "r", at(3)))
    feed(engine, FeedNotice(at(3), VENUE, FeedTrouble.CLOCK_OFFSET, True, "900 ms off"))
    feed(engine, Operator(OperatorAction.KILL, "k", at(3), "odd fills"))
    for said in ("odd fills", "paused", "reduce-only", "900 ms off"):
        assert said in engine.state.reasons_text


def test_a_bad_day_and_old_forecasts_are_said_as_well() -> None:
    engine = trading_engine(PAIR, limits=replace(WIDE, day_loss_max=0.01))
    sent = submitted(feed(engine, bars(3), bars(4)))
    feed(engine, *[fill_of(o, str(o.order_id)) for o in sent])
    feed(engine, bars(5, [80.0, 100.0, 100.0, 100.0]))
    assert "day_loss_max" in engine.state.reasons_text
    waiting = trading_engine(FollowForecasts())
    feed(waiting, bars(3), bars(4), EstimatesMissing(at(4), "late"))
    assert "no usable forecast (1 in a row)" in waiting.state.reasons_text


def test_forecasts_may_be_missing_for_as_many_decisions_as_the_rules_say() -> None:
    engine = trading_engine(FollowForecasts())
    engine.rules = replace(
        engine.rules, cadence=replace(engine.rules.cadence, stale_decisions_max=0)
    )
    feed(engine, bars(3), bars(4), EstimatesMissing(at(4), "late"))
    assert str(trading(engine)) == "reduce_only"
