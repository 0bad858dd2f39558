"""A daemon at one venue outlives a failure of its feed that nobody foresaw."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.exchange.pump import Pump
from daemon.domain.decision import Decision
from daemon.domain.messages import Command, Decided, Event, FeedNotice
from daemon.engine.engine import Engine
from daemon.wiring.rehearsal import rehearsal_exchange
from daemon.wiring.session import SessionHooks, paper_session
from tests.e2e.books import check_books_agree
from tests.e2e.line import SMALL, settings_of

DECISIONS = 12


async def test_the_daemon_goes_on_tells_it_and_decides_with_every_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Decision] = []
    notices: list[FeedNotice] = []
    stop, broken = asyncio.Event(), list[Pump]()

    def watch(event: Event, commands: Sequence[Command], engine: Engine) -> None:
        del engine
        notices.extend([event] if isinstance(event, FeedNotice) else [])
        made.extend(c.decision for c in commands if isinstance(c, Decided))
        if len(made) >= DECISIONS:
            stop.set()

    real = Pump._turn

    async def turn(pump: Pump) -> None:
        if len(made) >= DECISIONS // 2 and not broken:
            broken.append(pump)
            raise RuntimeError("session is closed")
        await real(pump)

    monkeypatch.setattr(Pump, "_turn", turn)
    with rehearsal_exchange(settings_of(tmp_path, *SMALL, "redis.enabled=false")) as rehearsal:
        async with paper_session(rehearsal.settings, SessionHooks(observers=(watch,))) as shell:
            async with asyncio.timeout(60):
                await shell.run(stop)
        check_books_agree(rehearsal.settings)
    assert broken
    assert len(made) >= DECISIONS
    assert [notice.active for notice in notices] == [True, False]
    assert "RuntimeError: session is closed" in notices[0].text
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "venue clock"]
