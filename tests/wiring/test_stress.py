"""The stress campaign over a small market: the same bytes with one process and with two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.executor import ProcessExecutor, SequentialExecutor
from adapters.trial_ledger import TrialLedger
from daemon.domain.failures import DataError
from daemon.research.stress import stress_values
from daemon.wiring.arms import workers_of
from daemon.wiring.backtest import run_backtest
from daemon.wiring.stress import run_stress, write_stress
from daemon.wiring.trials import different_trials
from tests.wiring.small_market import small_settings, write_market

ARMS_DIFFERENT = 13  # fourteen, of which the capacity at the configured cash is the base


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("market"), days=8)


def test_one_and_two_processes_write_the_same_bytes_and_log_the_same_trials(
    market: Path, tmp_path: Path
) -> None:
    written, logged = [], []
    for executor in (SequentialExecutor(), ProcessExecutor(2)):
        folder = tmp_path / type(executor).__name__
        settings = small_settings(market, f"evaluation.trials_file={folder / 'trials.jsonl'}")
        told: list[float] = []
        paths = write_stress(run_stress(settings, executor, told.append), folder / "out")
        written.append([path.read_bytes() for path in paths])
        logged.append(TrialLedger(folder / "trials.jsonl").read().trials)
        assert told == sorted(told)
        assert told[-1] == pytest.approx(1.0)
    assert written[0] == written[1]
    one, two = (
        {(trial.command, trial.id, tuple(trial.returns)) for trial in trials} for trials in logged
    )
    assert one == two
    assert [trial.id for trial in logged[0]] == [trial.id for trial in logged[1]]
    assert len(logged[0]) == len(logged[1]) == len(one) == ARMS_DIFFERENT
    assert len(different_trials(logged[0])) == ARMS_DIFFERENT
    text = written[0][0].decode()
    assert str(market) not in text
    values = json.loads(text)
    by_name = {(arm["group"], arm["name"]): arm for arm in values["arms"]}
    assert by_name["capacity", "cash x 1"]["same_as"] == "base: as configured"
    base = by_name["base", "as configured"]["figures"]
    dear = by_name["cost", "15 bps"]["figures"]
    assert dear["cost_bps"] > base["cost_bps"] > by_name["cost", "3 bps"]["figures"]["cost_bps"]
    large = by_name["capacity", "cash x 300"]["figures"]
    assert large["cost_bps"] > base["cost_bps"], "a large book pays more impact"


def test_the_base_is_the_backtest_and_its_trial_a_repeat(market: Path, tmp_path: Path) -> None:
    settings = small_settings(market, f"evaluation.trials_file={tmp_path / 'trials.jsonl'}")
    result = run_backtest(settings)
    report = run_stress(settings, workers_of(settings, 1))
    figures = report.arms[0].figures
    assert str(report.arms[0].capacity) == str(result.run.capacity)  # an unknown is not itself
    values = stress_values(report)
    assert "run the strategy again" in str(values["capacity_means"])
    assert json.loads(json.dumps(values, allow_nan=False))["arms"][0]["capacity"]["why"] == (
        result.run.capacity.why
    )
    assert figures.sharpe == pytest.approx(result.metrics.sharpe)
    assert report.arms[0].fills == result.run.facts.fills
    tried = different_trials(TrialLedger(tmp_path / "trials.jsonl").read().trials)
    assert [one.repeats for one in tried] == [1] + [0] * (ARMS_DIFFERENT - 1)
    assert stress_values(report)["data_fingerprint"] == result.run.facts.fingerprint


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failing_arm_says_which_it_is(market: Path, tmp_path: Path, processes: int) -> None:
    settings = small_settings(
        market, "backtest.since=2030-01-01", f"evaluation.trials_file={tmp_path / 't.jsonl'}"
    )
    with pytest.raises(DataError, match="no 1h bar") as caught:
        run_stress(settings, workers_of(settings, processes))
    assert any(
        "'base: as configured'" in note or "'cost: " in note for note in caught.value.__notes__
    )
