"""An order that was held up for long is not sent into another market."""

from __future__ import annotations

import asyncio

import pytest

from adapters.ccxt_venue.desk import SEND_S_MAX, DeskRules
from daemon.domain.messages import OrderRejected
from tests.adapters.ccxt_venue.both_rig import VENUES, both


@pytest.mark.parametrize("asleep", [True, False])
@pytest.mark.parametrize("venue", VENUES)
async def test_who_wakes_up_in_the_middle_of_a_batch_does_not_send_its_rest(
    venue: str, asleep: bool
) -> None:
    async with both(venue) as x:
        desk, api = x.venue.desk, x.venue._caller.api
        create, slept_s, sent = api.create_order, [0.0], list[object]()

        async def sleeping_after_the_first(*args: object) -> object:
            sent.append(args)
            if len(sent) == 2:  # a laptop is closed, or a client's throttle stands still
                slept_s[0] = 8 * 3_600.0
            return await create(*args)

        api.create_order = sleeping_after_the_first
        true_s = desk._machine_s

        def machine_s() -> tuple[float, float]:
            steady_s, wall_s = true_s()
            return (steady_s, wall_s + slept_s[0]) if asleep else (steady_s + slept_s[0], wall_s)

        desk._machine_s = machine_s  # type: ignore[method-assign]
        desk._rules = type(desk._rules)(desk._rules.receive_window_s, parallel_n=1)
        told = await x.submit(x.order(1, "0.01"), x.order(2, "0.01"), x.order(3, "0.01"))
        assert x.orders_at_venue() == ["eq65bbf840-0-1"]
        late = [e for e in told if isinstance(e, OrderRejected)]
        assert len(late) == 2
        assert all("held up for 28800 s" in e.reason for e in late)


async def test_a_batch_that_takes_its_time_is_sent_to_its_end() -> None:
    async with both("binanceusdm") as x:
        desk, calls = x.venue.desk, [0]

        def slowly() -> tuple[float, float]:
            calls[0] += 1
            at_s = min(SEND_S_MAX, 20.0 * calls[0])
            return at_s, at_s

        desk._machine_s = slowly  # type: ignore[method-assign]
        await x.submit(*(x.order(n, "0.01") for n in range(1, 5)))
        assert len(x.orders_at_venue()) == 4


async def test_what_may_not_leave_waits_for_no_turn() -> None:
    """Else it would wait out a halt in the line, and leave after a resume."""
    async with both("binanceusdm") as x:
        desk, api, turn = x.venue.desk, x.venue._caller.api, asyncio.Event()
        forbidden: list[str] = []
        window_s = desk._rules.receive_window_s
        desk._rules = DeskRules(window_s, 1, forbids=lambda order: "".join(forbidden))

        async def throttle(cost: float | None = None) -> None:
            await turn.wait()

        api.enableRateLimit, api.throttle = True, throttle
        sending = asyncio.create_task(x.submit(*(x.order(n, "0.01") for n in range(1, 9))))
        await asyncio.sleep(0.05)
        forbidden.append("halted")
        turn.set()
        turn.clear()
        told = await asyncio.wait_for(sending, 1.0)
        assert all(isinstance(e, OrderRejected) and "halted" in e.reason for e in told)
        assert x.orders_at_venue() == []
