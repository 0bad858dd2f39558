"""Alerts of a running daemon reach people, and no server of theirs changes a decision."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from daemon.domain.failures import ConfigurationError
from daemon.domain.messages import Alert, AlertKind, Command, Decided, Event
from daemon.engine.engine import Engine
from daemon.status.notices import SEVERITIES, Severity
from daemon.wiring.rehearsal import Rehearsal, rehearsal_exchange
from daemon.wiring.session import SessionHooks, paper_session
from tests.adapters.people import PASSWORD, TOKEN, HookServer, MailPost
from tests.e2e.line import SMALL, STOP_S_MAX, command, sets, settings_of
from tests.e2e.tls_proxy import make_certificates

DECISIONS = 8
LOSING = "risk.day_loss_max=0.0002"  # so small that a day loses it: the same alert in every run
PACE = 2400  # market seconds in a second


def strike(rehearsal: Rehearsal, **fault: object) -> None:
    url = f"{rehearsal.exchange.rest_url}/rehearsal/fault"
    request = urllib.request.Request(url, data=json.dumps(fault).encode())
    with urllib.request.urlopen(request, timeout=5) as answer:
        answer.read()


async def decisions(state: Path, *overrides: str) -> tuple[list[str], list[Alert], float]:
    """Trade in lock-step; give the digests, the engine's alerts and how long the end took."""
    digests: list[str] = []
    alerts: list[Alert] = []
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    ended_s = 0.0

    def watch(event: Event, commands: Sequence[Command], engine: Engine) -> None:
        nonlocal ended_s
        alerts.extend(c for c in commands if isinstance(c, Alert))
        digests.extend(c.decision.digest for c in commands if isinstance(c, Decided))
        if len(digests) >= DECISIONS and not stop.is_set():
            ended_s = loop.time()
            stop.set()

    settings = settings_of(state, *SMALL, "redis.enabled=false", LOSING, *overrides)
    with rehearsal_exchange(settings) as exchange:
        async with paper_session(exchange.settings, SessionHooks(observers=(watch,))) as shell:
            await shell.run(stop)
        return digests[:DECISIONS], alerts, loop.time() - ended_s


async def test_people_are_told_and_servers_that_stall_or_flap_change_no_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want, alerts, _ = await decisions(tmp_path / "alone")
    grave = [a for a in alerts if SEVERITIES[a.kind] is not Severity.INFO]
    assert AlertKind.LOSS in {a.kind for a in grave}
    monkeypatch.setenv("TESTS_TOKEN", TOKEN)
    monkeypatch.setenv("TESTS_WORD", PASSWORD)
    bad = (503, dict[str, object](), dict[str, str]())
    hook, bot = HookServer(answers=[bad]), HookServer(answers=[None] * 9)
    async with hook.running(), bot.running(), MailPost(stalls=True).running() as mail:
        got, _, ended_s = await decisions(
            tmp_path / "telling",
            f"notify.webhook_url={hook.address}/hook",
            f"notify.telegram_api={bot.address}",
            "notify.telegram_chat=5",
            "notify.telegram_token_env=TESTS_TOKEN",
            "notify.smtp_host=127.0.0.1",
            f"notify.smtp_port={mail.port}",
            "notify.smtp_tls=none",
            "notify.smtp_from=bot@tests",
            'notify.smtp_to=["me@tests"]',
        )
    assert got == want
    assert ended_s < STOP_S_MAX
    assert "loss" in [one["kind"] for one in hook.got]
    assert "day_loss_max" in next(o["message"] for o in hook.got if o["kind"] == "loss")
    assert bot.asked_n >= 1
    assert bot.got == []


async def stalled(
    state: Path, hook: HookServer, *, at_start: bool
) -> tuple[list[int], list[Alert]]:
    """Run in real time and let the venue go silent; give decisions made after it and alerts."""
    made: list[int] = []
    told: list[Alert] = []
    stop = asyncio.Event()
    struck_at = 0

    def silence() -> None:
        for kind in ("stall", "hang"):
            strike(exchange, kind=kind, count=100_000, seconds=600.0)

    def watch(event: Event, commands: Sequence[Command], engine: Engine) -> None:
        nonlocal struck_at
        told.extend(c for c in commands if isinstance(c, Alert))
        made.extend(c.decision.as_of_ms for c in commands if isinstance(c, Decided))
        if not at_start and len(made) >= 2 and not struck_at:
            struck_at = len(made)
            silence()
        if not at_start and len(made) >= struck_at + 5 > 5:
            stop.set()

    async def until_told() -> None:
        while not hook.got:  # noqa: ASYNC110 - a server's list tells nobody that it grows
            await asyncio.sleep(0.05)
        stop.set()

    settings = settings_of(
        state,
        *SMALL,
        "redis.enabled=false",
        f"rehearsal.pace={PACE}",
        f"notify.no_decision_s={1 if at_start else 3}",
        f"notify.webhook_url={hook.address}/hook",
    )
    with rehearsal_exchange(settings) as exchange:
        hooks = SessionHooks(
            observers=(watch,),
            speed=exchange.speed,
            is_rehearsal=True,
            on_ready=lambda engine: silence() if at_start else None,
        )
        async with asyncio.timeout(60), paper_session(exchange.settings, hooks) as shell:
            waiting = asyncio.create_task(until_told()) if at_start else None
            await shell.run(stop)
            if waiting is not None:
                waiting.cancel()
    return made[struck_at:], told


async def test_a_start_that_hangs_in_a_silent_venue_is_told_as_no_decision(tmp_path: Path) -> None:
    async with HookServer().running() as hook:
        made, told = await stalled(tmp_path / "state", hook, at_start=True)
    assert made == []
    assert [a for a in told if a.kind is AlertKind.NO_DECISION] == [], "the engine hears nothing"
    first = hook.got[0]
    assert (first["kind"], first["severity"]) == ("no_decision", "critical")
    assert "trading state starting" in first["message"]


@pytest.mark.soak(minutes=0.2)
async def test_a_venue_that_goes_silent_while_we_trade_stops_no_decision(tmp_path: Path) -> None:
    async with HookServer().running() as hook:
        made, _ = await stalled(tmp_path / "state", hook, at_start=False)
    assert len(made) >= 5
    told = [one["at_ms"] for one in hook.got if one["kind"] == "no_decision"]
    assert [at_ms for at_ms in told if at_ms >= made[0]] == [], "beyond what a slow start missed"


async def test_an_engine_that_cannot_write_is_told_as_no_decision_and_its_end_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program holds the journal: nothing may be acted on that is not written down."""
    monkeypatch.setattr("adapters.journal.database.BUSY_MS_MAX", 30_000)
    locks: list[sqlite3.Connection] = []
    stop = asyncio.Event()

    def watch(event: Event, commands: Sequence[Command], engine: Engine) -> None:
        if engine.state.sequence >= 2 and not locks:
            other = sqlite3.connect(tmp_path / "state" / "journal.sqlite", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            locks.append(other)

    async def told(*, over: bool, after: int) -> None:
        # a slow start may have missed a close of its own before
        while not any(one["over"] is over for one in hook.got[after:]):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)

    async def until_well() -> None:
        while not locks:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
        await told(over=False, after=len(hook.got))
        locks[0].execute("ROLLBACK")
        await told(over=True, after=len(hook.got))
        stop.set()

    async with HookServer().running() as hook:
        settings = settings_of(
            tmp_path / "state",
            *SMALL,
            "redis.enabled=false",
            f"rehearsal.pace={PACE}",
            "notify.no_decision_s=1",
            "notify.window_min=0.01",
            f"notify.webhook_url={hook.address}/hook",
        )
        with rehearsal_exchange(settings) as exchange:
            hooks = SessionHooks(observers=(watch,), speed=exchange.speed, is_rehearsal=True)
            async with asyncio.timeout(60), paper_session(exchange.settings, hooks) as shell:
                waiting = asyncio.create_task(until_well())
                await shell.run(stop)
                await waiting
    locks[0].close()
    last, over = [one for one in hook.got if one["kind"] == "no_decision"][-2:]
    assert (last["over"], over["over"]) == (False, True)
    assert last["severity"] == "critical"
    assert over["text"].startswith("[OVER] rehearsal: no_decision")


async def test_the_test_command_says_of_each_way_whether_it_arrived(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path, ("localhost",))
    bad = (404, dict[str, object](), dict[str, str]())
    hook, bot = HookServer(answers=[bad]), HookServer()
    async with hook.running(), bot.running(), MailPost(certificates).running() as mail:
        (tmp_path / "token").write_text(TOKEN)
        (tmp_path / "word").write_text(PASSWORD)
        options = sets(
            [
                f"notify.webhook_url={hook.address}/hook",
                f"notify.telegram_api={bot.address}",
                "notify.telegram_chat=5",
                f"notify.telegram_token_file={tmp_path / 'token'}",
                "notify.smtp_host=localhost",
                f"notify.smtp_port={mail.port}",
                f"notify.smtp_ca_file={certificates.authority}",
                "notify.smtp_username=equipoise",
                f"notify.smtp_password_file={tmp_path / 'word'}",
                "notify.smtp_from=bot@tests",
                'notify.smtp_to=["me@tests"]',
            ]
        )
        words = ("notify", "test", "--json", *options)
        done = await asyncio.to_thread(command, *words, cwd=tmp_path)
        one = await asyncio.to_thread(command, *words, "--to", "email", cwd=tmp_path)
        none = await asyncio.to_thread(command, "notify", "test", cwd=tmp_path)
    assert done.code == 1
    assert done.values["webhook"] == {"delivered": False, "answer": "HTTP 404"}
    assert done.values["telegram"] == {"delivered": True, "answer": "HTTP 200, ok"}
    assert done.values["email"] == {"delivered": True, "answer": "250 queued as 1"}
    assert one.code == 0
    assert set(one.values) == {"email"}
    assert none.code == ConfigurationError.exit_code
    assert "no way to people in [notify]" in none.complaint
    everything = done.out + done.complaint + one.out + one.complaint
    assert TOKEN not in everything
    assert PASSWORD not in everything
    assert hook.asked_n == 1
