"""The arms of a campaign: backtests in worker processes, logged as trials in the order of the arms.

A worker does not write into the ledger itself. Workers end in any order, and what was tried would
then be listed otherwise with two processes than with one. Here it is written as results come, each
as soon as those before it are there; where an arm fails or somebody presses Ctrl-C, all that ended
is written.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from adapters.executor import make_workers
from adapters.trial_ledger import Trial, TrialLedger
from daemon.ports import Executor, Share
from daemon.report.run import Run
from daemon.runtime.collector import collect_rarely
from daemon.runtime.logs import configure_logs
from daemon.settings import Settings
from daemon.wiring.backtest import BacktestResult, run_unlogged
from daemon.wiring.trials import ledger_of

Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Task:
    """Hold the backtest of one arm.

    command, is_stress: for the ledger, who wanted it, and whether only costs or sizes differ from
    another arm.
    """

    name: str
    settings: Settings
    command: str
    is_stress: bool = False


@dataclass(frozen=True, slots=True)
class Ended(Generic[Kept]):
    """Hold what is kept of an arm, and the trial that it was; None where nothing could be run."""

    kept: Kept
    trial: Trial | None
    trials_file: Path


def workers_of(settings: Settings, processes: int | None = None) -> Executor:
    """Give the workers of a campaign; `processes` comes before evaluation.processes."""
    return make_workers(settings.evaluation.processes if processes is None else processes)


def run_arms(
    executor: Executor,
    run: Callable[[Task, Share], Ended[Kept]],
    tasks: Sequence[Task],
    done: Share = lambda share: None,
) -> list[Kept]:
    """Run arms, log the trial of each, and give what is kept of them, in their order.

    run: can be imported by a worker and leaves its trial to be logged here. Raises
    ConfigurationError for a ledger that cannot be written, before anything runs, and what a
    backtest raises, with the name of the arm.
    """
    for task in tasks:
        ledger_of(task.settings)
    arms = [(task.name, task) for task in tasks]
    return [one.kept for one in executor.map(run, arms, done, _log)]


def _log(one: Ended[Kept]) -> None:
    if one.trial is not None:
        TrialLedger(one.trials_file).append(one.trial)


def run_whole(task: Task, share: Share) -> Ended[Run]:
    """Run the backtest of an arm and keep all of it."""
    result = backtest_of(task, share)
    return ended(task, result.run, result)


def backtest_of(task: Task, share: Share) -> BacktestResult:
    """Run the backtest of an arm, here or in a worker; its trial is not logged yet."""
    settings = task.settings
    if multiprocessing.parent_process() is not None:  # the process is ours alone
        collect_rarely()
    configure_logs(settings.run.log_level, as_json=settings.run.log_json)
    return run_unlogged(
        settings,
        lambda done, total: share(done / total if total else 0.0),
        command=task.command,
        is_stress=task.is_stress,
    )


def ended(task: Task, kept: Kept, result: BacktestResult | None) -> Ended[Kept]:
    """Put the trial that must be logged beside what is kept."""
    trial = None if result is None else result.trial
    return Ended(kept, trial, Path(task.settings.evaluation.trials_file))
