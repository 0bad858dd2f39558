import asyncio
import hashlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.journal import JournalReader, MemoryJournal, SqliteJournal
from adapters.journal.entry import pack
from adapters.journal.writer import JOBS_PER_COMMIT_MAX
from daemon import codec
from daemon.domain.failures import BrokenChain, JournalError
from daemon.domain.messages import Estimate, RecordedEstimate, Submit, Tick
from daemon.domain.units import HOUR_MS
from daemon.ports import Entry, Journal
from tests.adapters.journal_samples import START_MS, an_hour, decided, estimate


def open_journal(path: Path, **changes: object) -> SqliteJournal:
    settings = {"state_schema": 4, "code_version": "test-1"} | changes
    return SqliteJournal(path, **settings)  # type: ignore[arg-type]


def tamper(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def as_bytes(entry: Entry) -> tuple[int, bytes, list[bytes], bytes]:
    commands = [codec.encode_message(c) for c in entry.commands]
    return entry.sequence, codec.encode_message(entry.event), commands, entry.chain


async def write_hours(path: Path, hours: int) -> None:
    async with open_journal(path) as journal:
        for number in range(hours):
            await journal.append(an_hour(number))
            await journal.save_snapshot(b"state %d" % number)


@pytest.fixture(params=["sqlite", "memory"])
def make_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Journal]:
    def make() -> Journal:
        if request.param == "sqlite":
            return open_journal(tmp_path / "journal.db")
        return MemoryJournal(state_schema=4, code_version="test-1", keep_entries=True)

    return make


async def test_entries_come_back_in_order_with_the_same_bytes(
    make_journal: Callable[[], Journal],
) -> None:
    journal = make_journal()
    assert await journal.append(an_hour(0)) == 4
    assert await journal.append(an_hour(1)) == 8
    read = list(journal.read_from(1))
    assert [entry.sequence for entry in read] == [1, 2, 3, 4, 5, 6, 7, 8]
    for entry, (event, commands) in zip(read, an_hour(0) + an_hour(1), strict=True):
        assert codec.encode_message(entry.event) == codec.encode_message(event)
        wanted = [codec.encode_message(codec.recorded(c)) for c in commands]
        assert [codec.encode_message(c) for c in entry.commands] == wanted
    assert [entry.sequence for entry in journal.read_from(7)] == [7, 8]
    if isinstance(journal, SqliteJournal):
        await journal.close()


async def test_the_snapshot_is_that_of_the_last_entry_and_the_newest_three_stay(
    make_journal: Callable[[], Journal],
) -> None:
    journal = make_journal()
    assert journal.last_snapshot() is None
    for number in range(5):
        await journal.append(an_hour(number))
        await journal.save_snapshot(b"state %d" % number)
    newest = journal.last_snapshot()
    assert newest is not None
    assert (newest.sequence, newest.state) == (20, b"state 4")
    assert (newest.schema, newest.code_version) == (4, "test-1")
    assert newest.chain == next(iter(journal.read_from(20))).chain
    if isinstance(journal, SqliteJournal):
        await journal.close()
        connection = sqlite3.connect(journal.reader.path)
        rows = connection.execute("SELECT sequence FROM snapshots ORDER BY 1").fetchall()
        connection.close()
        assert rows == [(12,), (16,), (20,)]


async def test_memory_and_sqlite_give_the_same_chain(tmp_path: Path) -> None:
    memory = MemoryJournal(keep_entries=True)
    async with open_journal(tmp_path / "journal.db") as durable:
        for number in range(3):
            await memory.append(an_hour(number))
            await durable.append(an_hour(number))
        ours = [as_bytes(e) for e in memory.read_from(1)]
        assert ours == [as_bytes(e) for e in durable.read_from(1)]


async def test_the_chain_is_the_documented_hash(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "journal.db") as journal:
        await journal.append([(Tick(5), [])])
        (entry,) = journal.read_from(1)
    body = codec.encode((codec.encode_message(Tick(5)), []))
    genesis = hashlib.sha256(b"equipoise journal 1").digest()
    assert entry.chain == hashlib.sha256(genesis + bytes([0] * 7 + [1]) + body).digest()


async def test_appends_that_come_while_a_commit_runs_share_the_next_one(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "journal.db") as journal:
        answers = await asyncio.gather(*(journal.append([(Tick(i), [])]) for i in range(200)))
        assert answers == list(range(1, 201))
        assert [e.event for e in journal.read_from(1)] == [Tick(i) for i in range(200)]
        assert journal.commits_n < 100


async def test_an_append_is_readable_by_others_as_soon_as_it_returns(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with open_journal(path) as journal:
        for number in range(3):
            await journal.append(an_hour(number))
            assert JournalReader(path).entries_n == 4 * (number + 1) == journal.entries_n


async def test_windows_shrink_to_a_digest_that_notices_one_changed_price(tmp_path: Path) -> None:
    request = estimate(START_MS, bars_n=5_000)
    async with open_journal(tmp_path / "journal.db") as journal:
        await journal.append([(Tick(1), [request])])
        (entry,) = journal.read_from(1)
    (kept,) = entry.commands
    assert isinstance(kept, RecordedEstimate)
    assert kept == codec.recorded(request)
    assert kept.windows[0].shape == (5_000, 3, 5)
    assert len(codec.encode_message(kept)) < 300 < len(codec.encode_message(request))
    values = request.windows[0].values.copy()
    values[17, 1, 3] = np_next(values[17, 1, 3])
    window = type(request.windows[0])(request.windows[0].timeframe, START_MS, values)
    assert codec.recorded(Estimate(START_MS, (window,))) != kept


def np_next(value: float) -> float:
    return value * (1 + 2**-52)


async def test_a_closed_journal_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await write_hours(path, 2)
    async with open_journal(path, code_version="test-2", settings_text="[paper]") as journal:
        assert await journal.append(an_hour(2)) == 12
    reader = JournalReader(path)
    assert reader.verify().entries_n == 12
    assert reader.runs() == [(1, "test-1", ""), (9, "test-2", "[paper]")]


async def test_an_append_to_a_closed_journal_is_refused(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "journal.db")
    await journal.close()
    await journal.close()
    with pytest.raises(JournalError, match="closed"):
        await journal.append([(Tick(1), [])])


async def test_a_cancelled_append_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with open_journal(path) as journal:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # the writer has to wait for this one
        waiting = [asyncio.create_task(journal.append([(Tick(n), [])])) for n in (1, 2)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert all(task.cancelled() for task in waiting)
        other.execute("ROLLBACK")
        other.close()
        assert await journal.append([(Tick(3), [])]) == 3
        assert [entry.event for entry in journal.read_from(1)] == [Tick(1), Tick(2), Tick(3)]


@pytest.mark.parametrize("sequence", [1, 5, 8])
async def test_a_changed_byte_breaks_the_chain_at_its_entry(tmp_path: Path, sequence: int) -> None:
    path = tmp_path / "journal.db"
    await write_hours(path, 2)
    body = next(JournalReader(path).read_from(sequence))
    changed = pack(codec.encode((codec.encode_message(Tick(999)), [])))
    assert body.event != Tick(999)
    tamper(path, "UPDATE entries SET body = ? WHERE sequence = ?", changed, sequence)
    entries = JournalReader(path).read_from(1)
    good = [entry.sequence for entry in itertools.islice(entries, sequence - 1)]
    assert good == list(range(1, sequence))
    with pytest.raises(BrokenChain, match=rf"journal\.db: entry {sequence} .*backup"):
        next(entries)
    with pytest.raises(BrokenChain):
        JournalReader(path).verify()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM entries WHERE sequence = 3", "entry 3 is missing, entry 4 follows"),
        ("DELETE FROM entries WHERE sequence = 1", "entry 1 is missing"),
        ("DELETE FROM entries WHERE sequence > 6", "entry 7 is missing though a later snapshot"),
        ("UPDATE entries SET body = x'01ff' WHERE sequence = 2", "entry 2 does not continue"),
        ("UPDATE entries SET body = 'text' WHERE sequence = 2", "entry 2 does not continue"),
        ("UPDATE entries SET chain = x'00' WHERE sequence = 2", "entry 2 does not continue"),
        ("UPDATE entries SET at_ms = 0 WHERE sequence = 2", "entry 2 was filed under another"),
        ("UPDATE entries SET kind = 'Tick' WHERE sequence = 3", "entry 3 was filed under another"),
        ("UPDATE entries SET decided_ms = NULL", "entry 2 was filed under another"),
        ("UPDATE snapshots SET state = x'00'", "has no valid snapshot"),
    ],
)
async def test_verify_finds_what_was_removed_or_changed(
    tmp_path: Path, statement: str, message: str
) -> None:
    path = tmp_path / "journal.db"
    await write_hours(path, 2)
    tamper(path, statement)
    with pytest.raises(BrokenChain, match=message):
        JournalReader(path).verify()


async def test_reading_from_a_hole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await write_hours(path, 2)
    tamper(path, "DELETE FROM entries WHERE sequence = 4")
    with pytest.raises(BrokenChain, match="entry 4 is missing"):
        next(JournalReader(path).read_from(5))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE snapshots SET state = x'0102' WHERE sequence = 12",
        "UPDATE snapshots SET checksum = x'00' WHERE sequence = 12",
        "UPDATE snapshots SET code_version = 'other' WHERE sequence = 12",
        "UPDATE snapshots SET chain = x'00' WHERE sequence = 12",
        "DELETE FROM entries WHERE sequence > 10",
    ],
)
async def test_a_corrupt_snapshot_is_passed_over_and_the_older_one_used(
    tmp_path: Path, statement: str
) -> None:
    path = tmp_path / "journal.db"
    await write_hours(path, 3)
    tamper(path, statement)
    reader = JournalReader(path)
    snapshot = reader.last_snapshot()
    assert snapshot is not None
    assert (snapshot.sequence, snapshot.state) == (8, b"state 1")
    assert len(reader.snapshot_problems) == 1
    assert "snapshot at entry 12" in reader.snapshot_problems[0]


async def test_readers_find_decisions_fills_and_funding_by_range(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await write_hours(path, 5)
    reader = JournalReader(path)
    span = (START_MS + HOUR_MS, START_MS + 3 * HOUR_MS)
    assert [d.sequence for d in reader.decisions(*span)] == [1, 2]
    assert [f.trade_id for f in reader.fills(*span)] == ["t1", "t2"]
    assert [f.settle_ms for f in reader.funding(*span)] == [span[0], span[0] + HOUR_MS]
    assert list(reader.transfers()) == []
    digests = [d.digest for d in reader.decisions()]
    wanted = [decided(i, START_MS + i * HOUR_MS).decision.digest for i in range(5)]
    assert digests == wanted


async def test_readers_by_range_notice_a_changed_entry(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await write_hours(path, 3)
    changed = pack(codec.encode((codec.encode_message(an_hour(9)[2][0]), [])))
    tamper(path, "UPDATE entries SET body = ? WHERE sequence = 7", changed)
    with pytest.raises(BrokenChain, match="entry 7"):
        list(JournalReader(path).fills())


async def test_memory_keeps_digests_and_refuses_to_read_what_it_dropped() -> None:
    journal = MemoryJournal()
    await journal.append(an_hour(0))
    wanted = decided(0, START_MS).decision.digest
    assert journal.decision_digests == [(START_MS, wanted)]
    assert journal.entries_n == 4
    with pytest.raises(JournalError, match="keep_entries"):
        journal.read_from(1)
    assert MemoryJournal(keep_digests=False).record(*an_hour(0)[1]) == 1


# ---- files that cannot be used -------------------------------------------------------------------


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"this is a text file, certainly no journal" * 100)
    for use in (lambda: open_journal(path), lambda: JournalReader(path).entries_n):
        with pytest.raises(JournalError, match=r"journal\.db.*damaged.*move it away"):
            use()
    assert path.read_bytes().startswith(b"this is a text")


async def test_a_truncated_journal_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await write_hours(path, 20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(JournalError, match=r"journal\.db.*damaged"):
        open_journal(path)
    with pytest.raises(JournalError, match=r"journal\.db.*damaged"):
        JournalReader(path).verify()


async def test_a_damaged_page_is_found_by_verify(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await write_hours(path, 20)
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 2_000] = bytes(2_000)
    path.write_bytes(raw)
    with pytest.raises(JournalError, match=r"journal\.db"):
        JournalReader(path).verify()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (a)")
    connection.commit()
    connection.close()
    with pytest.raises(JournalError, match=r"other\.db.*no journal of ours"):
        open_journal(path)


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await write_hours(path, 1)
    tamper(path, "PRAGMA user_version = 9")
    with pytest.raises(JournalError, match="format 9"):
        open_journal(path)


def test_a_missing_folder_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="nowhere"):
        open_journal(tmp_path / "nowhere" / "journal.db")
    with pytest.raises(JournalError, match="no such file"):
        JournalReader(tmp_path / "journal.db").verify()


# ---- disk full -----------------------------------------------------------------------------------


async def test_a_full_disk_stops_all_writing_and_leaves_whole_entries(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    written = 0

    async def write_until_it_fails(journal: SqliteJournal) -> None:
        nonlocal written
        for number in range(1_000):
            written = await journal.append(an_hour(number))

    async with open_journal(path, file_bytes_max=120_000) as journal:
        with pytest.raises(JournalError, match=r"journal\.db: writing failed.*full.*make room"):
            await write_until_it_fails(journal)
        with pytest.raises(JournalError, match="make room"):
            await journal.append([(Tick(1), [])])
        with pytest.raises(JournalError, match="make room"):
            await journal.save_snapshot(b"state")
    assert written > 0
    assert JournalReader(path).verify().entries_n == written
    async with open_journal(path) as journal:
        assert await journal.append([(Tick(1), [])]) == written + 1


async def test_after_a_failed_commit_nothing_is_written_even_where_it_would_fit(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.db"
    async with open_journal(path, file_bytes_max=120_000) as journal:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # until all appends wait: more than one commit takes
        many = [journal.append(an_hour(n)) for n in range(2 * JOBS_PER_COMMIT_MAX)]
        waiting = [asyncio.create_task(append) for append in many]
        waiting.append(asyncio.create_task(journal.append([(Tick(1), [])])))
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
        other.close()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        good = [answer for answer in answers if isinstance(answer, int)]
        bad = answers[len(good) :]
        assert all(isinstance(answer, JournalError) for answer in bad)
        assert len(bad) > JOBS_PER_COMMIT_MAX
        with pytest.raises(JournalError, match="make room"):
            await journal.append([(Tick(2), [])])
    assert JournalReader(path).verify().entries_n == (good[-1] if good else 0)


FULL_DISK_CHILD = """
import asyncio, resource, sys
from pathlib import Path
from adapters.journal import SqliteJournal
from daemon.domain.failures import JournalError
from tests.adapters.journal_samples import an_hour

async def main():
    async with SqliteJournal(Path(sys.argv[1]), state_schema=1, code_version="t") as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        for number in range(10_000):
            try:
                print(await journal.append(an_hour(number)), flush=True)
            except JournalError as e:
                print(e, file=sys.stderr)
                return e.exit_code

sys.exit(asyncio.run(main()))
"""


def test_a_write_refused_by_the_system_ends_with_exit_code_74_and_loses_nothing(
    tmp_path: Path, repository_root: Path
) -> None:
    path = tmp_path / "journal.db"
    command = [sys.executable, "-c", FULL_DISK_CHILD, str(path)]
    done = subprocess.run(command, cwd=repository_root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 74, done.stderr
    assert "journal.db: writing failed" in done.stderr
    acknowledged = int(done.stdout.split()[-1])
    assert acknowledged > 0
    assert JournalReader(path).verify().entries_n == acknowledged


# ---- kill -9 -------------------------------------------------------------------------------------

KILLED_CHILD = """
import asyncio, sys
from pathlib import Path
from adapters.journal import SqliteJournal
from tests.adapters.journal_samples import an_hour

async def main():
    journal = SqliteJournal(Path(sys.argv[1]), state_schema=1, code_version="t")
    number = journal.entries_n // 4
    while True:
        print(await journal.append(an_hour(number)), flush=True)
        await journal.save_snapshot(b"state %d" % number)
        number += 1

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, repository_root: Path) -> None:
    path = tmp_path / "journal.db"
    entries_before = 0
    for lines in (1, 7, 16):
        command = [sys.executable, "-c", KILLED_CHILD, str(path)]
        with subprocess.Popen(command, cwd=repository_root, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            acknowledged = [int(child.stdout.readline()) for _ in range(lines)][-1]
            os.kill(child.pid, signal.SIGKILL)
        verified = JournalReader(path).verify()
        assert verified.entries_n >= acknowledged > entries_before
        assert verified.entries_n % 4 == 0  # an append is there as a whole or not at all
        entries_before = verified.entries_n


async def test_submitted_orders_come_back_exactly(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "journal.db") as journal:
        await journal.append(an_hour(3))
        commands = next(iter(journal.read_from(2))).commands
    submits = [c for c in commands if isinstance(c, Submit)]
    assert submits == [c for c in an_hour(3)[1][1] if isinstance(c, Submit)]
    assert str(submits[0].approved.order.quantity) == "0.010"
