"""Kill the real command at random moments: same positions, same cash, and trading goes on."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.line import (
    NEUTRAL,
    SMALL,
    check_books_agree,
    check_what_is_left,
    command,
    copied,
    daemon,
    rehearse,
    settings_of,
)

# Little of each bar may be taken, so that orders rest over bars and a kill finds them open.
THIN = "paper.participation_share=0.002"
LINES_BEFORE_KILL_MAX = 120
START_S = 6.0  # a kill within so many seconds of the start mostly falls into start and recovery


@dataclass(frozen=True, slots=True)
class Campaign:
    """Report what a campaign of kills went through."""

    kills: int
    early: int
    decisions: int
    fills: int
    entries: int


async def kill_repeatedly(
    folder: Path, kills: int, seed: int, overrides: tuple[str, ...]
) -> Campaign:
    """Start, kill at a drawn moment, look at what is left, start again; at last stop cleanly."""
    dice, state = random.Random(seed), folder / "state"
    settings = settings_of(state, *overrides)
    decisions = early = 0
    for number in range(kills):
        async with daemon(*rehearse(state, *overrides), cwd=folder) as running:
            if number % 5 == 4:  # while it starts or recovers
                early += 1
                await asyncio.sleep(dice.uniform(0.3, START_S))
            else:
                seen = dice.randrange(1, LINES_BEFORE_KILL_MAX)
                await running.until(lambda d, n=seen: len(d.lines) >= n)  # type: ignore[misc]
                await asyncio.sleep(dice.uniform(0.0, 0.05))
            await running.kill()
            decisions += len(running.of("decision"))
        look_at_what_is_left(state, folder / f"copy{number}", overrides)
    async with daemon(*rehearse(state, *overrides), cwd=folder) as running:
        await running.until(lambda d: len(d.of("decision")) >= 30 and bool(d.of("fill")))
        assert await running.end(signal.SIGTERM) == 0
        after = running.of("decision")
    assert any(one["orders"] for one in after), "no order after the last kill"
    book = check_books_agree(settings)
    assert book.reconciliations > 1
    done = command("replay", "--verify", "--json", "--state", state, cwd=folder)
    assert done.code == 0, done.complaint
    assert json.loads(done.out)["divergence"] is None
    return Campaign(kills, early, decisions + len(after), book.ledger.fills, book.entries)


def look_at_what_is_left(state: Path, copy: Path, overrides: tuple[str, ...]) -> None:
    """Check a killed daemon's files, on a copy."""
    if (state / "paper.sqlite").exists():  # else killed before the account was opened
        check_what_is_left(settings_of(copied(state, copy), *overrides))


@pytest.mark.timeout(400)
async def test_killed_five_times_at_random_moments_the_book_is_the_ledgers_to_the_cent(
    tmp_path: Path,
) -> None:
    done = await kill_repeatedly(tmp_path, 5, seed=11, overrides=(*SMALL, THIN))
    assert done.early == 1
    assert done.fills > 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_killed_fifty_times_at_random_moments_the_book_is_the_ledgers_to_the_cent(
    tmp_path: Path,
) -> None:
    done = await kill_repeatedly(tmp_path, 50, seed=50, overrides=(*SMALL, THIN))
    print(done)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_killed_with_a_worker_that_forecasts_the_book_is_the_ledgers_to_the_cent(
    tmp_path: Path,
) -> None:
    done = await kill_repeatedly(tmp_path, 20, seed=20, overrides=(*NEUTRAL, THIN))
    print(done)
