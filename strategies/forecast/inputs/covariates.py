"""Turn what is read beside the features into columns: as of each close, in training as live.

Every column is a function of the rows known by the close alone; the domain's `Steps` see to that.
What is made of the bars themselves comes from `derived`.

    funding         rate per hour, in bps per 8 h, and its rank over instruments
    open_interest   log change within a day times 10, and its rank
    basis           log of mark over index in units of 5 bps, and its rank
    series:NAME     robust score of the newest observation against the last 64, and its last step
    funding_clock   sine and cosine of the close's place between two settlements: in the interval of
                    the instrument once two have told it, else in 8 h, counted from midnight
    majors, ranks   of the bars: see `derived`

What is not known is NaN here and 0, the middle of every feature, to a model: no series at all, none
known yet, too few observations for a score, or none for as long as the series says. Until then the
last known one counts, however old; `silent` says so.

A series of the whole market says nothing about one instrument against another by itself: a ridge
gets its products with the residual ranks as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.covariates import (
    FUNDING_HOURS,
    Instants,
    Series,
    Steps,
    last_known,
    newest,
    quiet_from,
)
from daemon.domain.failures import ConfigurationError, InvariantViolated
from daemon.domain.units import DAY_MS, HOUR_MS, MINUTE_MS, iso, require
from strategies.forecast.inputs.derived import DERIVED, Shown, derived, refuse_unmakeable
from strategies.forecast.inputs.features import CLIP, ranks

FUNDING: Final = "funding"
FUNDING_CLOCK: Final = "funding_clock"
OPEN_INTEREST: Final = "open_interest"
BASIS: Final = "basis"
MARK: Final = "mark"
INDEX: Final = "index"
SERIES: Final = "series:"
ACCEPTED: Final = ", ".join(
    [FUNDING, FUNDING_CLOCK, OPEN_INTEREST, BASIS, *DERIVED, "series:NAME or series:SOURCE/NAME"]
)
OBSERVATIONS: Final = 64  # a score compares with so many
OBSERVATIONS_MIN: Final = 16
CLOCK_HOURS: Final = max(FUNDING_HOURS)  # every funding interval divides it
FUNDING_UNIT: Final = 1e-4 / 8  # per hour: 1 bps per 8 hours
BASIS_UNIT: Final = 5e-4
_MAD_TO_SIGMA: Final = 1.4826
_SERIES_NAME: Final = re.compile(r"^series:([a-z0-9_]+/)?[a-z0-9_]+$")

Known = Mapping[str, tuple[Series | None, ...]]  # by what `needed` names: one of each instrument


def checked(names: Sequence[str]) -> tuple[str, ...]:
    """Give the names of covariates; raise ConfigurationError for an unknown or repeated one."""
    for name in names:
        known = name in (FUNDING, FUNDING_CLOCK, OPEN_INTEREST, BASIS) or name in DERIVED
        if not known and not _SERIES_NAME.match(name):
            raise ConfigurationError(f"covariate {name!r}; accepted: {ACCEPTED}")
        if list(names).count(name) > 1:
            raise ConfigurationError(f"covariate {name!r} is named twice; name each once")
    return tuple(names)


def needed(names: Sequence[str]) -> tuple[str, ...]:
    """Name the series that covariates are made of, each once: basis takes mark and index."""
    made_of = {FUNDING_CLOCK: (FUNDING,), BASIS: (MARK, INDEX), **dict.fromkeys(DERIVED, ())}
    return tuple(dict.fromkeys(one for name in names for one in made_of.get(name, (name,))))


def column_names(names: Sequence[str]) -> tuple[str, ...]:
    """Name the feature columns of covariates, in order."""
    return tuple(column for name in names for column in _column_names(name))


def _column_names(name: str) -> tuple[str, ...]:
    if name in DERIVED:
        return DERIVED[name]
    if name == FUNDING_CLOCK:
        return (f"{name}:sin", f"{name}:cos")
    return (name, f"{name}:step") if is_outside(name) else (name, f"rank_{name}")


def is_outside(name: str) -> bool:
    """Tell whether a covariate is an outside series."""
    return name.startswith(SERIES)


class CovariateTable:
    """Answer with the feature columns of some covariates as of any instants.

    known: each series that `needed` names, one of each of N instruments, None where there is none.
    symbols (N,): as in files or unified. before: a table of the same names; what it made of the
    same series objects is not made again. Raises ModelError for what these instruments do not have.
    """

    def __init__(
        self,
        names: Sequence[str],
        known: Known,
        symbols: Sequence[str],
        before: CovariateTable | None = None,
    ) -> None:
        self.names = checked(names)
        self.symbols = tuple(symbols)
        refuse_unmakeable(self.names, self.symbols)
        missing = [one for one in needed(names) if one not in known]
        require(not missing, f"covariates without their series: {missing}")
        self._made: dict[tuple[str, int], tuple[Steps, ...]] = {}
        self._series = {name: known[name] for name in needed(names)}
        for name, ones in self._series.items():
            require(len(ones) == len(symbols), f"{name}: {len(ones)} series, not {len(symbols)}")
        self._quiet: dict[int, Instants] = {}
        if before is not None:
            self._take_over(before)

    def rows(self, at_ms: Instants, shown: Shown | None = None) -> Floats:
        """Give the columns (T, N, C) as of instants (T,), within +-5, NaN where not known.

        shown: the bars that closed then, for what is made of them.
        """
        columns = [column for name in self.names for column in self._columns(name, at_ms, shown)]
        shape = (len(at_ms), len(self.symbols), len(columns))
        out = np.empty(shape)
        for place, column in enumerate(columns):
            out[:, :, place] = column
        return np.clip(out, -CLIP, CLIP, out=out)

    def silent(self, at_ms: int, watched: Flags | None = None) -> dict[str, str]:
        """Say of each series, by name, that it brings nothing new at an instant; {} if all do.

        watched (N,): whose series count, all by default; who has ended needs none. The words hold
        for as long as it lasts: they count instruments, and name the instant at which a value
        became known last.
        """
        found = {}
        for name, ones in self._series.items():
            states = [
                self._state(series, at_ms)
                for n, series in enumerate(ones)
                if watched is None or watched[n]
            ]
            unknown_n = sum(not known for known, _, _ in states)
            late_n = sum(known and late for known, late, _ in states)
            if unknown_n or late_n:
                last = [fresh_ms for known, late, fresh_ms in states if fresh_ms and late]
                since = f"; nothing new since {iso(max(last))}" if last else ""
                parts = (
                    f"unknown for {unknown_n} of {len(states)}, read as {self._instead(name)}",
                    f"overdue for {late_n} of {len(states)}, read as the last value known",
                )
                told = [part for part, n in zip(parts, (unknown_n, late_n), strict=True) if n]
                found[name] = " and ".join(told) + since
        return found

    def _instead(self, name: str) -> str:
        """Say what a model reads in place of a series that is not known."""
        if name == FUNDING and FUNDING not in self.names:
            return f"settled every {CLOCK_HOURS} h"
        return "the middle of the feature"

    def _state(self, series: Series | None, at_ms: int) -> tuple[bool, bool, int]:
        """Tell whether a value is known, whether a newer one is overdue, and from when it was."""
        if series is None:
            return False, False, 0
        steps = self._plain_of(series)
        row = int(np.searchsorted(steps.from_ms, at_ms, side="right")) - 1
        if row < 0:
            return False, False, 0
        if id(series) not in self._quiet:
            self._quiet[id(series)] = quiet_from(series)
        fresh_ms = int(steps.fresh_ms[row])
        is_late = at_ms >= int(self._quiet[id(series)][row])
        return at_ms - fresh_ms < series.stale_ms, is_late, fresh_ms

    def _plain_of(self, series: Series) -> Steps:
        return self._made_of(series, _plain)[0]

    def _made_of(
        self, series: Series, make: Callable[[Series], tuple[Steps, ...]]
    ) -> tuple[Steps, ...]:
        key = (make.__name__, id(series))
        if key not in self._made:
            self._made[key] = make(series)
        return self._made[key]

    def _take_over(self, before: CovariateTable) -> None:
        """Keep what was made of series that are the same objects as before."""
        kept = {id(one) for ones in before._series.values() for one in ones if one is not None}
        kept &= {id(one) for ones in self._series.values() for one in ones if one is not None}
        self._made = {key: made for key, made in before._made.items() if key[1] in kept}
        self._quiet = {key: made for key, made in before._quiet.items() if key in kept}

    def _columns(self, name: str, at_ms: Instants, shown: Shown | None) -> list[Floats]:
        if name in DERIVED:
            if shown is None:
                raise InvariantViolated(f"{name} is made of bars, and none are shown")
            return derived(name, shown)
        if is_outside(name):
            return [self._sampled(name, _scored, at_ms, part) for part in range(2)]
        if name == FUNDING_CLOCK:
            return _clock(at_ms, self._sampled(FUNDING, _interval, at_ms))
        with np.errstate(all="ignore"):
            if name == FUNDING:
                value = self._sampled(FUNDING, _plain, at_ms) / FUNDING_UNIT
            elif name == OPEN_INTEREST:
                now = self._sampled(OPEN_INTEREST, _plain, at_ms)
                before = self._sampled(OPEN_INTEREST, _plain, at_ms - DAY_MS)
                value = 10.0 * np.log(now / before)
            else:
                mark = self._sampled(MARK, _plain, at_ms)
                value = np.log(mark / self._sampled(INDEX, _plain, at_ms)) / BASIS_UNIT
        value = np.where(np.isfinite(value), value, np.nan)
        return [value, ranks(value)]

    def _sampled(
        self,
        name: str,
        make: Callable[[Series], tuple[Steps, ...]],
        at_ms: Instants,
        part: int = 0,
    ) -> Floats:
        out = np.full((len(at_ms), len(self.symbols)), np.nan)
        known: dict[int, Floats] = {}
        for n, series in enumerate(self._series[name]):
            if series is None:
                continue
            if id(series) not in known:  # one of the whole market is sampled once
                known[id(series)] = self._made_of(series, make)[part].at(at_ms)
            out[:, n] = known[id(series)]
        return out


def with_covariates(
    rows: Floats, table: CovariateTable, close_ms: Instants, values: Floats
) -> Floats:
    """Put the columns of covariates behind feature rows (T, N, F) of bars that closed then.

    values: (S, N, 5), the bars up to the newest of them, with those before that rows are made of.
    """
    if not table.names:
        return rows
    return np.concatenate([rows, table.rows(close_ms, Shown(rows, values, table.symbols))], axis=2)


def _plain(series: Series) -> tuple[Steps, ...]:
    return (newest(series),)


def _interval(series: Series) -> tuple[Steps, ...]:
    """Give the last funding interval in hours that two settlements told, NaN before the first."""
    hours = np.diff(series.ts, prepend=0) / HOUR_MS
    row = np.where(np.isin(hours, FUNDING_HOURS), np.arange(len(hours)), -1)
    row = np.maximum.accumulate(row) if len(row) else row
    held = np.where(row >= 0, hours[row], np.nan)
    steps = newest(series)
    return (Steps(steps.from_ms, held, steps.fresh_ms, steps.stale_ms),)


def _clock(at_ms: Instants, hours: Floats) -> list[Floats]:
    """Give sine and cosine of instants (T,) within funding intervals (T, N), NaN for CLOCK_HOURS.

    Intervals begin with the UTC day. An instant is told to the minute, as bars close.
    """
    minutes = np.where(np.isfinite(hours), hours, CLOCK_HOURS).astype(np.int64) * 60
    place = (at_ms // MINUTE_MS)[:, None] % minutes
    slot = place * (CLOCK_HOURS * 60 // minutes)
    return [column[slot] for column in _clock_table()]


@cache  # a place has one value, whatever is asked with it
def _clock_table() -> tuple[Floats, Floats]:
    angles = 2 * np.pi * np.arange(CLOCK_HOURS * 60) / (CLOCK_HOURS * 60)
    return np.sin(angles), np.cos(angles)


def _scored(series: Series) -> tuple[Steps, ...]:
    """Score each newest observation and its step against the last ones, as they were known."""
    rows, steps = last_known(series, OBSERVATIONS)  # (S, 64)
    if not len(rows):
        return steps, steps
    ordered = np.sort(rows, axis=1)  # NaN sorts last
    count = np.isfinite(ordered).sum(axis=1)
    middle = _middle(ordered, count)
    spread = _MAD_TO_SIGMA * _middle(np.sort(np.abs(rows - middle[:, None]), axis=1), count)
    enough = (count >= OBSERVATIONS_MIN) & (spread > 1e-12)
    scale = np.where(enough, spread, np.nan)
    score = (rows[:, -1] - middle) / scale
    step = (rows[:, -1] - rows[:, -2]) / scale
    return tuple(
        Steps(steps.from_ms, values, steps.fresh_ms, steps.stale_ms) for values in (score, step)
    )


def _middle(ordered: Floats, count: Instants) -> Floats:
    rows = np.arange(len(ordered))
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, ordered.shape[1] - 1)
    return np.asarray(0.5 * (ordered[rows, low] + ordered[rows, high]))
