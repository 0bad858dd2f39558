"""What executions did to an account, split as an attribution needs it.

q, p, m and r are quantity, price, mark of the instant and mark of the sizing of a fill, as
`daemon.report.attribution` defines them.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from daemon.domain.decision import Decision
from daemon.domain.failures import InvariantViolated
from daemon.domain.messages import FundingPaid
from daemon.domain.order import Fill, OrderId
from daemon.domain.units import iso, require
from daemon.report.bookings import ZERO, Bookings, exact_marks
from daemon.report.run import Run

Floats = npt.NDArray[np.float64]


class Flows:
    """Gather what the executions after the first row and up to the last one did, and when.

    latency: what a fill is charged for it, a fraction of its value at the mark. Raises
    InvariantViolated for what was traded without ever having a mark, or funded without a trade.

    funding, fees, trading, bought: exact by column (N); bought is quantity times the mark of the
    fill's instant. delay, charge: exact sums. rows: (T, 4) floats of funding, fees, spread and
    impact, delay. missed: (T,) sum of q (m - r). early: (T, N) quantity of the fills of an interval
    that were held during it.
    """

    def __init__(self, run: Run, booked: Bookings, latency: Decimal) -> None:
        record = run.record
        times, marks = record.times_ms, record.marks
        T, N = marks.shape
        self.funding, self.fees, self.trading, self.bought = ([ZERO] * N for _ in range(4))
        self.delay = self.charge = ZERO
        self.rows = np.zeros((T, 4))
        self.missed, self.early = np.zeros(T), np.zeros((T, N))
        sized = _sized_at(run.decisions)
        exact: dict[int, list[Decimal]] = {}
        for execution, row in zip(run.executions, booked.rows, strict=True):
            if not 0 < row < T:
                continue
            if isinstance(execution, FundingPaid):
                if execution.key not in booked.columns:
                    raise InvariantViolated(f"funding of {execution.key}, which was never traded")
                self.funding[booked.columns[execution.key]] += execution.amount
                self.rows[row, 0] += float(execution.amount)
            elif isinstance(execution, Fill):
                at = _row_of_mark(execution, row, times, marks)
                if at not in exact:
                    exact = {at: exact_marks(marks[at])}  # the last one is asked for again mostly
                mark = exact[at][execution.index]
                if at < row:
                    self.early[row, execution.index] += float(execution.quantity)
                reference = sized.get(execution.order_id)
                known = mark if reference is None else Decimal(repr(reference))
                self._fill(execution, row, mark, known, latency)

    def _fill(
        self, fill: Fill, row: int, mark: Decimal, reference: Decimal, latency: Decimal
    ) -> None:
        index, quantity = fill.index, fill.quantity
        trading = quantity * (mark - fill.price)
        missed = quantity * (mark - reference)
        charge = abs(quantity) * mark * latency
        self.fees[index] -= fill.fee
        self.trading[index] += trading
        self.bought[index] += quantity * mark
        self.delay -= missed
        self.charge += charge
        self.missed[row] += float(missed)
        self.rows[row, 1:] += (-float(fill.fee), float(trading + charge), -float(missed + charge))


def _sized_at(decisions: Sequence[Decision]) -> dict[OrderId, float]:
    return {order.order_id: order.reference_price for d in decisions for order in d.orders}


def _row_of_mark(fill: Fill, row: int, times: list[int], marks: Floats) -> int:
    """Give the close that the fill happened at or after: this row's or the one before."""
    at = row if fill.at_ms >= times[row] else row - 1
    if marks[at, fill.index] == marks[at, fill.index]:
        return at
    known = marks[row, fill.index] == marks[row, fill.index]
    require(known, f"fill {fill.trade_id} at {iso(fill.at_ms)}: {fill.key} had no mark")
    return row
