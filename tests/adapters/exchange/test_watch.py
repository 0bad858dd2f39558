"""Sockets, venue and clocks are watched: what goes wrong is found, told and mended in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from adapters.clocks import TransportClock
from adapters.exchange.watch import HOUR_S, WatchRules
from adapters.rehearsal.faults import Fault, Strike
from daemon.domain.bar import Proof
from daemon.domain.failures import InvariantViolated, VenueError
from daemon.domain.messages import FeedTrouble
from tests.adapters.exchange.feed_rig import HALF_HOUR_MS, Rig, rig, until

WITHOUT_CLOCK = WatchRules(offset_max_ms=0)


class ShiftedClock(TransportClock):
    """Be the machine's clock after a sleep or a change of its time."""

    def __init__(self) -> None:
        self.later_s = 0.0
        self.wall_later_s = 0.0
        self.wall_of: Callable[[], int] | None = None

    def monotonic(self) -> float:
        """Give seconds."""
        return super().monotonic() + self.later_s

    def wall_ms(self) -> int:
        """Give the machine's UTC time in ms, as it is set here."""
        true_ms = super().wall_ms() if self.wall_of is None else self.wall_of()
        return true_ms + round(self.wall_later_s * 1000)


def _counted(made: Rig, name: str, count: int) -> Callable[[], bool]:
    return lambda: getattr(made.health, name) >= count


def expect_truth(made: Rig, instants: int) -> None:
    assert sorted({b.close_ms for b in made.bars}) == [
        made.start_ms + (step + 1) * HALF_HOUR_MS for step in range(instants)
    ]
    for bars in made.bars:
        np.testing.assert_array_equal(bars.values, made.truth(bars.close_ms))
    assert made.revised == []


async def test_every_bar_says_when_and_how_it_was_proven() -> None:
    async with rig() as made:
        await made.listen()
        await made.advance(6)
        for bars in made.bars:
            assert bars.proven_ms is not None
            assert list(bars.proven_ms) == [bars.close_ms] * 3  # lock-step: at once
        assert made.health.bars_n.keys() <= {Proof.SUCCESSOR, Proof.REREAD}
        assert made.health.proven_n == 18
        assert (made.health.stream_share or 0) >= 15 / 18
        assert (made.health.finality_s(0.99) or 9) < 3
        assert made.health.values()["revision_rate"] == 0.0
        assert made.feed.usage.requests_n > 0
        assert made.feed.usage.weight_1m_max


async def test_a_machine_that_slept_takes_new_sockets_and_misses_no_bar() -> None:
    transport = ShiftedClock()
    rules = replace(WITHOUT_CLOCK, standstill_s=20.0)
    async with rig(transport=transport, watch=rules) as made:
        await made.listen()
        await made.advance(3)
        transport.later_s = 3600.0
        await made.advance(5)
        expect_truth(made, 8)
        assert made.health.suspended_n == 1
        assert made.notices == [(FeedTrouble.SUSPENDED, True), (FeedTrouble.SUSPENDED, False)]
        assert made.health.replaced_n == 1
        assert made.health.broken_n == 0, "what we end ourselves is no broken connection"


async def test_a_suspended_machine_is_seen_by_its_utc_where_the_monotonic_clock_stood() -> None:
    transport = ShiftedClock()
    async with rig(transport=transport, watch=WITHOUT_CLOCK) as made:
        await made.listen()
        await made.advance(2)
        transport.wall_later_s = 25.0
        await made.advance(2)
        assert made.health.suspended_n == 1
        transport.wall_later_s = 44.0  # shorter than the bound: nothing
        await made.advance(1)
        assert made.health.suspended_n == 1
        expect_truth(made, 5)


async def test_old_sockets_are_replaced_without_losing_a_proof() -> None:
    transport = ShiftedClock()
    rules = replace(WITHOUT_CLOCK, socket_age_max_s=10.0)
    async with rig(transport=transport, watch=rules) as made:
        await made.listen()
        await made.advance(4)
        for step in range(8):
            transport.later_s += 13.0  # in lock-step every look is at a close: a bad moment
            await made.advance(1)
            await until(_counted(made, "rotated_n", step + 1), "the socket grew old")
            await made.subscribed()
        expect_truth(made, 12)
        assert made.health.replaced_n == 0
        assert made.notices == []


async def test_connections_that_break_too_often_are_told_once_and_again_when_they_last() -> None:
    transport = ShiftedClock()
    rules = replace(WITHOUT_CLOCK, breaks_per_hour_max=3, standstill_s=1e9)
    async with rig(transport=transport, watch=rules) as made:
        await made.listen()
        for count in range(1, 6):
            made.exchange.exchange.hub.cut_all()
            await until(_counted(made, "broken_n", count), "a broken socket was not seen")
            await made.subscribed()
        await until(lambda: bool(made.notices), "nobody was told")
        assert made.notices == [(FeedTrouble.RECONNECTS, True)]
        transport.later_s = HOUR_S
        await until(lambda: len(made.notices) > 1, "the end was not told")
        assert made.notices[1:] == [(FeedTrouble.RECONNECTS, False)]
        await made.advance(3)
        expect_truth(made, 3)


async def test_a_venue_that_does_not_answer_is_told_and_its_bars_come_when_it_is_back() -> None:
    rules = replace(WITHOUT_CLOCK, venue_down_s=0.3)
    async with rig(watch=rules, stream=False, settle_timeout_s=1.0) as made:
        await made.listen()
        await made.advance(2)
        await made.fault("http_503", 10_000)
        await made.advance(1)
        await until(lambda: bool(made.notices), "nobody was told")
        assert made.notices == [(FeedTrouble.VENUE_DOWN, True)]
        assert made.exchange.exchange.faults.left > 9_950, "it was asked without a pause"
        await made.fault("none", 1)
        await made.advance(3)
        await until(lambda: len(made.notices) > 1, "the end was not told")
        assert made.notices[1:] == [(FeedTrouble.VENUE_DOWN, False)]
        told = {b.close_ms: made.truth(b.close_ms) for b in made.bars if b.final}
        assert len(told) == 6


@pytest.mark.parametrize("off_s", [3.0, -3.0])
async def test_a_clock_that_is_off_is_told_until_it_is_right(off_s: float) -> None:
    transport = ShiftedClock()
    rules = WatchRules(offset_max_ms=1000.0, offset_every_s=0.05, standstill_s=1e9)
    async with rig(transport=transport, watch=rules) as made:
        transport.wall_of = made.exchange.exchange.clock_ms  # the rehearsal's time is the true one
        await made.listen()
        await until(lambda: made.health.offset_ms is not None, "the clock was not measured")
        assert made.notices == []
        transport.wall_later_s = off_s
        await until(lambda: bool(made.notices), "nobody was told")
        assert made.notices == [(FeedTrouble.CLOCK_OFFSET, True)]
        assert made.health.offset_ms == pytest.approx(-1000 * off_s, abs=500)
        transport.wall_later_s = 0.0
        await until(lambda: len(made.notices) > 1, "the end was not told")
        assert made.notices[1:] == [(FeedTrouble.CLOCK_OFFSET, False)]


def test_rules_that_would_never_let_go_are_refused() -> None:
    with pytest.raises(InvariantViolated, match="silence_s 0"):
        WatchRules(silence_s=0)


async def test_a_clock_that_cannot_be_compared_counts_as_off_until_it_can() -> None:
    transport = ShiftedClock()
    rules = WatchRules(offset_max_ms=1000.0, offset_every_s=0.05, standstill_s=1e9)
    async with rig(transport=transport, watch=rules) as made:
        transport.wall_of = made.exchange.exchange.clock_ms
        await made.feed.instruments()
        made.exchange.exchange.faults.put(Strike(Fault.HTTP_503, 100_000))
        await made.listen()
        await until(lambda: bool(made.notices), "nobody was told")
        assert made.notices == [(FeedTrouble.CLOCK_OFFSET, True)]
        assert made.health.offset_ms is None
        made.exchange.exchange.faults.put(Strike(Fault.NONE))
        await until(lambda: len(made.notices) > 1, "the end was not told")
        assert made.notices[1:] == [(FeedTrouble.CLOCK_OFFSET, False)]


async def test_a_venue_that_answers_nothing_says_nothing_of_clocks() -> None:
    rules = WatchRules(
        offset_max_ms=1000.0, offset_every_s=0.05, standstill_s=1e9, venue_down_s=0.2
    )
    transport = ShiftedClock()
    async with rig(transport=transport, stream=False, settle_timeout_s=0.3, watch=rules) as made:
        transport.wall_of = made.exchange.exchange.clock_ms
        await made.feed.instruments()
        await made.listen()
        await made.advance(1)
        made.exchange.exchange.faults.put(Strike(Fault.HTTP_503, 100_000))
        await made.advance(1)
        await until(lambda: bool(made.notices), "nobody was told")
        await asyncio.sleep(0.6)  # twelve times as long as a measurement is due
        assert made.notices == [(FeedTrouble.VENUE_DOWN, True)]


async def test_a_ban_of_days_is_obeyed_in_full_and_told_at_once() -> None:
    async with rig(stream=False, settle_timeout_s=0.3, watch=WITHOUT_CLOCK) as made:
        await made.feed.instruments()
        await made.listen()
        await made.advance(1)
        faults, days_s = made.exchange.exchange.faults, 3 * 24 * 3600.0
        faults.put(Strike(Fault.HTTP_418, 100, seconds=days_s))
        await made.advance(1)
        await until(lambda: bool(made.notices), "nobody was told")
        assert made.notices == [(FeedTrouble.VENUE_DOWN, True)]
        assert days_s - 60 < made.feed.client.left_alone_s <= days_s
        struck_n = faults.struck_n[Fault.HTTP_418]
        with pytest.raises(VenueError, match=r"left alone for 259\d{3} s"):
            await made.feed.client.ask_patiently("fetch_time")
        assert faults.struck_n[Fault.HTTP_418] == struck_n
