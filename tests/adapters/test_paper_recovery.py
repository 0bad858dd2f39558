import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.paper import MemoryStore, PaperVenue, SqliteStore
from adapters.paper.venue import ENDED_KEPT
from daemon.domain.failures import ConfigurationError, CorruptFile, JournalError, VenueError
from daemon.domain.messages import FundingPaid, OrderAbsent, OrderFilled, VenueEvent
from daemon.domain.order import OrderId
from tests.adapters.paper_plan import open_venue, plan
from tests.contract.paper_world import (
    NAN,
    START_MS,
    SYMBOLS,
    account_of,
    bars,
    cash,
    fills_of,
    held,
    key,
    make_universe,
    make_venue,
    order,
    quantities,
    rates,
    settings,
)

PRICES = (100.0, 10.0, 1.0)


def reference() -> list[VenueEvent]:
    """Give the whole record of a run that nobody disturbed."""
    venue = open_venue(MemoryStore())
    for step in plan():
        step(venue)
    return venue.snapshot(0)


def finish(path: Path, first: int) -> list[VenueEvent]:
    """Play the rest of the plan, as a restarted daemon would, and give the whole record."""
    store = SqliteStore(path)
    venue = open_venue(store)
    for step in plan()[first:]:
        step(venue)
    record = venue.snapshot(0)
    store.close()
    return record


def run_until_killed(root: Path, path: Path, first: int, *fate: str) -> int:
    """Run the plan in a process that kills itself; give the first step it did not answer."""
    command = [sys.executable, "-m", "tests.adapters.paper_plan", str(path), str(first), *fate]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    answered = done.stdout.split()
    return int(answered[-1]) + 1 if answered else first


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_its_commits_the_account_ends_as_if_undisturbed(
    tmp_path: Path, repository_root: Path, when: str
) -> None:
    path, first = tmp_path / "paper.db", 0
    for commit in (1, 4, 9):
        first = run_until_killed(repository_root, path, first, str(commit), when)
    assert 0 < first < len(plan()) - 10
    assert finish(path, first) == reference()


def test_killed_at_any_time_from_outside_the_account_ends_as_if_undisturbed(
    tmp_path: Path, repository_root: Path
) -> None:
    path, first, dice = tmp_path / "paper.db", 0, random.Random(7)
    for _ in range(3):
        command = [sys.executable, "-m", "tests.adapters.paper_plan", str(path), str(first)]
        with subprocess.Popen(command, cwd=repository_root, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(dice.randrange(4, 14)):
                child.stdout.readline()
            child.kill()
            # What was answered but not yet read counts as unknown to the caller: it asks again.
            first = max(0, first + 3)
    assert finish(path, first) == reference()


def test_a_fill_committed_but_never_told_is_found_by_query_and_snapshot_once(
    tmp_path: Path, repository_root: Path
) -> None:
    path = tmp_path / "paper.db"
    run_until_killed(repository_root, path, 0, "4", "after")  # opening, rates, bars, orders
    store = SqliteStore(path)
    venue = open_venue(store)
    *executions, _ = venue.snapshot(1)
    told = fills_of(executions)
    assert len(told) == 2
    asked = [fills_of(venue.query(fill.order_id, fill.key)) for fill in told]
    assert asked == [[fill] for fill in told]
    again = plan()[2](venue)  # the caller that is not sure may even send the same orders again
    assert fills_of(again) == told
    assert venue.snapshot(1)[:-1] == executions
    store.close()


def test_an_order_whose_commit_never_happened_is_absent(
    tmp_path: Path, repository_root: Path
) -> None:
    path = tmp_path / "paper.db"
    run_until_killed(repository_root, path, 0, "4", "before")
    store = SqliteStore(path)
    venue = open_venue(store)
    (answer,) = venue.query(OrderId("o1a"), key(0))
    assert isinstance(answer, OrderAbsent)
    assert len(venue.snapshot(1)) == 1
    store.close()


# ---- what a restart keeps ------------------------------------------------------------------------


def reopened(store: SqliteStore, **changes: object) -> tuple[SqliteStore, PaperVenue]:
    store.close()
    fresh = SqliteStore(store.path)
    return fresh, make_venue(fresh, **changes)


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "paper.db")


def test_what_an_instant_has_used_up_survives_a_restart(store: SqliteStore) -> None:
    venue = make_venue(store)
    venue.observe(bars(1, PRICES, volumes=10.0))
    venue.submit([order("a", "0.7"), order("b", "5", index=1)])
    store, venue = reopened(store)
    assert quantities(venue.submit([order("c", "0.7")])) == [("c", "0.300", "100.0")]
    store, venue = reopened(store)
    told = quantities(venue.observe(bars(2, PRICES, volumes=10.0)))
    assert told == [("b", "1.000", "10.0"), ("c", "0.400", "100.0")]
    store.close()


def test_rates_that_wait_and_holdings_of_the_past_survive_a_restart(store: SqliteStore) -> None:
    venue = make_venue(store)
    venue.observe(bars(1, PRICES))
    venue.submit([order("a", "1")])
    venue.observe(rates(2, (0.001, NAN, NAN)))
    store, venue = reopened(store)
    (paid,) = venue.observe(bars(2, PRICES))
    assert isinstance(paid, FundingPaid)
    venue.submit([order("b", "9", number=2)])
    store, venue = reopened(store)
    assert venue.observe(rates(2, (0.001, NAN, NAN))) == []
    venue.observe(bars(3, PRICES))
    store, venue = reopened(store)
    (late,) = venue.observe(rates(3, (0.001, NAN, NAN)))
    assert isinstance(late, FundingPaid)
    assert str(late.amount) == "-1.00000000"
    store.close()


def test_an_order_that_ended_long_ago_is_still_known(store: SqliteStore) -> None:
    venue = make_venue(store)
    venue.observe(bars(1, PRICES, volumes=1e9))
    first = venue.submit([order("first", "1")])
    many = [order(f"o{i}", "1" if i % 2 else "-1") for i in range(ENDED_KEPT + 10)]
    venue.submit(many)
    assert venue.query(OrderId("first"), key(0)) == first
    store, venue = reopened(store)
    assert venue.submit([order("first", "1")]) == first
    assert len(fills_of(venue.snapshot(0))) == ENDED_KEPT + 11
    store.close()


def test_other_costs_count_for_new_fills_and_leave_old_ones_alone(store: SqliteStore) -> None:
    venue = make_venue(store)
    venue.observe(bars(1, PRICES))
    old = venue.submit([order("a", "1")])
    store, venue = reopened(store, fee_bps=10.0)
    (fill,) = fills_of(venue.submit([order("b", "1")]))
    assert str(fill.fee) == "0.10000000"
    assert venue.query(OrderId("a"), key(0)) == old
    store.close()


def test_other_starting_cash_is_refused_instead_of_ignored(store: SqliteStore) -> None:
    make_venue(store)
    with pytest.raises(ConfigurationError, match="opened with 10000 USDT; set that back"):
        reopened(store, starting_cash={"USDT": settings().starting_cash["USDT"] * 2})


def test_another_universe_keeps_positions_and_moves_knowledge_to_its_place(
    store: SqliteStore,
) -> None:
    venue = make_venue(store)
    venue.observe(bars(1, PRICES, volumes=(10.0, 10.0, 10.0)))
    venue.submit([order("a", "3"), order("b", "3", index=1), order("c", "20", index=2)])
    venue.observe(rates(2, (0.001, 0.001, 0.001)))
    store.close()
    store = SqliteStore(store.path)
    universe = make_universe((SYMBOLS[2], "XRP/USDT:USDT", SYMBOLS[1]))  # BTC is gone
    venue = PaperVenue(universe, settings(), store, opened_ms=START_MS)
    assert held(venue) == {"BTC": "1.000", "ETH": "1.000", "DOG": "1.000"}
    events = venue.observe(bars(2, (1.0, 50.0, 10.0)))
    paid = [(e.key.symbol[:3], str(e.amount)) for e in events if isinstance(e, FundingPaid)]
    assert paid == [("ETH", "-0.01000000"), ("DOG", "-0.00100000")]
    assert quantities(events) == [("b", "2.000", "10.0"), ("c", "19.000", "1.0")]
    assert [fill.index for fill in fills_of(events)] == [2, 0]
    assert isinstance(venue.cancel(OrderId("a"), key(0))[1], OrderFilled)
    store.close()


# ---- files that cannot be used -------------------------------------------------------------------


def tamper(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def traded(store: SqliteStore) -> Path:
    venue = make_venue(store)
    venue.observe(bars(1, PRICES))
    venue.submit([order("a", "1"), order("b", "-1", index=1)])
    store.close()
    return store.path


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["UPDATE parts SET body = x'00' WHERE name = 'account'"], "'account' fails its checksum"),
        (["UPDATE parts SET body = x'00' WHERE name = 'market'"], "'market' fails its checksum"),
        (["DELETE FROM parts WHERE name = 'funding'"], "a part of the account is missing"),
        (["DELETE FROM executions WHERE number = 2"], "executions 1 to 3 are not all there"),
        (["UPDATE executions SET body = x'00' WHERE number = 2"], "are no message"),
        (
            [
                "CREATE TABLE t AS SELECT body FROM executions WHERE number = 3",
                "UPDATE executions SET body = (SELECT body FROM t) WHERE number = 2",
            ],
            "its executions add up to",
        ),
        (["UPDATE orders SET body = x'00'"], "are no"),
    ],
)
def test_a_ledger_that_does_not_add_up_is_refused_by_name(
    store: SqliteStore, statements: Sequence[str], message: str
) -> None:
    path = traded(store)
    tamper(path, *statements)
    damaged = SqliteStore(path)
    with pytest.raises(CorruptFile, match=rf"paper\.db: .*{message}.*restore it"):
        make_venue(damaged)
    damaged.close()


def test_a_file_that_is_no_ledger_is_refused_by_name(tmp_path: Path, store: SqliteStore) -> None:
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"no database at all " * 200)
    with pytest.raises(CorruptFile, match=r"garbage\.db: the file is damaged"):
        SqliteStore(garbage)
    other = tmp_path / "other.db"
    tamper(other, "CREATE TABLE theirs (a)")
    with pytest.raises(CorruptFile, match=r"other\.db: the file is none of ours"):
        SqliteStore(other)
    path = traded(store)
    tamper(path, "PRAGMA user_version = 9")
    with pytest.raises(CorruptFile, match="format 9"):
        SqliteStore(path)
    with pytest.raises(JournalError, match="nowhere"):
        SqliteStore(tmp_path / "nowhere" / "paper.db")


def test_a_truncated_ledger_is_refused_by_name(store: SqliteStore) -> None:
    path = traded(store)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CorruptFile, match=r"paper\.db: the file is damaged"):
        SqliteStore(path)


def fill_the_disk(venue: PaperVenue) -> None:
    for number in range(2, 5_000):
        venue.observe(bars(number, PRICES))
        venue.submit([order(f"o{number}", "1" if number % 2 else "-1", number=number)])


def test_a_full_disk_stops_the_venue_and_keeps_what_was_answered(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "paper.db", file_bytes_max=100_000)
    venue = make_venue(store)
    venue.observe(bars(1, PRICES))
    with pytest.raises(JournalError, match=r"paper\.db: writing failed.*full.*make room"):
        fill_the_disk(venue)
    with pytest.raises(VenueError, match="could not be written"):
        venue.submit([order("z", "1")])
    store, venue = reopened(store)
    executions = fills_of(venue.snapshot(0))
    assert len(executions) > 50
    assert account_of(venue).executions_cursor == len(executions) + 1
    assert cash(venue) == 10_000 - sum(f.quantity * f.price + f.fee for f in executions)
    store.close()
