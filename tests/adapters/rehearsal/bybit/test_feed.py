"""The daemon's own feed through the real ccxt client `bybit`: what it tells is the truth."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from adapters.clocks import LockStepClock, TransportClock
from adapters.exchange.feed import CcxtFeed
from adapters.rehearsal.bybit.ccxt_options import bybit_options
from adapters.rehearsal.server import serve
from adapters.rehearsal.settings import DialectKind, RehearsalSettings
from tests.adapters.exchange.feed_rig import HALF_HOUR_MS, SYMBOLS, Rig, settings_for

BARS_N = 20  # over a settlement of funding, after eight hours


@contextlib.asynccontextmanager
async def bybit_rig(**changes: Any) -> AsyncIterator[Rig]:
    """Start an exchange that speaks Bybit and the daemon's feed of it."""
    wanted = RehearsalSettings(coins=3, history_days=5, dialect=DialectKind.BYBIT, **changes)
    async with await serve(wanted) as exchange:

        async def at_rest() -> None:
            await made.feed.settled(clock.now())

        clock = LockStepClock(exchange.rest_url, at_rest)
        start_ms = await clock.start()
        options = bybit_options(exchange.rest_url, exchange.ws_url)
        settings = replace(settings_for(options), exchange="bybit")
        feed = CcxtFeed(settings, clock, TransportClock())
        made = Rig(exchange, feed, clock, SYMBOLS, start_ms)
        try:
            yield made
        finally:
            await feed.close()
            await clock.close()


async def test_bars_and_funding_are_the_markets_own() -> None:
    async with bybit_rig() as made:
        await made.listen()
        await made.advance(BARS_N)
        closes = [bars.close_ms for bars in made.bars]
        first_ms = made.start_ms + HALF_HOUR_MS
        assert closes == [first_ms + i * HALF_HOUR_MS for i in range(BARS_N)]
        for bars in made.bars:
            np.testing.assert_array_equal(bars.values, made.truth(bars.close_ms))
        market = made.exchange.exchange.market
        for told in made.funding:
            for index, symbol in enumerate(SYMBOLS):
                (settled,) = market.settlements(symbol, told.settle_ms, told.settle_ms + 1)
                assert told.rates[index] == pytest.approx(settled.rate, abs=1e-8)
        assert made.funding


@pytest.mark.parametrize(
    "kind",
    [
        "garbage_frame",
        "drop_sockets",
        "duplicate_frames",
        "shuffled_frames",
        "kline_nan",
        "kline_off_grid",
        "kline_other_symbol",
        "stall",
        "not_json_200",
    ],
)
async def test_bars_stay_true_through_a_fault(kind: str) -> None:
    async with bybit_rig() as made:
        await made.listen()
        await made.advance(2)
        await made.fault(kind, 1)
        await made.advance(4)
        assert len(made.bars) == 6
        for bars in made.bars:
            np.testing.assert_array_equal(bars.values, made.truth(bars.close_ms))
        assert made.exchange.exchange.faults.struck_n
