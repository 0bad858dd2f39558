"""Read a journal while it is being written, or long after, and prove that nobody changed it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from adapters.journal.database import REMEDY, failure, open_for_reading
from adapters.journal.entry import GENESIS, decided_ms, link, make_entry, unpack
from daemon.domain.decision import Decision
from daemon.domain.failures import BadPayload, BrokenChain, JournalError
from daemon.domain.forecast import Estimates
from daemon.domain.messages import (
    BarsClosed,
    Decided,
    EstimatesReady,
    Event,
    FundingPaid,
    OrderFilled,
    Transferred,
    event_ms,
)
from daemon.domain.order import Fill
from daemon.ports import Entry, Snapshot

FOREVER_MS: Final = 2**62
_COLUMNS: Final = "e.sequence, e.body, e.chain, e.kind, e.at_ms, e.decided_ms"
_Raw = tuple[Any, ...]  # what SQLite gives; the chain says whether it is what we wrote
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Verified:
    """Report a journal whose chain holds from the first entry to the last."""

    entries_n: int
    chain: bytes
    snapshots_n: int


def snapshot_checksum(snapshot: Snapshot) -> bytes:
    """Give the sha256 that ties a stored state to its place in the chain."""
    head = f"{snapshot.sequence}|{snapshot.schema}|{snapshot.code_version}|".encode()
    return hashlib.sha256(head + snapshot.chain + snapshot.state).digest()


class JournalReader:
    """Read a journal file; every method opens and closes a read-only connection of its own.

    All raise JournalError for a file that cannot be read and BrokenChain for one that was changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.snapshot_problems: list[str] = []

    @property
    def entries_n(self) -> int:
        """Count the entries."""
        return int(self._rows("SELECT coalesce(max(sequence), 0) FROM entries")[0][0])

    @property
    def last_event_ms(self) -> int | None:
        """Give the newest market time that any entry names; None for an empty journal."""
        found: int | None = self._rows("SELECT max(at_ms) FROM entries")[0][0]
        return found or None

    @property
    def last_decided_ms(self) -> int | None:
        """Give the instant of the newest finished decision; None before the first."""
        found: int | None = self._rows("SELECT max(decided_ms) FROM entries")[0][0]
        return found

    @property
    def file_bytes(self) -> int:
        """Give the size on disk, with the write-ahead log."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(f.stat().st_size for f in files if f.exists())

    def read_from(self, sequence: int) -> Iterator[Entry]:
        """Yield entries with a number >= `sequence`; raise BrokenChain at the first bad one."""
        first = max(1, sequence)
        with closing(open_for_reading(self.path)) as connection:
            previous = self._chain_before(connection, first)
            query = f"SELECT {_COLUMNS} FROM entries e WHERE sequence >= ? ORDER BY sequence"
            for expected, raw in enumerate(self._stream(connection, query, (first,)), start=first):
                if raw[0] != expected:
                    raise self._broken(expected, f"is missing, entry {raw[0]} follows")
                yield self._entry(previous, raw)
                previous = raw[2]

    def last_snapshot(self, before: int = FOREVER_MS) -> Snapshot | None:
        """Give the newest valid snapshot that lies on the chain, or None.

        before: only one of the state before this entry was processed. Why newer ones were passed
        over is left in `snapshot_problems`.
        """
        self.snapshot_problems = []
        query = (
            "SELECT s.sequence, s.chain, s.schema, s.code_version, s.checksum, s.state, e.chain "
            "FROM snapshots s LEFT JOIN entries e ON e.sequence = s.sequence "
            "ORDER BY s.sequence DESC"
        )
        for sequence, chain, schema, code_version, checksum, packed, on_chain in self._rows(query):
            if sequence >= before:
                continue
            expected = on_chain if sequence else GENESIS
            problem = f"snapshot at entry {sequence} does not lie on the chain"
            if chain == expected:
                state = unpack(packed)
                if state is not None:
                    snapshot = Snapshot(sequence, chain, schema, code_version, state)
                    if snapshot_checksum(snapshot) == checksum:
                        return snapshot
                problem = f"snapshot at entry {sequence} fails its checksum"
            self.snapshot_problems.append(f"{self.path}: {problem}; an older one is used")
        return None

    def decisions(self, from_ms: int = 0, until_ms: int = FOREVER_MS) -> Iterator[Decision]:
        """Yield the decisions with from <= as_of < until, in the order they were taken."""
        for entry in self.decided_in(from_ms, until_ms):
            yield from (c.decision for c in entry.commands if isinstance(c, Decided))

    def decided_before(self, before_ms: int = FOREVER_MS) -> int | None:
        """Give as_of of the newest decision before an instant; None for none."""
        query = "SELECT max(decided_ms) FROM entries WHERE decided_ms < ?"
        return self._instant(query, before_ms)

    def decided_next(self, from_ms: int) -> int | None:
        """Give as_of of the first decision at an instant or after it; None for none."""
        query = "SELECT min(decided_ms) FROM entries WHERE decided_ms >= ?"
        return self._instant(query, from_ms)

    def estimates(self, from_ms: int, until_ms: int) -> Iterator[Estimates]:
        """Yield the estimates with from <= as_of < until, in the order they came."""
        for event in self._events(EstimatesReady, from_ms, until_ms):
            yield event.estimates

    def fills(self, from_ms: int = 0, until_ms: int = FOREVER_MS) -> Iterator[Fill]:
        """Yield the recorded fills of a range of market time; a resent fill appears again."""
        for event in self._events(OrderFilled, from_ms, until_ms):
            yield event.fill

    def funding(self, from_ms: int = 0, until_ms: int = FOREVER_MS) -> Iterator[FundingPaid]:
        """Yield the funding cash flows of settlements in a range of market time."""
        yield from self._events(FundingPaid, from_ms, until_ms)

    def bars(self, from_ms: int = 0, until_ms: int = FOREVER_MS) -> Iterator[BarsClosed]:
        """Yield the source bars with from <= close < until, as they came; several an instant."""
        yield from self._events(BarsClosed, from_ms, until_ms)

    def transfers(self, from_ms: int = 0, until_ms: int = FOREVER_MS) -> Iterator[Transferred]:
        """Yield the deposits and withdrawals of a range of market time."""
        yield from self._events(Transferred, from_ms, until_ms)

    def entries_of(
        self, kind: type[Event], from_ms: int = 0, until_ms: int = FOREVER_MS
    ) -> Iterator[Entry]:
        """Yield the entries of one kind of event in a range of market time."""
        where = "e.kind = ? AND e.at_ms >= ? AND e.at_ms < ?"
        yield from self._found(where, (kind.__name__, from_ms, until_ms))

    def decided_in(self, from_ms: int = 0, until_ms: int = FOREVER_MS) -> Iterator[Entry]:
        """Yield the entries whose commands hold a decision with from <= as_of < until."""
        where = "e.decided_ms >= ? AND e.decided_ms < ?"
        yield from self._found(where, (from_ms, until_ms))

    def first_from(self, kind: type[Event], at_ms: int) -> int | None:
        """Give the first entry of a kind of event at `at_ms` of market time or later; None: none.

        The entries before it may tell of later instants all the same: events come as they arrive.
        """
        query = (
            f"SELECT sequence FROM entries WHERE kind = '{kind.__name__}' AND at_ms >= {at_ms:d} "
            "ORDER BY at_ms, sequence LIMIT 1"
        )
        found = self._rows(query)
        return int(found[0][0]) if found else None

    def runs(self) -> list[tuple[int, str, str]]:
        """List first entry, code version and settings text of every opening for writing."""
        return list(
            self._rows("SELECT first_sequence, code_version, settings FROM runs ORDER BY run")
        )

    def verify(self) -> Verified:
        """Read the whole chain and what is looked up beside it; raise BrokenChain at a flaw."""
        count, chain = 0, GENESIS
        for entry in self.read_from(1):
            count, chain = entry.sequence, entry.chain
        snapshots = self._rows("SELECT sequence FROM snapshots")
        if snapshots and max(s[0] for s in snapshots) > count:
            raise self._broken(count + 1, "is missing though a later snapshot exists")
        if snapshots and self.last_snapshot() is None:
            raise self._broken(max(s[0] for s in snapshots), "has no valid snapshot any more")
        return Verified(count, chain, len(snapshots))

    def _events(self, kind: type[_T], from_ms: int, until_ms: int) -> Iterator[_T]:
        where = "e.kind = ? AND e.at_ms >= ? AND e.at_ms < ?"
        for entry in self._found(where, (kind.__name__, from_ms, until_ms)):
            if isinstance(entry.event, kind):
                yield entry.event

    def _found(self, where: str, values: Sequence[object]) -> Iterator[Entry]:
        """Yield entries that a condition finds, each checked against the one before it."""
        query = (
            f"SELECT {_COLUMNS}, p.chain FROM entries e "
            f"LEFT JOIN entries p ON p.sequence = e.sequence - 1 WHERE {where} ORDER BY e.sequence"
        )
        with closing(open_for_reading(self.path)) as connection:
            for *raw, before in self._stream(connection, query, values):
                previous = GENESIS if raw[0] == 1 else before
                if previous is None:
                    raise self._broken(raw[0] - 1, "is missing")
                yield self._entry(previous, tuple(raw))

    def _entry(self, previous: bytes, raw: _Raw) -> Entry:
        sequence, stored, chain, *found_by = raw
        body = unpack(stored)
        if body is None or link(previous, sequence, body) != chain:
            raise self._broken(sequence, "does not continue the hash chain")
        try:
            entry = make_entry(sequence, body, chain)
        except BadPayload as e:
            raise JournalError(
                f"journal {self.path}: entry {sequence} cannot be read by this build ({e})"
            ) from e
        event = entry.event
        if found_by != [type(event).__name__, event_ms(event), decided_ms(entry.commands)]:
            raise self._broken(sequence, "was filed under another kind or instant")
        return entry

    def _chain_before(self, connection: sqlite3.Connection, sequence: int) -> bytes:
        if sequence == 1:
            return GENESIS
        query = "SELECT chain FROM entries WHERE sequence = ?"
        for (chain,) in self._stream(connection, query, (sequence - 1,)):
            if isinstance(chain, bytes):
                return chain
        raise self._broken(sequence - 1, "is missing")

    def _broken(self, sequence: int, what: str) -> BrokenChain:
        return BrokenChain(f"journal {self.path}: entry {sequence} {what}; {REMEDY}")

    def _stream(
        self, connection: sqlite3.Connection, query: str, values: Sequence[object]
    ) -> Iterator[_Raw]:
        try:
            yield from connection.execute(query, values)
        except sqlite3.Error as e:
            raise failure(self.path, e, "reading") from e

    def _instant(self, query: str, at_ms: int) -> int | None:
        with closing(open_for_reading(self.path)) as connection:
            ((found,),) = self._stream(connection, query, (at_ms,))
        return None if found is None else int(found)

    def _rows(self, query: str) -> list[_Raw]:
        with closing(open_for_reading(self.path)) as connection:
            return list(self._stream(connection, query, ()))
