"""What a run leaves behind for its report: one row per source close, written while it runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from daemon.domain.decision import Decision, DecisionKind

BOOKS_MAX: Final = 512
COLUMNS = ("equity", "gross", "net", "fees", "funding", "turnover", "shortfall", "market", "first")


class BookRow(NamedTuple):
    """Hold one instant of a book in quote currency; marks are (N,), NaN where unknown."""

    equity: float
    gross: float
    net: float
    fees: float
    funding: float
    turnover: float
    shortfall: float
    marks: npt.NDArray[np.float64]


class RunRecord:
    """Collect (T, 9) rows of `COLUMNS` in quote currency.

    market: value of one unit spread equally over all instruments, compounding. first: the mark of
    the first instrument (by convention BTC), NaN before its first bar. fees, funding, turnover and
    shortfall are running totals.
    """

    def __init__(
        self, times_ms: Iterable[int] = (), rows: Iterable[tuple[float, ...]] = ()
    ) -> None:
        self.times_ms = list(times_ms)
        self._rows = list(rows)
        self._books: list[BookRow] = []  # seen, but not among the rows yet
        self._marks: npt.NDArray[np.float64] | None = None  # of the last row
        self._market = 1.0

    def add(self, close_ms: int, book: BookRow) -> None:
        """Take the state of the book after everything at `close_ms` has been done."""
        self.times_ms.append(close_ms)
        self._books.append(book)
        if len(self._books) >= BOOKS_MAX:
            self._enter()

    @property
    def rows(self) -> list[tuple[float, ...]]:
        """Give all rows, oldest first."""
        if self._books:
            self._enter()
        return self._rows

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """Give one column as an array, (T,)."""
        at = COLUMNS.index(name)
        return np.array([row[at] for row in self.rows])

    def _enter(self) -> None:
        """Turn books into rows, many at once, which costs little more than one."""
        # A book never changes an array of marks, it makes a new one: these are what they were.
        marks = [book.marks for book in self._books]
        before = marks[0] if self._marks is None else self._marks
        moves = np.array(marks) / np.array([before, *marks[:-1]])  # (T, N)
        totals = np.add.reduce(moves, axis=1).tolist()
        for book, move, total in zip(self._books, moves, totals, strict=True):
            known_n = len(move)
            if total != total:
                known = move[move == move]
                total, known_n = float(np.add.reduce(known)), len(known)
            if known_n:
                self._market *= total / known_n
            self._rows.append((*book[:-1], self._market, float(book.marks[0])))
        self._marks = marks[-1]
        self._books.clear()


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
