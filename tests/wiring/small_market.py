"""A small seeded market as Parquet files, and settings that trade it in a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adapters.history.parquet_file import Bars, Rates, write_bars, write_rates
from adapters.history.store import bars_path, funding_path
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe
from daemon.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
FIRST_MS = 1_704_067_200_000  # 2024-01-01
VENUE = "small"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "ADAUSDT", "SOLUSDT", "XRPUSDT", "LTCUSDT")
CHOSEN = (
    f"backtest.venue={VENUE}",
    "backtest.source=1h",
    "backtest.report=",
    "market.source=1h",
    'market.timeframes=["1h"]',
    "market.decision=4h",
    "market.window_bars=25",
    "strategy.name=relative_strength",
    'strategy.parameters={"timeframe_minutes": 60, "lookback_bars": 24, "legs_each_side": 2}',
    "estimator.kind=none",
    "redis.enabled=false",
    "web.enabled=false",
)


def write_market(
    folder: Path, *, seed: int = 1, days: int = 40, symbols: tuple[str, ...] = SYMBOLS
) -> Path:
    """Write hourly bars and funding rates; the prices of a symbol hang on seed and name only."""
    hours = days * 24
    open_ms = FIRST_MS + np.arange(hours, dtype=np.int64) * HOUR_MS
    for symbol in symbols:
        rng = np.random.default_rng([seed, SYMBOLS.index(symbol)])
        close = np.round(100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.008, 2_400))), 4)[:hours]
        open_ = np.concatenate(([100.0], close[:-1]))
        high, low = np.maximum(open_, close) * 1.001, np.minimum(open_, close) * 0.999
        volume = np.full(hours, 20_000.0)
        bars = Bars(open_ms, np.column_stack([open_, high, low, close, volume]))
        about = {"venue": VENUE, "symbol": symbol}
        write_bars(bars_path(folder, VENUE, symbol, Timeframe(60)), bars, Timeframe(60), about)
        settle_ms = FIRST_MS + np.arange(1, days * 3, dtype=np.int64) * (DAY_MS // 3)
        rates = Rates(settle_ms, np.full(len(settle_ms), 0.0001))
        write_rates(funding_path(folder, VENUE, symbol), rates, about)
    return folder


def small_settings(folder: Path, *overrides: str) -> Settings:
    """Read the settings of a backtest over `folder`, with a ledger of trials there as well."""
    own = (f"backtest.data_folder={folder}", f"evaluation.trials_file={folder / 'trials.jsonl'}")
    return load_settings(
        [ROOT / "config" / "backtest.toml"],
        overrides=[*CHOSEN, *own, *overrides],
        environment={},
    )
