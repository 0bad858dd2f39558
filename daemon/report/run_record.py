"""What a run leaves behind for its report: one row per source close, written while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.messages import Rescaled
from daemon.domain.units import require

Floats = npt.NDArray[np.float64]

BOOKS_MAX: Final = 512
COLUMNS: Final = (
    "equity",
    "net",
    "fees",
    "funding",
    "turnover",
    "shortfall",
    "gross",
    "market",
    "first",
)


class BookRow(NamedTuple):
    """Hold one instant of a book in quote currency; quantity (base units) and marks are (N,).

    fees, funding and turnover are the ledger's running totals. marks: NaN where unknown. Neither
    array may be changed afterwards.
    """

    equity: float
    net: float
    fees: Decimal
    funding: Decimal
    turnover: Decimal
    shortfall: float
    quantity: Floats
    marks: Floats


class Before(NamedTuple):
    """Hold closes of before a record, ascending: times_ms (H,) and marks (H, N), NaN if unknown."""

    times_ms: list[int]
    marks: Floats


class RunRecord:
    """Collect (T, 9) rows of `COLUMNS` in quote currency, and (T, N) quantities and marks.

    The first row is the opening of the book: its equity is what was paid in, and nothing of what
    the run does is in it. Gains and costs of all that follows are measured against it.

    market: value of one unit spread equally over all instruments, compounding. first: the mark of
    the first instrument (by convention BTC), NaN before its first bar. fees, funding, turnover and
    shortfall are running totals. before: closes that the run did not trade at; only the betas look
    at them, None where nobody told.
    """

    def __init__(self) -> None:
        self.times_ms: list[int] = []
        self.before: Before | None = None
        self._books: list[BookRow] = []  # seen, but not among the blocks yet
        self._blocks: list[tuple[Floats, Floats, Floats]] = []  # columns, quantities, marks
        self._market = 1.0

    def add(self, close_ms: int, book: BookRow) -> None:
        """Take the state of the book after everything at `close_ms` has been done."""
        self.times_ms.append(close_ms)
        self._books.append(book)
        if len(self._books) >= BOOKS_MAX:
            self._enter()

    def rescale(self, event: Rescaled) -> None:
        """Show all rows so far in the new units of an instrument, so that no gain is in them."""
        index, new_n, old_n = event.index, event.new_n, event.old_n
        for columns, quantities, marks in self._entered():
            quantities[:, index] = quantities[:, index] * new_n / old_n
            marks[:, index] = marks[:, index] * old_n / new_n
            columns[:, 8] = marks[:, 0]
        if self.before is not None:
            self.before.marks[:, index] = self.before.marks[:, index] * old_n / new_n

    def precede(self, times_ms: Sequence[int], closes: Floats) -> None:
        """Take the closes (H, N) of before the first row; NaN, no bar, keeps the mark before it.

        Those at or after the first row are left out, which must be there already.
        """
        require(bool(self.times_ms), "a record without a row has nothing before it")
        kept = int(np.searchsorted(np.asarray(times_ms, dtype=np.int64), self.times_ms[0]))
        if kept:
            self.before = Before(list(times_ms[:kept]), _carried(closes[:kept]))

    def __len__(self) -> int:
        return len(self.times_ms)

    def column(self, name: str) -> Floats:
        """Give one column as an array, (T,)."""
        at = COLUMNS.index(name)
        parts = [block[0][:, at] for block in self._entered()]
        return np.concatenate(parts) if parts else np.zeros(0)

    @property
    def quantities(self) -> Floats:
        """Give what was held after everything at each close, base units, signed, (T, N)."""
        return self._stacked(1)

    @property
    def marks(self) -> Floats:
        """Give the last closes at each instant, (T, N), NaN where unknown."""
        return self._stacked(2)

    def _stacked(self, part: int) -> Floats:
        parts = [block[part] for block in self._entered()]
        return np.concatenate(parts) if parts else np.zeros((0, 0))

    def _entered(self) -> list[tuple[Floats, Floats, Floats]]:
        if self._books:
            self._enter()
        return self._blocks

    def _enter(self) -> None:
        """Turn books into a block, many at once, which costs little more than one."""
        books = self._books
        marks = np.array([book.marks for book in books])
        quantities = np.array([book.quantity for book in books])
        columns = np.empty((len(books), len(COLUMNS)))
        columns[:, :6] = [(*book[:2], *map(float, book[2:5]), book[5]) for book in books]
        columns[:, 6] = np.nansum(np.abs(quantities) * marks, axis=1)
        before = marks[:1] if not self._blocks else self._blocks[-1][2][-1:]
        columns[:, 7] = self._market * np.cumprod(
            equal_weight_moves(np.concatenate([before, marks]))
        )
        columns[:, 8] = marks[:, 0]
        self._market = float(columns[-1, 7])
        self._blocks.append((columns, quantities, marks))
        self._books = []


def _carried(closes: Floats) -> Floats:
    """Carry the last known close forward, (H, N)."""
    rows = np.where(np.isfinite(closes), np.arange(len(closes))[:, None], 0)
    newest = np.maximum.accumulate(rows, axis=0)
    return np.asarray(np.take_along_axis(closes, newest, axis=0))


def equal_weight_moves(marks: Floats) -> Floats:
    """Give the equal-weight move from row to row as a factor, 1 where nobody has two marks."""
    moves = marks[1:] / marks[:-1]
    known = moves == moves
    known_n = known.sum(axis=1)
    totals = np.where(known, moves, 0.0).sum(axis=1)
    return np.where(known_n > 0, totals / np.maximum(known_n, 1), 1.0)


def band_health(decisions: Sequence[Decision]) -> float:
    """Give what trades cost over what waiting cost as of the last decision that knew; else NaN."""
    known = (d.target.health for d in reversed(decisions) if d.target is not None)
    return next((health for health in known if health is not None), float("nan"))


def gross_reached(decisions: list[Decision], share: float = 0.8) -> tuple[float, int]:
    """Tell how often a decision left the book at `share` of its wanted gross or more.

    Measured on the target after the no-trade band against the frictionless target, over decisions
    that traded; gives (fraction, number of decisions). NaN when there were none.
    """
    reached = []
    for decision in decisions:
        target = decision.target
        if decision.kind is DecisionKind.TRADED and target is not None:
            wanted = float(np.abs(target.ideal).sum())
            if wanted > 0:
                reached.append(float(np.abs(target.weights).sum()) >= share * wanted)
    return (float(np.mean(reached)) if reached else float("nan")), len(reached)
