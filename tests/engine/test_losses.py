"""Loss limits: a bad day only reduces, a drawdown halts, and cash that moves is neither."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from daemon.domain.messages import Alert, AlertKind, Operator, OperatorAction
from daemon.engine.engine import Engine
from daemon.engine.reconcile import ReconcilePolicy
from daemon.engine.risk import RiskLimits, TradingState
from tests.engine.world import (
    FixedWeights,
    alerts,
    at,
    bars,
    deposit,
    feed,
    fill_of,
    snapshot,
    submitted,
    trading,
    trading_engine,
)

WIDE = RiskLimits(net_weight_max=1.0, order_weight_max=0.6, name_weight_max=0.6)
DAY = replace(WIDE, day_loss_max=0.05)
FALL = replace(WIDE, drawdown_max=0.10)
FLAT = [100.0] * 4


def holding(limits: RiskLimits) -> Engine:
    """Give an engine that is long half its equity in BTC and decides nothing else."""
    wanted = FixedWeights(lambda _: [0.5, 0.0, 0.0, 0.0])
    engine = trading_engine(wanted, limits=limits)
    feed(engine, bars(3))
    for order in submitted(feed(engine, bars(4))):
        feed(engine, fill_of(order, f"t{order.order_id}"))
    assert engine.state.book.held[0] == 50.0
    return engine


def close(engine: Engine, bar: int, btc: float) -> list[Alert]:
    return alerts(feed(engine, bars(bar, [btc, 100.0, 100.0, 100.0])), AlertKind.LOSS)


def test_a_day_that_lost_too_much_only_reduces_until_the_next_day() -> None:
    engine = holding(DAY)
    assert close(engine, 5, 90.1) == []  # 4.95 % of equity
    assert trading(engine) is TradingState.TRADING
    told = close(engine, 7, 89.9)
    assert "day_loss_max: 0.05" in told[0].text
    assert trading(engine) is TradingState.REDUCE_ONLY
    assert close(engine, 9, 89.0) == []  # said once
    assert close(engine, 47, 95.0) == []
    assert trading(engine) is TradingState.REDUCE_ONLY  # also when it comes back
    close(engine, 48, 89.0)  # midnight: a new day, measured from here
    assert trading(engine) is TradingState.TRADING


def test_a_resume_measures_the_day_anew() -> None:
    engine = holding(DAY)
    close(engine, 5, 89.0)
    feed(engine, Operator(OperatorAction.RESUME, "r", at(5)), snapshot({0: "50"}, "5000"))
    assert trading(engine) is TradingState.TRADING
    close(engine, 7, 89.0)
    assert trading(engine) is TradingState.TRADING
    close(engine, 9, 79.0)
    assert trading(engine) is TradingState.REDUCE_ONLY


def test_a_drawdown_from_the_highest_equity_halts_and_a_resume_measures_anew() -> None:
    engine = holding(FALL)
    close(engine, 5, 120.0)  # 11,000
    close(engine, 7, 98.5)  # 9,925: 9.8 % below
    assert trading(engine) is TradingState.TRADING
    close(engine, 9, 97.9)
    assert trading(engine) is TradingState.HALTED
    assert engine.state.halted_why.startswith("drawdown_max")
    feed(engine, Operator(OperatorAction.RESUME, "r", at(9)), snapshot({0: "50"}, "5000"))
    close(engine, 11, 97.9)
    assert trading(engine) is TradingState.TRADING


@pytest.mark.parametrize("limits", [DAY, FALL])
def test_a_withdrawal_is_no_loss_and_a_deposit_hides_none(limits: RiskLimits) -> None:
    engine = holding(limits)
    close(engine, 5, 100.0)
    feed(engine, deposit(Decimal(-2_500), 1))
    close(engine, 7, 100.0)
    assert trading(engine) is TradingState.TRADING
    engine = holding(limits)
    close(engine, 5, 100.0)
    feed(engine, deposit(Decimal(5_000), 1))
    close(engine, 7, 66.0)  # 1,700 of 15,000 are lost, although equity is above what it was
    assert trading(engine) is not TradingState.TRADING


def test_what_is_adopted_from_the_venue_is_neither_loss_nor_gain() -> None:
    wanted = FixedWeights(lambda _: [0.0, 0.0, 0.0, 0.0])
    engine = trading_engine(wanted, limits=DAY, reconcile=ReconcilePolicy.ADOPT)
    close(engine, 3, 100.0)
    for _ in range(3):
        feed(engine, snapshot({0: "10"}, "8000"))  # a purchase that nobody told us of
    assert engine.state.book.equity == 9_000.0
    close(engine, 5, 100.0)
    assert trading(engine) is TradingState.TRADING
    assert engine.state.day_equity == 9_000.0


def test_the_measures_outlive_a_restart() -> None:
    engine = holding(DAY)
    close(engine, 5, 89.0)
    again = holding(DAY)
    again.restore(engine.state.to_plain())
    assert again.state.day_lost
    assert (again.state.day_equity, again.state.high_equity) == (10_000.0, 10_000.0)
    assert not again.state.may_open
