"""Aggregate final source bars into longer ones: one builder for live, replay and batch.

Buckets are anchored at 00:00 UTC. A derived bar of one instrument exists only when all its source
bars are there; it is emitted exactly once, however its parts arrived. Fold, in time order:

    open = first open    high = max    low = min    close = last close    volume = ((v1 + v2) + ...)

Memory is a ring of source rows that moves forward in whole blocks. A block is a common multiple of
the bar lengths, so that a bucket is always one contiguous slice of the ring.
This module knows nothing of feeds, files or deadlines; who is late is the caller's question.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import FIELDS, CrossSection, Field, Flags, Floats, Proof
from daemon.domain.failures import ConfigurationError, InvariantViolated
from daemon.domain.scales import rescaled_bars
from daemon.domain.units import DAY_MINUTES, Timeframe, require

Instants = npt.NDArray[np.int64]

HORIZON_LONGEST_BARS: Final = 3
_CHUNK_ROWS: Final = 32768  # source rows x instruments that one batch step holds in the cache
_NO_CELLS: Final = np.empty(0, dtype=np.int64)


def _bars_per(source: Timeframe, timeframe: Timeframe) -> int:
    if timeframe.minutes % source.minutes:
        raise ConfigurationError(
            f"timeframe {timeframe.label}: must be a multiple of the source length {source.label}"
        )
    return timeframe.minutes // source.minutes


def _fold(rows: Floats) -> Floats:
    bars: Floats = rows[0].copy()  # (k, N, 5) -> (N, 5)
    np.maximum.reduce(rows[..., Field.HIGH], axis=0, out=bars[:, Field.HIGH])
    np.minimum.reduce(rows[..., Field.LOW], axis=0, out=bars[:, Field.LOW])
    bars[:, Field.CLOSE] = rows[-1, :, Field.CLOSE]
    _sum_in_order(rows[..., Field.VOLUME], bars[:, Field.VOLUME])
    return bars


def _sum_in_order(volumes: Floats, out: Floats) -> None:
    # (..., k, N) -> (..., N). Numpy drops axes of length one; were k then the innermost axis, it
    # would add pairwise, which rounds differently. So some longer axis must stay inside.
    if volumes.shape[-1] > 1:
        np.add.reduce(volumes, axis=-2, out=out)
    elif volumes.ndim > 2 and len(volumes) > 1:
        np.add.reduce(np.ascontiguousarray(volumes[..., 0].T), axis=0, out=out[..., 0])
    else:
        out[...] = np.add.accumulate(volumes, axis=-2)[..., -1, :]


def _when(bars: CrossSection) -> tuple[int, int]:
    return bars.close_ms, bars.timeframe.minutes


class _Buckets:
    """Count, for each bucket of one timeframe in the ring, how many source rows have come."""

    __slots__ = ("filled", "k", "ms", "timeframe", "whole")

    def __init__(self, timeframe: Timeframe, k: int, rows_n: int) -> None:
        self.timeframe = timeframe
        self.ms = timeframe.ms
        self.k = k
        self.filled = [0] * (rows_n // k)  # rows of which any instrument is there
        self.whole = [0] * (rows_n // k)  # rows of which every instrument is there


class BarBuilder:
    """Turn final source bars of N instruments, in any order, into each derived bar exactly once.

    `too_late_n` counts source bars that came after the horizon (at least three of the longest bars
    and a day before the newest close) and were ignored; `malformed_n` counts bars that were called
    present but held a NaN or an infinity: those are treated as missing.
    """

    def __init__(
        self, source: Timeframe, timeframes: Sequence[Timeframe], instruments_n: int
    ) -> None:
        require(instruments_n > 0, f"{instruments_n} instruments: a builder needs at least one")
        if not timeframes or len(set(timeframes)) != len(timeframes):
            labels = ", ".join(t.label for t in timeframes) or "none"
            raise ConfigurationError(f"timeframes {labels}: name at least one, each once")
        self.source = source
        self.timeframes = tuple(sorted(timeframes))
        lengths = [_bars_per(source, timeframe) for timeframe in self.timeframes]
        horizon_n = max(HORIZON_LONGEST_BARS * max(lengths), DAY_MINUTES // source.minutes)
        common = math.lcm(*lengths)
        self._block_n = common * max(horizon_n // (2 * common), 1)
        self._rows_n = (-(-horizon_n // self._block_n) + 1) * self._block_n
        self._instruments_n = instruments_n
        self._source_ms = source.ms
        self._buckets = tuple(
            _Buckets(timeframe, k, self._rows_n)
            for timeframe, k in zip(self.timeframes, lengths, strict=True)
        )
        self._nobody: Flags = np.zeros(instruments_n, dtype=np.bool_)
        self._everyone: Flags = np.ones(instruments_n, dtype=np.bool_)
        self._everyone_bytes = self._everyone.tobytes()
        self._finite_bytes = self._everyone_bytes * FIELDS
        # who is there, per slot: never changed in place, and exactly these two objects at the
        # ends, so that `is` answers the common questions without a look into arrays
        self._taken = [self._nobody] * self._rows_n
        self._keeps_values = max(lengths) > 1
        self._values: Floats = np.zeros((self._rows_n, instruments_n, FIELDS))
        self._base = self._end = 0  # source rows (open / length) that the ring holds: [base, end)
        self._derived = np.full(instruments_n, Proof.DERIVED, dtype=np.uint8)
        self._derived.flags.writeable = False  # shared by all complete cross-sections
        self.too_late_n = 0
        self.malformed_n = 0

    def add(self, close_ms: int, values: Floats, present: Flags) -> list[CrossSection]:
        """Absorb final source bars that closed at `close_ms` and give the bars they complete.

        values: (N, 5), present: (N,) bool. A bar already taken stays as it is. The answer is in
        the order of (close_ms, timeframe) and holds in each cross-section only the instruments
        completed now. Raises InvariantViolated for an instant off the source's grid.
        """
        row, off_grid = divmod(close_ms, self._source_ms)
        if off_grid:
            raise InvariantViolated(f"{close_ms} is no close of a {self.source.label} bar")
        row -= 1
        if row >= self._end:
            self._advance(row)
        elif row < self._base:
            self.too_late_n += int(np.count_nonzero(present))
            return []
        slot = row % self._rows_n
        fresh = self._fresh(slot, values, present)
        if fresh is None:
            return []
        if fresh is self._everyone and not self._keeps_values:  # the source is the one timeframe
            self._taken[slot] = fresh
            return [CrossSection(self.source, close_ms, values, self._derived)]
        return self._take(row, slot, values, fresh)

    def _fresh(self, slot: int, values: Floats, present: Flags) -> Flags | None:
        taken = self._taken[slot]
        finite = np.isfinite(values)
        # bytes compare several times faster than arrays reduce, and mostly all is there
        if (
            taken is self._nobody
            and present.tobytes() == self._everyone_bytes
            and finite.tobytes() == self._finite_bytes
        ):
            return self._everyone
        fresh: Flags = present & finite.all(axis=1)
        self.malformed_n += int(np.count_nonzero(present) - np.count_nonzero(fresh))
        if taken is not self._nobody:
            fresh &= ~taken
        return fresh if fresh.any() else None

    def _take(self, row: int, slot: int, values: Floats, fresh: Flags) -> list[CrossSection]:
        is_first = self._taken[slot] is self._nobody
        if fresh is self._everyone:
            self._taken[slot] = fresh
            self._values[slot] = values
        else:
            self._taken[slot] = self._canonical(self._taken[slot] | fresh)
            if self._keeps_values:
                self._values[slot, fresh] = values[fresh]
        is_whole = self._taken[slot] is self._everyone
        done: list[CrossSection] = []
        for buckets in self._buckets:
            at = slot // buckets.k
            buckets.filled[at] += is_first
            buckets.whole[at] += is_whole
            if buckets.filled[at] == buckets.k:
                bars = self._emit(buckets, row // buckets.k, values, fresh)
                if bars is not None:
                    done.append(bars)
        if len(done) > 1:
            done.sort(key=_when)
        return done

    def _emit(
        self, buckets: _Buckets, bucket: int, values: Floats, fresh: Flags
    ) -> CrossSection | None:
        k, close_ms = buckets.k, (bucket + 1) * buckets.ms
        at = bucket % len(buckets.filled)
        rows = slice(at * k, at * k + k)
        if fresh is self._everyone and buckets.whole[at] == k:
            bars = values if k == 1 else _fold(self._values[rows])
            return CrossSection(buckets.timeframe, close_ms, bars, self._derived)
        # a source bar is fresh once, so what it completes was not complete before: emitted once
        complete = fresh & np.logical_and.reduce(self._taken[rows])
        if not complete.any():
            return None
        bars = values.copy() if k == 1 else _fold(self._values[rows])
        bars[~complete] = np.nan
        proof = np.where(complete, np.uint8(Proof.DERIVED), np.uint8(Proof.ABSENT))
        return CrossSection(buckets.timeframe, close_ms, bars, proof)

    def _advance(self, row: int) -> None:
        end = (row // self._block_n + 1) * self._block_n
        for start in range(max(self._end, end - self._rows_n), end, self._block_n):
            slot = start % self._rows_n
            self._taken[slot : slot + self._block_n] = [self._nobody] * self._block_n
            for buckets in self._buckets:
                first, n = slot // buckets.k, self._block_n // buckets.k
                buckets.filled[first : first + n] = [0] * n
                buckets.whole[first : first + n] = [0] * n
        self._end = end
        self._base = end - self._rows_n

    def missing(self, timeframe: Timeframe, close_ms: int) -> Flags:
        """Tell which instruments' bar of that close was not (yet) emitted, shape (N,).

        All are missing at a close that is newer than every input or older than the horizon.
        """
        buckets = self._of(timeframe)
        require(timeframe.closes_at(close_ms), f"{close_ms} is no close of a {timeframe.label} bar")
        first = (close_ms // buckets.ms - 1) * buckets.k
        if not self._base <= first < self._end:
            return self._everyone.copy()
        slot = first % self._rows_n
        emitted: Flags = np.logical_and.reduce(self._taken[slot : slot + buckets.k])
        return ~emitted

    def _of(self, timeframe: Timeframe) -> _Buckets:
        for buckets in self._buckets:
            if buckets.timeframe == timeframe:
                return buckets
        built = ", ".join(t.label for t in self.timeframes)
        raise InvariantViolated(f"no {timeframe.label} bars are built here, only {built}")

    def rescale(self, index: int, at_ms: int, new_n: int, old_n: int) -> None:
        """Keep the source bars of one instrument that closed by `at_ms` in new units."""
        for row in range(self._base, min(at_ms // self._source_ms, self._end)):
            bar = self._values[row % self._rows_n, index]
            bar[:] = rescaled_bars(bar, new_n, old_n)

    def state(self) -> dict[str, object]:
        """Give all that later bars depend on as plain values and arrays, for a snapshot.

        Source bars whose derived bars have all been emitted are left out: none is read again.
        """
        taken = np.stack(self._taken)
        cells = np.flatnonzero(taken & ~self._spent(taken)) if self._keeps_values else _NO_CELLS
        return {
            "source": self.source.label,
            "timeframes": [timeframe.label for timeframe in self.timeframes],
            "instruments_n": self._instruments_n,
            "end": self._end,
            "too_late_n": self.too_late_n,
            "malformed_n": self.malformed_n,
            "taken": np.packbits(taken),
            "cells": cells.astype(np.int64),
            "values": self._values.reshape(-1, FIELDS)[cells],
        }

    def _spent(self, taken: Flags) -> Flags:
        spent = np.ones_like(taken)
        for buckets in self._buckets:
            emitted = taken.reshape(-1, buckets.k, self._instruments_n).all(axis=1)
            spent &= np.repeat(emitted, buckets.k, axis=0)
        return spent

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave; raise InvariantViolated when it is of other dimensions."""
        labels = [timeframe.label for timeframe in self.timeframes]
        ours = (self.source.label, labels, self._instruments_n)
        theirs = (state["source"], list(state["timeframes"]), state["instruments_n"])
        require(ours == theirs, f"saved bars are of {theirs}; this builder is of {ours}")
        taken = _unpacked(state["taken"], (self._rows_n, self._instruments_n))
        self._end = int(state["end"])
        self._base = self._end - self._rows_n if self._end else 0
        self.too_late_n = int(state["too_late_n"])
        self.malformed_n = int(state["malformed_n"])
        self._taken = [self._canonical(row) for row in taken]
        some, every = taken.any(axis=1), taken.all(axis=1)
        for buckets in self._buckets:
            buckets.filled = [int(n) for n in some.reshape(-1, buckets.k).sum(axis=1)]
            buckets.whole = [int(n) for n in every.reshape(-1, buckets.k).sum(axis=1)]
        self._values[:] = 0.0
        self._values.reshape(-1, FIELDS)[state["cells"]] = state["values"]

    def _canonical(self, row: Flags) -> Flags:
        if row.all():
            return self._everyone
        return row if row.any() else self._nobody


def _unpacked(bits: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> Flags:
    count = math.prod(shape)
    require(len(bits) == -(-count // 8), f"{len(bits)} bytes of flags; want {count} flags")
    return np.unpackbits(bits, count=count).astype(np.bool_).reshape(shape)


def aggregate(
    open_ms: Instants, values: Floats, source: Timeframe, timeframe: Timeframe
) -> tuple[Instants, Floats]:
    """Build all derived bars of a panel at once, equal to the bit to what BarBuilder emits.

    open_ms: (T,) ascending opens on the source's grid, holes allowed; values: (T, N, 5), NaN where
    an instrument has no bar. Gives close_ms (T',), every close of `timeframe` after the first open
    up to the last source close, and values (T', N, 5), NaN where any source bar is missing.
    """
    return aggregate_all(open_ms, values, source, (timeframe,))[0]


def aggregate_all(
    open_ms: Instants, values: Floats, source: Timeframe, timeframes: Sequence[Timeframe]
) -> list[tuple[Instants, Floats]]:
    """Do `aggregate` for several timeframes in one pass over the panel, which is much faster."""
    lengths = [_bars_per(source, timeframe) for timeframe in timeframes]
    T, N = values.shape[:2]
    require(len(open_ms) == T, f"{len(open_ms)} opens for {T} rows")
    results = [_empty_bars(open_ms, N, source, timeframe) for timeframe in timeframes]
    common, part_n = math.lcm(*lengths), math.gcd(*lengths)
    step = common * max(_CHUNK_ROWS // (common * N), 1)
    for start, end in _unbroken(open_ms, source):
        row = int(open_ms[start]) // source.ms
        to_common = -row % common
        for cut in (start, *range(start + to_common or start + step, end, step)):
            stop = min(end, start + to_common if cut < start + to_common else cut + step)
            first = cut + -(row + cut - start) % part_n
            chunk = _Chunk(values[first:stop], part_n, row + first - start)
            for k, (closes, bars) in zip(lengths, results, strict=True):
                if len(closes):
                    chunk.fold_into(bars, k, int(closes[0]) // (k * source.ms) - 1)
    return results


class _Chunk:
    """Hold a stretch of unbroken source rows with what all timeframes share of it.

    Highs, lows and holes are found once per part (the greatest common divisor of the lengths);
    volumes are not, because they must be added in time order from the start of each bar.
    """

    def __init__(self, rows: Floats, part_n: int, row: int) -> None:
        self._rows = rows
        self._part_n = part_n
        self._row = row  # number of the first row since the epoch, a multiple of part_n
        n = len(rows) // part_n
        parts = rows[: n * part_n].reshape(n, part_n, *rows.shape[1:])  # (n, part_n, N, 5)
        self._highs: Floats = np.maximum.reduce(parts[..., Field.HIGH], axis=1)  # (n, N)
        self._lows: Floats = np.minimum.reduce(parts[..., Field.LOW], axis=1)
        finite = np.isfinite(parts)
        self._whole: Flags | None = None
        if not finite.all():
            self._whole = np.logical_and.reduce(finite, axis=(1, 3))

    def fold_into(self, bars: Floats, k: int, first_bucket: int) -> None:
        skip = -self._row % k
        n = (len(self._rows) - skip) // k
        if n <= 0:
            return
        rows = self._rows[skip : skip + n * k].reshape(n, k, *self._rows.shape[1:])
        parts = slice(skip // self._part_n, (skip + n * k) // self._part_n)
        by_bar = (n, k // self._part_n, self._rows.shape[1])
        at = (self._row + skip) // k - first_bucket
        out = bars[at : at + n]  # (n, N, 5)
        out[..., Field.OPEN] = rows[:, 0, :, Field.OPEN]
        np.maximum.reduce(self._highs[parts].reshape(by_bar), axis=1, out=out[..., Field.HIGH])
        np.minimum.reduce(self._lows[parts].reshape(by_bar), axis=1, out=out[..., Field.LOW])
        out[..., Field.CLOSE] = rows[:, -1, :, Field.CLOSE]
        _sum_in_order(rows[..., Field.VOLUME], out[..., Field.VOLUME])
        if self._whole is not None:
            out[~self._whole[parts].reshape(by_bar).all(axis=1)] = np.nan


def _empty_bars(
    open_ms: Instants, N: int, source: Timeframe, timeframe: Timeframe
) -> tuple[Instants, Floats]:
    if not len(open_ms):
        return np.empty(0, dtype=np.int64), np.empty((0, N, FIELDS))
    first, last = int(open_ms[0]) // timeframe.ms, (int(open_ms[-1]) + source.ms) // timeframe.ms
    closes = (np.arange(first, last, dtype=np.int64) + 1) * timeframe.ms
    return closes, np.full((len(closes), N, FIELDS), np.nan)


def _unbroken(open_ms: Instants, source: Timeframe) -> Iterator[tuple[int, int]]:
    if not len(open_ms):
        return
    distances = np.diff(open_ms)
    breaks = np.flatnonzero(distances != source.ms) + 1
    require(bool((distances[breaks - 1] > 0).all()), "opens must ascend, each once")
    starts = [0, *breaks.tolist()]
    off_grid = (open_ms[starts] % source.ms).any()
    require(not off_grid, f"an open is off the {source.label} grid")
    yield from zip(starts, [*starts[1:], len(open_ms)], strict=True)
