"""Judge bars: keep, flag or remove, by stated rules that look only backwards.

One function judges T instants of N instruments in one go and carries its memory over to the next
call, so that one bar at a time live and two years at once give the same verdicts to the last bit.
A removed bar becomes absent for whoever trades or learns; the raw data keep it. A crash is real
and stays: how far a price moved removes nothing, only what no market can do does. The rules:

    impossible    no market can do it: price not positive, high below low, tenfold and back
    frozen_venue  most instruments of a venue stand still at once, without a trade: an outage
    zero_volume   one instrument stands still without a trade for longer than it may
    rescaled      between two bars the price jumps by a power of ten: another unit, no return
    repeated      all five numbers are those of the bar before, though it moved: a stale answer
    split         the same with a small whole ratio and the volume moving the other way: suspected
    wick, crash   an extreme range; with the close back inside it, and without

`split`, `wick` and `crash` only flag. While a price stands at another scale its bars are removed
until it comes back or a person loads history of one scale; after a hole of more than a week a new
price is believed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import FIELDS, Field, Flags, Floats
from daemon.domain.units import DAY_MS, require

Instants = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint8]

SCALES: Final = (10.0, 100.0, 1000.0, 10_000.0)
SCALE_TOLERANCE: Final = 0.1  # of the log of the jump
SCALE_HOLE_MS: Final = 7 * DAY_MS  # over a longer hole a price may have gone anywhere
SPLITS: Final = (2.0, 3.0, 4.0, 5.0, 8.0, 20.0, 25.0, 50.0)
SPLIT_TOLERANCE: Final = 0.03
BOUNCE_RANGE: Final = 10.0  # high over low that no price does and undoes within a bar
BOUNCE_BODY: Final = 1.5  # .. when open and close lie within this ratio
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
    SPLIT = "split"
    WICK = "wick"
    CRASH = "crash"


RULES: Final = tuple(CleansingRule)
REMOVING: Final = RULES[:5]
_CODE: Final = {rule: np.uint8(n + 1) for n, rule in enumerate(RULES)}


@dataclass(frozen=True, slots=True)
class CleansingRules:
    """State the thresholds and which rules remove; a rule that is off does not even flag.

    frozen_share: of the instruments of a venue that have a bar; at least `frozen_least_n` of them.
    zero_volume_minutes_max: still bars of so long a stretch are kept, later ones are not.
    wick_range: log of high over low of a 15 minute bar; grows with the root of the bar's length.
    """

    off: frozenset[CleansingRule] = frozenset()
    frozen_share: float = 0.6
    frozen_least_n: int = 3
    zero_volume_minutes_max: int = 120
    wick_range: float = 0.12

    def still_bars_max(self, minutes: int) -> int:
        """Give how many still bars of this length are kept in a row, at least one."""
        return max(self.zero_volume_minutes_max // minutes, 1)

    def range_max(self, minutes: int) -> float:
        """Give the log range beyond which a bar of this length is extreme."""
        return self.wick_range * math.sqrt(minutes / WICK_MINUTES)


@dataclass(frozen=True, slots=True)
class Memory:
    """Carry what the next bar is judged by: last (N, 5) the last possible bar, NaN before any.

    last_ms (N,) its close; still_n (N,) still bars in a row; away (N,) powers of ten between the
    price and its old unit.
    """

    last: Floats
    last_ms: Instants
    still_n: Counts
    away: Counts

    @classmethod
    def empty(cls, instruments_n: int) -> Memory:
        """Know nothing yet."""
        zeros = np.zeros(instruments_n, dtype=np.int64)
        nothing = np.full((instruments_n, FIELDS), np.nan)
        return cls(nothing, zeros, zeros.copy(), zeros.copy())

    def primed(self, closes: Floats, at_ms: int) -> Memory:
        """Take last prices (N,) from elsewhere, NaN unknown, so that a restart sees a new scale."""
        last = self.last.copy()
        last[:, Field.CLOSE] = np.where(np.isfinite(closes) & (closes > 0), closes, np.nan)
        return replace(self, last=last, last_ms=np.full_like(self.last_ms, at_ms))


@dataclass(frozen=True, slots=True)
class Removal:
    """Record one judged bar: which instrument, its close, by which rule, removed or flagged."""

    close_ms: int
    index: int
    rule: CleansingRule
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Judged:
    """Hold verdicts: rule (T, N) is 0 where a bar is kept or absent, else 1 + place in RULES."""

    rule: Codes
    memory: Memory

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
    present: Flags | None = None,
) -> Judged:
    """Judge bars (T, N, 5) by close (T,), NaN rows absent, oldest first; `memory` is from before.

    venues (N,): a number for the venue of each instrument, all the same when None. present (N,):
    for T = 1 the instruments whose bars of this instant were judged before; they count for the
    share that stands still.
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
        bad: Flags = np.asarray(there & _broken(values))
        known = _rows_before(there & ~bad) >= 0
        known |= ~np.isnan(memory.last[None, :, Field.CLOSE])
        bad |= there & known & _bounced(values)  # the first prints of a listing may be anywhere
        mark(CleansingRule.IMPOSSIBLE, bad)
        sound = there & ~bad
        still = sound & is_still(values)
        mark(CleansingRule.FROZEN_VENUE, _frozen(still, there, rules, venues, present))
        still_n = _still_runs(still, sound, memory.still_n)
        mark(CleansingRule.ZERO_VOLUME, still & (still_n > rules.still_bars_max(minutes)))
        before = _rows_before(sound)
        jumps = np.where(
            _is_near(close_ms, before, memory.last_ms),
            _jumps(values, before, sound, memory.last),
            1.0,
        )
        away = _scales(jumps, memory.away)
        mark(CleansingRule.RESCALED, sound & (away != 0))
        mark(CleansingRule.REPEATED, _repeated(values, before, sound, memory.last))
        mark(CleansingRule.SPLIT, _split(values, before, jumps, memory.last))
        spans = values[:, :, Field.HIGH] / values[:, :, Field.LOW]
        extreme = sound & (spans > math.exp(rules.range_max(minutes)))
        if extreme.any():
            wick = extreme & _is_wick(values, extreme)
            mark(CleansingRule.WICK, wick)
            mark(CleansingRule.CRASH, extreme & ~wick)
    return Judged(code, _remembered(close_ms, values, sound, memory, still_n, away))


def without(values: Floats, removed: Flags) -> Floats:
    """Give the values with removed bars absent; the same array when there are none."""
    if not removed.any():
        return values
    kept = values.copy()
    kept[removed] = np.nan
    return kept


@dataclass(slots=True)
class Cleanser:
    """Judge one instant after another, in the pieces in which it becomes known.

    Whether a venue stands still is known when the whole instant is; so still bars wait for the
    piece that is final, all others are judged at once.
    """

    rules: CleansingRules
    minutes: int
    memory: Memory
    venues: Counts | None = None
    removed_n: dict[CleansingRule, int] = field(default_factory=dict)
    _at_ms: int = 0
    _present: Flags = field(default_factory=lambda: np.empty(0, dtype=bool))
    _held: Floats = field(default_factory=lambda: np.empty((0, FIELDS)))

    def take(
        self, close_ms: int, values: Floats, *, is_final: bool
    ) -> tuple[Flags, Flags, Sequence[Removal]]:
        """Judge a piece: which instruments come out now (N,), which wait (N,), what was judged.

        An instrument that waits comes out with the final piece, if it is kept; `held` has its bar.
        """
        if close_ms != self._at_ms:
            self._at_ms = close_ms
            self._present = np.zeros(len(values), dtype=bool)
            self._held = np.full_like(values, np.nan)
        there = ~np.isnan(values).all(axis=1)
        waits = there & is_still(values[None])[0]
        now = there & ~waits
        self._held[waits] = values[waits]
        piece = np.where(now[:, None], values, np.nan)
        if is_final:
            piece = np.where(now[:, None], piece, self._held)
        at_ms = np.array([close_ms], dtype=np.int64)
        rules, minutes, venues = self.rules, self.minutes, self.venues
        judged = judge(at_ms, piece[None], self.memory, rules, minutes, venues, self._present)
        self.memory = judged.memory
        self._present |= now
        records = tuple(judged.records(at_ms))
        for one in records:
            if one.verdict is Verdict.REMOVE:
                self.removed_n[one.rule] = self.removed_n.get(one.rule, 0) + 1
        out: Flags = np.asarray(~np.isnan(piece).all(axis=1) & ~judged.removed[0])
        held: Flags = np.asarray(~np.isnan(self._held).all(axis=1))
        if is_final:
            self._held = np.full_like(values, np.nan)
            held = np.zeros_like(held)
        return out, held, records


# ---- the rules -----------------------------------------------------------------------------------


def _broken(values: Floats) -> Flags:
    open_, high, low, close, volume = (values[..., one] for one in Field)
    broken = ~np.isfinite(values).all(axis=-1) | (low <= 0) | (volume < 0)
    broken |= (high < open_) | (high < close) | (high < low) | (low > open_) | (low > close)
    return np.asarray(broken)


def _bounced(values: Floats) -> Flags:
    open_, high, low, close, _ = (values[..., one] for one in Field)
    wide = high > BOUNCE_RANGE * low
    return np.asarray(wide & (open_ < BOUNCE_BODY * close) & (close < BOUNCE_BODY * open_))


def is_still(values: Floats) -> Flags:
    """Tell which bars show one price and no volume; NaN rows do not."""
    flat = values[..., Field.HIGH] == values[..., Field.LOW]
    return np.asarray(flat & (values[..., Field.VOLUME] == 0))


def _frozen(
    still: Flags,
    there: Flags,
    rules: CleansingRules,
    venues: Counts | None,
    present: Flags | None,
) -> Flags:
    frozen = np.zeros_like(still)
    if not still.any():
        return frozen
    counted = there if present is None else there | present[None]
    group = np.zeros(still.shape[1], dtype=np.int64) if venues is None else venues
    for venue in np.unique(group).tolist():
        mine = group == venue
        still_n = np.count_nonzero(still[:, mine], axis=1)
        all_n = np.count_nonzero(counted[:, mine], axis=1)
        stands = (still_n >= rules.frozen_least_n) & (still_n >= rules.frozen_share * all_n)
        frozen |= still & mine[None] & stands[:, None]
    return frozen


def _still_runs(still: Flags, sound: Flags, before_n: Counts) -> Counts:
    """Count still bars in a row up to each row, (T, N); absent rows neither count nor end a run."""
    if not still.any() and not before_n.any():
        return np.zeros(still.shape, dtype=np.int64)
    total = before_n[None] + np.cumsum(still, axis=0)
    ended = np.where(sound & ~still, total, 0)
    return np.asarray(total - np.maximum.accumulate(ended, axis=0))


def _rows_before(sound: Flags) -> Counts:
    """Give the row of the last sound bar before each row, -1 where memory must say, (T, N)."""
    rows = np.where(sound, np.arange(len(sound))[:, None], -1)
    newest = np.maximum.accumulate(rows, axis=0)
    return np.concatenate([np.full((1, sound.shape[1]), -1), newest[:-1]])


def _of_before(values: Floats, before: Counts, last: Floats, one: Field) -> Floats:
    column = values[:, :, one]
    taken = np.take_along_axis(column, np.maximum(before, 0), axis=0)
    return np.where(before >= 0, taken, last[None, :, one])


def _jumps(values: Floats, before: Counts, sound: Flags, last: Floats) -> Floats:
    """Give open over the close before, 1 where there is none, (T, N)."""
    ratio = values[:, :, Field.OPEN] / _of_before(values, before, last, Field.CLOSE)
    return np.where(sound & np.isfinite(ratio), ratio, 1.0)


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


def _scales(jumps: Floats, away: Counts) -> Counts:
    steps = scale_steps(jumps)
    if not steps.any() and not away.any():
        return steps
    return np.asarray(away[None] + np.cumsum(steps, axis=0))


def _repeated(values: Floats, before: Counts, sound: Flags, last: Floats) -> Flags:
    moved = sound & (values[:, :, Field.HIGH] > values[:, :, Field.LOW])
    same = moved
    for one in (Field.VOLUME, Field.CLOSE, Field.HIGH, Field.LOW, Field.OPEN):
        if not same.any():
            break
        same = same & (values[:, :, one] == _of_before(values, before, last, one))
    return same


def _split(values: Floats, before: Counts, jumps: Floats, last: Floats) -> Flags:
    found = np.zeros(jumps.shape, dtype=bool)
    large: Flags = np.asarray((jumps > 1.9) | (jumps < 1 / 1.9))
    if not large.any():
        return found
    size = np.abs(np.log(jumps[large])).reshape(-1, 1)
    near = np.asarray((np.abs(size - np.log(SPLITS)) < SPLIT_TOLERANCE).any(axis=1))
    more = values[:, :, Field.VOLUME] / _of_before(values, before, last, Field.VOLUME)
    other_way: Flags = np.asarray(np.where(jumps > 1, more < 1, more > 1))
    found[large] = near
    found &= other_way
    return found


def _is_wick(values: Floats, extreme: Flags) -> Flags:
    wick = np.zeros(extreme.shape, dtype=bool)
    bars = values[extreme]
    body = np.abs(np.log(bars[:, Field.CLOSE] / bars[:, Field.OPEN]))
    span = np.log(bars[:, Field.HIGH] / bars[:, Field.LOW])
    wick[extreme] = body < WICK_BODY_SHARE * span
    return wick


def _remembered(
    close_ms: Instants, values: Floats, sound: Flags, memory: Memory, still_n: Counts, away: Counts
) -> Memory:
    any_bar: Flags = np.asarray(sound.any(axis=0))
    newest = len(sound) - 1 - np.argmax(sound[::-1], axis=0)
    bars = values[newest, np.arange(values.shape[1])]
    last = np.where(any_bar[:, None], bars, memory.last)
    last_ms = np.where(any_bar, close_ms[newest], memory.last_ms)
    return Memory(last, last_ms, still_n[-1].copy(), away[-1].copy())
