"""An order that waited long for what was asked before it is not sent into another market."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import (
    Cancel,
    Command,
    Event,
    OrderAbsent,
    OrderRejected,
    Query,
    Submit,
    Tick,
    VenueEvent,
)
from daemon.domain.order import OrderId
from tests.engine.world import at
from tests.runtime.rig import WARM_BARS, Line, line_of, panel_of
from tests.runtime.test_live import BARS

HELD_UP_S = 0.3


def line_with_a_slow_cancel() -> Line:
    """Give a line whose first orders wait in the shell until a slow cancel is answered."""
    line = line_of(panel_of(BARS))
    process, asked = line.engine.process, list[Event]()
    cancel = Cancel(OrderId("of-another-time"), line.engine.universe.instruments[0].key)

    def asking(event: Event) -> tuple[Command, ...]:
        told = process(event)
        if not asked and any(isinstance(command, Submit) for command in told):
            asked.append(event)
            return (cancel, *told)
        return told

    async def slowly(order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        await asyncio.sleep(HELD_UP_S)
        return ()

    line.engine.process = asking  # type: ignore[method-assign]
    line.venue.cancel = slowly  # type: ignore[method-assign]
    return line


def not_sent(line: Line) -> list[OrderRejected]:
    return [e for e in line.events if isinstance(e, OrderRejected)]


async def test_orders_that_waited_too_long_in_the_shell_are_never_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.runtime.live.SEND_S_MAX", HELD_UP_S / 2)
    line = line_with_a_slow_cancel()
    await line.run()
    late = not_sent(line)
    assert late
    assert all(e.reason.startswith("not sent: held up for") for e in late)
    assert not {e.order_id for e in late} & {o.order_id for o in line.venue.sent}
    assert line.venue.sent, "what follows in time is sent"


async def test_orders_that_waited_for_a_moment_are_sent() -> None:
    line = line_with_a_slow_cancel()
    await line.run()
    assert not_sent(line) == []
    assert line.venue.sent


async def test_an_order_that_has_not_left_yet_is_never_told_to_be_absent() -> None:
    """Later slices of a decision are old when they are sent, so that a Tick asks about them."""
    line = line_of(panel_of(BARS))
    line.venue.holds.add("submit")
    line.venue.open.clear()
    process = line.engine.process

    def asking(event: Event) -> tuple[Command, ...]:
        told = process(event)
        if not isinstance(event, Tick):
            return told
        open_orders = line.engine.state.orders.open.values()
        return (*told, *(Query(one.order.order_id, one.order.key) for one in open_orders))

    line.engine.process = asking  # type: ignore[method-assign]
    running = asyncio.create_task(line.run())
    await line.venue.wait_for("submit")
    asked = {*line.engine.state.orders.open}
    assert asked
    await line.shell.put(Tick(at(WARM_BARS)))
    await line.shell._unprocessed.at_most(0)
    await asyncio.sleep(0.05)
    assert "query" not in line.venue.calls
    line.venue.open.set()
    await running
    absent = {e.order_id for e in line.events if isinstance(e, OrderAbsent)}
    assert not absent & {o.order_id for o in line.venue.sent}
    assert asked <= {o.order_id for o in line.venue.sent}
