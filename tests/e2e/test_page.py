"""The status page of a real daemon, in a real Chromium: what a trader sees, asks and commands.

One rehearsal trades a day in lock-step and goes on in real time, so that the page stands still
while it is looked at.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from adapters.journal import JournalReader
from daemon.domain.messages import Operator
from tests.e2e.line import command, environment, program, rehearse, sets

TOKEN: Final = "correct-horse-battery-staple"
PORT_TAKEN: Final = "taken by another program"
START_S: Final = 90.0
TRADED: Final = (
    "strategy.name=neutral",
    "estimator.kind=momentum",
    "market.window_bars=80",
    "training.days=10",
    "covariance.estimator=ewma",
    "risk.beta_weight_max=0.2",
    "rehearsal.coins=6",
    "universe.symbols=top:6",
    "paper.fee_bps=0.5",
    "paper.half_spread_bps=0.1",
)
ARGUMENTS: Final = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
PHONE: Final = ViewportSize(width=390, height=844)
LAPTOP: Final = ViewportSize(width=1440, height=900)


@dataclass
class Seat:
    """Hold a daemon with its page."""

    process: subprocess.Popen[bytes]
    state: Path
    address: str
    port: int

    def ask(self, path: str) -> Any:
        """Read an answer of the page without a browser."""
        with urllib.request.urlopen(self.address + path, timeout=10) as answer:
            return json.loads(answer.read())

    def child(self) -> psutil.Process:
        """Give the process of the page."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return next(p for p in family if "daemon.wiring.web_process" in p.cmdline())


def until(wanted: Callable[[], object], seconds: float = START_S) -> None:
    ends_s = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < ends_s, "it did not come in time"
        time.sleep(0.05)


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def seat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seat]:
    folder = tmp_path_factory.mktemp("seat")
    state, port = folder / "state", free_port()
    (folder / "token").write_text(TOKEN + "\n")
    chosen = [*TRADED, "rehearsal.pace=lockstep"]
    done = command(
        *rehearse(state, *chosen), "--days", "0.5", "--json", cwd=folder, seconds=START_S
    )
    assert done.code == 0, done.complaint
    web = [f"web.port={port}", f"web.token_file={folder / 'token'}", "web.enabled=true"]
    words = [*rehearse(state, *TRADED, "rehearsal.pace=realtime"), *sets(web), "--json"]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        program(*words), cwd=folder, env=environment(), stdout=log, stderr=log
    )
    address = state / "page.address"
    try:
        until(lambda: address.exists() or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield Seat(process, state, address.read_text().strip(), port)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(20)
        log.close()


@pytest.fixture(scope="module")
def browser(chromium_binary: Path) -> Iterator[Browser]:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium_binary, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Seen:
    """Hold an open page and what its browser complained of and asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def seen(seat: Seat, browser: Browser) -> Iterator[Seen]:
    context = browser.new_context(viewport=LAPTOP)
    page = context.new_page()
    found = Seen(page)
    page.on("console", lambda m: found.complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: found.complaints.append(str(e)))
    page.on("request", lambda r: found.asked.append(r.url))
    page.goto(seat.address)
    expect(page.locator("#line")).to_have_text("live")
    yield found
    context.close()


def number(text: str | None) -> float:
    """Read a number as the page writes it."""
    plain = (text or "").replace("\u2212", "-")
    return float(re.sub(r"[^\d.+-]", "", plain))


def test_the_page_shows_the_book_and_asks_nobody_else(seat: Seat, seen: Seen) -> None:
    page = seen.page
    expect(page.locator("#state")).to_have_text("● Trading")
    figures = page.locator("#figures dd:not(.unit)")
    assert 5_000 < number(figures.nth(0).text_content()) < 20_000
    expect(page.locator("#positions tbody tr")).to_have_count(6)
    assert page.locator("#positions svg.gauge").count() == 6
    expect(page.locator("#c-equity canvas")).to_be_visible()
    expect(page.locator("#c-net canvas")).to_be_visible()
    expect(page.locator("#ranking svg")).to_be_visible()
    expect(page.locator("#correlation canvas")).to_have_attribute(
        "aria-label", re.compile(r"6 instruments .* mean predicted 0\.\d+, mean realised 0\.\d+")
    )
    expect(page.locator("#risk")).to_contain_text("beta exposure")
    expect(page.locator("#models")).to_contain_text("in service")
    expect(page.locator("#feed")).to_contain_text("Finality")
    expect(page.locator("#fills tbody tr").first).to_be_visible()
    expect(page.locator("#countdown")).to_have_text(re.compile(r"(min|\ds)$"))
    page.locator("#h-candles").scroll_into_view_if_needed()
    expect(page.locator("#candles canvas").first).to_be_visible()
    assert {url.split("/")[2] for url in seen.asked} == {f"127.0.0.1:{seat.port}"}
    assert seen.complaints == []
    assert page.context.cookies() == []


def test_a_decision_is_told_from_bar_to_fill_as_the_journal_has_it(seat: Seat, seen: Seen) -> None:
    decisions = list(JournalReader(seat.state / "journal.sqlite").decisions())
    traded = next(d for d in reversed(decisions) if d.orders)
    told = seat.ask(f"api/decision/{traded.as_of_ms}")
    assert told["digest"] == traded.digest
    rows = {row["symbol"]: row for row in told["rows"]}
    for order in traded.orders:
        row = rows[order.key.symbol]
        assert row["order_id"] == order.order_id
        assert row["quantity"] == format(order.quantity, "f")
        step = 0.5 * abs(float(order.quantity)) + 1.0  # lots round to whole steps
        assert abs(row["wanted"] - float(order.quantity)) < step
        assert row["bar"][3] == pytest.approx(row["mark"])
    page = seen.page
    text = page.locator("#decisions button.row", has_text=_instant(traded.as_of_ms))
    text.first.click()
    expect(page.locator("#why")).to_be_visible()
    expect(page.locator("#why-body")).to_contain_text(traded.orders[0].order_id)
    expect(page.locator("#why-body")).to_contain_text(traded.digest[:16])
    page.keyboard.press("Escape")
    expect(page.locator("#why")).not_to_be_visible()
    assert seen.complaints == []


def _instant(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(ms / 1000))


def unlocked(page: Page) -> None:
    page.locator("#token").fill(TOKEN)
    page.get_by_role("button", name="Unlock").click()
    expect(page.locator("#buttons")).to_be_visible()


def test_commands_are_confirmed_answered_and_journalled(seat: Seat, seen: Seen) -> None:
    page = seen.page
    page.locator("#token").fill("not the token")
    page.get_by_role("button", name="Unlock").click()
    expect(page.locator("#unlock-note")).to_contain_text("no blanks")
    page.locator("#token").fill("not-the-token-at-all")
    page.get_by_role("button", name="Unlock").click()
    expect(page.locator("#unlock-note")).to_contain_text("not the token")
    unlocked(page)
    page.get_by_role("button", name="Pause").click()
    page.locator("#sure-yes").click()
    expect(page.locator("#answer")).to_contain_text("Pause acknowledged", timeout=20_000)
    expect(page.locator("#state")).to_contain_text("Paused", timeout=20_000)
    expect(page.locator("#reasons")).to_contain_text("paused by the operator")
    page.get_by_role("button", name="Resume").click()
    page.locator("#sure-yes").click()
    expect(page.locator("#answer")).to_contain_text("Resume acknowledged", timeout=20_000)
    page.get_by_role("button", name="Kill").click()
    expect(page.locator("#sure-yes")).to_be_disabled()
    page.locator("#word").fill("kil")
    expect(page.locator("#sure-yes")).to_be_disabled()
    page.locator("#word").fill("kill")
    page.locator("#sure-yes").click()
    expect(page.locator("#answer")).to_contain_text("Kill acknowledged", timeout=20_000)
    expect(page.locator("#state")).to_have_text("■ Halted", timeout=20_000)
    assert (seat.state / "halt.latch").exists()
    page.get_by_role("button", name="Resume").click()
    page.locator("#word").fill("resume")
    page.locator("#sure-yes").click()
    expect(page.locator("#answer")).to_contain_text("Resume acknowledged", timeout=20_000)
    assert not (seat.state / "halt.latch").exists()
    assert page.evaluate("JSON.stringify(localStorage) + JSON.stringify(sessionStorage)") == "{}{}"
    entries = JournalReader(seat.state / "journal.sqlite").read_from(1)
    asked = [e.event.action for e in entries if isinstance(e.event, Operator)]
    told = [str(action) for action, _ in groupby(asked)]  # latch and request both say kill
    assert told == ["pause", "resume", "kill", "resume"]
    assert all("401" in c for c in seen.complaints), seen.complaints


def test_it_fits_a_phone_and_is_read_by_keyboard_and_screen_reader(
    seat: Seat, seen: Seen, browser: Browser
) -> None:
    context = browser.new_context(viewport=PHONE, has_touch=True, reduced_motion="reduce")
    page = context.new_page()
    page.goto(seat.address)
    expect(page.locator("#line")).to_have_text("live")
    expect(page.locator("#positions tbody tr")).to_have_count(6)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    small = page.evaluate(SMALL_TARGETS)
    assert small == [], small
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for width in (320, 768, 1440, 2560):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width
    assert page.evaluate(UNNAMED) == []
    for role in ("banner", "main", "contentinfo"):
        expect(page.get_by_role(role)).to_have_count(1)
    levels = page.evaluate("[...document.querySelectorAll('h1,h2')].map(h => h.tagName)")
    assert levels.count("H1") == 1
    assert page.evaluate("document.querySelectorAll('[aria-live=assertive]').length") == 1
    page.locator("#theme").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert dark != page.evaluate("getComputedStyle(document.body).backgroundColor")
    context.close()


SMALL_TARGETS: Final = """
[...document.querySelectorAll('button, .button, select, input')]
  .filter(e => e.offsetParent && !e.classList.contains('row'))
  .map(e => [e.id || e.textContent, e.getBoundingClientRect().height])
  .filter(([, height]) => height < 31)
"""
UNNAMED: Final = """
[...document.querySelectorAll(
  'button, input, select, table, svg[role=img], canvas[role=img], [role=region]')]
  .filter(e => e.offsetParent || e.tagName === 'svg')
  .filter(e => !(e.textContent.trim() || e.getAttribute('aria-label')
    || e.getAttribute('aria-labelledby') || (e.labels && e.labels.length)))
  .map(e => e.outerHTML.slice(0, 80))
"""


def test_a_silent_daemon_greys_the_page_and_says_since_when(seat: Seat, seen: Seen) -> None:
    page = seen.page
    seat.process.send_signal(signal.SIGSTOP)
    try:
        expect(page.locator("#stale")).to_contain_text("said nothing since", timeout=25_000)
        expect(page.locator("body")).to_have_class("stale")
        with pytest.raises(urllib.error.HTTPError, match="503"):
            seat.ask("healthz")
    finally:
        seat.process.send_signal(signal.SIGCONT)
    expect(page.locator("#line")).to_have_text("live", timeout=20_000)
    expect(page.locator("#stale")).to_be_hidden()


def test_a_killed_page_comes_back_and_a_killed_daemon_takes_it_along(
    seat: Seat, seen: Seen
) -> None:
    page, child = seen.page, seat.child()
    child.kill()
    expect(page.locator("#stale")).to_contain_text("No connection", timeout=20_000)
    expect(page.locator("#line")).to_have_text("live", timeout=40_000)
    fresh = seat.child()
    assert fresh.pid != child.pid
    assert seat.process.poll() is None
    os.kill(seat.process.pid, signal.SIGKILL)
    until(lambda: is_gone(fresh), 10)
    expect(page.locator("#stale")).to_contain_text("No connection", timeout=20_000)
