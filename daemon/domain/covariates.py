"""Series beside the bars, each value with the instant from which it was known; joined as of then.

At an instant t the value of a series is its newest observation among those known by t: the latest
`ts`, and of several versions of that observation the one known last. Rows that become known after
t have no say, whatever they are about. A series whose newest observation has been known for longer
than `stale_ms` has no value (NaN). Knows nothing of files or of features.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.domain.units import DAY_MS, HOUR_MS, iso, require

Instants = npt.NDArray[np.int64]

FUNDING_HOURS: Final = (1, 4, 8)  # lengths of a funding interval
FUNDING_STALE_MS: Final = 16 * HOUR_MS  # two of the longest intervals
STALE_MS_USUAL: Final = 7 * DAY_MS
GAPS: Final = 64  # times between two observations that a rhythm is taken from


@dataclass(frozen=True, slots=True)
class Series:
    """Hold observations in the order in which they became known.

    ts (S,): the instant that a value is about. known_ms (S,): from when it was known, rising; rows
    of one instant rise in ts. values (S,): finite. Two rows of one ts are versions of it.
    """

    ts: Instants
    known_ms: Instants
    values: Floats
    stale_ms: int = STALE_MS_USUAL

    def __len__(self) -> int:
        return len(self.ts)

    def known_at(self, at_ms: int) -> Series:
        """Give the series as it was at an instant: without what became known later."""
        rows = int(np.searchsorted(self.known_ms, at_ms, side="right"))
        return Series(self.ts[:rows], self.known_ms[:rows], self.values[:rows], self.stale_ms)

    def known_later(self, lag_ms: int) -> Series:
        """Give the same observations, each known so much later."""
        return Series(self.ts, self.known_ms + lag_ms, self.values, self.stale_ms)


@dataclass(frozen=True, slots=True)
class Steps:
    """Hold a function of time that changes at from_ms (S,) only, and what it is made of.

    values (S,): from each instant on. fresh_ms (S,): when the newest observation in it became
    known first; it is NaN from `stale_ms` after that.
    """

    from_ms: Instants
    values: Floats
    fresh_ms: Instants
    stale_ms: int

    def at(self, at_ms: Instants) -> Floats:
        """Give the values as of instants (T,), NaN before the first and where it is stale."""
        if not len(self.from_ms):
            return np.full(len(at_ms), np.nan)
        row = np.searchsorted(self.from_ms, at_ms, side="right") - 1
        held = np.maximum(row, 0)
        is_known = (row >= 0) & (at_ms - self.fresh_ms[held] < self.stale_ms)
        return np.where(is_known, self.values[held], np.nan)


def series_of(
    ts: Instants, known_ms: Instants, values: Floats, stale_ms: int = STALE_MS_USUAL
) -> Series:
    """Put rows in any order into the order of a series; what is wrong with them stays wrong."""
    order = np.lexsort((ts, known_ms))
    return Series(ts[order], known_ms[order], values[order], stale_ms)


def series_problem(series: Series) -> str | None:
    """Say in words the first rule that a series breaks and where, or None."""
    ts, known = series.ts, series.known_ms
    if not len(ts) == len(known) == len(series.values):
        return f"holds {len(ts)} ts, {len(known)} known_ms and {len(series.values)} values"
    if series.stale_ms <= 0:
        return f"is stale after {series.stale_ms} ms; accepted is more than 0"
    again = np.zeros(len(ts), dtype=bool)
    again[1:] = (np.diff(known) == 0) & (np.diff(ts) == 0)
    falls = np.zeros(len(ts), dtype=bool)
    falls[1:] = (np.diff(known) < 0) | ((np.diff(known) == 0) & (np.diff(ts) < 0))
    checks = (
        ("holds no finite value", ~np.isfinite(series.values)),
        ("is known before the instant that it is about", known < ts),
        ("is there twice, known from the same instant", again),
        ("is not in the order of known_ms", falls),
    )
    for what, broken in checks:
        if broken.any():
            row = int(np.argmax(broken))
            return f"row {row} (ts {_when(ts[row])}, known {_when(known[row])}) {what}"
    return None


def _when(at_ms: int) -> str:
    try:
        return iso(int(at_ms))
    except (ValueError, OverflowError, OSError):  # beyond the calendar
        return str(at_ms)


def newest(series: Series) -> Steps:
    """Give the newest observation as a function of time."""
    return Steps(series.known_ms, series.values[_current(series)], _fresh(series), series.stale_ms)


def last_known(series: Series, count: int) -> tuple[Floats, Steps]:
    """Give the newest `count` observations at each row, (S, count) oldest first, and the newest.

    Each row shows the versions known then; NaN in front where there are fewer observations.
    """
    require(count >= 1, f"{count} observations: at least one")
    padded = np.full((len(series) + count - 1,), np.nan)
    if (np.diff(series.ts) > 0).all():  # without versions or late comers: plain sliding windows
        padded[count - 1 :] = series.values
        if not len(series):
            return np.empty((0, count)), newest(series)
        return np.lib.stride_tricks.sliding_window_view(padded, count), newest(series)
    rows = np.full((len(series), count), np.nan)
    seen: list[int] = []
    value: dict[int, float] = {}
    for row, (ts, now) in enumerate(zip(series.ts.tolist(), series.values.tolist(), strict=True)):
        at = bisect_left(seen, ts)
        if at == len(seen) or seen[at] != ts:
            insort(seen, ts)
        value[ts] = now
        held = [value[one] for one in seen[-count:]]
        rows[row, count - len(held) :] = held
    return rows, newest(series)


def quiet_from(series: Series) -> Instants:
    """Give from when a series is late if nothing newer becomes known after a row, (S,).

    A new observation is late when none became known for twice the longest of the last
    `GAPS` times between two, or for `stale_ms`; nothing later than a row has a say in it.
    """
    fresh_ms = _fresh(series)
    starts = np.flatnonzero(np.diff(fresh_ms, prepend=np.int64(-1)) > 0)
    gaps = np.diff(fresh_ms[starts])  # one less than starts
    if not len(gaps):
        return fresh_ms + series.stale_ms
    padded = np.concatenate([np.zeros(GAPS - 1, dtype=np.int64), gaps])
    longest = np.lib.stride_tricks.sliding_window_view(padded, GAPS).max(axis=1)
    after = np.minimum(2 * longest, series.stale_ms)
    patience = np.concatenate([[series.stale_ms], after])  # of a first one nothing is expected
    of_row = np.searchsorted(starts, np.arange(len(fresh_ms)), side="right") - 1
    return np.asarray(fresh_ms + patience[of_row])


def _current(series: Series) -> npt.NDArray[np.intp]:
    """Give the row of the newest observation, in its version of then, at each row."""
    best = np.maximum.accumulate(series.ts) if len(series) else series.ts
    place = np.where(series.ts == best, np.arange(len(series)), 0)
    return np.asarray(np.maximum.accumulate(place) if len(series) else place)


def _fresh(series: Series) -> Instants:
    if not len(series):
        return series.known_ms
    best = np.maximum.accumulate(series.ts)
    begins = np.concatenate([[True], np.diff(best) > 0])
    row = np.maximum.accumulate(np.where(begins, np.arange(len(best)), 0))
    return np.asarray(series.known_ms[row])


# ---- funding -------------------------------------------------------------------------------------


def hourly_funding(settle_ms: Instants, rates: Floats, known_ms: Instants | None = None) -> Series:
    """Turn settled rates (S,) into rates per hour, known from their settlement on.

    known_ms: (S,), from when each rate was known where that was later, as of one published late. A
    row says how long its interval was, so it is known no earlier than the settlement before.
    settle_ms rises. A rate belongs to the interval that ends with it: the time since the settlement
    before, if that is a funding interval, else the last one that was, as after a hole. Rates before
    the first known interval are left out. Nothing later than a settlement has a say in its row.
    """
    hours = np.empty(len(settle_ms))
    length = np.nan
    for row in range(len(settle_ms)):
        since = (settle_ms[row] - settle_ms[row - 1]) / HOUR_MS if row else np.nan
        length = since if since in FUNDING_HOURS else length
        hours[row] = length
    with np.errstate(invalid="ignore"):
        values = rates / hours
    keep = np.isfinite(values)
    known = settle_ms if known_ms is None else np.maximum(settle_ms, known_ms)
    known = np.maximum.accumulate(known)
    return Series(settle_ms[keep], known[keep], values[keep], FUNDING_STALE_MS)
