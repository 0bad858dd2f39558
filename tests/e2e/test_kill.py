"""Kill the real command at random moments: same positions, same cash, and trading goes on."""

from __future__ import annotations

import asyncio
import random
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.books import Left, check_books_agree, check_what_is_left, copied
from tests.e2e.line import NEUTRAL, SMALL, command, daemon, rehearse, settings_of

# Little of each bar may be taken, so that orders rest over bars and a kill finds them open.
THIN = "paper.participation_share=0.00002"
LINES_BEFORE_KILL_MAX = 80
DECISIONS_AFTER = 12
START_S = 6.0  # a kill within so many seconds of the start mostly falls into start and recovery


@dataclass(frozen=True, slots=True)
class Campaign:
    """Report what a campaign of kills went through; the last four count kills."""

    kills: int
    decisions: int
    fills: int
    entries: int
    before_the_account: int
    with_open_orders: int
    with_unsent_orders: int  # between our commit and the venue's
    with_unheard_fills: int  # between the venue's commit and ours


async def kill_repeatedly(
    folder: Path, kills: int, seed: int, overrides: tuple[str, ...]
) -> Campaign:
    """Start, kill at a drawn moment, look at what is left, start again; at last stop cleanly."""
    dice, state = random.Random(seed), folder / "state"
    settings = settings_of(state, *overrides)
    decisions, left = 0, list[Left | None]()
    for number in range(kills):
        async with daemon(*rehearse(state, *overrides), cwd=folder) as running:
            if number % 5 == 2:  # while it starts or recovers
                await asyncio.sleep(dice.uniform(0.3, START_S))
            else:
                await running.printed(dice.randrange(1, LINES_BEFORE_KILL_MAX))
                await asyncio.sleep(dice.uniform(0.0, 0.05))
            await running.kill()
            decisions += running.count["decision"]
        left.append(look_at_what_is_left(state, folder / f"copy{number}", overrides))
    async with daemon(*rehearse(state, *overrides), cwd=folder) as running:
        await running.until(
            lambda d: d.count["decision"] >= DECISIONS_AFTER and d.count["fill"] > 0
        )
        assert await running.end(signal.SIGTERM) == 0
        after = running.of("decision")
    assert any(one["orders"] for one in after), "no order after the last kill"
    book = check_books_agree(settings)
    assert book.reconciliations > 1
    done = command("replay", "--verify", "--json", "--state", state, cwd=folder, seconds=600)
    assert done.code == 0, done.complaint
    assert done.values["divergence"] is None
    trading = [one for one in left if one is not None]
    return Campaign(
        kills=kills,
        decisions=decisions + len(after),
        fills=book.ledger.fills,
        entries=book.entries,
        before_the_account=kills - len(trading),
        with_open_orders=sum(one.open_orders > 0 for one in trading),
        with_unsent_orders=sum(one.unsent_orders > 0 for one in trading),
        with_unheard_fills=sum(one.unheard_fills > 0 for one in trading),
    )


def look_at_what_is_left(state: Path, copy: Path, overrides: tuple[str, ...]) -> Left | None:
    """Check a killed daemon's files, on a copy; None when it had not opened an account."""
    if not (state / "paper.sqlite").exists():
        return None
    return check_what_is_left(settings_of(copied(state, copy), *overrides))


@pytest.mark.timeout(400)
async def test_killed_three_times_at_random_moments_the_book_is_the_ledgers_to_the_cent(
    tmp_path: Path,
) -> None:
    done = await kill_repeatedly(tmp_path, 3, seed=11, overrides=(*SMALL, THIN))
    assert done.fills > 0
    assert done.with_open_orders >= 1, "no kill found orders open"


@pytest.mark.soak(minutes=3)
@pytest.mark.timeout(3600)
async def test_killed_twenty_five_times_at_random_moments_the_book_is_the_ledgers_to_the_cent(
    tmp_path: Path,
) -> None:
    done = await kill_repeatedly(tmp_path, 25, seed=50, overrides=(*SMALL, THIN))
    print(done)
    assert done.with_open_orders >= 5


@pytest.mark.soak(minutes=3)
@pytest.mark.timeout(3600)
async def test_killed_with_a_worker_that_forecasts_the_book_is_the_ledgers_to_the_cent(
    tmp_path: Path,
) -> None:
    done = await kill_repeatedly(tmp_path, 10, seed=20, overrides=(*NEUTRAL, THIN))
    print(done)
    assert done.fills > 0
