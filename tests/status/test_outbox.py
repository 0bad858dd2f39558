"""The outbox is bounded and newest wins; the courier survives every failure and tells each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from daemon.domain.log_events import LogEvent
from daemon.status import outbox as module
from daemon.status.codec import EVENT_TOPICS, STATE_TOPICS
from daemon.status.outbox import EVENTS_IN_BATCH_MAX, Batch, Courier, Link, Outbox


def test_of_a_state_only_the_newest_value_waits() -> None:
    outbox = Outbox()
    for n in range(5):
        outbox.put("status", {"n": n})
    assert len(outbox) == 1
    assert outbox.take().states == {"status": {"n": 4}}
    assert not outbox.take()


def test_events_keep_their_order_and_the_oldest_makes_room() -> None:
    outbox = Outbox(events_max=3)
    for n in range(5):
        outbox.put("fill", {"n": n})
    assert [values["n"] for _, values in outbox.take().events] == [2, 3, 4]
    assert outbox.events_dropped == 2


def test_a_batch_that_came_back_goes_first_but_never_over_newer_states() -> None:
    outbox = Outbox()
    outbox.put("status", {"n": 1})
    outbox.put("targets", {"n": 1})
    outbox.put("fill", {"n": 1})
    batch = outbox.take()
    outbox.put("status", {"n": 2})
    outbox.put("fill", {"n": 2})
    outbox.give_back(batch)
    again = outbox.take()
    assert again.states == {"status": {"n": 2}, "targets": {"n": 1}}
    assert [values["n"] for _, values in again.events] == [1, 2]


def test_a_batch_is_bounded() -> None:
    outbox = Outbox()
    for n in range(EVENTS_IN_BATCH_MAX + 1):
        outbox.put("fill", {"n": n})
    assert len(outbox.take().events) == EVENTS_IN_BATCH_MAX
    assert len(outbox.take().events) == 1


def test_values_are_copied_so_that_the_caller_may_go_on_changing_them() -> None:
    outbox, weights = Outbox(), np.zeros(2)
    values = {"weights": weights}
    outbox.put("targets", values)
    weights[:] = 9
    values["more"] = weights
    assert outbox.take().states == {"targets": {"weights": [0.0, 0.0]}}


@pytest.mark.parametrize(("topic", "value"), [("status", object()), ("weather", 1)])
def test_what_cannot_be_shown_is_logged_and_dropped_and_never_raised(
    topic: str, value: object
) -> None:
    outbox = Outbox()
    with capture_logs() as logs:
        outbox.put(topic, {"x": value})
    assert (len(outbox), outbox.values_refused) == (0, 1)
    assert [(e["event"], e["topic"]) for e in logs] == [(LogEvent.STATUS_VALUE_REFUSED, topic)]


steps = st.lists(
    st.tuples(st.sampled_from([*STATE_TOPICS, *EVENT_TOPICS, "take", "lose"]), st.integers()),
    max_size=200,
)


@given(steps)
def test_the_outbox_never_grows_past_its_bound(work: list[tuple[str, int]]) -> None:
    outbox = Outbox(events_max=5)
    newest: dict[str, int] = {}
    for step, number in work:
        if step == "take":
            for topic, values in outbox.take().states.items():
                assert values["n"] == newest[topic]
        elif step == "lose":
            outbox.give_back(outbox.take())
        else:
            outbox.put(step, {"n": number})
            newest[step] = number
        assert len(outbox) <= len(STATE_TOPICS) + 5


class Server:
    """Take batches as a server would, or fail where a test says so."""

    def __init__(self) -> None:
        self.taken: list[Batch] = []
        self.said: list[str] = []
        self.connects = 0
        self.on_connect: Callable[[], None] = lambda: None
        self.on_send: Callable[[], None] = lambda: None
        self.news = asyncio.Event()

    @asynccontextmanager
    async def linked(self) -> AsyncIterator[Link]:
        self.connects += 1
        self.on_connect()
        yield self

    async def send(self, batch: Batch) -> None:
        self.on_send()
        self.taken.append(batch)
        self.news.set()

    async def beat(self) -> None:
        self.said.append("beat")

    async def farewell(self) -> None:
        self.said.append("farewell")

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                await self.news.wait()


def courier_of(outbox: Outbox, server: Server) -> Courier:
    return Courier(outbox, server.linked, server="test://server", beat_s=60)


async def test_what_is_put_arrives_and_the_end_says_farewell() -> None:
    outbox, server = Outbox(), Server()
    async with courier_of(outbox, server).running():
        outbox.put("status", {"n": 1})
        await server.until(lambda: len(server.taken) == 1)
        outbox.put("fill", {"n": 2})
    assert server.taken[-1].events == (("fill", {"n": 2}),)
    assert server.said == ["beat", "farewell"]


async def test_an_outage_is_told_once_at_its_begin_and_once_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PAUSE_S_MIN", 0.001)
    monkeypatch.setattr(module, "PAUSE_S_MAX", 0.001)
    outbox, server = Outbox(events_max=2), Server()

    def refuse() -> None:
        if server.connects < 5:
            raise OSError("nobody there")

    server.on_connect = refuse
    with capture_logs() as logs:
        async with courier_of(outbox, server).running():
            for n in range(5):
                outbox.put("fill", {"n": n})
            await server.until(lambda: len(server.taken) == 1)
    lost, returned = (entry for entry in logs if entry["event"].startswith("status_server"))
    assert lost["event"] == LogEvent.STATUS_SERVER_LOST
    assert lost["why"] == "OSError: nobody there"
    assert returned["event"] == LogEvent.STATUS_SERVER_RETURNED
    assert (returned["attempts"], returned["events_dropped"]) == (4, 3)


async def test_a_failed_send_is_repeated_and_states_are_shown_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PAUSE_S_MIN", 0.001)
    outbox, server = Outbox(), Server()
    outbox.put("status", {"n": 1})

    def fail_once() -> None:
        if server.connects == 1 and server.taken:
            raise ConnectionError("cut")

    server.on_send = fail_once
    async with courier_of(outbox, server).running():
        await server.until(lambda: len(server.taken) == 1)
        outbox.put("fill", {"n": 2})
        await server.until(lambda: len(server.taken) == 2)
    assert server.connects == 2
    assert server.taken[1].states == {"status": {"n": 1}}
    assert server.taken[1].events == (("fill", {"n": 2}),)


async def test_an_unforeseen_failure_of_a_library_does_not_reach_the_daemon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PAUSE_S_MIN", 0.001)
    outbox, server = Outbox(), Server()

    def break_once() -> None:
        if server.connects == 1:
            raise KeyError("a bug inside a client")

    server.on_connect = break_once
    outbox.put("status", {"n": 1})
    async with courier_of(outbox, server).running():
        await server.until(lambda: len(server.taken) == 1)


async def test_an_absent_server_does_not_hold_up_the_end() -> None:
    outbox, server = Outbox(), Server()

    def refuse() -> None:
        # told a moment later, when the courier has noticed
        asyncio.get_running_loop().call_soon(server.news.set)
        raise OSError("nobody there")

    server.on_connect = refuse
    courier = courier_of(outbox, server)
    async with courier.running():
        outbox.put("status", {"n": 1})
        await server.until(lambda: courier.is_away)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 0.5


async def test_failures_of_the_body_pass_through_unchanged() -> None:
    with pytest.raises(LookupError, match="of the body"):
        async with courier_of(Outbox(), Server()).running():
            raise LookupError("of the body")


def test_a_burst_of_the_log_pushes_out_no_fill() -> None:
    outbox = Outbox(events_max=3)
    outbox.put("fill", {"n": 1})
    for n in range(module.LOGS_WAITING_MAX + 5):
        outbox.put("log", {"n": n})
    batch = outbox.take()
    assert batch.events[0] == ("fill", {"n": 1})
    assert len(batch.events) == EVENTS_IN_BATCH_MAX
    outbox.put("fill", {"n": 2})
    outbox.give_back(batch)
    again = outbox.take()
    assert [topic for topic, _ in again.events[:3]] == ["fill", "fill", "log"]
    kept = [values["n"] for topic, values in again.events + outbox.take().events if topic == "log"]
    assert kept == list(range(5, module.LOGS_WAITING_MAX + 5))
