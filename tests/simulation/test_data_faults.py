"""Every fault that data can suffer, through real ccxt: no bar lost, none untrue, none twice.

Bounds are shortened (`data_faults.BOUNDS`): requests time out after 0.3 s, dials after 1 s, the
stream has 0.15 s to prove a bar, bans last 0.25 s, pauses between dials at most 1 s. Seconds in the
tables are to be read with that.
"""

from __future__ import annotations

import asyncio
from typing import Final

import pytest
import structlog

from adapters.exchange.watch import WatchRules
from adapters.rehearsal.faults import Fault
from tests.simulation.data_faults import (
    ALL_FAULTS,
    Campaign,
    campaign,
    strike_at_random,
    strike_clock,
    strike_each,
    summary,
    table,
)

DAY: Final = 48  # instants
SINGLY: Final = tuple(fault for fault in ALL_FAULTS if fault is not Fault.CLOCK_JUMP)
OF_CACHES: Final = (
    Fault.DROP_SOCKETS,
    Fault.STALL,
    Fault.LATE_FRAMES,
    Fault.SHUFFLED_FRAMES,
    Fault.DUPLICATE_FRAMES,
    Fault.NOT_JSON_200,
    Fault.LAGGING_200,
    Fault.REVISED_FRAME,
    Fault.REVISED_REST,
)
CLOCK_RULES: Final = WatchRules(offset_max_ms=1000.0, offset_every_s=0.1, standstill_s=1e9)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dial again soon: on a busy machine dials fail for want of time, and pauses would double."""
    monkeypatch.setattr("adapters.exchange.client.BACKOFF_MAX_S", 1.0)


async def one_by_one(faults: tuple[Fault, ...], seed: int, days: float = 0.0) -> Campaign:
    """Strike faults singly at one feed, at least for some days, and check the whole."""
    async with campaign(seed) as held:
        await strike_each(held, faults)
        while held.days < days:
            await strike_each(held, faults)
        await held.finish()
    return held


async def at_random(days: int, seed: int) -> Campaign:
    """Strike at random at one feed and check the whole."""
    async with campaign(seed) as held:
        await strike_at_random(held, days * DAY, seed)
        await held.finish()
    return held


async def the_clock(times: int) -> Campaign:
    """Let the venue's clock jump at one feed."""
    async with campaign(5, watch=CLOCK_RULES) as held:
        for _ in range(times):
            await strike_clock(held)
            await held.made.advance(1)
            await held.made.feed.settled(held.made.clock.now())
        await held.finish()
    return held


@pytest.mark.timeout(300)
async def test_ten_days_of_faults_cost_no_bar() -> None:
    """Each fault singly, then many at random: 10 simulated days in all."""
    with structlog.testing.capture_logs():
        singly = await asyncio.gather(
            *(one_by_one(SINGLY[part::4], part) for part in range(4)), the_clock(1)
        )
        mixed = await asyncio.gather(*(at_random(2, seed) for seed in (11, 12, 13)))
    print("\n" + table(singly) + "\nat random: " + summary(mixed))
    expect_all_struck(singly)
    assert sum(held.days for held in (*singly, *mixed)) >= 10.0


@pytest.mark.timeout(120)
async def test_faults_cost_no_bar_where_nothing_is_known_of_a_venues_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bars are read from the client's cache, have no flag, and are confirmed by REST."""
    without_frames(monkeypatch)
    with structlog.testing.capture_logs():
        singly = await asyncio.gather(*(one_by_one(OF_CACHES[part::3], part) for part in range(3)))
        mixed = await asyncio.gather(*(at_random(1, seed) for seed in (21, 22)))
    print("\n" + table(singly) + "\nat random: " + summary(mixed))
    asked = [held.made.exchange.exchange.weight_charged for held in mixed]
    told = [held.ledger.proofs.total() for held in mixed]
    assert all(weight >= bars_n for weight, bars_n in zip(asked, told, strict=True))


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_thirty_days_of_faults_cost_no_bar_where_nothing_is_known_of_a_venues_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_frames(monkeypatch)
    with structlog.testing.capture_logs():
        mixed = await asyncio.gather(*(at_random(10, seed) for seed in range(220, 223)))
    print("at random: " + summary(mixed))


def without_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be known of any venue's frames: caches are read."""
    for room in ("client", "stream", "pump"):
        monkeypatch.setattr(f"adapters.exchange.{room}.FRAME_READERS", {})


@pytest.mark.soak(minutes=4)
@pytest.mark.timeout(2700)
async def test_a_hundred_days_of_faults_cost_no_bar() -> None:
    """Half of the days with faults singly, half with many at random."""
    with structlog.testing.capture_logs():
        singly = await asyncio.gather(
            *(one_by_one(SINGLY[part::5], 100 + part, 10.0) for part in range(5)), the_clock(20)
        )
        print("\n" + table(singly))
        mixed = await asyncio.gather(*(at_random(10, seed) for seed in range(200, 205)))
    print("at random: " + summary(mixed))
    expect_all_struck(singly)
    assert sum(held.days for held in (*singly, *mixed)) >= 100.0


def expect_all_struck(campaigns: list[Campaign]) -> None:
    """Hold that no fault was planned in vain."""
    struck = {f for held in campaigns for f, times in held.times.items() if times.struck_n}
    assert struck == set(ALL_FAULTS), f"never struck: {set(ALL_FAULTS) - struck}"
