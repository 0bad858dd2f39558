"""List what was tried beside a run, and what is known of its pipeline and the future."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapters.trial_ledger import Trial
from daemon.report.run import Run
from daemon.report.trials import Trials
from daemon.report.tried_list import LeakTest, TriedList, TriedRow, best_first, differences
from daemon.wiring.leak_tests import leak_test_of
from daemon.wiring.trials import (
    SAME_RETURN,
    Tried,
    attempts,
    daily_returns,
    read_group,
)


@dataclass(frozen=True, slots=True)
class Beside:
    """Hold what a ledger says of one set of data: its trials judged together, and one by one."""

    path: Path
    data_fingerprint: str
    trials: Trials
    group: tuple[Tried, ...]

    def listed(self, run: Run) -> TriedList:
        """List the attempts beside a run of this data; repeats do not change what it says.

        Raises CorruptFile for damage to what look-ahead tests left.
        """
        mine = self._trial_of(run)
        counted = attempts(self.group)
        if mine is not None and mine not in counted:
            counted = [mine, *counted]
        return TriedList(
            rows=best_first([_row(one, mine) for one in counted]),
            leak_test=LeakTest()
            if mine is None
            else leak_test_of(
                self.path, mine.trial.configuration_fingerprint, self.data_fingerprint
            ),
        )

    def _trial_of(self, run: Run) -> Tried | None:
        """Find the trial that the run was logged as: same name, same returns."""
        days, returns = daily_returns(run.record)
        for one in self.group:
            trial = one.trial
            is_named = trial.id == run.facts.trial_id and list(trial.days) == days
            if is_named and np.allclose(trial.returns, returns, rtol=0.0, atol=SAME_RETURN):
                return one
        return None


def read_beside(path: Path, data_fingerprint: str) -> Beside | None:
    """Read what was tried on the data of this fingerprint; None where nothing was.

    Raises CorruptFile for a damaged ledger.
    """
    trials, group = read_group(path, data_fingerprint=data_fingerprint)
    return Beside(path, data_fingerprint, trials, tuple(group)) if group else None


def _row(one: Tried, mine: Tried | None) -> TriedRow:
    trial = one.trial
    return TriedRow(
        name=one.name,
        command=trial.command,
        sharpe=math.nan if trial.sharpe is None else trial.sharpe,
        days=len(trial.days),
        differences=_differences(mine, trial),
        is_this=one is mine,
    )


def _differences(mine: Tried | None, trial: Trial) -> tuple[str, ...]:
    if trial.training is not None:
        return (f"trained model {trial.training.model[:12]}",)
    if mine is None:
        return ()
    found = differences(mine.trial.configuration, trial.configuration)
    if found:
        return found
    if trial.data_fingerprint != mine.trial.data_fingerprint:
        return ("the same settings on other data",)
    return ("the same settings by another state of the program",) if trial is not mine.trial else ()
