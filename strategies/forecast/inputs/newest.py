"""Compute the features of one more bar from what the bars before it left behind.

Everything that a further row needs is kept: log closes, sums over 1, 2, 4 .. 32 bars, and the last
values of what is scored against its own past. A sum over 64 bars is then one addition of two kept
sums, in the very order in which `features` adds, so that the row is the same to the bit. Bars of
several timeframes that close together are computed together, one row each. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

import numpy as np

from daemon.domain.bar import Floats, Window
from daemon.domain.units import Timeframe, require
from strategies.forecast.inputs.features import (
    CLIP,
    FEATURES_N,
    FILL_BARS,
    MAD_TO_SIGMA,
    RETURN_BARS,
    SCALE_BARS,
    SIGMA_BARS,
    SIGMA_SHORT_BARS,
    Prepared,
    Sums,
    across,
    combine,
    day_table,
    in_order,
    logged,
    long_terms,
    prepare,
    robust,
    rows_of,
    sum_over,
    terms_of,
)
from strategies.forecast.inputs.windows import SEQUENCE_BARS, padded, window_bars

_ROOM: Final = 8  # sequences of rows that are written before the last one moves to the front
_MIDDLE: Final = SCALE_BARS // 2  # the median lies between this place in order and the one below
_HALVINGS: Final = (16, 8, 4, 2, 1)  # of the _MIDDLE places in the lower half
_WIDTHS: Final = tuple(2**i for i in range(SIGMA_BARS.bit_length() - 1))  # 1, 2, 4 .. 32


class FeatureRows:
    """Keep the feature rows of the last windows, so that the next ones cost a row each.

    A row depends to the bit on its last FEATURE_MEMORY_BARS bars only: what was kept is used when
    the window is the last one moved on by one bar, unchanged to the bit; else everything is
    computed anew. The answer is the same either way.
    """

    def __init__(self, sequence_bars: int = SEQUENCE_BARS) -> None:
        self._bars = sequence_bars
        self._kept: dict[Timeframe, _Kept] = {}

    def newest(self, windows: Sequence[Window]) -> list[Floats]:
        """Give each window's last `sequence_bars` feature rows (L, N, F).

        They are to be read before the next call. Windows that are too short give NaN rows first.
        Raises InvariantViolated where a timeframe comes twice.
        """
        timeframes = [window.timeframe for window in windows]
        require(len(set(timeframes)) == len(timeframes), "two windows of one timeframe at once")
        following: list[_Kept] = []
        for window in windows:
            values = padded(window.values, window_bars(self._bars))
            whole = Window(window.timeframe, window.newest_ms, values)
            kept = self._kept.get(window.timeframe)
            if kept is not None and kept.continues(whole):
                kept.follow(whole)
                following.append(kept)
            else:
                self._kept[window.timeframe] = _Kept(whole, self._bars)
        for _, alike in groupby(following, key=_Kept.instruments_n):
            _follow(list(alike))
        return [self._kept[window.timeframe].rows() for window in windows]


@dataclass(slots=True)
class _Kept:
    """Hold of one timeframe the last window, its rows and what the next row is made of."""

    window: Window
    bars: int
    past: _Past = field(init=False)
    _rows: Floats = field(init=False)
    _seen: bytearray = field(init=False)  # the window's bars but its oldest
    _end: int = field(init=False)

    def __post_init__(self) -> None:
        window = self.window
        prepared = prepare(window.values)
        self.past = _Past(prepared)
        self._seen = bytearray(window.values[1:].data)
        self._end = self.bars
        room = (_ROOM * self.bars, window.values.shape[1], FEATURES_N)
        self._rows = np.full(room, np.nan)  # written, so that no later row waits for its memory
        self._rows[: self._end] = rows_of(
            prepared, self.bars, newest_close_ms=window.newest_ms, timeframe=window.timeframe
        )

    def instruments_n(self) -> int:
        """Give N."""
        return int(self._rows.shape[1])

    def rows(self) -> Floats:
        """Give the last rows (L, N, F)."""
        return self._rows[self._end - self.bars : self._end]

    def append(self, row: Floats) -> None:
        """Add a row (N, F)."""
        if self._end == len(self._rows):
            self._end = self.bars - 1
            self._rows[: self._end] = self._rows[-self._end :]
        self._rows[self._end] = row
        self._end += 1

    def continues(self, current: Window) -> bool:
        """Tell whether `current` is the kept window moved on by one bar."""
        before = self.window
        if (
            current.newest_ms != before.newest_ms + current.timeframe.ms
            or current.values.shape != before.values.shape
        ):
            return False
        # to the bit, a missing bar like any other, at the pace at which memory is read
        return self._seen.startswith(current.values[:-1].data)

    def follow(self, current: Window) -> None:
        """Go on to the window that continues this one."""
        self.window = current
        del self._seen[: current.values[0].nbytes]
        self._seen += current.values[-1].data


@np.errstate(all="ignore")
def _follow(kept: Sequence[_Kept]) -> None:
    """Compute and append the newest row of K windows of N instruments, one row each."""
    pasts = [one.past for one in kept]
    logs, turnover, present = logged(np.stack([one.window.values[-1] for one in kept]))  # (K, N)
    closed = logs[3]
    filled = closed if present.all() else _fill(closed, pasts)
    earlier = np.concatenate([past.filled.back(k) for k in RETURN_BARS for past in pasts])
    over = filled - earlier.reshape(len(RETURN_BARS), *filled.shape)  # (R, K, N)
    moves = np.where(present, over[0], np.nan)
    market = across(moves)
    sums = _sum(terms_of(moves, market, turnover), pasts, moves.shape[1])
    bars, to_score = combine(logs, turnover, present, moves, market, sums, over)
    columns = bars.columns(_score([past.scale for past in pasts], to_score))
    places = np.array([_place_in_day(one.window) for one in kept])  # (K, 2)
    columns.extend(np.repeat(places.T[:, :, None], moves.shape[1], axis=2))
    wide = np.concatenate(in_order(columns)).reshape(FEATURES_N, len(kept), -1)  # (F, K, N)
    rows = np.clip(wide, -CLIP, CLIP, out=wide).transpose(1, 2, 0)  # (K, N, F)
    for i, one in enumerate(kept):
        one.past.closed.add(closed[i])
        one.past.filled.add(filled[i])
        one.append(rows[i])


def _place_in_day(window: Window) -> tuple[float, float]:
    sine, cosine = day_table(window.timeframe)
    slot = window.newest_ms // window.timeframe.ms % len(sine)
    return sine[slot], cosine[slot]


def _fill(closed: Floats, pasts: Sequence[_Past]) -> Floats:
    """Put the last known close, at most FILL_BARS old, where there is none, (K, N)."""
    for bars in range(1, FILL_BARS + 1):
        earlier = np.concatenate([past.closed.back(bars) for past in pasts])
        closed = np.where(np.isfinite(closed), closed, earlier)
    return closed


def _sum(terms: Floats, pasts: Sequence[_Past], instruments_n: int) -> Sums:
    """Add rows of terms (K, W) to the sums that end with them; keep each for later rows."""
    short = row = terms
    found, begin = [], 0
    for width in _WIDTHS:
        if width == SIGMA_SHORT_BARS:
            short, row = row, row[:, : long_terms(instruments_n)]
        found.append(row)
        end = begin + row.shape[1]
        row = row + np.concatenate([past.sums.back(width)[:, begin:end] for past in pasts])
        begin = end
    for past, own in zip(pasts, np.concatenate(found, axis=1), strict=True):
        past.sums.add(own)
    return Sums(short, row, instruments_n)


class _Past:
    """Hold what the next row of a timeframe is made of."""

    def __init__(self, prepared: Prepared) -> None:
        self.closed = _Tail(prepared.closed, FILL_BARS, np.nan)
        self.filled = _Tail(prepared.filled, max(RETURN_BARS), np.nan)
        self.scale = _Scale(prepared.to_scale)
        found, sums = [], prepared.terms
        for width in _WIDTHS:
            if width == SIGMA_SHORT_BARS:
                sums = sums[:, : long_terms(prepared.closed.shape[1])]
            found.append(sums[-_WIDTHS[-1] :])
            sums = sum_over(sums, 2 * width, of=width)
        self.sums = _Tail(np.concatenate(found, axis=1), _WIDTHS[-1], 0.0)  # over 1, 2, 4 .. 32


class _Tail:
    """Keep the last rows of a growing table."""

    def __init__(self, rows: Floats, keep: int, nothing: float) -> None:
        self._keep = keep
        self._rows = np.full((2 * keep + 1, rows.shape[1]), nothing)
        last = rows[-keep:]
        self._rows[keep - len(last) : keep] = last
        self._end = keep

    def add(self, row: Floats) -> None:
        """Add a row (W,)."""
        if self._end == len(self._rows):
            self._rows[: self._keep] = self._rows[-self._keep :]
            self._end = self._keep
        self._rows[self._end] = row
        self._end += 1

    def back(self, bars: int) -> Floats:
        """Give the row (1, W) so many back, 1 the newest, up to `keep`; after an `add` one more."""
        at = self._end - bars
        return self._rows[at : at + 1]


class _Scale:
    """Hold the last SCALE_BARS values of what is scored against its own past, (M, SCALE_BARS)."""

    def __init__(self, table: Floats) -> None:
        last = table[1 - SCALE_BARS :].T  # (M, up to SCALE_BARS - 1)
        self.recent = np.full((len(last), SCALE_BARS), np.nan)
        self.recent[:, SCALE_BARS - last.shape[1] :] = last
        self._slot = 0  # of the oldest

    def add(self, newest: Floats) -> None:
        """Take the next row (M,)."""
        self.recent[:, self._slot] = newest
        self._slot = (self._slot + 1) % SCALE_BARS

    def in_time(self) -> Floats:
        """Give the values oldest first."""
        return np.roll(self.recent, -self._slot, axis=1)


def _score(scales: Sequence[_Scale], newest: Floats) -> Floats:
    """Score the next row of each scale (K, M) against median and MAD of the last SCALE_BARS.

    They are sorted anew for each row: that is a fifth cheaper than to move one value in and one
    out in all columns, since sorting takes whole registers at a time and moving has to choose.
    """
    for scale, row in zip(scales, newest, strict=True):
        scale.add(row)
    ordered = np.concatenate([scale.recent for scale in scales])  # (K M, SCALE_BARS)
    ordered.sort(axis=1)
    middle = 0.5 * (ordered[:, _MIDDLE - 1] + ordered[:, _MIDDLE])
    spread = MAD_TO_SIGMA * _median_distance(ordered, middle)
    scores = np.where(spread > 1e-9, (newest.ravel() - middle) / spread, np.nan)
    scores = scores.reshape(newest.shape)
    gaps = ~np.isfinite(ordered[:, 0] + ordered[:, -1]).reshape(newest.shape)  # NaN sorts last
    for scale, row, lost in zip(scales, scores, gaps, strict=True):
        if lost.any():
            row[lost] = robust(scale.in_time()[lost].T, 1)[0]
    return scores


def _median_distance(ordered: Floats, middle: Floats) -> Floats:
    """Give the median of abs(x - middle) over rows in order (M, SCALE_BARS), (M,).

    middle: (M,) the rows' medians. The half of the values that is nearest to it are neighbours.
    Halving finds how many lie before them: each of those is farther from the middle than the value
    half a row behind it. No other way to the same bits was as fast; a second sort takes twice this.
    """
    flat, begin = ordered.ravel(), np.arange(0, ordered.size, SCALE_BARS)
    first = begin.copy()
    for step in _HALVINGS:
        here = first + (step - 1)
        farther = middle - flat.take(here) > flat.take(here + _MIDDLE) - middle
        first += step * farther
    farthest = np.maximum(middle - flat.take(first), flat.take(first + (_MIDDLE - 1)) - middle)
    # the next nearest is one of the two beside them
    before = middle - flat.take(first - 1, mode="clip")
    before[first == begin] = np.inf
    behind = flat.take(first + _MIDDLE) - middle
    return np.asarray(0.5 * (farthest + np.minimum(before, behind)))
