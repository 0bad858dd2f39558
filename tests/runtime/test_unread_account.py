"""An account that cannot be read ends no run: it is asked again, or trading halts."""

from __future__ import annotations

import asyncio

import pytest

from daemon.domain.failures import VenueError
from daemon.domain.messages import AccountUnread, Snapshotted, Submit, Tick
from daemon.engine.risk import TradingState
from tests.engine.world import at, trading
from tests.runtime.rig import WARM_BARS, Line, line_of, panel_of
from tests.runtime.test_live import BARS


async def _unread(line: Line) -> None:
    """Wait until the engine knows that the first reading failed."""
    async with asyncio.timeout(10):
        while not any(isinstance(e, AccountUnread) for e in line.events):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.runtime.live.LOOK_S", 0.01)


async def test_a_start_asks_again_and_then_trades() -> None:
    line = line_of(panel_of(BARS))
    line.venue.breaks["snapshot"] = VenueError("HTTP 503")
    running = asyncio.create_task(line.run())
    await _unread(line)
    assert trading(line.engine) is TradingState.RECONCILING
    assert line.venue.sent == []
    del line.venue.breaks["snapshot"]
    await line.shell.put(Tick(at(WARM_BARS) + 5_000))
    await running
    assert any(isinstance(e, Snapshotted) for e in line.events)
    assert line.venue.sent
    assert trading(line.engine) is TradingState.TRADING


async def test_a_start_that_is_never_answered_halts_and_the_run_goes_on() -> None:
    line = line_of(panel_of(BARS))
    line.venue.breaks["snapshot"] = VenueError("HTTP 503")
    running = asyncio.create_task(line.run())
    await _unread(line)
    await line.shell.put(Tick(at(WARM_BARS) + line.engine.rules.unread_max_ms))
    await running
    assert trading(line.engine) is TradingState.HALTED
    assert "the account was unread for" in line.engine.state.halted_why
    assert line.venue.sent == []
    kept = line.journal.read_from(1)
    assert not any(isinstance(c, Submit) for entry in kept for c in entry.commands)
