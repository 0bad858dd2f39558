"""Draw bars for the tests of the store: seeded, valid, with holes where asked for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapters.history.parquet_file import Bars, write_bars
from adapters.history.store import bars_path, disk_symbol
from daemon.domain.units import DAY_MS, Timeframe

MIDNIGHT = 19_000 * DAY_MS  # 2022-01-08
FACTS = {"venue": "somewhere", "symbol": "BTCUSDT"}
M30 = Timeframe(30)


def bars_of(rows: int, seed: int = 0, start_ms: int = MIDNIGHT, source: Timeframe = M30) -> Bars:
    """Draw `rows` valid bars in a row from `start_ms`."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, rows)))
    open_ = close * np.exp(rng.normal(0, 0.005, rows))
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.005, rows)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.005, rows)))
    values = np.stack([open_, high, low, close, rng.lognormal(3, 1, rows)], axis=-1)
    return Bars(start_ms + source.ms * np.arange(rows, dtype=np.int64), values)


def without(bars: Bars, rows: Sequence[int]) -> Bars:
    """Cut holes."""
    keep = np.setdiff1d(np.arange(len(bars)), rows)
    return Bars(bars.open_ms[keep], bars.values[keep])


def store(root: Path, venue: str, symbol: str, bars: Bars, source: Timeframe = M30) -> Path:
    """Write bars where the store looks for them."""
    path = bars_path(root, venue, symbol, source)
    write_bars(path, bars, source, {"venue": venue, "symbol": disk_symbol(symbol)})
    return path
