"""Say what in a data set is not as it was known at the time, or may flatter whoever uses it.

The check of decisions shows that nothing reads the future of the data it is given. It cannot show
that the data themselves were free of it: who is in them, which version of a bar they hold, what is
missing. Those are found here, by plain rules, each with a severity and a sentence for people.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np

from daemon.domain.bar import Field, Flags
from daemon.domain.cleansing import scale_steps
from daemon.domain.covariates import quiet_from
from daemon.domain.stillness import is_still
from daemon.domain.units import DAY_MS, HOUR_MS, iso
from daemon.research.worlds import Data

ENDS_EARLY_MS: Final = 2 * DAY_MS  # an instrument silent for so long at the end has ended
HOLE_MS: Final = 6 * HOUR_MS  # shorter ones are outages
SETTLEMENT_MS: Final = 8 * HOUR_MS  # the usual one
FUNDING_SERIOUS_SHARE: Final = 0.5
HOLES_SERIOUS_SHARE: Final = 0.2
LISTING_ROWS: Final = 96  # bars after a listing that are looked at for extremes
LISTING_RANGE: Final = 1.0  # log of high over low
LISTING_TIMES: Final = 12.0  # the usual range of a bar
STALE_ROWS: Final = 16  # bars without a trade in a row that look filled in
STALE_SHARE: Final = 0.001
UNCLOSED_VOLUME_SHARE: Final = 0.25  # of the usual volume, in the newest bar
UNCLOSED_INSTRUMENTS_SHARE: Final = 0.6
NAMES_MAX: Final = 6


class Severity(StrEnum):
    """Say how much a finding matters to figures made of the data."""

    SERIOUS = "serious"  # may make a bad strategy look good
    WARNING = "warning"
    NOTE = "note"  # to be known


class Kind(StrEnum):
    """Name what was found."""

    SURVIVORSHIP = "survivorship"
    ENDED = "ended"
    CHOSEN_NAMES = "chosen_names"
    RULES_OF_TODAY = "rules_of_today"
    RULES_DEFAULTED = "rules_defaulted"
    FUNDING_MISSING = "funding_missing"
    SPOT_FOR_PERPETUAL = "spot_for_perpetual"
    HOLES = "holes"
    FILLED_IN = "filled_in"
    RESCALED = "rescaled"
    ONE_VERSION = "one_version"
    REVISED = "revised"
    MODEL_OVERLAPS = "model_overlaps"
    LISTING_EXTREMES = "listing_extremes"
    UNCLOSED = "unclosed"
    KNOWN_AT_ONCE = "known_at_once"
    SERIES_ENDED = "series_ended"


@dataclass(frozen=True, slots=True)
class Finding:
    """Hold one finding; the text is a sentence or two for people."""

    severity: Severity
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class DataFacts:
    """Hold a data set and what is known of where it came from.

    venue: folder of the bars. named: somebody chose these instruments by name. defaulted: those
    whose trading rules are the table's default row. rules_from_table: the rules are one table for
    all times. trained_until_ms and used_from_ms: of a model and of the decisions it serves.
    written_ms: when a symbol's file was written, where that is known. revised_n: bars that changed
    after they were used, None where nobody watched. rank_max: how many instruments enter by volume
    at the end of a day, 0 where volume chooses nobody. ends_noted: symbols whose end is written
    down. rules_dated: symbols whose rules are, with the instants from which they held.
    silence_ends: a contract without bars for a day was taken for ended.
    """

    data: Data
    venue: str
    named: bool = False
    rules_from_table: bool = True
    defaulted: tuple[str, ...] = ()
    trained_until_ms: int | None = None
    used_from_ms: int | None = None
    written_ms: Mapping[str, int] = field(default_factory=dict)
    revised_n: int | None = None
    rank_max: int = 0
    ends_noted: tuple[str, ...] = ()
    rules_dated: tuple[str, ...] = ()
    silence_ends: bool = False


def point_in_time(facts: DataFacts) -> tuple[Finding, ...]:
    """Give everything found, the serious first."""
    found = [one for rule in RULES for one in rule(facts)]
    order = list(Severity)
    return tuple(sorted(found, key=lambda one: order.index(one.severity)))


def caveats(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Write findings as the caveats that a report shows above its figures."""
    return tuple(
        f"{one.severity.upper()}: {one.text}" if one.severity is Severity.SERIOUS else one.text
        for one in findings
    )


# ---- who is there --------------------------------------------------------------------------------


def _survivors(facts: DataFacts) -> Iterator[Finding]:
    data, last = facts.data, _last_rows(facts.data)
    known = last >= 0
    if not known.any():
        return
    end_ms = int(data.close_ms[-1])
    absent = ""
    if not known.all():
        absent = f" {int((~known).sum())} more have no bar at all: {_names(data, ~known)}."
    ended = known & (end_ms - data.close_ms[np.maximum(last, 0)] > ENDS_EARLY_MS)
    if not ended.any():
        yield Finding(
            Severity.SERIOUS,
            Kind.SURVIVORSHIP,
            f"All {int(known.sum())} instruments survive to the end, {iso(end_ms)}: none was "
            "delisted. Coins that died are missing, which flatters whoever holds what fell."
            + absent,
        )
        return
    yield Finding(
        Severity.WARNING,
        Kind.ENDED,
        f"{int(ended.sum())} of {int(known.sum())} instruments end before {iso(end_ms)} "
        f"({_names(data, ended)}). {_whose_word(facts, ended)}" + absent,
    )


def _whose_word(facts: DataFacts, ended: Flags) -> str:
    """Say who says that instruments ended, and what a run made of it."""
    data = facts.data
    noted = np.array([symbol in facts.ends_noted for symbol in data.symbols])
    told = []
    if (ended & noted).any():
        told.append(f"The end of {int((ended & noted).sum())} of them is written down.")
    if (ended & ~noted).any():
        who = "the others" if told else "them"
        silence = (
            " A day without a bar in which others had some was taken for an end, and what was held "
            "for settled at the last price: the money was bound for that day, and a real end may "
            "have paid less."
        )
        told.append(
            f"Files do not say of {who} whether they were delisted or only no longer recorded; "
            "where all of them still trade, the survivors' bias is the same as with none."
            + (silence if facts.silence_ends else "")
        )
    return " ".join(told)


def _chosen_names(facts: DataFacts) -> Iterator[Finding]:
    who = "somebody named them in the settings" if facts.named else "they are the files there are"
    if facts.rank_max:
        yield Finding(
            Severity.NOTE if not facts.named else Severity.WARNING,
            Kind.CHOSEN_NAMES,
            f"At the end of each UTC day the {facts.rank_max} of {len(facts.data.symbols)} "
            "instruments with the largest median volume of the last seven days entered what may be "
            f"held, which uses nothing later. Who could enter was chosen after the fact: {who}.",
        )
        return
    yield Finding(
        Severity.WARNING,
        Kind.CHOSEN_NAMES,
        f"The {len(facts.data.symbols)} instruments were chosen after the fact: {who}. A choice "
        "made at each instant by volume known then would hold others. Compare with baselines on "
        "the same instruments; an absolute return of theirs proves nothing.",
    )


def _rules(facts: DataFacts) -> Iterator[Finding]:
    undated = [one for one in facts.data.symbols if one not in facts.rules_dated]
    if facts.rules_from_table and undated:
        whose = f" of {len(undated)} instruments" if facts.rules_dated else ""
        yield Finding(
            Severity.NOTE,
            Kind.RULES_OF_TODAY,
            f"Price steps, lot sizes and least order sizes{whose} are one table of today for all "
            "times.",
        )
    if facts.defaulted:
        yield Finding(
            Severity.NOTE,
            Kind.RULES_DEFAULTED,
            f"The table lacks {_listed(facts.defaulted)}: the default row stands for them.",
        )


# ---- what is missing -----------------------------------------------------------------------------


def _funding(facts: DataFacts) -> Iterator[Finding]:
    data = facts.data
    due = np.flatnonzero(data.close_ms % SETTLEMENT_MS == 0)
    wanted: Flags = _there(data)[due]  # (D, N)
    if not wanted.any():
        return
    at = np.searchsorted(data.settle_ms, data.close_ms[due])
    inside = np.minimum(at, max(len(data.settle_ms) - 1, 0))
    known = np.zeros_like(wanted)
    if len(data.settle_ms):
        meets = data.settle_ms[inside] == data.close_ms[due]
        known = meets[:, None] & np.isfinite(data.rates[inside])
    missing = wanted & ~known
    if not missing.any():
        return
    share = float(missing.sum() / wanted.sum())
    longest = [_longest(missing[:, n]) for n in range(len(data.symbols))]
    worst = int(np.argmax([rows for rows, _ in longest]))
    rows, start = longest[worst]
    without = wanted.any(axis=0) & ~(wanted & known).any(axis=0)
    none = f"; {int(without.sum())} instruments have none at all" if without.any() else ""
    yield Finding(
        Severity.SERIOUS if share > FUNDING_SERIOUS_SHARE else Severity.WARNING,
        Kind.FUNDING_MISSING,
        f"{share:.1%} of the usual settlements have no funding rate{none}. The longest hole is "
        f"{rows * SETTLEMENT_MS / DAY_MS:.1f} days of {data.symbols[worst]} from "
        f"{iso(int(data.close_ms[due[start]]))}. What is missing is booked as zero.",
    )


def _spot(facts: DataFacts) -> Iterator[Finding]:
    if facts.venue.endswith("_spot"):
        yield Finding(
            Severity.WARNING,
            Kind.SPOT_FOR_PERPETUAL,
            f"Bars of {facts.venue} stand for the perpetuals that would have been traded: their "
            "prices, volumes and listing dates differ, and nobody could sell these short.",
        )


def _holes(facts: DataFacts) -> Iterator[Finding]:
    data = facts.data
    inside = _lives(data)
    missing = inside & ~_there(data)
    if not missing.any():
        return
    bar_ms = _bar_ms(data)
    longest = [_longest(missing[:, n]) for n in range(len(data.symbols))]
    order = np.argsort([-rows for rows, _ in longest], kind="stable")
    shown = [
        f"{data.symbols[n]} {longest[n][0] * bar_ms / DAY_MS:.1f} days from "
        f"{iso(int(data.close_ms[longest[n][1]]) - bar_ms)[:10]}"
        for n in order.tolist()
        if longest[n][0] * bar_ms >= HOLE_MS
    ]
    share = float(missing.sum() / inside.sum())
    which = f" The longest: {_listed(shown)}." if shown else ""
    yield Finding(
        Severity.SERIOUS if share > HOLES_SERIOUS_SHARE else Severity.WARNING,
        Kind.HOLES,
        f"{int(missing.any(axis=0).sum())} of {len(data.symbols)} instruments have holes, "
        f"{share:.2%} of the bars between their first and last.{which}",
    )


def _filled_in(facts: DataFacts) -> Iterator[Finding]:
    data = facts.data
    still = is_still(data.values)
    runs = np.array([_longest(still[:, n])[0] for n in range(len(data.symbols))])
    share = float(still.sum() / max(int(_there(data).sum()), 1))
    suspects: Flags = runs >= STALE_ROWS
    if suspects.any() or share > STALE_SHARE:
        yield Finding(
            Severity.WARNING,
            Kind.FILLED_IN,
            f"{share:.2%} of the bars show one price and no volume, up to {int(runs.max())} in a "
            f"row ({_names(data, suspects) if suspects.any() else 'scattered'}): somebody may have "
            "filled holes in, and nobody could trade there.",
        )


# ---- what was changed ----------------------------------------------------------------------------


def _rescaled(facts: DataFacts) -> Iterator[Finding]:
    data, found = facts.data, []
    there = _there(data)
    for n, symbol in enumerate(data.symbols):
        rows = np.flatnonzero(there[:, n])
        bars = data.values[:, n]
        jumps = bars[rows[1:], Field.OPEN] / bars[rows[:-1], Field.CLOSE]
        is_scale = scale_steps(jumps) != 0
        if is_scale.any():
            at = int(np.argmax(is_scale))
            when = iso(int(data.close_ms[rows[at + 1]]))
            found.append(f"{symbol} times {float(jumps[at]):.4g} at {when}")
    if found:
        yield Finding(
            Severity.SERIOUS,
            Kind.RESCALED,
            f"Prices jump by a power of ten between two bars: {_listed(found)}. A contract was "
            "redenominated or its name was given to another; the jump is no return.",
        )


def _versions(facts: DataFacts) -> Iterator[Finding]:
    if facts.revised_n is None:
        yield Finding(
            Severity.NOTE,
            Kind.ONE_VERSION,
            "Files hold one version of each bar. Whether it came late or was revised after its "
            "close cannot be seen in them; a live run counts such bars.",
        )
    elif facts.revised_n:
        yield Finding(
            Severity.WARNING,
            Kind.REVISED,
            f"{facts.revised_n} bars were revised after they had been used.",
        )


def _model(facts: DataFacts) -> Iterator[Finding]:
    until, start = facts.trained_until_ms, facts.used_from_ms
    first = int(facts.data.close_ms[0]) if start is None else start
    if until is not None and until > first:
        yield Finding(
            Severity.SERIOUS,
            Kind.MODEL_OVERLAPS,
            f"IN SAMPLE: the model was trained on data until {iso(until)}, which overlaps "
            f"decisions from {iso(first)} on. Their figures say nothing about the future.",
        )


def _listings(facts: DataFacts) -> Iterator[Finding]:
    data, found = facts.data, []
    there = _there(data)
    for n, symbol in enumerate(data.symbols):
        rows = np.flatnonzero(there[:, n])
        if not len(rows) or rows[0] == 0 or len(rows) < 2 * LISTING_ROWS:
            continue  # there from the start: its listing is not in the data
        bars = data.values[:, n]
        ratios = bars[rows, Field.HIGH] / bars[rows, Field.LOW]
        span = np.log(ratios[:LISTING_ROWS])
        usual = math.log(float(np.median(ratios[LISTING_ROWS:])))
        first = int(np.argmax(span))
        if span[first] > LISTING_RANGE or span[first] > LISTING_TIMES * usual > 0:
            times = f"{float(np.expm1(span[first])):.0%} at {iso(int(data.close_ms[rows[first]]))}"
            found.append(f"{symbol} {times}")
    if found:
        yield Finding(
            Severity.WARNING,
            Kind.LISTING_EXTREMES,
            f"The first bars after a listing are extreme, high above low by {_listed(found)}. "
            "Nobody is filled at such prices; their returns dominate what is fitted on them.",
        )


def _unclosed(facts: DataFacts) -> Iterator[Finding]:
    data, last = facts.data, _last_rows(facts.data)
    early = [
        symbol
        for n, symbol in enumerate(data.symbols)
        if last[n] >= 0 and facts.written_ms.get(symbol, 1 << 62) < int(data.close_ms[last[n]])
    ]
    if early:
        yield Finding(
            Severity.SERIOUS,
            Kind.UNCLOSED,
            f"The newest bar of {_listed(early)} was stored before it closed.",
        )
        return
    ends, small, there = 0, 0, _there(data)
    for n in np.flatnonzero(last == len(data.close_ms) - 1).tolist():
        rows = np.flatnonzero(there[:, n])[-LISTING_ROWS - 1 :]
        volume = data.values[rows, n, Field.VOLUME]
        usual = float(np.median(volume[:-1])) if len(volume) > LISTING_ROWS else 0.0
        ends += usual > 0
        small += usual > 0 and float(volume[-1]) < UNCLOSED_VOLUME_SHARE * usual
    if ends >= 3 and small >= UNCLOSED_INSTRUMENTS_SHARE * ends:
        yield Finding(
            Severity.WARNING,
            Kind.UNCLOSED,
            f"The newest bar of {small} of {ends} instruments has less than a quarter of the usual "
            "volume: it may have been stored before it closed.",
        )


# ---- series beside the bars ----------------------------------------------------------------------


def _known_at_once(facts: DataFacts) -> Iterator[Finding]:
    found = []
    for name, series in facts.data.series:
        ts = np.unique(series.ts)
        if len(ts) > 1 and np.median(series.known_ms - series.ts) < np.median(np.diff(ts)):
            found.append(name)
    if found:
        yield Finding(
            Severity.WARNING,
            Kind.KNOWN_AT_ONCE,
            f"{_listed(found)}: values are said to be known before the next one begins. If an "
            "instant names the beginning of a period, as dates do, that is before they happened.",
        )


def _series_ended(facts: DataFacts) -> Iterator[Finding]:
    if not len(facts.data.close_ms):
        return
    end_ms = int(facts.data.close_ms[-1])
    known = [(name, one.known_at(end_ms)) for name, one in facts.data.series]
    found = [n for n, one in known if not len(one) or int(quiet_from(one)[-1]) <= end_ms]
    if found:
        yield Finding(
            Severity.WARNING,
            Kind.SERIES_ENDED,
            f"{_listed(found)}: brings nothing new at the end of the bars. Models go on with its "
            "last value, then without it.",
        )


Rule = Callable[[DataFacts], Iterator[Finding]]
RULES: Final[tuple[Rule, ...]] = (
    _survivors,
    _chosen_names,
    _model,
    _spot,
    _funding,
    _holes,
    _filled_in,
    _rescaled,
    _listings,
    _unclosed,
    _rules,
    _versions,
    _known_at_once,
    _series_ended,
)


# ---- helpers -------------------------------------------------------------------------------------


def _there(data: Data) -> Flags:
    return np.asarray(np.isfinite(data.values[:, :, Field.CLOSE]))


def _last_rows(data: Data) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Give the row of every instrument's last bar, -1 for those without any."""
    there = _there(data)
    last = len(there) - 1 - np.argmax(there[::-1], axis=0)
    return np.where(there.any(axis=0), last, -1)


def _lives(data: Data) -> Flags:
    """Tell which rows lie between an instrument's first and last bar, (T, N)."""
    there = _there(data)
    begun = np.logical_or.accumulate(there, axis=0)
    goes_on = np.logical_or.accumulate(there[::-1], axis=0)[::-1]
    return np.asarray(begun & goes_on)


def _bar_ms(data: Data) -> int:
    return int(data.close_ms[1] - data.close_ms[0]) if len(data.close_ms) > 1 else 0


def _longest(flags: Flags) -> tuple[int, int]:
    """Give length and start of the longest run of True in (T,), (0, 0) without any."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    at = int(np.argmax(ends - starts))
    return int(ends[at] - starts[at]), int(starts[at])


def _names(data: Data, flags: Flags) -> str:
    return _listed([data.symbols[n] for n in np.flatnonzero(flags).tolist()])


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - NAMES_MAX
    return ", ".join(names[:NAMES_MAX]) + (f" and {rest} more" if rest > 0 else "")
