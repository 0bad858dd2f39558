"""Status is shown when it changes, not at the next bar."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from daemon.domain.messages import FeedNotice, FeedTrouble, Operator, OperatorAction, Started
from daemon.wiring.sinks import Publisher
from tests.engine.world import at, deposit, make_engine, snapshot


@dataclass
class Shown:
    """Keep what was published, newest last."""

    status: list[dict[str, Any]] = field(default_factory=list)

    def publish(self, topic: str, values: Mapping[str, object]) -> None:
        if topic == "status":
            self.status.append(dict(values))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield


def test_an_account_learnt_and_a_halt_are_shown_before_any_bar_closes() -> None:
    engine, shown = make_engine(), Shown()
    publisher = Publisher([shown], [])
    for event in (
        Started(at(0), "run"),
        deposit(),
        snapshot(),
        Operator(OperatorAction.KILL, "1", at(0)),
    ):
        publisher(event, engine.process(event), engine)
    seen = [(str(s["trading_state"]), float(s["equity"]), s["note"]) for s in shown.status]
    assert seen == [
        ("reconciling", 0.0, ""),
        ("reconciling", 10_000.0, ""),
        ("trading", 10_000.0, ""),
        ("halted", 10_000.0, "killed by the operator"),
    ]


def test_where_nothing_may_be_opened_is_shown_with_its_reason_until_it_ends() -> None:
    engine, shown = make_engine(), Shown()
    publisher = Publisher([shown], [])
    for event in (
        Started(at(0), "run"),
        deposit(),
        snapshot(),
        FeedNotice(at(0), "paper", FeedTrouble.CLOCK_OFFSET, True, "its clock is off"),
        FeedNotice(at(0), "paper", FeedTrouble.CLOCK_OFFSET, False, "right again"),
    ):
        publisher(event, engine.process(event), engine)
    assert [(str(s["trading_state"]), s["note"]) for s in shown.status[-3:]] == [
        ("trading", ""),
        ("reduce_only", "nothing is opened: paper: its clock is off"),
        ("trading", ""),
    ]


def test_what_changes_nothing_that_is_shown_publishes_nothing() -> None:
    engine, shown = make_engine(), Shown()
    publisher = Publisher([shown], [])
    for event in (Started(at(0), "run"), deposit(), snapshot(), snapshot()):
        publisher(event, engine.process(event), engine)
    assert len(shown.status) == 3
