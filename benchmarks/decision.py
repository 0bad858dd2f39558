"""Time a whole decision after its predictions, in the engine that trades.

    python -m benchmarks.decision [--sizes 20 50 200] [--decisions 150]

A made market of half-hourly bars plays through engine and paper venue. The clock runs from the
event that brings predictions and covariance to the commands that leave: view, strategy (combining,
strength, ranks, weights, bands), execution plan, lots and risk. `strategy` is its share of that.
Predictions are of three timeframes, noisy truths; the covariance is that of `ewma`. Rows: weights
in closed form and by the mean-variance programme, with the 40 legs at most of the default and with
every instrument as one. CPU and wall milliseconds; set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, cast

import numpy as np

from adapters.history.replay_feed import ReplayFeed
from adapters.history.store import Panel
from adapters.paper import MemoryStore, PaperVenue
from daemon.commands.options import packaged
from daemon.domain.bar import Floats, Window
from daemon.domain.forecast import Estimates, Prediction
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules, Universe
from daemon.domain.messages import Command, EstimatesReady, Event, Submit
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.domain.view import View
from daemon.engine.engine import Engine
from daemon.ports import Strategy, StrategyState
from daemon.runtime.collector import collect_rarely
from daemon.runtime.replay import ReplayShell
from daemon.settings import load_settings
from daemon.wiring.core import engine_of, paper_settings, uses_covariance
from strategies.book import RISK_BARS
from strategies.covariance.hosted import WithCovariance
from strategies.covariance.known import make_estimator
from strategies.covariance.monitor import Monitor

SIZES: Final = (20, 50, 200)
KINDS: Final = ("closed_form", "mean_variance")
SOURCE: Final = Timeframe(30)
START_MS: Final = 20_000 * 24 * HOUR_MS
WARM_UP: Final = 10  # decisions that are not counted: the first book is built from nothing
ALPHA_SD: Final = 0.06  # of an hour's alpha, in residual volatility over six hours
HALF_LIFE_HOURS: Final = 12.0
LEGS: Final = 40  # of the default
RULES: Final = TradingRules(Decimal("0.0001"), Decimal("0.001"), Decimal("0.001"), Decimal(5))


@dataclass(slots=True)
class Times:
    """Hold milliseconds by decision: CPU and wall of the whole, CPU of the strategy alone."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    strategy: list[float] = field(default_factory=list)
    orders_n: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Market:
    """Hold closes (T, N) of half-hourly bars, and the alpha (T, N) that the next hours follow."""

    closes: Floats
    alpha: Floats


def made_market(bars_n: int, size: int) -> Market:
    """Draw one common factor, own noise, and alphas that fade by half in twelve hours."""
    rng = np.random.default_rng(size)
    phi, sigma = 0.5 ** (0.5 / HALF_LIFE_HOURS), rng.uniform(0.003, 0.008, size)
    noise = rng.standard_normal((bars_n, size))
    alpha = np.empty((bars_n, size))
    alpha[0] = ALPHA_SD * noise[0]
    for t in range(1, bars_n):
        alpha[t] = phi * alpha[t - 1] + np.sqrt(1.0 - phi**2) * ALPHA_SD * noise[t]
    common = 0.003 * rng.standard_normal((bars_n, 1)) * rng.uniform(0.5, 1.5, size)
    own = sigma * rng.standard_normal((bars_n, size))
    drift = np.concatenate([np.zeros((1, size)), alpha[:-1]]) * sigma * 0.2
    return Market(50.0 * np.exp(np.cumsum(common + own + drift, axis=0)), alpha)


class Truth:
    """Forecast what is true, with noise; what `WithCovariance` takes for a model."""

    model_id = "noisy truth"

    def __init__(self, market: Market) -> None:
        self._market = market
        self._rng = np.random.default_rng(1)

    def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Estimates:
        """Give one prediction for each window."""
        row = (as_of_ms - START_MS) // SOURCE.ms - 1
        alpha = self._market.alpha[row]
        noise = 0.5 * ALPHA_SD
        made = [
            Prediction(
                window.timeframe,
                window.newest_ms,
                alpha + noise * self._rng.standard_normal(len(alpha)),
                np.full(len(alpha), noise**2),
                self.model_id,
            )
            for window in windows
        ]
        return Estimates(as_of_ms, tuple(made))


class _InPlace:
    """Answer the shell's questions in place."""

    def __init__(self, hosted: WithCovariance) -> None:
        self._hosted = hosted

    def estimate_sync(self, as_of_ms: int, windows: Sequence[Window]) -> Event:
        return EstimatesReady(self._hosted.estimate(as_of_ms, windows))


@dataclass(slots=True)
class _Watched:
    """Ask a strategy and note how long it took."""

    inner: Strategy
    took_ms: float | None = None

    def forget(self) -> None:
        self.took_ms = None

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def needs_estimates(self) -> bool:
        return self.inner.needs_estimates

    @property
    def windows_needed(self) -> Mapping[Timeframe, int]:
        return self.inner.windows_needed

    def initial_state(self, instruments_n: int) -> StrategyState:
        return self.inner.initial_state(instruments_n)

    def decide(self, state: StrategyState, view: View) -> tuple[StrategyState, TargetPortfolio]:
        began = time.process_time()
        decided = self.inner.decide(state, view)
        self.took_ms = 1e3 * (time.process_time() - began)
        return decided


class _TimedEngine(Engine):
    """Note how long each event took that brought estimates and led to a decision."""

    def watch(self, watched: _Watched) -> Times:
        self._watched, self._times = watched, Times()
        return self._times

    def process(self, event: Event) -> tuple[Command, ...]:
        if not isinstance(event, EstimatesReady):
            return super().process(event)
        self._watched.forget()
        cpu, wall = time.process_time(), time.perf_counter()
        commands = super().process(event)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if self._watched.took_ms is not None:
            self._times.cpu.append(1e3 * cpu)
            self._times.wall.append(1e3 * wall)
            self._times.strategy.append(self._watched.took_ms)
            self._times.orders_n.append(sum(isinstance(c, Submit) for c in commands))
        return commands


def measured(size: int, weights: str, legs: int, decisions_n: int) -> Times:
    """Play the market to a strategy with such weights and so many legs."""
    hours = RISK_BARS + 2 + WARM_UP + decisions_n
    market = made_market(2 * hours, size)
    engine, shell = _shell(market, size, weights, legs)
    times = engine.watch(cast(_Watched, engine.strategy))
    panel, universe = _panel(market), engine.state.book.universe
    feed = ReplayFeed(panel, SOURCE, universe.instruments)
    start_ms = START_MS + (RISK_BARS + 2) * HOUR_MS
    shell.warm_up(feed.replay(0, start_ms))
    shell.start(start_ms, "bench")
    shell.run(feed.replay(start_ms, feed.last_ms))
    return Times(*(getattr(times, name)[WARM_UP:] for name in Times.__slots__))


def _shell(market: Market, size: int, weights: str, legs: int) -> tuple[_TimedEngine, ReplayShell]:
    settings = load_settings(
        [packaged("backtest.toml")],
        overrides=[
            f"strategy.parameters.weights={weights}",
            f"strategy.parameters.legs_max={legs}",
            "covariance.estimator=ewma",
            "paper.cash=1000000",
        ],
        environment={},
    )
    names = [f"S{i:03d}" for i in range(size)]
    keys = [InstrumentKey("bench", f"{name}/USDT:USDT") for name in names]
    instruments = [
        Instrument(k, n, "USDT", "USDT", RULES) for k, n in zip(keys, names, strict=True)
    ]
    universe = Universe(tuple(instruments))
    plain = engine_of(settings, universe, SOURCE)
    engine = _TimedEngine(universe, _Watched(plain.strategy), plain.rules)
    hosted = WithCovariance(
        Truth(market),
        make_estimator("ewma"),
        make_estimator("ewma"),
        Monitor(),
        memory_bars=2160,
        factors=uses_covariance(plain.strategy),
    )
    venue = PaperVenue(universe, paper_settings(settings), MemoryStore())
    return engine, ReplayShell(engine, venue, _InPlace(hosted), None)


def _panel(market: Market) -> Panel:
    T, N = market.closes.shape
    before = np.concatenate([market.closes[:1], market.closes[:-1]])
    high, low = np.maximum(before, market.closes), np.minimum(before, market.closes)
    volume = np.full((T, N), 1e6)
    values = np.stack([before, high, low, market.closes, volume], axis=2)
    close_ms = START_MS + SOURCE.ms * np.arange(1, T + 1, dtype=np.int64)
    return Panel(close_ms, values, market.closes)


def main() -> None:
    """Read the arguments, measure, and print one line each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decision")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--decisions", type=int, default=150)
    asked = parser.parse_args()
    collect_rarely()  # as the command does
    head = f"{'instruments':>12}{'weights':>15}{'legs':>6}{'cpu ms p50':>12}{'p99':>8}"
    print(f"{head}{'wall p50':>10}{'p99':>8}{'strategy p50':>14}{'p99':>8}{'orders':>8}")
    for size in asked.sizes:
        for weights in KINDS:
            for legs in sorted({min(LEGS, size), size}):
                _print(size, weights, legs, measured(size, weights, legs, asked.decisions))


def _print(size: int, weights: str, legs: int, times: Times) -> None:
    pairs = [
        f"{np.median(values):{width}.2f}{np.quantile(values, 0.99):8.2f}"
        for values, width in ((times.cpu, 12), (times.wall, 10), (times.strategy, 14))
    ]
    orders = f"{np.mean(times.orders_n):8.1f}"
    print(f"{size:>12}{weights:>15}{legs:>6}{''.join(pairs)}{orders}", flush=True)


if __name__ == "__main__":
    main()
