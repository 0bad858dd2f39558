"""Copy SQLite files that are being written, all as of one instant, without holding the writer up.

A reader of a WAL file keeps the state it began with, and a writer never waits for it. Readers are
begun in this order: leading file, the others, leading file again. When both readers of the leading
file stand at the same commit, the others were begun between two of its commits: that is one
instant. Otherwise it is tried again. Knows nothing of what the tables mean.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from daemon.domain.failures import JournalError

TRIES_MAX: Final = 1_000
PAUSE_S: Final = 0.02  # between two steps
PAGES_A_STEP: Final = 256  # of 4 KiB: at most 50 MiB/s with the pause
BUSY_MS_MAX: Final = 5_000


def copy_at_one_instant(leading: Path, marker: str, others: Sequence[Path], folder: Path) -> None:
    """Copy the files into `folder` under their own names, forced to the disk.

    marker: a query of the leading file whose answer changes with every commit. Raises JournalError
    when a file cannot be read or copied, or when the leading file never stands still for a moment.
    """
    waiting = threading.Event()
    with ExitStack() as pins:
        try:
            pinned = _pinned(pins, leading, marker, others, waiting)
            for path, connection in pinned:
                _copy(connection, folder / path.name, waiting)
        except sqlite3.Error as e:
            raise JournalError(f"{leading.parent}: copying its databases failed ({e})") from e


def _pinned(
    pins: ExitStack,
    leading: Path,
    marker: str,
    others: Sequence[Path],
    waiting: threading.Event,
) -> list[tuple[Path, sqlite3.Connection]]:
    for _ in range(TRIES_MAX):
        with ExitStack() as tried:
            first, seen = _pin(tried, leading, marker)
            rest = [(path, _pin(tried, path)[0]) for path in others]
            if _pin(tried, leading, marker)[1] == seen:
                pins.push(tried.pop_all())
                return [(leading, first), *rest]
        waiting.wait(PAUSE_S)
    raise JournalError(f"{leading}: is written without a pause; no common instant was found")


def _pin(
    pins: ExitStack, path: Path, marker: str = "SELECT count(*) FROM sqlite_schema"
) -> tuple[sqlite3.Connection, tuple[object, ...]]:
    """Open a file for reading and stay at the commit that it is at now."""
    if not path.is_file():
        raise JournalError(f"{path}: there is no such file")
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = pins.enter_context(closing(sqlite3.connect(uri, uri=True, isolation_level=None)))
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS_MAX}")
    connection.execute("BEGIN")
    return connection, connection.execute(marker).fetchone()


def _copy(source: sqlite3.Connection, path: Path, waiting: threading.Event) -> None:
    def pause(status: int, remaining: int, total: int) -> None:
        if remaining:
            waiting.wait(PAUSE_S)

    with closing(sqlite3.connect(path, isolation_level=None)) as target:
        target.execute("PRAGMA synchronous = OFF")  # forced to the disk below, once
        source.backup(target, pages=PAGES_A_STEP, progress=pause)
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
