"""Open the journal's SQLite file, and say in plain words when it cannot be used.

Tables: `entries` (the chain), `snapshots` (the newest few engine states), `runs` (which code and
settings wrote from which entry on; for people, not part of the chain).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from daemon.domain.failures import JournalError

APPLICATION_ID: Final = 0x45515031  # "EQP1": tells our files from other programs' SQLite files
FORMAT_VERSION: Final = 1
BUSY_MS_MAX: Final = 5_000
PAGE_BYTES: Final = 4_096

SCHEMA: Final = f"""
BEGIN;
CREATE TABLE entries (
    sequence INTEGER PRIMARY KEY, kind TEXT NOT NULL, at_ms INTEGER NOT NULL,
    decided_ms INTEGER, body BLOB NOT NULL, chain BLOB NOT NULL);
CREATE INDEX entries_by_kind ON entries (kind, at_ms);
CREATE INDEX entries_by_decision ON entries (decided_ms) WHERE decided_ms IS NOT NULL;
CREATE TABLE snapshots (
    sequence INTEGER PRIMARY KEY, chain BLOB NOT NULL, schema INTEGER NOT NULL,
    code_version TEXT NOT NULL, checksum BLOB NOT NULL, state BLOB NOT NULL);
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, first_sequence INTEGER NOT NULL,
    code_version TEXT NOT NULL, settings TEXT NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
COMMIT;
"""

REMEDY: Final = (
    "restore it from a backup, or move it away: the daemon then starts a new journal and adopts "
    "what the venue says we hold"
)


def failure(path: Path, error: sqlite3.Error | OSError, doing: str) -> JournalError:
    """Say what could not be done with the file, why, and what helps."""
    text = str(error)
    if "full" in text or "No space" in text or "disk I/O" in text:
        help_text = "make room on the disk and start again; nothing is half-written"
    elif "not a database" in text or "malformed" in text:
        help_text = f"the file is damaged: {REMEDY}"
    else:
        help_text = "check the folder's rights and that no other program holds the file"
    return JournalError(f"journal {path}: {doing} failed ({text}); {help_text}")


def open_for_writing(path: Path, file_bytes_max: int | None) -> sqlite3.Connection:
    """Open or create the journal with every commit durable; raises JournalError."""
    try:
        # One thread at a time uses it (the constructor, then the writer), never two at once.
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as e:
        raise failure(path, e, "opening") from e
    try:
        _check_identity(path, connection, creates=True)
        _set_durable(connection, file_bytes_max)
    except sqlite3.Error as e:
        connection.close()
        raise failure(path, e, "opening") from e
    except JournalError:
        connection.close()
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open an existing journal without the right to change it; raises JournalError."""
    if not path.is_file():
        raise JournalError(f"journal {path}: there is no such file; has the daemon run here yet?")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as e:
        raise failure(path, e, "opening") from e
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS_MAX}")
        _check_identity(path, connection, creates=False)
    except sqlite3.Error as e:
        connection.close()
        raise failure(path, e, "opening") from e
    except JournalError:
        connection.close()
        raise
    return connection


def _set_durable(connection: sqlite3.Connection, file_bytes_max: int | None) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone stops at the drive's cache
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS_MAX}")
    if file_bytes_max is not None:
        connection.execute(f"PRAGMA max_page_count = {max(1, file_bytes_max // PAGE_BYTES)}")


def _check_identity(path: Path, connection: sqlite3.Connection, *, creates: bool) -> None:
    identity = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if creates and not identity and not tables:
        connection.executescript(SCHEMA)
        return
    if identity != APPLICATION_ID:
        raise JournalError(f"journal {path}: the file is no journal of ours; name another file")
    if version != FORMAT_VERSION:
        raise JournalError(
            f"journal {path}: written in format {version}, this build reads {FORMAT_VERSION}; "
            "use the build that wrote it"
        )
