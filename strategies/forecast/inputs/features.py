"""Turn OHLCV bars into model inputs: one causal function for training and for live.

Every reduction over time is a sum over a fixed window in a fixed order (doubling: 1, 2, 4 .. bars),
never a running total, so the features of a bar depend to the bit on its last
`FEATURE_MEMORY_BARS` bars only, however much history was passed along. The list follows the usual
price-and-volume inputs: scaled returns, residual returns, range, volume, illiquidity, volatility
term structure, ranks, time of day, state of the market. Knows nothing of models or of venues.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import FIELDS, Field, Flags, Floats
from daemon.domain.units import DAY_MS, Timeframe, require

RETURN_BARS: Final = (1, 2, 4, 8, 24, 72)
RESIDUAL_BARS: Final = (1, 4, 24)
SIGMA_BARS: Final = 64
SIGMA_SHORT_BARS: Final = 8
SIGMA_OBSERVATIONS_MIN: Final = 24
SCALE_BARS: Final = 64  # window of the trailing median and of the median absolute deviation
SCALE_OBSERVATIONS_MIN: Final = 16
FILL_BARS: Final = 4  # a lagged close may stand in for at most this many missing bars
CLIP: Final = 5.0
SIGMA_FLOOR: Final = 1e-7  # a price that does not move has no forecast
MAD_TO_SIGMA: Final = 1.4826
_SORT_ELEMENTS_MAX: Final = 4_000_000  # sliding windows are sorted in chunks of at most this size

# Rows needed for one row of features: scaling window, then sigma window, then the gap filler.
FEATURE_MEMORY_BARS: Final = (SCALE_BARS - 1) + SIGMA_BARS + FILL_BARS + 1

FEATURE_NAMES: Final = (
    *(f"return_{k}" for k in RETURN_BARS),
    *(f"residual_{k}" for k in RESIDUAL_BARS),
    "range",
    "close_in_range",
    "body",
    "volume",
    "illiquidity",
    "volatility",
    "volatility_slope",
    *(f"rank_residual_{k}" for k in RESIDUAL_BARS),
    "rank_volume",
    "rank_volatility",
    "day_sin",
    "day_cos",
    "market_return_1",
    "market_return_24",
    "market_dispersion",
    "market_correlation",
)
FEATURES_N: Final = len(FEATURE_NAMES)

_RESIDUAL_PLACES: Final = [RETURN_BARS.index(k) for k in RESIDUAL_BARS]
_DAY_PLACE: Final = RETURN_BARS.index(24)
_ROOTS: Final = np.array([math.sqrt(k) for k in RETURN_BARS])[:, None, None]

Longs = npt.NDArray[np.int64]


def feature_hash(more: Sequence[str] = ()) -> str:
    """Give the hash of the feature list, of `more` columns, and of the constants behind them."""
    constants = (RETURN_BARS, RESIDUAL_BARS, SIGMA_BARS, SIGMA_SHORT_BARS, SCALE_BARS, FILL_BARS)
    text = repr((FEATURE_NAMES, constants, CLIP, SIGMA_OBSERVATIONS_MIN, SCALE_OBSERVATIONS_MIN))
    text += repr(tuple(more)) if more else ""  # the hash of models without any stays what it was
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def features(
    values: Floats, *, newest_close_ms: int, timeframe: Timeframe, newest: int | None = None
) -> Floats:
    """Compute the features of every bar from bars up to and including it.

    values: (T, N, 5) on an unbroken grid of `timeframe`, oldest first, NaN = no bar. Gives
    (T, N, F) in the order of FEATURE_NAMES, clipped to +-5; with `newest` only that many last rows,
    for less work. NaN where the bar is missing, where its volatility is unknown, or where one
    feature alone has too little history. Rows before `FEATURE_MEMORY_BARS` - 1 are computed from
    what there is and may be NaN.
    """
    require(
        values.ndim == 3 and values.shape[2] == FIELDS, f"bars of shape {values.shape}: (T, N, 5)"
    )
    rows = len(values) if newest is None else min(newest, len(values))
    prepared = prepare(np.asarray(values, dtype=np.float64))
    return rows_of(prepared, rows, newest_close_ms=newest_close_ms, timeframe=timeframe)


@np.errstate(all="ignore")
def rows_of(prepared: Prepared, rows: int, *, newest_close_ms: int, timeframe: Timeframe) -> Floats:
    """Give the last feature rows (rows, N, F) of prepared bars; see `features`."""
    columns = prepared.bars.newest(rows).columns(robust(prepared.to_scale, rows))
    shape = (rows, prepared.closed.shape[1])
    columns.extend(day(shape, newest_close_ms, timeframe))
    out = np.empty((*shape, FEATURES_N))
    for place, column in enumerate(in_order(columns)):
        out[:, :, place] = column
    return np.clip(out, -CLIP, CLIP, out=out)  # NaN stays NaN


def usable(rows: Floats) -> npt.NDArray[np.bool_]:
    """Tell which feature rows (.., F) a model may read: bar present and volatility known."""
    return np.isfinite(rows[..., 0])


# The day columns are computed apart and stand last in the raw stack.
_RAW_NAMES: Final = (*(n for n in FEATURE_NAMES if not n.startswith("day_")), "day_sin", "day_cos")
_RAW_PLACES: Final = [_RAW_NAMES.index(name) for name in FEATURE_NAMES]


def in_order(columns: Sequence[Floats]) -> list[Floats]:
    """Put columns whose last two are the day's in the order of FEATURE_NAMES."""
    return [columns[place] for place in _RAW_PLACES]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Hold what the features of bars are made of, row by row; each row knows no later one.

    closed, filled: (T, N) log closes, without and with stand-ins for missing ones. terms: (T, W)
    what is summed over windows, zero where unknown, W = 5 N + 2: squared moves, their count, the
    squared market move, its count, absolute moves, turnovers, their count. to_scale: (T, 3 N + 1)
    what is scored against its own past: turnover, illiquidity, volatility, the market's spread.
    """

    closed: Floats
    filled: Floats
    terms: Floats
    to_scale: Floats
    bars: Bars


@np.errstate(all="ignore")
def prepare(values: Floats) -> Prepared:
    """Prepare bars (T, N, 5), NaN where there is none."""
    logs, turnover, present = logged(values)
    closed = logs[3]
    filled = _filled(closed)
    moves = np.where(present, filled - _lagged(filled, 1), np.nan)  # (T, N) one-bar log returns
    market = across(moves)  # (T, 1)
    terms = terms_of(moves, market, turnover)
    N = moves.shape[1]
    short = sum_over(terms, SIGMA_SHORT_BARS)
    long = sum_over(short[:, : long_terms(N)], SIGMA_BARS, of=SIGMA_SHORT_BARS)
    over = np.stack([filled - _lagged(filled, bars) for bars in RETURN_BARS])  # (R, T, N)
    bars, to_scale = combine(logs, turnover, present, moves, market, Sums(short, long, N), over)
    return Prepared(closed, filled, terms, to_scale, bars)


def logged(values: Floats) -> tuple[Floats, Floats, Flags]:
    """Give log open, high, low, close (4, T, N), then turnover (T, N), NaN where not `present`."""
    # contiguous: the logarithm of a strided array may differ in its last bit
    fields = np.ascontiguousarray(values.transpose(2, 0, 1))  # (T, N, 5) -> (5, T, N)
    prices, volume = fields[: Field.VOLUME], fields[Field.VOLUME]
    present = ((prices > 0) & (prices < np.inf)).all(axis=0) & np.isfinite(volume)
    turnover = volume * prices[Field.CLOSE]
    if not present.all():
        prices, turnover = np.where(present, prices, np.nan), np.where(present, turnover, np.nan)
    return np.log(prices), turnover, present


def terms_of(moves: Floats, market: Floats, turnover: Floats) -> Floats:
    """Put side by side what is summed over windows, (T, 5 N + 2); see `Prepared`."""
    known, market_known, traded = np.isfinite(moves), np.isfinite(market), np.isfinite(turnover)
    return np.concatenate(
        [
            np.where(known, moves * moves, 0.0),
            known,
            np.where(market_known, market * market, 0.0),
            market_known,
            np.where(known, np.abs(moves), 0.0),
            np.where(traded, turnover, 0.0),
            traded,
        ],
        axis=1,
        dtype=np.float64,
    )


def long_terms(instruments_n: int) -> int:
    """Give how many of the terms, from the first, are summed over the long window too."""
    return 2 * instruments_n + 2


@dataclass(frozen=True, slots=True)
class Sums:
    """Hold the terms' sums over the short and the long window, (T, W) and (T, long_terms(N))."""

    short: Floats
    long: Floats
    instruments_n: int

    def variance(self) -> Floats:
        """Give mean squared moves of the long window, (T, N)."""
        N = self.instruments_n
        return mean(self.long[:, :N], self.long[:, N : 2 * N], SIGMA_OBSERVATIONS_MIN)

    def power(self) -> Floats:
        """Give the mean squared market move of the long window, (T, 1)."""
        N = self.instruments_n
        total, count = self.long[:, 2 * N : 2 * N + 1], self.long[:, 2 * N + 1 : 2 * N + 2]
        return mean(total, count, SIGMA_OBSERVATIONS_MIN)

    def brief(self) -> tuple[Floats, Floats, Floats]:
        """Give mean squared moves, absolute moves and turnovers of the short window, (T, N)."""
        N, at_least = self.instruments_n, SIGMA_SHORT_BARS // 2
        short, behind = self.short, long_terms(N)
        count = short[:, N : 2 * N]
        paces, traded, traded_n = (short[:, behind + i * N :][:, :N] for i in range(3))
        return (
            mean(short[:, :N], count, at_least),
            mean(paces, count, at_least),
            mean(traded, traded_n, at_least),
        )


def combine(
    logs: Floats,
    turnover: Floats,
    present: Flags,
    moves: Floats,
    market: Floats,
    sums: Sums,
    over: Floats,
) -> tuple[Bars, Floats]:
    """Combine prices, sums and returns over RETURN_BARS, (R, T, N); give also what is to be scored.

    The rest is as `logged`, `terms_of` and `Sums` make it.
    """
    opened, high, low, closed = logs
    variance, power = sums.variance(), sums.power()
    short, pace, traded = sums.brief()
    sigma = np.sqrt(np.where(present & (variance > SIGMA_FLOOR**2), variance, np.nan))
    alive = np.where(np.isfinite(sigma), 0.0, np.nan)
    T = len(sigma)
    day_over, spreads = over[_DAY_PLACE], (moves - market) ** 2
    levels = across(
        np.concatenate([*(over[_RESIDUAL_PLACES] + alive), day_over, variance, spreads])
    ).reshape(-1, T, 1)
    centres, (day, usual, spread) = levels[:-3], levels[-3:]  # (T, 1) each
    steady = np.sqrt(np.where(power > SIGMA_FLOOR**2, power, np.nan))
    bars = Bars(
        sigma=sigma,
        alive=alive,
        short=np.sqrt(short),
        over=over,
        centres=centres,
        width=high - low,
        above=2 * closed - high - low,
        body=closed - opened,
        # Var of the mean over the mean variance: about the mean correlation of many instruments.
        market=[market / steady, day / (steady * np.sqrt(24)), 4.0 * (power / usual - 0.5)],
    )
    # Amihud: absolute return per traded quote unit
    illiquidity = np.log((pace + 1e-9) / (traded + 1.0))
    scored = [np.log1p(turnover), illiquidity, np.log(sigma), np.log(np.sqrt(spread) + 1e-6)]
    return bars, np.concatenate(scored, axis=1)


@dataclass(frozen=True, slots=True)
class Bars:
    """Hold what is left to combine row by row, each (T, N); market (T, 1).

    sigma is NaN in unusable rows, alive is NaN there and else zero. over: (R, T, N) returns over
    RETURN_BARS; centres: (3, T, 1) their means over instruments, of RESIDUAL_BARS.
    """

    sigma: Floats
    alive: Floats
    short: Floats
    over: Floats
    centres: Floats
    width: Floats
    above: Floats
    body: Floats
    market: list[Floats]

    def newest(self, rows: int) -> Bars:
        """Keep the last rows."""
        tail = slice(len(self.sigma) - rows, None)
        return Bars(
            sigma=self.sigma[tail],
            alive=self.alive[tail],
            short=self.short[tail],
            over=self.over[:, tail],
            centres=self.centres[:, tail],
            width=self.width[tail],
            above=self.above[tail],
            body=self.body[tail],
            market=[column[tail] for column in self.market],
        )

    def columns(self, scored: Floats) -> list[Floats]:
        """Combine everything in the order of FEATURE_NAMES without the time of day, (T, N) each.

        scored: (T, 3 N + 1), the scores of what was to be scored.
        """
        T, N = self.sigma.shape
        alive, sigma = self.alive, self.sigma
        volume, illiquidity, volatility = (scored[:, i * N :][:, :N] for i in range(3))
        dispersion = scored[:, 3 * N :]
        one, many, together = self.market
        roots = sigma * _ROOTS  # (R, T, N)
        residuals = (self.over[_RESIDUAL_PLACES] - self.centres) / roots[_RESIDUAL_PLACES]
        volume = volume + alive
        ranked = ranks(np.concatenate([*residuals, volume, sigma]))
        place = np.where(self.width > 0, self.above / self.width, 0.0)
        return [
            *(self.over / roots),
            *residuals,
            np.log((self.width + 1e-6) / sigma),
            place + alive,
            self.body / sigma,
            volume,
            illiquidity + alive,
            volatility + alive,
            np.log(self.short / sigma),
            *(ranked[i * T : (i + 1) * T] for i in range(5)),
            *(column + alive for column in (one, many, dispersion, together)),
        ]


def day(
    shape: tuple[int, ...], newest_close_ms: int, timeframe: Timeframe
) -> tuple[Floats, Floats]:
    """Give sine and cosine of the close's place in the UTC day, each (T, N)."""
    T, N = shape[:2]
    sine, cosine = day_table(timeframe)
    slot = (newest_close_ms // timeframe.ms - np.arange(T - 1, -1, -1)) % len(sine)
    return np.repeat(sine[slot][:, None], N, axis=1), np.repeat(cosine[slot][:, None], N, axis=1)


@cache  # a place in the day has one value, whatever T is
def day_table(timeframe: Timeframe) -> tuple[Floats, Floats]:
    """Give sine and cosine of each close's place in the UTC day, from midnight on."""
    slots = DAY_MS // timeframe.ms
    angles = 2 * np.pi * np.arange(slots) / slots
    return np.sin(angles), np.cos(angles)


def _lagged(x: Floats, bars: int) -> Floats:
    """Shift rows later by `bars`, NaN in front."""
    out = np.full_like(x, np.nan)
    if bars < len(x):
        out[bars:] = x[: len(x) - bars]
    return out


def _filled(x: Floats) -> Floats:
    """Put the last known value, at most FILL_BARS old, where there is none."""
    out = x
    for bars in range(1, FILL_BARS + 1):
        out = np.where(np.isfinite(out), out, _lagged(x, bars))
    return out


def sum_over(x: Floats, bars: int, *, of: int = 1) -> Floats:
    """Sum the last `bars` rows (a power of two) by doubling: the same order for every row.

    of: how many rows each row of x holds the sum of already.
    """
    out, width = x, of
    while width < bars:
        shifted = np.zeros_like(out)
        shifted[width:] = out[: max(0, len(out) - width)]
        out = out + shifted
        width *= 2
    return out


def mean(total: Floats, count: Floats, observations_min: int) -> Floats:
    """Divide sums by counts; NaN with too few observations."""
    return np.where(count >= observations_min, total / count, np.nan)


def across(x: Floats) -> Floats:
    """Average the finite values of a row over instruments, (T, N) -> (T, 1); NaN when none."""
    finite = np.isfinite(x)
    total, N = x.copy() if finite.all() else np.where(finite, x, 0.0), x.shape[1]
    while N > 1:  # halves are folded, so that only element-wise additions happen
        half = (N + 1) // 2
        first = total[:, : N - half]
        np.add(first, total[:, half:N], out=first)
        N = half
    return np.asarray(total[:, :1] / finite.sum(axis=1, keepdims=True))


def robust(x: Floats, rows: int) -> Floats:
    """Score the last `rows` values against median and MAD of their own last SCALE_BARS values."""
    padded = np.concatenate([np.full((SCALE_BARS - 1, x.shape[1]), np.nan), x])
    windows = np.lib.stride_tricks.sliding_window_view(padded, SCALE_BARS, axis=0)[-rows:]
    out = np.empty((rows, x.shape[1]))
    step = max(1, _SORT_ELEMENTS_MAX // (x.shape[1] * SCALE_BARS))
    for start in range(0, rows, step):
        chunk = windows[start : start + step]  # (rows, M, SCALE_BARS)
        middle = _median(chunk)
        spread = MAD_TO_SIGMA * _median(np.abs(chunk - middle[:, :, None]))
        out[start : start + step] = np.where(
            spread > 1e-9, (chunk[:, :, -1] - middle) / spread, np.nan
        )
    return out


def _median(windows: Floats) -> Floats:
    """Take the median over the last axis, ignoring NaN; NaN with too few values."""
    ordered = np.sort(windows, axis=2)  # NaN sorts last
    count = np.isfinite(ordered).sum(axis=2, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum(0, (count - 1) // 2), axis=2)
    high = np.take_along_axis(ordered, np.minimum(count // 2, SCALE_BARS - 1), axis=2)
    return np.where(count >= SCALE_OBSERVATIONS_MIN, 0.5 * (low + high), np.nan)[:, :, 0]


def ranks(x: Floats) -> Floats:
    """Rank over instruments to [-1, 1], ties share their mean rank, NaN stays NaN."""
    T, N = x.shape
    finite = np.isfinite(x)
    count = finite.sum(axis=1, keepdims=True)
    order = np.argsort(x, axis=1)  # equal values share a rank, whichever comes first
    order += N * np.arange(T)[:, None]  # places in the flat array
    ordered = x.take(order)
    place = np.arange(N)[None, :]
    starts = np.ones(x.shape, dtype=bool)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=starts[:, 1:])
    places = place if starts.all() else _shared(place, starts)
    scaled = places * 2.0 / np.maximum(count - 1, 1) - 1.0  # (T, N) in the order of size
    ranks = np.empty(x.shape)
    ranks.ravel()[order.ravel()] = scaled.ravel()
    if count.min(initial=N) < max(2, N):  # somebody has no rank, or nobody to be ranked with
        ranks[finite & (count == 1)] = 0.0
        ranks[~finite] = np.nan
    return ranks


def _shared(place: Longs, starts: Flags) -> Floats:
    """Give the mean place of each run of equal values, (T, N); starts: does a run begin here."""
    ends = np.ones(starts.shape, dtype=bool)
    ends[:, :-1] = starts[:, 1:]
    first = np.maximum.accumulate(np.where(starts, place, 0), axis=1)
    last = _from_the_end(np.minimum.accumulate, np.where(ends, place, starts.shape[1]))
    return np.asarray(0.5 * (first + last), dtype=np.float64)


def _from_the_end(accumulate: Callable[..., Longs], x: Longs) -> Longs:
    return accumulate(x[:, ::-1], axis=1)[:, ::-1]
