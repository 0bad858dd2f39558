"""Attribution: parts that sum exactly, by a second computation, by hand, and on a replayed journal.

Runs come from the real engine and paper venue: partial fills, late fills, funding, legs that the
forecasts leave alone. The second computation walks interval by interval in plain floats.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.failures import InvariantViolated
from daemon.domain.messages import FundingPaid, Transferred
from daemon.domain.order import Fill, Order, OrderId, OrderKind
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.report.attribution import PARTS, Attribution, attribute
from daemon.report.betas import trailing_betas
from daemon.report.bookings import bookings, later_transfers
from daemon.report.run import Execution, Run, RunFacts
from daemon.report.run_record import BookRow, RunRecord
from daemon.wiring.verification import read_journal_run
from tests.engine.world import CASH_KEY, key
from tests.report.made_runs import World, replayed
from tests.simulation.paper_line import BEGIN_MS, generated_market, run_until

MIDNIGHT = 19_000 * DAY_MS


def check_sums(found: Attribution, run: Run) -> None:
    """Demand what holds for every run, whatever happened in it."""
    assert sum(found.parts.values()) == found.total
    assert tuple(found.parts) == PARTS
    names = found.by_name
    assert tuple(n.symbol for n in names) == run.facts.symbols
    assert sum(n.total for n in names) == found.total
    for n in names:
        assert n.holding + n.funding + n.fees + n.trading == n.total
    assert sum(n.funding for n in names) == found.funding
    assert sum(n.fees for n in names) == found.fees
    amounts = [*found.parts.values(), found.total, *(n.total for n in names)]
    assert all(a == a.quantize(Decimal("1e-8")) for a in amounts)
    assert found.daily.sum(axis=0) == pytest.approx(
        [float(a) for a in found.parts.values()], abs=1e-6
    )
    equity = run.record.column("equity")
    assert float(found.total) == pytest.approx(equity[-1] - equity[0], abs=1e-6)


def parts_by_hand(run: Run, latency_bps: float) -> dict[str, float]:
    """Compute the parts of a backtest once more: fills of a row happen at its own instant."""
    record = run.record
    times, marks, held = record.times_ms, record.marks, record.quantities
    betas, market = trailing_betas(record), record.column("market")
    orders = {o.order_id: o for d in run.decisions for o in d.orders}
    parts = dict.fromkeys(PARTS, 0.0)
    for k in range(1, len(times)):
        newest = [d for d in run.decisions if d.as_of_ms <= times[k - 1]][-1:]
        moved = market[k] / market[k - 1] - 1
        for i in range(marks.shape[1]):
            wanted = held[k - 1, i]
            if newest and newest[0].target is not None:
                weight = newest[0].target.weights[i]
                if not math.isnan(weight):
                    wanted = weight * newest[0].equity / newest[0].marks[i]
            move = marks[k, i] - marks[k - 1, i]
            leaned = wanted * marks[k - 1, i] * betas[k - 1, i] * moved
            parts["beta_leak"] += leaned
            parts["alpha"] += wanted * move - leaned
            parts["rounding"] += (held[k - 1, i] - wanted) * move
    for e in run.executions:
        at = e.settle_ms if isinstance(e, FundingPaid) else e.at_ms
        if at <= times[0]:
            continue
        if isinstance(e, FundingPaid):
            parts["funding"] += float(e.amount)
        elif isinstance(e, Fill):
            q, p, m = float(e.quantity), float(e.price), marks[times.index(at), e.index]
            charge = abs(q) * m * latency_bps * 1e-4
            order = orders.get(e.order_id)
            missed = q * (m - order.reference_price) if order else 0.0
            parts["fees"] -= float(e.fee)
            parts["spread_and_impact"] += q * (m - p) + charge
            parts["delay"] -= missed + charge
            parts["rounding"] += missed
    return parts


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10_000),
    volume=st.sampled_from([10.0, 60.0, 1e5]),
    gap=st.sampled_from([0.0, 0.003]),
    unknown=st.sampled_from([0.0, 0.3]),
    places=st.sampled_from([4, 12]),
    latency_bps=st.sampled_from([0.0, 0.5]),
    fixed=st.sampled_from([None, (0.3, -0.1, -0.2, 0.05), (0.2, math.nan, -0.2, 0.0)]),
)
def test_parts_sum_exactly_and_a_second_computation_agrees(
    seed: int,
    volume: float,
    gap: float,
    unknown: float,
    places: int,
    latency_bps: float,
    fixed: tuple[float, ...] | None,
) -> None:
    world = World(seed, bars_n=48 * 4, volume=volume, gap=gap, unknown=unknown, places=places)
    run = replayed(world, None if fixed is None or fixed[1] != fixed[1] else fixed)
    found = attribute(run, latency_bps=latency_bps)
    check_sums(found, run)
    told = [e for e in run.executions if isinstance(e, Fill)]
    assert len(told) == run.facts.fills > 20  # a cancelled order tells its fills again
    by_hand = parts_by_hand(run, latency_bps)
    assert {k: float(v) for k, v in found.parts.items()} == pytest.approx(by_hand, abs=1e-6)
    # the engine's own running total of price against reference is the third computation
    shortfall = run.record.column("shortfall")
    lost = float(found.spread_and_impact + found.delay)
    assert lost == pytest.approx(shortfall[0] - shortfall[-1], abs=1e-6)


def test_betas_that_are_known_move_gain_between_alpha_and_beta_leak() -> None:
    run = replayed(World(bars_n=48 * 12), (0.4, 0.1, 0.1, 0.1))
    betas = trailing_betas(run.record)
    assert (betas[-1] != 1.0).all()
    found = attribute(run)
    check_sums(found, run)
    by_hand = parts_by_hand(run, 0.0)
    assert float(found.alpha) == pytest.approx(by_hand["alpha"], abs=1e-6)
    # a long-only book: what it earned is mostly the market's
    assert abs(float(found.beta_leak)) > 2 * abs(float(found.alpha))


def test_a_replayed_journal_whose_fills_follow_their_row_sums_exactly_too(tmp_path: Path) -> None:
    market = generated_market(tmp_path / "data", days=5)
    state = tmp_path / "state"
    asyncio.run(run_until(market, state, BEGIN_MS, BEGIN_MS + 30 * HOUR_MS))
    read = read_journal_run(state)
    before = read.record.before  # the bars that warmed it up
    assert before is not None
    assert before.times_ms[-1] < read.record.times_ms[0]
    assert np.isfinite(before.marks[-1]).all()
    universe = read.engine.universe
    facts = RunFacts("", "", "", universe.symbols, 0, 0, 0.0, 0.0, 0.0, "")
    run = Run(read.record, read.decisions, read.executions, facts)
    times = read.record.times_ms
    fills = [e for e in read.executions if isinstance(e, Fill)]
    assert len(fills) > 20
    assert any(isinstance(e, FundingPaid) for e in read.executions)
    found = attribute(run, latency_bps=0.5)
    check_sums(found, run)
    assert any(f.at_ms in times[:-1] and f.at_ms > BEGIN_MS for f in fills)
    # What the engine has booked since the last row is no part of it.
    assert float(-found.fees) < float(read.engine.state.book.ledger.fees)
    fees, shortfall = read.record.column("fees"), read.record.column("shortfall")
    assert float(found.fees) == pytest.approx(fees[0] - fees[-1])
    lost = float(found.spread_and_impact + found.delay)
    assert lost == pytest.approx(shortfall[0] - shortfall[-1], abs=1e-6)


# ---- by hand -------------------------------------------------------------------------------------


def order(number: int, index: int, quantity: str, as_of_ms: int, mark: float) -> Order:
    name = OrderId(f"o{number}")
    return Order(name, key(index), index, Decimal(quantity), OrderKind.MARKET, as_of_ms, mark)


def fill(number: int, index: int, quantity: str, price: str, fee: str, at_ms: int) -> Fill:
    size, at, paid = Decimal(quantity), Decimal(price), Decimal(fee)
    return Fill(f"t{number}", OrderId(f"o{number}"), key(index), index, size, at, paid, at_ms)


def run_by_hand(*, adopted: float = 0.0) -> Run:
    """Two names, three rows; the first order fills at once, the second an hour late.

    Marks 100, 110, 121 and 50, 50, 45. At the first row 0.2 and -0.1 of 1,000 are wanted: 2 and -2
    pieces. 2 of the first are bought at 101; of the second 1 is sold an hour later at 49.
    """
    times = [MIDNIGHT + (i + 1) * HOUR_MS for i in range(3)]
    marks = np.array([[100.0, 50.0], [110.0, 50.0], [121.0, 45.0]])
    executions: list[Execution] = [
        Transferred("d", CASH_KEY, MIDNIGHT, Decimal(1000)),
        fill(1, 0, "2", "101", "0.1", times[1]),
        Transferred("d2", CASH_KEY, times[1], Decimal(500)),
        fill(2, 1, "-1", "44", "0.05", times[2]),
        FundingPaid("f", key(0), CASH_KEY, times[2], 0.0001, Decimal("-0.02")),
    ]
    zero = Decimal(0)
    # cash: 1000; -202 - 0.1 + 500 = 1297.9; +44 - 0.05 - 0.02 = 1341.83
    rows = [
        (1000.0, zero, zero, zero, [0.0, 0.0]),
        (1297.9 + 220.0, Decimal("0.1"), zero, Decimal(202), [2.0, 0.0]),
        (1341.83 + 242.0 - 45.0, Decimal("0.15"), Decimal("-0.02"), Decimal(246), [2.0, -1.0]),
    ]
    record = RunRecord()
    for i, (equity, fees, funding, turnover, held) in enumerate(rows):
        quantity = np.array(held) + (adopted if i == 2 else 0.0)
        row = BookRow(equity, 0.0, fees, funding, turnover, 0.0, quantity, marks[i])
        record.add(times[i], row)
    target = TargetPortfolio(times[0], np.array([0.2, -0.1]), np.zeros(2), np.zeros(2))
    orders = (order(1, 0, "2", times[0], 100.0), order(2, 1, "-2", times[0], 50.0))
    decision = Decision(
        times[0], 1, DecisionKind.TRADED, "", (), 1000.0, marks[0], np.zeros(2), (), target,
        orders, (),
    )  # fmt: skip
    facts = RunFacts("", "", "", ("AAA", "BBB"), 2, 2, 0.0, 0.0, 0.0, "")
    return Run(record, [decision], executions, facts)


def test_every_part_of_three_rows_by_hand() -> None:
    found = attribute(run_by_hand(), latency_bps=100.0)
    # market: +5 %, then 0 (+10 % and -10 %); betas unknown, so 1
    # wanted 2 and -2: +20 - 0, then +22 + 10 = 52, of which (200 - 100) x 5 % = 5 was the market
    assert found.beta_leak == Decimal(5)
    assert found.alpha == Decimal(47)
    # held 0, 0, then 2, 0: the first missed 20, the second 10
    # given back: 2 x (110 - 100) and -1 x (45 - 50)
    assert found.rounding == Decimal(-30 + 20 + 5)
    # 1 % of 2 x 110 and of 1 x 45 for latency
    assert found.delay == Decimal(-25) - Decimal("2.65")
    # bought 2 at 101 when worth 110; sold 1 at 44 when worth 45
    assert found.spread_and_impact == Decimal(18 - 1) + Decimal("2.65")
    assert (found.fees, found.funding) == (Decimal("-0.15"), Decimal("-0.02"))
    assert found.total == Decimal("1538.83") - 1000 - 500
    assert sum(found.parts.values()) == found.total
    first, second = found.by_name
    assert (first.symbol, second.symbol) == ("AAA", "BBB")
    assert (first.holding, first.trading, first.fees) == (Decimal(22), Decimal(18), Decimal("-0.1"))
    assert (first.funding, first.total) == (Decimal("-0.02"), Decimal("39.88"))
    assert (second.holding, second.trading) == (Decimal(0), Decimal(-1))
    assert second.total == Decimal("-1.05")
    assert found.days_ms.tolist() == [MIDNIGHT]
    assert found.daily[0] == pytest.approx([float(v) for v in found.parts.values()])


def test_a_deposit_between_two_rows_is_found_where_the_record_has_it() -> None:
    run = run_by_hand()
    found = later_transfers(run)
    assert found is not None
    assert found.tolist() == [1000.0, 1500.0, 1500.0]
    # told late, by its time already in the first row
    late = [
        Transferred(e.cashflow_id, e.cash_key, MIDNIGHT, e.amount)
        if isinstance(e, Transferred)
        else e
        for e in run.executions
    ]
    told_late = replace(run, executions=late)
    assert bookings(told_late).rows == bookings(run).rows == (0, 1, 1, 2, 2)
    late_too = later_transfers(told_late)
    assert late_too is not None
    assert late_too.tolist() == found.tolist()


def test_a_fill_between_two_rows_is_held_from_the_close_before_it() -> None:
    run = run_by_hand()
    times = run.record.times_ms
    early = [replace_at(e, times[1] - 1) if isinstance(e, Fill) else e for e in run.executions[:2]]
    found = attribute(replace(run, executions=[*early, *run.executions[2:]]))
    # worth 100 then, bought at 101, and held while it rose to 110
    assert found.spread_and_impact == Decimal(-2 - 1)
    assert found.by_name[0].holding == Decimal(20 + 22)
    assert found.rounding == Decimal(-10 + 5)
    assert found.total == attribute(run).total


def replace_at(fill_: Fill, at_ms: int) -> Fill:
    return Fill(
        fill_.trade_id, fill_.order_id, fill_.key, fill_.index, fill_.quantity, fill_.price,
        fill_.fee, at_ms,
    )  # fmt: skip


def test_an_order_that_no_decision_tells_of_has_no_delay() -> None:
    run = run_by_hand()
    bare = [
        Decision(
            d.as_of_ms, d.sequence, d.kind, d.bars_digest, d.absent, d.equity, d.marks,
            d.weights_before, d.predictions, d.target, (), (),
        )
        for d in run.decisions
    ]  # fmt: skip
    found = attribute(replace(run, decisions=bare))
    assert found.delay == 0
    assert found.rounding == Decimal(-30)
    without = attribute(replace(run, decisions=[]))  # what is held is then what is wanted
    assert without.rounding == without.delay == 0
    assert without.alpha + without.beta_leak == Decimal(22)


def test_one_row_has_no_gain() -> None:
    run = replayed(World())
    record = RunRecord()
    equity = float(run.record.column("equity")[0])
    zero = Decimal(0)
    record.add(
        run.record.times_ms[0],
        BookRow(equity, 0.0, zero, zero, zero, 0.0, np.zeros(4), run.record.marks[0]),
    )
    found = attribute(replace(run, record=record))
    assert found.total == 0
    assert found.daily.shape == (0, len(PARTS))
    assert len(found.days_ms) == 0


# ---- what cannot be attributed -------------------------------------------------------------------


@pytest.mark.parametrize("left_out", [0, 1, 2, 3, 4])
def test_a_missing_execution_is_noticed(left_out: int) -> None:
    run = run_by_hand()
    fewer = [e for i, e in enumerate(run.executions) if i != left_out]
    with pytest.raises(InvariantViolated, match="an execution is missing"):
        attribute(replace(run, executions=fewer))


def test_an_adopted_position_is_refused_by_name() -> None:
    with pytest.raises(InvariantViolated, match=r"AAA 3.0 in the row, 2 by executions"):
        attribute(run_by_hand(adopted=1.0))


def test_a_latency_that_is_no_cost_is_refused() -> None:
    for wrong in (-0.5, math.nan, 1e4):
        with pytest.raises(InvariantViolated, match="latency_bps"):
            attribute(run_by_hand(), latency_bps=wrong)


def test_an_empty_run_is_refused_in_words() -> None:
    run = run_by_hand()
    with pytest.raises(InvariantViolated, match="no bar closed"):
        attribute(replace(run, record=RunRecord()))
