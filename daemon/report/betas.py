"""What each instrument's beta to the equal-weight market was believed to be, without hindsight.

    beta_i = cov(r_i, r_m) / var(r_m)    over the returns from row to row of the 30 whole UTC days
                                         that had ended when the beta was used, of the closes
                                         before the run as well where the record has them

r_m is the equal-weight market. Where fewer than 30 days are there, they are of those; a beta of
fewer than 100 returns counts as 1. `full_from_ms` tells from when on all 30 are there. A beta
therefore changes at midnight UTC only, and nothing of the interval that it is applied to is in it.
Attribution and exposures share it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.units import DAY_MS
from daemon.report.run_record import RunRecord, equal_weight_moves

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WINDOW_DAYS: Final = 30
RETURNS_MIN: Final = 100  # below it a beta is as good as unknown
UNKNOWN: Final = 1.0  # the mean of all betas to an equal-weight market


def known_returns(record: RunRecord) -> tuple[Floats, Floats, Ints]:
    """Give simple returns from close to close: of the instruments (H+T-1, N), of the market, day.

    The first H are of before the record. NaN where an instrument has not two marks yet; day: the
    UTC day (H+T-1,) that each return belongs to.
    """
    times, marks = _all_marks(record)
    market = equal_weight_moves(marks) - 1.0
    return marks[1:] / marks[:-1] - 1.0, market, days_closed(times)[1:]


def full_from_ms(record: RunRecord) -> int:
    """Tell from which midnight on 30 whole days stand behind the betas, of who was listed then."""
    times, marks = _all_marks(record)
    known = np.flatnonzero(np.isfinite(marks).any(axis=1))
    first_ms = times[int(known[0]) if len(known) else 0]
    return (-(-first_ms // DAY_MS) + WINDOW_DAYS) * DAY_MS


def _all_marks(record: RunRecord) -> tuple[list[int], Floats]:
    """Give times and marks of before the record and of it, (H+T,) and (H+T, N)."""
    if record.before is None:
        return record.times_ms, record.marks
    marks = np.concatenate((record.before.marks, record.marks))
    return [*record.before.times_ms, *record.times_ms], marks


def days_known(times_ms: list[int]) -> Ints:
    """Give the UTC day of each instant (T,): all days before it have ended by then."""
    return np.asarray(times_ms, dtype=np.int64) // DAY_MS


def days_closed(times_ms: list[int]) -> Ints:
    """Give the UTC day (T,) that the interval which ends at each instant belongs to."""
    return (np.asarray(times_ms, dtype=np.int64) - 1) // DAY_MS


def trailing_betas(record: RunRecord) -> Floats:
    """Give the betas as they were known at each row, (T, N); 1 where they were not."""
    known = days_known(record.times_ms)
    returns, market, day = known_returns(record)
    # a first row at midnight closes the day before
    first = min([int(known[0]) - 1, *day[:1].tolist()])
    days_n = int(known[-1]) - first + 1
    sums = _sums_by_day(returns, market, day - first, days_n)
    # through[:, d] holds the days before d; a window takes the 30 of them that ended last
    through = np.concatenate([np.zeros_like(sums[:, :1]), np.cumsum(sums, axis=1)], axis=1)
    at = np.arange(days_n)
    n, x, r, xr, xx = through[:, at] - through[:, np.maximum(at - WINDOW_DAYS, 0)]
    enough = n >= RETURNS_MIN
    n = np.where(enough, n, 1.0)
    variance = xx / n - (x / n) ** 2
    enough &= variance > 0.0
    covariance = xr / n - (x / n) * (r / n)
    table = np.where(enough, covariance / np.where(enough, variance, 1.0), UNKNOWN)
    return np.asarray(table[known - first])  # (D, N) -> (T, N)


def _sums_by_day(returns: Floats, market: Floats, day: Ints, days_n: int) -> Floats:
    """Sum 1, x, r, xr and xx over the known returns of each day, (5, D, N)."""
    sums = np.zeros((5, days_n, returns.shape[1]))
    if not len(day):
        return sums
    known = returns == returns
    r = np.where(known, returns, 0.0)
    x = np.where(known, market[:, None], 0.0)
    begins = np.flatnonzero(np.append(True, day[1:] != day[:-1]))
    for at, values in enumerate((known.astype(np.float64), x, r, x * r, x * x)):
        sums[at, day[begins]] = np.add.reduceat(values, begins, axis=0)
    return sums
