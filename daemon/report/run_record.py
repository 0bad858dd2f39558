"""What a run leaves behind for its report: one row per source close, written while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from daemon.domain.decision import Decision, DecisionKind

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


@dataclass(slots=True)
class RunRecord:
    """Collect (T, 9) rows of `COLUMNS` in quote currency.

    market: value of one unit spread equally over all instruments, compounding. first: the mark of
    the first instrument (by convention BTC), NaN before its first bar. fees, funding, turnover and
    shortfall are running totals.
    """

    times_ms: list[int] = field(default_factory=list)
    rows: list[tuple[float, ...]] = field(default_factory=list)
    _marks: npt.NDArray[np.float64] | None = None
    _market: float = 1.0

    def add(self, close_ms: int, book: BookRow) -> None:
        """Take the state of the book after everything at `close_ms` has been done."""
        marks = book.marks
        if self._marks is not None:
            moves = marks / self._marks
            total, known_n = float(np.add.reduce(moves)), len(moves)
            if total != total:
                known = moves[moves == moves]
                total, known_n = float(np.add.reduce(known)), len(known)
            if known_n:
                self._market *= total / known_n
        self._marks = marks  # a book never changes an array of marks, it makes a new one
        self.times_ms.append(close_ms)
        self.rows.append((*book[:-1], self._market, float(marks[0])))

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """Give one column as an array, (T,)."""
        at = COLUMNS.index(name)
        return np.array([row[at] for row in self.rows])


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
