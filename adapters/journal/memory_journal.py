"""Carry a journal in memory for backtests: digests of decisions, and entries only when asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from adapters.journal.entry import GENESIS, encode_row, link, make_entry
from daemon.domain.decision import Decision
from daemon.domain.failures import JournalError
from daemon.domain.messages import (
    Command,
    Decided,
    Event,
    FundingPaid,
    OrderFilled,
    Transferred,
)
from daemon.domain.order import Fill
from daemon.ports import Entry, Snapshot

SNAPSHOTS_KEPT: Final = 3


class MemoryJournal:
    """Count entries and keep what a comparison needs, at a fraction of a microsecond an event.

    keep_digests: keep the decisions, so that decision_digests can name every one of them.
    keep_entries: keep everything as SqliteJournal does, with the same chain, so that `read_from`
    works.
    """

    def __init__(
        self,
        *,
        state_schema: int = 0,
        code_version: str = "",
        keep_digests: bool = True,
        keep_entries: bool = False,
    ) -> None:
        self._digests: list[tuple[int, str]] = []
        self._decisions: list[Decision] = []  # not hashed yet
        self.executions: list[Fill | FundingPaid | Transferred] = []  # as they came, each once
        # ids by venue, because a cancelled order tells its fills again; plain texts, because a
        # tuple each would set the collector of cycles to work
        self._trades: defaultdict[str, set[str]] = defaultdict(set)
        self._cash_flows: defaultdict[str, set[str]] = defaultdict(set)
        self.entries_n = 0
        self._state_schema = state_schema
        self._code_version = code_version
        self._keep_digests = keep_digests
        self._rows: list[tuple[bytes, bytes]] | None = [] if keep_entries else None
        self._chain = GENESIS
        self._snapshots: list[Snapshot] = []

    def record(self, event: Event, commands: Sequence[Command]) -> int:
        """Take one entry without awaiting; the replay shell's way in."""
        self.entries_n += 1
        if self._rows is not None:
            body = encode_row(event, commands).body
            self._chain = link(self._chain, self.entries_n, body)
            self._rows.append((body, self._chain))
        if type(event) is OrderFilled:
            fill = event.fill
            told = self._trades[fill.key.venue]
            if fill.trade_id not in told:
                told.add(fill.trade_id)
                self.executions.append(fill)
        elif isinstance(event, FundingPaid | Transferred):
            told = self._cash_flows[event.cash_key.venue]
            if event.cashflow_id not in told:
                told.add(event.cashflow_id)
                self.executions.append(event)
        if commands and self._keep_digests:
            self._decisions += [c.decision for c in commands if type(c) is Decided]
        return self.entries_n

    @property
    def decision_digests(self) -> list[tuple[int, str]]:
        """List (as_of_ms, digest) of every decision so far; they are hashed when asked for."""
        self._digests += [(d.as_of_ms, d.digest) for d in self._decisions]
        self._decisions.clear()
        return self._digests

    async def append(self, entries: Sequence[tuple[Event, Sequence[Command]]]) -> int:
        """Take entries and give the last sequence number."""
        for event, commands in entries:
            self.record(event, commands)
        return self.entries_n

    def read_from(self, sequence: int) -> Iterator[Entry]:
        """Yield entries with a number >= `sequence`; raise JournalError if none were kept."""
        if self._rows is None:
            raise JournalError("this journal in memory keeps no entries: ask for keep_entries=True")
        return self._read(self._rows, max(1, sequence))

    async def save_snapshot(self, snapshot_state: bytes) -> None:
        """Save the engine state as of the last entry; keeps the newest few."""
        newest = Snapshot(
            self.entries_n, self._chain, self._state_schema, self._code_version, snapshot_state
        )
        older = [s for s in self._snapshots if s.sequence != newest.sequence]
        self._snapshots = [*older, newest][-SNAPSHOTS_KEPT:]

    def last_snapshot(self) -> Snapshot | None:
        """Give the newest snapshot, or None."""
        return self._snapshots[-1] if self._snapshots else None

    @staticmethod
    def _read(rows: Sequence[tuple[bytes, bytes]], first: int) -> Iterator[Entry]:
        for sequence, (body, chain) in enumerate(rows[first - 1 :], start=first):
            yield make_entry(sequence, body, chain)
