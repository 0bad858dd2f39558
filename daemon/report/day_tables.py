"""The run day by day, as tables: equity and bookings, exposures, parts of the gain.

A day is that of the report: everything done at midnight belongs to the day which that closes. The
first row is the opening of the book, before anything was traded; what is a change has no value in
it. State (equity, gross, beta) is that at the end of a day.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final

import numpy as np

from daemon.domain.messages import FundingPaid, Transferred
from daemon.domain.order import Fill
from daemon.domain.units import DAY_MS
from daemon.report.attribution import PARTS, Attribution
from daemon.report.bookings import ZERO, rows_of
from daemon.report.files import Row, day_text, estimate
from daemon.report.judged import Judged
from daemon.report.metrics import Floats, Ints, day_ends, drawdown, turnovers
from daemon.report.run import Run

OPENING: Final = "opening"
DAILY_COLUMNS: Final = (
    "day",
    "equity",
    "return",
    "drawdown",
    "market",
    "band_low",
    "band_high",
    "gross",
    "net",
    "shortfall",
    "fees",
    "funding",
    "transfers",
    "turnover",
)
EXPOSURE_COLUMNS: Final = ("day", "gross", "net", "beta", "bets", "bets_apart", "turnover")
ATTRIBUTION_COLUMNS: Final = ("day", *PARTS)


def daily_rows(one: Judged) -> Iterator[Row]:
    """Give the state at the end of each day, and what was booked in it.

    return: of equity from day to day, without what was paid in or out. drawdown: fraction from the
    highest value of any bar so far. market: of one unit spread equally. band: as `Judged.band`.
    gross, net, shortfall: quote currency; fees, funding, transfers, turnover: exact.
    """
    record = one.run.record
    days, rows = day_ends(record.times_ms)
    path = record.column("equity") if one.value is None else one.value
    equity, value = record.column("equity")[rows], path[rows]
    changes = np.append(np.nan, value[1:] / value[:-1] - 1.0)
    unknown = np.full(len(rows), np.nan)
    low, high = (unknown, unknown) if one.band is None else one.band
    shortfall = np.diff(record.column("shortfall")[rows], prepend=0.0)
    columns = (
        equity,
        changes,
        drawdown(path)[rows],
        record.column("market")[rows],
        low,
        high,
        record.column("gross")[rows],
        record.column("net")[rows],
        shortfall,
    )
    sums = _daily_sums(one.run, days, rows)
    for i, name in enumerate(_names(days)):
        yield name, *(estimate(column[i]) for column in columns), *sums[i]


def exposure_rows(one: Judged) -> Iterator[Row]:
    """Give exposures at the end of each day as fractions of equity, and the numbers of bets.

    turnover: traded in the day, as a fraction of the equity before it.
    """
    record, found = one.run.record, one.exposures
    days, rows = day_ends(record.times_ms)
    states = (found.gross, found.net, found.beta, found.bets, found.bets_apart)
    turnover = daily_turnover(one)
    for i, name in enumerate(_names(days)):
        yield name, *(estimate(state[rows[i]]) for state in states), estimate(turnover[i])


def daily_turnover(one: Judged) -> Floats:
    """Give what was traded in each day as a fraction of the equity before it, NaN first, (D,)."""
    return np.append(np.nan, turnovers(one.run.record))


def attribution_rows(one: Judged) -> Iterator[Row]:
    """Give the parts of each day's gain, quote currency; no rows where nobody knows them."""
    found = one.attribution
    if isinstance(found, Attribution):
        for day_ms, parts in zip(found.days_ms.tolist(), found.daily, strict=True):
            yield day_text(day_ms // DAY_MS), *map(estimate, parts)


def _names(days: Ints) -> list[str]:
    return [OPENING, *map(day_text, days[1:].tolist())]


def _daily_sums(run: Run, days: Ints, rows: Ints) -> list[list[Decimal]]:
    """Sum fees, funding, transfers and turnover by the report's days, exactly; (D, 4)."""
    sums = [[ZERO] * 4 for _ in days]
    for one, at in zip(run.executions, _places(run, rows), strict=True):
        match one:
            case Fill():
                sums[at][0] += one.fee
                sums[at][3] += abs(one.quantity * one.price)
            case FundingPaid():
                sums[at][1] += one.amount
            case Transferred():
                sums[at][2] += one.amount
    return sums


def _places(run: Run, rows: Ints) -> Sequence[int]:
    """Give for each execution the day whose last row is the first to hold it."""
    booked = np.asarray(rows_of(run), dtype=np.int64)
    last = len(rows) - 1  # what came after the last row goes there
    found: list[int] = np.minimum(np.searchsorted(rows, booked), last).tolist()
    return found
