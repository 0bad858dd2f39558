"""The null-market campaign through the real machine, small here and whole in the soak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from daemon.cli import run
from daemon.commands.evaluate.null import SEEDS_FILE, VERDICT_FILE, write_null
from daemon.domain.failures import ConfigurationError
from daemon.settings import Settings, load_settings
from daemon.wiring.null_market import NullPlan, run_null_markets
from tests.e2e.line import ROOT


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings([ROOT / "config" / "backtest.toml"], environment={})


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


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_hundred_null_markets_and_two_planted_ones_pass(settings: Settings) -> None:
    outcomes, verdict = run_null_markets(settings, NullPlan(), 0)
    assert len(outcomes) == 102
    assert verdict.passed, "\n".join(map(str, verdict.checks))
