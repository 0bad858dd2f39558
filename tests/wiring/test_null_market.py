"""The null-market campaign through the real machine, small here and whole in the soak."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.history.covariates import series_path, write_series
from adapters.rehearsal.seeded import SeededMarket
from adapters.rehearsal.universe import traits_of
from daemon.cli import run
from daemon.commands.evaluate.null import SEEDS_FILE, VERDICT_FILE, write_null
from daemon.domain.covariates import Series
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import HOUR_MS
from daemon.settings import Settings, load_settings
from daemon.wiring import null_market
from daemon.wiring.null_market import ORIGIN_MS, NullPlan, run_null_markets
from daemon.wiring.null_series import write_null_series
from tests.e2e.line import ROOT


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings([ROOT / "config" / "backtest.toml"], environment={})


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_small_campaign_is_the_same_to_the_byte_with_one_and_two_processes(
    settings: Settings, tmp_path: Path
) -> None:
    plan = NullPlan(seeds=2, planted=0, test_days=10)
    for processes in (1, 2):
        told: list[float] = []
        outcomes, verdict = run_null_markets(settings, plan, processes, told.append)
        write_null(tmp_path / str(processes), outcomes, verdict)
        assert told[-1] == 1.0
        assert verdict.passed
        assert [one.seed for one in outcomes] == [1, 2]
        for one in outcomes:
            assert len(one.gross_returns) == 10  # the first day from the opening on
            # two days of risk from the opening on, then the last six hours
            assert one.rank.instants == 1 + 10 * 24 - 48 - 6
            assert one.rank.low < one.rank.mean < one.rank.high
            assert one.net.estimate < one.gross.estimate  # it traded, and that costs
            assert one.true_ic == 0.0
            assert np.isnan(one.pattern.mean)
    for name in (SEEDS_FILE, VERDICT_FILE):
        first, second = ((tmp_path / str(p) / name).read_bytes() for p in (1, 2))
        assert first == second


@pytest.mark.timeout(300)
def test_the_command_fails_when_the_machine_fails_its_own_test(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    options = "--seeds 0 --planted 1 --planted-days 10 --processes 1 --json --out found"
    assert run(["evaluate", "null", *options.split()]) == 1
    # ten days are too few for a half-width of 0.01
    assert '"passed": false' in capsys.readouterr().out
    row = (tmp_path / "found" / SEEDS_FILE).read_text(encoding="utf-8").splitlines()[1]
    assert row.startswith("100001,0.05,0.0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": -1}, "seeds = -1: accepted is 0"),
        ({"test_days": 3}, "test_days = 3: accepted is 10"),
        ({"planted_ic": 0.0}, "ic = 0.0: accepted is above 0"),
        ({"seeds": 0, "planted": 0}, "a campaign needs a seed"),
    ],
)
def test_plans_that_cannot_be_run_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        NullPlan(**changes)  # type: ignore[arg-type]


@pytest.mark.soak(minutes=9)
@pytest.mark.timeout(7200)
def test_thirty_null_markets_and_two_planted_ones_pass(settings: Settings) -> None:
    """`equipoise evaluate null` itself takes a hundred; thirty are enough to be judged."""
    # one process: the other core has tests of its own
    outcomes, verdict = run_null_markets(settings, NullPlan(seeds=30), 1)
    assert len(outcomes) == 32
    assert verdict.passed, "\n".join(map(str, verdict.checks))


AHEAD = 6  # hours, the horizon of the label
COVARIATES = '["funding", "open_interest", "basis", "series:noise", "series:moon/phase"]'


def beside(*more: str) -> Settings:
    chosen = [f"training.covariates={COVARIATES}", *more]
    return load_settings([ROOT / "config" / "backtest.toml"], overrides=chosen, environment={})


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_model_with_covariates_that_know_nothing_finds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = NullPlan(seeds=2, planted=0, test_days=10)
    outcomes, verdict = run_null_markets(beside(), plan, 1, in_place=True)
    assert verdict.passed, [str(check) for check in verdict.checks]
    first = NullPlan(seeds=1, planted=0, test_days=10)  # seeds do not know of each other
    alone, _ = run_null_markets(beside("training.covariates=[]"), first, 1, in_place=True)
    assert alone[0].rank != outcomes[0].rank, "they have a say"
    monkeypatch.setattr("daemon.wiring.null_market.told", lambda worker, events: events)
    deaf, _ = run_null_markets(beside(), first, 1, in_place=True)
    assert deaf[0].seed == outcomes[0].seed
    assert deaf[0].rank != outcomes[0].rank, "funding has"


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_covariates_that_are_known_before_they_happen_fail_the_campaign(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A series that tells the next hours is fair once they are over, and a leak before."""
    plan = NullPlan(seeds=2, planted=0, test_days=10)

    def oracle(lag_ms: int) -> None:
        def write(covariates: Sequence[str], *args: Any, folder: Path, **more: Any) -> None:
            write_null_series(covariates, *args, folder=folder, **more)
            market = SeededMarket(
                [traits_of(name, ORIGIN_MS, None) for name in args[0]],
                seed=more["seed"],
                origin_ms=ORIGIN_MS,
                step_minutes=30,
                planted_ic=0.0,
            )
            for symbol in args[0]:
                close = market.steps(symbol, ORIGIN_MS, more["end_ms"]).close[1::2]  # at full hours
                ts = ORIGIN_MS + HOUR_MS * np.arange(1, len(close) + 1, dtype=np.int64)
                next_hours = np.exp(10.0 * np.log(close[AHEAD:] / close[:-AHEAD]))
                series = Series(ts[:-AHEAD], ts[:-AHEAD] + lag_ms, next_hours)
                write_series(series_path(folder, args[1], symbol, "open_interest"), series, {})

        monkeypatch.setattr(null_market, "write_null_series", write)

    chosen = beside('training.covariates=["open_interest"]')
    oracle(AHEAD * HOUR_MS)  # known when it has happened
    _, honest = run_null_markets(chosen, plan, 1, in_place=True)
    assert honest.passed
    oracle(0)
    outcomes, found = run_null_markets(chosen, plan, 1, in_place=True)
    assert not found.passed
    assert all(one.rank.low > 0.0 for one in outcomes)
