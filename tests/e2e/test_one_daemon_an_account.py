"""One account is one daemon's: two books there would give the same names to different orders."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from daemon.domain.failures import AlreadyRunning
from tests.e2e.live_rig import (
    Seen,
    adopted_by,
    check_agrees,
    check_once_each,
    decided_n,
    exchange,
    live_settings,
    run_live,
)


async def test_a_second_book_of_an_account_does_not_start_while_the_first_trades(
    tmp_path: Path,
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    async with exchange() as running:
        begun, refused = asyncio.Event(), asyncio.Event()

        def until(seen: Seen) -> bool:
            if decided_n(seen) >= 1:
                begun.set()
            return refused.is_set()

        first = asyncio.create_task(run_live(live_settings(running, here), until))
        await begun.wait()
        with pytest.raises(AlreadyRunning, match=f"account .* in use by process {os.getpid()}"):
            await run_live(live_settings(running, there), lambda seen: True)
        refused.set()
        seen = await first
        check_agrees(seen.ledger, running)
        check_once_each(here, running)
        adopting = live_settings(running, there, "live.foreign=adopt")
        later = await run_live(adopting, lambda s: decided_n(s) >= 1)
        check_agrees(later.ledger, running, adopted_by(later))  # it took over what is held there
