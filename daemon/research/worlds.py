"""The data of a check, and the two other worlds: without a future, and with another one.

Both other worlds are the same as the real one up to the cut, to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import FIELDS, Field, Flags, Floats
from daemon.domain.covariates import Series
from daemon.domain.units import require

Instants = npt.NDArray[np.int64]

RISK_ROWS: Final = 2_000  # known rows that the replaced future takes its volatility from
VOLATILITY_PLAIN: Final = 0.004  # a bar, where nothing is known
SHOCK: Final = 0.1  # size of the jump of a replaced price right after the cut
LISTING_CHANGE_SHARE: Final = 0.25  # instruments that begin or end in the replaced future
RATE_SIZE: Final = 3e-4
RATE_UNKNOWN_SHARE: Final = 0.2
HOLE_ROWS: Final = 6


@dataclass(frozen=True, slots=True)
class Data:
    """Hold bars and funding of N instruments as plain arrays.

    close_ms: (T,) an unbroken rising grid. values: (T, N, 5), NaN where there is no bar. opens:
    (T, N), the open of the bar that begins at close_ms. settle_ms: (S,), rates: (S, N), NaN where
    there is none. series: what lies beside the bars, by name, each value with its known instant.
    """

    symbols: tuple[str, ...]
    close_ms: Instants
    values: Floats
    opens: Floats
    settle_ms: Instants
    rates: Floats
    series: tuple[tuple[str, Series], ...] = ()

    def __post_init__(self) -> None:
        T, N, S = len(self.close_ms), len(self.symbols), len(self.settle_ms)
        require(
            self.values.shape == (T, N, FIELDS),
            f"values {self.values.shape}: want {(T, N, FIELDS)}",
        )
        require(self.opens.shape == (T, N), f"opens {self.opens.shape}: want {(T, N)}")
        require(self.rates.shape == (S, N), f"rates {self.rates.shape}: want {(S, N)}")

    def rows_until(self, at_ms: int) -> int:
        """Count the rows that closed at or before an instant."""
        return int(np.searchsorted(self.close_ms, at_ms, side="right"))

    def has_bar(self, rows: Instants) -> Flags:
        """Tell at which of these rows any instrument has a bar."""
        return np.asarray(np.isfinite(self.values[rows, :, Field.CLOSE]).any(axis=1))


def removed(data: Data, cut_ms: int, *, with_open: bool = False) -> Data:
    """Give the data without anything after the cut; with_open keeps the price of the cut itself."""
    rows, paid = data.rows_until(cut_ms), np.searchsorted(data.settle_ms, cut_ms, side="right")
    opens = data.opens[:rows].copy()
    if not with_open and rows:
        opens[-1] = np.nan
    return Data(
        data.symbols,
        data.close_ms[:rows],
        data.values[:rows],
        _sealed(opens),
        data.settle_ms[:paid],
        data.rates[:paid],
        tuple((name, one.known_at(cut_ms)) for name, one in data.series),
    )


def replaced(data: Data, cut_ms: int, draw: np.random.Generator) -> Data:
    """Give data of the same shape in which everything after the cut is another plausible market.

    Prices, volumes, listings, holes and funding are drawn anew; prices jump right after the cut.
    The first bars have the opens that the cut knows, and are missing where it knows none.
    """
    rows, paid = data.rows_until(cut_ms), int(np.searchsorted(data.settle_ms, cut_ms, side="right"))
    left_n, N = len(data.close_ms) - rows, len(data.symbols)
    opens, values, rates = data.opens.copy(), data.values.copy(), data.rates.copy()
    if left_n:
        first = opens[rows - 1] if rows else np.full(N, np.nan)
        bars = _other_bars(data.values[:rows], first, left_n, draw)
        there = _other_listings(data.values[:rows], left_n, draw)
        if rows:
            there[0] = np.isfinite(first)
        bars[~there] = np.nan
        values[rows:] = bars
        opens[rows:-1] = bars[1:, :, Field.OPEN]
        opens[-1] = bars[-1, :, Field.CLOSE]
    known = draw.random((len(rates) - paid, N)) > RATE_UNKNOWN_SHARE
    rates[paid:] = np.where(known, draw.normal(0.0, RATE_SIZE, known.shape), np.nan)
    return Data(
        data.symbols,
        data.close_ms,
        _sealed(values),
        _sealed(opens),
        data.settle_ms,
        _sealed(rates),
        tuple((name, _other_series(one, cut_ms, draw)) for name, one in data.series),
    )


def _other_series(series: Series, cut_ms: int, draw: np.random.Generator) -> Series:
    """Draw other values of a positive or signed series for what became known after the cut."""
    known = int(np.searchsorted(series.known_ms, cut_ms, side="right"))
    values = series.values.copy()
    left = len(values) - known
    values[known:] *= np.exp(SHOCK * draw.choice([-1.0, 1.0], left) * draw.uniform(1.0, 5.0, left))
    return replace(series, values=_sealed(values))


def _sealed(array: Floats) -> Floats:
    array.flags.writeable = False
    return array


def _other_bars(known: Floats, first: Floats, rows: int, draw: np.random.Generator) -> Floats:
    """Draw bars (rows, N, 5) that go on from `first` (N,) or the last close, without holes."""
    N = len(first)
    last, sigma, volume = _state_of(known, draw)
    sigma = sigma * np.exp(draw.uniform(-0.7, 0.7, N))
    moves = draw.standard_normal((rows, N)) * sigma
    moves[0] += SHOCK * draw.choice([-1.0, 1.0], N) * draw.uniform(0.5, 1.5, N)
    start = np.where(np.isfinite(first), first, last)
    close = start * np.exp(np.cumsum(moves, axis=0))  # (rows, N)
    opened = np.vstack([start[None], close[:-1]])
    out = np.empty((rows, N, FIELDS))
    out[:, :, Field.OPEN], out[:, :, Field.CLOSE] = opened, close
    wick = np.exp(np.abs(draw.standard_normal((2, rows, N))) * sigma / 2)
    out[:, :, Field.HIGH] = np.maximum(opened, close) * wick[0]
    out[:, :, Field.LOW] = np.minimum(opened, close) / wick[1]
    level = volume * np.exp(draw.uniform(-2.0, 2.0, N))
    out[:, :, Field.VOLUME] = level * np.exp(0.8 * draw.standard_normal((rows, N)))
    return out


def _state_of(known: Floats, draw: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Give the last close, the volatility of a bar and the usual volume of what is known, (N,)."""
    N = known.shape[1]
    last, sigma, volume = 100.0 * np.exp(draw.standard_normal(N)), np.full(N, np.nan), np.ones(N)
    for n in range(N):
        bars = known[-RISK_ROWS:, n]
        bars = bars[np.isfinite(bars[:, Field.CLOSE])]
        if len(bars) > 2:
            sigma[n] = float(np.std(np.diff(np.log(bars[:, Field.CLOSE]))))
            volume[n] = max(float(np.median(bars[:, Field.VOLUME])), 1e-9)
        if len(bars):
            last[n] = bars[-1, Field.CLOSE]
    usual = float(np.nanmedian(sigma)) if np.isfinite(sigma).any() else VOLATILITY_PLAIN
    usual = usual if usual > 0 else VOLATILITY_PLAIN
    return last, np.where(sigma > 0, sigma, usual), volume


def _other_listings(known: Floats, rows: int, draw: np.random.Generator) -> Flags:
    """Draw who is there (rows, N): some begin, some end for good, all have a few holes."""
    N = known.shape[1]
    before = np.isfinite(known[-1:, :, Field.CLOSE]) if len(known) else np.ones((1, N), np.bool_)
    there: Flags = np.asarray(np.repeat(before, rows, axis=0))
    changes: Flags = np.asarray(draw.random(N) < LISTING_CHANGE_SHARE)
    changes[int(draw.integers(N))] = True
    for n in np.flatnonzero(changes).tolist():
        at = int(rows * draw.random() ** 2)  # rather soon than late
        there[at:, n] ^= True
    for n in range(N):
        for at in draw.integers(0, rows, 1 + rows // 1_000).tolist():
            there[at : at + HOLE_ROWS, n] = False
    return there
