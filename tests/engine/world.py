"""A small world for the engine's tests: four coins at 100, bars and forecasts by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import FIELDS, Proof
from daemon.domain.decision import Decision
from daemon.domain.forecast import Estimates, Prediction
from daemon.domain.instrument import CashKey, Instrument, InstrumentKey, TradingRules, Universe
from daemon.domain.messages import (
    Alert,
    AlertKind,
    BarsClosed,
    Command,
    Decided,
    EstimatesReady,
    Event,
    OrderFilled,
    Snapshotted,
    Started,
    Submit,
    Transferred,
)
from daemon.domain.order import Fill, Order, OrderId
from daemon.domain.portfolio import AccountSnapshot, TargetPortfolio
from daemon.domain.units import MINUTE_MS, Timeframe
from daemon.domain.view import View
from daemon.engine.cadence import CadenceRules
from daemon.engine.engine import Engine
from daemon.engine.reconcile import ReconcilePolicy
from daemon.engine.risk import RiskLimits, TradingState
from daemon.engine.rules import EngineRules
from daemon.ports import StrategyState

Floats = npt.NDArray[np.float64]

MIDNIGHT_MS = 1_700_006_400_000  # 2023-11-15T00:00:00Z
BAR_MS = 30 * MINUTE_MS
VENUE = "paper"
CASH_KEY = CashKey(VENUE, "USDT")
SYMBOLS = ("BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT", "XRP/USDT:USDT")
H1, M90, H2, M30 = Timeframe(60), Timeframe(90), Timeframe(120), Timeframe(30)
NAN = float("nan")
CASH = Decimal(10_000)


def at(bar: int) -> int:
    """Give the close of source bar `bar` after midnight: at(2) is 01:00, a decision."""
    return MIDNIGHT_MS + bar * BAR_MS


def universe_of(n: int = 4, *, step: str = "0.01", notional_min: str = "5") -> Universe:
    rules = TradingRules(
        price_step=Decimal("0.01"),
        quantity_step=Decimal(step),
        quantity_min=Decimal(step),
        notional_min=Decimal(notional_min),
    )
    return Universe(
        tuple(
            Instrument(InstrumentKey(VENUE, s), s.split("/")[0], "USDT", "USDT", rules)
            for s in SYMBOLS[:n]
        )
    )


def key(index: int) -> InstrumentKey:
    return InstrumentKey(VENUE, SYMBOLS[index])


@dataclass(frozen=True)
class FollowForecasts:
    """Want the newest forecast's means as weights; count the decisions in the state."""

    windows_needed: Mapping[Timeframe, int] = field(default_factory=lambda: {H1: 1})
    needs_estimates: bool = True
    name: str = "follow_forecasts"

    def initial_state(self, instruments_n: int) -> StrategyState:
        return {"decisions": np.zeros(1), "last": np.zeros(instruments_n)}

    def decide(self, state: StrategyState, view: View) -> tuple[StrategyState, TargetPortfolio]:
        wanted = view.predictions[-1].mean if view.predictions else view.weights
        weights = np.where(np.isnan(wanted) | ~view.eligible, view.weights, wanted)
        fresh = {"decisions": state["decisions"] + 1.0, "last": weights}
        return fresh, TargetPortfolio(view.as_of_ms, weights, weights, np.zeros(len(weights)))


@dataclass(frozen=True)
class FixedWeights:
    """Want weights that depend on the instant only; wait for no forecasts."""

    weights: Callable[[int], Sequence[float]]
    windows_needed: Mapping[Timeframe, int] = field(default_factory=dict)
    needs_estimates: bool = False
    name: str = "fixed_weights"

    def initial_state(self, instruments_n: int) -> StrategyState:
        return {"decisions": np.zeros(1)}

    def decide(self, state: StrategyState, view: View) -> tuple[StrategyState, TargetPortfolio]:
        weights = np.array(self.weights(view.as_of_ms), dtype=np.float64)
        target = TargetPortfolio(view.as_of_ms, weights, weights, np.zeros(len(weights)))
        return {"decisions": state["decisions"] + 1.0}, target


def make_engine(
    strategy: FollowForecasts | FixedWeights | None = None,
    *,
    universe: Universe | None = None,
    limits: RiskLimits | None = None,
    timeframes: tuple[Timeframe, ...] = (H1,),
    reconcile: ReconcilePolicy = ReconcilePolicy.HALT,
    asks_max: int = 3,
    bars_n: int = 8,
    alive_ms: int = 4 * BAR_MS,
) -> Engine:
    universe = universe or universe_of()
    rules = EngineRules(
        cadence=CadenceRules(M30, timeframes, deadline_ms=20_000, alive_ms=alive_ms),
        limits=limits or RiskLimits(),
        cost=np.full(len(universe), 0.0006),
        bars_n=dict.fromkeys(timeframes, bars_n),
        reconcile=reconcile,
        uncertain_asks_max=asks_max,
    )
    return Engine(universe, strategy or FollowForecasts(), rules)


def bars(
    bar: int, closes: Sequence[float] | float = 100.0, *, n: int = 4, final: bool = True
) -> BarsClosed:
    """Close source bar `bar` of n coins; NaN is a bar that is not there (yet)."""
    close = np.full(n, closes) if isinstance(closes, float) else np.array(closes)
    values = np.repeat(close[:, None], FIELDS, axis=1)
    proof = np.where(np.isnan(close), Proof.ABSENT, Proof.SUCCESSOR).astype(np.uint8)
    return BarsClosed(at(bar), values, proof, close.copy(), final)


def forecast(
    bar: int, means: Sequence[float], timeframe: Timeframe = H1, model: str = "m1"
) -> EstimatesReady:
    mean, seen_ms = np.array(means), timeframe.last_close(at(bar))
    prediction = Prediction(timeframe, seen_ms, mean, np.full(len(mean), 0.01), model)
    return EstimatesReady(Estimates(at(bar), (prediction,)))


def deposit(amount: Decimal = CASH, number: int = 0) -> Transferred:
    return Transferred(f"deposit{number}", CASH_KEY, MIDNIGHT_MS, amount)


def snapshot(
    quantities: Mapping[int, str] | None = None, cash: str = "10000", cursor: int = 0
) -> Snapshotted:
    held = {key(i): Decimal(q) for i, q in (quantities or {}).items()}
    return Snapshotted(AccountSnapshot(VENUE, MIDNIGHT_MS, held, {CASH_KEY: Decimal(cash)}, cursor))


def fill_of(
    order: Order, trade_id: str, quantity: str | None = None, price: str = "100", fee: str = "0"
) -> OrderFilled:
    size = order.quantity if quantity is None else Decimal(quantity)
    return OrderFilled(
        Fill(
            trade_id,
            order.order_id,
            order.key,
            order.index,
            size,
            Decimal(price),
            Decimal(fee),
            order.as_of_ms,
        )
    )


def feed(engine: Engine, *events: Event) -> list[Command]:
    """Process events and give all commands they caused, in order."""
    return [command for event in events for command in engine.process(event)]


def trading_engine(
    strategy: FollowForecasts | FixedWeights | None = None,
    *,
    n: int = 4,
    warm_bars: int = 2,
    limits: RiskLimits | None = None,
    reconcile: ReconcilePolicy = ReconcilePolicy.HALT,
    asks_max: int = 3,
) -> Engine:
    """Give an engine with 10,000 USDT that has seen bars 1..warm_bars and may trade."""
    engine = make_engine(
        strategy,
        universe=universe_of(n),
        limits=limits,
        reconcile=reconcile,
        asks_max=asks_max,
    )
    feed(engine, Started(at(0), "run", warming=True))
    for bar in range(1, warm_bars + 1):
        feed(engine, bars(bar, n=n))
    feed(engine, Started(at(warm_bars), "run"), deposit(), snapshot())
    return engine


def submitted(commands: Sequence[Command]) -> list[Order]:
    return [c.approved.order for c in commands if isinstance(c, Submit)]


def decided(commands: Sequence[Command]) -> list[Decision]:
    return [c.decision for c in commands if isinstance(c, Decided)]


def alerts(commands: Sequence[Command], kind: AlertKind | None = None) -> list[Alert]:
    return [c for c in commands if isinstance(c, Alert) and kind in (None, c.kind)]


def names(commands: Sequence[Command]) -> list[str]:
    return [type(c).__name__ for c in commands]


def shown(orders: Sequence[Order]) -> list[tuple[OrderId, str]]:
    return [(o.order_id, str(o.quantity)) for o in orders]


def trading(engine: Engine) -> TradingState:
    """Give the trading state; a call, so that a type checker expects it to change."""
    return engine.state.trading
