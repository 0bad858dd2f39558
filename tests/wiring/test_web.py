"""The page beside a daemon: a port that is taken, a token that is short, what the log tells."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from adapters.web.beside import WebPage
from daemon.domain.failures import ConfigurationError
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import Alert, AlertKind
from daemon.runtime.logs import configure_logs
from daemon.settings import Settings
from daemon.wiring.web import ADDRESS_FILE, PageSeat, page_token, web_page
from tests.e2e.line import gone, settings_of

SOON_S = 60.0


class Heard:
    """Keep the alerts."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def alert(self, alert: Alert) -> None:
        self.alerts.append(alert)


def settings(folder: Path, *more: str) -> Settings:
    return settings_of(folder, "web.enabled=true", *more)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


async def until(wanted: Any) -> None:
    async with asyncio.timeout(SOON_S):
        while not wanted():  # noqa: ASYNC110 - a process tells us nothing else
            await asyncio.sleep(0.02)


def family() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [p for p in found if "daemon.wiring.web_process" in p.cmdline()]


def fetched(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(address, timeout=10) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found


async def test_the_page_is_served_fed_and_ended_with_its_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXCHANGE_SECRET", "not-for-a-web-server")
    (tmp_path / "json.py").write_text("raise RuntimeError('a stranger in the folder')")
    monkeypatch.chdir(tmp_path)
    addresses: list[str] = []
    seat = PageSeat(lambda: 1_700_000_000_000, 1.0, addresses.append)
    page = web_page(settings(tmp_path, "web.port=0"), {"strategy": "x"}, [], seat)
    async with page.running():
        page.publish("status", {"equity": 5.0})
        await until(lambda: addresses)
        assert (tmp_path / ADDRESS_FILE).read_text().strip() == addresses[0]
        await until(lambda: not len(page.outbox))
        told = await asyncio.to_thread(fetched, addresses[0] + "healthz")
        assert told["fresh"] is True
        children = family()
        assert len(children) == 1
        assert children[0].nice() > os.nice(0)
        assert "EXCHANGE_SECRET" not in children[0].environ()
        assert "token" not in " ".join(children[0].cmdline())
    await gone(children)


async def test_a_port_that_is_taken_is_one_alert_and_no_more(
    tmp_path: Path, taken_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    configure_logs("warning")
    heard = Heard()
    logging.getLogger().addHandler(caplog.handler)
    page = web_page(settings(tmp_path, f"web.port={taken_port}"), {}, [heard], PageSeat())
    async with page.running():
        await until(lambda: heard.alerts)
        for n in range(50):
            page.publish("status", {"equity": float(n)})
        await until(lambda: not len(page.outbox))  # it is fed all the same, and waits for the port
    assert [a.kind for a in heard.alerts] == [AlertKind.PAGE]
    assert f"port {taken_port} of 127.0.0.1 is taken" in heard.alerts[0].text
    assert not (tmp_path / ADDRESS_FILE).exists()
    told = [str(record.msg) for record in caplog.records]
    assert sum(LogEvent.PAGE_NOT_SERVED in text for text in told) == 1


async def test_a_process_that_cannot_start_keeps_nobody_waiting() -> None:
    page = WebPage([sys.executable, "-c", "raise SystemExit(3)"], dict, lambda: 0)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(page.running())
        for n in range(2000):
            page.publish("fill", {"n": n})
        await until(lambda: page.courier.is_away)
        assert len(page.outbox) <= 501
        begun_s = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - begun_s < 2.0


async def test_a_process_that_hangs_is_ended_at_the_end() -> None:
    before = set(psutil.Process().children())
    page = WebPage([sys.executable, "-c", "import time; time.sleep(600)"], dict, lambda: 0)
    async with page.running():
        await until(lambda: set(psutil.Process().children()) - before)
        ours = set(psutil.Process().children()) - before
    await gone(ours)


def test_a_short_token_is_refused_and_a_long_one_is_read(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("short\n")
    with pytest.raises(ConfigurationError, match="16 or more"):
        page_token(settings(tmp_path, f"web.token_file={file}"))
    file.write_text("long enough for a page\n")
    assert page_token(settings(tmp_path, f"web.token_file={file}")) == "long enough for a page"
    assert page_token(settings(tmp_path)) == ""


def test_two_places_for_the_token_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"web\.token_file"):
        settings(tmp_path, "web.token_file=x", "web.token_env=Y")
    with pytest.raises(ConfigurationError, match=r"web\.private"):
        settings(tmp_path, "web.private=true")


def test_the_trading_process_loads_no_web_server() -> None:
    code = (
        "import sys, daemon.wiring.live_session, daemon.wiring.session;"
        "print(sorted({'starlette', 'uvicorn', 'playwright'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
