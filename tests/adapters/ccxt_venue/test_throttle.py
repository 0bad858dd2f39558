"""The client's throttle counts by this machine's clock, which may be set back."""

from __future__ import annotations

import asyncio
import sys

import pytest
from ccxt.async_support.base.throttler import Throttler

from adapters.ccxt_venue.timing import SigningClock
from tests.adapters.ccxt_venue.payloads import okx
from tests.adapters.ccxt_venue.test_live_listings import Answer, answering

BACK_S = 3_600.0


async def test_a_clock_that_is_set_back_an_hour_does_not_silence_us_for_an_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Orders and cancels would wait in the client all that time, and nobody would say so."""
    answers: dict[str, Answer] = {
        "/api/v5/public/time": lambda query: okx([{"ts": "1700000000000"}])
    }
    module = sys.modules[Throttler.__module__]
    true_s, back_s = module.time, [0.0]
    monkeypatch.setattr(module, "time", lambda: true_s() - back_s[0])
    async with answering("okx", answers) as (caller, asked):
        caller.api.enableRateLimit = True
        clock = SigningClock(caller, error_ms_max=1e9)
        await clock.measure()
        stuck = asyncio.create_task(clock.measure())
        await asyncio.sleep(0)
        await asyncio.sleep(0.002)
        back_s[0] = BACK_S
        await asyncio.wait([stuck], timeout=1.0)
        assert not stuck.done(), "the throttle no longer counts by the clock: this can go"
        async with asyncio.timeout(3):
            await SigningClock(caller, error_ms_max=1e9).measure()  # every minute, see `keep_time`
            await stuck
        assert len(asked) == 9
