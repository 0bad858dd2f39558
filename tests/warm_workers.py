"""Start the worker processes of campaigns as forks of one process that has imported their parts.

A worker of a campaign is a fresh interpreter, which imports for one to four seconds before it
begins. Where a test is about what workers compute, they are forks of a server that did so once a
test run; how they start else is proven by `tests/adapters/test_executor.py` and by the tests that
run a whole command in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from typing import Final

import pytest

# what the arms of campaigns import: whole backtests with their reports, and training
_IMPORTED: Final = [
    "daemon.wiring.architectures",
    "daemon.wiring.walk_forward",
    "daemon.commands.evaluate.report",
    "strategies.forecast.training.network_training",
    "torch._dynamo",  # which the first step of an optimiser imports
]


@pytest.fixture(scope="module", autouse=True)
def workers_start_warm() -> Iterator[None]:
    """Let `adapters.executor` fork its workers where the system can."""
    if sys.platform != "linux":
        yield
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("adapters.executor._CONTEXT", context)
        yield
