"""The race of strategies over a small market: ordinary backtests, logged, with any workers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adapters.executor import SequentialExecutor, make_workers
from adapters.history.parquet_file import Rates, write_rates
from adapters.history.store import funding_path
from adapters.trial_ledger import TrialLedger
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import DAY_MS
from daemon.research.strategy_race import race_json
from daemon.wiring.strategy_race import run_race, write_race
from tests.wiring.small_market import FIRST_MS, SYMBOLS, VENUE, small_settings, write_market

KNOBS = ("market.window_bars=171", "strategy.parameters={}", "strategy.name=momentum")


def with_rates(folder: Path, *, venue: str = VENUE, until: int = 90) -> Path:
    """Write funding rates that differ by coin, at settlements 1 .. until - 1 of the market."""
    settle_ms = FIRST_MS + np.arange(1, until, dtype=np.int64) * (DAY_MS // 3)
    for place, symbol in enumerate(SYMBOLS):
        rates = Rates(settle_ms, np.full(len(settle_ms), (place - 2) * 1e-4))
        about = {"venue": venue, "symbol": symbol}
        write_rates(funding_path(folder, venue, symbol), rates, about)
    return folder


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_rates(write_market(tmp_path_factory.mktemp("market"), days=30))


def test_arms_run_at_each_cost_are_logged_and_do_not_hang_on_workers(market: Path) -> None:
    settings = small_settings(market, *KNOBS)
    arms = ("momentum", "reversal", "neutral")
    found = run_race(settings, make_workers(1), only=arms, costs_bps=(5.0, 7.0))
    assert [(lap.arm.name, lap.nominal_bps) for lap in found.laps] == [
        ("momentum", 5.0),
        ("momentum", 7.0),
        ("reversal", 5.0),
        ("reversal", 7.0),
    ]
    assert [one.name for one in found.absent] == ["neutral"]
    assert "there are no forecasts" in found.absent[0].why
    dear = {lap.arm.name: lap.figures.cost_bps for lap in found.laps if lap.nominal_bps == 7.0}
    cheap = {lap.arm.name: lap.figures.cost_bps for lap in found.laps if lap.nominal_bps == 5.0}
    for name, bps in dear.items():
        assert bps > cheap[name] + 1.0, name
    again = run_race(settings, make_workers(2), only=arms, costs_bps=(5.0, 7.0))
    assert race_json(again) == race_json(found)
    trials = TrialLedger(market / "trials.jsonl").read().trials
    assert {trial.command for trial in trials} == {"evaluate strategies"}


def test_the_whole_field_runs_where_there_are_forecasts_and_funding(market: Path) -> None:
    """The book of a programme, the threshold and carry are the arms with needs of their own."""
    own = ("estimator.kind=momentum", "strategy.name=neutral", *KNOBS[:2])
    knobs = 'strategy.parameters={"friction_max": 100.0}'
    settings = small_settings(market, *own, knobs)
    arms = ("neutral", "neutral, mean-variance", "threshold", "carry")
    found = run_race(settings, SequentialExecutor(), only=arms, costs_bps=(7.0,))
    assert [lap.arm.name for lap in found.laps] == list(arms)
    assert found.absent == ()
    laps = {lap.arm.name: lap for lap in found.laps}
    for name, one in laps.items():
        assert one.fills > 5, name
        assert one.figures.cost_bps > 7.0, name  # with impact
    books = {tuple(one.days.returns.tolist()) for one in found.laps}
    assert len(books) == len(arms)  # each holds a book of its own
    assert {row["arm"] for row in json.loads(race_json(found))["beside"]} == {*arms[1:], "blend"}
    paths = write_race(found, market / "out")
    assert [path.name for path in paths] == [
        "strategies.json",
        "strategies.csv",
        "strategies_days.csv",
    ]


def test_carry_stays_away_where_funding_is_not_known(market: Path, tmp_path: Path) -> None:
    holed = write_market(tmp_path, days=30)
    with_rates(holed, until=45)  # of 90 settlements
    arms = ("momentum", "carry")
    found = run_race(
        small_settings(holed, *KNOBS), SequentialExecutor(), only=arms, costs_bps=(7.0,)
    )
    assert [lap.arm.name for lap in found.laps] == ["momentum"]
    assert "settlements have no funding rate of 'small'" in found.absent[0].why
    with_rates(holed, venue="other")
    lent = small_settings(holed, *KNOBS, "backtest.funding_venue=other")
    found = run_race(lent, SequentialExecutor(), only=arms, costs_bps=(7.0,))
    assert [lap.arm.name for lap in found.laps] == list(arms)


def test_an_arm_that_is_none_is_refused_with_the_known_ones(market: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no arm 'momentun'.*low_volatility"):
        run_race(small_settings(market, *KNOBS), make_workers(1), only=("momentun",))
    with pytest.raises(ConfigurationError, match="no arm can be run: neutral"):
        run_race(small_settings(market, *KNOBS), make_workers(1), only=("neutral",))
