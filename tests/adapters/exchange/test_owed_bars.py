"""Bars that the warm-up left out at its end: the live feed asks for them, and they come late."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adapters.exchange import history
from adapters.exchange.recent import RecentBars
from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT, RehearsalSettings
from daemon.domain.bar import Proof
from daemon.domain.messages import BarsClosed
from daemon.domain.units import DAY_MS
from tests.adapters.exchange.feed_rig import HALF_HOUR_MS, SYMBOLS, Rig, rig
from tests.adapters.exchange.test_feed_gaps import change_klines

ETH = 1
START_MS = ORIGIN_MS_DEFAULT + 5 * DAY_MS
AHEAD: dict[str, Any] = {"lag_ms": -5_000, "reread_grace_ms": 2_000, "stream_patience_s": 0.3}


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SUCCESSOR_POLL_S", 0.01)


async def warmed(made: Rig, bars: int = 10) -> list[BarsClosed]:
    """Read history up to the start."""
    since_ms = made.start_ms - bars * HALF_HOUR_MS
    told = [e async for e in made.feed.history(since_ms, made.start_ms)]
    return [e for e in told if isinstance(e, BarsClosed)]


def eth(bars: list[BarsClosed]) -> dict[int, tuple[float, ...]]:
    """Give the bars of one instrument by close; each may be told once."""
    found: dict[int, tuple[float, ...]] = {}
    for event in bars:
        if event.proof[ETH] != Proof.ABSENT:
            assert event.close_ms not in found, "told twice"
            found[event.close_ms] = tuple(event.values[ETH].tolist())
    return found


async def test_a_newest_bar_that_nothing_proved_closed_comes_late_to_the_bit() -> None:
    async with rig(**AHEAD) as made:
        faults = made.exchange.exchange.faults
        faults.set("lagging_200", 1000, symbol="ETHUSDT")
        before = eth(await warmed(made))
        left_out = [made.start_ms - k * HALF_HOUR_MS for k in range(3)]
        missing = [close_ms for close_ms in left_out if close_ms not in before]
        assert missing, "the copy lags behind the newest bar"
        faults.set("none", 1)
        await made.listen()
        await made.advance(3)
        after = eth(made.bars)
        for close_ms in missing:
            assert after[close_ms] == tuple(made.truth(close_ms)[ETH].tolist())
        wanted = {made.start_ms + k * HALF_HOUR_MS for k in range(-9, 4)}
        assert before.keys() | after.keys() == wanted
        assert not before.keys() & after.keys()
        others = [e.close_ms for e in made.bars if e.proof[0]]
        assert min(others) > made.start_ms, "nobody else's bar is told again"


async def test_what_the_venue_never_shows_is_counted_as_absent_and_keeps_nobody_waiting() -> None:
    async with rig(**AHEAD) as made:
        faults = made.exchange.exchange.faults
        faults.set("lagging_200", 1000, symbol="ETHUSDT")
        before = eth(await warmed(made))
        assert made.start_ms not in before
        faults.set("none", 1)
        gone_ms = made.start_ms - HALF_HOUR_MS
        change_klines(made, lambda rows: [r for r in rows if int(r[0]) != gone_ms], "ETHUSDT")
        await made.listen()
        await made.advance(3)
        after = eth(made.bars)
        assert sorted(after) == [made.start_ms + k * HALF_HOUR_MS for k in (1, 2, 3)]
        assert made.health.absent_n == 1


async def test_the_newest_bar_of_a_contract_that_joins_is_not_lost_either() -> None:
    at_ms = START_MS + 2 * HALF_HOUR_MS
    wanted = RehearsalSettings(coins=4, history_days=5, listings={"BNBUSDT": at_ms})
    columns: dict[str, Any] = {"spare": 1, "markets_every_ms": 6 * HALF_HOUR_MS}
    columns["settle_timeout_s"] = 1.0  # which waits for the bar that is owed
    async with rig(wanted, symbols=SYMBOLS, **columns, **AHEAD) as made:
        await made.listen()
        await made.advance(4)
        faults = made.exchange.exchange.faults
        faults.set("lagging_200", 30, symbol="BNBUSDT")
        await made.advance(2)
        faults.set("none", 1)
        await made.advance(4)
        told = [(e.close_ms - made.start_ms) // HALF_HOUR_MS for e in made.bars if e.proof[3]]
        assert sorted(told) == list(range(3, 11))


def test_who_has_shown_nothing_for_long_owes_nothing() -> None:
    bars = RecentBars(8)
    for k in range(8):
        values = np.full((3, 5), 1.0)
        values[1, :] = np.nan if k >= 6 else 1.0  # two bars are missing
        values[2, :] = np.nan if k >= 3 else 1.0  # it stands still
        proof = np.where(np.isnan(values[:, 0]), 0, 3).astype(np.uint8)
        bars.see(BarsClosed((k + 1) * HALF_HOUR_MS, values, proof, np.full(3, np.nan)))
    assert list(bars.owed(8 * HALF_HOUR_MS)) == [(1, (7 * HALF_HOUR_MS, 8 * HALF_HOUR_MS))]
    assert list(bars.owed(7 * HALF_HOUR_MS)) == [(1, (7 * HALF_HOUR_MS,))]
    three = tuple(k * HALF_HOUR_MS for k in (4, 5, 6))
    assert list(bars.owed(6 * HALF_HOUR_MS)) == [(2, three)]
    assert list(RecentBars(8).owed(8 * HALF_HOUR_MS)) == []
