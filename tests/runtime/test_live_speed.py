"""What need not wait does not: forecasts not for the disk, orders not for those who look on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from adapters.journal import MemoryJournal
from daemon.domain.messages import Cancel, Command, Decided, Estimate, Event, Query, Submit
from daemon.domain.order import OrderId
from daemon.engine.engine import Engine
from daemon.runtime.live import LiveShell
from tests.runtime.rig import Line, line_of, panel_of


class WaitingJournal(MemoryJournal):
    """Write a question down only once the estimator has heard it."""

    def __init__(self) -> None:
        super().__init__(keep_entries=True)
        self.line: Line | None = None
        self.questions_n = 0

    async def append(self, entries: Sequence[tuple[Event, Sequence[Command]]]) -> int:
        asked = [c for _, commands in entries for c in commands if isinstance(c, Estimate)]
        assert self.line is not None
        async with asyncio.timeout(5):
            while not {c.as_of_ms for c in asked} <= set(self.line.estimator.asked):  # noqa: ASYNC110 - turns of the loop
                await asyncio.sleep(0)
        self.questions_n += len(asked)
        return await super().append(entries)


async def test_a_forecast_is_made_while_its_question_is_being_written_down() -> None:
    journal = WaitingJournal()
    journal.line = line = line_of(panel_of(30), journal=journal)
    await line.run()
    assert journal.questions_n > 5
    recorded = list(journal.read_from(1))
    kinds = [type(entry.event).__name__ for entry in recorded]
    asks = [n for n, entry in enumerate(recorded) if "RecordedEstimate" in _kinds(entry.commands)]
    answers = [n for n, kind in enumerate(kinds) if kind == "EstimatesReady"]
    assert len(asks) == len(answers)
    assert all(ask < answer for ask, answer in zip(asks, answers, strict=True))


def _kinds(commands: Sequence[object]) -> set[str]:
    return {type(command).__name__ for command in commands}


async def test_orders_are_on_their_way_before_anybody_is_shown_what_was_decided() -> None:
    line = line_of(panel_of(30))
    seen_n = 0

    def observe(event: Event, commands: Sequence[Command], engine: Engine) -> None:
        nonlocal seen_n
        orders = [c.approved.order for c in commands if isinstance(c, Submit)]
        if orders:
            seen_n += 1
            assert orders[0] in line.venue.sent
        if any(isinstance(c, Decided) for c in commands):
            assert seen_n

    shown = replace(line.shell._parts, observers=(*line.shell._parts.observers, observe))
    line.shell = LiveShell(shown)
    line.clock.quiet = line.shell.quiet
    await line.run()
    assert seen_n > 3


async def test_a_cancel_does_not_wait_for_questions_and_questions_go_side_by_side() -> None:
    line = line_of(panel_of(30))
    key = line.engine.universe.instruments[0].key
    running = asyncio.create_task(line.run())
    await line.venue.wait_for("submit")
    line.venue.holds.add("query")
    line.venue.open.clear()
    line.venue.calls.clear()
    asked = [Query(OrderId(f"o{n}"), key) for n in range(5)]
    await line.shell._hand_out([*asked, Cancel(OrderId("o9"), key)])
    async with asyncio.timeout(5):
        await line.venue.wait_for("query")
        await line.venue.wait_for("cancel")
    assert line.venue.calls.count("query") == 5, "five questions wait, and all of them were asked"
    assert "cancel" in line.venue.calls
    line.venue.open.set()
    await running
    assert len(line.decisions) > 3
