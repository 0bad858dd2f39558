"""A service manager hears that we live, from the event loop and from nowhere else."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from adapters.service_notice import ALIVE, PERIOD_S, READY, STOPPING, ServiceNotice

Listener = tuple[str, socket.socket]


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    name = f"@equipoise-{os.getpid()}-{tmp_path.name}"
    named = name if request.param == "abstract" else str(tmp_path / "n")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.setblocking(False)
    listener.bind("\0" + named[1:] if named.startswith("@") else named)
    yield named, listener
    listener.close()


def heard(listener: socket.socket) -> list[bytes]:
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(listener.recv(256))
    return found


async def told(notice: ServiceNotice, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await notice.keep()


async def test_it_says_ready_then_alive_in_time_and_at_last_stopping(manager: Listener) -> None:
    named, listener = manager
    notice = ServiceNotice({"NOTIFY_SOCKET": named, "WATCHDOG_USEC": "150000"})
    assert notice.period_s == pytest.approx(0.05)
    await told(notice, 0.28)
    said = heard(listener)
    assert (said[0], said[-1]) == (READY, STOPPING)
    assert said[1:-1] == [ALIVE] * len(said[1:-1])
    assert 3 <= len(said[1:-1]) <= 7


async def test_a_loop_that_hangs_says_nothing(manager: Listener) -> None:
    named, listener = manager
    notice = ServiceNotice({"NOTIFY_SOCKET": named, "WATCHDOG_USEC": "60000"})
    task = asyncio.create_task(notice.keep())
    await asyncio.sleep(0.05)
    heard(listener)
    time.sleep(0.3)  # noqa: ASYNC251 - that is the hanging
    assert heard(listener) == []
    await asyncio.sleep(0.05)
    assert ALIVE in heard(listener), "it goes on when the loop does"
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_without_a_manager_or_with_a_dead_one_nothing_happens(tmp_path: Path) -> None:
    assert not ServiceNotice({}).is_wanted
    assert not ServiceNotice({}).tell(ALIVE)
    assert not ServiceNotice({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).tell(ALIVE)


@pytest.mark.parametrize(
    ("told_us", "pid", "period_s"),
    [("60000000", "", 20.0), ("60000000", "1", PERIOD_S), ("", "", PERIOD_S), ("x", "", PERIOD_S)],
)
def test_the_period_is_a_third_of_what_the_manager_waits(
    told_us: str, pid: str, period_s: float
) -> None:
    named = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": told_us, "WATCHDOG_PID": pid}
    assert ServiceNotice(named).period_s == pytest.approx(period_s)
