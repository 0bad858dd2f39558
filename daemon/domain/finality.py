"""Which source bars are final, and by which proof.

A bar is final when the stream showed its successor after priming, or when it was read again by REST
after its close: with its successor in the same answer, or after the venue showed the next bar of
another instrument. The first rows after a subscription only prime: they were there before us and
prove nothing. The local clock is no proof.
An emitted bar never changes; if REST later shows other values, that is a `Correction`, and a stream
that shows other ones is a `Contradiction`, which somebody should ask REST about.

Readings of one forming bar are merged by progress (`_progress`), not by arrival: volume and high
never fall and low never rises while a bar forms, and a row that the venue flags as closed outranks
every other; of two such rows, the one that the venue told later. So order and repetition of
readings do not matter. This module does no input or output.

A stalled stream may show the successor while its last row of the bar before is old. A successor
therefore proves only a flagged row; any other is a *suspect* that must be read again. Where the
venue flags nothing (`confirms` is False) each bar is one, and an answer of REST with the very
values that the stream showed confirms them: such a bar counts as proven by the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain.bar import FIELDS, Field, Floats, Proof
from daemon.domain.units import Timeframe, require

BarValues = tuple[float, float, float, float, float]
_Progress = tuple[bool, int, float, float, float, float, float]
FINAL_BARS_KEPT = 512
"""Bars per instrument whose emitted values are remembered, so that corrections are noticed."""
BEGUN_KEPT = 4


@dataclass(frozen=True, slots=True)
class Reading:
    """Hold one reading of one bar: open, high, low, close, volume.

    confirmed: the venue itself flagged this row as closed. told_ms: when the venue said so by its
    own clock, 0 unknown.
    """

    open_ms: int
    values: BarValues
    confirmed: bool = False
    told_ms: int = 0


@dataclass(frozen=True, slots=True)
class FinalBar:
    """Tell that a bar of instrument `index` is final; values as in `Field`."""

    index: int
    close_ms: int
    values: BarValues
    proof: Proof


@dataclass(frozen=True, slots=True)
class Correction:
    """Tell that an authoritative source now shows other values for a bar that was final."""

    index: int
    close_ms: int
    before: BarValues
    after: BarValues
    shown_by: Proof


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Tell that the stream now shows other values for a bar that was final: ask REST about it."""

    index: int
    close_ms: int
    values: BarValues


Verdict = FinalBar | Correction | Contradiction


@dataclass(slots=True)
class _Forming:
    """Hold the furthest reading of a bar and the stream epoch that showed it last.

    disputed: two flagged rows differ, and nothing tells which one the venue said last.
    """

    reading: Reading
    epoch: int
    disputed: bool = False


class _Column:
    """Keep what is known about the bars of one instrument."""

    __slots__ = ("after_ms", "epoch", "final", "forming", "newest_ms", "primed_ms")

    def __init__(self, after_ms: int) -> None:
        self.after_ms = after_ms
        self.epoch = 0
        self.primed_ms: int | None = None
        self.newest_ms: int | None = None
        self.forming: dict[int, _Forming] = {}
        self.final: dict[int, Reading] = {}


class FinalityGate:
    """Judge readings of N instruments; tell each bar that closes after `after_ms` once."""

    def __init__(
        self, instruments_n: int, timeframe: Timeframe, after_ms: int, *, confirms: bool = False
    ) -> None:
        self._columns = [_Column(after_ms) for _ in range(instruments_n)]
        self._length_ms = timeframe.ms
        self._confirms = confirms
        self._market_ms = after_ms
        self._ahead_ms: int | None = None
        self._begun_ms: dict[int, int] = {}  # opening of a bar -> when we first saw one like it
        self._newest_begun_ms = 0
        self.ahead_n = 0
        """Rows of the stream that were left out because their bars cannot have begun."""

    def reach(self, market_ms: int) -> None:
        """Note market time: rows that open more than a bar after it are nobody's word."""
        self._market_ms = market_ms
        self._ahead_ms = market_ms + self._length_ms

    def possible(self, readings: Sequence[Reading]) -> Sequence[Reading]:
        """Leave out the rows of bars that cannot have begun; before `reach` there are none."""
        ahead_ms = self._ahead_ms
        if ahead_ms is None:
            return readings
        return [reading for reading in readings if reading.open_ms <= ahead_ms]

    def seed(self, index: int, close_ms: int, values: BarValues) -> None:
        """Take a bar that was told before this gate was made, so that corrections are noticed."""
        column = self._columns[index]
        if close_ms <= column.after_ms:
            open_ms = close_ms - self._length_ms
            column.final[open_ms] = Reading(open_ms, values)

    def admit(self, index: int, after_ms: int) -> None:
        """Begin anew with the bars of one instrument that close after `after_ms`."""
        self._columns[index] = _Column(after_ms)

    def owe(self, index: int, after_ms: int) -> None:
        """Tell the bars of one instrument that close after an earlier instant, too."""
        column = self._columns[index]
        column.after_ms = min(column.after_ms, after_ms)

    def subscribed(self, index: int) -> None:
        """Start a new stream epoch: the next rows prime, and older rows no longer count."""
        column = self._columns[index]
        column.epoch += 1
        column.primed_ms = None
        column.newest_ms = None

    def see_stream(self, index: int, readings: Sequence[Reading]) -> list[Verdict]:
        """Take rows that the stream showed, in any order; give what they settle."""
        shown_n = len(readings)
        readings = self.possible(readings)
        self.ahead_n += shown_n - len(readings)
        self._note_begun(readings, self._market_ms)
        if not readings:
            return []
        column = self._columns[index]
        newest_ms = max(reading.open_ms for reading in readings)
        primes = column.primed_ms is None
        if primes:
            column.primed_ms = newest_ms
        elif newest_ms > (column.newest_ms or column.primed_ms or 0):
            column.newest_ms = newest_ms
        verdicts: list[Verdict] = []
        for reading in readings:
            self._require_on_grid(reading.open_ms)
            if reading.open_ms in column.final:
                if not primes:
                    verdicts += self._contradicted_by_stream(column, index, reading)
            else:
                self._merge(column, reading, column.epoch)
        return verdicts + self._proven_by_successor(column, index)

    def see_reread(
        self, index: int, readings: Sequence[Reading], *, read_ms: int, grace_ms: int = 0
    ) -> list[Verdict]:
        """Take a REST answer that was asked for at market time `read_ms`.

        A row is closed if its successor is in the same answer. Without it, our clock must lie
        `grace_ms` past its close (venues answer from copies that lag), and some instrument must
        have shown a later bar as long before we asked: our clock may be wrong. Other rows are still
        forming. Without grace the market stands still while we ask, and what has closed by
        `read_ms` is closed.
        """
        column = self._columns[index]
        readings = self.possible(readings)
        self._note_begun(readings, read_ms)
        newest_ms = max((reading.open_ms for reading in readings), default=0)
        verdicts: list[Verdict] = []
        for reading in sorted(readings, key=lambda reading: reading.open_ms):
            self._require_on_grid(reading.open_ms)
            close_ms = reading.open_ms + self._length_ms
            if newest_ms < close_ms and not self.is_past(close_ms, read_ms, grace_ms):
                if reading.open_ms not in column.final:
                    self._merge(column, reading, epoch=-1)
            elif reading.open_ms in column.final:
                verdicts += self._corrected(column, index, reading, Proof.REREAD)
            elif close_ms > column.after_ms:
                agrees = not self._confirms and self._showed(column, reading)
                proof = Proof.SUCCESSOR if agrees else Proof.REREAD
                verdicts.append(self._finish(column, index, reading, proof))
        return verdicts

    def _note_begun(self, readings: Sequence[Reading], at_ms: int) -> None:
        """Remember since when the venue is known to be in a bar, or in a later one."""
        newest_ms = max((reading.open_ms for reading in readings), default=0)
        if newest_ms > self._newest_begun_ms:
            self._newest_begun_ms = newest_ms
            self._begun_ms[newest_ms] = at_ms
            while len(self._begun_ms) > BEGUN_KEPT:
                del self._begun_ms[min(self._begun_ms)]

    def is_past(self, close_ms: int, read_ms: int, grace_ms: int) -> bool:
        """Tell whether a bar had closed `grace_ms` before `read_ms`: our clock and the venue agree.

        The venue's word is a later bar of any instrument. Without grace our clock is enough.
        """
        if read_ms < close_ms + grace_ms:
            return False
        since = [at_ms for open_ms, at_ms in self._begun_ms.items() if open_ms >= close_ms]
        return not grace_ms or read_ms >= min(since, default=read_ms + 1) + grace_ms

    def is_final(self, index: int, close_ms: int) -> bool:
        """Tell whether the bar that closes at `close_ms` was told."""
        return close_ms - self._length_ms in self._columns[index].final

    def final_values(self, index: int, close_ms: int) -> BarValues | None:
        """Give the values last told of a bar, None if it was not told (or long ago)."""
        known = self._columns[index].final.get(close_ms - self._length_ms)
        return known.values if known else None

    def is_suspect(self, index: int, close_ms: int) -> bool:
        """Tell whether the stream went past this bar without proving it: waiting is in vain.

        That is so once a row beyond it was seen (as priming row too) and the bar is not final.
        """
        column = self._columns[index]
        seen_ms = max(column.newest_ms or 0, column.primed_ms or 0)
        return seen_ms >= close_ms and not self.is_final(index, close_ms)

    def shown(self, index: int, close_ms: int) -> bool:
        """Tell whether the current stream showed this bar or anything after it."""
        column = self._columns[index]
        known = column.forming.get(close_ms - self._length_ms)
        seen_ms = max(column.newest_ms or 0, column.primed_ms or 0)
        return seen_ms >= close_ms or (known is not None and known.epoch == column.epoch)

    def opens_at(self, at_ms: int) -> Floats:
        """Give the first price of the bars that start at `at_ms`, shape (N,), NaN if unknown."""
        opens = np.full(len(self._columns), np.nan)
        for index, column in enumerate(self._columns):
            forming = column.forming.get(at_ms)
            reading = forming.reading if forming else column.final.get(at_ms)
            if reading is not None:
                opens[index] = reading.values[Field.OPEN]
        return opens

    def _require_on_grid(self, open_ms: int) -> None:
        require(open_ms % self._length_ms == 0, f"bar at {open_ms} is off the grid")

    def _merge(self, column: _Column, reading: Reading, epoch: int) -> None:
        """Keep the further of the known reading and this one; remember the newest epoch."""
        require(len(reading.values) == FIELDS, f"{len(reading.values)} values: want {FIELDS}")
        if reading.open_ms + self._length_ms <= column.after_ms:
            return
        known = column.forming.get(reading.open_ms)
        if known is None:
            column.forming[reading.open_ms] = _Forming(reading, epoch)
            return
        known.epoch = max(known.epoch, epoch)
        before = known.reading
        both = before.confirmed and reading.confirmed
        if both and before.told_ms == reading.told_ms:
            known.disputed |= before.values != reading.values
        if _progress(reading) > _progress(before):
            known.reading = reading
            known.disputed &= before.told_ms == reading.told_ms

    def _proven_by_successor(self, column: _Column, index: int) -> list[Verdict]:
        """Finish each flagged bar that this epoch saw forming and whose fresh successor it showed.

        Elsewhere, and where two flagged rows differ, REST must tell.
        """
        if column.newest_ms is None or not self._confirms:
            return []
        proven = [
            forming.reading
            for open_ms, forming in sorted(column.forming.items())
            if forming.reading.confirmed
            and not forming.disputed
            and self._went_past(column, open_ms, forming)
        ]
        return [self._finish(column, index, reading, Proof.SUCCESSOR) for reading in proven]

    def _went_past(self, column: _Column, open_ms: int, forming: _Forming) -> bool:
        """Tell whether the current epoch showed this bar after priming, and then its successor."""
        primed_ms, newest_ms = column.primed_ms, column.newest_ms
        if primed_ms is None or newest_ms is None:
            return False
        return primed_ms <= open_ms < newest_ms and forming.epoch == column.epoch

    def _showed(self, column: _Column, reading: Reading) -> bool:
        """Tell whether the stream proved, by a successor, the values that REST shows too."""
        known = column.forming.get(reading.open_ms)
        if known is None or known.reading.values != reading.values:
            return False
        return self._went_past(column, reading.open_ms, known)

    def _finish(self, column: _Column, index: int, reading: Reading, proof: Proof) -> FinalBar:
        column.forming.pop(reading.open_ms, None)
        column.final[reading.open_ms] = reading
        while len(column.final) > FINAL_BARS_KEPT:
            oldest_ms = min(column.final)
            del column.final[oldest_ms]
            column.after_ms = max(column.after_ms, oldest_ms + self._length_ms)
        for open_ms in [o for o in column.forming if o + self._length_ms <= column.after_ms]:
            del column.forming[open_ms]
        return FinalBar(index, reading.open_ms + self._length_ms, reading.values, proof)

    def _contradicted_by_stream(
        self, column: _Column, index: int, reading: Reading
    ) -> list[Verdict]:
        """Doubt a final bar for a flagged row; without flags, for one with more progress.

        A row that the venue told before the one we believed is only late.
        """
        known = column.final[reading.open_ms]
        late = reading.told_ms < known.told_ms
        further = not self._confirms and _progress(reading)[2:] > _progress(known)[2:]
        if known.values == reading.values or not (further or (reading.confirmed and not late)):
            return []
        return [Contradiction(index, reading.open_ms + self._length_ms, reading.values)]

    def _corrected(
        self, column: _Column, index: int, reading: Reading, shown_by: Proof
    ) -> list[Verdict]:
        before = column.final[reading.open_ms].values
        if before == reading.values:
            return []
        column.final[reading.open_ms] = reading
        close_ms = reading.open_ms + self._length_ms
        return [Correction(index, close_ms, before, reading.values, shown_by)]


def _progress(reading: Reading) -> _Progress:
    """Order the readings of one forming bar: flagged, then volume, widest range, then the rest.

    Of flagged rows the one that the venue told last is its word, even if it takes volume back. The
    last two places only make the order total, so that merging does not depend on arrival.
    """
    opened, high, low, close, volume = reading.values
    told_ms = reading.told_ms if reading.confirmed else 0
    return (reading.confirmed, told_ms, volume, high, -low, close, opened)
