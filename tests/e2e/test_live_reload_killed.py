"""A reload that is asked for as the daemon dies is obeyed by the next one, or was; never half."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from adapters.clocks import TransportClock
from adapters.control import Answer, Request, Spool
from daemon.domain.messages import OperatorAction
from daemon.settings import effective_toml
from tests.e2e.line import daemon
from tests.e2e.live_rig import environment_at, exchange, live_settings
from tests.e2e.test_live_reload import reloads, run


async def answered(spool: Spool, name: str) -> Answer:
    async with asyncio.timeout(30):
        while (found := spool.answer(name)) is None:  # noqa: ASYNC110 - a file tells no event
            await asyncio.sleep(0.05)
        return found


@pytest.mark.parametrize("late_s", [0.0, 0.3])
async def test_a_kill_between_a_request_to_reload_and_its_answer_loses_and_doubles_nothing(
    tmp_path: Path, late_s: float
) -> None:
    state, path = tmp_path / "state", tmp_path / "live.toml"
    chosen = ("trade", "--live", "--config", path)
    async with exchange("binanceusdm") as running:
        path.write_text(effective_toml(live_settings(running, state)))
        around, spool = environment_at(state), Spool(state)
        async with daemon(*chosen, cwd=tmp_path, extra=around) as process:
            await process.decided(2)
            settings = live_settings(running, state, "risk.gross_weight_max=0.8")
            path.write_text(effective_toml(settings))
            asked_ms = TransportClock().wall_ms()
            spool.send(Request(OperatorAction.RELOAD, "r1", asked_ms))
            await asyncio.sleep(late_s)
            await process.kill()
        before = [wish.rules for wish in reloads(state)]
        assert before in ([], [{"limits.gross_weight_max": 0.8}])
        async with daemon(*chosen, cwd=tmp_path, extra=around) as process:
            await process.decided(1)
            assert (await answered(spool, "r1")).obeyed
            words = ("--state", state, "--request-id", "r2")
            done = await run(tmp_path, "reload", "--config", path, *words)
            assert done.code == 0, done.out + done.complaint
            assert "nothing differs from what is in force" in done.out
            await process.kill()
        changes = [wish.rules for wish in reloads(state) if wish.rules]
        assert len(changes) <= 1, "taken once"
        done = await run(tmp_path, "replay", "--verify", "--state", state)
        assert done.code == 0, done.out + done.complaint
