"""Keep the journal in one SQLite file: durable when `append` returns, provable when it is read.

WAL, synchronous=FULL, one writer thread. Appends that arrive while a commit runs go together into
the next one, so that a busy instant costs one disk flush and not one an event.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from adapters.journal.database import failure, open_for_writing
from adapters.journal.entry import GENESIS, Row, encode_row, link, pack
from adapters.journal.reader import JournalReader, snapshot_checksum
from adapters.journal.writer import Head, Job, Writer
from daemon.domain.messages import Command, Event
from daemon.ports import Entry, Snapshot

SNAPSHOTS_KEPT: Final = 3


class SqliteJournal:
    """Write and read one journal file. Only one process may hold it (see StateLock).

    state_schema, code_version: stored with every snapshot, so that a later build knows whether it
    can read the state. settings_text: what this run was started with, kept for people. Above
    file_bytes_max appends fail as on a full disk. Raises JournalError for a file that is no
    journal, is damaged or belongs to a newer format.
    """

    def __init__(
        self,
        path: Path,
        *,
        state_schema: int,
        code_version: str,
        settings_text: str = "",
        file_bytes_max: int | None = None,
    ) -> None:
        self.reader = JournalReader(path)
        self._state_schema = state_schema
        self._code_version = code_version
        connection = open_for_writing(path, file_bytes_max)
        try:
            head = _head(connection)
            connection.execute(
                "INSERT INTO runs (first_sequence, code_version, settings) VALUES (?, ?, ?)",
                (head.sequence + 1, code_version, settings_text),
            )
        except sqlite3.Error as e:
            connection.close()
            raise failure(path, e, "opening") from e
        self._writer = Writer(path, connection, head)

    @property
    def entries_n(self) -> int:
        """Count the durable entries."""
        return self.reader.entries_n

    @property
    def commits_n(self) -> int:
        """Count the transactions of this run: fewer than appends when commits were shared."""
        return self._writer.commits_n

    async def append(self, entries: Sequence[tuple[Event, Sequence[Command]]]) -> int:
        """Write entries durably in one commit and give the last sequence number.

        Raises JournalError when that is impossible (disk full, file damaged): none of the entries
        was written, no later one will be, and trading must stop.
        """
        rows = [encode_row(event, commands) for event, commands in entries]
        return await _durable(self._writer.put(_append_job(rows)))

    async def save_snapshot(self, snapshot_state: bytes) -> None:
        """Save the engine state as of the last appended entry; keeps the newest few."""
        job = _snapshot_job(self._state_schema, self._code_version, snapshot_state)
        await _durable(self._writer.put(job))

    def read_from(self, sequence: int) -> Iterator[Entry]:
        """Yield entries with a number >= `sequence`; raises BrokenChain at the first bad one."""
        return self.reader.read_from(sequence)

    def last_snapshot(self) -> Snapshot | None:
        """Give the newest snapshot that is valid and lies on the chain, or None."""
        return self.reader.last_snapshot()

    async def close(self) -> None:
        """Write what waits and close the file; appending afterwards raises JournalError."""
        await asyncio.to_thread(self._writer.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


async def _durable(answer: Future[int]) -> int:
    # What was handed in is written even if the caller is cancelled: it has happened.
    return await asyncio.shield(asyncio.wrap_future(answer))


def _head(connection: sqlite3.Connection) -> Head:
    query = "SELECT sequence, chain FROM entries ORDER BY sequence DESC LIMIT 1"
    row = connection.execute(query).fetchone()
    return Head(0, GENESIS) if row is None else Head(*row)


def _append_job(rows: Sequence[Row]) -> Job:
    def write(connection: sqlite3.Connection, head: Head) -> Head:
        sequence, chain = head.sequence, head.chain
        values = []
        for row in rows:
            sequence += 1
            chain = link(chain, sequence, row.body)
            values.append((sequence, row.kind, row.at_ms, row.decided_ms, pack(row.body), chain))
        connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", values)
        return Head(sequence, chain)

    return write


def _snapshot_job(schema: int, code_version: str, state: bytes) -> Job:
    def write(connection: sqlite3.Connection, head: Head) -> Head:
        snapshot = Snapshot(head.sequence, head.chain, schema, code_version, state)
        checksum = snapshot_checksum(snapshot)
        packed = pack(state)
        connection.execute(
            "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?)",
            (head.sequence, head.chain, schema, code_version, checksum, packed),
        )
        connection.execute(
            "DELETE FROM snapshots WHERE sequence NOT IN "
            "(SELECT sequence FROM snapshots ORDER BY sequence DESC LIMIT ?)",
            (SNAPSHOTS_KEPT,),
        )
        return head

    return write
