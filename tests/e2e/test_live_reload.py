"""A live daemon reads its settings again: by command and SIGHUP, over a kill -9, and replayed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from adapters.journal import JournalReader
from daemon.commands.operating import REFUSED_EXIT
from daemon.domain.messages import Operator, OperatorAction
from daemon.settings import effective_toml
from tests.e2e.line import Finished, command, daemon
from tests.e2e.live_rig import VENUES, environment_at, exchange, live_settings


async def run(tmp_path: Path, *words: str | Path) -> Finished:
    """Run a command beside the daemon."""
    return await asyncio.to_thread(command, *words, cwd=tmp_path)


def reloads(state: Path) -> list[Operator]:
    """Give what the journal holds of reloads."""
    events = [e.event for e in JournalReader(state / "journal.sqlite").read_from(1)]
    return [e for e in events if isinstance(e, Operator) and e.action is OperatorAction.RELOAD]


async def heard(state: Path, count: int) -> None:
    """Wait until the journal holds so many reloads."""
    async with asyncio.timeout(20):
        while len(await asyncio.to_thread(reloads, state)) < count:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("venue", VENUES)
async def test_a_live_daemon_follows_its_file_and_names_what_it_cannot_follow(
    tmp_path: Path, venue: str
) -> None:
    state, path = tmp_path / "state", tmp_path / "live.toml"
    chosen = ("trade", "--live", "--config", path)
    async with exchange(venue) as running:

        def write(*overrides: str) -> None:
            path.write_text(effective_toml(live_settings(running, state, *overrides)))

        async def ask(name: str) -> Finished:
            words = ("--state", state, "--request-id", name)
            return await run(tmp_path, "reload", "--config", path, *words)

        write()
        around = environment_at(state)
        async with daemon(*chosen, cwd=tmp_path, extra=around) as process:
            await process.decided(2)
            write("risk.gross_weight_max=0.8", "live.foreign=adopt")
            done = await ask("r1")
            assert done.code == 0, done.out + done.complaint
            assert "limits.gross_weight_max 2.0 -> 0.8" in done.out
            assert "reconcile 'halt' -> 'adopt'" in done.out
            assert (await ask("r1")).code == 0, "asked again it is known"
            write("risk.gross_weight_max=0.7", "live.follow_up_s=9")
            done = await ask("r2")
            assert done.code == REFUSED_EXIT
            assert "live.follow_up_s (restart)" in done.out
            write("risk.gross_weight_max=0.6")
            process.process.send_signal(signal.SIGHUP)
            await heard(state, 2)
            await process.decided(process.count["decision"] + 2)
            await process.kill()
        first, second = reloads(state)
        assert first.rules == {"limits.gross_weight_max": 0.8, "reconcile": "adopt"}
        assert second.rules == {"limits.gross_weight_max": 0.6, "reconcile": "halt"}
        write("risk.gross_weight_max=0.6", 'strategy.parameters={"legs_each_side": 1}')
        async with daemon(*chosen, cwd=tmp_path, extra=around) as process:
            async with asyncio.timeout(60):
                assert await process.process.wait() != 0
            assert "--accept strategy.parameters" in process.said
        accepted = (*chosen, "--accept", "strategy.parameters")
        async with daemon(*accepted, cwd=tmp_path, extra=around) as process:
            await process.decided(2)
            assert await process.end(signal.SIGTERM) == 0, process.said
        done = await run(tmp_path, "replay", "--verify", "--state", state)
        assert done.code == 0, done.out + done.complaint
