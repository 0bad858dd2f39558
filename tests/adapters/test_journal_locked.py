"""Another program holds the journal's file: a moment is waited for, more than that ends writing."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from adapters.journal import JournalReader, SqliteJournal
from daemon.domain.failures import JournalError
from daemon.domain.messages import Tick


async def test_a_locked_journal_is_waited_for_and_a_lock_that_stays_ends_all_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.journal.database.BUSY_MS_MAX", 300)
    path = tmp_path / "journal.db"
    async with SqliteJournal(path, state_schema=4, code_version="test-1") as journal:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(journal.append([(Tick(1), [])]))
        await asyncio.sleep(0.05)
        assert not waiting.done(), "what is not written down may not be acted on"
        other.execute("ROLLBACK")
        assert await waiting == 1
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="locked"):
            await journal.append([(Tick(2), [])])
        other.execute("ROLLBACK")
        with pytest.raises(JournalError, match="locked"):
            await journal.append([(Tick(3), [])])
    other.close()
    assert JournalReader(path).verify().entries_n == 1
