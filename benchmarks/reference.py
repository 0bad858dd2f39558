"""The reference: the same rule as one compiled loop over floats, with nothing around it.

It says what the right answer is (orders and end equity) and how fast this machine could be at best.
Run as a process of its own, `python -m benchmarks.reference ARRAYS BARS`; prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numba
import numpy as np

from benchmarks.rule import BAND_WEIGHT, CASH, FEE_BPS, LEGS_EACH_SIDE, LOOKBACK_BARS


@numba.njit(cache=False)  # type: ignore[untyped-decorator]  # numba has no types
def trade(  # type: ignore[no-untyped-def]
    close, legs: int, lookback: int, band: float, fee: float, cash: float
):
    """Trade close (T, N) and give (equity at the end, number of orders)."""
    T, N = close.shape
    held = np.zeros(N)
    leg = 0.5 / legs
    orders = 0
    equity = cash
    for t in range(T):
        price = close[t]
        equity = cash
        for i in range(N):
            equity += held[i] * price[i]
        if t < lookback:
            continue
        ranked = np.argsort(price / close[t - lookback])
        target = np.zeros(N)
        target[ranked[:legs]] = -leg
        target[ranked[N - legs :]] = leg
        base = equity
        for i in range(N):
            change = target[i] * base - held[i] * price[i]
            if abs(change) > band * base:
                cost = fee * abs(change)
                held[i] += change / price[i]
                cash -= change + cost
                equity -= cost
                orders += 1
    return equity, orders


def main() -> None:
    """Time the loop after compiling it; `seconds` is the loop, `compile_seconds` the rest."""
    arrays, bars_n = Path(sys.argv[1]), int(sys.argv[2])
    close = np.ascontiguousarray(np.load(arrays)["close"][:bars_n])
    knobs = (LEGS_EACH_SIDE, LOOKBACK_BARS, BAND_WEIGHT, FEE_BPS / 1e4, CASH)
    start = time.perf_counter()
    trade(close[:50], *knobs)
    compiled = time.perf_counter()
    equity, orders = trade(close, *knobs)
    end = time.perf_counter()
    found = {"equity": equity, "orders": orders, "seconds": end - compiled}
    print(json.dumps({**found, "compile_seconds": compiled - start}))


if __name__ == "__main__":
    main()
