"""How often the wanted gross was reached: measured over the decisions that traded."""

from __future__ import annotations

import math

import numpy as np
from msgspec.structs import replace

from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.portfolio import TargetPortfolio
from daemon.report.run_record import COLUMNS, BookRow, RunRecord, gross_reached


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


def test_rows_become_columns_by_name() -> None:
    record = RunRecord()
    record.add(1, BookRow(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, np.array([8.0, 9.0])))
    assert [record.column(name).tolist() for name in COLUMNS] == [
        [1.0],
        [2.0],
        [3.0],
        [4.0],
        [5.0],
        [6.0],
        [7.0],
        [1.0],
        [8.0],
    ]
