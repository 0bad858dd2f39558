"""Clocks: who tells market time, and what a lock-step market waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from aiohttp import web

from adapters.clocks import (
    DRIFT,
    LockStepClock,
    SystemClock,
    TransportClock,
    VenueClock,
)
from adapters.clocks import VENUE_CLOCK_REACHED_AGAIN as REACHED_AGAIN
from adapters.clocks import VENUE_CLOCK_UNREACHABLE as UNREACHABLE
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import RehearsalSettings
from daemon.domain.failures import (
    BadPayload,
    InvariantViolated,
    VenueError,
)
from daemon.domain.units import MINUTE_MS

HALF_HOUR_MS = 30 * MINUTE_MS
START_MS = 1_709_251_200_000  # 2024-03-01


class Scripted(TransportClock):
    """Transport time under the test's control."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.wall = 5_000_000

    def monotonic(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return self.wall


def test_transport_time_runs_and_the_system_clock_follows_the_machine() -> None:
    transport = TransportClock()
    before = transport.monotonic()
    assert transport.monotonic() >= before
    assert abs(SystemClock(transport).now() - transport.wall_ms()) < 1000


async def test_the_system_clock_sleeps_until_the_instant() -> None:
    clock = SystemClock(TransportClock())
    wanted = clock.now() + 20
    assert await clock.sleep_until(wanted) >= wanted


async def test_the_venues_time_is_taken_from_the_quickest_answer_minus_its_error() -> None:
    transport = Scripted()
    trips: Iterator[float] = iter([0.8, 0.1, 0.4])

    async def ask() -> int:
        transport.seconds += next(trips)
        return 10_000

    clock = VenueClock(ask, transport)
    await clock.measure()
    # the second answer took 100 ms: the venue read 10 000 within 50 ms of the middle of that trip
    assert clock.error_ms == pytest.approx(50)
    assert clock.offset_ms == pytest.approx(10_000 - (transport.wall - 50))
    # since that middle 50 ms passed, and 400 ms of the third trip: 10 450, less 50 of doubt
    assert clock.now() == pytest.approx(10_400, abs=1)
    transport.seconds += 2
    assert clock.now() == pytest.approx(12_400, abs=1)


async def test_the_venues_time_never_goes_back() -> None:
    transport = Scripted()
    told = iter([10_000, 3_000])

    async def ask() -> int:
        return next(told)

    clock = VenueClock(ask, transport, samples=1)
    await clock.measure()
    first = clock.now()
    await clock.measure()
    assert clock.now() == first


RIGHT = pytest.approx(0, abs=0.1)
"""Seconds; less than true by what the machine's clock may have run wrong."""


class Jumpy:
    """A venue's clock that runs with ours, plus a jump under the test's control."""

    def __init__(self) -> None:
        self.transport = Scripted()
        self.jump_ms = 0
        self.clock = VenueClock(self._ask, self.transport, samples=3, remeasure_every_s=60)

    async def _ask(self) -> int:
        return round(self.transport.seconds * 1000) + self.jump_ms

    async def after(self, seconds: float, *, wall_s: float | None = None) -> float:
        """Let time pass, measure, and tell how far ahead of the truth our clock is, in s."""
        self.transport.seconds += seconds
        self.transport.wall += round((seconds if wall_s is None else wall_s) * 1000)
        await self.clock.measure()
        return self.clock.now() / 1000 - self.transport.seconds


async def test_a_jump_of_the_venues_clock_that_our_clocks_contradict_is_not_believed() -> None:
    venue = Jumpy()
    assert await venue.after(1) == RIGHT
    venue.jump_ms = 300_000  # one wrong answer of the time endpoint
    assert await venue.after(60) == RIGHT
    venue.jump_ms = 0
    assert await venue.after(60) == RIGHT
    venue.jump_ms = 300_000
    assert await venue.after(60) == RIGHT
    venue.jump_ms = 700_000  # they do not agree with each other
    assert [await venue.after(60), await venue.after(60)] == [RIGHT, RIGHT]


async def test_a_jump_that_three_measurements_agree_upon_is_believed() -> None:
    venue = Jumpy()
    await venue.after(1)
    venue.jump_ms = 300_000
    assert [await venue.after(60) for _ in range(3)] == [RIGHT, RIGHT, pytest.approx(300, abs=0.1)]


async def test_after_a_suspension_the_venues_time_is_believed_at_once() -> None:
    """The monotonic clock stood still, the machine's UTC and the venue's time went on."""
    venue = Jumpy()
    await venue.after(1)
    venue.jump_ms = 3_600_000
    assert await venue.after(1, wall_s=3_601) == 3_600


async def test_a_venue_clock_that_was_never_measured_tells_nothing() -> None:
    async def ask() -> int:
        return 1

    with pytest.raises(InvariantViolated, match="not measured"):
        VenueClock(ask, Scripted()).now()


async def test_nonsense_for_a_time_is_refused() -> None:
    async def ask() -> int:
        return 0

    with pytest.raises(BadPayload, match="time is 0"):
        await VenueClock(ask, Scripted()).measure()


async def test_a_venue_that_cannot_be_asked_again_changes_nothing() -> None:
    transport = Scripted()
    failing = False

    async def ask() -> int:
        if failing:
            raise VenueError("down")
        return 10_000

    clock = VenueClock(ask, transport, samples=1, remeasure_every_s=60)
    await clock.measure()
    failing = True
    transport.seconds += 61
    await clock.remeasure_if_due()
    assert clock.now() == pytest.approx(71_000, abs=20)


async def test_at_many_times_real_speed_market_time_runs_as_fast() -> None:
    transport = Scripted()

    async def ask() -> int:
        return 10_000

    clock = VenueClock(ask, transport, samples=1, speed=60)
    await clock.measure()
    transport.seconds += 2
    assert clock.now() == pytest.approx(10_000 + 120_000, abs=30)


# ---- lock-step, against the real rehearsal exchange ----------------------------------------------


@pytest.fixture
async def exchange() -> AsyncIterator[RunningExchange]:
    running = await serve(RehearsalSettings(coins=1, history_days=2))
    async with running:
        yield running


async def at_rest() -> None:
    """Come to rest at once."""


async def test_lock_step_moves_to_the_next_news_and_no_further_than_asked(
    exchange: RunningExchange,
) -> None:
    clock = LockStepClock(exchange.rest_url, at_rest)
    try:
        start = await clock.start()
        assert start == exchange.exchange.now_ms == clock.now()
        assert await clock.sleep_until(start + MINUTE_MS) == start + MINUTE_MS
        # the market has news at the next close, long before the wanted instant
        assert await clock.sleep_until(start + 5 * HALF_HOUR_MS) == start + HALF_HOUR_MS
    finally:
        await clock.close()


async def test_the_market_stands_still_until_the_daemon_has_come_to_rest(
    exchange: RunningExchange,
) -> None:
    busy = asyncio.Event()
    asked = asyncio.Event()

    async def quiesce() -> None:
        asked.set()
        await busy.wait()

    clock = LockStepClock(exchange.rest_url, quiesce)
    try:
        start = await clock.start()
        sleeper = asyncio.create_task(clock.sleep_until(start + HALF_HOUR_MS))
        await asked.wait()
        with pytest.raises(InvariantViolated, match="two tasks"):
            await clock.sleep_until(start + HALF_HOUR_MS)
        assert exchange.exchange.now_ms == start
        busy.set()
        assert await sleeper == start + HALF_HOUR_MS
    finally:
        await clock.close()


async def refused_by(text: str, status: int) -> None:
    """Ask a server that gives this answer for an advance."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=text, status=status)

    app = web.Application()
    app.router.add_post("/rehearsal/advance", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    clock = LockStepClock(f"http://127.0.0.1:{runner.addresses[0][1]}", at_rest)
    try:
        await clock.start()
    finally:
        await clock.close()
        await runner.cleanup()


async def test_an_advance_that_is_not_answered_properly_is_no_advance() -> None:
    with pytest.raises(BadPayload, match="not JSON"):
        await refused_by("<html>", 200)
    with pytest.raises(BadPayload, match="400"):
        await refused_by('{"error": "no"}', 400)


async def test_a_market_that_does_not_let_go_holds_no_shutdown_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adapters.clocks.LEAVE_TIMEOUT_S", 0.05)
    released = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        if (await request.json()).get("leave"):
            await released.wait()
        return web.json_response({"now_ms": 1})

    app = web.Application()
    app.router.add_post("/rehearsal/advance", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    clock = LockStepClock(f"http://127.0.0.1:{runner.addresses[0][1]}", at_rest)
    try:
        assert await clock.start() == 1
        async with asyncio.timeout(5):
            await clock.close()
    finally:
        released.set()
        await runner.cleanup()


async def test_the_end_of_a_market_is_told_after_its_last_instant_was_processed() -> None:
    end_ms = START_MS + 2 * HALF_HOUR_MS
    settings = RehearsalSettings(coins=2, start_ms=START_MS, end_ms=end_ms)
    seen: list[str] = []

    async def quiesce() -> None:
        seen.append("at rest")

    async with await serve(settings) as running:
        clock = LockStepClock(running.rest_url, quiesce, on_end=lambda: seen.append("end"))
        try:
            assert await clock.start() == START_MS
            while "end" not in seen:
                now = await clock.sleep_until(clock.now() + HALF_HOUR_MS)
        finally:
            await clock.close()
    assert now == end_ms
    assert seen == ["at rest", "at rest", "at rest", "end"]


async def test_a_market_that_is_gone_is_named() -> None:
    clock = LockStepClock("http://127.0.0.1:9", at_rest)
    try:
        with pytest.raises(VenueError, match="did not answer"):
            await clock.start()
    finally:
        await clock.close()


# ---- a venue that is slow, or hangs --------------------------------------------------------------


def measurements_under_way() -> int:
    return sum(task.get_name() == "venue clock" for task in asyncio.all_tasks())


class Hanging:
    """A venue that answers at once, then not at all; it counts who asks at the same time."""

    def __init__(self, measure_max_s: float = 60.0) -> None:
        self.transport = TransportClock()
        self.hangs = False
        self.asked_n = self.asking_n = self.asking_n_max = 0
        self.clock = VenueClock(
            self._ask, self.transport, remeasure_every_s=0.02, measure_max_s=measure_max_s
        )

    async def _ask(self) -> int:
        self.asked_n += 1
        self.asking_n += 1
        self.asking_n_max = max(self.asking_n, self.asking_n_max)
        try:
            if self.hangs:
                await asyncio.Event().wait()
            return self.transport.wall_ms()
        finally:
            self.asking_n -= 1


async def test_a_venue_that_hangs_wakes_nobody_late_and_leaves_no_task() -> None:
    venue = Hanging()
    await venue.clock.measure()
    venue.hangs = True
    await asyncio.sleep(0.03)
    async with asyncio.timeout(5):  # a hanging question would take for ever
        for _ in range(5):
            wanted_ms = venue.clock.now() + 30
            assert wanted_ms <= await venue.clock.sleep_until(wanted_ms) < wanted_ms + 1_000
    assert (venue.asked_n, venue.asking_n) == (3 + 1, 1), "one measurement at a time"
    assert measurements_under_way() == 1
    await venue.clock.close()
    assert (venue.asking_n, measurements_under_way()) == (0, 0)


async def test_a_measurement_that_hangs_is_given_up_and_another_begun() -> None:
    venue = Hanging(measure_max_s=0.03)
    await venue.clock.measure()
    venue.hangs = True
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(5):
            await venue.clock.sleep_until(venue.clock.now() + 300)
        venue.hangs = False
        async with asyncio.timeout(5):
            await venue.clock.sleep_until(venue.clock.now() + 150)
    assert venue.asked_n > 3 + 2
    assert venue.asking_n_max == 1
    told = [e["event"] for e in logs if e["event"] in {UNREACHABLE, REACHED_AGAIN}]
    assert told == [UNREACHABLE, REACHED_AGAIN], "its begin and its end, once each"
    await venue.clock.close()


async def test_a_measurement_that_fails_in_a_way_nobody_foresaw_changes_no_time() -> None:
    trouble = RuntimeError("session is closed")
    broken: list[int] = []

    async def ask() -> int:
        if broken:
            broken.append(1)
            raise trouble
        return transport.wall_ms()

    transport = TransportClock()
    clock = VenueClock(ask, transport, remeasure_every_s=0.02)
    await clock.measure()
    broken.append(0)
    with structlog.testing.capture_logs() as logs:
        await clock.sleep_until(clock.now() + 150)
    assert 1 < len(broken) < 12, "tried again when it is due, not at once"
    (told,) = [e for e in logs if e["event"] == UNREACHABLE]
    assert told["exc_info"] is trouble
    await clock.close()


async def test_who_sleeps_wakes_when_a_measurement_finds_that_the_time_has_come() -> None:
    transport, ahead_ms = Scripted(), 0

    async def ask() -> int:
        return round(transport.seconds * 1000) + ahead_ms

    clock = VenueClock(ask, transport, remeasure_every_s=60)
    await clock.measure()
    ahead_ms = 3_600_000  # this machine was suspended: its UTC and the venue's time went on
    transport.wall += ahead_ms
    async with asyncio.timeout(2):  # a slice of sleep is longer
        assert await clock.sleep_until(clock.now() + 600_000) == 1_000_000 + ahead_ms
    await clock.close()


async def test_a_slow_answer_makes_no_time_late() -> None:
    transport, trip_s = Scripted(), 0.02

    async def ask() -> int:
        transport.seconds += trip_s / 2
        told_ms = round(transport.seconds * 1000)
        transport.seconds += trip_s / 2
        return told_ms

    clock = VenueClock(ask, transport, samples=1)
    await clock.measure()
    assert transport.seconds * 1000 - clock.now() == pytest.approx(10, abs=1)
    transport.seconds += 60
    trip_s = 8.0
    await clock.measure()
    drifted_ms = 68 * 1000 * DRIFT
    assert transport.seconds * 1000 - clock.now() == pytest.approx(10 + drifted_ms, abs=1)
    transport.seconds += 60
    trip_s = 0.03  # blunter than the first, but what has drifted since is bounded too
    await clock.measure()
    assert clock.error_ms == pytest.approx(15)
    assert transport.seconds * 1000 - clock.now() == pytest.approx(15, abs=2)


@pytest.mark.parametrize("other_ms", [-40, 40, -900, 900])
async def test_another_venues_time_neither_turns_time_back_nor_moves_it_by_more_than_they_differ(
    other_ms: int,
) -> None:
    transport, differs_ms = Scripted(), 0

    async def ask() -> int:
        return round(transport.seconds * 1000) + differs_ms

    clock = VenueClock(ask, transport, samples=1)
    await clock.measure()
    newest_ms = clock.now()
    for n in range(40):
        differs_ms = other_ms if n % 3 else 0
        transport.seconds += 0.25
        await clock.measure()
        assert clock.now() >= newest_ms
        newest_ms = clock.now()
        beside_ms = newest_ms - transport.seconds * 1000
        assert min(0, other_ms) <= beside_ms <= max(0, other_ms)
