"""Arms cost what they say, and parts of a run are what a pencil finds."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import fields, replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.failures import ConfigurationError, InvariantViolated
from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.report.metrics import measure
from daemon.report.run_record import BookRow, RunRecord
from daemon.research.stress import (
    CASH_TIMES,
    ONE_WAY_BPS,
    Account,
    ArmResult,
    Days,
    Figures,
    StressReport,
    at_cost,
    days_of,
    figures_of,
    parts_of,
    stress_arms,
    stress_csv,
    stress_json,
)

BASE = Account(Decimal(10_000), 5.0, 1.0, 30.0, 0.5, 0.1)
DAY_2024 = 19_723  # 2024-01-01


def record_of(equity: list[float], marks: list[list[float]], *, step_ms: int) -> RunRecord:
    """Record a book that trades 1,000 a row at 1 of fees and 0.5 of shortfall."""
    record = RunRecord()
    for at, (value, row) in enumerate(zip(equity, marks, strict=True)):
        turnover, shortfall = Decimal(1_000 * at), 0.5 * at
        held = np.array([value / 2 / row[0], *np.zeros(len(row) - 1)])
        book = BookRow(
            value, 0.0, Decimal(at), Decimal(0), turnover, shortfall, held, np.array(row)
        )
        record.add(DAY_2024 * DAY_MS + (at + 1) * step_ms, book)
    return record


def days_with(**columns: list[float]) -> Days:
    size = len(next(iter(columns.values())))
    plain = {field.name: np.zeros(size) for field in fields(Days)} | {
        name: np.ones(size) for name in ("equity", "lengths")
    }
    given_ = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    made = {**plain, **given_}
    made.pop("days")
    return Days(days=np.arange(size, dtype=np.int64) + DAY_2024, **made)


# ---- arms ----------------------------------------------------------------------------------------


def test_the_arms_are_those_that_were_asked_for() -> None:
    arms = stress_arms(BASE)
    assert arms[0].account == BASE
    costs = [arm.account for arm in arms if arm.group == "cost"]
    assert [account.one_way_bps for account in costs] == pytest.approx([3, 5, 7, 10, 15])
    assert {account.latency_bps for account in costs} == {0.5}
    assert costs[1].fee_bps == pytest.approx(3.75)  # 4.5 bps in the proportion of 5 to 1
    assert costs[1].half_spread_bps == pytest.approx(0.75)
    by_group = {arm.group: arm.account for arm in arms}
    assert by_group["latency"] == replace(BASE, latency_bps=1.0)
    assert by_group["participation"] == replace(BASE, participation_share=0.05)
    cash = [arm.account for arm in arms if arm.group == "capacity"]
    assert cash == [replace(BASE, cash=BASE.cash * times) for times in (1, 3, 10, 30, 100, 300)]
    assert len(arms) == 1 + len(ONE_WAY_BPS) + 2 + len(CASH_TIMES)


def test_capacity_has_a_limit_and_an_impact_even_where_settings_have_none() -> None:
    arms = stress_arms(replace(BASE, participation_share=0.0, impact_bps=0.0))
    for arm in arms:
        if arm.group == "capacity":
            assert (arm.account.participation_share, arm.account.impact_bps) == (0.1, 30.0)
        if arm.group == "cost":
            assert (arm.account.participation_share, arm.account.impact_bps) == (0.0, 0.0)


@given(
    fee=st.floats(-10, 50),
    spread=st.floats(0, 50),
    latency=st.floats(0, 3),
    bps=st.sampled_from(ONE_WAY_BPS),
)
def test_an_arm_costs_what_its_name_says(
    fee: float, spread: float, latency: float, bps: int
) -> None:
    base = replace(BASE, fee_bps=fee, half_spread_bps=spread, latency_bps=latency)
    made = at_cost(base, float(bps))
    assert made.one_way_bps == pytest.approx(bps, abs=1e-9)
    assert made.latency_bps == latency
    assert made.fee_bps >= 0
    assert made.half_spread_bps >= 0
    if fee >= 0 and fee + spread > 1e-6:  # the proportion stays
        share = made.fee_bps / (made.fee_bps + made.half_spread_bps) if latency < bps else 0.0
        assert share == pytest.approx(fee / (fee + spread) if latency < bps else 0.0)


def test_a_latency_charge_above_the_cheapest_arm_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"paper\.latency_bps = 3\.5: must be at most"):
        stress_arms(replace(BASE, latency_bps=3.5))


# ---- days and figures ----------------------------------------------------------------------------


def test_days_by_hand() -> None:
    # the opening at noon, then closes of 12 hours: half a day and a whole one
    equity = [100.0, 110.0, 99.0, 121.0]
    marks = [[10.0, 20.0], [10.0, 20.0], [11.0, 20.0], [11.0, 22.0]]
    days = days_of(record_of(equity, marks, step_ms=12 * HOUR_MS))
    assert days.days.tolist() == [DAY_2024, DAY_2024 + 1]
    assert days.returns == pytest.approx([0.1, 121 / 110 - 1])
    assert days.market == pytest.approx([0.0, 1.05 * 1.05 - 1])  # each row one of two by a tenth
    assert days.traded.tolist() == [1_000.0, 2_000.0]
    assert days.costs.tolist() == [1.0 + 0.5, 2 * 1.0 + 2 * 0.5]
    assert days.equity.tolist() == [100.0, 110.0]
    assert days.gross == pytest.approx([0.5, 0.5])
    assert days.volatility == pytest.approx([0.0, math.sqrt(2 * 0.05**2)])
    assert days.dispersion == pytest.approx([0.0, 0.0], abs=1e-12)  # both rose by a tenth


def test_dispersion_is_the_deviation_over_instruments_that_have_two_marks() -> None:
    nan = math.nan
    marks = [[10.0, 10.0, nan], [11.0, 9.0, 5.0], [11.0, nan, nan]]
    days = days_of(record_of([1.0, 1.0, 1.0], marks, step_ms=DAY_MS))
    assert days.dispersion[0] == pytest.approx(np.std([0.1, -0.1], ddof=1))
    assert math.isnan(days.dispersion[1])


def test_a_run_that_was_only_opened_is_refused() -> None:
    with pytest.raises(InvariantViolated, match="no close after its opening"):
        days_of(record_of([1.0], [[1.0]], step_ms=HOUR_MS))


def test_figures_by_hand() -> None:
    days = days_with(
        returns=[0.1, -0.5, 0.2],
        equity=[100.0, 110.0, 55.0],
        traded=[200.0, 0.0, 110.0],
        costs=[1.0, 0.0, 0.55],
        gross=[1.0, 0.5, 0.0],
        market=[0.1, -0.5, 0.2],
        lengths=[0.5, 1.0, 1.0],
    )
    found = figures_of(days)
    assert found.days == 3
    assert found.total_return == pytest.approx(1.1 * 0.5 * 1.2 - 1)
    assert found.drawdown_max == pytest.approx(-0.5)
    assert found.turnover_per_year == pytest.approx((2.0 + 2.0) * 365 / 2.5)
    assert found.cost_bps == pytest.approx(50.0)
    assert found.cost_return == pytest.approx(0.02)
    assert math.isnan(found.cost_share)  # a loss even before costs
    assert found.gross_mean == pytest.approx(0.5)
    assert found.correlation_market == pytest.approx(1.0)
    assert found.sharpe < 0
    assert math.isnan(found.sharpe_low)  # three days
    best = figures_of(days, days.returns > 0)
    assert best.cost_share == pytest.approx(0.02 / 0.32)
    assert best.drawdown_max == 0.0


def test_the_figures_of_a_run_are_those_of_its_report() -> None:
    rng = np.random.default_rng(3)
    equity = (100.0 * np.exp(np.cumsum(rng.normal(0.001, 0.01, 30 * 24)))).tolist()
    marks = np.exp(np.cumsum(rng.normal(0.0, 0.01, (30 * 24, 3)), axis=0)).tolist()
    record = record_of(equity, marks, step_ms=HOUR_MS)
    ours, report = figures_of(days_of(record)), measure(record)
    assert ours.sharpe == pytest.approx(report.sharpe)
    assert (ours.sharpe_low, ours.sharpe_high) == (report.sharpe_low, report.sharpe_high)
    assert ours.correlation_market == pytest.approx(report.correlation_market)
    assert ours.cost_bps == pytest.approx(report.cost_bps)
    assert ours.days == report.daily_returns


# ---- parts ---------------------------------------------------------------------------------------


def seeded_days(size: int = 500) -> Days:
    rng = np.random.default_rng(5)
    return days_with(
        returns=rng.normal(0.0, 0.01, size).tolist(),
        market=rng.normal(0.0, 0.02, size).tolist(),
        volatility=rng.gamma(2.0, 0.01, size).tolist(),
        dispersion=rng.gamma(2.0, 0.01, size).tolist(),
        traded=[1.0] * size,
    )


def test_every_day_is_in_exactly_one_part_of_each_kind() -> None:
    days = seeded_days()
    parts = parts_of(days)
    for group in ("year", "quarter", "market", "volatility", "dispersion"):
        assert sum(one.figures.days for one in parts.slices if one.group == group) == 500
    for group in ("volatility", "dispersion"):
        sizes = [one.figures.days for one in parts.slices if one.group == group]
        assert max(sizes) - min(sizes) <= 1


def test_years_and_quarters_follow_the_calendar() -> None:
    parts = parts_of(seeded_days())
    names = [(one.name, one.figures.days) for one in parts.slices if one.group == "quarter"]
    assert names == [
        ("2024-Q1", 91),
        ("2024-Q2", 91),
        ("2024-Q3", 92),
        ("2024-Q4", 92),
        ("2025-Q1", 90),
        ("2025-Q2", 44),
    ]
    years = [(one.name, one.figures.days) for one in parts.slices if one.group == "year"]
    assert years == [("2024", 366), ("2025", 134)]
    grown = [1.0 + one.figures.total_return for one in parts.slices if one.group == "quarter"]
    whole = figures_of(seeded_days()).total_return
    assert math.prod(grown) == pytest.approx(1.0 + whole)


def test_a_rule_that_follows_the_market_is_seen_in_its_regimes() -> None:
    days = replace(seeded_days(), returns=seeded_days().market)
    by_name = {one.name: one.figures for one in parts_of(days).slices if one.group == "market"}
    assert by_name["up"].total_return > 1 > 0 > by_name["down"].total_return
    assert by_name["up"].correlation_market == pytest.approx(1.0)


def test_a_single_instrument_has_no_dispersion() -> None:
    days = replace(seeded_days(), dispersion=np.full(500, math.nan))
    parts = parts_of(days)
    assert {one.group for one in parts.slices} == {"year", "quarter", "market", "volatility"}
    assert "dispersion" not in parts.boundaries


# ---- what is written -----------------------------------------------------------------------------


def report_of(days: Days) -> StressReport:
    arms = [ArmResult(arm, figures_of(days), 7) for arm in stress_arms(BASE)]
    return StressReport(
        "strategy rule", 0, DAY_MS, ("A",), "f", {"a": 1}, ("note",), tuple(arms), parts_of(days)
    )


def test_what_is_not_defined_is_null_in_json_and_empty_in_csv() -> None:
    report = report_of(replace(seeded_days(), traded=np.zeros(500)))
    values = json.loads(stress_json(report))
    assert values["arms"][0]["figures"]["cost_bps"] is None
    rows = list(csv.DictReader(io.StringIO(stress_csv(report))))
    assert rows[0]["cost_bps"] == ""
    assert len(rows) == len(values["arms"]) + len(values["slices"])
    for row, one in zip(rows, [*values["arms"], *values["slices"]], strict=True):
        assert (row["group"], row["name"]) == (one["group"], one["name"])
        for field in fields(Figures):
            wanted = one["figures"][field.name]
            assert row[field.name] == ("" if wanted is None else repr(wanted))


def test_the_volatility_of_a_day_is_that_of_its_own_bars() -> None:
    # two closes a day: +-5 % on the second day, +-1 % on the third, +-2 % on the fourth
    moves = [0.0, 0.0, 0.05, -0.05, 0.01, -0.01, 0.02, -0.02]
    path = (100.0 * np.cumprod(1.0 + np.array(moves))).tolist()
    marks = [[price, price] for price in path]
    days = days_of(record_of([100.0] * len(path), marks, step_ms=12 * HOUR_MS))
    wanted = [math.sqrt(2.0) * move for move in (0.05, 0.01, 0.02)]
    assert days.volatility[-3:] == pytest.approx(wanted)


def test_a_day_on_which_the_market_stood_still_is_no_up_day() -> None:
    days = days_with(market=[0.0, 0.1, -0.1, 0.0, 0.2])
    found = {one.name: one.figures.days for one in parts_of(days).slices if one.group == "market"}
    assert found == {"up": 2, "down": 3}
