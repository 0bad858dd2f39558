"""Kill the real command while it trades with real orders: none lost, doubled or orphaned."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import pytest

from adapters.rehearsal.server import RunningExchange
from daemon.settings import effective_toml
from tests.e2e.line import START_S_MAX, Daemon, daemon
from tests.e2e.live_rig import (
    KEY,
    VENUES,
    bank_of,
    decided_n,
    environment_at,
    exchange,
    live_settings,
    run_live,
)
from tests.simulation.crash_campaign import Summary, Tally, verdict

LOOK_S = 0.001
ORDERS_MORE_MAX = 14
SENDS, STARTS, STOPS = (
    "kill -9 while it sends",
    "kill -9 while it starts",
    "kill -9 while it stops",
)
TURNS = (SENDS, STOPS, SENDS, STARTS, SENDS)


async def kill_repeatedly(folder: Path, venue: str, kills: int, seed: int) -> Summary:
    """Kill between any two orders, or while it starts or stops; at last check everything."""
    dice, told = random.Random(seed), Summary()
    async with exchange(venue) as running:
        state = folder / "state"
        settings = live_settings(running, state)
        path = folder / "live.toml"
        path.write_text(effective_toml(settings))
        for number in range(kills):
            where, begun_s = TURNS[(number + seed) % len(TURNS)], now_s()
            chosen = ("trade", "--live", "--config", path)
            async with daemon(*chosen, cwd=folder, extra=environment_at(state)) as process:
                if where == STARTS:
                    await asyncio.sleep(dice.uniform(0.3, 3.0))
                else:
                    await sent_more(running, dice.randint(1, ORDERS_MORE_MAX))
                seconds = 0.0 if where == STARTS else now_s() - begun_s
                if where == STOPS:
                    await stop_and_kill(process, dice.uniform(0.0, 0.1))
                else:
                    await process.kill()
            orders_n = len(bank_of(running).orders(KEY))
            tally = Tally(points=1, orders=orders_n, seconds_max=seconds)
            told.kinds.setdefault((venue, where), Tally()).add(tally)
        begun_s = now_s()
        seen = await run_live(settings, lambda s: decided_n(s) >= 2)
        assert seen.engine is not None
        found, wrong = verdict(state, seen.engine, running)
        found.seconds_max = now_s() - begun_s
        told.kinds[venue, "what all of them left"] = found
        told.failures += [wrong] if wrong else []
    print("\n" + told.text())
    return told


async def stop_and_kill(process: Daemon, seconds: float) -> None:
    """Ask it to stop, and kill it in the midst of that; it may have been quicker."""
    process.process.terminate()
    await asyncio.sleep(seconds)
    with suppress(ProcessLookupError):
        process.process.kill()
    await process.process.wait()


async def sent_more(running: RunningExchange, count: int) -> None:
    """Wait until so many more orders are at the venue."""
    wanted = len(bank_of(running).orders(KEY)) + count
    async with asyncio.timeout(START_S_MAX):
        while len(bank_of(running).orders(KEY)) < wanted:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)


def now_s() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("venue", "kills", "seed"), [("binanceusdm", 3, 1), ("bybit", 2, 3)])
async def test_killed_while_it_sends_every_order_is_there_once_and_the_book_is_the_venues(
    tmp_path: Path, venue: str, kills: int, seed: int
) -> None:
    told = await kill_repeatedly(tmp_path, venue, kills, seed)
    assert not told.total().wrong, told.text()
    assert told.total().points == kills
    assert told.kinds[venue, "what all of them left"].orders > 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(50, 55))
@pytest.mark.parametrize("venue", VENUES)
async def test_killed_five_times_at_any_moment_the_book_is_the_venues(
    tmp_path: Path, venue: str, seed: int
) -> None:
    told = await kill_repeatedly(tmp_path, venue, 5, seed)  # ten times five
    assert not told.total().wrong, told.text()
    assert {where for _, where in told.kinds} >= {SENDS, STARTS, STOPS}
