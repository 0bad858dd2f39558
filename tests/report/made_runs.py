"""Runs for the tests of what is made of them: the real engine and paper venue over drawn bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adapters.history.store import Panel
from adapters.journal import MemoryJournal
from adapters.paper import MemoryStore, PaperSettings, PaperVenue
from daemon.domain.bar import Window
from daemon.domain.forecast import Prediction
from daemon.engine.engine import Engine
from daemon.report.run import Run, RunFacts, period_text
from daemon.report.run_record import BookRow, RunRecord
from daemon.runtime.replay import ReplayShell
from daemon.wiring.backtest import book_row
from tests.engine.world import BAR_MS, MIDNIGHT_MS, FixedWeights, FollowForecasts, at, make_engine
from tests.runtime.rig import COSTS, WARM_BARS, Momentum, N, funding_of, line_of


class Doubtful(Momentum):
    """Forecast by momentum, but know nothing of some instruments at some instants."""

    def __init__(self, seed: int, unknown: float) -> None:
        super().__init__()
        self._rng, self._unknown = np.random.default_rng(seed), unknown

    def _predict(self, window: Window) -> Prediction:
        made = super()._predict(window)
        mean = np.where(self._rng.random(N) < self._unknown, np.nan, made.mean)
        return Prediction(made.timeframe, made.as_of_ms, mean, made.variance, made.model_id)


@dataclass(frozen=True)
class World:
    """Say what is drawn: bars with a common factor and gaps, and how easily they trade."""

    seed: int = 0
    bars_n: int = 48 * 5
    volume: float = 300.0
    gap: float = 0.0  # standard deviation of an open from the close before
    betas: tuple[float, ...] = (1.3, 1.0, 0.9, 0.8)
    unknown: float = 0.0
    places: int = 4  # decimals of a close; with many, amounts do not end at 1e-8
    costs: PaperSettings = COSTS

    def panel(self) -> Panel:
        rng = np.random.default_rng(self.seed)
        common = rng.normal(0, 0.003, (self.bars_n, 1))
        moves = common * np.array(self.betas) + rng.normal(0, 0.003, (self.bars_n, N))
        closes = (100.0 * np.exp(np.cumsum(moves, axis=0))).round(self.places)
        before = np.vstack([np.full((1, N), 100.0), closes[:-1]])
        opens = (before * np.exp(rng.normal(0, self.gap, before.shape))).round(4)
        high, low = np.maximum(opens, closes), np.minimum(opens, closes)
        volumes = self.volume * rng.uniform(0.01, 1.0, closes.shape)
        values = np.stack([opens, high, low, closes, volumes], axis=2)
        close_ms = MIDNIGHT_MS + BAR_MS * np.arange(1, self.bars_n + 1, dtype=np.int64)
        return Panel(close_ms, values, closes)


@dataclass(frozen=True)
class Replayed:
    """Hold a run, the engine that it leaves, and the rows of which its record was made."""

    run: Run
    engine: Engine
    books: list[BookRow]


def replayed(world: World, weights: Sequence[float] | None = None) -> Run:
    """Replay a world as a backtest does; with these fixed weights instead of forecasts if given."""
    strategy = FollowForecasts() if weights is None else FixedWeights(lambda _: weights)
    estimator = Doubtful(world.seed, world.unknown)
    return replay(world.panel(), strategy, estimator, world.costs).run


def replay(
    panel: Panel,
    strategy: FollowForecasts | FixedWeights | None = None,
    estimator: Momentum | None = None,
    costs: PaperSettings = COSTS,
    **facts: Any,
) -> Replayed:
    """Replay bars as a backtest does; facts: what is to be known of the run besides."""
    record, journal, books = RunRecord(), MemoryJournal(), list[BookRow]()

    def note(close_ms: int, engine: Engine) -> None:
        books.append(book_row(engine))
        record.add(close_ms, books[-1])

    bars_n = len(panel.close_ms)
    engine = make_engine(strategy)
    venue = PaperVenue(engine.universe, costs, MemoryStore(), opened_ms=at(WARM_BARS))
    shell = ReplayShell(engine, venue, estimator or Momentum(), journal, note)
    feed = line_of(panel, funding=funding_of(bars_n)).feed
    shell.warm_up(feed.replay(0, at(WARM_BARS)))
    shell.start(at(WARM_BARS), "run")
    note(at(WARM_BARS), engine)  # the opening
    result = shell.run(feed.replay(at(WARM_BARS), at(bars_n)))
    known = replace(facts_of(engine, record), **facts)
    return Replayed(Run(record, result.decisions, journal.executions, known), engine, books)


def facts_of(engine: Engine, record: RunRecord) -> RunFacts:
    return RunFacts(
        title="made",
        strategy=engine.strategy.name,
        period=period_text(record.times_ms),
        symbols=engine.universe.symbols,
        fills=engine.state.book.ledger.fills,
        orders=engine.state.orders.submitted_n,
        net_weight_worst=engine.state.book.net_weight_worst,
        run_seconds=0.0,
        memory_mb=0.0,
        fingerprint="",
    )
