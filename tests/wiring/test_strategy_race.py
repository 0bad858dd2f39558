"""The race of strategies over a small market: ordinary backtests, logged, with any workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.executor import make_workers
from adapters.trial_ledger import TrialLedger
from daemon.domain.failures import ConfigurationError
from daemon.research.strategy_race import race_json
from daemon.wiring.strategy_race import run_race
from tests.wiring.small_market import small_settings, write_market

KNOBS = ("market.window_bars=171", "strategy.parameters={}", "strategy.name=momentum")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("market"), days=30)


def test_arms_run_at_each_cost_are_logged_and_do_not_hang_on_workers(market: Path) -> None:
    settings = small_settings(market, *KNOBS)
    arms = ("momentum", "reversal", "neutral")
    found = run_race(settings, make_workers(1), only=arms, costs_bps=(5.0, 7.0))
    assert [(lap.arm.name, lap.cost_bps) for lap in found.laps] == [
        ("momentum", 5.0),
        ("momentum", 7.0),
        ("reversal", 5.0),
        ("reversal", 7.0),
    ]
    assert [one.name for one in found.absent] == ["neutral"]
    assert "there are no forecasts" in found.absent[0].why
    dear = {lap.arm.name: lap.figures.cost_bps for lap in found.laps if lap.cost_bps == 7.0}
    cheap = {lap.arm.name: lap.figures.cost_bps for lap in found.laps if lap.cost_bps == 5.0}
    for name, bps in dear.items():
        assert bps > cheap[name] + 1.0, name
    again = run_race(settings, make_workers(2), only=arms, costs_bps=(5.0, 7.0))
    assert race_json(again) == race_json(found)
    trials = TrialLedger(market / "trials.jsonl").read().trials
    assert {trial.command for trial in trials} == {"evaluate strategies"}


def test_an_arm_that_is_none_is_refused_with_the_known_ones(market: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no arm 'momentun'.*low_volatility"):
        run_race(small_settings(market, *KNOBS), make_workers(1), only=("momentun",))
    with pytest.raises(ConfigurationError, match="no arm can be run: neutral"):
        run_race(small_settings(market, *KNOBS), make_workers(1), only=("neutral",))
