"""A small seeded market with holes, listings and funding, and the real engine over any part of it.

A `Part` scores the instruments at an instant from whatever data it is handed. Handed the whole
data, a part written for research peeks; handed what was known at the instant, it cannot. Both sit
in the same seat of the same pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import numpy as np

from adapters.history.replay_feed import ReplayFeed
from adapters.history.store import Funding, Panel
from adapters.journal import MemoryJournal
from adapters.paper import MemoryStore, PaperSettings, PaperVenue
from daemon.domain.bar import FIELDS, Field, Floats, Window
from daemon.domain.forecast import Estimates, Prediction
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules, Universe
from daemon.domain.messages import EstimatesReady, MarketEvent
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe
from daemon.domain.view import View
from daemon.engine.cadence import CadenceRules
from daemon.engine.engine import Engine
from daemon.engine.risk import RiskLimits
from daemon.engine.rules import EngineRules
from daemon.ports import StrategyState
from daemon.report.run_record import BookRow
from daemon.research.lookahead import Pipeline
from daemon.research.outcome import Outcome
from daemon.research.worlds import Data, removed
from daemon.runtime.replay import ReplayShell
from daemon.wiring.backtest import book_row

M30, H1, H2 = Timeframe(30), Timeframe(60), Timeframe(120)
ORIGIN_MS: Final = 1_704_067_200_000  # 2024-01-01
COINS: Final = tuple(f"{name}/USDT:USDT" for name in ("BTC", "ETH", "SOL", "XRP", "ADA", "DOT"))
DAYS: Final = 12
WARM_UP_MS: Final = 3 * DAY_MS
ENDED: Final = 4  # this one is delisted on the ninth day
LISTED: Final = 5  # this one is listed on the fifth day

Part = Callable[[Data, int], Floats]  # (what may be read, as_of_ms) -> scores (N,), NaN = none


def market(seed: int = 5, days: int = DAYS) -> Data:
    """Generate bars of six coins, two of which are not there all the time, and their funding."""
    draw = np.random.default_rng(seed)
    T, N = days * 48, len(COINS)
    close_ms = ORIGIN_MS + M30.ms * np.arange(1, T + 1, dtype=np.int64)
    moves = 0.004 * draw.standard_normal((T, 1)) + 0.004 * draw.standard_normal((T, N))
    close = 100.0 * np.exp(np.cumsum(moves, axis=0))
    values = np.empty((T, N, FIELDS))
    gaps = np.exp(5e-4 * draw.standard_normal((T, N)))  # an open is not quite the last close
    values[:, :, Field.OPEN] = gaps * np.vstack([np.full((1, N), 100.0), close[:-1]])
    values[:, :, Field.CLOSE] = close
    ends = values[:, :, [Field.OPEN, Field.CLOSE]]
    values[:, :, Field.HIGH] = ends.max(axis=2) * 1.001
    values[:, :, Field.LOW] = ends.min(axis=2) * 0.999
    values[:, :, Field.VOLUME] = 1e4 * np.exp(
        draw.standard_normal((T, N)) + draw.standard_normal(N)
    )
    values[9 * 48 :, ENDED] = np.nan
    values[: 5 * 48, LISTED] = np.nan
    for n in range(N):
        for at in draw.integers(0, T, 14):
            values[at : at + 3, n] = np.nan
    opens = np.vstack([values[1:, :, Field.OPEN], values[-1:, :, Field.CLOSE]])
    settle_ms = np.arange(ORIGIN_MS + 8 * HOUR_MS, int(close_ms[-1]) + 1, 8 * HOUR_MS)
    rates = 3e-4 * draw.standard_normal((len(settle_ms), N))
    return Data(COINS, close_ms, values, opens, settle_ms.astype(np.int64), rates)


def universe() -> Universe:
    rules = TradingRules(Decimal("0.01"), Decimal("0.001"), Decimal("0.001"), Decimal(5))
    keys = (InstrumentKey("paper", name) for name in COINS)
    return Universe(tuple(Instrument(k, k.symbol[:3], "USDT", "USDT", rules) for k in keys))


# ---- the seats -----------------------------------------------------------------------------------


def honest(part: Part) -> Part:
    """Hand a part nothing but what was known at the instant."""
    return lambda world, as_of_ms: part(removed(world, as_of_ms), as_of_ms)


@dataclass(frozen=True)
class Scores:
    """Hold +-weights by score: of the newest forecast, of a part, or of the view itself."""

    score: Callable[[View], Floats]
    needs_estimates: bool = False
    windows_needed: Mapping[Timeframe, int] = field(default_factory=lambda: {H1: 4})
    name: str = "scores"

    def initial_state(self, instruments_n: int) -> StrategyState:
        return {"decisions": np.zeros(1)}

    def decide(self, state: StrategyState, view: View) -> tuple[StrategyState, TargetPortfolio]:
        score = self.score(view)
        usable = np.isfinite(score) & view.eligible & np.isfinite(view.marks)
        weights = np.zeros(len(score))
        if usable.sum() >= 2:
            centred = score[usable] - score[usable].mean()
            size = np.abs(centred).sum()
            weights[usable] = centred / size if size > 0 else 0.0
        fresh = {"decisions": state["decisions"] + 1.0}
        return fresh, TargetPortfolio(view.as_of_ms, weights, weights, np.zeros(len(weights)))


@dataclass(frozen=True)
class PartEstimator:
    """Forecast what a part says."""

    part: Part
    world: Data

    def estimate_sync(self, as_of_ms: int, windows: Sequence[Window]) -> EstimatesReady:
        mean = self.part(self.world, as_of_ms)
        made = tuple(
            Prediction(w.timeframe, w.newest_ms, mean, np.full(len(mean), 0.01), "planted")
            for w in windows
        )
        return EstimatesReady(Estimates(as_of_ms, made))


def run_engine(
    strategy: Scores,
    world: Data,
    start_ms: int,
    until_ms: int,
    estimator: PartEstimator | None = None,
    participation_share: float | None = None,
    *,
    is_shown: bool = True,
) -> Outcome:
    """Replay a world through the real engine and the real paper venue.

    is_shown: note what the feed shows; without it a check has what the run did alone.
    """
    coins = universe()
    rules = EngineRules(
        cadence=CadenceRules(M30, (H1, H2), alive_ms=4 * HOUR_MS),
        limits=RiskLimits(),
        cost=np.full(len(coins), 0.0006),
        bars_n={H1: 8, H2: 8},
    )
    costs = PaperSettings(
        fee_bps=5.0,
        half_spread_bps=1.0,
        impact_bps=0.0,
        latency_bps=0.5,
        participation_share=participation_share,
        starting_cash={"USDT": Decimal(10_000)},
    )
    venue = PaperVenue(coins, costs, MemoryStore(), opened_ms=start_ms)
    panel = Panel(world.close_ms, world.values, world.opens)
    feed = ReplayFeed(panel, M30, coins.instruments, Funding(world.settle_ms, world.rates, ()))
    journal, rows = MemoryJournal(keep_digests=False), list[tuple[int, BookRow]]()

    def on_instant(close_ms: int, engine: Engine) -> None:
        rows.append((close_ms, book_row(engine)))

    shell = ReplayShell(Engine(coins, strategy, rules), venue, estimator, journal, on_instant)
    before: list[MarketEvent] = list(feed.replay(start_ms - WARM_UP_MS, start_ms))
    events = list(feed.replay(start_ms, until_ms))
    shell.warm_up(before)
    shell.start(start_ms, "planted")
    shell.run(events)
    shell.start(until_ms, "planted")
    shown = before + events if is_shown else []
    return Outcome(coins.instruments, shown, shell.result.decisions, journal.executions, rows)


def in_estimator(part: Part) -> Pipeline:
    """Give a pipeline whose forecasts are a part's scores."""

    def decide(world: Data, start_ms: int, until_ms: int) -> Outcome:
        strategy = Scores(lambda view: view.predictions[0].mean, needs_estimates=True)
        return run_engine(strategy, world, start_ms, until_ms, PartEstimator(part, world))

    return decide


def in_strategy(part: Part) -> Pipeline:
    """Give a pipeline whose strategy asks a part."""

    def decide(world: Data, start_ms: int, until_ms: int) -> Outcome:
        strategy = Scores(lambda view: part(world, view.as_of_ms))
        return run_engine(strategy, world, start_ms, until_ms)

    return decide


def in_feed(
    bent: Callable[[Data], Data], score: Callable[[View], Floats], *, is_shown: bool = True
) -> Pipeline:
    """Give a pipeline that is honest but for what its feed makes of the data."""

    def decide(world: Data, start_ms: int, until_ms: int) -> Outcome:
        return run_engine(Scores(score), bent(world), start_ms, until_ms, is_shown=is_shown)

    return decide


def momentum(view: View) -> Floats:
    closes = view.windows[H1].closes
    return np.asarray(np.log(closes[-1] / closes[-4]))
