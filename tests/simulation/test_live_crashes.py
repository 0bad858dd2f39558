"""Crash with real orders at any await or write, requests under way: nothing lost or doubled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from adapters.journal import SqliteJournal
from daemon.domain.messages import Command, Event, Submit
from daemon.domain.order import Approved, DoneReason
from daemon.engine.doubts import Doubts
from daemon.engine.engine import Engine
from daemon.engine.orders import OrderRecord
from tests.simulation.crash_campaign import (
    CHUNKS,
    SAMPLED,
    VENUES,
    Summary,
    chunk,
)

SUBJECTS = frozenset(
    {
        "journal: before a commit",
        "journal: torn commit",
        "journal: committed",
        "snapshot: before a commit",
        "snapshot: torn commit",
        "snapshot: committed",
        "send: about to leave",
        "send: on the way",
        "send: answered",
        "cancel: about to leave",
        "cancel: on the way",
        "cancel: answered",
        "question: about to leave",
        "question: answered",
        "reading: about to leave",
        "reading: answered",
        "venue: took or ended an order",
        "venue: filled",
        "venue: settled funding",
        "venue: time moved",
        "start-up: journal",
        "start-up: book file",
        "start-up: reading",
        "shutdown: journal",
    }
)
POINTS_MIN = 300  # of both dialects, in the usual tests
SOAK_SAMPLED = 340  # of a chunk, evenly of each kind; all of them: `crash_campaign --all`


def check(told: Summary, venue: str) -> None:
    """Hold a chunk against what must be, and show its table."""
    print("\n" + told.text())
    every = told.total()
    assert not every.wrong, told.text()
    kinds = {kind for _, kind in told.kinds}
    assert kinds >= SUBJECTS, f"{venue}: nothing crashed at {sorted(SUBJECTS - kinds)}"
    assert any(kind.startswith("in a recovery: ") for kind in kinds)
    assert any(kind.startswith("in a recovery's recovery: ") for kind in kinds)
    assert every.late
    assert every.absent
    assert every.rested


@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", range(CHUNKS))
@pytest.mark.parametrize("venue", VENUES)
def test_after_a_crash_at_any_point_orders_are_the_intents_and_the_book_the_venues(
    venue: str, number: int
) -> None:
    told = chunk(venue, number, SAMPLED)
    check(told, venue)
    assert told.total().points >= POINTS_MIN / (len(VENUES) * CHUNKS)


@pytest.mark.soak(minutes=2)
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(CHUNKS))
@pytest.mark.parametrize("venue", VENUES)
def test_after_crashes_at_thousands_of_points_the_book_is_the_venues(
    venue: str, number: int
) -> None:
    told = chunk(venue, number, SOAK_SAMPLED, again=(6, 4))
    check(told, venue)
    assert told.total().points >= SOAK_SAMPLED


# ---- does it see anything? -----------------------------------------------------------------------


def send_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send an order of which nobody knows anything a second time instead of asking about it."""

    def ask(self: Doubts, record: OrderRecord, asked: int) -> None:
        asking(self, record, asked)
        self._out[-1] = Submit(Approved(record.order))

    asking = Doubts._ask
    monkeypatch.setattr(Doubts, "_ask", ask)


def write_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand commands out while their journal entries are written with those of the next batch."""
    kept: dict[int, list[Any]] = {}

    async def append(
        self: SqliteJournal, entries: Sequence[tuple[Event, Sequence[Command]]]
    ) -> int:
        before = kept.pop(id(self), [])
        kept[id(self)] = list(entries)
        return await appending(self, before) if before else 0

    async def save(self: SqliteJournal, state: bytes) -> None:
        await appending(self, kept.pop(id(self), []))
        await saving(self, state)

    async def close(self: SqliteJournal) -> None:
        await appending(self, kept.pop(id(self), []))
        await closing(self)

    appending, saving, closing = (
        SqliteJournal.append,
        SqliteJournal.save_snapshot,
        SqliteJournal.close,
    )
    monkeypatch.setattr(SqliteJournal, "append", append)
    monkeypatch.setattr(SqliteJournal, "save_snapshot", save)
    monkeypatch.setattr(SqliteJournal, "close", close)


def forget_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask about no order of before the crash: begin with none."""

    def started(self: Engine, at_ms: int, *, warming: bool) -> None:
        for order_id in list(self.state.orders.open):
            self._ended(order_id, DoneReason.CANCELLED)
        starting(self, at_ms, warming=warming)

    starting = Engine._started
    monkeypatch.setattr(Engine, "_started", started)


def believe_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe the venue's 'no such order' although a request may still be on its way."""
    monkeypatch.setattr("adapters.ccxt_venue.desk.Desk._arrival_s", lambda self, order_id: 0.0)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broken", [send_again, write_late, forget_to_ask, believe_at_once])
def test_the_campaign_turns_red_when_a_rule_is_broken(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[[pytest.MonkeyPatch], None]
) -> None:
    venue = "binanceusdm"  # takes a client id again once its order has ended
    broken(monkeypatch)
    try:
        told = chunk(venue, 0, 6, again=(0, 0), kinds=("send: on the way",))
    except (AssertionError, ExceptionGroup) as failure:
        print(f"{broken.__name__}: {failure}")
    else:
        print(f"{broken.__name__}: {told.text()}")
        assert told.total().wrong
