"""Arms for the tests of the executors: functions that worker processes can import."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import psutil

from adapters.executor import ProcessExecutor
from daemon.domain.failures import DataError
from daemon.ports import Share


def square(number: int, share: Share) -> int:
    """Give the square; later arms take less effort, so that they are done first."""
    total = 0
    for step in range(10):
        total += sum(range(20_000 * (8 - number)))
        share((step + 1) / 10)
    return number**2 + 0 * total


def inherited(_: int, share: Share) -> dict[str, str]:
    """Give the environment with which this process began."""
    return psutil.Process().environ()


def refuse(number: int, share: Share) -> int:
    """Fail at number 2."""
    if number == 2:
        raise DataError("there is no such file")
    return square(number, share)


def fail_late(arm: tuple[str, str], share: Share) -> str:
    """Fail in the arm `waits` once `stays` has begun, which never ends; a FIFO tells the one."""
    name, fifo = arm
    if name == "waits":
        with Path(fifo).open(encoding="utf-8"):
            raise DataError("too late")
    if name == "stays":
        with Path(fifo).open("w", encoding="utf-8"):
            threading.Event().wait()
    return name


def stumble(number: int, share: Share) -> int:
    """Make a programmer's mistake."""
    return 1 // (number - 1)


def die(number: int, share: Share) -> int:
    """End as the kernel ends what takes too much memory, at number 2."""
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number, share)


def place(number: int, share: Share) -> tuple[int, dict[str, str]]:
    """Tell process and threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return os.getpid(), {name: os.environ.get(name, "") for name in names}


def wait_for_ever(number: int, share: Share) -> None:
    """Say who we are and stay."""
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    from tests.adapters import executor_arms

    # a shell lets what it starts in the background ignore Ctrl-C, and that is inherited
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ProcessExecutor(2).map(executor_arms.wait_for_ever, [("a", 1), ("b", 2)], lambda share: None)
