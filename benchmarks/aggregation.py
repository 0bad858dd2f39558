"""Build 1h, 90m and 2h bars of one-minute bars, beside pandas in the same run.

    python -m benchmarks.aggregation [--coins 50] [--days 30]

Prints CPU seconds of both and their ratio, and ends with 1 where a single value differs. pandas
does the three lengths one after the other, each over all coins at once, which is its fastest way.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Final

import numpy as np
import pandas as pd

from daemon.domain.bar import FIELDS, Field, Floats
from daemon.domain.bar_builder import aggregate_all
from daemon.domain.units import DAY_MS, MINUTE_MS, Timeframe

SOURCE: Final = Timeframe(1)
LENGTHS: Final = (Timeframe(60), Timeframe(90), Timeframe(120))
START_MS: Final = 19_700 * DAY_MS
RUNS: Final = 3
HOW: Final = {
    Field.OPEN: "first",
    Field.HIGH: "max",
    Field.LOW: "min",
    Field.CLOSE: "last",
    Field.VOLUME: "sum",
}


def bars(coins: int, days: int) -> tuple[np.ndarray, Floats]:
    """Draw one-minute bars without holes: opens (T,) and values (T, N, 5)."""
    dice = np.random.default_rng(1)
    rows = days * DAY_MS // MINUTE_MS
    closes = 100.0 * np.exp(np.cumsum(0.001 * dice.normal(size=(rows, coins)), axis=0))
    values = np.empty((rows, coins, FIELDS))
    values[:, :, Field.CLOSE] = closes
    values[0, :, Field.OPEN], values[1:, :, Field.OPEN] = 100.0, closes[:-1]
    spread = 0.05 * dice.random((rows, coins))
    ends = values[:, :, [Field.OPEN, Field.CLOSE]]
    values[:, :, Field.HIGH], values[:, :, Field.LOW] = ends.max(2) + spread, ends.min(2) - spread
    values[:, :, Field.VOLUME] = dice.integers(1, 1_000, (rows, coins))  # whole: sums are exact
    return START_MS + MINUTE_MS * np.arange(rows, dtype=np.int64), values


def by_pandas(open_ms: np.ndarray, values: Floats) -> list[Floats]:
    """Resample with pandas: (T', N, 5) for each length."""
    index = pd.to_datetime(open_ms, unit="ms", utc=True)
    frames = {field: pd.DataFrame(values[:, :, field], index=index) for field in Field}
    found = []
    for length in LENGTHS:
        rule = f"{length.minutes}min"
        columns = [
            getattr(frames[field].resample(rule, origin="epoch"), how)().to_numpy()
            for field, how in HOW.items()
        ]
        found.append(np.stack(columns, axis=2))
    return found


def timed(work: Callable[[], list[Floats]]) -> tuple[float, list[Floats]]:
    """Give the least CPU seconds of some runs, and what the last one made."""
    best, made = float("inf"), []
    for _ in range(RUNS):
        start = time.process_time()
        made = work()
        best = min(best, time.process_time() - start)
    return best, made


def main() -> int:
    """Time both, compare every value; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aggregation")
    parser.add_argument("--coins", type=int, default=50)
    parser.add_argument("--days", type=int, default=30)
    asked = parser.parse_args()
    open_ms, values = bars(asked.coins, asked.days)
    ours_s, ours = timed(lambda: [v for _, v in aggregate_all(open_ms, values, SOURCE, LENGTHS)])
    pandas_s, theirs = timed(lambda: by_pandas(open_ms, values))
    same = all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    print(f"{asked.coins} coins, {len(open_ms):,} one-minute bars each, to 1h, 90m and 2h")
    print(f"  equipoise {ours_s:.3f} s, pandas {pandas_s:.3f} s: {pandas_s / ours_s:.1f} x")
    print(f"  values are {'the same to the bit' if same else 'NOT THE SAME'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
