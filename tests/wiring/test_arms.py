"""The arms of a campaign: each is logged once, in their order, whoever ends first or fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.executor import ProcessExecutor, SequentialExecutor
from adapters.trial_ledger import TrialLedger
from daemon.domain.failures import ConfigurationError, DataError
from daemon.ports import Executor
from daemon.wiring.arms import Task, run_arms, run_whole, workers_of
from daemon.wiring.backtest import run_backtest
from tests.wiring.small_market import ROOT, small_settings, write_market

DAYS = {"long": 40, "middle": 12, "short": 4}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("market"), days=max(DAYS.values()))


def tasks_of(market: Path, ledger: Path, *last: tuple[str, str]) -> list[Task]:
    """Give arms of which the first takes longest, and such with another setting."""
    settings = [(name, f"backtest.until=2024-01-{min(n, 31):02}") for name, n in DAYS.items()]
    return [
        Task(
            name,
            small_settings(market, f"evaluation.trials_file={ledger}", override),
            f"evaluate {name}",
        )
        for name, override in (*settings, *last)
    ]


@pytest.mark.parametrize(
    "executor", [SequentialExecutor(), ProcessExecutor(3)], ids=["here", "workers"]
)
def test_trials_are_logged_once_each_in_the_order_of_the_arms(
    market: Path, tmp_path: Path, executor: Executor
) -> None:
    tasks = tasks_of(market, tmp_path / "t.jsonl")
    runs = run_arms(executor, run_whole, tasks)
    logged = TrialLedger(tmp_path / "t.jsonl").read().trials
    assert [one.command for one in logged] == [f"evaluate {name}" for name in DAYS]
    assert [one.last_ms for one in logged] == [run.record.times_ms[-1] for run in runs]
    assert len({one.id for one in logged}) == len(DAYS)


def test_a_run_comes_back_from_a_worker_as_it_is(market: Path, tmp_path: Path) -> None:
    (task,) = tasks_of(market, tmp_path / "t.jsonl")[-1:]
    (run,) = run_arms(workers_of(task.settings, 1), run_whole, [task])
    ours = run_backtest(task.settings).run
    assert run.executions == ours.executions
    assert len(run.executions) > 10
    assert [str(one) for one in run.decisions] == [str(one) for one in ours.decisions]
    assert (run.record.quantities == ours.record.quantities).all()


def test_arms_that_ended_are_logged_although_another_one_failed(
    market: Path, tmp_path: Path
) -> None:
    tasks = tasks_of(market, tmp_path / "t.jsonl", ("empty", "backtest.since=2030-01-01"))
    with pytest.raises(DataError, match="no 1h bar"):
        run_arms(ProcessExecutor(1), run_whole, tasks)
    logged = TrialLedger(tmp_path / "t.jsonl").read().trials
    assert [one.command for one in logged] == [f"evaluate {name}" for name in DAYS]


def test_a_ledger_that_cannot_be_written_is_told_before_any_arm_begins(
    market: Path, tmp_path: Path
) -> None:
    tasks = [*tasks_of(market, tmp_path / "t.jsonl"), *tasks_of(market, market / "ohlcv")]
    told: list[float] = []
    with pytest.raises(ConfigurationError, match=r"evaluation\.trials_file"):
        run_arms(SequentialExecutor(), run_whole, tasks, told.append)
    assert told == []


def test_nobody_else_runs_a_backtest_without_logging_it() -> None:
    calling = {
        str(path.relative_to(ROOT))
        for room in ("daemon", "adapters", "strategies", "tools")
        for path in (ROOT / room).rglob("*.py")
        if "run_unlogged" in path.read_text(encoding="utf-8")
    }
    assert calling == {"daemon/wiring/arms.py", "daemon/wiring/backtest.py"}
