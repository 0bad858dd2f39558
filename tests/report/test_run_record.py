"""How often the wanted gross was reached: measured over the decisions that traded."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from msgspec.structs import replace

from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.portfolio import TargetPortfolio
from daemon.report.run_record import (
    BOOKS_MAX,
    COLUMNS,
    BookRow,
    RunRecord,
    band_health,
    gross_reached,
)


def decision(weights: float, ideal: float, kind: DecisionKind = DecisionKind.TRADED) -> Decision:
    zero = np.zeros(2)
    target = TargetPortfolio(
        0, np.array([weights, -weights]) / 2, np.array([ideal, -ideal]) / 2, zero
    )
    return Decision(0, 1, kind, "", (), 1.0, zero, zero, (), target, (), ())


def test_gross_counts_as_reached_from_four_fifths_on() -> None:
    decisions = [decision(0.8, 1.0), decision(0.79, 1.0), decision(1.2, 1.0)]
    assert gross_reached(decisions) == (2 / 3, 3)
    assert gross_reached(decisions, share=0.5) == (1.0, 3)


def test_decisions_that_wanted_nothing_or_did_not_trade_do_not_count() -> None:
    held = decision(0.0, 1.0, DecisionKind.HELD)
    nothing = decision(0.0, 0.0)
    without = replace(decision(1.0, 1.0), target=None)
    share, count = gross_reached([held, nothing, without])
    assert math.isnan(share)
    assert count == 0


def test_the_health_of_the_bands_is_the_last_that_a_decision_knew() -> None:
    made = decision(1.0, 1.0)
    assert made.target is not None
    known = [replace(made, target=replace(made.target, health=h)) for h in (3.0, 1.5)]
    assert band_health([*known, made, replace(made, target=None)]) == 1.5
    assert math.isnan(band_health([made]))


def test_rows_become_columns_by_name() -> None:
    record = RunRecord()
    quantity, marks = np.array([2.0, -3.0]), np.array([8.0, 9.0])
    totals = (Decimal(3), Decimal(4), Decimal(5))
    record.add(1, BookRow(1.0, 2.0, *totals, 6.0, quantity, marks))
    found = {name: record.column(name).tolist() for name in COLUMNS}
    assert found == {
        "equity": [1.0],
        "net": [2.0],
        "fees": [3.0],
        "funding": [4.0],
        "turnover": [5.0],
        "shortfall": [6.0],
        "gross": [43.0],
        "market": [1.0],
        "first": [8.0],
    }
    assert record.quantities.tolist() == [[2.0, -3.0]]
    assert record.marks.tolist() == [[8.0, 9.0]]


def test_the_market_compounds_the_equal_weight_move_over_blocks_and_unknown_marks() -> None:
    nan, n = float("nan"), BOOKS_MAX + 3
    rng = np.random.default_rng(3)
    marks = np.exp(np.cumsum(rng.normal(scale=0.01, size=(n, 3)), axis=0))
    marks[: n // 2, 1] = nan
    record, zero, market = RunRecord(), Decimal(0), [1.0]
    for i in range(n):
        book = BookRow(1.0, 0.0, zero, zero, zero, 0.0, np.array([1.0, 0.0, 0.0]), marks[i])
        record.add(i, book)
        if i:
            moves = marks[i] / marks[i - 1]
            market.append(market[-1] * float(np.nanmean(moves)))
    assert len(record) == n
    assert record.column("market").tolist() == pytest.approx(market, rel=1e-12)
    assert record.column("gross").tolist() == pytest.approx(marks[:, 0].tolist())


def test_an_empty_record_has_empty_columns() -> None:
    record = RunRecord()
    assert record.column("equity").shape == (0,)
    assert record.marks.shape == (0, 0)
