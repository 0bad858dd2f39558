"""Turn OHLCV bars into model inputs: one causal function for training and for live.

Every reduction over time is a sum over a fixed window in a fixed order (doubling: 1, 2, 4 .. bars),
never a running total, so the features of a bar depend to the bit on its last
`FEATURE_MEMORY_BARS` bars only, however much history was passed along. The list follows the usual
price-and-volume inputs: scaled returns, residual returns, range, volume, illiquidity, volatility
term structure, ranks, time of day, state of the market. Knows nothing of models or of venues.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import FIELDS, Field, Floats
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
_MAD_TO_SIGMA: Final = 1.4826
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
    with np.errstate(all="ignore"):
        columns = _columns(np.asarray(values, dtype=np.float64), rows)
    shape = (rows, values.shape[1])
    columns.extend(_day(shape, newest_close_ms, timeframe))
    out = np.empty((*shape, FEATURES_N))
    for place, column in zip(_PLACES, columns, strict=True):
        out[:, :, place] = column
    return np.clip(out, -CLIP, CLIP, out=out)  # NaN stays NaN


def usable(rows: Floats) -> npt.NDArray[np.bool_]:
    """Tell which feature rows (.., F) a model may read: bar present and volatility known."""
    return np.isfinite(rows[..., 0])


# The day columns are computed apart and stand last in the raw stack: this puts them in their place.
_RAW_NAMES: Final = (*(n for n in FEATURE_NAMES if not n.startswith("day_")), "day_sin", "day_cos")
_PLACES: Final = [FEATURE_NAMES.index(name) for name in _RAW_NAMES]


def _columns(values: Floats, rows: int) -> list[Floats]:
    """Compute the last `rows` rows of all features but the time of day, each (rows, N)."""
    prices = np.where(values[:, :, : Field.VOLUME] > 0, values[:, :, : Field.VOLUME], np.nan)
    present = np.isfinite(values).all(axis=2) & np.isfinite(prices).all(axis=2)
    opened, high, low, closed = (
        np.log(np.ascontiguousarray(np.where(present, prices[:, :, f], np.nan))) for f in range(4)
    )
    filled = _filled(closed)
    moves = np.where(present, filled - _lagged(filled, 1), np.nan)  # (T, N) one-bar log returns
    variance = _mean_over(moves * moves, SIGMA_BARS, SIGMA_OBSERVATIONS_MIN)
    sigma = np.sqrt(np.where(present & (variance > SIGMA_FLOOR**2), variance, np.nan))
    short = np.sqrt(_mean_over(moves * moves, SIGMA_SHORT_BARS, SIGMA_SHORT_BARS // 2))
    turnover = np.where(present, values[:, :, Field.VOLUME] * prices[:, :, Field.CLOSE], np.nan)
    to_scale = [np.log1p(turnover), _illiquidity(moves, turnover), np.log(sigma)]
    scaled = np.split(_robust(np.concatenate(to_scale, axis=1), rows), 3, axis=1)
    market = _market(moves, variance, filled - _lagged(filled, 24), rows)
    tail = slice(len(values) - rows, None)
    bars = _Bars(
        sigma=sigma[tail],
        short=short[tail],
        over=[(filled - _lagged(filled, k))[tail] for k in RETURN_BARS],
        width=(high - low)[tail],
        above=(2 * closed - high - low)[tail],
        body=(closed - opened)[tail],
    )
    return bars.columns(scaled, market)


@dataclass(frozen=True, slots=True)
class _Bars:
    """Hold what is left to combine row by row, each (rows, N); sigma is NaN in unusable rows."""

    sigma: Floats
    short: Floats
    over: list[Floats]
    width: Floats
    above: Floats
    body: Floats

    def columns(self, scaled: list[Floats], market: list[Floats]) -> list[Floats]:
        """Combine everything in the order of FEATURE_NAMES without the time of day."""
        alive = np.where(np.isfinite(self.sigma), 0.0, np.nan)
        over = dict(zip(RETURN_BARS, self.over, strict=True))
        roots = {k: self.sigma * np.sqrt(k) for k in RETURN_BARS}
        residuals = [(over[k] - _across(over[k] + alive)) / roots[k] for k in RESIDUAL_BARS]
        volume, illiquidity, volatility = scaled
        place = np.where(self.width > 0, self.above / self.width, 0.0)
        return [
            *(over[k] / roots[k] for k in RETURN_BARS),
            *residuals,
            np.log((self.width + 1e-6) / self.sigma),
            place + alive,
            self.body / self.sigma,
            volume + alive,
            illiquidity + alive,
            volatility + alive,
            np.log(self.short / self.sigma),
            *(ranks(residual) for residual in residuals),
            ranks(volume + alive),
            ranks(self.sigma),
            *(column + alive for column in market),
        ]


def _market(moves: Floats, variance: Floats, day: Floats, rows: int) -> list[Floats]:
    """Describe the state of the market, each (rows, 1): returns, dispersion, mean correlation."""
    market = _across(moves)  # (T, 1)
    power = _mean_over(market * market, SIGMA_BARS, SIGMA_OBSERVATIONS_MIN)
    sigma = np.sqrt(np.where(power > SIGMA_FLOOR**2, power, np.nan))
    spread = np.log(np.sqrt(_across((moves - market) ** 2)) + 1e-6)
    # Var of the mean over the mean variance: about the mean correlation of many instruments.
    correlation = 4.0 * (power / _across(variance) - 0.5)
    state = [market / sigma, _across(day) / (sigma * np.sqrt(24)), correlation]
    one, many, together = (column[len(moves) - rows :] for column in state)
    return [one, many, _robust(spread, rows), together]


def _illiquidity(moves: Floats, turnover: Floats) -> Floats:
    """Give the log of absolute return per traded quote unit over the short window (Amihud)."""
    pace = _mean_over(np.abs(moves), SIGMA_SHORT_BARS, SIGMA_SHORT_BARS // 2)
    traded = _mean_over(turnover, SIGMA_SHORT_BARS, SIGMA_SHORT_BARS // 2)
    return np.asarray(np.log((pace + 1e-9) / (traded + 1.0)))


def _day(
    shape: tuple[int, ...], newest_close_ms: int, timeframe: Timeframe
) -> tuple[Floats, Floats]:
    """Give sine and cosine of the close's place in the UTC day, each (T, N)."""
    T, N = shape[:2]
    slots = DAY_MS // timeframe.ms
    # A table over the slots of a day: a place in the day has one value, whatever T is.
    angles = 2 * np.pi * np.arange(slots) / slots
    closes = newest_close_ms - timeframe.ms * np.arange(T - 1, -1, -1, dtype=np.int64)
    slot = closes // timeframe.ms % slots
    wide = np.ones((1, N))
    return np.sin(angles)[slot][:, None] * wide, np.cos(angles)[slot][:, None] * wide


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


def _sum_over(x: Floats, bars: int) -> Floats:
    """Sum the last `bars` rows (a power of two) by doubling: the same order for every row."""
    out, width = x, 1
    while width < bars:
        shifted = np.zeros_like(out)
        shifted[width:] = out[: max(0, len(out) - width)]
        out = out + shifted
        width *= 2
    return out


def _mean_over(x: Floats, bars: int, observations_min: int) -> Floats:
    """Average the finite values of the last `bars` rows; NaN with too few of them."""
    finite = np.isfinite(x)
    count = _sum_over(finite.astype(np.float64), bars)
    total = _sum_over(np.where(finite, x, 0.0), bars)
    return np.where(count >= observations_min, total / count, np.nan)


def _across(x: Floats) -> Floats:
    """Average the finite values of a row over instruments, (T, N) -> (T, 1); NaN when none."""
    finite = np.isfinite(x)
    total, N = np.where(finite, x, 0.0), x.shape[1]
    while N > 1:  # halves are folded, so that only element-wise additions happen
        half = (N + 1) // 2
        folded = total[:, :half].copy()
        folded[:, : N - half] += total[:, half:]
        total, N = folded, half
    return np.asarray(total / finite.sum(axis=1, keepdims=True))


def _robust(x: Floats, rows: int) -> Floats:
    """Score the last `rows` values against median and MAD of their own last SCALE_BARS values."""
    padded = np.concatenate([np.full((SCALE_BARS - 1, x.shape[1]), np.nan), x])
    windows = np.lib.stride_tricks.sliding_window_view(padded, SCALE_BARS, axis=0)[-rows:]
    out = np.empty((rows, x.shape[1]))
    step = max(1, _SORT_ELEMENTS_MAX // (x.shape[1] * SCALE_BARS))
    for start in range(0, rows, step):
        chunk = windows[start : start + step]  # (rows, M, SCALE_BARS)
        middle = _median(chunk)
        spread = _MAD_TO_SIGMA * _median(np.abs(chunk - middle[:, :, None]))
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
    count = np.isfinite(x).sum(axis=1, keepdims=True)
    order = np.argsort(x, axis=1, kind="stable")
    ordered = np.take_along_axis(x, order, axis=1)
    place = np.arange(x.shape[1])[None, :]
    starts = np.ones(x.shape, dtype=bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ends = np.ones(x.shape, dtype=bool)
    ends[:, :-1] = starts[:, 1:]
    first = np.maximum.accumulate(np.where(starts, place, 0), axis=1)
    last = _from_the_end(np.minimum.accumulate, np.where(ends, place, x.shape[1]))
    ranks = np.empty_like(x)
    np.put_along_axis(ranks, order, 0.5 * (first + last), axis=1)
    scaled = np.where(count > 1, 2.0 * ranks / np.maximum(count - 1, 1) - 1.0, 0.0)
    return np.where(np.isfinite(x), scaled, np.nan)


def _from_the_end(accumulate: Callable[..., Longs], x: Longs) -> Longs:
    return accumulate(x[:, ::-1], axis=1)[:, ::-1]
