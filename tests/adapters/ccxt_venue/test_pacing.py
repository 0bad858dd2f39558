"""Requests leave within a venue's windows; an order waits behind no listing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.ccxt_venue.client import keyed_client
from adapters.ccxt_venue.keys import Credentials, Hidden
from adapters.ccxt_venue.pacing import Budget, Budgets, Kind, Pace, Window, budgets_of, meant_as

costs = st.lists(st.tuples(st.floats(0.1, 30.0), st.floats(0.0, 9.0)), min_size=1, max_size=60)


class Time:
    """Tell a time that moves only while somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr("adapters.ccxt_venue.pacing.asyncio.sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def read(self) -> float:
        return self.now_s


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


async def took(time: Time, act: Callable[[], object]) -> float:
    before = time.now_s
    await act()  # type: ignore[misc]
    return time.now_s - before


def binance(time: Time) -> Pace:
    return Pace(budgets_of("binanceusdm", 50.0), time.read)


@given(costs)
def test_no_window_ever_holds_more_than_its_budget(asked: list[tuple[float, float]]) -> None:
    budget, now_s, used = Budget(100.0, 10.0), 0.0, list[tuple[float, float]]()
    window = Window(budget)
    for cost, idle_s in asked:
        now_s += idle_s
        for _ in range(1000):
            wait_s = window.wait_s(cost, now_s)
            if not wait_s:
                break
            now_s += wait_s
        window.use(cost, now_s)
        used.append((now_s, cost))
        inside = sum(c for at_s, c in used if at_s > now_s - budget.window_s)
        assert inside <= budget.most + 1e-6


async def test_an_order_pays_for_nothing_that_was_read_before_it(time: Time) -> None:
    pace = binance(time)
    await pace(5.0)
    time.now_s += 3600.0
    with meant_as(Kind.ORDER):
        assert await took(time, lambda: pace(4.0)) == 0.0


async def test_two_hundred_orders_leave_at_once_and_the_venues_own_window_holds(
    time: Time,
) -> None:
    pace = binance(time)
    with meant_as(Kind.ORDER):
        for _ in range(200):
            assert await took(time, lambda: pace(4.0)) == 0.0
        for _ in range(80):
            await pace(4.0)
        assert 9.0 < await took(time, lambda: pace(4.0)) <= 10.0


async def test_while_a_listing_waits_for_room_questions_and_orders_leave(time: Time) -> None:
    pace = binance(time)
    with meant_as(Kind.LISTING):
        for _ in range(223):
            assert await took(time, lambda: pace(5.0)) == 0.0
    assert await took(time, lambda: pace(5.0)) == 0.0, "a question"
    with meant_as(Kind.ORDER):
        assert await took(time, lambda: pace(4.0)) == 0.0
    with meant_as(Kind.LISTING):
        assert await took(time, lambda: pace(5.0)) > 59.0


async def test_an_order_does_not_stand_in_line_behind_a_listing_that_waits() -> None:
    pace = Pace(Budgets(Budget(10.0, 60.0), (Budget(5.0, 1.0),)))
    with meant_as(Kind.LISTING):
        await pace(6.0)
        waiting = asyncio.create_task(pace(6.0))
    await asyncio.sleep(0)
    with meant_as(Kind.ORDER):
        async with asyncio.timeout(1.0):
            await pace(1.0)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize("venue", ["binanceusdm", "bybit", "okx"])
async def test_a_client_that_keeps_a_pace_keeps_ours(venue: str) -> None:
    keys = Credentials(venue, Hidden("k" * 12), Hidden("s" * 12), Hidden("p" * 12))
    api = keyed_client(venue, {}, keys, receive_window_ms=5_000)
    try:
        assert isinstance(api.throttle, Pace)
        loose = keyed_client(venue, {"enableRateLimit": False}, keys, receive_window_ms=5_000)
        assert not isinstance(loose.throttle, Pace)
        await loose.close()
    finally:
        await api.close()
