"""The log file: private, whole lines, rotated, and never in the way of who logs."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import queue
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from daemon.domain.failures import DataError
from daemon.domain.log_events import LogEvent
from daemon.runtime import log_file as module
from daemon.runtime.log_file import log_file, log_path
from daemon.runtime.logs import _CHATTY, configure_logs
from daemon.wiring.log_reading import _Tail, entry_of, following, kept_entries

log = structlog.get_logger()


@pytest.fixture(autouse=True)
def said() -> Iterator[io.StringIO]:
    """Give what stderr is told."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    chatty = {name: logging.getLogger(name).level for name in _CHATTY}
    stream = io.StringIO()
    configure_logs("warning", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in chatty.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def test_entries_from_info_on_are_kept_privately_and_secrets_are_not(
    tmp_path: Path, said: io.StringIO
) -> None:
    with log_file(tmp_path):
        log.info(LogEvent.REDIS_STARTED, pid=7, api_key="abcdefgh")
        log.debug(LogEvent.REDIS_ENDED)
        logging.getLogger("somebody").warning("a %s of a library", "word")
    path = log_path(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    first, second = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    assert (first["event"], first["level"], first["pid"]) == (LogEvent.REDIS_STARTED, "info", 7)
    assert first["api_key"] == "***"
    assert second["event"] == "a word of a library"
    assert "a word of a library" in said.getvalue()
    assert LogEvent.REDIS_STARTED not in said.getvalue()  # stderr keeps its own level


def test_files_are_rotated_and_the_oldest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 2_000)
    with log_file(tmp_path):
        for number in range(400):
            log.info(LogEvent.REDIS_STARTED, number=number)
    files = sorted(path.name for path in log_path(tmp_path).parent.iterdir())
    assert files == ["daemon.log", *(f"daemon.log.{n}" for n in range(1, 5))]
    kept = kept_entries(tmp_path, level="info", since_ms=0, count=None)
    numbers = [entry.values["number"] for entry in kept]
    assert numbers == list(range(numbers[0], 400))
    newest = kept_entries(tmp_path, level="info", since_ms=0, count=3)
    assert [entry.values["number"] for entry in newest] == [397, 398, 399]
    later = kept_entries(tmp_path, level="info", since_ms=kept[-2].at_ms, count=None)
    assert later[-1].values["number"] == 399
    assert kept_entries(tmp_path, level="error", since_ms=0, count=None) == []


def test_who_logs_never_waits_for_a_disk_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: io.StringIO
) -> None:
    stuck: queue.Queue[None] = queue.Queue()
    monkeypatch.setattr(module, "WAITING_MAX", 10)
    monkeypatch.setattr(module, "STOP_S_MAX", 0.05)
    monkeypatch.setattr(module._Lines, "emit", lambda self, record: stuck.get())
    with log_file(tmp_path):
        for number in range(50):
            log.info(LogEvent.REDIS_STARTED, number=number)
    assert "log_entries_lost" in said.getvalue()
    for _ in range(50):
        stuck.put(None)


def test_a_folder_that_cannot_be_made_costs_the_file_and_nothing_else(
    tmp_path: Path, said: io.StringIO
) -> None:
    (tmp_path / "logs").write_text("in the way", encoding="utf-8")
    with log_file(tmp_path):
        log.warning(LogEvent.REDIS_ENDED)
    assert "log_file_refused" in said.getvalue()
    assert LogEvent.REDIS_ENDED in said.getvalue()
    with pytest.raises(DataError, match="there is no log"):
        kept_entries(tmp_path / "elsewhere", level="info", since_ms=0, count=None)


def test_a_tail_goes_on_through_rotation_truncation_and_absence(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    tail = _Tail(path, from_end=True)
    assert list(tail.lines()) == []
    path.write_text("one\ntw", encoding="utf-8")
    assert list(tail.lines()) == ["one"]
    with path.open("a", encoding="utf-8") as file:
        file.write("o\nthree\n")
    path.rename(tmp_path / "daemon.log.1")
    path.write_text("four\n", encoding="utf-8")
    assert list(tail.lines()) == ["two", "three", "four"]
    path.write_text("5\n", encoding="utf-8")  # cut in place, shorter than before
    assert list(tail.lines()) == ["5"]
    path.unlink()
    assert list(tail.lines()) == []
    path.write_text("six\n", encoding="utf-8")
    assert list(tail.lines()) == ["six"]
    tail.close()


async def test_what_is_logged_later_is_followed(tmp_path: Path) -> None:
    with log_file(tmp_path):
        log.info(LogEvent.REDIS_STARTED, number=0)
        entries = following(tmp_path, level="info")
        coming = asyncio.ensure_future(anext(entries))
        async with asyncio.timeout(20):
            while not coming.done():
                log.info(LogEvent.REDIS_ENDED, number=1)
                await asyncio.sleep(0.05)
        seen = coming.result()
        await entries.aclose()  # type: ignore[attr-defined]
    assert seen.values["number"] in (0, 1)  # the thread may write the first one late


def test_a_line_that_is_none_of_ours_is_kept_as_it_is() -> None:
    assert entry_of("not json").values == {}
    assert entry_of("[1]").values == {}
    assert entry_of('{"event": "x"}').at_ms == 0
