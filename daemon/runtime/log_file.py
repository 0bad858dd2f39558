"""Keep what a daemon logs in a file of its state folder, for `equipoise logs`.

    logs/daemon.log      one JSON object a line, the newest last; private to the user
    logs/daemon.log.1    the file before it, and so on

Entries from `info` on are kept, whatever is shown on stderr. A thread writes them, so that a slow
disk delays no trading; what finds no place because too much waits is lost, and how much is said at
the end.
"""

from __future__ import annotations

import copy
import logging
import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler, RotatingFileHandler
from pathlib import Path
from threading import Thread
from typing import Final

import structlog

from daemon.domain.log_events import LogEvent
from daemon.runtime.logs import json_formatter

FOLDER: Final = "logs"
NAME: Final = "daemon.log"
FILE_BYTES_MAX: Final = 5_000_000
FILES_KEPT: Final = 4  # beside the one that is written
WAITING_MAX: Final = 10_000
STOP_S_MAX: Final = 1.0  # a disk that hangs does not keep a daemon from ending
_Waiting = queue.Queue[logging.LogRecord | None]
_log = structlog.get_logger()


def log_path(state_folder: Path) -> Path:
    """Give the file that a daemon of this state folder writes."""
    return state_folder / FOLDER / NAME


class _Queued(QueueHandler):
    """Hand an entry, already written as JSON, to the thread; never wait for it."""

    def __init__(self, waiting: _Waiting) -> None:
        super().__init__(waiting)
        self.lost_n = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Write the entry now: its values may change before the thread comes to it."""
        ready = copy.copy(record)
        ready.msg, ready.args, ready.exc_info, ready.exc_text = (
            self.format(record),
            None,
            None,
            None,
        )
        ready.stack_info = None
        return ready

    def enqueue(self, record: logging.LogRecord) -> None:
        """Count what finds no place."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.lost_n += 1


class _Lines(RotatingFileHandler):
    """Write lines; what the disk refuses is lost without a word, as there is no better place."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Drop the entry: whoever reads stderr has it."""

    def _open(self):  # type: ignore[no-untyped-def]  # the library's own type is not public
        return open(
            self.baseFilename,
            self.mode,
            encoding="utf-8",
            opener=lambda path, flags: os.open(path, flags, 0o600),
        )


@contextmanager
def log_file(state_folder: Path) -> Iterator[None]:
    """Keep a log file as long as the context lasts; where none can be made that is said once."""
    path, root = log_path(state_folder), logging.getLogger()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = _Lines(path, maxBytes=FILE_BYTES_MAX, backupCount=FILES_KEPT, encoding="utf-8")
    except OSError as e:
        _log.warning(LogEvent.LOG_FILE_REFUSED, path=str(path), why=str(e))
        yield
        return
    waiting: _Waiting = queue.Queue(WAITING_MAX)
    handler = _Queued(waiting)
    handler.setFormatter(json_formatter())
    level = root.level
    handler.setLevel(min(level, logging.INFO))
    thread = Thread(target=_write, args=(waiting, lines), name="log file", daemon=True)
    thread.start()
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
    try:
        yield
    finally:
        if handler.lost_n:
            _log.warning(LogEvent.LOG_ENTRIES_LOST, entries_n=handler.lost_n)
        root.removeHandler(handler)
        root.setLevel(level)
        with suppress(queue.Full):
            waiting.put(None, timeout=STOP_S_MAX)
            thread.join(STOP_S_MAX)


def _write(waiting: _Waiting, lines: logging.Handler) -> None:
    """Write what waits, until None comes."""
    while (record := waiting.get()) is not None:
        lines.emit(record)
    lines.close()
