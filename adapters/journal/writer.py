"""Write jobs in one thread, many in one transaction (group commit), each answered when durable.

A job is a function of the connection and the chain's head that gives the next head. After the first
failure nothing is written any more: every waiting and later job gets the same JournalError, so that
trading stops instead of going on without a record.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.journal.database import failure
from daemon.domain.failures import JournalError

JOBS_WAITING_MAX: Final = 4_096
JOBS_PER_COMMIT_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class Head:
    """Name the end of the chain: the last entry's number and chain value."""

    sequence: int
    chain: bytes


Job = Callable[[sqlite3.Connection, Head], Head]


@dataclass(frozen=True, slots=True)
class _Waiting:
    job: Job
    answer: Future[int]


class Writer:
    """Own the writing connection; `put` may be called from any thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection, head: Head) -> None:
        self._path = path
        self._connection = connection
        self._head = head
        self._failure: JournalError | None = None
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(JOBS_WAITING_MAX)
        self._door = threading.Lock()  # nobody gets in between the last job and the end
        self._is_closed = False
        self.commits_n = 0
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> Future[int]:
        """Hand in a job; the answer is the last sequence number once it is durable.

        Raises JournalError when the journal is closed or too many jobs wait.
        """
        answer: Future[int] = Future()
        with self._door:
            if self._is_closed:
                raise JournalError(f"journal {self._path}: it is closed; nothing can be written")
            try:
                self._queue.put_nowait(_Waiting(job, answer))
            except queue.Full:
                raise JournalError(
                    f"journal {self._path}: {JOBS_WAITING_MAX} writes wait; the disk is too slow"
                ) from None
        return answer

    def close(self) -> None:
        """Write what waits, then close the file."""
        with self._door:
            if not self._is_closed and self._thread.is_alive():
                self._queue.put(None)
            self._is_closed = True
        self._thread.join()

    def _run(self) -> None:
        try:
            open_for_jobs = True
            while open_for_jobs:
                batch, open_for_jobs = self._next_batch()
                self._commit(batch)
        finally:
            self._connection.close()
            self._refuse_the_rest()

    def _next_batch(self) -> tuple[list[_Waiting], bool]:
        """Wait for one job, then take along all that have come meanwhile."""
        batch: list[_Waiting] = []
        waiting = self._queue.get()
        while waiting is not None:
            batch.append(waiting)
            if len(batch) == JOBS_PER_COMMIT_MAX:
                return batch, True
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _commit(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        if self._failure is None:
            self._try_commit(batch)
        for waiting in batch:
            if self._failure is not None and not waiting.answer.done():
                waiting.answer.set_exception(self._failure)

    def _try_commit(self, batch: list[_Waiting]) -> None:
        head = self._head
        sequences: list[int] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for waiting in batch:
                head = waiting.job(self._connection, head)
                sequences.append(head.sequence)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as e:
            self._failure = failure(self._path, e, "writing")
            self._failure.__cause__ = e
            self._roll_back()
            return
        self._head = head
        self.commits_n += 1
        for waiting, sequence in zip(batch, sequences, strict=True):
            waiting.answer.set_result(sequence)

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as e:
            # An open transaction is never durable: closing the file undoes it.
            if self._failure is not None:
                self._failure.add_note(f"rolling back failed too: {e}")

    def _refuse_the_rest(self) -> None:
        """Answer whoever still waits, also when the thread ends by a programmer's mistake."""
        with self._door:
            self._is_closed = True
        gone = self._failure or JournalError(f"journal {self._path}: its writer has ended")
        while True:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                return
            if waiting is not None and not waiting.answer.done():
                waiting.answer.set_exception(gone)
