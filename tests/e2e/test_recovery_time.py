"""How long a start takes after a long run, and how large the files grow.

A simulated year in lock-step takes longer than a test may, so the line runs for some minutes, is
killed a few times on the way, and what recovery took at each length is drawn out to a year.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from adapters.journal import JournalReader, SqliteJournal
from daemon.domain.units import DAY_MS, Timeframe
from daemon.engine.state import SCHEMA
from daemon.runtime.recovery import recover
from daemon.settings import Settings
from daemon.wiring.core import engine_of, universe_of
from daemon.wiring.decisions import read_run
from daemon.wiring.instruments import read_instruments
from daemon.wiring.session import code_version
from tests.e2e.line import (
    SMALL,
    check_books_agree,
    copied,
    daemon,
    read_account,
    rehearse,
    settings_of,
)

YEAR_DAYS = 365
RECOVERY_S_MAX = 15.0
LEGS = 4
LEG_S = 75.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold what one recovery took, in seconds, after so many simulated days."""

    days: float
    entries: int
    tail_entries: int
    journal_bytes: int
    ledger_bytes: int
    engine_s: float
    ledger_s: float

    @property
    def seconds(self) -> float:
        return self.engine_s + self.ledger_s


async def measure(settings: Settings, left: Path) -> Measured:
    """Recover from a killed daemon's files as a start does: the engine, then the paper ledger."""
    path = left / "journal.sqlite"
    begin_s = time.perf_counter()
    universe = universe_of(read_instruments(left))
    engine = engine_of(settings, universe, Timeframe.parse(settings.market.source))
    journal = SqliteJournal(path, state_schema=SCHEMA, code_version=code_version())
    async with journal:
        found = recover(engine, journal)
    middle_s = time.perf_counter()
    assert read_account(left) is not None
    end_s = time.perf_counter()
    lines = read_run(left)
    return Measured(
        days=(lines[-1].as_of_ms - lines[0].as_of_ms) / DAY_MS,
        entries=JournalReader(path).entries_n,
        tail_entries=found.tail_n,
        journal_bytes=JournalReader(path).file_bytes,
        ledger_bytes=(left / "paper.sqlite").stat().st_size,
        engine_s=middle_s - begin_s,
        ledger_s=end_s - middle_s,
    )


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_recovery_after_a_simulated_year_stays_below_its_bound(tmp_path: Path) -> None:
    state, settings = tmp_path / "state", settings_of(tmp_path / "state", *SMALL)
    found: list[Measured] = []
    for number in range(LEGS):
        async with daemon(*rehearse(state, *SMALL), cwd=tmp_path) as running:
            await running.decided(1)
            await asyncio.sleep(LEG_S)
            await running.kill()
        left = copied(state, tmp_path / f"copy{number}")
        found.append(await measure(settings, left))
        print(found[-1])
    begin_s = time.perf_counter()
    async with daemon(*rehearse(state, *SMALL), cwd=tmp_path) as running:
        await running.decided(2)  # the first only closes what the kill had interrupted
        print(f"from the command to the first new decision: {time.perf_counter() - begin_s:.1f} s")
        assert await running.end(signal.SIGTERM) == 0
    check_books_agree(settings)
    slope, start = np.polyfit([m.days for m in found], [m.seconds for m in found], 1)
    year_s = start + max(slope, 0.0) * YEAR_DAYS
    last = found[-1]
    print(
        f"{last.journal_bytes / last.days / 1e3:.0f} kB of journal and "
        f"{last.ledger_bytes / last.days / 1e3:.0f} kB of ledger a day; "
        f"recovery after a year: {year_s:.1f} s"
    )
    assert year_s < RECOVERY_S_MAX
