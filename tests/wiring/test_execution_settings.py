"""Settings of execution and of the newer limits become rules, or one clear error."""

from __future__ import annotations

from dataclasses import fields

import pytest

from daemon.domain.failures import ConfigurationError
from daemon.domain.units import Timeframe
from daemon.engine.engine import Engine
from daemon.engine.limits import RiskLimits
from daemon.engine.styles import ExecutionRules, Style
from daemon.settings import load_settings
from daemon.wiring.core import engine_of, universe_of
from tests.wiring.test_core import RULE, instruments, settings_of

LIMITS = (
    "beta_weight_max",
    "venue_weight_max",
    "collar_bps",
    "orders_minute_max",
    "day_loss_max",
    "drawdown_max",
    "margin_ratio_max",
)


def built(*overrides: str) -> Engine:
    return engine_of(settings_of(*RULE, *overrides), universe_of(instruments()), Timeframe(30))


def test_by_default_everything_crosses_at_once_and_the_newer_limits_are_off() -> None:
    engine = built()
    assert engine.rules.execution == ExecutionRules()
    limits = engine.rules.limits
    off = {f.name for f in fields(RiskLimits) if getattr(limits, f.name) is None}
    assert off == set(LIMITS)
    assert engine.state.book.beta is None


def test_each_limit_is_handed_on() -> None:
    for name in LIMITS:
        value = 7 if name == "orders_minute_max" else 0.25
        limits = built(f"risk.{name}={value}").rules.limits
        assert getattr(limits, name) == value
    assert built("risk.beta_weight_max=0.25").state.book.beta is not None


def test_the_style_is_handed_on() -> None:
    rules = built(
        "execution.style=passive",
        "execution.passive_s=90",
        "execution.passive_offset_bps=3.0",
        "execution.twap_window_s=600",
        "execution.twap_slices_n=6",
        'execution.hedge_symbols=["ETH"]',
        "execution.mends_max=1",
        "execution.cost_feedback=true",
    ).rules.execution
    assert rules == ExecutionRules(
        Style.PASSIVE, 90_000, 3.0, 600_000, 6, ("ETH",), mends_max=1, cost_feedback=True
    )


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("execution.twap_slices_n=2",), "execution.twap_window_s"),
        (("execution.passive_s=3600",), "execution.passive_s"),
        (("execution.twap_window_s=3590",), "execution.passive_s"),
        (('execution.hedge_symbols=["btc"]',), "execution.hedge_symbols"),
        (('execution.hedge_symbols=["BTC", "BTC"]',), "execution.hedge_symbols"),
        (("risk.day_loss_max=1.0",), "risk.day_loss_max"),
        (("risk.collar_bps=-1",), "risk.collar_bps"),
    ],
)
def test_what_does_not_fit_is_named(overrides: tuple[str, ...], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        settings_of(*overrides)


def test_a_backtest_without_time_between_its_bars_refuses_styles_that_take_time() -> None:
    asked = ("execution.style=passive", "backtest.source=1h", "market.decision=1h")
    with pytest.raises(ConfigurationError, match=r"execution\.style"):
        load_settings(overrides=asked, environment={}, of_backtest=True)
    settings_of(asked[0])
