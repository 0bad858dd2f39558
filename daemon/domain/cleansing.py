"""Judge bars: keep, flag or remove, by stated rules that look only backwards.

One function judges T instants of N instruments in one go and carries its memory over to the next
call, so that one bar at a time live and two years at once give the same verdicts to the last bit.
A removed bar becomes absent for whoever trades or learns; the raw data keep it. A crash is real
and stays: how far a price moved removes nothing, only what no market can do does. The rules:

    impossible    no market can do it: price not positive, high below low, tenfold and back without
                  more volume than usual and while the others stay in their places
    frozen_venue  most instruments of a venue stand still at once, without a trade: an outage
    zero_volume   one instrument stands still without a trade for longer than it may
    rescaled      between two bars the price jumps by a round factor, as by a split or another unit,
                  and the others do not: doubted until it is known what it was, see `scales`
    repeated      all five numbers are those of the bar before, though it was traded: a stale answer
    wick, crash   an extreme range; with the close back inside it, and without

`wick` and `crash` only flag. After a hole of more than a week a new price is believed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import FIELDS, Field, Flags, Floats
from daemon.domain.scales import (
    RECENT,
    Column,
    Doubt,
    Doubts,
    Turn,
    rescaled_bars,
    suspected,
    walked,
)
from daemon.domain.stillness import FrozenWhen, is_still, still_runs
from daemon.domain.units import DAY_MS, require

Instants = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint8]

SCALES: Final = (10.0, 100.0, 1000.0, 10_000.0)
SCALE_TOLERANCE: Final = 0.1  # of the log of the jump
SCALE_HOLE_MS: Final = 7 * DAY_MS  # over a longer hole a price may have gone anywhere
BOUNCE_RANGE: Final = 10.0  # high over low that no price does and undoes within a bar
BOUNCE_BODY: Final = 1.5  # .. when open and close lie within this ratio
BOUNCE_VOLUME: Final = 3.0  # .. save that so much more than usual is traded in it
WICK_BODY_SHARE: Final = 0.5  # a body of less than this share of the range is a wick
WICK_MINUTES: Final = 15  # the bar length that `wick_range` is stated for


class Verdict(IntEnum):
    """Say what becomes of a bar."""

    KEEP = 0
    FLAG = 1  # used, and named in reports
    REMOVE = 2  # absent for whoever trades or learns


class CleansingRule(StrEnum):
    """Name why; the order is that of precedence."""

    IMPOSSIBLE = "impossible"
    FROZEN_VENUE = "frozen_venue"
    ZERO_VOLUME = "zero_volume"
    RESCALED = "rescaled"
    REPEATED = "repeated"
    WICK = "wick"
    CRASH = "crash"


RULES: Final = tuple(CleansingRule)
REMOVING: Final = RULES[:5]
_CODE: Final = {rule: np.uint8(n + 1) for n, rule in enumerate(RULES)}


@dataclass(frozen=True, slots=True)
class CleansingRules:
    """State the thresholds and which rules remove; a rule that is off does not even flag.

    frozen_share: of the instruments of a venue that have a bar; at least `frozen_least_n` of them.
    Where fewer have one, all of them must stand still, and the longer the fewer they are.
    patience_ms: a doubted price that was traded for so long is believed; 0 never by itself.
    zero_volume_minutes_max: still bars of so long a stretch are kept, later ones are not.
    wick_range: log of high over low of a 15 minute bar; grows with the root of the bar's length.
    """

    off: frozenset[CleansingRule] = frozenset()
    frozen_share: float = 0.6
    frozen_least_n: int = 3
    zero_volume_minutes_max: int = 120
    wick_range: float = 0.12
    patience_ms: int = 2 * DAY_MS

    def still_bars_max(self, minutes: int) -> int:
        """Give how many still bars of this length are kept in a row, at least one."""
        return max(self.zero_volume_minutes_max // minutes, 1)

    def frozen_when(self, minutes: int) -> FrozenWhen:
        """Give when a venue stands still, in bars of this length."""
        return FrozenWhen(self.frozen_share, self.frozen_least_n, minutes)

    def range_max(self, minutes: int) -> float:
        """Give the log range beyond which a bar of this length is extreme."""
        return self.wick_range * math.sqrt(minutes / WICK_MINUTES)


@dataclass(frozen=True, slots=True)
class Memory:
    """Carry what the next bar is judged by: last (N, 5) the last possible bar, NaN before any.

    last_ms (N,) its close; still_n (N,) still bars in a row; recent (N, RECENT) volumes of the last
    possible bars, oldest first, NaN where there was none; doubts: whose price is doubted.
    """

    last: Floats
    last_ms: Instants
    still_n: Counts
    recent: Floats
    doubts: Doubts

    @classmethod
    def empty(cls, instruments_n: int) -> Memory:
        """Know nothing yet."""
        zeros = np.zeros(instruments_n, dtype=np.int64)
        nothing = np.full((instruments_n, FIELDS), np.nan)
        recent = np.full((instruments_n, RECENT), np.nan)
        return cls(nothing, zeros, zeros.copy(), recent, Doubts.none(instruments_n))

    def primed(self, closes: Floats, at_ms: int) -> Memory:
        """Take last prices (N,) from elsewhere, NaN unknown, so that a restart sees a new scale."""
        last = self.last.copy()
        last[:, Field.CLOSE] = np.where(np.isfinite(closes) & (closes > 0), closes, np.nan)
        return replace(self, last=last, last_ms=np.full_like(self.last_ms, at_ms))

    def doubting(self, index: int, doubt: Doubt) -> Memory:
        """Doubt an instrument as it was doubted before a restart."""
        return replace(self, doubts=self.doubts.having(index, doubt))

    def rescaled(self, index: int, new_n: int, old_n: int) -> Memory:
        """Remember an instrument in new units, without any doubt."""
        last, recent = self.last.copy(), self.recent.copy()
        last[index] = rescaled_bars(last[index], new_n, old_n)
        recent[index] = recent[index] * new_n / old_n
        doubts = self.doubts.having(index, Doubt())
        return replace(self, last=last, recent=recent, doubts=doubts)

    def believing(self, index: int) -> Memory:
        """Compare the next price of an instrument with none before it, and doubt it no more."""
        last_ms = self.last_ms.copy()
        last_ms[index] = 0
        return replace(self, last_ms=last_ms, doubts=self.doubts.having(index, Doubt()))


@dataclass(frozen=True, slots=True)
class Removal:
    """Record one judged bar: which instrument, its close, by which rule, removed or flagged."""

    close_ms: int
    index: int
    rule: CleansingRule
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Beside:
    """Hold what was told of an instant before, (N,) each: what moves an instrument is compared.

    present: who has a bar; known: who has a jump; jumps: open over the close before; spans: logs of
    high over low, NaN without a bar; still_n: still bars in a row, 0 for one that moves.
    """

    present: Flags
    known: Flags
    jumps: Floats
    spans: Floats
    still_n: Counts

    @classmethod
    def nothing(cls, instruments_n: int) -> Beside:
        """Know of no bar."""
        nobody = np.zeros(instruments_n, dtype=np.bool_)
        never = np.zeros(instruments_n, dtype=np.int64)
        return cls(nobody, nobody, np.ones(instruments_n), np.full(instruments_n, np.nan), never)

    def over(self, other: Beside) -> Beside:
        """Lay this piece over an earlier one."""
        return Beside(
            self.present | other.present,
            self.known | other.known,
            np.where(self.known, self.jumps, other.jumps),
            np.where(np.isnan(self.spans), other.spans, self.spans),
            np.maximum(self.still_n, other.still_n),
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """Hold verdicts: rule (T, N) is 0 where a bar is kept or absent, else 1 + place in RULES.

    turns: whose price began or ceased to be doubted, in time order. newest: the last instant.
    """

    rule: Codes
    memory: Memory
    turns: tuple[Turn, ...] = ()
    newest: Beside | None = None

    @property
    def removed(self) -> Flags:
        """Tell which bars become absent, (T, N)."""
        return np.asarray((self.rule > 0) & (self.rule <= len(REMOVING)))

    def records(self, close_ms: Instants, *, flags: bool = True) -> Iterator[Removal]:
        """List what was removed, and flagged if wanted, in time order."""
        for t, n in np.argwhere(self.rule).tolist():
            rule = RULES[int(self.rule[t, n]) - 1]
            verdict = Verdict.REMOVE if rule in REMOVING else Verdict.FLAG
            if flags or verdict is Verdict.REMOVE:
                yield Removal(int(close_ms[t]), n, rule, verdict)


def judge(
    close_ms: Instants,
    values: Floats,
    memory: Memory,
    rules: CleansingRules,
    minutes: int,
    venues: Counts | None = None,
    beside: Beside | None = None,
    unsure: Flags | None = None,
) -> Judged:
    """Judge bars (T, N, 5) by close (T,), NaN rows absent, oldest first; `memory` is from before.

    venues (N,): a number for the venue of each instrument, all the same when None. beside: for
    T = 1 what was told of this instant before; it counts for what moves or stands still together.
    unsure (N,): of whose venue nobody can say whether it stands still: its still bars go.
    """
    T, N = values.shape[:2]
    require(memory.last.shape == (N, FIELDS), f"memory of {len(memory.last)} for {N} instruments")
    code: Codes = np.zeros((T, N), dtype=np.uint8)
    if not T:
        return Judged(code, memory)
    there: Flags = np.asarray(~np.isnan(values).all(axis=2))

    def mark(rule: CleansingRule, where: Flags) -> None:
        if rule not in rules.off:
            code[where & (code == 0)] = _CODE[rule]

    with np.errstate(invalid="ignore", divide="ignore"):
        bad: Flags = np.asarray(there & is_broken(values))
        spans = np.where(
            there & ~bad, np.log(values[:, :, Field.HIGH] / values[:, :, Field.LOW]), np.nan
        )
        around = spans if beside is None else np.where(np.isnan(spans), beside.spans, spans)
        bad |= _bounced(values, there & ~bad, memory, around, rules.range_max(minutes))
        mark(CleansingRule.IMPOSSIBLE, bad)
        sound = there & ~bad
        still = sound & is_still(values)
        still_n = still_runs(still, sound, memory.still_n)
        present, runs = there, np.where(still, still_n, 0)
        if beside is not None:
            present = there | beside.present[None]
            runs = np.maximum(runs, beside.still_n[None])
        frozen = rules.frozen_when(minutes).venues(runs, present, venues)
        frozen = frozen if unsure is None else frozen | unsure[None]
        mark(CleansingRule.FROZEN_VENUE, still & frozen)
        mark(CleansingRule.ZERO_VOLUME, still & (still_n > rules.still_bars_max(minutes)))
        before = _rows_before(sound)
        near = _is_near(close_ms, before, memory.last_ms)
        jumps, known = _jumps(values, before, sound & near, memory.last)
        newest = Beside(
            there[-1], known[-1], jumps[-1], spans[-1], np.where(still[-1], still_n[-1], 0)
        )
        doubted, doubts = np.zeros_like(sound), memory.doubts
        turns: tuple[Turn, ...] = ()
        if CleansingRule.RESCALED not in rules.off:
            told = _doubted(close_ms, values, sound, jumps, known, memory, rules, minutes, beside)
            doubted, turns, doubts = told
        mark(CleansingRule.RESCALED, doubted)
        mark(CleansingRule.REPEATED, _repeated(values, before, sound, memory.last))
        extreme = sound & (spans > rules.range_max(minutes))
        if extreme.any():
            wick = extreme & _is_wick(values, extreme)
            mark(CleansingRule.WICK, wick)
            mark(CleansingRule.CRASH, extreme & ~wick)
    remembered = _remembered(close_ms, values, sound, memory, still_n, doubts)
    return Judged(code, remembered, turns, newest)


def without(values: Floats, removed: Flags) -> Floats:
    """Give the values with removed bars absent; the same array when there are none."""
    if not removed.any():
        return values
    kept = values.copy()
    kept[removed] = np.nan
    return kept


# ---- the rules -----------------------------------------------------------------------------------


def is_broken(values: Floats) -> Flags:
    """Tell which bars (..., 5) are none at all, NaN among their numbers included."""
    open_, high, low, close, volume = (values[..., one] for one in Field)
    broken = ~np.isfinite(values).all(axis=-1) | (low <= 0) | (volume < 0)
    broken |= (high < open_) | (high < close) | (high < low) | (low > open_) | (low > close)
    return np.asarray(broken)


def is_swing(values: Floats) -> Flags:
    open_, high, low, close, _ = (values[..., one] for one in Field)
    wide = high > BOUNCE_RANGE * low
    return np.asarray(wide & (open_ < BOUNCE_BODY * close) & (close < BOUNCE_BODY * open_))


def _bounced(
    values: Floats, possible: Flags, memory: Memory, spans: Floats, range_max: float
) -> Flags:
    """Tell which bars went tenfold and back, (T, N), with nothing to show that they did.

    It is believed of the first bar of a listing, where much more than usual was traded, and where
    the others swung as well. spans: logs of high over low of all that is known of each instant.
    """
    found = np.asarray(possible & is_swing(values))
    for n in np.flatnonzero(found.any(axis=0)).tolist():
        for t in np.flatnonzero(found[:, n]).tolist():
            rows = possible[:t, n] & ~found[:t, n]
            volumes = np.concatenate([memory.recent[n], values[:t, n, Field.VOLUME][rows]])
            traded = volumes[-RECENT:][volumes[-RECENT:] > 0]
            beside = np.delete(spans[t], n)
            beside = beside[np.isfinite(beside)]
            is_first = not rows.any() and np.isnan(memory.last[n, Field.CLOSE])
            is_busy = len(traded) and (
                values[t, n, Field.VOLUME] > BOUNCE_VOLUME * float(np.median(traded))
            )
            if is_first or is_busy or (len(beside) and float(np.median(beside)) > range_max):
                found[t, n] = False
    return found


def _rows_before(sound: Flags) -> Counts:
    """Give the row of the last sound bar before each row, -1 where memory must say, (T, N)."""
    rows = np.where(sound, np.arange(len(sound))[:, None], -1)
    newest = np.maximum.accumulate(rows, axis=0)
    return np.concatenate([np.full((1, sound.shape[1]), -1), newest[:-1]])


def _of_before(values: Floats, before: Counts, last: Floats, one: Field) -> Floats:
    column = values[:, :, one]
    taken = np.take_along_axis(column, np.maximum(before, 0), axis=0)
    return np.where(before >= 0, taken, last[None, :, one])


def _jumps(values: Floats, before: Counts, comparable: Flags, last: Floats) -> tuple[Floats, Flags]:
    """Give open over the close before, 1 where there is none, and where there is one, (T, N)."""
    ratio = values[:, :, Field.OPEN] / _of_before(values, before, last, Field.CLOSE)
    known: Flags = np.asarray(comparable & np.isfinite(ratio))
    return np.where(known, ratio, 1.0), known


def _doubted(
    close_ms: Instants,
    values: Floats,
    sound: Flags,
    jumps: Floats,
    known: Flags,
    memory: Memory,
    rules: CleansingRules,
    minutes: int,
    beside: Beside | None,
) -> tuple[Flags, tuple[Turn, ...], Doubts]:
    """Tell whose bars (T, N) are doubted, what turned, and who is doubted at the end."""
    if beside is None:
        factors = suspected(jumps, known)
    else:
        all_jumps = np.where(known, jumps, beside.jumps)
        factors = np.where(known, suspected(all_jumps, known | beside.known), 0.0)
    doubted, turns, doubts = np.zeros_like(sound), list[Turn](), memory.doubts
    for n in np.flatnonzero(factors.any(axis=0) | doubts.active).tolist():
        rows = np.flatnonzero(sound[:, n])
        bars = values[rows, n]
        closes = np.concatenate([memory.last[n, Field.CLOSE, None], bars[:-1, Field.CLOSE]])
        column = Column(n, close_ms[rows], bars, factors[rows, n], closes, memory.recent[n])
        mine, turned, doubt = walked(column, doubts.of(n), minutes, rules.patience_ms)
        doubted[rows, n] = mine
        turns += turned
        doubts = doubts.having(n, doubt)
    return doubted, tuple(sorted(turns, key=lambda one: (one.at_ms, one.index))), doubts


def _is_near(close_ms: Instants, before: Counts, last_ms: Instants) -> Flags:
    """Tell where the bar before is no further away than a price may be compared over."""
    before_ms = np.where(before >= 0, close_ms[np.maximum(before, 0)], last_ms[None])
    return np.asarray(close_ms[:, None] - before_ms <= SCALE_HOLE_MS)


def scale_steps(jumps: Floats) -> Counts:
    """Give how many powers of ten each ratio is, 0 where it is none within the tolerance."""
    least = SCALES[0] * math.exp(-SCALE_TOLERANCE)
    steps = np.zeros(jumps.shape, dtype=np.int64)
    large = (jumps > least) | (jumps < 1.0 / least)  # few need a logarithm
    if large.any():
        logs = np.log10(jumps[large])
        whole = np.rint(logs)
        near = np.abs(logs - whole) * math.log(10.0) < SCALE_TOLERANCE
        steps[large] = np.where(near & (np.abs(whole) <= len(SCALES)), whole, 0).astype(np.int64)
    return steps


def _repeated(values: Floats, before: Counts, sound: Flags, last: Floats) -> Flags:
    traded = values[:, :, Field.VOLUME] > 0  # nor a price that stands still with the same crumb
    moved = sound & (traded | (values[:, :, Field.HIGH] > values[:, :, Field.LOW]))
    same = moved
    for one in (Field.VOLUME, Field.CLOSE, Field.HIGH, Field.LOW, Field.OPEN):
        if not same.any():
            break
        same = same & (values[:, :, one] == _of_before(values, before, last, one))
    return same


def _is_wick(values: Floats, extreme: Flags) -> Flags:
    wick = np.zeros(extreme.shape, dtype=bool)
    bars = values[extreme]
    body = np.abs(np.log(bars[:, Field.CLOSE] / bars[:, Field.OPEN]))
    span = np.log(bars[:, Field.HIGH] / bars[:, Field.LOW])
    wick[extreme] = body < WICK_BODY_SHARE * span
    return wick


def _remembered(
    close_ms: Instants,
    values: Floats,
    sound: Flags,
    memory: Memory,
    still_n: Counts,
    doubts: Doubts,
) -> Memory:
    any_bar: Flags = np.asarray(sound.any(axis=0))
    newest = len(sound) - 1 - np.argmax(sound[::-1], axis=0)
    bars = values[newest, np.arange(values.shape[1])]
    last = np.where(any_bar[:, None], bars, memory.last)
    last_ms = np.where(any_bar, close_ms[newest], memory.last_ms)
    recent = _recent(values[:, :, Field.VOLUME], sound, memory.recent)
    return Memory(last, last_ms, still_n[-1].copy(), recent, doubts)


def _recent(volumes: Floats, sound: Flags, before: Floats) -> Floats:
    """Give the volumes of the newest sound bars, (N, RECENT), oldest first."""
    if len(volumes) == 1:
        moved = np.concatenate([before[:, 1:], volumes.T], axis=1)
        return np.where(sound.T, moved, before)
    recent = before.copy()
    for n in range(volumes.shape[1]):
        rows = np.flatnonzero(sound[:, n])[-RECENT:]
        recent[n] = np.concatenate([before[n], volumes[rows, n]])[-RECENT:]
    return recent
