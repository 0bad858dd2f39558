"""The lag of the loop is what a blocked loop makes it."""

from __future__ import annotations

import asyncio
import time

from daemon.runtime.lag import LoopLag


async def test_a_loop_that_is_blocked_is_seen_as_late() -> None:
    lag = LoopLag(period_s=0.01)
    assert lag.quantiles() is None
    task = asyncio.create_task(lag.watch())
    await asyncio.sleep(0.05)
    time.sleep(0.2)  # noqa: ASYNC251 - blocking the loop is what is measured
    await asyncio.sleep(0.03)
    task.cancel()
    found = lag.quantiles()
    assert found is not None
    median_s, _, most_s = found
    assert most_s > 0.15
    assert median_s < most_s


async def test_only_the_newest_looks_are_kept() -> None:
    lag = LoopLag(period_s=0.001, kept=5)
    task = asyncio.create_task(lag.watch())
    await asyncio.sleep(0.05)
    task.cancel()
    assert len(lag._lags) == 5
