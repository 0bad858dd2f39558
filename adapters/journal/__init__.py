"""Keep events and commands durably, in order, in a hash chain.

`SqliteJournal` is what a daemon writes, `JournalReader` what everyone else opens beside it, and
`MemoryJournal` what a backtest carries.
"""

from adapters.journal.memory_journal import MemoryJournal
from adapters.journal.reader import JournalReader, Verified
from adapters.journal.sqlite_journal import SqliteJournal

__all__ = ["JournalReader", "MemoryJournal", "SqliteJournal", "Verified"]
