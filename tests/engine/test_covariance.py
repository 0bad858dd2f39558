"""A covariance is asked for at each hour, kept, shown to the strategy, and its fall is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from daemon.domain.covariance import Covariance
from daemon.domain.forecast import Estimates
from daemon.domain.messages import AlertKind, Command, Estimate, EstimatesReady, Started
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import Timeframe
from daemon.domain.view import View
from daemon.engine.engine import Engine
from daemon.ports import Strategy, StrategyState
from tests.engine.world import (
    H1,
    FollowForecasts,
    alerts,
    at,
    bars,
    decided,
    deposit,
    feed,
    forecast,
    make_engine,
    snapshot,
    trading,
    universe_of,
)


@dataclass(frozen=True)
class _Looks:
    """Hold what the views had of a covariance; want nothing."""

    seen: list[Covariance | None] = field(default_factory=list)
    windows_needed: Mapping[Timeframe, int] = field(default_factory=lambda: {H1: 1})
    needs_estimates: bool = False
    name: str = "looks"

    def initial_state(self, instruments_n: int) -> StrategyState:
        return {}

    def decide(self, state: StrategyState, view: View) -> tuple[StrategyState, TargetPortfolio]:
        self.seen.append(view.covariance)
        zero = np.zeros(len(view.weights))
        return state, TargetPortfolio(view.as_of_ms, zero, zero, zero)


def _engine(strategy: Strategy, *, asks: bool = True) -> Engine:
    rules = make_engine().rules
    rules = replace(rules, cadence=replace(rules.cadence, covariance=asks))
    engine = Engine(universe_of(4), strategy, rules)
    feed(engine, Started(at(0), "run", warming=True), bars(1), bars(2))
    feed(engine, Started(at(2), "run"), deposit(), snapshot())
    return engine


def _asked(commands: list[Command]) -> list[list[str]]:
    return [[w.timeframe.label for w in c.windows] for c in commands if isinstance(c, Estimate)]


def _said(bar: int, note: str = "", seen: int | None = None) -> EstimatesReady:
    """Answer the question of a bar with what was seen up to it, or up to an earlier one."""
    seen_ms = at(bar if seen is None else seen)
    covariance = Covariance(seen_ms, "ewma+ewma", np.full(4, 0.01), np.eye(4), note)
    return EstimatesReady(Estimates(at(bar), (), covariance=covariance))


def test_it_is_asked_for_beside_a_strategy_without_forecasts_and_shown_to_it() -> None:
    strategy = _Looks()
    engine = _engine(strategy)
    assert _asked(feed(engine, bars(3))) == [["1h"]]  # of the hour before the start
    assert decided(feed(engine, _said(3, seen=2))) == []
    assert _asked(feed(engine, bars(4))) == [["1h"]]
    assert len(decided(feed(engine, _said(4)))) == 1
    assert strategy.seen[-1] is not None
    assert strategy.seen[-1].as_of_ms == at(4)
    assert trading(engine) == "trading"


def test_without_the_setting_nobody_is_asked() -> None:
    strategy = _Looks()
    told = feed(_engine(strategy, asks=False), bars(3), bars(4))
    assert _asked(told) == []
    assert strategy.seen == [None]


def test_forecasts_and_covariance_are_one_question() -> None:
    engine = _engine(FollowForecasts())
    assert _asked(feed(engine, bars(3))) == [["1h"]]
    assert _asked(feed(engine, bars(4))) == [["1h"]]
    both = replace_covariance(forecast(4, (0.1, -0.1, 0.0, 0.0)), _said(4))
    assert len(decided(feed(engine, both))) == 1
    assert engine.state.covariance is not None


def replace_covariance(said: EstimatesReady, other: EstimatesReady) -> EstimatesReady:
    estimates = said.estimates
    return EstimatesReady(
        Estimates(estimates.as_of_ms, estimates.predictions, covariance=other.estimates.covariance)
    )


def test_people_hear_once_when_a_baseline_speaks_and_once_when_it_ends() -> None:
    engine = _engine(_Looks())
    told: list[str] = []
    for bar, note in ((4, ""), (6, "lost 1"), (8, "lost 2"), (10, ""), (12, "")):
        commands = feed(engine, bars(bar - 1), bars(bar), _said(bar, note))
        told += [alert.text for alert in alerts(commands, AlertKind.COVARIANCE)]
    assert told == ["ewma+ewma speaks instead: lost 1", "ewma+ewma speaks again"]


def test_people_hear_that_a_baseline_fails_alone_and_that_nobody_gives_a_covariance() -> None:
    engine = _engine(_Looks())
    told: list[str] = []
    silence: list[dict[str, str]] = [
        {"covariance baseline": "the watch is without it"},
        {"covariance baseline": "the watch is without it"},
        {"covariance baseline": "the watch is without it", "covariance": "nobody gives one"},
        {},
    ]
    for bar, silent in zip((4, 6, 8, 10), silence, strict=True):
        said = EstimatesReady(Estimates(at(bar), (), silent=silent))
        commands = feed(engine, bars(bar - 1), bars(bar), said)
        told += [alert.text for alert in alerts(commands, AlertKind.COVARIANCE)]
    assert told == [
        "covariance baseline: the watch is without it",
        "covariance: nobody gives one",
        "covariance: known again as usual",
        "covariance baseline: known again as usual",
    ]
