"""What is logged can be read along: bounded, whole, and without secrets."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator, Mapping

import pytest
import structlog

from daemon.domain.log_events import LogEvent
from daemon.runtime.log_tap import LINES_BURST, LINES_PER_S, TEXT_CHARS_MAX, LogTap, log_tap
from daemon.runtime.logs import configure_logs


@pytest.fixture(autouse=True)
def _own_logs() -> Iterator[None]:
    """Log as a daemon does, and leave nothing of it behind."""
    root = logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()
    configure_logs("info", stream=io.StringIO())
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


async def heard_of(count: int, *, secrets: tuple[str, ...] = ()) -> list[Mapping[str, object]]:
    heard: list[Mapping[str, object]] = []
    with log_tap(heard.append, secrets):
        for n in range(count):
            structlog.get_logger("ours").warning(LogEvent.ALERT_RAISED, n=n, why="x" * 3000)
        await asyncio.to_thread(logging.getLogger("theirs").warning, "of a %s", "library")
        await asyncio.sleep(0.01)
    structlog.get_logger().warning(LogEvent.ALERT_RAISED, n=-1)
    await asyncio.sleep(0.01)
    return heard


async def test_ours_and_those_of_libraries_are_heard_from_any_thread_until_the_end() -> None:
    ours, theirs = await heard_of(1)
    assert (ours["event"], ours["level"], ours["logger"]) == ("alert_raised", "warning", "ours")
    assert str(ours["text"]).startswith("n=0 why=xxx")
    assert len(str(ours["text"])) == TEXT_CHARS_MAX
    assert (theirs["event"], theirs["logger"]) == ("of a library", "theirs")


async def test_a_burst_is_bounded_and_says_how_many_did_not_pass() -> None:
    heard: list[Mapping[str, object]] = []
    tap = LogTap(heard.append, asyncio.get_running_loop())
    for n in range(1000):
        tap.handle(record(at_s=1_000.0 + n / 1000))  # for a second
    tap.handle(record(at_s=1_003.0))
    await asyncio.sleep(0.01)
    passed_n = round(LINES_BURST + LINES_PER_S * 1.0)
    assert len(heard) in (passed_n, passed_n + 1)
    assert heard[0]["passed_over_n"] == 0
    told_n = sum(int(str(entry["passed_over_n"])) for entry in heard)
    assert told_n + len(heard) == 1001


def record(at_s: float) -> logging.LogRecord:
    made = logging.LogRecord("theirs", logging.INFO, __file__, 1, "text", None, None)
    made.created = at_s
    return made


async def test_no_secret_passes_the_tap() -> None:
    heard: list[Mapping[str, object]] = []
    log = structlog.get_logger("ours")
    with log_tap(heard.append, ("hunter2hunter2",)):
        log.warning(
            "said hunter2hunter2", password="abc", url="redis://me:abc@host", x="hunter2hunter2"
        )
        logging.getLogger("theirs").warning("hunter2hunter2 at redis://me:abcd@host")
        await asyncio.sleep(0.01)
    assert len(heard) == 2
    assert "hunter2" not in str(heard)
    assert "abc" not in str(heard)
