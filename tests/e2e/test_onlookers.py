"""Fifty pages, readers of metrics and hooks that stall: the same decisions, and nobody waits."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.line import ROOT
from tests.e2e.telemetry import Digests, check, trade, undisturbed

PAGES = 50


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Digests:
    return undisturbed(tmp_path_factory.mktemp("reference"))


class Crowd:
    """Start a crowd as soon as there is a page, and hear what became of it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def come(self, address: str) -> None:
        """Begin to look on."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.crowd", address, str(PAGES)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def leave(self) -> dict[str, int]:
        """Stop looking on; gives what was seen."""
        assert self.process is not None, "there was no page"
        out, _ = self.process.communicate("", timeout=20)
        found: dict[str, int] = json.loads(out)
        return found


async def test_with_fifty_pages_and_a_flood_of_scrapes_the_decisions_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: Digests
) -> None:
    crowd = Crowd()
    shown = ("redis.enabled=false", "web.enabled=true", "web.port=0")
    try:
        watched = await trade(tmp_path / "state", monkeypatch, {}, *shown, on_page=crowd.come)
    finally:
        seen = await asyncio.to_thread(crowd.leave)
    check(watched, reference)
    assert seen["page 200"] == PAGES // 2
    assert seen["stalled"] == PAGES - PAGES // 2
    assert seen["parts"] > PAGES
    assert seen["metrics 200"] > 10


@asynccontextmanager
async def mute_hook() -> AsyncIterator[str]:
    """Give the address of a hook that takes a connection and never says a word."""
    writers = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await asyncio.Event().wait()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


@pytest.mark.parametrize("fate", ["mute", "absent"])
async def test_with_a_hook_that_never_answers_the_decisions_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: Digests, fate: str
) -> None:
    async with mute_hook() as address:
        url = address if fate == "mute" else "http://127.0.0.1:9/"
        shown = ("redis.enabled=false", "web.enabled=false", f"notify.webhook_url={url}")
        watched = await trade(
            tmp_path / "state", monkeypatch, {}, *shown, "notify.severity_min=info"
        )
    check(watched, reference)
