"""Time every estimator of the covariance: an hour of the day, and the first question of a day.

    python -m benchmarks.covariance [--sizes 20 50 200] [--days 4] [--names ewma garch+ewma dcc ...]

A window of 90 days slides by an hour, as in live use. The first question of a UTC day fits the
parameters and goes through the window; each later one takes in one row. Times are CPU
milliseconds of one thread: set OMP_NUM_THREADS=1. Each hour's answer is checked to be a covariance.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.domain.units import DAY_MS, HOUR_MS, require
from strategies.covariance.interface import HISTORY_HOURS, CovarianceEstimator, Floats
from strategies.covariance.known import known_estimators, known_volatilities, make_estimator

SIZES: Final = (20, 50, 200)
DAYS: Final = 4
START_MS: Final = 20_000 * DAY_MS
HOURS_A_DAY: Final = DAY_MS // HOUR_MS


@dataclass(frozen=True, slots=True)
class Timed:
    """Hold CPU milliseconds of later hours and of the first questions of days."""

    hours_ms: Floats
    firsts_ms: Floats


def drawn_returns(hours_n: int, instruments_n: int, seed: int = 1) -> Floats:
    """Draw hourly returns (T, N) of a market with one mode, moving volatility and fat tails."""
    rng = np.random.default_rng(seed)
    level = np.exp(0.5 * np.sin(np.arange(hours_n) / 150.0))
    market = 0.004 * level * rng.standard_t(5, hours_n)
    own = 0.005 * level[:, None] * rng.standard_t(5, (hours_n, instruments_n))
    returns = market[:, None] * rng.uniform(0.5, 1.5, instruments_n) + own
    returns[rng.random(returns.shape) < 0.001] = np.nan  # bars that a venue did not give
    return np.asarray(returns)


def timed(estimator: CovarianceEstimator, returns: Floats, days_n: int) -> Timed:
    """Slide the window over so many days and time each hour."""
    hours, firsts = list[float](), list[float]()
    for hour in range(days_n * HOURS_A_DAY):
        window = returns[hour : hour + HISTORY_HOURS]
        began = time.process_time()
        found = estimator.forecast(window, None, START_MS + hour * HOUR_MS)
        took_ms = 1e3 * (time.process_time() - began)
        (hours if hour % HOURS_A_DAY else firsts).append(took_ms)
        problem = found.problem(returns.shape[1])
        require(problem is None, f"{estimator.name}: {problem}")
    return Timed(np.array(hours), np.array(firsts))


def named(name: str, size: int) -> CovarianceEstimator:
    """Build an estimator from "dcc" or "garch+dcc", for coins that mostly stand alone."""
    volatility, _, correlation = name.rpartition("+")
    settings = {"volatility": volatility} if volatility else {}
    known = ["BTC", "ETH", "SOL", "XRP", "DOGE", "ADA", "LINK", "ARB", "OP", "UNI", "AAVE", "SUI"]
    coins = [*known, *(f"COIN{k}" for k in range(size))][:size]
    return make_estimator(correlation, settings, coins)


def all_names() -> list[str]:
    """List every correlation with plain volatilities, and every volatility with plain ones."""
    others = [f"{name}+ewma" for name in known_volatilities() if name != "ewma"]
    return [*known_estimators(), *others]


def measure(sizes: Sequence[int], days_n: int, names: Sequence[str]) -> None:
    """Measure and print one line each."""
    print(f"{'estimator':18}{'N':>5}{'hour ms':>10}{'p99':>9}{'first of a day ms':>20}{'worst':>9}")
    for size in sizes:
        returns = drawn_returns(HISTORY_HOURS + days_n * HOURS_A_DAY, size)
        for name in names:
            done = timed(named(name, size), returns, days_n)
            print(
                f"{name:18}{size:5}{np.median(done.hours_ms):10.2f}"
                f"{np.quantile(done.hours_ms, 0.99):9.2f}"
                f"{np.median(done.firsts_ms):20.0f}{done.firsts_ms.max():9.0f}",
                flush=True,
            )


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.covariance")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--names", nargs="+", default=all_names())
    asked = parser.parse_args()
    measure(asked.sizes, asked.days, asked.names)


if __name__ == "__main__":
    main()
