"""The default strategy goes on while one of two venues is held: balanced, and nothing grows there.

Its forecasts are the truth of a made market with errors, so that it always wants to trade.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np
import pytest

from daemon.domain.bar import Floats
from daemon.domain.forecast import Estimates, Prediction
from daemon.domain.instrument import CashKey, InstrumentKey, Universe
from daemon.domain.messages import (
    Command,
    Estimate,
    EstimatesReady,
    FeedNotice,
    FeedTrouble,
    Snapshotted,
    Started,
    Transferred,
)
from daemon.domain.portfolio import AccountSnapshot
from daemon.engine.engine import Engine
from strategies.neutral import RISK_BARS, NeutralStrategy
from tests.engine.world import (
    H1,
    VENUE,
    at,
    bars,
    decided,
    feed,
    fill_of,
    make_engine,
    submitted,
    universe_of,
)
from tests.strategies.test_neutral import N, World

OTHER = "other"
CASH = CashKey(VENUE, "USDT")
MONEY = Decimal(100_000)
THERE = slice(N // 2, N)  # columns of the other venue
HOURS = 80


def universe() -> Universe:
    like, half = universe_of().instruments[0], N // 2
    keys = [InstrumentKey(VENUE if i < half else OTHER, f"C{i}/USDT:USDT") for i in range(N)]
    return Universe(tuple(replace(like, key=key) for key in keys))


@dataclass
class Run:
    """Hold an engine and what its book was after each hour, in weights."""

    world: World
    engine: Engine
    hour: int = RISK_BARS
    gross: list[float] = field(default_factory=list)
    net: list[float] = field(default_factory=list)
    there: list[Floats] = field(default_factory=list)  # quantities held at the other venue
    refusals_n: int = 0

    def decide(self, hours: int) -> None:
        for _ in range(hours):
            self._hour()
            book = self.engine.state.book
            weights = book.weights()
            self.gross.append(float(np.abs(weights).sum()))
            self.net.append(float(weights.sum()))
            self.there.append(book.quantity[THERE].copy())

    def _hour(self) -> None:
        told = close_hour(self.engine, self.world, self.hour)
        self.hour += 1
        orders = submitted(told)
        while orders:
            prices = self.engine.state.book.prices
            fills = [fill_of(o, f"f{o.order_id}", price=repr(prices[o.index])) for o in orders]
            more = feed(self.engine, *fills)
            told, orders = told + more, submitted(more)
        self.refusals_n += sum(len(d.refusals) for d in decided(told))


def close_hour(engine: Engine, world: World, hour: int) -> list[Command]:
    """Close an hour's two bars and answer what is asked of the estimator."""
    bar, closes = 2 * hour + 2, world.closes[hour]
    told = feed(engine, bars(bar - 1, closes, n=N), bars(bar, closes, n=N))
    if any(isinstance(c, Estimate) for c in told):
        mean = world.alphas[hour] + world.forecast_sd * world.rng.standard_normal(N)
        known = Prediction(H1, at(bar), mean, np.full(N, world.forecast_sd**2), "truth")
        told += feed(engine, EstimatesReady(Estimates(at(bar), (known,))))
    return told


def begun(seed: int) -> Run:
    """Give an engine that has seen a week of two venues and may trade."""
    world = World.make(HOURS, alpha_sd=0.06, seed=seed)
    engine = make_engine(NeutralStrategy(), universe=universe(), bars_n=RISK_BARS + 2)  # type: ignore[arg-type]
    feed(engine, Started(at(0), "run", warming=True))
    for hour in range(RISK_BARS):
        close_hour(engine, world, hour)
    now = at(2 * RISK_BARS)
    feed(
        engine,
        Started(now, "run"),
        Transferred("deposit", CASH, now, MONEY),
        Snapshotted(AccountSnapshot(VENUE, now, {}, {CASH: MONEY}, 0)),
        Snapshotted(AccountSnapshot(OTHER, now, {}, {}, 0)),
    )
    return Run(world, engine)


def hold(run: Run, *, active: bool) -> None:
    feed(run.engine, FeedNotice(at(2), OTHER, FeedTrouble.CLOCK_OFFSET, active, "it is off"))


@pytest.mark.parametrize(("hours_before", "seed"), [(0, 6), (25, 6), (25, 18), (25, 1)])
def test_the_default_book_stays_neutral_and_lively_while_a_venue_is_held(
    hours_before: int, seed: int
) -> None:
    run = begun(seed)
    run.decide(hours_before)
    hold(run, active=True)
    held = np.zeros(N // 2) if not hours_before else run.there[-1]
    run.decide(30)
    for before, after in zip(
        [held, *run.there[hours_before:]], run.there[hours_before:], strict=False
    ):
        assert (np.abs(after) <= np.abs(before)).all(), "it grew"
        assert (after * before >= 0).all(), "it turned"
    hold(run, active=False)
    run.decide(25)
    assert np.abs(run.there[-1]).sum() > np.abs(run.there[-26]).sum(), "it does not trade again"
    assert max(map(abs, run.net)) <= 0.0055  # drift that no leg's trade removes yet
    assert min(run.gross) > 0.5
    assert run.refusals_n == 0, "it was planned, and only risk stopped it"
