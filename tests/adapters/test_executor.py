"""Arms give the same in one process and in several, and nothing is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from adapters.executor import (
    ProcessExecutor,
    SequentialExecutor,
    WorkerLost,
    make_executor,
    make_workers,
)
from daemon.domain.failures import DataError, InvariantViolated
from daemon.ports import Executor
from tests.adapters import executor_arms as arms_of

ROOT = Path(__file__).resolve().parents[2]
ARMS = [(f"arm {number}", number) for number in range(6)]
BOTH: tuple[Executor, ...] = (SequentialExecutor(), ProcessExecutor(2))


def name_of(executor: Executor) -> str:
    return type(executor).__name__


@pytest.mark.parametrize("executor", BOTH, ids=name_of)
def test_results_come_in_the_order_of_the_arms_and_progress_reaches_the_end(
    executor: Executor,
) -> None:
    told: list[float] = []
    assert executor.map(arms_of.square, ARMS, told.append) == [0, 1, 4, 9, 16, 25]
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)
    assert len(told) > len(ARMS), "an arm tells how far it is"


@pytest.mark.parametrize("executor", BOTH, ids=name_of)
def test_without_arms_nothing_runs(executor: Executor) -> None:
    assert executor.map(arms_of.square, [], lambda share: None) == []


@pytest.mark.parametrize("executor", BOTH, ids=name_of)
def test_a_failing_arm_is_named_and_its_failure_is_the_same(executor: Executor) -> None:
    with pytest.raises(DataError, match="there is no such file") as caught:
        executor.map(arms_of.refuse, ARMS, lambda share: None)
    assert caught.value.__notes__ == ["while running the arm 'arm 2'"]
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("executor", BOTH, ids=name_of)
def test_results_are_handed_on_in_the_order_of_the_arms_whoever_ends_first(
    executor: Executor,
) -> None:
    taken: list[int] = []
    executor.map(arms_of.square, ARMS, lambda share: None, taken.append)
    assert taken == [0, 1, 4, 9, 16, 25]


def test_what_ended_before_an_arm_failed_is_handed_on_all_the_same(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    arms = [(name, (name, str(tmp_path / "fifo"))) for name in ("waits", "one", "two", "stays")]
    taken: list[str] = []
    with pytest.raises(DataError, match="too late"):
        ProcessExecutor(2).map(arms_of.fail_late, arms, lambda share: None, taken.append)
    assert taken == ["one", "two"]


def test_a_mistake_of_ours_in_a_worker_is_told_as_one(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvariantViolated, match="ZeroDivisionError") as caught:
        ProcessExecutor(2).map(arms_of.stumble, ARMS, lambda share: None)
    assert caught.value.__notes__ == ["while running the arm 'arm 1'"]
    assert "in stumble" in capfd.readouterr().err, "where it happened is on stderr"


def test_a_worker_that_is_killed_names_its_arm() -> None:
    with pytest.raises(WorkerLost, match="'arm 2' ended with -9"):
        ProcessExecutor(3).map(arms_of.die, ARMS, lambda share: None)


def test_workers_inherit_no_key_of_a_venue_and_ours_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EQUIPOISE_OKX_SECRET", "planted-in-the-environment")
    monkeypatch.setenv("EQUIPOISE_ELSE", "stays")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    for told in ProcessExecutor(2).map(arms_of.inherited, ARMS[:2], lambda share: None):
        assert "planted-in-the-environment" not in told.values()
        assert (told["EQUIPOISE_ELSE"], told["OMP_NUM_THREADS"]) == ("stays", "1")
    assert dict(os.environ) == before


def test_workers_are_other_processes_with_one_thread_a_library() -> None:
    before = dict(os.environ)
    found = ProcessExecutor(2).map(arms_of.place, ARMS, lambda share: None)
    assert os.getpid() not in {process for process, _ in found}
    assert len({process for process, _ in found}) == 2
    assert all(set(threads.values()) == {"1"} for _, threads in found)
    assert dict(os.environ) == before


def test_one_process_is_this_one_unless_workers_are_wanted() -> None:
    assert make_workers(1) == ProcessExecutor(1)
    assert make_workers(0).processes >= 1
    assert isinstance(make_executor(1), SequentialExecutor)
    assert make_executor(3) == ProcessExecutor(3)
    assert isinstance(make_executor(0), SequentialExecutor | ProcessExecutor)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.adapters.executor_arms"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        workers = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
        if number == signal.SIGINT:  # a terminal sends it to the whole group
            os.killpg(parent.pid, number)
        else:
            parent.send_signal(number)
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert alive == []
        assert parent.wait(20) != 0
