"""Keep a paper account in one SQLite file of its own, durable before the venue answers.

One transaction a call (WAL, synchronous=FULL). Tables: `executions` (fills, funding, transfers, by
number), `orders` (their whole story), `parts` (account, market, funding book, each with a
checksum). When it is loaded, the account is added up again from the executions and must agree.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from adapters.paper.funding import FundingBook
from adapters.paper.state import (
    ZERO,
    Account,
    Changes,
    Loaded,
    Market,
    PaperOrder,
    PaperStatus,
    VenueState,
)
from daemon import codec
from daemon.domain.failures import BadPayload, CorruptFile, JournalError
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import FundingPaid, OrderFilled, Rescaled, Transferred, VenueEvent
from daemon.domain.order import OrderId
from daemon.domain.scales import rescaled_quantity

APPLICATION_ID: Final = 0x45515032  # "EQP2": tells our files from other programs' SQLite files
FORMAT_VERSION: Final = 1
BUSY_MS_MAX: Final = 5_000

_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE executions (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE orders (
    order_id TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, is_open INTEGER NOT NULL,
    body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX orders_open ON orders (number) WHERE is_open = 1;
CREATE TABLE parts (name TEXT PRIMARY KEY, checksum BLOB NOT NULL, body BLOB NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
COMMIT;
"""
_REMEDY: Final = "restore it from a backup, or move the whole state folder away to start anew"


class SqliteStore:
    """Hold the file open; calls come one at a time, from one thread or another.

    Raises CorruptFile for a file that is damaged or does not add up, JournalError when a commit is
    impossible (disk full): then none of the call's changes is kept.
    """

    is_durable = True

    def __init__(self, path: Path, *, file_bytes_max: int | None = None) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as e:
            raise self._failure(e, "opening") from e
        try:
            self._set_up(file_bytes_max)
        except sqlite3.Error as e:
            self._connection.close()
            raise self._failure(e, "opening") from e
        except CorruptFile:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; every answered call is in it already."""
        self._connection.close()

    def load(self, ended_kept: int) -> Loaded | None:
        """Read account, market, funding and orders; None for a new file."""
        account = self._part("account", Account)
        if account is None:
            return None
        market, funding = self._part("market", Market), self._part("funding", FundingBook)
        if market is None or funding is None:
            raise self._corrupt("a part of the account is missing")
        self._check_adds_up(account)
        ended = self._orders("is_open = 0 ORDER BY number DESC LIMIT ?", ended_kept)
        still_open = self._orders("is_open = 1 ORDER BY number")
        orders = (*reversed(ended), *still_open)
        return Loaded(VenueState(account, market, funding), orders)

    def commit(self, state: VenueState, changes: Changes) -> None:
        """Write all changes of one call in one durable transaction."""
        last = state.account.executions_n
        first = last - len(changes.executions) + 1
        executions = [
            (number, codec.encode_message(event))
            for number, event in enumerate(changes.executions, start=first)
        ]
        orders = [
            (order_id, o.number, o.status is PaperStatus.OPEN, codec.encode(o))
            for order_id, o in changes.orders.items()
        ]
        parts: list[tuple[str, object]] = [("account", state.account), ("market", state.market)]
        if changes.bars:
            parts.append(("funding", state.funding))
        encoded = [(name, codec.encode(part)) for name, part in parts]
        rows = [(name, _checksum(name, body), body) for name, body in encoded]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO executions VALUES (?, ?)", executions)
            self._connection.executemany(
                "INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?)", orders
            )
            self._connection.executemany("INSERT OR REPLACE INTO parts VALUES (?, ?, ?)", rows)
            self._connection.execute("COMMIT")
        except sqlite3.Error as e:
            failure = self._failure(e, "writing")
            self._roll_back(failure)
            raise failure from e

    def executions_after(self, cursor: int, last: int) -> Iterable[VenueEvent]:
        """Give the executions cursor + 1 .. last."""
        query = "SELECT number, body FROM executions WHERE number > ? AND number <= ? ORDER BY 1"
        rows = self._rows(query, cursor, last)
        if [number for number, _ in rows] != list(range(cursor + 1, last + 1)):
            raise self._corrupt(f"executions {cursor + 1} to {last} are not all there")
        return [self._execution(body) for _, body in rows]

    def find(self, order_id: OrderId) -> PaperOrder | None:
        """Give an order by our id, or None."""
        found = self._orders("order_id = ?", order_id)
        return found[0] if found else None

    def _set_up(self, file_bytes_max: int | None) -> None:
        connection = self._connection
        identity = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if not identity and not tables:
            connection.executescript(_SCHEMA)
        elif identity != APPLICATION_ID:
            raise CorruptFile(f"paper ledger {self.path}: the file is none of ours; name another")
        elif version != FORMAT_VERSION:
            raise CorruptFile(
                f"paper ledger {self.path}: written in format {version}, this build reads "
                f"{FORMAT_VERSION}; use the build that wrote it"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # macOS: fsync stops at the drive's cache
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS_MAX}")
        if file_bytes_max is not None:
            page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {max(1, file_bytes_max // page_bytes)}")

    def _part(self, name: str, kind: type[Any]) -> Any:
        for checksum, body in self._rows("SELECT checksum, body FROM parts WHERE name = ?", name):
            if _checksum(name, body) != checksum:
                raise self._corrupt(f"its part {name!r} fails its checksum")
            return self._decoded(body, kind)
        return None

    def _orders(self, where: str, *values: object) -> list[PaperOrder]:
        rows = self._rows(f"SELECT body FROM orders WHERE {where}", *values)
        return [self._decoded(body, PaperOrder) for (body,) in rows]

    def _execution(self, body: bytes) -> VenueEvent:
        try:
            event = codec.decode_message(body)
        except BadPayload as e:
            raise self._corrupt(str(e)) from e
        if not isinstance(event, OrderFilled | FundingPaid | Transferred | Rescaled):
            raise self._corrupt(f"a {type(event).__name__} stands among the executions")
        return event

    def _check_adds_up(self, account: Account) -> None:
        """Add the executions up again: cash over all currencies, and every quantity."""
        cash, quantities = ZERO, dict[InstrumentKey, Decimal]()
        for event in self.executions_after(0, account.executions_n):
            match event:
                case OrderFilled(fill=fill):
                    cash -= fill.quantity * fill.price + fill.fee
                    quantities[fill.key] = quantities.get(fill.key, ZERO) + fill.quantity
                case FundingPaid(amount=amount) | Transferred(amount=amount):
                    cash += amount
                case Rescaled(key=key, new_n=new_n, old_n=old_n) if key in quantities:
                    quantities[key] = rescaled_quantity(quantities[key], new_n, old_n)
        recorded = sum(account.ledger.cash.values(), ZERO)
        if cash != recorded:
            raise self._corrupt(
                f"its executions add up to {cash} in cash, its account to {recorded}"
            )
        for key in quantities.keys() | account.ledger.positions.keys():
            added, held = quantities.get(key, ZERO), account.ledger.quantity(key)
            if added != held:
                raise self._corrupt(f"its fills of {key} add up to {added}, its position is {held}")

    def _decoded(self, body: bytes, kind: type[Any]) -> Any:
        try:
            return codec.decode(body, kind)
        except BadPayload as e:
            raise self._corrupt(str(e)) from e

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as e:
            raise self._failure(e, "reading") from e

    def _roll_back(self, failure: JournalError | CorruptFile) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as e:
            failure.add_note(f"rolling back failed too: {e}")

    def _corrupt(self, what: str) -> CorruptFile:
        return CorruptFile(f"paper ledger {self.path}: {what}; {_REMEDY}")

    def _failure(self, error: sqlite3.Error, doing: str) -> JournalError | CorruptFile:
        text = str(error)
        if "not a database" in text or "malformed" in text:
            return self._corrupt(f"the file is damaged ({text})")
        return JournalError(
            f"paper ledger {self.path}: {doing} failed ({text}); make room on the disk, check the "
            "folder's rights, and start again: what was answered is kept"
        )


def _checksum(name: str, body: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"|" + body).digest()
