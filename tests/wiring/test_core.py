"""Settings become parts: the right ones, or one clear error before anything runs."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules
from daemon.domain.units import HOUR_MS, MINUTE_MS, Timeframe
from daemon.settings import Settings, load_settings
from daemon.wiring.combining import combining_of
from daemon.wiring.core import (
    bars_kept,
    cost_of,
    engine_of,
    history_ms,
    rules_path,
    strategy_of,
    timeframes_of,
    universe_of,
)
from strategies.neutral import NeutralStrategy
from strategies.rules import Rule

RULE = ("strategy.name=relative_strength", "estimator.kind=none")


def settings_of(*overrides: str) -> Settings:
    return load_settings(overrides=overrides, environment={})


def instruments(n: int = 3) -> list[Instrument]:
    rules = TradingRules(Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(5))
    return [
        Instrument(InstrumentKey("v", f"C{i}/USDT:USDT"), f"C{i}", "USDT", "USDT", rules)
        for i in range(n)
    ]


def test_the_engine_gets_what_settings_say() -> None:
    settings = settings_of(
        *RULE,
        "market.decision_deadline_s=12.5",
        "market.expected_absent_bars=3",
        "market.window_bars=77",
        "risk.net_weight_max=0.1",
        "risk.gross_weight_max=1.5",
        "risk.name_weight_max=0.3",
        "risk.order_weight_max=0.05",
        "risk.orders_open_max=9",
        "risk.uncertain_queries_max=4",
        "risk.mark_age_bars_max=2",
    )
    engine = engine_of(settings, universe_of(instruments()), Timeframe(30))
    rules, limits, cadence = engine.rules, engine.rules.limits, engine.rules.cadence
    assert cadence.timeframes == (Timeframe(60), Timeframe(90), Timeframe(120))
    assert cadence.deadline_ms == 12_500
    assert cadence.alive_ms == 90 * MINUTE_MS
    assert (limits.net_weight_max, limits.gross_weight_max) == (0.1, 1.5)
    assert (limits.name_weight_max, limits.order_weight_max) == (0.3, 0.05)
    assert (limits.orders_open_max, rules.uncertain_asks_max) == (9, 4)
    assert limits.mark_age_ms_max == HOUR_MS
    assert set(rules.bars_n.values()) == {77}
    assert engine.strategy.name == "relative_strength"
    assert len(engine.state.seen) == 3


def test_windows_are_never_shorter_than_the_strategy_needs() -> None:
    settings = settings_of("market.window_bars=2")
    needed = {Timeframe(60): 50}
    assert bars_kept(settings, needed) == {
        Timeframe(60): 50,
        Timeframe(90): 2,
        Timeframe(120): 2,
    }


def test_history_fills_the_longest_window_and_a_day_more() -> None:
    settings = settings_of(*RULE, "market.window_bars=40")
    engine = engine_of(settings, universe_of(instruments()), Timeframe(30))
    assert history_ms(settings, engine) == 40 * 2 * HOUR_MS + 24 * HOUR_MS


def test_the_cost_that_bands_expect_is_the_paper_venue_s() -> None:
    settings = settings_of(
        "paper.fee_bps=5",
        "paper.half_spread_bps=1",
        "paper.latency_bps=0.5",
        "paper.impact_bps=30",
    )
    assert cost_of(settings, 2) == pytest.approx(np.full(2, 8.0e-4))  # 30 x 0.05 of it is impact


def test_neutral_takes_the_timeframes_of_the_market() -> None:
    settings = settings_of('market.timeframes=["1h", "2h"]')
    strategy = strategy_of(settings)
    assert timeframes_of(settings) == (Timeframe(60), Timeframe(120))
    assert strategy.settings.timeframes_minutes == (60, 120)  # type: ignore[attr-defined]


@pytest.mark.parametrize("rule", Rule)
def test_neutral_combines_by_the_rule_of_the_settings_unless_it_has_its_own(rule: Rule) -> None:
    strategy = strategy_of(settings_of(f"estimator.combination={rule}"))
    assert isinstance(strategy, NeutralStrategy)
    assert strategy.settings.combination is rule
    own = 'strategy.parameters={"combination": "kalman"}'
    if rule not in (Rule.AUTO, Rule.KALMAN):
        for build in (strategy_of, combining_of):
            with pytest.raises(ConfigurationError, match="name one rule"):
                build(settings_of(f"estimator.combination={rule}", own))
        return
    assert combining_of(settings_of(f"estimator.combination={rule}", own)).rule is Rule.KALMAN
    strategy = strategy_of(settings_of(f"estimator.combination={rule}", own))
    assert isinstance(strategy, NeutralStrategy)
    assert strategy.settings.combination is Rule.KALMAN


def test_a_strategy_that_needs_a_timeframe_nobody_builds_is_refused_by_name() -> None:
    settings = settings_of(*RULE, 'market.timeframes=["90m", "2h"]')
    with pytest.raises(ConfigurationError, match=r"market.timeframes .* also needs 1h"):
        strategy_of(settings)


def test_neutrality_to_bitcoin_is_refused_where_the_universe_has_none() -> None:
    own = 'strategy.parameters={"neutral_to": ["size", "bitcoin"]}'
    settings = settings_of("strategy.name=momentum", "estimator.kind=none", own)
    with pytest.raises(
        ConfigurationError,
        match=r"neutral_to = \['size', 'bitcoin'\]: 'bitcoin' needs BTC in universe.symbols; "
        "accepted without it: market, size, momentum, volatility, funding",
    ):
        engine_of(settings, universe_of(instruments()), Timeframe(30))
    with_btc = [*instruments(), replace(instruments()[0], key=InstrumentKey("v", "B"), base="BTC")]
    assert len(engine_of(settings, universe_of(with_btc), Timeframe(30)).universe) == 4


def test_a_strategy_without_its_forecasts_is_refused_with_what_is_accepted() -> None:
    with pytest.raises(ConfigurationError, match=r"needs forecasts; accepted: model, table, zero"):
        strategy_of(settings_of("estimator.kind=none"))


def test_a_universe_needs_an_instrument() -> None:
    with pytest.raises(ConfigurationError, match=r"universe\.symbols"):
        universe_of([])


def test_a_table_of_rules_that_is_nowhere_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"backtest\.rules_file = 'no_such\.toml'"):
        rules_path("no_such.toml")
    assert rules_path("config/trading_rules.toml").name == "trading_rules.toml"


def test_the_bars_of_a_backtest_replace_those_of_the_market() -> None:
    chosen = ["backtest.source=15m", "market.decision=15m"]
    with pytest.raises(ConfigurationError, match=r"not a multiple of market\.source 30m"):
        load_settings(overrides=chosen, environment={})
    found = load_settings(overrides=chosen, environment={}, of_backtest=True)
    assert found.market.decision == "15m"
    coarse = ["backtest.source=1h", 'market.timeframes=["90m"]']
    with pytest.raises(ConfigurationError, match=r"90m is not a multiple of backtest\.source 1h"):
        load_settings(overrides=coarse, environment={}, of_backtest=True)
