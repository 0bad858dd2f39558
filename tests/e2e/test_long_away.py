"""A start after a long time away: the account takes as long as its lists take."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from adapters.ccxt_venue.listings_binance import BinanceListings
from adapters.ccxt_venue.quirks import QUIRKS
from daemon.domain.units import DAY_MS
from daemon.runtime.live import ShellTimeouts
from daemon.wiring import live_session
from tests.e2e.live_rig import check_agrees, decided_n, exchange, live_settings, run_live

CONTRACTS, AWAY_DAYS, LISTS_A_SECOND = 200, 60, 4
SLOW_S = 1.2


def test_the_start_waits_for_two_months_of_two_hundred_contracts() -> None:
    windows = AWAY_DAYS * DAY_MS / QUIRKS["binanceusdm"].executions.window_ms
    lists_s = CONTRACTS * windows / LISTS_A_SECOND
    assert lists_s > ShellTimeouts().reconcile_s, "so the usual patience would never let it start"
    assert lists_s < live_session.RECONCILE_S


async def test_an_account_slower_than_the_patience_ends_the_start_and_a_longer_one_trades(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = BinanceListings.holdings

    async def slowly(self: BinanceListings) -> Any:
        await asyncio.sleep(SLOW_S)
        return await held(self)

    async with exchange() as running:
        settings = live_settings(running, tmp_path / "state")
        monkeypatch.setattr(BinanceListings, "holdings", slowly)
        monkeypatch.setattr(live_session, "RECONCILE_S", SLOW_S / 2)
        with pytest.raises(ExceptionGroup) as failed:
            await run_live(settings, lambda s: decided_n(s) >= 1)
        assert failed.group_contains(TimeoutError)
        monkeypatch.setattr(live_session, "RECONCILE_S", 20 * SLOW_S)
        seen = await run_live(settings, lambda s: decided_n(s) >= 1)
        check_agrees(seen.ledger, running)
