"""Find what is wrong, missing or strange in stored bars and funding rates; every finding is dated.

Looks at all files of one venue and bar length at once, because an outage, a crash and a mixed-up
name show in several files together. What removes or flags a bar is judged by `domain.cleansing`,
the very rules that a run is cleansed by; here their records are gathered into stretches and told
with what happens to them. Reads no file itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Field, Flags, Floats
from daemon.domain.cleansing import (
    RULES,
    CleansingRule,
    CleansingRules,
    Judged,
)
from daemon.domain.units import HOUR_MS, Timeframe, iso
from daemon.domain.units_change import Change, judged_in_units
from daemon.research.point_in_time import Severity

Instants = npt.NDArray[np.int64]

LISTING_BARS: Final = 96  # so many bars after a listing an extreme belongs to the listing
TWIN_BARS_MIN: Final = 100
TWIN_SHARE: Final = 0.99
ENDS_EARLY_BARS: Final = 2
FUNDING_HOLE_TIMES: Final = 1.5  # of the usual distance of the settlements around
FUNDING_AROUND: Final = 4  # settlements to each side that say what is usual
FUNDING_LONGEST_MS: Final = 12 * HOUR_MS  # no venue settles more rarely


class QualityRule(StrEnum):
    """Name the findings that are no verdicts on bars."""

    HOLE = "hole"
    VENUE_HOLE = "venue_hole"
    STARTS_LATE = "starts_late"
    ENDS_EARLY = "ends_early"
    LISTING = "listing"
    TWINS = "twins"
    FUNDING_HOLE = "funding_hole"
    FUNDING_NONE = "funding_none"


_SEVERITY: Final[dict[CleansingRule, Severity]] = {
    CleansingRule.IMPOSSIBLE: Severity.SERIOUS,
    CleansingRule.FROZEN_VENUE: Severity.SERIOUS,
    CleansingRule.ZERO_VOLUME: Severity.WARNING,
    CleansingRule.RESCALED: Severity.SERIOUS,
    CleansingRule.REPEATED: Severity.SERIOUS,
    CleansingRule.WICK: Severity.NOTE,
    CleansingRule.CRASH: Severity.NOTE,
}
_REMOVED: Final = "these bars are removed: absent for trading and learning, kept in the file"
_ACTION: Final[dict[CleansingRule, str]] = {
    CleansingRule.IMPOSSIBLE: _REMOVED,
    CleansingRule.FROZEN_VENUE: _REMOVED,
    CleansingRule.ZERO_VOLUME: _REMOVED,
    CleansingRule.RESCALED: _REMOVED + "; say what it was under [[data.rescaled]]",
    CleansingRule.REPEATED: _REMOVED,
    CleansingRule.WICK: "flagged only: a wick is real, the close stands",
    CleansingRule.CRASH: "flagged only: a crash is real and stays",
}


@dataclass(frozen=True, slots=True)
class QualityFinding:
    """Hold one finding: rule, severity, who, from the first open to the last, and what is done.

    first_ms, last_ms: the opens of the first and last bar concerned; of a hole, of the first and
    last bar that is missing. bars_n counts bars over all symbols named.
    """

    rule: str
    severity: Severity
    venue: str
    timeframe: str
    symbols: tuple[str, ...]
    first_ms: int
    last_ms: int
    bars_n: int
    text: str
    action: str


@dataclass(frozen=True, slots=True)
class StoredBars:
    """Hold the bars of one venue and length: close_ms (T,) unbroken, values (T, N, 5)."""

    venue: str
    timeframe: Timeframe
    symbols: tuple[str, ...]
    close_ms: Instants
    values: Floats


def bar_findings(
    stored: StoredBars, rules: CleansingRules | None = None, changes: Sequence[Change] = ()
) -> tuple[QualityFinding, ...]:
    """Give everything found in the bars, by time; changes: of units, as a person stated them."""
    limits = CleansingRules() if rules is None else rules
    minutes = stored.timeframe.minutes
    _, judged = judged_in_units(stored.close_ms, stored.values, limits, minutes, changes)
    there: Flags = np.asarray(~np.isnan(stored.values[:, :, Field.CLOSE]))
    found = [
        *_holes(stored, there),
        *_lives(stored, there),
        *_judged(stored, there, judged),
        *_twins(stored, there),
    ]
    return tuple(sorted(found, key=lambda one: (one.first_ms, one.rule, one.symbols)))


def funding_findings(venue: str, symbol: str, settle_ms: Instants) -> Iterator[QualityFinding]:
    """Find settlements that are missing between the first and the last rate of one symbol."""
    steps = np.diff(settle_ms)
    for at, step in enumerate(steps.tolist()):
        around = np.concatenate(
            [steps[max(at - FUNDING_AROUND, 0) : at], steps[at + 1 : at + 1 + FUNDING_AROUND]]
        )
        usual = float(np.median(around)) if len(around) else FUNDING_LONGEST_MS
        usual = min(usual, FUNDING_LONGEST_MS / FUNDING_HOLE_TIMES)
        neighbours = steps[max(at - 1, 0) : at + 2].tolist()
        same_as_next = neighbours.count(step) > 1 and step < FUNDING_LONGEST_MS
        if step <= FUNDING_HOLE_TIMES * usual or same_as_next:
            continue
        missing = max(round(step / usual) - 1, 1)
        yield QualityFinding(
            QualityRule.FUNDING_HOLE,
            Severity.WARNING,
            venue,
            "funding",
            (symbol,),
            int(settle_ms[at]),
            int(settle_ms[at + 1]),
            missing,
            f"about {missing} settlements are missing after {iso(int(settle_ms[at]))}, until "
            f"{iso(int(settle_ms[at + 1]))}",
            "booked as zero, or refused with backtest.funding_missing = error",
        )


# ---- what is missing -----------------------------------------------------------------------------


def _holes(stored: StoredBars, there: Flags) -> Iterator[QualityFinding]:
    bar_ms = stored.timeframe.ms
    known = there.any(axis=0)
    first = np.argmax(there, axis=0)
    last = len(there) - 1 - np.argmax(there[::-1], axis=0)
    alive = (np.arange(len(there))[:, None] >= first) & (np.arange(len(there))[:, None] <= last)
    expected = alive & known
    missing = expected & ~there
    dark = (expected.sum(axis=1) >= 2) & ~there.any(axis=1)
    for start, end in _runs(dark):
        rows = slice(start, end)
        who = tuple(s for n, s in enumerate(stored.symbols) if expected[rows, n].any())
        yield _finding(
            stored, QualityRule.VENUE_HOLE, Severity.WARNING, who, (start, end),
            int(expected[rows].sum()),
            f"no instrument has a bar: {end - start} bars are missing everywhere",
            "absent: nothing is filled in",
        )  # fmt: skip
    for n, symbol in enumerate(stored.symbols):
        for start, end in _runs(np.asarray(missing[:, n] & ~dark)):
            first_ms = int(stored.close_ms[start]) - 2 * bar_ms
            yield _finding(
                stored, QualityRule.HOLE, Severity.WARNING, (symbol,), (start, end), end - start,
                f"{end - start} bars missing after {iso(first_ms)}, "
                f"until {iso(int(stored.close_ms[end - 1]))}",
                "absent: nothing is filled in",
            )  # fmt: skip


def _lives(stored: StoredBars, there: Flags) -> Iterator[QualityFinding]:
    """Tell who begins after the others and who ends before them, together where it is at once."""
    starts: dict[int, list[str]] = {}
    ends: dict[int, list[str]] = {}
    for n, symbol in enumerate(stored.symbols):
        rows = np.flatnonzero(there[:, n])
        if len(rows) and rows[0]:
            starts.setdefault(int(rows[0]), []).append(symbol)
        if len(rows) and rows[-1] + ENDS_EARLY_BARS < len(there):
            ends.setdefault(int(rows[-1]), []).append(symbol)
    for row, who in starts.items():
        yield _finding(
            stored,
            QualityRule.STARTS_LATE,
            Severity.NOTE,
            who,
            (row, row + 1),
            len(who),
            "first bar: listed then, or recorded from then on",
            "absent before; no bar is made up",
        )
    for row, who in ends.items():
        yield _finding(
            stored,
            QualityRule.ENDS_EARLY,
            Severity.WARNING,
            who,
            (row, row + 1),
            len(who),
            "last bar: delisted then, or no longer recorded",
            "absent afterwards",
        )


# ---- verdicts ------------------------------------------------------------------------------------


def _judged(stored: StoredBars, there: Flags, judged: Judged) -> Iterator[QualityFinding]:
    young = (np.cumsum(there, axis=0) <= LISTING_BARS) & _listed_inside(there)
    for number, rule in enumerate(RULES, 1):
        hit = judged.rule == number
        if not hit.any():
            continue
        if rule in (CleansingRule.WICK, CleansingRule.CRASH):
            yield from _listings(stored, np.asarray(hit & young))
            yield from _together(stored, rule, np.asarray(hit & ~young))
        elif rule is CleansingRule.FROZEN_VENUE:
            yield from _together(stored, rule, hit)
        else:
            for n, symbol in enumerate(stored.symbols):
                for start, end in _runs(hit[:, n]):
                    yield _of_rule(stored, rule, (symbol,), (start, end), end - start)


def _listed_inside(there: Flags) -> Flags:
    """Tell who was not there from the first row on: its listing is in the data, (N,)."""
    return np.asarray(~there[0])


def _listings(stored: StoredBars, hit: Flags) -> Iterator[QualityFinding]:
    for n, symbol in enumerate(stored.symbols):
        for start, end in _runs(hit[:, n]):
            bars = stored.values[start:end, n]
            wide = float((bars[:, Field.HIGH] / bars[:, Field.LOW]).max()) - 1.0
            yield _finding(
                stored, QualityRule.LISTING, Severity.NOTE, (symbol,), (start, end), end - start,
                f"high {wide:.0%} above low right after the listing",
                "kept: it was so, though nobody is filled at such prices",
            )  # fmt: skip


def _together(stored: StoredBars, rule: CleansingRule, hit: Flags) -> Iterator[QualityFinding]:
    """Tell what befell several instruments at once as one event."""
    for start, end in _runs(np.asarray(hit.any(axis=1))):
        rows = hit[start:end]
        who = tuple(stored.symbols[n] for n in np.flatnonzero(rows.any(axis=0)).tolist())
        yield _of_rule(stored, rule, who, (start, end), int(rows.sum()))


def _of_rule(
    stored: StoredBars,
    rule: CleansingRule,
    who: tuple[str, ...],
    rows: tuple[int, int],
    bars_n: int,
) -> QualityFinding:
    text = f"{bars_n} bars of {len(who)} instruments" if len(who) > 1 else f"{bars_n} bars"
    if rule in (CleansingRule.WICK, CleansingRule.CRASH):
        at = [stored.symbols.index(s) for s in who]
        bars = stored.values[rows[0] : rows[1]][:, at]
        with np.errstate(invalid="ignore"):
            spans = bars[..., Field.HIGH] / bars[..., Field.LOW]
        text += f", high up to {float(np.nanmax(spans)) - 1.0:.0%} above low"
    return _finding(stored, rule, _SEVERITY[rule], who, rows, bars_n, text, _ACTION[rule])


# ---- names ---------------------------------------------------------------------------------------


def _twins(stored: StoredBars, there: Flags) -> Iterator[QualityFinding]:
    """Find two names that hold the same bars."""
    closes, volumes = (stored.values[:, :, one] for one in (Field.CLOSE, Field.VOLUME))
    for a in range(len(stored.symbols)):
        for b in range(a + 1, len(stored.symbols)):
            rows = np.flatnonzero(there[:, a] & there[:, b])
            probe = rows[:: max(len(rows) // TWIN_BARS_MIN, 1)]
            if len(rows) < TWIN_BARS_MIN or not (closes[probe, a] == closes[probe, b]).any():
                continue
            same = (closes[rows, a] == closes[rows, b]) & (volumes[rows, a] == volumes[rows, b])
            if float(same.mean()) < TWIN_SHARE:
                continue
            yield _finding(
                stored, QualityRule.TWINS, Severity.SERIOUS,
                (stored.symbols[a], stored.symbols[b]),
                (int(rows[0]), int(rows[-1]) + 1), int(same.sum()),
                f"{float(same.mean()):.1%} of their common bars are the same: one file under two "
                "names",
                "kept: leave one of the two out",
            )  # fmt: skip


def _finding(
    stored: StoredBars,
    rule: StrEnum,
    severity: Severity,
    who: Sequence[str],
    rows: tuple[int, int],
    bars_n: int,
    text: str,
    action: str,
) -> QualityFinding:
    bar_ms = stored.timeframe.ms
    return QualityFinding(
        str(rule),
        severity,
        stored.venue,
        stored.timeframe.label,
        tuple(who),
        int(stored.close_ms[rows[0]]) - bar_ms,
        int(stored.close_ms[rows[1] - 1]) - bar_ms,
        bars_n,
        text,
        action,
    )


def _runs(flags: Flags) -> list[tuple[int, int]]:
    """Give every run of True in (T,) as its first row and the one behind its last."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
