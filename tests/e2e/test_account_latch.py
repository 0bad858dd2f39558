"""One halt latch an account: whoever trades there obeys it, and before every single order."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from adapters.ccxt_venue.desk import Desk
from adapters.control import Halt, Latches
from daemon.domain.messages import Operator, OperatorAction, OrderRejected, Submit, VenueEvent
from daemon.domain.order import Order
from daemon.runtime.live import LiveShell
from daemon.wiring.control import account_at, latches_at, live_latches
from daemon.wiring.operating import Wish, ask
from tests.e2e.live_rig import (
    ACCOUNTS,
    KEY,
    VENUES,
    Seen,
    bank_of,
    decided_n,
    environment_at,
    exchange,
    live_settings,
    run_live,
)


def orders_n(seen: Seen) -> int:
    return sum(isinstance(c, Submit) for c in seen.commands)


@pytest.mark.parametrize("venue", VENUES)
async def test_a_latch_set_in_one_folder_holds_a_daemon_in_another_folder_of_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, venue: str
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    monkeypatch.setenv("XDG_STATE_HOME", environment_at(here)["XDG_STATE_HOME"])
    async with exchange(venue) as running:
        await run_live(live_settings(running, here), lambda s: decided_n(s) >= 2)
        assert account_at(here) == ACCOUNTS[venue]
        placed_n = len(bank_of(running).orders(KEY))
        assert placed_n
        await asyncio.to_thread(ask, here, Wish(OperatorAction.KILL, wait_s=0.1, reason="odd"))
        seen = await run_live(
            live_settings(running, there, "live.foreign=adopt"), lambda s: decided_n(s) >= 3
        )
        assert len(bank_of(running).orders(KEY)) == placed_n
        assert seen.engine is not None
        assert "odd" in seen.engine.state.halted_why
        await asyncio.to_thread(
            ask, there, Wish(OperatorAction.RESUME, wait_s=0.1, clear_latch=True)
        )
        assert latches_at(here).files[0].exists(), "the other folder keeps its own"
        seen = await run_live(
            live_settings(running, there, "live.foreign=adopt"), lambda s: decided_n(s) >= 3
        )
        assert seen.engine is not None
        assert len(bank_of(running).orders(KEY)) > placed_n


@pytest.mark.parametrize("venue", VENUES)
async def test_a_latch_set_in_the_middle_of_a_batch_stops_its_rest(
    tmp_path: Path, venue: str
) -> None:
    async with exchange(venue) as running:
        settings = live_settings(running, tmp_path / "state", "live.parallel_orders=1")
        latches = live_latches(
            tmp_path / "state", ACCOUNTS[venue], environment_at(tmp_path / "state")
        )
        found = Latches.found

        def counting(self: Latches) -> Halt | None:
            # Another process sets the latch between two orders of the first batch.
            placed = len(bank_of(running).orders(KEY))
            if placed >= 1 and not latches.files[1].exists():
                latches.set(Halt("set by another process"))
            return found(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Latches, "found", counting)
            seen = await run_live(settings, lambda s: decided_n(s) >= 3)
        assert orders_n(seen) > 1
        assert len(bank_of(running).orders(KEY)) == 1
        why = [e.reason for e in seen.events if isinstance(e, OrderRejected)]
        assert len(why) == orders_n(seen) - 1
        assert all("set by another process" in one for one in why)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("wish", [OperatorAction.KILL, OperatorAction.PAUSE])
async def test_an_engine_that_halts_or_opens_no_more_stops_the_rest_of_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, venue: str, wish: OperatorAction
) -> None:
    """No latch is set when a loss or a trade by hand halts it; a batch takes many seconds."""
    shells, run, send = list[LiveShell](), LiveShell.run, Desk._send

    async def noted(self: LiveShell, stop: asyncio.Event) -> None:
        shells.append(self)
        await run(self, stop)

    async def wishing(self: Desk, order: Order, begun: tuple[float, float]) -> VenueEvent:
        (shell,) = shells
        obeyed = shell.engine.state.operator_requests
        if bank_of(running).orders(KEY) and "1" not in obeyed:
            await shell.operator(Operator(wish, "1", running.exchange.clock_ms(), "as wished"))
            while "1" not in obeyed:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
        return await send(self, order, begun)

    monkeypatch.setattr(LiveShell, "run", noted)
    monkeypatch.setattr(Desk, "_send", wishing)
    async with exchange(venue) as running:
        settings = live_settings(running, tmp_path / "state", "live.parallel_orders=1")
        seen = await run_live(settings, lambda s: decided_n(s) >= 3)
        assert orders_n(seen) > 1
        assert len(bank_of(running).orders(KEY)) == 1
        why = [e.reason for e in seen.events if isinstance(e, OrderRejected)]
        assert len(why) == orders_n(seen) - 1
        said = "as wished" if wish is OperatorAction.KILL else "paused by the operator"
        assert all(said in one for one in why)
