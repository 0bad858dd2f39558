"""Two databases under one busy writer: copies are of one instant, and the writer never waits."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from adapters.backup import copy_at_one_instant
from daemon.domain.failures import JournalError

MARKER = "SELECT max(n) FROM rows"
FILLER_ROWS = 1_500  # of 4 KiB: several steps of the copy, with pauses between them


def opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"
        "CREATE TABLE IF NOT EXISTS rows (n INTEGER PRIMARY KEY, body BLOB);"
    )
    return connection


def last(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(connection.execute(MARKER).fetchone()[0])


@contextmanager
def a_busy_writer(left: Path, right: Path) -> Iterator[None]:
    """Write row n to the left file and then to the right one, as fast as the disk lets it."""
    files = [opened(left), opened(right)]
    for connection in files:
        rows = ((n, bytes(4_000)) for n in range(FILLER_ROWS))
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO rows VALUES (?, ?)", rows)
        connection.execute("COMMIT")
    ended = threading.Event()

    def write() -> None:
        number = FILLER_ROWS
        while not ended.wait(0.0005):
            for connection in files:
                connection.execute("INSERT INTO rows VALUES (?, ?)", (number, b"x"))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join()
        for connection in files:
            connection.close()


def test_copies_under_a_busy_writer_are_of_one_instant(tmp_path: Path) -> None:
    left, right = tmp_path / "left.sqlite", tmp_path / "right.sqlite"
    with a_busy_writer(left, right):
        for number in range(3):
            goal = tmp_path / str(number)
            goal.mkdir()
            before = last(left)
            copy_at_one_instant(left, MARKER, [right], goal)
            assert last(left) > before, "the writer waited for the copy"
            told = last(goal / left.name)
            assert told - 1 <= last(goal / right.name) <= told
            assert {p.name for p in goal.iterdir()} == {left.name, right.name}


def test_a_missing_or_foreign_file_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"absent\.sqlite"):
        copy_at_one_instant(tmp_path / "absent.sqlite", MARKER, [], tmp_path)
    (tmp_path / "text.sqlite").write_text("no database at all, but long enough to be looked at")
    with pytest.raises(JournalError, match="copying its databases failed"):
        copy_at_one_instant(tmp_path / "text.sqlite", MARKER, [], tmp_path / "goal")
