"""The seeded market that every contender reads: two years of hourly bars in our store's layout.

    r(t, i)    = beta_i f(t) + e(t, i) - (sd_f beta_i)^2 / 2 - sd_e^2 / 2
    close(t)   = first price x exp(sum of r)           to six digits after the point
    open(t+1)  = close(t)

One common factor (0.4 % an hour) with betas from 0.6 to 1.4, own noise (0.6 % an hour), no drift.
An order that fills at the next open pays the close it was decided on, so engines that fill at the
close and engines that fill at the next open do the same work. Seed and order of the draws are part
of the definition: other ones give other orders and another end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from adapters.history.parquet_file import Bars, write_bars
from adapters.history.store import bars_path
from daemon.domain.units import HOUR_MS, Timeframe

Floats = npt.NDArray[np.float64]

SEED: Final = 7
BARS: Final = 17_520  # two years of hours
FIRST_OPEN_MS: Final = 1_672_531_200_000  # 2023-01-01T00:00:00Z
HOURLY: Final = Timeframe(60)
VENUE: Final = "bench"
FACTOR_SD: Final = 0.004
OWN_SD: Final = 0.006
PRICE_DIGITS: Final = 6
RECIPE: Final = "3"  # raise it when the figures change, so that stored bars are made anew


@dataclass(frozen=True, slots=True)
class Market:
    """Hold the bars: open_ms (T,), prices and volume (T, N) each."""

    open_ms: npt.NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


def symbols(instruments_n: int) -> list[str]:
    """Name the instruments as files do."""
    return [f"S{i:03d}USDT" for i in range(instruments_n)]


def make_market(instruments_n: int, seed: int = SEED) -> Market:
    """Draw the market; the same arguments give the same bits."""
    N, T = instruments_n, BARS
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal(T) * FACTOR_SD
    beta = 0.6 + 0.8 * rng.random(N)
    own = rng.standard_normal((T, N)) * OWN_SD
    # half the variance off, so that prices are fair games
    fair = 0.5 * (beta * FACTOR_SD) ** 2 + 0.5 * OWN_SD**2
    returns = factor[:, None] * beta + own - fair
    first = np.exp(rng.uniform(np.log(5), np.log(500), N))
    close = np.round(first * np.exp(np.cumsum(returns, axis=0)), PRICE_DIGITS)
    open_ = np.concatenate([np.round(first, PRICE_DIGITS)[None], close[:-1]])
    above, below = rng.random((2, T, N)) * 0.003
    high = np.round(np.maximum(open_, close) * (1 + above), PRICE_DIGITS)
    low = np.round(np.minimum(open_, close) * (1 - below), PRICE_DIGITS)
    volume = np.exp(rng.normal(12, 1, (T, N))).round(3)
    open_ms = FIRST_OPEN_MS + np.arange(T, dtype=np.int64) * HOUR_MS
    return Market(open_ms, open_, high, low, close, volume)


def prepare(folder: Path, instruments_n: int) -> Path:
    """Write the market below `folder` unless it is there; give the path of the peers' arrays.

    Ours are Parquet files, one an instrument, with one row more than the market: it holds the open
    at which the orders of the last decision fill. The peers read the same numbers from one .npz.
    """
    root, arrays = folder / str(instruments_n), folder / str(instruments_n) / "wide.npz"
    stamp = root / "stamp.json"
    wanted = json.dumps({"recipe": RECIPE, "seed": SEED, "numpy": np.__version__})
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return arrays
    market = make_market(instruments_n)
    root.mkdir(parents=True, exist_ok=True)
    columns = {name: getattr(market, name) for name in ("open", "high", "low", "close", "volume")}
    np.savez(arrays, open_ms=market.open_ms, **columns)
    for i, symbol in enumerate(symbols(instruments_n)):
        path = bars_path(root, VENUE, symbol, HOURLY)
        write_bars(path, _with_next_open(market, i), HOURLY, {"venue": VENUE, "symbol": symbol})
    stamp.write_text(wanted, encoding="utf-8")
    return arrays


def _with_next_open(market: Market, i: int) -> Bars:
    last = float(market.close[-1, i])
    columns = (market.open, market.high, market.low, market.close, market.volume)
    values = np.column_stack([column[:, i] for column in columns])
    row = np.array([[last, last, last, last, 0.0]])
    open_ms = np.append(market.open_ms, market.open_ms[-1] + HOUR_MS)
    return Bars(open_ms, np.concatenate([values, row]))
