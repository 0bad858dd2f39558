"""How long a killed daemon takes to trade again after a simulated year, and how its files grow.

The year is traded hour by hour through the real command, sockets, journal and paper ledger.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from adapters.journal import JournalReader
from daemon.wiring.rehearsal import last_instant_ms
from tests.e2e.books import check_books_agree
from tests.e2e.line import SMALL, Daemon, command, daemon, rehearse, settings_of

YEAR_DAYS = 365
YEAR_DECISIONS = YEAR_DAYS * 24
YEAR_S_MAX = 2_700.0
RECOVERY_S_MAX = 15.0
RESTARTS = 3
# A rule that turns its book over all day pays fees all year; it must not run out of money.
OPTIONS = (*SMALL, "paper.cash=100000")


async def went_on(running: Daemon, reached_ms: int) -> None:
    """Wait for a decision at a later market time than the journal had reached."""
    await running.until(lambda d: any(one["as_of_ms"] > reached_ms for one in d.of("decision")))


def describe(state: Path) -> str:
    """Say how large the files of a year are."""
    journal = JournalReader(state / "journal.sqlite")
    snapshot = journal.last_snapshot()
    assert snapshot is not None
    ledger_bytes = (state / "paper.sqlite").stat().st_size
    return (
        f"{journal.entries_n:,} entries; journal {journal.file_bytes / 1e6:.1f} MB, "
        f"{journal.file_bytes / YEAR_DAYS / 1e3:.0f} kB a day; ledger {ledger_bytes / 1e6:.1f} MB; "
        f"newest snapshot {len(snapshot.state) / 1e3:.1f} kB"
    )


@pytest.mark.soak(minutes=10)
@pytest.mark.timeout(3600)
async def test_after_a_simulated_year_a_killed_daemon_trades_again_within_its_bound(
    tmp_path: Path,
) -> None:
    state, dice = tmp_path / "state", random.Random(4)
    begin_s = time.perf_counter()
    async with daemon(*rehearse(state, *OPTIONS), cwd=tmp_path) as running:
        await running.decided(YEAR_DECISIONS, YEAR_S_MAX)
        await running.kill()
        lines = running.of("decision")
        fills = running.count["fill"]
    year_s = time.perf_counter() - begin_s
    last_month = lines[-30 * 24 :]
    assert sum(bool(line["orders"]) for line in last_month) > 24, "the book had come to rest"
    print(f"{len(lines):,} decisions, {fills:,} fills in {year_s:.0f} s", describe(state), sep="\n")
    took_s = []
    for _ in range(RESTARTS):
        reached_ms = last_instant_ms(state)
        assert reached_ms is not None
        begin_s = time.perf_counter()
        async with daemon(*rehearse(state, *OPTIONS), cwd=tmp_path) as running:
            await went_on(running, reached_ms)
            took_s.append(time.perf_counter() - begin_s)
            await asyncio.sleep(dice.uniform(0.0, 3.0))  # the next kill falls anywhere in an hour
            await running.kill()
    print("from the command to the first decision after a kill:", [round(s, 1) for s in took_s])
    begin_s = time.perf_counter()
    done = command("replay", "--verify", "--json", "--state", state, cwd=tmp_path, seconds=900)
    assert done.code == 0, done.complaint
    print(f"verified in {time.perf_counter() - begin_s:.0f} s: {done.out}")
    again = command(*rehearse(state, *OPTIONS), "--json", "--days", "0.1", cwd=tmp_path)
    assert again.code == 0, again.complaint
    check_books_agree(settings_of(state, *OPTIONS))
    assert max(took_s) < RECOVERY_S_MAX
