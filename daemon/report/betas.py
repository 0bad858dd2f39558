"""What each instrument's beta to the equal-weight market was believed to be, without hindsight.

    beta_i = cov(r_i, r_m) / var(r_m)    over the returns from row to row of the 30 whole UTC days
                                         that had ended when the beta was used

r_m is the equal-weight market of the record. A beta therefore changes at midnight UTC only, and
nothing of the interval that it is applied to is in it. Attribution and exposures share it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.units import DAY_MS
from daemon.report.run_record import RunRecord

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WINDOW_DAYS: Final = 30
RETURNS_MIN: Final = 100  # below it a beta is as good as unknown
UNKNOWN: Final = 1.0  # the mean of all betas to an equal-weight market


def row_returns(record: RunRecord) -> tuple[Floats, Floats]:
    """Give simple returns from row to row of the instruments (T-1, N) and of the market (T-1,).

    NaN where an instrument has not two marks yet.
    """
    marks, market = record.marks, record.column("market")
    return marks[1:] / marks[:-1] - 1.0, market[1:] / market[:-1] - 1.0


def days_known(times_ms: list[int]) -> Ints:
    """Give the UTC day of each instant (T,): all days before it have ended by then."""
    return np.asarray(times_ms, dtype=np.int64) // DAY_MS


def days_closed(times_ms: list[int]) -> Ints:
    """Give the UTC day (T,) that the interval which ends at each instant belongs to."""
    return (np.asarray(times_ms, dtype=np.int64) - 1) // DAY_MS


def trailing_betas(record: RunRecord) -> Floats:
    """Give the betas as they were known at each row, (T, N); 1 where they were not."""
    times = record.times_ms
    known = days_known(times)
    first = int(known[0]) - 1  # a first row at midnight closes the day before
    days_n = int(known[-1]) - first + 1
    returns, market = row_returns(record)
    sums = _sums_by_day(returns, market, days_closed(times)[1:] - first, days_n)
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
