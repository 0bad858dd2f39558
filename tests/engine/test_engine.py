"""Instants, accounts and restarts when things go wrong: each scenario in a few events."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pytest

from daemon.domain.decision import DecisionKind
from daemon.domain.failures import InvariantViolated
from daemon.domain.forecast import Estimates
from daemon.domain.messages import (
    AlertKind,
    AskSnapshot,
    Estimate,
    EstimatesMissing,
    EstimatesReady,
    FundingRates,
    Operator,
    OperatorAction,
    OrderAbsent,
    OrderAccepted,
    Query,
    Snapshotted,
    Started,
    Submit,
    Tick,
    Transferred,
)
from daemon.domain.portfolio import AccountSnapshot, TargetPortfolio
from daemon.domain.units import HOUR_MS
from daemon.domain.view import View
from daemon.engine.reconcile import ReconcilePolicy
from daemon.engine.risk import RiskLimits, TradingState
from daemon.engine.settled import Settled
from daemon.engine.state import Phase
from daemon.engine.trader import Trader
from daemon.ports import StrategyState
from tests.engine.acts import PAIR, decide, wish, with_a_pair
from tests.engine.world import (
    CASH_KEY,
    H1,
    M90,
    NAN,
    VENUE,
    FixedWeights,
    FollowForecasts,
    alerts,
    at,
    bars,
    decided,
    deposit,
    feed,
    fill_of,
    forecast,
    key,
    make_engine,
    names,
    shown,
    snapshot,
    submitted,
    trading,
    trading_engine,
)

# ---- instants ------------------------------------------------------------------------------------


def test_too_few_bars_are_recorded_as_warming() -> None:
    engine = trading_engine(FollowForecasts(windows_needed={H1: 3}))
    told = feed(engine, bars(3), bars(4))
    assert decided(told)[0].note == "not enough bars yet: 1h"
    assert not any(isinstance(c, Estimate) for c in told)


def test_an_instant_without_any_bar_is_decided_at_its_deadline_with_all_absent() -> None:
    engine = trading_engine()
    told = feed(engine, bars(3), Tick(at(4)), Tick(at(4) + 19_999))
    assert names(told) == ["Estimate"]  # of half past three
    told = feed(engine, Tick(at(4) + 20_000), forecast(4, PAIR))
    assert decided(told)[0].absent == (0, 1, 2, 3)


def test_an_instrument_silent_for_too_long_is_no_longer_waited_for() -> None:
    engine = trading_engine()
    some = (100.0, 100.0, 100.0, NAN)
    for bar in range(3, 6):
        feed(engine, bars(bar, some, final=False))
        assert engine.state.phase is Phase.GATHERING  # last seen less than four bars ago
    feed(engine, bars(6, some, final=False), bars(7, some, final=False))
    assert engine.state.phase is Phase.ESTIMATING


def test_bars_that_come_in_pieces_are_decided_on_when_the_last_one_is_there() -> None:
    engine = trading_engine()
    feed(engine, bars(3))
    feed(engine, bars(4, (100.0, 100.0, NAN, NAN), final=False))
    assert engine.state.phase is Phase.GATHERING
    told = feed(engine, bars(4, (NAN, NAN, 100.0, 100.0), final=False))
    assert names(told) == ["Estimate"]


def test_a_question_still_open_at_the_next_bar_is_given_up_and_its_answer_ignored() -> None:
    engine = trading_engine()
    feed(engine, bars(3), bars(4))
    told = feed(engine, bars(5))
    assert "was still estimating" in alerts(told, AlertKind.NO_DECISION)[0].text
    assert feed(engine, forecast(4, PAIR)) == []
    assert feed(engine, EstimatesMissing(at(4), "late")) == []


def test_a_decision_before_reconciliation_is_not_made_and_said_so() -> None:
    engine = make_engine(FixedWeights(lambda _: PAIR))
    told = feed(engine, Started(at(2), "run"), bars(3), bars(4))
    assert "trading state is reconciling" in alerts(told, AlertKind.NO_DECISION)[0].text


def test_the_account_is_compared_once_a_day_without_asking_for_executions() -> None:
    engine = trading_engine()
    told = feed(engine, bars(47), bars(48))
    assert AskSnapshot(VENUE, -1) in told
    assert sum(isinstance(c, AskSnapshot) for c in told) == 1


def test_a_late_bar_of_an_older_instant_changes_no_newer_mark() -> None:
    engine = trading_engine()
    feed(engine, bars(3, (101.0, NAN, 101.0, 101.0)), bars(4, 102.0))
    feed(engine, bars(3, (NAN, 50.0, NAN, NAN), final=False))
    assert engine.state.book.prices == [102.0] * 4


def test_everything_the_estimator_says_reaches_the_strategy() -> None:
    engine = trading_engine()
    feed(engine, bars(3), bars(4))
    prediction = forecast(4, PAIR).estimates.predictions
    disagreement = np.eye(1)
    feed(
        engine,
        FundingRates(at(4), np.array([0.1, NAN, 0.3, NAN]), np.zeros(4)),
        FundingRates(at(4), np.array([NAN, 0.2, NAN, NAN]), np.zeros(4)),
        EstimatesReady(Estimates(at(4), prediction, disagreement, None, 0.5)),
    )
    state = engine.state
    assert state.gross_multiplier == 0.5
    assert state.disagreement is disagreement
    assert np.array_equal(state.funding.rates, [0.1, 0.2, 0.3, NAN], equal_nan=True)


def test_how_long_a_funding_rate_was_for_is_seen_from_settlements() -> None:
    engine = trading_engine()

    def told(hour: int, *rates: float) -> None:
        feed(engine, FundingRates(at(hour), np.array(rates), np.zeros(4)))

    told(8, 0.1, 0.1, 0.1, NAN)
    assert np.isnan(engine.state.funding.hours).all()
    told(9, NAN, NAN, 0.2, NAN)
    told(12, NAN, 0.2, NAN, NAN)
    told(16, 0.2, 0.3, NAN, NAN)
    told(12, 0.9, 0.9, NAN, 0.4)  # late: what is newer stands
    told(60, NAN, NAN, 0.3, NAN)  # after a gap the interval is the one that was known
    known = engine.state.funding
    assert np.array_equal(known.rates, [0.2, 0.3, 0.3, 0.4], equal_nan=True)
    assert np.array_equal(
        known.hours, [4.0, 2.0, 0.5, NAN], equal_nan=True
    )  # at() counts half hours
    again = Settled.from_plain(known.to_plain())
    for name in ("rates", "at_ms", "hours", "pause"):
        assert np.array_equal(getattr(again, name), getattr(known, name), equal_nan=True)
    older = Settled.from_plain(known.rates.tolist())
    assert np.array_equal(older.rates, known.rates, equal_nan=True)
    assert np.isnan(older.hours).all()


def test_a_missed_settlement_is_no_longer_interval_and_a_changed_one_is_soon_believed() -> None:
    known, seen = Settled.none(1), list[float]()
    for hour in (8, 16, 32, 40, 44, 48, 56, 64):  # that of 24 was missed; from 40 every 4, then 8
        known.take(FundingRates(hour * HOUR_MS, np.array([1e-4]), np.zeros(1)))
        seen.append(float(known.hours[0]))
    assert np.isnan(seen[0])
    assert seen[1:] == [8.0, 8.0, 8.0, 4.0, 4.0, 4.0, 8.0]
    older = Settled.from_plain({k: v for k, v in known.to_plain().items() if k != "pause"})
    assert older.pause.tolist() == [8.0]


def test_a_funding_rate_is_unknown_a_day_after_its_settlement_also_through_a_snapshot() -> None:
    engine = trading_engine()
    feed(engine, bars(3), bars(4))
    feed(engine, FundingRates(at(4), np.array([0.1, 0.2, NAN, NAN]), np.zeros(4)))
    feed(engine, FundingRates(at(12), np.array([NAN, 0.3, NAN, NAN]), np.zeros(4)))
    feed(engine, FundingRates(at(4), np.array([NAN, 0.9, NAN, NAN]), np.zeros(4)))  # came late
    feed(engine, *(bars(bar) for bar in range(5, 53)))
    assert np.array_equal(
        engine.state.funding.fresh(engine.state.instant_ms), [0.1, 0.3, NAN, NAN], equal_nan=True
    )
    feed(engine, bars(53))
    assert np.array_equal(
        engine.state.funding.fresh(engine.state.instant_ms), [NAN, 0.3, NAN, NAN], equal_nan=True
    )
    later = trading_engine()
    later.state.restore(engine.state.to_plain())
    assert np.array_equal(
        later.state.funding.fresh(later.state.instant_ms), [NAN, 0.3, NAN, NAN], equal_nan=True
    )
    older = engine.state.to_plain() | {"funding_rates": engine.state.funding.rates}
    later.state.restore(older)
    assert np.isnan(later.state.funding.fresh(later.state.instant_ms)).all()


def test_only_timeframes_with_a_new_bar_are_asked_about() -> None:
    engine = make_engine(timeframes=(H1, M90))
    feed(engine, Started(at(0), "run", warming=True), *(bars(b) for b in range(1, 7)))
    feed(engine, Started(at(6), "run"), deposit(), snapshot())
    asked = [c for c in feed(engine, bars(7)) if isinstance(c, Estimate)]
    assert [w.timeframe for w in asked[0].windows] == [H1, M90]
    feed(engine, forecast(7, PAIR), EstimatesMissing(at(7), "again"))
    asked = [c for c in feed(engine, bars(8)) if isinstance(c, Estimate)]
    assert [w.timeframe for w in asked[0].windows] == [H1, M90]  # 90m was never answered


def test_equity_below_zero_stops_the_engine_instead_of_trading_on_nonsense() -> None:
    engine = with_a_pair()
    feed(engine, Transferred("w", CASH_KEY, at(4), Decimal(-20_000)))
    told = decide(engine, 6, PAIR)
    assert trading(engine) is TradingState.HALTED
    assert "equity" in alerts(told, AlertKind.HALTED)[0].text
    assert decided(told) == []


def test_a_ruined_book_can_still_be_flattened_by_the_operator() -> None:
    engine = with_a_pair()
    held = [k for k, q in enumerate(engine.state.book.held) if q]
    feed(engine, Transferred("w", CASH_KEY, at(4), Decimal(-20_000)))
    told = feed(engine, Operator(OperatorAction.FLATTEN, "f1", at(4)))
    sent = [c.approved.order for c in told if isinstance(c, Submit)]
    assert sorted(o.index for o in sent) == held
    assert all(o.reduce_only for o in sent)


# ---- the account ---------------------------------------------------------------------------------


def test_the_first_account_found_is_adopted_whole() -> None:
    engine = make_engine(reconcile=ReconcilePolicy.ADOPT)
    feed(engine, Started(at(2), "run"))
    told = feed(engine, snapshot({0: "3"}, "500", cursor=7))
    assert "ours 0, venue 3" in alerts(told, AlertKind.RECONCILED)[0].text
    assert trading(engine) is TradingState.TRADING
    assert engine.state.book.held[0] == 3.0
    assert engine.state.book.cash == 500.0
    assert engine.state.book.ledger.transfers == 500
    assert engine.state.cursors == {VENUE: 7}


def test_a_later_difference_is_asked_about_twice_more_and_then_halts() -> None:
    engine = with_a_pair()
    wrong = snapshot({0: "10"}, "10000", cursor=3)  # the short has vanished at the venue
    assert feed(engine, wrong) == [AskSnapshot(VENUE, 0)]
    assert feed(engine, wrong) == [AskSnapshot(VENUE, 0)]
    told = feed(engine, wrong)
    assert [a.kind for a in alerts(told)] == [AlertKind.RECONCILED, AlertKind.HALTED]
    assert "paper:ETH/USDT:USDT: ours -10.00, venue 0" in engine.state.halted_why
    assert engine.state.book.held[1] == -10.0  # never traded or booked away


def test_rounding_that_grew_with_many_fills_does_not_halt_the_book() -> None:
    engine = with_a_pair()
    ledger = engine.state.book.ledger
    ledger.fills = 50_000
    held = {k: p.quantity for k, p in ledger.positions.items()}
    theirs = {CASH_KEY: ledger.cash[CASH_KEY] - Decimal("0.0005")}
    rounding = {CASH_KEY: Decimal("0.0001")}
    told = AccountSnapshot(VENUE, at(4), held, theirs, cash_rounding=rounding)
    assert feed(engine, *[Snapshotted(told)] * 3) == []
    assert trading(engine) is TradingState.TRADING


def test_a_difference_that_the_next_executions_explain_is_forgotten() -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, PAIR))
    ours = snapshot({0: "10", 1: "-10"}, "10000", cursor=2)
    assert feed(engine, ours) == [AskSnapshot(VENUE, 0)]
    told = feed(engine, fill_of(orders[0], "a"), fill_of(orders[1], "b"), ours)
    assert told == []
    assert engine.state.mismatches == {}
    assert engine.state.cursors == {VENUE: 2}


def test_the_adopting_policy_takes_the_venue_s_word_as_an_adjustment() -> None:
    engine = with_a_pair(reconcile=ReconcilePolicy.ADOPT)
    wrong = snapshot({0: "10"}, "9000")
    told = feed(engine, wrong, wrong, wrong)
    assert names(told) == ["AskSnapshot", "AskSnapshot", "Alert"]
    assert engine.state.book.held == [10.0, 0.0, 0.0, 0.0]
    assert trading(engine) is TradingState.TRADING
    assert engine.state.book.ledger.fills == 2


def test_deposits_and_withdrawals_are_no_gain_and_no_loss_and_count_once() -> None:
    engine = trading_engine()
    feed(engine, deposit(Decimal(-300), 1), deposit(Decimal(-300), 1))
    assert engine.state.book.cash == 9_700.0
    assert engine.state.book.ledger.transfers == 9_700


# ---- forecasts that do not come ------------------------------------------------------------------


@dataclass(frozen=True)
class LetGo(FollowForecasts):
    """Close the book where there are no forecasts."""

    def decide(self, state: StrategyState, view: View) -> tuple[StrategyState, TargetPortfolio]:
        if view.predictions:
            return super().decide(state, view)
        zero = np.zeros(len(view.weights))
        return dict(state), TargetPortfolio(view.as_of_ms, zero, zero, zero, note="let go")


def test_without_forecasts_the_strategy_may_still_give_positions_up() -> None:
    engine = with_a_pair(strategy=LetGo())
    feed(engine, bars(5), bars(6), EstimatesMissing(at(6), "late"))  # one of an hour ago serves
    feed(engine, bars(7), EstimatesMissing(at(7), "late"), bars(8))
    told = feed(engine, EstimatesMissing(at(8), "late"))
    (record,) = decided(told)
    assert record.kind is DecisionKind.HELD
    assert record.note == "no usable forecast (1 in a row); let go"
    assert sorted(str(o.quantity) for o in submitted(told)) == ["-10.00", "10.00"]
    assert all(o.reduce_only for o in submitted(told))


# ---- restart -------------------------------------------------------------------------------------


def test_a_restart_asks_about_every_order_in_flight_before_it_trades() -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, PAIR))
    feed(engine, OrderAccepted(orders[0].order_id, at(4)))
    assert feed(engine, Started(at(4) + 60_000, "again", warming=True)) == []
    assert feed(engine, bars(5)) == []
    told = feed(engine, Started(at(5), "again"))
    assert told == [
        Query(orders[0].order_id, key(0)),
        Query(orders[1].order_id, key(1)),
        AskSnapshot(VENUE, 0),
    ]
    assert trading(engine) is TradingState.RECONCILING
    feed(engine, fill_of(orders[0], "t1"), OrderAbsent(orders[1].order_id, at(5)))
    feed(engine, snapshot({0: "10"}, "9000", cursor=1))
    assert trading(engine) is TradingState.TRADING
    told = decide(engine, 6, PAIR)
    assert shown(submitted(told)) == [(f"eq{at(6) // 1000:x}-1-1", "-10.00")]


def test_a_restart_in_the_middle_of_a_decision_records_what_was_left_unsent() -> None:
    engine = trading_engine()
    decide(engine, 4, (0.4, -0.4, 0.0, 0.0))
    told = feed(engine, Started(at(4), "again", warming=True))
    assert decided(told)[0].note == "2 legs unsent: superseded by a restart"
    assert engine.quiescent


def test_a_restart_with_other_rules_in_the_middle_of_a_decision_records_it_all_the_same() -> None:
    engine = trading_engine()
    orders = submitted(decide(engine, 4, (0.4, -0.4, 0.0, 0.0)))
    changed = make_engine(limits=RiskLimits(net_weight_max=0.1))
    changed.take_over(engine)
    told = feed(changed, Started(at(4), "again", warming=True))
    (record,) = decided(told)
    assert record.note == "2 legs unsent: superseded by a restart"
    assert list(record.orders) == orders


def test_a_restart_after_a_halt_stays_halted() -> None:
    engine = with_a_pair()
    feed(engine, wish(OperatorAction.KILL))
    feed(engine, Started(at(5), "again", warming=True), Started(at(5), "again"))
    assert trading(engine) is TradingState.HALTED


def test_the_engine_asks_to_be_woken_at_the_deadline_of_the_next_source_close() -> None:
    engine = trading_engine()
    assert engine.wake_ms == at(3) + 20_000
    feed(engine, bars(3, (100.0, NAN, NAN, NAN), final=False))
    assert engine.wake_ms == at(3) + 20_000
    assert engine.state.phase is Phase.GATHERING
    feed(engine, Tick(at(3) + 20_000))
    assert engine.wake_ms == at(4) + 20_000


def test_a_tick_before_trading_changes_nothing() -> None:
    engine = make_engine()
    feed(engine, Started(at(1), "run", warming=True))
    assert feed(engine, Tick(at(9))) == []
    assert engine.state.instant_ms == 0


def test_an_instrument_without_any_bar_yet_does_not_hold_up_the_first_decisions() -> None:
    engine = make_engine(timeframes=(H1, M90))
    feed(engine, Started(at(2), "run"), deposit(), snapshot())
    told = feed(engine, bars(3, (NAN,) * 4), bars(4, (NAN,) * 4))
    assert decided(told)[0].note == "not enough bars yet: 1h"


def test_a_target_without_an_open_decision_is_a_mistake_of_ours() -> None:
    engine = trading_engine()
    trader = Trader(engine.state, RiskLimits(), "eq", [])
    with pytest.raises(InvariantViolated, match="no decision was opened"):
        trader.want(DecisionKind.HELD, None, "")
