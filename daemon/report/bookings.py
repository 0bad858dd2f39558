"""Which execution was booked between which rows of a run, found from the record's own totals.

A fill's time does not say whether the row of that instant already holds it: a backtest writes the
row after all orders of the instant, a journal replayed writes it before them. So the executions are
booked once more, in their order, until turnover, fees and funding are those of the row; quantities
and cash are then held against the row as well. A run that cannot be rebuilt so is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import FundingPaid, Transferred
from daemon.domain.order import Fill
from daemon.domain.units import iso
from daemon.report.run import Execution, Run

Floats = npt.NDArray[np.float64]

ZERO: Final = Decimal(0)
EQUITY_TOLERANCE: Final = 1e-9  # of gross plus equity, as for the float book of the engine
EXACT: Final = Context(prec=120)  # no product or sum of amounts here has as many digits


@dataclass(slots=True)
class Account:
    """Hold an account while executions are booked: cash, positions by column, running totals."""

    instruments_n: int
    cash: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    transfers: Decimal = ZERO
    turnover: Decimal = ZERO
    held: list[Decimal] = field(init=False)
    sizes: list[float] = field(init=False)  # held, as a record holds it

    def __post_init__(self) -> None:
        self.held = [ZERO] * self.instruments_n
        self.sizes = [0.0] * self.instruments_n

    def book(self, execution: Execution) -> None:
        """Book one execution by the ledger's rule: a buy lowers cash by its price and fee."""
        match execution:
            case Fill(index=index, quantity=quantity, price=price, fee=fee):
                notional = quantity * price
                self.held[index] += quantity
                self.sizes[index] = float(self.held[index])
                self.cash -= notional + fee
                self.fees += fee
                self.turnover += abs(notional)
            case FundingPaid(amount=amount):
                self.cash += amount
                self.funding += amount
            case Transferred(amount=amount):
                self.cash += amount
                self.transfers += amount

    @property
    def totals(self) -> tuple[float, float, float]:
        """Give turnover, fees and funding as a record holds them."""
        return float(self.turnover), float(self.fees), float(self.funding)

    def state(self, marks: Sequence[Decimal]) -> AccountState:
        """Freeze what an attribution needs, valued at `marks` (N)."""
        values = tuple(q * m for q, m in zip(self.held, marks, strict=True))
        return AccountState(self.cash + sum(values, ZERO), values, self.transfers, self.turnover)


@dataclass(frozen=True, slots=True)
class AccountState:
    """Hold an account at one row, exactly; quote currency; equity is cash plus values."""

    equity: Decimal
    values: tuple[Decimal, ...]  # of the positions, by column
    transfers: Decimal
    turnover: Decimal


@dataclass(frozen=True, slots=True)
class Bookings:
    """Hold where executions belong.

    rows: for each execution the first row that holds it; the number of rows where none does.
    columns: the instruments that were traded, by key.
    """

    rows: tuple[int, ...]
    first: AccountState
    last: AccountState
    columns: dict[InstrumentKey, int]


def exact_marks(marks: Floats) -> list[Decimal]:
    """Read (N,) marks through their shortest decimal form, 0 where unknown as the book does."""
    return [Decimal(repr(m)) if m == m else ZERO for m in marks.tolist()]


def bookings(run: Run) -> Bookings:
    """Find the row of every execution.

    Raises InvariantViolated where executions and rows do not tell the same story: an execution is
    missing, or the book adopted a difference to the venue that no execution explains.
    """
    record = run.record
    if not record.times_ms:
        raise InvariantViolated("the run recorded nothing: no bar closed in the period")
    with localcontext(EXACT):
        return _booked(run, record.quantities, record.marks)


def rows_of(run: Run) -> Sequence[int]:
    """Give `Bookings.rows`; by the instants of executions where rows do not tell the same story."""
    try:
        return bookings(run).rows
    except InvariantViolated:
        instants = [
            one.settle_ms if isinstance(one, FundingPaid) else one.at_ms for one in run.executions
        ]
        found: list[int] = np.searchsorted(run.record.times_ms, instants).tolist()
        return found


def later_transfers(run: Run) -> Floats | None:
    """Give the running total of deposits less withdrawals at each row, (T,), for `measure`.

    None for an account that was opened and then left alone. Rows are those of `rows_of`.
    """
    moves = [i for i, one in enumerate(run.executions) if isinstance(one, Transferred)]
    if moves in ([], [0]):
        return None
    totals = np.zeros(len(run.record) + 1)  # the last is of what no row holds
    for execution, row in zip(run.executions, rows_of(run), strict=True):
        if isinstance(execution, Transferred):
            totals[row] += float(execution.amount)
    return np.asarray(np.cumsum(totals[:-1]))


def _booked(run: Run, quantities: Floats, marks: Floats) -> Bookings:
    record, executions = run.record, run.executions
    valued = np.where(marks == marks, marks, 0.0)
    equity = record.column("equity")
    cash = (equity - (quantities * valued).sum(axis=1)).tolist()
    slack = (EQUITY_TOLERANCE * (np.abs(equity) + record.column("gross") + 1.0)).tolist()
    columns = [record.column(name).tolist() for name in ("turnover", "fees", "funding")]
    account, rows, done = Account(quantities.shape[1]), list[int](), 0
    first: AccountState | None = None
    for row, totals in enumerate(zip(*columns, strict=True)):
        while done < len(executions):
            # What moves no total, a transfer, shows in the cash only.
            is_next_silent = isinstance(executions[done], Transferred)
            is_reached = account.totals == totals
            if is_reached and not (is_next_silent and _off(account, cash[row]) > slack[row]):
                break
            account.book(executions[done])
            rows.append(row)
            done += 1
        _check(run, row, account, totals, quantities[row])
        if _off(account, cash[row]) > slack[row]:
            _refuse(run, row, f"cash {cash[row]!r} in the row, {account.cash} by executions")
        if first is None:
            first = account.state(exact_marks(marks[0]))
    if first is None:
        raise InvariantViolated("the run recorded nothing: no bar closed in the period")
    rows += [len(record)] * (len(executions) - done)
    traded = {e.key: e.index for e in executions if isinstance(e, Fill)}
    return Bookings(tuple(rows), first, account.state(exact_marks(marks[-1])), traded)


def _off(account: Account, cash: float) -> float:
    return abs(float(account.cash) - cash)


def _check(
    run: Run, row: int, account: Account, totals: tuple[float, ...], quantities: Floats
) -> None:
    if account.totals != totals:
        told = ", ".join(map(repr, totals))
        made = ", ".join(map(repr, account.totals))
        _refuse(run, row, f"turnover, fees, funding {told} in the row, {made} by executions")
    held = quantities.tolist()
    if account.sizes != held:
        index = next(i for i, size in enumerate(held) if size != account.sizes[i])
        name, booked = run.facts.symbols[index], account.held[index]
        _refuse(run, row, f"{name} {held[index]!r} in the row, {booked} by executions")


def _refuse(run: Run, row: int, what: str) -> None:
    when = iso(run.record.times_ms[row])
    raise InvariantViolated(
        f"row of {when}: {what}; an execution is missing or a difference was adopted"
    )
